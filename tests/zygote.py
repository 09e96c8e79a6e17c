"""Starts the command line as a process of its own without its imports each time: forked from an interpreter that has them.

A thousand kills need two thousand starts. One request a line on the standard input, one answer a line on the standard output; the
forked process leads a session of its own and has its own files for output, so it is as good a victim as one that was executed.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

ROOT = Path(__file__).parent.parent


@attrs.define
class Started:
    """A process that the zygote forked."""

    zygote: Zygote
    pid: int
    out: Path
    err: Path
    code: int | None = None  # as subprocess has it: minus the signal's number when one killed it

    def wait(self, timeout_s: float | None = None) -> int | None:
        """The exit code, or None when it still runs after so many seconds."""
        if self.code is None:
            self.code = self.zygote.ask({"wait": self.pid, "timeout_s": timeout_s})
        return self.code

    def send(self, number: int) -> None:
        """Send it a signal."""
        if self.code is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """kill -9, and wait for its end."""
        self.send(signal.SIGKILL)
        self.wait()

    @property
    def said(self) -> str:
        """What it said on standard error."""
        return self.err.read_text(errors="replace")

    @property
    def json(self) -> Any:
        """Its document."""
        return json.loads(self.out.read_text())


class Zygote:
    """The harness's side; a context."""

    def __init__(self, *modules: str) -> None:
        """`modules` are imported beforehand, besides the command line."""
        self._process = subprocess.Popen(
            [sys.executable, __file__, *modules],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self._count = 0

    def __enter__(self) -> Zygote:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        self._process.wait()

    def ask(self, request: Mapping[str, Any]) -> Any:
        """One request, one answer."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def start(
        self,
        words: Sequence[str],
        cwd: Path,
        environment: Mapping[str, str],
        folder: Path,
        limits: Mapping[str, int] | None = None,
        prefix: str = "",
    ) -> Started:
        """Start `journeyman WORDS`; its output goes into files of `folder`. `limits` are of `resource`, by name."""
        self._count += 1
        out, err = folder / f"{prefix}out{self._count}", folder / f"{prefix}err{self._count}"
        request = {
            "words": list(words),
            "cwd": str(cwd),
            "environment": dict(environment),
            "out": str(out),
            "err": str(err),
        }
        return Started(self, self.ask({**request, "limits": dict(limits or {})}), out, err)

    def run(self, words: Sequence[str], cwd: Path, environment: Mapping[str, str], folder: Path) -> Started:
        """Start it and wait for its end."""
        started = self.start(words, cwd, environment, folder)
        started.wait()
        return started


def _become(request: Mapping[str, Any]) -> None:
    """In the child: be the command line."""
    os.setsid()
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    for number, name in ((0, os.devnull), (1, request["out"]), (2, request["err"])):
        fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
        os.dup2(fd, number)
        os.close(fd)
    sys.stdin, sys.stdout, sys.stderr = os.fdopen(0), os.fdopen(1, "w"), os.fdopen(2, "w", buffering=1)
    for name, value in request["limits"].items():
        resource.setrlimit(getattr(resource, name), (value, value))
    if "SCENE_CLOCK" in os.environ:
        _jump(int(os.environ["SCENE_CLOCK"]))
    from runtime.cli import main

    code: Any = 70
    try:
        main(request["words"])
    except SystemExit as error:
        code = error.code or 0
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _jump(seed: int) -> None:
    """Have the wall clock say something else each time, years off."""
    rng, true = random.Random(seed), time.time
    time.time = lambda: max(1.0, true() + rng.choice((-1, 1)) * rng.choice((0.0, 0.5, 3600.0, 1e8)))


def _wait(pid: int, timeout_s: float | None) -> int | None:
    end = None if timeout_s is None else time.monotonic() + timeout_s
    while True:
        found, status = os.waitpid(pid, 0 if end is None else os.WNOHANG)
        if found:
            return os.waitstatus_to_exitcode(status)
        if end is not None and time.monotonic() >= end:
            return None
        time.sleep(0.001)


def main() -> None:
    """Serve until the standard input ends."""
    for name in ("runtime.cli", *sys.argv[1:]):  # what makes it warm
        importlib.import_module(name)
    for line in sys.stdin:
        request = json.loads(line)
        if "wait" in request:
            answer = _wait(request["wait"], request["timeout_s"])
        else:
            answer = os.fork()
            if not answer:
                _become(request)
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
