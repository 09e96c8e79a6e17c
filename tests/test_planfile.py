"""A plan file becomes the plan it says, in three forms, or all of its errors with their lines; never a crash."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from runtime.core.plan import Problem, problems
from runtime.core.task import FIXPOINT, Codemod, Plan, Rewrite, Specialist, Task
from runtime.errors import BadPlan
from runtime.planfile import SIZE_LIMIT_BYTES, dump, load, loads

SPECIALISTS = {name: Specialist(name) for name in ("interface", "service")}

TOML = """
[plan]
name = "users"
checks = ["pytest -q", "ruff check ."]
claims = "grow"
together = true
max_failures = 3
setup_timeout_s = 90

[[task]]
id = "types"
specialist = "service"
estimate_s = 12.5
payload = { deep = [1, "two", { three = 3.0 }] }
rewrite = { pattern = "print($A)", replace = "log.info($A)", language = "python" }
passes = "fixpoint"

[[task]]
id = "card"
specialist = "interface"
goal = "Convert UserCard"
writes = ["src/components/UserCard.tsx"]
after = ["types"]
codemod = { name = "m.C", args = { n = 1 } }

[[task]]
id = "lint"
specialist = "service"
exec = ["ruff", "check", "--fix", "{file}"]
ok_exit = [0, 1]
"""

PLAN = Plan(
    (
        Task(
            "types",
            "service",
            estimate_s=12.5,
            payload={"deep": [1, "two", {"three": 3.0}]},
            rewrite=Rewrite("print($A)", "log.info($A)", "python"),
            passes=FIXPOINT,
        ),
        Task(
            "card",
            "interface",
            goal="Convert UserCard",
            writes=("src/components/UserCard.tsx",),
            after=("types",),
            codemod=Codemod("m.C", {"n": 1}),
        ),
        Task("lint", "service", exec=("ruff", "check", "--fix", "{file}"), ok_exit=(0, 1)),
    ),
    name="users",
    checks=("pytest -q", "ruff check ."),
    claims="grow",
    together=True,
    max_failures=3,
    setup_timeout_s=90,
)


def told(text: str, form: str, **more: Any) -> list[str]:
    """What is said about a bad plan."""
    with pytest.raises(BadPlan) as caught:
        loads(text, form, "p", **more)
    return list(caught.value.problems)


# --- the same plan in every form -------------------------------------------------------------------------------


def test_toml_json_and_yaml_say_the_same() -> None:
    """The fields are the same, and so is the plan."""
    data = dump(PLAN)
    assert loads(TOML, "toml") == PLAN
    assert loads(json.dumps(data, indent=2), "json") == PLAN
    assert loads(yaml.safe_dump(data), "yaml") == PLAN
    assert loads(yaml.safe_dump(data, default_flow_style=True), "yml") == PLAN


TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
PAYLOAD = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    texts = st.lists(TEXT, max_size=3)
    tasks = [
        Task(
            draw(TEXT),
            draw(TEXT),
            goal=draw(TEXT),
            writes=draw(texts),
            reads=draw(texts),
            after=draw(texts),
            payload=draw(PAYLOAD),
            estimate_s=draw(st.none() | st.integers(1, 9) | st.floats(0.1, 9)),
            attempts=draw(st.integers(1, 5)),
            passes=draw(st.integers(0, 10)),
            exec=draw(st.none() | texts),
            ok_exit=draw(st.lists(st.integers(0, 255), max_size=2)),
            codemod=draw(st.none() | st.builds(Codemod, TEXT, st.dictionaries(TEXT, PAYLOAD, max_size=2))),
            rewrite=draw(st.none() | st.builds(Rewrite, TEXT, TEXT, TEXT)),
        )
        for _ in range(draw(st.integers(0, 3)))
    ]
    return Plan(tasks, name=draw(TEXT), base=draw(TEXT), checks=draw(texts), together=draw(st.booleans()))


@given(plans())
def test_a_dumped_plan_reads_back_as_itself(plan: Plan) -> None:
    """Whatever the plan: `dump`, JSON, `loads`, the same plan; and YAML carries it too."""
    data = dump(plan)
    assert loads(json.dumps(data), "json") == plan
    assert loads(yaml.safe_dump(data), "yaml") == plan


def test_the_three_field_array() -> None:
    """`prompt` is the goal, `files` is what it writes; the specialist is chosen by them."""
    text = '[{"id": "a", "prompt": "Do it", "files": ["x.tsx"]}, {"id": "b", "prompt": "", "files": []}]'
    plan = loads(text, "json", choose=lambda files: "interface" if files else "service")
    assert plan.tasks == (Task("a", "interface", goal="Do it", writes=("x.tsx",)), Task("b", "service"))


def test_who_chooses_is_asked_only_where_no_specialist_is_named() -> None:
    """A named specialist stays; without anybody who chooses, a missing one is an error."""
    text = '[[task]]\nid = "a"\nwrites = ["x"]\n[[task]]\nid = "b"\nspecialist = "service"\n'
    assert [task.specialist for task in loads(text, "toml", choose=lambda files: "+".join(files)).tasks] == [
        "x",
        "service",
    ]
    assert told(text, "toml") == ["p:1: task 'a': specialist: it is missing"]


def test_a_file_says_what_its_name_ends_in(tmp_path: Path) -> None:
    """Whatever the case; a byte order mark is no part of it; `form` overrides the ending."""
    (tmp_path / "p.TOML").write_bytes(b"\xef\xbb\xbf" + TOML.encode())
    (tmp_path / "p").write_text(json.dumps(dump(PLAN)))
    assert load(tmp_path / "p.TOML") == PLAN
    assert load(str(tmp_path / "p"), form="json") == PLAN
    with pytest.raises(BadPlan, match=r"ends in \.toml, \.json or \.yaml, not in nothing"):
        load(tmp_path / "p")


def test_yaml_merges_and_aliases_work() -> None:
    """What YAML is liked for is not refused with its bombs."""
    text = """
