"""OddJob runs background work with bounded concurrency.

Every accepted job finishes with a result, an exception, or a cancellation::

    import oddjob

    with oddjob.Pool("api", 10, rate="100/minute", retries=5) as api:
        job = api.submit(fetch, url)  # a Job, which is a concurrent.futures.Future
        pages = list(api.map(fetch, urls))  # results, in order
        api.perform(notify, "done")  # fire and forget; a failure is logged

    print(job.result())

Read on with ``help(oddjob.Pool)``, which has all options and methods, and ``help(oddjob.Job)``.
`configure` describes all pools of a program in one dict; the functions of this module, such as
`perform`, find pools by their names. Errors are subclasses of `OddJobError`. `oddjob.testing` is
for the tests of programs that use pools, `oddjob.operations` for stores of durable jobs.
"""

import sys as _sys
import typing as _typing

from oddjob.daemon import run_forever
from oddjob.dumping import dump, dump_on_signal
from oddjob.errors import (
    BatchFailed,
    GroupClosed,
    JobDropped,
    JobLost,
    JobNotFound,
    JobTimeout,
    OddJobError,
    PayloadError,
    PoolBroken,
    PoolClosed,
    PoolNameTaken,
    PoolNotFound,
    PredecessorFailed,
    QueueFull,
    SettingsError,
    StoreFull,
    StoreUnsafe,
    StoreUnusable,
    UnknownFunction,
)
from oddjob.events import PoolEvent
from oddjob.function import JobFunction
from oddjob.group import JobGroup
from oddjob.hints import missing_attribute as _missing_attribute
from oddjob.mapping import progress
from oddjob.options import JobOptions, PoolArguments, PoolSettings
from oddjob.rate import Rate
from oddjob.registry import configure, pool, pools, shutdown_all, start_pool
from oddjob.retry import Backoff
from oddjob.runtime.job import Job
from oddjob.runtime.job_state import Progress
from oddjob.runtime.metrics import Durations, PoolStats
from oddjob.runtime.middleware import Middleware
from oddjob.runtime.pool_ending import DrainReport
from oddjob.runtime.slot import current_job
from oddjob.runtime.supervisor import SupervisorInfo
from oddjob.runtime.worker import WorkerInfo
from oddjob.schedule.cron import ClockChange, CronExplanation, explain_cron
from oddjob.schedule.timer import Timer
from oddjob.scheduled import Delayed, Recurring
from oddjob.settings import Settings
from oddjob.thread_pool import Pool
from oddjob.verbs import (
    async_perform,
    async_perform_many,
    await_,
    await_many,
    cancel_timer,
    copy_store,
    perform,
    perform_after,
    perform_at,
    perform_many,
    perform_many_after,
    perform_many_at,
    perform_this,
    queue,
    read_timer,
    supervisor,
    timers,
    workers,
)
from oddjob.workflow import Batch, Call, Chain, current_batch

__all__ = [
    "Backoff", "Batch", "BatchFailed", "Call", "Chain", "ClockChange", "CronExplanation",
    "Delayed", "DrainReport", "Durations", "GroupClosed", "Job", "JobDropped", "JobFunction",
    "JobGroup", "JobLost", "JobNotFound", "JobOptions", "JobTimeout", "Middleware",
    "OddJobError", "PayloadError", "Pool", "PoolArguments", "PoolBroken", "PoolClosed",
    "PoolEvent", "PoolNameTaken", "PoolNotFound", "PoolSettings", "PoolStats",
    "PredecessorFailed", "Progress", "QueueFull", "Rate", "Recurring", "Settings",
    "SettingsError", "StoreFull", "StoreUnsafe", "StoreUnusable", "SupervisorInfo", "Timer",
    "UnknownFunction", "WorkerInfo", "async_perform", "async_perform_many", "await_",
    "await_many", "cancel_timer", "configure", "copy_store", "current_batch", "current_job", "dump",
    "dump_on_signal", "explain_cron", "perform", "perform_after", "perform_at", "perform_many",
    "perform_many_after", "perform_many_at", "perform_this", "pool", "pools", "progress",
    "queue", "read_timer", "run_forever", "shutdown_all", "start_pool", "supervisor", "timers",
    "workers",
]  # fmt: skip

# For the tests of programs that use pools.
from oddjob import testing as testing

if not _typing.TYPE_CHECKING:

    def __getattr__(name: str) -> object:
        raise _missing_attribute(_sys.modules[__name__], f"module {__name__!r}", name, Pool)


__version__ = "0.1.0"
