"""Importing this has Python keep what it compiles, here and in the processes that are started from here.

Where the environment forbids it (PYTHONDONTWRITEBYTECODE is common in containers), each of the hundreds of processes of the tests
and benches would compile every module again, which an installed Journeyman never does: half a second of processor time each.
"""

from __future__ import annotations

import os
import sys

sys.dont_write_bytecode = False
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
