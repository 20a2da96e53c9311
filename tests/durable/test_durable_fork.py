"""Forked children of a process with a durable pool: both go on, each with a store of its own."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from tests.long import IS_LONG, TIMEOUT

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system"),
    pytest.mark.timeout(TIMEOUT),
]

ROUNDS = 10 if IS_LONG else 4

PRELUDE = """
import gc, multiprocessing, os, signal, sqlite3, sys, threading, time, warnings
import oddjob
from tests.durable import service
warnings.simplefilter("ignore")
url, log, rounds, timeout = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
signal.alarm(timeout)  # the end of a process that hangs
os.register_at_fork(after_in_child=lambda: signal.alarm(timeout - 10))
service._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

def in_child(act):
    '''Fork; the child acts and leaves as a program does; returns its exit status.'''
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        try:
            act()
        except BaseException:
            sys.excepthook(*sys.exc_info())
            sys.stderr.flush()
            os._exit(1)
        sys.exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

def runs():
    with open(log) as file:
        return [line.split() for line in file]
"""


def run(script: str, folder: Path, *, rounds: int = ROUNDS) -> str:
    command = [
        sys.executable,
        "-c",
        PRELUDE + textwrap.dedent(script),
        f"sqlite:///{folder}/jobs.db",
    ]
    outcome = subprocess.run(
        [*command, f"{folder}/log", str(rounds), str(TIMEOUT - 10)],
        capture_output=True, text=True, timeout=TIMEOUT - 5, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout


def test_parent_and_children_go_on_with_the_same_pool(tmp_path: Path) -> None:
    """And all of their jobs are there for a third process (fault 6)."""
    out = run(
        """
        pool = oddjob.Pool("work", 2, store=url, keep_succeeded=10**6)
        submitted = 0

        def child():
            gc.collect()
            assert pool.submit(service.work).result(20) in (os.getpid(), os.getppid())
            pool.submit_many(service.work, [0.0] * 20)

        for _ in range(rounds):
            jobs = pool.submit_many(service.work, [0.0] * 10)
            assert in_child(child) == 0
            assert {job.exception(20) for job in jobs} == {None}
            submitted += 31
        context = multiprocessing.get_context("fork")
        for _ in range(rounds):
            process = context.Process(target=child)
            process.start()
            jobs = pool.submit_many(service.work, [0.0] * 10)
            assert {job.exception(20) for job in jobs} == {None}
            process.join()
            assert process.exitcode == 0
            submitted += 31
        while len(runs()) < submitted:
            time.sleep(0.01)
        pool.shutdown()
        ids = [job for job, _ in runs()]
        assert len(ids) == len(set(ids)) == submitted
        print(submitted)
        """,
        tmp_path,
    )
    assert stored_in(tmp_path) == ["ok", out.strip()]


def test_threads_of_a_child_use_the_pool_first_at_the_same_time(tmp_path: Path) -> None:
    """As the first requests do that a web server's worker answers."""
    run(
        """
        pool = oddjob.Pool("work", 2, store=url)
        pool.submit(service.work).result(20)

        def child():
            barrier, errors = threading.Barrier(4), []

            def request():
                barrier.wait()
                errors.append(pool.submit(service.work).exception(20))

            threads = [threading.Thread(target=request) for _ in range(4)]
            for each in threads:
                each.start()
            for each in threads:
                each.join()
            assert errors == [None] * 4, errors

        for _ in range(4 * rounds):
            assert in_child(child) == 0
        pool.shutdown()
        """,
        tmp_path,
    )


def test_children_of_a_server_that_has_only_made_the_pool(tmp_path: Path) -> None:
    """As web servers do: the pool is made before they fork, and used in the children only."""
    run(
        """
        pool = oddjob.Pool("work", 2, store=url)

        def child():
            jobs = pool.submit_many(service.work, [0.0] * 20)
            assert {job.exception(20) for job in jobs} == {None}

        context = multiprocessing.get_context("fork")
        children = [context.Process(target=child) for _ in range(4)]
        for each in children:
            each.start()
        for each in children:
            each.join()
            assert each.exitcode == 0
        """,
        tmp_path,
    )


