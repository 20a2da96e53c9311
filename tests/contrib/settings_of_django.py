"""The settings of Django in the process of the tests: a backend in memory, and a file database.

Import it before everything that needs settings; without Django, that skips the tests.
"""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

django = pytest.importorskip("django", reason="django is not installed")

from django.conf import settings  # noqa: E402
from django.db import connections  # noqa: E402
from django.test import override_settings  # noqa: E402

import oddjob  # noqa: E402
from oddjob.durable.stores import let_go  # noqa: E402

if not settings.configured:
    folder = tempfile.mkdtemp(prefix="oddjob-")
    atexit.register(shutil.rmtree, folder)
    tasks_app = [] if django.VERSION >= (6,) else ["django_tasks"]
    settings.configure(
        INSTALLED_APPS=["django.contrib.contenttypes", *tasks_app, "oddjob.contrib.django"],
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.sqlite3",
                "NAME": str(Path(folder) / "site.db"),
            }
        },
        LANGUAGES=[("en", "English"), ("de", "German")],
        USE_TZ=True,
        DEBUG=True,
        ALLOWED_HOSTS=["testserver"],  # this and the next two: for tests of the dashboard
        ROOT_URLCONF="",
        MIDDLEWARE=["django.middleware.csrf.CsrfViewMiddleware"],
        TASKS={
            "default": {
                "BACKEND": "oddjob.contrib.django.OddJobBackend",
                "QUEUES": [],
                "OPTIONS": {"pool_size": 1, "max_results": 5, "backoff": 0},
            }
        },
    )
    django.setup()


@contextmanager
def use(store: object, **more: Any) -> Iterator[None]:
    """Have tasks go to a store."""
    options: dict[str, Any] = {
        "store": f"sqlite:///{store}",
        "pool_size": 1,
        "backoff": 0.01,
        "consume": True,
    }
    options |= more
    with override_settings(
        TASKS={
            "default": {
                "BACKEND": "oddjob.contrib.django.OddJobBackend",
                "QUEUES": [],
                "OPTIONS": options,
            }
        }
    ):
        try:
            yield
        finally:
            from tests.contrib import tasks_of_django as tasks  # it needs the settings

            tasks.gate.set()
            assert oddjob.shutdown_all(10)
            connections["default"].close()
            with suppress(ValueError):
                let_go(options["store"])
