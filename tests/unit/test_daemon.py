"""SignalWaiter: the main thread hears of every signal, whatever it is about to do."""

import gc
import os
import signal
import threading
from math import inf

import pytest

import oddjob
from oddjob.daemon import SignalWaiter, run_until
from oddjob.runtime import lifecycle


def test_a_signal_that_comes_before_the_wait_ends_it() -> None:
    """Also if its handler has not run yet, when the main thread is about to block."""
    seen: list[int] = []
    with SignalWaiter(seen.append) as waiter:
        os.kill(os.getpid(), signal.SIGTERM)
        waiter.wait(inf)
        assert seen == [signal.SIGTERM]


def test_another_thread_can_end_the_wait_and_so_can_time() -> None:
    with SignalWaiter(print) as waiter:
        thread = threading.Thread(target=waiter.wake)
        thread.start()
        waiter.wait(inf)
        thread.join()
        waiter.wait(0.001)


def test_handlers_are_as_they_were_afterwards() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    with SignalWaiter(print):
        assert signal.getsignal(signal.SIGTERM) != before[0]
    assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_pools_are_drained_when_it_is_enough() -> None:
    pool = oddjob.Pool("enough", 1)
    gate = threading.Event()
    job = pool.submit(gate.wait, 10)
    assert run_until(0.01, lambda: True) == 1  # that job is left
    gate.set()
    assert job.result(10)
    with pytest.raises(oddjob.PoolClosed):
        pool.submit(print)


def test_a_pool_that_was_shut_down_before_does_no_harm() -> None:
    """Something may still know of it, although it has been collected."""
    pool = oddjob.Pool("gone", 1)
    known = [core for core in lifecycle.known_cores() if core.name == "gone"]
    pool.shutdown()
    del pool
    gc.collect()
    assert [core.pool for core in known] == [None]
    assert run_until(0.01, lambda: True) == 0


def test_only_the_main_thread_can_handle_signals() -> None:
    pool = oddjob.Pool("elsewhere", 1)
    with pytest.raises(RuntimeError, match="belongs into the main thread"):
        pool.submit(oddjob.run_forever).result(10)
    pool.shutdown()
