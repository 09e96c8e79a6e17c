"""The house rules that a program can check: layers, the core's purity, style and types."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import api_reference
import pytest

ROOT = Path(__file__).parent.parent
LAYERS = (
    ("core", "errors", "failpoints", "processes"),
    ("packs", "pictures"),
    (
        "record_codec",
        "journal",
        "git",
        "report",
        "claims",
        "workspace",
        "checks",
        "conversation",
        "limits",
        "budget",
        "secrets",
        "prices",
    ),
    ("aside",),
    ("checkout",),
    ("overlay", "lease"),
    ("worktrees", "line", "landing", "recovery"),
    ("actor", "attempts", "finish", "preparation", "handles", "wishes"),
    ("engine",),
    ("submission", "planfile"),
    ("blocking", "aio", "config", "progress", "trace", "telemetry", "notebook", "runs", "rewind", "doctor"),
    ("specialists",),
    ("agents", "crew", "refactor", "execution"),
    ("foretell", "transcript", "witness"),
    ("terminal",),
    ("outlook",),
    ("rehearsal",),
    ("service",),
    ("mcp",),
    ("standalone",),
    ("serving",),
    ("looking",),
    ("cli", "__main__"),
)
IMPURE = {
    "trio",
    "time",
    "random",
    "os",
    "pathlib",
    "logging",
    "threading",
    "asyncio",
    "sqlite3",
    "pygit2",
    "subprocess",
    "datetime",
}


def _imports(path: Path) -> set[str]:
    """Absolute names of what a module imports; relative imports resolved."""
    package = ".".join(path.relative_to(ROOT).with_suffix("").parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package.split(".")[: len(package.split(".")) - (node.level - 1)] if node.level else []
            name = ".".join([*base, *([node.module] if node.module else [])])
            found |= {f"{name}.{alias.name}" for alias in node.names} | {name}
    return found


def _layer(name: str) -> int | None:
    parts = name.split(".")
    own = "specialists" if parts[0] == "specialists" else parts[1] if parts[0] == "runtime" and len(parts) > 1 else None
    return next((number for number, layer in enumerate(LAYERS) if own in layer), None)


@pytest.mark.parametrize(
    "path", sorted((ROOT / "runtime").rglob("*.py")) + sorted((ROOT / "specialists").glob("*.py")), ids=str
)
def test_imports_point_down(path: Path) -> None:
    """A module imports from its own layer or one below, never from above."""
    own = _layer(".".join(path.relative_to(ROOT).with_suffix("").parts))
    if own is None:
        assert path.name == "__init__.py"
        return
    above = {name for name in _imports(path) if (layer := _layer(name)) is not None and layer > own}
    assert not above


@pytest.mark.parametrize("path", sorted((ROOT / "runtime/core").glob("*.py")), ids=lambda path: path.name)
def test_the_core_is_pure(path: Path) -> None:
    """No clock, no randomness, no files, no loop in the core."""
    assert not {name.split(".")[0] for name in _imports(path)} & IMPURE


@pytest.mark.parametrize(
    "path", sorted((ROOT / "runtime").rglob("*.py")) + sorted((ROOT / "specialists").glob("*.py")), ids=str
)
def test_every_module_says_what_it_is(path: Path) -> None:
    """Each module begins with what it is, and none has more than 800 lines."""
    text = path.read_text()
    assert ast.get_docstring(ast.parse(text))
    assert text.count("\n") <= 800


def test_the_api_reference_is_what_the_docstrings_say() -> None:
    """`runtime/API.md` has every public name as it is now: `python tests/api_reference.py` writes it anew."""
    assert api_reference.TARGET.read_text() == api_reference.text()


def test_importing_changes_nothing_global() -> None:
    """Importing the runtime starts no thread, sets no signal handler, no logging and no event loop policy."""
    code = (
        "import signal, threading, logging, asyncio, os\n"
        "before = (signal.getsignal(signal.SIGINT), threading.active_count(), list(logging.root.handlers), dict(os.environ),\n"
        "          asyncio.new_event_loop, os.getcwd())\n"
        "import runtime, runtime.aio, runtime.blocking, specialists\n"
        "after = (signal.getsignal(signal.SIGINT), threading.active_count(), list(logging.root.handlers), dict(os.environ),\n"
        "         asyncio.new_event_loop, os.getcwd())\n"
        "assert before == after"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("words", [["ruff", "check", "."], ["ruff", "format", "--check", "."], ["mypy"]], ids=" ".join)
def test_style_and_types(words: list[str]) -> None:
    """ruff and the strict type checker find nothing."""
    done = subprocess.run([sys.executable, "-m", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
