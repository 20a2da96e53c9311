"""``@pool.job``: makes the job function of a function, and the timer of one that recurs."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from oddjob.callables import describe
from oddjob.compat import P, T
from oddjob.function import JobFunction
from oddjob.hints import refuse_unknown
from oddjob.options import JOB_CHECKS, TIMING_OPTIONS
from oddjob.scheduled import Recurring

if TYPE_CHECKING:
    from oddjob.submitter import Submitter


class JobDecorator(Protocol):
    """``@pool.job(…)`` with its options, before it is given the function."""

    def __call__(self, fn: Callable[P, T], /) -> JobFunction[P, T]:
        """Return the job function of a function."""
        ...


def job_decorator(source: "Submitter", options: dict[str, Any]) -> JobDecorator:
    """Do what `Pool.job` says."""
    refuse_unknown("job", options, (*JOB_CHECKS, *TIMING_OPTIONS))
    given = {name: value for name, value in options.items() if value is not None}
    timing = {name: given.pop(name) for name in TIMING_OPTIONS if name in given}
    target = source.options(**given) if given else source
    recurring = _recurrence_of(target, timing) if timing else None

    def decorate(fn: Any) -> JobFunction[Any, Any]:
        function: JobFunction[Any, Any] = JobFunction(fn, target)
        policy = target._policy
        names = {
            "key": target._key, "unique": policy.settings.unique, "fair_by": policy.fair_by
        }  # fmt: skip
        if recurring is not None or any(isinstance(each, str) for each in names.values()):
            _check_parameters(fn, names, is_recurring=recurring is not None)
        if target._core.store is not None:
            target._core.store.register(fn, target._policy, source._policy)
        if recurring is not None:
            function.timer = recurring.perform(fn)
        return function

    return decorate


def _recurrence_of(target: "Submitter", timing: dict[str, Any]) -> Recurring:
    """Return what ``every=``, ``cron=`` or ``daily=`` asks for, with the options beside it."""
    kinds = [name for name in ("every", "cron", "daily") if name in timing]
    if len(kinds) != 1:
        given = ", ".join(kinds or timing)
        hint = "give only one" if kinds else "of use with every=, cron= or daily= only"
        raise TypeError(f"{given}: {hint}")
    [kind] = kinds
    when = timing.pop(kind)
    cron_only = timing.keys() - {"jitter", "overlap", "daemon"}
    if kind == "every" and cron_only:
        raise TypeError(f"{', '.join(sorted(cron_only))}: of use with cron= or daily=, not every=")
    recurring: Recurring = getattr(target, kind)(when, **timing)
    return recurring


def _check_parameters(fn: Any, keys: dict[str, Any], *, is_recurring: bool) -> None:
    """Refuse a recurring function that needs arguments, and keys that are names of parameters."""
    from inspect import Signature, signature

    try:
        found = signature(fn.__func__ if isinstance(fn, staticmethod | classmethod) else fn)
    except (TypeError, ValueError):  # some built-in functions have none
        return
    for option, key in keys.items():
        if isinstance(key, str) and key in found.parameters:
            bare = [each.replace(annotation=each.empty) for each in found.parameters.values()]
            raise ValueError(
                f"{option}={key!r} is the same key for all calls, but {describe(fn)} has a "
                "parameter of that name; did you mean "
                f"{option}=lambda {str(Signature(bare))[1:-1]}: {key}?"
            )
    if is_recurring:
        try:
            found.bind()
        except TypeError as error:
            raise TypeError(f"a job that recurs is called without arguments: {error}") from error
