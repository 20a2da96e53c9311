"""The queue by itself: what is taken out, in which order, and whatever goes wrong."""

import threading
from contextvars import copy_context
from types import SimpleNamespace

import pytest

from oddjob import Job
from oddjob.settling import settle_all
from oddjob.workforce.queue import JobQueue

NOBODY = SimpleNamespace(name=None, count=lambda what: None, note_loss=lambda job: None)


def jobs_for(queue: JobQueue, count: int) -> list[Job[object]]:
    jobs: list[Job[object]] = [
        Job(print, (), None, copy_context(), NOBODY, None, 0.0)  # type: ignore[arg-type]  # is asked its name
        for _ in range(count)
    ]
    queue.jobs.extend(jobs)
    return jobs


def test_bells_ring_last_come_first_and_once_each() -> None:
    """The worker that went idle last has the warmest caches."""
    queue, rung = JobQueue(), list[int]()
    for number in range(3):
        queue.idle.append(lambda number=number: rung.append(number))  # type: ignore[misc]  # a default
    assert queue.wake_one()
    assert rung == [2]
    queue.wake_all()
    assert rung == [2, 1, 0]
    assert not queue.wake_one()


def test_a_batch_wakes_no_more_workers_than_it_needs() -> None:
    queue, rung = JobQueue(), list[int]()
    for number in range(5):
        queue.idle.append(lambda number=number: rung.append(number))  # type: ignore[misc]  # a default
    queue.wake(2)
    assert rung == [4, 3]
    queue.wake(100)
    assert rung == [4, 3, 2, 1, 0]


def test_what_is_taken_back_is_gone_and_only_that() -> None:
    queue = JobQueue()
    first, second, third = jobs_for(queue, 3)
    assert queue.take_back(second)
    assert not queue.take_back(second)
    assert list(queue.jobs) == [first, third]


def test_settling_all_goes_on_after_an_exception_and_raises_it_at_the_end() -> None:
    """A callback that exits, in the middle of a shutdown, must leave no job pending."""
    queue = JobQueue()
    jobs = jobs_for(queue, 5)
    error = SystemExit(3)
    jobs[1].add_done_callback(lambda _: (_ for _ in ()).throw(error))
    with pytest.raises(SystemExit) as caught:
        settle_all(queue.jobs, lambda job: job.cancel())
    assert caught.value is error
    assert all(job.cancelled() for job in jobs)
    assert not queue.jobs


def test_a_job_whose_settling_was_interrupted_is_settled_all_the_same() -> None:
    queue = JobQueue()
    [job] = jobs_for(queue, 1)
    interruptions = [KeyboardInterrupt()]

    def settle(job: Job[object]) -> None:
        if interruptions:
            raise interruptions.pop()
        job.cancel()

    with pytest.raises(KeyboardInterrupt):
        settle_all(queue.jobs, settle)
    assert job.cancelled()


def test_forgetting_a_bell_that_was_rung_meanwhile_is_no_error() -> None:
    queue, bell = JobQueue(), threading.Lock()
    queue.forget_bell(bell.release)
    queue.idle.append(bell.release)
    queue.forget_bell(bell.release)
    assert not queue.idle
