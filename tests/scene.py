"""A scene for faults: a small repository, a plan for it, and what an undisturbed run of it comes to.

`Scene.make` prepares it once and runs the plan undisturbed; `Scene.stage` gives a fresh copy to be disturbed. A `Stage` starts and
goes on with its run until it ends, however often somebody kills it, and is judged by `nothing_lost`.
"""

from __future__ import annotations

import os
import random
import shutil
import time
from collections.abc import Mapping
from pathlib import Path

import attrs
from nothing_lost import Checkout, git, nothing_lost
from zygote import Started, Zygote

from runtime.git import Repository
from runtime.journal import Reader
from runtime.runs import entries, journal_path

MOST_STARTS = 60  # of one stage; beyond it something does not come to an end


@attrs.frozen
class Shape:
    """What the plan of a scene is made of."""

    tasks: int = 6
    sleep_s: float = 0.02
    rewrites: int = 0
    checks: int = 1
    chain: int = 2  # the last so many tasks come one after the other


def _files(shape: Shape) -> dict[str, str]:
    files = {f"f{number}.txt": f"{number}\n" for number in range(shape.tasks)}
    files |= {f"m{number}.py": f"print({number})\n" for number in range(shape.rewrites)}
    return {**files, "folder/kept.txt": "kept\n", ".gitignore": "*.ignored\n"}


def _plan(shape: Shape) -> str:
    rows = ['[plan]\nname = "scene"\n']
    rows.append(f"checks = [{', '.join(repr(f'test -e f{number}.txt') for number in range(shape.checks))}]\n")
    for number in range(shape.tasks):
        after = f'after = ["t{number - 1}"]\n' if number >= max(1, shape.tasks - shape.chain) else ""
        script = f"sleep {shape.sleep_s}; echo changed by {number} >> f{number}.txt; echo new > new{number}.txt"
        rows.append(
            f'[[task]]\nid = "t{number}"\nspecialist = "{("service", "test")[number % 2]}"\n{after}'
            f'writes = ["f{number}.txt", "new{number}.txt"]\nexec = ["sh", "-c", "{script}"]\n'
        )
    for number in range(shape.rewrites):
        rows.append(
            f'[[task]]\nid = "m{number}"\nspecialist = "service"\nwrites = ["m{number}.py"]\n'
            'rewrite = { pattern = "print($A)", replace = "log($A)", language = "python" }\n'
        )
    return "\n".join(rows)


@attrs.define
class Scene:
    """A template; see `make`."""

    folder: Path
    zygote: Zygote
    tasks: frozenset[str]
    tree: str = ""
    length_s: float = 0.0  # an undisturbed run
    _count: int = 0

    @classmethod
    def make(cls, folder: Path, zygote: Zygote, shape: Shape = Shape()) -> Scene:  # it is frozen
        """Prepare it, and run it undisturbed."""
        template = folder / "template"
        template.mkdir(parents=True)
        for name, text in _files(shape).items():
            (template / name).parent.mkdir(exist_ok=True)
            (template / name).write_text(text)
        (folder / "plan.toml").write_text(_plan(shape))
        for words in (["init", "-q", "-b", "main"], ["config", "user.name", "Ada"], ["config", "user.email", "a@b.c"], ["add", "-A"], ["commit", "-q", "-m", "base"]):  # fmt: skip
            git(template, *words)
        (template / "folder/kept.txt").write_text("the user is at this\n")  # uncommitted work, to be left alone
        (template / "mine.txt").write_text("untracked\n")
        tasks = [f"t{number}" for number in range(shape.tasks)] + [f"m{number}" for number in range(shape.rewrites)]
        scene = cls(folder, zygote, frozenset(tasks))
        scene.stage().run_on()  # the first one of a zygote is slower
        stage = scene.stage()
        began = time.monotonic()
        ended = stage.start()
        assert ended.wait(60) == 0, ended.said
        scene.length_s = time.monotonic() - began
        scene.tree = git(stage.repo, "rev-parse", "refs/journeyman/r1/line^{tree}")
        stage.judge()
        stage.strike()
        return scene

    def stage(self, template: Path | None = None) -> Stage:
        """A fresh copy, of another template if there is one."""
        self._count += 1
        folder = self.folder / f"s{self._count}"
        shutil.copytree(template or self.folder / "template", folder / "repo", symlinks=True)
        git(folder / "repo", "status")  # the index knows the copies' times, as it would the user's own
        return Stage(self, folder)


