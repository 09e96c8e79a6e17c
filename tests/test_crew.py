"""Specialists of installed packages: found by their entry point, below the project's own, and refused when they are something else."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.config import Config
from runtime.crew import specialists
from runtime.errors import BadInput

MODULE = """
from runtime import Specialist

async def translate(brief, workspace):
    return {"translated": brief.task.id}

TRANSLATOR = Specialist("translator", translate, instances=2, writes=("locale/",))
NOT_ONE = "a word"
"""


def _install(folder: Path, target: str) -> None:
    (folder / "fluent_words.py").write_text(MODULE)
    info = folder / "fluent_words-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: fluent-words\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[journeyman.specialists]\ntranslator = fluent_words:{target}\n")


def test_a_package_brings_its_specialist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package's specialist is there beside the shipped ones, and the project's configuration changes it like those."""
    _install(tmp_path, "TRANSLATOR")
    monkeypatch.syspath_prepend(tmp_path)
    found = {one.name: one for one in specialists(Config(), tmp_path)}
    assert {"translator", "interface", "service", "test"} <= found.keys()
    assert (found["translator"].instances, found["translator"].writes) == (2, ("locale/",))
    changed = {one.name: one for one in specialists(Config(specialists={"translator": {"instances": 5}}), tmp_path)}
    assert changed["translator"].instances == 5
    assert changed["translator"].handler is found["translator"].handler


def test_what_is_no_specialist_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point that leads to something else is an error that names it."""
    _install(tmp_path, "NOT_ONE")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(BadInput, match="entry point translator: it must be a Specialist, not str"):
        specialists(Config(), tmp_path)
