"""The short way for plain requests gives what the whole parser gives, and takes nothing that the whole parser must judge."""

from __future__ import annotations

import copy
import socket
import threading
from typing import Any

import pytest
import trio
import trio.testing
from conftest import Repo
from daemon_process import FILES, DaemonProcess, ended, rewriting

from runtime.service.plain import Exchange, parse
from runtime.service.together import Together

GET = b"GET /v1/health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.mark.parametrize(
    "data",
    [
        GET[:-1],
        GET + b"x",
        GET + GET,
        GET.replace(b"1.1", b"1.0"),
        GET.replace(b"GET", b"POST"),
        GET.replace(b"GET", b"get"),
        GET.replace(b"/v1", b"http://localhost/v1"),
        GET.replace(b" /v1", b"  /v1"),
        GET.replace(b"\r\n", b"\n"),
        GET.replace(b"Host:", b"Host :"),
        GET.replace(b"Host", b"H\xf6st"),
        GET.replace(b"localhost", b"local\x00host"),
        GET.replace(b"localhost", b"localhost\r\n folded"),
        GET.replace(b"localhost", "localhöst".encode()),
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 51 + b"\r\n",
        b"GET /" + b"a" * 17_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        *(
            GET.replace(b"\r\n\r\n", b"\r\n" + header + b"\r\n\r\n")
            for header in (
                b"Content-Length: 0", b"content-length: 5", b"Transfer-Encoding: chunked", b"Connection: close", b"Upgrade: h2c",
                b"Expect: 100-continue", b"TE: trailers", b"Connection: keep-alive, upgrade",
            )
        ),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_left_to_the_whole_parser(data: bytes) -> None:
    """Anything that frames a body, changes the connection, is not in one piece or not printable ASCII is not read here."""
    assert parse(data) is None


def test_a_plain_request_is_read_as_asgi_has_it() -> None:
    """Names are lower case, values stripped, the path is decoded and apart from the query. The same bytes are a request of their own
    each time: what is noted in one is not in the next."""
    data = b"HEAD /a%20b/c?d=%20e&f HTTP/1.1\r\nHost:  localhost\t\r\nX-Empty:\r\nConnection: Keep-Alive\r\n\r\n"
    scope = parse(data)
    assert scope is not None
    assert (scope["method"], scope["path"], scope["raw_path"], scope["query_string"]) == (
        "HEAD",
        "/a b/c",
        b"/a%20b/c",
        b"d=%20e&f",
    )
    assert scope["headers"] == ((b"host", b"localhost"), (b"x-empty", b""), (b"connection", b"Keep-Alive"))
    before = copy.deepcopy(scope)
    scope["state"]["user"] = scope["extensions"]["x"] = scope["path"] = "changed"
    assert parse(data) == before


def talk(daemon: DaemonProcess, *pieces: bytes, answers: int = 1) -> list[tuple[bytes, dict[bytes, bytes], bytes]]:
    """(status line, headers without the date, body) of what comes back, when the pieces are sent one after the other."""
    found = []
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(daemon.socket))
        for number, piece in enumerate(pieces):
            if number:
                threading.Event().wait(0.05)  # so that it comes by itself
            peer.sendall(piece)
        file = peer.makefile("rb")
        for _ in range(answers):
            status, headers = file.readline(), {}
            while (line := file.readline().strip()) != b"":
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            date = headers.pop(b"date")
            assert date.endswith(b"GMT")
            body = file.read(int(headers[b"content-length"])) if not pieces[0].startswith(b"HEAD") else b""
            found.append((status.split(b" ")[1], headers, body))
    return found


def test_both_ways_answer_the_same(daemon: DaemonProcess, repo: Repo) -> None:
    """In one piece or in two, with or without a problem, HEAD or GET, one request or several at once: status, headers and body are equal."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    requests = [
        f"{method} {path} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()
        for method, path, host in (
            ("GET", "/v1/repositories", "localhost"), ("HEAD", "/v1/repositories", "localhost"), ("GET", runs, "localhost"),
            ("GET", "/v1/repositories", "evil.example"), ("GET", "/nothing", "localhost"), ("HEAD", "/nothing", "localhost"),
            ("GET", f"{runs}/r9", "localhost"), ("GET", f"{runs}?limit=x", "localhost"), ("GET", "/v1/../v1/health", "localhost"),
            ("GET", "/style.css", "localhost"), ("GET", "/v1/%00", "localhost"),
        )
    ]  # fmt: skip
    for request in requests:
        if parse(request) is None:
            continue
        assert talk(daemon, request) == talk(daemon, request[:9], request[9:]), request
    one, two = requests[0], requests[4]
    (first,), (second,) = talk(daemon, one), talk(daemon, two)
    assert talk(daemon, one + two, answers=2) == [first, second]
    assert talk(daemon, one, two[:9], two[9:], one, answers=3) == [first, second, first]


def test_a_stream_is_left_and_followed_by_a_request(daemon: DaemonProcess, repo: Repo) -> None:
    """After the last event the connection goes on with the next request, the one that came meanwhile included."""
    repo.commit(FILES)
    runs = daemon.register(repo)
    with daemon.client() as client:
        where = client.post(runs, json={"plan": rewriting(0)}).headers["location"]
        assert ended(client, where)["ok"]
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(20)
        peer.connect(str(daemon.socket))
        peer.sendall(f"GET {where}/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        file = peer.makefile("rb")
        while (line := file.readline()) not in (b"\r\n", b""):
            assert not line.lower().startswith(b"content-length")
        peer.sendall(GET)
        text = b""
        while (size := int(file.readline(), 16)) > 0:
            text += file.read(size)
            assert file.readline() == b"\r\n"
        assert file.readline() == b"\r\n"
        assert text.endswith(b'"error":null}\n\n')
        assert file.readline() == b"HTTP/1.1 200 OK\r\n"


async def test_an_application_that_breaks_is_told_to_the_client() -> None:
    """An exception before the head is a 500 and the end of the connection; it goes on to whoever logs it."""
    sent: list[bytes] = []

    async def broken(scope: Any, receive: Any, send: Any) -> None:
        raise KeyError("oh")

    async def write(data: bytes) -> None:
        sent.append(data)

    async def read() -> bytes:
        return b""

    exchange = Exchange(parse(GET) or {}, read, write)
    with pytest.raises(KeyError):
        await exchange.run(broken)
    assert sent[0].startswith(b"HTTP/1.1 500 ")
    assert not exchange.keep


async def test_who_asks_together_is_given_one_reading_that_began_later() -> None:
    """Twenty that ask during a reading share the next one, which sees what was there before they asked; a failure is one asker's."""
    readings: list[int] = []
    value = 0
    begun, go = threading.Event(), threading.Event()

    def read() -> int:
        readings.append(value)
        found = value
        begun.set()
        go.wait(10)
        if found == 7:
            raise OSError("gone")
        return found

    together = Together(read)
    found: list[int] = []

    async def ask() -> None:
        found.append(await together.get())

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ask)
        await trio.to_thread.run_sync(begun.wait)
        value = 1
        for _ in range(20):
            nursery.start_soon(ask)
        await trio.testing.wait_all_tasks_blocked()
        go.set()
    assert (readings, found) == ([0, 1], [0] + [1] * 20)
    value = 7
    with pytest.raises(OSError, match="gone"):
        await together.get()
    value = 8
    assert await together.get() == 8
