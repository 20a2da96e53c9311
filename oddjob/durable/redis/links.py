"""Links: what the jobs of a turn have to do with other jobs, as its script reads it.

All that belong together are jobs of one pool, since a script is atomic in one pool only.
"""

import struct
from collections import Counter
from collections.abc import Sequence
from typing import Final

from oddjob.durable.record import Reference, Submit
from oddjob.durable.redis.packing import NO_ID, split_id

_LINKS: Final = struct.Struct("<HI")  # how many it waits for, how many places before its batch is
_DEPENDENCY: Final = struct.Struct("<16sIc")  # id, how many places before, condition


def pack_links(submits: Sequence[Submit]) -> dict[str, bytes]:
    """Return the links of all jobs of a pool, in their order, for each pool that has linked jobs.

    Raises:
        TypeError: a job is linked to one of another pool.
    """
    linked = {each.partition.pool for each in submits if each.is_linked}
    sizes, places = Counter[str](), list[int]()  # places among the jobs of a pool
    packed: dict[str, list[bytes]] = {pool: [] for pool in linked}
    for submit in submits if linked else ():
        pool = submit.partition.pool
        places.append(sizes[pool])
        sizes[pool] += 1
        if pool in linked:
            before = 0 if submit.batch is None else _find(submit.batch, submits, places)[1]
            packed[pool].append(_LINKS.pack(len(submit.after), before))
            for other, condition in submit.after:
                number, before = _find(other, submits, places)
                packed[pool].append(_DEPENDENCY.pack(number, before, b"%d" % condition))
    return {pool: b"".join(links) for pool, links in packed.items()}


def _find(other: Reference, submits: Sequence[Submit], places: list[int]) -> tuple[bytes, int]:
    """Return the number of a job that the latest one refers to, or how many places before it is."""
    pool = submits[len(places) - 1].partition.pool
    number, before = NO_ID, 0
    if other.distance:
        index = len(places) - 1 - other.distance
        its_pool, before = submits[index].partition.pool, places[-1] - places[index]
    else:
        its_pool, number = split_id(other.job) or ("", NO_ID)
    if its_pool != pool:
        raise TypeError(
            "on Redis, jobs that belong together or wait for each other are of one pool, "
            f"not of {pool!r} and {its_pool!r}"
        )
    return number, before
