"""Flask: pools from ``app.config``, whose jobs run in an application context of their own.

A job submitted in a request gets a copy of that request's context variables, and in it the
request's own ``g``, which must not be shared between threads. So each job gets a new application
context, whose teardown functions run when the job has ended. What a job needs of ``request`` should
be read before it is submitted.

Assumes: ``flask`` is installed.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import flask
from flask.globals import app_ctx

import oddjob
from oddjob.compat import T, override

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


class OddJob:
    """The extension: ``OddJob(app)``, or ``OddJob()`` and later ``init_app(app)``.

    Args:
        app: the application to prepare.
    """

    def __init__(self, app: flask.Flask | None = None) -> None:
        if app is not None:
            self.init_app(app)

    def init_app(self, app: flask.Flask) -> None:
        """Create the pools that ``app.config["ODDJOB"]`` describes, a dict as for `configure`.

        Several applications of one process share the pools, if they have the same settings; each
        job runs in the context of the application that has submitted it. The extension is
        ``app.extensions["oddjob"]``, and ``flask oddjob`` is the command ``oddjob``, where its
        extra ``oddjob[cli]`` is installed.

        Raises:
            TypeError: `app` is no Flask application.
            SettingsError: the settings are wrong, or others are in force; tests that make an
                application with other settings call `oddjob.shutdown_all` before.
        """
        if not isinstance(app, flask.Flask):
            raise TypeError(
                f"OddJob takes a Flask application, not {app!r}; its pools are described by "
                'app.config["ODDJOB"]'
            )
        settings = app.config.get("ODDJOB", {})
        others = settings.get("middleware", ()) if isinstance(settings, Mapping) else ()
        oddjob.configure(settings, middleware=(*others, _APP_CONTEXT))
        _APP_CONTEXT.app = app
        app.extensions["oddjob"] = self
        try:
            from oddjob.cli.program import oddjob as command
        except ImportError:
            return
        app.cli.add_command(command)


class AppContext(oddjob.Middleware):
    """Middleware that runs every job in a new application context.

    `OddJob` gives it to all pools. The application is the one in whose context the job was
    submitted; else, as of a job from another process, the one that was prepared last.
    """

    def __init__(self, app: flask.Flask | None = None) -> None:
        self.app = app

    @override
    def run(self, job: "Job[Any]", carrier: dict[str, str], call: Callable[[], T]) -> T:
        app = app_ctx.app if flask.has_app_context() else self.app
        if app is None:
            return call()
        with app.app_context():
            return call()


_APP_CONTEXT: Final = AppContext()  # one for all: configure() can tell that nothing has changed
