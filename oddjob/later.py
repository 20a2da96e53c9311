"""Later: what ``pool.after(5)`` and its like return, for the calls that are to come then."""

from collections.abc import Callable, Coroutine, Iterable, Sequence
from contextvars import Context, copy_context
from datetime import datetime, time, tzinfo
from functools import partial
from math import inf
from typing import Any, Generic, NamedTuple, ParamSpec, Protocol, TypeVar, overload

from oddjob.job import Job
from oddjob.limited import with_key, with_key_found
from oddjob.schedule.cron import Cron
from oddjob.schedule.local import Dst
from oddjob.schedule.plans import After, At, Every, OnCron, Plan
from oddjob.settings import check_flag
from oddjob.timer import Host, Timer
from oddjob.work import OF_BATCH

__all__ = ["FunctionLater", "FunctionRegularly", "Later", "Regularly", "Schedules", "regularly"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Item = TypeVar("Item")
NewJob = Callable[..., Job[Any]]


class Source(Protocol):
    """Where jobs are made: a pool, or a view of one."""

    _workforce: Any
    _job_name: str | None
    _new_job: NewJob
    _new_errand: NewJob


class _Binder:
    """A plan for calls that are to come to a pool.

    Thread safety: may be used from any thread, and again and again: each call is a timer of its
    own, which counts from then.
    """

    def __init__(
        self, plan: Callable[[], Plan], source: Source, *, daemon: bool, overlap: bool = False
    ) -> None:
        check_flag("daemon", daemon)
        check_flag("overlap", overlap)
        self._plan = plan
        self._source = source
        self._how = {"keeps_process": not daemon, "overlap": overlap}
        plan().first()  # what is wrong with it is said here

    def __repr__(self) -> str:
        return f"<{self._plan()!r}, {self._source!r}>"

    def _timer(self, calls: "_Calls") -> Timer:
        workforce: Host = self._source._workforce
        return Timer(self._plan(), self._source, workforce, calls.jobs, **self._how)

    def _calls(
        self, new: NewJob, calls: Sequence[Any], kwargs: Any, fn: Callable[..., Any]
    ) -> "_Calls":
        """What makes the jobs of these calls."""
        return _Calls(self._source, [new] * len(calls), fn, calls, kwargs, copy_context())


class _Calls(NamedTuple):
    """Makes the jobs of some calls."""

    source: Source
    new: Sequence[NewJob]
    fn: Callable[..., Any]
    calls: Sequence[Any]
    kwargs: Any
    context: Context

    def jobs(self) -> list[Job[Any]]:
        """Make them."""
        fn, kwargs, context = self.fn, self.kwargs, self.context
        workforce, name = self.source._workforce, self.source._job_name
        return [
            # A batch copies the context itself.
            new(fn, call, kwargs, context if kwargs is OF_BATCH else context.copy(), workforce,
                name, inf)
            for new, call in zip(self.new, self.calls, strict=True)
        ]  # fmt: skip

    def with_keys_told(self) -> "_Calls":
        """The same, with functions that tell keys having done so: they may fail, or take long."""
        new = [
            partial(with_key, each.args[0], job.key)
            if isinstance(each, partial) and each.func is with_key_found
            else each
            for each, job in zip(self.new, self.jobs(), strict=True)
        ]
        return self._replace(new=new)


class Later(_Binder):
    """Calls that are to come once: what ``pool.after(…)`` and ``pool.at(…)`` return."""

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Job[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue ``fn(*args, **kwargs)`` when the time has come, and return its job now.

        The job is pending until it has run; ``cancel()`` takes it back and leaves nothing behind.
        The call sees a copy of the context variables as they are now.

        Raises:
            PoolClosed: the pool, or the interpreter, has been shut down.
            PoolBroken: its workers kept crashing.
            ValueError: the time, of an `at`, is past by now.
        """
        return self._timer(self._calls(self._source._new_job, [args], kwargs or None, fn)).jobs[0]

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` when the time has come, fire and forget.

        Returns the `Timer`, which can be read and cancelled. Raises like `submit`.
        """
        return self._timer(self._calls(self._source._new_errand, [args], kwargs or None, fn))

    @overload
    def submit_many(
        self, fn: Callable[[Item], Coroutine[Any, Any, T]], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item, in one insertion, when the time has come.

        Returns their jobs now, in that order. Raises like `submit`.
        """
        items = list(iterable)
        return self._timer(self._calls(self._source._new_job, items, OF_BATCH, fn)).jobs

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item when the time has come, fire and forget.

        Returns one `Timer` for all. Raises like `submit`.
        """
        items = list(iterable)
        return self._timer(self._calls(self._source._new_errand, items, OF_BATCH, fn))


class Regularly(_Binder):
    """Calls that are to come again and again: what ``pool.every(…)`` and ``pool.cron(…)`` return.

    Each of these returns a `Timer`, which goes on until it is cancelled or the pool is closed. A
    time at which the jobs of the time before have not ended is left out, and counted in ``missed``,
    unless they are to overlap. The calls see the context variables as they are now.

    All of them raise what `Later.submit` raises.
    """

    def _calls(
        self, new: NewJob, calls: Sequence[Any], kwargs: Any, fn: Callable[..., Any]
    ) -> _Calls:
        return super()._calls(new, calls, kwargs, fn).with_keys_told()

    def submit(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` each time; ``timer.jobs`` is the job of the last time."""
        return self._timer(self._calls(self._source._new_job, [args], kwargs or None, fn))

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` each time, fire and forget: a failure is logged."""
        return self._timer(self._calls(self._source._new_errand, [args], kwargs or None, fn))

    def submit_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item, in one insertion, each time."""
        items = list(iterable)
        return self._timer(self._calls(self._source._new_job, items, OF_BATCH, fn))

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item each time, fire and forget."""
        items = list(iterable)
        return self._timer(self._calls(self._source._new_errand, items, OF_BATCH, fn))


class FunctionLater(Generic[P, T]):
    """Calls of one function that are to come once: what ``fn.after(…)`` returns; see `Later`."""

    def __init__(self, later: Later, fn: Callable[..., Any]) -> None:
        self._later = later
        self._fn = fn

    def __repr__(self) -> str:
        return f"<{getattr(self._fn, '__qualname__', self._fn)} {self._later!r}>"

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Job[T]:
        """Queue a call when the time has come, and return its job now; see `Later.submit`."""
        return self._later.submit(self._fn, *args, **kwargs)

    def perform(self, /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue a call when the time has come, fire and forget; see `Later.perform`."""
        return self._later.perform(self._fn, *args, **kwargs)

    def submit_many(self, iterable: Iterable[Any]) -> list[Job[T]]:
        """Queue a call for every item when the time has come; see `Later.submit_many`."""
        return self._later.submit_many(self._fn, iterable)

    def perform_many(self, iterable: Iterable[Any]) -> Timer:
        """Queue a call for every item when the time has come; see `Later.perform_many`."""
        return self._later.perform_many(self._fn, iterable)


class FunctionRegularly(Generic[P]):
    """Calls of one function that are to come again and again; see `Regularly`."""

    def __init__(self, regularly: Regularly, fn: Callable[..., Any]) -> None:
        self._regularly = regularly
        self._fn = fn

    def __repr__(self) -> str:
        return f"<{getattr(self._fn, '__qualname__', self._fn)} {self._regularly!r}>"

    def submit(self, /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue a call each time; see `Regularly.submit`."""
        return self._regularly.submit(self._fn, *args, **kwargs)

    def perform(self, /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue a call each time, fire and forget; see `Regularly.perform`."""
        return self._regularly.perform(self._fn, *args, **kwargs)

    def submit_many(self, iterable: Iterable[Any]) -> Timer:
        """Queue a call for every item each time; see `Regularly.submit_many`."""
        return self._regularly.submit_many(self._fn, iterable)

    def perform_many(self, iterable: Iterable[Any]) -> Timer:
        """Queue a call for every item each time; see `Regularly.perform_many`."""
        return self._regularly.perform_many(self._fn, iterable)


class Schedules:
    """The four ways to have calls come later; a part of `Pool`."""

    _workforce: Any
    _job_name: str | None
    _new_job: NewJob
    _new_errand: NewJob

    def after(self, seconds: float, *, daemon: bool = True) -> Later:
        """Have calls come in so many seconds: ``pool.after(5).submit(fn)``.

        Setting the wall clock does not matter.

        Args:
            seconds: 0 or more.
            daemon: whether the process may end before; the timer is cancelled then.

        Raises:
            TypeError, ValueError: it is no such number.
        """
        return Later(partial(After, seconds), self, daemon=daemon)

    def at(self, when: datetime | time, *, dst: Dst = "run_once", daemon: bool = True) -> Later:
        """Have calls come at a time on the wall clock: ``pool.at(time(7, 30)).submit(fn)``.

        If the clock is set forward past that time, they come at once.

        Args:
            when: a ``datetime``, local time of the machine if it is naive; or a ``time``, for the
                next time that the clock strikes it, in the machine's zone or its own.
            dst: what becomes of a time that is left out when clocks are set forward.
                ``"run_once"``: they come when the clocks have been set; ``"skip"``: a time of day
                is that of the next day that has it, and a ``datetime`` an error. Of a ``datetime``
                that comes twice ``fold`` tells which is meant; a ``time`` is the next of them,
                unless its ``fold`` is 1.
            daemon: whether the process may end before; the timer is cancelled then.

        Raises:
            ValueError: it is past; the message has both times.
            TypeError: it is neither.
        """
        return Later(partial(At, when, dst), self, daemon=daemon)

    def every(self, seconds: float, *, overlap: bool = False, daemon: bool = True) -> Regularly:
        """Have calls come again and again: ``pool.every(60).perform(fn)``.

        The first comes after that time, the others a whole number of times it later, however long
        the calls take. What comes too late is not made up for: it is left out, and counted.

        Args:
            seconds: between two calls, greater than 0.
            overlap: whether a call comes though that of the time before has not ended.
            daemon: whether the process may end; if not, it goes on until the timer is cancelled.

        Raises:
            TypeError, ValueError: it is no such number.
        """
        return Regularly(
            partial(Every, seconds),
            self,
            daemon=daemon,
            overlap=overlap,
        )

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
        """Have calls come as an entry of a crontab says: ``pool.cron("30 1 * * *").perform(fn)``.

        Args:
            expression: five fields: minute, hour, day of the month, month, day of the week; or
                ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
            tz: the zone, by name (``"Europe/Berlin"``) or as a ``tzinfo``; the machine's if not
                given.
            dst: what becomes of times of day on the nights when clocks change. ``"run_once"``:
                each has its call once, that of a time that is left out when the clocks have been
                set, that of a time that comes twice the first time. ``"skip"``: there is none for
                a time that is left out. ``"run_both"``: there are two for a time that comes twice.
                An entry for every hour of the day goes by the time that passes, whatever it says.
            catch_up: whether, if the machine slept or its clock was set forward, one call comes
                late for those that were due meanwhile; else those more than a minute late are left
                out. They are counted in either case.
            overlap: whether a call comes though that of the time before has not ended.
            daemon: whether the process may end; if not, it goes on until the timer is cancelled.

        If the clock is set back, what has come does not come again.

        Raises:
            ImportError: the extra ``oddjob[cron]`` is not installed.
            ValueError: it is no expression, or one that no date fits; there is no such zone.
            TypeError: an argument is of the wrong type.
        """
        plan = partial(_on_cron, expression, tz, dst, catch_up)
        return Regularly(plan, self, daemon=daemon, overlap=overlap)


def _on_cron(expression: str, tz: str | tzinfo | None, dst: Dst, catch_up: bool) -> Plan:
    return OnCron(Cron(expression, tz, dst), catch_up=catch_up)


def regularly(
    target: Schedules,
    every: float | None,
    cron: str | None,
    tz: str | tzinfo | None,
    dst: Dst | None,
    fn: Callable[..., Any],
) -> Timer:
    """Set the timer of a function that is decorated to run by itself.

    Raises:
        TypeError: the function needs arguments; or the options do not go together.
    """
    if every is not None and cron is not None:
        raise TypeError("a job runs every so many seconds, or as cron says: give only one of them")
    if cron is None and (tz is not None or dst is not None):
        raise TypeError("tz and dst are of use with cron only")
    import inspect

    try:
        inspect.signature(fn).bind()
    except TypeError as error:
        raise TypeError(f"{fn!r} is to run by itself, and so without arguments: {error}") from error
    except ValueError:  # nobody knows what it takes
        pass
    if cron is not None:
        return target.cron(cron, tz=tz, dst=dst or "run_once").perform(fn)
    return target.every(every).perform(fn)  # type: ignore[arg-type]  # it refuses None
