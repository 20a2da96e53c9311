"""What `configure` understands, and how it names what it does not."""

import math
import re
import threading
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction
from types import MappingProxyType
from typing import Any, cast

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import oddjob
from oddjob.errors import OddJobError, SettingsError
from oddjob.options import JOB_CHECKS, POOL_CHECKS, JobOptions, PoolArguments, PoolOptions
from oddjob.rate import Rate
from oddjob.retry import Backoff
from oddjob.settings import Plan, read_settings
from oddjob.signing import SigningKeys


@pytest.fixture(autouse=True, scope="module")
def no_thread_is_left_behind() -> Iterator[None]:
    """Reading settings starts no thread: one look after all these tests is enough."""
    before = set(threading.enumerate())
    yield
    new = set(threading.enumerate()) - before
    assert [each for each in new if not isinstance(each, threading.Timer)] == []  # pytest-timeout's


def greet() -> None:
    """An initializer."""


def complain(job: Any, error: BaseException) -> None:
    """An error handler."""


class Tracing:
    """Middleware with one of the two methods."""

    def run(self, job: Any, carrier: dict[str, str], call: Any) -> Any:
        return call()


TRACING = Tracing()
OTHER_VALUES = {
    "pool_size": 12,
    "max_restarts": 0,
    "max_seconds": 0.25,
    "initializer": greet,
    "initargs": ("a", 1),
    "thread_name_prefix": "mail",
    "on_error": complain,
    "crash_on": LookupError,
    "timeout": 1.5,
    "max_abandoned": 0,
    "exit_timeout": 10,
    "on_event": print,
    "max_queue": 7,
    "when_full": "raise",
    "submit_timeout": 0.5,
    "rate": Rate(10, per=2.0),
    "key_limit": 3,
    "fair_by": len,
    "fair_weights": {"gold": 3.0},
    "priority_aging": 60.0,
    "retries": 4,
    "backoff": Backoff(0.5),
    "retry_on": OSError,
    "no_retry_on": (ValueError, KeyError),
    "middleware": (TRACING,),
    "store": "sqlite:///other.db",
    "signing_keys": SigningKeys([b"a secret of the tests"]),
    "consume": False,
    "keep_succeeded": 0,
    "keep_failed": 60.0,
    "keep_bytes": 1e6,
    "unknown_after": 5.0,
}
DELAYS = (0.25, 1.0, 20.0, 60.0, 150.0)
DEFAULTS = (
    *(5, None, (), ""),
    *(3, 5.0, (), None, None, None),
    *(None, "block", None),
    *(None, 1, None, None, None, 0, DELAYS, Exception, ()),
    *(None, None, ()),
    *(None, None, True, 1000, 30 * 86_400.0, 256e6, 600.0),
)
EVERY_KEY = pytest.mark.parametrize(("key", "value"), OTHER_VALUES.items(), ids=OTHER_VALUES)
FOR_STORES = (
    *("signing_keys", "consume", "keep_succeeded", "keep_failed", "keep_bytes", "unknown_after"),
)
BESIDE: dict[str, dict[str, Any]] = {  # what a key needs
    "fair_weights": {"fair_by": len},
    **{key: {"max_queue": 7} for key in ("when_full", "submit_timeout")},
    **{key: {"store": False} for key in FOR_STORES},
}

