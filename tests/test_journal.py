"""The journal: what is acknowledged is on the disk, one writer at a time, damage is named and nothing is guessed."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import trio
from conftest import Repo

from runtime.core.events import Tick
from runtime.core.machine import Machine
from runtime.doctor import examine
from runtime.errors import JournalDamaged, JournalForeign, RunHeld
from runtime.journal import VERSION, Journal, Lock, Reader, frame, unframe
from runtime.record_codec import decode, encode

FIXTURES = Path(__file__).parent / "fixtures"


def replayed(path: Path) -> dict[str, Any]:
    """What each run of a journal comes to: its state, its tasks' states and attempts, what it landed, what can be redone."""
    found: dict[str, Any] = {}
    reader = Reader(path)
    for row in reader.runs():
        machine = Machine()
        kinds: dict[str, int] = {}
        for at_s, event in map(decode, reader.records(row.name)):
            machine.handle(event, at_s)
            kinds[type(event).__name__] = kinds.get(type(event).__name__, 0) + 1
        machine.check()
        found[row.name] = {
            "state": row.state,
            "title": row.title,
            "events": kinds,
            "tasks": {name: [one.state, one.attempt, one.commit, one.error] for name, one in machine.records.items()},
            "landed": [event.commits for event in machine.landed],
            "redo": machine.undo.redo,
            "checked": [one["ok"] for one in machine.checked.results] if machine.checked else None,
        }
    reader.close()
    return found


@pytest.mark.parametrize("path", sorted(FIXTURES.glob("journal-v*.db")), ids=lambda path: path.stem)
def test_the_journal_of_every_released_version_is_replayed(path: Path, tmp_path: Path) -> None:
    """A journal that an earlier version wrote gives the same states, commits and redo stacks, and stays byte for byte what it was."""
    before = path.read_bytes()
    copy = tmp_path / path.name
    copy.write_bytes(before)
    assert json.loads(json.dumps(replayed(copy))) == json.loads(path.with_suffix(".json").read_text())
    assert copy.read_bytes() == before


def test_the_version_that_is_written_has_a_fixture() -> None:
    """Whoever raises the journal's version makes its fixture: python tests/fixtures/make_journal.py."""
    assert (FIXTURES / f"journal-v{VERSION}.db").exists()


async def _written(path: Path, records: list[bytes]) -> str:
    journal = Journal(path)
    run = journal.begin("test")
    for record in records:
        journal.append(record)
    await journal.durable()
    journal.close_run("done")
    journal.close()
    return run


async def test_records_come_back_in_order(tmp_path: Path) -> None:
    """Every record appended before `durable` returned is read back, in order, by another connection."""
    records = [f"record {number}".encode() * (number % 7) for number in range(500)]
    run = await _written(tmp_path / "j.db", records)
    reader = Reader(tmp_path / "j.db")
    assert list(reader.records(run)) == records
    assert [(row.name, row.state, row.title) for row in reader.runs()] == [("r1", "done", "test")]
    reader.close()


async def test_many_records_share_a_flush(tmp_path: Path) -> None:
    """A thousand records appended at once need a few commits, not a thousand."""
    journal = Journal(tmp_path / "j.db")
    journal.begin()
    for number in range(1000):
        journal.append(str(number).encode())
    await journal.durable()
    assert journal.written == 1000
    assert journal.flushes < 50
    journal.close()


async def test_a_second_writer_is_refused_with_the_holders_pid(tmp_path: Path) -> None:
    """While one process writes, another gets `RunHeld` naming it; when the holder has died the journal is free again."""
    path = tmp_path / "j.db"
    code = (
        "import sys, trio\nfrom pathlib import Path\nfrom runtime.journal import Journal\n"
        "async def main():\n    Journal(Path(sys.argv[1])).begin(); print('ready', flush=True); await trio.sleep_forever()\n"
        "trio.run(main)"
    )
    other = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
    assert other.stdout is not None
    assert other.stdout.readline() == b"ready\n"
    with pytest.raises(RunHeld) as caught:
        Journal(path)
    assert caught.value.pid == other.pid
    other.kill()
    other.wait()
    other.stdout.close()
    Journal(path).close()


async def test_damage_is_named_and_left_alone(tmp_path: Path) -> None:
    """A page whose checksum does not fit stops the reader with the run and record; the file stays as it is."""
    path = tmp_path / "j.db"
    run = await _written(path, [b"one", b"two"])
    connection = sqlite3.connect(path)
    connection.execute("UPDATE page SET body = x'00000003747865'")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    reader = Reader(path)
    with pytest.raises(JournalDamaged, match="run r1: record 1"):
        list(reader.records(run))
    reader.close()
    assert path.read_bytes() == before


async def test_foreign_and_newer_files_are_refused(tmp_path: Path) -> None:
    """An SQLite file of somebody else's, a newer journal, and a file that is no database are each refused by name."""
    foreign = tmp_path / "foreign.db"
    connection = sqlite3.connect(foreign)
    connection.execute("CREATE TABLE cats(name)")
    connection.commit()
    connection.close()
    with pytest.raises(JournalForeign, match="not a journal"):
        Journal(foreign)
    newer = tmp_path / "newer.db"
    await _written(newer, [b"x"])
    connection = sqlite3.connect(newer)
    connection.execute("PRAGMA user_version=99")
    connection.commit()
    connection.close()
    with pytest.raises(JournalForeign, match="newer"):
        Reader(newer)
    (tmp_path / "text.db").write_text("not a database at all, but long enough to be taken for one " * 20)
    with pytest.raises(JournalDamaged):
        Reader(tmp_path / "text.db")


