"""Errors about names that do not exist: they say which ones are meant."""

import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import oddjob
from oddjob import Backoff, Pool, Rate


@pytest.fixture
def pool() -> Iterator[Pool]:
    with Pool("hints", 1) as pool:
        yield pool


def nearest(call: Callable[..., object], unknown: str) -> str:
    """Return what the error says of a keyword argument."""
    with pytest.raises(TypeError) as caught:
        call(**{unknown: 3})
    return str(caught.value)


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("size", "pool_size"),
        ("workers", "pool_size"),
        ("threads", "pool_size"),
        ("concurrency", "pool_size"),
        ("retry", "retries"),
        ("max_retries", "retries"),
        ("queue_size", "max_queue"),
        ("rate_limit", "rate"),
        ("period", "rate"),
        ("backof", "backoff"),
    ],
)
def test_an_unknown_option_of_a_pool_names_the_one_that_is_meant(unknown: str, meant: str) -> None:
    expected = f"() got an unexpected keyword argument {unknown!r}; did you mean {meant!r}?"
    assert nearest(Pool, unknown) == f"Pool{expected}"
    assert nearest(lambda **options: oddjob.start_pool("a", **options), unknown) == (
        f"start_pool{expected}"
    )


@pytest.mark.parametrize(
    ("unknown", "meant"),
    [
        ("limit", "max_concurrency"),
        ("max_workers", "max_concurrency"),
        ("pool_size", "max_concurrency"),
        ("retry", "retries"),
        ("prioritty", "priority"),
    ],
)
def test_an_unknown_option_of_jobs_is_reported_under_the_name_of_the_method_that_was_called(
    unknown: str, meant: str, pool: Pool
) -> None:
    expected = f"() got an unexpected keyword argument {unknown!r}; did you mean {meant!r}?"
    assert nearest(pool.options, unknown) == f"options{expected}"
    assert nearest(pool.job(abs).options, unknown) == f"options{expected}"
    assert nearest(pool.job, unknown) == f"job{expected}"


def test_unknown_arguments_of_other_calls_name_the_nearest_one(pool: Pool) -> None:
    decorated = pool.job(print)
    said = {
        nearest(lambda **options: Rate(3, **options), "period"),
        nearest(Backoff, "bas"),
        nearest(lambda **options: pool.every(5, **options), "overlaps"),
        nearest(lambda **options: decorated.every(5, **options), "daemonic"),
        nearest(lambda **options: pool.cron("* * * * *", **options), "timezone"),
        nearest(lambda **options: decorated.cron("* * * * *", **options), "zone"),
        nearest(lambda **options: pool.after(5, **options), "deamon"),
        nearest(lambda **options: pool.map(abs, [1], **options), "chunk_size"),
        nearest(pool.drain, "time"),
        nearest(pool.records, "states"),
        nearest(pool.retry_failed, "nam"),
        nearest(pool.shutdown, "cancel"),
        nearest(lambda **options: oddjob.perform_this(pool, **options), "asynch"),
        nearest(pool.job, "evry"),
    }
    expected = {
        ("Rate", "period", "per"),
        ("Backoff", "bas", "base"),
        ("every", "overlaps", "overlap"),
        ("every", "daemonic", "daemon"),
        ("cron", "timezone", "tz"),
        ("cron", "zone", "tz"),
        ("after", "deamon", "daemon"),
        ("map", "chunk_size", "chunksize"),
        ("drain", "time", "timeout"),
        ("records", "states", "state"),
        ("retry_failed", "nam", "name"),
        ("shutdown", "cancel", "cancel_futures"),
        ("perform_this", "asynch", "async_"),
        ("job", "evry", "every"),
    }
    assert said == {
        f"{caller}() got an unexpected keyword argument {unknown!r}; did you mean {meant!r}?"
        for caller, unknown, meant in expected
    }


