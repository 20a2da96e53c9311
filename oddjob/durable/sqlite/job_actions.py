"""Job actions: cancel, retry and delete stored jobs, of a batch all its members; purge old ones."""

from oddjob.durable.record import State
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.work import Work


def cancel(work: Work, job: int) -> bool:
    """Cancel a job that waits, or ask for the end of one that runs; of a batch, all members."""
    if work.others.is_batch(job):
        members = work.others.members(job)
        return sum(cancel(work, member) for member, state in members if not state.has_ended) > 0
    return work.cancel(job)


def retry(work: Work, job: int) -> bool:
    """Queue a job again that has failed or was cancelled; one that is scheduled, at once.

    A job that waits for others goes on waiting, and those that have ended because of this one wait
    for it again.
    """
    row = work.execute(schema.BRIEF, (job,)).fetchone()
    if row is None:
        return False
    if work.others.is_batch(job):
        unsuccessful = (State.FAILED, State.CANCELLED)
        members = [each for each, state in work.others.members(job) if state in unsuccessful]
        return sum(retry(work, member) for member in members) > 0
    _, number, partition, pool, key, _, _, unique, limit, slot, batch, is_waiting = row
    state = State(number)
    if is_waiting or state not in (State.SCHEDULED, State.FAILED, State.CANCELLED):
        return False
    if state.has_ended:
        waits = work.others.wait_again(job, state, batch)
        if waits is not None:
            return waits
        if work.execute(schema.FIND_UNIQUE, (pool, unique)).fetchone() is not None:
            return False  # another job has taken its place
        work.notifier.waiting[pool] += 1
    if key is not None and slot is None:  # a serial one has kept it
        slot = work.keys.take(pool, key, limit)
    is_parked = key is not None and slot is None
    work.turns.give_again(job)
    work.execute(schema.RETRY, (int(State.PARKED if is_parked else State.QUEUED), slot, job))
    work.notifier.queued[partition] += not is_parked
    if state.has_ended:
        work.others.resumed(job, state, batch)
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
    row = work.execute(schema.BRIEF, (job,)).fetchone()
    if row is None or row[1] == State.RUNNING:
        return False
    if not State(row[1]).has_ended:
        cancel(work, job)
        work.others.follow()
        row = work.execute(schema.BRIEF, (job,)).fetchone()
        if not State(row[1]).has_ended:  # members are running
            return False
    for member, _ in work.others.members(job):
        delete(work, member)
    work.erase([job])
    return True


def purge(work: Work, pool: str, keep_succeeded: int, failed_before: float, budget: int) -> int:
    """Delete old jobs of a pool, at most as many as the budget allows; return how many."""
    rows = work.execute(schema.PURGE_SUCCEEDED, (pool, budget, keep_succeeded)).fetchall()
    for state in (State.FAILED, State.CANCELLED):
        which = pool, int(state), failed_before, budget - len(rows)
        rows += work.execute(schema.PURGE_OTHERS, which).fetchall()
    work.erase(job for (job,) in rows)
    return len(rows)
