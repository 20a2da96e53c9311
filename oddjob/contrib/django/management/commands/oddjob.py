"""``manage.py oddjob …``: the command ``oddjob`` for the pools and stores of a site."""

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

from django.core.management.base import BaseCommand

from oddjob.compat import override

QUEUES: Final = "oddjob.contrib.django.queues"  # the program
CHOSEN: Final = "ODDJOB_QUEUES"  # environment variable: the queues whose pools that makes


class Command(BaseCommand):  # type: ignore[misc]  # Django has no types of its own
    """It leaves its arguments to the command, whose ``--help`` lists them."""

    help = "See and change the jobs of this site, and run them: the command oddjob."

    @override
    def run_from_argv(self, argv: list[str]) -> None:
        own = ("--settings=", "--pythonpath=")  # Django has read them
        run_command([each for each in argv[2:] if not each.startswith(own)])


def run_command(arguments: Sequence[Any]) -> None:
    """Run the command ``oddjob`` with arguments, and end the process.

    It may start processes of its own, which find the modules that ``manage.py`` finds.
    """
    from oddjob.cli import main

    os.environ.setdefault("ODDJOB_APP", QUEUES)
    paths = [sys.path[0], os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    sys.argv = ["oddjob", *map(str, arguments)]
    main()
