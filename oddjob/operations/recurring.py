"""RecurringEntry: a recurring submission as people see it."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import cast

from oddjob.durable.record import Entry
from oddjob.durable.recurring import submits_of
from oddjob.durable.rules import decode_rule, describe_rule
from oddjob.operations.access import StoreAccess, time_of
from oddjob.schedule.cron import explain_cron
from oddjob.schedule.triggers import CronTrigger, Trigger


@dataclass(frozen=True, slots=True)
class RecurringEntry:
    """A recurring submission, as it was when it was read.

    Attributes:
        name: its name, of its own in the pool.
        pool: the name of its pool.
        function: the name by which processes find its function, ``module:qualname``.
        rule: when it fires: ``"every 60 s"``, or ``"cron 0 3 * * * in UTC"``.
        is_paused: whether it does not fire at present.
        next_run: when it is due next.
        last_run: when it was due last; None if it has never fired.
        last_job: the id of the job that it has submitted last; None if there is none.
    """

    name: str
    pool: str
    function: str
    rule: str
    is_paused: bool
    next_run: datetime
    last_run: datetime | None
    last_job: str | None
    _stored: Entry = field(repr=False, compare=False)
    _access: StoreAccess = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """What tells it from others of its pool: its name."""
        return self.name

    def upcoming(self, number: int) -> list[datetime]:
        """Return when it fires next; nothing if only processes that declare it can read that."""
        trigger = self._trigger()
        return [] if trigger is None else upcoming_of(trigger, self._stored.tick, number)

    def clock_changes(self) -> list[str]:
        """Return when it fires around the next changes of clocks, as texts of several lines."""
        return clock_changes_of(self._trigger())

    def _trigger(self) -> Trigger | None:
        try:
            rule = decode_rule(self._stored.rule)
        except Exception:  # of another version, or a package or time zone that is not here
            return None
        return None if rule is None else rule.trigger

    def run(self) -> str:
        """Submit its job now, besides those to come, also if it is paused; return the job's id.

        The last one's, if it submits several; "" if it submits none.
        """
        submitted = self._access.submit(submits_of(self._stored))
        return str(submitted[-1].id) if submitted else ""

    def pause(self) -> bool:
        """Let it fire no more until `resume`, in any process; return False if it is gone."""
        return self._set_paused(is_paused=True)

    def resume(self) -> bool:
        """Let it fire again; return False if it is gone."""
        return self._set_paused(is_paused=False)

    def delete(self) -> bool:
        """Delete it, until a program declares it again; return False if it is gone."""
        return bool(self._access.change("delete_entry", self.pool, self.name))

    def _set_paused(self, *, is_paused: bool) -> bool:
        change = self._access.change
        return bool(change("pause_entry", self.pool, self.name, is_paused=is_paused))


def upcoming_of(trigger: Trigger, first: float, number: int) -> list[datetime]:
    """Return when a trigger fires next, as far as it does, from a first time on."""
    found: list[datetime] = []
    at: float | None = first
    while at is not None and len(found) < number:
        found.append(cast("datetime", time_of(at)))
        at = trigger.after(at, at).at
    return found


def clock_changes_of(trigger: Trigger | None) -> list[str]:
    """Return when a cron trigger fires around the next changes of clocks; see `explain_cron`."""
    if not isinstance(trigger, CronTrigger):
        return []
    return [*map(str, explain_cron(trigger.expression, trigger.zone, trigger.dst).changes)]


def entry_of(stored: Entry, access: StoreAccess) -> RecurringEntry:
    """Return a stored entry as people see it."""
    return RecurringEntry(
        name=stored.name,
        pool=stored.partition.pool,
        function=stored.partition.function,
        rule=describe_rule(stored.rule),
        is_paused=stored.is_paused,
        next_run=cast("datetime", time_of(stored.tick)),
        last_run=time_of(stored.last_tick),
        last_job=None if stored.last_job is None else str(stored.last_job),
        _stored=stored,
        _access=access,
    )