PATIENCE = ("timeout", "exit_timeout")
RETRIES = ("retry_on", "no_retry_on")
SECONDS = "a number of seconds or a timedelta"
WRONG_TYPES = [
    *[("pool_size", value, "a whole number") for value in (True, False, 2.0, math.nan, "5", [5])],
    ("pool_size", None, "a whole number"),
    *[("max_restarts", value, "a whole number") for value in (True, False, 1.5, "3", None)],
    *[("max_seconds", value, SECONDS) for value in (True, False, "5", 1j, None)],
    *[("initializer", value, "a callable") for value in ("greet", 0)],
    *[("initargs", value, "a tuple or a list") for value in (1, "ab", None)],
    *[("thread_name_prefix", value, "a string") for value in (b"mail", 1, None)],
    *[("on_error", value, "a callable") for value in ("complain", 0)],
    *[(key, value, SECONDS) for key in PATIENCE for value in (True, False, "5", 1j)],
    *[("max_abandoned", value, "a whole number") for value in (True, False, 1.5, "3")],
    *[("on_event", value, "a callable or a list of them") for value in ("complain", 0)],
    *[
        (key, value, wanted)
        for key, wanted in (
            ("crash_on", "an exception class or a tuple of them"),
            ("retry_on", "an exception class, a tuple of them, or a predicate"),
            ("no_retry_on", "an exception class, a tuple of them, or a predicate"),
        )
        for value in ("OSError", int, (OSError, 3), [OSError], OSError(), None)
    ],
    ("crash_on", lambda error: True, "an exception class or a tuple of them"),
    *[("middleware", value, "a tuple or a list") for value in (TRACING, "x", None)],
    ("middleware", [Tracing, TRACING], "objects with a method submit() or run()"),
    ("middleware", (3,), "objects with a method submit() or run()"),
    *[("max_queue", value, "a whole number") for value in (True, False, 2.0, math.inf, "5", [5])],
    *[("key_limit", value, "a whole number") for value in (True, 2.0, math.inf, "5", None)],
    *[("retries", value, "a whole number") for value in (True, 2.0, math.inf, "5", None)],
    *[("when_full", value, "a string") for value in (1, None, [])],
    *[("submit_timeout", value, SECONDS) for value in (True, "5", 1j)],
    *[("priority_aging", value, SECONDS) for value in (True, "5", 1j)],
    *[("rate", value, "a Rate or a text like '100/minute'") for value in (100, 1.5, (1, 2), [])],
    *[
        ("backoff", value, "a Backoff, a number of seconds, or several of these")
        for value in ("1", None, [True], object)
    ],
]
OUT_OF_RANGE = [
    *[("max_queue", value, "greater than 0") for value in (0, -1)],
    *[("key_limit", value, "greater than 0") for value in (0, -1)],
    *[("retries", value, "0 or more") for value in (-1, -(10**30))],
    *[
        ("when_full", value, "one of 'block', 'raise', 'caller_runs', 'drop_oldest'")
        for value in ("drop", "")
    ],
    *[("submit_timeout", value, "0 or more (math.inf: no limit)") for value in (-1, math.nan)],
    *[
        ("priority_aging", value, "greater than 0 and finite")
        for value in (0, -1, math.inf, math.nan)
    ],
    *[
        ("rate", value, "a Rate or a text like '100/minute'")
        for value in ("", "fast", "1/parsec", "5/hs", "-1/s", "0/s", "1/0s")
    ],
    *[
        ("backoff", value, "0 or more and finite")
        for value in (-1, [-1, 1], math.inf, math.nan, [])
    ],
    *[("pool_size", value, "greater than 0") for value in (0, -1, -(10**30))],
    *[("max_restarts", value, "0 or more") for value in (-1, -(10**30))],
    *[("max_seconds", value, "greater than 0 and finite") for value in (0, 0.0, -0.0, -1, -0.5)],
    *[("max_seconds", value, "greater than 0 and finite") for value in (math.inf, -math.inf)],
    ("max_seconds", math.nan, "greater than 0 and finite"),
    *[
        (key, value, f"{bound} (math.inf: no limit)")
        for key, bound in zip(PATIENCE, ("greater than 0", "0 or more"), strict=True)
        for value in (-1, -0.5, -math.inf, math.nan)
    ],
    ("timeout", 0, "greater than 0 (math.inf: no limit)"),
    ("timeout", timedelta(0), "greater than 0 (math.inf: no limit)"),
    ("max_abandoned", -1, "0 or more"),
]


def refusal(key: str, value: object, wanted: str) -> str:
    """Return what the message says; of a list, it shows the bad member."""
    if value and isinstance(value, list | tuple) and wanted.startswith(("objects", "0 or more")):
        value = value[0]
    return f"{key} must be {wanted}, not {value!r}"


BAD_VALUES = pytest.mark.parametrize(("key", "value", "wanted"), WRONG_TYPES + OUT_OF_RANGE)


def refusal_of(settings: Any) -> str:
    with pytest.raises(SettingsError) as caught:
        read_settings(settings)
    return str(caught.value)


# What is understood.


def test_without_settings_there_is_one_pool_job_of_5_workers_and_3_restarts_in_5_seconds() -> None:
    """Programs that configure nothing rely on the documented numbers."""
    plan = read_settings({})
    assert plan.default_pool == "job"
    assert plan.pools == {"job": DEFAULTS}
    assert plan.defaults == plan.pools["job"]


def test_the_options_are_the_documented_ones() -> None:
    """A settings file may use every documented key."""
    assert set(PoolOptions._fields) == set(OTHER_VALUES)


@EVERY_KEY
def test_a_key_at_the_top_is_the_default_of_every_pool(key: str, value: object) -> None:
    """Options common to all pools are written once."""
    plan = read_settings({key: value, "extra_pools": ["email", {"report": {}}]})
    assert list(plan.pools) == ["job", "email", "report"]
    for options in (plan.defaults, *plan.pools.values()):
        assert getattr(options, key) == value
        assert options._replace(**{key: getattr(PoolOptions(), key)}) == PoolOptions()


@pytest.mark.parametrize(
    ("size", "wrong"),
    [
        ("2 apples", ValueError),
        ("2", ValueError),
        ("0 MB", ValueError),
        (-1, ValueError),
        (math.nan, ValueError),
        (True, TypeError),
        (b"2 MB", TypeError),
    ],
)
def test_what_is_no_size(size: object, wrong: type[Exception]) -> None:
    with pytest.raises(wrong, match=r"^keep_bytes must be .*, not "):
        PoolOptions(store="memory:").replace(keep_bytes=size)


