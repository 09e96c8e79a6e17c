"""Commands: their words and exit codes are their own, and none outlives us."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
import trio

from runtime.checks import run_command

CANARY = "canary-0123456789"
ROOT = Path(__file__).parent.parent
LONG = "import os, sys, time; os.fork() and open(sys.argv[1], 'w').write('x'); time.sleep(60)"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["sh", "-c", "echo one; echo two >&2; exit 3"], 3, b"one\ntwo\n"),
        (["cat"], 0, b""),
        (["no-such-program"], None, b"no-such-program: No such file or directory"),
        (["./no-such-file"], None, b"./no-such-file: No such file or directory"),
        (["./plain.txt"], None, b"./plain.txt: Permission denied"),
        (["sh", "-c", "kill -9 $$"], -9, b""),
        (["printf", "%s|", "a b", "$HOME", "'"], 0, b"a b|$HOME|'|"),
    ],
)
async def test_a_command_is_run_as_it_is(tmp_path: Path, words: list[str], code: int | None, said: bytes) -> None:
    """Arguments arrive untouched, the exit code and the output are the command's, there is nothing to read, and a program that
    is not there is named."""
    (tmp_path / "plain.txt").write_text("x")
    assert await run_command(words, tmp_path, 30) == (code, said)


@pytest.mark.parametrize("inside", [1, 6, len(CANARY) - 1])
async def test_a_key_is_no_half_key_where_an_output_is_cut(
    inside: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a command says is kept without the keys of our environment, also one that only the end of is among the last 20,000 bytes,
    and those in what is kept do not bring it in again."""
    monkeypatch.setenv("OTHER_TOKEN", CANARY)
    text = f"'x' * 90_000 + {CANARY!r} + 'y' * (20_000 - {inside} - {3 * len(CANARY)}) + {CANARY!r} * 3"
    code, said = await run_command([sys.executable, "-c", f"print({text}, end='')"], tmp_path, 30)
    assert code == 0
    assert said == b"y" * (20_000 - inside - 3 * len(CANARY)) + b"[redacted]" * 3


async def test_what_a_command_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    """A background process of a command is gone when the command has ended."""
    code, said = await run_command(["sh", "-c", "sleep 60 >/dev/null 2>&1 & echo $!"], tmp_path, 30)
    assert code == 0
    assert _ends(int(said))


async def test_a_command_that_has_ended_is_not_waited_for(tmp_path: Path) -> None:
    """A background process that keeps the command's output open holds nobody up: the code and the words are the command's, and
    the process is gone."""
    with trio.fail_after(20):
        code, said = await run_command(["sh", "-c", "sleep 60 & echo $!; exit 3"], tmp_path, 40)
    assert code == 3
    assert _ends(int(said))


def _ends(pid: int, tries: int = 500) -> bool:
    """Whether a process is gone soon; one that only waits for its parent to ask is."""
    for _ in range(tries):
        said = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
        if not said.strip() or said.startswith("Z"):
            return True
    return False


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_no_child_outlives_us(tmp_path: Path, number: signal.Signals) -> None:
    """When the process that started a command is killed, the command is killed with all that it started."""
    started = tmp_path / "started"
    code = (
        "import sys, trio\nfrom pathlib import Path\nfrom runtime.checks import run_command\n"
        f"trio.run(run_command, [sys.executable, '-c', {LONG!r}, sys.argv[1]], Path('.'), 60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", code, str(started)], cwd=Path(__file__).parent.parent)
    while not started.exists():
        assert parent.poll() is None
    found = subprocess.run(
        ["ps", "-ww", "-eo", "pid,args"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    children = [int(line.split()[0]) for line in found if str(started) in line and f" {parent.pid} " not in f" {line} "]
    assert len(children) >= 2
    os.kill(parent.pid, number)
    parent.wait()
    assert all(_ends(pid) for pid in children)


def test_a_worker_whose_run_was_killed_ends_without_a_word() -> None:
    """Nobody is there for its answer: it says nothing on the terminal that it shares with a person."""
    job = msgspec.msgpack.encode(
        (
            "rewrite",
            {"pattern": "a", "replace": "b", "language": "python", "passes": 1, "look_ahead": False},
            [("a.py", b"a\n")],
        )
    )
    read, write = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-m", "specialists.worker"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=write,
        stderr=subprocess.PIPE,
    )
    os.close(write)
    os.close(read)
    said = process.communicate(len(job).to_bytes(4, "big") + job)[1]
    assert (process.returncode, said) == (0, b"")
