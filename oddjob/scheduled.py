"""Calls to be made later, or repeatedly: ``pool.after(…)`` and its like, and what they return.

Each call of one of their methods sets a timer of its own, which counts from that moment. The calls
see a copy of the context variables as they are then.
"""

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from datetime import datetime, time, tzinfo
from typing import TYPE_CHECKING, Any, Final, Unpack, overload

from oddjob.compat import AsyncFunction, Item, P, T, override
from oddjob.hints import HintedAttributes, check_function, hinted
from oddjob.option_checks import as_flag
from oddjob.options import RecurrenceOptions
from oddjob.quantities import Seconds
from oddjob.runtime import inline
from oddjob.runtime.job import Job
from oddjob.runtime.policy import ONE_ARGUMENT, JobPolicy
from oddjob.schedule.local_time import Dst
from oddjob.schedule.timer import Calls, MemoryTimer, Timer
from oddjob.schedule.triggers import (
    AfterTrigger,
    AtTrigger,
    CronTrigger,
    EveryTrigger,
    Trigger,
    daily,
)

if TYPE_CHECKING:
    from oddjob.submitter import Submitter

_EMPTY: Final = Context()  # shared by many timers: there is less for the garbage collector to visit


class Scheduled(HintedAttributes):
    """A trigger, and the submitter whose calls it delays."""

    _overlap = False  # of a trigger that fires once, it means nothing

    def __init__(self, source: "Submitter", trigger: Trigger, daemon: bool) -> None:
        self._source = source
        self._trigger = trigger
        self._keeps_process = not as_flag("daemon", daemon)

    @override
    def __repr__(self) -> str:
        return f"<{self._trigger!r}, {self._source!r}>"

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` when the time has come, fire and forget."""
        return self._set_timer(self._source._policy.detach(), fn, args, kwargs or None)

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item when the time has come, fire and forget."""
        return self._set_timer(self._source._policy.detach(), fn, iterable, ONE_ARGUMENT)

    def _set_timer(
        self, policy: JobPolicy, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> Timer:
        if policy.settings.after:
            raise TypeError("after=[jobs] and a time do not go together: leave one of them out")
        check_function(fn)  # now, and not when the time has come
        source, items = self._source, list(args) if kwargs is ONE_ARGUMENT else (args,)
        calls = Calls(policy, fn, items, kwargs, copy_context() or _EMPTY, source._key)
        if policy.is_durable and not inline.is_on():
            from oddjob.durable.timers import set_timer  # it is loaded where there is a store

            store = source._core.store
            return set_timer(store, self._trigger, calls, overlaps=self._overlap)
        return MemoryTimer(
            self._trigger,
            source._core,
            calls,
            source,
            keeps_process=self._keeps_process,
            overlap=self._overlap,
        )


class Delayed(Scheduled):
    """Calls that are made once, later: what ``pool.after(…)`` and ``pool.at(…)`` return.

    In a pool with a store the jobs are stored at once, and outlive the process. They are due by the
    store's clock: the wall clock of the machine, or of the Redis server.

    All methods raise `PoolClosed` or `PoolBroken` if the pool accepts no jobs, and ``ValueError``
    if the time of an `at` has passed by now; in a pool with a store also what `Pool.submit` does.
    """

    @overload
    def submit(self, fn: AsyncFunction[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Job[T]: ...
    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Job[Any]:
        """Queue ``fn(*args, **kwargs)`` when the time has come; return its job now.

        The job is ``scheduled`` until then. Cancelling it cancels the timer.
        """
        return self._set_timer(self._source._policy, fn, args, kwargs or None).jobs[0]

    @overload
    def submit_many(
        self, fn: AsyncFunction[[Item], T], iterable: Iterable[Item]
    ) -> list[Job[T]]: ...
    @overload
    def submit_many(self, fn: Callable[[Item], T], iterable: Iterable[Item]) -> list[Job[T]]: ...
    def submit_many(self, fn: Callable[..., Any], iterable: Iterable[Any]) -> list[Job[Any]]:
        """Queue ``fn(item)`` for every item when the time has come; return their jobs now."""
        return self._set_timer(self._source._policy, fn, iterable, ONE_ARGUMENT).jobs


class Recurring(Scheduled):
    """Calls that are made again and again: what ``pool.every(…)`` and ``pool.cron(…)`` return.

    Each method returns a `Timer`, which goes on until it is cancelled or the pool is shut down. A
    firing is left out, and counted in ``timer.missed``, while the jobs of the previous one have
    not ended, unless ``overlap=True``.

    In a pool with a store each method declares a *recurring entry* there, however many processes
    declare the same one: it fires once per tick, in a process that knows the function, until its
    timer is cancelled. An entry is the same if it has the same name, which is that of
    ``options(name=…)``, or else of the function, and the same arguments. If a later version of the
    program gives it another interval or expression, it goes by that; one that a later version does
    not declare goes on until it is cancelled. Ticks go by the wall clock. Arguments that pickle
    differently each time, such as sets of strings, need a name.

    All methods raise `PoolClosed` or `PoolBroken` if the pool accepts no jobs; in a pool with a
    store also what `Pool.submit` does, and ``ValueError`` if this process has given another
    interval or expression to the same entry.
    """

    def __init__(self, source: "Submitter", trigger: Trigger, daemon: bool, overlap: bool) -> None:
        super().__init__(source, trigger, daemon)
        self._overlap = as_flag("overlap", overlap)

    def submit(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` each time; ``timer.jobs`` has the latest job."""
        return self._set_timer(self._source._policy, fn, args, kwargs or None)

    def submit_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item each time; ``timer.jobs`` has the latest jobs."""
        return self._set_timer(self._source._policy, fn, iterable, ONE_ARGUMENT)


