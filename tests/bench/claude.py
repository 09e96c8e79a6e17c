"""What working with Claude costs beside a plain loop around the SDK: `python tests/bench/claude.py [NAME ...]`, without names all of it.

Money is by the loopback server's ledger, time is this process' own processor time with the server in another. Nothing here asserts; it
prints a table.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

sys.path.insert(0, str(Path(__file__).parent.parent))

import anthropic
import bytecode  # noqa: F401 - before the modules that it is about
from anthropic.lib.tools.agent_toolset import AgentToolContext, beta_edit_tool, beta_read_tool, beta_write_tool
from messages_api import Api, serve
from messages_ledger import read_ledger, total, total_cost
from messages_model import Reply, Request
from messages_process import MessagesProcess
from messages_worker import Worker
from nothing_lost import git
from resident import resident_mib

from runtime import Plan, Runtime, Specialist, Task
from runtime.limits import Gate, Limits
from specialists import Ways
from specialists.claude import Claude

MODEL = "claude-sonnet-5-5"
KEY = "sk-bench"
PREFIX = "The project's rules, one a line, each to be kept.\n" * 1_570  # about 20,000 tokens, as the server counts
ROWS: list[tuple[str, str, str]] = []


def tell(what: str, figure: str, target: str) -> None:
    """One row of the table."""
    ROWS.append((what, figure, target))
    print(f"{what:<72} {figure:<40} {target}", flush=True)


def path_of(number: int) -> str:
    """A task's file; twenty are in a folder."""
    return f"d{number // 20}/f{number}.py"


@contextmanager
def project(files: int, rules: str = PREFIX) -> Iterator[Path]:
    """A repository with so many files of five kilobytes, no two the same, and instructions."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["XDG_CACHE_HOME"] = str(Path(folder) / "cache")
        repo = Path(folder) / "repo"
        repo.mkdir()
        for number in range(files):
            (repo / path_of(number)).parent.mkdir(exist_ok=True)
            lines = "".join(f"x{line} = 1\n" for line in range(40))
            (repo / path_of(number)).write_text(lines + f"# {number}: a line of some length, as there are many\n" * 100)
        (repo / "AGENTS.md").write_text(rules)
        for words in (["init", "-q", "-b", "main"], ["config", "user.name", "A"], ["config", "user.email", "a@b.c"], ["add", "-A"], ["commit", "-qm", "base"]):  # fmt: skip
            git(repo, *words)
        yield repo


def goal(number: int, edits: int) -> str:
    """A task of so many edits: each is a call to read and one to edit."""
    lines = [f"REPLACE {path_of(number)} <<x{line} = 1\n>> <<x{line} = 2\n>>" for line in range(edits)]
    return f"Change {path_of(number)}.\n" + "\n".join(lines)


def tasks(count: int, edits: int) -> list[Task]:
    """One a file."""
    return [
        Task(f"t{number}", "worker", goal=goal(number, edits), writes=(path_of(number),)) for number in range(count)
    ]


async def ours(repo: Path, work: list[Task], instances: int) -> tuple[float, float]:
    """(processor seconds, seconds) of a run, without what opening and closing cost."""
    gate = Gate(Limits(concurrency=1000))
    one = Specialist("worker", instances=instances, model=MODEL, prompt="You change files.")
    ways = Ways(claude=Claude(gate=gate))
    async with ways, Runtime(ways.equip([one]), repo=repo, max_instances=max(20, instances)) as rt:
        ways.claude.connect()
        began, clock = time.process_time(), time.perf_counter()
        report = await rt.run(Plan(work))
        assert report.ok, next(task.error for task in report.tasks.values() if task.error)
        return time.process_time() - began, time.perf_counter() - clock


# --- money -----------------------------------------------------------------------------------------------------


def patient(first_s: float) -> Any:
    """The worker, at a pace at which all begin before the first has its answer."""

    def model(request: Request) -> Reply:
        return attrs.evolve(Worker()(request), first_s=first_s)

    return model


@asynccontextmanager
async def service(first_s: float) -> AsyncIterator[Api]:
    """The server, in this loop."""
    async with serve(patient(first_s)) as api:
        os.environ.update(ANTHROPIC_BASE_URL=api.url, ANTHROPIC_API_KEY=KEY)
        yield api


async def plain(repo: Path, work: list[Task], **more: Any) -> None:
    """What a user writes: all tasks at once, each the SDK's tool runner with the SDK's file tools, one client for all."""
    async with anthropic.AsyncAnthropic(max_retries=0) as client, trio.open_nursery() as nursery:
        for task in work:
            context = AgentToolContext(workdir=repo)
            tools: list[Any] = [beta_read_tool(context), beta_edit_tool(context), beta_write_tool(context)]
            runner = client.beta.messages.tool_runner(
                model=MODEL, max_tokens=8_000, messages=[{"role": "user", "content": task.goal}], tools=tools, **more
            )
            nursery.start_soon(runner.until_done)


def fan_out() -> None:
    """Twenty tasks that share 20,000 tokens of instructions, by the server's ledger."""
    mark: Any = {"type": "ephemeral"}
    loops = {
        "a plain SDK loop that caches prefix and conversation": {
            "system": [{"type": "text", "text": PREFIX, "cache_control": mark}],
            "cache_control": mark,
            "thread": False,
        },
        "a plain SDK loop as the SDK has it": {"system": PREFIX},
    }

    async def main() -> None:
        work = tasks(20, 3)
        with project(20) as repo:
            async with service(0.5) as api:
                await ours(repo, work, 20)
                mine, calls = total_cost(api.calls), len(api.calls)
                first = total(call for call in api.calls if len(call.body["messages"]) == 1)
            tell("20 tasks, a prefix of 20k tokens: calls, prefix written / read", f"{calls}, {first.cache_creation_input_tokens:,} / {first.cache_read_input_tokens:,} tokens", "")  # fmt: skip
            for name, options in loops.items():
                git(repo, "checkout", "-q", ".")
                async with service(0.5) as api:
                    await plain(repo, work, **options)
                    theirs = total_cost(api.calls)
                tell(f"cost / that of {name}", f"{mine / theirs:.2f}  ({mine:,.0f} / {theirs:,.0f})", "<= 0.6")

    trio.run(main)