@pytest.mark.parametrize(
    ("size", "number"),
    [("2 MB", 2e6), ("1.5GB", 1.5e9), ("9 b", 9), ("1 kb", 1000), (5, 5), (math.inf, math.inf)],
)
def test_a_size_is_a_number_of_bytes(size: object, number: float) -> None:
    assert PoolOptions(store="memory:").replace(keep_bytes=size).keep_bytes == number


@EVERY_KEY
def test_a_key_of_one_pool_is_for_that_pool_alone(key: str, value: object) -> None:
    """A limit meant for one API does not throttle the others."""
    options = {key: value, **BESIDE.get(key, {})}
    plan = read_settings({"extra_pools": ["email", {"external_app": options}, "report"]})
    assert getattr(plan.pools["external_app"], key) == value
    for name in ("job", "email", "report"):
        assert plan.pools[name] == PoolOptions()
    assert plan.defaults == PoolOptions()


@EVERY_KEY
def test_a_pool_overrides_one_default_and_inherits_the_others(key: str, value: object) -> None:
    """Overriding one option does not reset those that were set for all pools."""
    print_and_run = Tracing()
    general = {
        "pool_size": 3,
        "max_restarts": 7,
        "max_seconds": 60,
        "initializer": print,
        "initargs": ("general",),
        "thread_name_prefix": "general",
        "on_error": print,
        "crash_on": (OSError,),
        "timeout": 2,
        "max_abandoned": 3,
        "exit_timeout": 0,
        "on_event": id,
        "max_queue": 2,
        "when_full": "caller_runs",
        "submit_timeout": 1,
        "rate": "2/s",
        "key_limit": 2,
        "fair_by": "general",
        "fair_weights": {"gold": 2},
        "priority_aging": 2,
        "retries": 2,
        "backoff": 2,
        "retry_on": KeyError,
        "no_retry_on": IndexError,
        "middleware": [print_and_run],
        "store": "memory:",
        "signing_keys": SigningKeys([b"another secret of the tests"]),
        "consume": False,
        "keep_succeeded": 2,
        "keep_failed": "2 days",
        "keep_bytes": "2 MB",
        "unknown_after": 2,
    }
    stored = {
        **general,
        "rate": Rate(2),
        "backoff": (2,),
        "middleware": (print_and_run,),
        "keep_failed": 2 * 86_400.0,
        "keep_bytes": 2e6,
    }
    other = {key: value} | ({"store": False} if key == "priority_aging" else {})
    plan = read_settings({**general, "extra_pools": [{"email": other}]})
    assert plan.pools["email"]._asdict() == {**stored, **other}
    assert plan.pools["job"]._asdict() == stored


@pytest.mark.parametrize(
    "extra_pools",
    [
        ["email", "report"],
        ("email", "report"),
        [{"email": {}}, {"report": {}}],
        [{"email": {}, "report": {}}],
        ["email", {"report": {}}],
        [{"email": None}, "report"],
        {"email": {}, "report": {}},
        {"email": None, "report": None},
        MappingProxyType({"email": MappingProxyType({}), "report": {}}),
    ],
)
def test_extra_pools_can_be_written_as_names_as_mappings_mixed_and_as_one_mapping(
    extra_pools: object,
) -> None:
    """Each form is documented: a YAML file and a Python dict look different."""
    plan = read_settings({"extra_pools": extra_pools})
    assert list(plan.pools.items()) == [
        ("job", PoolOptions()),
        ("email", PoolOptions()),
        ("report", PoolOptions()),
    ]


@pytest.mark.parametrize(
    "extra_pools",
    [
        ["email", {"app": {"pool_size": 10, "max_restarts": 2}}],
        [{"email": {}, "app": {"pool_size": 10, "max_restarts": 2}}],
        {"email": {}, "app": {"pool_size": 10, "max_restarts": 2}},
    ],
)
def test_options_reach_their_pool_in_every_form_of_extra_pools(extra_pools: object) -> None:
    """The documented example, in each of its spellings."""
    plan = read_settings({"pool_size": 4, "extra_pools": extra_pools})
    assert plan.pools == {
        "job": PoolOptions(pool_size=4),
        "email": PoolOptions(pool_size=4),
        "app": PoolOptions(pool_size=10, max_restarts=2),
    }


@pytest.mark.parametrize("none", [[], (), {}])
def test_extra_pools_may_be_empty(none: object) -> None:
    """A computed list may be empty."""
    assert list(read_settings({"extra_pools": none}).pools) == ["job"]


def test_default_pool_false_means_that_there_is_none() -> None:
    """A program in which every job names its pool gets no pool "job" besides."""
    plan = read_settings({"default_pool": False, "extra_pools": ["email"]})
    assert plan.default_pool is None
    assert list(plan.pools) == ["email"]


