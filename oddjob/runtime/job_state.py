"""The states of a job, and what it says of itself: its failure, its progress."""

from collections.abc import Callable
from types import TracebackType
from typing import Final, Literal, NamedTuple

JobState = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]

SCHEDULED: Final = "scheduled"
QUEUED: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED: Final = frozenset({SUCCEEDED, FAILED, CANCELLED})


class Failure:
    """How a job failed: its exception, with the traceback that it had then.

    Raising an exception adds frames to its traceback. Starting from the saved one each time, a
    failed job can be looked at a hundred times without growing.

    Its end is that of the job: if nobody has looked at it by then, it is reported. (A destructor
    of `Job` would cost the jobs that succeed as well.)
    """

    __slots__ = ("error", "is_seen", "report", "traceback")

    def __init__(self, error: BaseException) -> None:
        self.report: Callable[[Failure], object] | None = None  # None: others report it
        self.error: Final = error
        self.traceback: Final[TracebackType | None] = error.__traceback__
        self.is_seen: bool = False

    def exception(self) -> BaseException:
        """Return the exception, and remember that it has been looked at."""
        self.is_seen = True
        return BaseException.with_traceback(self.error, self.traceback)

    def __del__(self) -> None:
        if self.report is not None and not self.is_seen:
            self.report(self)


class Progress(NamedTuple):
    """What a job has reported of itself: `done` of `total` (None: unknown), and a `note`."""

    done: float
    total: float | None = None
    note: str | None = None

    @property
    def fraction(self) -> float | None:
        """The part that is done, from 0 to 1; None if `total` is unknown."""
        return None if not self.total else min(1.0, max(0.0, self.done / self.total))
