"""The daemon, as a process: REST over its Unix socket, events, queueing, its end and its new beginning."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, events, rewriting, waiting
from nothing_lost import Checkout, git, nothing_lost

from runtime.journal import Writer
from runtime.submission import Receipt, encode, key_name


def test_a_run_from_submission_to_landing(daemon: DaemonProcess, repo: Repo) -> None:
    """Submitted, watched, looked at and landed over the socket; the checkout is untouched until `land`."""
    base = repo.commit(FILES)
    runs = daemon.register(repo)
    with daemon.client() as client:
        made = client.post(runs, json={"plan": rewriting(0, 1, 2, checks=["git --version"])})
        assert made.status_code == 201
        address = made.headers["location"]
        assert address == f"{runs}/r1"
        seen = list(events(client, f"{address}/events"))
        kinds = [kind for kind, _, _ in seen if kind != "queued"]
        assert kinds[0] == "opened"
        assert kinds[-2:] == ["closed", "end"]
        assert kinds.count("started") == 3
        told = client.get(address).json()
        assert (told["state"], told["ok"], told["commit"] != base) == ("done", True, True)
        assert {name: task["state"] for name, task in told["tasks"].items()} == {
            "t0": "done",
            "t1": "done",
            "t2": "done",
        }
        assert told["checks"][0]["ok"]
        assert "+log(1)" in client.get(f"{address}/diff").text
        assert "+log(1)" not in client.get(f"{address}/diff?task=t2").text
        assert "3 files changed" in client.get(f"{address}/diff?stat=true").text
        story = client.get(f"{address}/tasks/t1").json()["story"]
        assert [row["type"] for row in story][:2] == ["submitted", "started"]
        assert {row["id"] for row in client.get(f"{address}/graph").json()["tasks"]} == {"t0", "t1", "t2"}
        assert [one["run"] for one in client.get(runs).json()] == ["r1"]
        assert repo.git("rev-parse", "HEAD") == base
        kept = client.post(f"{address}/checkpoints", json={"name": "good"}).json()
        assert client.get(f"{address}/checkpoints").json() == {"good": kept["commit"]}
        landed = client.post(f"{address}/land").json()
        assert repo.git("rev-parse", "HEAD") == landed["commit"]
        assert client.post(f"{address}/land").json()["code"] == "repository-refused"
    assert (repo.path / "src/m1.py").read_text() == "log(1)\n"
    assert repo.git("status", "--porcelain") == ""


def test_curl_drives_it(daemon: DaemonProcess, repo: Repo) -> None:
    """A client that nobody here wrote: a TOML plan handed over with `curl --unix-socket`, with its settings in the query."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    plan = (
        '[[task]]\nid = "a"\nspecialist = "service"\nwrites = ["src/m0.py"]\nexec = ["sed", "-i", "s/0/7/", "{file}"]\n'
    )

    def curl(*words: str) -> str:
        return subprocess.run(
            ["curl", "-sS", "--unix-socket", str(daemon.socket), *words],
            input=plan,
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    assert json.loads(curl("http://localhost/v1/health"))["ok"]
    kind = "content-type: application/toml"
    told = json.loads(curl("-H", kind, "--data-binary", "@-", f"http://localhost{runs}?land=true"))
    assert told["run"] == "r1"
    assert "event: end" in curl("-N", f"http://localhost{runs}/r1/events")
    assert repo.show("HEAD", "src/m0.py") == b"print(7)\n"


def test_only_this_user_may_open_the_socket(daemon: DaemonProcess) -> None:
    """The socket, the token and the lock are for their owner alone, and there is one daemon a socket."""
    assert stat.S_IMODE(daemon.socket.stat().st_mode) == 0o600
    assert stat.S_IMODE((daemon.state / "token").stat().st_mode) == 0o600
    assert stat.S_IMODE(daemon.state.stat().st_mode) == 0o700
    second = daemon.journeyman("serve", cwd=daemon.folder)
    assert second.returncode == 6
    assert str(daemon.process.pid) in second.stderr
    with daemon.client() as client:
        assert client.get("/v1/health").json()["ok"]


def test_what_others_can_write_is_no_place_for_the_socket(tmp_path: Path) -> None:
    """A lock that is a link, or a file of something else, is refused and what it leads to left as it is; so is a folder that others can
    write into, unless it is as /tmp is."""
    folder = Path(tempfile.mkdtemp(prefix="jd"))
    environment = {**os.environ, "XDG_STATE_HOME": str(tmp_path / "state"), "JOURNEYMAN_SOCKET": str(folder / "d.sock")}
    lock, precious = folder / "d.lock", tmp_path / "precious"
    precious.write_text("precious")

    def refused() -> str:
        done = subprocess.run(
            [sys.executable, "-m", "runtime", "serve"],
            cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=60,
        )  # fmt: skip
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr

    try:
        for put in (lock.symlink_to, lock.hardlink_to, lambda text: lock.write_text(text.read_text())):
            put(precious)
            assert f"{lock} is to be the daemon's lock" in refused()
            assert precious.read_text() == "precious"
            assert lock.read_text() == "precious"
            lock.unlink()
        folder.chmod(0o777)
        assert f"others can write into {folder}" in refused()
        folder.chmod(0o1777)
        serving = subprocess.Popen(
            [sys.executable, "-m", "runtime", "serve"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
        )
        assert serving.stderr is not None
        assert "serving" in serving.stderr.readline()
        serving.kill()
        serving.communicate(timeout=60)
    finally:
        shutil.rmtree(folder)


def test_a_link_leads_to_the_daemon_that_is_there(tmp_path: Path) -> None:
    """`serve --link` prints a link that the daemon's TCP address answers; after a kill and a start without TCP it says that there is none,
    and so it does when nothing is at the address."""
    daemon = DaemonProcess(tmp_path, "--tcp", "0")
    try:
        told = daemon.journeyman("serve", "--link", "--json", cwd=daemon.folder)
        assert json.loads(told.stdout)["link"].startswith(f"http://127.0.0.1:{daemon.port}/open/")
        daemon.kill()
        daemon.words = ()
        daemon.start()
        told = daemon.journeyman("serve", "--link", cwd=daemon.folder)
        assert (told.returncode, told.stdout) == (2, "")
        assert "does not listen on TCP" in told.stderr
        with socket.create_server(("127.0.0.1", 0)) as taken:
            address = f"127.0.0.1:{taken.getsockname()[1]}"
        daemon.socket.with_suffix(".address").write_text(address)
        told = daemon.journeyman("serve", "--link", cwd=daemon.folder)
        assert (told.returncode, told.stdout, address in told.stderr) == (2, "", True)
    finally:
        daemon.close()


def test_a_key_makes_a_submission_once(daemon: DaemonProcess, repo: Repo) -> None:
    """The same key and plan give the same run, also after a restart; another plan under the key is refused."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    key = {"idempotency-key": "deploy-7"}
    with daemon.client() as client:
        assert client.post(runs, json={"plan": rewriting(0)}, headers=key).status_code == 201
        again = client.post(runs, json={"plan": rewriting(0)}, headers=key)
        assert (again.status_code, again.json()["run"]) == (200, "r1")
        other = client.post(runs, json={"plan": rewriting(1)}, headers=key)
        assert (other.status_code, other.json()["code"]) == (422, "key-reused")
        ended(client, f"{runs}/r1")
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        assert client.post(runs, json={"plan": rewriting(0)}, headers=key).json()["run"] == "r1"
        assert len(client.get(runs).json()) == 1


def test_a_key_outlives_what_the_repository_becomes(daemon: DaemonProcess, repo: Repo) -> None:
    """The same request under the same key gives the same run when its change has landed, files came and the configuration changed or
    is broken; also with its fields in another order. Another request is refused, and a key of an older daemon is still known."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    rewrite = {"pattern": "print($A)", "replace": "log($A)", "language": "python"}
    asked: list[tuple[str, dict[str, Any]]] = [
        (runs.removesuffix("/runs") + "/refactors", {"refactor": {"paths": ["src"], "rewrite": rewrite}}),
        (runs, {"plan": rewriting(0), "settings": {"land": False}}),
        (
            runs,
            {"plan": 'task = [{id = "a", specialist = "service", exec = ["true"], writes = ["x"]}]', "format": "toml"},
        ),
    ]
    with daemon.client() as client:
        for number, (address, body) in enumerate(asked):
            made = client.post(address, json=body, headers={"idempotency-key": f"k{number}"})
            assert made.status_code == 201, made.text
            ended(client, made.headers["location"])
        assert client.post(f"{runs}/r1/land").status_code == 200
        for config in ('exclude = ["src/m1.py"]\n', "broken = ["):
            repo.commit({"src/new.py": "print(7)\n", "journeyman.toml": config})
            for number, (address, body) in enumerate(asked):
                again = client.post(
                    address, json=dict(reversed(body.items())), headers={"idempotency-key": f"k{number}"}
                )
                assert (again.status_code, again.json()["run"]) == (200, f"r{number + 1}"), again.text
                other = client.post(
                    address, json=body | {"settings": {"sequential": True}}, headers={"idempotency-key": f"k{number}"}
                )
                assert (other.status_code, other.json()["code"]) == (422, "key-reused")
    assert daemon.stop() == 0
    writer = Writer(repo.path / ".git/journeyman/journal.db")
    writer.remember({key_name("old"): encode(Receipt("r2", "0" * 64))})
    writer.close()
    daemon.start()
    with daemon.client() as client:
        again = client.post(runs, json=asked[1][1], headers={"idempotency-key": "old"})
        assert (again.status_code, again.json()["run"]) == (200, "r2")
        assert len(client.get(runs).json()) == 3


BAD: list[tuple[str, Any, int, str]] = [
    ("nothing", {}, 422, "bad-input"),
    ("a field nobody knows", {"plan": rewriting(0), "colour": 1}, 422, "bad-input"),
    ("a task that waits for itself", {"plan": {"task": [{"id": "a", "specialist": "service", "after": ["a"]}]}}, 422, "bad-plan"),
    ("a specialist nobody knows", {"plan": {"task": [{"id": "a", "specialist": "cook"}]}}, 422, "bad-plan"),
    ("no way", {"plan": {"task": [{"id": "a", "specialist": "service", "writes": ["src/m0.py"]}]}}, 422, "bad-plan"),
    ("a base that is none", {"plan": rewriting(0, base="nowhere")}, 422, "bad-input"),
    ("not TOML", {"plan": "= =", "format": "toml"}, 422, "bad-plan"),
    ("a format nobody knows", {"plan": "x", "format": "xml"}, 422, "bad-input"),
    ("instances below one", {"plan": rewriting(0), "settings": {"instances": 0}}, 422, "bad-input"),
    ("a client with a line end", {"plan": rewriting(0), "client": "a\nb"}, 422, "bad-input"),
    ("a path that leads out", {"plan": {"task": [{"id": "a", "specialist": "service", "writes": ["../x"], "exec": ["true"]}]}}, 422, "bad-plan"),
]  # fmt: skip


def test_bad_submissions_start_nothing(daemon: DaemonProcess, repo: Repo) -> None:
    """Each is answered with a problem of its own code that names what is wrong; there is no run afterwards."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    with daemon.client() as client:
        for what, body, status, code in BAD:
            answer = client.post(runs, json=body)
            assert (answer.status_code, answer.json()["code"]) == (status, code), (what, answer.text)
            assert answer.headers["content-type"] == "application/problem+json"
            assert len(answer.json()["detail"]) > 10, what
        assert client.get(runs).json() == []
        for method, path, code in (
            ("GET", f"{runs}/r9", "no-such-run"),
            ("GET", "/v1/repositories/none/runs", "no-such-repository"),
            ("POST", f"{runs}/r9/cancel", "no-such-run"),
            ("GET", "/v2", "no-such-page"),
            ("DELETE", "/v1/health", "no-such-method"),
            ("GET", f"{runs}?limit=many", "bad-input"),
            ("GET", f"{runs}?state=nonsense", "bad-input"),
        ):
            answer = client.request(method, path)
            assert answer.json()["code"] == code, answer.text
            assert answer.status_code == answer.json()["status"]
        outside = client.post("/v1/repositories", json={"path": "relative"})
        assert outside.json()["code"] == "bad-input"
        too_long = client.post("/v1/repositories", json={"path": "/" + "x" * 5000})
        assert (too_long.status_code, too_long.json()["code"]) == (422, "bad-input")
        assert client.get(f"{runs}?state=done").json() == []
        assert client.post("/v1/repositories", json={"path": str(repo.path.parent)}).json()["code"] == "bad-input"


def test_events_from_any_number_each_once(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A watcher that broke off goes on behind the last id it saw and has every event once; a silent run has a heartbeat."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        address = client.post(runs, json={"plan": waiting(go, 0, 1)}).headers["location"]
        first, last = [], ""
        for kind, data, number in events(client, f"{address}/events?heartbeat_s=0.05"):
            if kind == "heartbeat" and last:
                break
            last = number or last
            first += [(kind, data)] if kind not in ("heartbeat", "queued") else []
        go.touch()
        rest = [(kind, data) for kind, data, _ in events(client, f"{address}/events", **{"last-event-id": last})]
        whole = [(kind, data) for kind, data, _ in events(client, f"{address}/events")]
        assert len(first) > 3
        assert first + rest == whole
        tail = [data["seq"] for kind, data, _ in events(client, f"{address}/events?from=4") if kind != "end"]
        assert tail
        assert tail[0] == 4
        assert client.get(f"{address}/events?from=0").json()["code"] == "bad-input"


def test_cancel_pause_resume_and_retry(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A paused run waits until it is resumed; one task of a run can be cancelled, and tried again; a run can be ended."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        plan = {"task": [*waiting(go, 0)["task"], {**rewriting(1)["task"][0], "after": ["w0"]}]}
        address = client.post(runs, json={"plan": plan}).headers["location"]
        next(one for one in events(client, f"{address}/events") if one[0] == "started")
        pausing = subprocess.Popen(
            ["curl", "-sS", "--unix-socket", str(daemon.socket), "-X", "POST", f"http://localhost{address}/pause"],
            stdout=subprocess.PIPE,
        )
        next(one for one in events(client, f"{address}/events") if one[0] == "drain-requested")
        go.touch()
        out, _ = pausing.communicate(timeout=30)
        assert json.loads(out) == {"run": "r1", "state": "paused"}
        told = client.get(address).json()
        assert (told["state"], told["tasks"]["t1"]["state"]) == ("paused", "ready")
        assert client.post(f"{address}/retry").json()["code"] == "wrong-state"
        assert client.post(f"{address}/resume", json={"budget_usd": -1}).json()["code"] == "bad-input"
        assert client.post(f"{address}/resume", json={"budget_usd": 2}).json()["state"] in ("queued", "running")
        assert ended(client, address)["state"] == "done"
        assert client.post(f"{address}/resume").json()["code"] == "wrong-state"

        never = tmp_path / "never"
        address = client.post(runs, json={"plan": waiting(never, 0, 1)}).headers["location"]
        next(one for one in events(client, f"{address}/events") if one[0] == "started")
        assert client.post(f"{address}/cancel", json={"task": "nothing"}).json()["code"] == "no-such-task"
        assert client.post(f"{address}/cancel", json={"task": "w0"}).json()["state"] == "running"
        assert client.post(f"{address}/cancel").json()["state"] == "cancelled"
        never.touch()
        edits = {"w0": {"exec": ["true"]}}
        assert client.post(f"{address}/retry", json={"edits": {"w0": {"id": "x"}}}).json()["code"] == "bad-input"
        assert client.post(f"{address}/retry", json={"edits": edits}).status_code == 200
        assert ended(client, address)["state"] == "done"


def test_a_cancelled_task_is_cancelled_after_a_kill(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A daemon that is killed in the moment in which it has acknowledged the cancelling of one task does not run it later."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        plan = {"task": [*waiting(go, 0)["task"], *({**rewriting(n)["task"][0], "after": ["w0"]} for n in (1, 2))]}
        address = client.post(runs, json={"plan": plan}).headers["location"]
        next(one for one in events(client, f"{address}/events") if one[0] == "started")
        assert client.post(f"{address}/cancel", json={"task": "t1"}).json()["state"] == "running"
        daemon.process.kill()
    daemon.kill()
    daemon.start()
    go.touch()
    with daemon.client() as client:
        told = ended(client, address)
        assert {name: one["state"] for name, one in told["tasks"].items()} == {
            "w0": "done",
            "t1": "cancelled",
            "t2": "done",
        }


def test_a_queued_retry_can_be_taken_back(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A retry that waits for another run is cancelled: the run is what it was, after a kill too, and can be tried again later."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    failing = {"id": "f", "specialist": "service", "writes": ["src/m0.py"], "exec": ["false"], "attempts": 1}
    edits = {"edits": {"f": {"exec": ["true"]}}}
    with daemon.client() as client:
        first = client.post(runs, json={"plan": {"task": [failing]}}).headers["location"]
        assert ended(client, first)["state"] == "failed"
        second = client.post(runs, json={"plan": waiting(go, 0)}).headers["location"]
        next(one for one in events(client, f"{second}/events") if one[0] == "started")
        assert client.post(f"{first}/retry", json=edits).json()["state"] == "queued"
        assert client.post(f"{first}/cancel").json()["state"] == "failed"
    daemon.kill()
    daemon.start()
    go.touch()
    with daemon.client() as client:
        assert ended(client, second)["state"] == "done"
        assert client.get(first).json()["state"] == "failed"
        assert client.post(f"{first}/retry", json=edits).status_code == 200
        assert ended(client, first)["state"] == "done"


def test_a_retry_that_a_crash_broke_off_goes_on(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """Killed while a task is tried again, the next daemon goes on with that try by itself, with its edits; what was done before it is
    not done once more."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    failing = {"id": "f", "specialist": "service", "writes": ["src/m1.py"], "exec": ["false"], "attempts": 1}
    with daemon.client() as client:
        plan = {"task": [rewriting(0)["task"][0], failing]}
        address = client.post(runs, json={"plan": plan}).headers["location"]
        assert ended(client, address)["state"] == "partial"
        seen = max(int(number) for _, _, number in events(client, f"{address}/events") if number)
        edits = {"f": {"exec": ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; echo y >> src/m1.py"]}}
        assert client.post(f"{address}/retry", json={"edits": edits, "task": "f"}).status_code == 200
        next(one for one in events(client, f"{address}/events?from={seen + 1}") if one[0] == "started")
    daemon.kill()
    daemon.start()
    go.touch()
    with daemon.client() as client:
        told = ended(client, address)
        assert told["state"] == "done"
        assert told["tasks"]["t0"]["attempts"] == 1
        assert repo.show("refs/journeyman/r1/line", "src/m1.py") == b"print(1)\ny\n"


def test_what_a_queued_run_cannot_do_yet_is_said(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """One that waits has its tasks still to come: that is a wrong state, not a task that does not exist; one that has just begun
    can have a task cancelled at once. Nothing is tried again where all is done, and a setting nobody knows is refused."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        first = client.post(runs, json={"plan": waiting(go, 0, 1)}).headers["location"]
        assert client.post(f"{first}/cancel", json={"task": "w1"}).status_code == 200
        queued = client.post(runs, json={"plan": waiting(go, 0)}).headers["location"]
        for answer in (
            client.post(f"{queued}/cancel", json={"task": "w0"}),
            client.get(f"{queued}/tasks/w0"),
            client.get(f"{queued}/checkpoints"),
            client.post(f"{queued}/checkpoints", json={"name": "x"}),
        ):
            assert (answer.status_code, answer.json()["code"]) == (409, "wrong-state"), answer.text
        go.touch()
        assert ended(client, first)["exit"] == 3
        assert ended(client, queued)["exit"] == 0
        red = client.post(runs, json={"plan": rewriting(2, checks=["false"])}).headers["location"]
        assert (ended(client, red)["exit"], ended(client, red)["state"]) == (4, "failed")
        refused = client.post(f"{red}/retry")
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong-state")
        assert client.get(red).json()["error"] is None
        toml = {"content-type": "application/toml"}
        bad = client.post(f"{runs}?lannd=true", content=b"[[task]]", headers=toml)
        assert (bad.status_code, "lannd" in bad.json()["detail"]) == (422, True)


def test_a_budget_is_changed_while_a_run_waits_or_goes_on(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A run that goes on and one that is queued take another budget at once, and have it after a crash of the daemon too; a run that has
    ended takes none."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        first = client.post(runs, json={"plan": waiting(go, 0, 1), "settings": {"budget_usd": 1}}).headers["location"]
        queued = client.post(runs, json={"plan": {"plan": {"budget_usd": 7}, **waiting(go, 0)}}).headers["location"]
        next(one for one in events(client, f"{first}/events") if one[0] == "started")
        assert client.get(queued).json()["budget"] == {"usd": 7.0, "tokens": None}
        assert client.get(first).json()["budget"] == {"usd": 1.0, "tokens": None}
        assert client.put(f"{first}/budget", json={"budget_usd": 3}).json() == {"usd": 3.0, "tokens": None}
        assert client.get(first).json()["budget"] == {"usd": 3.0, "tokens": None}
        assert client.put(f"{queued}/budget", json={"budget_tokens": 5000}).json() == {"usd": 7.0, "tokens": 5000}
        for wrong in ({"budget_usd": 0}, {"budget_tokens": 1.5}, {"usd": 1}):
            assert client.put(f"{first}/budget", json=wrong).json()["code"] == "bad-input"
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        assert client.get(first).json()["budget"] == {"usd": 3.0, "tokens": None}
        assert client.get(queued).json()["budget"] == {"usd": 7.0, "tokens": 5000}
        go.touch()
        assert ended(client, first)["state"] == ended(client, queued)["state"] == "done"
        assert client.get(first).json()["budget"] == {"usd": 3.0, "tokens": None}
        assert client.put(f"{first}/budget", json={"budget_usd": 9}).json()["code"] == "wrong-state"

        never = tmp_path / "never"
        third = client.post(
            runs, json={"plan": {"task": [*waiting(never, 0)["task"], {**rewriting(1)["task"][0], "after": ["w0"]}]}}
        ).headers["location"]
        next(one for one in events(client, f"{third}/events") if one[0] == "started")
        client.post(f"{third}/cancel", json={"task": "w0"})
        assert ended(client, third)["state"] == "failed"
        never.touch()
        assert client.post(f"{third}/retry").status_code == 200
        answer = client.put(f"{third}/budget", json={"budget_usd": 4})  # while its records are read again
        assert answer.json() == {"usd": 4.0, "tokens": None} or answer.json()["code"] == "wrong-state"
        assert ended(client, third)["ok"]
        if answer.status_code == 200:
            assert client.get(third).json()["budget"] == {"usd": 4.0, "tokens": None}


def test_disjoint_runs_go_together_and_others_wait_with_a_reason(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path
) -> None:
    """Two runs on other files go on at once; a third that needs a file of the first says so, and starts when it has ended."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(go, 0, 1)})
        second = client.post(runs, json={"plan": rewriting(2)}).headers["location"]
        third = client.post(runs, json={"plan": rewriting(1, 3)}).json()
        assert third["state"] == "queued"
        assert third["waits"] == {"runs": ["r1"], "path": "src/m1.py", "reason": "waits for r1: it needs src/m1.py too"}
        assert ended(client, second)["state"] == "done"
        queue = client.get(runs.removesuffix("/runs")).json()["queue"]
        assert [(one["run"], one["active"]) for one in queue] == [("r1", True), ("r3", False)]
        assert next(iter(events(client, f"{runs}/r3/events")))[1]["waits"]["runs"] == ["r1"]
        go.touch()
        assert ended(client, f"{runs}/r3")["state"] == "done"
        assert client.get(f"{runs}/r1").json()["state"] == "done"


def test_sigterm_drains_and_the_next_start_goes_on(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """SIGTERM lets the running task end, starts nothing more and exits 0; the next daemon finishes the run by itself, and the
    one that was still queued."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        plan = {"task": [*waiting(go, 0)["task"], {**rewriting(1)["task"][0], "after": ["w0"]}]}
        client.post(runs, json={"plan": plan})
        client.post(runs, json={"plan": rewriting(0, 2)})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
        daemon.process.send_signal(signal.SIGTERM)
        daemon.until("draining")
        assert client.post(runs, json={"plan": rewriting(5)}).json()["code"] == "draining"
        assert client.get("/v1/health").json()["state"] == "draining"
        go.touch()
    assert daemon.reap() == 0
    assert not daemon.socket.exists()
    listed = json.loads(daemon.journeyman("runs", "--json", cwd=repo.path).stdout)
    assert [one["state"] for one in listed] == ["interrupted", "interrupted"]
    daemon.start()
    with daemon.client() as client:
        first, second = ended(client, f"{runs}/r1"), ended(client, f"{runs}/r2")
        assert (first["state"], second["state"]) == ("done", "done")
        assert first["tasks"]["w0"]["attempts"] == 1
        assert first["tasks"]["t1"]["attempts"] == 1


def test_a_repository_that_is_not_there_is_kept_in_mind(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A daemon that starts while a repository's disk is away says so, in its log and in its list, and serves the others; registering
    another meanwhile does not drop it; as soon as it is there again, what was open in it goes on by itself."""
    repo.commit(FILES)
    other = Repo(tmp_path / "other")
    other.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(go, 0)})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
    daemon.kill()
    away = repo.path.rename(tmp_path / "away")
    daemon.start()
    left_out = next(one for one in daemon.log if one["event"] == "repository left out")
    assert left_out["path"] == str(repo.path)
    assert left_out["list"] == str(daemon.listed)
    daemon.register(other)
    daemon.kill()
    daemon.start()
    with daemon.client() as client:
        there, gone = client.get("/v1/repositories").json()
        assert (there["path"], there["away"]) == (str(other.path), None)
        assert (gone["path"], f"/v1/repositories/{gone['id']}/runs") == (str(repo.path), runs)
        assert "no such folder" in gone["away"]
        told = client.get(runs)
        assert (told.json()["code"], gone["away"] in told.json()["detail"]) == ("no-such-repository", True)
        away.rename(repo.path)
        daemon.until("repository found")
        assert {one["path"] for one in client.get("/v1/repositories").json()} == {str(other.path), str(repo.path)}
        go.touch()
        assert ended(client, f"{runs}/r1")["state"] == "done"


def test_what_cannot_be_taken_up_is_kept(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A daemon that starts while the configuration is broken loses nothing: what had begun and what was queued are interrupted and say
    why, `resume` says it too, and as soon as it is mended the one goes on, by itself, and the other is begun when it is told to."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        for number in range(3):
            client.post(runs, json={"plan": waiting(go, number, 5)})
        next(one for one in events(client, f"{runs}/r1/events") if one[0] == "started")
    daemon.kill()
    repo.write({"journeyman.toml": "broken = ["})
    daemon.start()
    with daemon.client() as client:
        for run in ("r1", "r2", "r3"):
            told = client.get(f"{runs}/{run}").json()
            assert (told["state"], "journeyman.toml" in told["error"], told["ok"]) == ("interrupted", True, False)
            refused = client.post(f"{runs}/{run}/resume")
            assert (refused.status_code, refused.json()["code"]) == (422, "bad-input")
        assert client.post(f"{runs}/r3/cancel").json()["state"] == "cancelled"
    daemon.kill()  # and once more: it is still broken
    daemon.start()
    with daemon.client() as client:
        assert client.get(f"{runs}/r1").json()["state"] == "interrupted"
        (repo.path / "journeyman.toml").unlink()
        assert client.post(f"{runs}/r2/resume").status_code == 200
        assert daemon.until("run taken up")["run"] == "r1"
        go.touch()
        for run in ("r1", "r2"):
            told = ended(client, f"{runs}/{run}")
            assert (told["state"], told["error"], told["counts"]) == ("done", None, {"done": 2})
        assert client.get(f"{runs}/r3").json()["state"] == "cancelled"


def test_what_cannot_begin_at_its_turn_is_kept(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """A configuration that is broken when a queued run's turn comes ends neither that run nor a retry: they say why, and are begun
    when it is mended, the retry with its edits."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    failing = {"id": "f", "specialist": "service", "writes": ["src/m0.py"], "exec": ["false"], "attempts": 1}
    with daemon.client() as client:
        assert (
            ended(client, client.post(runs, json={"plan": {"task": [failing]}}).headers["location"])["state"]
            == "failed"
        )
        client.post(runs, json={"plan": waiting(go, 0, 1)})
        client.post(runs, json={"plan": rewriting(1)})
        assert client.post(f"{runs}/r1/retry", json={"edits": {"f": {"exec": ["true"]}}}).json()["state"] == "queued"
        next(one for one in events(client, f"{runs}/r2/events") if one[0] == "started")
        repo.write({"journeyman.toml": "broken = ["})
        go.touch()
        assert ended(client, f"{runs}/r2")["state"] == "done"
        for run in ("r1", "r3"):
            told = ended(client, f"{runs}/{run}")
            assert (told["state"], "journeyman.toml" in told["error"]) == ("interrupted", True)
        (repo.path / "journeyman.toml").unlink()
        assert client.post(f"{runs}/r1/resume").status_code == 200
        assert daemon.until("run taken up")["run"] == "r3"
        for run in ("r1", "r3"):
            told = ended(client, f"{runs}/{run}")
            assert (told["state"], told["error"]) == ("done", None)


def test_a_repository_that_is_not_there_can_be_taken_off(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """One whose disk does not come back is unregistered like any other, and the next daemon does not look for it."""
    at = daemon.register(repo).removesuffix("/runs")
    daemon.kill()
    repo.path.rename(tmp_path / "away")
    daemon.start()
    with daemon.client() as client:
        told = client.delete(at)
        assert (told.status_code, told.json()["path"]) == (200, str(repo.path))
        assert client.delete(at).json()["code"] == "no-such-repository"
        assert client.get("/v1/repositories").json() == []
    daemon.kill()
    daemon.log.clear()
    daemon.start()
    assert "repository left out" not in [one["event"] for one in daemon.log]


def test_two_daemons_of_one_user_do_not_lose_each_others_repositories(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path
) -> None:
    """Each serves after a restart what was registered with it, whoever registered or unregistered last, and nothing of the other's."""
    second, third = Repo(tmp_path / "second"), Repo(tmp_path / "third")
    other = DaemonProcess(tmp_path)
    try:
        daemon.register(repo)
        other.register(second)
        daemon.register(third)
        with other.client() as client:
            assert client.delete(other.register(third).removesuffix("/runs")).status_code == 200
        for one, paths in ((daemon, [repo.path, third.path]), (other, [second.path])):
            one.kill()
            one.start()
            with one.client() as client:
                assert [row["path"] for row in client.get("/v1/repositories").json()] == [str(path) for path in paths]
    finally:
        other.close()


def test_a_repository_is_unregistered(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """Not while a run of it goes on; afterwards it is not served, by the next daemon neither. Registered again, it has its runs."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    at = runs.removesuffix("/runs")
    go = tmp_path / "go"
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(go, 0)})
        refused = client.delete(at)
        assert (refused.status_code, refused.json()["code"]) == (409, "wrong-state")
        assert "r1" in refused.json()["detail"]
        go.touch()
        assert ended(client, f"{runs}/r1")["state"] == "done"
        told = client.delete(at)
        assert (told.status_code, told.json()["path"]) == (200, str(repo.path))
        assert client.delete(at).json()["code"] == "no-such-repository"
        assert client.post(runs, json={"plan": rewriting(1)}).json()["code"] == "no-such-repository"
    assert daemon.stop() == 0
    daemon.start()
    with daemon.client() as client:
        assert client.get("/v1/repositories").json() == []
        assert daemon.register(repo) == runs
        assert [one["run"] for one in client.get(runs).json()] == ["r1"]


def _both_ways(name: str, numbers: range) -> dict[str, Any]:
    """A plan of rewrites in memory and programs in worktrees, some after others."""
    tasks: list[dict[str, Any]] = []
    for number in numbers:
        way: dict[str, Any] = {"rewrite": rewriting(number)["task"][0]["rewrite"]}
        if number % 3 == 0:
            way = {"exec": ["sh", "-c", f"sleep 0.1; echo 'y = {number}' >> src/m{number}.py"]}
        after = [f"{name}{number - 2}"] if number - 2 in numbers else []
        tasks.append(
            {"id": f"{name}{number}", "specialist": "service", "writes": [f"src/m{number}.py"], "after": after, **way}
        )
    return {"plan": {"name": name}, "task": tasks}


def test_nothing_acknowledged_is_lost_by_a_kill(tmp_path: Path, repo: Repo) -> None:
    """Killed five times with two runs going on at once and a third that waits behind them: judged from outside, with the client's own log of
    what was acknowledged, each ends as an undisturbed one does, with one commit a task and nothing left behind."""
    repo.commit({f"src/m{number}.py": f"print({number})\n" for number in range(24)})
    plans = [_both_ways("a", range(12)), _both_ways("b", range(12, 24)), _both_ways("c", range(6, 18))]
    trees = []
    for number, plan in enumerate(plans):
        calm = tmp_path / f"calm{number}"
        shutil.copytree(repo.path, calm)
        (tmp_path / "plan.json").write_text(json.dumps(plan))
        done = subprocess.run(
            [sys.executable, "-m", "runtime", "run", str(tmp_path / "plan.json"), "--json"], cwd=calm, capture_output=True, check=True
        )  # fmt: skip
        trees.append(git(calm, "rev-parse", f"{json.loads(done.stdout)['commit']}^{{tree}}"))
    before = Checkout.of(repo.path)
    daemon = DaemonProcess(tmp_path)
    try:
        runs = daemon.register(repo)
        acknowledged: list[str] = []
        with daemon.client() as client:
            for number, plan in enumerate(plans):
                made = client.post(runs, json={"plan": plan}, headers={"idempotency-key": f"k{number}"})
                assert made.status_code == 201
                acknowledged.append(made.json()["run"])
        for more in (0, 1, 2, 1, 2):
            with daemon.client() as client:
                # Both get on: a task that was at work at three deaths in a row with nothing else done would be held for their cause.
                for run in acknowledged[:2]:
                    seen, least = 0, client.get(f"{runs}/{run}").json()["counts"].get("done", 0) + more
                    for kind, _, _ in events(client, f"{runs}/{run}/events"):
                        seen += kind == "settled"
                        if seen >= least or kind == "end":
                            break
            daemon.kill()
            daemon.start()
        with daemon.client() as client:
            for number, plan in enumerate(plans):  # a client that never saw its answer asks once more
                again = client.post(runs, json={"plan": plan}, headers={"idempotency-key": f"k{number}"})
                assert (again.status_code, again.json()["run"]) == (200, acknowledged[number])
            for run in acknowledged:
                assert ended(client, f"{runs}/{run}")["state"] == "done"
            assert len(client.get(runs).json()) == 3
        assert daemon.stop() == 0
        for run, plan, tree in zip(acknowledged, plans, trees, strict=True):
            tasks = [task["id"] for task in plan["task"]]
            nothing_lost(
                repo.path, run, before=before, tree=tree, acknowledged=tasks, cache=Path(os.environ["XDG_CACHE_HOME"])
            )
    finally:
        daemon.close()


def test_the_daemon_and_the_command_line_do_not_step_on_each_other(
    daemon: DaemonProcess, repo: Repo, tmp_path: Path
) -> None:
    """While a run of the daemon's goes on, `journeyman run` is refused with its process; beside an idle daemon it runs."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    plan = tmp_path / "plan.json"
    plan.write_text(json.dumps(rewriting(3)))
    with daemon.client() as client:
        client.post(runs, json={"plan": waiting(tmp_path / "go", 0)})
        held = daemon.journeyman("run", str(plan), "--json", cwd=repo.path)
        assert held.returncode == 6
        assert str(daemon.process.pid) in held.stderr
        (tmp_path / "go").touch()
        ended(client, f"{runs}/r1")
    assert daemon.journeyman("run", str(plan), "--json", cwd=repo.path).returncode == 0


def test_bodies_and_types_are_bounded(daemon: DaemonProcess, repo: Repo) -> None:
    """Another content type, an encoded or a huge body, and a request that is cut short are refused; the daemon goes on."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    with daemon.client() as client:
        assert client.post(runs, content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
        assert client.post(runs, content=b"{}").status_code == 415
        assert (
            client.post(
                runs, content=b"{}", headers={"content-type": "application/json", "content-encoding": "gzip"}
            ).status_code
            == 415
        )
        assert (
            client.post(runs, content=b" " * 9_000_000, headers={"content-type": "application/json"}).status_code == 413
        )
        with socket.socket(socket.AF_UNIX) as raw:
            raw.connect(str(daemon.socket))
            raw.sendall(
                f"POST {runs} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 90\r\n\r\n{{".encode()
            )
        assert client.get("/v1/health").json()["ok"]
        assert client.get(runs).json() == []


def test_figures_and_limits(daemon: DaemonProcess, repo: Repo, tmp_path: Path) -> None:
    """The figures for Prometheus count what goes on; a lower limit holds attempts back while it lasts, over all runs, and none fails of it."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    go = tmp_path / "go"
    with daemon.client() as client:
        told = client.put("/v1/limits", json={"instances": 2}).json()
        assert (told["instances"], told["runs"], told["account"]["answered"]) == (2, 8, 0)
        assert client.put("/v1/limits", json={"instances": 0}).json()["code"] == "bad-input"
        for number in range(3):
            client.post(runs, json={"plan": waiting(go, 2 * number, 2 * number + 1)})

        def figures() -> dict[str, float]:
            answer = client.get("/v1/metrics")
            assert answer.headers["content-type"].startswith("text/plain")
            rows = (line.rsplit(" ", 1) for line in answer.text.splitlines() if not line.startswith("#"))
            return {name: float(value) for name, value in rows}

        while (told := figures())["journeyman_attempts_waiting"] < 4:
            assert told["journeyman_attempts"] <= 2
        assert told["journeyman_attempts"] == 2
        assert told["journeyman_model_calls_answered_total"] == told["journeyman_model_calls"] == 0
        assert any(
            name.startswith("journeyman_runs{") and 'state="running"' in name and value == 3
            for name, value in told.items()
        )
        assert client.put("/v1/limits", json={"instances": 6}).json()["instances"] == 6
        while figures()["journeyman_attempts"] < 6:
            pass
        go.touch()
        for number in range(3):
            assert ended(client, f"{runs}/r{number + 1}")["state"] == "done"


def test_the_description_says_what_is_served(daemon: DaemonProcess) -> None:
    """Every endpoint is in the OpenAPI document with its problems, and each reference in it leads somewhere."""
    with daemon.client() as client:
        told = client.get("/v1/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    assert "/v1/repositories/{repository}/runs/{run}/events" in told["paths"]

    def references(value: Any) -> Iterator[str]:
        if isinstance(value, dict):
            yield from ([value["$ref"]] if "$ref" in value else [])
            for one in value.values():
                yield from references(one)
        elif isinstance(value, list):
            for one in value:
                yield from references(one)

    for reference in references(told):
        at: Any = told
        for part in reference.removeprefix("#/").split("/"):
            at = at[part]
    for methods in told["paths"].values():
        for operation in methods.values():
            assert "401" in operation["responses"]
