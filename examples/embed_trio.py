"""A trio program with a Runtime in it: six tasks for two specialists, one waiting for the others."""

import trio

from runtime import Plan, Runtime, Specialist, Task


async def measure(brief, workspace):
    await trio.sleep(0.02 * len(brief.task.payload))
    return len(brief.task.payload)


async def total(brief, workspace):
    return sum(brief.results.values())


async def main():
    words = ["one", "three", "eleven", "a hundred", "five"]
    tasks = [Task(f"word-{number}", "measure", payload=word) for number, word in enumerate(words)]
    tasks.append(Task("total", "total", after=[task.id for task in tasks]))
    async with Runtime([Specialist("measure", measure), Specialist("total", total)]) as rt:
        report = await rt.run(Plan(tasks))
    print(report.tasks["total"].result, "letters;", report.state)


if __name__ == "__main__":
    trio.run(main)