def test_the_signatures_that_help_shows_are_as_they_are_written() -> None:
    assert str(inspect.signature(Rate)).startswith("(limit: int, per: ")
    assert list(inspect.signature(Pool.drain).parameters) == ["self", "timeout"]


def test_options_of_cron_beside_an_interval_are_named_as_such(pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"^tz: of use with cron= or daily=, not every=$"):
        pool.job(every=5, tz="UTC")
    with pytest.raises(TypeError, match=r"^tz: of use with every=, cron= or daily= only$"):
        pool.job(tz="UTC")


SWAPPED: list[Callable[[Any], object]] = [
    lambda pool: oddjob.perform_many(pool, [1], print),  # type: ignore[arg-type]
    lambda pool: oddjob.async_perform_many(pool, [1], print),  # type: ignore[call-overload]
    lambda pool: oddjob.perform_many_after(1, pool, [1], print),  # type: ignore[arg-type]
    lambda pool: pool.perform_many([1], print),
    lambda pool: pool.submit_many([1], print),
    lambda pool: pool.map([1], print),
    lambda pool: pool.group().submit_many([1], print),
    lambda pool: pool.after(5).perform_many([1], print),
    lambda pool: pool.after(5).submit_many([1], print),
    lambda pool: pool.every(5).submit_many([1], print),
]


@pytest.mark.parametrize("call", SWAPPED)
def test_items_before_the_function_are_an_error_that_says_so(
    call: Callable[[Any], object], pool: Pool
) -> None:
    """It is the order of the library in Elixir."""
    with pytest.raises(TypeError, match=r"the function comes first, and then the items, not \[1\]"):
        call(pool)


NO_FUNCTION: list[Callable[[Any], object]] = [
    lambda pool: pool.submit_many("report", [1]),
    lambda pool: pool.map("report", [1]),
    lambda pool: pool.after(5).submit("report"),
    lambda pool: pool.every(5).perform("report"),
]


@pytest.mark.parametrize("call", NO_FUNCTION)
def test_what_cannot_be_called_is_refused_where_that_costs_nothing(
    call: Callable[[Any], object], pool: Pool
) -> None:
    """(`submit` does not look: its jobs fail, as those of the standard library do.)"""
    with pytest.raises(TypeError, match="the function comes first, and then the items, not 'rep"):
        call(pool)
    assert pool.timers() == []
    assert isinstance(pool.submit("report").exception(10), TypeError)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["key", "max_concurrency", "priority", "serial", "unique"])
def test_an_option_of_jobs_that_is_given_to_a_pool_says_where_it_belongs(name: str) -> None:
    hint = rf"{name}'; it is an option of jobs: pool.options\({name}=…\) or @pool.job\({name}=…\)$"
    for make in (Pool, oddjob.start_pool):
        with pytest.raises(TypeError, match=hint):
            make("x", **{name: True})
    with pytest.raises(oddjob.SettingsError, match="it is an option of jobs"):
        oddjob.configure({"extra_pools": [{"x": {name: True}}]})


@pytest.mark.parametrize("jobs", ["123", ["123"], 123])
def test_jobs_to_wait_for_are_jobs_and_no_ids(jobs: Any, pool: Pool) -> None:
    with pytest.raises(
        TypeError, match=r"^after must be a job or a list of jobs, not '?123'?; see find"
    ):
        pool.options(after=jobs)


def test_progress_of_what_is_no_job_is_an_error_that_names_the_other_way() -> None:
    with pytest.raises(TypeError, match=r"and 1 is none; .* pool.map\(fn, items, progress=True\)"):
        oddjob.progress([1, 2])  # type: ignore[type-var]


@pytest.mark.parametrize(
    ("report", "what"),
    [
        (("a",), "done must be a number, not 'a'"),
        ((1, "b"), "total must be a number, not 'b'"),
        ((1, 2, 3), "note must be a string, not 3"),
    ],
)
def test_progress_is_reported_in_numbers(report: Any, what: str, pool: Pool) -> None:
    error = pool.submit(lambda: oddjob.current_job().report(*report)).exception(10)  # type: ignore[union-attr]
    assert isinstance(error, TypeError)
    assert str(error) == what


