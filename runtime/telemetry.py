"""Traces through OpenTelemetry, where the standard variables of the environment ask for them (`OTEL_EXPORTER_OTLP_ENDPOINT`, ...).

A fold of a run's notices into spans: the run, its tasks, their attempts, a model's turns, the checks, the landing. Knows the
packages of OpenTelemetry, which are optional (`journeyman[otel]`), and imports them only when they are wanted. Nothing global is
set: a host hands over a tracer of its own. Spans have names, states, models, tokens and prices; never a prompt, an answer or a
file's content.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final

import attrs
import trio

from .core import commands as cmd
from .core import events as ev
from .engine import Runtime
from .errors import BadInput, is_only
from .handles import Notice

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer

MISSING: Final = "traces are asked for, and the packages for them are missing: pip install 'journeyman[otel]'"
_SEND_S: Final = 3.0  # for a collector that does not answer, unless the environment says another time

Traced = Callable[[Runtime], AbstractAsyncContextManager[None]]
"""Entered with an opened runtime, before its run begins; left before the runtime is."""


def wanted(environment: Mapping[str, str] | None = None) -> bool:
    """Whether the environment asks for traces, by the standard variables. Raises BadInput for an exporter that is not known here."""
    env = os.environ if environment is None else environment
    if env.get("OTEL_SDK_DISABLED", "").strip().lower() == "true":
        return False
    exporter = env.get("OTEL_TRACES_EXPORTER", "").strip().lower()
    if exporter == "none":
        return False
    if exporter not in ("", "otlp", "console"):
        raise BadInput(f"OTEL_TRACES_EXPORTER: {exporter!r} is not known here; otlp, console or none")
    named = any(env.get(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"))
    if exporter != "console" and (named or exporter == "otlp"):
        for name in ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL"):
            if (protocol := env.get(name, "").strip().lower()) not in ("", "http/protobuf"):
                raise BadInput(f"{name}: {protocol!r} is not spoken here; http/protobuf (port 4318 by custom)")
    return named or bool(exporter)


@contextmanager
def configured(tell: Callable[[str], None]) -> Iterator[Traced]:
    """What traces a runtime as the environment asks for it: nothing, where it does not. Without the packages that is told, once, and
    nothing is traced. What is left is sent when the block ends. Raises BadInput for what the variables ask and is not to be had."""
    if not wanted():
        yield untraced
        return
    try:
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
    except ImportError:
        tell(MISSING)
        yield untraced
        return
    named = {} if os.environ.get("OTEL_SERVICE_NAME") else {"service.name": "journeyman"}
    provider = TracerProvider(resource=Resource.create({"service.version": version("journeyman"), **named}))
    try:
        provider.add_span_processor(BatchSpanProcessor(_exporter()))
    except ImportError:
        tell(MISSING)
        yield untraced
        return
    try:
        yield lambda runtime: traced(runtime, provider.get_tracer("journeyman", version("journeyman")))
    finally:
        provider.shutdown()


def _exporter() -> Any:
    if os.environ.get("OTEL_TRACES_EXPORTER", "").strip().lower() == "console":
        import sys

        from opentelemetry.sdk.trace.export import ConsoleSpanExporter

        return ConsoleSpanExporter(out=sys.stderr)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter

    named = any(os.environ.get(name) for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"))
    return OTLPSpanExporter(timeout=None if named else _SEND_S)


@asynccontextmanager
async def untraced(runtime: Runtime) -> AsyncIterator[None]:
    """No traces."""
    yield


@asynccontextmanager
async def traced(runtime: Runtime, tracer: Tracer) -> AsyncIterator[None]:
    """Trace a runtime with this tracer, which may be a host's own, while the block lasts; enter it before the run begins."""
    spans = Spans(tracer)

    def take(notices: list[Notice]) -> int:
        epoch_s = time.time() - runtime.now()
        for notice in notices:
            spans.take(notice, epoch_s + notice.at_s, past=notice.seq <= runtime.replayed)
        return notices[-1].seq + 1 if notices else seq

    seq = 1

    async def follow() -> None:
        nonlocal seq
        while notices := await runtime.batch(seq):
            seq = take(notices)

    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(follow)
            try:
                yield
            except BaseException as raised:
                error = raised
                raise
            nursery.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if error is None or not is_only(group, error):
            raise
        raise error from None
    finally:
        take(runtime.notices(seq))
        spans.end(time.time(), runtime.report().state)


