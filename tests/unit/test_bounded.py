"""A queue with a bound, and what happens to a submitter that finds it full."""

import asyncio
import ctypes
import itertools
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextvars import copy_context
from types import FrameType
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool
from tests.hang import Hang, once, until
from tests.strikes import Striker

WAIT = 10.0


class Full:
    """A pool of one worker, which is busy, and a full queue."""

    def __init__(self, size: int = 2, **options: Any) -> None:
        self.hang = Hang()
        self.pool = Pool("full", 1, max_queue=size, **options)
        self.first = self.pool.submit(self.hang)
        self.hang.wait_until_it_hangs()
        self.queued = [self.pool.submit(abs, -each) for each in range(size)]

    def open(self) -> None:
        self.hang.gate.set()

    @property
    def line(self) -> int:
        return len(self.pool._core.backpressure.line)


@pytest.fixture
def full() -> Iterator[Callable[..., Full]]:
    made: list[Full] = []

    def make(*args: Any, **options: Any) -> Full:
        made.append(Full(*args, **options))
        return made[-1]

    yield make
    for each in made:
        each.open()
        each.pool.shutdown()


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    outcome: list[Any] = []

    def run() -> None:
        try:
            outcome.append(call())
        except BaseException as error:
            outcome.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    return thread, outcome


def test_a_submitter_waits_for_room_and_its_job_runs(full: Callable[..., Full]) -> None:
    pool = full()
    thread, outcome = in_thread(lambda: pool.pool.submit(abs, -9))
    until(lambda: pool.line == 1)
    assert len(pool.pool.queue()) == 2
    pool.open()
    thread.join(WAIT)
    assert outcome[0].result(WAIT) == 9


def test_blocked_submitters_are_served_in_order_of_arrival(full: Callable[..., Full]) -> None:
    """Else one of them may wait for ever while others are lucky."""
    pool = full()
    order: list[int] = []
    threads = []
    for number in range(8):
        threads.append(in_thread(lambda number=number: pool.pool.submit(order.append, number))[0])
        until(lambda number=number: pool.line == number + 1)
    pool.open()
    for thread in threads:
        thread.join(WAIT)
    pool.pool.shutdown()
    assert order == list(range(8))


def test_a_batch_goes_in_in_order_as_there_is_room(full: Callable[..., Full]) -> None:
    """Neither it nor a single job that comes meanwhile exceeds the bound, or waits for ever."""
    pool = full()
    order: list[int] = []
    most: list[int] = []

    def note(number: int) -> None:
        order.append(number)
        most.append(len(pool.pool.queue()))

    batch, _ = in_thread(lambda: pool.pool.submit_many(note, range(50)))
    until(lambda: pool.line == 1)
    single, _ = in_thread(lambda: pool.pool.submit(note, 99))
    until(lambda: pool.line == 2)
    pool.open()
    batch.join(WAIT)
    single.join(WAIT)
    pool.pool.shutdown()
    assert sorted(order) == [*range(50), 99]
    assert [number for number in order if number != 99] == [*range(50)]
    assert max(most) <= 2


@pytest.mark.parametrize("verb", ["submit_many", "perform_many"])
def test_an_iterable_is_read_as_there_is_room(full: Callable[..., Full], verb: str) -> None:
    """A file of a million lines must not be in memory at once."""
    pool = full()
    read: list[int] = []

    def lines() -> Iterator[int]:
        for number in range(1000):
            read.append(number)
            yield number

    thread, outcome = in_thread(lambda: getattr(pool.pool, verb)(abs, lines()))
    until(lambda: pool.line == 1)
    assert len(read) < 10
    pool.open()
    thread.join(WAIT)
    assert not isinstance(outcome[0], BaseException)
    pool.pool.shutdown()
    assert (len(read), pool.pool.stats().succeeded) == (1000, 1003)


@pytest.mark.parametrize("store", [None, "memory:"])
def test_what_is_performed_may_come_without_end(store: str | None) -> None:
    """Lines of a socket, or the messages of a queue: there are jobs as long as the pool is open."""
    pool = oddjob.Pool("endless", 1, max_queue=2, store=store)
    thread, outcome = in_thread(lambda: pool.perform_many(abs, itertools.count()))
    until(lambda: pool.stats().succeeded > 50)
    pool.shutdown()
    thread.join(WAIT)
    assert isinstance(outcome[0], oddjob.PoolClosed)


