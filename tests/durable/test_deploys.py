"""The planned end of a process: what has begun finishes, all else goes back to the store."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from oddjob import Pool
from oddjob.durable.record import Record, State
from tests.durable import service
from tests.durable.conftest import WAIT, Process, Start

Lines = Callable[[int], list[list[str]]]


@pytest.fixture
def url(any_url: str) -> str:
    return any_url


@pytest.fixture
def submitter(url: str) -> Iterator[Pool]:
    with Pool(service.POOL, store=url, consume=False) as pool:
        yield pool


def record_of(pool: Pool, job_id: str) -> Record:
    record = pool._core.store.open().call(lambda store: store.reader.record(job_id))
    assert isinstance(record, Record)
    return record


def said(process: Process) -> str:
    output, _ = process.communicate(timeout=WAIT)
    return output


def test_a_signal_hands_back_what_has_not_begun_and_finishes_what_has(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    """No attempt is charged, and nothing is begun after the signal (fault 21)."""
    gate = f"{tmp_path}/gate"
    running = submitter.submit_many(service.hold, [gate] * 4)
    queued = submitter.submit_many(service.work, [0.0] * 100)
    server = serve("serve", "30")
    lines(4)
    server.send_signal(signal.SIGTERM)
    wait_for(lambda: record_states(submitter, [each.id for each in queued]) == {State.QUEUED})
    Path(gate).touch()
    assert said(server) == "drained\n"
    assert server.returncode == 0
    assert {each.result(WAIT) for each in running} == {server.pid}
    assert len(lines(4)) == 4
    other = serve()
    assert {each.result(WAIT) for each in queued} == {other.pid}
    records = [record_of(submitter, each.id) for each in queued]
    assert {(each.attempt, each.crashes) for each in records} <= {(0, 0), (1, 0)}


def record_states(pool: Pool, jobs: list[str]) -> set[State]:
    return {record_of(pool, each).state for each in jobs}


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_job_that_does_not_end_in_time_runs_elsewhere_and_is_not_to_blame(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    """Three deploys must not make a long job one that has killed three processes."""
    job = submitter.submit(service.hold, f"{tmp_path}/gate")
    for number in range(1, 4):
        server = serve("serve", "0.1")
        lines(number)
        server.send_signal(signal.SIGTERM)
        assert said(server) == "drained\n"
        assert record_of(submitter, job.id).crashes == 0
    Path(f"{tmp_path}/gate").touch()
    server = serve()
    assert job.result(WAIT) == server.pid


def test_a_second_signal_ends_the_process_at_once(
    submitter: Pool, serve: Start, lines: Lines, tmp_path: Path
) -> None:
    submitter.submit(service.hold, f"{tmp_path}/gate")
    server = serve("serve", "1000")
    lines(1)
    server.send_signal(signal.SIGINT)
    wait_for(lambda: is_handling_by_default(server.pid))
    server.send_signal(signal.SIGTERM)
    assert said(server) == ""
    assert server.returncode == -signal.SIGTERM


def is_handling_by_default(pid: int) -> bool:
    caught = Path(f"/proc/{pid}/status").read_text().partition("SigCgt:")[2].split()[0]
    return not int(caught, 16) & 1 << (signal.SIGTERM - 1)


PRELUDE = """
import atexit, os, signal, sys, threading, time
import oddjob
from tests.durable import jobs, service
pool = oddjob.Pool("work", 2, store=sys.argv[1])
service._log = os.open(sys.argv[2], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
"""


def run(script: str, url: str, folder: Path) -> str:
    outcome = subprocess.run(
        [sys.executable, "-c", PRELUDE + textwrap.dedent(script), url, f"{folder}/log"],
        capture_output=True, text=True, timeout=40, check=False,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert (outcome.returncode, outcome.stderr) == (0, "")
    return outcome.stdout


def test_a_signal_handler_may_drain(
    submitter: Pool, serve: Start, url: str, tmp_path: Path
) -> None:
    """It strikes anywhere, also in the middle of a submit."""
    out = run(
        """
        def drain(*_):
            pool.drain(10)
            print("drained", flush=True)

        signal.signal(signal.SIGTERM, drain)
        threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGTERM)).start()
        accepted = []
        try:
            while True:
                accepted.append(pool.submit(service.work).id)
        except oddjob.PoolClosed:
            print(len(accepted))
        """,
        url, tmp_path,
    )  # fmt: skip
    drained, count = out.split()
    assert drained == "drained"
    serve()
    wait_for(lambda: finished(submitter) >= int(count))
    jobs = [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()]
    assert len(jobs) == len(set(jobs))


def finished(pool: Pool) -> int:
    counts = pool._core.store.open().call(lambda store: store.reader.counts(service.POOL))
    return int(counts[State.SUCCEEDED])


def test_the_end_of_the_interpreter_hands_back(
    submitter: Pool, serve: Start, url: str, tmp_path: Path
) -> None:
    """It runs what has begun to its end, and leaves the rest in the store."""
    out = run(
        """
        held = pool.submit_many(service.hold, [sys.argv[2] + ".gate"] * 2)
        rest = pool.submit_many(service.work, [0.0] * 50)
        while not os.path.exists(sys.argv[2]) or len(open(sys.argv[2]).readlines()) < 2:
            time.sleep(0.01)
        held[0].add_done_callback(lambda job: print("succeeded", job.exception()))
        rest[-1].add_done_callback(lambda job: print(repr(job.exception())))
        def open_gate():
            while pool.state != "closed":
                time.sleep(0.01)
            open(sys.argv[2] + ".gate", "w").close()
        threading.Thread(target=open_gate, daemon=True).start()
        """,
        url, tmp_path,
    )  # fmt: skip
    assert "succeeded None" in out
    assert "lives on in the store" in out
    serve()
    wait_for(lambda: finished(submitter) == 52)


def test_the_end_of_the_interpreter_does_not_hang_where_the_store_has_gone(
    url: str, tmp_path: Path
) -> None:
    """What cannot be handed back runs again, when the file is there again."""
    if not url.startswith("sqlite:"):
        pytest.skip("it is about a file")
    out = run(
        """
        import logging, sqlite3
        logging.disable()
        pool.submit(service.work).result(10)
        pool.submit_many(service.hold, [sys.argv[2] + ".gate"] * 2)
        pool.submit_many(service.work, [0.0] * 50)
        path = sys.argv[1].removeprefix("sqlite:///")
        for name in (path, path + "-wal", path + "-shm"):
            os.unlink(name)
        open(sys.argv[2] + ".gate", "w").close()
        print("ends")
        """,
        url, tmp_path,
    )  # fmt: skip
    assert out == "ends\n"


NEWER = """
import sys
import oddjob

