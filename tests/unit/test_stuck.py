"""Finding out why a pool is stuck: times, reasons, stacks, dumps."""

import asyncio
import io
import os
import signal
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import oddjob
from oddjob import Job, Middleware, Pool
from oddjob.testing import FakeClock
from tests.hang import Hang, until

WAIT = 10.0


class Mark:
    """Middleware that does nothing."""

    def submit(self, job: Job[Any], carrier: dict[str, str]) -> None: ...


def fail() -> None:
    raise ValueError


def test_a_dump_has_the_stack_of_a_thread_that_is_stuck_in_a_job_which_has_timed_out() -> None:
    hang = Hang()
    with Pool("work", 1, timeout=0.01) as pool:
        assert isinstance(pool.submit(hang).exception(WAIT), oddjob.JobTimeout)
        until(lambda: pool.stats().abandoned)
        text = pool.dump()
        hang.gate.set()
    assert "work_0-abandoned" in text
    assert "hang.py" in text


def test_the_times_of_a_job_are_the_same_whenever_they_are_read() -> None:
    with Pool("work", 1) as pool:
        job = pool.submit(int)
        job.result(WAIT)
        times = {(job.queued_at, job.started_at) for _ in range(100)}
    assert len(times) == 1


def test_a_running_job_says_since_when_and_a_queued_one_what_it_waits_for() -> None:
    hang = Hang()
    with FakeClock(patience=0) as clock, Pool("work", 1) as pool:
        start = clock.now()
        running, first, second = pool.submit(hang), pool.submit(int), pool.submit(int)
        hang.wait_until_it_hangs()
        clock.advance(5)
        assert (running.queued_at, running.started_at, running.finished_at) == (start, start, None)
        assert (second.queued_at, second.started_at, second.finished_at) == (start, None, None)
        assert running.why() == "it has run for 5.0 s, in work_0"
        assert first.why() == "all workers are busy (1); jobs before it: 0"
        assert second.why() == "all workers are busy (1); jobs before it: 1"
        hang.gate.set()
        second.result(WAIT)
        assert second.why() == "it has ended: succeeded"


def test_jobs_that_make_attempts_keep_their_times() -> None:
    with FakeClock() as clock, Pool("work", 1, timeout=60) as pool:
        start = clock.now()
        job = pool.submit(int)
        job.result(WAIT)
        clock.advance(5)
        assert (job.queued_at, job.started_at, job.finished_at) == (start, start, start)
        failed = pool.options(retries=1, backoff=10).submit(fail)
        clock.advance(5)
        assert failed.why() == "it failed, and is tried again in 5.0 s"
        clock.advance(5)
        assert isinstance(failed.exception(WAIT), ValueError)
        end = start + timedelta(seconds=15)
        assert (failed.queued_at, failed.started_at, failed.finished_at) == (end, end, end)


def test_a_plain_job_that_fails_keeps_its_times() -> None:
    with FakeClock() as clock, Pool("work", 1) as pool:
        job = pool.submit(fail)
        assert isinstance(job.exception(WAIT), ValueError)
        assert job.started_at == job.finished_at == clock.now()


def test_a_job_whose_key_is_held_says_by_which_job() -> None:
    hang = Hang()
    with Pool("work", 3) as pool:
        keyed = pool.options(key="ann", name="mail")
        keyed.submit(hang)
        hang.wait_until_it_hangs()
        waiting = [keyed.submit(int), keyed.submit(int)]
        for job in waiting:
            assert job.why().startswith("its key 'ann' is held by job mail, which has run for 0.")
        hang.gate.set()
        waiting[1].result(WAIT)


def test_a_job_that_a_limit_stops_says_which() -> None:
    hang = Hang()
    with FakeClock() as clock, Pool("work", 3) as pool:
        slow = pool.options(rate="1/minute")
        slow.submit(int).result(WAIT)
        limited = slow.submit(int)
        clock.advance(20)
        assert (
            limited.why()
            == "its rate, Rate(limit=1, per=60.0, burst=1), lets no job start for 40.0 s"
        )
        single = pool.options(max_concurrency=1)
        single.submit(hang)
        hang.wait_until_it_hangs()
        waiting = single.submit(int)
        assert waiting.why() == "its max_concurrency=1 is reached"
        hang.gate.set()
        waiting.result(WAIT)
        clock.advance(60)


def test_a_job_of_a_paused_pool_or_of_a_timer_says_so() -> None:
    with FakeClock() as clock, Pool("work", 1) as pool:
        pool.pause()
        job = pool.submit(int)
        assert job.why() == "pool work is paused"
        pool.resume()
        assert job.result(WAIT) == 0
        scheduled = pool.after(5).submit(int)
        assert scheduled.why() == f"it is scheduled for {clock.now() + timedelta(seconds=5)}"
        assert (scheduled.queued_at, scheduled.started_at) == (None, None)
        (timer,) = pool.timers()
        timer.pause()
        assert scheduled.why() == "its timer is paused"
        timer.cancel()
        assert scheduled.why() == "it has ended: cancelled"


