"""An asyncio program with a Runtime in it: its handlers are the program's own coroutines, on the program's own loop."""

import asyncio

from runtime import Plan, Specialist, Task
from runtime.aio import Runtime


async def fetch(brief, workspace):
    await asyncio.sleep(0.02)
    return f"page {brief.task.payload}"


async def main():
    async with Runtime([Specialist("fetch", fetch, instances=4)]) as rt:

        async def follow():
            async for notice in rt.events():
                if type(notice.event).__name__ == "Settled":
                    print("settled", notice.event.task)

        watcher = asyncio.create_task(follow())
        report = await rt.run(Plan([Task(f"p{number}", "fetch", payload=number) for number in range(6)]))
        watcher.cancel()
    print(report.tasks["p5"].result, report.state)


if __name__ == "__main__":
    asyncio.run(main())