def test_the_default_pool_can_have_another_name() -> None:
    """Then "job" is an unknown name like any other."""
    plan = read_settings({"default_pool": "work", "pool_size": 2})
    assert plan.default_pool == "work"
    assert plan.pools == {"work": PoolOptions(pool_size=2)}


def test_the_default_pools_name_is_free_for_an_extra_pool_once_it_is_not_the_default() -> None:
    """This is how "job" itself gets options of its own."""
    plan = read_settings({"default_pool": False, "extra_pools": {"job": {"pool_size": 2}}})
    assert plan.default_pool is None
    assert plan.pools == {"job": PoolOptions(pool_size=2)}


@pytest.mark.parametrize(
    ("key", "value"),
    [("pool_size", 1), ("max_restarts", 0), ("max_seconds", 1), ("max_seconds", 1e-9)],
)
def test_the_smallest_allowed_value_is_allowed(key: str, value: float) -> None:
    """One worker, no restarts and whole seconds are ordinary values."""
    assert getattr(read_settings({key: value}).defaults, key) == value


def test_settings_may_be_any_mapping_and_are_not_changed() -> None:
    """A frozen config object works, and one dict can serve twice."""
    settings = MappingProxyType({"extra_pools": ["email", {"app": {"pool_size": 2}}]})
    assert read_settings(settings) == read_settings(settings)
    assert settings == {"extra_pools": ["email", {"app": {"pool_size": 2}}]}


def test_two_spellings_of_the_same_settings_are_the_same_plan() -> None:
    """`configure` compares plans, so two spellings are no conflict."""
    short = {"max_seconds": 5, "extra_pools": ["email"]}
    long = {"default_pool": "job", "max_seconds": 5.0, "extra_pools": {"email": {"pool_size": 5}}}
    assert read_settings(short) == read_settings(long)


# What is not.


@pytest.mark.parametrize("junk", [None, 1, "job", b"job", ["email"], [("pool_size", 1)], object()])
def test_settings_that_are_not_a_mapping_are_refused(junk: object) -> None:
    """A YAML file whose top level is a list is reported at start-up."""
    assert refusal_of(junk) == f"settings must be a mapping, not {junk!r}"


@pytest.mark.parametrize("settings", [{"pool_size": 0}, {"extra_pools": [""]}, {"x": 1}])
def test_a_settings_error_is_one_error_both_a_value_error_and_an_oddjob_error(
    settings: dict[str, Any],
) -> None:
    """Code that catches either keeps working, and one mistake shows one traceback."""
    with pytest.raises(ValueError, match=r"^settings") as caught:
        read_settings(settings)
    assert isinstance(caught.value, OddJobError)
    assert caught.value.__context__ is None or caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("key", "nearest"),
    [
        ("pool_sise", "pool_size"),
        ("poolsize", "pool_size"),
        ("max_workers", "pool_size"),
        ("max_worker", "pool_size"),
        ("max_restart", "max_restarts"),
        ("default_pools", "default_pool"),
        ("extra_pool", "extra_pools"),
        ("onerror", "on_error"),
        (b"pool_size", "pool_size"),
    ],
)
def test_an_unknown_key_at_the_top_is_refused_with_the_nearest_valid_one(
    key: object, nearest: str
) -> None:
    """A misspelt limit is reported at start-up, not found out in production."""
    assert refusal_of({key: 1}) == f"settings[{key!r}]: unknown setting; did you mean {nearest!r}?"


@pytest.mark.parametrize("key", ["xyzzy", "", 3, None, (1, 2), 1.5, frozenset()])
def test_an_unknown_key_that_resembles_none_is_refused_with_the_list_of_all(key: object) -> None:
    """The message of a forgotten name has all names."""
    known = ["default_pool", "extra_pools", *OTHER_VALUES]
    message = refusal_of({key: 1})
    prefix = f"settings[{key!r}]: unknown setting; known are "
    assert message.startswith(prefix)
    assert sorted(message.removeprefix(prefix).split(", ")) == sorted(known)


@pytest.mark.parametrize(
    ("extra_pools", "path"),
    [
        ([{"email": {"max_workers": 2}}], "settings['extra_pools'][0]['email']"),
        (["report", {"email": {"max_workers": 2}}], "settings['extra_pools'][1]['email']"),
        ([{"report": {}, "email": {"max_workers": 2}}], "settings['extra_pools'][0]['email']"),
        ({"email": {"max_workers": 2}}, "settings['extra_pools']['email']"),
    ],
)
def test_an_unknown_key_of_one_pool_is_refused_with_its_path(
    extra_pools: object, path: str
) -> None:
    """With ten pools in a file, the path says which one is meant."""
    expected = f"{path}['max_workers']: unknown setting; did you mean 'pool_size'?"
    assert refusal_of({"extra_pools": extra_pools}) == expected


