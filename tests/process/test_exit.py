"""The end of the process, seen from outside: what was accepted runs, and nothing holds it up."""

import subprocess
import sys
import textwrap

import pytest

PRELUDE = """
import atexit, os, sys, threading, time
import oddjob
"""


def run(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-X", "dev", *options, "-c", PRELUDE + textwrap.dedent(script)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )


def assert_quiet(outcome: subprocess.CompletedProcess[str], said: str) -> None:
    assert (outcome.stderr, outcome.stdout, outcome.returncode) == ("", said, 0)


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "pool.shutdown(wait=False)", "del pool"])
def test_queued_jobs_finish_before_the_process_ends(ending: str) -> None:
    """A script that queues work at its end would lose it."""
    outcome = run(f"""
        pool = oddjob.Pool(1)
        gate = threading.Event()
        done = []
        pool.submit(gate.wait)
        for number in range(100):
            pool.perform(done.append, number)
        pool.perform(lambda: print(len(done)))
        gate.set()
        {ending}
    """)
    assert_quiet(outcome, "100\n")


def test_a_named_pool_finishes_too() -> None:
    outcome = run("oddjob.perform('job', print, 'performed')")
    assert_quiet(outcome, "performed\n")


def test_idle_and_unused_pools_do_not_keep_the_process() -> None:
    """Their threads wait for work that will never come."""
    outcome = run("""
        pools = [oddjob.Pool(5) for _ in range(20)] + [oddjob.Pool('named', 3)]
        for pool in pools[::2]:
            list(pool.map(abs, range(20)))
    """)
    assert_quiet(outcome, "")


def test_submitting_after_the_end_is_refused_in_the_standard_words() -> None:
    outcome = run("""
        used, unused = oddjob.Pool(1), oddjob.Pool(1)
        used.submit(abs, 1).result()

        def too_late():
            for pool in used, unused, oddjob.Pool(1):
                try:
                    pool.submit(abs, 1)
                except RuntimeError as error:
                    print(type(error).__name__, error)

        atexit.register(too_late)
    """)
    refused = "PoolClosed cannot schedule new futures after interpreter shutdown\n"
    assert_quiet(outcome, refused * 3)


def test_a_job_that_submits_while_the_process_ends_is_told_so() -> None:
    """As with the standard library: the refusal must not keep the process, or crash it."""
    outcome = run("""
        pool = oddjob.Pool(2)

        def chain():
            try:
                while True:
                    pool.submit(abs, 1).result()
            except RuntimeError as error:
                print(error)

        pool.submit(chain)
    """)
    assert_quiet(outcome, "cannot schedule new futures after interpreter shutdown\n")


def test_other_threads_may_submit_until_the_end_and_lose_nothing() -> None:
    """Every job that was accepted runs, however close to the end it came."""
    outcome = run("""
        pool = oddjob.Pool(3)
        accepted, ran, first = [], [], threading.Event()

        def keep_submitting():
            try:
                for number in range(10**9):
                    pool.perform(ran.append, number)
                    accepted.append(number)
                    first.set()
            except RuntimeError:
                pass

        threads = [threading.Thread(target=keep_submitting) for _ in range(3)]
        for thread in threads:
            thread.start()
        atexit.register(lambda: print(len(accepted) > 0, sorted(ran) == sorted(accepted)))
        first.wait()
    """)
    assert_quiet(outcome, "True True\n")


def test_a_pool_that_was_let_go_is_not_waited_for() -> None:
    outcome = run("""
        pool = oddjob.Pool(1)
        started = threading.Event()
        pool.submit(lambda: (started.set(), time.sleep(100)))
        queued = pool.submit(print, 'never')
        started.wait()
        pool.shutdown(wait=False, cancel_futures=True)
        print(queued.cancelled())
    """)
    assert_quiet(outcome, "True\n")


