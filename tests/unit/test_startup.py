"""configure, the default pool, start_pool and shutdown_all: all or nothing, once, and clean."""

import inspect
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

import oddjob
from oddjob import registry as registry_module
from oddjob.options import PoolOptions
from oddjob.registry import registry
from oddjob.settings import Plan
from oddjob.signing import SigningKeys

from .at_once import at_once

WAIT = 10.0
LIBRARY_DEFAULTS = PoolOptions()


@contextmanager
def held_up(pool: oddjob.Pool) -> Iterator[oddjob.Job[bool]]:
    """Yield a job that occupies one worker until the block ends; it returns True."""
    gate, started = threading.Event(), threading.Event()

    def stand() -> bool:
        started.set()
        return gate.wait(WAIT)

    job = pool.submit(stand)
    assert started.wait(WAIT)
    try:
        yield job
    finally:
        gate.set()


def configured(settings: dict[str, Any]) -> dict[str, oddjob.Pool]:
    """Configure, and return the pools that there are when that returns."""
    oddjob.configure(settings)
    return oddjob.pools()


def nothing_is_configured() -> bool:
    """Return whether new pools are as if `configure` had never been called."""
    anonymous = oddjob.Pool(None)
    return anonymous.configuration == LIBRARY_DEFAULTS and registry.plan == Plan()


# The default pool.


def test_there_is_no_pool_before_the_first_use_of_the_default_one() -> None:
    """Importing the library and listing the pools creates none."""
    assert oddjob.pools() == {}


@pytest.mark.parametrize(
    "use",
    [
        oddjob.pool,
        lambda: oddjob.pool("job"),
        oddjob.workers,
        oddjob.queue,
        oddjob.supervisor,
        lambda: oddjob.async_perform("job", int).result(WAIT),
    ],
    ids=["pool()", "pool('job')", "workers()", "queue()", "supervisor()", "async_perform"],
)
def test_the_default_pool_is_created_on_first_use_with_5_workers(use: Callable[[], object]) -> None:
    """A script of three lines needs no configuration."""
    use()
    assert list(oddjob.pools()) == ["job"]
    made = oddjob.pools()["job"]
    assert made.pool_size == 5
    assert made.configuration == LIBRARY_DEFAULTS
    assert oddjob.pool() is oddjob.pool("job") is made


@pytest.mark.usefixtures("tiny_switch_interval")
def test_the_default_pool_is_created_once_however_many_threads_use_it_first() -> None:
    """The first requests of a web server arrive together, and 5 workers do not become 10."""
    for _ in range(50):
        found = at_once(*[oddjob.pool] * 4, *[lambda: oddjob.pool("job")] * 4)
        assert found == [oddjob.pool()] * 8
        assert oddjob.shutdown_all(WAIT)


def test_a_pool_called_job_that_was_created_by_hand_is_the_default_pool() -> None:
    """That is the other way to give it a size."""
    made = oddjob.Pool("job", 2)
    assert oddjob.pool() is made


def test_no_other_pool_is_created_on_first_use() -> None:
    """A misspelt name does not become a pool."""
    with pytest.raises(oddjob.PoolNotFound):
        oddjob.pool("jbo")
    assert oddjob.pools() == {}


def test_a_default_pool_that_was_shut_down_is_closed_and_not_created_again() -> None:
    """After its end, jobs for "job" are refused; a second pool would run them unseen."""
    oddjob.pool().shutdown()
    for name in (None, "job"):
        with pytest.raises(oddjob.PoolClosed):
            oddjob.pool(name)
    assert oddjob.pools() == {}


def test_a_configured_default_pool_that_was_shut_down_is_not_created_again() -> None:
    """The same with settings in force."""
    oddjob.configure({"default_pool": "work"})
    oddjob.pool().shutdown()
    for name in (None, "work"):
        with pytest.raises(oddjob.PoolClosed):
            oddjob.pool(name)


def test_the_default_pool_has_the_configured_name() -> None:
    """Then "job" is an unknown name."""
    oddjob.configure({"default_pool": "work"})
    assert oddjob.pool() is oddjob.pool("work")
    with pytest.raises(oddjob.PoolNotFound, match="'work'"):
        oddjob.pool("job")
    assert list(oddjob.pools()) == ["work"]


