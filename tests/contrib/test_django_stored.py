"""The backend of ``django.tasks`` with a store."""

import asyncio
import os
import threading
import unittest
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.contrib.settings_of_django import use

# isort: split

from asgiref.sync import ThreadSensitiveContext
from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.db import transaction
from django.test import TestCase, override_settings
from django.utils import timezone, translation

import oddjob
from oddjob.contrib.django.compat import (
    TaskResultDoesNotExist,
    task_backends,
    task_enqueued,
    task_finished,
    task_started,
)
from oddjob.operations import StoreOperations
from oddjob.testing import inline
from tests.contrib import tasks_of_django as tasks
from tests.hang import until


@pytest.fixture
def stored(tmp_path: Path) -> Iterator[None]:
    """Tasks go to a store, and run in this process."""
    with use(tmp_path / "jobs.db"):
        yield


@pytest.fixture
def same_file() -> Iterator[None]:
    """Tasks go to the file of the database, and are not run."""
    with use(settings.DATABASES["default"]["NAME"], consume=False):
        yield
        with StoreOperations(settings.TASKS["default"]["OPTIONS"]["store"]) as store:
            for record in store.pool("default").records():
                record.delete()


def ended(result: Any) -> Any:
    """Wait until a task is over; return its result."""

    def is_over() -> bool:
        result.refresh()
        return bool(result.is_finished)

    until(is_over)
    return result


def seen(signal: Any) -> tuple[list[str], Callable[..., None]]:
    """Note the states of results that a signal is sent with."""
    states: list[str] = []

    def note(task_result: Any, **_: Any) -> None:
        states.append(f"{task_result.task.name} {task_result.status}")

    signal.connect(note)
    return states, note


@pytest.mark.usefixtures("stored")
def test_a_stored_task_runs_and_its_result_says_all_about_it() -> None:
    result = tasks.add.enqueue(2, b=3)
    assert (result.status, result.enqueued_at is None) == ("READY", False)
    found = tasks.add.get_result(ended(result).id)
    assert (found.status, found.return_value, found.attempts) == ("SUCCESSFUL", 5, 1)
    assert (found.task, found.args, found.kwargs) == (tasks.add, [2], {"b": 3})
    assert found.worker_ids[0].split(":")[1:] == [str(os.getpid()), "default_0"]
    assert found.enqueued_at <= found.started_at <= found.finished_at
    with pytest.raises(TaskResultDoesNotExist):
        tasks.add.get_result("unknown")


@pytest.mark.usefixtures("stored")
def test_a_stored_task_can_be_enqueued_and_looked_at_by_a_coroutine() -> None:
    async def enqueue() -> Any:
        async with ThreadSensitiveContext():  # ends the thread that does what blocks
            result = await tasks.aadd.aenqueue(2, 3)
            await result.arefresh()
            return await tasks.aadd.aget_result(result.id)

    assert ended(asyncio.run(enqueue())).return_value == 5


@pytest.mark.usefixtures("stored")
def test_a_stored_task_knows_its_id_and_attempt_and_has_the_language_of_who_enqueued_it() -> None:
    result = ended(tasks.about_itself.enqueue())
    assert result.return_value == [result.id, 1]
    with translation.override("de"):
        assert ended(tasks.language.enqueue()).return_value == "de"


@pytest.mark.usefixtures("stored")
def test_stored_tasks_start_by_priority_and_not_before_their_time() -> None:
    tasks.gate.clear()
    tasks.order.clear()
    later = timezone.now() + timedelta(days=1)
    tomorrow = tasks.add.using(run_after=later).enqueue(2, 3)
    first = tasks.wait.enqueue()
    until(lambda: tasks.wait.get_result(first.id).status == "RUNNING")
    results = [tasks.note.using(priority=each).enqueue(each) for each in (1, 30, 20)]
    tasks.gate.set()
    for result in results:
        ended(result)
    assert tasks.order == [30, 20, 1]
    found = tasks.add.get_result(tomorrow.id)
    assert (found.status, found.task.run_after) == ("READY", later)