@pytest.mark.parametrize("verb", ["submit_many", "perform_many"])
def test_jobs_of_an_iterable_that_raises_half_way(full: Callable[..., Full], verb: str) -> None:
    """Those of `perform_many` run; those of `submit_many`, which returns none, are cancelled."""

    def lines() -> Iterator[int]:
        yield from range(20)
        until(lambda: pool.line == 0)
        raise KeyError("line 20")

    pool, done = full(), list[int]()
    thread, outcome = in_thread(lambda: getattr(pool.pool, verb)(done.append, lines()))
    until(lambda: pool.line == 1)
    pool.open()
    thread.join(WAIT)
    assert isinstance(outcome[0], KeyError)
    pool.pool.shutdown()
    stats = pool.pool.stats()
    assert done == [*range(len(done))]
    assert len(done) + stats.cancelled >= 18
    if verb == "perform_many":
        assert len(done) == 20


def test_there_is_a_limit_to_waiting(full: Callable[..., Full]) -> None:
    pool = full(submit_timeout=0.05)
    began = time.monotonic()
    with pytest.raises(
        oddjob.QueueFull, match=r"was full for 0.05 s: 2 of at most 2 jobs wait"
    ) as caught:
        pool.pool.submit(abs, 1)
    assert time.monotonic() - began >= 0.05
    assert isinstance(caught.value, queue.Full)
    with pytest.raises(oddjob.QueueFull):
        pool.pool.submit_many(abs, range(10))
    assert pool.pool.queue() == pool.queued
    pool.open()
    assert pool.pool.submit(abs, -3).result(WAIT) == 3


def test_raise_refuses_at_once_and_batches_whole(full: Callable[..., Full]) -> None:
    pool = full(3, when_full="raise")
    assert pool.queued[0].cancel()
    with pytest.raises(oddjob.QueueFull):
        pool.pool.submit_many(abs, [1, 2])
    with pytest.raises(oddjob.QueueFull):
        pool.pool.perform_many(abs, [1, 2])
    job = pool.pool.submit(abs, -5)
    assert pool.pool.queue() == [*pool.queued[1:], job]
    with pytest.raises(oddjob.QueueFull):
        pool.pool.perform(abs, 1)


def test_raise_counts_idle_workers_as_room() -> None:
    """A job must not be refused while a worker has nothing to do."""
    for _ in range(50):
        with Pool("fresh", 3, max_queue=2, when_full="raise") as pool:
            hang = Hang()
            jobs = [pool.submit(hang) for _ in range(5)]
            hang.wait_until_it_hangs(3)
            with pytest.raises(oddjob.QueueFull):
                pool.submit(hang)
            hang.gate.set()
            assert [job.result(WAIT) for job in jobs] == ["late"] * 5


def test_caller_runs_what_does_not_fit(full: Callable[..., Full]) -> None:
    pool = full(when_full="caller_runs")
    job = pool.pool.submit(threading.get_ident)
    assert (job.done(), job.result()) == (True, threading.get_ident())
    failed = pool.pool.submit(int, "no number")
    assert isinstance(failed.exception(0), ValueError)
    jobs = pool.pool.submit_many(lambda _: threading.get_ident(), range(3))
    assert {job.result(0) for job in jobs} == {threading.get_ident()}
    assert pool.pool.submit(oddjob.current_job).result(0).done()
    stats = pool.pool.stats()
    assert (stats.succeeded, stats.failed, stats.queued) == (5, 1, 2)


def test_caller_runs_keeps_to_limits(full: Callable[..., Full]) -> None:
    """The key is taken: the caller has to wait like any other submitter."""
    hang = Hang()
    with Pool("two", 2, max_queue=1, when_full="caller_runs") as pool:
        keyed = pool.options(key="k")
        keyed.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        pool.submit(abs, 1)
        thread, outcome = in_thread(lambda: keyed.submit(threading.get_ident))
        until(lambda: len(pool._core.backpressure.line) == 1)
        assert not outcome
        hang.gate.set()
        thread.join(WAIT)
        assert outcome[0].result(WAIT) != thread.ident


def test_drop_oldest_makes_room(full: Callable[..., Full]) -> None:
    pool = full(when_full="drop_oldest")
    told: list[Any] = []
    pool.queued[0].add_done_callback(told.append)
    job = pool.pool.submit(abs, -7)
    assert isinstance(pool.queued[0].exception(0), oddjob.JobDropped)
    assert told == [pool.queued[0]]
    batch = pool.pool.submit_many(abs, range(4))
    assert [each.done() for each in (job, *batch)] == [True, True, True, False, False]
    assert pool.pool.stats().dropped == 5
    urgent = pool.pool.options(priority=1).submit(abs, -1)
    assert isinstance(batch[2].exception(0), oddjob.JobDropped)
    assert pool.pool.queue() == [urgent, batch[3]]


