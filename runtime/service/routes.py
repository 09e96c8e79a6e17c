"""REST: each endpoint with its address, what it takes and what it answers, in one table that both the router and the OpenAPI
document read.

Knows HTTP and the host; the work is the host's. Who may ask is the guard's.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import PurePath
from typing import Annotated, Any, Final, Literal, TypeVar, cast, get_args

import attrs
import msgspec
import trio
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import BaseRoute, Route, Router

from ..submission import Refactor, Settings, checked_client, checked_key
from . import answers
from .documents import Rows, budget, graph_document, run_document, task_document
from .guard import Application, Receive, Scope, Send, answer, cookie_name
from .host import Absent, Host
from .links import LINK_S, SESSION_S, Links
from .live import Status
from .page import asset
from .problems import Problem, problem_of
from .served import Served
from .stream import HEARTBEAT_S, Encoded, EventStream, news

PLAN_TYPES: Final[Mapping[str, str]] = {
    "application/toml": "toml",
    "application/yaml": "yaml",
    "application/json": "json",
}
_MOST_LISTED: Final = 1000
_MOST_KEPT: Final = 32
_MOST_PATHS: Final = 200  # that are remembered: a crowd asks for the same few
_STATES: Final[tuple[str, ...]] = get_args(answers.RunState)
_LONGEST_PATH: Final = 300  # characters, of one that is remembered

Handler = Callable[["Api", Request], Awaitable[Any]]


class _Model(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    """A request's body."""


Client = Annotated[str, msgspec.Meta(pattern=r"^([A-Za-z0-9][A-Za-z0-9._@:/-]{0,63})?$")]
"""Who asks; empty: by which listener it came."""

M = TypeVar("M", bound=_Model)


class NewRepository(_Model):
    path: str


class NewRun(_Model):
    plan: dict[str, Any] | list[Any] | str
    format: Literal["json", "toml", "yaml"] = "json"
    settings: Settings = Settings()
    client: Client = ""


class NewRefactor(_Model):
    refactor: Refactor
    settings: Settings = Settings()
    client: Client = ""


class Foreseen(_Model):
    plan: dict[str, Any] | list[Any] | str
    format: Literal["json", "toml", "yaml"] = "json"


class Which(_Model):
    task: str = ""


class Edit(_Model):
    """A task's fields that a retry may change, as a plan file has them; null takes one away."""

    goal: str | msgspec.UnsetType | None = msgspec.UNSET
    payload: Any | msgspec.UnsetType = msgspec.UNSET
    estimate_s: float | msgspec.UnsetType | None = msgspec.UNSET
    timeout_s: float | msgspec.UnsetType | None = msgspec.UNSET
    attempts: int | msgspec.UnsetType | None = msgspec.UNSET
    containing: str | msgspec.UnsetType | None = msgspec.UNSET
    passes: int | Literal["fixpoint"] | msgspec.UnsetType | None = msgspec.UNSET
    exec: list[str] | msgspec.UnsetType | None = msgspec.UNSET


class Edits(_Model):
    edits: dict[str, Edit] = {}
    task: str = ""


class NewBudget(_Model):
    budget_usd: float | None = None
    budget_tokens: int | None = None


class Resuming(NewBudget):
    pass


class Landing(_Model):
    message: str = ""
    keep_commits: bool = False
    split_by: Literal["", "dir", "owner", "specialist"] = ""


class Undoing(_Model):
    task: str = ""
    everything: bool = False
    to: str = ""


class Redoing(_Model):
    everything: bool = False


class NewCheckpoint(_Model):
    name: str = ""


class NewLimits(_Model):
    instances: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None
    runs: Annotated[int, msgspec.Meta(ge=1, le=1000)] | None = None


@attrs.frozen
class Endpoint:
    """One row of the table. `body` is the model of a JSON body, `gives` the type of a JSON answer; `problems` are the codes it may
    answer with besides the guard's."""

    method: str
    path: str
    handler: Handler
    summary: str
    body: type[_Model] | None = None
    query: Sequence[str] = ()
    status: int = 200
    gives: Any = None
    content: str = "application/json"
    problems: Sequence[str] = ()
    waits: bool = False  # it may take long without doing anything, takes next to no time, or waits for its turn itself


