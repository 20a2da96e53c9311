"""Forked children: every pool is there, empty and working, whatever its parent was doing."""

import os
import subprocess
import sys
import textwrap

import pytest

from tests.long import IS_LONG

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")

PRELUDE = """
import os, sys, threading, time
import oddjob

def in_child(act):
    '''Fork; the child acts and leaves as a program does; returns its exit status.'''
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            act()
        except SystemExit:  # of a child of this child
            raise
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
"""


def run(script: str) -> None:
    outcome = subprocess.run(
        [
            sys.executable,
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            PRELUDE + textwrap.dedent(script) + "\nprint('well')",
        ],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    said = outcome.stdout.splitlines()
    assert (outcome.stderr, said[-1:], outcome.returncode) == ("", ["well"], 0)


def test_a_job_that_waited_when_its_process_was_forked_says_so_in_the_child() -> None:
    run("""
        pool = oddjob.Pool(1)
        gate = threading.Event()
        running = pool.submit(gate.wait)
        waiting = [pool.options(after=running).submit(int), pool.after(60).submit(int)]

        def child():
            for job in waiting:
                assert job.queued_at is None
                assert job.why() == (
                    'it was pending when this process was forked, and belongs to the parent'
                )

        assert in_child(child) == 0
        gate.set()
        assert waiting[0].result(10) == 0
        assert waiting[1].cancel()
    """)


def test_a_child_of_a_busy_process_can_use_its_pools() -> None:
    """Web servers and multiprocessing fork after the pools have been made, and used."""
    run("""
        busy, named = oddjob.Pool(2), oddjob.Pool('named', 3)
        gate = threading.Event()
        standing = [busy.submit(gate.wait) for _ in range(20)]
        assert list(named.map(abs, range(50))) == list(range(50))

        def child():
            assert busy.queue() == [] and busy.workers() == []
            assert [busy.submit(pow, 2, n).result(10) for n in range(9)] == [2**n for n in range(9)]
            assert oddjob.pool('named') is named
            assert list(named.map(abs, range(50))) == list(range(50))
            oddjob.perform('job', abs, 1)
            assert oddjob.shutdown_all(10)

        assert in_child(child) == 0
        gate.set()
        assert all(job.result(10) for job in standing)
    """)


def test_limits_are_free_in_a_child() -> None:
    """What the parent's jobs hold, no job of the child gives back."""
    run("""
        gate, running = threading.Event(), threading.Barrier(2)
        view = oddjob.Pool(2).options(max_concurrency=1)
        first = view.submit(lambda: (running.wait(10), gate.wait(10)))
        running.wait(10)

        def child():
            assert view.submit(abs, -1).result(10) == 1

        assert in_child(child) == 0
        gate.set()
        first.result(10)
    """)


def test_jobs_of_the_parent_stay_the_parents() -> None:
    """Run in both processes they would be run twice."""
    run("""
        import tempfile
        pool = oddjob.Pool(1)
        gate = threading.Event()
        pool.submit(gate.wait)
        log = tempfile.NamedTemporaryFile('a+', buffering=1)
        pool.perform(lambda: log.write(f'{os.getpid()} '))

        def child():
            pool.submit(abs, 1).result(10)
            gate.set()
            pool.shutdown()

        assert in_child(child) == 0
        gate.set()
        pool.shutdown()
        log.seek(0)
        assert log.read() == f'{os.getpid()} '
    """)


def test_a_child_is_told_that_a_pending_job_of_its_parent_will_not_end_in_it() -> None:
    """It would wait for ever otherwise."""
    run("""
        import asyncio
        pool = oddjob.Pool(1)
        gate = threading.Event()
        done = pool.submit(abs, 3)
        done.result(10)
        pending = [pool.submit(gate.wait), pool.submit(abs, 1)]

        async def await_it(job):
            await job

        def child():
            assert done.result() == 3
            for job in pending:
                for wait in job.result, job.exception, lambda: asyncio.run(await_it(job)):
                    try:
                        wait()
                    except oddjob.JobLost as error:
                        assert isinstance(error, RuntimeError)
                    else:
                        raise AssertionError('no error')

        assert in_child(child) == 0
        gate.set()
        assert pending[1].result(10) == 1
    """)


@pytest.mark.parametrize(
    "lock",
    [
        "pool._core.state.lock",
        "pool._core.metrics._lock",
        "pool._core.use_limits()._lock",
        "sys.modules['oddjob.registry'].registry.lock",
        "sys.modules['oddjob.runtime.shared_state'].install_lock.lock",
        "sys.modules['oddjob.runtime.lifecycle']._process.lock",
        "sys.modules['oddjob.runtime.inline']._lock.lock",
        "sys.modules['oddjob.schedule.scheduler'].scheduler.lock",
        "sys.modules['oddjob.tracebacks']._inspection.lock",
    ],
)
def test_no_lock_is_inherited_locked(lock: str) -> None:
    """Another thread holds the lock at the moment of the fork."""
    run(f"""
        pool = oddjob.Pool('used', 2)
        pool.submit(abs, 1).result(10)
        held, forked = threading.Event(), threading.Event()

        def hold():
            with {lock}:
                held.set()
                forked.wait(30)

        holder = threading.Thread(target=hold)
        holder.start()
        held.wait(10)

        def child():
            assert pool.submit(pow, 2, 3).result(10) == 8
            assert len(pool.submit(pow, 2, 3).id) == 32
            assert oddjob.pool('used') is pool
            oddjob.configure({{}})
            with oddjob.Pool(1) as other:
                assert other.submit(pow, 2, 3).result(10) == 8
            assert oddjob.shutdown_all(10)

        try:
            assert in_child(child) == 0
        finally:
            forked.set()
    """)


def test_a_closed_pool_stays_closed_and_a_broken_one_begins_anew() -> None:
    run("""
        import logging
        logging.disable()
        closed, broken = oddjob.Pool(1), oddjob.Pool(1, max_restarts=0, max_seconds=100)
        closed.submit(abs, 1).result(10)
        closed.shutdown()
        try:
            while True:
                broken.submit(sys.exit).exception(10)
        except oddjob.PoolBroken:
            pass

        def child():
            try:
                closed.submit(abs, 1)
            except oddjob.PoolClosed:
                pass
            else:
                raise AssertionError('open')
            assert broken.submit(abs, 1).result(10) == 1

        assert in_child(child) == 0
    """)


def test_children_fork_again_and_workers_fork() -> None:
    run("""
        pool = oddjob.Pool(2)

        def deeper(depth):
            assert pool.submit(pow, 2, 3).result(10) == 8
            if depth:
                assert in_child(lambda: deeper(depth - 1)) == 0

        deeper(3)
    """)


def test_multiprocessing_children_use_the_pools_of_their_parent() -> None:
    run("""
        import multiprocessing
        pool = oddjob.Pool('shared', 2)
        pool.submit(abs, 1).result(10)

        def task(number):
            return oddjob.pool('shared').submit(pow, number, 2).result(10)

        with multiprocessing.get_context('fork').Pool(2) as processes:
            assert processes.map(task, range(20)) == [number**2 for number in range(20)]
    """)


def test_a_child_of_a_job_finishes_its_queue_at_its_end_and_waits_as_any_thread() -> None:
    """The thread that has forked is a worker in its parent only."""
    run("""
        import multiprocessing
        pool = oddjob.Pool('shared', 1, max_queue=1)
        reader, writer = os.pipe()

        def tell(number):
            os.write(writer, b'%d' % number)

        def child():
            pool.perform_many(tell, range(5))  # waits for room
            with oddjob.Pool(1) as other:
                other.perform(tell, 5)
            pool.perform(tell, 6)

        def start():
            process = multiprocessing.get_context('fork').Process(target=child)
            process.start()
            process.join()
            return process.exitcode

        assert pool.submit(start).result(20) == 0
        assert sorted(os.read(reader, 99)) == list(b'0123456')
    """)


def test_many_forks_while_threads_submit_find_every_child_working() -> None:
    """Unforced: the fork may strike anywhere in a submit."""
    run(f"""
        pool = oddjob.Pool(3)
        stop = threading.Event()

        def keep_submitting():
            while not stop.is_set():
                pool.submit(abs, 1).result(10)

        threads = [threading.Thread(target=keep_submitting) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range({30 if IS_LONG else 10}):
                assert in_child(lambda: pool.submit(pow, 2, 3).result(10)) == 0
        finally:
            stop.set()
    """)


def test_a_job_that_forks_and_returns_in_both_processes_runs_no_job_twice() -> None:
    """The child's copy of the worker comes back into a loop whose queue is its parent's."""
    run("""
        pool = oddjob.Pool(1)
        gate = threading.Event()

        def fork():
            gate.wait(10)
            return os.fork()

        def tell(number):
            os.write(1, f'{number}\\n'.encode())

        forked = pool.submit(fork)
        rest = pool.submit_many(tell, range(3))
        gate.set()
        child = forked.result(10)
        for job in rest:
            job.result(10)
        assert os.waitpid(child, 0)[1] == 0
    """)


def test_an_observer_set_later_observes_in_the_child_too() -> None:
    run("""
        pool = oddjob.Pool(1)
        pool.on_event = print

        def child():
            assert pool.on_event is print

        assert in_child(child) == 0
    """)


def test_a_failure_that_nobody_has_looked_at_is_reported_by_the_process_whose_job_it_is() -> None:
    """Otherwise each worker of a pre-fork server would report it once more."""
    run("""
        import logging
        logging.disable()
        heard = []
        pool = oddjob.Pool('loaded', 1, on_error=lambda job, error: heard.append(job.name))
        first = pool.options(name='first').submit(int, 'no number')
        while not first.done():
            time.sleep(0.001)

        def child():
            global first
            del first
            pool.options(name='second').submit(int, 'no number')
            pool.shutdown()
            assert heard == ['second'], heard

        assert in_child(child) == 0
        pool.shutdown()
        assert heard == [], heard
        del first
        assert heard == ['first'], heard
    """)
