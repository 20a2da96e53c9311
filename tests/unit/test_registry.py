"""Pools by name: one live pool each, and a clear error where there is none."""

import gc
import threading
import weakref
from collections.abc import Callable

import pytest

import oddjob
from oddjob.registry import _REMEMBERED, Registry, registry

from .at_once import at_once

WAIT = 10.0


def test_two_live_pools_cannot_have_one_name_and_the_first_goes_on_working() -> None:
    """Two modules that both make "email" do not share, or lose, a limit unnoticed."""
    first = oddjob.Pool("email", 1)
    with pytest.raises(oddjob.PoolNameTaken, match=r"there is a live pool 'email'; shut it down"):
        oddjob.Pool("email", 1)
    assert oddjob.pool("email") is first
    assert first.submit(lambda: 3).result(WAIT) == 3


def test_a_taken_name_is_a_value_error_and_an_oddjob_error() -> None:
    """Code that guards against bad arguments in general catches it too."""
    oddjob.Pool("email", 1)
    with pytest.raises(ValueError, match="email") as caught:
        oddjob.Pool("email", 1)
    assert isinstance(caught.value, oddjob.OddJobError)


@pytest.mark.usefixtures("tiny_switch_interval")
def test_of_many_threads_that_take_one_name_at_once_exactly_one_gets_it() -> None:
    """Two request threads that both see "no such pool yet" do not end up with two pools."""
    for _ in range(50):
        outcomes = at_once(*[lambda: oddjob.Pool("email", 1)] * 6)
        winners = [each for each in outcomes if isinstance(each, oddjob.Pool)]
        losers = [each for each in outcomes if isinstance(each, oddjob.PoolNameTaken)]
        assert len(winners) == 1
        assert len(losers) == 5
        assert oddjob.pools() == {"email": winners[0]}
        winners[0].shutdown()


def test_a_name_is_free_again_after_shutdown() -> None:
    """A service that reloads its configuration creates its pools anew."""
    first = oddjob.Pool("email", 1)
    first.shutdown()
    second = oddjob.Pool("email", 2)
    assert oddjob.pool("email") is second


def test_a_name_is_free_at_once_when_shutdown_does_not_wait() -> None:
    """The successor starts while the former pool is still finishing its jobs."""
    gate, started = threading.Event(), threading.Event()
    first = oddjob.Pool("email", 1)
    try:
        running = first.submit(lambda: (started.set(), gate.wait(WAIT))[1])
        queued = first.submit(lambda: "finished")
        assert started.wait(WAIT)
        first.shutdown(wait=False)
        second = oddjob.Pool("email", 1)
        assert oddjob.pool("email") is second
        assert second.submit(lambda: "new").result(WAIT) == "new"
        assert not running.done()
    finally:
        gate.set()
        first.shutdown()
    assert running.result(WAIT) is True
    assert queued.result(WAIT) == "finished"


def test_the_end_of_a_former_pool_does_not_unregister_its_successor() -> None:
    """Shutting a pool down twice is common, and does not make "email" unknown."""
    first = oddjob.Pool("email", 1)
    first.shutdown(wait=False)
    second = oddjob.Pool("email", 1)
    first.shutdown()
    assert oddjob.pool("email") is second
    assert oddjob.pools() == {"email": second}
    with pytest.raises(oddjob.PoolNameTaken):
        oddjob.Pool("email", 1)


def test_a_pool_that_could_not_be_created_does_not_keep_its_name() -> None:
    """The corrected call is accepted, and lookups do not find half a pool."""
    with pytest.raises(ValueError, match="pool_size"):
        oddjob.Pool("email", 0)
    assert oddjob.pools() == {}
    oddjob.Pool("email", 1)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (b"email", TypeError)])
def test_a_pool_cannot_have_a_name_that_could_not_be_looked_up(
    name: object, error: type[Exception]
) -> None:
    """An empty or undecoded name is an accident in the caller's configuration."""
    with pytest.raises(error, match=r"^name must "):
        oddjob.Pool(name, 1)
    assert oddjob.pools() == {}


def test_an_unknown_name_is_not_found_and_the_message_lists_the_known_ones() -> None:
    """A misspelt name is seen at a glance."""
    for name in ("report", "email"):
        oddjob.Pool(name, 1)
    with pytest.raises(oddjob.PoolNotFound) as caught:
        oddjob.pool("emial")
    assert str(caught.value) == "no pool named 'emial'; the pools are: 'email', 'report'"
    assert isinstance(caught.value, LookupError)


def test_an_unknown_name_is_not_found_when_there_are_no_pools_at_all() -> None:
    """The message says that no pool has been started."""
    with pytest.raises(oddjob.PoolNotFound) as caught:
        oddjob.pool("email")
    assert str(caught.value) == "no pool named 'email'; the pools are: none yet"


def test_the_name_of_a_pool_that_was_shut_down_is_closed_not_unknown() -> None:
    """Law 6: errors say what happened. There is no typing error to look for."""
    oddjob.Pool("email", 1).shutdown()
    with pytest.raises(oddjob.PoolClosed) as caught:
        oddjob.pool("email")
    assert "cannot schedule new futures after shutdown" in str(caught.value)
    assert "'email'" in str(caught.value)
    assert isinstance(caught.value, RuntimeError)


def test_a_closed_name_that_was_taken_again_is_open() -> None:
    """And closed again when the second one is."""
    oddjob.Pool("email", 1).shutdown()
    second = oddjob.Pool("email", 1)
    assert oddjob.pool("email") is second
    second.shutdown()
    with pytest.raises(oddjob.PoolClosed):
        oddjob.pool("email")