def test_threads_that_jobs_start_are_waited_for() -> None:
    outcome = run("""
        started = threading.Event()

        def outlive():
            started.wait()
            time.sleep(0.2)
            print('outlived')

        oddjob.Pool(1).submit(lambda: threading.Thread(target=outlive).start()).result()
        started.set()
    """)
    assert_quiet(outcome, "outlived\n")


def test_a_broken_pool_does_not_keep_the_process() -> None:
    outcome = run("""
        import logging
        logging.getLogger('oddjob').addHandler(logging.NullHandler())
        pool = oddjob.Pool(2, initializer=lambda: 1 / 0)
        try:
            pool.submit(abs, 1).result()
        except oddjob.PoolBroken:
            print('broken')
    """)
    assert_quiet(outcome, "broken\n")


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_jobs_of_a_multiprocessing_child_finish(method: str) -> None:
    """Such a child skips atexit handlers; its queue must be finished all the same."""
    outcome = run(f"""
        import multiprocessing, warnings
        warnings.simplefilter('ignore')
        source = '''
        import oddjob, threading
        def child():
            pool = oddjob.Pool(1)
            gate = threading.Event()
            pool.submit(gate.wait)
            pool.perform(print, 'from the child', flush=True)
            gate.set()
        '''
        import tempfile, textwrap
        with tempfile.TemporaryDirectory() as folder:
            with open(folder + '/the_child.py', 'w') as file:
                file.write(textwrap.dedent(source))
            sys.path.insert(0, folder)
            import the_child
            process = multiprocessing.get_context({method!r}).Process(target=the_child.child)
            process.start()
            process.join()
    """)
    assert_quiet(outcome, "from the child\n")


def test_a_queue_whose_last_worker_crashes_at_the_end_is_finished() -> None:
    """From 3.12 on no thread can be started any more at that time."""
    outcome = run("""
        import logging
        logging.getLogger('oddjob').addHandler(logging.NullHandler())
        pool = oddjob.Pool(1)
        ending = threading.Event()
        threading._register_atexit(ending.set)
        pool.perform(ending.wait)
        for _ in range(3):
            pool.submit(sys.exit)
        pool.perform(print, 'finished')
    """)
    assert_quiet(outcome, "finished\n")


def test_ctrl_c_during_a_wait_loses_nothing() -> None:
    """The interrupted wait can be repeated; the pool has noticed nothing."""
    outcome = run("""
        import signal
        pool = oddjob.Pool(1)
        gate = threading.Event()
        job = pool.submit(gate.wait)
        def interrupt():
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        for _ in range(5):
            timer = threading.Timer(0.05, interrupt)
            timer.start()
            try:
                job.result()
            except KeyboardInterrupt:
                print('interrupted')
            timer.join()
        gate.set()
        print(job.result(), pool.submit(pow, 2, 3).result())
    """)
    assert_quiet(outcome, "interrupted\n" * 5 + "True 8\n")


def test_ctrl_c_while_a_pool_ends_leaves_its_jobs_to_the_end_of_the_process() -> None:
    """They finish, as they do without it; the wait can be repeated."""
    outcome = run("""
        import signal
        gate = threading.Event()
        def interrupt():
            while pool.state != 'closed':
                time.sleep(0.001)
            signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        try:
            with oddjob.Pool(1) as pool:
                pool.perform(gate.wait)
                pool.perform(print, 'finished')
                threading.Thread(target=interrupt).start()
        except KeyboardInterrupt:
            print('interrupted', pool.join(0))
        threading._register_atexit(gate.set)
    """)
    assert_quiet(outcome, "interrupted False\nfinished\n")


def test_a_signal_handler_may_submit() -> None:
    """It strikes anywhere, also while its own thread is in the middle of a submit."""
    outcome = run("""
        import signal
        pool = oddjob.Pool(3)
        sent, ran = [], []

        def handler(*_):
            sent.append(1)
            pool.perform(ran.append, 1)

        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
        for _ in range(200):
            for job in [pool.submit(abs, 1) for _ in range(100)]:
                job.result()
        signal.setitimer(signal.ITIMER_REAL, 0)
        pool.shutdown()
        print(len(sent) > 5, len(sent) == len(ran))
    """)
    assert_quiet(outcome, "True True\n")