@pytest.mark.parametrize("key", ["default_pool", "extra_pools", "name", 3, None])
def test_a_key_that_is_not_an_option_of_a_pool_is_refused_inside_a_pool(key: object) -> None:
    """A key in the wrong place has no effect there, so it is an error there."""
    message = refusal_of({"extra_pools": {"email": {key: 1}}})
    assert message.startswith(f"settings['extra_pools']['email'][{key!r}]: unknown setting; ")


@BAD_VALUES
def test_a_bad_value_at_the_top_is_refused_with_its_path(
    key: str, value: object, wanted: str
) -> None:
    """A bad default is reported at start-up, not when a pool is made."""
    assert refusal_of({key: value}).startswith(f"settings['{key}']: {refusal(key, value, wanted)}")


@BAD_VALUES
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda options: ["report", {"email": options}], "settings['extra_pools'][1]"),
        (lambda options: {"report": {}, "email": options}, "settings['extra_pools']"),
    ],
    ids=["list", "mapping"],
)
def test_a_bad_value_of_one_pool_is_refused_with_its_path(
    key: str, value: object, wanted: str, wrap: Any, path: str
) -> None:
    """The message leads to the line of the file."""
    message = refusal_of({"extra_pools": wrap({key: value})})
    assert message.startswith(f"{path}['email']['{key}']: {refusal(key, value, wanted)}")


def test_more_seconds_than_a_clock_can_count_are_refused() -> None:
    """Otherwise adding them to a time would be an OverflowError, later."""
    assert refusal_of({"max_seconds": 10**400}).startswith("settings['max_seconds']: ")


@pytest.mark.parametrize("junk", [1, 1.5, True, "email", "", None, object()])
def test_extra_pools_that_are_neither_a_list_nor_a_mapping_are_refused(junk: object) -> None:
    """`extra_pools: email` does not make the pools "e", "m", "a", "i", "l"."""
    expected = f"settings['extra_pools'] must be a list or a mapping, not {junk!r}"
    assert refusal_of({"extra_pools": junk}) == expected


@pytest.mark.parametrize("junk", [b"email", b"", bytearray(b"email")])
def test_extra_pools_that_are_bytes_are_refused_as_such(junk: object) -> None:
    """Bytes are no list of names, empty or not."""
    expected = f"settings['extra_pools'] must be a list or a mapping, not {junk!r}"
    assert refusal_of({"extra_pools": junk}) == expected


@pytest.mark.parametrize("junk", [1, "pool_size", [("pool_size", 1)], {1}, False])
@pytest.mark.parametrize(
    ("wrap", "path"),
    [
        (lambda options: [{"email": options}], "settings['extra_pools'][0]['email']"),
        (lambda options: {"email": options}, "settings['extra_pools']['email']"),
    ],
    ids=["list", "mapping"],
)
def test_options_of_a_pool_that_are_not_a_mapping_are_refused(
    junk: object, wrap: Any, path: str
) -> None:
    """`email: 10` looks like a size, and is refused."""
    message = refusal_of({"extra_pools": wrap(junk)})
    assert message == f"{path} must be a mapping of options, not {junk!r}"


@pytest.mark.parametrize("name", [None, 1, True, b"email", ["email"], ("email", {}), {1}, 1.5])
def test_a_pools_name_that_is_not_a_string_is_refused(name: Any) -> None:
    """Such a pool could not be looked up."""
    message = refusal_of({"extra_pools": ["report", name]})
    expected = f"settings['extra_pools'][1]: a pool's name must be a string, not {name!r}"
    assert message == expected


@pytest.mark.parametrize(
    ("extra_pools", "path"),
    [
        ([""], "settings['extra_pools'][0]"),
        (["email", {"": {}}], "settings['extra_pools'][1]['']"),
        ({"": {}}, "settings['extra_pools']['']"),
    ],
)
def test_an_empty_pools_name_is_refused(extra_pools: object, path: str) -> None:
    """An unset variable in a template makes an empty name."""
    assert refusal_of({"extra_pools": extra_pools}) == f"{path}: a pool's name must not be empty"


@pytest.mark.parametrize("name", [None, True, 0, 1, b"job", ["job"]])
def test_a_default_pool_that_is_not_a_name_is_refused_and_false_is_suggested(name: object) -> None:
    """Only False means that there is none: None and 0 are more often an accident."""
    expected = (
        f"settings['default_pool']: a pool's name must be a string, not {name!r}"
        " (False: no default pool)"
    )
    assert refusal_of({"default_pool": name}) == expected


def test_an_empty_name_of_the_default_pool_is_refused_and_false_is_suggested() -> None:
    """The empty string is an accident too."""
    expected = "settings['default_pool']: a pool's name must not be empty (False: no default pool)"
    assert refusal_of({"default_pool": ""}) == expected


