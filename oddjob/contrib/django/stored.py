"""Stored tasks: tasks as jobs of a store, and what any process reads of them there.

All tasks are jobs of one function, `run_task`, which imports the task by its path. An attempt that
fails leaves a step with its worker and error, and a successful one returns its worker beside the
task's value: a result has these, and the record of a job in the store has not.

Guarantees: signals are sent by the process in which it happens: ``task_enqueued`` by that which
enqueues, ``task_started`` and ``task_finished`` by that which runs the task. What ends without
being run (a job that was canceled, or has killed its processes) is announced by the process that
enqueued it, if that still runs.
"""

import os
from concurrent.futures import CancelledError
from contextlib import suppress
from datetime import datetime
from functools import partial
from typing import Any, Final, NoReturn

from django.conf import settings
from django.utils import timezone, translation
from django.utils.module_loading import import_string

import oddjob
from oddjob.contrib.django.compat import (
    Task,
    TaskError,
    TaskResultDoesNotExist,
    TaskResultStatus,
    task_backends,
    task_finished,
)
from oddjob.contrib.django.running import (
    Results,
    TaskRun,
    error_of,
    like_a_request,
    new_result,
)
from oddjob.durable.codec import name_of
from oddjob.durable.record import Attempt, Record, State, host_name
from oddjob.durable.stores import codec_of, runner_of
from oddjob.errors import JobLost, JobTimeout, PayloadError, UnknownFunction
from oddjob.operations.access import StoreAccess, time_of
from oddjob.operations.record import record_of
from oddjob.runtime.stored_job import details_of
from oddjob.signing import as_signing_keys

_STATUS: Final = {
    "scheduled": TaskResultStatus.READY,
    "queued": TaskResultStatus.READY,
    "running": TaskResultStatus.RUNNING,
    "succeeded": TaskResultStatus.SUCCESSFUL,
    "failed": TaskResultStatus.FAILED,
    "cancelled": TaskResultStatus.FAILED,  # Django has no word for it
}
_TIMEOUT: Final = "oddjob.errors.JobTimeout"  # what ends an attempt that leaves no step
_NEVER_RUN: Final = (CancelledError, JobLost, PayloadError, UnknownFunction)


def run_task(_path: str, _args: Any, _kwargs: Any, how: dict[str, Any]) -> dict[str, Any]:
    """Run one attempt of a task: the function of all stored tasks."""
    job = oddjob.current_job()
    assert job is not None  # noqa: S101  (for type checkers)
    with like_a_request(job, how["language"]):
        backend = task_backends[how["backend"]]
        result = backend.stored_tasks.get(job.id)
        result.worker_ids.pop()  # of this attempt: the run adds it, with its thread
        run = TaskRun(type(backend), Results(), 1, result, f"{host_name()}:{os.getpid()}:")
        job.add_done_callback(partial(_end_crashed, run))
        try:
            return {"return_value": run(), "worker_id": run.result.worker_ids[-1]}
        except Exception:
            worker, error = run.result.worker_ids[-1], run.result.errors[-1]
            failure = [worker, error.exception_class_path, error.traceback]
            job.step(_step_of(details_of(job).claim.started), list, failure)
            raise


def _step_of(started: float | None) -> str:
    """Return the name of the step that an attempt leaves: a job that is retried counts anew."""
    return f"failure of the attempt of {started!r}"


def _end_crashed(run: TaskRun, job: Any) -> None:
    """Announce the end of a task that its function has not come to: the job's callback."""
    error = None if job.cancelled() else job.exception(0)
    if isinstance(error, JobTimeout) or not isinstance(error, Exception | None):
        run.end(job)


