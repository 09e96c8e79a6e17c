"""The verbs that speak to a daemon do the same work without one: submit, watch, runs, show, land, cancel."""

from __future__ import annotations

import json
import os
import plistlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, events, rewriting, waiting

Journeyman = Callable[..., subprocess.CompletedProcess[str]]
WORDS = (sys.executable, "-m", "runtime")


def _no_daemon(cwd: Path) -> dict[str, str]:
    return {**os.environ, "JOURNEYMAN_SOCKET": str(cwd / "no" / "daemon.sock")}


def _alone(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*WORDS, *words],
        cwd=cwd, env=_no_daemon(cwd), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done


@pytest.fixture(params=[True, False], ids=["with a daemon", "without one"])
def served(request: pytest.FixtureRequest) -> bool:
    """Whether a daemon is there."""
    return bool(request.param)


@pytest.fixture
def journeyman(served: bool, request: pytest.FixtureRequest) -> Journeyman:
    """The command line, beside a daemon or without one."""
    command: Journeyman = request.getfixturevalue("daemon").journeyman if served else _alone
    return command


def test_the_same_words_do_the_same_work(journeyman: Journeyman, repo: Repo, tmp_path: Path) -> None:
    """Submit, watch, list, show and land: exit codes, documents and the landed file are the same with and without a daemon."""
    repo.commit(FILES)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(rewriting(0, 1, checks=["git --version"])))
    made = journeyman("submit", str(plan), "--wait", "--json", cwd=repo.path)
    assert made.returncode == 0, made.stderr
    told = json.loads(made.stdout)
    assert (told["run"], told["ok"], told["exit"]) == ("r1", True, 0)
    assert told["tasks"]["t1"]["state"] == "done"
    watched = journeyman("watch", "r1", cwd=repo.path)
    assert watched.returncode == 0
    assert "t1 done" in watched.stderr
    assert "check green: git --version" in watched.stderr
    assert json.loads(journeyman("watch", "r1", "--json", cwd=repo.path).stdout)["state"] == "done"
    assert [one["state"] for one in json.loads(journeyman("runs", "--json", cwd=repo.path).stdout)] == ["done"]
    assert "t1" in journeyman("show", "r1", cwd=repo.path).stdout
    landed = journeyman("land", "r1", "--json", "--message", "Log it", cwd=repo.path)
    assert landed.returncode == 0, landed.stderr
    assert json.loads(landed.stdout)["commit"] == repo.git("rev-parse", "HEAD")
    assert repo.git("log", "-1", "--format=%s") == "Log it"
    assert journeyman("land", "r1", cwd=repo.path).returncode == 6
    undone = json.loads(journeyman("undo", "r1", "--json", cwd=repo.path).stdout)
    assert (undone["ok"], undone["landed"]) == (True, [repo.git("rev-parse", "HEAD")])
    assert repo.show("HEAD", "src/m1.py") == b"print(1)\n"
    assert journeyman("redo", "r1", cwd=repo.path).returncode == 0
    assert repo.show("HEAD", "src/m1.py") == b"log(1)\n"
    taken = json.loads(journeyman("undo", "r1", "t0", "--json", cwd=repo.path).stdout)
    assert (taken["off"], taken["red"]) == (["t0"], [])
    assert (repo.show("HEAD", "src/m0.py"), repo.show("HEAD", "src/m1.py")) == (b"print(0)\n", b"log(1)\n")
    assert journeyman("undo", "r1", "t0", cwd=repo.path).returncode == 2
    assert journeyman("cancel", "r9", cwd=repo.path).returncode == 2
    plan.write_text(json.dumps({"task": [{"id": "a", "specialist": "cook"}]}))
    bad = journeyman("submit", str(plan), "--json", cwd=repo.path)
    assert bad.returncode == 2
    assert "plan.json" in bad.stderr
    assert "cook" in bad.stderr


