"""Killed at any moment in the middle of its conversations and resumed: the same tree, and no answer that was journaled is bought again."""

from __future__ import annotations

import json
import os
import random
import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from claude_stage import KEY, edit, usd
from conftest import Repo
from messages_ledger import Call, bought_twice
from messages_process import MessagesProcess
from nothing_lost import Checkout, nothing_lost
from zygote import Started, Zygote

from runtime.core.events import Answered
from runtime.git import Repository
from runtime.journal import Reader
from runtime.runs import entries, journal_path, load

TASKS = 5
CREW = 3  # instances: as many calls at once


def _plan() -> str:
    rows = ['[plan]\nname = "crash"\nbudget_usd = 5\n']
    for number in range(TASKS):
        name = f"t{number}"
        goal = "\n".join(
            [edit(f"{name}.py", "x = 1", "x = 2"), edit(f"{name}.py", "y = 1", "y = 2"), f"WRITE {name}.new <<new>>"]
        )
        after = f'after = ["t{number - 2}"]\n' if number > 2 else ""
        rows.append(
            f'[[task]]\nid = "{name}"\nspecialist = "service"\n{after}writes = ["{name}.py", "{name}.new"]\n'
            f"goal = '''{goal}'''\ncheck = [\"test -e {name}.new\"]\n"
        )
    return "\n".join(rows)


@attrs.define
class Theatre:
    """Server, zygote, plan, and what an undisturbed run of it comes to."""

    folder: Path
    api: MessagesProcess
    zygote: Zygote
    tree: str = ""
    length_s: float = 0.0
    count: int = 0

    def play(self) -> Play:
        """A fresh copy of the repository."""
        self.count += 1
        folder = self.folder / f"p{self.count}"
        repo = Repo(folder / "repo")
        repo.git("config", "user.name", "Ada")
        repo.git("config", "user.email", "a@b.c")
        files = {f"t{number}.py": f"x = 1\n# {self.count}\ny = 1\n" for number in range(TASKS)}
        repo.commit({**files, "AGENTS.md": f"Run {self.count}. " + "Be kind. " * 600})
        return Play(self, folder, repo, Checkout.of(repo.path))


@attrs.define
class Play:
    """One repository and its run."""

    theatre: Theatre
    folder: Path
    repo: Repo
    before: Checkout
    # (when, {task: turns that are journaled}) at each kill
    kept: list[tuple[float, dict[str, int]]] = attrs.field(factory=list)

    def run_name(self) -> str:
        """The run, or nothing while none is recorded."""
        repository = Repository.open(self.repo.path)
        for one in entries(repository):
            reader = Reader(journal_path(repository))
            try:
                if any(b"submitted" in row for row in reader.records(one.run)):
                    return one.run
            finally:
                reader.close()
        return ""

    def start(self, **more: str) -> Started:
        """Start the run, or go on with it."""
        run = self.run_name()
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "JOURNEYMAN_"))},
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "GIT_CONFIG_GLOBAL": os.devnull,
            "ANTHROPIC_BASE_URL": self.theatre.api.url,
            "ANTHROPIC_API_KEY": KEY,
            **more,
        }
        words = ["resume", run] if run else ["run", str(self.theatre.folder / "plan.toml"), "--yes"]
        return self.theatre.zygote.start([*words, "--json"], self.repo.path, environment, self.folder)

    def note_kill(self) -> None:
        """It is dead: note what its journal has."""
        run = self.run_name()
        turns: dict[str, int] = {}
        if run:
            for name, record in load(Repository.open(self.repo.path), run).machine.records.items():
                ended = record.state in ("merging", "done")
                turns[name] = 1000 if ended else sum(isinstance(one, Answered) for one in record.turns or ())
        self.kept.append((time.time(), turns))

    @property
    def calls(self) -> list[Call]:
        """Those of this play: its instructions are its own."""
        mark = f"Run {self.theatre.count}. "
        return [call for call in self.theatre.api.calls if mark in str(call.body["system"])]

    def judge(self) -> None:
        """Run it to its end; nothing lost, nothing bought again, and all that was bought is counted: also what a dead process had under
        way."""
        ended = self.start()
        assert ended.wait(60) == 0, ended.said + ended.out.read_text()
        assert json.loads(ended.out.read_text())["cost"]["usd"] >= usd(self) - 1e-6  # six digits are told
        run = self.run_name()
        line = f"refs/journeyman/{run}/line"
        assert [self.repo.show(line, f"t{number}.new") for number in range(TASKS)] == [b"new"] * TASKS
        assert [self.repo.show(line, f"t{number}.py").count(b"= 2") for number in range(TASKS)] == [2] * TASKS
        nothing_lost(
            self.repo.path,
            run,
            before=self.before,
            tree=self.repo.git("rev-parse", f"{line}^{{tree}}"),
            acknowledged={f"t{number}" for number in range(TASKS)},
            cache=self.folder / "cache",
        )
        for when, turns in self.kept:
            for call in self.calls:
                asked = sum(message["role"] == "assistant" for message in call.body["messages"])
                task = next(
                    name
                    for name in (f"t{number}" for number in range(TASKS))
                    if f"# Task `{name}`" in str(call.body["messages"][0])
                )
                assert call.at_s < when or asked >= turns.get(task, 0), f"turn {asked + 1} of {task} was journaled"
        assert len(bought_twice(self.calls)) <= CREW * len(self.kept)


@pytest.fixture(scope="module")
def theatre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Theatre]:
    """One server and one zygote for all kills."""
    folder = tmp_path_factory.mktemp("crash")
    (folder / "plan.toml").write_text(_plan())
    with (
        MessagesProcess(folder / "ledger.jsonl", "--first-s", "0.05", "--key", KEY) as api,
        Zygote("anthropic", "specialists.claude") as zygote,
    ):
        theatre = Theatre(folder, api, zygote)
        theatre.play().judge()  # the first one of a zygote is slower
        began = time.monotonic()
        theatre.play().judge()
        theatre.length_s = time.monotonic() - began
        yield theatre


@pytest.mark.parametrize("seed", range(4))
def test_kill_9_in_the_middle_of_conversations(theatre: Theatre, seed: int) -> None:
    """`journeyman run` with Claude, killed at random moments, its resumption too: it ends with every change made and committed once, and
    after each kill no turn is asked for whose answer was in the journal."""
    rng = random.Random(seed)
    play = theatre.play()
    for _ in range(2):
        started = play.start()
        if started.wait(rng.uniform(0.2, 0.9) * theatre.length_s) is None:
            started.kill()
            play.note_kill()
    play.judge()


@pytest.mark.parametrize("point", ["pack.write.before:2", "pack.rename.after:4", "line.move.after:1"])
def test_kill_9_beside_a_durable_write(theatre: Theatre, point: str) -> None:
    """The same, at the worst moments: just before and just after an answer, the files it belongs to, or a commit is on the disk."""
    play = theatre.play()
    started = play.start(JOURNEYMAN_FAILPOINT=point)
    assert started.wait(60) == -9
    play.note_kill()
    play.judge()
