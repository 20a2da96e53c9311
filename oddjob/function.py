"""JobFunction: a function that knows the pool it runs in."""

import functools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Concatenate, Generic, ParamSpec, Protocol, TypeVar, Unpack, overload

from oddjob.job import Job
from oddjob.terms import JobOptions

__all__ = ["JobFunction", "Target"]

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
