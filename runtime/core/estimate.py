"""How long a task will take, learned from like tasks that ended.

Likeness is the specialist, the way it works, and the size of its files. What is kept is a running mean of seconds a task
and of seconds a byte; the store that keeps it between runs is somebody else's, and so is the clock.
"""

from __future__ import annotations

import attrs
import msgspec

DEFAULT_S = 1.0
"""A task of which nothing is known. Only the order of tasks depends on it."""

MODEL_S = 60.0
"""A task for a model, of which nothing is known: some ten turns of some seconds."""

MODEL_WAY = "claude"
"""The way of a task that names none and whose specialist works with a model."""

_WEIGHT_CAP = 50.0  # a mean over about the last fifty: an old machine's speed must not be believed for ever


class Seen(msgspec.Struct, omit_defaults=True):
    """The mean over `count` ended tasks: seconds a task, and bytes a task."""

    count: float = 0.0
    mean_s: float = 0.0
    mean_bytes: float = 0.0


@attrs.define
class Estimator:
    """Predicts seconds from (specialist, way, bytes); a pure fold over the tasks that ended."""

    seen: dict[str, Seen] = attrs.field(factory=dict)  # {"specialist/way": Seen}

    def learn(self, specialist: str, way: str, size_bytes: int, seconds: float) -> None:
        """Take in one task that ended well."""
        kin = self.seen.setdefault(f"{specialist}/{way}", Seen())
        kin.count = min(kin.count + 1, _WEIGHT_CAP)
        kin.mean_s += (seconds - kin.mean_s) / kin.count
        kin.mean_bytes += (size_bytes - kin.mean_bytes) / kin.count

    def knows(self, specialist: str, way: str) -> bool:
        """Whether a like task has ended; else `predict` guesses."""
        kin = self.seen.get(f"{specialist}/{way}")
        return kin is not None and kin.count > 0

    def predict(self, specialist: str, way: str, size_bytes: int) -> float:
        """Seconds, more than 0. Half of the mean is taken as the cost of any task, half as growing with its files."""
        kin = self.seen.get(f"{specialist}/{way}")
        if kin is None or not kin.count:
            return (MODEL_S if way == MODEL_WAY else DEFAULT_S) + size_bytes / 50_000
        if not size_bytes or kin.mean_bytes < 1:
            return max(kin.mean_s, 1e-6)
        return max(kin.mean_s * (0.5 + 0.5 * size_bytes / kin.mean_bytes), 1e-6)
