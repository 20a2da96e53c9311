"""Callables: their names for people, whether they are ``async def``, and calling many of them.

And what is said of arguments, options and attributes that do not exist: which ones are meant.
"""

import functools
from collections.abc import Callable, Iterable
from types import FunctionType
from typing import TYPE_CHECKING, Any, Final, TypeVar

_CO_COROUTINE: Final = 0x80  # as in `inspect`, which takes time to import
_MAX_WRAPPERS: Final = 100  # a wrapper may, by mistake, wrap itself

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


def describe(fn: object) -> str:
    """Return the qualified name of a callable, or else that of its type; never raise."""
    if type(fn) is FunctionType:
        return fn.__qualname__
    try:
        if isinstance(fn, functools.partial):
            return describe(fn.func)
        name = fn.__qualname__  # type: ignore[attr-defined]  # whatever that is, or raises
    except Exception:
        name = None
    return name if isinstance(name, str) else type(fn).__qualname__


def is_async(fn: Any) -> bool:
    """Return whether a callable is an ``async def`` or wraps one; never raise."""
    try:
        for _ in range(_MAX_WRAPPERS):
            code = getattr(fn, "__code__", None)
            if getattr(code, "co_flags", 0) & _CO_COROUTINE:
                return True
            if isinstance(fn, functools.partial):
                fn = fn.func
            elif getattr(fn, "__wrapped__", None) is not None:
                fn = fn.__wrapped__
            elif code is None and isinstance(type(fn).__call__, FunctionType):
                fn = type(fn).__call__
            else:
                return False
    except Exception:
        return False
    return False


def call_all(actions: Iterable[Callable[[], object]]) -> None:
    """Call all of them, whatever each raises; raise the first exception in the end."""
    first: BaseException | None = None
    for action in actions:
        try:
            action()
        except BaseException as error:
            first = first or error
    try:
        if first is not None:
            raise first
    finally:
        del first  # its traceback refers to this frame


def suggest(unknown: str, known: Iterable[str]) -> str:
    """Return a hint for an error message: the known name that is meant or nearest, or all."""
    from difflib import get_close_matches

    words = {name: name for name in known}
    names = ", ".join(words)
    if "pool_size" in words:
        words.setdefault("max_workers", "pool_size")  # the standard library's word
    meant = [name for name in _OTHER_WORDS.get(unknown, ()) if name in words]
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
    """Have a call of a function with an unknown keyword argument raise what names the right one."""
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


def check_order(fn: object, items: object) -> None:
    """Raise a ``TypeError`` if a function and the items for its calls are in the wrong order."""
    if callable(items) and not callable(fn):
        raise TypeError(f"the function comes first, and then the items, not {fn!r}")


def missing_attribute(owner: Any, what: str, name: str, of_pools: Any = None) -> AttributeError:
    """Return the error for an attribute that `owner` has not; a pool may have it, or another word.

    Args:
        owner: what was asked for the attribute.
        what: `owner`, in the words of such errors.
        name: the attribute.
        of_pools: the class of pools, if `owner` has none of their methods.
    """
    message = f"{what} has no attribute {name!r}"
    kind = type(owner)
    meant = [each for each in _OTHER_ATTRIBUTES.get(name, ()) if hasattr(kind, each)]
    is_for_calls = hasattr(kind, "perform_many") and not hasattr(kind, "map")  # at a time
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
    """A base class: what is asked for an attribute that it has not says which one is meant."""

    __slots__ = ()

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Raise `missing_attribute`; only called when there is none."""
            raise missing_attribute(self, f"{type(self).__name__!r} object", name)
