"""Pool: what it accepts, what it refuses, and what it promises."""

import gc
import inspect
import itertools
import logging
import re
import sys
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import Any

import pytest

import oddjob
from oddjob import Job, Pool, PoolClosed
from oddjob.options import PoolOptions

WAIT = 10.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def occupy(pool: Pool, gate: threading.Event) -> None:
    """Occupy every worker of the pool until the gate opens."""
    arrived = threading.Barrier(pool.pool_size + 1)
    for _ in range(pool.pool_size):
        pool.submit(lambda: (arrived.wait(WAIT), gate.wait(WAIT)))
    arrived.wait(WAIT)


def is_collected(there: "weakref.ref[Any]") -> bool:
    """Return whether something is freed without the help of the collector.

    On free-threaded builds an object that another thread has dropped is freed by the thread that
    made it, and that one may be asleep; there the collector has to help.
    """
    if not getattr(sys, "_is_gil_enabled", lambda: True)():
        gc.collect()
    for _ in range(1000):
        if there() is None:
            return True
        threading.Event().wait(0.01)
    return False


def fail(error: BaseException) -> None:
    raise error


def test_a_pool_is_an_executor() -> None:
    assert issubclass(Pool, Executor)
    assert issubclass(Pool, ThreadPoolExecutor), "asyncio's set_default_executor demands it"


def test_a_pool_has_five_workers_by_default() -> None:
    assert Pool().pool_size == 5
    assert Pool()._max_workers == 5


@pytest.mark.parametrize(
    "pool",
    [
        lambda: Pool(None, 3),
        lambda: Pool(pool_size=3),
        lambda: Pool(max_workers=3),
        lambda: Pool(3),
    ],
)
def test_the_size_can_be_given_in_either_librarys_way(pool: object) -> None:
    assert pool().pool_size == 3  # type: ignore[operator]  # a parameter
    assert pool().name is None  # type: ignore[operator]  # a parameter


def test_a_size_given_twice_is_refused() -> None:
    with pytest.raises(TypeError, match="pool_size and max_workers are one and the same"):
        Pool("twice", 3, max_workers=3)
    with pytest.raises(TypeError, match="pool_size and max_workers are one and the same"):
        Pool(3, max_workers=3)
    assert oddjob.pools() == {}


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"pool_size": 0}, ValueError, "pool_size must be greater than 0, not 0"),
        ({"pool_size": "3"}, TypeError, "pool_size must be a whole number, not '3'"),
        ({"pool_size": 2.5}, TypeError, "pool_size must be a whole number, not 2.5"),
        ({"pool_size": True}, TypeError, "pool_size must be a whole number, not True"),
        ({"max_restarts": -1}, ValueError, "max_restarts must be 0 or more, not -1"),
        ({"max_seconds": 0}, ValueError, "max_seconds must be greater than 0 and finite, not 0"),
        ({"on_error": 3}, TypeError, "on_error must be a callable, not 3"),
        ({"name": ""}, ValueError, "name must not be empty"),
        ({"name": b"x"}, TypeError, "name must be a string, not b'x'"),
        ({"initargs": 3}, TypeError, "initargs must be a tuple or a list, not 3"),
    ],
)
def test_what_cannot_be_is_refused_in_words(
    arguments: dict[str, object], error: type[Exception], words: str
) -> None:
    with pytest.raises(error) as caught:
        Pool(**arguments)  # type: ignore[arg-type]  # that is the point
    assert str(caught.value) == words


def test_no_thread_starts_before_the_first_job() -> None:
    """Pools are made at import, before the process forks."""
    before = threading.active_count()
    pools = [Pool(5) for _ in range(10)]
    assert threading.active_count() == before
    assert pools[0].workers() == []


def test_threads_are_named_after_the_pool() -> None:
    with Pool("post", 2) as pool:
        name = pool.submit(lambda: threading.current_thread().name)
        assert name.result(WAIT) in ("post_0", "post_1")
    with Pool("other", 1, thread_name_prefix="clerk") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result(WAIT) == "clerk_0"


