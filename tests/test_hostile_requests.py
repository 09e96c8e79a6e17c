"""Requests that no honest client makes, as raw bytes on real sockets: each is answered with an error or not at all, and starts nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import ssl
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import Repo
from daemon_process import FILES, DaemonProcess

TIMEOUT_S = 30.0
SECRET = re.compile(rb"repo-[0-9a-f]{8}|\"path\"|Bearer [A-Za-z0-9_-]{20}")


class Target:
    """A daemon with TCP, one repository, and what a request of its owner's has in it."""

    def __init__(self, daemon: DaemonProcess, runs: str) -> None:
        self.daemon = daemon
        self.port = daemon.port
        self.token = daemon.token
        self.runs = runs

    def request(
        self,
        line: str = "GET /v1/repositories HTTP/1.1",
        *headers: str,
        host: str | None = "",
        token: str | None = "",
        body: bytes = b"",
    ) -> bytes:
        """Bytes of a request that is right in all but what the case changes; None leaves a header out."""
        told = [line]
        if host is not None:
            told.append(f"Host: {host or f'127.0.0.1:{self.port}'}")
        if token is not None:
            told.append(f"Authorization: Bearer {token or self.token}")
        return "\r\n".join([*told, *headers, "", ""]).encode("latin-1") + body

    def post(self, *headers: str, body: bytes = b"", kind: str = "application/json", **more: str | None) -> bytes:
        """The bytes of a submission."""
        length = (
            []
            if any(one.lower().startswith(("content-length", "transfer-encoding")) for one in headers)
            else [f"Content-Length: {len(body)}"]
        )
        return self.request(
            f"POST {self.runs} HTTP/1.1",
            *([f"Content-Type: {kind}"] if kind else []),
            *length,
            *headers,
            body=body,
            **more,
        )


Case = tuple[str, Callable[[Target], bytes]]
PLAN = json.dumps(
    {"plan": {"task": [{"id": "a", "specialist": "service", "writes": ["src/m0.py"], "exec": ["true"]}]}}
).encode()
CRLF = "\r\n"


def _hosts() -> list[Case]:
    names = [
        "evil.example", "evil.example:{port}", "localhost", "127.0.0.1", "localhost:1", "127.0.0.1:{port}.evil.example", "127.0.0.1.nip.io:{port}",
        "[::1]:{port}", "[::ffff:127.0.0.1]:{port}", "0.0.0.0:{port}", "2130706433:{port}", "0x7f.1:{port}", "127.1:{port}", "localhost.:{port}",
        "LOCALHOST.evil:{port}", "user@127.0.0.1:{port}", "127.0.0.1:{port}@evil.example", "127.0.0.1:0{port}", "127.0.0.1:{port}/", "*", "",
    ]  # fmt: skip
    found: list[Case] = []
    for name in names:
        found.append(
            (
                f"Host: {name or '(empty)'}",
                lambda target, name=name: target.request(host=name.format(port=target.port) or " "),
            )
        )
    found.append(("no Host", lambda target: target.request(host=None)))
    found.append(("two Hosts", lambda target: target.request("GET /v1/repositories HTTP/1.1", "Host: evil.example")))
    return found


