"""The options of pools and of single jobs: name, type, default and check of each.

`PoolOptions` holds the options of a pool. `JobSettings` holds those of a view: the pool's, with
what the view has changed of them, and those that only jobs have. The annotation of a field names
its check, which converts a value to the type that the rest of the library relies on. The
``TypedDict`` classes say what users may write.

Guarantees: an instance holds only checked values. Nothing here starts or locks anything.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from datetime import time, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from oddjob.callables import refuse_unknown
from oddjob.compat import ReadOnly, TypedDict, override
from oddjob.events import OnEvent
from oddjob.keys import Key, as_fair_by, as_weights, check_key
from oddjob.quantities import (
    Seconds,
    as_bytes,
    as_count,
    as_patience,
    as_period,
    as_retention,
    as_size,
    as_time_limit,
    as_whole_number,
)
from oddjob.rate import Rate, as_rate
from oddjob.retry import DEFAULT_DELAYS, Backoff, Delays, Exceptions, as_delays
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter
from oddjob.schedule.local_time import Dst
from oddjob.signing import SigningKeys, as_signing_keys

Check = Callable[[str, Any], Any]

CrashOn = type[BaseException] | tuple[type[BaseException], ...]
OnError = Callable[[Any, BaseException], object]
WhenFull = Literal["block", "raise", "caller_runs", "drop_oldest"]
Unique = bool | Key | Callable[..., Key]
FairBy = Key | Callable[..., Key]

_STORES: Final = ("sqlite:", "memory:", "redis:", "rediss:", "redis+", "rediss+", "unix:")
_FOR_STORES: Final = (
    *("signing_keys", "consume", "keep_succeeded", "keep_failed", "keep_bytes", "unknown_after"),
)

# Checks. Each takes the option's name, for its message, and a value, and returns the value to use.


def _check(
    fits: Callable[[Any], bool], wanted: str, convert: Callable[[Any], Any] | None = None
) -> Check:
    def check(name: str, value: Any) -> Any:
        if not fits(value):
            raise TypeError(f"{name} must be {wanted}, not {value!r}")
        return value if convert is None else convert(value)

    return check


def _are_exceptions(value: Any) -> bool:
    classes = value if isinstance(value, tuple) else (value,)
    return all(isinstance(each, type) and issubclass(each, BaseException) for each in classes)


def _is_middleware(value: Any) -> bool:
    methods = (getattr(value, "submit", None), getattr(value, "run", None))
    return any(map(callable, methods)) and not isinstance(value, type)


as_flag: Final = _check(lambda value: isinstance(value, bool), "True or False")
as_callable: Final = _check(callable, "a callable")
as_callbacks: Final = _check(
    lambda value: (
        callable(value) or (isinstance(value, tuple | list) and all(map(callable, value)))
    ),
    "a callable or a list of them",
    lambda value: value if callable(value) else tuple(value),
)
_as_text: Final = _check(lambda value: isinstance(value, str), "a string", str)
_as_tuple: Final = _check(lambda value: isinstance(value, tuple | list), "a tuple or a list", tuple)
_as_classes: Final = _check(_are_exceptions, "an exception class or a tuple of them")
_as_exceptions: Final = _check(
    lambda value: _are_exceptions(value) or (callable(value) and not isinstance(value, type)),
    "an exception class, a tuple of them, or a predicate",
)
_as_one_middleware: Final = _check(_is_middleware, "objects with a method submit() or run()")


def as_name(name: str, value: Any) -> str:
    """Return a string that is not empty."""
    text: str = _as_text(name, value)
    if not text:
        raise ValueError(f"{name} must not be empty")
    return text


def _as_middleware(name: str, value: Any) -> tuple[Any, ...]:
    return tuple(_as_one_middleware(name, each) for each in _as_tuple(name, value))


def _as_when_full(name: str, value: Any) -> Any:
    known = get_args(WhenFull)
    if _as_text(name, value) not in known:
        raise ValueError(f"{name} must be one of {', '.join(map(repr, known))}, not {value!r}")
    return value


class _Url(str):
    """A URL whose ``repr`` shows no password."""

    __slots__ = ()

    @override
    def __repr__(self) -> str:
        return repr(re.sub(r"(//)[^@/]*(?=@)|(password=)[^&]*", r"\1\2…", str(self)))


def _as_store(name: str, value: Any) -> Any:
    if isinstance(value, str):
        value = _Url(value)
    if value is False or (isinstance(value, str) and value.startswith(_STORES)):
        return value
    wanted = f'{name} must be a URL such as "sqlite:///jobs.db", "redis://localhost" or "memory:"'
    error = ValueError if isinstance(value, str) else TypeError
    raise error(f"{wanted}, or False, not {value!r}")


def _as_replace(name: str, value: Any) -> Any:
    if not isinstance(value, bool) and value != "time":
        raise TypeError(f'{name} must be True, False or "time", not {value!r}')
    return value


def _as_jobs(name: str, value: Any) -> tuple[Any, ...]:
    jobs = value if isinstance(value, Iterable) else (value,)
    jobs = tuple(getattr(each, "job", each) for each in jobs)  # of a batch, what stands for it
    for each in jobs:
        if not hasattr(each, "cancel_requested"):
            raise TypeError(f"{name} must be jobs, not {each!r}")
    return jobs


def _as_unique(_name: str, value: Any) -> Any:
    return value if isinstance(value, bool) or callable(value) else check_key(value)


# Options of a pool.


class PoolOptions(NamedTuple):
    """Every option of a pool, with the library's own defaults."""

    pool_size: Annotated[int, as_size] = 5
    initializer: Annotated[Callable[..., object] | None, as_callable] = None
    initargs: Annotated[tuple[Any, ...], _as_tuple] = ()
    thread_name_prefix: Annotated[str, _as_text] = ""
    max_restarts: Annotated[int, as_count] = 3
    max_seconds: Annotated[float, as_period] = 5.0
    crash_on: Annotated[CrashOn, _as_classes] = ()
    timeout: Annotated[float | None, as_time_limit] = None
    max_abandoned: Annotated[int | None, as_count] = None  # None: as many as there are workers
    exit_timeout: Annotated[float | None, as_patience] = None
    max_queue: Annotated[int | None, as_size] = None
    when_full: Annotated[WhenFull, _as_when_full] = "block"
    submit_timeout: Annotated[float | None, as_patience] = None
    rate: Annotated[Rate | None, as_rate] = None
    key_limit: Annotated[int, as_size] = 1
    fair_by: Annotated[FairBy | None, as_fair_by] = None
    fair_weights: Annotated[Mapping[Key, float] | None, as_weights] = None
    priority_aging: Annotated[float | None, as_period] = None
    retries: Annotated[int, as_count] = 0
    backoff: Annotated[Delays, as_delays] = DEFAULT_DELAYS
    retry_on: Annotated[Exceptions, _as_exceptions] = Exception
    no_retry_on: Annotated[Exceptions, _as_exceptions] = ()
    on_error: Annotated[OnError | None, as_callable] = None
    on_event: Annotated[OnEvent | None, as_callbacks] = None
    middleware: Annotated[tuple[Any, ...], _as_middleware] = ()
    store: Annotated[str | Literal[False] | None, _as_store] = None
    signing_keys: Annotated[SigningKeys | None, as_signing_keys] = None
    consume: Annotated[bool, as_flag] = True
    keep_succeeded: Annotated[int, as_count] = 1000
    keep_failed: Annotated[float, as_retention] = 30 * 86400.0
    keep_bytes: Annotated[float, as_bytes] = 256e6
    unknown_after: Annotated[float, as_retention] = 600.0

    def replace(self, **changes: Any) -> Self:
        """Return a copy with other values, each of them checked; None leaves a value as it is."""
        given = _checked("Pool", {**POOL_CHECKS, "max_workers": as_size}, changes)
        if "max_workers" in given:
            if "pool_size" in given:
                raise TypeError("pool_size and max_workers are one and the same: give only one")
            given["pool_size"] = given.pop("max_workers")
        self.refuse_useless(changes)
        return self._replace(**given)

    def refuse_useless(self, given: Mapping[str, Any]) -> None:
        """Raise a ``TypeError`` if something given for this one pool would have no effect."""
        self.check_turns(given)
        timeout, when_full = given.get("submit_timeout"), given.get("when_full") or self.when_full
        if given.get("store", self.store) and when_full == "drop_oldest":
            raise TypeError(
                'when_full="drop_oldest" is not for pools with a store, which loses no job: use '
                '"block", "raise" or "caller_runs"'
            )
        aging = given.get("priority_aging")
        if given.get("store", self.store) and aging is not None:
            raise TypeError(
                f"priority_aging={aging!r} is not for pools with a store, where priorities do not "
                "age: leave it out, or give urgent jobs a pool of their own"
            )
        if timeout is not None and when_full in ("raise", "drop_oldest"):
            raise TypeError(
                f"submit_timeout={timeout!r} has no effect with when_full={when_full!r}, because "
                "nobody waits for room: leave submit_timeout out, or give when_full='block'"
            )
        # store=False, or None, is a decision: so tests do without the store that a program has.
        if self.store is None and "store" not in given:
            for name in _FOR_STORES:
                if given.get(name) is not None:
                    shown = "…" if name == "signing_keys" else repr(given[name])  # secrets
                    raise TypeError(
                        f"{name}={shown} has no effect in a pool without a store: give "
                        'store="sqlite:///jobs.db", or store=False to do without, as in tests'
                    )
        # max_queue=None beside it is a decision, or passed on by a function that has both options.
        if self.max_queue is not None or "max_queue" in given:
            return
        for name in ("when_full", "submit_timeout"):
            if given.get(name) is not None:
                raise TypeError(
                    f"{name}={given[name]!r} has no effect without max_queue, because the queue is "
                    f"never full: give max_queue= as well, or leave {name} out"
                )

    def check_turns(self, given: Mapping[str, Any]) -> None:
        """Raise a ``TypeError`` if there are weights of turns, but no turns."""
        if given.get("fair_weights") and self.fair_by is None and given.get("fair_by") is None:
            raise TypeError("fair_weights needs fair_by=, which says whose turn a job takes")


