"""Rules: how the trigger of a recurring entry is stored.

A rule is JSON. Processes that declare equal triggers store equal rules, so that a changed trigger
is noticed; and to decode a rule never runs user code. For that reason a time zone that only pickle
can encode is not decoded: an entry in such a zone fires only in processes that declare it.
"""

import json
import pickle
from datetime import timedelta, timezone, tzinfo
from typing import Any, NamedTuple

from oddjob.schedule.local_time import SystemZone, as_zone
from oddjob.schedule.triggers import CronTrigger, EveryTrigger, Trigger

# A time zone: its name; its offset from UTC, in seconds; its pickle; None: that of the machine.
_Zone = str | float | dict[str, str] | None


class Rule(NamedTuple):
    """When an entry fires."""

    trigger: Trigger
    overlaps: bool  # whether it fires while jobs of the entry have not ended


def encode_rule(rule: Rule) -> bytes:
    """Return the bytes of a rule.

    Raises:
        TypeError: the time zone has no name, and cannot be pickled.
    """
    trigger = rule.trigger
    fields: dict[str, Any] = {"overlap": rule.overlaps}
    if isinstance(trigger, EveryTrigger):
        fields |= {"every": trigger.period}
    else:
        assert isinstance(trigger, CronTrigger)  # noqa: S101  (there is no third kind)
        zone = _encode_zone(trigger.zone)
        fields |= {"cron": trigger.expression, "tz": zone, "dst": trigger.dst}
        fields |= {"catch_up": trigger.catch_up}
    if trigger.jitter:
        fields |= {"jitter": trigger.jitter}
    return json.dumps(fields, sort_keys=True).encode()


def decode_rule(data: bytes) -> Rule | None:
    """Return the rule of these bytes; None if only processes that declare the entry know it.

    Raises:
        Exception: the bytes are not a rule of this version; or this machine lacks the time zone, or
            the package that reads cron expressions.
    """
    fields: dict[str, Any] = json.loads(data)
    overlaps = bool(fields.pop("overlap"))
    if "every" in fields:
        return Rule(EveryTrigger(fields["every"], fields.get("jitter", 0.0)), overlaps)
    zone: _Zone = fields.pop("tz")
    if isinstance(zone, dict):
        return None
    tz = timezone(timedelta(seconds=zone)) if isinstance(zone, int | float) else as_zone(zone)
    return Rule(CronTrigger(fields.pop("cron"), tz, **fields), overlaps)


def describe_rule(data: bytes) -> str:
    """Return a description of a rule, for people."""
    fields: dict[str, Any] = json.loads(data)
    if "every" in fields:
        return f"every {fields['every']:g} s"
    zone = fields["tz"]
    return f"cron {fields['cron']}" + (f" in {zone}" if isinstance(zone, str) else "")


def _encode_zone(zone: tzinfo) -> _Zone:
    if isinstance(zone, SystemZone):
        return None
    if isinstance(zone, timezone):
        return zone.utcoffset(None).total_seconds()
    name = getattr(zone, "key", None)
    if isinstance(name, str) and type(zone).__module__.startswith("zoneinfo"):
        return name
    try:
        return {"pickle": pickle.dumps(zone, 5).hex()}
    except Exception as error:
        raise TypeError(f"the time zone {zone!r} cannot be stored: {error}") from error
