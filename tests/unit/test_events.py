"""`Pool.on_event`: the callback hears of everything that an operator wants to know."""

import threading

import pytest

import oddjob
from oddjob import Pool, PoolBroken, PoolEvent
from oddjob.testing import FakeClock

WAIT = 10.0


class Crash(BaseException):
    """Not an Exception: it ends the worker."""


def fail(error: BaseException) -> None:
    raise error


class Observer:
    """A callback that keeps the events."""

    def __init__(self) -> None:
        self.events: list[PoolEvent] = []
        self._news = threading.Condition()

    def __call__(self, event: PoolEvent) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    def kinds(self) -> list[str]:
        return [event.kind for event in self.events]

    def wait_for(self, kind: str, count: int = 1) -> None:
        with self._news:
            assert self._news.wait_for(lambda: self.kinds().count(kind) >= count, WAIT)


def test_a_failed_job_is_reported() -> None:
    observer = Observer()
    error = ValueError("no")
    with Pool("told", 1, on_event=observer) as pool:
        job = pool.submit(fail, error)
        job.exception(WAIT)
        observer.wait_for("job_failed")
        pool.perform(fail, error)
        observer.wait_for("job_failed", 2)
        pool.submit(pow, 2, 3).result(WAIT)
    first = observer.events[0]
    assert first == PoolEvent("job_failed", "told", first.at, job=job, error=error)
    assert observer.kinds() == ["job_failed", "job_failed", "pool_closed"]


def test_a_crash_is_reported_when_the_replacement_runs() -> None:
    observer = Observer()
    alive: list[int] = []

    def watch(event: PoolEvent) -> None:
        if event.kind == "worker_crashed":
            alive.append(sum(thread.name == "frail_0" for thread in threading.enumerate()))
        observer(event)

    error = Crash()
    with Pool("frail", 1, on_event=watch) as pool:
        job = pool.submit(fail, error)
        job.exception(WAIT)
        observer.wait_for("worker_replaced")
    assert observer.kinds() == ["job_failed", "worker_crashed", "worker_replaced", "pool_closed"]
    crashed = observer.events[1]
    assert crashed == PoolEvent("worker_crashed", "frail", crashed.at, "frail_0", job, error)
    assert alive == [1]


def test_each_step_of_a_breakdown_is_reported_and_so_is_the_recovery() -> None:
    observer = Observer()
    with Pool("frail", 1, max_restarts=0, max_seconds=100, on_event=observer) as pool:
        pool.submit(fail, Crash()).exception(WAIT)
        observer.wait_for("worker_replaced")
        pool.submit(fail, Crash()).exception(WAIT)
        observer.wait_for("pool_broken")
        with pytest.raises(PoolBroken):
            pool.submit(pow, 2, 3)
        pool.restart()
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        observer.wait_for("worker_replaced", 2)
    kinds = [kind for kind in observer.kinds() if kind != "job_failed"]
    assert kinds[:5] == [
        *("worker_crashed", "pool_restarted", "worker_replaced"),
        *("worker_crashed", "pool_broken"),
    ]
    assert sorted(kinds[5:]) == ["pool_closed", "pool_recovered", "worker_replaced"]


def test_a_retry_and_a_timeout_are_reported() -> None:
    observer = Observer()
    gate = threading.Event()
    with Pool("told", 1, on_event=observer) as pool:
        retried = pool.options(retries=1, backoff=0).submit(fail, OSError())
        retried.exception(WAIT)
        observer.wait_for("job_failed")
        late = pool.options(timeout=0.01).submit(gate.wait, WAIT)
        late.exception(WAIT)
        observer.wait_for("job_timed_out")
        gate.set()
    kinds = [event.kind for event in observer.events if event.job is retried]
    assert kinds == ["job_retried", "job_failed"]
    assert next(event for event in observer.events if event.kind == "job_timed_out").job is late


def test_a_restart_by_hand_is_reported() -> None:
    observer = Observer()
    with Pool(2, on_event=observer) as pool:
        pool.submit(pow, 2, 3).result(WAIT)
        pool.restart()
        observer.wait_for("worker_replaced")
    assert observer.kinds() == ["pool_restarted", "worker_replaced", "pool_closed"]


