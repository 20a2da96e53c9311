"""Submits that have to do with other jobs: they go to the server by a script of their own.

They are stored before the turn that they are submitted with. All that belong together are jobs of
one pool, since a script is atomic in one pool only.
"""

from collections.abc import Sequence
from typing import Final

from oddjob.durable.record import Reference, Submit, Submitted
from oddjob.durable.redis.access import Part
from oddjob.durable.redis.calls import Calls
from oddjob.durable.redis.packing import pack_links, split_id
from oddjob.durable.redis.script import Script
from oddjob.errors import StoreFull

_SUBMIT_LINKED: Final = Script("submit_linked", may_fill=False)


def submit_linked(calls: Calls, submits: Sequence[Submit]) -> dict[int, Submitted]:
    """Store those of the submits that are linked; return their answers by identity.

    Raises:
        Evicted: nothing has happened.
        StoreUnusable: it is not known what has happened.
        TypeError: a job has to do with one of another pool; nothing has happened.
    """
    by_pool: dict[str, list[int]] = {}  # places
    for place in sorted(_involved(submits)):
        by_pool.setdefault(submits[place].partition.pool, []).append(place)
    for pool, places in by_pool.items():
        _check(pool, submits, places)
    answers: dict[int, Submitted] = {}
    for pool, places in by_pool.items():
        some = [submits[place] for place in places]
        access = calls.enter(pool)
        calls.add_partitions(Part(access, [], some, None))
        try:
            found = calls.run(
                access, _SUBMIT_LINKED, _pack_links(submits, places), *access.records(some)
            )
        except StoreFull as error:  # the turn goes on without them
            answers |= {id(each): Submitted(None, is_new=False, error=error) for each in some}
            continue
        submitted = access.read_submitted(found, len(some))
        answers |= {id(each): job for each, job in zip(some, submitted, strict=True)}
    return answers


def _others(submit: Submit) -> list[Reference]:
    others = [other for other, _ in submit.after]
    return others if submit.batch is None else [*others, submit.batch]


def _involved(submits: Sequence[Submit]) -> set[int]:
    """Return the places of submits that have to do with others, or others with them."""
    places = {place for place, submit in enumerate(submits) if submit.is_linked}
    before = [
        place - other.distance
        for place in places
        for other in _others(submits[place])
        if other.distance
    ]
    return places.union(before)


def _pack_links(submits: Sequence[Submit], places: Sequence[int]) -> bytes:
    """Return what jobs have to do with others, as seen by the script, which has only some."""
    at = {place: n for n, place in enumerate(places)}

    def pack(place: int) -> bytes:
        return pack_links(submits[place], lambda distance: at[place] - at[place - distance])

    return b"".join(map(pack, places))


def _check(pool: str, submits: Sequence[Submit], places: Sequence[int]) -> None:
    for place in places:
        for other in _others(submits[place]):
            if other.distance:
                its_pool = submits[place - other.distance].partition.pool
            else:
                its_pool = (split_id(other.job) or ("",))[0]
            if its_pool != pool:
                raise TypeError(
                    "on Redis, jobs that belong together or wait for each other are of one pool, "
                    f"not of {pool!r} and {its_pool!r}"
                )
