"""Life inside other programs: a web service, a management command, a notebook; exceptions and cancellation as their hosts know them."""

from __future__ import annotations

import asyncio
import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import trio
from conftest import Repo

import runtime.aio
import runtime.blocking
from runtime import Plan, Runtime, Specialist, Task
from runtime.core.events import Closed
from runtime.errors import BadPlan, GiveUp
from runtime.notebook import View

EXAMPLES = Path(__file__).parent.parent / "examples"
WRONG = Plan([Task("a", "nobody")])


def quick(brief: Any, workspace: Any) -> str:
    """A handler."""
    return str(brief.task.id)


async def forever(brief: Any, workspace: Any) -> None:
    """A handler on asyncio's loop that has to be cancelled."""
    await asyncio.sleep(3600)


# --- the examples ------------------------------------------------------------------------------------------------


@pytest.fixture
def service(tmp_path: Path) -> Iterator[httpx2.Client]:
    """The FastAPI example, served as its reader would serve it."""
    pytest.importorskip("fastapi", reason="fastapi is not installed")
    socket = tmp_path / "s.sock"
    process = subprocess.Popen(
        [sys.executable, "-m", "hypercorn", "embed_fastapi:app", "--bind", f"unix:{socket}"],
        cwd=EXAMPLES, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.readline()
    assert "Running on" in said, said + process.stderr.read()
    with httpx2.Client(
        transport=httpx2.HTTPTransport(uds=str(socket)), base_url="http://localhost", timeout=30
    ) as http:
        yield http
    process.terminate()
    assert "Traceback" not in process.stderr.read()
    process.stderr.close()
    assert process.wait(30) == 0


def test_a_web_service_has_a_run_for_each_job(service: httpx2.Client) -> None:
    """Jobs run beside each other; events feed a stream; deleting one cancels its run, and its coroutines on the service's loop."""
    first = service.post("/jobs", json={"pictures": ["a", "b", "c"]}).json()["job"]
    second = service.post("/jobs", json={"pictures": ["d"], "seconds": 3600}).json()["job"]
    told = service.get(f"/jobs/{first}/events").text
    assert told.endswith("data: 3 of 3 done\n\n")
    assert service.get(f"/jobs/{first}").json()["results"] == {"a": "a.webp", "b": "b.webp", "c": "c.webp"}
    with service.stream("GET", f"/jobs/{second}/events") as stream:
        lines = stream.iter_lines()
        assert next(lines) == "data: 0 of 1 running"
        service.delete(f"/jobs/{second}")
        assert "data: 0 of 1 cancelled" in list(lines)
    assert service.get("/jobs/job-9").status_code == 404


def test_a_management_command_shows_a_bar_and_fails_as_commands_do() -> None:
    """The Django example: a bar on standard error that is fed by events, results on standard output, its own error for what failed."""
    pytest.importorskip("django", reason="django is not installed")

    def command(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, EXAMPLES / "embed_django.py", *words], capture_output=True, text=True, check=False
        )

    good = command("one", "two", "three")
    assert good.returncode == 0, good.stderr
    assert "3 links are good" in good.stdout
    assert "[###] 3/3" in good.stderr
    bad = command("one", "2")
    assert (bad.returncode, "link-1 failed it is no link" in bad.stdout) == (1, True)
    assert "CommandError: 1 of 2 links are broken" in bad.stderr


def test_the_notebook_runs_and_its_kept_output_is_what_it_shows() -> None:
    """Every cell runs in a real kernel; the live view and the reports are there as text and as pictures, now and in the kept file."""
    nbformat = pytest.importorskip("nbformat", reason="jupyter's packages are not installed")
    client = pytest.importorskip("nbclient").NotebookClient
    kept = nbformat.read(EXAMPLES / "notebook.ipynb", as_version=4)
    fresh = nbformat.from_dict(json.loads(json.dumps(kept)))
    for cell in fresh.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    client(fresh, timeout=60, kernel_name="python3", resources={"metadata": {"path": str(EXAMPLES)}}).execute()
    for told in (kept, fresh):
        shown = [output for cell in told.cells if cell.cell_type == "code" for output in cell.outputs]
        assert [output.output_type for output in shown] == ["display_data"] + ["execute_result"] * 4
        live, report, value, bad, last = (output.data for output in shown)
        assert "17/17" in live["text/plain"]
        assert live["text/html"].count("<rect") == 18  # an attempt failed, and was made again
        assert "#c23b31" in live["text/html"]
        assert report["text/plain"].startswith("Run done: 17 done;")
        assert report["text/html"].count("<rect") == 17
        assert value["text/plain"] == "(1500, 2, 'done')"
        assert "failed bad: -1 is less than nothing" in bad["text/plain"]
        assert last["text/plain"] == "50"
    assert (EXAMPLES / "notebook.png").read_bytes().startswith(b"\x89PNG")


