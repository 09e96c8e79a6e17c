"""The verbs that speak to a daemon: serve, submit, watch; and how other verbs find out whether one does the work.

Prints and parses; the daemon itself is in `service`. Without a daemon, `submit` runs the plan here and `watch` reads the journal.
"""

from __future__ import annotations

import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import attrs
import click
import msgspec
import trio
from click.core import ParameterSource

from . import runs as past_runs
from .core.commands import Backoff, Settled, Start
from .errors import BadInput, JourneymanError
from .execution import (
    EXIT_FAILED,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PAUSED,
    EXIT_RED,
    Options,
    checked,
    document,
    execute,
)
from .foretell import cost
from .git import Repository
from .handles import notices
from .planfile import SIZE_LIMIT_BYTES
from .service.client import Daemon
from .service.places import Places
from .service.units import KINDS, WHERE, program, surroundings
from .service.units import unit as unit_text
from .submission import Settings
from .terminal import Place, common, load, put, run_argument, say

if TYPE_CHECKING:
    from .service.later import Mountable

_KNOCK_S: Final = 5.0
_LOOK_S: Final = 0.3  # how often the journal of a run of another process is looked at
FORMS = {".toml": "toml", ".json": "json", ".yaml": "yaml", ".yml": "yaml"}


def socketed(function: Any) -> Any:
    """The flag of every verb that may speak to a daemon."""
    return click.option(
        "--socket", "socket_path", metavar="PATH", default="", help="The daemon's socket (default: this user's)."
    )(function)


@attrs.frozen
class Spoken:
    """A daemon that serves this repository."""

    daemon: Daemon
    repository: str

    @classmethod
    def find(cls, repository: Repository, *, socket_path: str = "", register: bool = False) -> Spoken | None:
        """The daemon to speak to; None: there is none, or it does not know this repository."""
        daemon = Daemon.find(Places.find(socket_path))
        if daemon is None:
            return None
        name = daemon.repository(repository.work_tree, register=register)
        return cls(daemon, name) if name is not None else None

    def path(self, run: str = "", verb: str = "") -> str:
        """An address below this repository's."""
        parts = [
            "/v1/repositories",
            self.repository,
            "runs",
            *([quote(run, safe="")] if run else []),
            *([verb] if verb else []),
        ]
        return "/".join(parts)

    def post(self, run: str, verb: str, body: Any = None) -> Any:
        """Have the daemon do something with a run. Raises JourneymanError."""
        return self.daemon.ask("POST", self.path(run, verb), body)

    def waiting(self) -> dict[str, str]:
        """{queued run: why it waits}"""
        told = self.daemon.ask("GET", f"/v1/repositories/{self.repository}")
        return {one["run"]: one["reason"] for one in told["queue"] if not one["active"]}

    def status(self, run: str) -> dict[str, Any]:
        """A run's document. Raises JourneymanError."""
        told: dict[str, Any] = self.daemon.ask("GET", self.path(run))
        return told


# --- serve -----------------------------------------------------------------------------------------------------


