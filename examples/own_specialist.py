"""A specialist of one's own, with a repository: it writes a licence line into each file that lacks one."""

import subprocess
import tempfile
from pathlib import Path

import trio

from runtime import GiveUp, Plan, Runtime, Specialist, Task

LINE = "# SPDX-License-Identifier: Apache-2.0\n"


async def licence(brief, workspace):
    for path in brief.files:
        brief.progress(path)
        text = workspace.read_text(path)
        if "\0" in text:
            raise GiveUp(f"{path} is binary")
        if not text.startswith(LINE):
            workspace.write(path, LINE + text)
    return {"files": len(brief.files)}


def make_repository() -> Path:
    folder = Path(tempfile.mkdtemp())
    for name in ("a.py", "b.py", "c.py"):
        (folder / name).write_text(f"NAME = {name!r}\n")
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "base"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


async def main():
    folder = make_repository()
    lawyer = Specialist("lawyer", licence, instances=2, writes=("**/*.py",))
    async with Runtime([lawyer], repo=folder) as rt:
        tasks = [Task(name, "lawyer", writes=(name,), goal=f"License {name}") for name in ("a.py", "b.py", "c.py")]
        report = await rt.run(Plan(tasks, checks=["git grep -q SPDX a.py b.py c.py"]))
        landed = await rt.land("License everything")
    print(report.state, len(landed), (folder / "c.py").read_text().splitlines()[0])


if __name__ == "__main__":
    trio.run(main)
