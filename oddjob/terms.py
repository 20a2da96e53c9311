"""Terms: what can be agreed on for single jobs, by ``options()``, and the kinds of job it makes."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, Final, NamedTuple, TypedDict

from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.settings import check_name, check_timeout
from oddjob.timed import TimedErrand, TimedJob

__all__ = ["JobOptions", "Terms"]

NewJob = Callable[..., Job[Any]]


class JobOptions(TypedDict, total=False):
    """The keyword arguments of ``options()`` and ``job()``."""

    name: str | None
    timeout: float | None


class Terms(NamedTuple):
    """What every job submitted in one place has in common."""

    name: str | None = None
    timeout: float | None = None

    def but(self, **changes: Any) -> "Terms":
        """The same with changes; None leaves a value as it is.

        Raises:
            TypeError: there is no such option, or its value is of the wrong type.
            ValueError: a value is out of range.
        """
        given = {key: value for key, value in changes.items() if value is not None}
        for key in changes:
            if key not in _CHECKS:
                known = ", ".join(_CHECKS)
                raise TypeError(
                    f"options() got an unexpected keyword argument {key!r}; it takes {known}"
                )
        for key, value in given.items():
            _CHECKS[key](key, value)
        return self._replace(**given)

    def kinds(self) -> tuple[NewJob, NewJob]:
        """What makes the jobs: those with a result, and those that nobody waits for."""
        if self.timeout is None or self.timeout == math.inf:
            return Job, FireAndForget
        return partial(TimedJob, self.timeout), partial(TimedErrand, self.timeout)

    def told_apart_from(self, other: "Terms") -> str:
        """What differs, for people."""
        pairs = zip(self._fields, self, other, strict=True)
        return ", ".join(f"{key}={mine!r}" for key, mine, its in pairs if mine != its)


_CHECKS: Final[dict[str, Callable[[str, object], object]]] = {
    "name": check_name,
    "timeout": check_timeout,
}
