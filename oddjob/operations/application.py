"""Application: a program that the command imports, and the pools that it makes.

Guarantees: to import it runs none of its jobs. Its pools use their stores, so that they can submit;
they run jobs when `run` says so.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from oddjob.durable.pool_store import holds_pools
from oddjob.registry import configure, pools
from oddjob.runtime import lifecycle
from oddjob.thread_pool import Pool


def load(target: str) -> list[Pool]:
    """Import a program; return its pools.

    Args:
        target: ``MODULE``, all whose named pools are meant, ``MODULE:POOL``, a pool that it has,
            or ``MODULE:SETTINGS``, what `oddjob.configure` takes.

    Raises:
        LookupError: the module does not have that.
        Exception: whatever the import raises.
    """
    with _importing():
        found = _find(target)
        if isinstance(found, Pool):
            return [found]
        if isinstance(found, Mapping):
            configure(found)
        elif ":" in target:
            raise LookupError(f"{target} is neither a pool nor settings, but {found!r}")
    return list(pools().values())


def find_function(name: str) -> Any:
    """Import the function of a stored job, or what decorates it; see `load`.

    Raises:
        LookupError: it is not there.
        Exception: whatever the import raises.
    """
    with _importing():
        found = _find(name)
    if ":" not in name or not callable(found):
        raise LookupError(f"{name} is no function: give it as module:function")
    return found


def _find(target: str) -> Any:
    """Import a module; return it, or what is in it. Raise `LookupError` if that is not there."""
    name, _, inside = target.partition(":")
    if not name:
        raise LookupError(f"a program is given as MODULE or MODULE:NAME, not {target!r}")
    if "/" in name or name.endswith(".py") or name.startswith("."):  # people often write a path
        path = Path(name)
        dotted = ".".join(part for part in path.with_suffix("").parts if part.strip("."))
        raise LookupError(f"a program is given as a module, such as {dotted}, not as a path")
    found: Any = import_module(name)
    for part in filter(None, inside.split(".")):
        if not hasattr(found, part):
            raise LookupError(f"module {name!r} has no {inside!r}")
        found = getattr(found, part)
    return found


def store_of(function: str) -> str | None:
    """Return the store that jobs of a decorated function go to, as its URL; None: it has none."""
    for core in lifecycle.known_cores():
        if core.store is not None and function in core.store.submissions.policies:
            return str(core.options.store)
    return None


def new_pool(name: str, store: str) -> Pool:
    """Return the pool of that name, which runs nothing yet; it is made if there is none."""
    with _importing():
        return pools().get(name) or Pool(name, store=store)


def run(chosen: Iterable[Pool], concurrency: int | None = None) -> None:
    """Run the jobs in the stores of some pools; in each, at most `concurrency` at once."""
    wanted = list(chosen)
    for core in lifecycle.known_cores():
        if any(core.pool is each for each in wanted):
            if concurrency is not None:
                core.workers.resize(concurrency)
            if core.store is not None:
                core.store.consumes = True
                core.store.wake()


@contextmanager
def _importing() -> Iterator[None]:
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    held = holds_pools.set(True)
    try:
        yield
    finally:
        holds_pools.reset(held)
