"""The journal: append, group commit, replay. Knows bytes and runs, not what the bytes mean.

One SQLite file (WAL, synchronous=FULL) for a repository; one writing connection (`Writer`), on a thread of its own, in the one
process that holds the lock beside it, for as many runs (`Journal`, one each) as go on there. `append` returns at once with a
sequence number; `durable(number)` returns when that record and all before it are on the disk. The thread writes whatever has
gathered as one row a run with a checksum and commits: many records to one flush. A row that does not check stops the reader with
`JournalDamaged`; nothing is guessed and nothing deleted.

    run      one row a run: its name, number, when it began, the state it ended in
    page     (run, first sequence number) -> how many records, their bytes framed by length, a CRC-32
    memory   small values kept from run to run, by key
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import sqlite3
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Final
from zlib import crc32

import attrs
import trio

from .errors import JournalDamaged, JournalFailed, JournalForeign, RepositoryRefused, RunHeld
from .failpoints import hit
from .processes import alive

APPLICATION_ID: Final = 0x4A4D4E31  # "JMN1" in the file's header, so that `file` and we can tell what it is
VERSION: Final = 1
_CANNOT_BE_WRITTEN: Final = "see that the file and its folder may be written, and enough files opened (ulimit -n)"
_NO_DAMAGE: Final = {  # {SQLite's word: what to do about it}
    "FULL": "make room",
    "IOERR": "see to the disk",
    "CANTOPEN": _CANNOT_BE_WRITTEN,
    "READONLY": _CANNOT_BE_WRITTEN,
    "PERM": _CANNOT_BE_WRITTEN,
    "BUSY": "another program has it locked",
    "LOCKED": "another program has it locked",
    "NOMEM": "there is too little memory",
}
_NO_WRITING: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_FORKED_S: Final = 2.0  # the most that a child takes to begin
_LOOK_S: Final = 0.02
LINGER_S: Final = 0.01  # how long records may gather when nobody waits for them

_SCHEMA: Final = """
CREATE TABLE run(name TEXT PRIMARY KEY, number INTEGER NOT NULL UNIQUE, started_at REAL NOT NULL, state TEXT NOT NULL,
                 title TEXT NOT NULL DEFAULT '') WITHOUT ROWID;
CREATE TABLE page(run TEXT NOT NULL, first INTEGER NOT NULL, count INTEGER NOT NULL, crc INTEGER NOT NULL, body BLOB NOT NULL,
                  PRIMARY KEY(run, first)) WITHOUT ROWID;
