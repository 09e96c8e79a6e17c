"""An application that is loaded and opened at its first request. Knows nothing of what it serves."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import attrs
import trio

from .guard import Application, Receive, Scope, Send

Mountable = Callable[[Application], AbstractAsyncContextManager[Application]]
"""Makes an application that is served under a path of its own, and is served while its block lasts."""


def later(load: Callable[[], Mountable]) -> Mountable:
    """What `load` gives, once somebody asks: until then its modules cost neither time nor memory. `load` runs in a thread."""

    @asynccontextmanager
    async def mounted(app: Application) -> AsyncIterator[Application]:
        async with trio.open_nursery() as nursery:
            yield _Later(app, load, nursery)
            nursery.cancel_scope.cancel()

    return mounted


@attrs.define(eq=False)
class _Later:
    app: Application
    load: Callable[[], Mountable]
    nursery: trio.Nursery
    first: trio.Lock = attrs.field(factory=trio.Lock)
    opened: Application | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.opened is None:
            async with self.first:
                if self.opened is None:
                    self.opened = await self.nursery.start(self._keep_open)  # the request's own task ends before it
        await self.opened(scope, receive, send)

    async def _keep_open(self, task_status: trio.TaskStatus[Application]) -> None:
        async with (await trio.to_thread.run_sync(self.load))(self.app) as application:
            task_status.started(application)
            await trio.sleep_forever()
