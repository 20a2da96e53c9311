"""Functions with effects that must not happen twice, for tests."""

import asyncio
import os
import sqlite3
import threading
import time
from contextlib import suppress
from typing import Any

import oddjob

pools: list[oddjob.Pool] = []
effects: list[Any] = []
gate = threading.Event()
entered = threading.Semaphore(0)


def this_job() -> "oddjob.Job[Any]":
    job = oddjob.current_job()
    assert job is not None
    return job


def note(value: Any) -> Any:
    effects.append(value)
    return value


async def note_later(value: Any) -> Any:
    await asyncio.sleep(0)
    return note(value)


def in_steps(failures: int) -> list[Any]:
    job = this_job()
    values = [job.step(name, note, [name]) for name in ("one", "two")]
    values.append(job.step("one", note, "again"))
    if job.attempt <= failures:
        raise OSError(job.attempt)
    return values


async def in_async_steps(failures: int) -> list[Any]:
    job = this_job()
    values = [await job.step(name, note_later, name) for name in ("one", "two")]
    if job.attempt <= failures:
        raise OSError(job.attempt)
    return values


def with_unstorable_step() -> None:
    this_job().step("lock", threading.Lock)


def with_failing_step() -> str:
    job = this_job()
    return job.step("flaky", fail_first, job)


def fail_first(job: "oddjob.Job[Any]") -> str:
    if note(job.attempt) == 1:
        raise OSError
    return "done"


def lose() -> None:
    entered.release()
    gate.wait(10)
    try:
        this_job().step("late", note, "late")
    except oddjob.JobLost as error:
        note(str(error))


def write(path: str, value: Any) -> Any:
    """Write in a transaction of its own."""
    with sqlite3.connect(path) as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
    connection.close()
    return value


def write_once(value: Any, failures: int = 0) -> Any:
    job = this_job()
    with job.transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
    if job.attempt <= failures:
        raise OSError(job.attempt)
    return value


async def write_once_in_loop(value: Any) -> Any:
    with this_job().transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
    await asyncio.sleep(0)
    return value


def catch_failure(value: Any) -> str:
    """Go on after the block has failed, with another one."""
    job = this_job()
    try:
        with job.transaction() as connection:
            connection.execute("INSERT INTO effect VALUES ('undone')")
            raise KeyError
    except KeyError:
        pass
    with job.transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
    return "done"


def step_twice() -> list[Any]:
    """Ask for a step twice, in a transaction; and once more after another one was undone."""
    job = this_job()
    with suppress(KeyError), job.transaction():
        job.step("undone", note, "undone")
        raise KeyError
    with job.transaction():
        return [job.step(name, note, name) for name in ("undone", "kept", "kept")]


def misuse(how: str) -> str:
    job = this_job()
    with job.transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (how,))
        if how == "commit":
            connection.commit()
        elif how == "COMMIT":
            connection.execute("COMMIT")
        elif how == "script":
            connection.executescript("SELECT 1")
        elif how == "submit":
            pools[0].submit(note, 1)
        elif how == "twice":
            with job.transaction():
                pass
        elif how == "close":
            connection.close()
    return how


def hang_in_transaction() -> None:
    with this_job().transaction() as connection:
        connection.execute("INSERT INTO effect VALUES ('late')")
        entered.release()
        gate.wait(10)
        note(refused(connection))
        entered.release()


def refused(connection: sqlite3.Connection) -> str:
    try:
        connection.execute("INSERT INTO effect VALUES ('later')")
    except sqlite3.Error as error:
        return str(error)
    return "accepted"


def submit_next(value: Any) -> Any:
    """Write, and hand on to the next job, in one transaction."""
    job = this_job()
    with job.transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
        pools[0].using(connection).perform(write_once, value + 1)
        assert job.step("in it", note, value) == value
    return value


# For processes that are killed.


def write_slowly(value: Any) -> None:
    """Be killed before, in, or after the transaction."""
    time.sleep(0.001)
    with this_job().transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (?)", (value,))
        time.sleep(0.001)


def log_steps(path: str, value: int) -> None:
    """Take two steps; write a line for each time that one runs, and for each value that is seen."""
    job = this_job()
    log = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for name in ("one", "two"):
            found = job.step(name, log_run, log, value, name)
            os.write(log, f"saw {value} {name} {found}\n".encode())
            time.sleep(0.001)
    finally:
        os.close(log)


def log_run(log: int, value: int, name: str) -> str:
    found = f"{os.getpid()}-{os.urandom(4).hex()}"
    os.write(log, f"ran {value} {name} {found}\n".encode())
    time.sleep(0.001)
    return found


def lose_transaction() -> None:
    entered.release()
    gate.wait(10)
    try:
        with this_job().transaction() as connection:
            connection.execute("INSERT INTO effect VALUES ('late')")
    except oddjob.JobLost as error:
        note(str(error))


def fill_up() -> str:
    """Leave no room for the outcome, the first time."""
    with this_job().transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (1)")
        if not effects:
            (pages,) = connection.execute("PRAGMA page_count").fetchone()
            connection.execute(f"PRAGMA max_page_count = {pages}").fetchone()
    note(this_job().attempt)
    return "x" * 100_000


def return_too_much() -> str:
    """Return more than a store takes."""
    with this_job().transaction() as connection:
        connection.execute("INSERT INTO effect VALUES (1)")
    return note("x" * 100_000)


def leave_cursor() -> None:
    """Leave a statement behind that has not been read to its end, so that there is no commit."""
    with this_job().transaction() as connection:
        note(connection.execute("INSERT INTO effect VALUES (1), (2), (3) RETURNING value"))


async def submit_in_loop() -> None:
    with this_job().transaction():
        await pools[0].asubmit(note, 1)


def fork_in_transaction() -> int:
    """Return the exit status of a child that submits a job."""
    with this_job().transaction():
        child = os.fork()
        if child == 0:
            try:
                pools[0].perform(note, 1)
            except RuntimeError as error:
                os._exit("was forked by a job with an open transaction" not in str(error))
            os._exit(2)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
