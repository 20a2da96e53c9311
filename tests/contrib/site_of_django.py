"""A small site: the settings of programs that the tests of the Django backend start."""

import os
from pathlib import Path

import django

FOLDER = Path(os.environ["SITE_FOLDER"])
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": FOLDER / "site.db"}}
DEBUG = "SITE_DEBUG" in os.environ
INSTALLED_APPS = ["oddjob.contrib.django", *([] if django.VERSION >= (6,) else ["django_tasks"])]
SECRET_KEY = "a secret"
TASKS = {
    "default": {
        "BACKEND": "oddjob.contrib.django.OddJobBackend",
        "QUEUES": ["default", "mail"],
        "OPTIONS": {
            "store": os.environ.get("SITE_STORE", f"sqlite:///{FOLDER}/site.db"),
            "pool_size": 1,
        },
    }
}
USE_TZ = True
