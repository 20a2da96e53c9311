"""Histogram: many durations in little space."""

from collections import Counter
from math import floor, log2
from typing import Final

from oddjob.stats import Durations

__all__ = ["Histogram"]

_STEPS: Final = 8  # buckets for every doubling: each is 9% wide
_SHORTEST: Final = 1e-7  # seconds; there is no telling below that


class Histogram:
    """Durations, counted in buckets whose bounds grow by a constant factor.

    Locking: none; its owner's lock guards it.
    """

    __slots__ = ("_buckets", "_longest", "_shortest", "_total")

    def __init__(self) -> None:
        self._buckets: Counter[int] = Counter()
        self._total = 0.0
        self._shortest = float("inf")
        self._longest = 0.0

    def add(self, seconds: float, times: int = 1) -> None:
        """Count a duration, or that many of the same."""
        if times > 0:
            seconds = max(seconds, _SHORTEST)
            self._buckets[floor(log2(seconds) * _STEPS)] += times
            self._total += seconds * times
            self._shortest = min(self._shortest, seconds)
            self._longest = max(self._longest, seconds)

    def merge(self, other: "Histogram") -> None:
        """Count all that another has counted."""
        self._buckets.update(other._buckets)
        self._total += other._total
        self._shortest = min(self._shortest, other._shortest)
        self._longest = max(self._longest, other._longest)

    def summary(self) -> Durations:
        """The numbers that people ask for."""
        count = self._buckets.total()
        if count == 0:
            return Durations(0, 0.0, 0.0, 0.0, 0.0, 0.0)
        mean = self._total / count
        fiftieth, tail, far_tail = (self._at(share * count) for share in (0.50, 0.95, 0.99))
        return Durations(count, mean, fiftieth, tail, far_tail, self._longest)

    def _at(self, rank: float) -> float:
        """The duration that `rank` of them do not exceed: the middle of its bucket."""
        seen = 0
        for bucket, number in sorted(self._buckets.items()):
            seen += number
            if seen >= rank:
                middle: float = 2 ** ((bucket + 0.5) / _STEPS)
                return min(max(middle, self._shortest), self._longest)
        return self._longest