@attrs.define
class Stage:
    """One copy of a scene, with its run."""

    scene: Scene
    folder: Path
    environment: dict[str, str] = attrs.field(factory=dict)
    out: Path = attrs.field(default=attrs.Factory(lambda self: self.folder, takes_self=True))  # for what processes say
    cache: Path = attrs.field(default=attrs.Factory(lambda self: self.folder / "cache", takes_self=True))
    kills: int = 0
    starts: int = 0
    before: Checkout = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.before = Checkout.of(self.repo)

    @property
    def repo(self) -> Path:
        return self.folder / "repo"

    def environ(self, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """What its processes are given."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "JOURNEYMAN_"))}
        return {
            **kept,
            "XDG_CACHE_HOME": str(self.cache),
            "GIT_CONFIG_GLOBAL": os.devnull,
            **self.environment,
            **(more or {}),
        }

    def run_name(self) -> str:
        """The run that has tasks, or nothing when none was recorded yet."""
        repository = Repository.open(self.repo)
        for one in reversed(entries(repository)):
            reader = Reader(journal_path(repository))
            try:
                if any(b"submitted" in row for row in reader.records(one.run)):
                    return one.run
            finally:
                reader.close()
        return ""

    def state(self) -> str:
        """Its run's state, or nothing when none was recorded yet."""
        run = self.run_name()
        return next((one.state for one in entries(Repository.open(self.repo)) if one.run == run), "")

    def start(self, limits: Mapping[str, int] | None = None, **more: str) -> Started:
        """Start the run, or go on with it; `more` is added to its environment."""
        self.starts += 1
        assert self.starts < MOST_STARTS, f"{self.folder}: it does not come to an end"
        run = self.run_name()
        words = ["resume", run] if run else ["run", str(self.scene.folder / "plan.toml")]
        return self.scene.zygote.start([*words, "--json"], self.repo, self.environ(more), self.out, limits)

    def command(self, *words: str, **more: str) -> Started:
        """Any other verb, to its end."""
        started = self.scene.zygote.start([*words, "--json"], self.repo, self.environ(more), self.out)
        started.wait(60)
        return started

    def kill_after(self, delay_s: float, **more: str) -> bool:
        """Start, and kill -9 at a moment; whether it still ran then."""
        started = self.start(**more)
        if started.wait(delay_s) is not None:
            return False
        started.kill()
        self.kills += 1
        return True

    def run_on(self) -> Started:
        """Go on until it ends by itself."""
        started = self.start()
        code = started.wait(60)
        assert code == 0, f"{self.folder}: exit {code}: {started.said}{started.out.read_text()}"
        return started

    def judge(self, states: Mapping[str, str] | None = None) -> None:
        """Nothing lost."""
        run = self.run_name()
        nothing_lost(
            self.repo,
            run,
            before=self.before,
            tree=self.scene.tree,
            acknowledged=self.scene.tasks,
            cache=self.cache,
            states=states,
        )

    def strike(self) -> None:
        """Remove it."""
        shutil.rmtree(self.folder)


def kill_at_random(stage: Stage, rng: random.Random, most: int) -> int:
    """Kill the run and its resumptions at random moments, `most` times at most, then let it end; returns the kills."""
    for _ in range(rng.randint(1, most)):
        if not stage.kill_after(rng.uniform(0, stage.scene.length_s * 0.9)):
            break
    stage.run_on()
    return stage.kills
