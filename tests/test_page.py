"""The page in a real browser, against a real daemon and real runs: every view, every button, keys, themes, a phone's width."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from claude_stage import edit
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, rewriting, waiting, waits_for
from messages_process import MessagesProcess

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine: apt-get install chromium"
)
QUIET = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """One Chromium for all tests here."""
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=list(QUIET))
        yield running
        running.close()


@pytest.fixture
def served(tmp_path: Path, repo: Repo) -> Iterator[DaemonProcess]:
    """A daemon with a TCP listener, and the repository registered."""
    repo.commit(FILES)
    process = DaemonProcess(tmp_path, "--tcp", "0", "--repo", str(repo.path))
    yield process
    process.close()


def link(daemon: DaemonProcess) -> str:
    """A one-time link, as the command line gives it."""
    return str(json.loads(daemon.journeyman("serve", "--link", "--json", cwd=daemon.folder).stdout)["link"])


class Page:
    """A tab, with everything that its console complained of."""

    def __init__(self, browser: Any, address: str, **more: Any) -> None:
        self.context = browser.new_context(viewport={"width": 1280, "height": 800}, **more)
        self.tab = self.context.new_page()
        self.tab.set_default_timeout(15_000)
        self.complaints: list[str] = []
        self.tab.on("console", self._note)
        self.tab.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.tab.goto(address)
        self.tab.wait_for_selector("#daemon:has-text('serving')")

    def _note(self, said: Any) -> None:
        if said.type in ("error", "warning"):
            self.complaints.append(f"{said.text} {said.location}")

    def close(self) -> None:
        self.context.close()
        assert self.complaints == []


def steal_plan(go: Path) -> dict[str, Any]:
    """Six tasks for three instances: the first one waits for `go`, and what lies behind it is stolen."""
    tasks: list[dict[str, Any]] = [
        {"id": "slow", "specialist": "service", "writes": ["src/m0.py"], "exec": waits_for(go), "estimate_s": 9}
    ]
    for number in range(1, 6):
        way = ["sh", "-c", f"echo 'x = {number}' > src/m{number}.py"]
        tasks.append({"id": f"quick{number}", "specialist": "service", "writes": [f"src/m{number}.py"], "exec": way})
    tasks.append(
        {
            "id": "last",
            "specialist": "service",
            "goal": "After all",
            "after": ["slow"],
            "exec": ["true"],
            "writes": ["src/m0.py"],
        }
    )
    return {"plan": {"name": "Steal", "checks": ["git --version"]}, "task": tasks}


def test_a_whole_run_in_the_browser(served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any) -> None:
    """A run is watched live in its lanes with its steals, in the graph and the table; a task's log and change are read; it is paused,
    resumed and landed from the page; a run behind it says what it waits for."""
    runs = served.register(repo)
    go = tmp_path / "go"
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        client.post(runs, json={"plan": steal_plan(go)})
        client.post(runs, json={"plan": rewriting(3, name="Behind")})
        tab.click("#list li:has-text('Steal') button")
        tab.wait_for_selector("#state.is-running")
        tab.wait_for_selector("#lanes .span.running[data-task=slow]")
        tab.wait_for_selector("#lanes .span.done[data-task=quick5]")
        assert tab.locator("#lanes .span").count() == 6
        assert tab.locator("#lanes .span.stolen").count() >= 1
        assert tab.locator("#lanes .steal").count() >= 1
        assert "5 of 7 done" in tab.inner_text("#figures")

        tab.keyboard.press("2")
        tab.wait_for_selector("#graph .node.waiting[data-task=last]")
        assert tab.locator("#graph .node").count() == 7
        assert tab.locator("#graph .edge.after").count() == 1
        tab.keyboard.press("3")
        tab.wait_for_selector("#tasks tbody tr:has-text('last') td:last-child:has-text('slow')")
        tab.focus("#tasks tr[data-task=quick1] button")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("#story li:has-text('started')")
        tab.wait_for_selector("#task-diff .add:has-text('x = 1')")
        assert "quick1" in tab.inner_text("#task-name")
        tab.keyboard.press("Escape")
        tab.wait_for_selector("#task", state="hidden")

        tab.keyboard.press("5")
        tab.wait_for_selector("#view-claims tr[data-task=slow]:has-text('src/m0.py')")
        tab.wait_for_selector("#view-claims tr[data-task=slow] td:last-child:has-text('last')")
        tab.wait_for_selector("#view-claims tr:has-text('r2'):has-text('waits for r1: it needs src/m3.py too')")
        tab.click("#list li:has-text('Behind') button")
        tab.wait_for_selector("#state.is-queued")
        tab.wait_for_selector("#why:has-text('waits for r1: it needs src/m3.py too')")
        tab.keyboard.press("j")
        tab.wait_for_selector("#title:has-text('Steal')")

        tab.click("#pause")
        tab.wait_for_function("() => document.querySelector('#daemon').textContent.includes('open runs')")
        go.touch()
        tab.wait_for_selector("#state.is-paused")
        tab.click("#resume")
        tab.wait_for_selector("#state.is-done")
        tab.wait_for_selector("#checks:has-text('green'):has-text('git --version')")
        tab.keyboard.press("4")
        tab.wait_for_selector("#view-diff details:has-text('src/m5.py') .add:has-text('x = 5')")
        head = repo.git("rev-parse", "HEAD")
        tab.click("#land")
        tab.click("#ask button[value=no]")
        assert repo.git("rev-parse", "HEAD") == head
        tab.click("#land")
        tab.click("#ask button[value=yes]")
        tab.wait_for_selector("#toast:has-text('landed as')")
        tab.wait_for_selector("#why:has-text('landed as')")
        assert repo.show("HEAD", "src/m5.py") == b"x = 5\n"
        assert tab.is_disabled("#land")
        tab.keyboard.press("u")
        tab.click("#ask button[value=yes]")
        tab.wait_for_selector("#land:not([disabled])")
        assert repo.show("HEAD", "src/m5.py") == b"print(5)\n"
        tab.click("#redo")
        tab.wait_for_selector("#why:has-text('landed as')")
        assert repo.show("HEAD", "src/m5.py") == b"x = 5\n"
        assert ended(client, f"{runs}/r2")["state"] == "done"
    page.close()


def waiting_plan(go: Path) -> dict[str, Any]:
    """One task that waits for `go`."""
    return {"task": [{"id": "w", "specialist": "test", "writes": ["src/m2.py"], "exec": waits_for(go)}]}


def test_what_fails_is_cancelled_and_tried_again_from_the_page(
    served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any
) -> None:
    """One task of a run, then the run, are cancelled with a question first; what failed is tried again; the page follows."""
    runs = served.register(repo)
    fixed = tmp_path / "fixed"
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        plan = {
            "task": [
                {
                    "id": "flaky",
                    "specialist": "service",
                    "writes": ["src/m0.py"],
                    "exec": ["test", "-e", str(fixed)],
                    "attempts": 1,
                },
                {"id": "stuck/one", "specialist": "service", "writes": ["src/m1.py"], "exec": waits_for(fixed)},
            ]
        }
        client.post(runs, json={"plan": plan})
        tab.click("#list li:has-text('r1') button")
        tab.wait_for_selector("#lanes .span.failed[data-task=flaky]")
        tab.click("#lanes .span[data-task='stuck/one']")
        tab.wait_for_selector("#task-name:has-text('stuck/one')")
        tab.click("#task-cancel")
        tab.click("#ask button[value=yes]")
        tab.wait_for_selector("#state.is-failed")
        fixed.touch()
        tab.keyboard.press("a")
        tab.wait_for_selector("#state.is-done")
        assert tab.locator("#lanes .span[data-task=flaky]").count() == 2
        never = tmp_path / "never"
        client.post(runs, json={"plan": waiting_plan(never)})
        tab.wait_for_selector("#list li:has-text('r2')")
        tab.keyboard.press("k")
        tab.wait_for_selector("#lanes .span.running[data-task=w]")
        tab.keyboard.press("x")
        tab.click("#ask button[value=yes]")
        tab.wait_for_selector("#state.is-cancelled")
        never.touch()
    page.close()


def test_what_is_answered_is_about_what_was_asked(
    served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any
) -> None:
    """Whoever goes back to another run while a question is open has said no to it; a list that comes late is not shown as that of another
    repository."""
    runs = served.register(repo)
    other = Repo(tmp_path / "other")
    other.commit(FILES)
    elsewhere = served.register(other)
    never = tmp_path / "never"
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        for number in range(2):
            client.post(runs, json={"plan": waiting(never, number)})
        client.post(elsewhere, json={"plan": rewriting(0, name="Elsewhere")})
        tab.select_option("#repository", runs.split("/")[3])
        for run in ("r1", "r2"):
            tab.click(f"#list li:has-text('{run}') button")
            tab.wait_for_selector(f"#title:has-text('{run}')")
            tab.wait_for_selector("#lanes .span.running")
        tab.click("#lanes .span.running")
        tab.wait_for_selector("#task-cancel:not([hidden])")
        for key, about in (("x", "End run r2?"), ("c", "Cancel the task w1?")):
            tab.keyboard.press(key)
            assert about in tab.inner_text("#question")
            tab.evaluate("history.go(-2)" if key == "x" else "history.go(-1)")
            tab.wait_for_selector("#ask", state="hidden")
            tab.evaluate("history.go(2)" if key == "x" else "history.go(1)")
            tab.wait_for_selector("#task-name:has-text('w1')")
            tab.wait_for_selector("#task-cancel:not([hidden])")
        assert [one["state"] for one in client.get(runs).json()] == ["running", "running"]

        held: list[Any] = []
        tab.route(f"**{runs}?*", lambda route: held.append(route))
        with tab.expect_request(f"**{runs}?*"):
            pass
        tab.select_option("#repository", elsewhere.split("/")[3])
        tab.wait_for_selector("#list li:has-text('Elsewhere')")
        with tab.expect_response(f"**{runs}?*"):
            for one in held:
                one.continue_()
        with tab.expect_response("**/v1/health"):
            pass
        assert tab.locator("#list li").count() == 1
        never.touch()
    page.close()


def test_what_is_read_stays_as_it_is_while_the_run_goes_on(
    served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any
) -> None:
    """A file of a diff that was opened or closed, the focus and how far it is scrolled stay when more comes; a task that cannot be told
    of has nothing of the one that was looked at before."""
    runs = served.register(repo)
    go, long = tmp_path / "go", "x" * 4000
    first = {"id": "first", "specialist": "service", "goal": "Make it long", "writes": ["src/m0.py", "src/m1.py"]}
    first["exec"] = ["sh", "-c", f"echo {long} > src/m0.py; echo y > src/m1.py"]
    second = {"id": "second", "specialist": "service", "writes": ["src/m2.py"]}
    second["exec"] = ["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.02; done; echo z > src/m2.py"]
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        client.post(runs, json={"plan": {"task": [first, second]}})
        tab.click("#list li button")
        tab.wait_for_selector("#lanes .span.done[data-task=first]")
        tab.keyboard.press("4")
        tab.wait_for_selector("#view-diff details:has-text('src/m1.py')")
        tab.keyboard.press("3")
        tab.click("#tasks tr[data-task=first] button")
        tab.wait_for_selector("#task-diff .add:has-text('xxx')")
        tab.keyboard.press("4")
        tab.click("#view-diff details:has-text('src/m1.py') summary")
        marks = """() => {
          document.querySelector("#view-diff pre").scrollLeft = 700;
          document.querySelector("#task-diff pre").scrollLeft = 900;
          for (const one of document.querySelectorAll("#story li, #view-diff details, #task-diff details")) one.mark = true;
          document.querySelector("#task-diff summary").focus();
        }"""
        tab.evaluate(marks)
        go.touch()
        tab.wait_for_selector("#view-diff details:has-text('src/m2.py')")
        tab.wait_for_selector("#state.is-done")
        with tab.expect_response("**/v1/health"):
            pass
        assert tab.evaluate("document.querySelector('#view-diff pre').scrollLeft") == 700
        assert tab.evaluate("document.querySelector('#task-diff pre').scrollLeft") == 900
        assert tab.evaluate("document.activeElement === document.querySelector('#task-diff summary')")
        opened = tab.evaluate(
            "[...document.querySelectorAll('#view-diff details')].map((one) => [one.open, !!one.mark])"
        )
        assert opened == [[True, True], [False, True], [True, False]]
        assert tab.evaluate("[...document.querySelectorAll('#story li')].every((one) => one.mark)")

        assert tab.inner_text("#task-goal") == "Make it long"
        assert tab.is_visible("#task-undo")
        tab.evaluate("location.hash = location.hash.replace(/first$/, 'nobody')")
        tab.wait_for_selector("#task-error:has-text('no task')")
        page.complaints.clear()  # the browser's word for a 404
        assert tab.inner_text("#task-name") == "nobody"
        assert tab.locator("#story li").count() == tab.locator("#task-diff details").count() == 0
        assert [tab.inner_text(f"#task-{part}") for part in ("state", "where", "goal")] == ["", "", ""]
        assert not any(tab.is_visible(f"#task-{verb}") for verb in ("cancel", "retry", "undo"))
    page.close()


def test_what_is_drawn_can_be_acted_on(served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any) -> None:
    """A run whose lanes are drawn can be cancelled, though the daemon has not yet answered what it is asked of it; a key that does
    nothing says why."""
    runs = served.register(repo)
    never = tmp_path / "never"
    page = Page(browser, link(served))
    tab = page.tab
    tab.keyboard.press("x")
    tab.wait_for_selector("#toast:has-text('choose a run first')")
    held: list[Any] = []
    answering = False
    tab.route("**/runs/r1", lambda route: route.continue_() if answering else held.append(route))
    with served.client() as client:
        client.post(runs, json={"plan": waiting_plan(never)})
        tab.click("#list li:has-text('r1') button")
        tab.wait_for_selector("#lanes .span.running[data-task=w]")
        tab.keyboard.press("l")
        tab.wait_for_selector("#toast:has-text('r1 is running: land is not possible now')")
        tab.keyboard.press("x")
        tab.click("#ask button[value=yes]")
        assert held
        answering = True
        for one in held:
            one.continue_()
        tab.wait_for_selector("#state.is-cancelled")
        never.touch()
    page.close()


def test_a_run_of_another_process_is_watched(served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any) -> None:
    """A run that the command line performs beside the daemon has its lanes and its state as any other, by one stream, and its end is
    seen; the page asks for nothing again and again, nor would it if the stream ended at once."""
    served.register(repo)
    go, plan = tmp_path / "go", tmp_path / "plan.json"
    plan.write_text(json.dumps(waiting_plan(go)))
    page = Page(browser, link(served))
    tab = page.tab
    asked: list[str] = []
    tab.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    words = [sys.executable, "-m", "runtime", "run", str(plan)]
    running = subprocess.Popen(words, cwd=repo.path, env=served.environment, stderr=subprocess.DEVNULL)

    def looked_at_twice() -> None:
        asked.clear()
        tab.wait_for_selector("#state.is-running")
        for _ in range(2):
            with tab.expect_response("**/v1/health"):
                pass
        assert tab.inner_text("#state") == "running"
        assert asked.count("events?from=1") <= 1
        assert asked.count("graph") <= 3

    stops = 'event: end\ndata: {"run": "r1", "state": "running", "error": null}\n\n'
    tab.route("**/events?*", lambda route: route.fulfill(status=200, content_type="text/event-stream", body=stops))
    tab.click("#list li:has-text('r1') button")
    looked_at_twice()
    tab.unroute("**/events?*")
    tab.reload()
    tab.wait_for_selector("#lanes .span.running[data-task=w]")
    looked_at_twice()
    go.touch()
    tab.wait_for_selector("#state.is-done")
    tab.wait_for_selector("#lanes .span.done[data-task=w]")
    assert running.wait(60) == 0
    with tab.expect_response("**/v1/health"):
        pass
    assert asked.count("events?from=1") == 0
    page.close()


def test_a_stream_that_breaks_off_is_taken_up(served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any) -> None:
    """Where a stream broke off, in the middle of a number too, the browser goes on and nothing is counted twice; one that is refused is
    said to be, and is tried again with the list."""
    runs = served.register(repo)
    go = tmp_path / "go"
    go.touch()
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        where = client.post(runs, json={"plan": steal_plan(go)}).headers["location"]
        assert ended(client, where)["state"] == "done"
        parts = client.get(f"{where}/events").text.split("\n\n")
        kinds = [re.search("event: (.*)", part) for part in parts]
        started = [at for at, kind in enumerate(kinds) if kind is not None and kind[1] == "started"]
        cut = next(at + 1 for at in range(started[2], len(parts)) if not parts[at].startswith("id: "))
        numbers = [int(one) for one in re.findall(r"(?m)^id: (\d+)$", "\n".join(parts[:cut]))]
        known: list[Any] = []

        def events(route: Any) -> None:
            known.append(route.request.headers.get("last-event-id", ""))
            print(route.request.headers)
            stream = "text/event-stream; charset=utf-8"
            if len(known) == 1:
                route.fulfill(status=401, content_type="application/problem+json", body="{}")
            elif len(known) == 2:
                body = "retry: 50\n\n" + "\n\n".join(parts[:cut]) + "\n\n"
                route.fulfill(status=200, content_type=stream, body=body)
            else:
                route.continue_()

        tab.route("**/events?*", events)
        tab.click("#list li button")
        tab.wait_for_selector("#lost:has-text('the daemon refuses to')")
        page.complaints.clear()  # the browser's word for a 401
        tab.wait_for_selector("#state.is-done")
        tab.wait_for_selector("#figures:has-text('7 of 7 done')")
        tab.wait_for_selector("#lost", state="hidden")
        tab.wait_for_selector("#lanes .span.done[data-task=last]")
        assert tab.locator("#lanes .span").count() == len(started)
        assert len(known) == 3
        steals = sum('"stolen_from"' in parts[at] for at in started)
        assert f"stolen\n{steals}\n" in tab.inner_text("#figures")
        rest = client.get(f"{where}/events?from=1", headers={"last-event-id": str(numbers[-1])}).text
        assert f'"seq":{numbers[-1] + 1},' in rest.split("\n\n")[0]
        assert tab.evaluate(ALIKE, [part.split("data: ")[-1] for part in parts if '"seq"' in part]) == []
    page.close()


# Where a model comes to something else when its stream breaks off behind so many rows and begins anew: at that number, or at the first.
ALIKE = """async (texts) => {
  const { Model } = await import("/model.js"), rows = texts.map(JSON.parse), wrong = [];
  const told = (model) => JSON.stringify([[...model.lanes], [...model.tasks], model.steals, model.checks, model.orders, model.now]);
  const folded = (...streams) => {
    const model = new Model();
    for (const stream of streams) { model.connected(); for (const row of stream) model.take(row.type, row); }
    return told(model);
  };
  const whole = folded(rows);
  for (let cut = 0; cut <= rows.length; cut += 1) {
    const begun = rows.slice(0, cut);
    const same = rows.filter((row) => row.seq >= (begun.at(-1)?.seq ?? 0));
    if (folded(begun, rows) !== whole || folded(begun, same) !== whole || folded(begun, begun, rows) !== whole) wrong.push(cut);
  }
  return wrong;
}"""


def test_one_task_is_tried_again_and_undone_by_keys(
    served: DaemonProcess, repo: Repo, tmp_path: Path, browser: Any
) -> None:
    """Of two tasks that failed only the chosen one is tried again, with what was skipped for it; then it is taken back."""
    runs = served.register(repo)
    fixed = tmp_path / "fixed"
    test = ["sh", "-c", f"test -e {fixed} && echo 'y = 1' > $0"]
    named = {"a": "src/m0.py", "b": "src/m1.py", "after-a": "src/m2.py"}
    tasks: list[dict[str, Any]] = [
        {"id": name, "specialist": "service", "writes": [path], "exec": [*test, path], "attempts": 1}
        for name, path in named.items()
    ]
    tasks[2]["after"] = ["a"]
    page = Page(browser, link(served))
    tab = page.tab
    with served.client() as client:
        where = client.post(runs, json={"plan": {"task": tasks}}).headers["location"]
        assert ended(client, where)["state"] == "failed"
        fixed.touch()
        tab.click("#list li:has-text('r1') button")
        tab.wait_for_selector("#state.is-failed")
        tab.keyboard.press("3")
        tab.click("#tasks tr[data-task=a] button")
        tab.wait_for_selector("#task-retry:not([hidden])")
        tab.keyboard.press("e")
        tab.wait_for_selector("#state.is-partial")
        states = {name: task["state"] for name, task in ended(client, where)["tasks"].items()}
        assert states == {"a": "done", "b": "failed", "after-a": "done"}
        told = client.post(f"{where}/retry", json={"task": "a"})
        assert (told.status_code, "task 'a' is done" in told.json()["detail"]) == (422, True)
        tab.wait_for_selector("#task-undo:not([hidden])")
        tab.keyboard.press("z")
        tab.click("#ask button[value=yes]")
        tab.wait_for_selector("#toast:has-text('taken back: ')")
        tab.wait_for_selector("#task-state:has-text('cancelled')")
        assert client.get(where).json()["tasks"]["b"]["state"] == "failed"
    page.close()


def test_limits_are_changed_and_a_spent_budget_is_raised_from_the_page(
    tmp_path: Path, repo: Repo, browser: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The page shows what a run has cost and what it may; paused at its budget, a larger one of that kind is given there, and of the other
    kind when that is spent, and it goes on to its end. What is allowed at once is looked at and changed."""
    repo.commit({"a.py": "x = 1\n"})
    with MessagesProcess(tmp_path / "ledger") as api:
        monkeypatch.setenv("ANTHROPIC_BASE_URL", api.url)
        monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-page-8842")
        daemon = DaemonProcess(tmp_path, "--tcp", "0", "--repo", str(repo.path))
        try:
            runs = daemon.register(repo)
            page = Page(browser, link(daemon))
            tab = page.tab
            with daemon.client() as client:
                plan = {
                    "task": [{"id": "a", "specialist": "service", "writes": ["a.py"], "goal": edit("a.py", "1", "2")}]
                }
                made = client.post(runs, json={"plan": plan, "settings": {"budget_usd": 0.001, "budget_tokens": 10}})
                assert made.status_code == 201, made.text
                tab.wait_for_selector("#list li:has-text('paused')")
                tab.click("#list li button")
                tab.wait_for_selector("#state.is-paused")
                tab.wait_for_selector("#why:has-text('budget')")
                tab.keyboard.press("r")
                assert tab.locator("#amounts label").all_inner_texts() == ["New budget in USD (now 0.001)"]
                tab.fill("#amounts input", "5")
                tab.click("#ask button[value=yes]")
                tab.wait_for_selector("#why:has-text('tokens spent')")
                tab.keyboard.press("r")
                assert tab.locator("#amounts label").all_inner_texts() == ["New budget in tokens (now 10)"]
                tab.fill("#amounts input", "1000000")
                tab.click("#ask button[value=yes]")
                tab.wait_for_selector("#state.is-done")
                tab.wait_for_selector("#figures div:has-text('cost'):has-text('of 5.00 USD')")
                tab.keyboard.press("m")
                tab.wait_for_selector("#account:has-text('answered')")
                tab.fill("#most-instances", "3")
                tab.click("#limited button[value=yes]")
                tab.wait_for_selector("#toast:has-text('3 attempts at once')")
                assert client.get("/v1/limits").json()["instances"] == 3
            page.close()
        finally:
            daemon.close()