def test_without_a_default_pool_there_is_none_and_none_is_created() -> None:
    """`default_pool: False` is for programs in which every job names its pool."""
    oddjob.configure({"default_pool": False})
    for use in (oddjob.pool, lambda: oddjob.pool("job"), oddjob.workers, oddjob.queue):
        with pytest.raises(oddjob.PoolNotFound):
            use()
    with pytest.raises(oddjob.PoolNotFound):
        oddjob.perform("job", print)
    assert oddjob.pools() == {}


def test_the_error_for_a_missing_default_pool_says_just_that() -> None:
    """A word about a pool named '' would be misleading."""
    oddjob.configure({"default_pool": False, "extra_pools": ["email"]})
    with pytest.raises(oddjob.PoolNotFound, match="no default pool"):
        oddjob.pool()


def test_a_pool_is_returned_as_it_is() -> None:
    """Every module-level function takes a name or a Pool, anonymous and closed ones included."""
    with oddjob.Pool(None, 1) as anonymous:
        assert oddjob.pool(anonymous) is anonymous
    assert oddjob.pool(anonymous) is anonymous
    assert oddjob.pools() == {}


@pytest.mark.parametrize("junk", [3, b"job", ["job"], object()])
def test_anything_but_a_name_or_a_pool_is_a_type_error(junk: object) -> None:
    """ "Not found" would suggest that there could be such a pool."""
    with pytest.raises(TypeError, match="a pool is given by its name or as a Pool, not "):
        oddjob.pool(junk)
    assert oddjob.pools() == {}


# configure().


def test_configure_creates_every_pool_with_its_options_and_starts_no_thread() -> None:
    """The documented example; a server that forks after start-up relies on the second half."""
    before = threading.active_count()
    oddjob.configure(
        {
            "default_pool": "job",
            "pool_size": 10,
            "max_restarts": 3,
            "max_seconds": 5,
            "extra_pools": ["email", {"external_app": {"pool_size": 7, "max_restarts": 2}}],
        }
    )
    assert list(oddjob.pools()) == ["job", "email", "external_app"]
    assert oddjob.pool().configuration == LIBRARY_DEFAULTS._replace(pool_size=10)
    assert oddjob.pool("email").configuration == LIBRARY_DEFAULTS._replace(pool_size=10)
    assert oddjob.pool("external_app").configuration == (
        LIBRARY_DEFAULTS._replace(pool_size=7, max_restarts=2)
    )
    assert threading.active_count() == before


def test_settings_may_be_given_by_keywords() -> None:
    """`configure(default_pool="work")` is what everyone types first."""
    oddjob.configure({"pool_size": 3, "max_seconds": 7}, default_pool="work", pool_size=2)
    assert oddjob.pool("work") is oddjob.pool()
    assert oddjob.pool().configuration == LIBRARY_DEFAULTS._replace(pool_size=2, max_seconds=7.0)
    oddjob.configure(default_pool="work", pool_size=2, max_seconds=7)
    with pytest.raises(oddjob.SettingsError, match=r"settings\['size'\].*'pool_size'"):
        oddjob.configure(size=3)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


def test_configured_pools_work() -> None:
    """The shortest program that configures anything."""
    oddjob.configure({"extra_pools": ["email"]})
    assert oddjob.async_perform("email", int, "3").result(WAIT) == 3
    assert oddjob.async_perform("job", int, "4").result(WAIT) == 4


def test_an_empty_prefix_of_one_pool_overrides_the_general_one() -> None:
    """The threads of that pool are named after it."""
    oddjob.configure(
        {
            "thread_name_prefix": "general",
            "extra_pools": {"email": {"thread_name_prefix": ""}},
        }
    )
    assert oddjob.pool().configuration.thread_name_prefix == "general"
    assert oddjob.pool("email").configuration.thread_name_prefix == ""
    name = oddjob.pool("email").submit(lambda: threading.current_thread().name).result(WAIT)
    assert name == "email_0"


