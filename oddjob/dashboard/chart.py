"""Chart: bars for numbers, as the attributes of SVG elements, which a template writes."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

WIDTH: Final = 960.0
HEIGHT: Final = 120.0
_GAP: Final = 3.0
_LOWEST: Final = 1.5  # of a bar, so that one job among thousands is seen


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
