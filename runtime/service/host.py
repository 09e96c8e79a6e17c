"""All the repositories that the daemon serves, and what they share: the cap on attempts, limits, the end.

Knows which repositories there are and remembers them from one start to the next; no HTTP.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import trio

from ..config import load_own
from ..errors import BadInput, JourneymanError
from ..git import Repository
from ..limits import Gate as CallGate
from ..runs import journal_path
from ..telemetry import Traced, untraced
from ..terminal import user_config
from .gate import AttemptGate
from .live import Log
from .places import Places, write
from .problems import Problem
from .served import Served
from .trees import refuse_another

_MOST_REPOSITORIES = 1000
_AGAIN_S = 5.0  # how often repositories that were not there are looked for


@attrs.define
class Limits:
    """What the daemon allows at once. `instances` attempts over all runs; `runs` active ones in a repository."""

    instances: int = 20
    runs: int = 8

    def check(self) -> None:
        """Raises BadInput."""
        problems = [
            f"limits.{name}: {value!r} is not a whole number from 1 to 1000"
            for name, value in attrs.asdict(self).items()
            if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= 1000
        ]
        if problems:
            raise BadInput(problems)


@attrs.frozen
class Absent:
    """A registered repository that is not served, and why: mostly its disk is away."""

    path: str
    why: str

    @property
    def id(self) -> str:
        """What its id is when it is there, if its `.git` is where it mostly is."""
        return _identifier(Path(self.path), Path(self.path) / ".git")


@attrs.define(eq=False)
class Host:
    """The daemon's work. Use `Host.open`."""

    places: Places
    nursery: trio.Nursery
    log: Log
    limits: Limits
    gate: AttemptGate
    calls: CallGate
    jobs: int | None = None
    recall: bool = True  # remember repositories, and take up what was open in them
    traced: Traced = untraced
    served: dict[str, Served] = attrs.field(factory=dict)  # {repository id: served}
    absent: dict[str, Absent] = attrs.field(factory=dict)  # {path: a registered repository that could not be opened}
    draining: bool = False
    _register: trio.Lock = attrs.field(factory=trio.Lock)

    @classmethod
    @contextlib.asynccontextmanager
    async def open(
        cls,
        places: Places,
        log: Log,
        limits: Limits | None = None,
        jobs: int | None = None,
        *,
        recall: bool = True,
        traced: Traced = untraced,
    ) -> AsyncIterator[Host]:
        """Serve the registered repositories until the block is left; what still runs then is cancelled, and resumable.

        Without `recall` no list is read or written, and nothing is taken up. Calls to a model are within the `[limits]` of the user's
        own configuration alone: they are for one account, and no repository's file may loosen them. Raises BadInput.
        """
        limits = limits or Limits()
        limits.check()
        calls = CallGate((await trio.to_thread.run_sync(load_own, user_config())).limits)
        async with trio.open_nursery() as nursery:
            host = cls(places, nursery, log, limits, AttemptGate(limits.instances), calls, jobs, recall, traced)
            for path in _registered(places.repositories) if recall else ():
                try:
                    await host.register(path, remember=False)
                except JourneymanError as error:
                    host._leave_out(path, str(error))
            nursery.start_soon(host._look_for_absent)
            yield host
            nursery.cancel_scope.cancel()

    async def register(self, path: str | Path, *, remember: bool = True) -> Served:
        """Serve one more repository, or find it. Raises BadInput, RepositoryRefused."""
        if not Path(path).is_absolute():
            raise BadInput(f"path: {str(path)[:200]!r} is not absolute")
        async with self._register:
            repository = await trio.to_thread.run_sync(Repository.open, path)
            name = identifier(repository)
            served = next((one for one in self.served.values() if one.path == journal_path(repository)), None)
            if served is not None:
                refuse_another(served.repository, repository)
                return served
            if len(self.served) >= _MOST_REPOSITORIES:
                raise Problem("too-many", f"{_MOST_REPOSITORIES} repositories are served already")
            served = Served(name, repository, self.nursery, self.gate, self.calls, self.log, self.jobs, self.traced)
            served.queue.most = served.queue.ahead = self.limits.runs
            served.draining = self.draining
            self.served[name] = served
            self.absent.pop(str(repository.work_tree), None)
            if self.recall:
                if remember:
                    await trio.to_thread.run_sync(self._remember)
                self.nursery.start_soon(served.recover)
            else:
                served.looked.set()
            return served

    async def unregister(self, name: str) -> Served | Absent:
        """Serve a repository no more, or look for it no more; its runs and its journal stay as they are. Raises Problem when there is
        none, or a run of it is queued or goes on."""
        async with self._register:
            away = self._away(name)
            if away is not None:
                del self.absent[away.path]
            else:
                await self.find(name).leave()
            served = away or self.served.pop(name)
            if self.recall:
                await trio.to_thread.run_sync(self._remember)
            return served

    async def _look_for_absent(self) -> None:
        """A disk may come later than the daemon: what was open there is taken up then."""
        while self.absent and not self.draining:
            await trio.sleep(_AGAIN_S)
            for path in list(self.absent):
                if path not in self.absent:  # taken off the list meanwhile
                    continue
                try:
                    await self.register(path, remember=False)
                except JourneymanError as error:
                    if path in self.absent and self.absent[path].why != str(error):
                        self._leave_out(path, str(error))
                else:
                    self.absent.pop(path, None)  # it may have come back as another name of one that is served
                    self.log("repository found", path=path)

    def _leave_out(self, path: str, why: str) -> None:
        self.absent[path] = Absent(path, why)
        self.log("repository left out", path=path, error=why, list=str(self.places.repositories))

    def _remember(self) -> None:
        self.places.make()
        paths = [*(str(one.repository.work_tree) for one in self.served.values()), *self.absent]
        write(self.places.repositories, json.dumps({"repositories": paths}, indent=1))

    def find(self, name: str) -> Served:
        """A repository by its id. Raises Problem."""
        if name in self.served:
            return self.served[name]
        away = self._away(name)
        why = (
            f"there is no repository {name[:100]!r} here" if away is None else f"{away.path} is not served: {away.why}"
        )
        raise Problem("no-such-repository", why)

    def _away(self, name: str) -> Absent | None:
        return next((one for one in self.absent.values() if one.id == name and name not in self.served), None)

    def limit(self, limits: Limits) -> None:
        """Change the limits; what is going on goes on. Raises BadInput."""
        limits.check()
        self.limits = limits
        self.gate.resize(limits.instances)
        for served in self.served.values():
            served.queue.most = served.queue.ahead = limits.runs
            served.pump()

    @property
    def runs(self) -> int:
        """How many runs are queued or going on."""
        return sum(len(served.live) for served in self.served.values())

    async def drain(self, grace_s: float) -> None:
        """Take nothing more in, start nothing more, and wait for what runs; what takes longer is stopped, and resumable."""
        self.draining = True
        for served in self.served.values():
            served.drain()
        with trio.move_on_after(grace_s):
            await self._until_idle()
        for served in self.served.values():
            served.stop()
        await self._until_idle()

    async def _until_idle(self) -> None:
        while live := next((one for served in self.served.values() for one in served.live.values()), None):
            await live.over.wait()


def identifier(repository: Repository) -> str:
    """A repository's id: its folder's name, and enough of a hash to tell namesakes apart."""
    return _identifier(repository.work_tree, repository.common_dir)


def _identifier(work_tree: Path, common_dir: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", work_tree.name.lower()).strip("-")[:40] or "repository"
    return f"{name}-{hashlib.sha256(str(common_dir).encode('utf-8', 'surrogateescape')).hexdigest()[:8]}"


def _registered(path: Path) -> list[str]:
    """The list as the last daemon left it. Raises BadInput when it cannot be read: it is never guessed at."""
    if not path.exists():
        return []
    try:
        listed: Any = json.loads(path.read_text())["repositories"]
        return [str(one) for one in listed]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{path}: it cannot be read: {error}; mend it or remove it") from None