task:
  - &first {id: a, specialist: service, writes: &w [x.py], payload: {k: *w}}
  - {<<: *first, id: b}
"""
    first, second = loads(text, "yaml").tasks
    assert (second.id, second.writes, second.payload) == ("b", ("x.py",), {"k": ["x.py"]})
    assert first.id == "a"


# --- what is wrong ---------------------------------------------------------------------------------------------


def test_all_errors_of_a_file_and_its_graph_come_at_once_in_one_list() -> None:
    """Syntax apart, nothing hides anything else; a field is told of once, by whoever saw it first."""
    text = """
[plan]
base = "-x"
colour = "red"

[[task]]
id = "a"
specialist = "servce"
estimate_s = "long"
after = ["b"]

[[task]]
id = "b"
specialist = 4
after = ["a"]
"""
    found = told(text, "toml", check=lambda plan: problems(plan, SPECIALISTS))
    assert found == [
        "p:4: plan: colour: there is no such field; known are: name, base, checks, claims, on_failure, together, "
        "max_failures, setup, setup_timeout_s, format, budget_usd, budget_tokens, contracts",
        "p:9: task 'a': estimate_s: it must be a number, not text",
        "p:14: task 'b': specialist: it must be text, not a number",
        "p:3: plan: base: '-x' looks like an option, not a commit",
        "p:8: task 'a': specialist: there is no specialist 'servce'; did you mean 'service'?",
        "p:10: task 'a': after: these wait for each other: a -> b -> a",
    ]


LINES = [
    (
        "toml",
        '[[task]]\nid = "a"\nspecialist = "s"\n\n[task.rewrite]\npattern = 4\nreplace = ""\nlanguage = ""\n',
        6,
        "rewrite.pattern",
    ),
    ("toml", 'task = [\n {id = "a", specialist = "s", goal = 4},\n]\n', None, "goal"),
    ("toml", '[[task]]\nid = "a"\nspecialist = "s"\ngoal = """\n[[task]]\nid = "b"\n"""\nscope = 4\n', None, "scope"),
    ("json", '{"task": [\n{"id": "a",\n"specialist": "s",\n"goal":\n4}]}', 4, "goal"),
    ("json", '[\n{"id": "a",\n"prompt": "s",\n"files": 4}]', 4, "files"),
    ("yaml", "task:\n- id: a\n  specialist: s\n  codemod:\n    name: [x]\n", 5, "codemod.name"),
    ("yaml", "{task: [{id: a, specialist: s,\n goal: 4}]}", 2, "goal"),
]


@pytest.mark.parametrize(("form", "text", "line", "field"), LINES)
def test_the_line_is_the_fields_or_none(form: str, text: str, line: int | None, field: str) -> None:
    """A wrong line is worse than none: where the text is not what it seems, there is none."""
    (found,) = told(text, form)
    assert found.startswith(f"p{f':{line}' if line else ''}: task 'a': {field}: ")


def test_a_problem_of_the_graph_gets_the_line_of_its_field() -> None:
    """Also when somebody else found it."""
    found = told(TOML, "toml", check=lambda plan: [Problem("exec", "no such program", 2, "task 'lint'")])
    assert found == ["p:29: task 'lint': exec: no such program"]


def test_what_cannot_be_opened_is_told_in_words(tmp_path: Path) -> None:
    """A folder, a missing file, a name that can be no file, a file that is too large."""
    with pytest.raises(BadPlan, match="it is a folder, not a plan file"):
        load(tmp_path)
    with pytest.raises(BadPlan, match="there is no such file"):
        load(tmp_path / "none.toml")
    with pytest.raises(BadPlan, match="that cannot be a file's name"):
        load("a\0b.toml")
    with (tmp_path / "large.json").open("wb") as file:
        file.truncate(SIZE_LIMIT_BYTES + 1)
    with pytest.raises(BadPlan, match="it has more than 20 MiB"):
        load(tmp_path / "large.json")


def test_a_plan_may_come_through_a_pipe(tmp_path: Path) -> None:
    """As `journeyman run <(make-plan)` hands it over: no size, read once."""
    read, write = os.pipe()
    os.write(write, TOML.encode())
    os.close(write)
    try:
        assert load(f"/dev/fd/{read}", form="toml") == PLAN
    finally:
        os.close(read)


@given(st.text(max_size=60), st.sampled_from(("toml", "json", "yaml")))
def test_no_text_makes_it_crash(text: str, form: str) -> None:
    """Any text is a plan or a BadPlan."""
    try:
        loads(text, form)
    except BadPlan as error:
        said = error.problems
    else:
        said = ("a plan",)
    assert all(said)


ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
FIELDS = st.sampled_from(
    ("id", "specialist", "writes", "after", "rewrite", "codemod", "exec", "passes", "payload", "x")
)


@given(st.fixed_dictionaries({}, optional={"plan": ODD, "task": ODD | st.lists(ODD | st.dictionaries(FIELDS, ODD))}))
def test_no_data_makes_it_or_the_check_crash(data: dict[str, Any]) -> None:
    """Wrong types in every place are told of, and what is left of the plan can still be checked."""
    said: tuple[str, ...] = ()
    try:
        loads(json.dumps(data), "json", check=lambda plan: problems(plan, SPECIALISTS, path_problem=lambda path: None))
    except BadPlan as error:
        said = error.problems
    assert all(line.startswith(("plan: ", "plan:1: ")) for line in said)


def test_many_problems_in_a_large_file_are_told_in_reasonable_time() -> None:
    """The text is looked through for lines once, not once a problem."""
    rows = [{"id": f"t{at}", "specialist": "service", "goal": at} for at in range(1_500)]
    for form, text in (
        ("json", json.dumps({"task": rows})),
        ("yaml", yaml.dump({"task": rows}, Dumper=yaml.CSafeDumper)),
    ):
        started = time.perf_counter()
        assert len(told(text, form)) == 1_500
        assert time.perf_counter() - started < 10
