"""JobFunction: a function that knows the pool it runs in."""

import functools
from collections.abc import Callable, Coroutine, Iterable, Iterator
from datetime import datetime, time, tzinfo
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from oddjob.job import Job
from oddjob.later import FunctionLater, FunctionRegularly, Later, Regularly
from oddjob.schedule.local import Dst
from oddjob.terms import JobOptions
from oddjob.timer import Timer

__all__ = ["JobDecorator", "JobFunction", "Target"]

P = ParamSpec("P")
R = TypeVar("R")  # what a plain call returns
T = TypeVar("T")  # what the job's result is: R, or what R, a coroutine, returns
Rest = ParamSpec("Rest")
First = TypeVar("First")

# What ``inspect`` goes by when it asks whether something is a function, and an async one.
_DETAILS = ("__code__", "__defaults__", "__kwdefaults__")


class Target(Protocol):
    """Where a JobFunction sends its calls: a pool, or a view of one."""

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue a call."""

    async def asubmit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue a call, waiting for room in the event loop."""

    def submit_many(self, fn: Callable[[Any], Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue a call for every item."""

    def perform(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        """Queue a call that nobody waits for."""

    def perform_many(self, fn: Callable[[Any], Any], iterable: Iterable[Any]) -> None:
        """Queue a call for every item, with nobody waiting."""

    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[Any]:
        """Queue a call for every item and iterate over the results."""

    def options(self, **options: Unpack[JobOptions]) -> "Target":
        """The same with options on every job."""

    def after(self, seconds: float, *, daemon: bool = True) -> Later:
        """Have calls come in so many seconds."""

    def at(self, when: datetime | time, *, dst: Dst = "run_once", daemon: bool = True) -> Later:
        """Have calls come at a time on the wall clock."""

    def every(self, seconds: float, *, overlap: bool = False, daemon: bool = True) -> Regularly:
        """Have calls come again and again."""

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        dst: Dst = "run_once",
        catch_up: bool = True,
        overlap: bool = False,
        daemon: bool = True,
    ) -> Regularly:
        """Have calls come as an entry of a crontab says."""


class JobFunction(Generic[P, R, T]):
    """What ``@pool.job`` makes of a function.

    Call it and it runs here and now; ``submit`` it and it runs in the pool. On a class it behaves
    as the function would: looked up on an instance it is bound. On static and class methods write
    ``@pool.job`` above ``@staticmethod`` or ``@classmethod``.

    Thread safety: immutable; every method may be called from any thread.
    """

    __name__: str
    __qualname__: str
    __wrapped__: Callable[P, R]
    timer: Timer | None = None  # what runs it by itself, if something does

    def __init__(self, fn: Callable[P, R], target: Target) -> None:
        if not (callable(fn) or isinstance(fn, staticmethod | classmethod)):
            raise TypeError(f"@pool.job decorates functions, not {fn!r}")
        functools.update_wrapper(self, fn)
        for detail in _DETAILS:
            if hasattr(fn, detail):
                setattr(self, detail, getattr(fn, detail))
        self._target = target

    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R:
        """Call the function here and now."""
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

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, JobFunction):
            return NotImplemented
        return self.__wrapped__ == other.__wrapped__ and self._target is other._target

    def __hash__(self) -> int:
        return hash(self.__wrapped__)

    def __repr__(self) -> str:
        return (
            f"<JobFunction {getattr(self, '__qualname__', self.__wrapped__)} of {self._target!r}>"
        )

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Queue a call and return its job; see `Pool.submit`."""
        return self._target.submit(self.__wrapped__, *args, **kwargs)

    async def asubmit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Queue a call, waiting for room without holding up the event loop; see `Pool.asubmit`."""
        return await self._target.asubmit(self.__wrapped__, *args, **kwargs)

    def perform(self, /, *args: P.args, **kwargs: P.kwargs) -> None:
        """Queue a call, fire and forget; see `Pool.perform`."""
        self._target.perform(self.__wrapped__, *args, **kwargs)

    def submit_many(self, iterable: Iterable[Any]) -> list[Job[T]]:
        """Queue a call for every item, in one insertion; see `Pool.submit_many`."""
        return self._target.submit_many(self.__wrapped__, iterable)

    def perform_many(self, iterable: Iterable[Any]) -> None:
        """Queue a call for every item, fire and forget; see `Pool.perform_many`."""
        self._target.perform_many(self.__wrapped__, iterable)

    def map(
        self,
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        progress: bool = False,
    ) -> Iterator[T]:
        """Iterate over the results of a call for every item; see `Pool.map`."""
        return self._target.map(
            self.__wrapped__,
            *iterables,
            timeout=timeout,
            chunksize=chunksize,
            buffersize=buffersize,
            progress=progress,
        )

    def options(self, **options: Unpack[JobOptions]) -> "JobFunction[P, R, T]":
        """The same function with options on every job; see `Pool.options`."""
        return JobFunction(self.__wrapped__, self._target.options(**options))

    def after(self, seconds: float, *, daemon: bool = True) -> FunctionLater[P, T]:
        """Have calls come in so many seconds; see `Pool.after`."""
        return FunctionLater(self._target.after(seconds, daemon=daemon), self.__wrapped__)

    def at(
        self, when: datetime | time, *, dst: Dst = "run_once", daemon: bool = True
    ) -> FunctionLater[P, T]:
        """Have calls come at a time on the wall clock; see `Pool.at`."""
        return FunctionLater(self._target.at(when, dst=dst, daemon=daemon), self.__wrapped__)

    def every(
        self, seconds: float, *, overlap: bool = False, daemon: bool = True
    ) -> FunctionRegularly[P]:
        """Have calls come again and again; see `Pool.every`."""
        regularly = self._target.every(seconds, overlap=overlap, daemon=daemon)
        return FunctionRegularly(regularly, self.__wrapped__)

    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        dst: Dst = "run_once",
        catch_up: bool = True,
        overlap: bool = False,
        daemon: bool = True,
    ) -> FunctionRegularly[P]:
        """Have calls come as an entry of a crontab says; see `Pool.cron`."""
        regularly = self._target.cron(
            expression, tz=tz, dst=dst, catch_up=catch_up, overlap=overlap, daemon=daemon
        )
        return FunctionRegularly(regularly, self.__wrapped__)


class JobDecorator:
    """``@pool.job(...)`` with its options, waiting for the function."""

    def __init__(
        self, target: Target, begin: Callable[[Callable[..., Any]], Timer] | None = None
    ) -> None:
        self._target = target
        self._begin = begin  # for a function that is to run by itself

    @overload
    def __call__(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /
    ) -> JobFunction[P, Coroutine[Any, Any, T], T]: ...
    @overload
    def __call__(self, fn: Callable[P, T], /) -> JobFunction[P, T, T]: ...
    def __call__(self, fn: Any, /) -> Any:
        """Make the function a `JobFunction`."""
        function: JobFunction[Any, Any, Any] = JobFunction(fn, self._target)
        if self._begin is not None:
            function.timer = self._begin(fn)
        return function