def test_the_link_is_good_once_and_the_page_needs_it(served: DaemonProcess, browser: Any) -> None:
    """A link opens the page once, and what only looks where it leads (HEAD) does not use it up; without a session nothing of it is
    served, and no other site's page gets at it."""
    address = link(served)
    for _ in range(2):
        seen = httpx2.head(address)
        assert (seen.status_code, "set-cookie" in seen.headers) == (303, False)
    page = Page(browser, address)
    assert httpx2.head(address).status_code == 401
    other = browser.new_context().new_page()
    assert other.goto(address).status == 401
    root = re.sub(r"/open/.*", "/", address)
    assert other.goto(root).status == 401
    assert page.tab.goto(root).status == 200
    (cookie,) = page.context.cookies()
    assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
    other.close()
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_in_both_themes(served: DaemonProcess, repo: Repo, scheme: str, browser: Any) -> None:
    """At 360 pixels nothing but the wide drawings scrolls sideways, in the theme of the system; the toggle turns it; text is readable."""
    runs = served.register(repo)
    with served.client() as client:
        ended(
            client,
            client.post(
                runs, json={"plan": rewriting(*range(6), name="A name that is rather long for so narrow a page")}
            ).headers["location"],
        )
    page = Page(browser, link(served), color_scheme=scheme)
    tab = page.tab
    tab.set_viewport_size({"width": 360, "height": 740})
    tab.wait_for_selector("#state.is-done")
    for key in "12345":
        tab.keyboard.press(key)
        tab.wait_for_selector(f"#view-{['lanes', 'graph', 'tasks', 'diff', 'claims'][int(key) - 1]} > *")
        assert tab.evaluate("document.scrollingElement.scrollWidth <= innerWidth"), key
    shade = "getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    before = tab.evaluate(shade)
    assert (before < 200) == (scheme == "dark")
    ink = "getComputedStyle(document.body).color.match(/\\d+/g).map(Number).reduce((a, b) => a + b)"
    assert abs(tab.evaluate(ink) - before) > 400
    tab.keyboard.press("t")
    assert (tab.evaluate(shade) < 200) != (scheme == "dark")
    page.close()