class ScheduleMethods:
    """The methods that take a time: each returns an object whose calls are made then."""

    @hinted
    def after(self, seconds: Seconds, *, daemon: bool = True) -> Delayed:
        """Delay calls by some seconds, whatever the wall clock does: ``pool.after(5).submit(fn)``.

        Args:
            seconds: the delay, 0 or more, as a number or ``timedelta``; by a store's clock, if any.
            daemon: whether the process may end before the call; the timer is cancelled then. Has
                no meaning in a pool with a store, where another process makes the call, or the
                next one.
        """
        return Delayed(self, AfterTrigger(seconds), daemon)  # type: ignore[arg-type]

    @hinted
    def at(
        self, when: datetime | time | str, *, dst: Dst = "run_once", daemon: bool = True
    ) -> Delayed:
        """Delay calls until a time on the wall clock: ``pool.at("07:30").submit(fn)``.

        If the clock is set forward past that time, the calls are queued at once.

        Args:
            when: a ``datetime``, in the machine's local time if it is naive; or a ``time``: the
                next time that the clock shows it, in the machine's zone or the time's own; or a
                text, such as ``"07:30"`` or ``"2030-01-31 07:30"``.
            dst: what to do about a time that does not exist because clocks are set forward.
                ``"run_once"``: queue the calls right after the change. ``"skip"``: a ``time`` is
                that of the next day that has it, a ``datetime`` is an error. Of a time that
                occurs twice, ``fold`` says which one is meant.
            daemon: as in `after`.

        Raises:
            ValueError: the time is past; the message shows both times.
        """
        return Delayed(self, AtTrigger(when, dst), daemon)  # type: ignore[arg-type]

    @hinted
    def every(
        self,
        seconds: Seconds,
        *,
        jitter: Seconds = 0.0,
        overlap: bool = False,
        daemon: bool = True,
    ) -> Recurring:
        """Repeat calls at an interval: ``pool.every(60).perform(fn)``.

        The first call is due after one interval, and all others keep that phase, however long the
        calls take. Calls that are missed are counted and not made up for.

        Args:
            seconds: the interval, greater than 0, as a number or a ``timedelta``.
            jitter: the longest random delay of a call, in seconds, less than the interval: so many
                processes do not call at the same moment.
            overlap: queue a call although the previous one has not ended.
            daemon: whether the process may end; if not, it goes on until the timer is cancelled.
                Has no meaning in a pool with a store, as in `after`.
        """
        return Recurring(self, EveryTrigger(seconds, jitter), daemon, overlap)  # type: ignore[arg-type]

    @hinted
    def cron(
        self,
        expression: str,
        *,
        tz: str | tzinfo | None = None,
        dst: Dst = "run_once",
        catch_up: bool = True,
        jitter: Seconds = 0.0,
        overlap: bool = False,
        daemon: bool = True,
    ) -> Recurring:
        """Repeat calls at the times of a crontab entry: ``pool.cron("30 1 * * *").perform(fn)``.

        If the clock is set back, calls that were made are not made again.

        Args:
            expression: five fields: minute, hour, day of the month, month, day of the week; or
                ``@hourly``, ``@daily``, ``@weekly``, ``@monthly``, ``@yearly``.
            tz: the zone, by name or as a ``tzinfo``; the machine's by default.
            dst: what to do when clocks change, unless the entry is for every hour of the day.
                ``"run_once"``: a time that does not exist has its call right after the change, a
                time that occurs twice has it the first time. ``"skip"``: a time that does not
                exist has no call. ``"run_both"``: a time that occurs twice has two calls.
            catch_up: make one late call for those that were due while the machine slept, or that
                its clock skipped; if False, calls more than a minute late are left out.
            jitter: the longest random delay of a call, in seconds.
            overlap: as in `every`.
            daemon: as in `every`.

        Raises:
            ImportError: the extra ``oddjob[cron]`` is not installed.
            ValueError: the expression is wrong, or fits no date; there is no such zone.
        """
        catch_up = as_flag("catch_up", catch_up)
        trigger = CronTrigger(expression, tz, dst, catch_up=catch_up, jitter=jitter)
        return Recurring(self, trigger, daemon, overlap)  # type: ignore[arg-type]

    def daily(self, when: time | str, **options: Unpack[RecurrenceOptions]) -> Recurring:
        """Repeat calls every day at a time: ``pool.daily("03:00", tz="Europe/Paris").perform(fn)``.

        Args:
            when: a time of day, to the minute, also as a text.
            **options: as in `cron`.

        Raises:
            ImportError: the extra ``oddjob[cron]`` is not installed.
            ValueError: `when` is no time of day, or has seconds, or has a zone and `tz` is given as
                well; there is no such zone.
        """
        expression, zone = daily(when)
        if zone is not None and options.get("tz") is not None:
            raise ValueError(f"tz is given twice: leave it out, or the zone of {when!r}")
        options = {**options, "tz": zone or options.get("tz")}
        return self.cron(expression, **options)
