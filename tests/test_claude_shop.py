"""The migration of the example shop with thirty of its tasks told in words: through the loopback server, as `journeyman demo --claude` runs it."""

from __future__ import annotations

import difflib
import json
import os
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from claude_stage import KEY
from messages_api import serve
from messages_ledger import bought_twice
from messages_model import Reply, Request, ToolUse

from specialists.edits import Ahead
from specialists.worker import work

ROOT = Path(__file__).parent.parent
SHOP = ROOT / "examples" / "shop"
CONTEXT = 2  # lines around a change


@attrs.frozen
class Migrator:
    """A model that can do this migration: it reads its task's files, changes them as `plan.toml` has the same task done by program, with
    edits of a few lines each, and ends."""

    ways: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, plan: Path) -> Migrator:
        return cls({task["id"]: task for task in tomllib.loads(plan.read_text())["task"]})

    def __call__(self, request: Request) -> Reply:
        name = re.search(r"# Task `(.+?)`", request.conversation)
        assert name is not None
        files = re.findall(
            r"^- (.+)$", request.conversation.partition("# Files there now")[2].partition("\n# ")[0], re.M
        )
        texts = [text for text, is_error in request.results() if not is_error]
        if request.turn == 0:
            return Reply([ToolUse("read", {"file_path": path}) for path in files])
        if request.turn == 1:
            changes = [
                change for path, text in zip(files, texts, strict=True) for change in self._changes(name[1], path, text)
            ]
            return Reply(changes or [ToolUse("nothing_to_do", {"reason": "it is as it should be"})])
        return Reply(f"Did {name[1]}.")

    def _changes(self, name: str, path: str, text: str) -> Iterator[ToolUse]:
        task = self.ways[name]
        kind = "rewrite" if "rewrite" in task else "codemod"
        way = {"args": {}, **task[kind], "root": str(SHOP), "passes": task.get("passes", 1), "look_ahead": False}
        ((state, why, new, _),) = work(kind, way, [(path, text.encode())], Ahead())
        assert state != "failed", f"{name}: {path}: {why}"
        if new is None:
            return
        edits = list(_edits(text, new.decode()))
        if all(text.count(old) == 1 for old, _ in edits):
            for old, changed in edits:
                yield ToolUse("edit", {"file_path": path, "old_string": old, "new_string": changed})
        else:
            yield ToolUse("write", {"file_path": path, "content": new.decode()})


def _edits(before: str, after: str) -> Iterator[tuple[str, str]]:
    """Changes with some lines around each."""
    old, new = before.splitlines(keepends=True), after.splitlines(keepends=True)
    for group in difflib.SequenceMatcher(None, old, new, autojunk=False).get_grouped_opcodes(CONTEXT):
        yield "".join(old[group[0][1] : group[-1][2]]), "".join(new[group[0][3] : group[-1][4]])


@pytest.mark.slow
async def test_the_shop_is_migrated_by_thirty_conversations(tmp_path: Path) -> None:
    """`journeyman demo --claude`: three specialists, thirty conversations and ten tasks by program, to green checks and a landed commit."""
    async with serve(Migrator.of(SHOP / "plan.toml"), key=KEY) as api:
        environment = {
            **os.environ,
            "PYTHONPATH": str(ROOT),
            "ANTHROPIC_BASE_URL": api.url,
            "ANTHROPIC_API_KEY": KEY,
        }
        words = [sys.executable, "-m", "runtime", "demo", "--claude", "--json", "--keep", str(tmp_path / "shop")]
        ended = await trio.run_process(
            words, cwd=tmp_path, env=environment, capture_stdout=True, capture_stderr=True, check=False
        )
        assert ended.stdout, ended.stderr.decode()
        done = json.loads(ended.stdout)
    assert {name: task["error"] for name, task in done["tasks"].items() if task["state"] != "done"} == {}
    assert [check["ok"] for check in done["checks"]] == [True] * 3
    assert (done["exit"], done["ok"], len(done["landed"])) == (0, True, 1)
    talks = {call.body["messages"][0]["content"][0]["text"]: call for call in api.calls}
    assert len(talks) == 30
    parts = {part for call in talks.values() for part in re.findall(r"# Your part: (\w+)", str(call.body["system"]))}
    assert parts == {"interface", "service", "test"}
    assert {call.outcome for call in api.calls} == {"done"}
    assert not bought_twice(api.calls)
    assert sum(task["attempts"] for task in done["tasks"].values()) == 40
