"""The options of pools and of single jobs: name, type, default and check of each.

`PoolOptions` holds what a whole pool may be given, `JobSettings` what all jobs of a view have in
common. The annotation of each field names the check, which converts a value to the type that the
rest of the library relies on. The ``TypedDict`` classes say what users may write.

Guarantees: an instance holds only checked values. Nothing here starts or locks anything.
"""

from collections.abc import Callable, Iterable
from datetime import tzinfo
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, get_args

from oddjob.compat import ReadOnly, TypedDict
from oddjob.events import OnEvent
from oddjob.keys import Key
from oddjob.quantities import (
    Seconds,
    as_count,
    as_patience,
    as_period,
    as_size,
    as_time_limit,
    as_whole_number,
)
from oddjob.rate import Rate, as_rate
from oddjob.retry import DEFAULT_DELAYS, Backoff, Delays, Exceptions, RetryPolicy, as_delays
from oddjob.runtime.limits import ConcurrencyLimit, Limit, RateLimiter
from oddjob.schedule.local_time import Dst

Check = Callable[[str, Any], Any]

CrashOn = type[BaseException] | tuple[type[BaseException], ...]
OnError = Callable[[Any, BaseException], object]
WhenFull = Literal["block", "raise", "caller_runs", "drop_oldest"]

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


as_flag = _check(lambda value: isinstance(value, bool), "True or False")
as_callable = _check(callable, "a callable")
_as_text = _check(lambda value: isinstance(value, str), "a string", str)
_as_tuple = _check(lambda value: isinstance(value, tuple | list), "a tuple or a list", tuple)
_as_classes = _check(_are_exceptions, "an exception class or a tuple of them")
_as_exceptions = _check(
    lambda value: _are_exceptions(value) or (callable(value) and not isinstance(value, type)),
    "an exception class, a tuple of them, or a predicate",
)
_as_one_middleware = _check(_is_middleware, "objects with a method submit() or run()")


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


def _as_concurrency_limit(name: str, value: Any) -> ConcurrencyLimit:
    return ConcurrencyLimit(as_size(name, value))


def _as_rate_limiter(name: str, value: Any) -> RateLimiter:
    return RateLimiter(as_rate(name, value))


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
    priority_aging: Annotated[float | None, as_period] = None
    retries: Annotated[int, as_count] = 0
    backoff: Annotated[Delays, as_delays] = DEFAULT_DELAYS
    retry_on: Annotated[Exceptions, _as_exceptions] = Exception
    no_retry_on: Annotated[Exceptions, _as_exceptions] = ()
    on_error: Annotated[OnError | None, as_callable] = None
    on_event: Annotated[OnEvent | None, as_callable] = None
    middleware: Annotated[tuple[Any, ...], _as_middleware] = ()

    def replace(self, *, max_workers: Any = None, **changes: Any) -> Self:
        """Return a copy with other values, each of them checked; None leaves a value as it is."""
        if max_workers is not None:
            if changes.get("pool_size") is not None:
                raise TypeError("pool_size and max_workers are one and the same: give only one")
            changes["pool_size"] = as_size("max_workers", max_workers)
        options = self._replace(**_checked("Pool", POOL_CHECKS, changes))
        for name in ("when_full", "submit_timeout"):
            if options.max_queue is None and changes.get(name) is not None:
                raise ValueError(f"{name}= has no effect without max_queue=: the queue has no end")
        return options


class _SharedOptions(TypedDict, total=False):
    """What a pool may be given for all its jobs, and a view for its own."""

    timeout: ReadOnly[Seconds | None]
    rate: ReadOnly[Rate | str | None]
    key_limit: ReadOnly[int | None]
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


class PoolSettings(KeywordOptions, total=False):
    """The options of one pool in ``oddjob.configure(settings)``."""

    pool_size: ReadOnly[int | None]
    initializer: ReadOnly[Callable[..., object] | None]
    initargs: ReadOnly[tuple[Any, ...] | list[Any] | None]


class PoolArguments(PoolSettings, total=False):
    """The keyword arguments of `Pool` and `start_pool`, for a function that passes them on.

    Such a function takes ``**options: Unpack[oddjob.PoolArguments]``.
    """

    max_workers: ReadOnly[int | None]


# Options of single jobs.


class JobOptions(_SharedOptions, total=False):
    """The keyword arguments of ``options()``, for a function that passes them on."""

    name: ReadOnly[str | None]
    priority: ReadOnly[int | None]
    key: ReadOnly[Key | Callable[..., Key] | None]
    serial: ReadOnly[bool | None]
    max_concurrency: ReadOnly[int | None]