def test_a_child_that_never_uses_the_pool_leaves_the_store_alone(tmp_path: Path) -> None:
    """To close an inherited connection would delete the log that the parent writes to."""
    run(
        """
        pool = oddjob.Pool("work", 2, store=url)
        pool.submit(service.work).result(20)
        for _ in range(rounds):
            assert in_child(gc.collect) == 0
            pool.submit(service.work).result(20)
        """,
        tmp_path,
    )
    assert stored_in(tmp_path) == ["ok", str(ROUNDS + 1)]


def test_what_a_child_stores_after_its_parent_has_ended_is_there(tmp_path: Path) -> None:
    """SQLite would delete the log with it, if the child had locked nothing of its own (fault 6)."""
    run(
        """
        pool = oddjob.Pool("work", 2, store=url)
        pool.submit(service.work).result(20)
        from_child, to_parent = os.pipe()
        if os.fork() == 0:
            os.close(1)
            os.close(2)
            pool.submit(service.work).result(20)
            os.write(to_parent, b".")
            parent = os.getppid()
            while os.getppid() == parent:
                time.sleep(0.01)
            pool.submit(service.work).result(20)
            service.note("end", "of", "child")
            os._exit(0)
        os.read(from_child, 1)
        pool.drain()
        """,
        tmp_path,
    )
    deadline = time.monotonic() + 20
    while "end of child" not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert stored_in(tmp_path) == ["ok", "3"]


def stored_in(folder: Path) -> list[str]:
    """Return what another process finds: whether the file is intact; how many have succeeded."""
    script = (
        "import sqlite3, sys; c = sqlite3.connect(sys.argv[1]); "
        "print(*c.execute('PRAGMA integrity_check').fetchone(), "
        "*c.execute('SELECT count(*) FROM job WHERE state = 4').fetchone())"
    )
    command = [sys.executable, "-c", script, f"{folder}/jobs.db"]
    return subprocess.check_output(command, text=True).split()


def test_a_job_of_the_parent_is_not_the_childs(tmp_path: Path) -> None:
    """It ends in the parent; the child is told so, and can look it up."""
    run(
        """
        pool = oddjob.Pool("work", 1, store=url)
        running = pool.submit(service.hold, log + ".gate")
        while not runs():
            time.sleep(0.01)

        def child():
            try:
                running.result(20)
            except oddjob.JobLost:
                pass
            else:
                assert False
            found = pool.find(running.id)
            open(log + ".gate", "w").close()
            assert found.result(20) == os.getppid()

        assert in_child(child) == 0
        assert running.result(20) == os.getpid()
        assert len(runs()) == 1
        """,
        tmp_path,
    )


def test_a_fork_in_the_transaction_of_a_job_is_an_error_in_the_child(tmp_path: Path) -> None:
    """The job holds the store until it returns, and may be waiting for that very child."""
    run(
        """
        from tests.durable import effect_jobs

        pool = oddjob.Pool("work", 2, store=url)
        effect_jobs.pools.append(pool)
        assert pool.submit(effect_jobs.fork_in_transaction).result(20) == 0
        assert pool.submit(service.work).result(20) == os.getpid()
        pool.shutdown()
        """,
        tmp_path,
    )


def test_a_fork_in_the_middle_of_a_commit_leaves_the_child_no_lock(tmp_path: Path) -> None:
    """A lock of SQLite's that the store thread holds at that instant would be held for ever."""
    run(
        """
        pool = oddjob.Pool("work", 2, store=url)
        is_over = threading.Event()

        def keep_busy():
            while not is_over.is_set():
                pool.perform_many(service.work, [0.0] * 5)

        threads = [threading.Thread(target=keep_busy) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            for _ in range(rounds * 3):
                child = os.fork()
                if child == 0:
                    sqlite3.connect(log + ".db").execute("CREATE TABLE IF NOT EXISTS t (a)")
                    pool.submit(service.work)
                    os._exit(0)
                assert os.waitpid(child, 0)[1] == 0
        finally:
            is_over.set()
            for thread in threads:
                thread.join()
            pool.drain()
        """,
        tmp_path,
    )
