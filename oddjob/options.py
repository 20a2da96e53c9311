"""The options of pools and of single jobs: name, type, default and check of each.

`PoolOptions` holds the options of a pool. `JobSettings` holds those of a view: the pool's, with
what the view has changed of them, and those that only jobs have. The annotation of a field names
its check, which converts a value to the type that the rest of the library relies on. The
``TypedDict`` classes say what users may write.

Guarantees: an instance holds only checked values. Nothing here starts or locks anything.

To add an option:

1. Add the field, with its check (from `oddjob.option_checks` or `oddjob.quantities`), to
   `PoolOptions` or `JobSettings`, and the key to the ``TypedDict`` of what users write: one of
   `_SharedOptions`, `KeywordOptions` and `_JobKeys`.
2. Describe it in the docstring of `Pool`, of `Pool.options`, or of both; and in the guides
   ``configuration.md`` or ``jobs.md``. Tests compare these with the fields.
3. Where it needs another option, or does not go with a store: a rule in `_POOL_RULES`.
4. If jobs need it, read it in `oddjob.runtime.policy`, where a flag may say what it costs them.
"""

from collections.abc import Callable, Iterable, Mapping
from datetime import time, tzinfo
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple, Self

from oddjob.compat import ReadOnly, TypedDict
from oddjob.events import OnEvent
from oddjob.hints import refuse_unknown
from oddjob.keys import Key, as_fair_by, as_weights
from oddjob.option_checks import (
    Check,
    WhenFull,
    as_callable,
    as_callbacks,
    as_classes,
    as_exceptions,
    as_flag,
    as_jobs,
    as_middleware,
    as_name,
    as_replace,
    as_store,
    as_text,
    as_tuple,
    as_unique,
    as_when_full,
)
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

CrashOn = type[BaseException] | tuple[type[BaseException], ...]
OnError = Callable[[Any, BaseException], object]
Unique = bool | Key | Callable[..., Key]
FairBy = Key | Callable[..., Key]

_FOR_STORES: Final = (
    *("signing_keys", "consume", "keep_succeeded", "keep_failed", "keep_bytes", "unknown_after"),
)

# Options of a pool.


class PoolOptions(NamedTuple):
    """Every option of a pool, with the library's own defaults."""

    pool_size: Annotated[int, as_size] = 5
    initializer: Annotated[Callable[..., object] | None, as_callable] = None
    initargs: Annotated[tuple[Any, ...], as_tuple] = ()
    thread_name_prefix: Annotated[str, as_text] = ""
    max_restarts: Annotated[int, as_count] = 3
    max_seconds: Annotated[float, as_period] = 5.0
    crash_on: Annotated[CrashOn, as_classes] = ()
    timeout: Annotated[float | None, as_time_limit] = None
    max_abandoned: Annotated[int | None, as_count] = None  # None: as many as there are workers
    exit_timeout: Annotated[float | None, as_patience] = None
    max_queue: Annotated[int | None, as_size] = None
    when_full: Annotated[WhenFull, as_when_full] = "block"
    submit_timeout: Annotated[float | None, as_patience] = None
    rate: Annotated[Rate | None, as_rate] = None
    key_limit: Annotated[int, as_size] = 1
    fair_by: Annotated[FairBy | None, as_fair_by] = None
    fair_weights: Annotated[Mapping[Key, float] | None, as_weights] = None
    priority_aging: Annotated[float | None, as_period] = None
    retries: Annotated[int, as_count] = 0
    backoff: Annotated[Delays, as_delays] = DEFAULT_DELAYS
    retry_on: Annotated[Exceptions, as_exceptions] = Exception
    no_retry_on: Annotated[Exceptions, as_exceptions] = ()
    on_error: Annotated[OnError | None, as_callable] = None
    on_event: Annotated[OnEvent | None, as_callbacks] = None
    middleware: Annotated[tuple[Any, ...], as_middleware] = ()
    store: Annotated[str | Literal[False] | None, as_store] = None
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

    def refuse_useless(self, given: "Given") -> None:
        """Raise a ``TypeError`` if something given for this one pool would have no effect."""
        for rule in _POOL_RULES:
            problem = rule(self, given)
            if problem is not None:
                raise TypeError(problem)


# Rules: what was given for one pool must not be without effect there. (An option that `configure`
# gives to all pools may be: it has no effect where it does not fit.) Each rule takes the options
# that apply unless others are given, and those given; it returns what is wrong, or None.

Given = Mapping[str, Any]


def _needs_turns(options: PoolOptions, given: Given) -> str | None:
    if given.get("fair_weights") and options.fair_by is None and given.get("fair_by") is None:
        return "fair_weights needs fair_by=, which says whose turn a job takes"
    return None


def _fits_store(options: PoolOptions, given: Given) -> str | None:
    if not given.get("store", options.store):
        return None
    if (given.get("when_full") or options.when_full) == "drop_oldest":
        return (
            'when_full="drop_oldest" is not for pools with a store, which loses no job: use '
            '"block", "raise" or "caller_runs"'
        )
    aging = given.get("priority_aging")
    if aging is not None:
        return (
            f"priority_aging={aging!r} is not for pools with a store, where priorities do not age: "
            "leave it out, or give urgent jobs a pool of their own"
        )
    return None


def _needs_store(options: PoolOptions, given: Given) -> str | None:
    # store=False, or None, is a decision: so tests do without the store that a program has.
    if options.store is not None or "store" in given:
        return None
    for name in _FOR_STORES:
        if given.get(name) is not None:
            shown = "…" if name == "signing_keys" else repr(given[name])  # secrets
            return (
                f"{name}={shown} has no effect in a pool without a store: give "
                'store="sqlite:///jobs.db", or store=False to do without, as in tests'
            )
    return None


def _needs_waiting(options: PoolOptions, given: Given) -> str | None:
    timeout, when_full = given.get("submit_timeout"), given.get("when_full") or options.when_full
    if timeout is not None and when_full in ("raise", "drop_oldest"):
        return (
            f"submit_timeout={timeout!r} has no effect with when_full={when_full!r}, because "
            "nobody waits for room: leave submit_timeout out, or give when_full='block'"
        )
    return None


def _needs_bound(options: PoolOptions, given: Given) -> str | None:
    # max_queue=None beside it is a decision, or passed on by a function that has both options.
    if options.max_queue is not None or "max_queue" in given:
        return None
    for name in ("when_full", "submit_timeout"):
        if given.get(name) is not None:
            return (
                f"{name}={given[name]!r} has no effect without max_queue, because the queue is "
                f"never full: give max_queue= as well, or leave {name} out"
            )
    return None


_POOL_RULES: Final = (_needs_turns, _fits_store, _needs_waiting, _needs_store, _needs_bound)


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
    unique: Annotated[Unique, as_unique] = False
    replaces: bool | Literal["time"] = False  # the option replace
    limits: tuple[Limit, ...] = ()  # that a job has to pass, besides that of its key
    after: Annotated[tuple[Any, ...], as_jobs] = ()  # that have to succeed before its jobs start
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
        problem = _needs_turns(self.options, given)
        if problem is not None:
            raise TypeError(problem)
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
    "replace": as_replace,
    **{name: POOL_CHECKS[name] for name in _SHARED},
}
TIMING_OPTIONS: Final = ("every", "cron", "daily", *RecurrenceOptions.__annotations__)


def _checked(caller: str, checks: dict[str, Check], changes: dict[str, Any]) -> dict[str, Any]:
    refuse_unknown(caller, changes, checks)
    given = changes.items()
    return {name: checks[name](name, value) for name, value in given if value is not None}
