"""Who works for a project: specialists of installed packages, found by their entry point, and handlers of the repository's own, which
are loaded for a run of that repository and for nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from conftest import Repo
from daemon_process import DaemonProcess, ended

from runtime.config import Config
from runtime.crew import specialists
from runtime.errors import BadInput
from specialists import Ways

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


def _configured(name: str) -> Config:
    return Config(specialists={"own": {"handler": name}}, source="journeyman.toml")


async def test_a_handler_is_found_and_not_executed(tmp_path: Path) -> None:
    """Who asks for the specialists executes nothing of the repository's; `Ways.equip`, with which a run begins, does."""
    marker = tmp_path / "executed"
    (tmp_path / "myh.py").write_text(f"open({str(marker)!r}, 'w').close()\nasync def work(brief, workspace): ...\n")
    for name in ("myh:work", "myh.py:work"):
        found = specialists(_configured(name), tmp_path)
        assert not marker.exists()
        async with Ways(1) as ways:
            assert {one.name for one in ways.equip(found)} == {one.name for one in found}
        assert marker.exists()
        marker.unlink()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("../evil.py:work", "../evil.py is outside the repository; name a file inside it"),
        ("{}/evil.py:work", "/evil.py is outside the repository; name a file inside it"),
        ("link.py:work", "link.py is outside the repository; name a file inside it"),
        ("link:work", "link is outside the repository; name a file inside it"),
        ("gone.py:work", "there is no file gone.py"),
        ("gone.way:work", "there is no module gone.way"),
        ("myh:rest", "there is no 'rest' in myh"),
        ("myh:plain", "myh:plain must be an async function"),
        ("myh.py:Made", "myh.py:Made must be an async function"),
        ("broken:work", "broken cannot be imported: SyntaxError"),
    ],
)
def test_a_handler_that_is_not_there_is_refused_by_its_field(tmp_path: Path, name: str, words: str) -> None:
    """One error that names the field and says what is wrong; nothing is executed, in the repository or outside it."""
    root = tmp_path / "root"
    root.mkdir()
    marker = tmp_path / "executed"
    text = f"open({str(marker)!r}, 'w').close()\nasync def work(brief, workspace): ...\ndef plain(): ...\nclass Made: ...\n"
    for place in (tmp_path / "evil.py", root / "myh.py"):
        place.write_text(text)
    (root / "link.py").symlink_to(tmp_path / "evil.py")
    (root / "broken.py").write_text("def f(:\n")
    with pytest.raises(BadInput) as raised:
        specialists(_configured(name.format(tmp_path)), root)
    (told,) = raised.value.problems
    assert told.startswith("journeyman.toml: specialists.own: handler: ")
    assert words in told
    assert not marker.exists()


async def test_a_handler_that_cannot_be_loaded_is_told_by_its_field(tmp_path: Path) -> None:
    """What only executing it shows comes when the run is about to begin."""
    (tmp_path / "myh.py").write_text("import no_such_thing\nasync def work(brief, workspace): ...\n")
    async with Ways(1) as ways:
        with pytest.raises(BadInput, match=r"specialists.own: handler: myh cannot be imported: .*no_such_thing"):
            ways.equip(specialists(_configured("myh:work"), tmp_path))


HANDLER = """
import helperino
{mark}

async def work(brief, workspace):
    import lately
    workspace.write(brief.task.writes[0], helperino.WORD + lately.WORD + " {version}")
    return None
"""
CONFIG = '[specialists.own]\nhandler = "{}"\n'


def _handled(client: Any, runs: str) -> str:
    plan = {"task": [{"id": "a", "specialist": "own", "writes": ["out.txt"]}]}
    made = client.post(runs, json={"plan": plan})
    assert made.status_code == 201, made.text
    report = ended(client, made.headers["location"])
    assert report["ok"], report
    return str(report["commit"])


@pytest.mark.parametrize("handler", ["myh:work", "myh.py:work"])
def test_a_daemon_runs_each_repositorys_handler_as_it_is(daemon: DaemonProcess, tmp_path: Path, handler: str) -> None:
    """Two repositories with modules of the same names have their own, and a commit counts for the next run, in one process."""
    repos = [Repo(tmp_path / word) for word in ("one", "two")]
    for repo in repos:
        word = f"WORD = '{repo.path.name}'\n"
        repo.commit(
            {
                "journeyman.toml": CONFIG.format(handler), "myh.py": HANDLER.format(mark="", version=1),
                "helperino.py": word, "lately.py": word,
            }
        )  # fmt: skip
    runs = [daemon.register(repo) for repo in repos]
    with daemon.client() as client:

        def written(at: int) -> str:
            return repos[at].show(_handled(client, runs[at]), "out.txt").decode()

        assert [written(0), written(1)] == ["oneone 1", "twotwo 1"]
        repos[0].commit({"myh.py": HANDLER.format(mark="", version=2), "helperino.py": "WORD = 'new'\n"})
        assert [written(0), written(1)] == ["newone 2", "twotwo 1"]


def test_a_daemon_that_looks_ahead_executes_nothing(daemon: DaemonProcess, repo: Repo) -> None:
    """An outlook looks for handlers and codemods, and what is outside of the repository is refused: none of it is executed, until a
    run begins."""
    marker = repo.path.parent / "executed"
    mark = f"open({str(marker)!r}, 'w').close()"
    evil = f"{mark}\ndef f(path, data): ...\n"
    repo.commit(
        {
            "journeyman.toml": CONFIG.format("myh:work"), "myh.py": HANDLER.format(mark=mark, version=1),
            "helperino.py": "WORD = ''\n", "lately.py": "WORD = ''\n", "mod.py": evil,
        }
    )  # fmt: skip
    (repo.path.parent / "evil.py").write_text(evil)
    runs = daemon.register(repo)
    with daemon.client() as client:

        def look(name: str) -> Any:
            tasks = [
                {"id": "a", "specialist": "own", "writes": ["out.txt"]},
                {"id": "b", "specialist": "service", "writes": ["mod.py"], "codemod": {"name": name}},
            ]
            return client.post(f"{runs.removesuffix('/runs')}/outlook", json={"plan": {"task": tasks}})

        for name in ("mod.py:f", "mod.f"):
            assert look(name).status_code == 200
        for name in ("../evil.py:f", f"{repo.path.parent}/evil.py:f"):
            told = look(name)
            assert told.status_code == 422
            assert "task 'b': codemod: " in told.text
            assert "is outside the repository" in told.text
        assert not marker.exists()
        _handled(client, runs)
        assert marker.exists()