# --- time ------------------------------------------------------------------------------------------------------


def conversations(ledger: Path) -> list[list[dict[str, Any]]]:
    """The bodies of each conversation, in their order."""
    found: dict[str, list[dict[str, Any]]] = {}
    for call in read_ledger(ledger):
        if call.number:
            found.setdefault(str(call.body["messages"][0]), []).append(call.body)
    for bodies in found.values():
        bodies.sort(key=lambda body: len(body["messages"]))
    return list(found.values())


async def bare(talks: list[list[dict[str, Any]]], at_once: int) -> float:
    """Processor seconds of the same requests through the SDK alone: each a runner of one iteration, its stream read to the end."""
    line = iter(talks)
    async with anthropic.AsyncAnthropic(max_retries=0) as client:

        async def work() -> None:
            for bodies in line:
                for body in bodies:
                    runner = client.beta.messages.tool_runner(
                        **{**body, "stream": True}, max_iterations=1, thread=False
                    )
                    stream = await anext(runner)
                    async for _ in stream:
                        pass
                    await stream.get_final_message()
                    await runner.close()

        began = time.process_time()
        async with trio.open_nursery() as nursery:
            for _ in range(at_once):
                nursery.start_soon(work)
        return time.process_time() - began


def own_time() -> None:
    """Everything but the SDK and the wait, of a turn, against the SDK's own time of a call.

    Counted is processor time, of all threads. Of a run: from the plan to its report, so with the journal, the commits and trio's loop,
    by its turns. Of the SDK: the same requests once more, each a runner of one iteration whose stream is read to its end (building,
    sending, reading and parsing the stream, putting the answer together), as many at once. What a turn has more is ours.

    Both come in turns, and the least of each counts: what other programs on the machine do, makes either slower, and a run with a thread
    that waits for the disk more than the SDK alone. The service is in another process. It streams a word or two at a time; answers in
    three pieces are the worst case for us.
    """
    for name, rules in (("a short prompt", "Be kind.\n"), ("20k tokens of prompt", PREFIX)):
        for pieces in (3, 50):
            with project(20, rules) as repo, tempfile.TemporaryDirectory() as folder:
                mine, sdk = turn_and_call(repo, Path(folder) / "ledger.jsonl", pieces)
            own = mine - sdk
            tell(f"own time of a turn / the SDK's of a call: {name}, {pieces} pieces", f"{own / sdk:.2f}  ({own * 1e3:.2f} / {sdk * 1e3:.2f} ms)", "<= 0.25")  # fmt: skip