@attrs.define
class Spans:
    """The fold. `take` every notice with its time in seconds since the epoch, then `end`. What is `past` was another process's: its
    spans were that process's too, and only what was left open is begun again."""

    tracer: Tracer
    _run: Span | None = None
    _opened: ev.Opened = attrs.field(factory=ev.Opened)
    _known: dict[str, Any] = attrs.field(factory=dict)  # {task: Task} of those that have not settled
    _tasks: dict[str, Span] = attrs.field(factory=dict)  # {task: its span}
    _attempts: dict[str, Span] = attrs.field(factory=dict)  # {task: the span of its attempt}
    _since: dict[str, float] = attrs.field(factory=dict)  # {task: when its model was asked last}
    _landing: float = 0.0
    _state: str = ""

    def take(self, notice: Notice, at: float, *, past: bool = False) -> None:
        """Take one notice in."""
        item = notice.event
        if isinstance(item, ev.Opened):
            self._opened = item
        elif isinstance(item, ev.Submitted | ev.Retried):
            self._known.update((task.id, task) for task in item.tasks)
        if past:
            if isinstance(item, cmd.Settled):
                self._known.pop(item.task, None)
            return
        if self._run is None:
            self._begin(at, resumed=not isinstance(item, ev.Opened))
        if isinstance(item, ev.Submitted | ev.Retried):
            for task in item.tasks:
                self._open(task.id, at)
        elif isinstance(item, cmd.Start):
            self._started(item, at)
        elif isinstance(item, ev.Answered):
            self._answered(item, at)
        elif isinstance(item, ev.Told):
            self._since[item.task] = at
        elif isinstance(item, ev.Finished):
            self._close(self._attempts.pop(item.task, None), at)
        elif isinstance(item, ev.Failed):
            self._failed(item, at)
        elif isinstance(item, ev.Merged) and item.commit and item.task in self._tasks:
            self._tasks[item.task].set_attribute("journeyman.commit", item.commit)
        elif isinstance(item, cmd.Settled):
            self._settled(item, at)
        else:
            self._beside(item, at)

    def _beside(self, item: Any, at: float) -> None:
        """What belongs to no task."""
        if isinstance(item, ev.Checked):
            slowest_s = max((one["seconds"] for one in item.results), default=0.0)
            for one in item.results:  # they ran at the same time
                began = at - slowest_s
                span = self._span("check", began, self._run, {"journeyman.check": one["command"]})
                self._close(span, began + one["seconds"], "" if one["ok"] else "the check is red")
        elif isinstance(item, ev.LandingBegun):
            self._landing = at
        elif isinstance(item, ev.Landed):
            told = {"journeyman.commit": item.commits[-1] if item.commits else "", "journeyman.branch": item.branch}
            self._close(self._span(f"landing {item.what}", self._landing or at, self._run, told), at)
        elif isinstance(item, ev.Closed):
            self._state = item.state

    def end(self, at: float, state: str) -> None:
        """End what is still open, the run last. `state` is the run's, where it was not closed."""
        for span in (*self._attempts.values(), *self._tasks.values()):
            self._close(span, at, "the run ended before it did")
        self._attempts.clear()
        self._tasks.clear()
        if self._run is not None:
            state = self._state or state
            self._run.set_attribute("journeyman.state", state)
            self._close(self._run, at, "" if state in ("done", "paused", "cancelled") else f"the run is {state}")
            self._run = None

    def _begin(self, at: float, *, resumed: bool) -> None:
        told = {
            "journeyman.run": self._opened.run,
            "journeyman.plan": self._opened.name,
            "journeyman.base": self._opened.base,
            "journeyman.resumed": resumed,
        }
        self._run = self._span("run", at, None, told)
        for task in self._known if resumed else ():
            self._open(task, at)

    def _open(self, task: str, at: float) -> None:
        known = self._known[task]
        told = {
            "journeyman.task": task,
            "journeyman.specialist": known.specialist,
            "journeyman.way": known.way or "own",
        }
        if task not in self._tasks:
            self._tasks[task] = self._span("task", at, self._run, told)

    def _started(self, item: cmd.Start, at: float) -> None:
        self._close(self._attempts.pop(item.task, None), at, "lost")
        told: dict[str, str | int] = {
            "journeyman.task": item.task,
            "journeyman.attempt": item.attempt,
            "journeyman.instance": item.instance,
        }
        if item.stolen_from:
            told["journeyman.stolen_from"] = item.stolen_from
        self._attempts[item.task] = self._span("attempt", at, self._tasks.get(item.task), told)
        self._since[item.task] = at

    def _answered(self, item: ev.Answered, at: float) -> None:
        """A turn, by the conventions for generative models; it began when the model was told something."""
        from opentelemetry.trace import SpanKind

        told = {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "anthropic",
            "gen_ai.request.model": item.model,
            "gen_ai.response.finish_reasons": [item.stop],
            "gen_ai.usage.input_tokens": item.spent.input + item.spent.cache_write + item.spent.cache_read,
            "gen_ai.usage.output_tokens": item.spent.output,
            "journeyman.turn": item.turn,
            "journeyman.tokens_cached": item.spent.cache_read,
            "journeyman.usd": item.spent.usd,
        }
        began = self._since.get(item.task, at)
        self._close(self._span(f"chat {item.model}", began, self._attempts.get(item.task), told, SpanKind.CLIENT), at)
        self._since[item.task] = at

    def _failed(self, item: ev.Failed, at: float) -> None:
        span = self._attempts.pop(item.task, None)  # a conflict on the line comes after the attempt's own end
        if span is not None:
            span.set_attribute("error.type", item.kind)
        elif item.task in self._tasks:
            self._tasks[item.task].add_event(item.kind, {"journeyman.error": item.error}, _ns(at))
        self._close(span, at, item.error)

    def _settled(self, item: cmd.Settled, at: float) -> None:
        self._known.pop(item.task, None)
        self._since.pop(item.task, None)
        self._close(self._attempts.pop(item.task, None), at, item.error or item.state)
        span = self._tasks.pop(item.task, None)
        if span is not None:
            span.set_attribute("journeyman.state", item.state)
        self._close(span, at, (item.error or "it failed") if item.state == "failed" else "")

    def _span(self, name: str, at: float, parent: Span | None, attributes: Mapping[str, Any], kind: Any = None) -> Span:
        from opentelemetry.context import Context
        from opentelemetry.trace import SpanKind, set_span_in_context

        # Not the context of the host: a run is a trace of its own, whoever's request it was submitted by.
        context = set_span_in_context(parent, Context()) if parent is not None else Context()
        return self.tracer.start_span(
            name, context, kind or SpanKind.INTERNAL, attributes, start_time=_ns(at), record_exception=False
        )

    def _close(self, span: Span | None, at: float, error: str = "") -> None:
        from opentelemetry.trace import StatusCode

        if span is None:
            return
        if error:
            span.set_status(StatusCode.ERROR, error)
        span.end(_ns(at))


def _ns(at: float) -> int:
    return int(at * 1e9)
