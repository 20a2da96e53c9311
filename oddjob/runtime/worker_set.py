"""WorkerSet: the workers of a pool, each in a place of its own.

Guarantees: there are never more workers than places, whatever fails or interrupts. A place whose
worker has gone stays empty until the supervisor fills it, or the next job does.
Locking: that of `PoolState`. `Thread.start` is called under it.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from oddjob.runtime.slot import Slot
from oddjob.runtime.worker import Worker

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore


def is_interpreters_end(error: BaseException) -> bool:
    """Return whether no thread could be started since the interpreter shuts down (3.12 on)."""
    return isinstance(error, RuntimeError) and "interpreter shutdown" in str(error)


class WorkerSet:
    """The workers of one pool."""

    def __init__(self, core: "PoolCore") -> None:
        options = core.options
        self._core: Final = core
        self._lock: Final = core.state.lock
        self.size: int = core.pool_size  # how many workers there may be; none in a paused pool
        self.is_paused: bool = False
        self._surplus: list[Worker] = []  # of which some are to leave, as there are too many
        self._prefix: Final = options.thread_name_prefix or core.label
        most = options.max_abandoned
        self._max_quarantined: Final = options.pool_size if most is None else most
        # The worker in each place; None: it has gone, and is to be replaced.
        self._places: Final[list[Worker | None]] = []
        self.quarantined: Final[set[Worker]] = set()  # stuck in a job whose time is up
        self._to_join: list[threading.Thread] = []  # of workers that have just left
        self.replaced: Final[deque[str]] = deque()  # names, until the supervisor has reported them
        self._to_start = 0  # above 1 if a signal handler asks for one while one is started

    def all(self) -> list[Worker]:
        """Return the workers, in the order of their places."""
        return [worker for worker in self._places.copy() if worker is not None]

    def all_alive(self) -> list[Worker]:
        """Return the workers, the quarantined included."""
        with self._lock:
            return [*self.all(), *self.quarantined]

    def room(self) -> int:
        """Return how many more workers there may be."""
        return max(0, self.size - len(self.all()))

    def resize(self, size: int) -> None:
        """Have `size` workers at most; of those beyond, the first that have no job leave."""
        with self._lock:
            self.size = size
            self._keep_surplus()
            workers = self.all()
            surplus = max(0, len(workers) - size)
            free = [each for each in workers if each.is_free][:surplus]
            # If too few are free, all are marked, and `_leave_place` unmarks the rest when enough
            # have left.
            self._surplus = free if len(free) == surplus else [w for w in workers if not w.leaving]
            for worker in self._surplus:
                worker.leaving = True
            self._core.intake.refresh()
        self._core.dispatcher.wake_all()

    def _keep_surplus(self) -> None:
        """Let the workers stay that are left; one that is on its way out is replaced."""
        for worker in self._surplus:
            worker.leaving = False
        self._surplus = []

    def set_pool_size(self, pool_size: int) -> None:
        """Change how many workers there may be, besides those that are lent."""
        with self._lock:
            change = pool_size - self._core.pool_size
            self._core.pool_size = pool_size
            if not self.is_paused:
                self.resize(self.size + change)
        self._use_room()

    def pause(self) -> None:
        """Have no workers, and so no job start, until `resume` or the end of the pool."""
        with self._lock:
            self._core.state.check_open()
            self.is_paused = True
            self.resize(0)

    def resume(self) -> None:
        """Have workers again."""
        with self._lock:
            if not self.is_paused:
                return
            self.is_paused = False
            self.resize(self._core.pool_size)
        self._use_room()

    def _use_room(self) -> None:
        """Have new workers run what is queued."""
        core = self._core
        if len(core.dispatcher):
            core.intake.run_queued()
        if core.store is not None:
            core.store.wake()  # it may claim more
        core.supervisor.notify()

    def missing(self) -> int:
        """Return how many workers have gone that should be replaced."""
        with self._lock:
            is_needed = self._core.state.broken_by is None and not self._core.is_finished()
            return min(self._places.count(None), self.room()) if is_needed else 0

    def available(self) -> int:
        """Return how many workers will take a queued job at once, or can be started for one."""
        return self.room() + sum(worker.is_free for worker in self.all())

    def threads(self) -> list[threading.Thread]:
        """Return the threads that the end of the pool has to wait for."""
        with self._lock:
            return [worker.thread for worker in self.all()] + self._to_join

    def join_at_end(self, thread: threading.Thread) -> None:
        """Have the end of the pool wait for a thread, too."""
        with self._lock:
            self._to_join = [each for each in self._to_join if each.is_alive()]
            self._to_join.append(thread)

    def start_for(self, jobs: int) -> Exception | None:
        """Start as many workers as `jobs` need that parked ones cannot take.

        Returns what was raised by a thread that could not be started.
        """
        try:
            for _ in range(min(jobs - len(self._core.dispatcher.parked), self.room())):
                self.start_one()
        except Exception as failure:
            return failure
        return None

    def start_one(self) -> None:
        """Start a worker in the first empty place, or in a new one if there is room.

        Called by a signal handler or destructor in the middle of itself, it starts that worker
        when it is through.

        Raises:
            Exception: no thread could be started, and the place is empty.
        """
        with self._lock:
            self._to_start += 1
            if self._to_start > 1:
                return
            try:
                while self._to_start:
                    self._start_one()
                    self._to_start -= 1
            finally:
                self._to_start = 0

    def _start_one(self) -> None:
        core, places = self._core, self._places
        if not self.room():
            return
        is_replacement = None in places
        if not is_replacement:
            places.append(None)
        index = places.index(None)
        worker = Worker(core, index, f"{self._prefix}_{index}")
        try:
            places[index] = worker
            worker.thread.start()
        except BaseException:
            # After Ctrl-C the thread may come all the same: it leaves at once then.
            worker.leaving = True
            core.metrics.close(worker.slot.metrics)
            places[index] = None
            if not (is_replacement or len(core.dispatcher)):
                places.pop()  # else the supervisor is to fill it
            core.supervisor.notify()
            raise
        if is_replacement:
            self.replaced.append(worker.thread.name)
            core.supervisor.notify()
        core.intake.refresh()

    def serve_here(self) -> None:
        """Be a worker in the calling thread until a closed pool's queue is empty."""
        worker = Worker(self._core, 0, f"{self._prefix}_0")
        worker.thread = threading.current_thread()
        with self._lock:
            self._places[:1] = [worker]
        worker.run()

    def remove(self, worker: Worker) -> bool:
        """Empty the place of a worker that has gone; return False if it had none (any more)."""
        with self._lock:
            self.quarantined.discard(worker)
            had_place = self._leave_place(worker)
            if had_place:
                self.join_at_end(worker.thread)
        self._core.dispatcher.forget_worker(worker.wake)
        return had_place

    def quarantine(self, worker: Worker) -> bool:
        """Give up a worker that is stuck, so that it is replaced.

        Returns False if there are too many of these: it keeps its place. Those of a closed pool,
        whose queue has to be run, are not limited.
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
        while len(self._places) > self.size and self._places[-1] is None:
            self._places.pop()
        if len(self.all()) <= self.size:
            self._keep_surplus()
        self._core.intake.refresh()
        return True

    def find(self, slot: Slot) -> Worker | None:
        """Return the worker of a slot, be it quarantined; None if it has gone, or was a guest's."""
        return next((each for each in self.all_alive() if slot in each.slot.all()), None)

    def slots(self) -> list[Slot]:
        """Return the slots of all workers, the quarantined included, and those nested in them."""
        return [slot for worker in self.all_alive() for slot in worker.slot.all()]

    def retire_all(self) -> None:
        """Have every worker leave, after the job in its slot."""
        with self._lock:
            self._surplus = []
            for worker in self.all():
                worker.leaving = True
        self._core.dispatcher.wake_all()