def turn_and_call(repo: Path, ledger: Path, pieces: int) -> tuple[float, float]:
    """(processor seconds of a turn, of the SDK's call alone)."""
    mine, sdk = [], []
    with MessagesProcess(ledger, "--pieces", str(pieces)) as api:
        os.environ.update(ANTHROPIC_BASE_URL=api.url, ANTHROPIC_API_KEY=KEY)
        trio.run(ours, repo, tasks(4, 2), 5)  # warm
        for _ in range(10):
            ledger.write_text("")
            spent, _ = trio.run(ours, repo, tasks(20, 6), 5)
            talks = conversations(ledger)
            count = sum(map(len, talks))
            mine.append(spent / count)
            sdk.append(trio.run(bare, talks, 5) / count)
    return min(mine), min(sdk)


# --- many ------------------------------------------------------------------------------------------------------


def many() -> None:
    """Two hundred conversations at once, for ten minutes: one that ends makes room for the next, so that all the while some begin and
    some end, and what an ended one leaves behind shows as growth. Measured is what the process holds for itself (its anonymous resident
    memory, after a collection of garbage; what it has mapped of files is the system's to take back, and told beside it), every two
    seconds: the mean of the last quarter against that of the second, after the warm-up in the first, in which each of the two hundred
    has had a few conversations. It has the whole run in it: the plan's tasks are there from the beginning, and a conversation that
    ended stays in the run's history, with what it cost: how much that is is told by itself."""
    at_once, run_s, most = 200, 600.0, 5_000
    seen: list[tuple[float, float, float]] = []  # (seconds, MiB of its own, MiB of files)

    async def main(repo: Path) -> None:
        began = trio.current_time()

        async def sample() -> None:
            while True:
                await trio.sleep(2.0)
                gc.collect()
                seen.append((trio.current_time() - began, *resident_mib()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(sample)
            with trio.move_on_after(run_s):
                await ours(repo, tasks(most, 2), at_once)
            nursery.cancel_scope.cancel()

    with project(most, "Be kind.\n") as repo, tempfile.TemporaryDirectory() as folder:
        ledger = Path(folder) / "ledger.jsonl"
        with MessagesProcess(ledger, "--first-s", "4.0") as api:
            os.environ.update(ANTHROPIC_BASE_URL=api.url, ANTHROPIC_API_KEY=KEY)
            trio.run(main, repo)
        calls = [call for call in read_ledger(ledger) if call.number]
    last_s = max(call.ended_s or call.at_s for call in calls)
    # Not of the end
    kept = [call for call in calls if call.outcome == "done" or (call.ended_s or call.at_s) < last_s - 5.0]
    starts = sorted((call.at_s, 1) for call in calls) + sorted((call.ended_s or call.at_s, -1) for call in calls)
    under_way = peak = 0
    for _, step in sorted(starts):
        under_way += step
        peak = max(peak, under_way)
    ended = len({str(call.body["messages"][0]) for call in calls}) - at_once
    broken = sum(call.outcome != "done" for call in kept)
    tell(f"{at_once} conversations on {os.cpu_count()} cores: calls that stalled or broke", f"{broken} of {len(kept)} in {run_s:.0f} s, {peak} at once at most", "0")  # fmt: skip
    quarters = [[one[1:] for one in seen if part <= one[0] / run_s * 4 < part + 1] for part in range(4)]
    means, mapped = ([sum(one[of] for one in part) / len(part) for part in quarters] for of in (0, 1))
    each_kib = (means[3] - means[1]) * 1024 / (ended / 2)  # half of them ended between the middles of the two quarters
    tell("memory, last quarter / second", f"{means[3] / means[1]:.2f}  ({', '.join(f'{mean:.0f}' for mean in means)} MiB, and {', '.join(f'{mean:.0f}' for mean in mapped)} mapped; {ended} ended, {each_kib:.1f} KiB each)", "flat: <= 1.05")  # fmt: skip


BENCHES = {one.__name__: one for one in (fan_out, own_time, many)}


def main() -> None:
    """Those that are named, or all."""
    for name in sys.argv[1:] or BENCHES:
        BENCHES[name]()


if __name__ == "__main__":
    main()
