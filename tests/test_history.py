"""The history of a machine: it gives back what it was given, in order, from any number on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.core.commands import Settled
from runtime.core.events import Answered, DrainRequested, Event, Spent, Told
from runtime.core.history import History

NAMES = st.text(max_size=40)
COUNTS = st.integers(0, 2**40)
USD = st.floats(0, 1e6, allow_nan=False)
SPENT = st.builds(Spent, COUNTS, COUNTS, COUNTS, COUNTS, USD, USD)
EVENTS: st.SearchStrategy[Event] = st.one_of(
    st.builds(Answered, NAMES, st.integers(1, 99), st.integers(1, 999), stop=NAMES, model=NAMES, spent=SPENT),
    st.builds(Told, NAMES, st.integers(1, 99), st.integers(1, 999)),
    st.builds(DrainRequested, NAMES),
)


@given(st.lists(st.tuples(EVENTS, st.integers(0, 2)), max_size=30), st.integers(1, 31))
def test_what_was_added_is_there(entries: list[tuple[Event, int]], start: int) -> None:
    """Every event with its commands and its time, from any number on: turns of conversations too, which are kept as bytes."""
    history = History()
    meant = []
    for number, (event, count) in enumerate(entries):
        commands = [Settled(f"t{number}", "done") for _ in range(count)]
        history.add(number / 7, event, list(commands))
        meant.append((number / 7, event, commands))
    assert list(history) == meant
    assert list(history.since(start)) == meant[start - 1 :]
    assert len(history) == len(meant)