CREATE TABLE memory(key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
"""


@attrs.frozen
class RunRow:
    """A run as the journal lists it. `started_at` is seconds since the epoch; `state` "open" until it was closed."""

    name: str
    number: int
    started_at: float
    state: str
    title: str


def frame(records: list[bytes]) -> bytes:
    """Records as one string of bytes, each behind its length in four bytes."""
    return b"".join(part for record in records for part in (len(record).to_bytes(4, "big"), record))


def unframe(body: bytes, count: int) -> list[bytes]:
    """The records of `frame`. Raises ValueError when the lengths do not add up."""
    records = []
    at = 0
    while at < len(body):
        size = int.from_bytes(body[at : at + 4], "big")
        record = body[at + 4 : at + 4 + size]
        if len(record) != size or at + 4 > len(body):
            raise ValueError("a record is cut short")
        records.append(record)
        at += 4 + size
    if len(records) != count:
        raise ValueError(f"{len(records)} records where {count} were counted")
    return records


class Lock:
    """One writer a journal: an advisory lock on a file beside it, with the holder's pid inside for people.

    The kernel frees it when the holder dies, however it dies, so a dead holder or a reused pid never counts.
    """

    def __init__(self, path: Path, *, daemon: bool = False) -> None:
        self.path = path
        self.daemon = (
            daemon  # whether the holder is one: it has other runs, and is not to be interrupted for one of them
        )
        self._fd: int | None = None

    def acquire(self, run: str = "") -> None:
        """Raises RunHeld with the holder's pid when another live process has it, RepositoryRefused where nothing may be written."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in _NO_WRITING:
                raise
            raise RepositoryRefused(f"the journal cannot be written ({self.path}: {error.strerror})") from error
        if not self._seize(fd):
            os.close(fd)
            pid, held = self.holder()
            what = f"run {held}" if held else "a run"
            raise RunHeld(
                f"{what} of process {pid} holds this repository's journal ({self.path}); "
                f"wait for it, or end it with: journeyman cancel {held or 'RUN'}",
                pid,
            ) from None
        self._fd = fd
        self.name(*([run] if run else []))

    def _seize(self, fd: int) -> bool:
        """Whether the lock is ours. A child that a killed holder had just forked has it until it runs its program: a moment that a
        busy machine makes long, so one whose holder is dead is waited for."""
        until = time.monotonic() + _FORKED_S
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                pid = self.holder()[0]
                if not pid or alive(pid) or time.monotonic() > until:
                    return False
                time.sleep(_LOOK_S)
            else:
                return True

    def name(self, *runs: str) -> None:
        """Write down which runs the holder is at."""
        assert self._fd is not None
        told = {"pid": os.getpid(), "run": runs[0] if runs else "", "runs": runs, "daemon": self.daemon}
        said = json.dumps(told).encode()
        os.pwrite(self._fd, said, 0)
        os.ftruncate(self._fd, len(said))

    def holder(self) -> tuple[int, str]:
        """(pid, run) as the holder wrote it; (0, "") when that cannot be told. Says nothing of whether it lives."""
        try:
            said = json.loads(self.path.read_bytes() or b"{}")
            return int(said.get("pid", 0)), str(said.get("run", ""))
        except (OSError, ValueError, AttributeError):
            return 0, ""

    def runs(self) -> tuple[str, ...]:
        """All the runs that the holder is at, as it wrote them; empty when that cannot be told."""
        try:
            return tuple(map(str, json.loads(self.path.read_bytes() or b"{}").get("runs", ())))
        except (OSError, ValueError, AttributeError, TypeError):
            return ()

    def held_by_daemon(self) -> bool:
        """Whether a live daemon holds it, as far as it wrote."""
        try:
            return bool(json.loads(self.path.read_bytes() or b"{}").get("daemon")) and self.held()
        except (OSError, ValueError, AttributeError):
            return False

    def held(self) -> bool:
        """Whether a live process holds it."""
        try:
            fd = _open_to_look(self.path)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _open_to_look(path: Path) -> int:
    """A file whose lock is asked for: for writing, as some file systems want it, else for reading. Raises OSError."""
    try:
        return os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        if error.errno not in _NO_WRITING:
            raise
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)


def _opened(path: Path, mode: str) -> tuple[sqlite3.Connection, int, int, int]:
    """(connection, application id, version, how many tables)."""
    connection = sqlite3.connect(
        f"{path.absolute().as_uri()}?mode={mode}", uri=True, isolation_level=None, check_same_thread=False, timeout=30
    )
    try:
        if mode != "ro":
            # What SQLite may not open for writing, or cannot for want of descriptors, it opens for reading, and says so late.
            connection.execute("BEGIN IMMEDIATE")
            connection.execute("ROLLBACK")
        kind = connection.execute("PRAGMA application_id").fetchone()[0]
        version = connection.execute("PRAGMA user_version").fetchone()[0]
        return connection, kind, version, connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]
    except BaseException:
        connection.close()
        raise


def _copied(path: Path) -> tuple[sqlite3.Connection, int, int, int]:
    """What `_opened` gives, of a journal whose folder cannot be written: SQLite would need to. Nobody else can write there either, or
    it is somebody else's, and then one moment of it is what we get; a copy that does not check is told of as damage is."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        for suffix in ("", "-wal"):
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(f"{path}{suffix}", f"{copy}{suffix}")
        connection, kind, version, tables = _opened(copy, "rw")
        with contextlib.closing(connection):
            whole = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
            connection.backup(whole)
    return whole, kind, version, tables


@contextlib.contextmanager
def _named(path: Path) -> Iterator[None]:
    """What SQLite cannot do, by whose fault it is: the system's (JournalFailed), or what is in the file (JournalDamaged)."""
    try:
        yield
    except sqlite3.DatabaseError as error:
        told = next((_NO_DAMAGE[word] for word in error.sqlite_errorname.split("_") if word in _NO_DAMAGE), "")
        if told:
            raise JournalFailed(f"{path}: {error}; {told}") from error
        raise JournalDamaged(
            f"{path}: {error}. It is left as it is; `journeyman doctor` says what can be read"
        ) from error


