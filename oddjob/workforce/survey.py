"""Survey: the numbers of a pool at one moment."""

from oddjob.states import ENDED
from oddjob.stats import PoolStats
from oddjob.workforce.roster import Roster
from oddjob.workforce.supervisor import SupervisorInfo

__all__ = ["survey"]


def survey(roster: Roster, supervisor: SupervisorInfo) -> PoolStats:
    """A snapshot of what a pool is doing and has done."""
    # First: a job that is taken between the two is counted twice, not never.
    queued = roster.queue.count()
    counts, waits, runs = roster.ledger.read()
    hands = [worker.job for worker in roster.staff()]
    in_hand = counts["queued"]
    refused = counts["refused"]
    ended = counts["succeeded"] + counts["failed"] + counts["timed_out"]
    return PoolStats(
        state=roster.state,
        queued=in_hand + queued,
        running=counts["running"],
        idle=sum(job is None or job.verdict in ENDED for job in hands),  # timed_out: it is stuck
        started=counts["running"] + ended + counts["retried"],
        succeeded=counts["succeeded"],
        failed=counts["failed"] + refused,
        cancelled=counts["cancelled"],
        timed_out=counts["timed_out"],
        dropped=counts["dropped"],
        retried=counts["retried"],
        refused=refused,
        crashes=supervisor.crashes,
        restarts=supervisor.pool_restarts,
        abandoned=len(roster.abandoned),
        queue_wait=waits,
        run_time=runs,
    )
