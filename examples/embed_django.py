"""A Django command with a Runtime in it: `Command` is what `yourapp/management/commands/check_links.py` would have.

Here it runs by itself: `pip install django`, then `python embed_django.py one two three`. Ctrl-C leaves the `with` block, and that
cancels what runs. Handlers are ordinary functions, each in a thread of its own: Django's connections are a thread's own as well, so
one that asks the database closes its connection in the end (`django.db.connection.close()`).
"""

import sys
import threading

import django
from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError

from runtime import GiveUp, Plan, Specialist, Task
from runtime.blocking import Runtime
from runtime.core.commands import Settled


def check(brief, workspace):
    if not brief.task.payload.isalpha():
        raise GiveUp("it is no link")
    return len(brief.task.payload)


class Command(BaseCommand):
    help = "Check links, several at a time."

    def add_arguments(self, parser):
        parser.add_argument("links", nargs="+")
        parser.add_argument("--instances", type=int, default=4)

    def handle(self, *args, links, instances, **options):
        crew = [Specialist("check", check, instances=instances)]
        plan = Plan([Task(f"link-{number}", "check", payload=link) for number, link in enumerate(links)])
        with Runtime(crew) as rt:
            bar = threading.Thread(target=self.show, args=(rt, len(links)))
            bar.start()
            report = rt.run(plan)
        bar.join()
        for task in report.tasks.values():
            self.stdout.write(f"{task.id} {task.state} {task.error or task.result}")
        if not report.ok:
            raise CommandError(f"{report.counts['failed']} of {len(links)} links are broken")
        self.stdout.write(self.style.SUCCESS(f"{len(links)} links are good"))

    def show(self, rt, total):
        """A progress bar, fed by the runtime's events until it closes."""
        settled = 0
        for notice in rt.events():
            if isinstance(notice.event, Settled):
                settled += 1
                self.stderr.write(f"[{'#' * settled}{'.' * (total - settled)}] {settled}/{total}")


if __name__ == "__main__":
    settings.configure()
    django.setup()
    try:
        call_command(Command(), *sys.argv[1:])
    except CommandError as error:
        sys.exit(f"CommandError: {error}")
