"""`journeyman mcp`: the tools for models over standard input and output, beside a daemon or with a host of its own.

Its own host serves the repository around it and what is asked for, and remembers nothing; what still runs at the end is interrupted,
and goes on with `journeyman resume`. Knows the daemon's parts; listens on nothing.
"""

from __future__ import annotations

from functools import cache
from importlib.metadata import version
from typing import Any

import trio

from .mcp import build, rest_inside, rest_over
from .service import openapi
from .service.client import Daemon
from .service.daemon import logger
from .service.host import Host
from .service.links import Links
from .service.places import Places
from .service.routes import Api

_DRAIN_S = 5.0


async def speak(places: Places, default: str) -> None:
    """Serve one client until it closes our standard input. `default` is the repository that is meant when none is named."""
    log_to = logger()

    def log(event: str, **fields: Any) -> None:
        log_to.info(event, extra=fields)

    if await trio.to_thread.run_sync(Daemon.find, places) is not None:
        await build(rest_over(places.socket, default)).run_stdio_async()
        return
    async with Host.open(places, log, recall=False) as host:
        if default:
            await host.register(default)
        release = version("journeyman")
        api = Api(
            host, Links("", trio.current_time), release, lambda host: b"", cache(lambda: openapi.describe(release))
        )
        await build(rest_inside(api.router({}), default)).run_stdio_async()
        await host.drain(_DRAIN_S)
