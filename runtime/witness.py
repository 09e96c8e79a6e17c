"""Who ended the process: a task that it ran, or somebody from outside. Knows processes; nothing of tasks.

A process that dies tells nobody why, and a person's `kill -9` looks like a task that brings its process down. Only a parent sees
its child's death, and a person kills the process that they started: a parent that lives to see its child killed knows that it was
the work.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from types import FrameType


def killed_by_its_work() -> bool:
    """Do what follows in a child. In the child this returns False. In the parent it ends the process with the child's exit code; it
    returns True when a signal killed the child, which then was not from outside. The child dies as soon as the parent does.

    Only for a program with one thread.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(write)
        threading.Thread(target=_die_with, args=(read,), daemon=True).start()
        return False
    os.close(read)
    code = os.waitstatus_to_exitcode(_wait(child))
    os.close(write)
    if code >= 0:
        sys.exit(code)
    return True


def _die_with(pipe: int) -> None:
    os.read(pipe, 1)  # nothing is ever written: it returns when the parent is gone
    os.kill(os.getpid(), signal.SIGKILL)


def _wait(child: int) -> int:
    """Wait for its end; what somebody asks of us is asked of the child. A terminal's Ctrl-C reaches it by itself."""

    def pass_on(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and _in_a_terminal():
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    before = {number: signal.signal(number, pass_on) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        return os.waitpid(child, 0)[1]
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _in_a_terminal() -> bool:
    with contextlib.suppress(OSError):
        return os.tcgetpgrp(0) == os.getpgrp()
    return False
