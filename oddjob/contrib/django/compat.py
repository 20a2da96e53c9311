"""The tasks API: ``django.tasks``, or the package ``django_tasks`` for Django before 6.0.

Assumes: the two have the same names in the same modules, but for `normalize_json`. Types are Any,
because a checker finds one of them at most.
"""

from importlib import import_module
from importlib.util import find_spec
from typing import Any, Final

HAS_TASKS: Final = find_spec("django.tasks") is not None
_ROOT: Final = "django.tasks" if HAS_TASKS else "django_tasks"


def _load(module: str) -> Any:
    return import_module(f"{_ROOT}.{module}")


task_backends: Any = import_module(_ROOT).task_backends
Task: Any = _load("base").Task
TaskContext: Any = _load("base").TaskContext
TaskError: Any = _load("base").TaskError
TaskResult: Any = _load("base").TaskResult
TaskResultStatus: Any = _load("base").TaskResultStatus
BaseTaskBackend: Any = _load("backends.base").BaseTaskBackend
TaskResultDoesNotExist: Any = _load("exceptions").TaskResultDoesNotExist
task_enqueued: Any = _load("signals").task_enqueued
task_started: Any = _load("signals").task_started
task_finished: Any = _load("signals").task_finished
normalize_json: Any = import_module(
    "django.utils.json" if HAS_TASKS else "django_tasks.utils"
).normalize_json