def _look_in(path: Path) -> tuple[sqlite3.Connection, int, int, int]:
    """A connection that only reads, beside whoever writes."""
    try:
        return _opened(path, "ro")
    except sqlite3.OperationalError as error:
        if error.sqlite_errorname.startswith("SQLITE_READONLY"):
            # The last writer was killed while it made the file: even a reader has to roll that back first.
            with contextlib.suppress(sqlite3.OperationalError):
                opened = _opened(path, "rw")
                opened[0].execute("PRAGMA query_only=1")
                return opened
        if os.access(path.parent, os.W_OK):
            raise
        return _copied(path)


def _connect(path: Path, *, writes: bool) -> sqlite3.Connection:
    with _named(path):
        connection, kind, version, tables = _opened(path, "rwc") if writes else _look_in(path)
        try:
            if kind or tables:
                _refuse_foreign(path, kind, version)
            elif writes:
                connection.execute("PRAGMA journal_mode=WAL")
                hit("journal.make.before")
                connection.executescript(
                    f"BEGIN; PRAGMA application_id={APPLICATION_ID}; PRAGMA user_version={VERSION}; {_SCHEMA} COMMIT;"
                )
                hit("journal.make.after")
            else:  # whoever made the file died before anything was in it
                raise FileNotFoundError(path)
            if writes:
                connection.execute("PRAGMA journal_mode=WAL")
                connection.execute("PRAGMA synchronous=FULL")
        except BaseException:
            connection.close()
            raise
    return connection


def _refuse_foreign(path: Path, kind: int, version: int) -> None:
    if kind != APPLICATION_ID:
        raise JournalForeign(f"{path} is an SQLite file, but not a journal of Journeyman's")
    if version > VERSION:
        raise JournalForeign(
            f"{path} was written by a newer Journeyman (journal version {version}, this one reads up to {VERSION}); "
            "upgrade, or use the version that wrote it"
        )


class Reader:
    """Looks into a journal without writing, beside whoever writes it."""

    def __init__(self, path: Path) -> None:
        """Raises FileNotFoundError, JournalDamaged or JournalForeign."""
        if not path.exists():
            raise FileNotFoundError(path)
        self.path = path
        self._connection = _connect(path, writes=False)

    def runs(self) -> list[RunRow]:
        """All runs, oldest first."""
        with _named(self.path):
            rows = self._connection.execute("SELECT name, number, started_at, state, title FROM run ORDER BY number")
            return [RunRow(*row) for row in rows]

    def row(self, run: str) -> RunRow | None:
        """One run, or None."""
        with _named(self.path):
            row = self._connection.execute(
                "SELECT name, number, started_at, state, title FROM run WHERE name=?", (run,)
            ).fetchone()
        return None if row is None else RunRow(*row)

    def length(self, run: str) -> int:
        """How many records a run has."""
        with _named(self.path):
            row = self._connection.execute(
                "SELECT first + count - 1 FROM page WHERE run=? ORDER BY first DESC LIMIT 1", (run,)
            ).fetchone()
        return 0 if row is None else int(row[0])

    def records(self, run: str) -> Iterator[bytes]:
        """The run's records in order. Raises JournalDamaged at the first page that does not check."""
        expected = 1
        with _named(self.path):
            rows = self._connection.execute(
                "SELECT first, count, crc, body FROM page WHERE run=? ORDER BY first", (run,)
            )
            for first, count, crc, body in rows:
                if first != expected or crc32(body) != crc:
                    raise JournalDamaged(f"{self.path}: run {run}: record {expected} is damaged or missing")
                try:
                    yield from unframe(body, count)
                except ValueError as error:
                    raise JournalDamaged(f"{self.path}: run {run}: record {expected}: {error}") from error
                expected += count

    def recall(self, key: str) -> bytes | None:
        """A value kept from an earlier run."""
        with _named(self.path):
            row = self._connection.execute("SELECT value FROM memory WHERE key=?", (key,)).fetchone()
        return None if row is None else bytes(row[0])

    def recalled(self, prefix: str) -> dict[str, bytes]:
        """All kept values whose keys begin like this."""
        with _named(self.path):
            rows = self._connection.execute(
                "SELECT key, value FROM memory WHERE substr(key, 1, ?)=? ORDER BY key", (len(prefix), prefix)
            ).fetchall()
        return {key: bytes(value) for key, value in rows}

    def integrity(self) -> list[str]:
        """What SQLite itself finds wrong; empty when nothing."""
        with _named(self.path):
            rows = self._connection.execute("PRAGMA integrity_check").fetchall()
        return [row[0] for row in rows if row[0] != "ok"]

    def close(self) -> None:
        self._connection.close()