def test_a_job_gets_queue_full_from_its_own_pool() -> None:
    """A worker that waited for room would be the one who has to make it."""
    with Pool("own", 1, max_queue=1) as pool:

        def submit_two() -> str:
            pool.submit(abs, 1)
            try:
                pool.submit(abs, 2)
            except oddjob.QueueFull as error:
                return str(error)
            return "accepted"

        assert "cannot wait for room" in pool.submit(submit_two).result(WAIT)


def test_a_shutdown_wakes_who_waits_for_room(full: Callable[..., Full]) -> None:
    pool = full()
    waiting = [in_thread(lambda: pool.pool.submit(abs, 1)) for _ in range(3)]
    waiting.append(in_thread(lambda: pool.pool.submit_many(abs, range(5))))
    until(lambda: pool.line == 4)
    pool.pool.shutdown(wait=False)
    for thread, outcome in waiting:
        thread.join(WAIT)
        assert isinstance(outcome[0], oddjob.PoolClosed)
    assert pool.pool.queue() == pool.queued


def test_cancelling_a_queued_job_makes_room(full: Callable[..., Full]) -> None:
    pool = full()
    thread, outcome = in_thread(lambda: pool.pool.submit(abs, -1))
    until(lambda: pool.line == 1)
    assert pool.queued[1].cancel()
    thread.join(WAIT)
    assert pool.pool.queue() == [pool.queued[0], outcome[0]]


def test_a_submitter_that_is_interrupted_leaves_nothing_behind(full: Callable[..., Full]) -> None:
    """Ctrl-C, while others stand behind it: they must not wait for its turn."""
    pool = full()
    first, outcome = in_thread(lambda: pool.pool.submit(abs, -1))
    until(lambda: pool.line == 1)
    second, served = in_thread(lambda: pool.pool.submit(abs, -2))
    until(lambda: pool.line == 2)
    assert first.ident is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(first.ident), ctypes.py_object(KeyboardInterrupt)
    )
    pool.queued[0].cancel()  # wakes the first in line; the interruption strikes at that moment
    pool.queued[1].cancel()
    first.join(WAIT)
    second.join(WAIT)
    assert isinstance(outcome[0], KeyboardInterrupt)
    pool.open()
    assert served[0].result(WAIT) == 2
    until(lambda: pool.pool.stats().queued == 0)


class Interruption(Striker):
    """Calls a handler at a certain moment in the code that has the locks, as a signal would."""

    WITHIN = "/backpressure.py", "/limited_queue.py"

    def __init__(self, number: int, handler: Callable[[], object]) -> None:
        super().__init__(number)
        self._handler = handler

    def trace(self, frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        is_within = frame.f_code.co_filename.endswith(self.WITHIN)
        return super().trace(frame, event, _) if is_within else None

    def _look(self, frame: FrameType) -> None:
        self._left -= 1
        if self._left < 0:
            self.where = f"{frame.f_code.co_qualname}, line {frame.f_lineno}"
            self._handler()


@pytest.mark.parametrize(
    ("when_full", "priority"), [("block", 0), ("block", 1), ("drop_oldest", 1)]
)
def test_a_signal_handler_may_submit_wherever_it_interrupts_a_submitter(
    full: Callable[..., Full], when_full: str, priority: int
) -> None:
    """Else it would wait for room that no worker makes while its own thread holds a lock."""

    def submit_interrupted(moment: int) -> str | None:
        patience = None if when_full == "drop_oldest" else WAIT / 2
        pool = full(1, when_full=when_full, submit_timeout=patience)
        view = pool.pool.options(priority=priority)
        jobs: list[Job[int]] = pool.queued
        if when_full == "block":
            once(lambda: pool.line, pool.open)
        interruption = Interruption(moment, lambda: jobs.append(view.submit(abs, -2)))
        former = sys.gettrace()
        sys.settrace(interruption.trace)
        try:
            jobs.append(view.submit(abs, -3))
        finally:
            sys.settrace(former)
        pool.open()
        pool.pool.shutdown()
        errors = [each.exception(WAIT) for each in jobs]
        assert {type(error) for error in errors if error} <= {oddjob.JobDropped}
        return interruption.where

    moments = 0
    while submit_interrupted(moments):
        moments += 1
    assert moments > 10


@pytest.mark.skipif(not hasattr(signal, "pthread_kill"), reason="no signals to threads")
def test_ctrl_c_reaches_a_submitter_that_waits(full: Callable[..., Full]) -> None:
    pool = full()
    main = threading.main_thread().ident
    assert main is not None

    def press() -> None:
        until(lambda: pool.line == 1)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=press, daemon=True)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        pool.pool.submit(abs, 1)
    thread.join(WAIT)
    assert (pool.line, pool.pool.queue()) == (0, pool.queued)


