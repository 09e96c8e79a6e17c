"""All figures of the README, as ratios from one run: `python tests/bench/run.py [NAME ...]`, without names all of them.

Each figure is set against what a user would pick instead, measured in the same run. Nothing here asserts; it prints a table.
Django's source distribution is taken from the package registry once and kept in the cache folder.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import trio

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))

import bytecode  # noqa: F401 - before the modules that it is about
from schedules import graphs, skewed

from runtime import Plan, Runtime, Specialist, Task
from runtime.git import Repository
from runtime.worktrees import Pool, collect

DJANGO = "5.2.4"
FSTRINGS = "convert_format_to_fstring.ConvertFormatStringCommand"
BIN = Path(sys.executable).parent
ROWS: list[tuple[str, str, str]] = []


def tell(what: str, figure: str, target: str) -> None:
    """One row of the table."""
    ROWS.append((what, figure, target))
    print(f"{what:<72} {figure:<34} {target}", flush=True)


async def nothing(brief: Any, workspace: Any) -> None:
    """The handler whose time is all the runtime's."""


# --- the core --------------------------------------------------------------------------------------------------


def _ours(count: int, journal: Path | None) -> float:
    plan = Plan([Task(f"t{number}", "a") for number in range(count)])

    async def main() -> float:
        async with Runtime([Specialist("a", nothing)], journal=journal) as rt:
            began = time.perf_counter()
            report = await rt.run(plan)
            took = time.perf_counter() - began
            assert report.ok
            return took

    return trio.run(main) / count * 1e6


def _pool(count: int) -> float:
    with ThreadPoolExecutor(3) as pool:
        began = time.perf_counter()
        for future in [pool.submit(lambda: None) for _ in range(count)]:
            future.result()
        return (time.perf_counter() - began) / count * 1e6


def noop() -> None:
    """Time a no-op task, against ThreadPoolExecutor(3)."""
    memory, durable, pool = [], [], []
    for _ in range(5):
        memory.append(_ours(20_000, None))
        with tempfile.TemporaryDirectory() as folder:
            durable.append(_ours(20_000, Path(folder) / "j.db"))
        pool.append(_pool(20_000))
    one, two, base = (statistics.median(figures) for figures in (memory, durable, pool))
    tell("no-op task in memory / ThreadPoolExecutor(3)", f"{one / base:.2f}  ({one:.1f} / {base:.1f} us)", "<= 0.6")
    tell("no-op task with the durable journal / the same", f"{two / base:.2f}  ({two:.1f} us)", "<= 0.9")


def growth() -> None:
    """Time and memory a task with three claims, from 10,000 to 100,000."""
    code = (
        "import sys, time, resource, trio\nfrom runtime import Plan, Runtime, Specialist, Task\n"
        "async def h(brief, workspace): pass\n"
        "n = int(sys.argv[1])\n"
        "tasks = [Task(f't{i}', 'a', writes=(f'a/{i % 97}/{i}', f'b/{i}', f'c{i}')) for i in range(n)]\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "async def main():\n"
        "    async with Runtime([Specialist('a', h)]) as rt:\n"
        "        began = time.perf_counter(); await rt.run(Plan(tasks)); print(time.perf_counter() - began)\n"
        "trio.run(main)\nprint(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)\n"
    )
    figures = {}
    for count in (10_000, 100_000):
        said = subprocess.run(
            [sys.executable, "-c", code, str(count)], capture_output=True, text=True, check=True
        ).stdout.split()
        figures[count] = float(said[0]) / count, float(said[1]) * 1024 / count
    ratio = figures[100_000][0] / figures[10_000][0]
    tell("time a task with 3 claims, 100,000 / 10,000", f"{ratio:.2f}  ({figures[100_000][0] * 1e6:.0f} us)", "<= 1.3")
    tell("memory a task of 100,000", f"{figures[100_000][1]:.0f} bytes", "< 2048")


def coordination() -> None:
    """All time that is not a handler's, of 1,000 handlers of 50 ms on 20 instances."""

    async def main() -> float:
        inside = 0.0

        async def sleep(brief: Any, workspace: Any) -> None:
            nonlocal inside
            began = time.perf_counter()
            await trio.sleep(0.05)
            inside += time.perf_counter() - began

        async with Runtime([Specialist("a", sleep, instances=20)]) as rt:
            began = time.perf_counter()
            await rt.run(Plan([Task(f"t{number}", "a") for number in range(1000)]))
            took = time.perf_counter() - began
        return (took - inside / 20) / took

    tell(
        "coordination on 1,000 handlers of 50 ms, 20 instances",
        f"{statistics.median(trio.run(main) for _ in range(3)):.1%}",
        "<= 2 %",
    )


