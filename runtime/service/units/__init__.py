"""What a machine's own supervisor needs to run the daemon: a systemd user unit, a launchd agent. Texts; installs nothing."""

from __future__ import annotations

import shlex
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Final

KINDS: Final = ("systemd", "launchd")
WHERE: Final = {
    "systemd": "~/.config/systemd/user/journeyman.service; then: systemctl --user enable --now journeyman "
    "(from the boot on, not from your first login: loginctl enable-linger)",
    "launchd": "~/Library/LaunchAgents/dev.journeyman.daemon.plist; then: launchctl load -w it",
}


def unit(kind: str, program: str, words: list[str]) -> str:
    """The file for `kind`, starting `program serve` with these words."""
    name = {"systemd": "journeyman.service", "launchd": "dev.journeyman.daemon.plist"}[kind]
    text = files(__name__).joinpath(name).read_text()
    if kind == "systemd":
        # systemd expands % and $ in a command; a program's path may have either.
        line = shlex.join([program, "serve", *words]).replace("%", "%%").replace("$", "$$")
        return text.replace("@COMMAND@", line)
    rows = "\n".join(f"    <string>{escape(word, quote=False)}</string>" for word in [program, "serve", *words])
    return text.replace("@COMMAND@", rows).replace("@HOME@", escape(str(Path.home()), quote=False))
