"""OddJob: named pools of supervised worker threads that are drop-in executors."""

# The workforce: pools, and what goes through them.
from oddjob.bar import progress
from oddjob.current import current_job
from oddjob.errors import (
    GroupClosed,
    JobDropped,
    JobLost,
    JobTimeout,
    OddJobError,
    PoolBroken,
    PoolClosed,
    PoolNameTaken,
    PoolNotFound,
    PredecessorFailed,
    QueueFull,
    SettingsError,
)
from oddjob.events import PoolEvent
from oddjob.function import JobFunction
from oddjob.group import JobGroup
from oddjob.headway import Progress
from oddjob.job import Job
from oddjob.later import Later, Regularly
from oddjob.pool import Pool
from oddjob.rate import Rate
from oddjob.retry import Backoff
from oddjob.schedule.cron import ClockChange, CronExplanation, explain_cron
from oddjob.startup import configure, pool, pools, shutdown_all, start_pool
from oddjob.stats import Durations, PoolStats
from oddjob.timer import Timer
from oddjob.verbs import (
    async_perform,
    async_perform_many,
    await_,
    await_many,
    cancel_timer,
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
    workers,
)
from oddjob.workforce.report import DrainReport
from oddjob.workforce.supervisor import SupervisorInfo
from oddjob.workforce.worker import WorkerInfo

__all__ = [
    "Backoff",
    "ClockChange",
    "CronExplanation",
    "DrainReport",
    "Durations",
    "GroupClosed",
    "Job",
    "JobDropped",
    "JobFunction",
    "JobGroup",
    "JobLost",
    "JobTimeout",
    "Later",
    "OddJobError",
    "Pool",
    "PoolBroken",
    "PoolClosed",
    "PoolEvent",
    "PoolNameTaken",
    "PoolNotFound",
    "PoolStats",
    "PredecessorFailed",
    "Progress",
    "QueueFull",
    "Rate",
    "Regularly",
    "SettingsError",
    "SupervisorInfo",
    "Timer",
    "WorkerInfo",
    "async_perform",
    "async_perform_many",
    "await_",
    "await_many",
    "cancel_timer",
    "configure",
    "current_job",
    "explain_cron",
    "perform",
    "perform_after",
    "perform_at",
    "perform_many",
    "perform_many_after",
    "perform_many_at",
    "perform_this",
    "pool",
    "pools",
    "progress",
    "queue",
    "read_timer",
    "shutdown_all",
    "start_pool",
    "supervisor",
    "workers",
]

# For the tests of programs that use pools.
from oddjob import testing as testing

__version__ = "0.1.0"
