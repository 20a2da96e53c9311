"""OddJobBackend: Django's tasks as jobs of pools in this process.

Guarantees: a task that was refused (`QueueFull`, say) leaves nothing behind; one that is enqueued
on commit is forgotten if the transaction is rolled back.
Assumes: tasks are gone with the process; none goes to a pool's store.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.db import transaction
from django.utils import timezone

import oddjob
from oddjob.contrib.django.compat import BaseTaskBackend, Task, task_enqueued
from oddjob.contrib.django.running import Results, TaskRun
from oddjob.options import POOL_CHECKS

_OPTIONS: Final = {"pools", "max_results", "enqueue_on_commit"}
_POOL_OPTIONS: Final = POOL_CHECKS.keys() - {"name", "store"}
_lock: Final = Lock()  # guards `_results`; nothing is called under it
_results: Final[dict[str, Results]] = {}  # by alias: Django makes a backend for each thread


@dataclass(frozen=True, slots=True, kw_only=True)
class OddJobTask(Task):  # type: ignore[misc]  # Django has no types of its own
    """What ``@task(retries=3)`` makes: a task with options of its job.

    Attributes:
        enqueue_on_commit: as the backend's option; None: as that says.
        key: tasks of one key run one at a time, in order.
        retries: how often a failed task is retried.
        timeout: how long an attempt may run, in seconds.
    """

    enqueue_on_commit: bool | str | None = None
    key: Any = None
    retries: int | None = None
    timeout: float | None = None


class OddJobBackend(BaseTaskBackend):  # type: ignore[misc]
    """A backend for ``TASKS``; its tasks run in the pool that is named like their queue.

    Its ``OPTIONS``: ``pools`` (a dict from queues to pools of other names), ``max_results`` (how
    many results of ended tasks are kept, 1000), ``enqueue_on_commit`` (False; True or the alias of
    a database: tasks enqueued in a transaction start after its commit), and any option of `Pool`,
    for pools that do not exist yet.
    """

    task_class = OddJobTask
    supports_defer = True
    supports_async_task = True
    supports_get_result = True
    supports_priority = True

    def __init__(self, alias: str, params: dict[str, Any]) -> None:
        super().__init__(alias, params)
        with _lock:
            self._results = _results.setdefault(alias, Results())

    def enqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task, or note to do so on commit; return its result, which is READY."""
        run = self._prepare(task, args, kwargs)
        database = self._commit_of(task)
        if database is None:
            self._submit(run)
            task_enqueued.send(type(self), task_result=run.snapshot())
            return run.snapshot()
        run.identify(uuid4().hex)
        waiting = run.snapshot()
        self._results.discard(run.result)  # until the commit: a rollback tells nobody

        def submit() -> None:
            self._results.add(run.result)
            self._submit(run)
            task_enqueued.send(type(self), task_result=run.snapshot())

        transaction.on_commit(submit, using=database)
        return waiting

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task without blocking the event loop while the pool's queue is full."""
        if self._commit_of(task) is not None:
            return self.enqueue(task, args, kwargs)  # it only notes what to do after the commit
        run = self._prepare(task, args, kwargs)
        view = self._view(run)
        try:
            if task.run_after is not None and task.run_after > timezone.now():
                job = view.at(task.run_after).submit(run)
            else:
                job = await view.asubmit(run)
        except BaseException:
            self._results.discard(run.result)
            raise
        self._follow(run, job)
        await task_enqueued.asend(type(self), task_result=run.snapshot())
        return run.snapshot()

    def get_result(self, result_id: str) -> Any:
        """Return the result of that id; raise ``TaskResultDoesNotExist``."""
        return self._results.get(result_id)

    async def aget_result(self, result_id: str) -> Any:
        """Do what `get_result` says."""
        return self._results.get(result_id)

    def check(self, **kwargs: Any) -> Iterable[Any]:  # noqa: ARG002  (Django gives them)
        """Yield what is wrong with the settings, for ``manage.py check``."""
        where = f"TASKS[{self.alias!r}]"
        for name in sorted(self.options.keys() - _OPTIONS - _POOL_OPTIONS):
            message = f"{where}['OPTIONS'] has an unknown option {name!r}"
            yield checks.Error(message, id="oddjob.E001")
        if not apps.is_installed("oddjob.contrib.django"):
            message = f"{where} needs 'oddjob.contrib.django' in INSTALLED_APPS"
            yield checks.Error(message, id="oddjob.E002")
        if not settings.DEBUG:
            message = f"Tasks of {where} and their results are lost when this process ends"
            yield checks.Warning(message, id="oddjob.W001")

    def _prepare(self, task: Any, args: Any, kwargs: Any) -> TaskRun:
        self.validate_task(task)
        keep = self.options.get("max_results", 1000)
        return TaskRun(type(self), self._results, keep, task, args, kwargs)

    def _commit_of(self, task: Any) -> str | None:
        """Return the database whose commit a task waits for; None: it is submitted at once."""
        wanted = task.enqueue_on_commit
        if wanted is None:
            wanted = self.options.get("enqueue_on_commit", False)
        database = "default" if wanted is True else wanted or None
        is_open = database and transaction.get_connection(database).in_atomic_block
        return database if is_open else None

    def _view(self, run: TaskRun) -> Any:
        """Return the view of the pool by which a task is submitted."""
        task = run.result.task
        name = self.options.get("pools", {}).get(task.queue_name, task.queue_name)
        pool = oddjob.pools().get(name)
        if pool is None:
            options = {key: self.options[key] for key in self.options.keys() & _POOL_OPTIONS}
            pool = oddjob.start_pool(name, exist_ok=True, **options)
        return pool.options(
            name=task.module_path, priority=task.priority, middleware=[run], persist=False,
            key=task.key, retries=task.retries, timeout=task.timeout,
        )  # fmt: skip

    def _submit(self, run: TaskRun) -> None:
        view, when = self._view(run), run.result.task.run_after
        try:
            if when is not None and when > timezone.now():
                view = view.at(when)
            job = view.submit(run)
        except BaseException:
            self._results.discard(run.result)
            raise
        self._follow(run, job)

    def _follow(self, run: TaskRun, job: Any) -> None:
        run.identify(job.id)
        job.add_done_callback(run.end)