@pytest.mark.parametrize("records", [[], [b""], [b"a", b"", b"bc" * 1000]])
def test_frames(records: list[bytes]) -> None:
    """Framed records come back as they were; a cut or miscounted frame is an error."""
    body = frame(records)
    assert unframe(body, len(records)) == records
    with pytest.raises(ValueError, match="counted"):
        unframe(body, len(records) + 1)
    if body:
        with pytest.raises(ValueError, match=r"cut short|counted"):
            unframe(body[:-1], len(records))


async def test_what_is_remembered_outlives_the_run(tmp_path: Path) -> None:
    """A value kept in one process is there for the next."""
    journal = Journal(tmp_path / "j.db")
    journal.remember("key", b"value")
    journal.close()
    await trio.lowlevel.checkpoint()
    reader = Reader(tmp_path / "j.db")
    assert reader.recall("key") == b"value"
    assert reader.recall("other") is None
    reader.close()


async def test_doctor_says_what_of_a_damaged_journal_can_be_read(tmp_path: Path) -> None:
    """Of a journal with a damaged page `doctor` tells which runs are whole, and how far the other can be read; the file stays as it is."""
    repo = Repo(tmp_path / "repo")
    repo.commit({"a": "a"})
    path = repo.path / ".git/journeyman/journal.db"
    path.parent.mkdir()
    for _ in range(2):
        journal = Journal(path)
        journal.begin()
        for number in range(3):
            journal.append(encode(float(number), Tick()))
            await journal.durable()
        journal.close()
    connection = sqlite3.connect(path)
    connection.execute("UPDATE page SET crc = crc + 1 WHERE run = 'r2' AND first = 3")
    connection.commit()
    connection.close()
    before = path.read_bytes()
    (found,) = [one for one in examine(repo.path) if one.what == "journal"]
    assert not found.ok
    assert "of run r2 2 records can be read" in found.says
    assert "runs that can be read whole: r1" in found.says
    assert path.read_bytes() == before


async def test_records_after_a_failed_write_are_refused(tmp_path: Path) -> None:
    """When the file cannot be written, whoever waits is told, and nothing more is taken in: the run stops where it is."""
    code = (
        "import resource, signal, sys, trio\nfrom pathlib import Path\nfrom runtime.errors import JournalFailed\n"
        "from runtime.journal import Journal\nsignal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "async def main():\n"
        "    journal = Journal(Path(sys.argv[1])); journal.begin(); journal.append(b'one'); await journal.durable()\n"
        "    resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "    for act in (lambda: journal.append(bytes(50000)), lambda: journal.append(b'three')):\n"
        "        try:\n            act(); await journal.durable()\n"
        "        except JournalFailed as error: print('refused', error)\n"
        "    try:\n        journal.close()\n    except JournalFailed: print('told again')\n"
        "trio.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j.db")], capture_output=True, text=True, check=False
    )
    assert done.stdout.count("refused") == 2, done.stderr
    assert "told again" in done.stdout
    reader = Reader(tmp_path / "j.db")
    assert list(reader.records("r1")) == [b"one"]
    reader.close()


def test_what_cannot_be_opened_is_not_damaged(tmp_path: Path) -> None:
    """With too few descriptors left the system is named, with what to do, and never the file; with one more than it takes, all is well."""
    code = (
        "import errno, os, resource, sys, trio\nfrom pathlib import Path\nfrom runtime.errors import JournalFailed\n"
        "from runtime.journal import Journal\n"
        "async def main():\n"
        "    for more in range(1, 9):\n"
        "        free = os.dup(0); os.close(free)\n"
        "        resource.setrlimit(resource.RLIMIT_NOFILE, (free + more, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))\n"
        "        try:\n            journal = Journal(Path(sys.argv[1])); journal.begin(); journal.close(); print('fine')\n"
        "        except JournalFailed as error: print('failed', error)\n"
        "        except OSError as error: assert error.errno == errno.EMFILE; print('lock')\n"
        "trio.run(main)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "j.db")], capture_output=True, text=True, check=False
    )
    said = done.stdout.splitlines()
    assert len(said) == 8, done.stderr
    assert said[-1] == "fine"
    failed = [line for line in said if line.startswith("failed")]
    assert failed
    assert all("ulimit -n" in line for line in failed)


def test_a_lock_whose_holder_is_gone_is_free_whatever_it_says(tmp_path: Path) -> None:
    """The file names a process that lives, but that process does not hold it: its number was given to somebody else."""
    lock = Lock(tmp_path / "j.lock")
    lock.path.write_text(json.dumps({"pid": os.getppid(), "run": "r1"}))
    assert not lock.held()
    lock.acquire()
    assert lock.holder()[0] == os.getpid()
    lock.release()


def test_a_lock_that_a_dead_holders_child_has_for_a_moment_is_waited_for(tmp_path: Path) -> None:
    """Whoever is killed while it starts a program leaves a child that has all its files until it runs that: a resume right after the kill
    waits for it, and is not told that the dead process holds the journal."""
    holder = (
        "import os, sys, time\nfrom pathlib import Path\nfrom runtime.journal import Lock\n"
        "Lock(Path(sys.argv[1])).acquire('r1')\n"
        "if os.fork() == 0:\n    sys.stdin.read()\n    os._exit(0)\n"
        "os.write(1, b'held')\nos._exit(0)\n"
    )
    place = tmp_path / "j.lock"
    process = subprocess.Popen(
        [sys.executable, "-c", holder, str(place)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.read(4) == b"held"
        process.wait(30)
        lock = Lock(place)
        assert lock.held()
        taken = threading.Thread(target=lock.acquire)
        taken.start()
        process.stdin.close()
        taken.join(30)
        assert lock.holder()[0] == os.getpid()
        lock.release()