@pytest.mark.parametrize(
    ("settings", "path", "name"),
    [
        ({"extra_pools": ["email", "email"]}, "settings['extra_pools'][1]", "email"),
        (
            {"extra_pools": ["email", {"report": {}, "email": {}}]},
            "settings['extra_pools'][1]['email']",
            "email",
        ),
        ({"extra_pools": [{"email": {}}, "email"]}, "settings['extra_pools'][1]", "email"),
        ({"extra_pools": ["job"]}, "settings['extra_pools'][0]", "job"),
        ({"extra_pools": {"job": {"pool_size": 2}}}, "settings['extra_pools']['job']", "job"),
        (
            {"default_pool": "email", "extra_pools": ["job", "email"]},
            "settings['extra_pools'][1]",
            "email",
        ),
    ],
)
def test_a_pool_that_is_named_twice_is_refused(settings: Any, path: str, name: str) -> None:
    """One of the two entries would silently lose."""
    expected = f"{path}: these settings name a pool {name!r} twice"
    assert refusal_of(settings) == expected


def test_a_bad_default_is_refused_even_if_every_pool_overrides_it() -> None:
    """It would fail the next pool that is made by hand."""
    settings = {
        "default_pool": False,
        "pool_size": 0,
        "extra_pools": {"email": {"pool_size": 2}},
    }
    assert refusal_of(settings).startswith("settings['pool_size']: ")


# Whatever comes.

CHARACTERS = "aZ_9. \n\0é\u2028\U0001f40d"  # Hypothesis takes seconds to list all of Unicode
KNOWN = ["default_pool", "extra_pools", "max_workers", *OTHER_VALUES]
numbers = (
    st.none()
    | st.booleans()
    | st.integers(-2, 12)
    | st.integers()
    | st.floats()
    | st.complex_numbers()
)
scalars = (
    numbers
    | st.text(CHARACTERS, max_size=5)
    | st.binary(max_size=5)
    | st.sampled_from(["job", "email", *KNOWN])
    | st.sampled_from([greet, complain, object(), Ellipsis, int, (), ("job",)])
)
keys = st.sampled_from([*KNOWN, "email", "report"]) | st.recursive(
    scalars,
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=2),
    max_leaves=3,
)
junk = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(keys, inner, max_size=3)
        | st.sets(st.text(CHARACTERS, max_size=2), max_size=2)
        | st.binary(max_size=2).map(bytearray)
        | st.lists(inner, max_size=2).map(iter)
    ),
    max_leaves=6,
)
sound_options: st.SearchStrategy[dict[str, Any]] = st.fixed_dictionaries(
    {},
    optional={
        "pool_size": st.integers(1, 12),
        "max_restarts": st.integers(0, 12),
        "max_seconds": st.floats(0.001, 100) | st.integers(1, 100),
        "initializer": st.just(greet),
        "initargs": st.tuples(scalars),
        "thread_name_prefix": st.text(CHARACTERS, max_size=3),
        "on_error": st.just(complain),
        "crash_on": st.sampled_from([Exception, (), (OSError, KeyError)]),
    },
)
some_options = sound_options | st.dictionaries(keys, junk, max_size=3)
names = st.text("abc", min_size=1, max_size=3)
extra_pools = (
    st.lists(names | st.dictionaries(names, some_options, max_size=2) | junk, max_size=4)
    | st.dictionaries(names, some_options, max_size=3)
    | st.lists(names, unique=True)
    | junk
)
plausible = st.builds(
    lambda options, default, extra: {**options, **default, **extra},
    some_options,
    st.fixed_dictionaries({}, optional={"default_pool": st.just(value=False) | names | junk}),
    st.fixed_dictionaries({}, optional={"extra_pools": extra_pools}),
)


@given(plausible | st.dictionaries(keys, junk, max_size=4) | junk)
@example({"extra_pools": [["email"]]})
@example({"extra_pools": [[]]})
@example({"extra_pools": {"email": []}})
@example({("pool_size",): 1})
def test_any_input_leads_to_a_plan_or_a_settings_error(settings: Any) -> None:
    """Start-up code that catches SettingsError catches everything."""
    plan = None
    try:
        plan = read_settings(settings)
    except SettingsError as error:
        message = str(error)
    if plan is None:
        assert message.startswith("settings")
        return
    assert isinstance(plan, Plan)
    assert plan.default_pool is None or plan.default_pool in plan.pools
    for name, options in plan.pools.items():
        assert isinstance(name, str)
        assert name
        assert type(options.pool_size) is int
        assert options.pool_size > 0
        assert type(options.max_restarts) is int
        assert options.max_restarts >= 0
        assert 0 < options.max_seconds < math.inf
        assert options.initializer is None or callable(options.initializer)
        assert isinstance(options.initargs, tuple)
        assert isinstance(options.thread_name_prefix, str)
        assert options.on_error is None or callable(options.on_error)


