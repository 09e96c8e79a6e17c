"""The loopback Messages API as a process of its own, for programs under test that are processes themselves."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import messages_api
from messages_ledger import Call, read_ledger


class MessagesProcess:
    """A server, up when it is made; a context. `url` is its address; `options` are those of its command line."""

    def __init__(self, ledger: Path, *options: str) -> None:
        self._ledger = ledger
        words = [sys.executable, messages_api.__file__, "--ledger", str(ledger), *options]
        self._process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()

    def __enter__(self) -> MessagesProcess:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdout is not None
        self._process.terminate()
        self._process.wait()
        self._process.stdout.close()

    @property
    def calls(self) -> list[Call]:
        """The calls to the model that have ended."""
        return [call for call in read_ledger(self._ledger) if call.number]
