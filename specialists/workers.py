"""A pool of worker processes for what keeps the interpreter's lock: LibCST, ast-grep, functions of the user's own.

Knows processes and frames; not what is in a job. Workers are started when they are needed, one job each at a time. One that dies
costs its job a retry; one whose job is cancelled is killed. None outlives the pool.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import attrs
import msgspec
import trio

from runtime.checks import child_environment
from runtime.errors import GiveUp, Transient

Answers = list[tuple[str, str, bytes | None, bool]]


@attrs.define
class _Worker:
    process: trio.Process

    async def call(self, body: bytes) -> bytes:
        stdin, stdout = self.process.stdin, self.process.stdout
        assert stdin is not None
        assert stdout is not None
        await stdin.send_all(len(body).to_bytes(4, "big") + body)
        head = await self._exactly(stdout, 4)
        return await self._exactly(stdout, int.from_bytes(head, "big"))

    async def _exactly(self, stream: trio.abc.ReceiveStream, size: int) -> bytes:
        parts = bytearray()
        while len(parts) < size:
            chunk = await stream.receive_some(min(size - len(parts), 1 << 20))
            if not chunk:
                raise trio.BrokenResourceError("the worker is gone")
            parts += chunk
        return bytes(parts)

    async def end(self) -> None:
        """Wait for a killed process and close its pipes."""
        await self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                await stream.aclose()

    def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)


@attrs.define
class Workers:
    """An async context. `count` processes at most, as many as there are cores by default."""

    count: int = attrs.field(factory=lambda: len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 2)
    _idle: list[_Worker] = attrs.field(factory=list)
    _live: list[_Worker] = attrs.field(factory=list)
    _places: trio.CapacityLimiter | None = None
    started: int = 0

    async def __aenter__(self) -> Workers:
        self._places = trio.CapacityLimiter(self.count)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        live, self._live, self._idle = self._live, [], []
        for worker in live:
            worker.kill()
        with trio.CancelScope(shield=True):
            for worker in live:
                await worker.end()

    async def call(self, kind: str, way: Mapping[str, Any], files: Sequence[tuple[str, bytes]]) -> Answers:
        """Have files edited. Raises Transient when the worker dies of it, GiveUp when the job itself makes no sense."""
        assert self._places is not None, "use it in an `async with` block"
        body = msgspec.msgpack.encode((kind, way, files))
        async with self._places:
            worker = self._idle.pop() if self._idle else await self._start()
            try:
                reply = await worker.call(body)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                await self._bury(worker)
                names = ", ".join(path for path, _ in files[:3])
                raise Transient(f"a worker process died (it had {names})") from None
            except BaseException:
                with trio.CancelScope(shield=True):
                    await self._bury(worker)
                raise
            self._idle.append(worker)
        answer = msgspec.msgpack.decode(reply)
        if "error" in answer:
            raise GiveUp(answer["error"])
        return [tuple(one) for one in answer["files"]]

    async def _start(self) -> _Worker:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-m", "specialists.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
            env=child_environment() | {"PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        worker = _Worker(process)
        self._live.append(worker)
        self.started += 1
        return worker

    async def _bury(self, worker: _Worker) -> None:
        self._live.remove(worker)
        worker.kill()
        await worker.end()
