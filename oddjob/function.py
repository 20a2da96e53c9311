"""JobFunction: what ``@pool.job`` makes of a function.

Guarantees: it looks like the function that it wraps (name, docstring, signature, ``async``), is
called like it, is bound like it, and is pickled like it, by reference.
"""

import functools
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime, time
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Protocol, Self, Unpack, overload

from oddjob.callables import describe
from oddjob.compat import P as FnP
from oddjob.compat import ParamSpec, TypeVar, override
from oddjob.compat import T as FnT
from oddjob.mapping import MapOptions
from oddjob.options import JobOptions, RecurrenceOptions
from oddjob.quantities import Seconds
from oddjob.runtime.job import Job
from oddjob.schedule.local_time import Dst
from oddjob.schedule.timer import Timer
from oddjob.scheduled import Recurring, Scheduled

if TYPE_CHECKING:
    from oddjob.submitter import Submitter

P = ParamSpec("P", default=...)
R = TypeVar("R", default=Any)  # what a plain call returns
T = TypeVar("T", default=R)  # the job's result: R, or what R, a coroutine, returns
First = TypeVar("First")
Rest = ParamSpec("Rest")
One = TypeVar("One")  # what submitting one call, or many, returns: jobs, or a timer
Many = TypeVar("Many")

# What ``inspect`` looks at to find out whether something is a function, and an async one.
_CODE_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__")


class JobFunction(Generic[P, R, T]):
    """A function that knows its pool, as ``@pool.job`` makes it.

    Call it, and it runs in the calling thread; ``submit`` it, and it runs in the pool. In a class
    it is bound to instances, like any function. Write ``@pool.job`` above ``@staticmethod`` or
    ``@classmethod``.

    In annotations, ``JobFunction[[int], bool]`` takes an int and returns a bool. For an ``async
    def`` function the third parameter is the result of its jobs:
    ``JobFunction[[str], Coroutine[Any, Any, bytes], bytes]``.

    Attributes:
        timer: the timer of a function that was decorated with ``every=`` or ``cron=``, or None.

    Thread safety: immutable; all methods may be called from any thread.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]
    timer: Timer | None

    def __init__(self, fn: Callable[P, R], target: "Submitter") -> None:
        if not (callable(fn) or isinstance(fn, staticmethod | classmethod)):
            raise TypeError(f"@pool.job decorates functions, not {fn!r}")
        functools.update_wrapper(self, fn)
        for attribute in _CODE_ATTRIBUTES:
            if hasattr(fn, attribute):
                setattr(self, attribute, getattr(fn, attribute))
        self._target = target
        self.timer = None

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function in the calling thread."""
        return self.__wrapped__(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "JobFunction[P, R, T]": ...
    @overload
    def __get__(
        self: "JobFunction[Concatenate[First, Rest], R, T]", instance: First, owner: type
    ) -> "JobFunction[Rest, R, T]": ...
    def __get__(self, instance: Any, owner: type) -> Any:
        bind = getattr(self.__wrapped__, "__get__", None)
        if bind is None:
            return self
        bound = bind(instance, owner)
        return self if bound is self.__wrapped__ else JobFunction(bound, self._target)

    @override
    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobFunction):
            return NotImplemented
        return self.__wrapped__ == other.__wrapped__ and self._target is other._target

    @override
    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    @override
    def __repr__(self) -> str:
        name = getattr(self, "__qualname__", self.__wrapped__)
        return f"<JobFunction {name} of {self._target!r}>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self

    @override
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle by reference; a ``PicklingError`` if that would find another function, or none."""
        fn: Any = self.__wrapped__
        reference: tuple[Any, tuple[Any, ...]]
        if isinstance(fn, MethodType):
            reference = getattr, (fn.__self__, fn.__name__)
        else:
            names = getattr(self, "__module__", ""), getattr(self, "__qualname__", "")
            reference = _find, names
        try:
            found = reference[0](*reference[1])
        except Exception:
            found = None
        if found != self:
            from pickle import PicklingError

            raise PicklingError(f"cannot pickle {self!r}: it is not found by its own name")
        return reference

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Queue a call and return its job; see `Pool.submit`."""
        fn: Callable[..., Any] = self.__wrapped__
        return self._target.submit(fn, *args, **kwargs)

    async def asubmit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Queue a call; wait for room without blocking the event loop; see `Pool.asubmit`."""
        fn: Callable[..., Any] = self.__wrapped__
        return await self._target.asubmit(fn, *args, **kwargs)

    def perform(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call, fire and forget; see `Pool.perform`."""
        self._target.perform(self.__wrapped__, *args, **kwargs)

    def submit_many(self, iterable: Iterable[Any]) -> list[Job[T]]:
        """Queue a call for every item and return the jobs; see `Pool.submit_many`."""
        fn: Callable[..., Any] = self.__wrapped__
        return self._target.submit_many(fn, iterable)

    def perform_many(self, iterable: Iterable[Any]) -> None:
        """Queue a call for every item; see `Pool.perform_many`."""
        fn: Callable[..., Any] = self.__wrapped__
        self._target.perform_many(fn, iterable)

    def map(self, *iterables: Iterable[Any], **options: Unpack[MapOptions]) -> Iterator[T]:
        """Iterate over the results of a call for every item; see `Pool.map`."""
        fn: Callable[..., Any] = self.__wrapped__
        return self._target.map(fn, *iterables, **options)

    def options(self, **options: Unpack[JobOptions]) -> "JobFunction[P, R, T]":
        """Return the same function with these options on every job; see `Pool.options`."""
        return JobFunction(self.__wrapped__, self._target.options(**options))

    def after(
        self, seconds: Seconds, *, daemon: bool = True
    ) -> "ScheduledFunction[P, Job[T], list[Job[T]]]":
        """Delay calls by some seconds; see `Pool.after`."""
        return ScheduledFunction(self._target.after(seconds, daemon=daemon), self.__wrapped__)

    def at(
        self, when: datetime | time, *, dst: Dst = "run_once", daemon: bool = True
    ) -> "ScheduledFunction[P, Job[T], list[Job[T]]]":
        """Delay calls until a time on the wall clock; see `Pool.at`."""
        return ScheduledFunction(self._target.at(when, dst=dst, daemon=daemon), self.__wrapped__)

    def every(
        self, seconds: Seconds, *, overlap: bool = False, daemon: bool = True
    ) -> "ScheduledFunction[P, Timer, Timer]":
        """Repeat calls at an interval; see `Pool.every`."""
        recurring = self._target.every(seconds, overlap=overlap, daemon=daemon)
        return ScheduledFunction(recurring, self.__wrapped__)

    def cron(
        self, expression: str, **options: Unpack[RecurrenceOptions]
    ) -> "ScheduledFunction[P, Timer, Timer]":
        """Repeat calls at the times of a crontab entry; see `Pool.cron`."""
        return ScheduledFunction(self._target.cron(expression, **options), self.__wrapped__)


