"""Limited jobs: those with wishes about when they start and beside whom.

What the jobs that are submitted in one place have in common is kept in a class of their own, made
from one of these by `kind_with`: so such a job is as quickly made, and as small, as any other.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from oddjob.fire_and_forget import FireAndForget
from oddjob.job import Job
from oddjob.keys import Key, check_key
from oddjob.marks import Mark
from oddjob.rules import Rules
from oddjob.schedule.clock import clock
from oddjob.states import FAILED, SUCCEEDED
from oddjob.work import OF_BATCH

__all__ = [
    "KeyedErrand",
    "KeyedJob",
    "LimitedErrand",
    "LimitedJob",
    "SerialErrand",
    "SerialJob",
    "kind_with",
    "with_key",
    "with_key_found",
]

T = TypeVar("T")


class LimitedJob(Job[T]):
    """A job with a priority, or with limits of its own.

    What an agenda has handed out counts against its limits until the worker asks for the next one:
    when the call is over, and its callbacks have run. If it ends otherwise, it has to `let_go`.
    """

    __slots__ = ()

    _rules = Rules()

    @property
    def priority(self) -> int:
        """How urgent it is: the higher the sooner."""
        return self.line.priority

    def let_go(self) -> None:
        """Count no longer against limits, and let go on what it has held up; twice does no harm."""
        self._tell_line()
        self._crew.release(self)

    def _tell_line(self) -> None:
        """If it has failed, those that have waited for its success need not wait any longer."""

    def rescue(self, crash: BaseException, worker: Mark) -> None:
        """Bring to its end what `execute` left undone in that thread."""
        super().rescue(crash, worker)
        if self.done():
            self.let_go()


class KeyedJob(LimitedJob[T]):
    """A job with a key, which is set by whoever makes it."""

    __slots__ = ("key",)

    can_claim = True

    def give_back(self, claims: dict[Key, Any]) -> bool:
        """Have its key claimed no more, where that needs no lock; false if it does.

        It needs none of the worker that has run the job: it is his alone to give the key back then,
        or else that of whoever has taken the claim out of the dict, with the lock, to open a lane.
        (Of a job that has failed it is not sure that he has run it.)
        """
        key = self.key
        if key is None:
            return True
        is_his = self._raw is SUCCEEDED and claims.get(key) is self
        return is_his and claims.pop(key, None) is not None

    @property
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """What its function is to be called with."""
        if self._kwargs is OF_BATCH:
            return (self._args,), {}
        return self._args, self._kwargs or {}

    @property
    def key_limit(self) -> int:
        """How many jobs of its key may run at once."""
        return self._rules.key_limit

    @property
    def is_serial(self) -> bool:
        """Whether it waits until the one before it of its key has succeeded."""
        return self._rules.serial


class SerialJob(KeyedJob[T]):
    """A job that those behind it of its key rely on."""

    __slots__ = ("_failed_at",)

    can_claim = False

    _failed_at: float  # before anybody could see it, in monotonic seconds; unset until then

    def fail(self, error: BaseException) -> bool:
        """Settle as failed, by the thread that has the job; false if it had ended before."""
        self._failed_at = clock.monotonic()
        return super().fail(error)

    def _tell_line(self) -> None:
        if self.is_serial and self.state is FAILED and hasattr(self, "_failed_at"):
            self._crew.forsake_line(self, self._failed_at)

    def execute(self, *, claimed: bool = False) -> BaseException | bool | None:
        """Run the call; if it fails, those behind it are not run."""
        try:
            return super().execute(claimed=claimed)
        finally:
            self._tell_line()


class LimitedErrand(FireAndForget, LimitedJob[Any]):
    """A limited job that nobody waits for."""

    __slots__ = ()


class KeyedErrand(FireAndForget, KeyedJob[Any]):
    """A job with a key that nobody waits for."""

    __slots__ = ()


class SerialErrand(FireAndForget, SerialJob[Any]):
    """A job that those behind it of its key rely on, and nobody waits for."""

    __slots__ = ()


def kind_with(rules: Rules, base: type[LimitedJob[Any]], **common: Any) -> type[LimitedJob[Any]]:
    """A class of jobs with these rules, and what else they have in common."""
    if rules == Rules() and not common:
        return base  # the interpreter is quicker with few classes
    is_simple = rules.key_limit == 1 and not rules.line.gates
    fields = {
        "__slots__": (),
        "__doc__": base.__doc__,
        "_rules": rules,
        "line": rules.line,
        "can_claim": base.can_claim and is_simple,
        **common,
    }
    return type(base.__name__, (base,), fields)


def with_key(kind: Callable[..., Job[Any]], key: Key | None, *call: Any) -> Job[Any]:
    """A job of that kind, with that key."""
    job = kind(*call)
    job.key = key
    return job


def with_key_found(kind: Callable[..., Any], tell: Callable[..., Key], *call: Any) -> Job[Any]:
    """A job of that kind, with the key that a function tells from its arguments.

    Raises:
        TypeError: what it tells cannot be a key, or serial jobs need one.
        Exception: whatever the function raises.
    """
    job: KeyedJob[Any] = kind(*call)
    args, kwargs = job.arguments
    key = tell(*args, **kwargs)
    check_key(key)
    if key is None and job.is_serial:
        raise TypeError(f"serial=True needs a key: which jobs is {job.name} to wait for?")
    job.key = key
    return job
