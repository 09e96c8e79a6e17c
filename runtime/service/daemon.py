"""The daemon's process: start, listen, obey signals, end. One per socket; its logs are JSON lines on standard error.

SIGTERM and SIGINT drain: nothing new is taken in, what runs may end within `drain_s` seconds, what does not is stopped and
taken up by the next start. A second signal ends at once; the journal has everything that was acknowledged.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import logging
import os
import re
import signal
import stat
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack
from functools import cache, partial
from importlib.metadata import version
from typing import Any, Final

import attrs
import trio

from ..errors import BadInput, RunHeld
from ..git import keep_few_open
from ..telemetry import Traced, configured
from . import memory, metrics, openapi
from .guard import Guard
from .host import Host, Limits
from .later import Mountable
from .links import Links
from .listening import Listening, tcp_socket, unix_socket
from .places import Places, write
from .routes import Api

DRAIN_S: Final = 30.0
_SWITCH_S: Final = 0.0005
_MOST_PACKS: Final = 64
_PID: Final = re.compile(rb"\d*\s*")
_ELSEWHERE: Final = "remove it, or name a socket in another place"
_FIELDS: Final = frozenset(vars(logging.makeLogRecord({})))


@attrs.frozen
class Choices:
    """How the daemon is started. `tcp` is a port, 0 for any that is free, None for no TCP at all."""

    tcp: int | None = None
    repositories: Sequence[str] = ()
    limits: Limits = attrs.field(factory=Limits)
    jobs: int | None = None
    drain_s: float = DRAIN_S


class _Line(logging.Formatter):
    """One JSON object a record."""

    def format(self, record: logging.LogRecord) -> str:
        told: dict[str, Any] = {
            "at": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
        }
        told.update((name, value) for name, value in vars(record).items() if name not in _FIELDS and name != "message")
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str)


def logger() -> logging.Logger:
    """The process's logging, set up: this is the daemon's own process, nobody else's."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Line())
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    for noisy in ("mcp", "httpx2"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    return logging.getLogger("journeyman")


@contextlib.contextmanager
def only_one(places: Places) -> Iterator[None]:
    """Hold the daemon's lock; the kernel frees it when the process dies. Raises RunHeld when another daemon has it, BadInput when
    what is there is no lock of ours: it is left as it is."""
    try:
        fd = os.open(places.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
    except OSError as error:
        why = "it is a symbolic link" if places.lock.is_symlink() else error.strerror
        raise BadInput(f"--socket: {places.lock} is to be the daemon's lock, but {why}; {_ELSEWHERE}") from None
    try:
        found = os.fstat(fd)
        ours = stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and found.st_nlink == 1
        if not ours or not _PID.fullmatch(os.pread(fd, 100, 0)):
            raise BadInput(f"--socket: {places.lock} is to be the daemon's lock, but is something else; {_ELSEWHERE}")
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.pread(fd, 20, 0).decode(errors="replace").strip()
            raise RunHeld(
                f"a daemon (process {pid or '?'}) listens on {places.socket} already", int(pid) if pid.isdigit() else 0
            ) from None
        os.ftruncate(fd, 0)
        os.pwrite(fd, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(fd)


async def serve(places: Places, choices: Choices, mounts: Mapping[str, Mountable] | None = None) -> None:
    """Serve until a signal says to stop. `mounts` are made with the application itself, which they may ask.

    Raises BadInput, RunHeld.
    """
    places.make()
    token = places.read_token()
    log_to = logger()

    def log(event: str, **fields: Any) -> None:
        log_to.info(event, extra=fields)

    # Runs do their git work in threads, and requests keep this one busy: a thread that wants the interpreter back waits this long.
    sys.setswitchinterval(_SWITCH_S)
    keep_few_open(_MOST_PACKS)
    memory.share_heaps()
    with only_one(places):
        places.address.unlink(missing_ok=True)  # of one that was killed; before anybody can ask this one
        unix = unix_socket(places.socket)
        try:
            tcp = tcp_socket(choices.tcp) if choices.tcp is not None else None
            with configured(log_to.warning) as traced:
                await _serve(places, choices, log, log_to, token, unix, tcp, mounts or {}, traced)
        finally:
            unix.close()
            places.socket.unlink(missing_ok=True)
            places.address.unlink(missing_ok=True)
    log("stopped")


async def _serve(
    places: Places,
    choices: Choices,
    log: Any,
    log_to: logging.Logger,
    token: str,
    unix: Any,
    tcp: Any,
    mounts: Mapping[str, Mountable],
    traced: Traced,
) -> None:
    links = Links(token, trio.current_time)
    release = version("journeyman")
    started = time.time()
    async with AsyncExitStack() as stack:
        host = await stack.enter_async_context(Host.open(places, log, choices.limits, choices.jobs, traced=traced))
        for path in choices.repositories:
            await host.register(path)
        api = Api(
            host, links, release, partial(metrics.render, started=started), cache(lambda: openapi.describe(release))
        )
        plain = api.router({})
        inner = {path: await stack.enter_async_context(mount(plain)) for path, mount in mounts.items()}
        app = api.router(inner)
        stop = trio.Event()
        listeners = [Listening(unix, Guard(app, links), log_to)]
        port = None
        if tcp is not None:
            port = tcp.getsockname()[1]
            listeners.append(Listening(tcp, Guard(app, links, port), log_to))
            write(places.address, f"127.0.0.1:{port}\n")
        memory.prepare()
        # From before it says that it serves: whoever is told so may stop it the next moment
        with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
            async with trio.open_nursery() as nursery:
                for listening in listeners:
                    nursery.start_soon(listening.serve, stop)
                log("serving", socket=str(places.socket), tcp=port, pid=os.getpid(), repositories=len(host.served))
                await _until_told(signals, host, choices.drain_s, log)
                stop.set()


async def _until_told(signals: AsyncIterator[int], host: Host, drain_s: float, log: Any) -> None:
    """Wait for a signal and for what it asks for; a second one cuts that short."""
    async for number in signals:
        log("draining", signal=signal.Signals(number).name, runs=host.runs)
        break
    async with trio.open_nursery() as nursery:

        async def drain() -> None:
            await host.drain(drain_s)
            nursery.cancel_scope.cancel()

        nursery.start_soon(drain)
        async for number in signals:
            log("stopping at once", signal=signal.Signals(number).name, runs=host.runs)
            nursery.cancel_scope.cancel()
            break
