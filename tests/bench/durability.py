"""What durability costs, against what it is built on: `python tests/bench/durability.py [NAME ...]`, without names all of it.

    transitions   durable records a second through the journal, with 20 instances, against a bare SQLite loop
    resume        from the start of a new process to the first task, behind 10,000 that are done and before 1,000
    steps         checkpoint, undo and redo of a run on Django's tree, against `git status` there

Nothing here asserts; it prints a table. The journals are in the current folder's file system, where the disk is a real one.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from zlib import crc32

import trio

sys.path.insert(0, str(Path(__file__).parent))

from run import django_copy, main, tell

from runtime.core.events import Finished
from runtime.git import Repository
from runtime.journal import Journal
from runtime.record_codec import encode
from runtime.rewind import checkpoint, redo, undo

INSTANCES = 20
DONE, OPEN = 10_000, 1_000
PATTERN = ("--rewrite", "self.assertEqual($A, $B)", "self.assertEqual($B, $A)", "--language", "python")


# --- transitions -----------------------------------------------------------------------------------------------


def _records(count: int) -> list[bytes]:
    """What a task's end is in the journal."""
    return [encode(float(at), Finished(f"src/module_{at}.py", 1, {"files": {f"m{at}.py": {}}})) for at in range(count)]


def _journal(path: Path, records: list[bytes]) -> tuple[float, float]:
    """(records a second, records a flush): each instance appends, and goes on once that is on the disk."""

    async def run() -> tuple[float, float]:
        journal = Journal(path)
        journal.begin()
        left = iter(records)

        async def instance() -> None:
            for record in left:
                await journal.durable(journal.append(record))

        before, began = journal.flushes, time.perf_counter()
        async with trio.open_nursery() as nursery:
            for _ in range(INSTANCES):
                nursery.start_soon(instance)
        took = time.perf_counter() - began
        flushes = journal.flushes - before
        journal.close()
        return len(records) / took, len(records) / flushes

    return trio.run(run)


def _bare(path: Path, records: list[bytes], group: int) -> float:
    """Records a second of a loop that does nothing else: the same bytes, as many to a flush."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        connection = sqlite3.connect(Path(folder) / "bare.db", isolation_level=None)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("PRAGMA synchronous=FULL")
        connection.execute("CREATE TABLE page(first INTEGER PRIMARY KEY, crc INTEGER, body BLOB)")
        began = time.perf_counter()
        for first in range(0, len(records), group):
            body = b"".join(records[first : first + group])
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("INSERT INTO page VALUES(?, ?, ?)", (first, crc32(body), body))
            connection.execute("COMMIT")
        took = time.perf_counter() - began
        connection.close()
    return len(records) / took


def transitions() -> None:
    """Records appended and on the disk, a second."""
    records = _records(10_000)
    ours, theirs, groups = [], [], []
    for _ in range(5):
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            rate, group = _journal(Path(folder) / "journal.db", records)
            ours.append(rate)
            groups.append(group)
            theirs.append(_bare(Path(folder) / "bare.db", records, max(1, round(group))))
    one, two = statistics.median(ours), statistics.median(theirs)
    figure = f"{one:,.0f} a second, {statistics.median(groups):.0f} to a flush"
    tell("durable task transitions, 20 instances", figure, ">= 2,000")
    tell("    a bare SQLite loop, as many to a flush / the same", f"{two / one:.2f}  ({two:,.0f} a second)", "<= 2")


# --- resume ----------------------------------------------------------------------------------------------------

_BUILD = """
import os, signal, sys, trio
from runtime import Plan, Runtime, Specialist, Task
done, open_ = int(sys.argv[2]), int(sys.argv[3])
async def handler(brief, workspace):
    if int(brief.task.id[1:]) >= done:
        await trio.sleep_forever()
