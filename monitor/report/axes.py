"""From values and moments to places on a drawing, and where its marks stand."""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor, log10

from monitor.report.markup import Html, element, shape
from monitor.report.words import Clock

STEPS_S = (
    *(1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800),
    *(3600, 2 * 3600, 3 * 3600, 6 * 3600, 12 * 3600),
    *(
        86_400 * days
        for days in (1, 2, 5, 7, 14, 30, 60, 90, 180, 365, 730, 1825, 3650, 7300, 18_250)
    ),
)


@dataclass(frozen=True, slots=True)
class Frame:
    """A drawing's size and the room around its plot, in its own units."""

    width: int
    height: int
    left: int = 48
    right: int = 12
    top: int = 18
    bottom: int = 26

    @property
    def floor(self) -> int:
        return self.height - self.bottom

    @property
    def end(self) -> int:
        return self.width - self.right


@dataclass(frozen=True, slots=True)
class Scale:
    """Maps [low, high] linearly onto [start, end]; what lies outside goes to the ends."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        span = (self.high - self.low) or 1.0
        inside = min(max(value, self.low), self.high)
        return self.start + (inside - self.low) / span * (self.end - self.start)


def time_scale(start_ns: int, end_ns: int, frame: Frame) -> Scale:
    return Scale(start_ns / 1e9, end_ns / 1e9, frame.left, frame.end)


def time_axis(x: Scale, frame: Frame, clock: Clock) -> Iterator[Html]:
    """Round moments under the plot, as many as there is room for."""
    span_s, room = x.high - x.low, max((frame.end - frame.left) // 90, 2)
    step = next((step for step in STEPS_S if span_s / step <= room), STEPS_S[-1])
    for k in range(ceil(x.low / step), floor(x.high / step) + 1):
        at = x(k * step)
        yield shape("line", class_="tick", x1=at, x2=at, y1=frame.floor, y2=frame.floor + 4)
        text = clock.tick(round(k * step * 1e9), step)
        yield element("text", text, x=at, y=frame.floor + 16, text_anchor=_anchor(at, frame))
    yield shape("line", class_="axis", x1=frame.left, x2=frame.end, y1=frame.floor, y2=frame.floor)


def _anchor(at: float, frame: Frame) -> str:
    """Text at an edge stays inside of the drawing."""
    if at > frame.end - 20:
        return "end"
    return "start" if at < frame.left - 20 else "middle"


def rule(y: float, label: str, frame: Frame) -> Html:
    """A line of the grid with what it stands for."""
    line = shape("line", class_="grid", x1=frame.left, x2=frame.end, y1=y, y2=y)
    text = element("text", label, x=frame.left - 6, y=y + 4, text_anchor="end")
    return Html(line + text)


def round_steps(high: float, wanted: int = 4) -> list[float]:
    """0 and round values up to `high`, about `wanted` of them."""
    if high <= 0:
        return [0.0]
    power: float = 10.0 ** floor(log10(high / wanted))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= high / wanted)
    return [round(k * step, 12) for k in range(floor(high / step + 1e-9) + 1)]
