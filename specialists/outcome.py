"""What became of each file a task was given: exactly one state a file.

Shared by all ways of working, and by the worker processes; knows none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from runtime.errors import GiveUp

State = Literal["changed", "unchanged", "skipped", "failed"]


class FileOutcome(msgspec.Struct, frozen=True, omit_defaults=True):
    """One file: its state, and why where that is not plain."""

    state: State
    why: str = ""


class _Told(msgspec.Struct):
    files: dict[str, FileOutcome]


class FilesFailed(GiveUp):
    """No file of a task could be worked on; `result` has the state of each."""

    def __init__(self, message: str, result: Mapping[str, Any]) -> None:
        super().__init__(message)
        self.result = dict(result)


def told_files(result: Any) -> dict[str, FileOutcome]:
    """{path: outcome} as a task's result tells of its files; empty where it is another handler's and tells of none."""
    try:
        return msgspec.convert(result, _Told).files
    except msgspec.ValidationError:
        return {}


def settle(files: Mapping[str, FileOutcome], **more: Any) -> dict[str, Any]:
    """A handler's value from the files' states. Raises FilesFailed when one failed and none went well: a batch with some good
    files is done, and tells of the others."""
    result = {"files": {path: msgspec.to_builtins(one) for path, one in sorted(files.items())}, **more}
    failed = [path for path, one in sorted(files.items()) if one.state == "failed"]
    if failed and len(failed) == sum(one.state != "skipped" for one in files.values()):
        first = f"{failed[0]}: {files[failed[0]].why}"
        raise FilesFailed(first if len(failed) == 1 else f"{len(failed)} files failed; {first}", result)
    return result
