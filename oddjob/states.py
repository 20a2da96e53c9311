"""The states of a job, by the names that people see."""

from typing import Final, Literal

__all__ = [
    "CANCELLED",
    "ENDED",
    "FAILED",
    "PENDING",
    "RUNNING",
    "STANDARD",
    "SUCCEEDED",
    "State",
]

State = Literal["queued", "running", "succeeded", "failed", "cancelled"]

PENDING: Final = "queued"
RUNNING: Final = "running"
SUCCEEDED: Final = "succeeded"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
ENDED: Final = frozenset({SUCCEEDED, FAILED, CANCELLED})

# What the standard library calls them.
STANDARD: Final = {
    PENDING: "PENDING",
    RUNNING: "RUNNING",
    SUCCEEDED: "FINISHED",
    FAILED: "FINISHED",
    CANCELLED: "CANCELLED_AND_NOTIFIED",
}