class _SharedOptions(TypedDict, total=False):
    """What a pool may be given for all its jobs, and a view for its own."""

    timeout: ReadOnly[Seconds | None]
    rate: ReadOnly[Rate | str | None]
    key_limit: ReadOnly[int | None]
    fair_by: ReadOnly[FairBy | None]
    fair_weights: ReadOnly[Mapping[Any, float] | None]
    retries: ReadOnly[int | None]
    backoff: ReadOnly[Backoff | Seconds | Iterable[Seconds] | None]
    retry_on: ReadOnly[Exceptions | None]
    no_retry_on: ReadOnly[Exceptions | None]
    middleware: ReadOnly[list[Any] | tuple[Any, ...] | None]


class KeywordOptions(_SharedOptions, total=False):
    """The options that `Pool` takes by keyword only."""

    thread_name_prefix: ReadOnly[str | None]
    max_restarts: ReadOnly[int | None]
    max_seconds: ReadOnly[Seconds | None]
    crash_on: ReadOnly[CrashOn | None]
    max_abandoned: ReadOnly[int | None]
    exit_timeout: ReadOnly[Seconds | None]
    max_queue: ReadOnly[int | None]
    when_full: ReadOnly[WhenFull | None]
    submit_timeout: ReadOnly[Seconds | None]
    priority_aging: ReadOnly[Seconds | None]
    on_error: ReadOnly[OnError | None]
    on_event: ReadOnly[OnEvent | None]
    store: ReadOnly[str | Literal[False] | None]
    signing_keys: ReadOnly[str | bytes | Iterable[str | bytes] | None]
    consume: ReadOnly[bool | None]
    keep_succeeded: ReadOnly[int | None]
    keep_failed: ReadOnly[Seconds | str | None]
    keep_bytes: ReadOnly[float | str | None]
    unknown_after: ReadOnly[Seconds | str | None]