def test_the_firings_of_a_timer_have_one_submitter_and_each_its_own_carrier() -> None:
    carriers: list[dict[str, str]] = []
    submitters: list[str | None] = []

    class Count(Middleware):
        def submit(self, job: Job[Any], carrier: dict[str, str]) -> None:
            carrier["runs"] = "0"

        def run(self, job: Job[Any], carrier: dict[str, str], call: Any) -> Any:
            carriers.append(carrier.copy())
            submitters.append(job.submitted_by)
            carrier["runs"] = "1"
            return call()

    with FakeClock() as clock, Pool("work", 1, middleware=[Count()]) as pool:
        timer = pool.every(60).submit(int)
        clock.advance(120)
        timer.cancel()
    assert carriers == [{"runs": "0"}] * 2
    assert submitters == ["MainThread"] * 2


def test_a_job_with_middleware_knows_who_has_submitted_it() -> None:
    with Pool("work", 1, middleware=[Mark()]) as pool:
        jobs: list[Job[int]] = []
        thread = threading.Thread(target=lambda: jobs.append(pool.submit(int)), name="web-1")
        thread.start()
        thread.join(WAIT)

        async def main() -> None:
            jobs.append(await asyncio.create_task(submit(), name="request 7"))

        async def submit() -> Job[int]:
            return await pool.asubmit(int)

        asyncio.run(main())
        assert [job.submitted_by for job in jobs] == ["web-1", "request 7"]
        assert pool.options(name="x").submit(int).submitted_by == "MainThread"
    with Pool("plain", 1) as pool:
        assert pool.submit(int).submitted_by is None


def test_a_worker_shows_its_job_since_when_and_the_stack() -> None:
    hang = Hang()
    with Pool("work", 2) as pool:
        job = pool.submit(hang)
        hang.wait_until_it_hangs()
        (worker,) = pool.workers()
        assert worker.job is job
        assert worker.since is not None
        assert abs(worker.since - datetime.now(UTC)) < timedelta(seconds=60)
        assert "hang.py" in worker.stack()
        assert "gate.wait" in worker.stack()
        hang.gate.set()
        job.result(WAIT)
        until(lambda: pool.workers()[0].job is None)
        assert (worker.stack(), pool.workers()[0].since, pool.workers()[0].stack()) == (
            "",
            None,
            "",
        )


def test_the_stack_of_a_coroutine_shows_what_it_awaits() -> None:
    started = threading.Event()

    async def inner(event: asyncio.Event) -> None:
        started.set()
        await event.wait()

    async def outer() -> None:
        await inner(asyncio.Event())

    with Pool("work", 1) as pool:
        job = pool.submit(outer)
        started.wait(WAIT)
        until(lambda: "in inner" in pool.workers()[0].stack())
        job.cancel()


def test_a_dump_shows_workers_stacks_the_queue_and_timers() -> None:
    hang = Hang()
    with Pool("work", 2) as pool:
        pool.submit(int).result(WAIT)
        jobs = [pool.options(key="ann").submit(hang)]
        hang.wait_until_it_hangs()
        jobs += [pool.options(key="ann").submit(int) for _ in range(12)]
        timer = pool.every(60).perform(int)
        text = pool.dump()
        file = io.StringIO()
        oddjob.dump(file)
        hang.gate.set()
        for job in jobs:
            job.result(WAIT)
        timer.cancel()
    lines = text.splitlines()
    assert lines[0] == "pool work: running, 1 of 2 workers busy, 12 jobs queued"
    assert any(line.startswith("  worker work_") and "has run for 0." in line for line in lines)
    assert "gate.wait" in text
    assert text.count("  queued int: its key 'ann' is held by job Hang") == 10
    assert "  and 2 more" in lines
    assert "  <Timer every 60 s, pool work, next in " in text
    assert "pool work: running, 1 of 2 workers busy" in file.getvalue()


def test_a_job_that_runs_inside_another_one_is_in_the_dump() -> None:
    hang = Hang()
    with Pool("work", 1) as pool:

        def outer() -> object:
            return pool.submit(hang).result(WAIT)

        job = pool.submit(outer)
        hang.wait_until_it_hangs()
        text = pool.dump()
        hang.gate.set()
        job.result(WAIT)
    assert text.count("  worker work_0: ") == 2


@pytest.mark.skipif(not hasattr(signal, "SIGUSR1"), reason="Windows has no such signal")
def test_a_signal_has_a_process_dump_its_pools() -> None:
    program = """
import os, signal, sys, threading, oddjob
oddjob.dump_on_signal(signal.SIGUSR1)
pool = oddjob.Pool("work", 1)
gate = threading.Event()
job = pool.submit(gate.wait, 60)
while not job.running():
    pass
threading.Thread(target=lambda: (sys.stdin.readline(), gate.set())).start()
print("ready", flush=True)
while not gate.wait(0.01):  # handlers run between instructions of the main thread
    pass
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    assert process.stderr is not None
    with process:
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGUSR1)
        line = process.stderr.readline()
        process.stdin.write("go on\n")
        process.stdin.flush()
        assert process.wait(WAIT) == 0
    assert line == "pool work: running, 1 of 1 workers busy, 0 jobs queued\n"


def test_a_job_that_waits_for_one_other_says_so() -> None:
    hang = Hang()
    with Pool("work", 1) as pool:
        first = pool.submit(hang)
        job = pool.options(after=[first]).submit(print)
        assert job.why().startswith("it waits for 1 job: ")
        hang.gate.set()
