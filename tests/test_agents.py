"""Agent files become specialists, or say what is wrong with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.agents import load_agents
from runtime.config import Config
from runtime.crew import specialists
from runtime.errors import BadInput
from specialists.claude import newest_model


def _write(root: Path, name: str, text: str) -> None:
    (root / ".claude" / "agents").mkdir(parents=True, exist_ok=True)
    (root / ".claude" / "agents" / name).write_text(text)


def test_an_agent_file_is_a_specialist(tmp_path: Path) -> None:
    """Name, prompt, model and tools are taken over; a shell is not, whatever the file asks for."""
    _write(
        tmp_path,
        "reviewer.md",
        "---\nname: reviewer\ndescription: Use this: often\ntools: Read, Grep, Bash(git:*), WebFetch\nmodel: haiku\n---\n\nLook hard.\n",
    )
    (one,) = load_agents(tmp_path)
    assert (one.name, one.prompt, one.model) == ("reviewer", "Look hard.", newest_model("haiku"))
    assert one.tools == ("read", "grep", "request_file", "nothing_to_do", "run_check")
    assert one.writes == ()


def test_without_tools_and_model_it_has_all_and_the_default(tmp_path: Path) -> None:
    """An agent file that names no tools has all of ours, and inherits the model."""
    _write(tmp_path, "plain.md", "---\nname: plain\ndescription: d\nmodel: inherit\n---\nDo it.")
    (one,) = load_agents(tmp_path)
    assert one.tools is None
    assert one.model == ""


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("---\nname: a\nno end", "its front matter must begin in the first line and end"),
        ("\n---\nname: a\n---\nx", "its front matter must begin in the first line and end"),
        ("---\nname: a b\n---\nx", "name: 'a b' is no name for a specialist"),
        ("---\nname: a\n---\n", "neither a description nor a prompt"),
        ("---\nname: a\nmodel: [x]\n---\nx", "model: ['x'] is no model's name"),
        ("---\nname: a\ntools: {a: b}\n---\nx", "tools: they must be names"),
        ("---\n- a\n---\nx", "its front matter must be fields"),
    ],
)
def test_a_bad_agent_file_is_told_with_its_name_and_field(tmp_path: Path, text: str, wrong: str) -> None:
    """Each mistake of an agent file is one clear error that names the file."""
    _write(tmp_path, "bad.md", text)
    with pytest.raises(BadInput, match=r"\.claude/agents/bad\.md: ") as caught:
        load_agents(tmp_path)
    assert wrong in str(caught.value)


def test_a_file_without_a_front_matter_is_no_agent(tmp_path: Path) -> None:
    """A README beside the agents stops nothing."""
    _write(tmp_path, "README.md", "# Our agents\n\nThey are nice.\n\n---\n")
    _write(tmp_path, "poet.md", "---\nname: poet\n---\nWrite verse.")
    assert [one.name for one in load_agents(tmp_path)] == ["poet"]


def test_agents_join_the_crew_and_never_replace_who_is_there(tmp_path: Path) -> None:
    """An agent called like a shipped specialist does not take its place; the configuration may change an agent."""
    _write(tmp_path, "service.md", "---\nname: service\n---\nI am another.")
    _write(tmp_path, "poet.md", "---\nname: poet\n---\nWrite verse.")
    crew = {one.name: one for one in specialists(Config(specialists={"poet": {"instances": 1}}), tmp_path)}
    assert "another" not in crew["service"].prompt
    assert crew["poet"].instances == 1
