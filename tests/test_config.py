"""The project's configuration: where it is looked for, what it may say, and what a repository may never set."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.config import Config, load_config, load_own
from runtime.errors import BadInput
from runtime.limits import Limits

FULL = """
instances = 4
max_instances = 8
checks = ["pytest -q"]
setup = "npm ci"
setup_timeout_s = 90
claims = "grow"
on_failure = "stop"
exclude = ["vendor/**"]
format = ["ruff format"]

[limits]
requests_per_min = 40
input_tokens_per_min = 30_000
output_tokens_per_min = 8_000.5
concurrency = 6
stall_s = 120

[specialists.interface]
instances = 5
stall_s = 300
helps = ["test"]

[specialists.schema]
min_instances = 0
writes = ["db/**"]
prompt = "You look after the schema."
checks = ["make schema"]
handler = "tools/schema.py:work"
isolation = "worktree"
"""


def told(root: Path, user_config: Path | None = None) -> str:
    with pytest.raises(BadInput) as caught:
        load_config(root, user_config)
    assert caught.value.exit_code == 2
    return str(caught.value).replace(f"{root}/", "")


def test_nothing_configured_is_the_defaults(tmp_path: Path) -> None:
    """No file, or one that is about other things, changes nothing."""
    assert load_config(tmp_path) == Config()
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert load_config(tmp_path) == Config()


def test_every_field_is_read(tmp_path: Path) -> None:
    """From `journeyman.toml`."""
    (tmp_path / "journeyman.toml").write_text(FULL)
    found = load_config(tmp_path)
    assert found == Config(
        instances=4,
        max_instances=8,
        checks=("pytest -q",),
        setup="npm ci",
        setup_timeout_s=90,
        claims="grow",
        on_failure="stop",
        exclude=("vendor/**",),
        format=("ruff format",),
        limits=Limits(40, 30_000, 8_000.5, 6),
        stall_s=120,
        specialists={
            "interface": {"instances": 5, "stall_s": 300, "helps": ["test"]},
            "schema": {
                "min_instances": 0,
                "writes": ["db/**"],
                "prompt": "You look after the schema.",
                "checks": ["make schema"],
                "handler": "tools/schema.py:work",
                "isolation": "worktree",
            },
        },
        source=str(tmp_path / "journeyman.toml"),
    )


def test_pyproject_has_a_section_for_it(tmp_path: Path) -> None:
    """`[tool.journeyman]`, the same fields."""
    (tmp_path / "pyproject.toml").write_text('[tool.journeyman]\nchecks = ["make"]\n[tool.journeyman.specialists.ui]\n')
    found = load_config(tmp_path)
    assert (found.checks, found.specialists) == (("make",), {"ui": {}})
    assert found.source.endswith("pyproject.toml: tool.journeyman")


def test_journeyman_toml_wins_and_says_so(tmp_path: Path) -> None:
    """Two places are not mixed."""
    (tmp_path / "journeyman.toml").write_text("instances = 2\n")
    (tmp_path / "pyproject.toml").write_text("[tool.journeyman]\nmax_instances = 7\n")
    found = load_config(tmp_path)
    assert (found.instances, found.max_instances) == (2, 20)
    assert found.notes == (
        f"{tmp_path}/journeyman.toml is used; [tool.journeyman] in {tmp_path}/pyproject.toml is not",
    )


def test_a_pyproject_that_is_not_used_may_be_broken(tmp_path: Path) -> None:
    """It is somebody else's file."""
    (tmp_path / "journeyman.toml").write_text("instances = 2\n")
    (tmp_path / "pyproject.toml").write_text("not toml at all")
    assert load_config(tmp_path).notes == ()


