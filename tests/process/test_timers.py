"""Timers at the end of a process, and in forked children, seen from outside."""

import os
import signal
import subprocess
import sys
import time

import pytest

from tests.process.test_exit import PRELUDE, assert_quiet, run


def assert_unfired(outcome: subprocess.CompletedProcess[str], said: str) -> None:
    """Check what a process has printed, and that it has reported timers that never fired."""
    assert (outcome.stdout, outcome.returncode) == (said, 0)
    assert "never fired" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


@pytest.mark.parametrize(
    "how",
    [
        "after(3600).submit(print, 'no')",
        "after(3600).perform(print, 'no')",
        "every(3600).perform(print, 'no')",
        "cron('0 0 1 1 *').perform(print, 'no')",
        "at(datetime.datetime(2999, 1, 1)).perform(print, 'no')",
    ],
)
def test_timers_do_not_keep_a_process_alive_and_it_reports_those_that_never_fired(
    how: str,
) -> None:
    """A script whose only purpose is a timer must not end without a word."""
    outcome = run(f"""
        import datetime
        pool = oddjob.Pool('mail', 2)
        pool.submit(int).result()
        timer = pool.{how}
        atexit.register(lambda: print('over'))
    """)
    assert_unfired(outcome, "over\n")


def test_the_end_of_a_process_cancels_the_jobs_of_its_timers() -> None:
    outcome = run("""
        pool = oddjob.Pool('mail', 2)
        job = pool.after(3600).submit(int)
        job.add_done_callback(lambda job: print(job.cancelled()))
    """)
    assert_unfired(outcome, "True\n")


@pytest.mark.parametrize("ending", ["", "sys.exit(0)", "del pool"])
def test_a_process_waits_for_timers_that_are_not_daemons(ending: str) -> None:
    outcome = run(f"""
        pool = oddjob.Pool(2)
        pool.after(0.3, daemon=False).perform(print, 'one')
        pool.after(0.2, daemon=False).submit_many(print, ['two'])
        pool.after(3600, daemon=False).perform(print, 'no').cancel()
        pool.after(3600).perform(print, 'no')
        {ending}
    """)
    assert_unfired(outcome, "two\none\n")


def test_a_process_waits_for_a_recurring_timer_until_that_is_cancelled() -> None:
    outcome = run("""
        pool = oddjob.Pool('beat', 2)
        def beat():
            print('beat')
            if timer.fired == 3:
                timer.cancel()
        timer = pool.every(0.05, daemon=False).perform(beat)
    """)
    assert_quiet(outcome, "beat\n" * 3)


def test_a_process_says_nothing_of_a_recurring_timer_that_has_fired() -> None:
    outcome = run("""
        pool = oddjob.Pool('beat', 2)
        fired = threading.Event()
        pool.every(0.01).perform(fired.set)
        fired.wait(10)
    """)
    assert_quiet(outcome, "")


@pytest.mark.parametrize("first", ["", "fired.wait(10)"], ids=["before it fires", "after it"])
def test_timers_that_end_with_the_main_thread_while_another_serves_on_are_reported(
    first: str,
) -> None:
    """A server whose main thread ends after its set-up has no timers, and would not know why."""
    outcome = run(f"""
        pool = oddjob.Pool('beat', 2)
        fired, over = threading.Event(), threading.Event()
        pool.every(0.01).perform(fired.set)
        threading.Thread(target=over.wait, name='server').start()
        threading.Timer(0, lambda: (threading.main_thread().join(), over.set())).start()
        {first}
    """)
    assert (outcome.stdout, outcome.returncode) == ("", 0)
    assert "the main thread has ended, and its timers (1), while" in outcome.stderr
    assert "server" in outcome.stderr
    assert "oddjob.run_forever()" in outcome.stderr
    assert outcome.stderr.count("\n") == 1


def test_idle_threads_of_executors_are_not_taken_for_servers() -> None:
    outcome = run("""
        from concurrent.futures import ThreadPoolExecutor
        executor, pool = ThreadPoolExecutor(2), oddjob.Pool('beat', 2)
        fired = threading.Event()
        pool.every(0.01).perform(fired.set)
        executor.submit(fired.wait, 10).result()
    """)
    assert_quiet(outcome, "")


def test_timers_of_a_pool_that_is_shut_down_do_not_keep_a_process_alive() -> None:
    outcome = run("""
        with oddjob.Pool('beat', 2) as pool:
            pool.every(3600, daemon=False).perform(print, 'no')
    """)
    assert_quiet(outcome, "")


def test_a_process_that_waits_for_a_timer_can_be_interrupted() -> None:
    script = (
        PRELUDE + "oddjob.Pool(1).after(3600, daemon=False).perform(int); print('set', flush=True)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "set\n"
    deadline = time.monotonic() + 40
    while process.poll() is None and time.monotonic() < deadline:
        process.send_signal(signal.SIGINT)
        time.sleep(0.1)
    process.communicate()
    assert process.returncode is not None


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_forked_child_has_no_timers_but_can_set_its_own() -> None:
    """Otherwise each worker of a pre-fork server would send the newsletter."""
    outcome = run("""
        import warnings; warnings.simplefilter('ignore')
        pool = oddjob.Pool('mail', 2)
        job = pool.after(0.5).submit(lambda: 'parent')
        timer = pool.every(0.5).perform(print, 'beat', flush=True)
        child = os.fork()
        if child == 0:
            assert timer.remaining() is False, timer
            assert timer.cancel() is False
            try:
                job.result(5)
            except oddjob.JobLost:
                print('lost', flush=True)
            print(pool.after(0.6).submit(lambda: 'child').result(10), flush=True)
            os._exit(0)
        os.waitpid(child, 0)
        print(job.result(10))
        timer.cancel()
    """)
    assert (outcome.stderr, outcome.returncode) == ("", 0)
    lines = outcome.stdout.split()
    assert [each for each in lines if each != "beat"] == ["lost", "child", "parent"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
def test_a_child_that_is_forked_while_timers_fire_works() -> None:
    """Whatever lock was held at that moment."""
    outcome = run("""
        import warnings; warnings.simplefilter('ignore')
        sys.setswitchinterval(1e-5)
        pool = oddjob.Pool('mail', 2)
        timers = [pool.every(0.001 * (1 + number)).perform(int) for number in range(20)]
        for _ in range(20):
            child = os.fork()
            if child == 0:
                ok = pool.after(0.001).submit(lambda: 7).result(20) == 7
                os._exit(0 if ok else 1)
            assert os.waitpid(child, 0)[1] == 0
        print(len(pool.drain(10).timers))
    """)
    assert_quiet(outcome, "20\n")
