"""RecurringEntries: a pool's recurring submissions (``every``, ``cron``), kept by its store.

Any number of processes may declare the same entry. When a tick is due, every process that consumes
the pool and knows the function tries to fire it: one commit, which names the tick, submits the jobs
and moves the entry to its next tick. The first process succeeds; the others find the entry moved.

Guarantees
  * A tick fires once. The next tick is always later, even if a clock or a time zone is changed.
  * A rule that cannot be decoded here, or whose time zone raises, is logged once, and left to other
    processes.

`declare`, `find` and `delete` are for any thread; `fire` is called by the store thread.
"""

import json
import logging
from base64 import b64decode, b64encode
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from hashlib import sha256
from math import inf
from typing import TYPE_CHECKING, Any, Final

from oddjob.durable.codec import name_of
from oddjob.durable.record import Entry, Submit
from oddjob.durable.rules import Rule, decode_rule, encode_rule
from oddjob.durable.store import Store
from oddjob.durable.timers import EntryTimer
from oddjob.durable.unique import canonical_bytes
from oddjob.errors import StoreFull
from oddjob.log import log
from oddjob.runtime.middleware import recurring_by
from oddjob.runtime.new_jobs import new_jobs
from oddjob.runtime.policy import ONE_ARGUMENT
from oddjob.schedule.timer import Calls

if TYPE_CHECKING:
    from oddjob.durable.pool_store import PoolStore

_NEXT_TRY: Final = 1.0  # seconds, after the store was full
_FIELDS: Final = [field.name for field in fields(Submit) if field.name != "partition"]
_SHOWN: Final = 8  # digits of the hash in the name of an entry


class RecurringEntries:
    """The recurring entries of one pool."""

    def __init__(self, store: "PoolStore") -> None:
        self._store: Final = store
        self._declared: Final[dict[str, tuple[bytes, str]]] = {}  # by name: rule and function
        self._rules: Final[dict[bytes, Rule | None]] = {}  # None: it is left to others
        self._logged: Final[set[str]] = set()  # names of entries that could not fire

    def declare(self, rule: Rule, calls: Calls) -> EntryTimer:
        """Declare a recurring entry: processes that consume the pool make these calls by a rule.

        Raises:
            ValueError: this process has declared an entry of that name with another rule or
                function.
            Exception: as `PoolStore.accept` does.
        """
        function = name_of(calls.fn)
        with recurring_by(rule.trigger):
            models = new_jobs(*calls, inf)
        submits = [self._store.submissions.submit_of(model) for model in models]
        name = calls.policy.name or _name_of_entry(function, calls)
        for each in submits:
            each.wants_outcome, each.entry = False, name
        rule_bytes = encode_rule(rule)
        declared = rule_bytes, function
        if self._declared.get(name, declared) != declared:
            raise ValueError(
                f"the recurring entry {name!r} is there already, for another function or time; "
                "cancel() its timer first, or tell the two apart with options(name=...)"
            )
        partition = self._store.submissions.partition_of(calls.policy, function)
        entry = Entry(name, partition, rule_bytes, inf, encode_submits(submits))

        def put(store: Store) -> None:
            now = store.now()
            tick = rule.trigger.after(now, now).at
            entry.tick = inf if tick is None else tick
            store.put_entry(entry)

        self._rules[rule_bytes] = rule
        self._store.learn(function, calls.fn)
        self._store.call(put)
        self._declared[name] = declared
        return EntryTimer(self._store, rule.trigger, entry)

    def find(self, name: str) -> Entry | None:
        """Return an entry as the store has it; None if there is none."""
        reader = self._store.reader
        found = [] if reader is None else reader.entries(self._store.name)
        return next((entry for entry in found if entry.name == name), None)

    def run_now(self, entry: Entry) -> bool:
        """Submit the jobs of an entry now; its ticks stay as they are."""
        return bool(self._store.ask(lambda runner: runner.submit(submits_of(entry))))

    def timers(self) -> list[EntryTimer]:
        """Return a timer for each entry whose rule can be decoded here."""
        timers, reader = [], self._store.reader
        for entry in [] if reader is None else reader.entries(self._store.name):
            with suppress(Exception):
                rule = self._rule_of(entry.rule)
                if rule is not None:
                    timers.append(EntryTimer(self._store, rule.trigger, entry))
        return timers

    def delete(self, name: str) -> bool:
        """Delete an entry, for all processes; return False if there is none."""
        is_deleted: bool = self._store.call(
            lambda store: store.delete_entry(self._store.name, name)
        )
        self._declared.pop(name, None)
        return is_deleted

    def fire(self, entry: Entry, now: float, store: Store) -> float:
        """Submit the jobs of an entry that is due.

        Return the seconds until the store thread should look again: 0 if the tick is done, infinity
        if this process cannot fire the entry.
        """
        try:
            rule = self._rule_of(entry.rule)
            if rule is None:
                return inf
            following = rule.trigger.after(entry.tick, now)
            next_tick = inf if following.at is None else following.at
            if not next_tick > entry.tick:
                raise ValueError(f"after {entry.tick!r} comes {next_tick!r}")  # noqa: TRY301
            submits = submits_of(entry) if following.fires_now else []
            if rule.trigger.jitter:
                delay = rule.trigger.random_delay()
                for each in submits:
                    each.delay = delay
        except BaseException as error:  # of a time zone that a user has written, for example
            self._log_once(entry, error)
            return inf
        try:
            store.fire_entry(
                entry, next_tick, submits, missed=following.missed, overlaps=rule.overlaps
            )
        except StoreFull as error:
            self._log_once(entry, error)
            return _NEXT_TRY
        self._logged.discard(entry.name)
        return 0.0

    def _rule_of(self, data: bytes) -> Rule | None:
        if data not in self._rules:
            self._rules[data] = None  # it stays None if the next line raises
            self._rules[data] = decode_rule(data)
        return self._rules[data]

    def _log_once(self, entry: Entry, error: BaseException) -> None:
        if entry.name not in self._logged:
            self._logged.add(entry.name)
            what = "pool %s: the recurring entry %r cannot fire here"
            log(logging.ERROR, what, self._store.name, entry.name, error=error)


def _name_of_entry(function: str, calls: Calls) -> str:
    """Return the name of an entry without a given one: the function, and a hash of its calls."""
    if calls.kwargs is None and calls.arguments[0] == ():
        return function
    kwargs = None if calls.kwargs is ONE_ARGUMENT else calls.kwargs
    arguments = canonical_bytes((list(calls.arguments), kwargs))
    return f"{function} {sha256(arguments).hexdigest()[:_SHOWN]}"


def encode_submits(submits: Sequence[Submit]) -> bytes:
    """Return the payload of an entry that makes these submits at each tick."""
    return json.dumps(
        [{name: _to_text(getattr(each, name)) for name in _FIELDS} for each in submits]
    ).encode()


def submits_of(entry: Entry) -> list[Submit]:
    """Return what an entry submits at each tick; to decode it never runs user code."""
    given: list[dict[str, Any]] = json.loads(entry.payload)
    return [
        Submit(entry.partition, **{name: _from_text(value) for name, value in each.items()})
        for each in given
    ]


def _to_text(value: Any) -> Any:
    return {"base64": b64encode(value).decode()} if isinstance(value, bytes) else value


def _from_text(value: Any) -> Any:
    return b64decode(value["base64"]) if isinstance(value, dict) else value
