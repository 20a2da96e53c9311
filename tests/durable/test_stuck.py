"""Why a stored job waits, and since when: by the record of its store."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from oddjob import Pool
from oddjob.testing import FakeClock
from tests.durable import jobs
from tests.hang import until

WAIT = 10.0


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    with FakeClock() as clock:
        yield clock


def test_a_stored_job_has_the_times_of_its_record(clock: FakeClock) -> None:
    with Pool("durable", 1, store="memory:") as pool:
        start = clock.now()
        pool.pause()
        job = pool.submit(jobs.note, 1)
        assert (job.queued_at, job.started_at, job.finished_at) == (start, None, None)
        clock.advance(5)
        assert pool.find(job.id).queued_at == start
        pool.resume()
        job.result(WAIT)
        end = start + timedelta(seconds=5)
        assert (job.queued_at, job.started_at, job.finished_at) == (start, end, end)
        scheduled = pool.after(60).submit(jobs.note, 2)
        assert (scheduled.queued_at, scheduled.started_at) == (None, None)


def test_a_stored_job_says_why_it_waits(clock: FakeClock) -> None:
    with Pool("durable", 1, store="memory:") as pool:
        scheduled = pool.after(60).submit(jobs.note, 1)
        assert scheduled.why() == "it is due in 1 min"
        pool.pause()
        job = pool.submit(jobs.note, 2)
        reason = "pool 'durable' is paused: oddjob resume durable"
        assert job.why() == pool.find(job.id).why() == reason
        pool.resume()
        job.result(WAIT)
        assert job.why() == "it has ended: succeeded"


def test_a_stored_job_says_that_no_process_runs_it_or_which_one_does(url: str) -> None:
    with Pool("durable", 1, store=url, consume=False) as pool:
        job = pool.submit(jobs.slow, 0.2)
        assert job.why().startswith("no process runs jobs of pool 'durable'")
    with Pool("durable", 1, store=url) as pool:
        found = pool.find(job.id)
        until(lambda: found.why().startswith(("it has run for 0.", "it has ended")))
        found.result(WAIT)
