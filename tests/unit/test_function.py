"""JobFunction: call it and it runs here, submit it and it runs in the pool."""

import asyncio
import copy
import functools
import inspect
import logging
import multiprocessing
import operator
import pickle
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any
from unittest.mock import Mock
from zoneinfo import ZoneInfo

import pytest

import oddjob
from oddjob.submitter import Submitter

WAIT = 10.0


@pytest.fixture
def pool() -> Iterator[oddjob.Pool]:
    with oddjob.Pool("email", 2) as pool:
        yield pool


def where() -> str:
    """Return the name of the thread that runs this."""
    return threading.current_thread().name


def combine(one: object, /, two: object = 2, *rest: object, three: object, **more: object) -> Any:
    """Every kind of parameter."""
    return one, two, rest, three, more


DECORATIONS: dict[str, Callable[[Submitter], Callable[[Any], Any]]] = {
    "bare": lambda pool: pool.job,
    "empty": lambda pool: pool.job(),
    "with options": lambda pool: pool.job(name="greeting"),
    "on a view": lambda pool: pool.options(name="greeting").job,
    "options after": lambda pool: lambda fn: pool.job(fn).options(name="greeting"),
}
EVERY_DECORATION = pytest.mark.parametrize("decorate", DECORATIONS.values(), ids=DECORATIONS)


# In the calling thread and in the pool.