@click.command()
@common
@socketed
@click.option(
    "--tcp", type=click.IntRange(0, 65535), metavar="PORT", help="Also listen on 127.0.0.1 (0: any free port)."
)
@click.option(
    "--instances", type=click.IntRange(1, 1000), default=20, metavar="N", help="Attempts at once, over all runs."
)
@click.option("--runs", type=click.IntRange(1, 1000), default=8, metavar="N", help="Active runs in a repository.")
@click.option("--jobs", type=click.IntRange(1, 256), metavar="N", help="Worker processes a run (default: one a core).")
@click.option("--drain", type=click.FloatRange(0, 3600), default=30.0, metavar="S", help="Seconds that SIGTERM waits.")
@click.option("--link", is_flag=True, help="Print a one-time link to the running daemon's page, and end.")
@click.option("--unit", type=click.Choice(KINDS), help="Print what systemd or launchd needs to run this, and end.")
def serve(
    repo: str, as_json: bool, socket_path: str, tcp: int | None, instances: int, runs: int, jobs: int | None, drain: float,
    link: bool, unit: str | None,
) -> int:  # fmt: skip
    """Run the daemon: many runs, many clients, over a Unix socket that only you may open."""
    if unit is not None:
        words = {
            "--repo": Repository.open(repo).work_tree if _is_given("repo") else None,
            "--socket": Places.find(socket_path).socket if socket_path else None,
            "--tcp": tcp,
            "--instances": instances,
            "--runs": runs,
            "--jobs": jobs,
            "--drain": f"{drain:g}",
        }
        given = [word for name, value in words.items() if value is not None for word in (name, str(value))]
        text = unit_text(unit, [*program(), "serve", *given], drain, surroundings(socket_path))
        return _print_unit(unit, text, as_json)
    from .service.daemon import Choices
    from .service.daemon import serve as serve_forever
    from .service.host import Limits
    from .service.later import later

    places = Places.find(socket_path)
    if link:
        return _link(places, as_json)
    named = [] if repo == "." and not _is_repository(repo) else [str(Repository.open(repo).work_tree)]
    choices = Choices(tcp, named, Limits(instances, runs), jobs, drain)
    try:
        trio.run(serve_forever, places, choices, {"/mcp": later(_mcp)})
    except BaseExceptionGroup as group:
        raise _only(group) from None
    return EXIT_OK


def _mcp() -> Mountable:
    from .mcp import mounted  # the protocol's SDK takes longer to load than all of the daemon

    return mounted


def _is_given(name: str) -> bool:
    return click.get_current_context().get_parameter_source(name) is not ParameterSource.DEFAULT


def _print_unit(kind: str, text: str, as_json: bool) -> int:
    if as_json:
        put({"kind": kind, "text": text, "where": WHERE[kind]})
    else:
        click.echo(text, nl=False)
        say(f"put it into {WHERE[kind]}")
    return EXIT_OK


def _only(group: BaseExceptionGroup[BaseException]) -> BaseException:
    named, _ = group.split(JourneymanError)
    found: BaseException = group if named is None else named
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def _is_repository(path: str) -> bool:
    try:
        Repository.open(path)
    except BadInput:
        return False
    return True


def _link(places: Places, as_json: bool) -> int:
    daemon = Daemon.find(places)
    if daemon is None:
        raise BadInput(f"no daemon listens on {places.socket}; start one: journeyman serve --tcp 0")
    if not places.address.exists():
        raise BadInput(
            "the daemon does not listen on TCP, which a browser needs; start it with: journeyman serve --tcp 0"
        )
    address = places.address.read_text().strip()
    if not _listens(address):
        raise BadInput(f"nothing listens on {address}; start the daemon again, with: journeyman serve --tcp 0")
    told = daemon.ask("POST", "/v1/links")
    url = f"http://{address}{told['path']}"
    if as_json:
        put({"link": url, "good_s": told["good_s"]})
    else:
        click.echo(url)
    return EXIT_OK


def _listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), _KNOCK_S).close()
    except (OSError, ValueError):
        return False
    return True


@click.command()
@common
@socketed
def mcp(repo: str, as_json: bool, socket_path: str) -> int:
    """Tools for a model, over standard input and output (MCP): with a daemon its own, else for this one repository."""
    from .standalone import speak

    default = str(Repository.open(repo).work_tree) if _is_repository(repo) else ""
    trio.run(speak, Places.find(socket_path), default)
    return EXIT_OK


# --- submit ----------------------------------------------------------------------------------------------------