@pytest.mark.parametrize(
    "last",
    [
        {"report": {"pool_size": 0}},
        {"report": {"pool_sise": 1}},
        {"report": 3},
        {"email": {}},
        "email",
        "",
        3,
    ],
)
def test_nothing_is_created_if_the_last_entry_is_bad(last: object) -> None:
    """A program that catches the error and goes on is not half configured."""
    settings = {"pool_size": 9, "extra_pools": ["email", {"app": {"pool_size": 2}}, last]}
    with pytest.raises(oddjob.SettingsError):
        oddjob.configure(settings)
    assert oddjob.pools() == {}
    assert nothing_is_configured()
    oddjob.configure({"pool_size": 8})
    assert oddjob.pool().pool_size == 8


def test_nothing_is_created_if_a_live_pool_has_other_options() -> None:
    """The error names the pool, and nothing changes."""
    mine = oddjob.Pool("report", 2)
    with pytest.raises(oddjob.PoolNameTaken, match="'report' with other options"):
        oddjob.configure({"pool_size": 9, "extra_pools": ["email", {"report": {"pool_size": 3}}]})
    assert oddjob.pools() == {"report": mine}
    assert mine.pool_size == 2
    assert nothing_is_configured()


def test_a_pool_created_before_with_the_same_options_is_kept() -> None:
    """A module that was imported before `configure` may have created its pool already."""
    mine = oddjob.Pool("email", 3)
    queue = [mine.submit(int) for _ in range(3)]
    oddjob.configure({"pool_size": 3, "extra_pools": ["email"]})
    assert oddjob.pool("email") is mine
    assert [job.result(WAIT) for job in queue] == [0, 0, 0]
    assert list(oddjob.pools()) == ["email", "job"]


def test_a_default_pool_that_is_in_use_already_is_kept_if_its_options_are_the_same() -> None:
    """A job at import time, before `configure`, is allowed."""
    used = oddjob.pool()
    oddjob.configure({"extra_pools": ["email"]})
    assert oddjob.pool() is used


def test_a_default_pool_that_is_in_use_already_cannot_be_configured_otherwise() -> None:
    """Its size is fixed by then, and the error says so."""
    used = oddjob.pool()
    with pytest.raises(oddjob.PoolNameTaken, match="'job' with other options"):
        oddjob.configure({"pool_size": 10})
    assert oddjob.pools() == {"job": used}
    assert nothing_is_configured()


def test_the_same_settings_twice_do_nothing_the_second_time() -> None:
    """A module that is imported twice, under two names, does no harm."""
    settings: dict[str, Any] = {"pool_size": 2, "extra_pools": ["email"]}
    oddjob.configure(settings)
    before = oddjob.pools()
    oddjob.configure(settings)
    oddjob.configure({"pool_size": 2, "extra_pools": {"email": {"pool_size": 2}}})
    after = oddjob.pools()
    assert list(after) == list(before) == ["job", "email"]
    assert all(after[name] is before[name] for name in before)


def test_the_same_settings_again_do_not_bring_back_a_pool_that_was_shut_down() -> None:
    """The second call is a no-op, whatever happened between."""
    settings = {"extra_pools": ["email"]}
    oddjob.configure(settings)
    oddjob.pool("email").shutdown()
    oddjob.configure(settings)
    assert list(oddjob.pools()) == ["job"]


@pytest.mark.parametrize(
    "other",
    [
        {},
        {"pool_size": 3, "extra_pools": ["email"]},
        {"pool_size": 2},
        {"pool_size": 2, "extra_pools": ["email", "report"]},
        {"pool_size": 2, "extra_pools": {"email": {"max_restarts": 1}}},
        {"pool_size": 2, "extra_pools": ["email"], "default_pool": False},
        {"pool_size": 2, "extra_pools": ["email"], "default_pool": "work"},
    ],
)
def test_other_settings_are_an_error_that_says_what_to_do(other: dict[str, Any]) -> None:
    """Two parts of a program that disagree get an error, and the first settings stay."""
    oddjob.configure({"pool_size": 2, "extra_pools": ["email"]})
    before = oddjob.pools()
    with pytest.raises(oddjob.SettingsError, match=r"call oddjob\.shutdown_all\(\) first"):
        oddjob.configure(other)
    assert oddjob.pools() == before
    with oddjob.Pool(None) as later:
        assert later.pool_size == 2


