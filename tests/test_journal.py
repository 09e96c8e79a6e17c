"""The journal: what is acknowledged is on the disk, one writer at a time, damage is named and nothing is guessed."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from runtime.errors import JournalDamaged, JournalForeign, RunHeld
from runtime.journal import Journal, Reader, frame, unframe


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