def test_a_stuck_job_does_not_keep_the_process_past_the_exit_timeout() -> None:
    """A service that has to be killed in the end loses what its exit would have saved."""
    outcome = run("""
        stuck = oddjob.Pool('stuck', 1, exit_timeout=0.2)
        stuck.submit(time.sleep, 1000)
        queued = stuck.submit_many(abs, range(3))
        for job in queued:
            job.add_done_callback(lambda job: print('cancelled', job.cancelled()))
    """)
    assert outcome.stdout == "cancelled True\n" * 3
    assert outcome.stderr == (
        "pool stuck: the time for its end is up; jobs: 3 cancelled, 1 left running\n"
    )
    assert outcome.returncode == 0


def test_an_exit_timeout_that_is_not_needed_changes_nothing() -> None:
    outcome = run("""
        oddjob.configure({'exit_timeout': 40, 'pool_size': 1, 'extra_pools': ['email']})
        oddjob.perform('email', time.sleep, 0.1)
        oddjob.perform_many('email', print, ['first', 'second'])
    """)
    assert_quiet(outcome, "first\nsecond\n")


def test_an_exit_timeout_of_nothing_waits_for_nothing() -> None:
    outcome = run("""
        import logging
        logging.disable()
        pool = oddjob.Pool(1, exit_timeout=0)
        pool.submit(time.sleep, 1000)
        pool.submit(print, 'never')
    """)
    assert_quiet(outcome, "")


def test_a_thread_that_is_stuck_in_a_job_that_timed_out_is_not_waited_for() -> None:
    outcome = run("""
        import logging
        logging.disable()
        pool = oddjob.Pool(1, max_abandoned=0)
        pool.options(timeout=0.05).submit(time.sleep, 1000)
        pool.submit(print, 'after it')
    """)
    assert_quiet(outcome, "after it\n")


def test_what_a_drain_left_running_is_not_waited_for() -> None:
    outcome = run("""
        pool = oddjob.Pool(1)
        pool.submit(time.sleep, 1000)
        pool.submit(print, 'never')
        report = pool.drain(timeout=0.05)
        print(len(report.cancelled), len(report.running))
    """)
    assert_quiet(outcome, "1 1\n")


def test_a_process_that_is_told_to_stop_drains_its_pools() -> None:
    """The pattern of the README, with a signal from outside."""
    script = """
        import signal
        pool = oddjob.Pool(2)

        def terminate(signum, frame):
            raise SystemExit(3)

        def end_once_it_drains(_):
            while pool.state == 'running':
                time.sleep(0.01)

        signal.signal(signal.SIGTERM, terminate)
        jobs = pool.submit_many(end_once_it_drains, range(2))
        jobs += pool.submit_many(time.sleep, [1000, 1000, 0, 0])
        try:
            print('ready', flush=True)
            while True:  # a single long sleep may begin just after the signal, unaware of it
                time.sleep(0.05)
        finally:
            print([len(part) for part in pool.drain(timeout=2)])
    """
    process = subprocess.Popen(
        [sys.executable, "-X", "dev", "-c", PRELUDE + textwrap.dedent(script)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.terminate()
    said, complained = process.communicate(timeout=50)
    assert (said, complained, process.returncode) == ("[2, 2, 2, 0]\n", "", 3)


def test_a_nested_coroutine_that_hangs_does_not_keep_the_process() -> None:
    """It runs in a thread of its own while its worker waits: that is no reason to wait for it."""
    outcome = run("""
        import asyncio, logging
        logging.disable()
        pool = oddjob.Pool(1, exit_timeout=0.3)

        async def inner():
            time.sleep(1000)

        async def outer():
            return pool.options(timeout=0.1).submit(inner).result()

        pool.submit(outer)
        time.sleep(0.3)
    """)
    assert_quiet(outcome, "")
