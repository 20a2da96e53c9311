"""JobFunction: what ``@pool.job`` makes of a function.

Guarantees: it looks like the function that it wraps (name, docstring, signature, ``async``), is
called like it, is bound like it, and is pickled like it, by reference.
"""

import functools
import sys
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime, time
from types import MethodType
from typing import TYPE_CHECKING, Any, Concatenate, Generic, Self, Unpack, overload

from oddjob.compat import P as FnP
from oddjob.compat import ParamSpec, TypeVar, override
from oddjob.compat import T as FnT
from oddjob.hints import HintedAttributes, hinted, missing_attribute
from oddjob.mapping import MapOptions
from oddjob.options import JobOptions, RecurrenceOptions
from oddjob.quantities import Seconds
from oddjob.runtime.job import Job
from oddjob.schedule.local_time import Dst
from oddjob.schedule.timer import Timer
from oddjob.workflow import Call

if TYPE_CHECKING:
    import sqlite3

    from oddjob.submitter import Submitter

P = ParamSpec("P", default=...)
R_co = TypeVar("R_co", default=Any, covariant=True)  # what a plain call returns
V = TypeVar("V")  # what the coroutine of an ``async def`` function returns
First = TypeVar("First")
Rest = ParamSpec("Rest")
One = TypeVar("One")  # what submitting one call returns, and many, and performing: jobs, or a timer
Many = TypeVar("Many")
Performed = TypeVar("Performed")

# What ``inspect`` looks at to find out whether something is a function, and an async one.
_CODE_ATTRIBUTES = ("__code__", "__defaults__", "__kwdefaults__")


class TargetedFunction(HintedAttributes, Generic[FnP, One, Many, Performed]):
    """A function, and the target to which its calls go: a pool, or what ``pool.after(…)`` returns.

    ``fn.after(…)``, ``fn.every(…)`` and the like return one whose calls set timers.
    """

    __wrapped__: Callable[..., Any]

    def __init__(self, fn: Callable[..., Any], target: Any) -> None:
        self.__wrapped__ = fn
        self._target = target

    @override
    def __repr__(self) -> str:
        name = getattr(self.__wrapped__, "__qualname__", self.__wrapped__)
        return f"<{type(self).__name__} {name} of {self._target!r}>"

    def submit(self, /, *args: FnP.args, **kwargs: FnP.kwargs) -> One:
        """Queue a call; return its job, or the timer if it recurs. See `Pool.submit`."""
        submitted: One = self._target.submit(self.__wrapped__, *args, **kwargs)
        return submitted

    def perform(self, /, *args: FnP.args, **kwargs: FnP.kwargs) -> Performed:
        """Queue a call, fire and forget; return the timer, if any. See `Pool.perform`."""
        performed: Performed = self._target.perform(self.__wrapped__, *args, **kwargs)
        return performed

    def submit_many(self, iterable: Iterable[Any]) -> Many:
        """Queue a call for every item; return the jobs, or the timer. See `Pool.submit_many`."""
        submitted: Many = self._target.submit_many(self.__wrapped__, iterable)
        return submitted

    def perform_many(self, iterable: Iterable[Any]) -> Performed:
        """Queue a call for every item, fire and forget; see `Pool.perform_many`."""
        performed: Performed = self._target.perform_many(self.__wrapped__, iterable)
        return performed


DelayedFunction = TargetedFunction[FnP, Job[FnT], list[Job[FnT]], Timer]
RecurringFunction = TargetedFunction[FnP, Timer, Timer, Timer]


