"""What this machine and this repository have that Journeyman needs, and how many instances suit them.

Looks, changes nothing. Each finding says whether it is in order and what to do if not.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from contextlib import closing
from pathlib import Path

import attrs

from .checkout import under_way
from .core.events import Event
from .errors import JourneymanError
from .git import Repository, git_version
from .journal import Lock, Reader
from .record_codec import decode
from .worktrees import cache_folder, pool_folder

_AFRESH = "It is left as it is. Move it away to start afresh; the refs under refs/journeyman/ remain"
_INSTANCE_MIB = 400  # a worker with LibCST loaded and a worktree's tools, generously


@attrs.frozen
class Finding:
    """One thing looked at. `ok` False: something has to be done."""

    what: str
    ok: bool
    says: str


@attrs.frozen
class Advice:
    """How many instances a specialist should have here, and why."""

    commands: int
    models: int
    why: str


def examine(path: Path) -> list[Finding]:
    """All findings; the repository's only where there is one."""
    found = [_python(), _git(), *_packages(), _claude(), _space()]
    try:
        repository = Repository.open(path)
    except JourneymanError as error:
        return [*found, Finding("repository", False, str(error))]
    busy = under_way(repository)
    found.append(
        Finding("repository", busy is None, f"{busy} is under way" if busy else f"{repository.work_tree}, all in order")
    )
    found.append(_journal(repository.common_dir / "journeyman" / "journal.db"))
    pool = pool_folder(repository)
    count = sum(one.is_dir() for one in pool.iterdir()) if pool.is_dir() else 0
    found.append(Finding("worktrees", True, f"{count} leased worktrees kept in {pool}; `journeyman gc` removes them"))
    return found


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    return Finding("python", ok, platform.python_version() + ("" if ok else "; 3.11 or newer is needed"))


def _git() -> Finding:
    try:
        version = git_version()
    except JourneymanError as error:
        return Finding("git", False, str(error))
    ok = version >= (2, 38)
    return Finding("git", ok, ".".join(map(str, version)) + ("" if ok else "; 2.38 or newer is needed"))


def _packages() -> list[Finding]:
    """What the installed distribution says it needs; nothing is known of a copy that is only on the path."""
    try:
        needed = importlib.metadata.requires("journeyman") or []
    except importlib.metadata.PackageNotFoundError:
        return [Finding("packages", True, "this copy is not installed; what it needs is in its pyproject.toml")]
    found = []
    for words in needed:
        name = re.split(r"[\s<>=!~;\[(]", words, maxsplit=1)[0]
        if "extra ==" in words:
            continue
        try:
            found.append(Finding(name, True, importlib.metadata.version(name)))
        except importlib.metadata.PackageNotFoundError:
            found.append(Finding(name, False, f"missing; install it with: pip install '{words}'"))
    return found


def _claude() -> Finding:
    has = bool(os.environ.get("ANTHROPIC_API_KEY"))
    return Finding("claude", True, "a key is in the environment" if has else "no key; the ways that need none work")


def _space() -> Finding:
    place = cache_folder()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free
    ok = free > 1 << 30
    return Finding(
        "space", ok, f"{free // 2**20} MiB free for worktrees in {cache_folder()}" + ("" if ok else "; make room")
    )


def _journal(path: Path) -> Finding:
    lock = Lock(path.with_suffix(".lock"))
    pid, run = lock.holder()
    try:
        with closing(Reader(path)) as reader:
            wrong = reader.integrity()
            found = {row.name: _readable(reader, row.name) for row in reader.runs()}
    except FileNotFoundError:
        return Finding("journal", True, "none yet; the first run makes it")
    except JourneymanError as error:
        return Finding("journal", False, f"{error}. {_AFRESH}")
    damaged = [f"of run {name} {count} records can be read: {why}" for name, (count, why) in found.items() if why]
    if wrong or damaged:
        sound = [name for name, (_, why) in found.items() if not why]
        whole = f"runs that can be read whole: {', '.join(sound)}" if sound else "no run can be read whole"
        return Finding(
            "journal", False, "; ".join([f"{path}: {one}" for one in wrong[:3]] + damaged + [whole]) + f". {_AFRESH}"
        )
    held = f"; process {pid} is at {run or 'a run'}" if lock.held() else ""
    return Finding(
        "journal", True, f"{len(found)} runs, {sum(count for count, _ in found.values())} records, all readable{held}"
    )


def _readable(reader: Reader, run: str) -> tuple[int, str]:
    """(how many records of a run can be read, why no more)."""
    count = 0
    try:
        for _, event in map(decode, reader.records(run)):
            count += isinstance(event, Event)
    except JourneymanError as error:
        return count, str(error)
    return count, ""


def advise() -> Advice:
    """Instances for this machine's cores and memory."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 2
    memory_mib = _memory_mib()
    fits = max(1, memory_mib // _INSTANCE_MIB) if memory_mib else 20
    commands = max(1, min(cores + 1, fits, 20))
    return Advice(
        commands,
        min(20, max(3, fits)),
        f"{cores} cores, {memory_mib} MiB memory: work that keeps a core busy gains nothing beyond the cores, "
        "work that waits for a model does",
    )


def _memory_mib() -> int:
    try:
        return int(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20)
    except (ValueError, OSError):  # a system that does not tell
        return 0
