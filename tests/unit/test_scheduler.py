"""The one thread that rings what is due."""

import gc
import random
import signal
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from oddjob.schedule.clock import clock
from oddjob.schedule.scheduler import Alarm, Scheduler
from tests.hang import until

WAIT = 10.0
FAR = 3600.0


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    """One of its own, whose thread is gone in the end."""
    scheduler = Scheduler()
    yield scheduler
    assert scheduler._thread is None or not scheduler._thread.is_alive()


def test_alarms_ring_in_the_order_in_which_they_are_due(scheduler: Scheduler) -> None:
    rung: list[int] = []
    start = clock.monotonic() + 0.05
    times = random.Random(7).sample(range(200), 200)
    for number in times:
        scheduler.set(Alarm(lambda number=number: rung.append(number), start + number * 1e-4))
    until(lambda: len(rung) == 200)
    assert rung == sorted(times)
    until(lambda: scheduler._thread is None)


def test_an_earlier_alarm_wakes_the_thread_that_sleeps_for_a_later_one(
    scheduler: Scheduler,
) -> None:
    rung = threading.Event()
    late = Alarm(int, clock.monotonic() + FAR)
    scheduler.set(late)
    until(lambda: scheduler._wakes_at > clock.steady())
    scheduler.set(Alarm(rung.set, clock.monotonic() + 0.01))
    assert rung.wait(WAIT)
    assert scheduler.switch_off(late)
    until(lambda: scheduler._thread is None)


@pytest.mark.parametrize("error", [ValueError("bad"), SystemExit(1), KeyboardInterrupt()])
def test_one_that_raises_stops_nobody(
    scheduler: Scheduler, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise error

    rung = threading.Event()
    now = clock.monotonic()
    scheduler.set(Alarm(fail, now))
    scheduler.set(Alarm(rung.set, now + 0.01))
    assert rung.wait(WAIT)
    until(lambda: "a timer failed" in caplog.text)
    until(lambda: scheduler._thread is None)


def test_if_no_thread_can_be_had_nothing_is_set(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            scheduler.set(Alarm(int, clock.monotonic()))
    assert scheduler.next_in() == float("inf")
    rung = threading.Event()
    scheduler.set(Alarm(rung.set, clock.monotonic()))
    assert rung.wait(WAIT)
    until(lambda: scheduler._thread is None)


def test_an_alarm_rings_or_is_switched_off_and_never_both(
    scheduler: Scheduler, tiny_switch_interval: None
) -> None:
    """Whoever cancels a timer is told whether it has fired."""
    for _ in range(300):
        rung: list[int] = []
        alarm = Alarm(lambda rung=rung: rung.append(1), clock.monotonic() + 1e-4)
        scheduler.set(alarm)
        end = clock.monotonic() + random.random() * 3e-4
        while clock.monotonic() < end:
            pass
        left = scheduler.switch_off(alarm)
        if left is None:
            until(lambda rung=rung: rung == [1])
        else:
            time.sleep(0)
            assert rung == []
    until(lambda: scheduler._thread is None)


def test_many_threads_set_and_switch_off_and_none_is_lost(
    scheduler: Scheduler, tiny_switch_interval: None
) -> None:
    rung: list[int] = []
    off: list[int] = []

    def play(seed: int) -> None:
        chance = random.Random(seed)
        for number in range(300):
            ident = seed * 1000 + number
            alarm = Alarm(
                lambda ident=ident: rung.append(ident), clock.monotonic() + chance.random() * 0.01
            )
            scheduler.set(alarm)
            if chance.random() < 0.6 and scheduler.switch_off(alarm) is not None:
                off.append(ident)

    threads = [threading.Thread(target=play, args=(seed,)) for seed in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    until(lambda: len(rung) + len(off) == 1500)
    assert len(set(rung) | set(off)) == 1500
    until(lambda: scheduler._thread is None)
    assert scheduler._monotonic._entries == []


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="there are no such signals here")
def test_signal_handlers_and_destructors_may_set_and_switch_off_anywhere(
    scheduler: Scheduler,
) -> None:
    """They strike in the middle of the scheduler's own steps."""
    rung: list[int] = []
    counts = {"set": 0, "off": 0}

    def play() -> None:
        counts["set"] += 1
        scheduler.set(Alarm(lambda: rung.append(1), clock.monotonic()))
        far = Alarm(int, clock.monotonic() + FAR)
        scheduler.set(far)
        assert scheduler.switch_off(far) is not None

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
            alarms = [Alarm(int, clock.monotonic() + FAR + number) for number in range(150)]
            for alarm in alarms:
                scheduler.set(alarm)
            for alarm in alarms:
                assert scheduler.switch_off(alarm) is not None
    finally:
        gc.set_threshold(*threshold)
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    gc.collect()
    assert counts["set"] > 20
    until(lambda: len(rung) == counts["set"])
    until(lambda: scheduler._thread is None)


def test_a_wall_clock_that_is_set_is_noticed(
    scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody tells of it; the thread looks at it every second."""
    ahead = [0.0]
    real = time.time
    rung = threading.Event()
    scheduler.set(Alarm(rung.set, clock.wall() + FAR, is_wall=True))
    until(lambda: scheduler._wakes_at > clock.steady())
    assert scheduler._wakes_at < clock.steady() + 1.5
    monkeypatch.setattr(time, "time", lambda: real() + ahead[0])
    ahead[0] = FAR + 1
    assert rung.wait(WAIT)
    until(lambda: scheduler._thread is None)


def test_the_thread_goes_on_after_an_exception_was_thrown_into_it(scheduler: Scheduler) -> None:
    import ctypes

    rung = threading.Event()
    late = Alarm(rung.set, clock.monotonic() + 0.3)
    scheduler.set(late)
    until(lambda: scheduler._wakes_at > clock.steady())
    thread = scheduler._thread
    assert thread is not None
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread.ident or 0), ctypes.py_object(SystemExit)
    )
    assert rung.wait(WAIT)
    until(lambda: scheduler._thread is None)
    assert sys.getswitchinterval() > 0
