"""Figures for Prometheus, counted when they are asked for. Knows the host's numbers and the text format; keeps nothing."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from .host import Host


class _Figures(Collector):
    def __init__(self, host: Host, started: float) -> None:
        self.host = host
        self.started = started

    def collect(self) -> list[Metric]:
        host = self.host
        runs = GaugeMetricFamily("journeyman_runs", "Runs that have not ended.", labels=["repository", "state"])
        ended = CounterMetricFamily("journeyman_runs_ended", "Runs that ended since the start.", labels=["repository"])
        tasks = GaugeMetricFamily("journeyman_tasks", "Tasks of runs that go on.", labels=["repository", "state"])
        for served in host.served.values():
            states = {"queued": 0, "running": 0}
            counts: dict[str, int] = {}
            for live in served.live.values():
                states["running" if live.turn.is_set() else "queued"] += 1
                for record in live.machine.records.values() if live.machine is not None else ():
                    counts[record.state] = counts.get(record.state, 0) + 1
            for state, number in states.items():
                runs.add_metric([served.id, state], number)
            for state, number in sorted(counts.items()):
                tasks.add_metric([served.id, state], number)
            ended.add_metric([served.id], served.finished)
        account = host.calls.statistics()
        answered = CounterMetricFamily("journeyman_model_calls_answered", "Calls to the model that were answered.")
        answered.add_metric([], account.answered)
        refused = CounterMetricFamily(
            "journeyman_model_calls_refused", "Calls to the model that were refused.", labels=["kind"]
        )
        for kind, number in sorted(account.refused.items()):
            refused.add_metric([kind], number)
        waited = CounterMetricFamily(
            "journeyman_model_calls_waited_seconds", "Seconds that calls stood before the gate.", labels=["cause"]
        )
        for cause, seconds in sorted(account.waited_s.items()):
            waited.add_metric([cause], seconds)
        return [
            answered,
            refused,
            waited,
            GaugeMetricFamily("journeyman_model_calls", "Calls to the model under way.", value=account.in_flight),
            GaugeMetricFamily(
                "journeyman_model_calls_waiting", "Calls that stand before the gate.", value=account.waiting
            ),
            runs,
            ended,
            tasks,
            GaugeMetricFamily("journeyman_attempts", "Attempts that are going on.", value=host.gate.busy),
            GaugeMetricFamily(
                "journeyman_attempts_waiting", "Attempts that wait for a place.", value=host.gate.waiting
            ),
            GaugeMetricFamily("journeyman_attempts_limit", "Attempts that may go on at once.", value=host.gate.most),
            GaugeMetricFamily("journeyman_up_seconds", "Seconds since the start.", value=time.time() - self.started),
        ]


def render(host: Host, started: float) -> bytes:
    """The figures, in Prometheus' text format. `started` is seconds since the epoch."""
    registry = CollectorRegistry()
    registry.register(_Figures(host, started))
    return generate_latest(registry)
