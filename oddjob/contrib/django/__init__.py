"""Django: a backend of ``django.tasks`` whose tasks run in OddJob's pools.

::

    INSTALLED_APPS = [..., "oddjob.contrib.django"]
    TASKS = {"default": {"BACKEND": "oddjob.contrib.django.OddJobBackend"}}

Assumes: Django 6.0 or newer, or Django 5.2 with the package ``django-tasks``.
"""

from oddjob.contrib.django.backend import OddJobBackend as OddJobBackend
