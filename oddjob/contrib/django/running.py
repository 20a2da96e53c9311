"""TaskRun: one task that runs in this process, from its submission, or its claim, to its result.

Guarantees: ``task_started`` is sent for every attempt, ``task_finished`` once. A task whose job is
cancelled, dropped, timed out or lost ends FAILED, with that exception. On a worker, database
connections are closed as between two requests; in other code of the thread they are left alone.
Locking: `Results.lock` guards the registry, and the fields of all results in it; no signal is sent
under it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
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


def new_result(task: Any, args: Any, kwargs: Any, **fields: Any) -> Any:
    """Return the result of a task that has not begun; raise ``TypeError`` if it is not JSON."""
    given = {
        "id": "", "status": TaskResultStatus.READY, "enqueued_at": None, "started_at": None,
        "last_attempted_at": None, "finished_at": None, "errors": [], "worker_ids": [], **fields,
    }  # fmt: skip
    return TaskResult(task=task, args=args, kwargs=kwargs, backend=task.backend, **given)


def error_of(error: BaseException) -> Any:
    """Return what a result says about a failure."""
    path = f"{type(error).__module__}.{type(error).__qualname__}"
    return TaskError(exception_class_path=path, traceback="".join(format_exception(error)))


class TaskRun(oddjob.Middleware):
    """Middleware around the job of one task; calling it is the job.

    Args:
        sender: of the signals.
        results: where the result is registered when it has its id.
        keep: how many ended results it keeps.
        result: of the task, so far.
        worker: what comes before the name of the thread in the id of a worker.
    """

    def __init__(
        self, sender: type, results: Results, keep: int, result: Any, worker: str = ""
    ) -> None:
        self._sender = sender
        self._results = results
        self._keep = keep
        self._worker = worker
        self._language = translation.get_language()
        self._is_known = False
        self.result: Any = result

    def identify(self, result_id: str) -> None:
        """Register the result, once; it gets this id if it has none."""
        if not self._is_known:
            self._is_known = True
            object.__setattr__(self.result, "id", self.result.id or result_id)
            self._results.add(self.result)

    def follow(self, job: Any) -> None:
        """Have the end of the task's job, which has been submitted, end the task."""
        self.identify(job.id)
        job.add_done_callback(self.end)

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
        with like_a_request(job, self._language):
            return call()

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
            worker_ids=[*self.result.worker_ids, self._worker + threading.current_thread().name],
        )
        try:
            if begun is not None:
                task_started.send(self._sender, task_result=begun)
            context = (TaskContext(task_result=self.snapshot()),) if task.takes_context else ()
            value = normalize_json(task.call(*context, *self.result.args, **self.result.kwargs))
        except (Exception, SystemExit) as error:
            if will_retry(job, error):
                errors = [*self.result.errors, error_of(error)]
                self._results.update(self.result, status=TaskResultStatus.READY, errors=errors)
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

    def _fail(self, error: BaseException) -> None:
        """Finish the task; inside ``except``, so that Django's own receiver logs the traceback."""
        errors = [*self.result.errors, error_of(error)]
        self._finish(status=TaskResultStatus.FAILED, errors=errors)

    def _finish(self, **fields: Any) -> None:
        ended = self._results.update(self.result, finished_at=timezone.now(), **fields)
        if ended is not None:
            self._results.end(self.result, self._keep)
            task_finished.send(self._sender, task_result=ended)


@contextmanager
def like_a_request(job: Job[Any], language: str | None) -> Iterator[None]:
    """Run a task in its language, and tidy up the worker's connections before and after it."""
    if not job.is_inline:
        _close_old_connections()
    try:
        with translation.override(language) if language else nullcontext():
            yield
    finally:
        if not job.is_inline:
            _close_old_connections()


def _close_old_connections() -> None:
    """Do what Django does between requests, except in a transaction, which is a test's."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close_if_unusable_or_obsolete()
