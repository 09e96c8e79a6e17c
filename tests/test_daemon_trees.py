"""Work trees that share a repository (`git worktree add`) beside the daemon: no run lands on another one's branch."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, events, rewriting, waiting


def _linked(repo: Repo, path: Path, branch: str = "feature") -> Repo:
    """Another work tree of a repository, with a branch of its own."""
    repo.git("worktree", "add", "-q", "-b", branch, str(path))
    return Repo(path)  # git init leaves one that is there as it is


@pytest.mark.parametrize("name", ["elsewhere/{}", "elsewhere/other"], ids=["a namesake", "another name"])
def test_a_work_tree_is_not_answered_for_by_another(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path, name: str
) -> None:
    """Registering, and submitting from, a second work tree of a served repository is refused with the one that serves it: nothing runs,
    nothing lands. Once that one is off the list, it is served, and its runs land on its own branch."""
    base = repo.commit(FILES)
    linked = _linked(repo, tmp_path / name.format(repo.path.name))
    runs = daemon.register(repo)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(rewriting(0)))
    with daemon.client() as client:
        told = client.post("/v1/repositories", json={"path": str(linked.path)})
        assert (told.status_code, told.json()["code"]) == (409, "repository-refused")
        assert str(repo.path) in told.json()["detail"]
        refused = daemon.journeyman("submit", str(plan), "--wait", "--land", cwd=linked.path)
        assert refused.returncode == 6
        assert f"is served through another work tree, {repo.path}" in refused.stderr.replace("\n", " ")
        assert client.get(runs).json() == []
        assert repo.git("rev-parse", "HEAD", "feature") == f"{base}\n{base}"
        assert client.delete(runs.removesuffix("/runs")).status_code == 200
        done = daemon.journeyman("submit", str(plan), "--wait", "--land", cwd=linked.path)
        assert done.returncode == 0, done.stderr
        assert [one["path"] for one in client.get("/v1/repositories").json()] == [str(linked.path)]
    assert (repo.git("rev-parse", "HEAD"), repo.git("rev-parse", "feature") != base) == (base, True)
    assert linked.show("HEAD", "src/m0.py") == b"log(0)\n"


def test_what_a_work_tree_left_open_is_taken_up_by_none_but_it(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path
) -> None:
    """A daemon that is killed while a run of one work tree goes on, and then finds another one before it on its list: it serves that
    one, says why not the other, and leaves the run alone, when it is told to go on with it too. Served again, the first one's run goes on
    and lands on its branch."""
    base = repo.commit(FILES)
    linked = _linked(repo, tmp_path / "linked")
    runs = daemon.register(linked)
    go = tmp_path / "go"
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(go, 0), "settings": {"land": True}})
        client.post(runs, json={"plan": rewriting(0), "settings": {"land": True}})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
    daemon.kill()
    daemon.listed.write_text(json.dumps({"repositories": [str(repo.path), str(linked.path)]}))
    daemon.start()
    left_out = next(one for one in daemon.log if one["event"] == "repository left out")
    assert left_out["path"] == str(linked.path)
    assert f"is served through another work tree, {repo.path}" in left_out["error"]
    with daemon.client() as client:
        served, other = client.get("/v1/repositories").json()
        assert (served["path"], other["path"], other["away"]) == (str(repo.path), str(linked.path), left_out["error"])
        at = f"/v1/repositories/{served['id']}"
        assert [one["state"] for one in client.get(f"{at}/runs").json()] == ["interrupted", "interrupted"]
        told = client.post(f"{at}/runs/r1/resume")
        assert (told.status_code, told.json()["code"]) == (409, "repository-refused")
        assert "linked" in told.json()["detail"]
        go.touch()
        assert client.delete(at).status_code == 200
        assert daemon.register(linked) == runs
        assert [ended(client, f"{runs}/{run}")["state"] for run in ("r1", "r2")] == ["done", "done"]
    assert repo.git("rev-parse", "HEAD") == base
    assert linked.show("HEAD", "src/m0.py") == b"log(0)\n"


def test_a_run_whose_work_tree_is_gone_lands_nowhere_by_itself(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path
) -> None:
    """What a work tree had open when it was removed can be gone on with from another one; there it lands only when it is told to."""
    base = repo.commit(FILES)
    linked = _linked(repo, tmp_path / "linked")
    runs = daemon.register(linked)
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(tmp_path / "go", 0), "settings": {"land": True}})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
    daemon.kill()
    (tmp_path / "go").touch()
    repo.git("worktree", "remove", "--force", str(linked.path))
    daemon.start()
    runs = daemon.register(repo)
    with daemon.client() as client:
        assert client.get(f"{runs}/r1").json()["state"] == "interrupted"
        assert client.post(f"{runs}/r1/resume").status_code == 200
        told = ended(client, f"{runs}/r1")
        assert (told["state"], told["landed"]) == ("done", [])
    assert repo.git("rev-parse", "HEAD") == base
