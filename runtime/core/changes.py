"""What an attempt gives back: a changeset, the list of paths it changed and what each became.

Contents are named by git object ids; this module does not know where the objects are. A path is text; bytes of a file
name that are not UTF-8 are carried by `path_text` in a private range, so that text survives JSON and MessagePack.
"""

from __future__ import annotations

from typing import Final

import msgspec

MODE_FILE: Final = 0o100644
MODE_EXECUTABLE: Final = 0o100755
MODE_LINK: Final = 0o120000
MODE_SUBMODULE: Final = 0o160000

_ESCAPE: Final = 0x10FF00  # plane 16, private use: byte b of a name that is not UTF-8 becomes chr(_ESCAPE + b)


def path_text(raw: bytes) -> str:
    """The text that stands for a file name. One to one: `path_bytes(path_text(raw)) == raw` for every raw."""
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
    if text.isascii():
        return text
    out = []
    for char in text:
        code = ord(char)
        if 0xDC80 <= code <= 0xDCFF:
            out.append(chr(_ESCAPE + code - 0xDC00))
        elif code >= _ESCAPE:  # a real name in our private range: escape its bytes too, to stay one to one
            out.extend(chr(_ESCAPE + byte) for byte in char.encode())
        else:
            out.append(char)
    return "".join(out)


def path_bytes(text: str) -> bytes:
    """The file name that `text` stands for."""
    if text.isascii():
        return text.encode()
    out = bytearray()
    for char in text:
        code = ord(char)
        if code >= _ESCAPE:
            out.append(code - _ESCAPE)
        else:
            out += char.encode("utf-8", "surrogateescape")
    return bytes(out)


class Change(msgspec.Struct, frozen=True, omit_defaults=True, tag=False):
    """One path. `mode` and `oid` are None when it was deleted; `was` is the object id it had in the attempt's base."""

    path: str
    mode: int | None = None
    oid: str | None = None
    was: str | None = None


class Changeset(msgspec.Struct, frozen=True, omit_defaults=True):
    """The changes of one attempt, sorted by path, against the tree of commit `base`."""

    base: str
    changes: tuple[Change, ...] = ()

    @property
    def paths(self) -> tuple[str, ...]:
        return tuple(change.path for change in self.changes)
