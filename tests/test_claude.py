"""Working with Claude, through the real SDK, a Runtime and a repository, against the loopback Messages API: what each fault comes to."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from claude_stage import KEY, PLAIN, opening_of, stage, task, tokens
from conftest import Repo
from messages_api import Api, count_events
from messages_faults import CATALOGUE, Answer, Cut, Fault, Reset, Silence, StreamError
from messages_model import Reply, Request, Text, ToolUse
from messages_worker import Worker
from trio.testing import MockClock

from specialists.claude import Claude

# The SDK leaves its generators to the garbage collector when a stream ends in an error event; trio says so.
pytestmark = pytest.mark.filterwarnings("ignore:Async generator '(anthropic|httpx2|httpcore2):ResourceWarning")

ONE = {"a.py": "a = 1\n", "b.py": "b = 1\n", "c.py": "c = 1\n", "AGENTS.md": "Be kind.\n"}


@pytest.fixture
def shop(repo: Repo) -> Repo:
    """A repository with a few files."""
    repo.commit(ONE)
    return repo


@attrs.frozen
class Outcome:
    """What a fault comes to: the task's state, its attempts, the error's words, and the least seconds it takes."""

    state: str = "done"
    attempts: int = 1
    words: str = ""
    least_s: float = 0.0
    calls: int = 4  # to the server, the broken one included


PAUSED = Outcome("paused")
OUTCOMES = {
    "429-retry-0": Outcome(least_s=0.5),
    "429-retry-past": Outcome(least_s=0.5),
    "429-retry-1": Outcome(least_s=1),
    "429-retry-60": Outcome(least_s=60),
    "429-retry-61": Outcome(least_s=61),
    "429-retry-3600": Outcome(least_s=3600),
    "429-retry-date": Outcome(least_s=89),
    "429-retry-none": Outcome(least_s=0.5),
    "429-ramp": Outcome(least_s=30),
    "429-spend-limit": PAUSED,
    "429-contract-spend-limit": PAUSED,
    "429-plan-limit": PAUSED,
    "400-usage-limit": PAUSED,
    "400-workspace-usage-limit": PAUSED,
    "400-credit": PAUSED,
    "402-billing": PAUSED,
    "400": Outcome("failed", words="at least one message is required", calls=2),
    "401": Outcome("failed", words="invalid x-api-key", calls=2),
    "403": Outcome("failed", words="does not have permission", calls=2),
    "404": Outcome("failed", words="claude-none", calls=2),
    "413": Outcome("failed", words="exceeds the maximum size", calls=2),
    "500": Outcome(least_s=0.5),
    "502-html": Outcome(least_s=0.5),
    "503": Outcome(least_s=0.5),
    "504": Outcome(least_s=0.5),
    "529": Outcome(least_s=0.5),
    "reset-before-headers": Outcome(least_s=0.5),
    "reset-at-0": Outcome(least_s=0.5),
    "reset-at-3": Outcome(least_s=0.5),
    "cut-at-3": Outcome(least_s=0.5),
    "error-event-overloaded": Outcome(least_s=0.5),
    "error-event-api": Outcome(least_s=0.5),
    "error-event-first": Outcome(least_s=0.5),
    "silence-300-at-0": Outcome(least_s=90),
    "silence-300-at-3": Outcome(least_s=90),
    "malformed-input": Outcome(),
    "unfinished-input": Outcome(calls=3),
    "unknown-tool": Outcome(),
    "duplicate-id": Outcome(calls=3),
    "wrong-types": Outcome(),
    "empty-content": Outcome(),
    "max-tokens-inside-call": Outcome(attempts=2, calls=5),
    "max-tokens": Outcome(attempts=2, calls=5),
    "refusal": Outcome("failed", words="refused", calls=2),
}


def test_every_fault_has_an_outcome() -> None:
    """The table below knows all that the server can do wrong."""
    assert list(OUTCOMES) == list(CATALOGUE)


@pytest.mark.parametrize("name", OUTCOMES)
async def test_a_fault_ends_as_it_is_documented(
    name: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with a call in the middle of a conversation: the task ends as the table says, the wait that the server asked
    for is kept in full, no answer is bought twice, and a pause goes on where it was."""
    expected = OUTCOMES[name]
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault(2, CATALOGUE[name])]) as there:
        report = await there.run([task("a")])
        if expected is PAUSED:
            assert (report.state, report.tasks["a"].commit, len(there.api.calls)) == ("paused", None, 2)
            report = await there.resume(report.run)
            expected = Outcome()
        ended = report.tasks["a"]
        assert (ended.state, ended.error) == (expected.state, ended.error if expected.words else None)
        assert expected.words in (ended.error or "")
        assert ended.attempts == expected.attempts + (name in PAUSES)
        assert len(there.api.calls) == expected.calls
        assert report.makespan_s >= expected.least_s
        if ended.state == "done":
            assert there.text(report, "a.py") == "a = 2\n"
        there.assert_nothing_lost(report)