@attrs.define
class Api:
    """The application behind the guards."""

    host: Host
    links: Links
    version: str
    metrics: Callable[[Host], bytes]
    description: Callable[[], dict[str, Any]]
    # Requests are answered a few at a time, so that a crowd of them does not come between a run's own steps.
    encoded: Encoded = attrs.field(factory=Encoded)
    turns: trio.CapacityLimiter = attrs.field(factory=lambda: trio.CapacityLimiter(16))
    # {(repository, run, what): (version, JSON)}
    _kept: dict[tuple[str, str, str], tuple[Any, bytes]] = attrs.field(factory=dict)
    _rows: dict[tuple[str, str], Rows] = attrs.field(factory=dict)  # {(repository, run): its tasks as JSON}

    def router(self, mounts: Mapping[str, Application]) -> Application:
        """The ASGI application; `mounts` are others under paths of their own."""
        routes: list[BaseRoute] = []
        for path in dict.fromkeys(one.path for one in ENDPOINTS):
            routes.append(Route(path, _Resource(self, [one for one in ENDPOINTS if one.path == path])))
        routes.append(Route("/open/{code}", _Resource(self, [_OPEN])))
        routes.append(Route("/{name}", _Resource(self, [_ASSET])))
        routes.append(Route("/", _Resource(self, [_PAGE])))
        return _Paths([*(Route(path, app) for path, app in mounts.items()), *routes])

    # --- the daemon --------------------------------------------------------------------------------------------

    async def health(self, request: Request) -> Any:
        return answers.Health(
            ok=not self.host.draining,
            state="draining" if self.host.draining else "serving",
            version=self.version,
            repositories=len(self.host.served),
            runs=self.host.runs,
            attempts=self.host.gate.busy,
        )

    async def openapi(self, request: Request) -> Any:
        return self.description()

    async def measured(self, request: Request) -> Any:
        return Response(self.metrics(self.host), media_type="text/plain; version=0.0.4; charset=utf-8")

    async def limits(self, request: Request) -> Any:
        return self._limits()

    def _limits(self) -> answers.LimitsNow:
        gate = self.host.calls.statistics()
        account = answers.Account(
            waiting=gate.waiting,
            in_flight=gate.in_flight,
            concurrency=gate.concurrency,
            answered=gate.answered,
            refused={str(kind): number for kind, number in gate.refused.items()},
            waited_s={cause: round(seconds, 3) for cause, seconds in gate.waited_s.items()},
            limits_per_min={
                model: {str(name): limit for name, limit in one.limits_per_min.items()}
                for model, one in gate.models.items()
            },
        )
        return answers.LimitsNow(**attrs.asdict(self.host.limits), account=account)

    async def set_limits(self, request: Request) -> Any:
        new = await _body(request, NewLimits)
        changes = {name: value for name in ("instances", "runs") if (value := getattr(new, name)) is not None}
        self.host.limit(attrs.evolve(self.host.limits, **changes))
        return self._limits()

    async def make_link(self, request: Request) -> Any:
        return answers.Link(path=f"/open/{self.links.make()}", good_s=LINK_S)

    # --- repositories ------------------------------------------------------------------------------------------

    async def repositories(self, request: Request) -> Any:
        return [*map(_row, self.host.served.values()), *map(_row, self.host.absent.values())]

    async def register(self, request: Request) -> Any:
        if not request.scope["journeyman.socket"]:
            raise Problem(
                "socket-only", "repositories are registered over the Unix socket, or by `journeyman serve --repo`"
            )
        path = (await _body(request, NewRepository)).path
        return _row(await self.host.register(path))

    async def repository(self, request: Request) -> Any:
        served = self._served(request)
        row = msgspec.structs.asdict(_row(served))
        return answers.RepositoryNow(**row, queue=[_place(served, run) for run in served.queue.order()])

    async def unregister(self, request: Request) -> Any:
        if not request.scope["journeyman.socket"]:
            raise Problem("socket-only", "repositories are unregistered over the Unix socket")
        return _row(await self.host.unregister(request.path_params["repository"]))

    def _served(self, request: Request) -> Served:
        return self.host.find(request.path_params["repository"])

    def _run(self, request: Request) -> str:
        return str(request.path_params["run"])

    # --- runs --------------------------------------------------------------------------------------------------

    async def runs(self, request: Request) -> Any:
        most = _number(request, "limit", 100, 1, _MOST_LISTED)
        state = request.query_params.get("state")
        if state is not None and state not in _STATES:
            raise Problem("bad-input", f"state: it must be one of {', '.join(_STATES)}")
        listed = await self._served(request).entries()
        wanted = [one for one in listed if state is None or one.state == state]
        return wanted[-most:]

    async def submit(self, request: Request) -> Any:
        kind = _content_type(request, tuple(PLAN_TYPES))
        form = PLAN_TYPES[kind]
        client = request.headers.get("journeyman-client", "")
        settings = Settings()
        if form == "json":
            new = await _body(request, NewRun)
            client, settings, form = new.client or client, new.settings, new.format
            text = _plan_text(new.plan, form)
        else:
            text = _text(await request.body())
            settings = _settings(request)
        taken = self._served(request).submit(text, form, settings, **self._whose(request, client))
        return await self._handed_over(request, *await taken)

    async def refactor(self, request: Request) -> Any:
        new = await _body(request, NewRefactor)
        taken = self._served(request).refactor(new.refactor, new.settings, **self._whose(request, new.client))
        return await self._handed_over(request, *await taken)

    async def look_ahead(self, request: Request) -> Any:
        new = await _body(request, Foreseen)
        return await self._served(request).look_ahead(_plan_text(new.plan, new.format), new.format)

    def _whose(self, request: Request, client: str) -> dict[str, str]:
        given = client or request.headers.get("journeyman-client", "")
        return {
            "client": checked_client(given, "socket" if request.scope["journeyman.socket"] else "tcp"),
            "key": checked_key(request.headers.get("idempotency-key")),
        }

    async def _handed_over(self, request: Request, run: str, new_run: bool) -> Any:
        where = f"/v1/repositories/{request.path_params['repository']}/runs/{run}"
        status = await self._served(request).status(run)
        told = run_document(status, self._served(request).id)
        return Response(
            msgspec.json.encode(told),
            201 if new_run else 200,
            media_type="application/json",
            headers={"location": where},
        )

    async def status(self, request: Request) -> Any:
        served = self._served(request)
        return await self._same(request, "status", lambda status, rows: run_document(status, served.id, rows))

    async def graph(self, request: Request) -> Any:
        return await self._same(request, "graph", lambda status, rows: graph_document(status.machine, rows))

    async def _same(self, request: Request, what: str, make: Callable[[Status, Rows], dict[str, Any]]) -> bytes:
        """What is told of a run, made anew only when something has happened in it since."""
        served, run = self._served(request), self._run(request)
        key = (served.id, run, what)
        kept = self._kept.get(key)
        if kept is not None and kept[0] is not None and kept[0] == served.version(run):
            return kept[1]
        async with self.turns:
            version = served.version(run)  # another may have made it while this one waited
            kept = self._kept.get(key)
            if kept is None or version is None or kept[0] != version:
                rows = self._rows.setdefault((served.id, run), Rows())
                kept = (version, msgspec.json.encode(make(await served.status(run), rows), enc_hook=str))
                self._kept[key] = kept
                while len(self._kept) > _MOST_KEPT:
                    self._kept.pop(next(iter(self._kept)))
                while len(self._rows) > _MOST_KEPT:
                    self._rows.pop(next(iter(self._rows)))
            return kept[1]

    async def task(self, request: Request) -> Any:
        run, task = self._run(request), request.path_params["task"]
        status = await self._served(request).status(run)
        if status.state == "queued" and status.machine is None:
            raise Problem("wrong-state", f"run {run} is queued; its tasks are told of once it has begun")
        if status.machine is None or status.report is None or task not in status.machine.records:
            raise Problem("no-such-task", f"run {run} has no task {task[:200]!r}")
        return task_document(status.machine, status.report, task)

    async def events(self, request: Request) -> Any:
        served, run = self._served(request), self._run(request)
        if run not in served.live:  # the journal need not be asked, in a thread, by each of a hundred who come at once
            await served.entry(run)
        start = _number(request, "from", 1, 1, 2**53)
        last = request.headers.get("last-event-id", "")
        if last:  # a browser that connects again asks for the same address as at first, and says how far it came
            if not (last.isascii() and last.isdigit() and len(last) < 16):
                raise Problem("bad-input", "Last-Event-ID: it is no sequence number")
            start = int(last) + 1
        beat = request.query_params.get("heartbeat_s", str(HEARTBEAT_S))
        try:
            heartbeat_s = float(beat)
        except ValueError:
            heartbeat_s = 0.0
        if not 0.05 <= heartbeat_s <= 60.0:
            raise Problem("bad-input", "heartbeat_s: it must be a number of seconds from 0.05 to 60")
        return EventStream(served, run, start, heartbeat_s, self.encoded)

    async def news(self, request: Request) -> Any:
        start = _number(request, "from", 1, 1, 2**53)
        within_s = _number(request, "within_s", 20, 0, 60)
        return await news(self._served(request), self._run(request), start, within_s)

    async def diff(self, request: Request) -> Any:
        stat = request.query_params.get("stat", "false")
        if stat not in ("true", "false"):
            raise Problem("bad-input", "stat: it must be true or false")
        task = request.query_params.get("task", "")
        raw = await self._served(request).diff(self._run(request), stat=stat == "true", task=task)
        return Response(raw, media_type="text/x-diff; charset=utf-8")

    async def cancel(self, request: Request) -> Any:
        which = await _body(request, Which, optional=True)
        return await self._after(request, await self._served(request).cancel(self._run(request), which.task))

    async def pause(self, request: Request) -> Any:
        return await self._after(request, await self._served(request).pause(self._run(request)))

    async def set_budget(self, request: Request) -> Any:
        new = await _body(request, NewBudget)
        await self._served(request).set_budget(self._run(request), new.budget_usd, new.budget_tokens)
        status = await self._served(request).status(self._run(request))
        return answers.Budget(**budget(status))

    async def resume(self, request: Request) -> Any:
        more = await _body(request, Resuming, optional=True)
        await self._served(request).again(
            self._run(request), "resume", budget_usd=more.budget_usd, budget_tokens=more.budget_tokens
        )
        return await self._after(request)

    async def retry(self, request: Request) -> Any:
        given = await _body(request, Edits, optional=True)
        edits = {task: dict(msgspec.to_builtins(edit)) for task, edit in given.edits.items()}
        await self._served(request).again(self._run(request), "retry", edits, given.task)
        return await self._after(request)

    async def land(self, request: Request) -> Any:
        how = await _body(request, Landing, optional=True)
        run = self._run(request)
        commits = await self._served(request).land(run, how.message, how.keep_commits, how.split_by)
        return answers.Landed(run=run, ok=True, commit=commits[-1], landed=list(commits))

    async def undo(self, request: Request) -> Any:
        how = await _body(request, Undoing, optional=True)
        made = await self._served(request).undo(self._run(request), how.task, everything=how.everything, to=how.to)
        return {**attrs.asdict(made), "ok": not made.red}

    async def redo(self, request: Request) -> Any:
        how = await _body(request, Redoing, optional=True)
        made = await self._served(request).redo(self._run(request), everything=how.everything)
        return {**attrs.asdict(made), "ok": not made.red}

    async def checkpoint(self, request: Request) -> Any:
        how = await _body(request, NewCheckpoint, optional=True)
        run = self._run(request)
        ref, commit = await self._served(request).checkpoint(run, how.name)
        return answers.Checkpoint(run=run, ref=ref, commit=commit)

    async def checkpoints(self, request: Request) -> Any:
        return await self._served(request).checkpoints(self._run(request))

    async def _after(self, request: Request, state: str = "") -> Any:
        served = self._served(request)
        status = await served.status(self._run(request))
        return answers.RunNow(run=status.run, state=cast(answers.RunState, state or status.state))

    # --- the page ----------------------------------------------------------------------------------------------

    async def page(self, request: Request) -> Any:
        return await _asset("index.html")

    async def page_part(self, request: Request) -> Any:
        return await _asset(request.path_params["name"])

    async def open_link(self, request: Request) -> Any:
        port, code = request.scope["journeyman.port"], request.path_params["code"]
        response = RedirectResponse("/", 303)
        if request.method == "HEAD" and port is not None and self.links.is_good(code):
            return response  # whatever looks where a link leads does not use it up
        session = self.links.redeem(code) if port is not None else None
        if session is None:
            raise Problem(
                "unauthorized", "this link was used already, or is too old; make another: journeyman serve --link"
            )
        response.set_cookie(cookie_name(port), session, max_age=int(SESSION_S), httponly=True, samesite="strict")
        return response


