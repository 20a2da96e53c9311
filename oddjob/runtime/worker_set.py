"""WorkerSet: the workers of a pool, each in a place of its own; PoolState: whether it takes jobs.

Guarantees: there are never more workers than places, whatever fails or interrupts. A place whose
worker has gone stays empty until the supervisor fills it, or the next job does.
Locking: that of `PoolState`. `Thread.start` is called under it.
"""

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from oddjob.errors import PoolBroken, PoolClosed
from oddjob.runtime.slot import Slot
from oddjob.runtime.worker import Worker

if TYPE_CHECKING:
    from oddjob.runtime.core import PoolCore

AFTER_SHUTDOWN: Final = "cannot schedule new futures after shutdown"
AFTER_EXIT: Final = "cannot schedule new futures after interpreter shutdown"


def is_interpreters_end(error: BaseException) -> bool:
    """Return whether no thread could be started since the interpreter shuts down (3.12 on)."""
    return isinstance(error, RuntimeError) and "interpreter shutdown" in str(error)


class PoolState:
    """Whether a pool takes jobs: it is open, closed or broken.

    Locking: ``lock`` guards the fields, and those of `WorkerSet` and `Watchdog`. It is reentrant,
    since a signal handler or destructor may submit while its thread holds it. Nothing of the
    user's is called under it and nothing is logged. The fields may be read without it; workers and
    submitters do so, and look again after they have parked, or queued.
    """

    __slots__ = ("broken_by", "closed_because", "label", "lock")

    def __init__(self, label: str) -> None:
        self.label: Final = label
        self.lock: Final = threading.RLock()
        self.closed_because: str | None = None
        self.broken_by: BaseException | None = None

    @property
    def is_open(self) -> bool:
        """Whether the pool takes jobs."""
        return self.closed_because is None and self.broken_by is None

    def refusal(self) -> Exception | None:
        """Return why the pool takes no jobs, as an exception to raise; None if it does."""
        if self.closed_because is not None:
            closed = PoolClosed(self.closed_because)
            closed.add_note(f"pool: {self.label}")
            return closed
        return None if self.broken_by is None else self.breakdown()

    def check_open(self) -> None:
        """Raise why the pool takes no jobs, if it takes none."""
        refusal = self.refusal()
        if refusal is not None:
            raise refusal

    def breakdown(self) -> PoolBroken:
        """Return what broke the pool, as an exception to raise or to settle a job with."""
        broken = PoolBroken(f"pool {self.label} is broken: its workers kept crashing")
        broken.__cause__ = self.broken_by
        return broken


class WorkerSet:
    """The workers of one pool."""

    def __init__(self, core: "PoolCore") -> None:
        self._core: Final = core
        self._state: Final = core.state
        self.size = core.options.pool_size
        self._prefix: Final = core.options.thread_name_prefix or core.label
        most = core.options.max_abandoned
        self._max_quarantined: Final = core.options.pool_size if most is None else most
        self._workers: Final[dict[int, Worker]] = {}  # by the numbers of their places
        self._places = 0  # that were filled, or that queued jobs count on
        self.quarantined: Final[set[Worker]] = set()  # stuck in a job whose time is up
        self._ending: list[threading.Thread] = []  # of workers that have just left
        self.replaced: Final[deque[str]] = deque()  # names, until the supervisor has reported them
        self._to_start = 0  # above 1 if a signal handler asks for one while one is started

    def all(self) -> list[Worker]:
        """Return the workers, in the order of their places."""
        return sorted(self._workers.values(), key=lambda worker: worker.index)

    def is_complete(self) -> bool:
        """Return whether there are as many workers as there may be."""
        return self.room() == 0

    def room(self) -> int:
        """Return how many more workers there may be."""
        return self.size - len(self._workers)

    def missing(self) -> int:
        """Return how many workers have gone that should be replaced."""
        state = self._state
        with state.lock:
            is_over = state.closed_because is not None and not len(self._core.dispatcher)
            is_needed = state.broken_by is None and not is_over
            return self._places - len(self._workers) if is_needed else 0

    def has_free(self) -> bool:
        """Return whether a worker will take a queued job at once, or can be started for it."""
        return self.room() > 0 or any(worker.is_free for worker in self.all())

    def threads(self) -> list[threading.Thread]:
        """Return all threads that may still be alive."""
        with self._state.lock:
            return [worker.thread for worker in self.all()] + self._ending

    def await_at_end(self, thread: threading.Thread) -> None:
        """Have the end of the pool wait for a thread, too."""
        with self._state.lock:
            self._ending = [each for each in self._ending if each.is_alive()]
            self._ending.append(thread)

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
            Exception: no thread could be started; nothing has changed.
        """
        with self._state.lock:
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
        core = self._core
        # No generator: Ctrl-C would be swallowed that strikes while one is closed.
        free = [index for index in range(self.size) if index not in self._workers]
        if not free:
            return
        index = free[0]
        is_replacement = index < self._places
        worker = self._workers[index] = Worker(core, index, f"{self._prefix}_{index}")
        try:
            worker.thread.start()
        except BaseException:
            # Where Ctrl-C has struck, the thread may come all the same: it leaves at once then.
            worker.leaving = True
            core.metrics.close(worker.slot.metrics)
            del self._workers[index]
            if len(core.dispatcher):  # the supervisor is to fill this place
                self._places = max(self._places, index + 1)
            core.supervisor.notify()
            raise
        self._places = max(self._places, index + 1)
        if is_replacement:
            self.replaced.append(worker.thread.name)
            core.supervisor.notify()
        core.refresh()

    def serve_here(self) -> None:
        """Be a worker in the calling thread until a closed pool's queue is empty."""
        with self._state.lock:
            worker = Worker(self._core, 0, f"{self._prefix}_0")
            worker.thread = threading.current_thread()
            self._workers[0] = worker
        worker.run()

    def remove(self, worker: Worker) -> bool:
        """Empty the place of a worker that has gone; return False if it had none (any more)."""
        with self._state.lock:
            self.quarantined.discard(worker)
            if not self._has(worker):
                return False
            del self._workers[worker.index]
            self.await_at_end(worker.thread)
            self._core.refresh()
        self._core.dispatcher.forget_worker(worker.wake)
        return True

    def quarantine(self, worker: Worker) -> bool:
        """Give up a worker that is stuck, so that it is replaced.

        Returns False if there are too many of these: it keeps its place. Those of a closed pool,
        whose queue has to be run, are not limited.
        """
        with self._state.lock:
            if not self._has(worker):
                return True
            is_limited = self._state.closed_because is None
            if is_limited and len(self.quarantined) >= self._max_quarantined:
                return False
            worker.leaving = True
            worker.thread.name += "-abandoned"
            self.quarantined.add(worker)
            del self._workers[worker.index]
            self._core.refresh()
            return True

    def find(self, slot: Slot) -> Worker | None:
        """Return the worker of a slot, be it quarantined; None if it has gone, or was a guest's."""
        return next((each for each in self._all_alive() if slot in each.slot.all()), None)

    def slots(self) -> list[Slot]:
        """Return the slots of all workers, the quarantined included, and those nested in them."""
        return [slot for worker in self._all_alive() for slot in worker.slot.all()]

    def retire_all(self) -> None:
        """Have every worker leave, after the job in its slot."""
        for worker in self.all():
            worker.leaving = True
        self._core.dispatcher.wake_all()

    def _all_alive(self) -> list[Worker]:
        with self._state.lock:
            return [*self.all(), *self.quarantined]

    def _has(self, worker: Worker) -> bool:
        return self._workers.get(worker.index) is worker
