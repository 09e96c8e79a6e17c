"""What a machine's own supervisor needs to run the daemon: a systemd user unit, a launchd agent. Texts; installs nothing.

A supervisor starts it with next to no environment, in another folder: what this shell's daemon would be told by those is written down.
"""

from __future__ import annotations

import math
import os
import re
import sys
import sysconfig
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

from ...errors import BadInput
from ..places import Places

KINDS: Final = ("systemd", "launchd")
WHERE: Final = {
    "systemd": "~/.config/systemd/user/journeyman.service; then: systemctl --user enable --now journeyman "
    "(from the boot on, not from your first login: loginctl enable-linger)",
    "launchd": "~/Library/LaunchAgents/dev.journeyman.daemon.plist; then: launchctl load -w it",
}
_FOLDERS: Final = ("XDG_STATE_HOME", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_CACHE_HOME")
_AFTER_DRAIN_S: Final = 30  # for what was stopped then to be written down
_NOT_A_PROGRAM: Final = re.compile(
    r"[\"'\\$]"
)  # systemd takes no program with these in its name, however they are quoted
_PLACE: Final = re.compile(r"@([A-Z_]+)@")


def unit(kind: str, command: Sequence[str], drain_s: float, environment: Mapping[str, str]) -> str:
    """The file for `kind`, running a command that takes up to `drain_s` seconds for its end. Raises BadInput."""
    for word in (*command, *environment.values()):
        if not word.isprintable():
            raise BadInput(f"{word!r}: it has characters that cannot be written into a unit; use another name")
    name = {"systemd": "journeyman.service", "launchd": "dev.journeyman.daemon.plist"}[kind]
    text = files(__name__).joinpath(name).read_text()
    given = {"DRAIN": f"{drain_s:g}", "TIMEOUT": str(math.ceil(drain_s) + _AFTER_DRAIN_S)}
    if kind == "systemd":
        words = ["/usr/bin/env", *command] if _NOT_A_PROGRAM.search(command[0]) else command
        given["COMMAND"] = " ".join(_quoted(word).replace("$", "$$") for word in words)
        given["ENVIRONMENT"] = "\n".join(
            "Environment=" + _quoted(f"{one}={value}") for one, value in environment.items()
        )
    else:
        given["COMMAND"] = "\n".join(f"    <string>{_escaped(word)}</string>" for word in command)
        given["ENVIRONMENT"] = "\n".join(
            f"    <key>{one}</key>\n    <string>{_escaped(value)}</string>" for one, value in environment.items()
        )
        given["HOME"] = _escaped(str(Path.home()))
    return _PLACE.sub(lambda found: given[found[1]], text)


def program() -> list[str]:
    """The words that this process was called by, for another folder: no other install that may be on the PATH."""
    called = Path(sys.argv[0]).absolute()
    if called.name != "__main__.py" and os.access(called, os.X_OK):
        return [str(called)]
    return [sys.executable, "-m", "runtime"]


def surroundings(socket: str = "") -> dict[str, str]:
    """What the daemon has to find in its environment to be the one of this shell, unless `socket` names it. Raises BadInput."""
    found = {name: os.path.abspath(value) for name in _FOLDERS if (value := os.environ.get(name))}
    if not socket and (os.environ.get("JOURNEYMAN_SOCKET") or "XDG_RUNTIME_DIR" not in found):
        found["JOURNEYMAN_SOCKET"] = str(Places.find().socket)  # systemd has an XDG_RUNTIME_DIR of its own
    paths = [one for one in os.environ.get("PATH", os.defpath).split(os.pathsep) if os.path.isabs(one)]
    found["PATH"] = os.pathsep.join(dict.fromkeys(paths))
    ours = Path(__file__).parents[3]
    if str(ours) not in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        found["PYTHONPATH"] = str(ours)
    return found


def _quoted(word: str) -> str:
    """A word as systemd reads it back: its own quoting, which is not a shell's, and a `%` that is one."""
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


def _escaped(word: str) -> str:
    return escape(word, quote=False)
