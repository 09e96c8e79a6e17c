"""Working with Claude, through the real SDK, a Runtime and a repository, against the loopback Messages API: what each fault comes to."""

from __future__ import annotations

import attrs
import pytest
from claude_stage import stage, task
from conftest import Repo
from messages_faults import CATALOGUE, Fault
from trio.testing import MockClock

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
