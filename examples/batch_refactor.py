"""A batch refactor as a script: one codemod over many files, run from Python instead of the command line."""

import subprocess
import tempfile
from pathlib import Path

import trio

from runtime.core.task import Rewrite
from runtime.execution import Options, execute
from runtime.git import Repository
from runtime.refactor import How, batch, outcomes, totals
from specialists import BUILTIN


def make_repository() -> Path:
    folder = Path(tempfile.mkdtemp())
    for number in range(20):
        (folder / f"module_{number}.py").write_text("print('hello')\n" if number % 2 else "x = 1\n")
    identity = ["-c", "user.name=Ada", "-c", "user.email=ada@example.org"]
    for words in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-q", "-m", "base"]):
        subprocess.run(["git", *words], cwd=folder, check=True)
    return folder


def main():
    repository = Repository.open(make_repository())
    made = batch(repository, ["**/*.py"], How(rewrite=Rewrite("print($A)", "log.info($A)", "python")), BUILTIN)
    outcome = trio.run(execute, made.plan, BUILTIN, repository, Options(quiet=True, land=True))
    print(totals(outcomes(made, outcome.report, repository)), outcome.exit_code)


if __name__ == "__main__":
    main()
