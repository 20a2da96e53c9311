"""The scheduler: one thread that fires alarms when they are due."""

import ctypes
import gc
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, Scheduler
from oddjob.threads import ServiceThread
from tests.hang import until

WAIT = 10.0
FAR = 3600.0


class Call(Alarm):
    """An alarm that calls something."""

    def __init__(self, action: Callable[[], object]) -> None:
        self._action = action

    def _fire(self) -> None:
        self._action()


class AlarmClock(Scheduler):
    """A scheduler of its own, which tells how it sleeps."""

    def _reset(self) -> None:
        super()._reset()
        self.sleeps: list[float] = []  # seconds from the beginning of each
        self.falls_asleep = threading.Event()
        wait = self._wakeup.wait

        class Wakeup(type(self._wakeup)):  # type: ignore[misc]  # of this very class
            def wait(_, until: float = float("inf")) -> bool:
                self.sleeps.append(until - clock.steady())
                self.falls_asleep.set()
                return wait(until)

        told = Wakeup()
        told.release, self._wakeup = self._wakeup.release, told

    def call_at(self, at: float, action: Callable[[], object] = int, **options: Any) -> Alarm:
        alarm = Call(action)
        with self.lock:
            self.set_alarm(alarm, at, **options)
        try:
            self.ensure_thread()
        except BaseException:  # as timers do
            self.cancel(alarm)
            raise
        return alarm

    def join(self) -> None:
        """Wait for the thread to end, as no alarm is set."""
        thread = self._thread
        if thread is not None:
            thread.join(WAIT)
        assert self._thread is None


@pytest.fixture
def scheduler() -> Iterator[AlarmClock]:
    scheduler = AlarmClock()
    yield scheduler
    scheduler.join()


def test_alarms_fire_in_the_order_of_their_times(scheduler: AlarmClock) -> None:
    fired: list[int] = []
    done = threading.Event()
    start = clock.monotonic() + 0.05
    numbers = random.Random(7).sample(range(200), 200)
    for number in numbers:
        scheduler.call_at(start + number * 1e-4, lambda number=number: fired.append(number))
    scheduler.call_at(start + 0.02, done.set)
    assert done.wait(WAIT)
    assert fired == sorted(numbers)


