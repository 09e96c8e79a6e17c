"""What a model is told of the project, before its task."""

from __future__ import annotations

import os
from typing import Any

import pytest
from conftest import Repo

from runtime import Specialist
from runtime.conversation import Conversation
from runtime.core.task import Task
from runtime.git import Repository
from runtime.overlay import Overlay
from runtime.workspace import Brief
from specialists.prompt import INSTRUCTIONS_LIMIT, RULES, opening, system
from specialists.tools import OUTPUT_LIMIT, told_of

CANARY = "canary-0123456789"


def prompt(repo: Repo, charter: str = "", secret: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """The system prompt of a task in the repository's last commit."""
    repository = Repository.open(repo.path)
    base = repository.resolve("HEAD")

    async def request(path: str) -> None:
        raise AssertionError(path)

    overlay = Overlay(repository, base, task="t", may_write=lambda path: True, request=request)
    return system(Specialist("poet", prompt=charter), Conversation("t", 1, contracts="Be terse."), overlay, secret)


def test_the_stable_comes_first_and_each_part_ends_in_a_breakpoint(repo: Repo) -> None:
    """Rules, instructions and contracts for all, then the charter; two breakpoints of the four that a request may have."""
    repo.commit({"CLAUDE.md": "Use tabs.", "AGENTS.md": "Use spaces."})
    shared, charter = prompt(repo, "Write verse.")
    places = [shared["text"].index(words) for words in (RULES, "Use tabs.", "Use spaces.", "Be terse.")]
    assert places == sorted(places)
    assert charter["text"].endswith("Write verse.")
    assert [block["cache_control"] for block in (shared, charter)] == [{"type": "ephemeral"}] * 2


@pytest.mark.parametrize(
    ("target", "there"),
    [("AGENTS.md", 1), ("docs/rules.md", 1), ("docs", 0), ("../outside.md", 0), ("CLAUDE.md", 0), ("nowhere.md", 0)],
)
def test_instructions_may_be_a_link_within_the_repository(repo: Repo, target: str, there: int) -> None:
    """The file behind the link is told, once; what leads out of the repository, in circles or nowhere is left out."""
    repo.path.parent.joinpath("outside.md").write_text("Be rude.")
    repo.write({target: "Be kind."} if there else {"a": "a", "docs/b": "b"})
    os.symlink(target, repo.path / "CLAUDE.md")
    repo.commit({})
    (text,) = (block["text"] for block in prompt(repo))
    assert text.count("Be kind.") == there
    assert "Be rude." not in text
    assert text.count("# The project's instructions") == there


def test_what_is_not_text_or_is_not_there_is_left_out(repo: Repo) -> None:
    """A folder and a file of other bytes stop nothing."""
    repo.commit({"CLAUDE.md/readme": "x", "AGENTS.md": b"\xff\xfe"})
    (block,) = prompt(repo)
    assert "# The project's instructions" not in block["text"]


def test_huge_instructions_are_cut_with_a_note(repo: Repo) -> None:
    """Half a million characters would be paid for by each conversation."""
    repo.commit({"AGENTS.md": "x" * 500_000})
    (block,) = prompt(repo)
    assert len(block["text"]) < INSTRUCTIONS_LIMIT + len(RULES) + 200
    assert "[400000 characters more are in the file]" in block["text"]


def test_no_text_is_cut_within_a_key(repo: Repo) -> None:
    """Instructions, a payload, a result of another task, the last attempt's error, a check's output: each is cut when it is long, and a
    key that stands where it is cut is gone as a whole."""

    def across(limit: int) -> str:
        return "x" * (limit - 6) + CANARY + "y" * limit

    repo.commit({"AGENTS.md": across(INSTRUCTIONS_LIMIT)})
    task, error = Task("t", "poet", payload={"text": across(3990)}), across(4000)
    brief = Brief(task, 2, "poet-1", {"before": across(4000), "listed": [across(3998)]})
    told = [
        *(block["text"] for block in prompt(repo, secret=(CANARY,))),
        *(block["text"] for block in opening(brief, Conversation("t", 2, previous_error=error), (CANARY,))),
        told_of("pytest", False, 1, across(OUTPUT_LIMIT // 2), (CANARY,)),
        told_of("pytest", False, 1, across(OUTPUT_LIMIT // 2)[::-1], (CANARY[::-1],)),
    ]
    text = "\n".join(told)
    assert text.count("x" * 3900) >= 7
    assert CANARY[:4] not in text
    assert CANARY[::-1][-4:] not in text
