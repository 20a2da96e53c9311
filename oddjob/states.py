"""The states of a job, by the names that people see."""

from typing import Final, Literal

__all__ = [
    "CANCELLED",
    "ENDED",
    "FAILED",
    "PENDING",
    "RUNNING",
    "SCHEDULED",
    "STANDARD",
    "SUCCEEDED",
    "State",
]

State = Literal["scheduled", "queued", "running", "succeeded", "failed", "cancelled"]

SCHEDULED: Final = "scheduled"
PENDING: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED: Final = frozenset({SUCCEEDED, FAILED, CANCELLED})

# What the standard library calls them.
STANDARD: Final = {
    SCHEDULED: "PENDING",
    PENDING: "PENDING",
    RUNNING: "RUNNING",
    SUCCEEDED: "FINISHED",
    FAILED: "FINISHED",
    CANCELLED: "CANCELLED_AND_NOTIFIED",
}
