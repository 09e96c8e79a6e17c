"""What was said in a task's conversations, from the journal: the only place that has it.

Reads records; knows the blocks of the Messages API well enough to print them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import closing
from typing import Any, Final

from .core.events import Answered, Charged, Told
from .git import Repository
from .journal import Reader
from .progress import money
from .record_codec import decode
from .runs import journal_path

_LONGEST: Final = 2_000  # characters of one block on a terminal; `--json` has all


def turns(repository: Repository, run: str, task: str) -> list[dict[str, Any]]:
    """A task's conversations in order, all attempts: `{at_s, attempt, turn, role, content, ...}`. Raises JournalDamaged."""
    found: list[dict[str, Any]] = []
    with closing(Reader(journal_path(repository))) as reader:
        for at_s, event in map(decode, reader.records(run)):
            if not isinstance(event, Answered | Told | Charged) or event.task != task:
                continue
            row: dict[str, Any] = {"at_s": round(at_s, 3), "attempt": event.attempt}
            if isinstance(event, Charged):
                found.append({**row, "role": "nobody", "content": [], "why": event.why, "cost": money(event.spent)})
                continue
            row["turn"] = event.turn
            if isinstance(event, Answered):
                if event.opening:
                    found.append({**row, "role": "user", "content": event.opening})
                more = {"stop": event.stop, "model": event.model, "cost": money(event.spent)}
                found.append({**row, "role": "assistant", "content": event.content, **more})
            else:
                found.append({**row, "role": "user", "content": event.content})
    return found


def lines(repository: Repository, run: str, task: str) -> Iterator[str]:
    """The same for a terminal; nothing when there was no conversation."""
    for row in turns(repository, run, task):
        if row["role"] == "nobody":
            yield f"\n--- attempt {row['attempt']}: an answer was lost ({row['why']}), {row['cost']}"
            continue
        cost = f", {row['model']}, {row['cost']}" if row["role"] == "assistant" else ""
        yield f"\n--- attempt {row['attempt']}, turn {row['turn']}, {row['role']}{cost}"
        for block in row["content"]:
            yield from _block(block)


def _block(block: dict[str, Any]) -> Iterator[str]:
    kind = block.get("type")
    if kind == "text":
        text = block.get("text", "")
    elif kind == "thinking":
        text = f"(thinks) {block.get('thinking', '')}"
    elif kind == "tool_use":
        text = f"-> {block.get('name')} {json.dumps(block.get('input'), ensure_ascii=False)}"
    elif kind == "tool_result":
        content = block.get("content")
        text = f"<- {'(error) ' if block.get('is_error') else ''}{content if isinstance(content, str) else json.dumps(content)}"
    else:
        text = json.dumps(block, ensure_ascii=False)
    cut = f" [{len(text) - _LONGEST} characters more: --json]" if len(text) > _LONGEST else ""
    yield from (text[:_LONGEST] + cut).splitlines() or [""]