PAUSES = frozenset(name for name, outcome in OUTCOMES.items() if outcome is PAUSED)


@pytest.mark.parametrize("kind", [Reset, Cut, StreamError])
async def test_a_stream_can_break_at_every_event(
    kind: type[Reset | Cut | StreamError], shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stream that is reset, ends early or ends in an error after any of its events is asked for once more, unless all of its message
    is there; its beginning is charged, and nothing else is lost."""
    events = count_events(Reply([ToolUse("edit", {"as long": "as any"})]))
    for at in range(events + (kind is StreamError)):
        name = f"{at}"
        shop.commit({f"{name}.py": "x = 1\n"})
        async with stage(shop, patient_clock, monkeypatch, faults=[Fault(2, kind(at))]) as there:
            report = await there.run([task(name)])
            assert (report.state, report.tasks[name].attempts) == ("done", 1), report.tasks[name].error
            broken = [call for call in there.api.calls if call.outcome != "done"]
            assert [call.number for call in broken] == [2]
            assert len(there.api.calls) == (4 if at < events - 1 else 3)  # the last event says nothing more
            spent = there.past(report.run).machine.records[name].spent
            assert spent is not None
            assert spent.tokens >= tokens(there.api)
            there.assert_nothing_lost(report)


async def test_connections_that_are_refused_are_tried_again(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A service that cannot be reached for half a minute costs time, and no attempt."""

    async def be_away(api: Api) -> None:
        async with api.refusing():
            await trio.sleep(30)
            assert not api.calls

    async with stage(shop, patient_clock, monkeypatch) as there, trio.open_nursery() as nursery:
        nursery.start_soon(be_away, there.api)
        await trio.testing.wait_all_tasks_blocked()
        report = await there.run([task("a"), task("b")])
        assert report.state == "done"
        assert report.makespan_s > 25
        assert [one.attempts for one in report.tasks.values()] == [1, 1]
        assert len(there.api.calls) == 6
        there.assert_nothing_lost(report)


@pytest.mark.parametrize("name", ["500", "529", "reset-before-headers"])
async def test_a_service_that_stays_down_fails_the_task_and_a_retry_goes_on(
    name: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten tries a turn, three attempts that each go on from the last turn, then the task has failed, in the server's words."""
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault(range(2, 10_000), CATALOGUE[name])]) as there:
        report = await there.run([task("a")])
        assert (report.state, report.tasks["a"].attempts) == ("failed", 3)
        assert len(there.api.calls) == 31
        assert len([call for call in there.api.calls if call.outcome == "done"]) == 1
        there.assert_nothing_lost(report)