async def _asset(name: str) -> Response:
    found = asset(name)
    if found is None:
        raise Problem("no-such-page", f"there is no {name[:100]!r} here")
    data, kind = found
    return Response(data, media_type=kind)


def _place(served: Served, run: str) -> answers.QueueRow:
    waits = served.queue.waits(run)
    if waits is None:
        return answers.QueueRow(run=run, active=True, runs=[], path="", reason="")
    return answers.QueueRow(
        run=run, active=run in served.queue.active, runs=list(waits.runs), path=waits.path, reason=waits.reason
    )


def _row(served: Served | Absent) -> answers.RepositoryRow:
    if isinstance(served, Absent):
        return answers.RepositoryRow(served.id, PurePath(served.path).name, served.path, 0, served.why)
    tree = served.repository.work_tree
    return answers.RepositoryRow(served.id, tree.name, str(tree), len(served.live))


class _Paths:
    """Which route a path belongs to, found once for each path: that does not depend on anything else of the request."""

    def __init__(self, routes: Sequence[BaseRoute]) -> None:
        self.whole = Router(routes, redirect_slashes=False, default=_nothing_here)
        self._known: dict[str, tuple[Application, dict[str, Any]]] = {}  # {path: (application, its part of the scope)}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        known = self._known.get(scope["path"]) if scope["type"] == "http" else None
        if known is not None:
            scope.update(known[1], path_params=dict(known[1]["path_params"]))
            await known[0](scope, receive, send)
            return
        await self.whole(scope, receive, send)
        if len(scope.get("path", "")) < _LONGEST_PATH and isinstance(scope.get("endpoint"), _Resource):
            if len(self._known) >= _MOST_PATHS:
                self._known.pop(next(iter(self._known)))
            part = {"endpoint": scope["endpoint"], "path_params": dict(scope["path_params"])}
            self._known[scope["path"]] = (scope["endpoint"], part)


