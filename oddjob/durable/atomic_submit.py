"""Atomic submit: a chain or a batch, with all jobs that belong to it, is stored in one commit.

The jobs may be of several pools of this process, if these use the same store.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any

from oddjob.durable.operation import RunnerOver
from oddjob.durable.record import Submit
from oddjob.runtime.job import Job
from oddjob.runtime.stored_job import policy_of

if TYPE_CHECKING:
    from oddjob.durable.job_handle import JobHandle
    from oddjob.durable.pool_store import PoolStore


def submit_whole(jobs: Sequence[Job[Any]]) -> None:
    """Store jobs in one commit, whatever the ``max_queue`` of their pools.

    Raises:
        PoolClosed, PoolBroken: one of the pools takes no jobs.
        StoreFull, StoreUnusable: as `Store.turn` raises them.
        TypeError: a function or its arguments cannot be stored; no job was stored.
        ValueError: the pools have different stores.
    """
    stores = list(dict.fromkeys(map(_store_of, jobs)))
    positions = {job: position for position, job in enumerate(jobs)}
    submits: list[Submit] = []
    handles: list[JobHandle | None] = []
    for store, group in groupby(jobs, _store_of):
        its_jobs = list(group)
        if store.url != stores[0].url:
            raise ValueError(
                f"jobs that belong together must be in one store, but pools {store.name!r} and "
                f"{stores[0].name!r} use different ones"
            )
        submits += store.note_known(store.submissions.submits_of(its_jobs, positions=positions))
        handles += map(store.handle_of, its_jobs)
    for store in stores:
        store.core.state.check_open()
        store.open()
    connection = policy_of(jobs[0]).settings.connection
    if connection is not None:
        stores[0].insert_into(connection().connection, submits, handles)
        return
    try:
        stores[0].open().submit(submits, handles)
    except RunnerOver:  # a pool was closed meanwhile
        for store in stores:
            store.core.state.check_open()
        raise


def _store_of(job: Job[Any]) -> "PoolStore":
    store: PoolStore = policy_of(job).core.store
    return store