@click.command()
@click.argument("plan_file", metavar="PLAN", type=click.Path())
@common
@socketed
@click.option("--instances", type=click.IntRange(1, 1000), metavar="N", help="Instances a specialist, at most.")
@click.option("--sequential", is_flag=True, help="One task at a time; the result is the same.")
@click.option("--land", is_flag=True, help="Bring the result onto the branch when everything is green.")
@click.option("--keep-commits", is_flag=True, help="Land the line's commits, not one squashed commit.")
@click.option("--message", metavar="TEXT", default="", help="The landed commit's message.")
@click.option("--bisect", is_flag=True, help="When a check is red, find the task that turned it.")
@click.option("--drop", is_flag=True, help="With --bisect: take that task and its dependants off the line.")
@click.option("--budget-usd", type=click.FloatRange(0, min_open=True), metavar="USD", help="Spend no more on models.")
@click.option("--budget-tokens", type=click.IntRange(1), metavar="N", help="Buy no more tokens than this.")
@click.option("--yes", is_flag=True, help="Money may be spent without a budget.")
@click.option("--key", metavar="KEY", default="", help="The same key and plan give the same run of the daemon.")
@click.option("--client", metavar="NAME", default="", help="Who asks; the queue is fair between clients.")
@click.option("--wait", is_flag=True, help="Stay until the run has ended.")
def submit(
    plan_file: str, repo: str, as_json: bool, socket_path: str, key: str, client: str, wait: bool, **flags: Any
) -> int:
    """Hand a plan to the daemon, which runs it; without a daemon, run it here."""
    place = Place.open(repo)
    spoken = Spoken.find(place.repository, socket_path=socket_path, register=True)
    if spoken is None:
        if key:
            raise BadInput(
                "--key: without a daemon nothing remembers it; start one (journeyman serve), or leave it out"
            )
        return _run_here(place, plan_file, as_json, flags)
    load(place, plan_file)  # every mistake with its line in the file, which the daemon does not see
    text, form = Path(plan_file).read_text("utf-8-sig"), FORMS[Path(plan_file).suffix.lower()]
    if len(text) > SIZE_LIMIT_BYTES:
        raise BadInput(f"{plan_file}: it has more than {SIZE_LIMIT_BYTES // 2**20} MiB")
    body = {"plan": text, "format": form, "settings": flags, "client": client or "cli"}
    told = spoken.daemon.ask("POST", spoken.path(), body, {"idempotency-key": key} if key else {})
    if wait:
        if not as_json:
            say(f"run {told['run']} {told['state']}")
        return _follow(spoken, told["run"], as_json)
    if as_json:
        put(told)
    else:
        say(f"run {told['run']} {told['state']}" + (f": {told['waits']['reason']}" if told["waits"] else ""))
        say(f"  journeyman watch {told['run']}")
    return EXIT_OK


def _run_here(place: Place, plan_file: str, as_json: bool, flags: dict[str, Any]) -> int:
    plan = load(place, plan_file)
    checked(plan, place.specialists, place.repository, plan_file)
    foretold = cost(plan, place.specialists, place.repository, flags["budget_usd"])
    if foretold is not None and not Settings(**flags).allows_spending(plan):
        raise BadInput(f"{foretold}; give a budget (--budget-usd, --budget-tokens), or --yes")
    options = Options(
        instances=flags["instances"], sequential=flags["sequential"], land=flags["land"], keep_commits=flags["keep_commits"],
        message=flags["message"], bisect=flags["bisect"] or flags["drop"], drop=flags["drop"], quiet=as_json,
        budget_usd=flags["budget_usd"], budget_tokens=flags["budget_tokens"],
        limits=place.config.limits, stall_s=place.config.stall_s, pass_environment=place.config.pass_environment,
    )  # fmt: skip
    outcome = trio.run(execute, plan, place.specialists, place.repository, options)
    if as_json:
        refused = {"refused": outcome.refused} if outcome.refused else {}
        put({**document(outcome.report), "exit": outcome.exit_code, **refused})
    else:
        say(f"no daemon: run {outcome.report.run} ran here and is {outcome.report.state}")
        if outcome.refused:
            say(f"not landed: {outcome.refused}")
    return outcome.exit_code