class StoredTasks:
    """The tasks of a backend that are in a store.

    Args:
        sender: of the signals.
        options: of the backend.
    """

    def __init__(self, sender: type, options: dict[str, Any]) -> None:
        self.url: Final[str] = options["store"]
        self._sender: Final = sender
        given = options.get("signing_keys")
        keys = None if given is None else as_signing_keys("signing_keys", given)
        self._access: Final = StoreAccess(partial(runner_of, self.url), codec_of(self.url, keys))

    def submit(self, view: Any, result: Any) -> None:
        """Store the task of a result, which learns its id."""
        task = result.task
        how = {
            "backend": task.backend,
            "queue_name": task.queue_name,
            "run_after": task.run_after and task.run_after.isoformat(),
            "language": translation.get_language(),
        }
        job = view.submit(run_task, task.module_path, result.args, result.kwargs, how)
        job.add_done_callback(self._end)
        object.__setattr__(result, "id", job.id)
        object.__setattr__(result, "enqueued_at", timezone.now())

    def _end(self, job: Any) -> None:
        """Announce the end of a task that no worker has announced: the job's callback."""
        try:
            job.result(0)  # OddJob does not log a failure that is looked at; Django has logged it
        except _NEVER_RUN:
            with suppress(TaskResultDoesNotExist):  # its transaction was rolled back
                task_finished.send(self._sender, task_result=self.get(job.id))
        except BaseException:  # noqa: S110  (announced by its worker; or it lives on in the store)
            pass

    def get(self, result_id: str) -> Any:
        """Return the result of that id; raise ``TaskResultDoesNotExist``."""
        reader, codec = self._access.reader, self._access.codec
        stored = reader.record(result_id) if result_id else None
        if stored is None or stored.function != name_of(run_task):
            raise TaskResultDoesNotExist(result_id)
        record = record_of(stored, self._access)
        path, args, kwargs, how = codec.decode_call(
            stored.payload, stored.pool, stored.function
        ).args
        attempts = self._attempts(stored)
        workers, errors = self._failures(stored, attempts)
        value = None
        if record.state == "running":
            members = {each.id: f"{each.host}:{each.pid}" for each in reader.members()}
            workers.append(members.get(stored.owner, ""))
        elif record.state == "succeeded":
            outcome = codec.decode_outcome(stored.state, stored.outcome, None, stored.id)
            value = outcome["return_value"]
            workers.append(outcome["worker_id"])
        first = time_of(attempts[0].started) if attempts else record.started
        result = new_result(
            _task_at(path, how, stored.priority), args, kwargs, id=record.id,
            status=_STATUS[record.state], errors=errors, worker_ids=workers,
            enqueued_at=_local(record.created), started_at=_local(first),
            last_attempted_at=_local(record.started), finished_at=_local(record.finished),
        )  # fmt: skip
        object.__setattr__(result, "_return_value", value)
        return result

    def _attempts(self, stored: Record) -> list[Attempt]:
        """Return the attempts that have failed since the job was last queued by hand.

        Such a retry counts from 1 again, and each failure takes the place of the former one of its
        number: of failures 1 to 3 and a new failure 1, the old 2 and 3 are still there.
        """
        has_failed = stored.state not in (State.SUCCEEDED, State.CANCELLED)
        return [
            each for each in self._access.reader.attempts(stored.id)
            if each.number < stored.attempt
            or (each.number == stored.attempt and (has_failed or each.started == stored.started))
        ]  # fmt: skip

    def _failures(self, stored: Record, attempts: list[Attempt]) -> tuple[list[str], list[Any]]:
        """Return the workers and errors of the attempts that have failed."""
        codec = self._access.codec
        steps = self._access.reader.steps(stored.id) if attempts else {}
        workers, errors = list[str](), list[Any]()
        for each in attempts:
            step, failure = _step_of(each.started), [each.process, _TIMEOUT, each.traceback]
            if step in steps:
                failure = codec.decode_step(step, steps[step], stored.id)
            elif each is attempts[-1] and stored.outcome and stored.state is not State.SUCCEEDED:
                # It has crashed its worker.
                raised = codec.decode_outcome(stored.state, stored.outcome, None, stored.id)
                failure[1] = error_of(raised).exception_class_path
            workers.append(failure[0])
            errors.append(TaskError(exception_class_path=failure[1], traceback=failure[2]))
        if stored.state is State.CANCELLED:
            errors.append(error_of(CancelledError()))
        elif stored.state is State.FAILED and stored.outcome is None:  # the store says so
            errors.append(
                error_of(codec.decode_outcome(stored.state, None, stored.error, stored.id))
            )
        return workers, errors


def _task_at(path: str, how: dict[str, Any], priority: int) -> Any:
    """Return the task at a path; if it is not there any more, one that raises the reason."""
    run_after = how["run_after"] and datetime.fromisoformat(how["run_after"])
    fields = {
        "backend": how["backend"], "queue_name": how["queue_name"], "run_after": run_after,
        "priority": priority,
    }  # fmt: skip
    reason = ImportError(f"{path} is no task")
    try:
        found = import_string(path)
        if isinstance(found, Task):
            return found.using(**fields)
    except ImportError as error:
        reason = error

    def missing(*_: Any, **__: Any) -> NoReturn:
        raise reason

    missing.__module__, _, missing.__qualname__ = path.rpartition(".")
    missing.__name__ = missing.__qualname__
    return task_backends[fields["backend"]].task_class(func=missing, **fields)


def _local(time: datetime | None) -> datetime | None:
    """Return a time as Django's settings want it."""
    return time if time is None or settings.USE_TZ else timezone.make_naive(time)
