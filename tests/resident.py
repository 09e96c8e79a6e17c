"""What a process holds in memory, told apart: what is its own, and what is only mapped. Knows nothing of what the process does."""

from __future__ import annotations

from pathlib import Path


def resident_mib(process: int | str = "self") -> tuple[float, float]:
    """(MiB that this process holds for itself, MiB that it has mapped of files: programs, and git's packs as they grow).
    What is mapped is the system's to take back."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{process}/status").read_text().splitlines())
    own, mapped = (int(rows[name].split()[0]) / 1024 for name in ("RssAnon", "RssFile"))
    return own, mapped
