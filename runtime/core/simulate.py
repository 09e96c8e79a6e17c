"""A plan's run in virtual time: the machine itself, driven by a heap of things to come instead of the world.

What a run would meet is drawn from a checksum of (seed, task, attempt), not from a source of randomness: the same seed gives the
same run, and a task takes as long with three instances as with ten, so that two numbers of instances can be compared. Unaware of
what is done with the machine afterwards.
"""

from __future__ import annotations

import math
from hashlib import blake2b
from heapq import heappop, heappush
from typing import Final

import attrs

from .commands import Concluded, Start
from .events import Event, Failed, Finished, Opened, Submitted, Tick
from .machine import Machine

_WORD: Final = 8  # bytes of one draw


@attrs.frozen
class Chances:
    """How a run strays from its estimates. Lengths are lognormal around the estimate, which is their mean; `sigma` is the spread of
    their logarithm. `fails` is the share of attempts that fail somewhere on their way and are tried again; a task's last attempt
    never does, because how long a plan takes is asked, not whether it works."""

    sigma: float = 0.6
    fails: float = 0.03

    def draw(self, seed: int, task: str, attempt: int) -> tuple[float, float | None]:
        """(length of the attempt over its estimate, share of that after which it fails; None: it does not)."""
        bits = blake2b(f"{seed}\0{task}\0{attempt}".encode(), digest_size=4 * _WORD).digest()
        one, two, three, four = (
            (int.from_bytes(bits[at : at + _WORD], "big") + 0.5) / 2.0 ** (8 * _WORD)
            for at in range(0, len(bits), _WORD)
        )
        normal = math.sqrt(-2.0 * math.log(one)) * math.cos(2.0 * math.pi * two)  # Box and Muller's transform
        length = math.exp(self.sigma * normal - self.sigma**2 / 2)
        return length, four if three < self.fails else None


def play(opened: Opened, submitted: Submitted, seed: int, chances: Chances | None = None) -> Machine:
    """The machine at the end of one simulated run; every task is done. Changesets have no place in it, and so no time."""
    chances = chances if chances is not None else Chances()
    machine = Machine()
    machine.handle(opened, 0.0)
    heap: list[tuple[float, int, Event]] = []  # (due, in the order of their making, what happens)
    made, now = 0, 0.0
    commands = machine.handle(submitted, now)
    while not any(type(command) is Concluded for command in commands):
        for command in commands:
            if type(command) is Start:
                made += 1
                lasts_s, event = _ending(machine, command, seed, chances)
                heappush(heap, (now + lasts_s, made, event))
        due = machine.deadline() if machine.timed else None
        if heap and (due is None or heap[0][0] <= due):
            now, _, event = heappop(heap)
        else:
            assert due is not None, "nothing will ever happen again, and tasks are open"
            now, event = max(now, due), Tick()
        commands = machine.handle(event, now)
    return machine


def _ending(machine: Machine, start: Start, seed: int, chances: Chances) -> tuple[float, Event]:
    """(seconds until it, how the attempt ends)."""
    record = machine.records[start.task]
    factor, fails_after = chances.draw(seed, start.task, start.attempt)
    lasts_s = record.estimate_s * factor
    if fails_after is not None and start.attempt < record.last_attempt:
        return lasts_s * fails_after, Failed(start.task, start.attempt, "simulated")
    return lasts_s, Finished(start.task, start.attempt)
