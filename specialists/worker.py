"""A worker process: takes jobs on its standard input, answers on its standard output, ends when the input does.

The other side is `workers`. A frame is four bytes of length and MessagePack. It keeps no state but imported codemods, and how long
edits take, so that a killed one loses nothing but the job it had.
"""

from __future__ import annotations

import gc
import os
import sys
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from specialists import edits
from specialists.own import Code

_COLLECT_EVERY = (
    200  # files; a tree is garbage in cycles, and looking for it at each allocation costs a tenth of the time
)


_code = cache(Code)


@cache
def _codemod(name: str, root: Path) -> Any:
    return edits.find_codemod(name, _code(root))


def work(
    kind: str, way: dict[str, Any], files: list[tuple[str, bytes]], ahead: edits.Ahead
) -> list[tuple[str, str, bytes | None, bool]]:
    """Edit files; for each (state, why, new bytes, whether another pass would change more)."""
    answers: list[tuple[str, str, bytes | None, bool]] = []
    for path, data in files:
        if kind == "rewrite":
            edit = edits.rewriter(path, way["pattern"], way["replace"], way["language"])
            language: str | None = way["language"]
        else:
            edit = edits.codemodder(path, _codemod(way["name"], Path(way["root"])), way["args"], way["root"])
            language = edits.language_of(path)
        answers.append(
            edits.apply(path, data, edit, language, way["passes"], ahead=ahead if way["look_ahead"] else None)
        )
    return answers


def _read(source: BinaryIO) -> bytes | None:
    head = source.read(4)
    if len(head) < 4:
        return None
    return source.read(int.from_bytes(head, "big"))


def main() -> None:
    """Serve until the standard input ends."""
    source, target = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a codemod that prints must not speak into the frames
    sys.stdin = open(os.devnull)  # noqa: SIM115  # for as long as the process lives
    gc.freeze()
    gc.disable()
    done, ahead = 0, edits.Ahead()
    while (body := _read(source)) is not None:
        kind, way, files = msgspec.msgpack.decode(body, type=tuple[str, dict[str, Any], list[tuple[str, bytes]]])
        try:
            answer: Any = {"files": work(kind, way, files, ahead)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        reply = msgspec.msgpack.encode(answer)
        try:
            target.write(len(reply).to_bytes(4, "big") + reply)
            target.flush()
        except BrokenPipeError:  # whoever asked was killed: nobody is to read of it on the terminal
            os._exit(0)
        done += len(files)
        if done >= _COLLECT_EVERY:
            gc.collect()
            done = 0


if __name__ == "__main__":
    main()