@pytest.mark.usefixtures("stored")
def test_a_stored_task_is_retried_and_every_failure_is_kept() -> None:
    result = ended(tasks.fail_once.enqueue())
    assert (result.return_value, result.attempts, len(result.errors)) == (2, 2, 1)
    assert result.errors[0].exception_class is LookupError
    assert result.errors[0].traceback.endswith("LookupError: not yet\n")
    assert result.started_at < result.last_attempted_at


@pytest.mark.usefixtures("stored")
@pytest.mark.parametrize(
    ("task", "error"),
    [
        (tasks.fail, LookupError),
        (tasks.leave, SystemExit),
        (tasks.return_a_function, TypeError),
        (tasks.take_long, oddjob.JobTimeout),
        (tasks.interrupt, KeyboardInterrupt),
    ],
)
def test_what_a_stored_task_raises_is_found_with_its_result(task: Any, error: type) -> None:
    tasks.gate.clear()
    finished, note = seen(task_finished)
    result = ended(task.enqueue())
    until(lambda: finished)
    task_finished.disconnect(note)
    assert finished == [f"{task.name} FAILED"]
    assert (result.status, result.attempts) == ("FAILED", 1)
    assert [each.exception_class for each in result.errors] == [error]
    assert result.errors[0].traceback


@pytest.mark.usefixtures("stored")
def test_a_task_fails_with_what_a_receiver_of_its_start_raises() -> None:
    def refuse(**_: Any) -> None:
        raise PermissionError("not at night")

    finished, note = seen(task_finished)
    task_started.connect(refuse)
    try:
        result = ended(tasks.add.enqueue(2, 3))
    finally:
        task_started.disconnect(refuse)
    until(lambda: finished)
    assert [each.exception_class for each in result.errors] == [PermissionError]
    del note


@pytest.mark.usefixtures("stored")
def test_each_attempt_of_a_stored_task_is_announced_and_the_end_once() -> None:
    (enqueued, one), (started, two), (finished, three) = map(
        seen, (task_enqueued, task_started, task_finished)
    )
    ended(tasks.fail_once.enqueue())
    assert (enqueued, started) == (["fail_once READY"], ["fail_once RUNNING"] * 2)
    assert finished == ["fail_once SUCCESSFUL"]
    del one, two, three


@pytest.mark.usefixtures("stored")
def test_a_stored_task_that_is_canceled_has_failed_and_that_is_announced() -> None:
    finished, note = seen(task_finished)
    later = timezone.now() + timedelta(days=1)
    result = tasks.add.using(run_after=later).enqueue(2, 3)
    oddjob.pool("default").find(result.id).cancel()
    assert [each.exception_class for each in ended(result).errors] == [CancelledError]
    until(lambda: finished)
    assert finished == ["add FAILED"]
    del note


@pytest.mark.usefixtures("stored")
def test_a_stored_task_that_is_not_there_any_more_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks.gate.clear()
    first = tasks.wait.enqueue()
    until(lambda: tasks.wait.get_result(first.id).status == "RUNNING")
    result = tasks.add.enqueue(2, 3)
    finished, note = seen(task_finished)
    with monkeypatch.context() as patch:
        patch.delattr(tasks, "add")
        tasks.gate.set()
        assert [each.exception_class for each in ended(result).errors] == [ImportError]
        until(lambda: "add FAILED" in finished)
        found = task_backends["default"].get_result(result.id)
        assert (found.task.module_path, found.args) == ("tests.contrib.tasks_of_django.add", [2, 3])
    del note


@pytest.mark.usefixtures("stored")
def test_a_stored_task_that_is_retried_by_hand_has_none_of_its_former_errors() -> None:
    tasks.moods[:] = ["sad", "angry"]
    result = ended(tasks.in_a_mood.enqueue())
    assert [each.traceback.split()[-1] for each in result.errors] == ["sad", "angry"]
    tasks.moods[:] = ["glum", "fine"]
    oddjob.pool("default").retry_failed()
    ended(result)
    assert [each.traceback.split()[-1] for each in result.errors] == ["glum"]
    assert (result.return_value, result.attempts) == ("fine", 2)