def _nothing() -> None:
    """What records rely on that name nothing outside of the journal."""


class Writer(Reader):
    """The file's one writer: the lock, the writing connection and its thread. Used through `Journal`, one a run.

    Its own verbs may be called from any thread, and return when what they wrote is on the disk.
    """

    def __init__(self, path: Path, *, daemon: bool = False) -> None:
        """Take the lock and open the file, made if need be. Raises RunHeld, JournalDamaged, JournalForeign, OSError."""
        self.lock = Lock(path.with_suffix(".lock"), daemon=daemon)
        self.lock.acquire()
        try:
            self._connection = _connect(path, writes=True)
        except BaseException:
            self.lock.release()
            raise
        self.path = path
        self.flushes = 0
        self.listed = 0  # grows whenever what `runs` gives has changed
        self.failure: BaseException | None = None
        self._mutex = threading.RLock()  # one transaction at a time
        self._journals: tuple[Journal, ...] = ()  # of the runs that are being appended to; replaced, never changed
        self._urgent = threading.Event()
        self._wake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def new_run(self, title: str = "", memory: Callable[[str], Mapping[str, bytes]] | None = None) -> str:
        """Name a new run, and keep values that go with the name, all at once or not at all."""
        with self._transaction("begin") as connection:
            number = connection.execute("SELECT coalesce(max(number), 0) + 1 FROM run").fetchone()[0]
            name = f"r{number}"
            connection.execute("INSERT INTO run VALUES(?, ?, ?, 'open', ?)", (name, number, time.time(), title))
            self._keep(connection, memory(name) if memory is not None else {})
        return name

    def remember(self, values: Mapping[str, bytes | None]) -> None:
        """Keep small values for later runs, all at once; None takes one away."""
        with self._transaction("memory") as connection:
            self._keep(connection, values)

    def _keep(self, connection: sqlite3.Connection, values: Mapping[str, bytes | None]) -> None:
        for key, value in values.items():
            if value is None:
                connection.execute("DELETE FROM memory WHERE key=?", (key,))
            else:
                connection.execute("INSERT OR REPLACE INTO memory VALUES(?, ?)", (key, value))

    def forget(self, run: str) -> None:
        """Remove a closed run's records; its name is not used again."""
        with self._transaction("forget") as connection:
            connection.execute("DELETE FROM page WHERE run=?", (run,))
            connection.execute("UPDATE run SET state='collected' WHERE name=?", (run,))

    def begin_again(self, run: str) -> None:
        """Remove the records of a run that was killed before its tasks were recorded; it is open once more."""
        with self._transaction("again") as connection:
            connection.execute("DELETE FROM page WHERE run=?", (run,))
            connection.execute("UPDATE run SET state='open' WHERE name=?", (run,))

    def close_run(self, run: str, state: str) -> None:
        """Note the state that a run ended in which nobody appends to."""
        with self._transaction("close") as connection:
            connection.execute("UPDATE run SET state=? WHERE name=?", (state, run))

    @contextlib.contextmanager
    def _transaction(self, what: str) -> Iterator[sqlite3.Connection]:
        with self._mutex, _named(self.path):
            connection = self._connection
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                hit(f"journal.{what}.before")
                connection.execute("COMMIT")
                self.listed += what not in ("flush", "memory")
                hit(f"journal.{what}.after")
            except BaseException:
                if connection.in_transaction:  # SQLite itself takes some back, when the disk is full
                    connection.execute("ROLLBACK")
                raise

    def _perform(self, steps: list[tuple[str, tuple[object, ...]]]) -> None:
        """All of a flush, or none."""
        if len(steps) == 1:
            self._perform_one("flush", *steps[0])
            return
        with self._transaction("flush") as connection:
            for words, values in steps:
                connection.execute(words, values)

    def _perform_one(self, what: str, words: str, values: tuple[object, ...]) -> None:
        """A transaction of one statement, which SQLite makes by itself: each further one would wait for the interpreter again, beside
        a thread that is busy with conversations."""
        with self._mutex, _named(self.path):
            hit(f"journal.{what}.before")
            self._connection.execute(words, values)
            hit(f"journal.{what}.after")

    def close(self) -> None:
        """Write what is pending and let the lock go. Raises JournalFailed when the last records could not be written."""
        self._closing = True
        self.wake(urgent=True)
        if self._thread is not None:
            self._thread.join()
        self._connection.close()
        self.lock.release()
        if self.failure is not None:
            raise JournalFailed(f"{self.path}: {self.failure}")

    def wake(self, *, urgent: bool = False) -> None:
        """Have the thread look for records; at once, if somebody waits for them."""
        if urgent:
            self._urgent.set()
        if not self._wake.is_set():
            self._wake.set()

    def enter(self, journal: Journal) -> None:
        """Take a run's journal in."""
        with self._mutex:
            self._journals = (*(one for one in self._journals if one is not journal), journal)
        self._name_runs()
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="journeyman-journal", daemon=True)
            self._thread.start()

    def leave(self, journal: Journal) -> None:
        """Write what is pending of a run and let its journal go. Raises JournalFailed."""
        try:
            with self._mutex:
                if self.failure is None and journal in self._journals:
                    self._flush()
        finally:
            with self._mutex:
                self._journals = tuple(one for one in self._journals if one is not journal)
            self._name_runs()
        if self.failure is not None:
            raise JournalFailed(f"{self.path}: {self.failure}")

    def _name_runs(self) -> None:
        self.lock.name(*(one.run for one in self._journals))

    # --- the writer's thread -----------------------------------------------------------------------------------

    def _write(self) -> None:
        while True:
            self._wake.wait()
            if not self._urgent.is_set():
                self._urgent.wait(LINGER_S)
            self._urgent.clear()
            self._wake.clear()
            closing = self._closing
            with self._mutex:
                self._flush()
            pending = any(journal.has_pending for journal in self._journals)
            if (closing and not pending) or self.failure is not None:
                return

    def _flush(self) -> None:
        """Everything that has gathered, of all runs, in one transaction. A failure is kept, and told to whoever waits."""
        taken = [(journal, *journal.take()) for journal in self._journals]
        taken = [one for one in taken if one[1] or one[2] is not None]
        if not taken:
            return
        try:
            for journal, _, _ in taken:
                journal.prepare()
            steps: list[tuple[str, tuple[object, ...]]] = []
            for journal, records, state in taken:
                if records:
                    body = frame(records)
                    row = (journal.run, journal.written + 1, len(records), crc32(body), body)
                    steps.append(("INSERT INTO page VALUES(?, ?, ?, ?, ?)", row))
                if state is not None:
                    steps.append(("UPDATE run SET state=? WHERE name=?", (state, journal.run)))
            self._perform(steps)
        except (JournalFailed, JournalDamaged, OSError) as error:
            self.failure = error
        else:
            self.flushes += 1
            self.listed += any(state is not None for _, _, state in taken)
            for journal, records, _ in taken:
                journal.written += len(records)
        for journal, _, _ in taken:
            journal.tell()


