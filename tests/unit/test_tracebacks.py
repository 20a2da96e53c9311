"""Tracebacks and stacks that show what people have written, and not this library."""

import asyncio
import gc
import logging
import subprocess
import sys
import threading
import traceback
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import as_completed, wait
from typing import Any

import pytest

import oddjob
from oddjob import Pool, current_job
from oddjob.tracebacks import coroutine_stack, stack_of, thread_frames
from tests.hang import Hang, until

WAIT = 10.0


@pytest.fixture
def hang() -> Iterator[Hang]:
    work = Hang()
    yield work
    work.gate.set()


counts_references = pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="without the GIL, an object is not freed as soon as its last reference is gone",
)


def fail() -> None:
    raise ValueError("here")


def functions(error: BaseException) -> list[str]:
    return [frame.name for frame in traceback.extract_tb(error.__traceback__)]


def test_the_traceback_of_a_failed_job_begins_at_its_function() -> None:
    with Pool(1) as pool:
        job = pool.submit(fail)
        error = job.exception(WAIT)
    assert error is not None
    assert functions(error) == ["fail"]


def test_a_failure_without_a_frame_of_its_own_has_no_traceback() -> None:
    with Pool(1) as pool:
        error = pool.submit(int, "no number").exception(WAIT)
    assert error is not None
    assert error.__traceback__ is None


def test_the_stack_of_a_thread_begins_with_the_job() -> None:
    hang = Hang()
    with Pool(1) as pool:
        idents: list[int] = []

        def work() -> None:
            idents.append(threading.get_ident())
            hang()

        pool.submit(work)
        hang.wait_until_it_hangs()
        stack = stack_of(thread_frames()[idents[0]])
        hang.gate.set()
    assert [function for _, _, function in stack[:2]] == ["work", "__call__"]
    assert stack[0][0] == __file__


THREAD_THAT_ENDS_IN_A_COLLECTION = """
import gc
import threading
from oddjob.tracebacks import stack_of, thread_frames

is_deep, may_end = threading.Event(), threading.Event()

def descend(depth):
    if depth:
        descend(depth - 1)
    else:
        is_deep.set()
        may_end.wait()

thread = threading.Thread(target=descend, args=(900,))
thread.start()
is_deep.wait()
frame = thread_frames()[thread.ident]

def end_thread(*_):
    may_end.set()
    thread.join()

gc.callbacks.append(end_thread)
gc.set_threshold(1)
stack = stack_of(frame)
gc.callbacks.clear()
end_thread()
assert [name for _, _, name in stack].count("descend") == 901
assert gc.isenabled()
"""


def test_a_collection_while_a_stack_is_read_does_not_crash_the_interpreter() -> None:
    """As a destructor that closes a file may start it; in CPython 3.11 it did."""
    subprocess.run(
        [sys.executable, "-c", THREAD_THAT_ENDS_IN_A_COLLECTION], check=True, timeout=WAIT
    )


def test_the_stack_of_a_suspended_coroutine_ends_where_it_waits() -> None:
    class Pause:
        def __await__(self) -> Any:
            yield

    async def inner() -> None:
        await Pause()

    async def outer() -> None:
        await inner()

    coroutine = outer()
    coroutine.send(None)
    stack = coroutine_stack(coroutine)
    coroutine.close()
    assert [function for _, _, function in stack] in (["outer", "inner"], [])  # [] without a GIL
    assert stack_of(None) == coroutine_stack(None) == []


# A failed job is in no reference cycle: what it was given is freed as soon as it is forgotten. (A
# user who keeps a job in a variable makes such a cycle himself: its exception refers to his frame.)


class Parcel:
    """Something heavy that a job is given."""


class Failure(Exception):
    pass


Parcels = list[Parcel]  # one, which is taken out by the job that is given it


def lose(parcels: Parcels) -> None:
    parcel = parcels.pop()
    raise Failure(parcel)


async def alose(parcels: Parcels) -> None:
    parcel = parcels.pop()
    await asyncio.sleep(0)
    raise Failure(parcel)


def lose_in_a_step(parcels: Parcels) -> None:
    job = current_job()
    assert job is not None
    try:
        job.step("lose", lose, parcels)
    finally:
        del job


async def alose_in_a_step(parcels: Parcels) -> None:
    job = current_job()
    assert job is not None
    try:
        await job.step("lose", alose, parcels)
    finally:
        del job


Submit = Callable[[], oddjob.Job[Any]]


def by_result(submit: Submit) -> None:
    with pytest.raises(Failure):
        submit().result(WAIT)


def unseen(submit: Submit) -> None:
    wait([submit()])


def by_callback(submit: Submit) -> None:
    seen = threading.Event()
    submit().add_done_callback(lambda job: (job.exception(), seen.set()))
    assert seen.wait(WAIT)


def as_one_of_many(submit: Submit) -> None:
    with pytest.raises(Failure):
        oddjob.await_many([submit()])


def as_completed_one(submit: Submit) -> None:
    with pytest.raises(Failure):
        next(as_completed([submit()])).result()