def test_the_users_own_file_lies_below_the_projects(tmp_path: Path) -> None:
    """Field by field, for each specialist too; its credentials are left alone."""
    own = tmp_path / "user.toml"
    own.write_text(
        'api_key = "k"\ninstances = 1\nmax_instances = 4\n[specialists.ui]\ninstances = 1\nprompt = "p"\n[credentials]\n'
    )
    (tmp_path / "journeyman.toml").write_text("instances = 2\n[specialists.ui]\ninstances = 3\n")
    found = load_config(tmp_path, own)
    assert (found.instances, found.max_instances) == (2, 4)
    assert found.specialists == {"ui": {"instances": 3, "prompt": "p"}}
    assert load_config(tmp_path / "none", tmp_path / "missing.toml") == Config()


def test_of_two_limits_the_smaller_one_holds(tmp_path: Path) -> None:
    """They are caps: a repository can tighten the user's own and not loosen them, and the other way round. One that only one of both
    has holds; what neither has is as if there were no table."""
    own = tmp_path / "user.toml"
    own.write_text("[limits]\nconcurrency = 4\ninput_tokens_per_min = 10_000\nstall_s = 60\n")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.journeyman.limits]\nconcurrency = 50\ninput_tokens_per_min = 500\nrequests_per_min = 7\nstall_s = 100\n"
    )
    found = load_config(tmp_path, own)
    assert (found.limits, found.stall_s) == (Limits(7, 500, None, 4), 60)
    (tmp_path / "pyproject.toml").unlink()
    assert load_config(tmp_path, own).limits == Limits(None, 10_000, None, 4)
    assert load_config(tmp_path).limits == Limits()


def test_a_users_own_file_is_read_by_itself(tmp_path: Path) -> None:
    """For the daemon's limits, which are no repository's; a limit that is spelt wrong is no credential, and is told of."""
    own = tmp_path / "user.toml"
    assert load_own(own) == Config()
    own.write_text('api_key = "k"\n[limits]\nconcurrency = 2\n')
    assert load_own(own) == Config(limits=Limits(concurrency=2))
    own.write_text("[limits]\ninput_token_per_min = 2\n")
    with pytest.raises(
        BadInput, match=r"user.toml:2: limits.input_token_per_min: .* did you mean 'input_tokens_per_min'"
    ):
        load_own(own)


@pytest.mark.parametrize(
    "line",
    [
        'api_key = "x"',
        'ANTHROPIC_API_KEY = "x"',
        'anthropic_model = "x"',
        'base_url = "http://localhost"',
        'endpoint = "x"',
        'token = "x"',
        'http_proxy = "x"',
        "[env]",
        "[specialists.ui]\nauth = 'x'",
    ],
)
def test_a_repository_cannot_set_credentials_or_endpoints(tmp_path: Path, line: str) -> None:
    """Whoever can change a file in the repository could read or redirect them."""
    (tmp_path / "journeyman.toml").write_text(line + "\n")
    assert "credentials and endpoints are taken from your own environment only, never from a repository" in told(
        tmp_path
    )


def test_what_a_program_is_given_of_the_environment_is_the_users_to_say(tmp_path: Path) -> None:
    """`pass_environment` in the user's own file, by program; a repository that says it is refused, and so is what names no variable."""
    own = tmp_path / "user.toml"
    own.write_text('[pass_environment]\nclaude = ["ANTHROPIC_API_KEY"]\n')
    assert load_config(tmp_path, own).pass_environment == {"claude": ("ANTHROPIC_API_KEY",)}
    own.write_text('[pass_environment]\nclaude = "ANTHROPIC_API_KEY"\n')
    assert told(tmp_path, own) == (
        'user.toml:2: pass_environment.claude: it must be a list of variables\' names, as in claude = ["ANTHROPIC_API_KEY"], not text'
    )
    (tmp_path / "journeyman.toml").write_text('[pass_environment]\nsh = ["ANTHROPIC_API_KEY"]\n')
    assert "never from a repository" in told(tmp_path)


