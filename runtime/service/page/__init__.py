"""The page's files, as they are served: no build step, nothing from anywhere else."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Final

_KINDS: Final[Mapping[str, str]] = {
    "index.html": "text/html; charset=utf-8",
    "style.css": "text/css; charset=utf-8",
    "page.js": "text/javascript; charset=utf-8",
    "model.js": "text/javascript; charset=utf-8",
    "draw.js": "text/javascript; charset=utf-8",
    "lanes.js": "text/javascript; charset=utf-8",
    "graph.js": "text/javascript; charset=utf-8",
    "diff.js": "text/javascript; charset=utf-8",
    "claims.js": "text/javascript; charset=utf-8",
    "icon.svg": "image/svg+xml",
}


@cache
def asset(name: str) -> tuple[bytes, str] | None:
    """(bytes, content type) of one of the page's files; None for any other name."""
    kind = _KINDS.get(name)
    if kind is None:
        return None
    return files(__name__).joinpath(name).read_bytes(), kind