def test_wrong_arguments_are_those_of_a_method_of_pools(pool: Any) -> None:
    calls = (pool.submit, pool.submit_many, pool.map, pool.cron, pool.find, pool.options().submit)
    for call in calls:
        with pytest.raises(TypeError, match=rf"^Pool\.{call.__name__}\(\) missing"):
            call()


def test_perform_this_says_how_a_job_is_asked_for(pool: Pool) -> None:
    with pytest.raises(TypeError, match=r"'async' as well; did you mean async_=True, at=…"):
        oddjob.perform_this(pool, "async")  # type: ignore[call-overload]


@pytest.mark.parametrize("name", ["submit", "job", "map", "every", "drain"])
def test_a_method_of_pools_that_is_looked_for_in_the_module_is_named_with_its_pool(
    name: str,
) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(oddjob, name)
    assert str(caught.value) == (
        f"module 'oddjob' has no attribute {name!r}: it is a method of pools, as in "
        f"oddjob.pool('name').{name}"
    )


@pytest.mark.parametrize("name", ["delay", "apply_async", "send"])
def test_words_of_other_libraries_are_answered_with_ours(name: str, pool: Pool) -> None:
    for owner in (oddjob, pool.job(print)):
        with pytest.raises(AttributeError, match=r"submit\(…\) or perform\(…\)"):
            getattr(owner, name)


def test_any_other_name_is_unknown_as_ever(pool: Pool) -> None:
    with pytest.raises(AttributeError, match=r"^module 'oddjob' has no attribute 'Pol'$") as caught:
        oddjob.Pol  # type: ignore[attr-defined]  # noqa: B018
    assert (caught.value.name, caught.value.obj) == ("Pol", oddjob)  # Python suggests Pool itself
    assert not hasattr(oddjob, "_core")
    assert not hasattr(pool.job(print), "timeout")


@pytest.mark.parametrize("text", ["100 a minute", "100/fortnight", "5/hs"])
def test_a_rate_that_is_not_understood_names_the_units(text: str, pool: Pool) -> None:
    for call in (Pool, pool.options, pool.job, lambda **each: oddjob.start_pool("a", **each)):
        with pytest.raises(ValueError, match=r"the units are ms, s, .*, d, day, days"):
            call(rate=text)  # type: ignore[operator]


@pytest.mark.parametrize(
    ("of", "name", "hint"),
    [
        ("delayed", "options", r"before the time, as in pool\.options\(…\)\.after\(5\)"),
        ("recurring", "options", r"before the time, as in pool\.options\(…\)\.after\(5\)"),
        ("delayed function", "options", "before the time"),
        ("recurring", "job", r"@pool\.job\(every=60\)"),
        ("pool", "close", "did you mean 'shutdown'"),
        ("pool", "apply_async", "did you mean 'submit'"),
        ("pool", "imap_unordered", "did you mean 'map'"),
        ("pool", "queued", "did you mean 'queue'"),
        ("view", "delay", "did you mean 'submit'"),
        ("job", "get", "did you mean 'result'"),
        ("job", "ready", "did you mean 'done'"),
        ("job", "status", "did you mean 'state'"),
        ("job", "revoke", "did you mean 'cancel'"),
    ],
)
def test_attributes_that_other_libraries_have_are_answered_with_ours(
    of: str, name: str, hint: str
) -> None:
    with oddjob.Pool(1) as pool:
        owner = {
            "pool": pool,
            "view": pool.options(priority=1),
            "delayed": pool.after(5),
            "recurring": pool.every(5),
            "delayed function": pool.job(abs).after(5),
            "job": pool.submit(abs, 1),
        }[of]
        with pytest.raises(AttributeError, match=hint):
            getattr(owner, name)
        assert not hasattr(owner, "no_such_thing")
        assert not hasattr(owner, "_ipython_display_")
