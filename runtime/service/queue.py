"""The line in front of a repository: which of its runs may start, and why the others wait. Pure; knows no loop and no files.

A run asks for all paths that its tasks claim, and gets all or none of them (`core.ownership`, with runs in the place of tasks).
Whoever waits keeps its place for every path it wants, so nobody starves. For fairness a client has at most `ahead` runs in that line
and among the active ones; its further runs stand behind them, outside, so that a client with one run waits for a bounded number of
another's. Of the runs that have their paths, the client with the fewest active ones starts first.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from ..core.ownership import Registry

EVERYTHING = "./"
"""The claim of a run whose tasks may write any file."""


@attrs.frozen
class Waits:
    """Why a run has not started: the runs it waits for, a path of theirs that it wants, or a limit, in `reason`'s words."""

    runs: tuple[str, ...] = ()
    path: str = ""
    reason: str = ""


@attrs.define
class _Entry:
    run: str
    client: str
    number: int
    writes: tuple[str, ...]
    reads: tuple[str, ...]
    place: str = "outside"  # outside -> line -> granted -> active


@attrs.define
class Queue:
    """The runs of one repository that have not ended. `most` are active at once."""

    most: int = 8
    ahead: int = 8
    _entries: dict[str, _Entry] = attrs.field(factory=dict)  # {run: entry}, in the order of submission
    _registry: Registry = attrs.field(factory=Registry)
    _count: int = 0

    def add(self, run: str, client: str, writes: Iterable[str], reads: Iterable[str]) -> None:
        """Put a run at the end of the line."""
        self._count += 1
        self._entries[run] = _Entry(run, client, self._count, _names(writes), _names(reads))

    def remove(self, run: str) -> None:
        """A run has ended, or is no longer wanted."""
        entry = self._entries.pop(run, None)
        if entry is None or entry.place == "outside":
            return
        for name in self._registry.release(run).granted:
            self._entries[name].place = "granted"

    def start(self) -> list[str]:
        """The runs that may start now; they count as active from here on."""
        self._admit()
        started = []
        while len(active := self._at("active")) < self.most:
            mine: dict[str, int] = {}
            for entry in active:
                mine[entry.client] = mine.get(entry.client, 0) + 1
            line = sorted(self._at("granted"), key=lambda entry: (mine.get(entry.client, 0), entry.number))
            if not line:
                break
            line[0].place = "active"
            started.append(line[0].run)
        return started

    def _admit(self) -> None:
        inside: dict[str, int] = {}
        for entry in self._entries.values():
            if entry.place != "outside":
                inside[entry.client] = inside.get(entry.client, 0) + 1
        for entry in self._entries.values():
            if entry.place == "outside" and inside.get(entry.client, 0) < self.ahead:
                inside[entry.client] = inside.get(entry.client, 0) + 1
                granted = self._registry.request(entry.run, entry.writes, entry.reads)
                entry.place = "granted" if granted else "line"

    def _at(self, place: str) -> list[_Entry]:
        return [entry for entry in self._entries.values() if entry.place == place]

    def waits(self, run: str) -> Waits | None:
        """Why a run waits, or None when it does not (or is not here)."""
        entry = self._entries.get(run)
        if entry is None or entry.place == "active":
            return None
        if entry.place == "outside":
            before = tuple(
                one.run for one in self._entries.values() if one.client == entry.client and one.number < entry.number
            )
            return Waits(before, "", f"{len(before)} runs of {entry.client!r} are ahead of it")
        if entry.place == "granted":
            busy = tuple(one.run for one in self._at("active"))
            return Waits(busy, "", f"{len(busy)} runs are going on here, and no more than {self.most} may")
        before = self._registry.blockers(run)
        path = next((path for other in before if (path := self._shared(entry, self._entries[other]))), "")
        names = ", ".join(before[:3]) + (f" and {len(before) - 3} more" if len(before) > 3 else "")
        what = "any file" if path == "" else path
        return Waits(before, path, f"waits for {names}: it needs {what} too")

    def _shared(self, one: _Entry, other: _Entry) -> str:
        """A path that both want and one of them writes, as a person knows it; empty for all of them."""
        for mine, theirs in ((one.writes, (*other.writes, *other.reads)), (one.reads, other.writes)):
            for name in mine:
                for held in theirs:
                    if name == held or name.startswith(held if held.endswith("/") else held + "/"):
                        return name.removeprefix("./")
                    if held.startswith(name) and name.endswith("/"):
                        return held.removeprefix("./")
        return ""

    def order(self) -> list[str]:
        """All runs that have not ended, in the order of submission."""
        return list(self._entries)

    @property
    def active(self) -> list[str]:
        """The runs that have started."""
        return [entry.run for entry in self._at("active")]

    def check(self) -> None:
        """Assert what must hold between two calls; for tests."""
        self._registry.check()
        assert len(self._at("active")) <= self.most
        for entry in self._at("granted") + self._at("active"):
            held = self._registry.holds(entry.run)
            assert set(held[0]) == set(entry.writes)


def _names(paths: Iterable[str]) -> tuple[str, ...]:
    """Below one root, so that everything can be claimed by its name."""
    return tuple(dict.fromkeys(path if path == EVERYTHING else f"{EVERYTHING}{path}" for path in paths))
