"""Chart: what has ended in each of the last 60 minutes, and bars for such numbers.

A store knows when its jobs have ended. Pools in memory only count them, so a `History` notes their
counts whenever a page is looked at.
"""

import threading
import time
from collections import deque
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final
from weakref import WeakKeyDictionary

from oddjob.operations.memory_operations import MemoryOperations
from oddjob.thread_pool import Pool

MINUTES: Final = 60
WIDTH: Final = 960.0
HEIGHT: Final = 120.0
_GAP: Final = 3.0
_LOWEST: Final = 1.5  # of a bar, so that one job among thousands is seen
_SAMPLES: Final = 360  # of each pool
_SAMPLE_INTERVAL: Final = 10.0  # seconds


class History:
    """How many jobs of pools in memory had ended at the times when pages were looked at.

    Locking: ``_lock`` guards the samples; nothing is called under it.
    """

    def __init__(self) -> None:
        self._samples: Final = WeakKeyDictionary[Pool, deque[tuple[float, int, int]]]()
        self._lock: Final = threading.Lock()

    def ended(self, pool: MemoryOperations) -> dict[str, list[int]]:
        """Return how many jobs of a pool have ended in each minute."""
        counts, now = pool.counts(), time.time()
        with self._lock:
            samples = self._samples.setdefault(pool.pool, deque(maxlen=_SAMPLES))
            if not samples or now >= samples[-1][0] + _SAMPLE_INTERVAL:
                samples.append((now, counts["succeeded"], counts["failed"]))
            known = [*samples]
        found: dict[str, list[int]] = {"succeeded": [0] * MINUTES, "failed": [0] * MINUTES}
        start = first_minute(now)
        following = [*known[1:], (now, counts["succeeded"], counts["failed"])]
        for former, (at, succeeded, failed) in zip(known, following, strict=True):
            minute = int((at - start) // 60)
            if 0 <= minute < MINUTES:
                found["succeeded"][minute] += succeeded - former[1]
                found["failed"][minute] += failed - former[2]
        return found


def first_minute(now: float | None = None) -> float:
    """Return where charts begin, in seconds since the epoch: on a whole minute."""
    now = time.time() if now is None else now
    return (now // 60 - MINUTES + 1) * 60


def chart_of(since: datetime, period: float, series: dict[str, Sequence[int]]) -> dict[str, Any]:
    """Return a chart of stacked bars, the first series below, over periods of seconds."""
    counts = [*zip(*series.values(), strict=True)]
    highest = max(map(sum, counts), default=0)
    step = WIDTH / max(1, len(counts))
    columns = []
    for n, parts in enumerate(counts):
        at, x, y, bars = since + timedelta(seconds=period * n), round(step * n, 1), HEIGHT, []
        for state, count in zip(series, parts, strict=True):
            if count:
                height = max(_LOWEST, count / highest * HEIGHT)
                y = max(0.0, y - height)
                bars.append((state, x, round(y, 1), round(step - _GAP, 1), round(height, 1)))
        said = ", ".join(f"{count:,} {state}" for state, count in zip(series, parts, strict=True))
        columns.append({"at": at, "title": f"{at:%H:%M} UTC: {said}", "x": x, "width": step,
                        "bars": bars, "counts": parts})  # fmt: skip
    totals = {state: sum(each) for state, each in series.items()}
    return {"columns": columns, "highest": highest, "totals": totals}
