"""What has been taken back and can be brought again: the redo stack, and what the user's branch carries.

Pure bookkeeping over events; the machine hands it every event that concerns it. Unaware of git: a checkpoint is a commit's name.
"""

from __future__ import annotations

from collections.abc import Mapping

from .events import Checked, Landed, LandingBegun, Stepped
from .record import CANCELLED, DONE, Record


class Undo:
    """One run's. `redo` is the stack: ("line", the tip to go back to) or ("land", the tip to land again)."""

    __slots__ = ("carried", "checks", "landing", "redo", "stepped")

    def __init__(self) -> None:
        self.redo: list[tuple[str, str]] = []
        self.stepped: Stepped | None = None  # the last step, as long as the line has not grown since
        self.landing: LandingBegun | None = None  # recorded, and not known to have come to its end
        self.carried = ""  # the line's tip whose result the user's branch has; empty = none
        self.checks: dict[str, Checked] = {}  # {commit: what the checks said of it}

    def grew(self) -> None:
        """The line has new work on it: what was undone before is no longer in front of it."""
        self.redo.clear()
        self.stepped = None

    def on_stepped(self, event: Stepped, records: Mapping[str, Record]) -> Checked | None:
        """What is off the line counts as cancelled, what is on it again as done; gives what is known of the checks there."""
        self.stepped = event
        if event.how == "undo":
            self.redo.append(("line", event.before))
        elif self.redo and self.redo[-1] == ("line", event.after):
            self.redo.pop()
        for task in event.off:
            record = records[task]
            record.state, record.error, record.commit = CANCELLED, "undone", None
        for task, commit in event.on.items():
            record = records[task]
            record.state, record.error, record.commit = DONE, None, commit
        return self.checks.get(event.after)

    def on_landing(self, event: LandingBegun) -> None:
        self.landing = event if event.commits else None

    def on_landed(self, event: Landed) -> None:
        self.landing = None
        if event.what == "undo":
            self.redo.append(("land", self.carried))
            self.carried = ""
        else:
            if event.what == "land" and self.redo and self.redo[-1] == ("land", event.tip):
                self.redo.pop()
            self.carried = event.tip
