"""Terms: what can be agreed on for single jobs, by ``options()``, and the kinds of job it makes."""

import math
from collections.abc import Callable
from enum import Enum
from functools import lru_cache, partial
from typing import Any, Final, NamedTuple, TypedDict

from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.keys import Key, check_key
from oddjob.limited import (
    KeyedErrand,
    KeyedJob,
    LimitedErrand,
    LimitedJob,
    SerialErrand,
    SerialJob,
    kind_with,
    with_key,
    with_key_found,
)
from oddjob.limits import ANY_TIME, Ceiling, Gate, Line, Meter
from oddjob.managed import ManagedErrand, ManagedJob
from oddjob.rate import Rate, as_rate
from oddjob.retry import Retries, as_delays
from oddjob.rules import Rules
from oddjob.settings import (
    Delays,
    Exceptions,
    PoolOptions,
    check_count,
    check_delays,
    check_exceptions,
    check_flag,
    check_name,
    check_priority,
    check_rate,
    check_size,
    check_timeout,
)

__all__ = ["JobOptions", "NewJob", "OtherOptions", "Terms", "tells_key"]

NewJob = Callable[..., Job[Any]]


class OtherOptions(TypedDict, total=False):
    """The keyword arguments of ``options()`` besides the key."""

    name: str | None
    timeout: float | None
    priority: int | None
    key_limit: int | None
    serial: bool | None
    max_concurrency: int | None
    rate: Rate | str | None
    retries: int | None
    backoff: Delays | None
    retry_on: Exceptions | None
    give_up_on: Exceptions | None


class JobOptions(OtherOptions, total=False):
    """The keyword arguments of ``job()``."""

    key: Key | Callable[..., Key] | None


class Terms(NamedTuple):
    """What every job submitted in one place has in common; None where nothing was agreed on."""

    name: str | None = None
    timeout: float | None = None
    priority: int | None = None
    key: Key | Callable[..., Key] | None = None
    key_limit: int | None = None
    serial: bool | None = None
    max_concurrency: Ceiling | None = None
    rate: Meter | None = None
    retries: int | None = None
    backoff: Delays | None = None
    retry_on: Exceptions | None = None
    give_up_on: Exceptions | None = None
    pool_rate: Meter | None = None

    @classmethod
    def of_pool(cls, options: PoolOptions) -> "Terms":
        """What is agreed on for all jobs of a pool."""
        return cls(
            timeout=options.timeout,
            key_limit=options.key_limit,
            retries=options.retries,
            backoff=options.backoff,
            retry_on=options.retry_on,
            give_up_on=options.give_up_on,
            pool_rate=None if options.rate is None else Meter(as_rate(options.rate)),
        )

    def but(self, **changes: Any) -> "Terms":
        """The same with changes; None leaves a value as it is.

        A limit that is given is a new one, shared by all that is derived from this.

        Raises:
            TypeError: there is no such option, or its value is of the wrong type.
            ValueError: a value is out of range.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        for key in changes:
            if key not in _CHECKS:
                raise TypeError(
                    f"options() got an unexpected keyword argument {key!r}; {_hint(key)}"
                )
        for key, value in given.items():
            _CHECKS[key](key, value)
        if "max_concurrency" in given:
            given["max_concurrency"] = Ceiling(given["max_concurrency"])
        if "rate" in given:
            given["rate"] = Meter(as_rate(given["rate"]))
        return self._replace(**given)

    def needs_order(self) -> bool:
        """Whether the queue has to be put in order by more than arrival."""
        return bool(self.priority or self.key is not None or self.retries or self._gates())

    def kinds(self) -> tuple[NewJob, NewJob]:
        """What makes the jobs: those with a result, and those that nobody waits for."""
        if self.serial and self.key is None:
            return _refuse_serial, _refuse_serial
        if self.key is None:
            is_plain = not (self.needs_order() or self.is_managed())
            return (Job, FireAndForget) if is_plain else self._kinds(has_key=False)
        make = with_key_found if tells_key(self.key) else with_key
        job, errand = self.kinds_by_key()
        return partial(make, job, self.key), partial(make, errand, self.key)

    def kinds_by_key(self) -> tuple[NewJob, NewJob]:
        """The same for jobs whose ``key`` is set by whoever makes them."""
        return self._kinds(has_key=True)

    def _kinds(self, *, has_key: bool) -> tuple[NewJob, NewJob]:
        common = self._replace(name=None, key=None)
        try:
            # A limit is its users' own, and not to be kept here.
            return (_make_kinds if common._gates() else _kinds_of)(common, has_key)
        except TypeError:  # something in it has no hash
            return _make_kinds(common, has_key)

    def is_managed(self) -> bool:
        """Whether runs are watched over."""
        return bool(self.retries) or self.timeout not in (None, math.inf)

    def rules(self) -> Rules:
        """The same, ready for use."""
        return Rules(
            key_limit=1 if self.serial else self.key_limit or 1,
            serial=bool(self.serial),
            line=self._line(),
            timeout=None if self.timeout == math.inf else self.timeout,
            retries=Retries(
                limit=self.retries or 0,
                delays=as_delays(self.backoff),
                retry_on=_as_tuple(self.retry_on),
                give_up_on=_as_tuple(self.give_up_on),
            ),
        )

    def _line(self) -> Line:
        gates = self._gates()
        return Line(self.priority or 0, gates) if self.priority or gates else ANY_TIME

    def _gates(self) -> tuple[Gate, ...]:
        # Ceilings first: what they stop must not have been counted as a start.
        gates = (self.max_concurrency, self.rate, self.pool_rate)
        return tuple(gate for gate in gates if gate is not None)

    def told_apart_from(self, other: "Terms") -> str:
        """What differs, for people."""
        pairs = zip(self._fields, self, other, strict=True)
        return ", ".join(f"{key}={mine!r}" for key, mine, its in pairs if mine != its)


def tells_key(key: object) -> bool:
    """Whether it is no key, but a function that tells it from a job's arguments."""
    return callable(key) and not isinstance(key, Enum)