@given(st.dictionaries(names.filter(lambda name: name != "job"), sound_options), sound_options)
def test_valid_settings_are_accepted_and_arrive_as_written(
    pools: dict[str, dict[str, Any]], defaults: dict[str, Any]
) -> None:
    """The counterpart of the property above, which refusing everything would satisfy."""
    plan = read_settings({**defaults, "extra_pools": pools})
    assert plan.defaults == PoolOptions()._replace(**defaults)
    assert plan.pools == {
        "job": plan.defaults,
        **{name: plan.defaults._replace(**options) for name, options in pools.items()},
    }


# PoolOptions.replace, which is what a `Pool` uses.


@EVERY_KEY
def test_replacing_an_option_changes_a_copy(key: str, value: object) -> None:
    """Pools share their defaults: a change in place would affect other pools."""
    before = PoolOptions(**BESIDE.get(key, {}))
    after = before.replace(**{key: value})
    assert after._asdict() == {**before._asdict(), key: value}
    assert before == PoolOptions(**BESIDE.get(key, {}))


def test_replacing_an_option_with_none_leaves_it_as_it_is() -> None:
    """None is how `Pool(...)` says "whatever is configured"."""
    configured = PoolOptions(**OTHER_VALUES)
    assert configured.replace(**dict.fromkeys(OTHER_VALUES)) == configured


def test_an_empty_value_is_not_taken_for_none() -> None:
    """Overriding a prefix or arguments with nothing means nothing."""
    configured = PoolOptions(max_restarts=3, initargs=("a",), thread_name_prefix="mail")
    changed = configured.replace(max_restarts=0, initargs=(), thread_name_prefix="")
    assert changed == PoolOptions(max_restarts=0)


@pytest.mark.parametrize(
    ("key", "value", "wanted"), [each for each in WRONG_TYPES if each[1] is not None]
)
def test_a_value_of_the_wrong_type_is_a_type_error(key: str, value: object, wanted: str) -> None:
    """The standard library's executor raises the same."""
    with pytest.raises(TypeError, match=f"^{key} must be {re.escape(wanted)}, not "):
        PoolOptions().replace(**{key: value})


@pytest.mark.parametrize(("key", "value", "wanted"), OUT_OF_RANGE)
def test_a_number_out_of_range_is_a_value_error(key: str, value: object, wanted: str) -> None:
    """The standard library's executor raises the same."""
    with pytest.raises(ValueError, match=f"^{key} must be {re.escape(wanted)}, not "):
        PoolOptions().replace(**{key: value})


@pytest.mark.parametrize("key", ["pool_sise", "replace"])
def test_an_option_that_does_not_exist_is_a_type_error(key: str) -> None:
    """As with any Python call that has an unknown keyword."""
    with pytest.raises(TypeError, match=key):
        PoolOptions().replace(**{key: 1})


@pytest.mark.parametrize(
    "key", ["timeout", "max_abandoned", "exit_timeout", "initializer", "on_error", "on_event"]
)
def test_a_pool_can_have_none_of_what_the_settings_give_to_all_pools(key: str) -> None:
    """A limit for all pools but one takes two lines."""
    value = OTHER_VALUES[key]
    plan = read_settings({key: value, "extra_pools": [{"patient": {key: None}}]})
    assert getattr(plan.pools["job"], key) == value
    assert getattr(plan.pools["patient"], key) is None


# What has no effect.


IDLE = pytest.mark.parametrize(("key", "value"), [("when_full", "block"), ("submit_timeout", 0.5)])


@IDLE
def test_what_to_do_in_a_full_queue_is_refused_where_no_queue_is_ever_full(
    key: str, value: object
) -> None:
    """A forgotten `max_queue` is an unbounded queue, found out when memory is full."""
    message = f"{key}={value!r} has no effect without max_queue, .* give max_queue= as well"
    with pytest.raises(TypeError, match=f"^{message}"):
        PoolOptions().replace(**{key: value})
    refused = refusal_of({"extra_pools": [{"email": {key: value}}]})
    assert re.match(rf"settings\['extra_pools'\]\[0\]\['email'\]: {message}", refused)


@IDLE
def test_it_may_be_said_once_for_all_pools_of_which_some_have_a_bound(
    key: str, value: object
) -> None:
    plan = read_settings({key: value, "extra_pools": ["email", {"report": {"max_queue": 5}}]})
    assert getattr(plan.pools["report"], key) == value
    assert plan.defaults.replace(pool_size=2, max_queue=3).max_queue == 3


@IDLE
def test_it_may_stand_beside_a_bound_that_is_inherited_or_none(key: str, value: object) -> None:
    """A function that passes on `max_queue=None` says that it knows."""
    assert read_settings({"max_queue": 3, "extra_pools": {"email": {key: value}}})
    assert PoolOptions().replace(**{key: value, "max_queue": None}).max_queue is None
    assert PoolOptions(max_queue=3).replace(**{key: value}).max_queue == 3