def makespan() -> None:
    """Makespan over its lower bound, and the schedules that others use, in virtual time."""
    known, unknown = skewed(seeds=100)
    tell("makespan / bound, skewed lengths, with estimates", f"{known:.4f}", "<= 1.02")
    tell("the same without estimates", f"{unknown:.4f}", "<= 1.09")
    for overlapping in (False, True):
        row = graphs(200, overlapping)
        name = "with overlapping claims" if overlapping else "without overlaps"
        tell(
            f"makespan / bound, 200 random graphs {name}",
            f"{row['stealing']:.4f}",
            "<= 1.01" if not overlapping else "never behind",
        )
        others = ", ".join(f"{one} {figure:.3f}" for one, figure in row.items() if one != "stealing")
        tell("    the others on the same graphs", others, "")


# --- a real repository -----------------------------------------------------------------------------------------


def _django() -> Path:
    base = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "journeyman-bench"
    folder = base / f"django-{DJANGO}"
    if not folder.is_dir():
        base.mkdir(parents=True, exist_ok=True)
        words = [
            "download",
            "-q",
            "--no-deps",
            "--no-binary",
            ":all:",
            f"Django=={DJANGO}",
            "-d",
            str(base),
        ]
        subprocess.run([sys.executable, "-m", "pip", *words], check=True)
        with tarfile.open(next(base.glob("[dD]jango-*.tar.gz"))) as archive:
            archive.extractall(base, filter="data")
    return folder


@contextlib.contextmanager
def django_copy() -> Iterator[Path]:
    """A fresh repository of the files of Django, committed once."""
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "django"
        shutil.copytree(_django(), folder, symlinks=True)
        identity = ["-c", "user.name=Bench", "-c", "user.email=bench@localhost", "-c", "gc.auto=0"]
        for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "base"]):
            subprocess.run(["git", *words], cwd=folder, check=True)
        subprocess.run(["git", "config", "user.name", "Bench"], cwd=folder, check=True)
        subprocess.run(["git", "config", "user.email", "bench@localhost"], cwd=folder, check=True)
        try:
            yield folder
        finally:
            collect(Repository.open(folder))


