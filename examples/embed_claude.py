"""Claude inside a program of one's own: `python embed_claude.py GOAL FILES...` in a repository, one task a file, all at once.

Needs ANTHROPIC_API_KEY in the environment (in the tests a server on the loopback answers). Spends a dollar at most; the checkout is
not touched: the result is on the line that is printed. `runtime.aio.Runtime` and `runtime.blocking.Runtime` take the same `ways`.
"""

import sys

import trio

from runtime import Plan, Runtime, Task
from specialists import BUILTIN, Ways, by_path


async def main(goal, *files):
    tasks = [Task(file, by_path(file), goal=f"In {file}: {goal}", writes=[file]) for file in files]
    async with Runtime(BUILTIN, repo=".", ways=Ways(), budget_usd=1.0) as rt:
        report = await rt.run(Plan(tasks))
    for name, task in report.tasks.items():
        print(name, task.state, task.error or task.result)
    print(report.state, report.paused, f"{report.spent.usd:.4f} USD, on {report.line}")
    return 0 if report.ok else 1


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(trio.run(main, *sys.argv[1:]))
