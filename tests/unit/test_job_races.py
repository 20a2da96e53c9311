"""Every interleaving of two parties at one job, forced rather than hoped for.

A job's hand-over between threads rests on the order of reads and writes of its fields. Here each
field is replaced by one that lets another thread strike before the k-th access, for every k: the
first party is stopped there, the second does all it can, then the first goes on. What must hold
in the end is the same everywhere: the call ran at most once, and exactly once unless a cancel
said that it would not; everybody who waited or asked to be called was told exactly once.
"""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from oddjob.errors import JobTimeout
from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.limited import kind_with
from oddjob.managed import ManagedJob
from oddjob.marks import mark_here
from oddjob.monitor import Monitor
from oddjob.rules import Rules

FIELDS = ["_monitor", "_raw", "_outcome", "_fn", "_args", "_kwargs", "_context"]
MONITOR_FIELDS = ["state", "owner", "sleepers", "waiters", "untold", "callbacks", "condition"]
BLOCKED = 0.02  # seconds after which a striker that has not ended is taken to wait for a lock


class Crew:
    """A workforce whose every thread is a worker."""

    name = None
    pool = None

    def __init__(self) -> None:
        self.reports: list[BaseException] = []
        self.failures: list[BaseException] = []
        self.counts: Counter[str] = Counter()

    def count(self, what: str) -> None:
        self.counts[what] += 1

    def watch(self, job: object, deadline: float) -> None:
        pass

    def unwatch(self, watch: None) -> None:
        pass

    def note_loss(self, job: object) -> None:
        """Be told that a queued job has been cancelled."""

    note_seen = release = interrupt = note_loss

    def put_off(self, job: object, delay: float) -> bool:
        raise AssertionError("no job here is to be tried again")

    def note_failure(self, job: object, error: BaseException) -> None:
        self.failures.append(error)

    def is_crash(self, error: BaseException) -> bool:
        return not isinstance(error, Exception)

    def run_in_place(self, job: Job[Any], timeout: float | None, *, stays: bool) -> bool:
        if not job.claim_queued():
            return False
        job.execute(claimed=True)
        return True

    def has_lost(self, job: object) -> bool:
        return False

    def report_failure(self, job: object, error: BaseException, context: object) -> None:
        self.reports.append(error)


class Prober:
    """Strikes before the k-th access to a probed job by the thread that set it up."""

    def __init__(self, strike_at: int, strike: Callable[[], object]) -> None:
        self.accesses = 0
        self._strikes = {strike_at: strike}
        self._primary = threading.get_ident()

    def then(self, strike_at: int, strike: Callable[[], object]) -> None:
        """Strike once more, later on."""
        self._strikes[strike_at] = strike

    def touch(self) -> None:
        if threading.get_ident() == self._primary:
            self.accesses += 1
            strike = self._strikes.pop(self.accesses - 1, None)
            if strike is not None:
                strike()


probers: list[Prober] = []


@contextmanager
def probing(strike_at: int, strike: Callable[[], object]) -> Iterator[Prober]:
    probers.append(Prober(strike_at, strike))
    try:
        yield probers[0]
    finally:
        probers.clear()


def _probed(name: str, base: type) -> property:
    slot = getattr(base, name)

    def read(self: object) -> Any:
        for prober in probers:
            prober.touch()
        return slot.__get__(self)

    def write(self: object, value: object) -> None:
        for prober in probers:
            prober.touch()
        slot.__set__(self, value)

    return property(read, write)


ProbedJob = type("ProbedJob", (Job,), {name: _probed(name, Job) for name in FIELDS})
ProbedPerform = type(
    "ProbedPerform", (FireAndForget,), {name: _probed(name, Job) for name in FIELDS}
)
ProbedMonitor = type(
    "ProbedMonitor", (Monitor,), {name: _probed(name, Monitor) for name in MONITOR_FIELDS}
)


@pytest.fixture
def probed_monitors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strike between the accesses to a monitor's fields as well."""
    monkeypatch.setattr("oddjob.work.Monitor", ProbedMonitor)


