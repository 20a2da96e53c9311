"""Pools by name: one live pool each, and a clear word when there is none."""

import gc
import threading
import weakref

import pytest

import oddjob
from oddjob.registry import Registry

from .at_once import at_once

WAIT = 10.0


class Thing:
    """Something to register; the registry does not care what a pool is."""


def test_two_live_pools_cannot_have_one_name_and_the_first_goes_on_working() -> None:
    """Two modules that both make "email" would else share, or lose, a limit without noticing."""
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
    """Two request threads that both see "no such pool yet" must not end up with two pools."""
    for _ in range(50):
        outcomes = at_once(*[lambda: oddjob.Pool("email", 1)] * 6)
        winners = [each for each in outcomes if isinstance(each, oddjob.Pool)]
        losers = [each for each in outcomes if isinstance(each, oddjob.PoolNameTaken)]
        assert len(winners) == 1
        assert len(losers) == 5
        assert oddjob.pools() == {"email": winners[0]}
        winners[0].shutdown()


def test_a_name_is_free_again_after_shutdown() -> None:
    """A service that reloads its configuration makes its pools anew."""
    first = oddjob.Pool("email", 1)
    first.shutdown()
    second = oddjob.Pool("email", 2)
    assert oddjob.pool("email") is second


def test_a_name_is_free_at_once_when_shutdown_does_not_wait() -> None:
    """The successor starts while the old pool is still finishing its jobs."""
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


def test_the_end_of_an_old_pool_does_not_take_its_successor_off_the_list() -> None:
    """Shutting a pool down twice is common; it must not make "email" unknown."""
    first = oddjob.Pool("email", 1)
    first.shutdown(wait=False)
    second = oddjob.Pool("email", 1)
    first.shutdown()
    assert oddjob.pool("email") is second
    assert oddjob.pools() == {"email": second}
    with pytest.raises(oddjob.PoolNameTaken):
        oddjob.Pool("email", 1)


def test_a_pool_that_could_not_be_made_does_not_keep_its_name() -> None:
    """Else the corrected call would be refused, and lookups find half a pool."""
    with pytest.raises(ValueError, match="pool_size"):
        oddjob.Pool("email", 0)
    assert oddjob.pools() == {}
    oddjob.Pool("email", 1)


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (b"email", TypeError)])
def test_a_pool_cannot_be_made_with_a_name_nobody_could_look_up(
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
    """Who forgot to start any pool is told so."""
    with pytest.raises(oddjob.PoolNotFound) as caught:
        oddjob.pool("email")
    assert str(caught.value) == "no pool named 'email'; the pools are: none yet"


def test_a_closed_name_is_closed_and_not_misspelt() -> None:
    """Law 6: say who is at fault. Who shut the pool down need not look for a typing error."""
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
    """The message must not send anybody to a pool that takes no jobs."""
    oddjob.Pool("closed", 1).shutdown()
    oddjob.Pool("open", 1)
    with pytest.raises(oddjob.PoolNotFound) as caught:
        oddjob.pool("opne")
    assert str(caught.value) == "no pool named 'opne'; the pools are: 'open'"


def test_anonymous_pools_are_not_listed() -> None:
    """A library's private pool must not show up in an application's list."""
    with oddjob.Pool(None, 1) as first, oddjob.Pool(None, 1) as second:
        assert first.name is second.name is None
        assert oddjob.pools() == {}


def test_pools_lists_the_live_ones_in_the_order_in_which_they_were_made() -> None:
    """A status page shows them in the order people know."""
    made = {name: oddjob.Pool(name, 1) for name in ("zebra", "ant", "mule")}
    assert list(oddjob.pools().items()) == list(made.items())
    made["ant"].shutdown()
    assert list(oddjob.pools()) == ["zebra", "mule"]


def test_what_pools_returns_is_a_snapshot() -> None:
    """Whoever edits it, or iterates while pools come and go, does no harm."""
    oddjob.Pool("email", 1)
    snapshot = oddjob.pools()
    snapshot.clear()
    assert list(oddjob.pools()) == ["email"]
    snapshot = oddjob.pools()
    oddjob.Pool("report", 1)
    assert list(snapshot) == ["email"]


def test_a_named_pool_lives_on_without_a_reference_to_it() -> None:
    """`Pool("email")` as a statement is the usual way to make one."""
    pool = weakref.ref(oddjob.Pool("email", 1))
    gc.collect()
    assert pool() is not None
    assert oddjob.pool("email") is pool()


def test_a_pool_that_was_shut_down_is_not_held_by_its_former_name() -> None:
    """A program that makes pools again and again must not collect dead ones."""
    pool = oddjob.Pool("email", 1)
    pool.submit(print, end="").result(WAIT)
    pool.shutdown()
    gone = weakref.ref(pool)
    del pool
    gc.collect()
    assert gone() is None


# The registry by itself.


def test_the_registry_hands_back_what_was_added_under_the_name() -> None:
    """Everything above stands on this."""
    registry: Registry[Thing] = Registry()
    email, report = Thing(), Thing()
    registry.add("email", email)
    registry.add("report", report)
    assert registry.find("email") is registry.get("email") is email
    assert registry.find("report") is registry.get("report") is report
    assert registry.get("other") is None
    assert registry.all() == {"email": email, "report": report}


def test_the_registry_removes_only_the_pool_that_has_the_name() -> None:
    """A late `remove` by a former holder, or by somebody who never had it, does nothing."""
    registry: Registry[Thing] = Registry()
    holder = Thing()
    registry.add("email", holder)
    registry.remove("email", Thing())
    registry.remove("other", holder)
    assert registry.all() == {"email": holder}
    assert registry.never_had("other")
    registry.remove("email", holder)
    assert registry.all() == {}


def test_the_registry_knows_which_names_never_had_a_pool() -> None:
    """The default pool is made on first use only if nobody has shut it down before."""
    registry: Registry[Thing] = Registry()
    thing = Thing()
    assert registry.never_had("job")
    registry.add("job", thing)
    assert not registry.never_had("job")
    registry.remove("job", thing)
    assert not registry.never_had("job")
    registry.forget_former("job")
    assert registry.never_had("job")


def test_a_registry_that_is_cleared_hands_its_pools_over_and_knows_nothing_more() -> None:
    """After `shutdown_all` an old name is unknown again, not closed."""
    registry: Registry[Thing] = Registry()
    live, former = Thing(), Thing()
    registry.add("live", live)
    registry.add("former", former)
    registry.remove("former", former)
    with pytest.raises(oddjob.PoolClosed):
        registry.find("former")
    assert registry.clear() == [live]
    for name in ("live", "former"):
        with pytest.raises(oddjob.PoolNotFound):
            registry.find(name)
        assert registry.never_had(name)
    assert registry.all() == {}
