"""``map`` out of order, ``starmap``, exceptions as results, and the bar that is a line of text."""

import gc
import sys
import threading
import weakref
from typing import Any

import pytest

import oddjob
from oddjob import Pool
from tests.hang import Hang, until

WAIT = 10.0


class Failure(Exception):
    """An exception to which there can be a weak reference."""


def fail(_: object) -> None:
    raise Failure


def double(number: int) -> int:
    return 2 * number


def invert(number: float) -> float:
    return 1 / number


def test_results_come_as_they_are_ready_if_their_order_is_of_no_interest() -> None:
    gates = [threading.Event() for _ in range(3)]

    def wait_for(index: int) -> int:
        assert gates[index].wait(WAIT)
        return index

    with Pool(pool_size=3) as pool:
        results = pool.map(wait_for, range(3), ordered=False)
        for index in (2, 0, 1):
            gates[index].set()
            assert next(results) == index
        assert list(results) == []
        assert sorted(pool.map(double, range(100), ordered=False, buffersize=7)) == [
            *range(0, 200, 2)
        ]
        assert sorted(pool.map(double, range(100), ordered=False, chunksize=9)) == [
            *range(0, 200, 2)
        ]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failed_item_does_not_end_the_others(ordered: bool) -> None:
    with Pool(pool_size=2) as pool:
        found = list(pool.map(invert, [1, 0, 2], ordered=ordered, return_exceptions=True))
    assert {repr(each) for each in found} == {
        *("1.0", "0.5", "ZeroDivisionError('division by zero')")
    }
    assert not ordered or found[::2] == [1.0, 0.5]


def test_a_job_that_exits_or_is_cancelled_is_an_exception_as_well() -> None:
    hang = Hang()
    with Pool(pool_size=1, max_restarts=9) as pool:
        results = pool.map(lambda act: act(), [hang, sys.exit, int], return_exceptions=True)
        hang.wait_until_it_hangs()
        assert pool.queue()[1].cancel()
        hang.gate.set()
        names = [type(each).__name__ for each in results]
    assert names == ["str", "SystemExit", "CancelledError"]


@pytest.mark.parametrize("ordered", [True, False])
def test_a_result_that_is_not_there_in_time_ends_the_iteration_all_the_same(ordered: bool) -> None:
    hang = Hang()
    with Pool(pool_size=1) as pool:
        results = pool.map(hang, [1, 2], ordered=ordered, return_exceptions=True, timeout=0.01)
        with pytest.raises(TimeoutError):
            next(results)
        assert pool.queue() == []  # what has not started is cancelled
        hang.gate.set()


def test_a_job_may_map_out_of_order_in_its_own_pool_of_one_worker() -> None:
    with Pool(pool_size=1) as pool:
        job = pool.submit(lambda: sorted(pool.map(double, range(5), ordered=False, buffersize=2)))
        assert job.result(WAIT) == [0, 2, 4, 6, 8]


def test_an_iteration_that_is_left_cancels_what_has_not_started() -> None:
    hang = Hang()
    with Pool(pool_size=2) as pool:
        results = pool.map(lambda act: act(), [int, hang, hang, hang, hang], ordered=False)
        assert next(results) == 0
        hang.wait_until_it_hangs(2)
        results.close()  # type: ignore[attr-defined]  # a generator
        assert pool.queue() == []
        hang.gate.set()


def test_exceptions_that_are_returned_are_freed_with_their_last_reference() -> None:
    """In a cycle they would keep the arguments of their jobs until the garbage collector runs."""
    gc.collect()
    gc.disable()
    try:
        with Pool(pool_size=1) as pool:
            for error in pool.map(fail, [0, 0], return_exceptions=True):
                freed = weakref.ref(error)
                del error
                until(lambda freed=freed: freed() is None)
    finally:
        gc.enable()


def test_starmap_calls_with_the_arguments_of_each_tuple() -> None:
    with Pool(pool_size=2) as pool:
        assert list(pool.starmap(pow, [(2, 3), (3, 2), (2, 2, 3)])) == [8, 9, 1]
        assert list(pool.starmap(pow, ([n, 2] for n in range(5)), chunksize=2)) == [0, 1, 4, 9, 16]
        assert list(pool.options(name="power").starmap(pow, [(2, 3)], buffersize=1)) == [8]
        function = pool.job(invert)
        assert list(function.starmap([(2,)])) == [0.5]
        (error,) = function.starmap([(0,)], return_exceptions=True)
        assert isinstance(error, ZeroDivisionError)
        with pytest.raises(TypeError, match="the function comes first"):
            pool.starmap([(2, 3)], pow)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
        misspelled: Any = {"chunk_size": 2}
        with pytest.raises(TypeError, match=r"starmap\(\) got an unexpected .*'chunksize'"):
            pool.starmap(pow, [(2, 3)], **misspelled)


def test_where_nothing_else_draws_a_bar_it_is_a_line_of_text_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("tqdm.auto", "rich.progress"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    with Pool(pool_size=2) as pool:
        assert list(pool.map(abs, [-1, -2], progress="pages")) == [1, 2]
        assert list(pool.map(abs, (n for n in [-1]), progress=True, buffersize=1)) == [1]
        assert list(oddjob.progress([], title="none")) == []
    lines = capsys.readouterr().err.split("\n")
    assert [line.split("\r")[-1] for line in lines if line] == [
        *("pages: 2/2 (100 %)", "jobs: 1", "none: 0")
    ]