@EVERY_DECORATION
def test_calling_runs_the_function_in_the_calling_thread(
    decorate: Callable[[Submitter], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """A decorated function stays usable, and testable, as a plain function."""
    function = decorate(pool)(where)
    assert isinstance(function, oddjob.JobFunction)
    assert function() == threading.current_thread().name
    assert pool.workers() == []


@EVERY_DECORATION
def test_submitting_runs_the_function_in_the_pool(
    decorate: Callable[[Submitter], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """The limit of the pool holds for the function, wherever it is used."""
    job = decorate(pool)(where).submit()
    assert isinstance(job, oddjob.Job)
    assert job.pool is pool
    assert job.result(WAIT).startswith("email_")


def test_all_arguments_arrive_however_it_is_run(pool: oddjob.Pool) -> None:
    """Defaults, starred and keyword-only parameters included."""
    function = pool.job(combine)
    expected = combine(1, "b", "c", three=3, four=4)
    assert function(1, "b", "c", three=3, four=4) == expected
    assert function.submit(1, "b", "c", three=3, four=4).result(WAIT) == expected
    assert function.submit(1, three=3).result(WAIT) == (1, 2, (), 3, {})


@pytest.mark.parametrize("key", ["fn", "self", "args", "kwargs", "instance", "target"])
def test_any_keyword_reaches_the_function(pool: oddjob.Pool, key: str) -> None:
    """Its parameters may have any name, that of one of ours included."""
    function = pool.job(lambda **kwargs: kwargs)
    assert function(**{key: 1}) == {key: 1}
    assert function.submit(**{key: 1}).result(WAIT) == {key: 1}


def test_wrong_arguments_are_the_jobs_failure(pool: oddjob.Pool) -> None:
    """As with any submitted function: `result()` raises the TypeError, the worker lives on."""
    with pytest.raises(TypeError, match="three"):
        pool.job(combine).submit(1).result(WAIT)


def test_perform_is_fire_and_forget(pool: oddjob.Pool, caplog: pytest.LogCaptureFixture) -> None:
    """A failure is logged; the caller gets nothing to keep."""
    seen: list[int] = []
    note = pool.job(seen.append)
    assert note.perform(3) is None
    fail = pool.job([].index)
    assert fail.perform(3) is None
    pool.shutdown()
    assert seen == [3]
    (record,) = caplog.records
    assert (record.name, record.levelno) == ("oddjob", logging.ERROR)
    assert record.getMessage() == "job list.index of pool email failed"


def test_submit_many_returns_a_job_for_every_item_in_order(pool: oddjob.Pool) -> None:
    """Results are paired with items by position."""
    jobs = pool.job(str).submit_many(iter(range(20)))
    assert isinstance(jobs, list)
    assert all(isinstance(job, oddjob.Job) and job.pool is pool for job in jobs)
    assert [job.result(WAIT) for job in jobs] == [str(number) for number in range(20)]


def test_submit_many_queues_nothing_if_the_items_cannot_be_read(pool: oddjob.Pool) -> None:
    """Law 2: a refused batch leaves nothing behind."""
    seen: list[int] = []
    with pytest.raises(ZeroDivisionError):
        pool.job(seen.append).submit_many(1 // number for number in (1, 0))
    pool.shutdown()
    assert seen == []


def test_perform_many_runs_every_item_and_logs_every_failure(
    pool: oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Fire and forget for a whole batch."""
    seen: list[float] = []
    invert = pool.job(lambda number: seen.append(1 / number))
    assert invert.perform_many([1, 0, 2, 0, 4]) is None
    pool.shutdown()
    assert sorted(seen) == [0.25, 0.5, 1.0]
    assert len(caplog.records) == 2


def test_map_yields_the_results_in_order(pool: oddjob.Pool) -> None:
    """As the built-in `map` does, with as many iterables as the function has parameters."""
    power = pool.job(pow)
    assert list(power.map([2, 3, 4], [3, 2, 1, 0])) == [8, 9, 4]
    assert list(pool.job(lambda _: where().rsplit("_", 1)[0]).map("ab")) == ["email", "email"]


def test_map_takes_the_options_of_the_pools_map(pool: oddjob.Pool) -> None:
    """All of them are passed on."""
    read: list[int] = []

    def items() -> Iterator[int]:
        for number in range(9):
            read.append(number)
            yield number

    results = pool.job(str).map(items(), timeout=WAIT, chunksize=3, buffersize=2)
    assert read == [0, 1]
    assert list(results) == list("012345678")
    with pytest.raises(ValueError, match="buffersize"):
        pool.job(str).map([], buffersize=0)
    gate = threading.Event()
    try:
        with pytest.raises(TimeoutError):
            next(pool.job(gate.wait).map([WAIT], timeout=0.01))
    finally:
        gate.set()


def test_a_job_function_is_a_function_to_submit_like_any_other(pool: oddjob.Pool) -> None:
    """Another pool, or the built-in `map`, takes it without unwrapping."""
    function = pool.job(where)
    with oddjob.Pool("other", 1) as other:
        assert other.submit(function).result(WAIT) == "other_0"
    assert list(map(pool.job(str), [1, 2])) == ["1", "2"]


def test_a_job_function_of_a_closed_pool_still_runs_here(pool: oddjob.Pool) -> None:
    """In the pool it is refused, with the reason."""
    function = pool.job(where)
    pool.shutdown()
    assert function() == threading.current_thread().name
    for use in (function.submit, function.perform):
        with pytest.raises(oddjob.PoolClosed):
            use()


def test_a_function_decorated_for_two_pools_runs_in_the_one_written_on_top(
    pool: oddjob.Pool,
) -> None:
    """The outer decorator decides, as everywhere in Python."""
    inner = pool.job(where)
    with oddjob.Pool("outer", 1) as other:
        outer = other.job(inner)
        assert outer.submit().result(WAIT) == "outer_0"
        assert outer.submit().pool is other
        assert outer() == threading.current_thread().name
        assert inner.submit().result(WAIT).startswith("email_")
        assert other.job(name="both")(inner).submit().name == "both"


# Names.


def test_the_name_option_is_what_the_jobs_are_called(
    pool: oddjob.Pool, caplog: pytest.LogCaptureFixture
) -> None:
    """Logs and `repr` speak the user's language."""

    @pool.job(name="nightly report")
    def make_report(number: int) -> int:
        return 1 // number

    jobs = [make_report.submit(1), *make_report.submit_many([2, 3])]
    assert [job.name for job in jobs] == ["nightly report"] * 3
    assert "<Job nightly report " in repr(jobs[0])
    make_report.perform(0)
    make_report.perform_many([0])
    pool.shutdown()
    assert [job.name for job in jobs] == ["nightly report"] * 3
    messages = [record.getMessage() for record in caplog.records]
    assert messages == ["job nightly report of pool email failed"] * 2


def test_the_name_option_is_what_the_jobs_of_map_are_called(pool: oddjob.Pool) -> None:
    """Those are visible in `queue()` only."""
    gate = threading.Event()
    try:
        for _ in range(2):
            pool.submit(gate.wait, WAIT)
        results = pool.job(name="page")(str).map(range(4))
        batches = pool.job(name="page")(str).map(range(4), chunksize=2)
        names = [job.name for job in pool.queue() if job.name != "Event.wait"]
        assert names == ["page"] * 8
    finally:
        gate.set()
    assert list(results) == list(batches) == ["0", "1", "2", "3"]


def test_without_the_option_jobs_are_called_like_the_function(pool: oddjob.Pool) -> None:
    """By the qualified name, so that two "send"s can be told apart."""
    job = pool.job(where).submit()
    assert job.name == "where"
    job.result(WAIT)
    assert job.name == "where"
    assert pool.job(Mailer.plain).submit(Mailer("a"), 1).name == "Mailer.plain"


def test_options_make_another_job_function_and_leave_this_one_as_it_was(
    pool: oddjob.Pool,
) -> None:
    """The name of one call site does not show up at another."""
    plain = pool.job(where)
    named = plain.options(name="urgent")
    assert isinstance(named, oddjob.JobFunction)
    assert named.submit().name == "urgent"
    assert named.options(name="more urgent").submit().name == "more urgent"
    assert named.options().submit().name == "urgent"
    assert plain.submit().name == "where"
    assert named() == threading.current_thread().name


@pytest.mark.parametrize(("name", "error"), [("", ValueError), (3, TypeError)])
def test_a_name_that_says_nothing_is_refused_at_once(
    pool: oddjob.Pool, name: Any, error: type[Exception]
) -> None:
    """When the module is imported, not when the first job fails."""
    with pytest.raises(error, match=r"^name must"):
        pool.job(name=name)
    with pytest.raises(error, match=r"^name must"):
        pool.job(where).options(name=name)


@pytest.mark.parametrize("junk", [3, "where", [where], object()])
def test_what_cannot_be_called_cannot_be_decorated(pool: oddjob.Pool, junk: Any) -> None:
    """`@pool.job("report")` is a likely slip for `@pool.job(name="report")`."""
    with pytest.raises(TypeError, match=r"@pool\.job decorates functions, not "):
        pool.job(junk)
    with pytest.raises(TypeError, match=r"@pool\.job decorates functions, not "):
        pool.job(name="report")(junk)


def test_an_option_that_does_not_exist_is_a_type_error(pool: oddjob.Pool) -> None:
    """A misspelt option is not ignored."""
    with pytest.raises(TypeError, match="nme"):
        pool.job(nme="report")


# It looks like the function.


@EVERY_DECORATION
def test_it_keeps_name_docstring_signature_and_annotations(
    decorate: Callable[[Submitter], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """Documentation tools, tracing and web frameworks all look at these."""
    function = decorate(pool)(combine)
    assert function.__name__ == "combine"
    assert function.__qualname__ == "combine"
    assert function.__module__ == combine.__module__
    assert function.__doc__ == "Every kind of parameter."
    assert function.__annotations__ == combine.__annotations__
    assert function.__wrapped__ is combine
    assert inspect.unwrap(function) is combine
    assert inspect.signature(function) == inspect.signature(combine)
    assert inspect.getdoc(function) == "Every kind of parameter."
    assert callable(function)


def test_it_keeps_the_functions_own_attributes(pool: oddjob.Pool) -> None:
    """Frameworks mark functions with attributes; a decorator above ours may look for them."""

    def marked() -> None: ...

    marked.permission = "admin"
    assert pool.job(marked).permission == "admin"
    assert pool.job(marked).options(name="x").permission == "admin"


@pytest.mark.parametrize("attribute", ["_target", "__wrapped__", "_core", "timer"])
def test_no_attribute_of_the_function_changes_where_its_jobs_go(
    pool: oddjob.Pool, attribute: str
) -> None:
    """Another library's mark does not collide with a field of ours."""

    def marked() -> str:
        return where()

    setattr(marked, attribute, operator.length_hint)
    function = pool.job(marked)
    assert function.submit().result(WAIT).startswith("email_")
    assert function() == threading.current_thread().name
    assert function.__wrapped__ is marked


def test_its_repr_says_which_function_and_which_pool(pool: oddjob.Pool) -> None:
    """That is what is printed where parentheses were forgotten."""
    assert repr(pool.job(combine)) == f"<JobFunction combine of {pool!r}>"
    assert "'nightly'" in repr(pool.job(combine).options(name="nightly"))
    assert "partial" in repr(pool.job(functools.partial(combine, 1)))


# Coroutine functions.


async def greet(name: str) -> tuple[str, str]:
    """Greet asynchronously."""
    await asyncio.sleep(0)
    return f"hello {name}", where()


@EVERY_DECORATION
def test_an_async_function_is_awaited_here_and_a_result_there(
    decorate: Callable[[Submitter], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """One function for async callers and for the pool."""
    function = decorate(pool)(greet)
    assert asyncio.run(function("you")) == ("hello you", threading.current_thread().name)
    greeting, thread = function.submit("you").result(WAIT)
    assert greeting == "hello you"
    assert thread.startswith("email_")
    assert [each[0] for each in function.map(["a", "b"])] == ["hello a", "hello b"]
    assert [job.result(WAIT)[0] for job in function.submit_many(["c"])] == ["hello c"]


def test_the_job_of_an_async_function_can_be_awaited(pool: oddjob.Pool) -> None:
    """It runs in the pool while the caller's loop goes on."""
    function = pool.job(greet)

    async def main() -> list[tuple[str, str]]:
        return await asyncio.gather(function.submit("a"), function.submit("b"))

    assert [greeting for greeting, _ in asyncio.run(main())] == ["hello a", "hello b"]


@EVERY_DECORATION
def test_an_async_function_is_still_recognised_as_one(
    decorate: Callable[[Submitter], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """By this, web frameworks decide whether to await what a handler returns."""
    assert inspect.iscoroutinefunction(decorate(pool)(greet))
    assert not inspect.iscoroutinefunction(decorate(pool)(where))


# Methods.


class Mailer:
    """A class as users write them; its methods are decorated where the pool is at hand."""

    def __init__(self, sender: str) -> None:
        self.sender = sender

    def plain(self, to: object, *, copies: int = 1) -> tuple[object, ...]:
        """Send one."""
        return self.sender, to, copies


def make_mailer(pool: oddjob.Pool) -> type[Any]:
    class Decorated(Mailer):
        registered = "class attribute"

        method = pool.job(Mailer.plain)

        @pool.job(name="named")
        def named(self, to: object) -> tuple[object, ...]:
            return self.sender, to

        @pool.job
        async def later(self, to: object) -> tuple[object, ...]:
            return self.sender, to

        @pool.job
        @staticmethod
        def static(to: object, *, copies: int = 1) -> tuple[object, ...]:
            """Static."""
            return to, copies

        @pool.job
        @classmethod
        def classy(cls, to: object, *, copies: int = 1) -> tuple[object, ...]:
            """Class."""
            return cls, to, copies

    return Decorated


def test_a_method_is_bound_to_its_instance(pool: oddjob.Pool) -> None:
    """`mailer.send.submit(to)` is what people write, without repeating the mailer."""
    mailer = make_mailer(pool)("me")
    assert mailer.method("you", copies=2) == ("me", "you", 2)
    assert mailer.method.submit("you", copies=2).result(WAIT) == ("me", "you", 2)
    assert list(mailer.method.map(["a", "b"])) == [("me", "a", 1), ("me", "b", 1)]
    assert mailer.method.submit_many(["a"])[0].result(WAIT) == ("me", "a", 1)
    assert mailer.named.submit("you").result(WAIT) == ("me", "you")
    assert mailer.named.submit("you").name == "named"
    assert mailer.method.options(name="urgent").submit("you").result(WAIT) == ("me", "you", 1)
    assert mailer.later.submit("you").result(WAIT) == ("me", "you")
    assert asyncio.run(mailer.later("you")) == ("me", "you")


def test_two_instances_do_not_mix_up_their_methods(pool: oddjob.Pool) -> None:
    """A bound job function is not cached on the class."""
    mailer_class = make_mailer(pool)
    mine, yours = mailer_class("mine"), mailer_class("yours")
    first, second = mine.method, yours.method
    assert second.submit("x").result(WAIT) == ("yours", "x", 1)
    assert first.submit("x").result(WAIT) == ("mine", "x", 1)


def test_a_method_looked_up_on_the_class_takes_the_instance(pool: oddjob.Pool) -> None:
    """As a plain function does."""
    mailer_class = make_mailer(pool)
    mailer = mailer_class("me")
    assert mailer_class.method(mailer, "you") == ("me", "you", 1)
    assert mailer_class.method.submit(mailer, "you").result(WAIT) == ("me", "you", 1)


def test_a_method_can_be_overridden_and_called_with_super(pool: oddjob.Pool) -> None:
    """Inheritance works as without the decorator."""

    class Special(make_mailer(pool)):
        @pool.job
        def method(self, to: object, *, copies: int = 1) -> tuple[object, ...]:
            return ("special", *super().method(to, copies=copies))

    assert Special("me").method("you") == ("special", "me", "you", 1)
    assert Special("me").method.submit("you").result(WAIT) == ("special", "me", "you", 1)


@pytest.mark.parametrize("through", ["class", "instance"])
def test_a_static_method_works_on_the_class_and_on_an_instance(
    pool: oddjob.Pool, through: str
) -> None:
    """With `@pool.job` on top, as the documentation says."""
    mailer_class = make_mailer(pool)
    function = (mailer_class if through == "class" else mailer_class("me")).static
    assert function("you", copies=2) == ("you", 2)
    assert function.submit("you", copies=2).result(WAIT) == ("you", 2)
    assert list(function.map(["a", "b"])) == [("a", 1), ("b", 1)]
    assert function.options(name="urgent").submit("you").name == "urgent"


@pytest.mark.parametrize("through", ["class", "instance"])
def test_a_class_method_works_on_the_class_and_on_an_instance(
    pool: oddjob.Pool, through: str
) -> None:
    """With `@pool.job` on top, as the documentation says."""
    mailer_class = make_mailer(pool)
    function = (mailer_class if through == "class" else mailer_class("me")).classy
    assert function("you", copies=2) == (mailer_class, "you", 2)
    assert function.submit("you", copies=2).result(WAIT) == (mailer_class, "you", 2)
    assert list(function.map(["a", "b"])) == [(mailer_class, "a", 1), (mailer_class, "b", 1)]


def test_a_class_method_of_a_subclass_gets_the_subclass(pool: oddjob.Pool) -> None:
    """Alternative constructors depend on it."""

    class Special(make_mailer(pool)):
        pass

    assert Special.classy.submit("you").result(WAIT)[0] is Special


@pytest.mark.parametrize(
    ("name", "signature", "doc"),
    [
        ("method", "(to: object, *, copies: int = 1) -> tuple[object, ...]", "Send one."),
        ("static", "(to: object, *, copies: int = 1) -> tuple[object, ...]", "Static."),
        ("classy", "(to: object, *, copies: int = 1) -> tuple[object, ...]", "Class."),
    ],
)
def test_a_bound_method_shows_its_own_signature_and_docstring(
    pool: oddjob.Pool, name: str, signature: str, doc: str
) -> None:
    """An editor shows what is left to be filled in, without `self` or `cls`."""
    function = getattr(make_mailer(pool)("me"), name)
    assert str(inspect.signature(function)) == signature
    assert function.__doc__ == doc
    assert function.__name__ == ("plain" if name == "method" else name)


def test_a_class_with_decorated_methods_shows_them_on_the_class(pool: oddjob.Pool) -> None:
    """`help(Mailer)` and documentation tools read them from there."""
    mailer_class = make_mailer(pool)
    assert list(inspect.signature(mailer_class.method).parameters) == ["self", "to", "copies"]
    assert list(inspect.signature(mailer_class.static).parameters) == ["to", "copies"]
    assert list(inspect.signature(mailer_class.classy).parameters) == ["to", "copies"]


def test_a_job_function_stored_on_an_instance_is_not_bound_again(pool: oddjob.Pool) -> None:
    """`self.send = pool.job(self._send)` is usual where the pool is known only then."""
    mailer = Mailer("me")
    mailer.send = pool.job(mailer.plain)
    assert mailer.send("you") == ("me", "you", 1)
    assert mailer.send.submit("you").result(WAIT) == ("me", "you", 1)


# Callables without a name.


class Greeter:
    """Callable objects have no `__name__`."""

    def __call__(self, name: str) -> str:
        return f"hello {name}"


NAMELESS: dict[str, tuple[Callable[..., Any], str]] = {
    "partial of a built-in": (functools.partial("hello {}".format), "str.format"),
    "partial of a function": (functools.partial(pow, 2, 10), "pow"),
    "partial of a partial": (functools.partial(functools.partial(pow), 2, 10), "pow"),
    "callable object": (Greeter(), "Greeter"),
    "method caller": (operator.methodcaller("join", "ab"), "methodcaller"),
}


@pytest.mark.parametrize(("fn", "name"), NAMELESS.values(), ids=NAMELESS)
def test_callables_without_a_name_can_be_decorated_like_functions(
    pool: oddjob.Pool, fn: Callable[..., Any], name: str
) -> None:
    """A partial is how arguments known beforehand are filled in."""
    argument: Any = 1000 if name == "pow" else "you"
    function = pool.job(fn)
    assert not hasattr(function, "__name__")
    assert function(argument) == fn(argument)
    job = function.submit(argument)
    assert job.name == name
    assert job.result(WAIT) == fn(argument)
    assert job.name == name
    assert function.options(name="other").submit(argument).name == "other"
    assert list(function.map([argument])) == [fn(argument)]
    assert function.__wrapped__ is fn
    assert repr(fn) in repr(function)


def test_built_in_callables_can_be_decorated(pool: oddjob.Pool) -> None:
    """They have no `__get__` and no `__dict__`, and some no signature."""
    assert pool.job(operator.add).submit(1, 2).result(WAIT) == 3
    assert pool.job(dict).submit(a=1).result(WAIT) == {"a": 1}

    class Sums:
        add = pool.job(operator.add)

    assert Sums().add(1, 2) == 3
    assert Sums().add.submit(1, 2).result(WAIT) == 3


def test_a_mock_can_be_submitted_in_the_place_of_a_function(pool: oddjob.Pool) -> None:
    """Many test suites replace the function with one; its job ends (Law 1)."""
    fake = Mock(return_value=3)
    for job in (pool.submit(fake, 1, to="you"), pool.job(fake).submit(1, to="you")):
        assert job.result(5) == 3
        assert isinstance(job.name, str)
        assert isinstance(repr(job), str)
    assert fake.call_count == 2
    fake.assert_called_with(1, to="you")


class Evasive:
    """A callable none of whose attributes can be read, as with some proxies."""

    def __call__(self) -> int:
        return 3

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(f"working outside of request context: {name}")


def test_a_callable_whose_attributes_cannot_be_read_can_be_submitted(pool: oddjob.Pool) -> None:
    """A proxy of a web framework: whatever is wrong with its name, its job ends (Law 1)."""
    job = pool.submit(Evasive())
    assert job.result(5) == 3
    assert job.name == "Evasive"


# Keys that name a parameter.


@pytest.mark.parametrize(
    "decorate",
    [
        lambda pool: pool.job(key="customer"),
        lambda pool: pool.options(key="customer").job,
        lambda pool: pool.options(key="customer", priority=2).job(retries=1),
    ],
    ids=["job", "view", "view with options"],
)
def test_a_key_that_is_the_name_of_a_parameter_is_an_error_that_shows_the_lambda(
    decorate: Callable[[oddjob.Pool], Callable[[Any], Any]], pool: oddjob.Pool
) -> None:
    """All calls would have one key, and run one after the other, without a word."""

    def bill(customer: str, amount: int = 3, *rest: object, urgent: bool = False) -> str:
        return customer

    with pytest.raises(ValueError, match="the same key for all calls") as caught:
        decorate(pool)(bill)
    lambda_ = "key=lambda customer, amount=3, *rest, urgent=False: customer"
    assert str(caught.value).endswith(f"did you mean {lambda_}?")


def test_a_key_that_is_no_parameter_is_a_key_for_all_calls(pool: oddjob.Pool) -> None:
    """ "invoices" for everything that writes to the invoices is an ordinary key."""

    @pool.job(key="invoices")
    def bill(customer: str) -> str:
        return customer

    job = bill.submit("me")
    assert (job.key, job.result(WAIT)) == ("invoices", "me")
    assert pool.job(key="key")(dict).submit(a=1).result(WAIT) == {"a": 1}


def test_a_key_given_at_a_call_may_happen_to_be_the_name_of_a_parameter(
    pool: oddjob.Pool,
) -> None:
    """It comes from data, such as the name of a customer."""

    @pool.job
    def bill(customer: str) -> str:
        return customer

    assert bill.options(key="customer").submit("me").key == "customer"


# Functions that recur.


def test_the_decorator_takes_the_options_of_every_cron_and_daily(pool: oddjob.Pool) -> None:
    """A whole program may consist of functions that recur."""
    gate, ran = threading.Event(), threading.Semaphore(0)

    @pool.job(every=timedelta(milliseconds=5), overlap=True, daemon=True)
    def tick() -> None:
        ran.release()
        gate.wait(WAIT)

    try:
        for _ in range(2):  # the second although the first has not ended
            assert ran.acquire(timeout=WAIT)
    finally:
        gate.set()
    assert tick.timer is not None
    tick.timer.cancel()

    @pool.job(cron="@daily", tz="UTC", dst="skip", catch_up=False, overlap=False, name="report")
    def report() -> int:
        return 3

    assert report.timer is not None
    assert report.timer.cancel() is not False
    assert report.submit().name == "report"

    @pool.job(daily="03:00", tz="Europe/Paris")
    def nightly() -> int:
        return 3

    assert nightly.timer is not None
    assert nightly.timer.fires_at.astimezone(ZoneInfo("Europe/Paris")).strftime("%H:%M") == "03:00"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"every": 5, "cron": "* * * * *"}, "every, cron: give only one"),
        ({"every": 5, "daily": "03:00"}, "every, daily: give only one"),
        ({"tz": "UTC"}, "tz: of use with every=, cron= or daily= only"),
        ({"every": 5, "dst": "skip"}, "dst: of use with cron= or daily="),
        ({"overlap": True}, "overlap: of use with every=, cron= or daily= only"),
        ({"every": 5, "overlap": "yes"}, "overlap must be True or False"),
        ({"every": "5"}, "every must be a number of seconds or a timedelta"),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_the_function_is_given(
    options: Any, message: str, pool: oddjob.Pool
) -> None:
    """The line of the decorator is the line of the mistake."""
    with pytest.raises(TypeError, match=message):
        pool.job(**options)


def test_a_function_that_recurs_needs_no_arguments(pool: oddjob.Pool) -> None:
    """Otherwise it would fail every minute, in the log of production."""
    with pytest.raises(TypeError, match="a job that recurs is called without arguments"):
        pool.job(every=5)(lambda user: user)
    assert pool.job(every=3600)(lambda user=3: user).submit().result(WAIT) == 3


@pytest.mark.parametrize("name", ["every", "cron", "overlap", "tz"])
def test_a_timing_option_that_is_none_counts_as_not_given(name: str, pool: oddjob.Pool) -> None:
    """Wrappers pass their own defaults on."""
    assert pool.job(**{name: None})(where).timer is None


# Pickling and copying.


pickled = oddjob.Pool(None, 1)  # gets no job, so it has no thread


@pickled.job
def square(number: int) -> int:
    return number * number


class Shape:
    """A class with job functions of all kinds, where a pickle can find it."""

    def __init__(self, sides: int = 4) -> None:
        self.count = sides

    @pickled.job
    def sides(self) -> int:
        return self.count

    @pickled.job
    @staticmethod
    def corners(sides: int) -> int:
        return sides

    @pickled.job
    @classmethod
    def default(cls) -> int:
        return cls().count


def test_a_job_function_is_pickled_by_reference() -> None:
    """multiprocessing and caches send functions; what arrives is the very same function."""
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        assert pickle.loads(pickle.dumps(square, protocol)) is square


@pytest.mark.parametrize(
    "function",
    [Shape.sides, Shape.corners, Shape.default, Shape().corners, Shape().default],
    ids=["method", "static", "class method", "static on instance", "class method on instance"],
)
def test_job_functions_of_a_class_are_pickled_by_reference(
    function: oddjob.JobFunction[..., int],
) -> None:
    """As plain methods are."""
    assert pickle.loads(pickle.dumps(function)) == function


def test_a_bound_method_is_pickled_with_its_instance() -> None:
    """As plain bound methods are."""
    assert pickle.loads(pickle.dumps(Shape(6).sides))() == 6


def test_the_type_of_a_job_function_may_leave_out_what_has_a_default() -> None:
    """Annotations are evaluated, also by Pythons whose `typing` knows no defaults."""
    for written, expected in [
        (oddjob.JobFunction[[int], bool], bool),
        (oddjob.JobFunction[..., int], int),
        (oddjob.JobFunction[[str], bytes], bytes),
    ]:
        assert written.__origin__ is oddjob.JobFunction  # type: ignore[attr-defined]
        assert expected in written.__args__  # type: ignore[attr-defined]
    with pytest.raises(TypeError, match="Too many"):
        oddjob.JobFunction[[int], bool, bool]  # type: ignore[misc]


def test_a_job_function_can_be_used_in_another_process() -> None:
    """A process pool and a pool of threads may share the code."""
    with multiprocessing.get_context("spawn").Pool(1) as processes:
        assert processes.map(square, [2, 3]) == [4, 9]


def test_a_job_function_that_a_pickle_would_not_find_is_refused(pool: oddjob.Pool) -> None:
    """Without an error, options would be lost on the way."""
    functions = [
        square.options(name="other"),
        Shape().sides.options(name="other"),
        pool.job(lambda: 3),
        pool.job(functools.partial(pow, 2)),
    ]
    for function in functions:
        with pytest.raises(pickle.PicklingError, match="not found by its own name"):
            pickle.dumps(function)


def test_a_copy_of_a_job_function_is_the_function(pool: oddjob.Pool) -> None:
    """An object that holds one can be copied deeply: pools are not copied with it."""
    function = pool.job(lambda: 3).options(name="three")
    holder = copy.deepcopy({"work": function, "bound": Shape().sides})
    assert holder["work"] is function
    assert copy.copy(function) is function
    assert holder["bound"]() == 4


def test_a_bound_job_function_is_copied_with_its_instance() -> None:
    """As any method is: the copy of an object does not act on the original."""

    shape = Shape(4)
    twin = copy.deepcopy({"shape": shape, "sides": shape.sides})
    twin["shape"].count = 5
    assert (twin["sides"](), shape.sides()) == (5, 4)
