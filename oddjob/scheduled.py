"""Delayed and Recurring: what ``pool.after(…)`` and its like return, for the calls to be made then.

Each call of one of their methods sets a timer of its own, which counts from that moment. The calls
see a copy of the context variables as they are then.
"""

from collections.abc import Callable, Iterable
from contextvars import Context, copy_context
from typing import TYPE_CHECKING, Any, Final, overload

from oddjob.callables import HintedAttributes, check_order
from oddjob.compat import AsyncFunction, Item, P, T, override
from oddjob.options import as_flag
from oddjob.runtime import inline
from oddjob.runtime.job import Job
from oddjob.runtime.policy import ONE_ARGUMENT, JobPolicy
from oddjob.schedule.timer import Calls, MemoryTimer, Timer
from oddjob.schedule.triggers import Trigger

if TYPE_CHECKING:
    from oddjob.submitter import Submitter

_EMPTY: Final = Context()  # shared by many timers: there is less for the garbage collector to visit


class Scheduled(HintedAttributes):
    """A trigger, and the submitter whose calls it delays."""

    def __init__(
        self, source: "Submitter", trigger: Trigger, daemon: bool, overlap: bool = False
    ) -> None:
        self._source = source
        self._trigger = trigger
        self._keeps_process = not as_flag("daemon", daemon)
        self._overlap = as_flag("overlap", overlap)

    @override
    def __repr__(self) -> str:
        return f"<{self._trigger!r}, {self._source!r}>"

    def perform(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` when the time has come, fire and forget."""
        return self._set_timer(self._source._policy.detach(), fn, args, kwargs or None)

    def perform_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item when the time has come, fire and forget."""
        check_order(fn, iterable)
        return self._set_timer(self._source._policy.detach(), fn, list(iterable), ONE_ARGUMENT)

    def _set_timer(
        self, policy: JobPolicy, fn: Callable[..., Any], args: Any, kwargs: Any
    ) -> Timer:
        if policy.settings.after:
            raise TypeError("after=[jobs] and a time do not go together: leave one of them out")
        source, items = self._source, args if kwargs is ONE_ARGUMENT else (args,)
        calls = Calls(policy, fn, items, kwargs, copy_context() or _EMPTY, source._key)
        if policy.is_durable and not inline.is_on():
            from oddjob.durable.timers import set_timer  # it is loaded where there is a store

            store = source._core.store
            return set_timer(store, self._trigger, calls, overlaps=self._overlap)
        how = self._keeps_process, self._overlap
        return MemoryTimer(self._trigger, source._core, calls, source, *how)


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
        check_order(fn, iterable)
        return self._set_timer(self._source._policy, fn, list(iterable), ONE_ARGUMENT).jobs


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

    def submit(self, fn: Callable[P, object], /, *args: P.args, **kwargs: P.kwargs) -> Timer:
        """Queue ``fn(*args, **kwargs)`` each time; ``timer.jobs`` has the latest job."""
        return self._set_timer(self._source._policy, fn, args, kwargs or None)

    def submit_many(self, fn: Callable[[Item], object], iterable: Iterable[Item]) -> Timer:
        """Queue ``fn(item)`` for every item each time; ``timer.jobs`` has the latest jobs."""
        check_order(fn, iterable)
        return self._set_timer(self._source._policy, fn, list(iterable), ONE_ARGUMENT)
