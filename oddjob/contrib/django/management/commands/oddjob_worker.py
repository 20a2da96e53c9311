"""``manage.py oddjob_worker``: run the stored tasks of a site, until a signal ends it."""

import argparse
import os
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from oddjob.compat import override
from oddjob.contrib.django.backend import stored_backends
from oddjob.contrib.django.management.commands.oddjob import CHOSEN, QUEUES, run_command


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number from 1 on")
    return int(text)


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types of its own
    """The command ``oddjob worker`` by the names of queues."""

    help = "Run tasks, until SIGTERM or Ctrl-C. 'manage.py oddjob worker' has more options."

    @override
    def add_arguments(self, parser: Any) -> None:
        add, names = parser.add_argument, {"metavar": "QUEUE,…", "default": ""}
        add("--queue-name", help="Run tasks of these queues alone.", **names)
        add("--exclude-queues", help="Run no tasks of these queues.", **names)
        add("--batch", action="store_true", help="End when no task is left that can run now.")
        add("--max-tasks", type=_count, metavar="N", help="End after about N tasks.")
        add("--noreload", action="store_true", help="Do not start again when the code changes, "
            "which is done when DEBUG is on.")  # fmt: skip

    @override
    def handle(self, *_: Any, **options: Any) -> None:
        backends = stored_backends()
        if not backends:
            raise CommandError("No backend in TASKS has a store in its OPTIONS: tasks run where "
                               "they are enqueued")  # fmt: skip
        given, excluded = (
            {*filter(None, options[name].split(","))} for name in ("queue_name", "exclude_queues")
        )
        arguments: list[Any] = ["worker", QUEUES]
        if given or excluded:
            known = {queue for each in backends for queue in each.queue_names()}
            unknown = sorted((given | excluded) - known)
            if unknown and all(each.queues for each in backends):
                what = f"There is no queue {unknown[0]!r}; there are: {', '.join(sorted(known))}"
                raise CommandError(what, returncode=2)
            chosen = given or known
            if not (chosen := chosen - excluded):
                raise CommandError("No queue is left")
            os.environ[CHOSEN] = ",".join(chosen)
            names = {each.pool_name(queue) for each in backends for queue in chosen
                     if not each.queues or queue in each.queues}  # fmt: skip
            arguments += [f"--pool={name}" for name in names]
        if options["batch"]:
            arguments.append("--batch")
        if options["max_tasks"]:
            arguments += ["--max-jobs", options["max_tasks"]]
        if settings.DEBUG and not (options["noreload"] or options["batch"] or options["max_tasks"]):
            arguments.append("--reload")
        run_command(arguments)