def by_await(submit: Submit) -> None:
    async def main() -> None:
        with pytest.raises(Failure):
            await submit()

    asyncio.run(main())


LOOKS = [by_result, unseen, by_callback, as_one_of_many, as_completed_one, by_await]
OPTIONS: dict[str, dict[str, Any]] = {
    "plain": {},
    "timeout": {"timeout": WAIT},
    "retries": {"retries": 1, "retry_on": KeyError},
    "serial": {"serial": True, "key": "lost"},
    "priority": {"priority": 1},
}


@pytest.fixture
def parcels(monkeypatch: pytest.MonkeyPatch) -> Iterator[Parcels]:
    """Fail unless the parcel is freed without the help of the collector."""
    monkeypatch.setattr(
        logging.getLogger("oddjob"), "disabled", True
    )  # pytest keeps what is logged
    parcels = [Parcel()]
    there = weakref.ref(parcels[0])
    gc.collect()
    gc.disable()
    try:
        yield parcels
        assert not parcels
        until(lambda: there() is None)
    finally:
        gc.enable()


@counts_references
@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("fail", [lose, alose, lose_in_a_step, alose_in_a_step])
def test_what_a_failed_job_was_given_is_freed_with_it(
    look: Callable[[Submit], None], fail: Callable[..., Any], parcels: Parcels
) -> None:
    with Pool(1) as pool:
        look(lambda: pool.submit(fail, parcels))
        pool.submit(int).result(WAIT)  # the worker has let go of the job before


@counts_references
@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("fail", [lose, alose])
def test_options_make_no_reference_cycle(
    options: dict[str, Any], fail: Callable[..., Any], parcels: Parcels
) -> None:
    with Pool(1) as pool:
        by_result(lambda: pool.options(**options).submit(fail, parcels))
        pool.submit(int).result(WAIT)


@counts_references
@pytest.mark.parametrize("fail", [lose, alose])
def test_a_failed_job_that_ran_in_place_is_freed(
    fail: Callable[..., Any], parcels: Parcels
) -> None:
    def outer() -> None:
        pool.submit(fail, parcels).result(WAIT)

    async def aouter() -> None:
        await pool.submit(fail, parcels)

    with Pool(1) as pool:
        outermost = outer if fail is lose else aouter
        by_result(lambda: pool.submit(outermost))
        pool.submit(int).result(WAIT)


@counts_references
@pytest.mark.parametrize("is_async", [False, True])
def test_a_failure_in_a_group_is_freed(is_async: bool, parcels: Parcels) -> None:
    async def main() -> None:
        group = pool.group()
        with pytest.raises(Failure):
            async with group:
                group.submit(lose, parcels)
        del group

    with Pool(1) as pool:
        if is_async:
            asyncio.run(main())
        else:
            group = pool.group()
            with pytest.raises(Failure), group:
                group.submit(lose, parcels)
            del group
        pool.submit(int).result(WAIT)


made: list["weakref.ref[Parcel]"] = []


def lose_own() -> None:
    parcel = Parcel()
    made.append(weakref.ref(parcel))
    raise Failure(parcel)


@counts_references
def test_what_a_stored_job_that_failed_has_made_is_freed(parcels: Parcels) -> None:
    parcels.clear()
    with Pool("lost", 1, store="memory:") as pool:
        by_result(lambda: pool.submit(lose_own))
        pool.submit(int).result(WAIT)
    until(lambda: made[-1]() is None)


@counts_references
def test_what_a_refused_job_was_given_is_freed(parcels: Parcels) -> None:
    pool = Pool(1)
    pool.shutdown()
    with pytest.raises(oddjob.PoolClosed):
        pool.submit(print, parcels.pop())


@counts_references
def test_the_stack_of_a_timeout_keeps_nothing_of_other_threads(
    hang: Hang, parcels: Parcels
) -> None:
    inside = threading.Event()

    def hold() -> None:
        parcel = parcels.pop()
        inside.set()
        hang()
        del parcel

    with Pool(2) as pool:
        other = pool.submit(hold)
        assert inside.wait(WAIT)
        error = pool.options(timeout=0.001).submit(hang).exception(WAIT)
        hang.gate.set()
        other.result(WAIT)
    assert isinstance(error, oddjob.JobTimeout)


@pytest.mark.parametrize("way", ["result", "await_many", "await"])
def test_looking_at_a_failed_job_again_and_again_does_not_lengthen_its_traceback(way: str) -> None:
    def look() -> None:
        if way == "await":
            asyncio.run(wait_in_loop())
        else:
            _ = job.result(WAIT) if way == "result" else oddjob.await_many([job])

    async def wait_in_loop() -> None:
        await job

    lengths: list[int] = []
    with Pool(1) as pool:
        job = pool.submit(fail)
        for _ in range(5):
            try:
                look()
            except ValueError as error:
                lengths.append(len(functions(error)))
    assert len(lengths) == 5
    assert len(set(lengths)) == 1