def _make_kinds(terms: Terms, has_key: bool) -> tuple[NewJob, NewJob]:
    rules = terms.rules()
    if terms.is_managed():
        common = {} if has_key else {"key": None}
        return kind_with(rules, ManagedJob, **common), kind_with(rules, ManagedErrand, **common)
    if not has_key:
        return kind_with(rules, LimitedJob), kind_with(rules, LimitedErrand)
    if terms.serial:
        return kind_with(rules, SerialJob), kind_with(rules, SerialErrand)
    return kind_with(rules, KeyedJob), kind_with(rules, KeyedErrand)


# Views are often made for one job each, and from the same terms.
_kinds_of: Final = lru_cache(maxsize=128)(_make_kinds)


def _as_tuple(classes: Any) -> tuple[type[BaseException], ...]:
    return classes if isinstance(classes, tuple) else (classes,)


def _hint(unknown: str) -> str:
    from difflib import get_close_matches  # only on the way to an error

    near = get_close_matches(unknown, _CHECKS, n=1)
    return f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(_CHECKS)}"


def _refuse_serial(*_: object) -> Job[Any]:
    raise TypeError("serial=True needs a key: it tells which jobs are to wait for each other")


def _check_key(name: str, value: object) -> None:
    del name  # the error says it
    if not tells_key(value):
        check_key(value)


_CHECKS: Final[dict[str, Callable[[str, object], object]]] = {
    "name": check_name,
    "timeout": check_timeout,
    "priority": check_priority,
    "key": _check_key,
    "key_limit": check_size,
    "serial": check_flag,
    "max_concurrency": check_size,
    "rate": check_rate,
    "retries": check_count,
    "backoff": check_delays,
    "retry_on": check_exceptions,
    "give_up_on": check_exceptions,
}
