"""Paths and patterns as a plan writes them: what they match, what they must not be, what they claim.

Edge code: knows globs and git's special names, not who holds what. `**` spans folders; a path ending in `/` is a folder
and all in it; anything else without a wildcard is exactly one path, whether it exists or not.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence
from functools import lru_cache
from typing import Final

from wcmatch import glob

_FLAGS: Final = glob.GLOBSTAR | glob.DOTGLOB | glob.BRACE | glob.FORCEUNIX
_WILD: Final = re.compile(r"[*?\[{]")
_LONGEST_NAME: Final = 255  # bytes; what the usual file systems take
_LONGEST_PATH: Final = 4096


def is_glob(pattern: str) -> bool:
    """Whether it has a wildcard in it."""
    return _WILD.search(pattern) is not None


@lru_cache(maxsize=1024)
def _matcher(pattern: str) -> re.Pattern[str]:
    included, _ = glob.translate(pattern, flags=_FLAGS)
    return re.compile("|".join(f"(?:{one})" for one in included), re.DOTALL)


def matches(pattern: str, path: str) -> bool:
    """Whether one claim covers a path."""
    if pattern.endswith("/") and not is_glob(pattern):
        return path.startswith(pattern)
    if pattern == path:
        return True
    if not is_glob(pattern):
        return False
    return _matcher(f"{pattern}**" if pattern.endswith("/") else pattern).match(path) is not None


def covers(patterns: Iterable[str], path: str) -> bool:
    """Whether any of the claims covers a path."""
    return any(matches(pattern, path) for pattern in patterns)


def expand(patterns: Sequence[str], files: Collection[str]) -> tuple[str, ...]:
    """The existing files that the claims cover, sorted."""
    if all(not is_glob(one) and not one.endswith("/") for one in patterns):
        return tuple(sorted(path for path in dict.fromkeys(patterns) if path in files))
    found: set[str] = set()
    for pattern in patterns:
        if pattern in files:
            found.add(pattern)
        elif pattern.endswith("/") or is_glob(pattern):
            found.update(path for path in files if matches(pattern, path))
    return tuple(sorted(found))


def lock_keys(patterns: Sequence[str], files: Collection[str]) -> tuple[str, ...]:
    """What the registry is asked for: paths and folders as they are; a glob as the files it matches now and its own text, so
    that two tasks with the same glob exclude each other even where it matches nothing yet."""
    keys: dict[str, None] = {}
    for pattern in patterns:
        if is_glob(pattern) and pattern not in files:
            keys.update(dict.fromkeys(path for path in files if matches(pattern, path)))
        keys[pattern] = None
    return tuple(keys)


@lru_cache(maxsize=4096)
def problem_with(path: str) -> str | None:
    """Why a path cannot be claimed, or None. Whatever git takes for `.git` on any system is refused."""
    if not path.strip():
        return "it is empty"
    if path.startswith(("/", "~")) or re.match(r"[A-Za-z]:", path):
        return "it must be relative to the repository"
    if "\\" in path:
        return "it has a backslash; write folders with /"
    if any(ord(char) < 32 or ord(char) == 127 for char in path):
        return "it has a control character"
    if len(path.encode("utf-8", "surrogateescape")) > _LONGEST_PATH:
        return f"it is longer than {_LONGEST_PATH} bytes"
    parts = path.removesuffix("/").split("/")
    if ".." in parts:
        return "it leads out of the repository"
    if "." in parts or "" in parts:
        return "it has an empty part or a lone dot"
    if in_git_folder(path):
        return "it is inside git's own folder"
    for part in parts:
        if len(part.encode("utf-8", "surrogateescape")) > _LONGEST_NAME:
            return f"one of its names is longer than {_LONGEST_NAME} bytes"
    return None


def in_git_folder(path: str) -> bool:
    """Whether a part of a path is what git takes for its own folder on any system: no tree may have it."""
    return any(_is_dot_git(part) for part in path.split("/"))


def _is_dot_git(name: str) -> bool:
    """Git's own list (path.c, utf8.c): case, NTFS's short name, trailing dots, spaces and streams, HFS's ignorables."""
    visible = "".join(char for char in name if unicodedata.category(char) != "Cf")
    plain = unicodedata.normalize("NFC", visible).casefold().split(":")[0].rstrip(". ")
    return plain in (".git", "git~1")
