"""A web service with Runtimes in it, one for each job: `pip install fastapi`, then `hypercorn embed_fastapi:app` (or uvicorn).

POST /jobs starts one, GET /jobs/ID tells of it, GET /jobs/ID/events streams its progress, DELETE /jobs/ID cancels it: cancelling the
asyncio task cancels what the runtime does, and what it does is awaited on the service's own loop.
"""

import asyncio
from contextlib import asynccontextmanager
from itertools import count

from fastapi import FastAPI, HTTPException
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from runtime import Plan, Specialist, Task
from runtime.aio import Runtime
from runtime.core.commands import Settled


async def thumbnail(brief, workspace):
    await asyncio.sleep(brief.task.payload["seconds"])  # stands for work with the service's own clients and pools
    return f"{brief.task.id}.webp"


CREW = [Specialist("thumbnail", thumbnail, instances=4)]


class Wanted(BaseModel):
    pictures: list[str]
    seconds: float = 0.01


class Job:
    """A run, what has settled of it so far, and how it ended."""

    def __init__(self, wanted: Wanted):
        self.total, self.settled, self.state, self.results = len(wanted.pictures), {}, "running", {}
        self.changed = asyncio.Condition()
        self.task = asyncio.create_task(self.run(wanted))

    async def run(self, wanted: Wanted):
        try:
            async with Runtime(CREW) as rt, asyncio.TaskGroup() as group:
                watcher = group.create_task(self.follow(rt))
                tasks = [Task(name, "thumbnail", payload={"seconds": wanted.seconds}) for name in wanted.pictures]
                report = await rt.run(Plan(tasks))
                watcher.cancel()
            self.settled = {name: task.state for name, task in report.tasks.items()}
            self.results = {name: task.result for name, task in report.tasks.items()}
            await self.tell(report.state)
        except asyncio.CancelledError:
            await self.tell("cancelled")
            raise

    async def follow(self, rt: Runtime):
        async for notice in rt.events():
            if isinstance(notice.event, Settled):
                self.settled[notice.event.task] = notice.event.state
                await self.tell("running")

    async def tell(self, state: str):
        async with self.changed:
            self.state = state
            self.changed.notify_all()


@asynccontextmanager
async def lifespan(app: FastAPI):
    app.state.jobs, app.state.numbers = {}, count(1)
    yield
    for job in app.state.jobs.values():
        job.task.cancel()
    await asyncio.gather(*(job.task for job in app.state.jobs.values()), return_exceptions=True)


app = FastAPI(lifespan=lifespan)


def find(job: str) -> Job:
    if job not in app.state.jobs:
        raise HTTPException(404, f"there is no job {job}")
    return app.state.jobs[job]


@app.post("/jobs", status_code=202)
async def start(wanted: Wanted):
    name = f"job-{next(app.state.numbers)}"
    app.state.jobs[name] = Job(wanted)
    return {"job": name}


@app.get("/jobs/{job}")
async def status(job: str):
    found = find(job)
    return {"state": found.state, "settled": found.settled, "results": found.results}


@app.get("/jobs/{job}/events")
async def events(job: str):
    found = find(job)

    async def progress():
        told = (-1, "running")
        while told[1] == "running":
            async with found.changed:
                while told == (len(found.settled), found.state):
                    await found.changed.wait()
                told = (len(found.settled), found.state)
            yield f"data: {told[0]} of {found.total} {told[1]}\n\n"

    return StreamingResponse(progress(), media_type="text/event-stream")


@app.delete("/jobs/{job}", status_code=202)
async def cancel(job: str):
    find(job).task.cancel()
    return {"job": job}