class PoolKeys(KeywordOptions, total=False):
    """All options of a pool."""

    pool_size: ReadOnly[int | None]
    initializer: ReadOnly[Callable[..., object] | None]
    initargs: ReadOnly[tuple[Any, ...] | list[Any] | None]


class _PoolWords(PoolKeys, total=False):
    max_workers: ReadOnly[int | None]


# Options of single jobs.


class _JobKeys(_SharedOptions, total=False):
    name: ReadOnly[str | None]
    priority: ReadOnly[int | None]
    key: ReadOnly[Key | Callable[..., Key] | None]
    serial: ReadOnly[bool | None]
    max_concurrency: ReadOnly[int | None]
    persist: ReadOnly[bool | None]
    unique: ReadOnly[Unique | None]
    replace: ReadOnly[bool | Literal["time"] | None]
    after: ReadOnly[Any]  # a job, or an iterable of them


class RecurrenceOptions(TypedDict, total=False):
    """The keyword arguments of ``cron()`` and ``daily()``."""

    tz: ReadOnly[str | tzinfo | None]
    dst: ReadOnly[Dst]
    catch_up: ReadOnly[bool]
    jitter: ReadOnly[Seconds]
    overlap: ReadOnly[bool]
    daemon: ReadOnly[bool]


class DecoratorOptions(_JobKeys, RecurrenceOptions, total=False):
    """The keyword arguments of ``job()``."""

    every: ReadOnly[Seconds | None]
    cron: ReadOnly[str | None]
    daily: ReadOnly[time | str | None]


# What users may name is closed: a dict type of theirs fits if it is closed, too, and has some of
# the keys. Type checkers know what that is; `typing` does from Python 3.15 on.

if TYPE_CHECKING:

    class PoolSettings(PoolKeys, total=False, closed=True):
        """The options of one pool in ``oddjob.configure(settings)``; `Pool` explains them."""

    class PoolArguments(_PoolWords, total=False, closed=True):
        """The keyword arguments of `Pool` and `start_pool`, for a function that passes them on."""

    class JobOptions(_JobKeys, total=False, closed=True):
        """The keyword arguments of `Pool.options`, for a function that passes them on."""

