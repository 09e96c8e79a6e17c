"""A run watched in a notebook: `with watching(rt): report = rt.run(plan)` shows a bar and the instances' lanes, live, as HTML and as
text. In a terminal, where nothing can be drawn over, it prints what is worth a line.

A fold of the runtime's notices, asked for a few times a second from a thread of its own; nothing of the notebook's is changed. Needs
IPython only where it is shown. A finished `RunReport` shows itself.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import attrs

from . import pictures
from .blocking import Runtime
from .core import commands as cmd
from .core import events as ev
from .handles import Notice
from .progress import Progress

__all__ = ["View", "watching"]

_LOOK_S: Final = 0.15
_WIDTH: Final = 100  # characters, of the text


@attrs.define
class View:
    """What is seen of a run: `take` its notices, show it."""

    progress: Progress = attrs.field(factory=Progress)
    now_s: float = 0.0  # seconds since the run was opened, as far as is known
    bars: list[pictures.Bar] = attrs.field(factory=list)
    _open: dict[str, cmd.Start] = attrs.field(factory=dict)  # {task: the start of what runs}
    _since: dict[str, float] = attrs.field(factory=dict)
    _seen: float = attrs.field(factory=time.monotonic)

    def take(self, notice: Notice) -> str | None:
        """Take one notice in; a line for a log where it is worth one."""
        self.now_s, self._seen = max(self.now_s, notice.at_s), time.monotonic()
        item = notice.event
        if isinstance(item, cmd.Start):
            self._close(item.task, "lost")
            self._open[item.task], self._since[item.task] = item, notice.at_s
        elif isinstance(item, ev.Finished | ev.Failed):
            self._close(item.task, "done" if isinstance(item, ev.Finished) else "failed")
        elif isinstance(item, ev.InstanceDied):
            for task in [task for task, start in self._open.items() if start.instance == item.instance]:
                self._close(task, "lost")
        return self.progress.take(notice)

    def _close(self, task: str, how: str) -> None:
        start = self._open.pop(task, None)
        if start is not None:
            self.bars.append(self._bar(start, how, self.now_s))

    def _bar(self, start: cmd.Start, how: str, end_s: float) -> pictures.Bar:
        return pictures.Bar(start.instance, start.task, self._since[start.task], end_s, how, start.stolen_from)

    def _clock(self) -> float:
        return self.now_s + (time.monotonic() - self._seen if self._open else 0.0)

    def __repr__(self) -> str:
        return "\n".join(self.progress.render(self._clock(), _WIDTH))

    def _repr_html_(self) -> str:
        counts, total, now = self.progress.counts(), len(self.progress.estimates), self._clock()
        lost = counts["skipped"] + counts["cancelled"]
        shares = {"done": counts["done"], "running": counts["running"], "failed": counts["failed"], "lost": lost}
        state = (
            "running"
            if counts["running"] + counts["waiting"] or not total
            else "failed"
            if counts["failed"]
            else "done"
        )
        bars = [*self.bars, *(self._bar(start, "running", now) for start in self._open.values())]
        run = self.progress.run if self.progress.run != "run" else ""  # which is every run's name without a repository
        title = " ".join(part for part in ("Journeyman", run, self.progress.title) if part)
        meter = pictures.meter({**shares, "waiting": 0}, total)
        return pictures.whole(title, state, [self.progress.say(now)], meter, pictures.lanes(bars))


@contextmanager
def watching(runtime: Runtime) -> Iterator[View]:
    """Show what an opened runtime does while the block lasts."""
    view, over = View(), threading.Event()
    handle = _display(view)
    seq = 1

    def look() -> None:
        nonlocal seq
        for notice in runtime.notices(seq):
            words = view.take(notice)
            seq = notice.seq + 1
            if handle is None and words:
                print(words, file=sys.stderr)
        if handle is not None:
            handle.update(view)

    def keep_looking() -> None:
        while not over.wait(_LOOK_S):
            look()

    thread = threading.Thread(target=keep_looking, name="journeyman-view", daemon=True)
    thread.start()
    try:
        yield view
    finally:
        over.set()
        thread.join()
        look()


def _display(view: View) -> Any:
    """A display that can be updated; None where there is no notebook."""
    if "IPython" not in sys.modules:
        return None
    shell = import_module("IPython").get_ipython()
    if shell is None or not getattr(shell, "kernel", None):
        return None
    return import_module("IPython.display").display(view, display_id=True)