class Journal(Reader):
    """One run's records. Open it inside `trio.run`; `append` and `durable` are for that one thread.

    With a `writer` it shares the file with other runs of this process, and leaves it open when it closes; `run` is then the
    name that `Writer.new_run` has given.
    """

    def __init__(self, path: Path, writer: Writer | None = None, run: str = "") -> None:
        """Take the lock and open the file, made if need be. Raises RunHeld, JournalDamaged, JournalForeign, OSError."""
        self._writer = writer if writer is not None else Writer(path)
        self._shared = writer is not None
        self._connection = self._writer._connection if writer is None else _connect(path, writes=False)
        self.lock = self._writer.lock
        self.path = path
        self.run = run
        self.appended = 0  # the number of the last record given
        self.written = 0  # the number of the last one on the disk
        self.prepare: Callable[[], None] = (
            _nothing  # makes durable what the records rely on; called by the writer's thread
        )
        self._pending: list[bytes] = []
        self._state: str | None = None
        self._waiters: list[tuple[int, trio.Event]] = []
        self._token: trio.lowlevel.TrioToken | None = None

    @property
    def flushes(self) -> int:
        """How many transactions the writer has made."""
        return self._writer.flushes

    def begin(self, title: str = "") -> str:
        """Name a new run and make it the one that is appended to. Durable when it returns."""
        self._take(self.run or self._writer.new_run(title), 0)
        return self.run

    def reopen(self, run: str) -> None:
        """Append to a run that exists, behind its last record. Whoever goes on with it has read its records already."""
        self._take(run, self.length(run))

    def _take(self, run: str, count: int) -> None:
        self.run = run
        self.appended = self.written = count
        self._token = trio.lowlevel.current_trio_token()
        self._writer.enter(self)

    def append(self, record: bytes) -> int:
        """Take in a record; returns its number. Never blocks; durable some milliseconds later, or see `durable`. Raises JournalFailed
        when the ones before it could not be written."""
        if self._writer.failure is not None:
            raise JournalFailed(f"{self.path}: {self._writer.failure}; nothing that was not recorded was done")
        self._pending.append(record)
        self.appended += 1
        self._writer.wake()
        return self.appended

    async def durable(self, number: int | None = None) -> None:
        """Wait until record `number` (the last one, if None) is on the disk. Raises JournalFailed if it cannot be."""
        number = self.appended if number is None else number
        while self.written < number:
            if self._writer.failure is not None:
                raise JournalFailed(f"{self.path}: {self._writer.failure}; nothing that was not recorded was done")
            done = trio.Event()
            self._waiters.append((number, done))
            self._writer.wake(urgent=True)
            await done.wait()

    def close_run(self, state: str) -> None:
        """Note the state the run ended in, together with the next flush."""
        self._state = state
        self._writer.wake(urgent=True)

    def end(self, run: str, state: str) -> None:
        """Note the state of a run that ended without a record."""
        self._writer.begin_again(run)
        self._writer.close_run(run, state)

    def remember(self, key: str, value: bytes) -> None:
        """Keep a small value for later runs."""
        self._writer.remember({key: value})

    def forget(self, run: str) -> None:
        """Remove a closed run's records; its name is not used again."""
        self._writer.forget(run)

    def close(self) -> None:
        """Write what is pending; let the lock go, unless other runs share the file. Raises JournalFailed."""
        if not self._shared:
            self._writer.close()
            return
        self._connection.close()
        self._writer.leave(self)

    # --- what the writer uses ----------------------------------------------------------------------------------

    @property
    def has_pending(self) -> bool:
        """Whether there is anything to write."""
        return bool(self._pending) or self._state is not None

    def take(self) -> tuple[list[bytes], str | None]:
        """What is to be written: records, and the state to note."""
        # The list stays the same object: the other thread may be about to append to it.
        pending = self._pending[:]
        del self._pending[: len(pending)]
        state, self._state = self._state, None
        return pending, state

    def tell(self) -> None:
        """Something was written, or could not be: wake who waits, in the thread of theirs."""
        # The host's loop may be gone by now, with nobody left who could wait.
        with contextlib.suppress(trio.RunFinishedError):
            assert self._token is not None
            self._token.run_sync_soon(self._wake_waiters)

    def _wake_waiters(self) -> None:
        waiting, self._waiters = self._waiters, []
        for number, done in waiting:
            if number <= self.written or self._writer.failure is not None:
                done.set()
            else:
                self._waiters.append((number, done))
                self._writer.wake(urgent=True)