def test_bad_settings_are_an_error_when_others_are_in_force_too() -> None:
    """The path of the mistake helps more than the remark that it is too late."""
    oddjob.configure({})
    with pytest.raises(oddjob.SettingsError, match=r"^settings\['pool_size'\]: "):
        oddjob.configure({"pool_size": 0})


@pytest.mark.usefixtures("tiny_switch_interval")
def test_two_threads_that_configure_the_same_both_succeed_and_create_the_pools_once() -> None:
    """Two workers of one server that run the same start-up code."""
    for size in range(1, 61):
        settings = {"pool_size": size, "extra_pools": ["email", {"app": {"pool_size": 2}}]}
        outcomes = at_once(*[partial(configured, settings)] * 2)
        now = oddjob.pools()
        assert [each.pool_size for each in now.values()] == [size, size, 2]
        assert outcomes == [now, now]  # each saw all of them as soon as its call had returned
        assert oddjob.shutdown_all(WAIT)


@pytest.mark.usefixtures("tiny_switch_interval")
def test_of_two_threads_that_configure_differently_one_gets_a_settings_error() -> None:
    """The second one gets an error; there is no mixture of both."""
    mine = {"pool_size": 2, "extra_pools": ["email", "report"]}
    yours = {"pool_size": 3, "extra_pools": ["email", "thumbnails"]}
    for _ in range(60):
        outcomes = at_once(lambda: oddjob.configure(mine), lambda: oddjob.configure(yours))
        won = outcomes.index(None)
        assert isinstance(outcomes[1 - won], oddjob.SettingsError)
        names, size = [(["job", "email", "report"], 2), (["job", "email", "thumbnails"], 3)][won]
        assert list(oddjob.pools()) == names
        assert {each.pool_size for each in oddjob.pools().values()} == {size}
        assert oddjob.shutdown_all(WAIT)


@pytest.mark.usefixtures("tiny_switch_interval")
def test_configuring_and_first_using_the_default_pool_at_once_agree_on_one_pool() -> None:
    """A request that arrives during start-up gets the configured pool, or a clear error is seen."""
    for _ in range(60):
        outcomes = at_once(lambda: oddjob.configure({"pool_size": 2}), oddjob.pool)
        assert outcomes[1] is oddjob.pool()
        if outcomes[0] is None:
            assert oddjob.pool().pool_size == 2
        else:
            assert isinstance(outcomes[0], oddjob.PoolNameTaken)
            assert oddjob.pool().pool_size == 5
        assert oddjob.shutdown_all(WAIT)


# What later pools inherit.


class Note:
    """Middleware that does nothing, and is equal to itself alone."""

    def __init__(self, name: str) -> None:
        self.name = name

    def run(self, job: object, carrier: dict[str, str], call: Callable[[], Any]) -> Any:
        return call()


CONFIGURED = {
    "pool_size": 2,
    "max_restarts": 9,
    "max_seconds": 60,
    "initializer": int,
    "initargs": ("7",),
    "thread_name_prefix": "mine",
    "on_error": print,
    "crash_on": OSError,
    "timeout": 30.0,
    "max_abandoned": 4,
    "exit_timeout": 20.0,
    "on_event": id,
    "max_queue": 4,
    "when_full": "caller_runs",
    "submit_timeout": 4.0,
    "rate": oddjob.Rate(4, per=3600),
    "key_limit": 4,
    "fair_by": "mine",
    "fair_weights": {"gold": 4.0},
    "priority_aging": 4.0,
    "retries": 4,
    "backoff": (4.0,),
    "retry_on": OSError,
    "no_retry_on": EOFError,
    "middleware": (Note("configured"),),
    "store": False,
    "signing_keys": SigningKeys([b"a secret of all pools"]),
    "consume": False,
    "keep_succeeded": 4,
    "keep_failed": 4.0,
    "keep_bytes": 4.0,
    "unknown_after": 4.0,
}


@pytest.mark.parametrize(
    "make", [lambda: oddjob.Pool("late"), lambda: oddjob.start_pool("late"), oddjob.Pool]
)
def test_pools_created_later_inherit_the_configured_defaults(
    make: Callable[[], oddjob.Pool],
) -> None:
    """Defaults are written once, and hold for pools that plugins create."""
    oddjob.configure(CONFIGURED)
    with make() as late:
        assert late.configuration._asdict() == CONFIGURED
        assert late.submit(lambda: threading.current_thread().name).result(WAIT) == "mine_0"


