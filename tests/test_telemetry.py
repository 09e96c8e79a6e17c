"""Traces: sent to a real collector on the loopback when the standard variables say so, and nothing at all otherwise."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, rewriting

from runtime import GiveUp, Plan, Runtime, Specialist, Task, telemetry
from runtime.core.commands import Settled, Start
from runtime.core.events import Answered, Failed, Opened, Spent, Submitted, Told
from runtime.errors import BadInput
from runtime.handles import Notice

sdk = pytest.importorskip("opentelemetry.sdk.trace", reason="the packages of journeyman[otel] are not installed")
wire = pytest.importorskip("opentelemetry.proto.collector.trace.v1.trace_service_pb2")
KEY = "collector-key-7c31"


@attrs.define
class Collector:
    """An OTLP/HTTP collector: what came, decoded."""

    port: int = 0
    requests: list[Any] = attrs.field(factory=list)
    headers: list[dict[str, str]] = attrs.field(factory=list)

    @property
    def spans(self) -> list[Any]:
        """Every span that came."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def services(self) -> set[str]:
        """The names of the services that sent."""
        return {
            attribute.value.string_value
            for request in self.requests
            for resource in request.resource_spans
            for attribute in resource.resource.attributes
            if attribute.key == "service.name"
        }

    def environment(self) -> dict[str, str]:
        """The variables that send traces here."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"x-key={KEY}",
        }


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A running collector."""
    found = Collector()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = wire.ExportTraceServiceRequest()
            raw = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                import gzip

                raw = gzip.decompress(raw)
            request.ParseFromString(raw)
            assert self.path == "/v1/traces"
            found.requests.append(request)
            found.headers.append(dict(self.headers.items()))
            self.send_response(200)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.port = server.server_port
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield found
    server.shutdown()
    server.server_close()
    thread.join()


def told(span: Any) -> dict[str, Any]:
    """A span's attributes."""
    return {one.key: getattr(one.value, one.value.WhichOneof("value")) for one in span.attributes}


def tree(spans: list[Any]) -> dict[str, set[str]]:
    """{a span's name: the names of the spans above it}."""
    names = {span.span_id: span.name for span in spans}
    found: dict[str, set[str]] = {}
    for span in spans:
        found.setdefault(span.name, set()).add(names[span.parent_span_id] if span.parent_span_id else "")
    return found


def test_a_run_of_the_command_line_is_sent_to_the_collector(collector: Collector, repo: Repo) -> None:
    """One trace a run: run, tasks, attempts, checks and landing, each inside its parent and its time; the key reaches the collector,
    and no task's program."""
    repo.commit(FILES)
    command = [
        "refactor", "--exec", "sh", "-c", "env | sed 's,^,# ,' > {file}", ";", "src/m0.py", "src/m1.py", "--check", "git --version", "--land",
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-m", "runtime", *command],
        cwd=repo.path, env={**os.environ, **collector.environment()}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    spans = collector.spans
    assert tree(spans) == {
        "run": {""}, "task": {"run"}, "attempt": {"task"}, "check": {"run"}, "landing land": {"run"},
    }  # fmt: skip
    assert len({span.trace_id for span in spans}) == 1
    assert collector.services == {"journeyman"}
    assert {headers["x-key"] for headers in collector.headers} == {KEY}
    assert KEY.encode() not in repo.show("HEAD", "src/m0.py")
    by_id = {span.span_id: span for span in spans}
    for span in spans:
        assert span.start_time_unix_nano <= span.end_time_unix_nano
        if span.parent_span_id and span.name != "check":
            assert by_id[span.parent_span_id].start_time_unix_nano <= span.start_time_unix_nano
            assert span.end_time_unix_nano <= by_id[span.parent_span_id].end_time_unix_nano
    (run,) = [span for span in spans if span.name == "run"]
    assert told(run)["journeyman.state"] == "done"
    tasks = [told(span) for span in spans if span.name == "task"]
    assert {one["journeyman.way"] for one in tasks} == {"exec"}
    assert all(one["journeyman.commit"] for one in tasks)


def test_a_daemon_sends_a_trace_a_run(
    collector: Collector, repo: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each run that a daemon does is a trace of its own, complete when the daemon has stopped; the service has the name it was given."""
    repo.commit(FILES)
    for name, value in {**collector.environment(), "OTEL_SERVICE_NAME": "build-host"}.items():
        monkeypatch.setenv(name, value)
    daemon = DaemonProcess(tmp_path)
    try:
        runs = daemon.register(repo)
        with daemon.client() as client:
            for numbers in ((0, 1), (2, 3)):
                where = client.post(runs, json={"plan": rewriting(*numbers)}).headers["location"]
                assert ended(client, where)["ok"]
        assert daemon.stop() == 0
    finally:
        daemon.close()
    assert collector.services == {"build-host"}
    spans = collector.spans
    assert len({span.trace_id for span in spans}) == 2
    assert sorted(told(span)["journeyman.run"] for span in spans if span.name == "run") == ["r1", "r2"]
    assert sum(span.name == "attempt" for span in spans) == sum(span.name == "task" for span in spans)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318"}, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://localhost:4318/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        ({"OTEL_TRACES_EXPORTER": "console"}, True),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_SDK_DISABLED": "true"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://localhost:4318", "OTEL_TRACES_EXPORTER": "none"}, False),
    ],
)
def test_the_standard_variables_decide(variables: dict[str, str], expected: bool) -> None:
    """Traces are sent exactly when OpenTelemetry's own variables ask for them."""
    assert telemetry.wanted(variables) is expected


@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, "OTEL_TRACES_EXPORTER: 'zipkin' is not known here"),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
            "OTEL_EXPORTER_OTLP_PROTOCOL: 'grpc' is not spoken here",
        ),
    ],
)
def test_what_cannot_be_sent_is_said_at_once(variables: dict[str, str], words: str) -> None:
    """A variable that asks for what is not there is named, before anything runs."""
    with pytest.raises(BadInput, match=words):
        telemetry.wanted(variables)