class _Resource:
    """All methods of one path, as an ASGI application. Whatever goes wrong is answered with a problem."""

    def __init__(self, api: Api, endpoints: Sequence[Endpoint]) -> None:
        self.api = api
        self.endpoints = {one.method: one for one in endpoints}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            method = "GET" if scope["method"] == "HEAD" else scope["method"]
            endpoint = self.endpoints.get(method)
            if endpoint is None:
                raise Problem("no-such-method", f"{scope['method']} does not exist here", allow=sorted(self.endpoints))
            request = Request(scope, receive)
            if method == "GET" and not scope.get("journeyman.empty") and await request.body():
                raise Problem("bad-request", f"{scope['method']} has no body")
            if endpoint.body is None and method in ("POST", "PUT"):
                await _no_body(request)
            served = self.api.host.served.get(request.path_params.get("repository", ""))
            if served is not None and not served.looked.is_set():
                await served.looked.wait()
            if endpoint.waits or method != "GET":
                told = await endpoint.handler(self.api, request)
            else:
                async with self.api.turns:
                    told = await endpoint.handler(self.api, request)
            if isinstance(told, Response | EventStream):
                await told(scope, receive, send)
            else:
                body = told if isinstance(told, bytes) else msgspec.json.encode(told, enc_hook=str)
                headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
                await send({"type": "http.response.start", "status": endpoint.status, "headers": headers})
                await send({"type": "http.response.body", "body": body})
        except Exception as error:
            problem = problem_of(error)
            if problem.code == "bug":
                self.api.host.log("bug", path=scope["path"], error=problem.detail)
            await answer(problem, scope, send)