def test_no_other_job_comes_between_the_jobs_of_a_batch(gate: threading.Event) -> None:
    order: list[tuple[str, int]] = []
    with Pool(1) as pool:
        occupy(pool, gate)

        def slowly() -> Iterator[tuple[str, int]]:
            for index in range(5):
                pool.perform(order.append, ("single", index))
                yield "batch", index

        jobs = pool.submit_many(order.append, slowly())
        pool.perform(order.append, ("single", 5))
        gate.set()
        for job in jobs:
            job.result(WAIT)
    batch = [("batch", index) for index in range(5)]
    singles = [("single", index) for index in range(6)]
    assert order == [*singles[:5], *batch, singles[5]]


def test_a_batch_may_have_a_hundred_thousand_jobs() -> None:
    ran: list[int] = []
    with Pool(1) as pool:
        jobs = pool.submit_many(ran.append, range(100_000))
        assert len(jobs) == 100_000
        pool.perform_many(ran.append, range(100_000, 200_000))
    assert ran == list(range(200_000))


def test_a_batch_whose_source_fails_leaves_nothing_behind(gate: threading.Event) -> None:
    ran: list[int] = []

    def source() -> Iterator[int]:
        yield 1
        raise LookupError("dry")

    with Pool(1) as pool:
        for queue in (pool.submit_many, pool.perform_many):
            with pytest.raises(LookupError, match="dry"):
                queue(ran.append, source())
        assert pool.submit_many(ran.append, []) == []
        pool.perform_many(ran.append, [])
    assert ran == []


def test_a_refused_job_leaves_nothing_behind() -> None:
    ran: list[int] = []
    pool = Pool("shut", 1)
    pool.submit(pow, 2, 3).result(WAIT)
    pool.shutdown()
    calls = [
        lambda: pool.submit(ran.append, 1),
        lambda: pool.perform(ran.append, 1),
        lambda: pool.submit_many(ran.append, [1]),
        lambda: pool.submit_many(ran.append, []),
        lambda: pool.perform_many(ran.append, [1]),
        lambda: pool.map(ran.append, [1]),
        lambda: pool.map(ran.append, [1], chunksize=3),
    ]
    for call in calls:
        with pytest.raises(
            PoolClosed, match="cannot schedule new futures after shutdown"
        ) as caught:
            call()
        assert caught.value.__notes__ == ["pool: shut"]
    assert (ran, pool.queue()) == ([], [])


def test_perform_logs_nothing_when_all_is_well(caplog: pytest.LogCaptureFixture) -> None:
    ran: list[int] = []
    with Pool(1) as pool:
        assert pool.perform(ran.append, 1) is None
        assert pool.perform_many(ran.append, [2, 3]) is None
    assert (ran, caplog.records) == ([1, 2, 3], [])


def test_a_failure_of_perform_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Pool("post", 1) as pool:
        pool.perform(fail, LookupError("no such street"))
        pool.options(name="parcel").perform_many(fail, [ValueError("too heavy")])
    messages = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert messages == [
        ("oddjob", logging.ERROR, "job fail of pool post failed"),
        ("oddjob", logging.ERROR, "job parcel of pool post failed"),
    ]
    assert "LookupError: no such street" in caplog.text
    assert "in fail" in caplog.text


def test_on_error_is_called_and_may_fail_itself(caplog: pytest.LogCaptureFixture) -> None:
    told: list[tuple[str, BaseException]] = []

    def on_error(job: Job[object], error: BaseException) -> None:
        told.append((job.name, error))
        raise RuntimeError("cannot even complain")

    error = ValueError("no")
    with Pool(1, on_error=on_error) as pool:
        pool.perform(fail, error)
        pool.submit(fail, ValueError("read by its caller")).exception(WAIT)
    assert told == [("fail", error)]
    assert "cannot even complain" in caplog.text


