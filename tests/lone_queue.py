"""A `LimitedQueue` without a pool, for tests that decide themselves what happens when."""

from collections.abc import Iterable
from contextvars import copy_context
from types import SimpleNamespace
from typing import Any

from oddjob.options import JobSettings
from oddjob.runtime.dispatcher import Dispatcher
from oddjob.runtime.job import Job
from oddjob.runtime.limits import Limit
from oddjob.runtime.metrics import SlotMetrics
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.slot import Slot


class LoneQueue:
    """The queue, in place of the pool that its jobs belong to."""

    name = None
    label = "lone"
    pool = None

    def __init__(self, priority_aging: float | None = None) -> None:
        core: Any = self
        self.options = SimpleNamespace(priority_aging=priority_aging)
        self.supervisor = SimpleNamespace(wake=bool)
        self.dispatcher = Dispatcher(core)
        self.queue = self.dispatcher.use_limits()
        self.store = None
        self.intake: Any = self
        self.settlement: Any = self
        self.memory: Any = self

    def policy(self, limits: Iterable[Limit] = (), **options: Any) -> JobPolicy:
        """Make the policy of a view with these options; views may share limits."""
        policy = JobPolicy(self, JobSettings(limits=tuple(limits)).replace(**options))
        self.queue.gate.adopt(policy.limits)
        if policy.fair_by is not None:
            self.queue.use_turns()
        return policy

    def new_job(self, policy: JobPolicy, now: float = 0.0, key: Any = None) -> Job[Any]:
        """Make a job that is not queued yet."""
        job: Job[Any] = Job(abs, (-1,), None, copy_context(), policy, now, key)
        if policy.fair_by is not None:
            job._fair_key = policy.fair_by
        return job

    def submit(self, policy: JobPolicy, now: float = 0.0, key: Any = None) -> Job[Any]:
        """Queue a job."""
        job = self.new_job(policy, now, key)
        self.accept(job)
        return job

    def ask_for_workers(self) -> None:
        """There are none."""

    def new_slot(self) -> Slot:
        """Make a place in which jobs run."""
        core: Any = self
        return Slot(core, SlotMetrics())

    def is_empty(self) -> bool:
        """Return whether neither jobs nor permits are left, in any index."""
        queue = self.queue
        left: list[Any] = [queue.inbox, queue._mail, queue._waiting, queue._delayed, queue._holding]
        left += [queue._lines, queue._due, queue._ready.ranks]
        left += [] if queue._turns is None else [queue._turns._levels]
        left += [limit.waiting for limit in queue.gate.adopted()]
        return not any(len(each) for each in left) and not any(map(running, queue.gate.adopted()))

    # What jobs ask of their pool.

    def accept(self, job: Job[Any]) -> None:
        self.queue.inbox.append(job)

    def is_finished(self) -> bool:
        return False

    def job_cancelled(self, job: Job[Any], *, is_counted: bool) -> None:
        assert is_counted
        self.queue.post_ended(job)

    def run_where_awaited(self, job: Job[Any], deadline: float) -> bool:
        return False

    def interrupt(self, job: Job[Any]) -> None:
        pass

    def cancelled(self, job: Job[Any]) -> bool:
        return True


def running(limit: Limit) -> int:
    """Return how many jobs a concurrency limit counts."""
    return getattr(limit, "_running", 0)


def start(job: Job[Any]) -> bool:
    """Start a job, as its worker does; return False if it was cancelled meanwhile."""
    return job.set_running_or_notify_cancel()
