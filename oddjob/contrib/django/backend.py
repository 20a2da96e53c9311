"""OddJobBackend: Django's tasks as jobs of pools.

Guarantees: a task that was refused (`QueueFull`, say) leaves nothing behind; one that is enqueued
on commit, or through the connection of a transaction, is forgotten if that is rolled back.
Assumes: without a store, tasks are gone with the process. Inline mode uses no store.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from threading import Lock
from typing import Any, Final
from uuid import uuid4

from django.apps import apps
from django.conf import settings
from django.core import checks
from django.core.exceptions import ImproperlyConfigured
from django.db import connections, transaction
from django.utils import timezone

import oddjob
from oddjob.contrib.django.compat import (
    BaseTaskBackend,
    Task,
    TaskResultDoesNotExist,
    task_backends,
    task_enqueued,
)
from oddjob.contrib.django.running import Results, TaskRun, copied, new_result
from oddjob.contrib.django.stored import StoredTasks
from oddjob.durable.stores import let_go, runner_of
from oddjob.hints import suggest
from oddjob.operations.stores import StoreOperations, file_of, label_of
from oddjob.option_checks import as_name
from oddjob.options import POOL_CHECKS
from oddjob.quantities import as_count
from oddjob.registry import registry
from oddjob.runtime import inline
from oddjob.settings import check_option


def _as_pools(name: str, value: Any) -> Any:
    if not isinstance(value, Mapping):
        raise TypeError(f"{name} must be a mapping of queues to names of pools, not {value!r}")
    for queue, pool in value.items():
        as_name(f"the pool of queue {queue!r}", pool)
    return value


def _as_database(_name: str, value: Any) -> Any:
    if value not in (False, True, *connections):
        raise ValueError(f"there is no database {value!r}; {suggest(str(value), connections)}")
    return value


_CHECKS: Final = {
    **POOL_CHECKS,
    "pools": _as_pools,
    "max_results": as_count,
    "enqueue_on_commit": _as_database,
}
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

    Its ``OPTIONS``: ``store`` (the URL of a store: tasks survive the process, any process finds
    them, and ``manage.py oddjob_worker`` runs them, with ``consume=True`` all others as well),
    ``pools`` (a dict from queues to pools of other names), ``max_results`` (how
    many results of ended tasks are kept in memory, 1000), ``enqueue_on_commit`` (False; True or the
    alias of a database: tasks enqueued in a transaction start after its commit), and any option of
    `Pool`, for pools that do not exist yet.
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
        self.validate_task(task)
        if self.is_stored:
            return self._enqueue_stored(task, args, kwargs)
        database = self._commit_of(task)
        if database is None:
            run = self._new_run(task, args, kwargs)
            self._submit(run)
        else:  # a rollback tells nobody: the result is known from the commit on
            run = self._new_run(task, args, kwargs, id=uuid4().hex)
            transaction.on_commit(partial(self._submit, run), using=database)
        return run.snapshot()

    async def aenqueue(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Queue a task without blocking the event loop while the pool's queue is full."""
        if self.is_stored or self._commit_of(task) is not None or _is_later(task):
            return await super().aenqueue(task, args, kwargs)
        self.validate_task(task)
        run = self._new_run(task, args, kwargs)
        with self._submission(run) as view:
            run.follow(await view.asubmit(run))
        await task_enqueued.asend(type(self), task_result=run.snapshot())
        return run.snapshot()

    def get_result(self, result_id: str) -> Any:
        """Return the result of that id; raise ``TaskResultDoesNotExist``."""
        try:
            return self._results.get(result_id)
        except TaskResultDoesNotExist:
            if not self.options.get("store"):
                raise
        return self.stored_tasks.get(result_id)

    async def aget_result(self, result_id: str) -> Any:
        """Do what `get_result` says."""
        if self.options.get("store"):
            return await super().aget_result(result_id)
        return self._results.get(result_id)

    @property
    def is_stored(self) -> bool:
        """Whether tasks go to a store now."""
        return bool(self.options.get("store")) and not inline.is_on()

    @cached_property
    def stored_tasks(self) -> StoredTasks:
        """The tasks in the store."""
        return StoredTasks(type(self), self.options)

    def queue_names(self) -> set[str]:
        """Return the queues of the backend; if it allows any, those of which its store has jobs."""
        if self.queues:
            return {*self.queues}
        queues = {pool: queue for queue, pool in self.options.get("pools", {}).items()}
        runner_of(self.options["store"])  # it makes a store if there is none
        with StoreOperations(self.options["store"]) as store:
            return {"default", *(queues.get(each, each) for each in store.pools())}

    def shares_file_of(self, connection: Any) -> bool:
        """Return whether the store is in the file of a database."""
        if connection.vendor != "sqlite":
            return False
        file = file_of(self.options["store"])
        return (
            file is not None and file.resolve() == Path(connection.settings_dict["NAME"]).resolve()
        )

    def pool_name(self, queue: str) -> str:
        """Return the name of the pool of a queue."""
        name: str = self.options.get("pools", {}).get(queue, queue)
        return name

    def pool_of(self, queue: str) -> oddjob.Pool:
        """Return the pool of a queue, which is made if there is none.

        Raises:
            ImproperlyConfigured: there is one with another store.
        """
        name = self.pool_name(queue)
        pool = oddjob.pools().get(name)
        if pool is None:
            defaults: dict[str, Any] = {"consume": False} if self.options.get("store") else {}
            pool = oddjob.start_pool(name, exist_ok=True, **(defaults | self._pool_options))
        url, used = self.options.get("store"), pool.configuration.store
        if url and not (used and label_of(used) == label_of(url)):
            where = f"TASKS[{self.alias!r}]['OPTIONS']['store']"
            raise ImproperlyConfigured(
                f"pool {name!r} of queue {queue!r} does not use the store {where}"
            )
        return pool

    def problems(self) -> list[str]:
        """Return what is wrong with the options, each by its path in the settings."""
        where, found = f"TASKS[{self.alias!r}]['OPTIONS']", list[str]()
        for name, value in self.options.items():
            try:
                if value is not None or name not in _CHECKS:  # None: as if it was not given
                    check_option(where, name, value, _CHECKS)
            except oddjob.SettingsError as error:
                found.append(str(error))
        if found:
            return found
        for queue in self.options.get("pools", {}).keys() - self.queues if self.queues else ():
            hint = suggest(queue, sorted(self.queues))
            found.append(f"{where}['pools'][{queue!r}]: no such queue; {hint}")
        try:
            registry.plan.defaults.refuse_useless(self._pool_options)
        except TypeError as error:
            found.append(f"{where}: {error}")
        return found

    def check(self, **kwargs: Any) -> Iterable[Any]:  # noqa: ARG002  (Django gives them)
        """Yield what is wrong with the settings, for ``manage.py check``."""
        where, problems = f"TASKS[{self.alias!r}]", self.problems()
        for problem in problems:
            yield checks.Error(problem, id="oddjob.E001")
        if not apps.is_installed("oddjob.contrib.django"):
            message = f"{where} needs 'oddjob.contrib.django' in INSTALLED_APPS"
            yield checks.Error(message, id="oddjob.E002")
        if self.options.get("store") and not problems:
            try:
                runner_of(self.options["store"])
                let_go(self.options["store"])
            except (OSError, ValueError, TypeError) as error:
                message = f"The store of {where} cannot be opened: {error}"
                yield checks.Error(message, id="oddjob.E003")
        elif not problems and not settings.DEBUG:
            message = f"Tasks of {where} and their results are lost when this process ends"
            yield checks.Warning(message, id="oddjob.W001")

    @property
    def _pool_options(self) -> dict[str, Any]:
        return {name: value for name, value in self.options.items() if name in POOL_CHECKS}

    def _new_run(self, task: Any, args: Any, kwargs: Any, **fields: Any) -> TaskRun:
        keep = self.options.get("max_results", 1000)
        return TaskRun(type(self), self._results, keep, new_result(task, args, kwargs, **fields))

    def _commit_of(self, task: Any) -> str | None:
        """Return the database whose commit a task waits for; None: it is submitted at once."""
        wanted = getattr(task, "enqueue_on_commit", None)
        if wanted is None:
            wanted = self.options.get("enqueue_on_commit", False)
        database = "default" if wanted is True else wanted or None
        if database is None or not transaction.get_connection(database).in_atomic_block:
            return None
        return database

    @staticmethod
    def _view_for(view: Any, task: Any, **options: Any) -> Any:
        """Return the view of a pool, or of a view of it, by which a task is submitted.

        A task has no options of its job if it is not an `OddJobTask`: those of Django 6.0 are not,
        nor those that were made while the backend was another one, as in tests.
        """
        options |= {each: getattr(task, each, None) for each in ("key", "retries", "timeout")}
        view = view.options(name=task.module_path, priority=task.priority, **options)
        return view.at(task.run_after) if _is_later(task) else view

    def _submit(self, run: TaskRun) -> None:
        with self._submission(run) as view:
            run.follow(view.submit(run))
        task_enqueued.send(type(self), task_result=run.snapshot())

    @contextmanager
    def _submission(self, run: TaskRun) -> Iterator[Any]:
        task = run.result.task
        try:
            yield self._view_for(
                self.pool_of(task.queue_name), task, persist=False, middleware=[run]
            )
        except BaseException:
            self._results.discard(run.result)
            raise

    def _enqueue_stored(self, task: Any, args: Any, kwargs: Any) -> Any:
        """Store a task: in the open transaction on the store's file, else at once or on commit."""
        result, database = new_result(task, args, kwargs), self._commit_of(task)
        open_ones = (each for each in connections.all(initialized_only=True)
                     if each.in_atomic_block and self.shares_file_of(each))  # fmt: skip
        connection, name = next(open_ones, None), self.pool_name(task.queue_name)
        if connection is not None and name not in oddjob.pools():
            # To make it, the store must be written to.
            raise ImproperlyConfigured(
                f"pool {name!r} has to be there before a transaction begins: let QUEUES of "
                f"TASKS[{self.alias!r}] have {task.queue_name!r}"
            )
        pool = self.pool_of(task.queue_name)

        def submit() -> None:
            where = pool if connection is None else pool.using(connection.connection)
            self.stored_tasks.submit(self._view_for(where, task), result)
            task_enqueued.send(type(self), task_result=copied(result))

        if connection is not None:
            with connection.wrap_database_errors:
                submit()
        elif database is None:
            submit()
        else:
            transaction.on_commit(submit, using=database)
        return result


def _is_later(task: Any) -> bool:
    return task.run_after is not None and task.run_after > timezone.now()


def backends() -> list[OddJobBackend]:
    """Return the backends of the site that are OddJob's."""
    return [each for each in task_backends.all() if isinstance(each, OddJobBackend)]


def stored_backends() -> list[OddJobBackend]:
    """Return those of them whose tasks go to a store."""
    return [each for each in backends() if each.options.get("store")]