def _timed(words: Sequence[str | Path], folder: Path, fine: Sequence[int] = (0,)) -> float:
    os.sync()  # what came before, a removed copy of thousands of files say, is not written and discarded at this one's cost
    began = time.perf_counter()
    done = subprocess.run(words, cwd=folder, check=False, capture_output=True, text=True)
    if done.returncode not in fine:
        raise RuntimeError(f"{words[:4]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return time.perf_counter() - began


def _refactor(folder: Path, *words: str) -> float:
    return _timed([sys.executable, "-m", "runtime", "refactor", "--quiet", *words], folder, fine=(0, 3))


def lease() -> None:
    """A warm lease after a commit that touches ten files, against `git worktree add`."""
    with django_copy() as folder:
        repository = Repository.open(folder)
        from runtime.core.changes import Change

        async def main() -> float:
            pool = Pool(repository)
            tip = repository.resolve("HEAD")
            names = list(repository.files(repository.tree_of(tip)))
            async with pool.lease(tip):
                pass
            figures = []
            for turn in range(6):
                blob = repository.write_blob(f"{turn}\n".encode())
                tree = repository.apply(
                    repository.tree_of(tip),
                    [Change(one, 0o100644, blob) for one in names[turn * 50 : turn * 50 + 1000 : 100]],
                )
                tip = repository.commit(tree, [tip], "ten files")
                repository.flush()
                began = time.perf_counter()
                async with pool.lease(tip):
                    figures.append(time.perf_counter() - began)
            return statistics.median(figures[1:])

        warm = trio.run(main)
        adds = [
            _timed(["git", "worktree", "add", "-q", "--detach", str(folder.parent / f"w{n}"), "HEAD"], folder)
            for n in range(3)
        ]
    cold = statistics.median(adds)
    tell(
        "warm lease of Django's tree / git worktree add",
        f"1/{cold / warm:.0f}  ({warm * 1e3:.0f} / {cold * 1e3:.0f} ms)",
        "<= 1/20",
    )


def rewrite() -> None:
    """One pattern over all Python files, one commit a changed file, against the ast-grep program and `git commit -a`."""
    pattern, replacement = "print($A)", "log.info($A)"
    with django_copy() as folder:
        began = time.perf_counter()
        words = [BIN / "ast-grep", "run", "-p", pattern, "-r", replacement, "-l", "python", "--update-all", "."]
        subprocess.run(words, cwd=folder, check=True, capture_output=True)
        subprocess.run(["git", "commit", "-q", "-a", "-m", "all"], cwd=folder, check=True)
        theirs = time.perf_counter() - began
        expected = _tree(folder, "HEAD")
    with django_copy() as folder:
        ours = _refactor(folder, "--rewrite", pattern, replacement, "--language", "python", "**/*.py")
        same = _tree(folder, "refs/journeyman/r1/line") == expected
    tell(
        "rewrite over Django / ast-grep and git commit -a",
        f"{ours / theirs:.2f}  ({ours:.1f} / {theirs:.1f} s), same tree: {same}",
        "<= 1.5",
    )


def _tree(folder: Path, commit: str) -> str:
    return subprocess.run(
        ["git", "rev-parse", f"{commit}^{{tree}}"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout


def workers() -> None:
    """The f-string codemod over a fifth of Django with one and with two workers."""
    with django_copy() as folder:
        one = _refactor(folder, "--codemod", FSTRINGS, "django/db/**/*.py", "--jobs", "1")
        two = _refactor(folder, "--codemod", FSTRINGS, "django/db/**/*.py", "--jobs", "2")
    tell("codemod with 1 worker / with 2", f"{one / two:.2f}  ({one:.1f} / {two:.1f} s)", ">= 1.7")


def codemod() -> None:
    """The f-string codemod over all of Django, isolation and commits included, against LibCST's own tool with two jobs.

    Each takes minutes, in which a machine may become slower: theirs, ours, ours and theirs again, and what each took in all.
    """

    def theirs() -> float:
        # 1: some of Django's files are no Python on purpose, for its own tests.
        words = [sys.executable, "-m", "libcst.tool", "codemod", FSTRINGS, "-j", "2", "--no-format", "."]
        with django_copy() as folder:
            return _timed(words, folder, fine=(0, 1))

    def ours(*more: str) -> float:
        with django_copy() as folder:
            return _refactor(folder, "--codemod", FSTRINGS, "**/*.py", *more)

    first, without, again, last = theirs(), ours(), ours(), theirs()
    containing = ours("--containing", ".format(")
    tool, whole = f"{first:.0f} and {last:.0f} s", f"{without:.0f} and {again:.0f}"
    per_run = (first + last) / 2
    name = "codemod over Django {} / libcst.tool -j 2"
    tell(name.format("with --containing"), f"{containing / per_run:.2f}  ({containing:.0f} / {tool})", "<= 0.25")
    tell(name.format("without"), f"{(without + again) / 2 / per_run:.2f}  ({whole} / {tool})", "<= 1.0")


def batches() -> None:
    """pyupgrade over 282 files in batches, against one process a file."""
    program = str(BIN / "pyupgrade")
    with django_copy() as folder:
        every = "*.py"
        listed = subprocess.run(
            ["git", "ls-files", every], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.split()[:282]
        began = time.perf_counter()
        for path in listed:
            subprocess.run([program, "--py310-plus", path], cwd=folder, check=False, capture_output=True)
        theirs = time.perf_counter() - began
        subprocess.run(["git", "checkout", "-q", "."], cwd=folder, check=True)
        ours = _refactor(folder, "--exec", program, "--py310-plus", "{files}", ";", "--ok-exit", "0,1", *listed)
    tell(
        "pyupgrade over 282 files in batches / one process a file",
        f"{ours / theirs:.2f}  ({ours:.1f} / {theirs:.1f} s)",
        "<= 0.25",
    )


ALL: dict[str, Callable[[], None]] = {
    one.__name__: one for one in (noop, growth, coordination, makespan, lease, rewrite, workers, batches, codemod)
}


def main(names: Sequence[str], figures: Mapping[str, Callable[[], None]] = MappingProxyType(ALL)) -> None:
    """Measure the named figures, or all, and print them as one table."""
    for name in names or figures:
        figures[name]()
    print("\n| figure | measured | target |\n|---|---|---|")
    for row in ROWS:
        print("| " + " | ".join(row) + " |")


if __name__ == "__main__":
    main(sys.argv[1:])