async def main():
    async with Runtime([Specialist("a", handler, instances=20)], journal=sys.argv[1]) as rt:
        async def stop():
            while sum(record.state == "done" for record in rt.machine.records.values()) < done:
                await trio.sleep(0.05)
            await rt._journal.durable()
            os.kill(os.getpid(), signal.SIGKILL)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stop)
            await rt.run(Plan([Task(f"t{n}", "a", writes=(f"src/m{n}.py",), estimate_s=2.0 if n < done else 1.0)
                               for n in range(done + open_)]))
trio.run(main)
"""

_RESUME = """
import time
import os, sys, trio
from runtime import Runtime, Specialist
imported = time.perf_counter()
async def handler(brief, workspace):
    now = time.perf_counter()
    done = sum(record.state == "done" for record in rt.machine.records.values())
    print(f'{{"done": {done}, "resume": {now - imported}}}', flush=True)
    os._exit(0)
async def main():
    global rt
    async with Runtime([Specialist("a", handler, instances=20)], journal=sys.argv[1]) as rt:
        await rt.resume("r1")
trio.run(main)
"""


def resume() -> None:
    """The first start of a task in a new process."""
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        path = str(Path(folder) / "journal.db")
        built = subprocess.run([sys.executable, "-c", _BUILD, path, str(DONE), str(OPEN)], check=False)
        assert built.returncode == -signal.SIGKILL, built
        figures = []
        for _ in range(2):  # a third death of the same tasks would be one too many
            began = time.perf_counter()
            done = subprocess.run([sys.executable, "-c", _RESUME, path], check=True, capture_output=True, text=True)
            took, told = time.perf_counter() - began, json.loads(done.stdout)
            assert told["done"] == DONE, told
            figures.append((took, told["resume"]))
        size = os.path.getsize(path) + (os.path.getsize(f"{path}-wal") if Path(f"{path}-wal").exists() else 0)
    whole, own = min(figures)
    figure = f"{whole:.2f} s  (of it imports {whole - own:.2f}, journal of {size / 1e6:.1f} MB)"
    tell(f"first task after resume of {DONE:,} done + {OPEN:,} open", figure, "<= 2 s")


# --- steps -----------------------------------------------------------------------------------------------------


def _took(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def steps() -> None:
    """Checkpoint, undo and redo of a run over a folder of the tests and of one over all of them."""
    for globs in (("tests/model_f*/*.py", "tests/basic/*.py"), ("tests/**/*.py",)):
        with django_copy() as folder:
            _steps(folder, globs)


def _steps(folder: Path, globs: Sequence[str]) -> None:
    """Each the median of seven, of the verb itself, and once as a command."""
    words = [sys.executable, "-m", "runtime"]
    subprocess.run([*words, "refactor", "--quiet", *PATTERN, *globs], cwd=folder, check=True, capture_output=True)
    repository = Repository.open(folder)
    line = ["git", "rev-list", "--count", "HEAD..refs/journeyman/r1/line"]
    commits = subprocess.run(line, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()
    verbs: dict[str, Callable[[], object]] = {
        "checkpoint": lambda: checkpoint(repository, "r1", "here"),
        "undo": lambda: trio.run(undo, repository, "r1"),
        "redo": lambda: trio.run(redo, repository, "r1"),
    }
    figures: dict[str, list[float]] = {"status": [], **{name: [] for name in verbs}}
    for _ in range(7):
        figures["status"].append(
            _took(lambda: subprocess.run(["git", "status", "--short"], cwd=folder, check=True, capture_output=True))
        )
        for name, verb in verbs.items():
            figures[name].append(_took(verb))
    status = statistics.median(figures["status"])
    for name in verbs:
        one = statistics.median(figures[name])
        command = [*words, name, "r1", "--json"]
        whole = _took(lambda words=command: subprocess.run(words, cwd=folder, check=True, capture_output=True))
        told = f"{one / status:.2f}  ({one * 1e3:.0f} / {status * 1e3:.0f} ms; as a command {whole * 1e3:.0f})"
        tell(f"{name} on Django's tree, a run of {commits} commits / git status", told, "<= 0.5")


ALL: dict[str, Callable[[], None]] = {one.__name__: one for one in (transitions, resume, steps)}

if __name__ == "__main__":
    main(sys.argv[1:], ALL)