def test_nothing_is_kept_of_a_performed_job() -> None:
    class Parcel:
        pass

    parcel = Parcel()
    there = weakref.ref(parcel)
    with Pool(1) as pool:
        pool.perform(lambda parcel: Parcel(), parcel)
        del parcel
        assert is_collected(there)


def test_map_is_ahead_of_its_reader_by_no_more_than_its_buffer(gate: threading.Event) -> None:
    """An endless source does not fill the memory."""
    with Pool(2) as pool:
        source = itertools.count()
        results = pool.map(lambda number: number * 2, source, buffersize=4)
        assert next(source) == 4
        assert [next(results) for _ in range(20)] == [number * 2 for number in (0, 1, 2, 3)] + [
            number * 2 for number in range(5, 21)
        ]
        assert next(source) in (24, 25)
        results.close()  # type: ignore[attr-defined]  # a generator


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"buffersize": 0}, ValueError, "buffersize must be greater than 0"),
        ({"buffersize": -1}, ValueError, "buffersize must be greater than 0"),
        ({"buffersize": "3"}, TypeError, "buffersize must be a whole number"),
        ({"buffersize": 1.5}, TypeError, "buffersize must be a whole number"),
        ({"chunksize": "3"}, TypeError, "chunksize must be a whole number"),
        ({"chunksize": 1.5}, TypeError, "chunksize must be a whole number"),
    ],
)
def test_map_refuses_a_size_that_makes_no_sense(
    options: Any, error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        Pool(1).map(abs, [1], **options)


@pytest.mark.parametrize("end", [lambda results: results.close(), lambda results: None])
def test_map_cancels_the_rest_when_its_iterator_is_closed_or_dropped(
    gate: threading.Event, end: Callable[[Any], None]
) -> None:
    ran: list[int] = []

    def run(number: int) -> None:
        if number == 1:
            gate.wait(WAIT)
        ran.append(number)

    with Pool(1) as pool:
        results = pool.map(run, range(5))
        next(results)
        end(results)
        del results
        gate.set()
    assert ran in ([0], [0, 1])


def test_map_runs_everything_although_no_result_is_read() -> None:
    """People use it as a loop."""
    ran: list[int] = []
    with Pool(1) as pool:
        pool.map(ran.append, range(5))
    assert ran == list(range(5))


def test_map_keeps_neither_its_pool_nor_a_result_that_was_read_alive() -> None:
    class Result:
        pass

    pool = Pool(1)
    thread = pool.submit(threading.current_thread).result(WAIT)
    results = pool.map(lambda _: Result(), range(3))
    result = next(results)
    there = weakref.ref(result)
    del result
    assert is_collected(there)
    del pool
    thread.join(WAIT)
    assert not thread.is_alive()
    assert len(list(results)) == 2


def test_map_calls_the_submit_of_a_subclass_or_a_patched_one() -> None:
    """Progress bars and tracers put one there."""
    calls: list[tuple[object, ...]] = []

    class Counting(Pool):
        def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Any:
            calls.append(args)
            return super().submit(fn, *args, **kwargs)

    with Counting(2) as pool:
        assert list(pool.map(abs, [-1, -2], chunksize=5)) == [1, 2]
    with Pool(2) as patched:
        submit = patched.submit
        patched.submit = lambda fn, *args: (calls.append(args), submit(fn, *args))[1]  # type: ignore[method-assign, assignment]  # as they do
        assert list(patched.map(abs, [-3])) == [3]
    assert calls == [(-1,), (-2,), (-3,)]


def test_a_closed_pool_is_freed() -> None:
    """The object in the user's hands at once, what ran its jobs by the collector."""
    gc.disable()
    try:
        pool = Pool(1)
        pool.submit(pow, 2, 3).result(WAIT)
        there, core = weakref.ref(pool), weakref.ref(pool._core)
        pool.shutdown()
        del pool
        assert there() is None
        gc.collect()
        assert core() is None
    finally:
        gc.enable()


def test_the_arguments_of_the_standard_librarys_executor_are_understood() -> None:
    class Number:
        def __index__(self) -> int:
            return 4

    four: Any = Number()  # as NumPy's are
    assert Pool(max_workers=four).pool_size == 4
    with Pool(1) as pool:
        assert [*pool.map(abs, [-1], buffersize=four)] == [1]
    with Pool(None, "prefix") as pool:
        assert pool.submit(lambda: threading.current_thread().name).result(WAIT) == "prefix_0"
        assert pool.pool_size == 5
    local = threading.local()
    with Pool(1, "p", lambda value: setattr(local, "value", value), ["listed"]) as pool:
        assert pool.submit(lambda: local.value).result(WAIT) == "listed"
    with pytest.raises(TypeError, match="given twice"):
        Pool(5, 3)


def test_map_whose_source_fails_cancels_the_jobs_it_had_queued(gate: threading.Event) -> None:
    ran: list[int] = []

    def source() -> Iterator[int]:
        yield 1
        raise LookupError("dry")

    with Pool(1) as pool:
        occupy(pool, gate)
        for chunksize in (1, 5):
            with pytest.raises(LookupError, match="dry"):
                pool.map(ran.append, source(), chunksize=chunksize)
        gate.set()
    assert ran == []


def test_a_view_names_its_jobs_and_is_the_pool_otherwise() -> None:
    with Pool("post", 1) as pool:
        view = pool.options(name="parcel")
        assert view.submit(pow, 2, 3).name == "parcel"
        assert view.options().submit(pow, 2, 3).name == "parcel"
        assert view.submit(pow, 2, 3).pool is pool
        assert [job.name for job in view.submit_many(abs, [1, 2])] == ["parcel"] * 2
        assert list(view.map(abs, [-1, -2])) == [1, 2]
        assert pool.submit(pow, 2, 3).name == "pow"
        with pytest.raises(TypeError, match="argument 'priorty'; did you mean 'priority'"):
            pool.options(priorty=1)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="unexpected keyword argument 'importance'"):
            pool.options(importance=3)  # type: ignore[call-arg]  # that is the point
        with pytest.raises(TypeError, match="name must be a string, not 3"):
            pool.options(name=3)  # type: ignore[arg-type]  # that is the point
        view.shutdown()
    with pytest.raises(PoolClosed):
        pool.submit(pow, 2, 3)


