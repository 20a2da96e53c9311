"""The pools of all queues of a site: the program that the command ``oddjob`` imports.

``oddjob worker oddjob.contrib.django.queues`` runs the tasks of a site without ``manage.py``, where
``DJANGO_SETTINGS_MODULE`` is set.

Guarantees: there is a pool for each queue of each backend with a store. A backend that allows any
queue (``"QUEUES": []``) has those of which its store knows jobs, and the default one.
"""

import os

import django
from django.apps import apps

from oddjob.contrib.django.backend import stored_backends
from oddjob.contrib.django.management.commands.oddjob import CHOSEN


def make_pools() -> None:
    """Make the pools of the queues, of each backend those that it has."""
    chosen = os.environ.get(CHOSEN)
    for backend in stored_backends():
        for queue in chosen.split(",") if chosen else backend.queue_names():
            if not backend.queues or queue in backend.queues:
                backend.pool_of(queue)


if not apps.ready:
    django.setup()
make_pools()
