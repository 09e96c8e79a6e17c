"""What a turn writes down of its workspace: enough to go on from in another process, no more than the files are, and never a key."""

from __future__ import annotations

from pathlib import Path

import pytest
from claude_stage import KEY, edit, stage, task
from conftest import Repo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from runtime.core.events import Told
from runtime.core.record import Talk
from runtime.git import Repository
from runtime.overlay import TOLD_LIMIT, Overlay

LARGE = "z" * (TOLD_LIMIT + 1)
PATHS = ("a.py", "b.py", "new.py")
CONTENTS = ("1\n", "2\n", "3\n", f"has {KEY}\n", LARGE)
STEPS = st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from((*CONTENTS, None))), min_size=1, max_size=12)


def has_no_key(data: bytes) -> bool:
    """What a conversation asks of a file before it goes into the journal."""
    return KEY.encode() not in data


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=STEPS, crash=st.integers(0, 12))
def test_a_workspace_goes_on_from_any_turn(repo: Repo, steps: list[tuple[str, str | None]], crash: int) -> None:
    """After each turn another process has the same files, from the turns and from what the repository was made to keep; the turns
    hold the contents that the last state names and no others, none of them large, none with a key in it."""
    base = repo.commit({"a.py": "1\n", "b.py": "1\n"})
    here = Repository.open(repo.path)
    overlay, talk = Overlay(here, base), Talk()
    for number, (path, text) in enumerate(steps, 1):
        if text is not None:
            overlay.write(path, text)
        elif overlay.exists(path):
            overlay.delete(path)
        state, contents = overlay.state(has_no_key)
        talk.take(Told("t", 1, number, state=state, contents=contents))
        here.flush()
        there = Overlay(Repository.open(repo.path), base)
        there.restore(state, talk.contents)
        assert there.state(has_no_key) == (state, {})
        assert {one: there.read(one) for one in there.list()} == {one: overlay.read(one) for one in overlay.list()}
        assert set(talk.contents) <= {change.oid for change in state.changes}
        assert all(has_no_key(data) and len(data) <= TOLD_LIMIT for data in talk.contents.values())
        assert not any(turn.contents for turn in talk.turns)
        if number == crash:
            overlay, here = there, there._repository


async def test_a_key_in_a_file_does_not_get_into_the_journal(
    repo: Repo, patient_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model edits a file that has a key in it: the file is changed, and the journal has the edit without the key."""
    repo.commit({"a.py": f"key = '{KEY}'\nx = 1\n", "b.py": "x = 1\n"})
    async with stage(repo, patient_clock, monkeypatch) as there:
        report = await there.run([task(name, goal=edit(f"{name}.py", "x = 1", "x = 2")) for name in "ab"])
        assert report.ok
        assert there.text(report, "a.py") == f"key = '{KEY}'\nx = 2\n"
        kept = b"".join(file.read_bytes() for file in Path(repo.path, ".git", "journeyman").iterdir() if file.is_file())
        assert b"x = 2" in kept
        assert KEY.encode() not in kept
        there.assert_nothing_lost(report)
