"""Tools for the tests of programs that use pools: `inline` mode and a `FakeClock`."""

from collections.abc import Iterator
from contextlib import contextmanager

from oddjob.runtime import inline as inline_mode
from oddjob.testing.fake_clock import FakeClock

__all__ = ["FakeClock", "inline"]


@contextmanager
def inline() -> Iterator[None]:
    """Run every job of every pool at once, in the thread that submits it.

    Inside ``with oddjob.testing.inline():``, a job has ended when ``submit`` returns, and its
    traceback leads to the line that submitted it. Limits, priorities and timeouts do not apply, and
    retries happen without delay. Jobs that were queued before are left to their workers. In a pool
    with a store they are not stored; `Pool.find` finds them, `Pool.records` does not. The pytest
    fixture ``oddjob_inline`` does the same.

    Failures are raised in the test: that of a job given to ``perform`` at that line, that of any
    other job by ``result()``. Those that nothing has looked at are raised at the end of the block,
    several of them as an exception group.

    Thread safety: applies to all threads of the process. Blocks may be nested.
    """
    block = inline_mode.begin()
    try:
        yield
    finally:
        jobs = inline_mode.end(block)
        unseen = [error for job in jobs if (error := job.exception()) is not None]
    if len(unseen) == 1:
        raise unseen[0]
    if unseen:
        raise BaseExceptionGroup(f"{len(unseen)} jobs failed unseen", unseen)
