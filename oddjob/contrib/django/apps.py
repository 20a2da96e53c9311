"""The Django application: it applies ``settings.ODDJOB`` when Django starts.

Guarantees: wrong options in ``TASKS`` are an error then, and not with the first task. A program
without that setting has the pools that it makes itself, and those that backends make on first use.
A store in the file of a database is open, with its pools, before a transaction begins.
"""

import sys
from typing import Any

from django.apps import AppConfig
from django.conf import settings
from django.db.backends.signals import connection_created

import oddjob
from oddjob.compat import override
from oddjob.contrib.django.backend import backends, stored_backends
from oddjob.durable.pool_store import holds_pools


class OddJobConfig(AppConfig):  # type: ignore[misc]  # Django has no types of its own
    """The application ``oddjob.contrib.django``, for ``INSTALLED_APPS``."""

    name = "oddjob.contrib.django"
    label = "oddjob"
    verbose_name = "OddJob"

    @override
    def ready(self) -> None:
        """Create the pools that ``settings.ODDJOB`` describes, a dict as for `configure`.

        Raises:
            SettingsError: the settings, or options in ``TASKS``, are wrong, or others are in force.
        """
        connection_created.connect(_make_pools)
        if sys.argv[1:2] in (["oddjob"], ["oddjob_worker"]):
            holds_pools.set(True)  # these commands say themselves which pools run jobs
        described: dict[str, Any] | None = getattr(settings, "ODDJOB", None)
        if described is not None:
            oddjob.configure(described)
        problems = [each for backend in backends() for each in backend.problems()]
        if problems:
            raise oddjob.SettingsError("; ".join(problems))


def _make_pools(connection: Any, **_: Any) -> None:
    """Make the pools whose store is in the file of a database, when that is connected to.

    A process writes to a store to open it. If it did that in a transaction of its own on the same
    file, as when it enqueues its first task, it would wait for itself.
    """
    for backend in stored_backends():
        if backend.shares_file_of(connection):
            for queue in backend.queue_names():
                pool = backend.pool_of(queue)
                pool.using(connection.connection)  # it opens the store also in a forked child