def test_an_earlier_alarm_wakes_the_thread_that_sleeps_for_a_later_one(
    scheduler: AlarmClock,
) -> None:
    fired = threading.Event()
    late = scheduler.call_at(clock.monotonic() + FAR)
    assert scheduler.falls_asleep.wait(WAIT)
    scheduler.call_at(clock.monotonic() + 0.01, fired.set)
    assert fired.wait(WAIT)
    assert scheduler.cancel(late)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_an_alarm_that_raises_stops_no_other(
    scheduler: AlarmClock, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    fired = threading.Event()
    now = clock.monotonic()
    scheduler.call_at(now, fail)
    scheduler.call_at(now + 0.01, fired.set)
    assert fired.wait(WAIT)
    until(lambda: "a timer failed" in caplog.text)


def test_nothing_is_set_if_no_thread_can_be_started(
    scheduler: AlarmClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.call_at(clock.monotonic(), keeps_process=True)
    assert scheduler.next_in() == float("inf")
    scheduler.wait_for_keepers()
    fired = threading.Event()
    scheduler.call_at(clock.monotonic(), fired.set)
    assert fired.wait(WAIT)


@pytest.mark.timeout(20)
def test_a_destructor_may_set_an_alarm_in_the_very_thread_that_is_being_started(
    scheduler: AlarmClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread that has started it waits until it says that it runs."""
    set_ident = threading.Thread._set_ident  # type: ignore[attr-defined]

    def be_interrupted(thread: threading.Thread) -> None:
        set_ident(thread)
        if thread.name == "oddjob-scheduler":
            scheduler.cancel(scheduler.call_at(clock.monotonic() + FAR))

    monkeypatch.setattr(threading.Thread, "_set_ident", be_interrupted)
    fired = threading.Event()
    scheduler.call_at(clock.monotonic(), fired.set)
    assert fired.wait(WAIT)


def test_an_alarm_fires_or_is_cancelled_and_never_both(
    scheduler: AlarmClock, tiny_switch_interval: None
) -> None:
    """A caller that cancels a timer is told whether it has fired."""
    for _ in range(300):
        fired = threading.Event()
        alarm = scheduler.call_at(clock.monotonic() + 1e-4, fired.set)
        end = clock.monotonic() + random.random() * 3e-4
        while clock.monotonic() < end:
            pass
        if scheduler.cancel(alarm) is None:
            assert fired.wait(WAIT)
        else:
            with scheduler.firing:  # whatever was firing has ended
                assert not fired.is_set()


def test_many_threads_set_and_cancel_and_no_alarm_is_lost(
    scheduler: AlarmClock, tiny_switch_interval: None
) -> None:
    fired: list[int] = []
    cancelled: list[int] = []

    def play(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(300):
            ident = seed * 1000 + number
            alarm = scheduler.call_at(
                clock.monotonic() + chance.random() * 0.01,
                lambda ident=ident: fired.append(ident),
            )
            if chance.random() < 0.6 and scheduler.cancel(alarm) is not None:
                cancelled.append(ident)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    scheduler.join()
    assert len(fired) + len(cancelled) == len(set(fired) | set(cancelled)) == 1500
    assert scheduler._monotonic.alarms == {}


def test_cancelled_alarms_do_not_pile_up(scheduler: AlarmClock) -> None:
    keep = [scheduler.call_at(clock.monotonic() + FAR / 2 + number) for number in range(100)]
    for number in range(10_000):
        scheduler.cancel(scheduler.call_at(clock.monotonic() + FAR + number % 7))
        assert len(scheduler._monotonic.entries) < 300
    assert len(scheduler._monotonic.alarms) == 100
    for alarm in keep:
        assert scheduler.cancel(alarm)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
def test_signal_handlers_and_destructors_may_set_and_cancel_anywhere(
    scheduler: AlarmClock,
) -> None:
    """They interrupt the scheduler's own steps."""
    fired: list[int] = []
    rounds: list[int] = []

    def play() -> None:
        rounds.append(1)
        scheduler.call_at(clock.monotonic(), lambda: fired.append(1))
        assert scheduler.cancel(scheduler.call_at(clock.monotonic() + FAR)) is not None

    class Trash:
        def __init__(self) -> None:
            self.itself = self

        def __del__(self) -> None:
            play()

    before = signal.signal(signal.SIGALRM, lambda *_: play())
    signal.setitimer(signal.ITIMER_REAL, 0.0003, 0.0003)
    threshold = gc.get_threshold()
    gc.set_threshold(20)
    try:
        end = time.monotonic() + 1.5
        while time.monotonic() < end:
            Trash()
            now = clock.monotonic()
            alarms = [scheduler.call_at(now + FAR + number) for number in range(150)]
            for alarm in alarms:
                assert scheduler.cancel(alarm) is not None
    finally:
        gc.set_threshold(*threshold)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    scheduler.join()
    assert len(fired) == len(rounds) > 20


def test_an_alarm_that_a_signal_handler_sets_while_the_thread_is_made_starts_no_other(
    scheduler: AlarmClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two threads would share the wake-ups, and one of them sleep for ever."""
    name = "oddjob.schedule.scheduler.ServiceThread"
    real, made = ServiceThread, list[threading.Thread]()

    def interrupted(*args: Any, **options: Any) -> threading.Thread:
        monkeypatch.setattr(name, real)
        scheduler.cancel(scheduler.call_at(clock.monotonic() + FAR))  # as the handler does
        made.append(real(*args, **options))
        return made[0]

    monkeypatch.setattr(name, interrupted)
    fired = threading.Event()
    scheduler.call_at(clock.monotonic() + 0.05, fired.set)
    assert fired.wait(WAIT)
    scheduler.join()
    assert made[0].ident is None, "it was started as well"


def test_a_wall_clock_that_is_set_is_noticed(
    scheduler: AlarmClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing announces it, so the thread looks every second."""
    lead = [0.0]
    real = time.time
    fired = threading.Event()
    scheduler.call_at(clock.wall() + FAR, fired.set, is_wall=True)
    assert scheduler.falls_asleep.wait(WAIT)
    assert scheduler.sleeps[-1] <= 1.0
    monkeypatch.setattr(time, "time", lambda: real() + lead[0])
    lead[0] = FAR + 1
    assert fired.wait(WAIT)


def test_an_alarm_by_the_wall_clock_is_watched_though_an_earlier_one_needs_no_look(
    scheduler: AlarmClock,
) -> None:
    sooner = scheduler.call_at(clock.monotonic() + FAR)
    assert scheduler.falls_asleep.wait(WAIT)
    assert scheduler.sleeps[-1] > 1.0
    scheduler.falls_asleep.clear()
    later = scheduler.call_at(clock.wall() + 9 * FAR, is_wall=True)
    assert scheduler.falls_asleep.wait(WAIT)
    assert scheduler.sleeps[-1] <= 1.0
    assert scheduler.cancel(sooner)
    assert scheduler.cancel(later)


def test_the_thread_goes_on_after_an_exception_was_thrown_at_it(scheduler: AlarmClock) -> None:
    fired = threading.Event()
    scheduler.call_at(clock.monotonic() + 0.2, fired.set)
    assert scheduler.falls_asleep.wait(WAIT)
    thread = scheduler._thread
    assert thread is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
    )
    assert fired.wait(WAIT)