def test_snapshots_show_which_worker_runs_which_job(gate: threading.Event) -> None:
    with Pool("post", 2) as pool:
        occupy(pool, gate)
        waiting = pool.submit_many(abs, [1, 2, 3])
        waiting[1].cancel()
        assert pool.queue() == [waiting[0], waiting[2]]
        assert repr(pool) == "<Pool 'post', running, pool_size=2, 3 queued>"
        infos = pool.workers()
        assert [info.name for info in infos] == ["post_0", "post_1"]
        assert [info.state for info in infos] == ["running", "running"]
        assert {info.job.state for info in infos if info.job is not None} == {"running"}
        assert pool._work_queue.qsize() == 3
        gate.set()
    assert pool.workers() == []
    assert repr(pool) == "<Pool 'post', closed, pool_size=2, 0 queued>"


def test_shutdown_can_be_repeated_and_made_stricter(gate: threading.Event) -> None:
    pool = Pool(1)
    occupy(pool, gate)
    queued = pool.submit(pow, 2, 3)
    pool.shutdown(wait=False)
    assert not queued.cancelled()
    pool.shutdown(wait=False, cancel_futures=True)
    assert queued.cancelled()
    gate.set()
    pool.shutdown()
    pool.shutdown()
    assert pool.join(0)


def test_an_unused_pool_shuts_down_at_once() -> None:
    pool = Pool(3)
    pool.shutdown()
    assert pool.join(0)
    with pytest.raises(PoolClosed):
        pool.submit(pow, 2, 3)


def test_a_job_may_shut_its_pool_down(gate: threading.Event) -> None:
    pool = Pool(2)
    done = pool.submit(pool.shutdown)
    done.result(WAIT)
    assert pool.join(WAIT)