class Scene:
    """A job, what happened to it, and the parties that act on it."""

    def __init__(self, kind: type = ProbedJob, error: Exception | None = None) -> None:
        self.calls: list[int] = []
        self.told: list[object] = []
        self.asked = 0
        self.cancelled: list[bool] = []
        self.results: list[object] = []
        self.error = error
        self.crew = Crew()
        self.job: Job[int] = kind(self.call, (), None, copy_context(), self.crew, None, 0.0)

    def call(self) -> int:
        self.calls.append(1)
        if self.error is not None:
            raise self.error
        return 42

    def execute(self) -> None:
        self.job.execute()

    def cancel(self) -> None:
        self.cancelled.append(self.job.cancel())

    def ask(self) -> None:
        self.asked += 1
        self.job.add_done_callback(self.told.append)

    def read(self) -> None:
        try:
            self.results.append(self.job.result(10))
        except BaseException as error:
            self.results.append(error)

    def run_here(self) -> None:
        self.job.run_here()

    def take(self) -> None:
        if self.job.set_running_or_notify_cancel():
            self.calls.append(1)
            self.job.set_result(42)


ACTIONS = ["execute", "cancel", "ask", "read", "run_here"]
PAIRS = [
    (first, second)
    for first in ACTIONS
    for second in ACTIONS
    # A party that only waits needs one that acts; two workers never have the same job.
    if (first, second) != ("execute", "execute")
]


@pytest.mark.parametrize("error", [None, ValueError("of the job")], ids=["returns", "raises"])
@pytest.mark.parametrize(("first", "second"), PAIRS, ids=lambda name: name)
def test_two_parties_at_one_job_agree(first: str, second: str, error: Exception | None) -> None:
    """Whoever waits, cancels or adds a callback at the wrong moment would hang, or be lied to."""
    for strike_at in range(1000):
        scene = Scene(error=error)
        strikers: list[threading.Thread] = []

        def strike(scene: Scene = scene, strikers: list[threading.Thread] = strikers) -> None:
            striker = threading.Thread(target=getattr(scene, second), daemon=True)
            strikers.append(striker)
            striker.start()
            striker.join(BLOCKED)

        with probing(strike_at, strike) as probe:
            getattr(scene, first)()
        for striker in strikers:
            striker.join(10)
            assert not striker.is_alive(), f"{second} hangs when it strikes at access {strike_at}"
        if not strikers:
            assert strike_at == probe.accesses, "the strikes have covered every access"
            return
        check(scene, "execute" in (first, second))
    raise AssertionError("no end of accesses")


@pytest.mark.parametrize("first", ["cancel", "ask", "read", "run_here"])
def test_a_job_that_has_ended_is_never_seen_otherwise(first: str) -> None:
    """Code that saw ``done()`` and went on to read would be told to wait again."""
    for strike_at in range(1000):
        scene = Scene()
        scene.execute()
        sightings: list[bool] = []
        with probing(strike_at, lambda: sightings.append(scene.job.done())) as probe:  # noqa: B023 - called before the loop goes on
            getattr(scene, first)()
        assert all(sightings)
        assert scene.job.done()
        if probe.accesses <= strike_at:
            return
    raise AssertionError("no end of accesses")


def check(scene: Scene, was_executed: bool) -> None:
    if not was_executed:
        scene.job.execute()  # its worker comes at last
    scene.job.add_done_callback(lambda _: scene.told.append("late"))
    assert scene.job.done()
    if True in scene.cancelled:
        assert scene.job.state == "cancelled"
        assert scene.calls == []
    else:
        assert scene.calls == [1]
        assert scene.job.state == ("succeeded" if scene.error is None else "failed")
        assert all(result in (42, scene.error) for result in scene.results)
        assert scene.job.exception(0) is scene.error
    assert scene.told == [scene.job] * scene.asked + ["late"]


