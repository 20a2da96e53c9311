"""The Flask extension."""

import threading
from typing import Any

import pytest

import oddjob

flask = pytest.importorskip("flask", reason="flask is not installed")

from oddjob.contrib.flask import OddJob  # noqa: E402  (it needs flask)


def make_app(name: str = "shop", **settings: Any) -> Any:
    app = flask.Flask(name)
    app.config["ODDJOB"] = {"default_pool": "web", **settings}
    OddJob(app)
    return app


def test_a_job_has_the_application_of_its_request_and_a_g_of_its_own() -> None:
    app = make_app()
    seen: list[tuple[str, bool]] = []

    def note() -> None:
        seen.append((flask.current_app.name, hasattr(flask.g, "user")))
        flask.g.user = "the job's"

    @app.get("/")
    def view() -> str:
        flask.g.user = "ann"
        oddjob.pool().submit(note).result(10)
        return str(flask.g.user)

    assert app.test_client().get("/").text == "ann"
    assert seen == [("shop", False)]


def test_a_job_from_outside_requests_has_the_application_too() -> None:
    make_app()
    assert oddjob.pool().submit(lambda: flask.current_app.name).result(10) == "shop"


def test_what_is_to_be_torn_down_is_when_the_job_has_ended() -> None:
    app = make_app()
    torn_down: list[str] = []
    app.teardown_appcontext(lambda _: torn_down.append(threading.current_thread().name))
    oddjob.pool().submit(pow, 2, 3).result(10)
    assert [name.startswith("web") for name in torn_down] == [True]


def test_applications_with_the_same_settings_share_pools_and_their_jobs_know_their_own() -> None:
    """As tests do, which make an application each."""
    first, second = make_app("first"), make_app("second")
    for app in (first, second):
        with app.app_context():
            job = oddjob.pool().submit(lambda: flask.current_app.name)
        assert job.result(10) == app.name


def test_wrong_settings_are_named_by_their_path() -> None:
    with pytest.raises(oddjob.SettingsError, match=r"settings\['pool_sise'\]"):
        make_app(pool_sise=3)


def test_the_command_is_there_as_flask_oddjob() -> None:
    outcome = make_app().test_cli_runner().invoke(args=["oddjob", "--help"])
    assert outcome.exit_code == 0
    assert "recurring" in outcome.output


def test_the_extension_is_found_in_the_application() -> None:
    app = flask.Flask("late")
    extension = OddJob()
    extension.init_app(app)
    assert app.extensions["oddjob"] is extension
    assert oddjob.pool().submit(lambda: flask.current_app.name).result(10) == "late"


def test_what_is_no_application_is_refused() -> None:
    with pytest.raises(TypeError, match="takes a Flask application, not 'mail'"):
        OddJob("mail")  # type: ignore[arg-type]