OWN = {
    "pool_size": 1,
    "max_restarts": 0,
    "max_seconds": 1.5,
    "initializer": str,
    "initargs": ("own",),
    "thread_name_prefix": "own",
    "on_error": repr,
    "crash_on": (LookupError, ValueError),
    "timeout": 3,
    "max_abandoned": 0,
    "exit_timeout": 2.5,
    "on_event": repr,
    "max_queue": 3,
    "when_full": "block",
    "submit_timeout": 0.5,
    "rate": oddjob.Rate(3, per=60),
    "key_limit": 3,
    "fair_by": "own",
    "fair_weights": {"gold": 3.0},
    "priority_aging": 3.0,
    "retries": 3,
    "backoff": oddjob.Backoff(3.0),
    "retry_on": KeyError,
    "no_retry_on": IndexError,
    "middleware": (Note("own"),),
    "store": "memory:",
    "signing_keys": SigningKeys([b"a secret of one pool"]),
    "consume": True,
    "keep_succeeded": 3,
    "keep_failed": 3.0,
    "keep_bytes": 3.0,
    "unknown_after": 3.0,
}


@pytest.mark.parametrize("key", CONFIGURED)
@pytest.mark.parametrize("make", [oddjob.Pool, oddjob.start_pool])
def test_an_option_of_a_later_pool_overrides_the_configured_default(
    make: Callable[..., oddjob.Pool], key: str
) -> None:
    """A default applies where nothing else is given."""
    oddjob.configure(CONFIGURED)
    options: dict[str, Any] = {key: OWN[key]}
    assert make("late", **options).configuration._asdict() == {**CONFIGURED, **options}


def test_max_workers_overrides_a_configured_pool_size() -> None:
    """It is the same option under the standard library's name."""
    oddjob.configure({"pool_size": 2})
    assert oddjob.Pool("late", max_workers=4).pool_size == 4


def test_pools_created_earlier_stay_as_they_are() -> None:
    """Threads may be running already."""
    early = oddjob.Pool("early")
    oddjob.configure({"pool_size": 2})
    assert early.pool_size == 5


def test_start_pool_creates_a_named_pool_with_all_the_options_of_pool() -> None:
    """It is `Pool(name, …)` by another name, for those who come from Elixir."""
    options = OWN | {"priority_aging": None}  # which does not go with a store
    started = oddjob.start_pool("email", **options)
    assert isinstance(started, oddjob.Pool)
    assert oddjob.pool("email") is started
    assert started.name == "email"
    assert started.configuration._asdict() == options


def test_start_pool_raises_what_pool_raises() -> None:
    """And leaves nothing behind."""
    oddjob.Pool("email", 1)
    with pytest.raises(oddjob.PoolNameTaken):
        oddjob.start_pool("email")
    with pytest.raises(ValueError, match="pool_size"):
        oddjob.start_pool("report", pool_size=0)
    with pytest.raises(TypeError, match="pool_sise"):
        oddjob.start_pool("report", pool_sise=1)
    assert list(oddjob.pools()) == ["email"]


def test_start_pool_with_exist_ok_returns_the_pool_that_has_the_same_options() -> None:
    """A notebook's cell, or a module, that is run twice does no harm."""
    first = oddjob.start_pool("api", pool_size=3, retries=2, exist_ok=True)
    assert oddjob.start_pool("api", max_workers=3, retries=2, exist_ok=True) is first
    assert first.submit(int).result(WAIT) == 0


def test_start_pool_with_exist_ok_refuses_other_options_and_says_how_to_change_them() -> None:
    """The pool in use would not be the one that is asked for."""
    first = oddjob.start_pool("api", pool_size=3)
    with pytest.raises(oddjob.PoolNameTaken, match=r"other options.*replace=True"):
        oddjob.start_pool("api", pool_size=4, exist_ok=True)
    assert oddjob.pools() == {"api": first}