def test_a_submit_during_which_the_pool_closes_queues_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forced: the pool closes after the look at the pool, before the job is queued."""
    pool = Pool(1)
    pool.submit(pow, 2, 3).result(WAIT)
    core = pool._core
    assert core.intake._open_queue is core.dispatcher.fifo

    class Jobs(deque[Job[object]]):
        def append(self, job: Job[object]) -> None:
            pool.shutdown(wait=True)
            super().append(job)

    jobs = Jobs()
    monkeypatch.setattr(core.dispatcher, "fifo", jobs)
    monkeypatch.setattr(core.intake, "_open_queue", jobs)
    ran: list[int] = []
    with pytest.raises(PoolClosed):
        pool.submit(ran.append, 1)
    assert (ran, list(jobs)) == ([], [])


def test_a_submit_interrupted_right_after_queueing_leaves_nothing_behind(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forced: Ctrl-C strikes between the insertion and the wake-up of a worker."""
    ran: list[int] = []
    with Pool(1) as pool:
        pool.submit(pow, 2, 3).result(WAIT)
        core = pool._core

        class Jobs(deque[Job[object]]):
            def append(self, job: Job[object]) -> None:
                super().append(job)
                monkeypatch.undo()
                raise KeyboardInterrupt

            def extend(self, jobs: Iterable[Job[object]]) -> None:
                super().extend(jobs)
                monkeypatch.undo()
                raise KeyboardInterrupt

        calls = [
            lambda: pool.submit(ran.append, 1),
            lambda: pool.perform_many(ran.append, [2, 3]),
        ]
        for call in calls:
            interrupted = Jobs()
            monkeypatch.setattr(core.dispatcher, "fifo", interrupted)
            monkeypatch.setattr(core.intake, "_open_queue", interrupted)
            with pytest.raises(KeyboardInterrupt):
                call()
            core.dispatcher.fifo.extend(interrupted)
        pool.submit(ran.append, 4).result(WAIT)
    assert ran == [4]


def test_a_submit_that_meets_the_last_idle_worker_being_taken_starts_another(
    monkeypatch: pytest.MonkeyPatch, gate: threading.Event
) -> None:
    """Forced: another submitter takes it between the look at the idle workers and the wake-up."""
    with Pool(2) as pool:
        core = pool._core
        pool.submit(pow, 2, 3).result(WAIT)
        while not core.dispatcher.parked:
            threading.Event().wait(0.001)
        stolen: list[bool] = []

        class Jobs(deque[Job[object]]):
            def steal(self) -> None:
                if not stolen:
                    stolen.append(True)
                    pool.submit(gate.wait, WAIT)
                    while core.dispatcher.parked:
                        threading.Event().wait(0.001)

            def append(self, job: Job[object]) -> None:
                self.steal()
                super().append(job)

            def extend(self, jobs: Iterable[Job[object]]) -> None:
                self.steal()
                super().extend(jobs)

        monkeypatch.setattr(core.dispatcher, "fifo", Jobs())
        core.intake.refresh()
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        gate.set()


def test_a_key_of_a_view_is_kept_and_replaced_by_views_of_it() -> None:
    with Pool(1) as pool:
        keyed = pool.options(key="a")
        assert keyed.submit(abs, -1).key == "a"
        assert keyed.options(priority=3).submit(abs, -1).key == "a"
        assert keyed.options(priority=3).submit(abs, -1).priority == 3
        assert keyed.options(key="b").submit(abs, -1).key == "b"
        assert keyed.options(key="b", priority=3).submit(abs, -1).key == "b"
        assert keyed.options(key=str).submit(abs, -1).key == "-1"
        by_argument = pool.options(key=str, priority=2)
        assert by_argument.submit(abs, -1).key == "-1"
        assert by_argument.options(key=(1, 2)).submit(abs, -1).key == (1, 2)
        assert [job.key for job in by_argument.submit_many(abs, [1, 2])] == ["1", "2"]
        assert [job.key for job in keyed.submit_many(abs, [1, 2])] == ["a", "a"]
        assert "key='b', priority=3" in repr(pool.options(key="b", priority=3))
        with pytest.raises(TypeError, match="a key must be an identifier"):
            pool.options(key=[1])


