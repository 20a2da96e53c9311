"""TaskRun: one enqueued task, from its submission to its result.

Guarantees: ``task_started`` is sent for every attempt, ``task_finished`` once. A task whose job is
cancelled, dropped, timed out or lost ends FAILED, with that exception. On a worker, database
connections are closed as between two requests; in other code of the thread they are left alone.
Locking: `Results.lock` guards the registry, and the fields of all results in it; no signal is sent
under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from copy import copy
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from django.db import connections
from django.utils import timezone, translation

import oddjob
from oddjob.compat import T, override
from oddjob.contrib.django.compat import (
    TaskContext,
    TaskError,
    TaskResult,
    TaskResultDoesNotExist,
    TaskResultStatus,
    normalize_json,
    task_finished,
    task_started,
)
from oddjob.locks import ProcessLock
from oddjob.runtime.middleware import will_retry

if TYPE_CHECKING:
    from oddjob.runtime.job import Job


class TaskExit(Exception):
    """A task called ``exit()``: that is the task's failure, and no worker crashes by it."""


class Results(ProcessLock):
    """The results of a backend's tasks, for all threads: Django makes a backend for each."""

    def __init__(self) -> None:
        super().__init__()
        self._found: dict[str, Any] = {}
        self._ended: deque[str] = deque()

    def add(self, result: Any) -> None:
        """Make a result known by its id."""
        with self.lock:
            self._found[result.id] = result

    def discard(self, result: Any) -> None:
        """Forget a task that was refused."""
        with self.lock:
            self._found.pop(result.id, None)

    def get(self, result_id: str) -> Any:
        """Return a copy of the result of that id; raise ``TaskResultDoesNotExist``."""
        with self.lock:
            if result_id not in self._found:
                raise TaskResultDoesNotExist(result_id)
            return copied(self._found[result_id])

    def update(self, result: Any, **fields: Any) -> Any:
        """Change a result that has not ended; return a copy of it, or None if it has."""
        with self.lock:
            if result.is_finished:
                return None
            for name, value in fields.items():
                object.__setattr__(result, name, value)
            return copied(result)

    def end(self, result: Any, keep: int) -> None:
        """Note that a result has ended; forget the oldest ones of more than `keep`."""
        with self.lock:
            self._ended.append(result.id)
            while len(self._ended) > keep:
                self._found.pop(self._ended.popleft(), None)


def copied(result: Any) -> Any:
    """Return a copy that later attempts do not change."""
    result = copy(result)
    for name in ("errors", "worker_ids"):
        object.__setattr__(result, name, [*getattr(result, name)])
    return result


class TaskRun(oddjob.Middleware):
    """Middleware around the job of one task; calling it is the job."""

    def __init__(
        self, sender: type, results: Results, keep: int, task: Any, args: Any, kwargs: Any
    ) -> None:
        self._sender = sender
        self._results = results
        self._keep = keep
        self._language = translation.get_language()
        self.result: Any = TaskResult(
            task=task, id="", status=TaskResultStatus.READY, enqueued_at=None, started_at=None,
            last_attempted_at=None, finished_at=None, args=args, kwargs=kwargs,
            backend=task.backend, errors=[], worker_ids=[],
        )  # fmt: skip

    def identify(self, result_id: str) -> None:
        """Give the result its id, if it has none, and make it known."""
        if not self.result.id:
            object.__setattr__(self.result, "id", result_id)
            self._results.add(self.result)

    def snapshot(self) -> Any:
        """Return a copy of the result as it is now."""
        with self._results.lock:
            return copied(self.result)

    @override
    def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
        self.identify(job.id)
        self._results.update(self.result, enqueued_at=timezone.now())

    @override
    def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], T]) -> T:
        is_own_thread = not job.is_inline
        if is_own_thread:
            _close_old_connections()
        try:
            if self._language is None:
                return call()
            with translation.override(self._language):
                return call()
        finally:
            if is_own_thread:
                _close_old_connections()

    def __call__(self) -> Any:
        """Run one attempt of the task, in its job."""
        job = oddjob.current_job()
        assert job is not None  # noqa: S101  (for type checkers)
        now, task = timezone.now(), self.result.task
        begun = self._results.update(
            self.result,
            status=TaskResultStatus.RUNNING,
            started_at=self.result.started_at or now,
            last_attempted_at=now,
            worker_ids=[*self.result.worker_ids, threading.current_thread().name],
        )
        if begun is not None:
            task_started.send(self._sender, task_result=begun)
        context = (TaskContext(task_result=self.snapshot()),) if task.takes_context else ()
        try:
            value = normalize_json(task.call(*context, *self.result.args, **self.result.kwargs))
        except (Exception, SystemExit) as error:
            if will_retry(job, error):
                status = {"status": TaskResultStatus.READY, "errors": self._errors(error)}
                self._results.update(self.result, **status)
            else:
                self._fail(error)
            if isinstance(error, SystemExit):
                raise TaskExit(f"the task called exit({error.code!r})") from error
            raise
        self._finish(status=TaskResultStatus.SUCCESSFUL, _return_value=value)
        return value

    def end(self, job: Any) -> None:
        """End a task whose job has ended outside the task's function: the job's callback."""
        try:
            job.result(0)  # OddJob does not log a failure that is looked at; Django has logged it
        except BaseException as error:  # also what crashed the worker, as KeyboardInterrupt
            self._fail(error)

    def _errors(self, error: BaseException) -> list[Any]:
        path = f"{type(error).__module__}.{type(error).__qualname__}"
        text = "".join(format_exception(error))
        return [*self.result.errors, TaskError(exception_class_path=path, traceback=text)]

    def _fail(self, error: BaseException) -> None:
        """Finish the task; inside ``except``, so that Django's own receiver logs the traceback."""
        self._finish(status=TaskResultStatus.FAILED, errors=self._errors(error))

    def _finish(self, **fields: Any) -> None:
        ended = self._results.update(self.result, finished_at=timezone.now(), **fields)
        if ended is not None:
            self._results.end(self.result, self._keep)
            task_finished.send(self._sender, task_result=ended)


def _close_old_connections() -> None:
    """Do what Django does between requests, except in a transaction, which is a test's."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
