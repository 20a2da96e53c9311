"""The backend of ``django.tasks``."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from tests.contrib import settings_of_django  # noqa: F401

# isort: split

from asgiref.sync import ThreadSensitiveContext
from django.apps import apps
from django.conf import settings
from django.core.checks import run_checks
from django.db import connections, transaction
from django.test import override_settings
from django.utils import timezone, translation

import oddjob
from oddjob.contrib.django.compat import (
    TaskResultDoesNotExist,
    task_enqueued,
    task_finished,
    task_started,
)
from oddjob.testing import inline
from tests.contrib import tasks_of_django as tasks
from tests.contrib.ends_of_tasks import ended
from tests.hang import until


def test_a_task_runs_on_a_worker_and_its_result_is_found_by_id() -> None:
    result = ended(tasks.add.enqueue(2, b=3))
    assert (result.status, result.return_value, result.attempts) == ("SUCCESSFUL", 5, 1)
    assert result.worker_ids[0].startswith("default")
    assert result.enqueued_at <= result.started_at <= result.finished_at
    assert tasks.add.get_result(result.id).return_value == 5
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("unknown")


def test_a_task_can_be_a_coroutine_and_enqueued_by_one() -> None:
    async def enqueue() -> Any:
        async with ThreadSensitiveContext():  # ends the thread of Django's receivers of signals
            return await tasks.aadd.aenqueue(2, 3)

    assert ended(asyncio.run(enqueue())).return_value == 5


def test_tasks_of_a_higher_priority_start_first() -> None:
    tasks.gate.clear()
    tasks.order.clear()
    tasks.wait.enqueue()
    until(lambda: oddjob.pool("default").stats().running == 1)
    results = [tasks.note.using(priority=each).enqueue(each) for each in (1, 30, 20)]
    tasks.gate.set()
    for result in results:
        ended(result)
    assert tasks.order == [30, 20, 1]


def test_a_task_to_be_run_later_waits_for_its_time() -> None:
    tomorrow = tasks.add.using(run_after=timezone.now() + timedelta(days=1)).enqueue(2, 3)
    assert tasks.add.get_result(tomorrow.id).status == "READY"
    past = tasks.add.using(run_after=timezone.now() - timedelta(days=1)).enqueue(2, 3)
    assert ended(past).return_value == 5


@pytest.mark.parametrize(("task", "error"), [(tasks.fail, LookupError), (tasks.leave, SystemExit)])
def test_what_a_task_raises_is_its_failure_and_costs_no_worker(task: Any, error: type) -> None:
    result = task.enqueue()
    ended(result)
    assert result.status == "FAILED"
    assert [each.exception_class for each in result.errors] == [error]
    assert "in " + task.func.__name__ in result.errors[0].traceback
    assert oddjob.pool("default").stats().crashes == 0


def test_a_task_is_retried_and_knows_its_attempt() -> None:
    result = ended(tasks.fail_once.enqueue())
    assert (result.return_value, result.attempts, len(result.errors)) == (2, 2, 1)


def test_a_task_whose_pool_ends_before_it_starts_has_failed() -> None:
    tasks.gate.clear()
    tasks.wait.enqueue()
    result = tasks.add.enqueue(2, 3)
    pool = oddjob.pool("default")
    pool.shutdown(wait=False, cancel_futures=True)
    tasks.gate.set()
    result.refresh()
    assert result.status == "FAILED"
    assert [each.exception_class_path for each in result.errors] == [
        "concurrent.futures._base.CancelledError"
    ]


def test_a_refused_task_leaves_no_result_behind() -> None:
    oddjob.start_pool("small", pool_size=1, max_queue=1, when_full="raise")
    tasks.gate.clear()
    seen: list[str] = []

    def note(task_result: Any, **_: Any) -> None:
        seen.append(task_result.id)

    task_enqueued.connect(note)
    enqueued = [tasks.wait.using(queue_name="small").enqueue() for _ in range(2)]
    with pytest.raises(oddjob.QueueFull):
        tasks.wait.using(queue_name="small").enqueue()
    tasks.gate.set()
    task_enqueued.disconnect(note)
    assert seen == [each.id for each in enqueued]
    assert [ended(each).status for each in enqueued] == ["SUCCESSFUL"] * 2


def test_each_attempt_is_announced_and_the_end_once() -> None:
    seen: list[str] = []

    def start(task_result: Any, **_: Any) -> None:
        seen.append(f"started {task_result.status}")

    def finish(task_result: Any, **_: Any) -> None:
        seen.append(f"finished {task_result.status}")

    task_started.connect(start)
    task_finished.connect(finish)
    ended(tasks.fail_once.enqueue())
    task_started.disconnect(start)
    task_finished.disconnect(finish)
    assert seen == ["started RUNNING", "started RUNNING", "finished SUCCESSFUL"]


def test_a_worker_keeps_no_connection_to_the_database() -> None:
    tasks.connections_used.clear()
    assert ended(tasks.query.enqueue()).status == "SUCCESSFUL"
    assert oddjob.shutdown_all(10)  # (a task is over before its connections are closed)
    assert [each.connection for each in tasks.connections_used] == [None]


def test_a_task_in_the_callers_thread_leaves_the_callers_connection_alone() -> None:
    mine = connections["default"]
    mine.ensure_connection()
    with inline():
        assert tasks.query.enqueue().status == "SUCCESSFUL"
    assert mine.connection is not None
    mine.close()


def test_a_task_has_the_language_of_who_enqueued_it() -> None:
    with translation.override("de"):
        result = tasks.language.enqueue()
    assert ended(result).return_value == "de"


def test_a_task_enqueued_on_commit_waits_for_it_and_a_rollback_forgets_it() -> None:
    on_commit = tasks.add_on_commit
    with transaction.atomic():
        result = on_commit.enqueue(2, 3)
        assert (result.status, result.enqueued_at) == ("READY", None)
        assert oddjob.pools() == {}
    assert ended(result).return_value == 5
    with pytest.raises(ZeroDivisionError), transaction.atomic():  # noqa: PT012
        lost = on_commit.enqueue(2, 3)
        raise ZeroDivisionError
    with pytest.raises(TaskResultDoesNotExist):
        lost.refresh()
    connections["default"].close()


def test_the_oldest_results_are_dropped() -> None:
    results = [tasks.add.enqueue(number, 0) for number in range(8)]
    ended(results[-1])
    for result in results[:3]:
        with pytest.raises(TaskResultDoesNotExist):
            result.refresh()
    results[3].refresh()


OPTIONS = "TASKS['default']['OPTIONS']"
WRONG_OPTIONS = {
    "pool_sise": ({"pool_sise": 3}, "['pool_sise']: unknown setting; did you mean 'pool_size'?"),
    "retries": ({"retries": -1}, "['retries']: retries must be"),
    "max_result": ({"max_result": 5}, "['max_result']: unknown setting; did you mean 'max_resul"),
    "max_results": ({"max_results": "5"}, "['max_results']: max_results must be"),
    "store": ({"store": "jobs.db"}, "['store']: store must be a URL"),
    "pools": ({"pools": ["mail"]}, "['pools']: pools must be a mapping of queues to names of po"),
    "a queue": ({"pools": {"mial": "mail"}}, "['pools']['mial']: no such queue; did you mean 'm"),
    "database": ({"enqueue_on_commit": "site"}, "['enqueue_on_commit']: there is no database 's"),
    "useless": ({"keep_failed": 9}, ": keep_failed=9 has no effect in a pool without a store"),
}  # fmt: skip


def use_options(options: dict[str, Any]) -> Any:
    backend = "oddjob.contrib.django.OddJobBackend"
    given = {"BACKEND": backend, "QUEUES": ["default", "mail"], "OPTIONS": options}
    return override_settings(TASKS={"default": given})


@pytest.mark.parametrize("case", WRONG_OPTIONS)
def test_wrong_options_are_named_by_checks_and_when_django_starts(case: str) -> None:
    options, message = WRONG_OPTIONS[case]
    with use_options({"pool_size": 3, **options}):
        (error,) = run_checks()
        assert (error.id, error.msg.startswith(OPTIONS + message)) == ("oddjob.E001", True), error
        with pytest.raises(oddjob.SettingsError) as caught:
            apps.get_app_config("oddjob").ready()
        assert str(caught.value) == error.msg


def test_good_options_are_found_good() -> None:
    with use_options({"pools": {"mail": "post"}, "max_results": 0, "enqueue_on_commit": True,
                      "retries": None, "max_queue": 5, "when_full": "raise"}):  # fmt: skip
        assert run_checks() == []
        apps.get_app_config("oddjob").ready()


def test_checks_tell_that_tasks_are_lost() -> None:
    settings.DEBUG = False
    assert [each.id for each in run_checks()] == ["oddjob.W001"]
    settings.DEBUG = True