class ScheduledFunction(Generic[FnP, One, Many]):
    """Calls of one function that are made later: what ``fn.after(…)``, ``fn.cron(…)`` return.

    Its methods are those of `Delayed` or `Recurring`, without the function.

    Thread safety: immutable; all methods may be called from any thread.
    """

    def __init__(self, scheduled: Scheduled, fn: Callable[..., Any]) -> None:
        self._scheduled: Any = scheduled
        self._fn = fn

    @override
    def __repr__(self) -> str:
        return f"<{getattr(self._fn, '__qualname__', self._fn)} {self._scheduled!r}>"

    def submit(self, /, *args: FnP.args, **kwargs: FnP.kwargs) -> One:
        """Queue a call when the time has come; return its job, or the timer if it recurs."""
        submitted: One = self._scheduled.submit(self._fn, *args, **kwargs)
        return submitted

    def perform(self, /, *args: FnP.args, **kwargs: FnP.kwargs) -> Timer:
        """Queue a call when the time has come, fire and forget; return the timer."""
        timer: Timer = self._scheduled.perform(self._fn, *args, **kwargs)
        return timer

    def submit_many(self, iterable: Iterable[Any]) -> Many:
        """Queue a call for every item when the time has come; return the jobs, or the timer."""
        submitted: Many = self._scheduled.submit_many(self._fn, iterable)
        return submitted

    def perform_many(self, iterable: Iterable[Any]) -> Timer:
        """Queue a call for every item when the time has come, fire and forget."""
        timer: Timer = self._scheduled.perform_many(self._fn, iterable)
        return timer


class JobDecorator(Protocol):
    """``@pool.job(…)`` with its options, before it is given the function."""

    @overload
    def __call__(
        self, fn: Callable[FnP, Coroutine[Any, Any, FnT]], /
    ) -> JobFunction[FnP, Coroutine[Any, Any, FnT], FnT]: ...
    @overload
    def __call__(self, fn: Callable[FnP, FnT], /) -> JobFunction[FnP, FnT, FnT]: ...


def job_decorator(target: "Submitter", timing: dict[str, Any]) -> JobDecorator:
    """Do what `Pool.job` says, with the options of its jobs in `target`."""
    recurring = _recurring(target, **timing)

    def decorate(fn: Any) -> JobFunction[Any, Any, Any]:
        function: JobFunction[Any, Any, Any] = JobFunction(fn, target)
        if isinstance(target._key, str) or recurring is not None:
            _check_parameters(fn, target._key, is_recurring=recurring is not None)
        if recurring is not None:
            function.timer = recurring.perform(fn)
        return function

    return decorate


def _recurring(target: "Submitter", *, every: Any, cron: Any, **options: Any) -> Recurring | None:
    """Return what calls a function decorated with ``every=`` or ``cron=``; None without these."""
    options = {name: value for name, value in options.items() if value is not None}
    if every is not None and cron is not None:
        raise TypeError("a job recurs at an interval or by cron: give either every= or cron=")
    if cron is not None:
        return target.cron(cron, **options)
    cron_only = sorted(options.keys() & {"tz", "dst", "catch_up"})
    if cron_only:
        raise TypeError(f"{', '.join(cron_only)}: of use with cron= only")
    if every is not None:
        return target.every(every, **options)
    if options:
        raise TypeError(f"{', '.join(options)}: of use with every= or cron= only")
    return None


def _check_parameters(fn: Any, key: object, *, is_recurring: bool) -> None:
    """Refuse a recurring function that needs arguments, and a key that is a parameter's name.

    With ``key="customer"`` all jobs would have one key, and run one after the other.
    """
    from inspect import Signature, signature

    try:
        found = signature(fn.__func__ if isinstance(fn, staticmethod | classmethod) else fn)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    if isinstance(key, str) and key in found.parameters:
        bare = [each.replace(annotation=each.empty) for each in found.parameters.values()]
        raise ValueError(
            f"key={key!r} is the same key for all calls, but {describe(fn)} has a parameter of "
            f"that name; did you mean key=lambda {str(Signature(bare))[1:-1]}: {key}?"
        )
    if is_recurring:
        try:
            found.bind()
        except TypeError as error:
            raise TypeError(f"a job that recurs is called without arguments: {error}") from error


def _find(module: str, qualname: str) -> Any:
    """Return what a pickle refers to."""
    __import__(module)
    return functools.reduce(getattr, qualname.split("."), sys.modules[module])
