"""The Django application: it applies ``settings.ODDJOB`` when Django starts.

Guarantees: a program without that setting has the pools that it makes itself, and those that
backends make on first use.
"""

from typing import Any

from django.apps import AppConfig
from django.conf import settings

import oddjob
from oddjob.compat import override


class OddJobConfig(AppConfig):  # type: ignore[misc]  # Django has no types of its own
    """The application ``oddjob.contrib.django``, for ``INSTALLED_APPS``."""

    name = "oddjob.contrib.django"
    label = "oddjob"
    verbose_name = "OddJob"

    @override
    def ready(self) -> None:
        """Create the pools that ``settings.ODDJOB`` describes, a dict as for `configure`.

        Raises:
            SettingsError: the settings are wrong, or others are in force.
        """
        described: dict[str, Any] | None = getattr(settings, "ODDJOB", None)
        if described is not None:
            oddjob.configure(described)