def test_start_pool_with_replace_takes_over_the_name_while_the_former_finishes_its_queue() -> None:
    """A cell with another size, run again, loses no job."""
    first = oddjob.start_pool("api", pool_size=1)
    with held_up(first) as running:
        queued = first.submit(int, "3")
        second = oddjob.start_pool("api", pool_size=4, replace=True)
        assert oddjob.pool("api") is second
        assert second is not first
        assert second.submit(int, "4").result(WAIT) == 4
        with pytest.raises(oddjob.PoolClosed):
            first.submit(int)
    assert running.result(WAIT) is True
    assert queued.result(WAIT) == 3
    assert first.join(WAIT)


def test_start_pool_with_both_replaces_only_a_pool_that_has_other_options() -> None:
    """What a notebook wants: the pool as it is written in the cell."""
    first = oddjob.start_pool("api", pool_size=1, exist_ok=True, replace=True)
    assert oddjob.start_pool("api", pool_size=1, exist_ok=True, replace=True) is first
    assert oddjob.start_pool("api", pool_size=2, exist_ok=True, replace=True) is not first
    assert first.join(WAIT)


def test_start_pool_with_replace_and_bad_options_changes_nothing() -> None:
    """The pool that works goes on."""
    first = oddjob.start_pool("api", pool_size=1)
    with pytest.raises(ValueError, match="pool_size"):
        oddjob.start_pool("api", pool_size=0, replace=True)
    assert oddjob.pool("api") is first
    assert first.submit(int).result(WAIT) == 0


@pytest.mark.usefixtures("tiny_switch_interval")
def test_threads_that_start_the_same_pool_with_exist_ok_agree_on_one() -> None:
    """Two workers of one server that run the same start-up code."""
    for _ in range(30):
        start = partial(oddjob.start_pool, "api", pool_size=2, exist_ok=True)
        found = at_once(*[start] * 4)
        assert found == [oddjob.pool("api")] * 4
        assert oddjob.shutdown_all(WAIT)


# shutdown_all().


def test_shutdown_all_finishes_what_is_queued_in_every_pool() -> None:
    """Accepted jobs run: a deployment that stops the former process loses none."""
    ran: list[object] = []
    jobs = []
    for name in ("email", "report"):
        pool = oddjob.Pool(name, 1)
        with held_up(pool):
            jobs += pool.submit_many(ran.append, range(20))
            pool.perform(ran.append, name)
    assert oddjob.shutdown_all(WAIT) is True
    assert all(job.done() and not job.cancelled() for job in jobs)
    assert len(ran) == 42
    assert oddjob.pools() == {}


def test_shutdown_all_waits_without_limit_unless_told_otherwise() -> None:
    """The call at the end of a program needs no guess at how long the work takes."""
    assert inspect.signature(oddjob.shutdown_all).parameters["timeout"].default is None
    pool = oddjob.Pool("email", 1)
    with held_up(pool) as job:
        ending, returned = threading.Event(), threading.Event()

        def end() -> None:
            pool.submit(int)
            ending.set()
            if oddjob.shutdown_all():
                returned.set()

        thread = threading.Thread(target=end)
        thread.start()
        assert ending.wait(WAIT)
        assert not returned.wait(0.1)
        assert not job.done()
    assert returned.wait(WAIT)
    thread.join(WAIT)
    assert job.result(0) is True


def test_shutdown_all_returns_false_when_the_time_is_up_and_the_jobs_go_on() -> None:
    """A stuck report neither delays the restart, nor is cut off in the middle."""
    pool = oddjob.Pool("email", 1)
    with held_up(pool) as running:
        queued = pool.submit(lambda: "finished")
        assert oddjob.shutdown_all(0.01) is False
        assert oddjob.shutdown_all(0) is True  # there is no named pool any more
        assert running.running()
        assert queued.state == "queued"
        with pytest.raises(oddjob.PoolClosed):
            pool.submit(int)
    assert running.result(WAIT) is True
    assert queued.result(WAIT) == "finished"
    assert pool.join(WAIT)


def test_shutdown_all_returns_false_if_only_the_first_of_the_pools_was_late() -> None:
    """One late pool among punctual ones is late."""
    late = oddjob.Pool("late", 1)
    punctual = oddjob.Pool("punctual", 1)
    punctual.submit(int).result(WAIT)
    with held_up(late):
        assert oddjob.shutdown_all(0.05) is False
    assert late.join(WAIT)
    assert punctual.join(WAIT)


