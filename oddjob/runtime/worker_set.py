"""WorkerSet: the workers of a pool, each in a place of its own.

Guarantees: there are never more workers than places, whatever fails or interrupts. There are more
workers than ``size`` only while some of them are marked to leave. A None in ``_places`` is an owed
worker: the supervisor starts it, or the next submitter does.
Locking: the lock of `PoolState`. No thread is started under it; see `start_one`.
"""

import threading
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from oddjob.locks import is_held_here
from oddjob.runtime.slot import Slot
from oddjob.runtime.worker import Worker

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def is_interpreters_end(error: BaseException) -> bool:
    """Return whether a thread could not be started because the interpreter ends (3.12 on)."""
    return isinstance(error, RuntimeError) and "interpreter shutdown" in str(error)


class WorkerSet:
    """The workers of one pool."""

    def __init__(self, core: "PoolCore") -> None:
        options = core.options
        self._core: Final = core
        self._lock: Final = core.state.lock
        self.size: int = core.pool_size  # how many workers there may be; none in a paused pool
        self.is_paused: bool = False
        self._marked_to_leave: list[Worker] = []  # by `resize`: there are too many workers
        self._prefix: Final = options.thread_name_prefix or core.label
        most = options.max_abandoned
        self._max_quarantined: Final = options.pool_size if most is None else most
        # The worker in each place; None: one has left or could not be started, and is owed.
        self._places: Final[list[Worker | None]] = []
        self.quarantined: Final[set[Worker]] = set()  # stuck in an overdue job
        self._to_join: list[threading.Thread] = []  # threads of workers that have left
        self.replaced: Final[deque[str]] = deque()  # names that the supervisor reports

    def all(self) -> list[Worker]:
        """Return the workers, in the order of their places."""
        return [worker for worker in self._places.copy() if worker is not None]

    def all_alive(self) -> list[Worker]:
        """Return the workers, including the quarantined ones."""
        with self._lock:
            return [*self.all(), *self.quarantined]

    def room(self) -> int:
        """Return how many more workers there may be; none if the pool is broken, or finished."""
        if self._core.state.broken_by is not None or self._core.is_finished():
            return 0
        return max(0, self.size - len(self.all()))

    def resize(self, size: int) -> None:
        """Allow `size` workers at most.

        As many workers as are surplus leave: idle ones or, if too few are idle, those that become
        idle first.
        """
        with self._lock:
            self.size = size
            self._unmark()
            workers = self.all()
            surplus = max(0, len(workers) - size)
            free = [each for each in workers if each.is_free][:surplus]
            # If too few are free, all are marked; once enough have left, `_leave_place` unmarks the
            # rest.
            has_enough_free = len(free) == surplus
            self._marked_to_leave = (
                free if has_enough_free else [w for w in workers if not w.leaving]
            )
            for worker in self._marked_to_leave:
                worker.leaving = True
            self._core.intake.refresh()
        self._core.dispatcher.wake_all()

    def _unmark(self) -> None:
        """Let every marked worker stay; one that is leaving already will be replaced."""
        for worker in self._marked_to_leave:
            worker.leaving = False
        self._marked_to_leave = []

    def set_pool_size(self, pool_size: int) -> None:
        """Change the size of the pool, and by as much the number of allowed workers."""
        with self._lock:
            if self._core.state.closed_because is not None:
                self._core.state.check_open()
            change = pool_size - self._core.pool_size
            self._core.pool_size = pool_size
            if not self.is_paused:
                self.resize(self.size + change)
        self._use_room()

    def pause(self) -> None:
        """Allow no workers, so that no job starts, until `resume` or the end of the pool."""
        with self._lock:
            self._core.state.check_open()
            self.is_paused = True
            self.resize(0)

    def resume(self) -> None:
        """Allow workers again."""
        with self._lock:
            if not self.is_paused:
                return
            self.is_paused = False
            self.resize(self._core.pool_size)
        self._use_room()

    def _use_room(self) -> None:
        """Start workers for the queued jobs, after more workers were allowed."""
        core = self._core
        if len(core.dispatcher):
            core.intake.run_queued()
        if core.store is not None:
            core.store.wake()  # it may claim more jobs
        core.supervisor.notify()

    def missing(self) -> int:
        """Return how many workers are owed."""
        with self._lock:
            return min(self._places.count(None), self.room())

    def available(self) -> int:
        """Return how many workers will take a queued job at once, or can be started to do so."""
        return self.room() + sum(worker.is_free for worker in self.all())

    def threads(self) -> list[threading.Thread]:
        """Return the threads that the end of the pool has to wait for."""
        with self._lock:
            return [worker.thread for worker in self.all()] + self._to_join

    def join_at_end(self, thread: threading.Thread) -> None:
        """Make the end of the pool wait for a thread."""
        with self._lock:
            self._to_join = [each for each in self._to_join if each.is_alive()]
            self._to_join.append(thread)

    def start_needed(self, more: int = 0) -> Exception | None:
        """Start workers for the waiting jobs, and `more` to be queued, that no free worker takes.

        The supervisor is started first, so that no worker goes without one.

        Returns:
            The exception with which a thread could not be started; None if there was none.
        """
        try:
            self._core.supervisor.ensure_thread()
            while self.start_one(lambda: self._jobs_without_worker() + more > 0):
                pass
        except Exception as failure:
            return failure
        return None

    def _jobs_without_worker(self) -> int:
        """Return how many waiting jobs no free worker will take; negative: so many are idle.

        A worker may take a job between the two counts, so they are repeated until none has.
        """
        dispatcher = self._core.dispatcher
        waiting = dispatcher.waiting_count
        while True:
            free = sum(worker.is_free for worker in self.all())
            before, waiting = waiting, dispatcher.waiting_count
            if waiting >= before:
                return waiting - free

    def start_one(self, is_needed: Callable[[], bool] = lambda: True) -> bool:
        """Start a worker in the first empty place, or in a new one if there is room.

        The thread is started without the lock. Until it says that it runs, `Thread.start` waits for
        it, and it may have to run a destructor that submits, and needs the lock. A signal handler
        or destructor that has interrupted a holder of the lock leaves the start to the supervisor.

        Args:
            is_needed: asked under the lock, so that no two callers start a worker for one job.

        Returns:
            Whether a worker was started.

        Raises:
            Exception: no thread could be started; the worker is owed.
        """
        core, is_replacement = self._core, False
        worker: Worker | None = None
        if is_held_here(self._lock):
            core.ask_for_workers()
            return False
        try:
            with self._lock:
                if not (self.room() and is_needed()):
                    return False
                is_replacement = None in self._places
                if not is_replacement:
                    self._places.append(None)
                index = self._places.index(None)
                worker = Worker(core, index, f"{self._prefix}_{index}")
                self._places[index] = worker
                core.intake.refresh()
            worker.thread.start()
        except BaseException:
            if worker is not None:
                # If Ctrl-C has interrupted `start`, the thread may still run: it leaves at once.
                worker.leaving = True
                core.metrics.close(worker.slot.metrics)
                with self._lock:
                    self._leave_place(worker)
                core.supervisor.notify()
            raise
        if is_replacement:
            self.replaced.append(worker.thread.name)
            core.supervisor.notify()
        return True

    def serve_here(self) -> None:
        """Serve as a worker in the calling thread until the queue of a closed pool is empty."""
        worker = Worker(self._core, 0, f"{self._prefix}_0")
        worker.thread = threading.current_thread()
        with self._lock:
            self._places[:1] = [worker]
        worker.run()

    def remove(self, worker: Worker) -> bool:
        """Empty the place of a worker that has ended; return False if it no longer had one."""
        with self._lock:
            self.quarantined.discard(worker)
            had_place = self._leave_place(worker)
            if had_place:
                self.join_at_end(worker.thread)
        self._core.dispatcher.forget_worker(worker.wake)
        return had_place

    def quarantine(self, worker: Worker) -> bool:
        """Take the place of a stuck worker from it, so that it is replaced.

        Returns:
            True if it no longer has a place; False if it keeps it, because too many workers are
            quarantined. In a closed pool, whose queue has to be run, their number is not limited.
        """
        with self._lock:
            is_limited = self._core.state.closed_because is None
            if is_limited and len(self.quarantined) >= self._max_quarantined:
                return worker not in self._places
            if self._leave_place(worker):
                worker.leaving = True
                worker.thread.name += "-abandoned"
                self.quarantined.add(worker)
            return True

    def _leave_place(self, worker: Worker) -> bool:
        if worker not in self._places:
            return False
        self._places[worker.index] = None
        if worker in self._marked_to_leave:  # else `_unmark` might let it stay
            self._marked_to_leave.remove(worker)
        while len(self._places) > self.size and self._places[-1] is None:
            self._places.pop()
        if len(self.all()) <= self.size:
            self._unmark()
        self._core.intake.refresh()
        return True

    def find(self, slot: Slot) -> Worker | None:
        """Return the worker that owns `slot`, also a quarantined one.

        Returns:
            The worker; None if it has left, or if the slot is a guest's.
        """
        return next((each for each in self.all_alive() if slot in each.slot.with_nested()), None)

    def slots(self) -> list[Slot]:
        """Return the slots of all workers, including quarantined ones, and their nested slots."""
        return [slot for worker in self.all_alive() for slot in worker.slot.with_nested()]

    def retire_all(self) -> None:
        """Make every worker leave after the job in its slot."""
        with self._lock:
            self._marked_to_leave = []
            for worker in self.all():
                worker.leaving = True
        self._core.dispatcher.wake_all()
