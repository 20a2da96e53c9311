"""Every interleaving of two parties at one job, forced rather than hoped for.

A job's hand-over between threads rests on the order of reads and writes of its fields; the races
are told in `oddjob.runtime.shared_state`. Here each field is replaced by one that lets another
thread act before the k-th access, for every k: the first party is stopped there, the second does
all it can, then the first goes on. What must hold in the end is the same everywhere: the call ran
at most once, and exactly once unless a cancellation has succeeded; every waiter and callback was
called exactly once.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import pytest

from oddjob.errors import JobTimeout
from oddjob.locks import Wakeup
from oddjob.options import JobSettings
from oddjob.runtime import job as job_module
from oddjob.runtime.execution import execute, rescue
from oddjob.runtime.job import Job
from oddjob.runtime.metrics import SlotMetrics
from oddjob.runtime.policy import JobPolicy
from oddjob.runtime.settling import finish_failed, settle_timed_out
from oddjob.runtime.shared_state import SharedState
from oddjob.runtime.slot import Slot

FIELDS = ["_shared", "_fast_state", "_outcome", "_fn", "_args", "_kwargs", "_context"]
WATCHERS_FIELDS = ["state", "owner", "sleepers", "waiters", "callbacks", "condition"]
BLOCKED = 0.02  # seconds after which a striker that has not ended is assumed to wait for a lock


class Host:
    """A pool of which every thread is a worker, as far as jobs and their execution need one."""

    name = None
    label = "host"
    pool = None

    def __init__(self) -> None:
        self.reports: list[BaseException] = []
        self.slots: list[Slot] = []
        self.store = None
        self.settlement = self.memory = self.intake = self
        self.events = self.watchdog = self.metrics = self

    def run_where_awaited(self, job: Job[Any], deadline: float) -> bool:
        slot = new_slot(self)
        self.slots.append(slot)
        slot.job = job
        if not job._ensure_shared().claim_queued(slot):
            return False
        execute(job, slot)
        return True

    def report_failure(self, job: Job[Any], error: BaseException) -> None:
        self.reports.append(error)

    def is_crash(self, error: BaseException) -> bool:
        return not isinstance(error, Exception)

    def cancelled(self, job: Job[Any]) -> bool:
        return True

    def ignore(self, *_: object, **__: object) -> None:
        """Do nothing: not the subject of these tests."""

    accept = job_cancelled = interrupt = succeeded = failed = ignore
    notify = watch = unwatch = count = give_back = ignore


def new_slot(host: Any) -> Slot:
    return Slot(host, SlotMetrics())


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
ProbedWatchers = type(
    "ProbedWatchers", (SharedState,), {name: _probed(name, SharedState) for name in WATCHERS_FIELDS}
)


@pytest.fixture
def probed_shared_state(monkeypatch: pytest.MonkeyPatch) -> None:
    """Strike between the accesses to the fields of the shared state as well."""
    monkeypatch.setattr(job_module, "SharedState", ProbedWatchers)


class Scene:
    """A job, what happened to it, and the parties that act on it."""

    def __init__(self, error: Exception | None = None, **policy: Any) -> None:
        self.calls: list[int] = []
        self.told: list[object] = []
        self.asked = 0
        self.cancelled: list[bool] = []
        self.results: list[object] = []
        self.error = error
        self.host: Any = Host()
        self.slot = new_slot(self.host)
        is_detached = policy.pop("is_detached", False)
        self.policy = JobPolicy(self.host, JobSettings().replace(**policy), is_detached=is_detached)
        self.job: Job[int] = ProbedJob(self.call, (), None, copy_context(), self.policy, 0.0)
        self.slot.job = self.job

    def call(self) -> int:
        self.calls.append(1)
        if self.error is not None:
            raise self.error
        return 42

    def execute(self) -> None:
        execute(self.job, self.slot)

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
        self.host.run_where_awaited(self.job, 0.0)


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
    """Otherwise a wait, a cancel or a callback at the wrong moment would hang, or be misled."""
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
    """Code that saw ``done()`` and went on to read would have to wait again."""
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
        scene.execute()  # its worker comes at last
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
    slots = [scene.slot, *scene.host.slots]
    assert sum(slot.metrics.succeeded for slot in slots) == (scene.job.state == "succeeded")
    assert sum(slot.metrics.failed for slot in slots) == (scene.job.state == "failed")


@pytest.mark.usefixtures("probed_shared_state")
@pytest.mark.parametrize("is_watched", [False, True], ids=["unwatched", "watched"])
@pytest.mark.parametrize("error", [None, ValueError("of the job")], ids=["returns", "raises"])
def test_a_job_ends_wherever_its_worker_is_struck_down(
    is_watched: bool, error: Exception | None
) -> None:
    """An exception that is thrown into the worker must not leave a job pending."""
    for strike_at in range(1000):
        scene = Scene(error)
        crash = KeyboardInterrupt()
        if is_watched:
            scene.ask()

        def strike(crash: BaseException = crash) -> None:
            raise crash

        with probing(strike_at, strike) as probe:
            try:
                scene.execute()
            except KeyboardInterrupt as caught:
                assert caught is crash
                seen = scene.job.exception(0) if scene.job.done() else crash
                rescue(scene.job, scene.slot, crash)
                assert scene.job.exception(0) is seen, "what has been seen may not change"
        assert scene.job.done()
        assert len(scene.calls) <= 1
        assert scene.job.exception(0) in (scene.error, crash)
        assert scene.told == [scene.job] * scene.asked
        if probe.accesses <= strike_at:
            return
    raise AssertionError("no end of accesses")


@pytest.mark.usefixtures("probed_shared_state")
def test_the_failure_of_a_detached_job_is_reported_once_at_most() -> None:
    """And once if its worker is not struck down."""
    for strike_at in range(1000):
        scene = Scene(ValueError("of the job"), is_detached=True)

        def strike() -> None:
            raise KeyboardInterrupt

        with probing(strike_at, strike) as probe:
            try:
                scene.execute()
            except KeyboardInterrupt as crash:
                rescue(scene.job, scene.slot, crash)
        assert scene.job.done()
        assert len(scene.host.reports) <= 1
        if probe.accesses <= strike_at:
            assert scene.host.reports == [scene.error]
            return
    raise AssertionError("no end of accesses")


@pytest.mark.usefixtures("probed_shared_state")
def test_a_waiter_that_came_in_between_is_woken_wherever_the_worker_is_struck_down() -> None:
    """First a waiter arrives at one access, then the worker's thread is killed at a later one."""
    killed_at: set[int] = set()
    for arrive_at in range(100):
        for later in range(1, 100, 2):
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
                    rescue(scene.job, scene.slot, crash)
            if waiter.ident is None:
                assert len(killed_at) > 5
                return
            waiter.join(10)
            assert not waiter.is_alive(), f"not woken: came at {arrive_at}, killed {later} later"
            assert scene.results in ([42], [crash])
            if probe.accesses <= arrive_at + later:
                break