async def _nothing_here(scope: Scope, receive: Receive, send: Send) -> None:
    await answer(Problem("no-such-page", f"there is nothing at {scope['path'][:200]}"), scope, send)


# --- reading requests --------------------------------------------------------------------------------------------


def _content_type(request: Request, known: Sequence[str]) -> str:
    given = request.headers.get("content-type", "")
    kind, _, rest = given.partition(";")
    kind = kind.strip().lower()
    parameter = rest.strip().lower().replace(" ", "").replace('"', "")
    if kind not in known or parameter not in ("", "charset=utf-8"):
        raise Problem("unsupported-content-type", f"it must be {' or '.join(known)} in UTF-8, not {given[:100]!r}")
    return kind


async def _no_body(request: Request) -> None:
    raw = await request.body()
    if raw.strip() not in (b"", b"{}"):
        raise Problem("bad-input", "this takes no body")
    if raw:
        _content_type(request, ("application/json",))


def _plan_text(plan: Any, form: str) -> str:
    if isinstance(plan, str):
        return plan
    if form != "json":
        raise Problem("bad-input", "format: only a plan that is text has one other than json")
    return msgspec.json.encode(plan).decode()


async def _body(request: Request, model: type[M], *, optional: bool = False) -> M:
    raw = await request.body()
    if optional and not raw:
        return model()
    _content_type(request, ("application/json",))
    try:
        return msgspec.json.decode(raw, type=model)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise Problem("bad-input", f"the body: {error}") from None
    except RecursionError:
        raise Problem("bad-input", "the body is nested too deeply") from None