def test_what_a_notebook_shows_is_escaped() -> None:
    """A task's id and error are text in the picture, never markup."""

    def broken(brief: Any, workspace: Any) -> None:
        raise runtime.GiveUp("<img src=x onerror=alert(1)>")

    name = "<script>alert(1)</script>"
    with runtime.blocking.Runtime([Specialist("one", broken)]) as rt:
        report = rt.run(Plan([Task(name, "one")], name="<b>"))
        view = View()
        for notice in rt.notices():
            view.take(notice)
    html = report._repr_mimebundle_()["text/html"] + view._repr_html_()
    assert "<script" not in html
    assert "<img" not in html
    assert "<b>Journeyman &lt;b&gt;</b>" in html


def test_a_result_is_landed_from_any_host(repo: Repo) -> None:
    """Blocking and asyncio programs bring a run's result onto the branch as a trio program does."""
    repo.commit({"a.txt": "x\n"})

    def write(brief: Any, workspace: Any) -> None:
        workspace.write(f"{brief.task.id}.txt", b"made\n")

    def plan(name: str) -> Plan:
        return Plan([Task(name, "one", writes=(f"{name}.txt",))])

    with runtime.blocking.Runtime([Specialist("one", write)], repo=repo.path) as rt:
        assert rt.run(plan("first")).ok
        assert rt.land("First")[-1] == repo.git("rev-parse", "HEAD")

    async def main() -> None:
        async with runtime.aio.Runtime([Specialist("one", write)], repo=repo.path) as rt:
            assert (await rt.run(plan("second"))).ok
            assert (await rt.land("Second"))[-1] == repo.git("rev-parse", "HEAD")

    asyncio.run(main())
    assert repo.git("log", "--format=%s").splitlines()[:2] == ["Second", "First"]
    assert repo.show("HEAD", "first.txt") == b"made\n"


# --- exceptions and cancellation -----------------------------------------------------------------------------------


def test_an_exception_in_the_block_comes_out_as_it_was_raised() -> None:
    """`except BadPlan` around a block catches what `run` raised in it, whatever the host's loop; no group is put around it."""
    with pytest.raises(BadPlan), runtime.blocking.Runtime([Specialist("one", quick)]) as rt:
        rt.run(WRONG)

    async def on_asyncio() -> None:
        async with runtime.aio.Runtime([Specialist("one", quick)]) as rt:
            await rt.run(WRONG)

    with pytest.raises(BadPlan):
        asyncio.run(on_asyncio())

    async def on_trio() -> None:
        async with Runtime([Specialist("one", forever)]) as rt:
            await rt.run(WRONG)

    with pytest.raises(BadPlan):
        trio.run(on_trio)


def test_a_hosts_timeout_ends_a_run_and_its_coroutines() -> None:
    """`asyncio.timeout` around a runtime raises TimeoutError, and the handlers on the host's loop have been cancelled by then."""
    ended: list[str] = []

    async def handler(brief: Any, workspace: Any) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append(brief.task.id)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.3), runtime.aio.Runtime([Specialist("one", handler)]) as rt:
                await rt.run(Plan([Task("a", "one"), Task("b", "one")]))

    asyncio.run(main())
    assert sorted(ended) == ["a", "b"]


def test_events_end_with_the_runtime_and_miss_nothing() -> None:
    """A slow reader in a thread of its own gets every event up to the last one, also when the runtime has closed meanwhile."""
    go = threading.Event()
    with runtime.blocking.Runtime([Specialist("one", quick)]) as rt:
        found: list[Any] = []

        def read() -> None:
            for notice in rt.events():
                go.wait(30)
                found.append(notice)

        thread = threading.Thread(target=read)
        thread.start()
        rt.run(Plan([Task(f"t{number}", "one") for number in range(5)]))
        whole = rt.notices()
    go.set()
    thread.join(30)
    assert found[: len(whole)] == whole
    assert all(isinstance(one.event, Closed) for one in found[len(whole) :])


# --- the same verbs ----------------------------------------------------------------------------------------------

VERBS = (
    "run", "submit", "resume", "retry", "report", "bisect", "land", "drain", "set_budget", "cancel", "statistics", "notices", "events",
)  # fmt: skip


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("facade", [runtime.blocking.Runtime, runtime.aio.Runtime])
def test_the_facades_have_the_same_verbs(facade: type, verb: str) -> None:
    """What a trio program can say, a script and an asyncio program can say with the same words: names, order, defaults."""
    meant, there = (inspect.signature(getattr(kind, verb)).parameters.values() for kind in (Runtime, facade))
    assert [(one.name, one.kind, one.default) for one in there] == [(one.name, one.kind, one.default) for one in meant]


def test_one_task_is_tried_again_by_a_script(tmp_path: Path) -> None:
    """Of two tasks that failed only the named one is tried again, in another process as far as the journal can tell."""
    good = tmp_path / "good"

    def handler(brief: Any, workspace: Any) -> str:
        if not good.exists():
            raise GiveUp("not yet")
        return "now"

    crew, journal = [Specialist("s", handler)], tmp_path / "journal.db"
    with runtime.blocking.Runtime(crew, journal=journal) as rt:
        report = rt.run(Plan([Task("a", "s"), Task("b", "s")]))
        assert report.state == "failed"
    good.touch()
    with runtime.blocking.Runtime(crew, journal=journal) as rt:
        again = rt.retry(report.run, task="b")
        assert {name: one.state for name, one in again.tasks.items()} == {"a": "failed", "b": "done"}
        assert rt.notices(1)[0].seq == 1