pool = oddjob.Pool("work", 2, store=sys.argv[1], unknown_after=float(sys.argv[2]))

if sys.argv[3] == "new":
    @pool.job
    def added(value):
        return value + 1

print("ready", flush=True)
oddjob.run_forever()
"""


@pytest.fixture
def deploy(url: str, tmp_path: Path) -> Iterator[Callable[[float, str], Process]]:
    """Start a version of a program, which knows the function ``added`` if it is new."""
    processes = []
    (tmp_path / "program.py").write_text(NEWER)

    def deploy(unknown_after: float, version: str) -> Process:
        command = [sys.executable, f"{tmp_path}/program.py", url, str(unknown_after), version]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return process

    yield deploy
    for process in processes:
        process.kill()
        process.communicate()


def submit_by_name(pool: Pool, function: str, *args: object) -> str:
    """Submit a job as another version of the program would."""
    from oddjob.durable.record import Partition, Submit

    partition = Partition(service.POOL, function)
    payload = pool._core.store.codec.encode_call(partition, args, {})
    job = Submit(partition, payload, wants_outcome=False)
    (submitted,) = pool._core.store.open().submit([job])
    return str(submitted.id)


def test_an_unknown_function_waits_for_a_process_that_knows_it(
    submitter: Pool, deploy: Callable[[float, str], Process]
) -> None:
    """Beside one that does not, which goes on with what it knows (fault 30)."""
    deploy(600.0, "old")
    job = submit_by_name(submitter, "program:added", 1)
    time.sleep(0.2)
    assert record_of(submitter, job).state is State.QUEUED
    deploy(600.0, "new")
    wait_for(lambda: record_of(submitter, job).state is State.SUCCEEDED)


def test_an_unknown_function_fails_when_no_process_has_come_for_long_enough(
    submitter: Pool, deploy: Callable[[float, str], Process]
) -> None:
    """And the record says which one it was, and what to do."""
    before = submit_by_name(submitter, "program:added", 1)
    new = deploy(0.5, "new")
    wait_for(lambda: record_of(submitter, before).state is State.SUCCEEDED)
    deploy(0.5, "old")
    during = submit_by_name(submitter, "program:added", 1)
    wait_for(lambda: record_of(submitter, during).state is State.SUCCEEDED)
    new.send_signal(signal.SIGSTOP)
    os.waitpid(new.pid, os.WUNTRACED)  # it is alive, and will not claim any more
    waiting = [submit_by_name(submitter, "program:added", 1) for _ in range(3)]
    time.sleep(0.7)
    assert record_states(submitter, waiting) <= {State.QUEUED, State.RUNNING}
    new.kill()
    wait_for(lambda: record_states(submitter, waiting) == {State.FAILED})
    error = record_of(submitter, waiting[0]).error
    assert error == (
        "UnknownFunction: for 0.5 s, no process that runs jobs of pool 'work' has known "
        "program:added: start one that imports its module, and retry the job"
    )
    late = submit_by_name(submitter, "program:added", 1)
    wait_for(lambda: record_of(submitter, late).state is State.FAILED)
