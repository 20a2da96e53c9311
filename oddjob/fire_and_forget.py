"""FireAndForget: a job that nobody waits for."""

from contextvars import copy_context
from typing import Any

from oddjob.job import Job
from oddjob.work import OF_BATCH

__all__ = ["FireAndForget"]


class FireAndForget(Job[Any]):
    """A job whose result nobody will read: its failure is reported instead of kept."""

    __slots__ = ()

    def fail(self, error: BaseException) -> bool:
        """Settle as failed and report it to the pool's log and ``on_error``."""
        context = self._context
        if context is None:
            context = copy_context()
        elif self._kwargs is OF_BATCH:
            context = context.copy()  # the batch's own can be entered by one thread only
        settled = super().fail(error)
        if settled:
            self._crew.report_failure(self, error, context)
        return settled
