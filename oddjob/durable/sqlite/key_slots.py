"""KeySlots: which jobs of a key may run, in one transaction.

A job that is queued or running holds a *slot* of its key, a number below its ``key_limit``; a
serial one goes on holding it between two attempts. A job for which none is free is *parked*, and
moves up, in its turn, when one is. The schema sees to it that no slot is held twice.
"""

from typing import Final

from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.partitions import Execute


class KeySlots:
    """The slots of all keys that a transaction has to do with."""

    def __init__(self, execute: Execute) -> None:
        self._execute: Final = execute
        # What is known of a key: its slots that are held; None: jobs are parked.
        self._held: Final[dict[tuple[str, str], set[int] | None]] = {}

    def take(self, pool: str, key: str, limit: int) -> int | None:
        """Return a free slot, which is held from now on; None if the job has to be parked."""
        place = (pool, key)
        if place not in self._held:
            is_parked = self._execute(schema.NEXT_PARKED, place).fetchone() is not None
            self._held[place] = None if is_parked else self._read(place)
        held = self._held[place]
        slot = None if held is None else _free_slot(held, limit)
        if held is not None and slot is not None:
            held.add(slot)
        else:
            self._held[place] = None
        return slot

    def move_up(self, pool: str, key: str) -> list[int]:
        """Queue parked jobs for which there are slots, in their order; return their partitions."""
        place = (pool, key)
        self._held.pop(place, None)
        partitions: list[int] = []
        while (following := self._execute(schema.NEXT_PARKED, place).fetchone()) is not None:
            job, partition, limit = following
            slot = _free_slot(self._read(place), limit)
            if slot is None:
                break
            self._execute(schema.UNPARK, (slot, job))
            partitions.append(partition)
        return partitions

    def _read(self, place: tuple[str, str]) -> set[int]:
        return {slot for (slot,) in self._execute(schema.HELD_SLOTS, place)}


def _free_slot(held: set[int], limit: int) -> int | None:
    return next((slot for slot in range(limit) if slot not in held), None)