def test_without_the_packages_it_says_so_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packages are never required: what is missing is told once, and the run goes on without traces."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    said: list[str] = []

    async def main(traced: telemetry.Traced) -> str:
        async def handler(brief: Any, workspace: Any) -> int:
            return 1

        async with Runtime([Specialist("one", handler)]) as rt, traced(rt):
            return (await rt.run(Plan([Task("t", "one")]))).state

    with telemetry.configured(said.append) as traced:
        assert trio.run(main, traced) == "done"
    assert said == [telemetry.MISSING]


@pytest.fixture
def memory() -> tuple[Any, Any]:
    """A tracer, and the exporter that keeps what it makes."""
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    exporter, provider = InMemorySpanExporter(), sdk.TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return provider.get_tracer("test"), exporter


async def test_a_host_traces_its_own_runtime(memory: tuple[Any, Any], autojump_clock: Any) -> None:
    """`traced` with a host's tracer: a failed attempt is an error with its kind, the next one another span of the same task, what was
    stolen says from whom; nothing is open in the end."""
    tracer, exporter = memory
    tries = 0

    async def flaky(brief: Any, workspace: Any) -> int:
        nonlocal tries
        await trio.sleep(1)
        tries += brief.task.id == "shaky"
        if brief.task.id == "shaky" and tries == 1:
            raise OSError("not yet")
        if brief.task.id == "wrong":
            raise GiveUp("never")
        return 1

    async with Runtime([Specialist("one", flaky)]) as rt, telemetry.traced(rt, tracer):
        await rt.run(Plan([Task("shaky", "one"), Task("wrong", "one"), Task("behind", "one", after=("wrong",))]))
    spans = exporter.get_finished_spans()
    attempts = [span for span in spans if span.name == "attempt" and span.attributes["journeyman.task"] == "shaky"]
    assert [(span.attributes["journeyman.attempt"], span.status.is_ok) for span in attempts] == [(1, False), (2, True)]
    assert attempts[0].attributes["error.type"] == "transient"
    states = {
        span.attributes["journeyman.task"]: span.attributes["journeyman.state"] for span in spans if span.name == "task"
    }
    assert states == {"shaky": "done", "wrong": "failed", "behind": "skipped"}
    (run,) = [span for span in spans if span.name == "run"]
    assert (run.attributes["journeyman.state"], run.status.is_ok) == ("partial", False)


def test_a_turn_of_a_model_is_a_span_without_its_words(memory: tuple[Any, Any]) -> None:
    """A turn has model, tokens and price, by the conventions for generative models, and lasts from the question to the answer."""
    tracer, exporter = memory
    spans = telemetry.Spans(tracer)
    words = [{"type": "text", "text": "the secret recipe"}]
    spent = Spent(input=10, cache_write=5, cache_read=100, output=7, usd=0.25)
    rows: list[tuple[float, Any]] = [
        (0, Opened(run="r1", name="Users")),
        (0, Submitted("g1", (Task("card", "interface", goal="the secret goal"),))),
        (1, Start("card", 1, "interface-1", "interface-2")),
        (3, Answered("card", 1, 1, words, "tool_use", "claude-opus-5-5", spent, None, words)),
        (4, Told("card", 1, 1, words)),
        (9, Answered("card", 1, 2, words, "end_turn", "claude-opus-5-5", spent)),
        (9, Failed("card", 1, "it said nothing", "permanent")),
        (9, Settled("card", "failed", "it said nothing")),
    ]
    for seq, (at, item) in enumerate(rows, 1):
        spans.take(Notice(seq, at, item), 1000.0 + at)
    spans.end(1010.0, "failed")
    found = exporter.get_finished_spans()
    chats = [span for span in found if span.name == "chat claude-opus-5-5"]
    assert [(span.start_time, span.end_time) for span in chats] == [
        (1001 * 10**9, 1003 * 10**9),
        (1004 * 10**9, 1009 * 10**9),
    ]
    assert chats[0].attributes["gen_ai.usage.input_tokens"] == 115
    (attempt,) = [span for span in found if span.name == "attempt"]
    assert attempt.attributes["journeyman.stolen_from"] == "interface-2"
    assert {span.parent.span_id for span in chats} == {attempt.context.span_id}
    assert "secret" not in json.dumps([span.to_json() for span in found])


def test_what_another_process_has_traced_is_not_traced_again(memory: tuple[Any, Any]) -> None:
    """After a crash, only what was open is begun again: finished tasks have their spans from before."""
    tracer, exporter = memory
    spans = telemetry.Spans(tracer)
    before = [
        Opened(run="r1"), Submitted("g1", (Task("old", "one"), Task("new", "one"))), Start("old", 1, "one-1"), Settled("old", "done"),
    ]  # fmt: skip
    for seq, item in enumerate(before, 1):
        spans.take(Notice(seq, 0.0, item), 100.0, past=True)
    spans.take(Notice(5, 9.0, Start("new", 1, "one-1")), 200.0)
    spans.take(Notice(6, 9.5, Settled("new", "done")), 201.0)
    spans.end(202.0, "done")
    found = exporter.get_finished_spans()
    assert [span.attributes.get("journeyman.task") for span in found] == ["new", "new", None]
    assert (found[-1].attributes["journeyman.resumed"], found[-1].start_time) == (True, 200 * 10**9)