def _text(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Problem("bad-input", f"the body is not UTF-8 (byte {error.start})") from None


def _number(request: Request, name: str, default: int, least: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 17 and least <= int(given) <= most):
        raise Problem("bad-input", f"{name}: it must be a whole number from {least} to {most}")
    return int(given)


def _settings(request: Request) -> Settings:
    """The settings of a plan that is a body of its own: from the query."""
    given = dict(request.query_params)
    for name in given:
        if name not in Settings.__struct_fields__:
            known = ", ".join(Settings.__struct_fields__)
            raise Problem("bad-input", f"settings: there is no {name[:100]!r}; known are {known}")
    try:
        return msgspec.convert(given, Settings, strict=False)
    except msgspec.ValidationError as error:
        raise Problem("bad-input", f"settings: {error}") from None


OPTIONAL: Final = (Which, Edits, Resuming, Landing, Undoing, Redoing, NewCheckpoint)
"""The bodies that may be left out."""


# --- the table ---------------------------------------------------------------------------------------------------

_R: Final = "/v1/repositories/{repository}"
_RUN: Final = _R + "/runs/{run}"
_GONE: Final = ("no-such-repository", "no-such-run")
_REFUSES: Final = ("repository-held", "repository-refused", "wrong-state", "journal", "draining")

ENDPOINTS: Final = (
    Endpoint("GET", "/v1/health", Api.health, "Whether the daemon serves", gives=answers.Health, waits=True),
    Endpoint("GET", "/v1/openapi.json", Api.openapi, "This description", gives=dict[str, Any]),
    Endpoint("GET", "/v1/metrics", Api.measured, "Figures for Prometheus", content="text/plain"),
    Endpoint("GET", "/v1/limits", Api.limits, "What is allowed at once", gives=answers.LimitsNow),
    Endpoint(
        "PUT", "/v1/limits", Api.set_limits, "Change what is allowed at once",
        gives=answers.LimitsNow, body=NewLimits, problems=("bad-input",),
    ),
    Endpoint("POST", "/v1/links", Api.make_link, "A one-time link to the page", gives=answers.Link, problems=("bad-input",)),
    Endpoint(
        "GET", "/v1/repositories", Api.repositories, "The registered repositories", gives=list[answers.RepositoryRow], waits=True,
    ),
    Endpoint(
        "POST", "/v1/repositories", Api.register, "Register a repository (over the Unix socket only)",
        gives=answers.RepositoryRow, body=NewRepository,
        problems=("bad-input", "socket-only", "repository-refused", "too-many"),
    ),
    Endpoint("GET", _R, Api.repository, "A repository with its queue", gives=answers.RepositoryNow, problems=("no-such-repository",)),
    Endpoint(
        "DELETE", _R, Api.unregister, "Serve a repository no more (over the Unix socket only); its runs stay in its journal",
        gives=answers.RepositoryRow, problems=("no-such-repository", "socket-only", "wrong-state"),
    ),
    Endpoint(
        "GET", _R + "/runs", Api.runs, "The runs, oldest first", gives=list[answers.RunRow], query=("limit", "state"), waits=True,
        problems=("bad-input", "no-such-repository", "journal"),
    ),
    Endpoint(
        "POST", _R + "/runs", Api.submit, "Submit a plan; it is recorded, durably, when this answers", body=NewRun,
        gives=answers.Run, status=201,
        problems=("bad-input", "bad-plan", "key-reused", "no-such-repository", *_REFUSES),
    ),
    Endpoint(
        "POST", _R + "/refactors", Api.refactor, "Submit one specialist's task over many files", body=NewRefactor,
        gives=answers.Run, status=201,
        problems=("bad-input", "bad-plan", "key-reused", "no-such-repository", *_REFUSES),
    ),
    Endpoint(
        "POST", _R + "/outlook", Api.look_ahead, "What a plan would do: levels, conflicts, predicted time and cost",
        gives=answers.Outlook, body=Foreseen,
        problems=("bad-input", "bad-plan", "no-such-repository", "repository-refused"),
    ),
    Endpoint(
        "GET", _RUN + "/news", Api.news, "How far it is, as soon as something has happened",
        gives=answers.News, query=("from", "within_s"),
        problems=("bad-input", *_GONE, "journal"), waits=True,
    ),
    Endpoint("GET", _RUN, Api.status, "A run as it stands", gives=answers.Run, problems=(*_GONE, "journal"), waits=True),
    Endpoint(
        "GET", _RUN + "/graph", Api.graph, "Its tasks and what they wait for", gives=answers.Graph, waits=True,
        problems=(*_GONE, "journal"),
    ),
    Endpoint(
        "GET", _RUN + "/tasks/{task:path}", Api.task, "One task and everything that happened to it", gives=answers.TaskStory,
        problems=(*_GONE, "no-such-task", "wrong-state", "journal"),
    ),
    Endpoint(
        "GET", _RUN + "/events", Api.events, "Its events as they happen (SSE); a Last-Event-ID wins over `from`",
        query=("from", "heartbeat_s"), content="text/event-stream", problems=("bad-input", *_GONE, "journal"),
    ),
    Endpoint(
        "GET", _RUN + "/diff", Api.diff, "Its result as a diff", query=("stat", "task"), content="text/x-diff", waits=True,
        problems=("bad-input", "no-such-task", *_GONE, "wrong-state", "repository-refused", "journal"),
    ),
    Endpoint(
        "POST", _RUN + "/cancel", Api.cancel, "End it, or one task of it; what is done is kept", gives=answers.RunNow, body=Which,
        problems=("bad-input", "no-such-task", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "POST", _RUN + "/pause", Api.pause, "Start nothing more of it",
        gives=answers.RunNow, problems=("bad-input", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "PUT", _RUN + "/budget", Api.set_budget, "Another budget for a run that is queued or goes on",
        gives=answers.Budget, body=NewBudget, problems=("bad-input", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "POST", _RUN + "/resume", Api.resume, "Go on with it; a spent budget needs a larger one", gives=answers.RunNow, body=Resuming,
        problems=("bad-input", "bad-plan", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "POST", _RUN + "/retry", Api.retry, "Try again what failed in it, or one task of that", gives=answers.RunNow, body=Edits,
        problems=("bad-input", "bad-plan", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "POST", _RUN + "/land", Api.land, "Bring its result onto the branch that is checked out", gives=answers.Landed, body=Landing,
        problems=("bad-input", *_GONE, *_REFUSES, "checks-red", "not-together"),
    ),
    Endpoint(
        "POST", _RUN + "/undo", Api.undo, "Take its last step back, or one task's change", gives=answers.Rewound, body=Undoing,
        problems=("bad-input", *_GONE, *_REFUSES, "checks-red", "not-together"),
    ),
    Endpoint(
        "POST", _RUN + "/redo", Api.redo, "Bring back what the last undo took", gives=answers.Rewound, body=Redoing,
        problems=("bad-input", *_GONE, *_REFUSES, "checks-red", "not-together"),
    ),
    Endpoint(
        "GET", _RUN + "/checkpoints", Api.checkpoints, "Its named checkpoints",
        gives=dict[str, str], problems=("bad-input", *_GONE, *_REFUSES),
    ),
    Endpoint(
        "POST", _RUN + "/checkpoints", Api.checkpoint, "Keep its line as it is now under a name",
        gives=answers.Checkpoint, body=NewCheckpoint,
        problems=("bad-input", *_GONE, *_REFUSES),
    ),
)  # fmt: skip
_PAGE: Final = Endpoint("GET", "/", Api.page, "The page", content="text/html")
_ASSET: Final = Endpoint("GET", "/{name}", Api.page_part, "A part of the page", content="text/css")
_OPEN: Final = Endpoint("GET", "/open/{code}", Api.open_link, "Open the page by a one-time link")
