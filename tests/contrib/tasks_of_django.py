"""Tasks of the tests of the Django backend: Django finds tasks at the top level of modules."""

import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from django.db import connection, connections
from django.utils import translation

from oddjob.contrib.django.compat import HAS_TASKS

if HAS_TASKS:
    from django.tasks import task
else:
    from django_tasks import task

order: list[int] = []
moods: list[str] = []
connections_used: list[Any] = []
gate = threading.Event()


@task
def add(a: int, b: int) -> int:
    return a + b


@task
async def aadd(a: int, b: int) -> int:
    return a + b


@task
def note(number: int) -> None:
    order.append(number)


@task
def wait() -> None:
    assert gate.wait(20)


@task
def leave() -> None:
    sys.exit(3)


@task
def fail() -> None:
    raise LookupError("no such customer")


@task(retries=2, takes_context=True)
def fail_once(context: Any) -> int:
    if context.attempt == 1:
        raise LookupError("not yet")
    return int(context.attempt)


@task(retries=1)
def in_a_mood() -> str:
    mood = moods.pop(0)
    if mood != "fine":
        raise LookupError(mood)
    return mood


@task
def language() -> Any:
    return translation.get_language()


@task
def query() -> None:
    connection.cursor().execute("SELECT 1")
    connections_used.append(connections["default"])


@task
def interrupt() -> None:
    raise KeyboardInterrupt


@task
def return_a_function() -> Any:
    return add


@task(timeout=0.01)
def take_long() -> None:
    assert gate.wait(20)


@task(takes_context=True)
def about_itself(context: Any) -> list[Any]:
    return [context.task_result.id, context.attempt]


@task
def kill_the_first(mark: str) -> str:
    """Kill the process of the first attempt."""
    try:
        Path(mark).touch(exist_ok=False)
    except FileExistsError:
        return "survived"
    os.kill(os.getpid(), signal.SIGKILL)
    return "not reached"


@task(enqueue_on_commit=True)
def add_on_commit(a: int, b: int) -> int:
    return a + b