@pytest.mark.usefixtures("probed_monitors")
@pytest.mark.parametrize("kind", [ProbedJob, ProbedPerform])
@pytest.mark.parametrize("watched", [False, True])
@pytest.mark.parametrize("error", [None, ValueError("of the job")], ids=["returns", "raises"])
def test_a_job_ends_wherever_its_worker_is_struck_down(
    kind: type, watched: bool, error: Exception | None
) -> None:
    """An asynchronous exception anywhere in the worker's part would leave a job pending."""
    for strike_at in range(1000):
        scene = Scene(kind, error)
        crash = KeyboardInterrupt()
        if watched:
            scene.ask()

        def strike(crash: BaseException = crash) -> None:
            raise crash

        with probing(strike_at, strike) as probe:
            try:
                scene.execute()
            except KeyboardInterrupt as caught:
                assert caught is crash
                seen = scene.job.exception(0) if scene.job.done() else crash
                scene.job.rescue(crash, mark_here())
                assert scene.job.exception(0) is seen, "what has been seen may not change"
        assert scene.job.done()
        assert len(scene.calls) <= 1
        assert scene.job.exception(0) in (scene.error, crash)
        assert scene.told == [scene.job] * scene.asked
        failures = [scene.job.exception(0)] if scene.job.exception(0) is not None else []
        if kind is ProbedPerform and probe.accesses <= strike_at:
            assert scene.crew.reports == failures
            return
        if kind is ProbedPerform:
            assert len(scene.crew.reports) <= len(failures)
        elif probe.accesses <= strike_at:
            return
    raise AssertionError("no end of accesses")


@pytest.mark.usefixtures("probed_monitors")
def test_a_waiter_that_came_in_between_is_told_wherever_the_worker_is_struck_down() -> None:
    """First a waiter arrives at one access, then the worker's thread is killed at a later one."""
    killed_at: set[int] = set()
    for arrive_at in range(100):
        for later in range(1, 100):
            scene = Scene()
            crash = KeyboardInterrupt()
            waiter = threading.Thread(target=scene.read, daemon=True)

            def strike(waiter: threading.Thread = waiter) -> None:
                waiter.start()
                waiter.join(BLOCKED)

            def kill(crash: BaseException = crash) -> None:
                raise crash

            with probing(arrive_at, strike) as probe:
                probe.then(arrive_at + later, kill)
                try:
                    scene.execute()
                except KeyboardInterrupt:
                    killed_at.add(probe.accesses)
                    scene.job.rescue(crash, mark_here())
            if waiter.ident is None:
                assert len(killed_at) > 5
                return
            waiter.join(10)
            assert not waiter.is_alive(), f"never told: came at {arrive_at}, killed {later} later"
            assert scene.results in ([42], [crash])
            if probe.accesses <= arrive_at + later:
                break


ProbedTimed = type(
    "ProbedTimed",
    (kind_with(Rules(timeout=1.0), ManagedJob, key=None),),
    {name: _probed(name, Job) for name in FIELDS},
)


@pytest.mark.parametrize("error", [None, ValueError("of the job")], ids=["returns", "raises"])
@pytest.mark.usefixtures("probed_monitors")
def test_a_timeout_and_a_result_never_both_count(error: Exception | None) -> None:
    """Nor neither: a job that ended twice would call its callbacks twice, or change its result."""
    outcomes: set[type] = set()
    for strike_at in range(1000):
        scene = Scene(ProbedTimed, error)
        scene.ask()
        expired: list[bool] = []
        strikers: list[threading.Thread] = []

        def expire(scene: Scene = scene, expired: list[bool] = expired) -> None:
            # Only what is being run can run for too long: the supervisor knows of nothing else.
            if scene.job.running():
                expired.append(scene.job.expire(JobTimeout("too long"), 1))  # type: ignore[attr-defined]  # it is timed

        def strike(strikers: list[threading.Thread] = strikers, expire: Any = expire) -> None:
            strikers.append(threading.Thread(target=expire, daemon=True))
            strikers[0].start()
            strikers[0].join(BLOCKED)

        with probing(strike_at, strike) as probe:
            scene.execute()
        for striker in strikers:
            striker.join(10)
        if expired == [True]:
            scene.job.follow_up()  # type: ignore[attr-defined]  # it is timed
        outcome = scene.job.exception(0)
        assert isinstance(outcome, JobTimeout) == (expired == [True])
        assert scene.told == [scene.job]
        assert len(scene.calls) <= 1
        assert (scene.job.verdict == "timed_out") == (expired == [True])
        outcomes.add(type(outcome))
        if not strikers:
            assert strike_at == probe.accesses
            break
    assert outcomes == {JobTimeout, type(error)}