def test_a_coroutine_waits_for_room_without_holding_up_the_loop(full: Callable[..., Full]) -> None:
    pool = full()

    async def standing(number: int) -> None:
        while pool.line < number:  # noqa: ASYNC110  (nothing announces it)
            await asyncio.sleep(0)

    async def main() -> int:
        waiting = asyncio.create_task(pool.pool.asubmit(abs, -4))
        await standing(1)
        cancelled = asyncio.create_task(pool.pool.asubmit(abs, -5))
        await standing(2)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert pool.line == 1
        pool.open()
        job = await waiting
        return await job

    assert asyncio.run(main()) == 4


def test_asubmit_follows_the_policies(full: Callable[..., Full]) -> None:
    async def refused(pool: Full) -> None:
        with pytest.raises(oddjob.QueueFull):
            await pool.pool.asubmit(abs, 1)

    asyncio.run(refused(full(when_full="raise")))


def test_asubmit_that_drops_the_oldest_job_queues_its_own_once(
    full: Callable[..., Full],
) -> None:
    pool = full(when_full="drop_oldest")

    async def main() -> int:
        job = await asyncio.wait_for(pool.pool.asubmit(abs, -7), WAIT)
        assert pool.pool.queue() == [pool.queued[1], job]
        pool.open()
        return await job

    assert asyncio.run(main()) == 7


def test_asubmit_gives_up_in_time(full: Callable[..., Full]) -> None:
    pool = full(submit_timeout=0.02)

    async def refused() -> None:
        with pytest.raises(oddjob.QueueFull):
            await pool.pool.asubmit(abs, 1)

    asyncio.run(refused())
    assert pool.line == 0


def test_a_map_holds_no_more_than_it_may(full: Callable[..., Full]) -> None:
    most: list[int] = []
    with Pool("mapped", 2, max_queue=3) as pool:

        def look(number: int) -> int:
            most.append(len(pool.queue()))
            return number

        assert list(pool.map(look, range(200))) == list(range(200))
        assert list(pool.map(look, range(50), buffersize=5)) == list(range(50))
    assert max(most) <= 3


def test_the_bound_is_never_exceeded() -> None:
    """By any mixture of submitters."""
    with Pool("bounded", 3, max_queue=5) as pool:
        most: list[int] = []

        def look(_: object) -> None:
            most.append(len(pool.queue()))

        def submit() -> None:
            for number in range(60):
                if number % 3:
                    pool.submit(look, number)
                else:
                    pool.submit_many(look, range(7))

        threads = [in_thread(submit) for _ in range(4)]
        for thread, outcome in threads:
            thread.join(30)
            assert outcome == [None]
    assert max(most) <= 5
    assert len(most) == 4 * (40 + 20 * 7)


def test_the_least_urgent_is_dropped_also_when_it_stands_behind_another_of_its_key() -> None:
    with Pool(pool_size=1, max_queue=4, when_full="drop_oldest") as pool:
        hang = Hang()
        pool.submit(hang)
        hang.wait_until_it_hangs()
        keyed = pool.options(key="k", priority=5)
        before = [keyed.submit(abs, 1), keyed.submit(abs, 1)]
        least = keyed.options(priority=-9).submit(abs, 1)
        other = pool.options(priority=1).submit(abs, 1)
        pool.submit(abs, 1)
        with pytest.raises(oddjob.JobDropped):
            least.result(WAIT)
        hang.gate.set()
        assert [job.result(WAIT) for job in (*before, other)] == [1, 1, 1]


