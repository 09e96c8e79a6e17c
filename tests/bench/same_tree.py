"""The promise on a real code base: with 1, 2 and 8 instances, and with a worker killed half way, the result is the very tree that
the underlying tool gives when it is run alone. `python tests/bench/same_tree.py` (some minutes); prints a line a case.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from run import BIN, FSTRINGS, django_copy


def _tree(folder: Path, commit: str) -> str:
    words = ["git", "rev-parse", f"{commit}^{{tree}}"]
    return subprocess.run(words, cwd=folder, check=True, capture_output=True, text=True).stdout.strip()


def _alone(words: Sequence[str | Path]) -> str:
    """The tree after the tool ran by itself (its exit code is its own business)."""
    with django_copy() as folder:
        subprocess.run(words, cwd=folder, check=False, capture_output=True)
        subprocess.run(["git", "add", "-A"], cwd=folder, check=True)
        return subprocess.run(
            ["git", "write-tree"], cwd=folder, check=True, capture_output=True, text=True
        ).stdout.strip()


def _ours(words: Sequence[str], instances: int, kill: bool) -> tuple[str, float]:
    with django_copy() as folder:
        began = time.perf_counter()
        argv = [sys.executable, "-m", "runtime", "refactor", "--quiet", "--instances", str(instances), *words]
        process = subprocess.Popen(argv, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if kill:
            _kill_a_child(process.pid)
        process.wait()
        return _tree(folder, "refs/journeyman/r1/line"), time.perf_counter() - began


def _kill_a_child(parent: int) -> None:
    """Wait until a worker or a program runs, give it a moment's work, and shoot it."""
    while True:
        found = subprocess.run(["pgrep", "-P", str(parent)], capture_output=True, text=True, check=False).stdout.split()
        names = {pid: Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found if Path(f"/proc/{pid}").exists()}
        victims = [pid for pid, line in names.items() if b"specialists.worker" in line or b"pyupgrade" in line]
        if victims:
            time.sleep(0.5)
            try:
                os.kill(int(victims[0]), signal.SIGKILL)
            except ProcessLookupError:
                continue
            return
        if Path(f"/proc/{parent}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.01)


CASES: dict[str, tuple[list[str | Path], list[str]]] = {
    "rewrite": (
        [
            BIN / "ast-grep",
            "run",
            "-p",
            "assertEqual($A, $B)",
            "-r",
            "assertSame($A, $B)",
            "-l",
            "python",
            "--update-all",
            ".",
        ],
        ["--rewrite", "assertEqual($A, $B)", "assertSame($A, $B)", "--language", "python", "**/*.py"],
    ),
    "exec": (
        ["sh", "-c", f"git ls-files 'django/**.py' | xargs {BIN / 'pyupgrade'} --py310-plus"],
        ["--exec", str(BIN / "pyupgrade"), "--py310-plus", "{files}", ";", "--ok-exit", "0,1", "django/**/*.py"],
    ),
    "codemod": (
        [sys.executable, "-m", "libcst.tool", "codemod", FSTRINGS, "-j", "2", "--no-format", "django"],
        ["--codemod", FSTRINGS, "--containing", ".format(", "django/**/*.py"],
    ),
}


def main(names: Sequence[str]) -> None:
    """Run the named cases, or all; exit 1 when a tree differs."""
    wrong = 0
    for name in names or CASES:
        alone, words = CASES[name]
        expected = _alone(alone)
        for instances, kill in ((1, False), (2, False), (8, False), (2, True)):
            tree, seconds = _ours(words, instances, kill)
            same = tree == expected
            wrong += not same
            what = f"{name}, {instances} instances{', a worker killed' if kill else ''}"
            print(f"{what:<40} {'same tree' if same else 'ANOTHER TREE'}  {seconds:.1f} s", flush=True)
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main(sys.argv[1:])
