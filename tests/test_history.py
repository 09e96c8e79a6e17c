"""The history of a machine: it gives back what it was given, in order, from any number on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.core.changes import Change, Changeset
from runtime.core.commands import Settled
from runtime.core.events import Answered, DrainRequested, Event, Finished, Spent, Told
from runtime.core.folded import AT_ONCE
from runtime.core.history import History

NAMES = st.text(max_size=40)
COUNTS = st.integers(0, 2**40)
USD = st.floats(0, 1e6, allow_nan=False)
SPENT = st.builds(Spent, COUNTS, COUNTS, COUNTS, COUNTS, USD, USD)
# What no encoding gives back as it was, and what looks like an event
RESULTS = st.none() | st.just({"files": (1, {2: "x"})}) | st.builds(DrainRequested, NAMES)
CHANGES = st.builds(Change, NAMES, st.none() | st.just(0o100644), st.none() | NAMES, st.none() | NAMES)
CHANGESETS = st.builds(Changeset, NAMES, st.lists(CHANGES, max_size=3).map(tuple))
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Answered, NAMES, st.integers(1, 99), st.integers(1, 999), stop=NAMES, model=NAMES, spent=SPENT),
    st.builds(Told, NAMES, st.integers(1, 99), st.integers(1, 999)),
    st.builds(DrainRequested, NAMES),
    st.builds(Finished, NAMES, st.integers(1, 99), RESULTS, st.none() | CHANGESETS),
)


@given(st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=30), st.integers(0, 2 * AT_ONCE), st.data())
def test_what_was_added_is_there(entries: list[tuple[Event, int]], more: int, data: st.DataObject) -> None:
    """Every event with its commands and its time, from any number on: also those that are folded, of which there are some hundreds."""
    history = History()
    meant = []
    turns = [(Told("t", 1, turn), 0) for turn in range(more)]
    cut = data.draw(st.integers(0, len(entries)))
    entries = entries[:cut] + turns + entries[cut:]
    start = data.draw(st.integers(1, len(entries) + 1))
    for number, (event, count) in enumerate(entries):
        commands = [Settled(f"t{number}", "done") for _ in range(count)]
        history.add(number / 7, event, list(commands))
        meant.append((number / 7, event, commands))
    assert list(history) == meant
    assert list(history.since(start)) == meant[start - 1 :]
    assert len(history) == len(meant)