else:

    class PoolSettings(PoolKeys, total=False):
        """The options of one pool in ``oddjob.configure(settings)``; `Pool` explains them."""

    class PoolArguments(_PoolWords, total=False):
        """The keyword arguments of `Pool` and `start_pool`, for a function that passes them on.

        Such a function takes ``**options: Unpack[oddjob.PoolArguments]``.
        """

    class JobOptions(_JobKeys, total=False):
        """The keyword arguments of `Pool.options`, for a function that passes them on."""


class UserConnection:
    """A user's connection, in whose transaction the jobs of a view are stored.

    The view holds it, its jobs do not: they would keep a transaction open whose user has let go of
    it, as when a request fails before the commit. Python rolls it back when it collects that.
    """

    def __init__(self, connection: Any) -> None:
        self.connection: Final = connection


class JobSettings(NamedTuple):
    """What all jobs of a pool or view have in common, except for a constant key: a view holds that.

    The limits are objects that count: every view derived from this one shares them.
    """

    options: PoolOptions = PoolOptions()
    name: Annotated[str | None, as_name] = None
    priority: Annotated[int, as_whole_number] = 0
    key: Annotated[Callable[..., Key] | None, as_callable] = None
    serial: Annotated[bool, as_flag] = False
    persist: Annotated[bool, as_flag] = True  # in the pool's store, if it has one
    unique: Annotated[Unique, _as_unique] = False
    replaces: bool | Literal["time"] = False  # the option replace
    limits: tuple[Limit, ...] = ()  # that a job has to pass, besides that of its key
    after: Annotated[tuple[Any, ...], _as_jobs] = ()  # that have to succeed before its jobs start
    connection: Callable[[], Any] | None = None  # a weak reference to a `UserConnection`

    def replace(self, **changes: Any) -> Self:
        """Return a copy as `PoolOptions.replace` does; limits and middleware are added."""
        given = _checked("options", JOB_CHECKS, changes)
        key_limit = given.get("key_limit", 1)
        if key_limit > 1 and given.get("serial", self.serial):
            raise ValueError(
                "serial=True runs the jobs of a key one at a time: key_limit must be 1 or left "
                f"out, not {key_limit!r}"
            )
        if self.connection is not None and not given.get("persist", True):
            raise ValueError("persist=False: but jobs in a user's transaction have to be stored")
        self._check_unique(given)
        self.options.check_turns(given)
        if "replace" in given:
            given["replaces"] = given.pop("replace")
        limits = self.limits
        if "max_concurrency" in given:
            limits = (ConcurrencyLimit(given.pop("max_concurrency")), *limits)
        if "rate" in given:
            limits = (RateLimiter(given.pop("rate")), *limits)
        if "middleware" in given:
            given["middleware"] = (*self.options.middleware, *given["middleware"])
        shared = {name: given.pop(name) for name in _SHARED if name in given}
        return self._replace(options=self.options._replace(**shared), limits=limits, **given)

    def _check_unique(self, given: Mapping[str, Any]) -> None:
        if given.get("unique", False) is not False:
            if self.options.store is None:
                raise TypeError(
                    f"unique={given['unique']!r} needs a store, which knows the jobs of all "
                    'processes: Pool("name", store="sqlite:///jobs.db"), or store=False to do '
                    "without, as in tests"
                )
            if not given.get("persist", self.persist):
                raise TypeError(
                    f"unique={given['unique']!r} has no effect with persist=False: leave one out"
                )
        if given.get("replace") and given.get("unique", self.unique) is False:
            raise TypeError(
                f"replace={given['replace']!r} needs unique=, which says what is replaced"
            )


def _checks_of(options: type[Any]) -> dict[str, Check]:
    hints = options.__annotations__.items()
    return {name: hint.__metadata__[0] for name, hint in hints if hasattr(hint, "__metadata__")}


_SHARED: Final = tuple(_SharedOptions.__annotations__)
POOL_CHECKS: Final = _checks_of(PoolOptions)
JOB_CHECKS: Final[dict[str, Check]] = {
    **_checks_of(JobSettings),
    "max_concurrency": as_size,
    "replace": _as_replace,
    **{name: POOL_CHECKS[name] for name in _SHARED},
}
TIMING_OPTIONS: Final = ("every", "cron", "daily", *RecurrenceOptions.__annotations__)


def _checked(caller: str, checks: dict[str, Check], changes: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown(caller, changes, checks)
    given = changes.items()
    return {name: checks[name](name, value) for name, value in given if value is not None}