def test_a_landing_that_is_refused_says_so(served: bool, journeyman: Journeyman, repo: Repo, tmp_path: Path) -> None:
    """`submit --land` over uncommitted work: the work is done and kept, the reason is told, exit 6; a key without a daemon is refused."""
    repo.commit(FILES)
    plan = tmp_path / "plan.json"
    dirty = "echo mine > src/m0.py; echo done > out.txt"  # as somebody else does meanwhile, in the checkout itself
    task = {
        "id": "a",
        "specialist": "service",
        "writes": ["out.txt"],
        "exec": ["sh", "-c", f"cd {repo.path}; {dirty}"],
    }
    rest = rewriting(0)["task"][0] | {"after": ["a"]}
    plan.write_text(json.dumps({"task": [task, rest]}))
    told = journeyman("submit", str(plan), "--land", "--wait", cwd=repo.path)
    assert told.returncode == 6, told.stderr
    assert "not landed: landing would overwrite" in told.stderr
    assert "src/m0.py" in told.stderr
    assert (repo.path / "src/m0.py").read_text() == "mine\n"
    again = journeyman("submit", str(plan), "--key", "k1", cwd=repo.path)
    assert (again.returncode, "--key" in again.stderr) == ((0, False) if served else (2, True))


def test_a_run_of_another_process_is_watched(
    served: bool, request: pytest.FixtureRequest, repo: Repo, tmp_path: Path
) -> None:
    """`watch` tells what a `run` in another terminal does, as it happens, and ends with it and with its code; a daemon is no hindrance:
    whoever comes later is told the same, and who asks for news waits until there are some."""
    repo.commit(FILES)
    plan, go = tmp_path / "plan.json", tmp_path / "go"
    os.mkfifo(go)
    until = {"id": "a", "specialist": "service", "writes": ["src/m0.py"], "exec": ["sh", "-c", f"cat {go}"]}
    plan.write_text(json.dumps({"task": [until, rewriting(1)["task"][0]]}))
    daemon: DaemonProcess | None = request.getfixturevalue("daemon") if served else None
    runs = daemon.register(repo) if daemon is not None else ""
    common = {
        "cwd": repo.path,
        "env": daemon.environment if daemon is not None else _no_daemon(repo.path),
        "stderr": subprocess.PIPE,
        "stdout": subprocess.PIPE,
        "text": True,
    }
    running = subprocess.Popen([*WORDS, "run", str(plan)], **common)  # type: ignore[call-overload]
    with go.open("w"):  # it has begun; it ends when this is closed
        watching = subprocess.Popen([*WORDS, "watch", "r1"], **common)  # type: ignore[call-overload]
        told = ""
        while "t1 done" not in told:
            line = watching.stderr.readline()
            assert line, told
            told += line
        assert "a done" not in told
        if daemon is not None:
            seen, news = _told_of_what_goes_on(daemon, runs)
    _, rest = watching.communicate(timeout=60)
    running.communicate(timeout=60)
    assert running.returncode == watching.returncode
    assert "run r1 done" in rest
    if daemon is not None:
        with daemon.client() as client:
            whole = list(events(client, f"{runs}/r1/events"))
            assert whole[: len(seen)] == seen
            assert (whole[-1][0], whole[-1][1]["state"]) == ("end", "done")
            assert client.get(f"{runs}/r1/news?from={news['seq'] + 1}").json()["state"] == "done"


def _told_of_what_goes_on(
    daemon: DaemonProcess, runs: str
) -> tuple[list[tuple[str, dict[str, Any], str]], dict[str, Any]]:
    """What its stream tells of r1 up to where t1 is done, and its news, which then have to be waited for."""
    seen = []
    with daemon.client() as client:
        for one in events(client, f"{runs}/r1/events?heartbeat_s=0.05"):
            if one[0] != "heartbeat":
                seen.append(one)
            elif any(kind == "settled" for kind, _, _ in seen):
                break
        news: dict[str, Any] = client.get(f"{runs}/r1/news").json()
        assert (news["state"], news["done"], "t1 done" in news["news"]) == ("running", 1, True)
        later = client.get(f"{runs}/r1/news?from={news['seq'] + 1}&within_s=1")
        assert later.elapsed.total_seconds() >= 1
        assert later.json() == {**news, "news": []}
    return seen, news