class JobFunction(TargetedFunction[P, Any, Any, None], Generic[P, R_co]):
    """A function that knows its pool, as ``@pool.job`` makes it.

    Call it, and it runs in the calling thread; ``submit`` it, and it runs in the pool. In a class
    it is bound to instances, like any function. Write ``@pool.job`` above ``@staticmethod`` or
    ``@classmethod``.

    In annotations, ``JobFunction[[int], bool]`` takes an int and returns a bool. An ``async def``
    function returns a coroutine: ``JobFunction[[str], Coroutine[Any, Any, bytes]]``. (For mypy, let
    methods return their class by its name: it does not know what ``Self`` is here.)

    Attributes:
        timer: the timer of a function decorated with ``every=``, ``cron=`` or ``daily=``, or None.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R_co]
    timer: Timer | None

    def __init__(self, fn: Callable[P, R_co], target: "Submitter") -> None:
        if not (callable(fn) or isinstance(fn, staticmethod | classmethod)):
            raise TypeError(f"@pool.job decorates functions, not {fn!r}")
        functools.update_wrapper(self, fn)
        super().__init__(fn, target)
        for attribute in _CODE_ATTRIBUTES:
            if hasattr(fn, attribute):
                setattr(self, attribute, getattr(fn, attribute))
        self.timer = None

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Evaluate annotations when they are asked for, as CPython 3.14 does."""
            if name != "__annotations__":
                raise missing_attribute(self, f"{type(self).__name__!r} object", name)
            return self.__wrapped__.__annotations__

        if sys.version_info < (3, 13):

            def __class_getitem__(cls, parameters: Any) -> Any:
                """Fill in the default of the result, which `typing` does from 3.13 on."""
                is_whole = isinstance(parameters, tuple)
                return super().__class_getitem__(parameters if is_whole else (parameters, Any))

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R_co:
        """Call the function in the calling thread."""
        return self.__wrapped__(*args, **kwargs)

    @overload
    def __get__(self, instance: None, owner: type) -> "JobFunction[P, R_co]": ...
    @overload
    def __get__(
        self: "JobFunction[Concatenate[First, Rest], R_co]", instance: First, owner: type
    ) -> "JobFunction[Rest, R_co]": ...
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

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "JobFunction[P, R_co]":
        if not isinstance(self.__wrapped__, MethodType):
            return self
        from copy import deepcopy

        return JobFunction(deepcopy(self.__wrapped__, memo), self._target)

    @override
    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        """Pickle by reference; a ``PicklingError`` if that would find another function, or none."""
        from pickle import PicklingError
        from pkgutil import resolve_name

        fn: Any = self.__wrapped__
        find: Callable[..., Any] = resolve_name
        path: tuple[Any, ...] = (f"{self.__module__}:{getattr(self, '__qualname__', '')}",)
        if isinstance(fn, MethodType):
            find, path = getattr, (fn.__self__, fn.__name__)
        try:
            found = find(*path)
        except Exception:
            found = None
        if found != self:
            raise PicklingError(f"cannot pickle {self!r}: it is not found by its own name")
        return find, path

    # Overloads by the function's return type: of an overloaded decorator, mypy would take a generic
    # function, or one that returns Any, for an ``async def`` one (python/mypy#11816).

    @overload
    def submit(self: "_AsyncJobFunction[P, V]", /, *args: P.args, **kwargs: P.kwargs) -> Job[V]: ...
    @overload
    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]: ...
    @override
    def submit(self, /, *args: Any, **kwargs: Any) -> Any:
        """Queue a call and return its job; see `Pool.submit`."""
        return self._target.submit(self.__wrapped__, *args, **kwargs)

    @overload
    def submit_many(self: "_AsyncJobFunction[P, V]", iterable: Iterable[Any]) -> list[Job[V]]: ...
    @overload
    def submit_many(self, iterable: Iterable[Any]) -> list[Job[R_co]]: ...
    @override
    def submit_many(self, iterable: Iterable[Any]) -> Any:
        """Queue a call for every item and return the jobs; see `Pool.submit_many`."""
        return self._target.submit_many(self.__wrapped__, iterable)

    @overload
    async def asubmit(
        self: "_AsyncJobFunction[P, V]", /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[V]: ...
    @overload
    async def asubmit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[R_co]: ...
    async def asubmit(self, /, *args: Any, **kwargs: Any) -> Any:
        """Queue a call; wait for room without blocking the event loop; see `Pool.asubmit`."""
        return await self._target.asubmit(self.__wrapped__, *args, **kwargs)

    @overload
    def map(
        self: "_AsyncJobFunction[P, V]",
        *iterables: Iterable[Any],
        **options: Unpack[MapOptions],
    ) -> Iterator[V]: ...
    @overload
    def map(self, *iterables: Iterable[Any], **options: Unpack[MapOptions]) -> Iterator[R_co]: ...
    @overload
    def map(
        self, *iterables: Iterable[Any], return_exceptions: bool, **options: Unpack[MapOptions]
    ) -> Iterator[Any]: ...
    def map(self, *iterables: Iterable[Any], **options: Any) -> Iterator[Any]:
        """Iterate over the results of a call for every item; see `Pool.map`."""
        results: Iterator[Any] = self._target.map(self.__wrapped__, *iterables, **options)
        return results

    @overload
    def starmap(
        self: "_AsyncJobFunction[P, V]",
        iterable: Iterable[Iterable[Any]],
        **options: Unpack[MapOptions],
    ) -> Iterator[V]: ...
    @overload
    def starmap(
        self, iterable: Iterable[Iterable[Any]], **options: Unpack[MapOptions]
    ) -> Iterator[R_co]: ...
    @overload
    def starmap(
        self,
        iterable: Iterable[Iterable[Any]],
        *,
        return_exceptions: bool,
        **options: Unpack[MapOptions],
    ) -> Iterator[Any]: ...
    def starmap(self, iterable: Iterable[Iterable[Any]], **options: Any) -> Iterator[Any]:
        """Iterate over the results of a call for each tuple of arguments; see `Pool.starmap`."""
        results: Iterator[Any] = self._target.starmap(self.__wrapped__, iterable, **options)
        return results

    def s(self, /, *args: Any, **kwargs: Any) -> Call:
        """Return a call for `Pool.chain` and `Pool.batch`; nothing is submitted."""
        call: Call = self._target.s(self.__wrapped__, *args, **kwargs)
        return call

    def options(self, **options: Unpack[JobOptions]) -> "JobFunction[P, R_co]":
        """Return the same function with these options on every job; see `Pool.options`."""
        return JobFunction(self.__wrapped__, self._target.options(**options))

    def using(self, connection: "sqlite3.Connection") -> "JobFunction[P, R_co]":
        """Return the same function with jobs in your own transaction; see `Pool.using`."""
        return JobFunction(self.__wrapped__, self._target.using(connection))

    @overload
    def after(
        self: "_AsyncJobFunction[P, V]", seconds: Seconds, *, daemon: bool = True
    ) -> DelayedFunction[P, V]: ...
    @overload
    def after(self, seconds: Seconds, *, daemon: bool = True) -> DelayedFunction[P, R_co]: ...
    @hinted
    def after(self, seconds: Seconds, *, daemon: bool = True) -> Any:
        """Delay calls by some seconds; see `Pool.after`."""
        return TargetedFunction(self.__wrapped__, self._target.after(seconds, daemon=daemon))

    @overload
    def at(
        self: "_AsyncJobFunction[P, V]",
        when: datetime | time | str,
        *,
        dst: Dst = "run_once",
        daemon: bool = True,
    ) -> DelayedFunction[P, V]: ...
    @overload
    def at(
        self, when: datetime | time | str, *, dst: Dst = "run_once", daemon: bool = True
    ) -> DelayedFunction[P, R_co]: ...
    @hinted
    def at(self, when: datetime | time | str, *, dst: Dst = "run_once", daemon: bool = True) -> Any:
        """Delay calls until a time on the wall clock; see `Pool.at`."""
        return TargetedFunction(self.__wrapped__, self._target.at(when, dst=dst, daemon=daemon))

    @hinted
    def every(
        self,
        seconds: Seconds,
        *,
        jitter: Seconds = 0.0,
        overlap: bool = False,
        daemon: bool = True,
    ) -> RecurringFunction[P]:
        """Repeat calls at an interval; see `Pool.every`."""
        recurring = self._target.every(seconds, jitter=jitter, overlap=overlap, daemon=daemon)
        return TargetedFunction(self.__wrapped__, recurring)

    def cron(self, expression: str, **options: Unpack[RecurrenceOptions]) -> RecurringFunction[P]:
        """Repeat calls at the times of a crontab entry; see `Pool.cron`."""
        return TargetedFunction(self.__wrapped__, self._target.cron(expression, **options))

    def daily(self, when: time | str, **options: Unpack[RecurrenceOptions]) -> RecurringFunction[P]:
        """Repeat calls every day at a time; see `Pool.daily`."""
        return TargetedFunction(self.__wrapped__, self._target.daily(when, **options))


if TYPE_CHECKING:
    _AsyncJobFunction = JobFunction[FnP, Coroutine[Any, Any, V]]
