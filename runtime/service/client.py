"""The other side: how the command line speaks to a running daemon, over its Unix socket. Plain `http.client`; starts quickly.

Knows addresses and problems; prints nothing. `find` gives None when no daemon answers, and the caller does the work itself.
"""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs

from ..errors import RepositoryRefused
from .places import Places
from .problems import back

PATIENCE_S: Final = 600.0  # a cancellation and a landing may take their time
_KNOCK_S: Final = 5.0


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: Path, timeout_s: float) -> None:
        super().__init__("localhost", timeout=timeout_s)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


@attrs.frozen
class Daemon:
    """A daemon that answered. Every verb raises what the work itself would have raised, told over the socket."""

    socket: Path

    @classmethod
    def find(cls, places: Places) -> Daemon | None:
        """The running daemon, if there is one."""
        if not places.socket.is_socket():
            return None
        daemon = cls(places.socket)
        try:
            daemon.ask("GET", "/v1/health", timeout_s=_KNOCK_S)
        except (ConnectionRefusedError, FileNotFoundError):
            return None
        return daemon

    def ask(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> Any:
        """One request; the JSON it is answered with. Raises JourneymanError."""
        raw, kind = self.fetch(method, path, body, headers, timeout_s)
        return json.loads(raw) if kind.startswith("application/json") else raw

    def fetch(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        timeout_s: float = PATIENCE_S,
    ) -> tuple[bytes, str]:
        """One request; (bytes, content type) of the answer. Raises JourneymanError."""
        connection = _Connection(self.socket, timeout_s)
        try:
            data = None if body is None else json.dumps(body).encode()
            known = {"content-type": "application/json"} if data is not None else {}
            connection.request(method, path, data, {**known, **(headers or {})})
            answer = connection.getresponse()
            raw = answer.read()
            if answer.status >= 400:
                raise _error(raw, answer.status)
            return raw, answer.headers.get("content-type", "")
        except TimeoutError:
            raise RepositoryRefused(f"the daemon at {self.socket} does not answer") from None
        except http.client.HTTPException as error:
            raise RepositoryRefused(f"the daemon at {self.socket} broke off: {error!r}") from None
        finally:
            connection.close()

    def events(self, repository: str, run: str, start: int = 1) -> Iterator[tuple[str, dict[str, Any]]]:
        """(type, data) of a run's events as they come; the last is of type `end`. Raises JourneymanError."""
        connection = _Connection(self.socket, 60.0)
        try:
            connection.request("GET", f"/v1/repositories/{repository}/runs/{quote(run)}/events?from={start}")
            answer = connection.getresponse()
            if answer.status >= 400:
                raise _error(answer.read(), answer.status)
            kind = ""
            while line := answer.readline():
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "event":
                    kind = value
                elif name == "data":
                    yield kind, json.loads(value)
        except (TimeoutError, http.client.HTTPException) as error:
            raise RepositoryRefused(f"the daemon at {self.socket} broke off: {error!r}") from None
        finally:
            connection.close()

    def repository(self, work_tree: Path, *, register: bool) -> str | None:
        """A repository's id; None when it is not registered and is not to be."""
        if register:
            return str(self.ask("POST", "/v1/repositories", {"path": str(work_tree)})["id"])
        listed = self.ask("GET", "/v1/repositories")
        return next((one["id"] for one in listed if one["path"] == str(work_tree) and not one.get("away")), None)


def _error(raw: bytes, status: int) -> Exception:
    try:
        told = json.loads(raw)
    except ValueError:
        told = {"code": "bug", "detail": f"the daemon answered with status {status}"}
    return back(told)
