"""For the tests of programs that use pools."""

from collections.abc import Iterator
from contextlib import contextmanager

from oddjob.schedule.fake import FakeClock
from oddjob.workforce import inline as inline_mode
from oddjob.workforce.workforce import look_around_everywhere, workforces

__all__ = ["FakeClock", "inline"]

FakeClock._works = workforces


@contextmanager
def inline() -> Iterator[None]:
    """Run every job of every pool at once, in the thread that submits it.

    ``with oddjob.testing.inline():`` makes a test of code that uses pools an ordinary one: when
    ``submit`` returns, the job has ended, and a traceback leads to the line that submitted it.
    Limits, priorities and timeouts do not apply, and retries come without a delay. Jobs that were
    queued before are left to their workers.

    What goes wrong surfaces in that thread: the failure of a job given to ``perform`` is raised
    there and then, that of any other by ``result()``; those that nobody has looked at are raised at
    the end of the block, several as an ``ExceptionGroup``.

    As a fixture for pytest it is called ``oddjob_inline``.

    Thread safety: it holds for all threads of the process while the block lasts.
    """
    inline_mode.begin()
    look_around_everywhere()
    is_clean = False
    try:
        yield
        is_clean = True
    finally:
        unseen = inline_mode.end()
        look_around_everywhere()
        failures = [error for job in unseen if (error := job.exception()) is not None]
        if is_clean and len(failures) == 1:
            raise failures[0]
        if is_clean and failures:
            raise BaseExceptionGroup(f"{len(failures)} jobs failed unseen", failures)
