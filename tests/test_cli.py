"""The command line, as a process in a real repository: documents, exit codes, messages."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import Repo

SOURCES = {f"src/m{number}.py": f"print({number})\n" for number in range(5)} | {
    "src/none.py": "x = 1\n",
    "README": "r\n",
}
REWRITE = ("--rewrite", "print($A)", "log.info($A)", "--language", "python")


class Ended:
    """A finished process."""

    def __init__(self, done: subprocess.CompletedProcess[str]) -> None:
        self.code, self.out, self.err = done.returncode, done.stdout, done.stderr

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def journeyman(*words: str, cwd: Path) -> Ended:
    """Run the command; no traceback may ever be seen."""
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *words], cwd=cwd, capture_output=True, text=True, check=False, timeout=120
    )
    assert "Traceback" not in done.stderr, done.stderr
    return Ended(done)


def test_a_refactor_from_the_first_word_to_the_landed_commit(repo: Repo, tmp_path: Path) -> None:
    """A rewrite over a glob: every file in one state, totals that add up, nothing touched until `land`, then one commit."""
    repo.commit(SOURCES)
    report = tmp_path / "report.jsonl"
    events = tmp_path / "events.jsonl"
    done = journeyman(
        "refactor", *REWRITE, "src/**", "--check", "git --version", "--check", f"{sys.executable} -c pass",
        "--report", str(report), "--events", str(events), "--json", cwd=repo.path,
    )  # fmt: skip
    assert done.code == 0, done.err
    told = done.json
    assert told["ok"]
    assert told["files"] == {"files": 6, "changed": 5, "unchanged": 1, "skipped": 0, "failed": 0}
    rows = [json.loads(line) for line in report.read_text().splitlines()]
    assert [row["path"] for row in rows] == sorted(path for path in SOURCES if path.startswith("src/"))
    assert len(told["tasks"]) == 5
    assert {check["command"]: check["ok"] for check in told["checks"]} == {
        "git --version": True,
        f"{sys.executable} -c pass": True,
    }
    assert told["slowest_check"] in {check["command"] for check in told["checks"]}
    kinds = [json.loads(line)["type"] for line in events.read_text().splitlines()]
    assert kinds.count("started") == 5
    assert kinds[0] == "opened"
    assert kinds[-1] == "closed"
    assert repo.git("status", "--porcelain") == ""
    assert repo.show("HEAD", "src/m1.py") == b"print(1)\n"
    run = told["run"]
    assert "log.info(1)" in journeyman("diff", run, cwd=repo.path).out
    assert journeyman("runs", "--json", cwd=repo.path).json[0]["state"] == "done"
    shown = journeyman("show", run, cwd=repo.path)
    assert "█" in shown.out
    landed = journeyman("land", run, "--json", cwd=repo.path)
    assert landed.code == 0, landed.err
    assert repo.git("rev-parse", "HEAD") == landed.json["commit"]
    assert (repo.path / "src/m1.py").read_text() == "log.info(1)\n"
    assert journeyman("land", run, cwd=repo.path).code == 6
    assert journeyman("gc", cwd=repo.path).code == 0
    assert repo.git("for-each-ref", "refs/journeyman") == ""


def test_a_dry_run_shows_the_diff_and_lands_nothing(repo: Repo) -> None:
    """`--dry-run` prints what would change, even with `--land`."""
    base = repo.commit(SOURCES)
    done = journeyman("refactor", *REWRITE, "src/m1.py", "--dry-run", "--land", cwd=repo.path)
    assert done.code == 0
    assert "+log.info(1)" in done.out
    assert repo.git("rev-parse", "HEAD") == base


def test_exec_takes_an_argv_that_ends_with_a_semicolon(repo: Repo) -> None:
    """`--exec ARGV... ;` runs a program on each file, and --land lands it; --split-by cuts the result."""
    repo.commit({"a/x.txt": "b\na\n", "b/y.txt": "d\nc\n", "z.txt": "z\n"})
    done = journeyman(
        "refactor", "--exec", sys.executable, "-c", "import sys; p = sys.argv[1]; s = sorted(open(p)); open(p, 'w').writelines(s)",
        "{file}", ";", "**/*.txt", "--land", "--split-by", "dir", "--json", cwd=repo.path,
    )  # fmt: skip
    assert done.code == 0, done.err
    assert len(done.json["landed"]) == 2
    assert (repo.path / "a/x.txt").read_text() == "a\nb\n"
    assert done.json["files"]["unchanged"] == 1


def test_a_red_check_lands_nothing_and_is_bisected(repo: Repo) -> None:
    """Exit 4 with a red check; --bisect names the task, --drop takes it off the line and the rest is green."""
    base = repo.commit({**SOURCES, "check.py": "import sys; sys.exit('log.info(3)' in open('src/m3.py').read())\n"})
    words = ("refactor", *REWRITE, "src/**", "--check", f"{sys.executable} check.py", "--land", "--json")
    done = journeyman(*words, cwd=repo.path)
    assert done.code == 4
    assert repo.git("rev-parse", "HEAD") == base
    assert journeyman("land", done.json["run"], cwd=repo.path).code == 4
    done = journeyman(*words, "--bisect", cwd=repo.path)
    assert done.code == 4
    assert done.json["culprit"] == "src/m3.py"
    done = journeyman(*words, "--bisect", "--drop", cwd=repo.path)
    assert done.json["dropped"] == ["src/m3.py"]
    assert done.code == 3
    assert repo.show(done.json["commit"], "src/m3.py") == b"print(3)\n"
    assert repo.show(done.json["commit"], "src/m2.py") == b"log.info(2)\n"


def test_every_culprit_is_dropped_under_formatting(repo: Repo) -> None:
    """Two tasks turn a check red that passes only on formatted files: each is found and dropped, the rest formatted and green."""
    check = (
        "import pathlib, sys\nfor path in pathlib.Path('src').glob('*.py'):\n    text = path.read_text()\n"
        "    if 'log.info(1)' in text or 'log.info(3)' in text or ('log' in text and 'formatted' not in text): sys.exit(1)\n"
    )
    form = "import sys\nfor name in sys.argv[1:]:\n    if 'formatted' not in open(name).read(): open(name, 'a').write('# formatted\\n')\n"
    base = repo.commit({**SOURCES, "check.py": check, "form.py": form})
    done = journeyman(
        "refactor", *REWRITE, "src/**", "--check", f"{sys.executable} check.py", "--format", f"{sys.executable} form.py",
        "--bisect", "--drop", "--json", cwd=repo.path,
    )  # fmt: skip
    assert done.code == 3, done.out
    assert sorted(done.json["dropped"]) == ["src/m1.py", "src/m3.py"]
    assert all(check["ok"] for check in done.json["checks"])
    assert repo.show(done.json["commit"], "src/m1.py") == b"print(1)\n"
    assert repo.show(done.json["commit"], "src/m2.py") == b"log.info(2)\n# formatted\n"
    repo.commit({"src/m1.py": "log.info(1)\n"})
    done = journeyman(
        "refactor", *REWRITE, "src/**", "--check", f"{sys.executable} check.py", "--bisect", "--json", cwd=repo.path
    )
    assert done.code == 4
    assert "red on the base" in done.json["undecided"]
    assert base != repo.git("rev-parse", "HEAD")


def test_what_failed_is_tried_again(repo: Repo) -> None:
    """A failed file costs exit 3 and nothing else; `retry` runs what failed, with its input changed, and then all is done."""
    repo.commit(SOURCES)
    done = journeyman(
        "refactor", "--exec", "false", "{file}", ";", "src/m1.py", "--json", cwd=repo.path
    )  # fmt: skip
    assert done.code == 3
    run = done.json["run"]
    again = journeyman("retry", run, "--edit", 'src/m1.py.exec=["true", "{file}"]', "--json", cwd=repo.path)
    assert again.code == 0, again.out
    assert again.json["tasks"]["src/m1.py"]["state"] == "done"
    assert journeyman("retry", run, cwd=repo.path).code == 2


BAD_EDITS = {
    "src/m1.py.attempts=-1": "attempts: -1 is not a whole number of 1 or more",
    'src/m1.py.timeout_s="x"': "timeout_s: it must be a number, not text",
    'src/m1.py.rewrite={"pattern": "a"}': "rewrite.replace: it is missing",
    'src/m1.py.exec=["no-such-tool"]': "there is no program 'no-such-tool'",
    "src/m9.py.attempts=1": "no task 'src/m9.py'",
    "src/m1.py.writes=1": "FIELD one of",
    "attempts": "TASK.FIELD=VALUE",
}


def test_a_bad_edit_is_refused_and_nothing_is_recorded(repo: Repo) -> None:
    """`retry --edit` is checked as a plan file is; the run can be looked at and tried again as before."""
    repo.commit(SOURCES)
    journeyman("refactor", "--exec", "false", "{file}", ";", "src/m1.py", cwd=repo.path)
    before = journeyman("show", "r1", "--json", cwd=repo.path).json
    for edit, message in BAD_EDITS.items():
        done = journeyman("retry", "r1", "--edit", edit, cwd=repo.path)
        assert done.code == 2
        assert message in done.err
    assert journeyman("show", "r1", "--json", cwd=repo.path).json == before


PLAN = """
[plan]
name = "both"
[[task]]
id = "one"
specialist = "service"
writes = ["src/m1.py"]
rewrite = { pattern = "print($A)", replace = "log($A)", language = "python" }
[[task]]
id = "two"
specialist = "test"
writes = ["src/"]
exec = ["true"]
[[task]]
id = "look"
specialist = "test"
reads = ["README"]
after = ["two"]
exec = ["true"]
"""


def test_a_plan_is_foretold_and_run(repo: Repo, tmp_path: Path) -> None:
    """`plan` shows levels, the conflict with its reason, and the verdict; `run` runs it."""
    repo.commit(SOURCES)
    (tmp_path / "plan.toml").write_text(PLAN)
    foretold = journeyman("plan", str(tmp_path / "plan.toml"), "--json", cwd=repo.path).json
    assert foretold["levels"] == [["one"], ["two"], ["look"]]
    assert foretold["conflicts"][0]["reason"] == "`two` waits for `one`: both write src/m1.py"
    assert foretold["pays"] is False
    words = journeyman("plan", str(tmp_path / "plan.toml"), cwd=repo.path).out
    assert "parallel will not pay" in words
    assert "look  [test]  reads README  after two\n" in words
    done = journeyman("run", str(tmp_path / "plan.toml"), "--json", cwd=repo.path)
    assert done.code == 0, done.out
    assert set(done.json["tasks"]) == {"one", "two", "look"}


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["refactor", "src/**"], 2, "say how"),
        (["refactor", "--rewrite", "a", "b", "src/**"], 2, "--rewrite needs --language"),
        (["refactor", "--rewrite", "a", "b", "--language", "klingon", "src/**"], 2, "no language 'klingon'"),
        (["refactor", "--codemod", "no.Such", "src/**"], 2, "no codemod 'no.Such'"),
        (["refactor", *REWRITE, "nothing/**"], 2, "matches no tracked file"),
        (["refactor", *REWRITE, "../x"], 2, "leads out of the repository"),
        (["refactor", *REWRITE, ".git/config"], 2, "git's own folder"),
        (["refactor", *REWRITE], 2, "there are no PATHS"),
        (["refactor", *REWRITE, "src/**", "--base", "--all"], 2, "base"),
        (["refactor", *REWRITE, "src/**", "--base", "nope"], 2, "no commit"),
        (["refactor", *REWRITE, "src/**", "--passes", "11"], 2, "--passes"),
        (["refactor", *REWRITE, "src/**", "--ok-exit", "x"], 2, "--ok-exit"),
        (["refactor", *REWRITE, "src/**", "--specialist", "nobody"], 2, "no specialist 'nobody'"),
        (["refactor", *REWRITE, "src/**", "--instances", "0"], 2, "0"),
        (["refactor", *REWRITE, "src/**", "--split-by", "dir"], 2, "--split-by is about landing"),
        (["refactor", *REWRITE, "src/**", "--land", "--split-by", "dir", "--keep-commits"], 2, "give one"),
        (["refactor", "--rewrite", " ", "b", "--language", "python", "src/**"], 2, "--rewrite: the pattern is empty"),
        (
            ["refactor", "--rewrite", "f($A)", "g($B)", "--language", "python", "src/m1.py"],
            2,
            "$B is not in the pattern",
        ),
        (["refactor", "--exec", "true", "src/**"], 2, "lone ';'"),
        (["refactor", "--exec", ";", "src/**"], 2, "no program"),
        (["refactor", "--goal", "do it", "src/m1.py"], 2, "no way"),
        (["refactor", *REWRITE, "--codemod", "x.Y", "src/**"], 2, "give one way"),
        (["run", "missing.toml"], 2, "no such file"),
        (["plan", "src"], 2, "folder"),
        (["show", "r9"], 2, "no run 'r9'"),
        (["land", "r9"], 2, "no run"),
        (["resume", "r9"], 2, "no run"),
        (["nonsense"], 2, "nonsense"),
        (["runs", "--repo", "/nonexistent"], 2, "no such folder"),
    ],
)
def test_bad_input_has_one_clear_message(repo: Repo, words: list[str], code: int, message: str) -> None:
    """Every wrong input ends with its code and a line that says what is wrong; nothing is started; --json says it too."""
    repo.commit(SOURCES)
    # Then --json is a word of something else
    unread = words[0] == "nonsense" or words[-2:-1] == ["--base"] or "lone" in message
    done = journeyman(*words, *([] if unread else ["--json"]), cwd=repo.path)
    assert done.code == code, done.err
    assert message in done.err
    if not unread:
        assert done.json["exit"] == code
    assert repo.git("for-each-ref", "refs/journeyman") == ""


def test_all_that_is_wrong_with_a_plan_is_told_at_once(repo: Repo, tmp_path: Path) -> None:
    """Mistakes of the file, of the graph, and what this machine or repository lacks: each with its line, nothing started."""
    repo.commit(SOURCES)
    plan = tmp_path / "bad.toml"
    plan.write_text(
        '[plan]\nbase = "nope"\nchecks = ["cd web && npm test", "no-such-program -q", "git \'x"]\nsetup = "no-such-setup"\n'
        '[[task]]\nid = "a"\nspecialist = "service"\nexec = ["no-such-tool", "{file}"]\n'
        '[[task]]\nid = "b"\nspecialist = "service"\ngoal = "x"\n'
        '[[task]]\nid = "c"\nspecialist = "servic"\nestimate_s = nan\nafter = ["c"]\nexec = ["true"]\n'
    )
    done = journeyman("run", str(plan), "--json", cwd=repo.path)
    assert done.code == 2
    told = [line.removeprefix(str(plan)) for line in done.json["error"]["problems"]]
    for part in (
        ":2: plan: base: 'nope' is no commit",
        ":3: plan: checks: 'cd web && npm test' runs without a shell",
        ":3: plan: checks: there is no program 'no-such-program'",
        ':3: plan: checks: command "git \'x": No closing quotation',
        ":4: plan: setup: there is no program 'no-such-setup'",
        ":8: task 'a': exec: there is no program 'no-such-tool'",
        ":9: task 'b': it names no way",
        ":15: task 'c': specialist: there is no specialist 'servic'; did you mean 'service'?",
        ":16: task 'c': estimate_s: nan is not finite",
        ":17: task 'c': after: it comes after itself",
    ):
        assert any(line.startswith(part) for line in told), (part, told)
    assert len(told) == 10
    assert repo.git("for-each-ref", "refs/journeyman") == ""


def test_changed_targets_are_refused_unless_told(repo: Repo) -> None:
    """A target with uncommitted changes is refused (6) by name; with --ignore-dirty the committed version is used, and said."""
    repo.commit(SOURCES)
    repo.write({"src/m1.py": "print('mine')\n"})
    done = journeyman("refactor", *REWRITE, "src/**", cwd=repo.path)
    assert done.code == 6
    assert "src/m1.py" in done.err
    done = journeyman("refactor", *REWRITE, "src/**", "--ignore-dirty", cwd=repo.path)
    assert done.code == 0
    assert "committed versions" in done.err
    assert (repo.path / "src/m1.py").read_text() == "print('mine')\n"


def test_a_plan_without_words_is_landed_by_its_tasks_name(repo: Repo) -> None:
    """With neither a name nor a goal the landed commit says what it was, a single task by its name."""
    repo.commit(SOURCES)
    task = '[[task]]\nid = "shape"\nspecialist = "service"\nwrites = ["new.txt"]\nexec = ["touch", "new.txt"]\n'
    (repo.path.parent / "plan.toml").write_text(task)
    assert journeyman("run", "../plan.toml", "--land", cwd=repo.path).code == 0
    assert repo.git("log", "-1", "--format=%s") == "Change made by Journeyman: shape"


def test_together_lands_all_or_none(repo: Repo) -> None:
    """With --together one failed file keeps everything off the branch, and the summary does not offer to land it."""
    base = repo.commit({**SOURCES, "src/bad.py": "def f(:\n    print(1)\n"})
    done = journeyman("refactor", *REWRITE, "src/**", "--together", "--land", "--json", cwd=repo.path)
    assert done.code == 3
    assert done.json["files"]["failed"] == 1
    assert repo.git("rev-parse", "HEAD") == base
    told = journeyman("refactor", *REWRITE, "src/**", "--together", cwd=repo.path)
    assert "nothing of it lands before all of it is done" in told.err
    assert "journeyman diff" in told.err
    assert "journeyman land" not in told.err


def test_a_run_that_belongs_together_is_not_landed_in_part(repo: Repo) -> None:
    """`land` refuses it (3) by the names of what is not done, a file that failed in a batch that went on included; told of it,
    `run` and `refactor` end with 3, and nothing lands."""
    base = repo.commit({**SOURCES, "src/bad.py": "def f(:\n    print(1)\n"})
    words = ("refactor", *REWRITE, "src/**", "--together", "--land", "--batch", "10", "--json")
    done = journeyman(*words, cwd=repo.path)
    assert done.code == 3
    assert not done.json["ok"]
    assert [task["state"] for task in done.json["tasks"].values()] == ["done"]
    assert done.json["files"]["failed"] == 1
    assert done.json["refused"] == "not everything is done"
    landed = journeyman("land", done.json["run"], cwd=repo.path)
    assert landed.code == 3
    assert "src/bad.py" in landed.err
    assert repo.git("rev-parse", "HEAD") == base
    without = journeyman("refactor", *REWRITE, "src/**", "--batch", "10", "--json", cwd=repo.path)
    assert journeyman("land", without.json["run"], cwd=repo.path).code == 0


def test_a_landing_that_is_refused_keeps_its_report(repo: Repo) -> None:
    """`--land` over uncommitted work: exit 6, the reason, and the run to land later."""
    repo.commit(SOURCES)
    repo.write({"src/m1.py": "print('mine')\n"})
    done = journeyman("refactor", *REWRITE, "src/**", "--ignore-dirty", "--land", "--json", cwd=repo.path)
    assert done.code == 6
    assert "src/m1.py" in done.json["refused"]
    assert done.json["run"] == "r1"
    assert done.json["landed"] == []
    repo.git("checkout", "-q", "src/m1.py")
    assert journeyman("land", "r1", cwd=repo.path).code == 0


@pytest.mark.parametrize("flags", [("--fail-fast",), ("--max-failures", "2")])
def test_failures_are_counted_by_file(repo: Repo, flags: tuple[str, ...]) -> None:
    """`--fail-fast` and `--max-failures` stop at files that fail in batches that go on: what runs by then may end, nothing else
    starts, and every file is accounted for."""
    files = {f"d/{number:02}.py": "def f(:\n    print(1)\n" if number % 2 else "print(1)\n" for number in range(12)}
    repo.commit(files)
    words = ("refactor", *REWRITE, "d/**", "--batch", "2", "--sequential", "--json", *flags)
    done = journeyman(*words, cwd=repo.path)
    assert done.code == 3
    counts = done.json["files"]
    limit = 1 if flags == ("--fail-fast",) else 2
    assert limit <= counts["failed"] == counts["changed"] <= limit + 1
    assert counts["skipped"] == 12 - 2 * counts["failed"]
    states = [task["state"] for task in done.json["tasks"].values()]
    assert states.count("cancelled") == 6 - counts["failed"]


def test_ctrl_c_drains_and_the_run_is_resumed(repo: Repo) -> None:
    """Ctrl-C once: what runs ends and is kept, exit 130; `resume` does the rest, with one commit a task in the end."""
    repo.commit({f"f{number}.txt": f"{number}\n" for number in range(8)})
    code = "import sys, time; time.sleep(0.6); open(sys.argv[1], 'a').write('x')"
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "refactor", "--exec", sys.executable, "-c", code, "{file}", ";", "*.txt", "--instances", "2"],
        cwd=repo.path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith("done"):
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 130, rest
    listed = journeyman("runs", "--json", cwd=repo.path).json
    assert listed[0]["state"] == "interrupted"
    done = journeyman("resume", "r1", "--json", cwd=repo.path)
    assert done.code == 0, done.out + done.err
    assert repo.git("rev-list", "--count", f"main..{done.json['commit']}") == "8"
    for number in range(8):
        assert repo.show(done.json["commit"], f"f{number}.txt") == f"{number}\nx".encode()


def test_ctrl_c_twice_ends_at_once_and_the_run_is_resumed(repo: Repo, tmp_path: Path) -> None:
    """The second Ctrl-C ends now (130), with every process of every group; nothing is cancelled, so that `resume` does it all."""
    repo.commit({f"f{number}.txt": f"{number}\n" for number in range(5)})
    pids, gate = tmp_path / "pids", tmp_path / "gate"
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        f"if not pathlib.Path({str(gate)!r}).exists():\n"
        "    child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        f"    open({str(pids)!r}, 'a').write(f'{{os.getpid()}} {{child.pid}}\\n'); time.sleep(60)\n"
        "open(sys.argv[1], 'a').write('x')"
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", "refactor", "--exec", sys.executable, "-c", code, "{file}", ";", "*.txt", "--instances", "2"],
        cwd=repo.path, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    while not pids.exists() or pids.read_text().count("\n") < 2:
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    for line in process.stderr:
        if "again to stop now" in line:
            process.send_signal(signal.SIGINT)
            break
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(20) == 130, rest
    for pid in pids.read_text().split():
        assert (
            not Path(f"/proc/{pid}").exists()
            or "Z" in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        )
    gate.touch()
    done = journeyman("resume", "r1", "--json", cwd=repo.path)
    assert done.code == 0, done.out + done.err
    assert {task["state"] for task in done.json["tasks"].values()} == {"done"}
    for number in range(5):
        assert repo.show(done.json["commit"], f"f{number}.txt") == f"{number}\nx".encode()


def test_a_killed_run_is_resumed_to_the_same_tree(repo: Repo) -> None:
    """kill -9 in the middle, then `resume` from another process: every task once, the tree as of an undisturbed run."""
    repo.commit({f"f{number}.txt": f"{number}\n" for number in range(6)})
    code = "import sys, time; time.sleep(0.3); open(sys.argv[1], 'a').write('x')"
    words = ["refactor", "--exec", sys.executable, "-c", code, "{file}", ";", "*.txt", "--instances", "2"]
    process = subprocess.Popen(
        [sys.executable, "-m", "runtime", *words], cwd=repo.path, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    for line in process.stderr:
        if line.rstrip().endswith("done"):
            os.kill(process.pid, signal.SIGKILL)
            break
    process.stderr.close()
    process.wait()
    assert journeyman("runs", "--json", cwd=repo.path).json[0]["state"] == "interrupted"
    done = journeyman("resume", "r1", "--json", cwd=repo.path)
    assert done.code == 0, done.out + done.err
    assert repo.git("rev-list", "--count", f"main..{done.json['commit']}") == "6"
    undisturbed = journeyman(*words, "--json", cwd=repo.path).json["commit"]
    assert repo.git("rev-parse", f"{undisturbed}^{{tree}}") == repo.git("rev-parse", f"{done.json['commit']}^{{tree}}")


def test_the_demo_is_green_from_end_to_end(tmp_path: Path) -> None:
    """The shipped example: three specialists, dependencies, an added order, a steal, green checks, landed; red before."""
    done = journeyman("demo", "--keep", str(tmp_path / "shop"), "--json", cwd=tmp_path)
    assert done.code == 0, done.out + done.err
    told = done.json
    assert told["ok"]
    assert {task["specialist"] for task in told["tasks"].values()} == {"interface", "service", "test"}
    assert told["steals"] >= 1
    assert all(check["ok"] for check in told["checks"])
    assert len(told["landed"]) == 1
    shop = Repo.__new__(Repo)
    shop.path = tmp_path / "shop"
    shop.git("checkout", "-q", "HEAD~1")
    before = subprocess.run(
        [sys.executable, "-m", "unittest", "-q", "tests.test_migration"],
        cwd=shop.path,
        capture_output=True,
        check=False,
    )
    assert before.returncode != 0


def test_doctor_and_completion(repo: Repo) -> None:
    """`doctor` finds all in order and recommends instances; each shell gets a script."""
    repo.commit(SOURCES)
    told = journeyman("doctor", "--json", cwd=repo.path).json
    assert {one["what"] for one in told["findings"]} >= {"git", "python", "journal", "space"}
    assert told["advice"]["commands"] >= 1
    for shell in ("bash", "zsh", "fish"):
        assert "journeyman" in journeyman("completion", shell, cwd=repo.path).out
        assert "journeyman" in journeyman("completion", shell, "--json", cwd=repo.path).json["script"]


COMPLETIONS = {
    "journeyman ref": "refactor",
    "journeyman show ": "r1",
    "journeyman refactor --language pyt": "python",
    "journeyman refactor --specialist serv": "service",
    "journeyman refactor --codemod convert_format_to": "convert_format_to_fstring.ConvertFormatStringCommand",
    "journeyman refactor --split-by ": "owner",
    "journeyman refactor --ex": "--exec",
}


def test_a_shell_completes_verbs_flags_and_names(repo: Repo) -> None:
    """What bash asks for on Tab: verbs, flags, runs, languages, specialists, codemods."""
    repo.commit(SOURCES)
    journeyman("refactor", *REWRITE, "src/m1.py", "-q", cwd=repo.path)
    for typed, offered in COMPLETIONS.items():
        asked = {"_JOURNEYMAN_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        words = [sys.executable, "-m", "runtime"]
        done = subprocess.run(words, cwd=repo.path, env=os.environ | asked, capture_output=True, text=True, check=False)
        assert f"plain,{offered}" in done.stdout.splitlines()


def test_every_verb_prints_one_document_and_nothing_else(repo: Repo, tmp_path: Path) -> None:
    """With --json, standard output is exactly one JSON value, for each verb."""
    repo.commit(SOURCES)
    (tmp_path / "plan.toml").write_text(PLAN)
    plan = str(tmp_path / "plan.toml")
    run = journeyman("run", plan, "--json", "--trace", str(tmp_path / "t.json"), cwd=repo.path).json["run"]
    assert json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    for words in (
        ("plan", plan), ("runs",), ("show", run), ("show", run, "one"), ("diff", run), ("checkpoint", run), ("cancel", run),
        ("retry", run), ("resume", run), ("land", run), ("gc",), ("doctor",), ("completion", "zsh"),
    ):  # fmt: skip
        done = journeyman(*words, "--json", cwd=repo.path)
        assert done.out.count("\n") == 1, words
        assert done.json is not None


def test_show_tells_a_tasks_story_and_writes_a_trace(repo: Repo, tmp_path: Path) -> None:
    """`show RUN TASK` tells what happened to it; `--trace` writes what Perfetto opens."""
    repo.commit(SOURCES)
    run = journeyman("refactor", *REWRITE, "src/**", "--json", cwd=repo.path).json["run"]
    story = journeyman("show", run, "src/m1.py", "--json", cwd=repo.path).json["story"]
    assert [row["type"] for row in story][:2] == ["submitted", "started"]
    assert journeyman("show", run, "--trace", str(tmp_path / "t.json"), cwd=repo.path).code == 0
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    assert sum(event["ph"] == "X" for event in events) == 5


def test_doctor_tells_of_a_configuration_that_cannot_be_used(repo: Repo) -> None:
    """Every mistake of journeyman.toml is a finding, and so is a handler that is not there; exit 2."""
    repo.commit({**SOURCES, "journeyman.toml": '[specialists.docs]\nhandler = "no.py:work"\n'})
    done = journeyman("doctor", "--json", cwd=repo.path)
    assert done.code == 2
    (found,) = [one for one in done.json["findings"] if not one["ok"]]
    assert found["what"] == "configuration"
    assert "there is no file no.py" in found["says"]


def test_arguments_a_codemod_does_not_take_are_refused_before_anything_runs(repo: Repo) -> None:
    """By its signature, for a function of the user's and for a LibCST command."""
    repo.commit({**SOURCES, "mod.py": "def up(path, data, *, word='x'):\n    return data.upper()\n"})
    for name in ("mod.py:up", "convert_format_to_fstring.ConvertFormatStringCommand"):
        done = journeyman("refactor", "--codemod", name, "--arg", "nosuch=1", "src/**", cwd=repo.path)
        assert done.code == 2
        assert "'nosuch'" in done.err
    assert repo.git("for-each-ref", "refs/journeyman") == ""


