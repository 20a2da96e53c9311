"""Job actions: cancel, retry and delete stored jobs; of a batch, all its members.

They also find the old jobs that are purged.
"""

from collections import Counter
from math import inf
from random import randrange
from typing import Final

from oddjob.durable.record import State
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.work import Work
from oddjob.durable.store import SIZE_OF_RECORD

_ENDED: Final = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
_COUNTED_AT_ONCE: Final = 5000  # jobs
_SAMPLE: Final = 64  # jobs whose sizes are read


def cancel(work: Work, job: int) -> bool:
    """Cancel a job that waits, or ask for the end of one that runs; of a batch, all members."""
    if work.dependencies.is_batch(job):
        members = work.dependencies.members(job)
        return sum(cancel(work, member) for member, state in members if not state.has_ended) > 0
    return work.cancel_one(job)


def retry(work: Work, job: int) -> bool:
    """Queue a job again that has failed or was cancelled; one that is scheduled, at once.

    A job that waits for others goes on waiting, and those that have ended because of this one wait
    for it again.
    """
    brief = schema.brief_of(work.execute, job)
    if brief is None:
        return False
    if work.dependencies.is_batch(job):
        unsuccessful = (State.FAILED, State.CANCELLED)
        members = [each for each, state in work.dependencies.members(job) if state in unsuccessful]
        return sum(retry(work, member) for member in members) > 0
    state, slot = brief.state, brief.key_slot
    if brief.is_waiting or state not in (State.SCHEDULED, State.FAILED, State.CANCELLED):
        return False
    if state.has_ended:
        waits = work.dependencies.wait_again(job, state, brief.batch)
        if waits is not None:
            return waits
        if work.execute(schema.FIND_UNIQUE, (brief.pool, brief.unique)).fetchone() is not None:
            return False  # another job has taken its place
        work.notifier.waiting[brief.pool] += 1
    if brief.key is not None and slot is None:  # a serial one has kept it
        slot = work.keys.take(brief.pool, brief.key, brief.key_limit)
    is_parked = brief.key is not None and slot is None
    work.turns.give_again(job)
    work.execute(schema.RETRY, (int(State.PARKED if is_parked else State.QUEUED), slot, job))
    work.notifier.queued[brief.partition] += not is_parked
    if state.has_ended:
        work.dependencies.resumed(job, state, brief.batch)
    return True


def reschedule(work: Work, job: int, delay: float) -> bool:
    """Have a scheduled job due after a delay; not one that waits for others."""
    due = work.now + delay
    row = work.execute(schema.RESCHEDULE, (due, job)).fetchone()
    if row is not None:
        work.notifier.alarm(row[0], due)
    return row is not None


def delete(work: Work, job: int) -> bool:
    """Delete a job that is not running; of a batch, all members, if none is running."""
    brief = schema.brief_of(work.execute, job)
    if brief is None or _is_running(work, job, brief.state):
        return False
    if not brief.state.has_ended:
        cancel(work, job)
        work.dependencies.follow()
    for member, _ in work.dependencies.members(job):
        delete(work, member)
    work.erase([job])
    return True


def _is_running(work: Work, job: int, state: State) -> bool:
    """Return whether a job is running, or a member of the batch that it stands for."""
    members = work.dependencies.members(job) if state is State.SCHEDULED else ()
    return state is State.RUNNING or any(_is_running(work, *member) for member in members)


def old(work: Work, pool: str, keep_succeeded: int, failed_before: float, budget: int) -> list[int]:
    """Return jobs that may be deleted, at most `budget`; see `Store.purge`."""
    succeeded = (pool, budget, keep_succeeded)
    jobs = [job for (job,) in work.execute(schema.PURGE_SUCCEEDED, succeeded)]
    for state in _ENDED[1:]:
        which = pool, int(state), failed_before, budget - len(jobs)
        jobs += [job for (job,) in work.execute(schema.PURGE_OTHERS, which)]
    return jobs


class Excess:
    """Which jobs that have ended are too many in bytes, for use in the transactions of one process.

    To find out, the index of all of them is read. Where there are many, that is done less often.
    """

    def __init__(self) -> None:
        self._pauses: Final[Counter[str]] = Counter()  # by pool: calls that do not look

    def find(self, work: Work, pool: str, keep_bytes: float, budget: int) -> list[int]:
        """Return the oldest jobs of each state beyond a size, at most `budget`."""
        self._pauses[pool] -= 1
        if self._pauses[pool] >= 0:
            return []
        jobs, total = list[int](), 0
        for state in _ENDED if keep_bytes < inf else ():
            place = pool, int(state)
            ((count,),) = work.execute(schema.COUNT_ENDED, place).fetchall()
            total += count
            step = count // _SAMPLE | 1  # odd, as pools may submit by turns
            sample = (*place, step, randrange(step))  # noqa: S311  (no secret)
            ((size,),) = work.execute(schema.SIZE_OF_SOME, sample).fetchall()
            excess = 0 if size is None else count - int(keep_bytes / (SIZE_OF_RECORD + size))
            which = (*place, max(0, min(excess, budget - len(jobs))))
            jobs += [job for (job,) in work.execute(schema.OLDEST_ENDED, which)]
        self._pauses[pool] = 0 if jobs else total // _COUNTED_AT_ONCE
        return jobs