# --- watch -----------------------------------------------------------------------------------------------------


@click.command()
@run_argument
@common
@socketed
@click.option("--from", "start", type=click.IntRange(1), default=1, metavar="SEQ", help="From this sequence number on.")
def watch(run_name: str, repo: str, as_json: bool, socket_path: str, start: int) -> int:
    """Follow a run until it ends. With --json: its document then; else a line for what is worth one."""
    repository = Repository.open(repo)
    spoken = Spoken.find(repository, socket_path=socket_path)
    if spoken is not None:
        return _follow(spoken, run_name, as_json, start)
    past = _follow_journal(repository, run_name, as_json, start)
    if as_json:
        put({**document(past.report()), "state": past.entry.state})
    else:
        say(f"run {run_name} {past.entry.state}")
    return code_of(past.entry.state, document(past.report()))


def _follow_journal(repository: Repository, run: str, as_json: bool, start: int) -> past_runs.Past:
    """Tell what is in a run's records, and what comes while another process is at it; the run when that has ended."""
    followed = past_runs.Followed(repository, run)
    while True:
        goes_on = followed.look()
        for notice in [] if as_json else notices(followed.machine, start):
            _tell(str(msgspec.to_builtins(notice.event)["type"]), msgspec.to_builtins(notice.event))
            start = notice.seq + 1
        if not goes_on:
            return followed.past()
        time.sleep(_LOOK_S)


def _follow(spoken: Spoken, run: str, as_json: bool, start: int = 1) -> int:
    for kind, data in _steady(spoken, run, start):
        if not as_json:
            _tell(kind, data)
    told = spoken.status(run)
    if as_json:
        put({**told, "exit": code_of(told["state"], told)})
    else:
        say(f"run {run} {told['state']}" + (f": {told['error']}" if told["error"] else ""))
    return code_of(told["state"], told)


def _steady(spoken: Spoken, run: str, start: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """A run's events to its end; a stream that breaks off is taken up where it was."""
    last = start - 1
    broken = 0
    while True:
        try:
            for kind, data in spoken.daemon.events(spoken.repository, run, last + 1):
                last = max(last, data.get("seq", 0))
                broken = 0
                yield kind, data
                if kind == "end":
                    return
        except (JourneymanError, OSError):
            broken += 1
            if broken > 2:
                raise
        else:
            broken += 1
            if broken > 2:
                raise BadInput(f"the daemon ended before run {run} did; start it again, or: journeyman resume {run}")


def _tell(kind: str, data: dict[str, Any]) -> None:
    words = {
        "queued": lambda: f"queued: {(data.get('waits') or {}).get('reason', 'it starts soon')}",
        _tag(Start): lambda: (
            f"{data['instance']} takes {data['task']}"
            + (f" over from {data['stolen_from']}" if data.get("stolen_from") else "")
        ),
        _tag(Backoff): lambda: f"{data['task']}: attempt {data['attempt']} failed: {data.get('error', '')}",
        _tag(Settled): lambda: f"{data['task']} {data['state']}" + (f": {data['error']}" if data.get("error") else ""),
        "checked": lambda: "; ".join(
            f"check {'green' if one['ok'] else 'RED'}: {one['command']}" for one in data.get("results", ())
        ),
    }.get(kind)
    if words is not None:
        print(words(), file=sys.stderr, flush=True)


def _tag(kind: type[msgspec.Struct]) -> str:
    return str(kind.__struct_config__.tag)


def code_of(state: str, told: dict[str, Any]) -> int:
    """The exit code of a run that ended in this state, as the README's table has it."""
    if state == "paused":
        return EXIT_PAUSED
    if state in ("interrupted", "running", "queued"):
        return EXIT_INTERRUPTED
    if any(not check["ok"] for check in told.get("checks", ())):
        return EXIT_RED
    if told.get("exit") is not None:
        return int(told["exit"])
    return EXIT_OK if state == "done" and not told.get("error") else EXIT_FAILED
