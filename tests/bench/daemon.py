"""The daemon under load: `python tests/bench/daemon.py` (about a minute). Prints one line a figure, and JSON with `--json`.

A 500-task run goes on while 200 clients make 50 requests each over the Unix socket, every client as fast as it is answered; before that,
the same run without them. Then 100 watchers of a run: how long after the machine's own time an event is with the last of them. The clients are
a process of their own that speaks HTTP by hand, so that what is measured is the daemon and not a client library; both share this machine's
cores, which a comparison with other figures must know.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("GIT_CONFIG_NOSYSTEM", "1")

from conftest import Repo  # found on the path that was set above
from daemon_process import DaemonProcess, ended

TASKS, CLIENTS, REQUESTS, WATCHERS = 500, 200, 50, 100


def plan(tasks: int, pause_s: float) -> dict[str, Any]:
    """So many tasks, each a program on a file of its own that takes a while and changes it."""
    return {
        "task": [
            {
                "id": f"t{number}",
                "specialist": "service",
                "writes": [f"src/f{number}.txt"],
                "exec": ["sh", "-c", f"sleep {pause_s}; echo done > src/f{number}.txt"],
            }
            for number in range(tasks)
        ]
    }


async def answer(stream: trio.SocketStream, rest: bytes) -> tuple[int, bytes]:
    """(status, what was read beyond it) of one answer with a Content-Length."""
    while b"\r\n\r\n" not in rest:
        chunk = await stream.receive_some(65536)
        if not chunk:
            return 0, b""
        rest += chunk
    head, _, rest = rest.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")).split(b":")[1]
    )
    while len(rest) < length:
        chunk = await stream.receive_some(65536)
        if not chunk:
            return 0, b""
        rest += chunk
    return int(head.split(b" ", 2)[1]), rest[length:]


async def client(socket: str, paths: list[str], took_s: list[float], errors: list[str]) -> None:
    """One client: a connection, and its requests one after the other."""
    stream = await trio.open_unix_socket(socket)
    rest = b""
    async with stream:
        for number in range(REQUESTS):
            began = trio.current_time()
            path = paths[number % len(paths)]
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            status, rest = await answer(stream, rest)
            took_s.append(trio.current_time() - began)
            if status != 200:
                errors.append(f"{path}: {status}")
                return


async def load(socket: str, paths: list[str]) -> dict[str, Any]:
    """All clients at once."""
    took_s: list[float] = []
    errors: list[str] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client, socket, paths, took_s, errors)
    seconds = trio.current_time() - began
    took_s.sort()
    return {
        "requests": len(took_s),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "p50_ms": round(1000 * took_s[len(took_s) // 2], 1),
        "p99_ms": round(1000 * took_s[int(len(took_s) * 0.99)], 1),
        "max_ms": round(1000 * took_s[-1], 1),
        "requests_per_s": round(len(took_s) / seconds),
        "seconds": round(seconds, 2),
    }


async def watch(socket: str, run: str, late_s: list[float], epoch: list[float]) -> None:
    """One watcher: how late each event came, by the clock that both processes share."""
    stream = await trio.open_unix_socket(socket)
    async with stream:
        await stream.send_all(f"GET {run}/events?from=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        rest = b""
        while True:
            chunk = await stream.receive_some(65536)
            now = time.time()
            if not chunk:
                return
            rest += chunk
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if line.startswith(b"data: {"):
                    told = json.loads(line[6:])
                    if told.get("type") == "opened" and not epoch:
                        epoch.append(told["wall_s"] - told["at_s"])
                    elif epoch and "at_s" in told and told["type"] == "started":
                        late_s.append(now - epoch[0] - told["at_s"])
            if b"event: end" in b"\n".join(lines):
                return


async def watchers(socket: str, run: str) -> dict[str, Any]:
    """All watchers of one run, from before its first task ends."""
    late_s: list[float] = []
    epoch: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(WATCHERS):
            nursery.start_soon(watch, socket, run, late_s, epoch)
    late_s.sort()
    late_s = (
        late_s[: -WATCHERS * 10] if len(late_s) > WATCHERS * 100 else late_s
    )  # the first ones were over when they came
    return {
        "events": len(late_s),
        "p50_ms": round(1000 * statistics.median(late_s), 1),
        "p99_ms": round(1000 * late_s[int(len(late_s) * 0.99)], 1),
    }


def measure(pause_s: float) -> dict[str, Any]:
    """Every figure, from one daemon."""
    home = Path(tempfile.mkdtemp(prefix="journeyman-bench-"))
    (home / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    os.environ["GIT_CONFIG_GLOBAL"] = str(home / "gitconfig")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    repo = Repo(home / "repo")
    repo.commit({f"src/f{number}.txt": "x\n" for number in range(TASKS)})
    daemon = DaemonProcess(home)
    try:
        runs = daemon.register(repo)
        with daemon.client() as http:

            def one() -> str:
                made = http.post(runs, json={"plan": plan(TASKS, pause_s), "settings": {"instances": 8}})
                return str(made.headers["location"])

            one_s = []
            for _ in range(2):  # the first makes the worktrees
                alone = ended(http, one())
                assert alone["ok"], alone["error"]
                one_s.append(alone["makespan_s"])
            run = one()
            paths = ["/v1/health", run, runs, f"{run}/graph", "/v1/repositories"]
            loaded = trio.run(load, str(daemon.socket), paths)
            while_s = ended(http, run)["makespan_s"]
            watched = trio.run(watchers, str(daemon.socket), one())
        return {
            "alone_s": round(one_s[-1], 2),
            "with_load_s": round(while_s, 2),
            "slowed": round(while_s / one_s[-1] - 1, 3),
            **loaded,
            "watchers": watched,
        }
    finally:
        daemon.close()


def main() -> None:
    """Parse the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds that a task takes")
    flags = parser.parse_args()
    told = measure(flags.pause)
    if flags.json:
        print(json.dumps(told))
        return
    print(f"{CLIENTS} clients x {REQUESTS} requests: {told['errors']} errors, p50 {told['p50_ms']} ms, p99 {told['p99_ms']} ms, "
          f"{told['requests_per_s']} a second")  # fmt: skip
    print(f"the {TASKS}-task run: {told['alone_s']} s alone, {told['with_load_s']} s with them ({told['slowed']:+.1%})")
    print(
        f"{WATCHERS} watchers: p50 {told['watchers']['p50_ms']} ms, p99 {told['watchers']['p99_ms']} ms after the event"
    )


if __name__ == "__main__":
    main()
