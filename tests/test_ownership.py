"""The ownership registry: against a naive model, by tables of cases, and with a long line for one name.

The model keeps requests in lists and compares them pairwise. It knows nothing of the registry's indexes, lines and tickets.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.core.ownership import Registry, Released

NAMES = ("a", "b", "d/", "d/x", "d/y", "d/e/", "d/e/z", "dx", "f/g", "word")
Wants = dict[str, bool]  # {name: whether it would write}


# --- the model -------------------------------------------------------------------------------------------------


def overlap(one: str, other: str) -> bool:
    """Equal, or one is a directory around the other."""
    if one == other:
        return True
    return (one.endswith("/") and other.startswith(one)) or (other.endswith("/") and one.startswith(other))


def conflict(one: Wants, other: Wants) -> bool:
    """Some pair of names overlaps, and one of the two writes."""
    return any(overlap(a, b) and (wa or wb) for a, wa in one.items() for b, wb in other.items())


@attrs.define
class Model:
    """Requests in the order they came. Everything is looked for again at each step."""

    held: dict[str, Wants] = attrs.Factory(dict)
    line: list[tuple[str, Wants]] = attrs.Factory(list)
    extending: dict[str, str] = attrs.Factory(dict)

    def holders_against(self, task: str, wants: Wants) -> set[str]:
        """Other tasks whose claims exclude these."""
        return {other for other, held in self.held.items() if other != task and conflict(wants, held)}

    def blockers(self, task: str) -> set[str]:
        """What `Registry.blockers` promises, as a set."""
        if task in self.extending:
            return self.holders_against(task, {self.extending[task]: True})
        for place, (waiter, wants) in enumerate(self.line):
            if waiter == task:
                ahead = {other for other, earlier in self.line[:place] if conflict(wants, earlier)}
                return ahead | self.holders_against(task, wants)
        return set()

    def settle(self) -> list[str]:
        """Grant, in line order, whoever has nobody in the way."""
        granted = []
        for task, wants in list(self.line):
            if not self.blockers(task):
                self.line.remove((task, wants))
                self.held[task] = wants
                granted.append(task)
        return granted

    def request(self, task: str, writes: Iterable[str], reads: Iterable[str]) -> bool:
        wants = {**dict.fromkeys(reads, False), **dict.fromkeys(writes, True)}
        if not wants:
            return True
        self.line.append((task, wants))
        return task in self.settle()

    def extend(self, task: str, path: str) -> str:
        blockers = self.holders_against(task, {path: True})
        if not blockers:
            self.held[task][path] = True
            return "granted"
        if task in self.extending or blockers & self.extending.keys():
            return "refused"
        self.extending[task] = path
        return "waits"

    def release(self, task: str) -> Released:
        self.extending.pop(task, None)
        self.held.pop(task, None)
        self.line = [(other, wants) for other, wants in self.line if other != task]
        extended = []
        for holder, path in list(self.extending.items()):
            if not self.blockers(holder):
                del self.extending[holder]
                self.held[holder][path] = True
                extended.append((holder, path))
        return Released(tuple(self.settle()), tuple(extended))


def assert_same(registry: Registry, model: Model) -> None:
    """The registry keeps its own invariants and answers every query as the model would."""
    registry.check()
    waiters = [task for task, _ in model.line]
    for task in [*model.held, *waiters]:
        held = model.held.get(task, {})
        writes, reads = registry.holds(task)
        assert {**dict.fromkeys(reads, False), **dict.fromkeys(writes, True)} == held
        assert len(writes) + len(reads) == len(held)
        assert set(registry.blockers(task)) == model.blockers(task)
    for name in NAMES:
        around = [one for one in NAMES if one == name or (one.endswith("/") and name.startswith(one))]
        owners = {t for t, held in model.held.items() if any(held.get(one) is True for one in around)}
        readers = {t for t, held in model.held.items() if any(held.get(one) is False for one in around)}
        assert set(registry.owner(name)) == owners
        assert set(registry.readers(name)) == readers
        assert registry.waiting(name) == tuple(task for task, wants in model.line if name in wants)
        assert {task for task in model.held if registry.covers(task, name)} == owners
    assert registry.empty == (not model.held and not model.line)


names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True).map(tuple)
requests = st.tuples(st.just("request"), names, names)
releases = st.tuples(st.just("release"), st.integers(0, 99), st.just(()))
extensions = st.tuples(st.just("extend"), st.integers(0, 99), st.sampled_from(NAMES))


def run(steps: list[tuple[str, object, object]]) -> tuple[Registry, Model]:
    """Do the steps with both, comparing after each."""
    registry, model = Registry(), Model()
    for number, (what, one, two) in enumerate(steps):
        if what == "request":
            task = f"t{number}"
            assert registry.request(task, one, two) == model.request(task, one, two)
        else:
            pool = list(model.held)
            if what == "release":
                pool += [task for task, _ in model.line]
            if not pool:
                continue
            task = pool[one % len(pool)]
            if what == "release":
                assert registry.release(task) == model.release(task)
            else:
                may_wait_for = lambda other: other not in model.extending  # noqa: E731
                assert registry.extend(task, two, may_wait_for) == model.extend(task, two)
        assert_same(registry, model)
    return registry, model


def drain(registry: Registry, model: Model) -> None:
    """End holders, oldest first, until nothing is left; a wait that is not for a running holder would stop here."""
    while model.line or model.held:
        running = [task for task in model.held if task not in model.extending]
        assert running, "everybody waits"
        assert registry.release(running[0]) == model.release(running[0])
        assert_same(registry, model)
    assert registry.empty


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(requests, requests, releases), max_size=25))
def test_requests_and_releases_grant_what_the_model_grants_in_its_order(steps) -> None:
    """Any requests and releases: same answers, same tasks granted in the same order, and all end when holders end."""
    drain(*run(steps))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(requests, requests, releases, extensions), max_size=25))
def test_extensions_among_requests_answer_as_the_model_and_never_close_a_circle(steps) -> None:
    """With extensions vouched for by 'does not wait itself', somebody always runs and everything ends."""
    drain(*run(steps))


# --- two requests ----------------------------------------------------------------------------------------------

# (names the first writes, reads; names the second writes, reads; does the second wait)
PAIRS = {
    "the same file": (("a",), (), ("a",), (), True),
    "two files": (("a",), (), ("b",), (), False),
    "a word and a file": (("schema",), (), ("schema.py",), (), False),
    "the same word": (("schema",), (), ("schema",), (), True),
    "a file in the directory": (("d/",), (), ("d/x",), (), True),
    "a directory around the file": (("d/x",), (), ("d/",), (), True),
    "a file two levels down": (("d/",), (), ("d/e/z",), (), True),
    "a directory two levels up": (("d/e/z",), (), ("d/",), (), True),
    "a directory in the directory": (("d/",), (), ("d/e/",), (), True),
    "a directory around the directory": (("d/e/",), (), ("d/",), (), True),
    "directories side by side": (("d/e/",), (), ("d/f/",), (), False),
    "a file beside the directory": (("d/e/",), (), ("d/x",), (), False),
    "a file whose name begins like the directory": (("d/",), (), ("dx",), (), False),
    "a directory whose name begins like another": (("d/e/",), (), ("d/ef/",), (), False),
    "both read the file": ((), ("a",), (), ("a",), False),
    "both read, directory and file": ((), ("d/",), (), ("d/x",), False),
    "both read, file and directory": ((), ("d/x",), (), ("d/",), False),
    "a read of what is written": (("a",), (), (), ("a",), True),
    "a write of what is read": ((), ("a",), ("a",), (), True),
    "a read in the written directory": (("d/",), (), (), ("d/e/z",), True),
    "a write in the read directory": ((), ("d/",), ("d/e/z",), (), True),
    "a read around the written file": (("d/e/z",), (), (), ("d/",), True),
    "a write around the read file": ((), ("d/e/z",), ("d/",), (), True),
    "one name of several": (("a", "b"), (), ("c", "b"), (), True),
    "nothing wanted": (("a",), (), (), (), False),
}


@pytest.mark.parametrize(("writes", "reads", "then_writes", "then_reads", "waits"), PAIRS.values(), ids=PAIRS)
def test_second_request_waits_exactly_when_it_overlaps_and_one_writes(
    writes, reads, then_writes, then_reads, waits
) -> None:
    """Writers exclude each other and readers, a directory stands for all inside; the release hands over."""
    registry = Registry()
    assert registry.request("first", writes, reads)
    assert registry.request("second", then_writes, then_reads) is not waits
    registry.check()
    assert registry.blockers("second") == (("first",) if waits else ())
    assert registry.release("first") == Released(("second",) if waits else ())
    assert registry.holds("second") == (then_writes, then_reads)
    assert registry.release("second") == Released()
    assert registry.empty
    registry.check()


def test_name_in_writes_and_reads_is_written() -> None:
    """Naming a name twice asks for the stronger claim once, and the task is not in its own way."""
    registry = Registry()
    assert registry.request("t", ("a", "d/", "d/x"), ("a", "b", "d/y"))
    writes, reads = registry.holds("t")
    assert set(writes) == {"a", "d/", "d/x"}
    assert set(reads) == {"b", "d/y"}
    assert registry.readers("a") == ()
    assert not registry.request("other", (), ("a",))
    registry.check()
    assert registry.release("t") == Released(("other",))
    registry.check()


def test_second_request_of_the_same_task_is_an_error() -> None:
    """A task asks once until it is released, whether it holds or waits; then it may ask again."""
    registry = Registry()
    registry.request("holds", ("a",))
    registry.request("waits", ("a",))
    for task in ("holds", "waits"):
        with pytest.raises(AssertionError, match=f"{task} asks twice"):
            registry.request(task, ("b",))
    registry.release("holds")
    registry.release("waits")
    assert registry.request("holds", ("b",))
    registry.check()


# --- the line --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [("a", "b"), ("d/", "a"), ("d/",), ("d/x", "d/y", "a")], ids=repr)
def test_waiting_big_request_is_not_starved_by_later_small_ones(big) -> None:
    """Small tasks that overlap with an earlier waiting one queue behind it, though their names are free now."""
    registry = Registry()
    held = big[0] if not big[0].endswith("/") else big[0] + "held"
    small = [name + "small" if name.endswith("/") else name for name in big]
    assert registry.request("holder", (held,))
    assert not registry.request("big", big)
    for number, name in enumerate(small):
        assert not registry.request(f"small{number}", (name,))
        assert "big" in registry.blockers(f"small{number}")
    assert registry.request("elsewhere", ("z",))
    registry.check()
    assert registry.release("holder") == Released(("big",))
    registry.check()
    assert registry.release("big") == Released(tuple(f"small{number}" for number in range(len(small))))
    registry.check()


def test_later_readers_do_not_pass_a_waiting_writer() -> None:
    """A stream of readers cannot keep a writer out; after it the readers go together."""
    registry = Registry()
    assert registry.request("r1", (), ("a",))
    assert not registry.request("w", ("a",))
    assert not registry.request("r2", (), ("a",))
    assert not registry.request("r3", (), ("a",))
    assert registry.waiting("a") == ("w", "r2", "r3")
    assert registry.release("r1") == Released(("w",))
    assert registry.release("w") == Released(("r2", "r3"))
    assert registry.readers("a") == ("r2", "r3")
    registry.check()


def test_waiter_holds_none_of_its_names() -> None:
    """All or nothing: the free half of a waiting request has no owner, and the request needs both ends."""
    registry = Registry()
    registry.request("one", ("a",))
    registry.request("two", ("b",))
    assert not registry.request("both", ("a", "b", "c"))
    assert registry.owner("c") == ()
    assert registry.holds("both") == ((), ())
    assert registry.release("one") == Released()
    assert registry.owner("a") == ()
    registry.check()
    assert registry.release("two") == Released(("both",))
    registry.check()


@pytest.mark.parametrize(
    ("gone", "granted"),
    [("big", ("small",)), ("small", ()), ("last", ()), ("stranger", ())],
)
def test_release_of_a_waiting_request_lets_those_behind_it_go(gone, granted) -> None:
    """Leaving the line frees whoever waited for that place only; a task that never asked changes nothing."""
    registry = Registry()
    registry.request("holder", ("a",))
    for task, writes in (("big", ("a", "b")), ("small", ("b",)), ("last", ("a",))):
        assert not registry.request(task, writes)
    assert registry.release(gone) == Released(granted)
    registry.check()
    assert registry.blockers(gone) == ()
    assert gone not in registry.waiting("a") + registry.waiting("b")
    assert registry.owner("a") == ("holder",)
    assert registry.owner("b") == granted


# --- extensions ------------------------------------------------------------------------------------------------


def anybody(_: str) -> bool:
    return True


def nobody(_: str) -> bool:
    return False


# (path; vouching; answer), for "t" that writes a and reads r, beside "w" that writes b and d/x, "r" that reads r and s
EXTENSIONS = {
    "a free file": ("free", nobody, "granted"),
    "its own file again": ("a", nobody, "granted"),
    "a file only a waiting request wants": ("later", nobody, "granted"),
    "a written file, vouched": ("b", anybody, "waits"),
    "a written file, not vouched": ("b", nobody, "refused"),
    "a directory around a written file, vouched": ("d/", anybody, "waits"),
    "a directory around a written file, not vouched": ("d/", nobody, "refused"),
    "a file beside a written one": ("d/y", nobody, "granted"),
    "a file others read, vouched": ("s", anybody, "waits"),
    "a file it reads with another, vouched": ("r", anybody, "waits"),
    "a file it reads with another, not vouched": ("r", nobody, "refused"),
}


def extension_scene() -> Registry:
    registry = Registry()
    assert registry.request("t", ("a",), ("r",))
    assert registry.request("w", ("b", "d/x"))
    assert registry.request("r", (), ("r", "s"))
    assert not registry.request("waiter", ("a", "later"))
    return registry


@pytest.mark.parametrize(("path", "vouch", "answer"), EXTENSIONS.values(), ids=EXTENSIONS)
def test_extension_is_granted_waits_or_is_refused(path, vouch, answer) -> None:
    """Free: granted, before waiting requests; held: waits for holders that are vouched for, else refused."""
    registry = extension_scene()
    assert registry.extend("t", path, vouch) == answer
    assert registry.covers("t", path) is (answer == "granted")
    assert bool(registry.blockers("t")) is (answer == "waits")
    registry.check()
    released = [registry.release("w"), registry.release("r")]
    told = [extended for one in released for extended in one.extended]
    assert told == ([("t", path)] if answer == "waits" else [])
    assert registry.covers("t", path) is (answer != "refused")
    registry.check()
    assert registry.release("t") == Released(("waiter",))
    assert registry.owner(path) == (("waiter",) if path in ("a", "later") else ())
    registry.check()


def test_extension_needs_every_holder_in_the_way_vouched_for() -> None:
    """One reader that is not vouched for is enough to refuse; all are asked about only as long as needed."""
    registry = Registry()
    registry.request("t", ("a",))
    registry.request("good", (), ("s",))
    registry.request("bad", (), ("s",))
    assert registry.extend("t", "s", lambda holder: holder == "good") == "refused"
    assert registry.blockers("t") == ()
    registry.release("bad")
    assert registry.extend("t", "s", lambda holder: holder == "good") == "waits"
    registry.check()
    assert registry.release("good") == Released((), (("t", "s"),))


def test_second_extension_is_refused_while_the_first_waits() -> None:
    """A holder waits for one path at a time; the refused one leaves no trace, a free one is still granted."""
    registry = extension_scene()
    assert registry.extend("t", "b", anybody) == "waits"
    assert registry.extend("t", "s", anybody) == "refused"
    assert registry.extend("t", "free", nobody) == "granted"
    assert registry.blockers("t") == ("w",)
    registry.check()
    assert registry.release("r") == Released()
    assert registry.release("w") == Released((), (("t", "b"),))
    registry.check()


def test_extension_goes_before_the_waiting_request_for_the_same_path() -> None:
    """The holder gets the freed path; the request that was in line for it gets it after the holder ends."""
    registry = Registry()
    registry.request("t", ("a",))
    registry.request("w", ("b",))
    assert not registry.request("line", ("b",))
    assert registry.extend("t", "b", anybody) == "waits"
    assert registry.release("w") == Released((), (("t", "b"),))
    assert registry.blockers("line") == ("t",)
    registry.check()
    assert registry.release("t") == Released(("line",))


def test_extension_of_a_read_to_a_write_replaces_it() -> None:
    """The path then counts as written, once, and is free after the release."""
    registry = Registry()
    registry.request("t", (), ("a",))
    assert registry.extend("t", "a", nobody) == "granted"
    assert registry.holds("t") == (("a",), ())
    assert registry.readers("a") == ()
    registry.check()
    registry.release("t")
    assert registry.empty
    assert registry.owner("a") == ()


def test_release_of_a_waiting_extension_drops_it_with_the_claims() -> None:
    """A holder that ends while it waits gives up both; the path is not given to it afterwards."""
    registry = extension_scene()
    assert registry.extend("t", "b", anybody) == "waits"
    assert registry.release("t") == Released(("waiter",))
    assert registry.blockers("t") == ()
    registry.check()
    assert registry.release("w") == Released()
    assert registry.owner("b") == ()
    registry.check()


# --- queries ---------------------------------------------------------------------------------------------------

# {path: (owner, readers, waiting)}
QUERIES = {
    "a": (("w",), (), ("q1", "q2")),
    "d/": (("w",), (), ()),
    "d/x": (("w",), (), ("q2",)),
    "d/e/z": (("w",), (), ()),
    "d": ((), (), ()),
    "dx": ((), (), ()),
    "s/": ((), ("r1", "r2"), ()),
    "s/y": ((), ("r3", "r1", "r2"), ("q1",)),
    "s/e/z": ((), ("r1", "r2"), ()),
    "nowhere": ((), (), ()),
}


def query_scene() -> Registry:
    registry = Registry()
    assert registry.request("w", ("a", "d/"))
    assert registry.request("r1", (), ("s/",))
    assert registry.request("r2", (), ("s/",))
    assert registry.request("r3", (), ("s/y",))
    assert not registry.request("q1", ("a", "s/y"))
    assert not registry.request("q2", ("a",), ("d/x",))
    return registry


@pytest.mark.parametrize(("path", "answers"), QUERIES.items(), ids=QUERIES)
def test_queries_by_path(path, answers) -> None:
    """Owner and readers look at directories around the path, waiting at exactly the name."""
    registry = query_scene()
    assert (registry.owner(path), registry.readers(path), registry.waiting(path)) == answers
    assert registry.covers("w", path) is (answers[0] == ("w",))
    assert not registry.covers("r1", path)
    assert not registry.covers("q1", path)


@pytest.mark.parametrize(
    ("task", "holds", "blockers"),
    [
        ("w", (("a", "d/"), ()), set()),
        ("r1", ((), ("s/",)), set()),
        ("q1", ((), ()), {"w", "r1", "r2", "r3"}),
        ("q2", ((), ()), {"w", "q1"}),
        ("stranger", ((), ()), set()),
    ],
)
def test_queries_by_task(task, holds, blockers) -> None:
    """Holders hold and wait for nobody; waiters hold nothing and wait for holders and those ahead, each once."""
    registry = query_scene()
    assert registry.holds(task) == holds
    found = registry.blockers(task)
    assert set(found) == blockers
    assert len(found) == len(blockers)


def test_empty_is_false_while_anything_is_held_or_waits() -> None:
    """Only a registry with no claim left is empty; a task without claims leaves no trace."""
    registry = Registry()
    assert registry.empty
    assert registry.request("nothing", ())
    assert registry.empty
    registry.request("t", ("a",))
    registry.request("u", ("a",))
    assert not registry.empty
    registry.release("t")
    assert not registry.empty
    registry.release("u")
    assert registry.empty
    assert registry.release("u") == Released()


# --- a hot name ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("writes", [("hot",), ("hot", "d/x"), ("d/",)], ids=repr)
def test_hot_name_with_3000_waiters_is_released_in_order(writes) -> None:
    """Each release grants exactly the next in line, first come first served, to the last."""
    registry = Registry()
    tasks = [f"t{number}" for number in range(3000)]
    assert [registry.request(task, writes) for task in tasks] == [True] + [False] * 2999
    assert registry.waiting(writes[0]) == tuple(tasks[1:])
    for number, task in enumerate(tasks):
        assert registry.release(task) == Released(tuple(tasks[number + 1 : number + 2]))
        if number >= 2950:  # the check looks at every pair of waiters, so only once the line is short
            registry.check()
    assert registry.empty


def test_hot_name_lets_all_readers_between_two_writers_go_at_once() -> None:
    """1,500 readers behind a writer are granted together in order; the writer behind them waits for the last."""
    registry = Registry()
    readers = tuple(f"r{number}" for number in range(1500))
    assert registry.request("first", ("hot",))
    for task in readers:
        assert not registry.request(task, (), ("hot",))
    assert not registry.request("last", ("hot",))
    assert registry.release("first") == Released(readers)
    for task in readers[:-1]:
        assert registry.release(task) == Released()
    assert registry.release(readers[-1]) == Released(("last",))
    registry.check()
