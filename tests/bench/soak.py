"""Runs in a loop, killed every 20 seconds and resumed: `python tests/bench/soak.py --minutes 30` (Linux: it reads /proc).

Prints, for each life of the process, the most memory and descriptors it had and what it left behind: children that outlived it, worktrees,
locks, the journal's size. At the end of each run every task must have been done exactly once; at the end of all, the first and the last
third of the lives are set against each other. Exits 1 when something was lost or done twice.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import attrs

FILES = 400
KILL_AFTER_S = 20.0
WORK = "import sys, time; time.sleep(0.4); open(sys.argv[1], 'a').write('once\\n')"


@attrs.define
class Life:
    """One process, from its start to its death or its end. Memory in MB."""

    run: str
    seconds: float = 0.0
    memory_mb: float = 0.0
    descriptors: int = 0
    code: int | None = None
    said: str = ""


def _look(life: Life, pid: int) -> None:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
        with contextlib.suppress(PermissionError):  # it lets only root look into it
            life.descriptors = max(life.descriptors, len(os.listdir(f"/proc/{pid}/fd")))
    except (FileNotFoundError, ProcessLookupError):  # it ended just now
        return
    for line in status.splitlines():
        if line.startswith("VmRSS:"):
            life.memory_mb = max(life.memory_mb, int(line.split()[1]) / 1024)


def _live(words: list[str], folder: Path, run: str, until: float) -> Life:
    """Start a process, look at it four times a second, and kill it after `KILL_AFTER_S` or when the time is up."""
    life, began = Life(run), time.monotonic()
    with tempfile.TemporaryFile("w+") as out:
        command = [sys.executable, "-m", "runtime", *words, "--json", "--quiet"]
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.DEVNULL)
        while process.poll() is None:
            _look(life, process.pid)
            if time.monotonic() - began > KILL_AFTER_S or time.monotonic() > until:
                process.kill()
                process.wait()
                break
            time.sleep(0.25)
        life.seconds, life.code = time.monotonic() - began, process.returncode
        out.seek(0)
        life.said = out.read()
    return life


def _orphans(folder: Path) -> int:
    """Processes that still work in the repository's leases, a second after their parent's death."""
    time.sleep(1.0)
    found = 0
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found += str(folder).encode() in (entry / "environ").read_bytes() and int(entry.name) != os.getpid()
            except (FileNotFoundError, ProcessLookupError, PermissionError):  # gone, or not ours to look at
                continue
    return found


def _left(folder: Path) -> tuple[int, int, float]:
    """(worktrees, locks, MB of the journal)."""
    listed = subprocess.run(["git", "worktree", "list"], cwd=folder, check=True, capture_output=True, text=True).stdout
    locks = [path for path in (folder / ".git").rglob("*.lock") if path.parent.name != "journeyman"]
    journal = sum(path.stat().st_size for path in (folder / ".git/journeyman").glob("journal.db*"))
    return len(listed.splitlines()) - 1, len(locks), journal / 1e6


def _wrong(folder: Path, run: str) -> list[str]:
    """Files of a run's result that were not changed exactly once."""
    line = f"refs/journeyman/{run}/line"
    once = subprocess.run(
        ["git", "grep", "-c", "once", line, "--", "src"], cwd=folder, check=False, capture_output=True, text=True
    ).stdout.splitlines()
    fine = {row.rsplit(":", 2)[1] for row in once if row.endswith(":1")}
    return [name for name in (f"src/f{number}.txt" for number in range(FILES)) if name not in fine]


def _repository(folder: Path) -> None:
    (folder / "src").mkdir(parents=True)
    for number in range(FILES):
        (folder / f"src/f{number}.txt").write_text(f"{number}\n")
    tasks = [
        {
            "id": f"t{number}",
            "specialist": ("interface", "service", "test")[number % 3],
            "writes": [f"src/f{number}.txt"],
            "exec": [sys.executable, "-c", WORK, "{file}"],
        }
        for number in range(FILES)
    ]
    (folder / "plan.json").write_text(json.dumps({"task": tasks}))
    identity = ["-c", "user.name=Soak", "-c", "user.email=soak@localhost"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "base"]):
        subprocess.run(["git", *words], cwd=folder, check=True)


def main(minutes: float) -> int:
    """Soak; the exit code."""
    lives: list[Life] = []
    wrong: list[str] = []
    finished, run, number = 0, "", 0
    print(f"{'minute':>6}  {'run':<5} {'ended':<8} {'memory MB':>9} {'descriptors':>11} {'orphans':>7} {'worktrees':>9} "
          f"{'locks':>5} {'journal MB':>10}")  # fmt: skip
    with tempfile.TemporaryDirectory() as parent:
        folder = Path(parent) / "repository"
        _repository(folder)
        os.environ["XDG_CACHE_HOME"] = str(Path(parent) / "cache")
        began = time.monotonic()
        until = began + minutes * 60
        while time.monotonic() < until:
            if not run:
                number += 1
            words = ["resume", run] if run else ["run", "plan.json", "--yes"]
            life = _live(words, folder, run or f"r{number}", until)
            lives.append(life)
            orphans = _orphans(Path(parent))
            ended = "killed" if life.code and life.code < 0 else f"exit {life.code}"
            trees, locks, journal_mb = _left(folder)
            print(
                f"{(time.monotonic() - began) / 60:>6.1f}  {life.run:<5} {ended:<8} {life.memory_mb:>9.1f} {life.descriptors:>11} "
                f"{orphans:>7} {trees:>9} {locks:>5} {journal_mb:>10.2f}",
                flush=True,
            )
            if orphans:
                wrong.append(f"{life.run}: {orphans} processes outlived their parent")
            if ended == "killed":
                run = life.run
                continue
            finished += 1
            wrong += [f"{life.run}: {name}" for name in _wrong(folder, life.run)]
            if life.code:
                wrong.append(f"{life.run}: exit {life.code}: {life.said[:500]}")
            run = ""
    third = max(1, len(lives) // 3)
    for what, of in (("memory MB", "memory_mb"), ("descriptors", "descriptors")):
        first, last = (statistics.mean(getattr(life, of) for life in some) for some in (lives[:third], lives[-third:]))
        print(f"{what}: first third {first:.1f}, last third {last:.1f}, ratio {last / (first or 1):.2f}")
    print(
        f"{finished} runs of {FILES} tasks came to their end, {len(lives) - finished} kills, {len(wrong)} things wrong"
    )
    for one in wrong[:20]:
        print(one)
    return 1 if wrong else 0


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=30.0)
    sys.exit(main(parser.parse_args().minutes))
