"""Notifier: what a transaction means to other processes, and which of them are woken after it.

A process is woken when there is *news* for it (the end of a job that it waits for), room in a queue
that was full, or a job that it could run and is *hungry* for.

Why no wake-up is lost: ``hungry`` is a column. A process becomes hungry in the very transaction in
which it found nothing, so every later writer sees that, and it has seen what every earlier one has
written. A writer that dies between its commit and its wake-ups is noticed by all who watch it, and
each of them takes a turn.
"""

import logging
import random
from collections import defaultdict
from collections.abc import Iterable
from math import inf
from typing import Any, Final

from oddjob.durable.record import News, State
from oddjob.durable.sqlite import schema
from oddjob.durable.sqlite.partitions import Execute, KnownPartition, PartitionTable
from oddjob.log import log

Counts = defaultdict[Any, int]


class Notifier:
    """The other processes, as one transaction concerns them.

    `Work` counts what it does in the first three fields; `finish` makes wake-ups of that.
    """

    def __init__(self, execute: Execute, partitions: PartitionTable, me: int | None) -> None:
        self.queued: Final[Counts] = defaultdict(int)  # by partition: jobs that may run now
        self.released: Final[Counts] = defaultdict(int)  # by partition: jobs that run no longer
        self.waiting: Final[Counts] = defaultdict(int)  # by pool: change of what waits
        self.to_wake: Final[set[int]] = set()  # processes, after the commit
        self._unheard: Final[list[tuple[int, str | None]]] = []  # jobs that have failed, and why
        self._execute: Final = execute
        self._partitions: Final = partitions
        self._me: Final = me
        self._alarms: Final[dict[int, float]] = {}  # by partition: when the next one is due

    # News.

    def watch(self, job: int) -> None:
        """Have this process get news of a job's end."""
        self._execute("INSERT OR IGNORE INTO watch (job, process) VALUES (?, ?)", (job, self._me))

    def is_watched(self) -> tuple[bool, bool]:
        """Return whether processes besides their submitters wait for jobs, and whether jobs do."""
        exist = "SELECT EXISTS (SELECT 1 FROM watch), EXISTS (SELECT 1 FROM dependency)"
        return self._execute(exist).fetchone()  # type: ignore[no-any-return]

    def tell(
        self,
        job: int,
        state: State,
        outcome: bytes | None,
        error: str | None,
        origin: int | None,
        *,
        except_for: int | None = None,
    ) -> None:
        """Leave news of a job's end for the processes that wait for it, `except_for` one."""
        rows = self._execute("DELETE FROM watch WHERE job = ? RETURNING process", (job,)).fetchall()
        readers = {process for (process,) in rows}
        if origin is not None:
            readers.add(origin)
        is_heard = state is not State.FAILED or outcome is not None  # else the store has failed it
        for reader in readers - {except_for}:
            # None is added for a process that has gone.
            if self._execute(schema.ADD_NEWS, (job, int(state), outcome, error, reader)).rowcount:
                self.to_wake.add(reader)
                is_heard = True
        if not is_heard:
            self._unheard.append((job, error))

    def log_unheard(self) -> None:
        """Log failures that no process will hear of, after the commit."""
        for job, error in self._unheard:
            log(logging.ERROR, "job %s failed: %s", job, error)

    def ask_to_end(self, process: int) -> bool:
        """Ask a process to end, if it runs jobs; return whether it does."""
        consumer = "SELECT process FROM consumer WHERE process = ?"
        row = self._execute(consumer, (process,)).fetchone()
        if row is not None:
            self.ask_to_stop(schema.NO_JOB, *row)
        return row is not None

    def ask_to_stop(self, job: int, owner: int) -> None:
        """Ask the owner of a running job to stop it."""
        self._execute(schema.ADD_NEWS, (job, int(State.RUNNING), None, None, owner))
        self.to_wake.add(owner)

    def read_news(self) -> tuple[list[News], set[bytes]]:
        """Take what has been left for this process: news, and the marks of receipts."""
        rows = self._execute(schema.READ_NEWS, (self._me,)).fetchall()
        marks = {outcome for _, state, outcome, _ in rows if state == schema.RECEIPT}
        news = [
            News(job or None, State(state), outcome, error)
            for job, state, outcome, error in rows
            if state != schema.RECEIPT
        ]
        return news, marks

    def alarm(self, partition: int, due: float) -> None:
        """Note that a job is due at a time: those that sleep longer must hear of it."""
        self._alarms[partition] = min(due, self._alarms.get(partition, inf))

    def wake_consumers(self, pool: str) -> None:
        """Have all processes that consume a pool look again."""
        rows = self._execute("SELECT process FROM consumer WHERE pool = ?", (pool,))
        self.to_wake.update(process for (process,) in rows)

    def finish(
        self, mine: Iterable[KnownPartition] = (), left: Iterable[KnownPartition] = ()
    ) -> bool:
        """Write the counters, and find out whom to wake; the last act of a transaction.

        Args:
            mine: the partitions from which this process has claimed what it could.
            left: those of them where it could not take all that may run.

        Returns:
            Whether another process is hungry for jobs of `mine`.
        """
        self._count()
        hungry = {partition.id: self._consumers_of(partition)[0] for partition in mine}
        has_hungry_peers = any(hungry.values())
        due = self.next_due() if self._alarms else inf
        freed = set(self.released)
        for partition_id in self.released:
            freed |= self._partitions.sharing(
                self._execute, self._partitions.get(self._execute, partition_id)
            )
        changed = freed | {each.id for each in left} | self.queued.keys() | self._alarms.keys()
        for partition_id in changed:
            if partition_id not in hungry:
                partition = self._partitions.get(self._execute, partition_id)
                hungry[partition_id], strangers = self._consumers_of(partition)
                if partition_id in self.queued:
                    self.to_wake.update(strangers)
                if self._alarms.get(partition_id, inf) <= due:  # they would sleep for longer
                    self.to_wake.update(hungry[partition_id])
            peers = hungry[partition_id]
            if peers and self.has_queued(partition_id):
                wanted = min(len(peers), max(1, self.queued[partition_id]))
                self.to_wake.update(random.sample(sorted(peers), wanted))
        return has_hungry_peers

    def has_queued(self, partition: int) -> bool:
        """Return whether a partition has queued jobs."""
        return self._execute(schema.ANY_QUEUED, (partition,)).fetchone() is not None

    def next_due(self) -> float:
        """Return when the next scheduled job is due, by the store's clock."""
        row = self._execute(schema.NEXT_DUE).fetchone()
        return inf if row is None else float(row[0])

    def _consumers_of(self, partition: KnownPartition) -> tuple[set[int], set[int]]:
        """Return the other processes that are hungry for a partition, and its strangers.

        Strangers are all consumers of the pool, if none of them knows the function: they look for
        it, and fail its jobs in the end.
        """
        rows = self._execute(schema.CONSUMERS, (partition.function, partition.pool)).fetchall()
        if not any(is_known for _, _, is_known in rows):
            return set(), {process for process, _, _ in rows}
        hungry = {process for process, is_hungry, is_known in rows if is_hungry and is_known}
        hungry.discard(self._me or 0)
        return hungry, set()

    def _count(self) -> None:
        while self._partitions.new_in:
            self.wake_consumers(self._partitions.new_in.pop())
        for pool, change in self.waiting.items():
            if change:
                self._execute(
                    "UPDATE pool SET waiting = waiting + ? WHERE name = ? AND waiting NOT NULL",
                    (change, pool),
                )
            if change < 0:
                wanting = "DELETE FROM room WHERE pool = ? RETURNING process"
                self.to_wake.update(row[0] for row in self._execute(wanting, (pool,)).fetchall())
