"""Where the daemon's files are: its socket and lock, its token, its list of repositories. Knows folders, nothing of what is in them.

The socket is in `$XDG_RUNTIME_DIR/journeyman` or, without one, beside the rest in `$XDG_STATE_HOME/journeyman` (`~/.local/state`).
`JOURNEYMAN_SOCKET` names another one. All folders are made 0700, all files 0600.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import Final

import attrs

from ..errors import BadInput

_LONGEST_SOCKET_PATH: Final = 103 if sys.platform == "darwin" else 107  # bytes; the kernel's `sun_path` less its end


@attrs.frozen
class Places:
    """The files of one daemon."""

    socket: Path
    state: Path  # a folder

    @classmethod
    def find(cls, socket: str = "") -> Places:
        """The places of this user's daemon, or of the one whose socket is named. Makes nothing. Raises BadInput."""
        home = os.environ.get("XDG_STATE_HOME")
        state = (Path(home) if home else Path.home() / ".local" / "state") / "journeyman"
        named = socket or os.environ.get("JOURNEYMAN_SOCKET", "")
        run = os.environ.get("XDG_RUNTIME_DIR")
        where = Path(named).absolute() if named else (Path(run) / "journeyman" if run else state) / "daemon.sock"
        if len(os.fsencode(where)) > _LONGEST_SOCKET_PATH:
            raise BadInput(
                f"--socket: {where} is longer than the {_LONGEST_SOCKET_PATH} bytes that a socket's name may have; "
                "name a shorter one with --socket or JOURNEYMAN_SOCKET"
            )
        return cls(where, state)

    @property
    def lock(self) -> Path:
        """Held by the daemon that listens on the socket."""
        return self.socket.with_suffix(".lock")

    @property
    def address(self) -> Path:
        """The TCP address of the daemon that listens on the socket, while it has one."""
        return self.socket.with_suffix(".address")

    @property
    def token(self) -> Path:
        """The bearer token of the TCP listener."""
        return self.state / "token"

    @property
    def repositories(self) -> Path:
        """The list of registered repositories: each socket, and so each daemon, has its own, which nobody else writes."""
        default = self.state.resolve() / "daemon.sock"
        where = self.socket.parent.resolve() / self.socket.name
        which = "" if where == default else f"-{hashlib.sha256(os.fsencode(where)).hexdigest()[:8]}"
        return self.state / f"repositories{which}.json"

    def make(self) -> None:
        """Make the folders, for this user alone. Raises BadInput when that cannot be, or others may change what is in the socket's."""
        for folder in (self.socket.parent, self.state):
            try:
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            except OSError as error:
                raise BadInput(f"{folder}: it cannot be made: {error.strerror}") from None
        _refuse_shared(self.socket.parent)

    def read_token(self) -> str:
        """The token, made on first use. Raises BadInput when others can read the file."""
        self.make()
        write(self.token, secrets.token_urlsafe(32), replace=False)
        if self.token.stat().st_mode & 0o077:
            raise BadInput(
                f"{self.token}: others can read it; remove it (a new one is made), or: chmod 600 {self.token}"
            )
        token = self.token.read_text().strip()
        if len(token) < 20:
            raise BadInput(f"{self.token}: it is too short to be a token; remove it, and a new one is made")
        return token


def _refuse_shared(folder: Path) -> None:
    """Where others may write, they may put a socket of theirs in the place of ours; a sticky folder like /tmp keeps them from it."""
    found = folder.stat()
    sticky = bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid not in ((os.geteuid(), 0) if sticky else (os.geteuid(),)):
        raise BadInput(f"--socket: {folder} belongs to another user; name a socket in a folder that is yours alone")
    if found.st_mode & 0o022 and not sticky:
        raise BadInput(
            f"--socket: others can write into {folder}; name a socket in a folder that is yours alone, or: chmod go-w {folder}"
        )


def write(path: Path, text: str, *, replace: bool = True) -> None:
    """Put a text into a file of this user's alone, all of it or none; without `replace` only if there is none."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(fd, "w") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if replace:
            os.replace(temporary, path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:
                return
    finally:
        temporary.unlink(missing_ok=True)
