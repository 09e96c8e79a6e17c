"""The ownership registry: who may write and who reads each name, all of a task's claims or none.

A name is a file (`a/b.py`), a directory (`a/`, which overlaps with every name inside it), or any other word; nothing here
looks at a file system. Writers are exclusive, readers share. Unaware of why a task wants a name and of what it does then.

The protocol. A request is granted when no holder is in its way and no *earlier waiting* request is; else it waits in line
for every name it wants, holding none of them. A release wakes, for each freed name, the waiters at the head of the line,
up to the first that would write it: whoever stands behind that one conflicts with it, granted or not.

- No deadlock: who waits holds nothing, so a wait never closes a circle. `extend`, the one exception, lets a holder wait only for
  holders that the caller vouches for (they run, and do not wait themselves).
- No starvation: of the waiting requests the earliest has only holders in its way, and new requests never pass it. Holders
  end, so it is granted; then the next is the earliest. Small tasks cannot keep a large one out.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Literal

import attrs

Answer = Literal["granted", "waits", "refused"]
_WRITE = True
_READ = False


@attrs.frozen
class Released:
    """What a release set free: tasks that now hold all their claims, in line order; extensions that now are granted."""

    granted: tuple[str, ...] = ()
    extended: tuple[tuple[str, str], ...] = ()  # (task, path)


_NOTHING = Released()


@attrs.define
class _Request:
    """A waiting request; `ticket` numbers are given in order of arrival."""

    ticket: int
    wants: dict[str, bool]  # {name: whether it would write}


def _above(name: str) -> Iterator[str]:
    """The directories a name lies in: `a/b/c` -> `a/b/`, `a/`."""
    at = name.rfind("/", 0, len(name) - 1)
    while at >= 0:
        yield name[: at + 1]
        at = name.rfind("/", 0, at)


def _wants(writes: tuple[str, ...], reads: tuple[str, ...]) -> dict[str, bool]:
    wants = dict.fromkeys(reads, _READ)
    wants.update(dict.fromkeys(writes, _WRITE))
    return wants


class Registry:
    """All claims of one run."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, bool]] = {}  # {task: {name: writes}}; absent = holds nothing
        self._writers: dict[str, str] = {}  # {name: task}; absent = free to write
        self._readers: dict[str, dict[str, None]] = {}  # {name: {task}}
        self._inside: dict[str, int] = {}  # {directory: how many claims are held on names inside it}
        self._waiting: dict[str, _Request] = {}  # {task: request}, earliest first
        self._lines: dict[str, OrderedDict[str, bool]] = {}  # {name: {waiting task: writes}}, earliest first
        self._extending: dict[str, str] = {}  # {holder: the one more path it waits for}
        self._tickets = 0

    # --- asking ------------------------------------------------------------------------------------------------

    def request(self, task: str, writes: tuple[str, ...], reads: tuple[str, ...] = ()) -> bool:
        """Claim everything or wait in line for it. True: granted. A task asks once, until it is released."""
        assert task not in self._held, f"{task} asks twice"
        assert task not in self._waiting, f"{task} asks twice"
        if not writes and not reads:
            return True
        wants = _wants(writes, reads)
        if self._may_have(task, wants, None):
            self._grant(task, wants)
            return True
        self._tickets += 1
        self._waiting[task] = _Request(self._tickets, wants)
        for name, writing in wants.items():
            line = self._lines.get(name)
            if line is None:
                line = self._lines[name] = OrderedDict()
            line[task] = writing
        return False

    def extend(self, task: str, path: str, may_wait_for: Callable[[str], bool]) -> Answer:
        """One more path to write, for a task that runs. It goes before waiting requests: it holds what they may want.

        `waits`: `release` will tell; only when `may_wait_for` vouches for every holder in the way.
        """
        blockers = set(self._blockers(task, path, _WRITE))
        if not blockers:
            self._hold(task, path, _WRITE)
            return "granted"
        if task in self._extending or not all(may_wait_for(blocker) for blocker in blockers):
            return "refused"
        self._extending[task] = path
        return "waits"

    def release(self, task: str) -> Released:
        """Give up everything the task holds or waits for."""
        self._extending.pop(task, None)
        request = self._waiting.pop(task, None)
        if request is not None:
            for name in request.wants:
                self._leave_line(name, task)
            return self._wake(request.wants)
        held = self._held.pop(task, None)
        if held is None:
            return _NOTHING
        for name, writing in held.items():
            self._drop(task, name, writing)
        if not self._waiting and not self._extending:
            return _NOTHING
        return self._wake(held)

    # --- looking -----------------------------------------------------------------------------------------------

    def owner(self, path: str) -> tuple[str, ...]:
        """The task that may write the path now: itself claimed, or a directory around it."""
        found = [self._writers[name] for name in (path, *_above(path)) if name in self._writers]
        return tuple(dict.fromkeys(found))

    def readers(self, path: str) -> tuple[str, ...]:
        """The tasks that rely on the path staying as it is."""
        found = [task for name in (path, *_above(path)) for task in self._readers.get(name, ())]
        return tuple(dict.fromkeys(found))

    def waiting(self, path: str) -> tuple[str, ...]:
        """Who waits in line for exactly this name, earliest first."""
        return tuple(self._lines.get(path, ()))

    def blockers(self, task: str) -> tuple[str, ...]:
        """The holders and the earlier waiters that a waiting task waits for."""
        request = self._waiting.get(task)
        if request is None:
            path = self._extending.get(task)
            return () if path is None else tuple(dict.fromkeys(self._blockers(task, path, _WRITE)))
        found: dict[str, None] = {}
        for name, writing in request.wants.items():
            found.update(dict.fromkeys(self._blockers(task, name, writing)))
            found.update(dict.fromkeys(self._ahead(task, request.ticket, name, writing)))
        return tuple(found)

    def holds(self, task: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(names it may write, names it reads)."""
        held = self._held.get(task, {})
        return (
            tuple(name for name, writing in held.items() if writing),
            tuple(name for name, writing in held.items() if not writing),
        )

    def covers(self, task: str, path: str) -> bool:
        """Whether the task may write the path."""
        if self._writers.get(path) == task:
            return True
        return any(self._writers.get(name) == task for name in _above(path))

    @property
    def empty(self) -> bool:
        """Nothing is held and nobody waits."""
        return not (self._held or self._waiting or self._extending)

    # --- who is in the way -------------------------------------------------------------------------------------

    def _may_have(self, task: str, wants: dict[str, bool], ticket: int | None) -> bool:
        for name, writing in wants.items():
            if self._is_blocked(task, name, writing):
                return False
            if self._waiting and next(self._ahead(task, ticket, name, writing), None) is not None:
                return False
        return True

    def _is_blocked(self, task: str, name: str, writing: bool) -> bool:
        """The common case, no overlap at all, without making a generator."""
        if name in self._writers or (writing and name in self._readers) or name in self._inside:
            return next(self._blockers(task, name, writing), None) is not None
        at = name.rfind("/", 0, len(name) - 1)
        while at >= 0:
            above = name[: at + 1]
            if above in self._writers or (writing and above in self._readers):
                return next(self._blockers(task, name, writing), None) is not None
            at = name.rfind("/", 0, at)
        return False

    def _blockers(self, task: str, name: str, writing: bool) -> Iterator[str]:
        """Holders, other than the task itself, with an overlapping claim that excludes this one."""
        for around in (name, *_above(name)):
            writer = self._writers.get(around)
            if writer is not None and writer != task:
                yield writer
            if writing:
                yield from (reader for reader in self._readers.get(around, ()) if reader != task)
        if name in self._inside:  # a directory with something claimed in it: rare, so looked for, not indexed
            for other, held in self._held.items():
                if other != task and any(
                    one.startswith(name) and one != name and (writing or other_writes)
                    for one, other_writes in held.items()
                ):
                    yield other

    def _ahead(self, task: str, ticket: int | None, name: str, writing: bool) -> Iterator[str]:
        """Waiting tasks with an earlier ticket and an overlapping claim that excludes this one."""
        for around in (name, *_above(name)):
            line = self._lines.get(around)
            if line is not None:
                yield from self._ahead_in(line, task, ticket, writing)
        if name.endswith("/"):
            for other, line in self._lines.items():
                if other.startswith(name) and other != name:
                    yield from self._ahead_in(line, task, ticket, writing)

    def _ahead_in(self, line: OrderedDict[str, bool], task: str, ticket: int | None, writing: bool) -> Iterator[str]:
        for other, other_writes in line.items():
            if ticket is not None and self._waiting[other].ticket >= ticket:
                return
            if other != task and (writing or other_writes):
                yield other

    # --- changing ----------------------------------------------------------------------------------------------

    def _grant(self, task: str, wants: dict[str, bool]) -> None:
        for name, writing in wants.items():
            self._enter(task, name, writing)
        self._held[task] = wants

    def _hold(self, task: str, name: str, writing: bool) -> None:
        held = self._held.setdefault(task, {})
        before = held.get(name)
        if before is None:
            self._enter(task, name, writing)
        elif writing and not before:
            self._drop(task, name, before)
            self._enter(task, name, writing)
        held[name] = bool(writing or before)

    def _enter(self, task: str, name: str, writing: bool) -> None:
        if writing:
            # Inside a directory of its own a task may name a file once more; the name's writer is the same task then.
            self._writers[name] = task
        else:
            self._readers.setdefault(name, {})[task] = None
        inside = self._inside
        at = name.rfind("/", 0, len(name) - 1)
        while at >= 0:
            above = name[: at + 1]
            inside[above] = inside.get(above, 0) + 1
            at = name.rfind("/", 0, at)

    def _drop(self, task: str, name: str, writing: bool) -> None:
        if writing:
            del self._writers[name]
        else:
            readers = self._readers[name]
            del readers[task]
            if not readers:
                del self._readers[name]
        inside = self._inside
        at = name.rfind("/", 0, len(name) - 1)
        while at >= 0:
            above = name[: at + 1]
            left = inside[above] - 1
            if left:
                inside[above] = left
            else:
                del inside[above]
            at = name.rfind("/", 0, at)

    def _leave_line(self, name: str, task: str) -> None:
        line = self._lines[name]
        del line[task]
        if not line:
            del self._lines[name]

    def _wake(self, freed: dict[str, bool]) -> Released:
        extended = []
        for holder, path in list(self._extending.items()):
            if next(self._blockers(holder, path, _WRITE), None) is None:
                del self._extending[holder]
                self._hold(holder, path, _WRITE)
                extended.append((holder, path))
        granted = []
        for task in self._candidates(freed):
            request = self._waiting[task]
            if self._may_have(task, request.wants, request.ticket):
                del self._waiting[task]
                for name in request.wants:
                    self._leave_line(name, task)
                self._grant(task, request.wants)
                granted.append(task)
        return Released(tuple(granted), tuple(extended))

    def _candidates(self, freed: dict[str, bool]) -> list[str]:
        """Waiting tasks that may have been waiting for one of these names, earliest first."""
        found: dict[str, int] = {}
        for name in freed:
            lines = [self._lines[one] for one in (name, *_above(name)) if one in self._lines]
            if name.endswith("/"):
                lines += [line for other, line in self._lines.items() if other.startswith(name) and other != name]
            for line in lines:
                for task, writing in line.items():
                    found[task] = self._waiting[task].ticket
                    if writing:
                        break
        return sorted(found, key=found.__getitem__)

    # --- invariants --------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Assert what must hold between two calls. O(claims squared over overlaps): for tests."""
        inside: dict[str, int] = {}
        for task, held in self._held.items():
            for name, writing in held.items():
                if writing:
                    assert self._writers[name] == task, f"{name}: {task} and {self._writers[name]} write it"
                else:
                    assert task in self._readers[name]
                for above in _above(name):
                    inside[above] = inside.get(above, 0) + 1
                others = set(self._blockers(task, name, writing))
                assert not others, f"{task} holds {name} beside {others}"
        assert inside == self._inside
        assert len(self._writers) == sum(writing for held in self._held.values() for writing in held.values())
        for task, request in self._waiting.items():
            assert task not in self._held, f"{task} waits and holds"
            assert self.blockers(task), f"{task} waits for nobody"
            for name in request.wants:
                assert task in self._lines[name]
        for holder in self._extending:
            assert self.blockers(holder), f"{holder} waits to extend for nobody"