class RecurrenceOptions(TypedDict, total=False):
    """The keyword arguments of ``cron()``."""

    tz: ReadOnly[str | tzinfo | None]
    dst: ReadOnly[Dst]
    catch_up: ReadOnly[bool]
    overlap: ReadOnly[bool]
    daemon: ReadOnly[bool]


class DecoratorOptions(JobOptions, RecurrenceOptions, total=False):
    """The keyword arguments of ``job()``."""

    every: ReadOnly[Seconds | None]
    cron: ReadOnly[str | None]


class JobSettings(NamedTuple):
    """What all jobs of a view have in common, except for a constant key, which a view holds.

    The limits are objects that count: every view derived from this one shares them.
    """

    name: Annotated[str | None, as_name] = None
    timeout: Annotated[float | None, as_time_limit] = None
    priority: Annotated[int, as_whole_number] = 0
    key: Annotated[Callable[..., Key] | None, as_callable] = None
    key_limit: Annotated[int, as_size] = 1
    serial: Annotated[bool, as_flag] = False
    max_concurrency: Annotated[ConcurrencyLimit | None, _as_concurrency_limit] = None
    rate: Annotated[RateLimiter | None, _as_rate_limiter] = None
    retries: Annotated[int, as_count] = 0
    backoff: Annotated[Delays, as_delays] = DEFAULT_DELAYS
    retry_on: Annotated[Exceptions, _as_exceptions] = Exception
    no_retry_on: Annotated[Exceptions, _as_exceptions] = ()
    middleware: Annotated[tuple[Any, ...], _as_middleware] = ()
    inherited_limits: tuple[Limit, ...] = ()  # of the pool, and of views that set the same option

    @classmethod
    def of_pool(cls, options: PoolOptions) -> Self:
        """Return what a pool's own options say about its jobs."""
        shared = set(cls._fields) & set(options._fields) - {"rate"}
        limits = () if options.rate is None else (RateLimiter(options.rate),)
        return cls(inherited_limits=limits, **{name: getattr(options, name) for name in shared})

    def replace(self, **changes: Any) -> Self:
        """Return a copy as `PoolOptions.replace` does; limits and middleware are added."""
        values = _checked("options", JOB_CHECKS, changes)
        if values.get("serial") and values.get("key_limit", 1) > 1:
            raise ValueError(
                "serial=True runs one job of a key at a time: leave out key_limit="
                f"{changes['key_limit']!r}, or serial"
            )
        values["middleware"] = (*self.middleware, *values.get("middleware", ()))
        former = {"max_concurrency": self.max_concurrency, "rate": self.rate}
        kept = [limit for name, limit in former.items() if name in values and limit is not None]
        values["inherited_limits"] = (*kept, *self.inherited_limits)
        return self._replace(**values)

    @property
    def limits(self) -> tuple[Limit, ...]:
        """The limits that a job has to pass, besides that of its key."""
        limits = (self.max_concurrency, self.rate, *self.inherited_limits)
        return tuple(limit for limit in limits if limit is not None)

    @property
    def retry(self) -> RetryPolicy | None:
        """How failures are retried; None if they are not."""
        if not self.retries:
            return None
        return RetryPolicy(self.retries, self.backoff, self.retry_on, self.no_retry_on)


def _checks_of(options: type[Any]) -> dict[str, Check]:
    hints = options.__annotations__.items()
    return {name: hint.__metadata__[0] for name, hint in hints if hasattr(hint, "__metadata__")}


POOL_CHECKS: Final = _checks_of(PoolOptions)
JOB_CHECKS: Final = _checks_of(JobSettings)
TIMING_OPTIONS: Final = ("every", "cron", *RecurrenceOptions.__annotations__)


def _checked(caller: str, checks: dict[str, Check], changes: dict[str, Any]) -> dict[str, Any]:
    for name in changes:
        if name not in checks:
            hint = suggest(name, checks)
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}; {hint}")
    given = changes.items()
    return {name: checks[name](name, value) for name, value in given if value is not None}


def suggest(unknown: str, known: Iterable[str]) -> str:
    """Return a hint for an error message: the known name that is nearest, or all of them."""
    from difflib import get_close_matches

    names = list(known)
    near = get_close_matches(unknown, [*names, "max_workers"], n=1)
    if near == ["max_workers"]:  # the standard library's word
        near = [name for name in names if name == "pool_size"]
    return f"did you mean {near[0]!r}?" if near else f"known are {', '.join(names)}"