def test_what_waits_says_why_and_can_be_cancelled(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A run in the queue is told of with its reason by submit, runs, show and watch; `cancel` takes it out, and ends one that runs."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(waiting(tmp_path / "go", 0)))
    assert daemon.journeyman("submit", str(plan), cwd=repo.path).returncode == 0
    second = daemon.journeyman("submit", str(plan), cwd=repo.path)
    assert "run r2 queued: waits for r1: it needs src/m0.py too" in second.stderr
    assert "queued" in daemon.journeyman("runs", cwd=repo.path).stdout
    listed = json.loads(daemon.journeyman("runs", "--json", cwd=repo.path).stdout)
    assert [(one["state"], "queued" in one) for one in listed] == [("running", False), ("running", True)]
    assert "waits for r1" in daemon.journeyman("show", "r2", cwd=repo.path).stdout
    assert json.loads(daemon.journeyman("cancel", "r2", "--json", cwd=repo.path).stdout) == {
        "run": "r2",
        "state": "cancelled",
    }
    with daemon.client() as client:
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
        assert "cancelled" in daemon.journeyman("cancel", "r1", cwd=repo.path).stderr
        assert client.get(f"{runs}/r1").json()["state"] == "cancelled"
        (tmp_path / "go").touch()
        assert client.get("/v1/health").json()["runs"] == 0


def _read(kind: str, text: str) -> tuple[list[str], dict[str, str], int]:
    """(command, environment, seconds for the end) of a unit, as its supervisor reads it."""
    if kind == "launchd":
        agent = plistlib.loads(text.encode())
        assert agent["KeepAlive"] == {"SuccessfulExit": False}
        return agent["ProgramArguments"], agent["EnvironmentVariables"], agent["ExitTimeOut"]

    def words(line: str) -> list[str]:
        inner = [double or plain for double, plain in re.findall(r'"((?:[^"\\]|\\.)*)"|(\S+)', line)]
        return [re.sub(r"\\(.)", r"\1", one).replace("%%", "%") for one in inner]

    rows = [line.partition("=")[::2] for line in text.splitlines() if not line.startswith("#")]
    (command,) = (words(value) for name, value in rows if name == "ExecStart")
    said = dict(word.split("=", 1) for name, value in rows if name == "Environment" for word in words(value))
    (seconds,) = (int(value) for name, value in rows if name == "TimeoutStopSec")
    return [one.replace("$$", "$") for one in command], said, seconds


@pytest.mark.parametrize("kind", ["systemd", "launchd"])
def test_the_units_are_what_their_supervisors_read(repo: Repo, tmp_path: Path, kind: str) -> None:
    """A unit runs the program that was called, wherever it is, not another one on the PATH, with the flags that were given; it finds what
    this shell finds, and leaves time to drain. What it says is run here as its supervisor would: with its environment alone."""
    odd = tmp_path / 'a "b" $c %d &'
    called, other, run = odd / "journeyman", tmp_path / "bin" / "journeyman", Path(tempfile.mkdtemp(prefix="jd"))
    for program in (called, other):
        program.parent.mkdir(parents=True)
        program.write_text(f"#!{sys.executable}\nfrom runtime.cli import main\nmain()\n")
        program.chmod(0o755)
    shell = {**os.environ, "PATH": f"{other.parent}:{os.environ['PATH']}", "XDG_RUNTIME_DIR": str(run)}
    shell |= {"XDG_STATE_HOME": str(odd / "state"), "PYTHONPATH": str(Path(__file__).parents[1])}
    shell.pop("JOURNEYMAN_SOCKET", None)

    def unit(*words: str, **more: str) -> str:
        flags = ["serve", "--unit", kind, *words]
        done = subprocess.run(
            [called, *flags], env=shell | more, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return done.stdout

    text = unit("--tcp", "0", "--drain", "300", "--repo", "repo")
    command, environment, seconds = _read(kind, text)
    while command[0] == "/usr/bin/env":
        command = command[1:]
    assert command[:6] == [str(called), "serve", "--repo", str(repo.path), "--tcp", "0"]
    assert seconds == 330
    assert environment["PATH"].split(":") == list(dict.fromkeys(shell["PATH"].split(":")))
    analyze = shutil.which("systemd-analyze")
    if kind == "systemd" and analyze is not None:
        (tmp_path / "journeyman.service").write_text(text)
        checked = [analyze, "verify", "--user", "--man=no", str(tmp_path / "journeyman.service")]
        done = subprocess.run(checked, env=shell, capture_output=True, text=True, check=False)
        assert "journeyman.service:" not in done.stderr, done.stderr
    daemon = subprocess.Popen(
        command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        assert daemon.stderr is not None
        said = next(one for one in map(json.loads, daemon.stderr) if one["event"] == "serving")
        assert (said["socket"], said["repositories"]) == (str(run / "journeyman/daemon.sock"), 1)
        assert (odd / "state/journeyman/token").exists()
    finally:
        daemon.terminate()
        daemon.communicate(timeout=60)
        shutil.rmtree(run)
    command, environment, _ = _read(kind, unit("--socket", "d.sock"))
    assert command[-8:-6] == ["--socket", str(tmp_path / "d.sock")]
    command, environment, seconds = _read(kind, unit(JOURNEYMAN_SOCKET="e.sock"))
    assert (environment["JOURNEYMAN_SOCKET"], seconds) == (str(tmp_path / "e.sock"), 60)
    assert ("EnvironmentFile" in text) if kind == "systemd" else ("launchctl setenv ANTHROPIC_API_KEY" in text)


def test_what_a_daemon_took_in_goes_on_without_one(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """With the daemon gone, `resume` begins a run that was queued in it and goes on with one that it had begun, `cancel` ends one;
    a new daemon does not touch what has ended meanwhile."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(tmp_path / "go", 0)})
        client.post(runs, json={"plan": rewriting(0, 1)})
        client.post(runs, json={"plan": rewriting(0, 2)})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
    daemon.kill()
    (tmp_path / "go").touch()
    assert _alone("cancel", "r3", cwd=repo.path).returncode == 0
    resumed = _alone("resume", "r2", "--json", cwd=repo.path)
    assert resumed.returncode == 0, resumed.stderr
    assert {name: one["state"] for name, one in json.loads(resumed.stdout)["tasks"].items()} == {
        "t0": "done",
        "t1": "done",
    }
    assert _alone("resume", "r1", cwd=repo.path).returncode == 0
    daemon.start()
    with daemon.client() as client:
        assert client.get("/v1/health").json()["runs"] == 0
        assert [one["state"] for one in client.get(runs).json()] == ["done", "done", "cancelled"]
        assert ended(client, client.post(runs, json={"plan": rewriting(3)}).headers["location"])["state"] == "done"


@pytest.mark.parametrize("beside", [True, False], ids=["by the daemon", "by another process"])
def test_what_was_mended_is_no_error_any_more(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path, *, beside: bool
) -> None:
    """A landing that was refused and is made later, and a run that could not be taken up and was gone on with, are as if nothing had
    been wrong: in the document, for `watch` and by the exit code, whoever did it. A second refusal leaves the first one's words."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    plan, go = tmp_path / "plan.json", tmp_path / "go"
    touching = {
        "id": "a",
        "specialist": "service",
        "writes": ["a"],
        "exec": ["sh", "-c", f"echo mine > {repo.path}/src/m0.py; touch a"],
    }
    plan.write_text(json.dumps({"task": [touching, rewriting(0)["task"][0] | {"after": ["a"]}]}))
    assert daemon.journeyman("submit", str(plan), "--land", "--wait", cwd=repo.path).returncode == 6
    plan.write_text(json.dumps(waiting(go, 1)))
    assert daemon.journeyman("submit", str(plan), cwd=repo.path).returncode == 0
    with daemon.client() as client:
        next(one for one in events(client, f"{runs}/r2/events") if one[0] == "started")
    daemon.kill()
    repo.write({"journeyman.toml": "broken = ["})
    daemon.start()
    with daemon.client() as client:
        assert "journeyman.toml" in client.get(f"{runs}/r2").json()["error"]
        assert client.post(f"{runs}/r1/land").status_code == 409
        told = client.get(f"{runs}/r1").json()
        assert (told["ok"], told["exit"], told["error"][:11]) == (False, 6, "not landed:")
    if not beside:
        daemon.kill()
    (repo.path / "journeyman.toml").unlink()
    repo.git("checkout", "src/m0.py")
    go.touch()
    mend = daemon.journeyman if beside else _alone
    assert mend("land", "r1", cwd=repo.path).returncode == 0
    if beside:
        daemon.until("run taken up")
    else:
        assert mend("resume", "r2", cwd=repo.path).returncode == 0
        daemon.start()
    with daemon.client() as client:
        for run in ("r1", "r2"):
            assert daemon.journeyman("watch", run, cwd=repo.path).returncode == 0
            told = client.get(f"{runs}/{run}").json()
            assert (told["ok"], told["exit"], told["error"]) == (True, 0, None)
        assert client.post(f"{runs}/r1/undo").status_code == 200
        assert client.get(f"{runs}/r1").json()["error"] is None