@pytest.mark.parametrize("name", ["wrong-types", "unknown-tool", "malformed-input"])
async def test_a_model_that_only_errs_begins_anew(
    name: str, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three malformed calls in a row are enough: the attempt ends, and the next one begins a new conversation that is told why."""
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault(range(2, 5), CATALOGUE[name])]) as there:
        report = await there.run([task("a")])
        assert (report.state, report.tasks["a"].attempts) == ("done", 2)
        said = opening_of(there.api.calls[4])
        assert len(there.api.calls[4].body["messages"]) == 1
        assert ": the one before failed" in said
        there.assert_nothing_lost(report)


async def test_a_service_that_says_the_key_does_not_get_it_kept(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gateway refuses with the key in its words, after the model has changed a file: the task has failed in those words without the key,
    which is in no journal and in no commit of what the attempt had done."""
    faults = [Fault(3, Answer(401, f"Incorrect API key provided: {KEY}"))]
    async with stage(shop, patient_clock, monkeypatch, faults=faults) as there:
        report = await there.run([task("a")])
        assert "Incorrect API key provided: [redacted]" in (report.tasks["a"].error or "")
        assert "[redacted]" in shop.git("log", "--all", "--format=%B")
        assert KEY not in shop.git("log", "--all", "--format=%B")
        kept = b"".join(file.read_bytes() for file in (shop.path / ".git" / "journeyman").rglob("*") if file.is_file())
        assert b"Incorrect API key provided" in kept
        assert KEY.encode() not in kept


async def test_half_a_character_in_an_answer_is_mended(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """JSON can carry half of a pair of surrogates, and nothing else can: the answer is kept with a mark in its place, and not bought again."""
    worker = Worker()

    def model(request: Request) -> Reply:
        said = worker(request)
        return attrs.evolve(said, blocks=(Text("half of it: \ud83d"), *said.blocks))

    async with stage(shop, patient_clock, monkeypatch, model) as there:
        report = await there.run([task("a")])
        assert report.ok, report.tasks["a"].error
        assert len(there.api.calls) == 3
        assert report.spent.tokens == tokens(there.api)
        there.assert_nothing_lost(report)


# --- silence ---------------------------------------------------------------------------------------------------------


async def test_a_silent_stream_is_cancelled_asked_again_and_at_last_fails_the_attempt(
    shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ninety seconds without a byte end a call; three such calls of one turn end the attempt; the next goes on from the last turn."""
    async with stage(shop, patient_clock, monkeypatch, faults=[Fault(range(2, 5), Silence(300.0, 3))]) as there:
        report = await there.run([task("a")])
        assert (report.state, report.tasks["a"].attempts) == ("done", 2)
        assert 270 <= report.makespan_s < 275
        assert [call.outcome for call in there.api.calls[1:4]] == ["client left at event 3"] * 3
        assert there.api.calls[4].digest == there.api.calls[1].digest
        there.assert_nothing_lost(report)


@pytest.mark.parametrize(("patience_s", "stalls"), [(None, 0), (200.0, 0), (30.0, 1)])
async def test_a_specialist_may_have_a_patience_of_its_own(
    patience_s: float | None, stalls: int, shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`stall_s` of a specialist is what its streams may be silent, longer or shorter than the runtime's; who has none has the runtime's.
    What is learned from its answers is everybody's."""
    claudes: list[Claude] = []

    def claude() -> Claude:
        claudes.append(Claude(stall_s=100.0 if patience_s else 170.0))
        return claudes[-1]

    hasty = attrs.evolve(PLAIN, stall_s=patience_s)
    faults = [Fault(2, Silence(150.0, 3))]
    async with stage(shop, patient_clock, monkeypatch, faults=faults, specialists=[hasty], claude=claude) as there:
        report = await there.run([task("a")])
        assert report.ok
        assert [call.outcome for call in there.api.calls].count("client left at event 3") == stalls
        assert claudes[0].used[hasty.model]["requests"] == 3
        assert claudes[0].client is not None
        there.assert_nothing_lost(report)


@pytest.mark.parametrize("pace", [{"pace_s": 60.0}, {"pace_s": 200.0, "ping_s": 20.0}], ids=["slow", "only pings"])
async def test_a_slow_stream_that_lives_is_left_alone(
    pace: dict[str, float], shop: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model that takes minutes for an answer is not stalled while anything comes, be it only pings."""
    worker = Worker()
    model = lambda request: attrs.evolve(worker(request), **pace)  # noqa: E731
    async with stage(shop, patient_clock, monkeypatch, model) as there:
        report = await there.run([task("a")])
        assert report.state == "done"
        assert report.makespan_s > 600
        assert [call.outcome for call in there.api.calls] == ["done"] * 3
