"""Hints: an error about a name that does not exist says which name is meant.

That is the nearest name that exists, or the word here for the word of another library: those who
know ``ThreadPoolExecutor``, Celery, RQ or asyncio write their words first.
"""

import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, TypeVar

F = TypeVar("F", bound=Callable[..., Any])

# Words of other libraries, and what they are here, the likeliest first.
_OTHER_WORDS: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(
        ("size", "workers", "threads", "max_workers"), ("pool_size", "max_concurrency")
    ),
    **dict.fromkeys(("limit", "concurrency", "pool_size"), ("max_concurrency", "pool_size")),
    **dict.fromkeys(("retry", "max_retries"), ("retries",)),
    **dict.fromkeys(("period", "per", "seconds", "interval"), ("per", "rate")),
    **dict.fromkeys(("timezone", "zone"), ("tz",)),
    **dict.fromkeys(("maxsize", "queue_size"), ("max_queue",)),
    **dict.fromkeys(("rate_limit", "burst"), ("rate",)),
    "pools": ("extra_pools",),
}
_FOR_JOBS: Final = ("key", "max_concurrency", "persist", "priority", "serial", "unique")
# Attributes of the objects of other libraries, and what these are called here.
_OTHER_ATTRIBUTES: Final[dict[str, tuple[str, ...]]] = {
    **dict.fromkeys(("get", "wait", "join", "return_value"), ("result",)),
    **dict.fromkeys(("ready", "is_done", "finished", "is_finished"), ("done",)),
    **dict.fromkeys(("status", "get_status"), ("state",)),
    **dict.fromkeys(("revoke", "abort", "kill", "stop", "terminate"), ("shutdown", "cancel")),
    **dict.fromkeys(("close", "quit"), ("shutdown",)),
    **dict.fromkeys(("imap", "imap_unordered"), ("map",)),
    **dict.fromkeys(("apply", "apply_async", "delay", "send", "enqueue", "spawn"), ("submit",)),
    **dict.fromkeys(("run_in_executor", "submit_async"), ("asubmit",)),
    **dict.fromkeys(("task", "actor"), ("job",)),
    **dict.fromkeys(("schedule", "later", "call_later", "enqueue_in"), ("after",)),
    **dict.fromkeys(("enqueue_at", "call_at"), ("at",)),
    **dict.fromkeys(("periodic_task", "interval"), ("every",)),
    **dict.fromkeys(("size", "max_workers"), ("pool_size",)),
    "queued": ("queue",),
}
_BEFORE_TIMES: Final = ("options", "using")  # which a time follows, as `pool.options(…).after(5)`
_CELERYS_WORDS: Final = ("delay", "apply_async", "send")


def suggest(unknown: str, known: Iterable[str]) -> str:
    """Return a hint for an error message: the known name that is meant or nearest, or all."""
    from difflib import get_close_matches

    words = {name: name for name in known}
    names = ", ".join(words)
    if "pool_size" in words:
        words.setdefault("max_workers", "pool_size")  # the standard library's word
    meant = [name for name in _OTHER_WORDS.get(unknown, ()) if name in words]
    if "pool_size" in words and unknown in _FOR_JOBS:
        return f"it is an option of jobs: pool.options({unknown}=…) or @pool.job({unknown}=…)"
    near = meant or get_close_matches(unknown, words, n=1)
    return f"did you mean {words[near[0]]!r}?" if near else f"known are {names}"


def refuse_unknown(caller: str, given: Iterable[str], known: Iterable[str]) -> None:
    """Raise a ``TypeError`` if one of the keyword arguments of a call is unknown."""
    names = tuple(known)
    for name in given:
        if name not in names:
            hint = suggest(name, names)
            raise TypeError(f"{caller}() got an unexpected keyword argument {name!r}; {hint}")


def hinted(fn: F) -> F:
    """Decorate a function: a call with an unknown keyword argument says which one is meant."""
    code = fn.__code__
    names = code.co_varnames[: code.co_argcount + code.co_kwonlyargcount]
    known = [each for each in names[code.co_posonlyargcount :] if each not in ("self", "cls")]
    caller = fn.__qualname__.removesuffix(".__new__").split(".")[-1]

    @functools.wraps(fn)
    def call(*args: Any, **kwargs: Any) -> Any:
        if kwargs:
            refuse_unknown(caller, kwargs, known)
        return fn(*args, **kwargs)

    return call  # type: ignore[return-value]  # of the same signature


def check_function(fn: object) -> None:
    """Raise a ``TypeError`` if `fn` is not callable: it may be the items, in the wrong order."""
    if not callable(fn):
        raise TypeError(f"the function comes first, and then the items, not {fn!r}")


def missing_attribute(owner: Any, what: str, name: str, of_pools: Any = None) -> AttributeError:
    """Return the error for an attribute that `owner` does not have.

    Args:
        owner: the object, or the module.
        what: what the message calls it.
        name: the attribute.
        of_pools: the class of pools, if the attribute may be one of a pool.
    """
    message = f"{what} has no attribute {name!r}"
    kind = type(owner)
    meant = [each for each in _OTHER_ATTRIBUTES.get(name, ()) if hasattr(kind, each)]
    # What ``pool.after(5)`` returns, for instance, has `perform_many`, but not `map`.
    is_for_calls = hasattr(kind, "perform_many") and not hasattr(kind, "map")
    if is_for_calls and name in _BEFORE_TIMES:
        message += f": it comes before the time, as in pool.{name}(…).after(5)"
    elif is_for_calls and name == "job":
        message += ": decorate with @pool.job(every=60), @pool.job(cron=…) or @pool.job(daily=…)"
    elif meant and (hasattr(kind, "job") or name not in _CELERYS_WORDS):
        message += f": did you mean {meant[0]!r}?"
    elif name in _CELERYS_WORDS:
        message += ": @pool.job makes a function whose calls you submit(…) or perform(…)"
    elif not name.startswith("_") and hasattr(of_pools, name):
        message += f": it is a method of pools, as in oddjob.pool('name').{name}"
    else:
        return AttributeError(message, name=name, obj=owner)
    return AttributeError(message)


class HintedAttributes:
    """A base class whose errors about missing attributes say which attribute is meant."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise `missing_attribute`; only called when there is none."""
            raise missing_attribute(self, f"{type(self).__name__!r} object", name)
