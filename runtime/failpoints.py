"""Named points at which the process can be made to die: before and after each durable write, ref update and rename.

Off unless the environment variable `JOURNEYMAN_FAILPOINT` names one: `line.move.after` dies there the first time, `line.move.after:3`
the third; `@FILE` only writes the name of each that is reached. Knows nothing of what is done at a point. `POINTS` is the
register: `tests/test_failpoints.py` kills at every one of it.
"""

from __future__ import annotations

import os
import signal
from typing import Final

VARIABLE: Final = "JOURNEYMAN_FAILPOINT"
POINTS: Final = frozenset(
    f"{what}.{when}"
    for what in (
        "checkout.aside",
        "checkout.index",
        "checkout.lock",
        "journal.again",
        "journal.begin",
        "journal.close",
        "journal.flush",
        "journal.forget",
        "journal.make",
        "journal.memory",
        "land.files",
        "land.move",
        "line.checkpoint",
        "line.create",
        "line.keep",
        "line.move",
        "pack.release",
        "pack.rename",
        "pack.write",
        "ref.delete",
        "worktree.add",
        "worktree.head",
        "worktree.mark",
        "worktree.remove",
    )
    for when in ("before", "after")
)


def hit(name: str) -> None:
    """Be at a point; the process ends here by SIGKILL when it was told to."""
    wanted = os.environ.get(VARIABLE)
    if not wanted:
        return
    if wanted.startswith("@"):
        with open(wanted[1:], "a") as file:
            file.write(f"{name}\n")
    if not wanted.startswith(name):
        return
    turns = wanted[len(name) :].removeprefix(":") or "1"
    if not turns.isdigit():  # another point, whose name begins like this one's
        return
    if int(turns) <= 1:
        os.kill(os.getpid(), signal.SIGKILL)
    os.environ[VARIABLE] = f"{name}:{int(turns) - 1}"