WRONG = [
    ("instnces = 3", "journeyman.toml:1: instnces: there is no such field; did you mean 'instances'?"),
    ("author = 3", "author: there is no such field; known are: instances, "),
    ("\ninstances = true", "journeyman.toml:2: instances: it must be a whole number, not true/false"),
    ("instances = 0", "instances: 0 is not from 1 to 1000"),
    ("max_instances = 1001", "max_instances: 1001 is not from 1 to 1000"),
    ("setup_timeout_s = nan", "setup_timeout_s: nan is not finite"),
    ("setup_timeout_s = 0", "setup_timeout_s: 0 is not a number of seconds above 0"),
    ('claims = "loose"', "claims: 'loose' is not one of strict, grow"),
    ('on_failure = "x"', "on_failure: 'x' is not one of isolate, rollback-scope, rollback-level, stop"),
    ('checks = "make"', "checks: it must be a list of texts, not text"),
    ('checks = [" "]', "checks: one of them is empty"),
    ("specialists = 3", "specialists: it must be a table, not a number"),
    ("[specialists]\nui = 3", "journeyman.toml:2: specialists.ui: it must be a table, not a number"),
    ('[specialists.ui]\nhandler = "work"', "specialists.ui.handler: 'work' is not of the form module:function"),
    ('[specialists.ui]\n\nisolation = "vm"', "journeyman.toml:3: specialists.ui.isolation: 'vm' is not one of overlay"),
    ("[specialists.ui]\nmin_instances = -1", "specialists.ui.min_instances: -1 is not from 0 to 1000"),
    ('[specialists."a\\nb"]', "'a\\nb' is no name for a specialist"),
    ("limits = 3", "journeyman.toml:1: limits: it must be a table, not a number"),
    (
        "[limits]\nconcurency = 3",
        "journeyman.toml:2: limits.concurency: there is no such field; did you mean 'concurrency'?",
    ),
    ("[limits]\ntokens = 3", "limits.tokens: there is no such field; "),
    (
        "[limits]\nmodel = 'x'",
        "limits.model: there is no such field; known are: requests_per_min, input_tokens_per_min, ",
    ),
    ("[limits]\nconcurrency = 0", "limits.concurrency: 0 is not from 1 to 1000"),
    ("[limits]\nconcurrency = 1.5", "limits.concurrency: it must be a whole number, not a number"),
    ("[limits]\nrequests_per_min = 0", "limits.requests_per_min: 0 is not a number above 0"),
    ("[limits]\ninput_tokens_per_min = -5", "limits.input_tokens_per_min: -5 is not a number above 0"),
    ("[limits]\noutput_tokens_per_min = '9'", "limits.output_tokens_per_min: it must be a number, not text"),
    ("[limits]\nrequests_per_min = inf", "limits.requests_per_min: inf is not finite"),
    ("[limits]\nstall_s = 0.5", "limits.stall_s: 0.5 is not a number of seconds from 1 on"),
    ("[limits]\nstall_s = true", "limits.stall_s: it must be a number, not true/false"),
    ("[specialists.ui]\nstall_s = 0", "specialists.ui.stall_s: 0 is not a number of seconds from 1 on"),
    ("x = ", "journeyman.toml:1: not TOML: "),
    ("a = 1\na = 2", "journeyman.toml:2: not TOML: "),
    ("a = " + "[" * 20_000, "journeyman.toml: it cannot be read: "),
]


@pytest.mark.parametrize(("text", "expected"), WRONG)
def test_a_mistake_names_file_line_and_field(tmp_path: Path, text: str, expected: str) -> None:
    """One clear line each, and exit code 2."""
    (tmp_path / "journeyman.toml").write_text(text + "\n")
    assert expected in told(tmp_path)


def test_all_mistakes_of_both_files_are_told_at_once(tmp_path: Path) -> None:
    """The user's own and the project's."""
    (tmp_path / "user.toml").write_text("instances = 0\n")
    (tmp_path / "journeyman.toml").write_text('colour = "red"\nclaims = 3\n')
    assert len(told(tmp_path, tmp_path / "user.toml").splitlines()) == 3


def test_a_file_that_is_not_utf_8_is_told_of(tmp_path: Path) -> None:
    """With the line of the first odd byte."""
    (tmp_path / "journeyman.toml").write_bytes(b'# fine\nsetup = "\xfc"\n')
    assert told(tmp_path) == "journeyman.toml:2: it is not UTF-8 (byte 16)"