def test_a_terminal_that_lacks_a_character_gets_another(repo: Repo) -> None:
    """The timeline in a Latin-1 terminal; and a reader that goes away early is no failure."""
    repo.commit(SOURCES)
    journeyman("refactor", *REWRITE, "src/m1.py", "-q", cwd=repo.path)
    words = [sys.executable, "-m", "runtime", "show", "r1"]
    done = subprocess.run(
        words, cwd=repo.path, env=os.environ | {"PYTHONIOENCODING": "latin-1"}, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert b"service-1" in done.stdout


def test_a_file_of_several_tasks_has_one_state(repo: Repo, tmp_path: Path) -> None:
    """Changed by one task and left alone by the next, it is changed."""
    repo.commit(SOURCES)
    (tmp_path / "plan.toml").write_text(PLAN)
    report = tmp_path / "report.jsonl"
    done = journeyman("run", str(tmp_path / "plan.toml"), "--report", str(report), "--json", cwd=repo.path)
    assert done.json["files"]["changed"] == 1
    rows = {row["path"]: row["state"] for row in map(json.loads, report.read_text().splitlines())}
    assert rows["src/m1.py"] == "changed"
    assert sum(done.json["files"].values()) == 2 * len(rows)


def test_a_formatter_that_fails_is_told_like_a_red_check(repo: Repo) -> None:
    """Exit 4 with what it said; the run's report is there, and nothing lands."""
    base = repo.commit(SOURCES)
    done = journeyman("refactor", *REWRITE, "src/m1.py", "--format", "false", "--land", "--json", cwd=repo.path)
    assert done.code == 4
    assert [(check["command"], check["ok"]) for check in done.json["checks"]] == [("false", False)]
    assert done.json["files"]["changed"] == 1
    assert repo.git("rev-parse", "HEAD") == base


def test_the_configuration_counts_for_every_verb_that_runs(repo: Repo) -> None:
    """The cap on all instances, and the checks that belong to a specialist's work."""
    config = 'max_instances = 1\n[specialists.service]\nchecks = ["git --version"]\n'
    repo.commit({**SOURCES, "journeyman.toml": config})
    done = journeyman("refactor", *REWRITE, "src/**", "--json", cwd=repo.path)
    assert done.code == 0, done.out
    assert len(done.json["instances"]) == 1
    assert [check["command"] for check in done.json["checks"]] == ["git --version"]


def test_a_larger_cap_on_size_counts_to_the_end(repo: Repo) -> None:
    """`--size-cap` is obeyed where files are chosen and where they are edited, whatever the way."""
    repo.commit({"big.txt": "a\n" * 600_000, "mod.py": "def up(path, data):\n    return data.upper()\n"})
    for how in (("--codemod", "mod.py:up"), ("--exec", "sed", "-i", "1s/a/A/", "{file}", ";")):
        done = journeyman("refactor", *how, "big.txt", "--json", cwd=repo.path)
        assert done.json["files"]["skipped"] == 1
        done = journeyman("refactor", *how, "big.txt", "--size-cap", "2000000", "--json", cwd=repo.path)
        assert done.json["files"]["changed"] == 1, done.out
