"""A daemon as a process of its own, for tests: real sockets, real signals, its own state folder."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from conftest import Repo
from described import Described

from runtime.service.places import Places


class DaemonProcess:
    """`journeyman serve`, from the moment it says that it serves. Its socket is in a folder with a short name."""

    def __init__(self, tmp_path: Path, *words: str) -> None:
        """`tmp_path` has its state; there may be others beside it."""
        self.folder = Path(tempfile.mkdtemp(prefix="jd"))
        self.socket = self.folder / "d.sock"
        self.environment = {
            **os.environ,
            "XDG_STATE_HOME": str(tmp_path / "state"),
            "JOURNEYMAN_SOCKET": str(self.socket),
        }
        self.state = tmp_path / "state" / "journeyman"
        self.words = words
        self.log: list[dict[str, Any]] = []
        self.start()

    @property
    def listed(self) -> Path:
        """Its list of repositories."""
        return Places(self.socket, self.state).repositories

    def start(self) -> None:
        """Start it (again)."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "runtime", "serve", *self.words],
            cwd=self.folder, env=self.environment, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.until("serving")

    def until(self, event: str, within_s: float = 30.0) -> dict[str, Any]:
        """Read its log up to a line with this event, and return that."""
        stream = self.process.stderr
        assert stream is not None
        while True:
            ready, _, _ = select.select([stream], [], [], within_s)
            line = stream.readline() if ready else ""
            assert line, f"the daemon said nothing of {event!r}: {self.log[-5:]}"
            try:
                said = json.loads(line)
            except ValueError:
                raise AssertionError(f"not a line of JSON: {line + stream.read()}") from None
            self.log.append(said)
            if said["event"] == event:
                return dict(said)

    @property
    def port(self) -> int:
        """Its TCP port."""
        return int(next(one["tcp"] for one in reversed(self.log) if one["event"] == "serving"))

    @property
    def token(self) -> str:
        """Its bearer token."""
        return (self.state / "token").read_text().strip()

    def client(self, **more: Any) -> httpx2.Client:
        """An HTTP client on its Unix socket; what it is answered is held to the OpenAPI document."""
        client = self.plain_client(**more)
        client.event_hooks = {"response": [Described().hold]}
        return client

    def plain_client(self, **more: Any) -> httpx2.Client:
        """The same for a bench: it takes what it gets."""
        return httpx2.Client(
            transport=httpx2.HTTPTransport(uds=str(self.socket)), base_url="http://localhost", timeout=60, **more
        )

    def register(self, repo: Repo) -> str:
        """The address of a repository's runs."""
        with self.client() as client:
            told = client.post("/v1/repositories", json={"path": str(repo.path)})
            assert told.status_code == 200, told.text
            return f"/v1/repositories/{told.json()['id']}/runs"

    def journeyman(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        """The command line, as it finds this daemon."""
        done = subprocess.run(
            [sys.executable, "-m", "runtime", *words],
            cwd=cwd, env=self.environment, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert "Traceback" not in done.stderr, done.stderr
        return done

    def kill(self) -> None:
        """As a crash would: no signal that it could obey."""
        self.process.kill()
        self.process.wait(60)
        assert self.process.stderr is not None
        self.process.stderr.close()  # its workers may complain there of the pipe that broke

    def stop(self) -> int:
        """SIGTERM, and wait for its end."""
        self.process.send_signal(signal.SIGTERM)
        return self.reap()

    def reap(self) -> int:
        """Wait for its end; its exit code. Whatever it logged is JSON."""
        code = self.process.wait(60)
        assert self.process.stderr is not None
        for line in self.process.stderr:
            assert line.startswith("{"), line
            self.log.append(json.loads(line))
        self.process.stderr.close()
        return code

    def close(self) -> None:
        """End it, if a test has not."""
        if self.process.poll() is None:
            self.kill()
        for left in self.folder.iterdir():
            left.unlink()
        self.folder.rmdir()


def events(client: httpx2.Client, address: str, **headers: str) -> Iterator[tuple[str, dict[str, Any], str]]:
    """(type, data, id) of a stream of Server-Sent Events, to its end; a heartbeat is of type `heartbeat`."""
    with client.stream("GET", address, headers=headers) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        kind = number = ""
        for line in answer.iter_lines():
            name, _, value = line.partition(": ")
            if line == ": heartbeat":
                yield "heartbeat", {}, ""
            elif name == "id":
                number = value
            elif name == "event":
                kind = value
            elif name == "data":
                yield kind, json.loads(value), number
                number = ""


def waits_for(path: Path) -> list[str]:
    """A program that ends when a file is there."""
    return ["sh", "-c", f"while [ ! -e {path} ]; do sleep 0.02; done"]


FILES = {f"src/m{number}.py": f"print({number})\n" for number in range(6)}


def rewriting(*numbers: int, **more: Any) -> dict[str, Any]:
    """A plan that rewrites these files, one task each."""
    way = {"pattern": "print($A)", "replace": "log($A)", "language": "python"}
    return {
        "plan": {"name": "rewrite", **more},
        "task": [
            {"id": f"t{number}", "specialist": "service", "writes": [f"src/m{number}.py"], "rewrite": way}
            for number in numbers
        ],
    }


def waiting(go: Path, *numbers: int, specialist: str = "service") -> dict[str, Any]:
    """A plan whose tasks end when the file `go` is there."""
    return {
        "task": [
            {"id": f"w{number}", "specialist": specialist, "writes": [f"src/m{number}.py"], "exec": waits_for(go)}
            for number in numbers
        ]
    }


def ended(client: Any, address: str) -> dict[str, Any]:
    """A run's document after its end."""
    assert list(events(client, f"{address}/events"))[-1][0] == "end"
    told: dict[str, Any] = client.get(address).json()
    return told
