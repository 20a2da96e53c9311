"""Rules: what the jobs that are submitted in one place have agreed on, ready for use."""

from typing import NamedTuple

from oddjob.limits import ANY_TIME, Line
from oddjob.retry import Retries

__all__ = ["Rules"]


class Rules(NamedTuple):
    """What the jobs that are submitted in one place have agreed on.

    Thread safety: immutable; the limits' counts belong to the agenda that uses them.
    """

    key_limit: int = 1
    serial: bool = False
    line: Line = ANY_TIME  # the priority, and limits besides the key's
    timeout: float | None = None
    retries: Retries = Retries()