def test_to_look_at_a_store_leaves_it_closed(tmp_path: Path) -> None:
    with use(tmp_path / "jobs.db"):
        before = {*threading.enumerate()}
        assert task_backends["default"].queue_names() == {"default"}
        assert list(task_backends["default"].check()) == []
        until(lambda: {*threading.enumerate()} <= before)


@pytest.mark.usefixtures("stored")
def test_a_task_of_inline_mode_is_not_stored_and_its_result_is_found() -> None:
    with inline():
        result = tasks.add.enqueue(2, 3)
        assert result.return_value == 5
    result.refresh()
    assert list(oddjob.pool("default").records()) == []


@pytest.mark.usefixtures("same_file")
def test_a_task_that_is_enqueued_in_a_transaction_on_the_stores_file_is_part_of_it() -> None:
    with transaction.atomic():
        kept = tasks.add.enqueue(1, 1)
        with suppress(ZeroDivisionError), transaction.atomic():
            tasks.add.enqueue(2, 2)
            raise ZeroDivisionError
    finished, note = seen(task_finished)
    with suppress(ZeroDivisionError), transaction.atomic():
        tasks.add.enqueue(3, 3)
        raise ZeroDivisionError
    tasks.add.enqueue(4, 4)
    assert oddjob.shutdown_all(10)
    assert finished == []
    del note
    assert tasks.add.get_result(kept.id).args == [1, 1]
    with StoreOperations(settings.TASKS["default"]["OPTIONS"]["store"]) as store:
        records = store.pool("default").records()
        assert [record.arguments()[0][1] for record in records] == [[4, 4], [1, 1]]


@pytest.mark.usefixtures("same_file")
def test_a_task_that_a_test_case_enqueues_is_gone_with_it() -> None:
    class Case(TestCase):
        def runTest(self) -> None:  # noqa: N802  (it is unittest's name)
            assert tasks.add.enqueue(1, 1).status == "READY"

    result = unittest.TestSuite([Case()]).run(unittest.TestResult())
    assert result.wasSuccessful(), result.failures + result.errors
    assert list(oddjob.pool("default").records()) == []


@pytest.mark.usefixtures("same_file")
def test_a_queue_that_is_new_in_a_transaction_is_an_error_that_says_what_to_do() -> None:
    """Its pool could not be made: the process would wait for its own transaction."""
    with transaction.atomic(), pytest.raises(ImproperlyConfigured, match="let QUEUES of"):
        tasks.add.using(queue_name="new").enqueue(1, 1)


def test_a_task_goes_to_another_stores_file_at_once_or_on_commit(tmp_path: Path) -> None:
    with use(tmp_path / "jobs.db", consume=False):
        with suppress(ZeroDivisionError), transaction.atomic():
            at_once = tasks.add.enqueue(1, 1)
            lost = tasks.add_on_commit.enqueue(2, 2)
            assert (lost.status, lost.id, lost.enqueued_at) == ("READY", "", None)
            raise ZeroDivisionError
        with transaction.atomic():
            on_commit = tasks.add_on_commit.enqueue(3, 3)
        with pytest.raises(TaskResultDoesNotExist):
            lost.refresh()
        on_commit.refresh()
        found = [each.id for each in oddjob.pool("default").records()]
        assert found == [on_commit.id, at_once.id]


def test_checks_tell_that_a_store_cannot_be_opened_and_not_that_stored_tasks_are_lost(
    tmp_path: Path,
) -> None:
    with override_settings(DEBUG=False), use(tmp_path / "jobs.db"):
        assert list(task_backends["default"].check()) == []
    for wrong in (tmp_path / "no folder" / "jobs.db", "jobs.db?durable=1"):
        with use(wrong):
            (error,) = task_backends["default"].check()
            assert error.id == "oddjob.E003"


def test_a_pool_with_another_store_is_an_error(tmp_path: Path) -> None:
    with use(tmp_path / "jobs.db"):
        oddjob.start_pool("default")
        with pytest.raises(ImproperlyConfigured, match="'default' of queue 'default'"):
            tasks.add.enqueue(2, 3)