def test_closed_pools_are_not_among_the_names_listed() -> None:
    """The message lists pools that accept jobs."""
    oddjob.Pool("closed", 1).shutdown()
    oddjob.Pool("open", 1)
    with pytest.raises(oddjob.PoolNotFound) as caught:
        oddjob.pool("opne")
    assert str(caught.value) == "no pool named 'opne'; the pools are: 'open'"


def test_anonymous_pools_are_not_listed() -> None:
    """A library's private pool does not show up in an application's list."""
    with oddjob.Pool(None, 1) as first, oddjob.Pool(None, 1) as second:
        assert first.name is second.name is None
        assert oddjob.pools() == {}


def test_pools_lists_the_live_ones_in_the_order_in_which_they_were_created() -> None:
    """A status page shows them in the order that people know."""
    made = {name: oddjob.Pool(name, 1) for name in ("zebra", "ant", "mule")}
    assert list(oddjob.pools().items()) == list(made.items())
    made["ant"].shutdown()
    assert list(oddjob.pools()) == ["zebra", "mule"]


def test_what_pools_returns_is_a_snapshot() -> None:
    """Editing it, or iterating while pools come and go, does no harm."""
    oddjob.Pool("email", 1)
    snapshot = oddjob.pools()
    snapshot.clear()
    assert list(oddjob.pools()) == ["email"]
    snapshot = oddjob.pools()
    oddjob.Pool("report", 1)
    assert list(snapshot) == ["email"]


def test_a_named_pool_lives_on_without_a_reference_to_it() -> None:
    """`Pool("email")` as a statement is a usual way to create one."""
    pool = weakref.ref(oddjob.Pool("email", 1))
    gc.collect()
    assert pool() is not None
    assert oddjob.pool("email") is pool()


def test_a_pool_that_was_shut_down_is_not_held_by_its_former_name() -> None:
    """A program that creates pools again and again does not pile up dead ones."""
    pool = oddjob.Pool("email", 1)
    pool.submit(print, end="").result(WAIT)
    pool.shutdown()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


def test_what_is_kept_of_pools_that_were_shut_down_does_not_grow() -> None:
    """A server with a pool for each tenant, or each request, runs for months."""
    for number in range(_REMEMBERED + 10):
        oddjob.Pool(f"tenant-{number}", 1).shutdown()
    assert len(registry._closed) == _REMEMBERED
    with pytest.raises(oddjob.PoolClosed):
        oddjob.pool(f"tenant-{_REMEMBERED + 9}")
    with pytest.raises(oddjob.PoolNotFound):
        oddjob.pool("tenant-0")


def use_a_named_pool(number: int) -> None:
    with oddjob.Pool(f"tenant-{number}", 1) as pool:
        pool.options(rate="500/s", key=number).submit(abs, 1).result(10)
        pool.every(60).perform(abs, 1)


def replace_a_pool(number: int) -> None:
    oddjob.start_pool("api", pool_size=1 + number % 2, replace=True)


@pytest.mark.parametrize("make", [use_a_named_pool, replace_a_pool])
def test_pools_that_are_gone_leave_no_objects_behind_however_many_there_were(
    make: Callable[[int], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with a pool for each customer who logs in would grow for ever."""
    monkeypatch.setattr("oddjob.registry._REMEMBERED", 5)

    def objects_after(numbers: range) -> int:
        for number in numbers:
            make(number)
        gc.collect()
        return len(gc.get_objects())

    before = objects_after(range(20))
    assert objects_after(range(20, 120)) - before < 50


def test_a_default_pool_that_was_shut_down_stays_closed_however_many_others_were_too() -> None:
    """Otherwise it would be created again by a job that comes too late."""
    oddjob.pool().shutdown()
    for number in range(_REMEMBERED + 10):
        oddjob.Pool(f"tenant-{number}", 1).shutdown()
    with pytest.raises(oddjob.PoolClosed):
        oddjob.pool()


# The registry by itself.


def test_the_registry_returns_what_was_added_under_the_name() -> None:
    """Everything above stands on this."""
    pools = Registry()
    with oddjob.Pool(None, 1) as email, oddjob.Pool(None, 1) as report:
        pools.add("email", email)
        pools.add("report", report)
        assert pools.find("email") is pools.pools["email"] is email
        assert pools.find("report") is pools.pools["report"] is report
        with pytest.raises(oddjob.PoolNotFound):
            pools.find("other")
        assert pools.pools == {"email": email, "report": report}


def test_the_registry_removes_only_the_pool_that_has_the_name() -> None:
    """A late `remove` of a former holder, or of one that never had the name, does nothing."""
    pools = Registry()
    with oddjob.Pool(None, 1) as holder, oddjob.Pool(None, 1) as other:
        pools.add("email", holder)
        pools.remove("email", other)
        pools.remove("other", holder)
        assert pools.pools == {"email": holder}
        with pytest.raises(oddjob.PoolNotFound):
            pools.find("other")
        pools.remove("email", holder)
        assert pools.pools == {}


def test_a_registry_that_is_cleared_returns_its_pools_and_forgets_all_names() -> None:
    """After `shutdown_all` an old name is unknown again, not closed."""
    pools = Registry()
    with oddjob.Pool(None, 1) as live, oddjob.Pool(None, 1) as former:
        pools.add("live", live)
        pools.add("former", former)
        pools.remove("former", former)
        with pytest.raises(oddjob.PoolClosed):
            pools.find("former")
        assert pools.clear() == [live]
        for name in ("live", "former"):
            with pytest.raises(oddjob.PoolNotFound):
                pools.find(name)
        assert pools.pools == {}