def test_the_timeout_of_shutdown_all_is_for_all_pools_together(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Ten pools and a timeout of 10 seconds are 10 seconds, not 100."""
    now = iter([100.0, 101.0, 104.0, 200.0])
    asked: list[float | None] = []
    join = oddjob.Pool.join
    monkeypatch.setattr(registry_module, "clock", SimpleNamespace(steady=lambda: next(now)))
    monkeypatch.setattr(
        oddjob.Pool, "join", lambda pool, timeout: asked.append(timeout) or join(pool, WAIT)
    )
    for name in ("a", "b", "c"):
        oddjob.Pool(name, 1)
    assert oddjob.shutdown_all(10)
    monkeypatch.undo()
    assert asked == [9.0, 6.0, 0.0]


def test_all_pools_are_closed_before_any_is_waited_for() -> None:
    """A job of the first cannot go on giving work to the second for ever."""
    first, second = oddjob.Pool("first", 1), oddjob.Pool("second", 1)
    second_closed = threading.Event()

    def keep_submitting() -> None:
        while not second_closed.is_set():
            try:
                second.submit(int).result(WAIT)
            except oddjob.PoolClosed:
                second_closed.set()

    job = first.submit(keep_submitting)
    assert oddjob.shutdown_all(WAIT) is True
    assert job.result(0) is None


def test_shutdown_all_forgets_the_configuration() -> None:
    """The next test, or the next tenant, starts from nothing."""
    oddjob.configure({"default_pool": "work", "pool_size": 2, "extra_pools": ["email"]})
    oddjob.shutdown_all(WAIT)
    assert oddjob.pools() == {}
    assert nothing_is_configured()
    for name in ("email", "work"):
        with pytest.raises(oddjob.PoolNotFound, match="none yet"):
            oddjob.pool(name)


def test_everything_can_be_used_again_after_shutdown_all() -> None:
    """Also the default pool, and settings other than before."""
    oddjob.configure({"pool_size": 2, "extra_pools": ["email"]})
    first = oddjob.pool()
    oddjob.shutdown_all(WAIT)
    assert oddjob.pool() is not first
    assert oddjob.pool().submit(int, "3").result(WAIT) == 3
    oddjob.shutdown_all(WAIT)
    oddjob.configure({"pool_size": 3, "extra_pools": ["email"]})
    assert oddjob.pool("email").pool_size == 3
    assert oddjob.pool("email").submit(int, "4").result(WAIT) == 4


def test_a_default_pool_that_was_shut_down_is_created_again_after_shutdown_all() -> None:
    """A clean slate is clean."""
    oddjob.pool().shutdown()
    oddjob.shutdown_all(WAIT)
    assert oddjob.pool().submit(int).result(WAIT) == 0


def test_shutdown_all_leaves_anonymous_pools_alone() -> None:
    """They belong to the code that created them."""
    with oddjob.Pool(None, 1) as mine:
        oddjob.shutdown_all(WAIT)
        assert mine.submit(int).result(WAIT) == 0


def test_shutdown_all_without_any_pool_is_done_at_once() -> None:
    """It may be called twice, or in a program that never created a pool."""
    assert oddjob.shutdown_all() is True
    assert oddjob.shutdown_all(0) is True


def test_a_job_may_call_shutdown_all() -> None:
    """An admin's "stop" request may itself be a job; waiting for its own end would never end."""
    pool = oddjob.Pool("email", 1)
    job = pool.submit(oddjob.shutdown_all)
    assert job.result(WAIT) is False  # its own pool was not done: the job itself was running
    assert pool.join(WAIT)
    assert oddjob.pools() == {}


@pytest.mark.usefixtures("tiny_switch_interval")
def test_two_threads_may_call_shutdown_all_at_once() -> None:
    """A signal handler's thread and the main thread often both do."""
    for _ in range(20):
        oddjob.configure({"extra_pools": ["email"]})
        jobs = [oddjob.async_perform(name, int) for name in ("job", "email")]
        assert at_once(oddjob.shutdown_all, oddjob.shutdown_all) == [True, True]
        assert [job.result(WAIT) for job in jobs] == [0, 0]
        assert oddjob.pools() == {}