def test_perform_with_a_key_for_each_job_keeps_to_the_keys(gate: threading.Event) -> None:
    ran: list[str] = []
    with Pool(3) as pool:
        pool.options(key="a").perform(lambda: (gate.wait(WAIT), ran.append("first")))
        pool.options(key="a").perform(ran.append, "second")
        pool.options(key="b").submit(ran.append, "other").result(WAIT)
        gate.set()
    assert ran == ["other", "first", "second"]


def test_middleware_of_a_view_is_added_to_that_of_its_pool() -> None:
    seen: list[str] = []

    class Note:
        def __init__(self, name: str) -> None:
            self.name = name

        def run(self, job: Job[Any], carrier: dict[str, str], call: Callable[[], Any]) -> Any:
            seen.append(self.name)
            return call()

    with Pool(1, middleware=[Note("pool")]) as pool:
        view = pool.options(middleware=[Note("view")])
        assert view.options(middleware=(Note("inner"),)).submit(abs, -1).result(WAIT) == 1
        assert seen == ["pool", "view", "inner"]
        assert view.submit(abs, -1).result(WAIT) == 1
        assert seen[3:] == ["pool", "view"]
        assert pool.submit(abs, -1).result(WAIT) == 1
        assert seen[5:] == ["pool"]


def test_a_long_iterable_is_read_as_there_is_room_in_a_bounded_queue(
    gate: threading.Event,
) -> None:
    """A file with a million lines is not read into memory before the first job runs."""
    read: list[int] = []

    def numbers() -> Iterator[int]:
        for number in range(1_000):
            read.append(number)
            yield number

    with Pool(1, max_queue=10) as pool:
        occupy(pool, gate)
        thread = threading.Thread(target=pool.perform_many, args=(abs, numbers()))
        thread.start()
        while pool.stats().queued < 10:
            threading.Event().wait(0.001)
        assert len(read) <= 21
        gate.set()
        thread.join(WAIT)
        assert len(read) == 1_000
        assert [job.result(WAIT) for job in pool.submit_many(abs, range(50))] == list(range(50))
        assert list(pool.map(abs, range(50), chunksize=7)) == list(range(50))


def test_joining_an_open_pool_is_an_error() -> None:
    """Its threads would not end."""
    pool = Pool(1)
    pool.submit(pow, 2, 3).result(WAIT)
    with pytest.raises(RuntimeError, match=r"join\(\) needs shutdown\(\) or drain\(\) first"):
        pool.join()
    pool.shutdown()
    assert pool.join()


def test_help_explains_every_option_with_its_default() -> None:
    """The reference is the docstrings."""
    documented = inspect.getdoc(Pool) or ""
    for name, default in {"name": None, **PoolOptions._field_defaults, "max_workers": None}.items():
        entry = re.search(rf"^    {name}: (.*\n(     .*\n)*)", documented, re.MULTILINE)
        assert entry is not None, name
        if isinstance(default, int | float):
            assert f"({default})" in entry[1]
        elif isinstance(default, str) and default:
            assert f'"{default}"`` (the default)' in entry[1]
    for name, method in inspect.getmembers(Pool, callable):
        if not name.startswith("_") and not hasattr(ThreadPoolExecutor, name):
            assert inspect.getdoc(method), name


def test_an_option_that_does_not_exist_is_a_type_error_with_the_nearest_name() -> None:
    with pytest.raises(TypeError, match=r"Pool\(\) .* 'pool_sise'; did you mean 'pool_size'\?"):
        Pool(pool_sise=3)  # type: ignore[call-arg]  # the point
    with pytest.raises(TypeError, match=r"did you mean 'max_workers'\?"):
        Pool(max_worker=3)  # type: ignore[call-arg]