def _origins() -> list[Case]:
    origins = [
        "https://evil.example", "null", "http://localhost", "http://127.0.0.1", "http://127.0.0.1:1", "https://127.0.0.1:{port}", "http://localhost:{port}",
        "http://127.0.0.1:{port}.evil.example", "file://", "http://127.0.0.1:{port}/", "chrome-extension://abc",
    ]  # fmt: skip
    found: list[Case] = []
    for origin in origins:
        found.append(
            (
                f"Origin: {origin}",
                lambda target, origin=origin: target.post(f"Origin: {origin.format(port=target.port)}", body=PLAN),
            )
        )
    found += [
        ("two Origins", lambda t: t.post(f"Origin: http://127.0.0.1:{t.port}", "Origin: http://evil.example", body=PLAN)),
        ("from another site", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Sec-Fetch-Site: cross-site")),
        ("from the same site, another port", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Sec-Fetch-Site: same-site")),
        ("a preflight", lambda t: t.request("OPTIONS /v1/repositories HTTP/1.1", "Origin: http://evil.example", "Access-Control-Request-Method: POST")),
    ]  # fmt: skip
    return found


def _tokens() -> list[Case]:
    return [
        ("no token", lambda t: t.request(token=None)),
        ("an empty token", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Authorization: Bearer ", token=None)),
        ("a wrong token", lambda t: t.request(token="x" * 43)),
        ("the token, cut", lambda t: t.request(token=t.token[:-1])),
        ("the token and more", lambda t: t.request(token=t.token + "x")),
        ("another scheme", lambda t: t.request("GET /v1/repositories HTTP/1.1", f"Authorization: Basic {t.token}", token=None)),
        ("the token twice", lambda t: t.request("GET /v1/repositories HTTP/1.1", f"Authorization: Bearer {t.token}")),
        ("the token in the query", lambda t: t.request(f"GET /v1/repositories?token={t.token}&access_token={t.token} HTTP/1.1", token=None)),
        ("the token as a cookie", lambda t: t.request("GET /v1/repositories HTTP/1.1", f"Cookie: journeyman-{t.port}={t.token}", token=None)),
        ("a made-up session", lambda t: t.request("GET / HTTP/1.1", f"Cookie: journeyman-{t.port}=abc", token=None)),
        ("a cookie of nonsense", lambda t: t.request("GET / HTTP/1.1", f'Cookie: journeyman-{t.port}="\\', token=None)),
        ("a made-up link", lambda t: t.request("GET /open/abc HTTP/1.1", token=None)),
        ("a path behind the link's", lambda t: t.request("GET /open/../v1/repositories HTTP/1.1", token=None)),
        ("the tools for models", lambda t: t.request("POST /mcp HTTP/1.1", "Content-Type: application/json", "Content-Length: 2", token=None, body=b"{}")),
        ("a forwarded host", lambda t: t.request("GET /v1/repositories HTTP/1.1", f"X-Forwarded-Host: 127.0.0.1:{t.port}", "Forwarded: for=127.0.0.1", host="evil.example", token=None)),
        ("another method by a header", lambda t: t.request("GET /v1/repositories HTTP/1.1", "X-HTTP-Method-Override: POST", token=None)),
    ]  # fmt: skip


def _bodies() -> list[Case]:
    chunk = f"{len(PLAN):x}".encode() + b"\r\n" + PLAN + b"\r\n0\r\n\r\n"
    return [
        ("a form", lambda t: t.post(kind="application/x-www-form-urlencoded", body=b"plan=x")),
        ("plain text", lambda t: t.post(kind="text/plain", body=PLAN)),
        ("no type", lambda t: t.post(kind="", body=PLAN)),
        ("another charset", lambda t: t.post(kind="application/json; charset=utf-7", body=PLAN)),
        ("two types", lambda t: t.post("Content-Type: application/toml", body=PLAN)),
        ("encoded", lambda t: t.post("Content-Encoding: gzip", body=PLAN)),
        ("too large", lambda t: t.post("Content-Length: 99999999999", body=PLAN)),
        ("a length beyond all numbers", lambda t: t.post("Content-Length: " + "9" * 5000, body=PLAN)),
        ("a negative length", lambda t: t.post("Content-Length: -1", body=PLAN)),
        ("a length that is no number", lambda t: t.post("Content-Length: 0x10", body=PLAN)),
        ("two lengths", lambda t: t.post(f"Content-Length: {len(PLAN)}", "Content-Length: 3", body=PLAN)),
        ("nested too deeply", lambda t: t.post(body=b'{"plan":' + b"[" * 100_000 + b"]" * 100_000 + b"}")),
        ("not UTF-8", lambda t: t.post(body=b'{"plan": "\xff"}')),
        ("a number too wide", lambda t: t.post(body=b'{"plan": {"task": []}, "settings": {"instances": 1e999}}')),
        ("YAML that grows", lambda t: t.post(kind="application/yaml", body=b"a: &a [1,1,1,1,1,1,1,1,1]\n" + b"".join(b"%c: &%c [%s]\n" % (98 + n, 98 + n, b",".join([b"*%c" % (97 + n)] * 9)) for n in range(9)))),
        ("YAML that makes objects", lambda t: t.post(kind="application/yaml", body=b"!!python/object/apply:os.system ['touch /tmp/owned']")),
        ("length and chunks", lambda t: t.post("Content-Length: 4", "Transfer-Encoding: chunked", body=chunk)),
        ("chunks that are not", lambda t: t.post("Transfer-Encoding: chunked", body=b"zz\r\n")),
        ("chunked twice", lambda t: t.post("Transfer-Encoding: chunked", "Transfer-Encoding: identity", body=chunk)),
        ("an unknown transfer", lambda t: t.post("Transfer-Encoding: xchunked", body=chunk)),
        ("a body with GET", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Content-Length: 5", body=b"GET /")),
    ]  # fmt: skip


def _lines() -> list[Case]:
    return [
        ("a whole address", lambda t: t.request("GET http://evil.example/v1/repositories HTTP/1.1")),
        ("two slashes", lambda t: t.request("GET //evil.example/v1/repositories HTTP/1.1")),
        ("CONNECT", lambda t: t.request("CONNECT evil.example:443 HTTP/1.1")),
        ("TRACE", lambda t: t.request("TRACE /v1/repositories HTTP/1.1")),
        ("a method of its own", lambda t: t.request("FROB /v1/repositories HTTP/1.1")),
        ("HTTP/1.0", lambda t: t.request("GET /v1/repositories HTTP/1.0")),
        ("HTTP/0.9", lambda t: b"GET /v1/repositories\r\n\r\n"),
        ("HTTP/2 by knowledge", lambda t: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes.fromhex("000000040000000000")),
        ("HTTP/2 by upgrade", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAAP__", token=None)),
        ("a web socket", lambda t: t.request("GET /v1/repositories HTTP/1.1", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")),
        ("a header that goes on", lambda t: t.request("GET /v1/repositories HTTP/1.1", "X-A: b", " Authorization: Bearer x", token=None)),
        ("a space before the colon", lambda t: t.request("GET /v1/repositories HTTP/1.1", f"Authorization : Bearer {t.token}", token=None)),
        ("a naked line end", lambda t: t.request(f"GET /v1/repositories HTTP/1.1\nX: y{CRLF}A: b", token=None)),
        ("a null in a header", lambda t: t.request("GET /v1/repositories HTTP/1.1", "X-A: b\0c")),
        ("a header without an end", lambda t: t.request("GET /v1/repositories HTTP/1.1", "X-A: " + "a" * 100_000)),
        ("a thousand headers", lambda t: t.request("GET /v1/repositories HTTP/1.1", *(f"X-{n}: {'v' * 60}" for n in range(1000)))),
        ("a line without an end", lambda t: t.request(f"GET /{'a' * 100_000} HTTP/1.1")),
        ("a path upwards", lambda t: t.request("GET /v1/../../etc/passwd HTTP/1.1")),
        ("a path upwards, hidden", lambda t: t.request("GET /%2e%2e/%2e%2e/etc/passwd HTTP/1.1")),
        ("a path upwards, hidden twice", lambda t: t.request("GET /..%252f..%252fetc/passwd HTTP/1.1")),
        ("a line end in the path", lambda t: t.request("GET /v1/repositories%0d%0aSet-Cookie:%20a=b HTTP/1.1")),
        ("a null in the path", lambda t: t.request("GET /page.js%00.html HTTP/1.1")),
        ("a broken escape", lambda t: t.request("GET /%ff%fe HTTP/1.1")),
        ("a repository by its path", lambda t: t.request("GET /v1/repositories/%2fetc/runs HTTP/1.1")),
        ("a repository registered over TCP", lambda t: t.request("POST /v1/repositories HTTP/1.1", "Content-Type: application/json", "Content-Length: 15", body=b'{"path": "/etc"}'[:15])),
        ("a file of the package", lambda t: t.request("GET /__init__.py HTTP/1.1")),
        ("TLS", lambda t: bytes.fromhex("160301006a010000660303") + b"\0" * 90),
        ("nonsense", lambda t: os.urandom(512) + b"\r\n\r\n"),
        ("nothing", lambda t: b"\r\n\r\n\r\n\r\n"),
    ]  # fmt: skip


CASES = [*_hosts(), *_origins(), *_tokens(), *_bodies(), *_lines()]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One daemon for all of them: a request that got through would be seen at the end."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("hostile")
        (home / "gitconfig").write_text("[user]\n\tname = Ada\n\temail = ada@example.org\n")
        patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
        patch.setenv("XDG_CACHE_HOME", str(home / "cache"))
        repo = Repo(home / "repo")
        repo.commit(FILES)
        daemon = DaemonProcess(home, "--tcp", "0")
        runs = daemon.register(repo)
        yield Target(daemon, runs)
        with daemon.client() as client:
            assert client.get(runs).json() == [], "a hostile request started a run"
            assert len(client.get("/v1/repositories").json()) == 1
        assert daemon.stop() == 0
        wrong = [one for one in daemon.log if one["event"] == "bug" or one["level"] == "error"]
        assert not wrong, "\n".join(f"{one['event']}\n{one.get('traceback', one)}" for one in wrong[:3])
        assert not Path("/tmp/owned").exists()


def answers(target: Target, request: bytes) -> list[tuple[int, bytes]]:
    """(status, all of it) of every answer to the bytes; empty when the connection was dropped."""
    with socket.create_connection(("127.0.0.1", target.port), timeout=TIMEOUT_S) as raw:
        try:
            raw.sendall(request)
            raw.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # it had read enough
        said = b""
        try:
            while chunk := raw.recv(65536):
                said += chunk
        except ConnectionResetError:
            pass  # dropped with our bytes unread
    found = [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", said)]
    if said:
        assert found or said.startswith(bytes.fromhex("0000")), said[:200]
    return [(status, said) for status in found]


def test_there_are_enough_of_them() -> None:
    """The promise is about at least 60 kinds."""
    assert len({name for name, _ in CASES}) == len(CASES) >= 100


def test_the_honest_request_is_answered(target: Target) -> None:
    """What the cases change is what makes the difference: unchanged, the request is answered."""
    assert [status for status, _ in answers(target, target.request())] == [200]
    assert [status for status, _ in answers(target, target.post(body=b"{}"))] == [422]


@pytest.mark.parametrize("make", [make for _, make in CASES], ids=[name for name, _ in CASES])
def test_a_hostile_request_gets_an_error_or_nothing(target: Target, make: Callable[[Target], bytes]) -> None:
    """Every answer is an error, tells nothing of what is served, allows no other site, and sets no cookie."""
    for status, said in answers(target, make(target)):
        assert status >= 400, said[:300]
        assert not SECRET.search(said.replace(target.runs.encode(), b"")), said
        assert b"access-control-" not in said.lower()
        assert b"\r\nset-cookie" not in said.lower()
        assert status != 500, said


def test_requests_in_one_breath_are_each_checked(target: Target) -> None:
    """A good request does not let one behind it on the same connection through, with or without a body before it."""
    good = target.request()
    bad = target.request(token=None)
    statuses = [status for status, _ in answers(target, good + bad + good)]
    assert statuses[0] == 200
    assert 401 in statuses
    smuggled = target.post("Content-Length: 2", body=b"{}" + bad)
    assert all(status >= 400 for status, _ in answers(target, smuggled))


def test_slow_clients_are_dropped_and_others_served(target: Target) -> None:
    """Fifty connections that send their head a byte at a time, or nothing, do not keep an honest one waiting, and are closed."""
    slow = [socket.create_connection(("127.0.0.1", target.port), timeout=TIMEOUT_S) for _ in range(50)]
    try:
        for raw in slow:
            raw.sendall(b"GET /v1/health HTTP/1.1\r\nHo")
        assert [status for status, _ in answers(target, target.request())] == [200]
        for raw in slow:
            assert raw.recv(1) == b""
    finally:
        for raw in slow:
            raw.close()


def test_nobody_but_loopback_and_the_owner(target: Target) -> None:
    """The TCP listener is on 127.0.0.1 alone; the token and the socket are for the owner; a token that others can read is refused."""
    told = subprocess.run(
        ["cat", "/proc/net/tcp", "/proc/net/tcp6"], capture_output=True, text=True, check=False
    ).stdout
    listening = [line.split()[1] for line in told.splitlines() if len(line.split()) > 3 and line.split()[3] == "0A"]
    mine = [address for address in listening if address.endswith(f":{target.port:04X}")]
    assert mine in ([f"0100007F:{target.port:04X}"], [])
    token = target.daemon.state / "token"
    assert stat.S_IMODE(token.stat().st_mode) == 0o600
    token.chmod(0o644)
    try:
        second = target.daemon.journeyman(
            "serve", "--socket", str(target.daemon.folder / "other.sock"), cwd=target.daemon.folder
        )
        assert second.returncode == 2
        assert "others can read it" in second.stderr
    finally:
        token.chmod(0o600)


def test_plain_tls_clients_are_told_nothing(target: Target) -> None:
    """A client that begins TLS is dropped."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", target.port), timeout=TIMEOUT_S) as raw,
        pytest.raises((ssl.SSLError, ConnectionError, OSError)),
    ):
        context.wrap_socket(raw)


def test_over_the_unix_socket_no_browser_and_no_other_host(target: Target) -> None:
    """There too, an Origin, another Host, an upgrade or a whole address is refused; also right after the same request without that was
    answered, in one connection or another, and the next honest one is answered again."""
    path = b"GET /v1/repositories HTTP/1.1\r\n"
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(TIMEOUT_S)
        peer.connect(str(target.daemon.socket))
        for more, status in (
            (b"", b"200"), (b"Origin: http://localhost\r\n", b"403"), (b"", b"200"), (b"Sec-Fetch-Site: cross-site\r\n", b"403"),
            (b"", b"200"), (b"Host: localhost\r\n", b"400"),
        ):  # fmt: skip
            peer.sendall(path + b"Host: localhost\r\n" + more + b"\r\n")
            assert peer.recv(65536).split(b" ")[1] == status, more
    for headers in (
        ["Host: evil.example"], ["Host: localhost", "Origin: http://localhost"], ["Host: localhost", "Sec-Fetch-Site: cross-site"],
        ["Host: localhost", "Upgrade: h2c"], ["Host: localhost", "Transfer-Encoding: chunked", "Content-Length: 2"],
    ):  # fmt: skip
        with socket.socket(socket.AF_UNIX) as raw:
            raw.settimeout(TIMEOUT_S)
            raw.connect(str(target.daemon.socket))
            raw.sendall((CRLF.join(["GET /v1/repositories HTTP/1.1", *headers]) + CRLF * 2).encode())
            raw.shutdown(socket.SHUT_WR)
            said = raw.recv(65536)
        assert re.match(rb"HTTP/1\.1 4\d\d", said), (headers, said)
