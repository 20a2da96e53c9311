"""FullQueue: applies ``when_full`` to jobs for which the queue in the store has no room.

The store refuses such jobs, notes that this process waits for room, and wakes it when there may be
room.
"""

from collections.abc import Callable, Sequence
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.errors import QueueFull
from oddjob.locks import Wakeup
from oddjob.runtime.caller_runs import run_in_caller
from oddjob.runtime.job import Job
from oddjob.runtime.settling import withdraw
from oddjob.runtime.slot import slot_of
from oddjob.runtime.stored_job import parts_of, policy_of
from oddjob.schedule.clock import clock

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore
    from oddjob.runtime.core import PoolCore


class FullQueue:
    """The threads of one pool that wait for room in the queue.

    Args:
        core: the pool.
        store_jobs: stores jobs, and returns those for which there is no room.

    Thread safety: any thread may call everything.
    """

    def __init__(
        self, core: "PoolCore", store_jobs: Callable[[Sequence[Job[Any]]], list[Job[Any]]]
    ) -> None:
        self._core: Final = core
        self._store_jobs: Final = store_jobs
        self._waiting: Final[list[Wakeup]] = []

    def answer(self, jobs: list[Job[Any]]) -> None:
        """Do what ``when_full`` says with jobs that were refused.

        Raises:
            QueueFull: there was no room, or not in time.
        """
        options = self._core.options
        # A worker of the pool must not wait, as the workers make room.
        is_worker = slot_of(self._core) is not None
        if options.when_full == "caller_runs":
            jobs = [each for each in jobs if not self._run_in_caller(each)]
        timeout = 0.0 if options.when_full == "raise" or is_worker else options.submit_timeout
        deadline = inf if timeout is None else clock.steady() + timeout
        wakeup = Wakeup()
        self._waiting.append(wakeup)
        try:
            # Try again first: room may have appeared before this thread was in `_waiting`.
            while jobs and (jobs := self._store_jobs(jobs)):
                if not wakeup.wait(deadline):
                    for job in jobs:
                        withdraw(job)
                    raise QueueFull(
                        f"the queue of pool {self._core.label} holds {options.max_queue} jobs"
                    )
        finally:
            self._waiting.remove(wakeup)

    def _run_in_caller(self, job: Job[Any]) -> bool:
        """Run a job in the calling thread; return False if it has to go to the store all the same.

        The store counts keys, limits and unique jobs for all processes, and keeps what is to be
        retried; it knows whether the pool is paused.
        """
        policy, is_keyed = policy_of(job), parts_of(job).key is not None
        if is_keyed or policy.limits or policy.retry or policy.settings.unique:
            return False
        store: PoolStore = self._core.store
        return not store.open().reader.pools().get(store.name) and run_in_caller(self._core, job)

    def wake(self) -> None:
        """Let the waiting threads try again: there may be room."""
        for wakeup in list(self._waiting):
            wakeup.set()
