"""A plain script with a Runtime in it: its handlers are ordinary functions, each in a thread of its own."""

import hashlib

from runtime import Plan, Specialist, Task
from runtime.blocking import Runtime


def digest(brief, workspace):
    return hashlib.sha256(brief.task.payload.encode()).hexdigest()[:8]


def main():
    with Runtime([Specialist("digest", digest)]) as rt:
        report = rt.run(Plan([Task(word, "digest", payload=word) for word in ("alpha", "beta", "gamma")]))
        ticket = rt.submit(Task("late", "digest", payload="delta"))
        print(report.tasks["beta"].result, ticket.result(timeout_s=10))


if __name__ == "__main__":
    main()
