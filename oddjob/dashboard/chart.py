"""Chart: bars for numbers, as the attributes of SVG elements, which a template writes."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, NamedTuple

WIDTH: Final = 960.0
HEIGHT: Final = 120.0
_GAP: Final = 3.0


class Bar(NamedTuple):
    """A part of a bar: a state, how many, and where it is drawn."""

    state: str
    number: int
    x: float
    y: float
    width: float
    height: float


class Column(NamedTuple):
    """A period: when it was, what it is called, and its bars, from below."""

    at: datetime
    title: str
    x: float
    width: float
    bars: list[Bar]


class Chart(NamedTuple):
    """A chart of stacked bars, with a line at its highest value."""

    columns: list[Column]
    highest: int
    totals: dict[str, int]


def chart_of(since: datetime, period: float, series: dict[str, Sequence[int]]) -> Chart:
    """Return the chart of some series, the first one at the bottom, over periods of seconds."""
    number = max((len(counts) for counts in series.values()), default=0)
    sums = [sum(counts[n] for counts in series.values()) for n in range(number)]
    highest = max(sums, default=0)
    step = WIDTH / max(1, number)
    columns = []
    for n in range(number):
        at, y, bars = since + timedelta(seconds=period * n), HEIGHT, []
        for state, counts in series.items():
            if counts[n]:
                height = max(1.5, round(counts[n] / highest * HEIGHT, 1))
                y = round(max(0.0, y - height), 1)
                bars.append(
                    Bar(state, counts[n], round(step * n, 1), y, round(step - _GAP, 1), height)
                )
        said = ", ".join(f"{counts[n]:,} {state}" for state, counts in series.items())
        columns.append(Column(at, f"{at:%H:%M} UTC: {said}", round(step * n, 1), step, bars))
    return Chart(columns, highest, {state: sum(counts) for state, counts in series.items()})