@pytest.mark.parametrize("when_full", ["raise", "drop_oldest"])
def test_a_submit_timeout_is_refused_where_nobody_waits_for_room(when_full: str) -> None:
    """It looks as if jobs were given a chance to get in."""
    given = {"max_queue": 3, "when_full": when_full, "submit_timeout": 0.5}
    message = (
        f"submit_timeout=0.5 has no effect with when_full={when_full!r}, .* "
        "leave submit_timeout out, or give when_full='block'$"
    )
    with pytest.raises(TypeError, match=f"^{message}"):
        PoolOptions().replace(**given)
    with pytest.raises(TypeError, match=f"^{message}"):
        PoolOptions(max_queue=3, when_full=cast("Any", when_full)).replace(submit_timeout=0.5)
    refused = refusal_of({"extra_pools": {"email": given}})
    assert re.match(rf"settings\['extra_pools'\]\['email'\]: {message}", refused)


@pytest.mark.parametrize("when_full", ["raise", "drop_oldest"])
def test_a_submit_timeout_for_all_pools_may_stand_beside_one_that_waits_for_nothing(
    when_full: str,
) -> None:
    given = {"max_queue": 3, "when_full": when_full}
    plan = read_settings({"submit_timeout": 0.5, "extra_pools": {"email": given}})
    assert plan.pools["email"].submit_timeout == 0.5
    plan = read_settings(
        {**given, "submit_timeout": 0.5, "extra_pools": {"slow": {"when_full": "block"}}}
    )
    assert plan.pools["slow"].submit_timeout == 0.5
    assert PoolOptions().replace(**given, submit_timeout=None).when_full == when_full


@pytest.mark.parametrize("when_full", ["block", "caller_runs"])
def test_a_submit_timeout_is_of_use_where_a_job_may_wait_for_room(when_full: str) -> None:
    """With `caller_runs`: timers, `asubmit`, and jobs that a limit stops."""
    given = {"max_queue": 3, "when_full": when_full, "submit_timeout": 0.5}
    assert PoolOptions().replace(**given).submit_timeout == 0.5
    assert read_settings({"extra_pools": {"email": given}})


# Numbers, times and predicates of other types.


class Count:
    """A whole number as NumPy has them: no int."""

    def __init__(self, value: int) -> None:
        self.value = value

    def __index__(self) -> int:
        return self.value


COUNTS = ("pool_size", "max_restarts", "max_abandoned", "max_queue", "key_limit", "retries")
DURATIONS = ("max_seconds", "timeout", "exit_timeout", "submit_timeout", "priority_aging")


@pytest.mark.parametrize("key", COUNTS)
def test_a_count_may_be_a_whole_number_of_another_library(key: str) -> None:
    """Counts that come out of NumPy are no ints; ThreadPoolExecutor takes them, too."""
    value = getattr(PoolOptions().replace(**{key: Count(3)}), key)
    assert (value, type(value)) == (3, int)


@pytest.mark.parametrize("key", DURATIONS)
@pytest.mark.parametrize("value", [timedelta(milliseconds=1500), Fraction(3, 2), 1.5])
def test_seconds_may_be_a_timedelta_or_any_number(key: str, value: object) -> None:
    """`timeout=timedelta(minutes=5)` says what it means."""
    seconds = getattr(read_settings({key: value}).defaults, key)
    assert (seconds, type(seconds)) == (1.5, float)


def test_delays_may_be_timedeltas() -> None:
    """They are seconds like all others."""
    options = PoolOptions().replace(backoff=[timedelta(seconds=1), timedelta(minutes=1)])
    assert options.backoff == (1.0, 60.0)


def test_a_generator_of_delays_is_read_once() -> None:
    """Options are used for many pools and views."""
    options = PoolOptions().replace(backoff=(number for number in (1, 2)))
    assert options.backoff == options.replace(pool_size=2).backoff == (1.0, 2.0)


@pytest.mark.parametrize("key", RETRIES)
def test_retries_may_be_decided_by_a_predicate(key: str) -> None:
    """An error's status code is not in its class."""

    def is_temporary(error: BaseException) -> bool:
        return "503" in str(error)

    assert getattr(read_settings({key: is_temporary}).defaults, key) is is_temporary


def test_rates_in_settings_are_compared_by_what_they_mean() -> None:
    """Two modules that configure the same in other words do not disagree."""
    assert read_settings({"rate": "100/minute"}) == read_settings({"rate": Rate(100, per=60)})


# What type checkers are told.


def test_the_types_of_settings_have_the_same_keys_as_the_options_themselves() -> None:
    """An option that type checkers do not know of would be an error in correct code."""
    options = set(POOL_CHECKS)
    assert options == set(PoolOptions._fields)
    assert set(oddjob.PoolSettings.__annotations__) == options
    assert set(oddjob.Settings.__annotations__) == {"default_pool", "extra_pools", *options}
    assert set(PoolArguments.__annotations__) == {"max_workers", *options}
    assert set(JobOptions.__annotations__) == set(JOB_CHECKS)
