"""`run_forever`: a program that only runs its pools ends when it is asked to."""

import signal
import subprocess
import sys
import textwrap

import pytest

from tests.process.test_exit import PRELUDE, assert_quiet, run

PROGRAM = """
    import _thread, signal
    pool = oddjob.Pool('nightly', 1)
    ticks = threading.Semaphore(0)
    queued = []

    @pool.job(every=0.01, overlap=False)
    def tick():
        ticks.release()

    def end():
        for _ in range(3):
            assert ticks.acquire(timeout=10)
        pool.submit(lambda: (pool.perform(queued.append, 'run'), ending()))

    threading.Thread(target=end).start()
    oddjob.run_forever()
    assert queued == ['run'], queued
    assert pool.state == 'closed'
    print('over')
"""


@pytest.mark.parametrize(
    "ending",
    [
        "_thread.interrupt_main()",
        "_thread.interrupt_main(signal.SIGTERM)",
        "os.kill(os.getpid(), signal.SIGINT)",
        "os.kill(os.getpid(), signal.SIGTERM)",
    ],
)
def test_a_program_of_decorated_functions_runs_until_it_is_told_to_end(ending: str) -> None:
    """What is queued when the signal comes is still run."""
    assert_quiet(run(f"def ending(): {ending}\n" + textwrap.dedent(PROGRAM)), "over\n")


def test_the_handlers_of_a_program_are_its_own_again_afterwards() -> None:
    outcome = run("""
        import signal
        mine = lambda number, frame: print('mine')
        signal.signal(signal.SIGTERM, mine)
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGTERM]).start()
        oddjob.run_forever()
        assert signal.getsignal(signal.SIGTERM) is mine
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        assert signal.set_wakeup_fd(-1) == -1
        signal.raise_signal(signal.SIGTERM)
    """)
    assert_quiet(outcome, "mine\n")


def test_every_pool_is_drained_although_the_callback_of_a_job_raises() -> None:
    outcome = run("""
        import signal
        gate = threading.Event()
        pools = [oddjob.Pool(1), oddjob.Pool(1)]
        def leave(job):
            raise SystemExit
        for pool in pools:
            pool.submit(gate.wait)
            pool.submit(int).add_done_callback(leave)
        threading.Timer(0.05, os.kill, [os.getpid(), signal.SIGTERM]).start()
        try:
            oddjob.run_forever(timeout=0)
        except SystemExit:
            print([pool.state for pool in pools], [len(pool.queue()) for pool in pools])
        gate.set()
    """)
    assert outcome.stdout == "['closed', 'closed'] [0, 0]\n"


def test_a_second_signal_ends_the_process_at_once() -> None:
    script = PRELUDE + textwrap.dedent("""
        import signal
        pool = oddjob.Pool(1)
        entered = threading.Event()
        pool.submit(lambda: (entered.set(), time.sleep(60)))
        entered.wait(10)
        threading.Timer(0, lambda: (
            os.kill(os.getpid(), signal.SIGTERM),
            [time.sleep(0.001) for _ in iter(lambda: pool.state == 'running', False)],
            os.kill(os.getpid(), signal.SIGTERM),
        )).start()
        oddjob.run_forever()
    """)
    process = subprocess.run([sys.executable, "-c", script], timeout=50, check=False)
    assert process.returncode == -signal.SIGTERM


def test_run_forever_is_for_the_main_thread() -> None:
    outcome = run("""
        def serve():
            try:
                oddjob.run_forever()
            except RuntimeError as error:
                print(error)
        thread = threading.Thread(target=serve)
        thread.start()
        thread.join()
    """)
    assert_quiet(outcome, "run_forever() handles signals, so it belongs into the main thread\n")
