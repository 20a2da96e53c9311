"""Waiting for the end of tasks, by Django's signal."""

import threading
from typing import Any

from oddjob.contrib.django.compat import task_finished

_over: set[str] = set()  # ids of tasks that have finished
_changed = threading.Condition()


def _note_end(task_result: Any, **_: Any) -> None:
    with _changed:
        _over.add(task_result.id)
        _changed.notify_all()


def ended(result: Any) -> Any:
    """Wait until a task is over; return its result."""
    with _changed:
        assert _changed.wait_for(lambda: result.id in _over, 20)
    result.refresh()
    assert result.is_finished
    return result


task_finished.connect(_note_end)
