"""Real repositories for tests, kept away from the developer's own configuration."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import bytecode  # noqa: F401 - before the modules that it is about
import pytest
import trio.testing

from runtime.line import Line

if TYPE_CHECKING:
    from daemon_process import DaemonProcess


class Repo:
    """A git repository in a temporary folder."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(parents=True, exist_ok=True)
        self.git("init", "-q", "-b", "main")

    def git(self, *arguments: str | bytes, stdin: bytes | None = None) -> str:
        """The `git` program here; its output without the last newline."""
        done = subprocess.run(["git", *arguments], cwd=self.path, input=stdin, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "surrogateescape").rstrip("\n")

    def write(self, files: Mapping[str, str | bytes]) -> None:
        """Put files into the work tree."""
        for name, content in files.items():
            where = self.path / name
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: Mapping[str, str | bytes], message: str = "base") -> str:
        """Write files, add everything and commit; the commit's id."""
        self.write(files)
        self.git("add", "-A")
        self.git("commit", "-q", "--allow-empty", "-m", message)
        return self.git("rev-parse", "HEAD")

    def show(self, revision: str, path: str) -> bytes:
        """A file's bytes in a revision."""
        return subprocess.run(
            ["git", "show", f"{revision}:{path}"], cwd=self.path, capture_output=True, check=True
        ).stdout


def land(line: Line, subject: str, **how: Any) -> tuple[str, ...]:
    """Bring a line onto the branch, as the runtime does with a record in between."""
    landing = line.landing(subject, **how)
    landing.perform()
    return landing.commits


@pytest.fixture(autouse=True)
def _own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test reads the developer's git configuration, writes into the real cache folder, or spends with the developer's key."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n[init]\n\tdefaultBranch = main\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home / "cache"))
    theirs = [name for name in os.environ if name.startswith("GIT_") and not name.startswith("GIT_CONFIG")]
    for name in (*theirs, *(name for name in os.environ if name.startswith("ANTHROPIC_"))):
        monkeypatch.delenv(name)


@pytest.fixture
def repo(tmp_path: Path) -> Repo:
    """An empty repository."""
    return Repo(tmp_path / "repo")


@pytest.fixture
def socket_clock() -> trio.testing.MockClock:
    """Virtual time beside real sockets: it jumps once nothing was to do for a moment, as trio cannot see data on its way."""
    return trio.testing.MockClock(autojump_threshold=0.02)


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[DaemonProcess]:
    """A running daemon."""
    from daemon_process import DaemonProcess

    process = DaemonProcess(tmp_path)
    yield process
    process.close()


@pytest.fixture
def patient_clock() -> trio.testing.MockClock:
    """Virtual time for a whole runtime: `claude_stage` makes it wait for threads and processes, so a few milliseconds are enough."""
    return trio.testing.MockClock(autojump_threshold=0.005)
