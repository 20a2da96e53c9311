"""Progress: how far a job has got, by its own account."""

from typing import NamedTuple

__all__ = ["Progress"]


class Progress(NamedTuple):
    """What a job has reported: `done` of `total`, if that is known, and a `note` for people."""

    done: float
    total: float | None = None
    note: str | None = None

    @property
    def fraction(self) -> float | None:
        """How much of it is done, from 0 to 1; None if that is not known."""
        return None if not self.total else min(1.0, max(0.0, self.done / self.total))