def test_the_end_of_a_pool_is_reported_once() -> None:
    observer = Observer()
    pool = Pool(1, on_event=observer)
    pool.shutdown()
    pool.shutdown()
    (event,) = observer.events
    assert event == PoolEvent("pool_closed", pool._core.label, event.at)


@pytest.mark.parametrize("error", [ValueError("mine"), SystemExit(1), KeyboardInterrupt()])
def test_what_a_callback_raises_is_logged_and_harms_nothing(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def observe(event: PoolEvent) -> None:
        raise error

    with Pool("told", 1, on_event=observe) as pool:
        assert isinstance(pool.submit(fail, OSError()).exception(WAIT), OSError)
        assert isinstance(pool.submit(fail, Crash()).exception(WAIT), Crash)
        assert pool.submit(pow, 2, 3).result(WAIT) == 8
        assert pool.supervisor().is_alive
    for kind in ("job_failed", "worker_crashed", "worker_replaced", "pool_closed"):
        assert f"on_event of pool told raised, for {kind}" in caplog.text
    assert pool.stats().crashes == 1


def test_a_callback_may_use_its_pool() -> None:
    """No lock is held while it is called."""
    answers: list[object] = []
    done = threading.Event()

    def observe(event: PoolEvent) -> None:
        if event.kind in ("worker_crashed", "job_failed", "worker_replaced"):
            answers.append((pool.submit(pow, 2, 3).id, pool.stats(), pool.state, pool.workers()))
        if event.kind == "worker_replaced":
            done.set()

    with Pool(1, on_event=observe) as pool:
        pool.submit(fail, Crash()).exception(WAIT)
        assert done.wait(WAIT)
    assert len(answers) == 3


def test_a_callback_can_be_set_and_removed_later() -> None:
    observer = Observer()
    with Pool(1) as pool:
        assert pool.on_event is None
        pool.on_event = observer
        assert pool.on_event is observer
        pool.submit(fail, ValueError()).exception(WAIT)
        observer.wait_for("job_failed")
        pool.on_event = None
        pool.submit(fail, ValueError()).exception(WAIT)
    assert observer.kinds() == ["job_failed"]


def test_settings_may_name_one_callback_for_all_pools() -> None:
    observer = Observer()
    oddjob.configure({"on_event": observer, "extra_pools": ["email"]})
    oddjob.pool("email").submit(fail, ValueError()).exception(WAIT)
    observer.wait_for("job_failed")
    assert oddjob.shutdown_all(WAIT)
    assert sorted(event.pool for event in observer.events) == ["email", "email", "job"]


def test_the_end_of_a_collected_pool_is_reported() -> None:
    observer = Observer()

    def use_one() -> None:
        Pool(1, on_event=observer).submit(pow, 2, 3).result(WAIT)

    use_one()
    observer.wait_for("pool_closed")


def test_a_job_that_succeeds_is_not_reported() -> None:
    observer = Observer()
    with Pool(2, on_event=observer) as pool:
        assert len(list(pool.map(abs, range(1000)))) == 1000
    assert observer.kinds() == ["pool_closed"]


def test_an_event_says_when_it_happened() -> None:
    observer = Observer()
    with FakeClock() as clock, Pool("told", 1, on_event=observer) as pool:
        clock.advance(60)
        pool.submit(fail, ValueError()).exception(WAIT)
        observer.wait_for("job_failed")
        assert observer.events[0].at == clock.now()


def test_several_observers_all_hear_of_an_event_although_one_raises(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, second = Observer(), Observer()

    def bad(_event: PoolEvent) -> None:
        raise LookupError

    with Pool("told", 1, on_event=[first, bad, second]) as pool:
        assert pool.on_event == (first, bad, second)
        pool.restart()
        pool.on_event = [second]
    assert first.kinds() == ["pool_restarted"]
    assert second.kinds() == ["pool_restarted", "pool_closed"]
    assert [record.message for record in caplog.records] == [
        "on_event of pool told raised, for pool_restarted"
    ]
    with pytest.raises(TypeError, match="on_event must be a callable or a list of them"):
        pool.on_event = [first, 3]  # type: ignore[list-item]  # pyright: ignore[reportAttributeAccessIssue]