@pytest.mark.parametrize("max_queue", [None, 5])
def test_a_job_is_not_lost_that_is_queued_while_its_pool_learns_of_priorities(
    max_queue: int | None,
) -> None:
    """Forced: another thread asks for a priority right before the job goes into the queue."""

    class Jobs(deque[Job[Any]]):
        def append(self, job: Job[Any]) -> None:
            pool.options(priority=1)
            super().append(job)

        def extend(self, jobs: Iterable[Job[Any]]) -> None:
            pool.options(priority=1)
            super().extend(jobs)

    for submit in (
        lambda pool: pool.submit(abs, -1),
        lambda pool: pool.submit_many(abs, [-1])[0],
    ):
        with Pool(1, max_queue=max_queue) as pool:
            pool.submit(abs, 1).result(WAIT)
            core = pool._core
            core.dispatcher.fifo = Jobs()
            core.intake.refresh()
            until(lambda core=core: len(core.dispatcher.parked) == 1)
            core.dispatcher.wake_all()  # the worker is to look at this queue from now on
            until(lambda core=core: len(core.dispatcher.parked) == 1)
            assert submit(pool).result(WAIT) == 1


def test_a_job_is_not_refused_while_an_idle_worker_is_about_to_take_one() -> None:
    """Neither where the submitter must not wait, nor where it is a job of the pool itself."""
    for _ in range(20):
        with Pool("fresh", 3, max_queue=2, submit_timeout=0) as pool:
            hang = Hang()
            jobs = [pool.submit(hang) for _ in range(5)]
            hang.wait_until_it_hangs(3)
            with pytest.raises(oddjob.QueueFull, match=r"was full for 0 s"):
                pool.submit(hang)
            hang.gate.set()
            assert [job.result(WAIT) for job in jobs] == ["late"] * 5
        with Pool("own", 4, max_queue=2) as pool:
            hang = Hang()
            jobs = pool.submit(lambda p, h: [p.submit(h) for _ in range(5)], pool, hang).result(
                WAIT
            )
            hang.gate.set()
            assert [job.result(WAIT) for job in jobs] == ["late"] * 5


def test_jobs_of_timers_are_refused_in_time_whatever_refusing_others_has_raised(
    full: Callable[..., Full],
) -> None:
    pool = full(submit_timeout=0.05)
    core = pool.pool._core
    refused: list[Exception] = []

    def new_job() -> Job[Any]:
        return Job(abs, (-1,), None, copy_context(), pool.pool._policy, 0.0)

    def fail(error: Exception) -> None:
        refused.append(error)
        raise error

    core.intake.accept_fired([new_job()], fail)
    core.intake.accept_fired([new_job()], refused.append)
    until(lambda: len(refused) == 2)
    later = new_job()
    core.intake.accept_fired([later], refused.append)
    pool.open()
    assert later.result(WAIT) == 1


def test_a_submitter_may_come_into_line_while_the_supervisor_looks_through_it(
    full: Callable[..., Full],
) -> None:
    """Forced: one does, between two of those that stand there already."""
    bound = full().pool._core.backpressure

    class Waiter:
        """A timer that waits for room."""

        deadline = 1e300

        @property
        def refuse(self) -> Callable[[Exception], object]:
            bound.line.append(waiter)
            return print

    waiter: Any = Waiter()
    bound.line.append(waiter)
    assert bound.refuse_overdue() == waiter.deadline
    bound.line.clear()


def test_a_submitter_is_woken_whose_job_was_moved_by_a_worker_that_was_interrupted(
    full: Callable[..., Full],
) -> None:
    """Forced: the exception strikes the worker before it wakes the submitter."""
    pool = full(1)
    bound = pool.pool._core.backpressure
    thread, outcome = in_thread(lambda: pool.pool.submit(abs, -9))
    until(lambda: pool.line == 1)
    bound._move_into_queue(bound.line[0].jobs, 1)
    pool.open()
    thread.join(WAIT)
    assert outcome[0].result(WAIT) == 9


def test_one_job_starts_one_worker() -> None:
    """However long that takes to start: threads are started on demand."""
    gate = threading.Event()
    with Pool(3, max_queue=5, initializer=gate.wait) as pool:
        job = pool.submit(abs, -1)
        assert len(pool.workers()) == 1
        gate.set()
        assert job.result(WAIT) == 1


def test_jobs_of_a_timer_that_are_refused_take_up_no_room() -> None:
    hang = Hang()
    with Pool(1, max_queue=2, submit_timeout=0.05) as pool:
        pool.submit(hang)
        hang.wait_until_it_hangs()
        jobs = pool.after(0).submit_many(abs, range(3))
        assert [type(job.exception(WAIT)) for job in jobs] == [oddjob.QueueFull] * 3
        until(lambda: len(pool._core.dispatcher) == 0)
        pool.submit_many(abs, range(2))
        hang.gate.set()
