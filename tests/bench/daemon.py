"""The daemon under load: `python tests/bench/daemon.py` (about five minutes). Prints one line a figure, and JSON with `--json`.

A 500-task run is done alone and under load in turns, six times each and every second turn the other way round, so that what changes on
the machine meanwhile falls on both, after one that makes the worktrees. Load is 200 clients at once, 50 requests
each over the Unix socket, each client as fast as it is answered: health, the run, the list of runs, its graph, the
repositories. `p99` is of all requests of all six; `slowed` compares the medians of the makespans. Then 100 clients watch a run: how long
after the machine's own time an event is with each of them (of what happened while they watched).

The clients are a process of their own that speaks HTTP by hand, so that what is measured is the daemon and not a client library; it
shares this machine's cores with the daemon and the run's programs, so what it takes of them counts as the daemon's fault. A task sleeps
for `--pause` seconds in a program of its own. What else is at work on the machine shows in the makespans alone, of which all are printed.

`--memory 10000` does so many runs of 10 tasks one after the other, four at a time, and prints the daemon's memory on the way, and how the
last quarter's mean compares with that of the second: it takes an hour or so.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))
os.environ.setdefault("GIT_CONFIG_NOSYSTEM", "1")

from conftest import Repo  # found on the path that was set above
from daemon_process import DaemonProcess, ended, rewriting
from resident import resident_mib

TASKS, CLIENTS, REQUESTS, WATCHERS = 500, 200, 50, 100
RUN_TASKS, AHEAD = 10, 4
TURNS = 6


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
    parts = [rest]
    while b"\r\n\r\n" not in rest:
        chunk = bytes(await stream.receive_some(2**18))
        if not chunk:
            return 0, b""
        rest += chunk
        parts = [rest]
    head, _, _ = rest.partition(b"\r\n\r\n")
    where = head.lower().index(b"content-length:") + len(b"content-length:")
    whole = len(head) + 4 + int(head[where:].split(b"\r\n", 1)[0])
    have = len(rest)
    while have < whole:
        chunk = bytes(await stream.receive_some(2**18))
        if not chunk:
            return 0, b""
        parts.append(chunk)
        have += len(chunk)
    return int(head.split(b" ", 2)[1]), b"".join(parts)[whole:] if have > whole else b""


async def client(socket: str, paths: list[str], took_s: list[float], errors: list[str]) -> None:
    """One client: a connection, and its requests one after the other. What it takes to connect counts as of its first request."""
    began = trio.current_time()
    stream = await trio.open_unix_socket(socket)
    rest = b""
    async with stream:
        for number in range(REQUESTS):
            path = paths[number % len(paths)]
            await stream.send_all(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            status, rest = await answer(stream, rest)
            took_s.append(trio.current_time() - began)
            if status != 200:
                errors.append(f"{path}: {status}")
                return
            began = trio.current_time()


async def load(socket: str, paths: list[str]) -> tuple[list[float], list[str], float]:
    """All clients at once: (seconds of each request, errors, seconds of it all)."""
    took_s: list[float] = []
    errors: list[str] = []
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for _ in range(CLIENTS):
            nursery.start_soon(client, socket, paths, took_s, errors)
    return took_s, errors, trio.current_time() - began


async def watch(socket: str, run: str, late_s: list[float]) -> None:
    """One watcher: how late each start of an attempt came, by the clock that both processes share."""
    stream = await trio.open_unix_socket(socket)
    epoch = None
    async with stream:
        await stream.send_all(f"GET {run}/events?from=1 HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        since = None
        rest = b""
        while True:
            chunk = await stream.receive_some(2**16)
            now = time.time()
            if not chunk:
                return
            rest += chunk
            *lines, rest = rest.split(b"\n")
            for line in lines:
                if epoch is None and b'"type":"opened"' in line:
                    told = json.loads(line[6:])
                    epoch = told["wall_s"] - told["at_s"]
                elif epoch is not None and since is not None and b'"type":"started"' in line:
                    at = epoch + json.loads(line[6:])["at_s"]
                    if at > since:
                        late_s.append(now - at)
            since = since or now  # what happened before it was answered is no news
            if b"event: end" in lines:
                return


async def watchers(socket: str, run: str) -> list[float]:
    """All watchers of one run, to its end: how late each event was with each of them, seconds."""
    late_s: list[float] = []
    async with trio.open_nursery() as nursery:
        for _ in range(WATCHERS):
            nursery.start_soon(watch, socket, run, late_s)
    return late_s


def at(share: float, seconds: list[float]) -> float:
    """A percentile, milliseconds."""
    return round(1000 * sorted(seconds)[int(len(seconds) * share)], 1)


@contextmanager
def daemon() -> Iterator[tuple[DaemonProcess, str, Any]]:
    """A daemon with a repository: (the process, the address of its runs, a client)."""
    home = Path(tempfile.mkdtemp(prefix="journeyman-bench-"))
    (home / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
    os.environ["GIT_CONFIG_GLOBAL"] = str(home / "gitconfig")
    os.environ["XDG_CACHE_HOME"] = str(home / "cache")
    repo = Repo(home / "repo")
    repo.commit({f"src/f{number}.txt": "x\n" for number in range(TASKS)})
    repo.commit({f"src/m{number}.py": f"print({number})\n" for number in range(RUN_TASKS * AHEAD)})
    process = DaemonProcess(home)
    try:
        runs = process.register(repo)
        with process.plain_client() as http:
            yield process, runs, http
    finally:
        process.close()


def cpu_s(process: DaemonProcess) -> float:
    """What the daemon itself has taken of the cores so far, seconds."""
    fields = Path(f"/proc/{process.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(pause_s: float) -> dict[str, Any]:
    """Every figure, from one daemon."""
    with daemon() as (process, runs, http):

        def one() -> str:
            made = http.post(runs, json={"plan": plan(TASKS, pause_s), "settings": {"instances": 8}})
            return str(made.headers["location"])

        def done(run: str) -> float:
            told = ended(http, run)
            assert told["ok"], told["error"]
            return float(told["makespan_s"])

        done(one())  # makes the worktrees
        alone_s, with_s, load_s, took_s = [], [], [], []
        cost_s = {"alone": 0.0, "with load": 0.0}
        errors: list[str] = []

        def alone() -> None:
            before = cpu_s(process)
            alone_s.append(done(one()))
            cost_s["alone"] += cpu_s(process) - before

        def with_load() -> None:
            before = cpu_s(process)
            run = one()
            paths = ["/v1/health", run, runs, f"{run}/graph", "/v1/repositories"]
            took, failed, seconds = trio.run(load, str(process.socket), paths)
            with_s.append(done(run))
            cost_s["with load"] += cpu_s(process) - before
            took_s.extend(took)
            errors.extend(failed)
            load_s.append(round(seconds, 2))

        for turn in range(TURNS):
            for way in (alone, with_load) if turn % 2 == 0 else (with_load, alone):
                way()
        late_s = trio.run(watchers, str(process.socket), one())
    return {
        "alone_s": alone_s,
        "with_load_s": with_s,
        "slowed": round(statistics.median(with_s) / statistics.median(alone_s) - 1, 3),
        "load_s": load_s,
        "daemon_cpu_s": {name: round(seconds / TURNS, 2) for name, seconds in cost_s.items()},
        "requests": len(took_s),
        "errors": len(errors),
        "first_error": errors[0] if errors else None,
        "p50_ms": at(0.5, took_s),
        "p99_ms": at(0.99, took_s),
        "max_ms": at(1 - 1e-9, took_s),
        "watchers": {"events": len(late_s), "p50_ms": at(0.5, late_s), "p99_ms": at(0.99, late_s)},
    }


def memory(number: int) -> dict[str, Any]:
    """{runs done: MiB that the daemon holds for itself} on the way to `number` runs of ten tasks, at forty points."""
    found: dict[str, float] = {}
    with daemon() as (process, runs, http):
        open_: list[str] = []
        stderr = process.process.stderr
        assert stderr is not None
        threading.Thread(target=lambda: deque(stderr, 0), daemon=True).start()  # its log: a full pipe would stop it
        began = time.monotonic()
        for count in range(1, number + 1):
            lane = count % AHEAD  # runs that are open at the same time have files of their own
            body = {"plan": rewriting(*range(lane * RUN_TASKS, (lane + 1) * RUN_TASKS)), "client": f"c{lane}"}
            open_.append(http.post(runs, json=body).headers["location"])
            if len(open_) == AHEAD:
                assert ended(http, open_.pop(0))["ok"]
            if count % max(1, number // 40) == 0:
                own, mapped = resident_mib(process.process.pid)
                found[str(count)] = round(own, 1)
                print(
                    f"{count} runs, {time.monotonic() - began:.0f} s: {own:.1f} MiB, and {mapped:.1f} mapped",
                    flush=True,
                )
    return found


def main() -> None:
    """Parse the flags, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--pause", type=float, default=0.2, help="seconds that a task takes")
    parser.add_argument(
        "--memory", type=int, metavar="RUNS", help="the daemon's memory over so many runs, and nothing else"
    )
    flags = parser.parse_args()
    if flags.memory:
        found = memory(flags.memory)
        seen = list(found.values())
        second, last = (statistics.fmean(seen[of * len(seen) // 4 : (of + 1) * len(seen) // 4]) for of in (1, 3))
        print(
            json.dumps(found)
            if flags.json
            else f"second quarter {second:.1f} MiB, last {last:.1f}: {last / second:.2f}"
        )
        return
    told = measure(flags.pause)
    if flags.json:
        print(json.dumps(told))
        return
    print(f"{CLIENTS} clients x {REQUESTS} requests, {TURNS} times, in {told['load_s']} s: {told['errors']} errors, "
          f"p50 {told['p50_ms']} ms, p99 {told['p99_ms']} ms, longest {told['max_ms']} ms")  # fmt: skip
    print(f"the {TASKS}-task run: {told['alone_s']} s alone, {told['with_load_s']} s with them (medians: {told['slowed']:+.1%}); "
          f"of the cores' time the daemon took {told['daemon_cpu_s']} s")  # fmt: skip
    watched = told["watchers"]
    print(
        f"{WATCHERS} watchers, {watched['events']} events: p50 {watched['p50_ms']} ms, p99 {watched['p99_ms']} ms after the event"
    )


if __name__ == "__main__":
    main()