@pytest.mark.parametrize("error", [None, ValueError("of the job")], ids=["returns", "raises"])
@pytest.mark.usefixtures("probed_shared_state")
def test_a_timeout_and_a_result_never_both_count(error: Exception | None) -> None:
    """Nor neither: a job that ended twice would call its callbacks twice, or change its result."""
    outcomes: set[type] = set()
    for strike_at in range(1000):
        scene = Scene(error, timeout=1.0)
        scene.ask()
        expired: list[list[Job[Any]] | None] = []
        strikers: list[threading.Thread] = []

        def time_is_up(scene: Scene = scene, expired: list[Any] = expired) -> None:
            # The watchdog knows of nothing but attempts that are being made.
            if scene.job.attempt == 1 and scene.job.running():
                timeout = JobTimeout("too long")
                expired.append(settle_timed_out(scene.job, timeout, 1, scene.slot, scene.host))

        def strike(strikers: list[threading.Thread] = strikers, act: Any = time_is_up) -> None:
            strikers.append(threading.Thread(target=act, daemon=True))
            strikers[0].start()
            strikers[0].join(BLOCKED)

        with probing(strike_at, strike) as probe:
            scene.execute()
        for striker in strikers:
            striker.join(10)
        if expired == [[scene.job]]:
            finish_failed(scene.job, scene.host)
        outcome = scene.job.exception(0)
        assert isinstance(outcome, JobTimeout) == (expired == [[scene.job]])
        assert scene.told == [scene.job]
        assert len(scene.calls) <= 1
        outcomes.add(type(outcome))
        if not strikers:
            assert strike_at == probe.accesses
            break
    assert outcomes == {JobTimeout, type(error)}


def test_a_waiter_that_something_else_wakes_at_the_same_moment_is_no_fault_of_the_job() -> None:
    """A worker that waits in place is also woken whenever a job is taken from the queue."""
    scene = Scene()
    wakeup = Wakeup()
    assert scene.job._ensure_shared().add_sleeper(wakeup)
    wakeup.set()
    scene.execute()
    assert wakeup.wait(0)
    assert scene.job.result(0) == 42
    assert scene.slot.crash is None
