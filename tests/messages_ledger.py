"""The ledger: one entry for every call that reached the server, in memory and, if wished, as JSON lines. Never holds a key's value."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TextIO

import attrs
from messages_meter import Price, Usage, cost


@attrs.define
class Call:
    """One call. Times are seconds since 1970 by the server's clock.

    `number`: of the POST /v1/messages, from 1; 0 for other requests. `key`: whether a key came with it. `digest`: a hash of the body
    with its whole conversation, also where `body`, which is as it came, continues a thread.
    `fault`: what it was hit by; `spoilt`: the reply itself was broken by it, so that a client has to ask again.
    `outcome`: "done", "refused" (an error status), "reset before headers", "reset at event 3", "cut at event 3", "error event at 3", "client left at
    event 3" (also before the first, as 0), or "running". `events`: stream events that were sent.
    `usage` is what the service counted, with the output that was produced; None when the model was not asked.
    """

    number: int
    at_s: float
    request_id: str
    method: str
    path: str
    key: bool
    model: str = ""
    body: Any = None
    digest: str = ""
    stream: bool = False
    fault: str | None = None
    spoilt: bool = False
    status: int | None = None
    outcome: str = "running"
    message: str = ""
    events: int = 0
    usage: Usage | None = None
    ended_s: float | None = None

    def cost(self, price: Price | None = None) -> float:
        """What the call cost, in fresh input tokens (or the price's unit)."""
        return cost(self.usage, price) if self.usage else 0.0

    def line(self) -> str:
        """As one JSON line."""
        return json.dumps(attrs.asdict(self) | {"cost": self.cost()}, ensure_ascii=False)


@attrs.define
class Ledger:
    """All calls in the order in which they came.

    `file`: each call is also written there when it has ended, and flushed. `bodies`: False drops them (long benches).
    """

    file: TextIO | None = None
    bodies: bool = True
    calls: list[Call] = attrs.field(factory=list)

    def end(self, call: Call) -> None:
        """The call is over."""
        if not self.bodies:
            call.body = None
        if self.file is not None:
            self.file.write(call.line() + "\n")
            self.file.flush()


def read_ledger(path: Path) -> list[Call]:
    """The calls in a ledger's file, in the order in which they ended. A last line that is still being written is left out."""
    calls = []
    for line in path.read_text().split("\n")[:-1]:
        fields = json.loads(line)
        fields.pop("cost")
        calls.append(Call(**fields | {"usage": Usage(**fields["usage"]) if fields["usage"] else None}))
    return calls


def total(calls: Iterable[Call]) -> Usage:
    """What the calls used together."""
    return sum((call.usage for call in calls if call.usage), Usage())


def total_cost(calls: Iterable[Call], price: Price | None = None) -> float:
    """What the calls cost together."""
    return sum(call.cost(price) for call in calls)


def bought_twice(calls: Iterable[Call]) -> list[str]:
    """Digests of bodies that got a good answer in full more than once."""
    counts = Counter(call.digest for call in calls if call.number and call.outcome == "done" and not call.spoilt)
    return [digest for digest, count in counts.items() if count > 1]
