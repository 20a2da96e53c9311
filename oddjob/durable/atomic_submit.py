"""Atomic submit: a chain or a batch, with all that belongs to it, is stored in one commit.

They may be jobs of several pools, of one process and one store.
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
        PoolClosed, PoolBroken: one of their pools takes no jobs.
        StoreFull, StoreUnusable, TypeError: no job was stored.
        ValueError: their pools have different stores.
    """
    stores = list(dict.fromkeys(map(_store_of, jobs)))
    places = {job: place for place, job in enumerate(jobs)}
    submits: list[Submit] = []
    handles: list[JobHandle | None] = []
    for store, group in groupby(jobs, _store_of):
        some = list(group)
        if store.url != stores[0].url:
            raise ValueError(
                f"jobs that belong together must be in one store: pool {store.name!r} has another "
                f"one than pool {stores[0].name!r}"
            )
        submits += store.note_known(store.submissions.submits_of(some, places=places))
        handles += map(store.handle_of, some)
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
