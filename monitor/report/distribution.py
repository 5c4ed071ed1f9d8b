"""A feature's distribution drawn: the reference as a grey area, the live side as a line.

A filled form and an outline can be told apart without colours, on paper too.
"""

from collections.abc import Iterator

import numpy as np

from monitor.core.bins import Floats
from monitor.core.effects import Effect
from monitor.core.profile import FeatureKind
from monitor.report.axes import Frame, Scale
from monitor.report.figure import drawing
from monitor.report.histogram import Bars, bars_of
from monitor.report.markup import Html, element, shape
from monitor.report.words import share, whole_share

CARD = Frame(320, 148, left=8, right=8, top=18, bottom=22)
ROW = 24  # of a category
NAME_WIDTH, VALUE_WIDTH = 100, 96
NAME_LETTERS = 15
TAIL_GAP = 0.6  # between a tail's bar and the range, in bars
LABELS_MAX = 8


def distribution(effect: Effect) -> Html:
    """The drawing, or a sentence where there is nothing to draw."""
    bars = bars_of(effect)
    name = effect.feature.name
    if bars is None:
        return element("p", "No live row has a value to show.", class_="empty")
    if effect.feature.kind is FeatureKind.CATEGORICAL:
        frame = Frame(CARD.width, ROW * len(bars.labels) + 6, left=8, right=8, top=4, bottom=2)
        return drawing(_category_rows(bars, frame), frame, _title(name, bars))
    return drawing(_steps(bars, CARD), CARD, _title(name, bars))


def _title(name: str, bars: Bars) -> str:
    """What a screen reader says in place of the picture."""
    gaps = bars.live - bars.reference
    most = int(np.argmax(np.abs(gaps)))
    labels = [*bars.labels]
    if bars.tails:
        inner = [f"part {i} of {len(gaps) - 2} of the range" for i in range(1, len(gaps) - 1)]
        labels = [f"below {bars.labels[0]}", *inner, f"above {bars.labels[1]}"]
    return (
        f"Distribution of {name}. Largest difference at {labels[most]}: "
        f"{share(float(bars.reference[most]))} of the reference, "
        f"{share(float(bars.live[most]))} live."
    )


def _steps(bars: Bars, frame: Frame) -> Iterator[Html]:
    lefts, width = _places(bars, frame)
    top = float(max(bars.reference.max(), bars.live.max())) or 1.0
    y = Scale(0.0, top, frame.floor, frame.top)
    yield shape("line", class_="grid", x1=frame.left, x2=frame.end, y1=y(top), y2=y(top))
    yield element("text", share(top), x=frame.left, y=y(top) - 4)
    yield shape("path", class_="reference", d=_area(lefts, width, bars.reference, y))
    for first, last in _stretches(bars):
        points = []
        for left, value in zip(lefts[first:last], bars.live[first:last], strict=True):
            points += [f"{left:.1f},{y(value):.1f}", f"{left + width:.1f},{y(value):.1f}"]
        yield shape("polyline", class_="line live", points=" ".join(points))
    yield shape("line", class_="axis", x1=frame.left, x2=frame.end, y1=y(0), y2=y(0))
    yield from _labels(bars, lefts, width, frame)


def _stretches(bars: Bars) -> list[tuple[int, int]]:
    """Bars that are drawn as one line; a tail stands apart."""
    size = len(bars.live)
    return [(0, 1), (1, size - 1), (size - 1, size)] if bars.tails else [(0, size)]


def _places(bars: Bars, frame: Frame) -> tuple[Floats, float]:
    """The left end of each bar, and the width of all."""
    size, room = len(bars.live), frame.end - frame.left
    width = room / (size + (2 * TAIL_GAP if bars.tails else 0))
    places = np.arange(size, dtype=np.float64)
    if bars.tails:
        places[1:] += TAIL_GAP
        places[-1] += TAIL_GAP
    return frame.left + places * width, width


def _area(lefts: Floats, width: float, shares: Floats, y: Scale) -> str:
    gap = 0.5 if width > 3 else 0.0
    return "".join(
        f"M{left + gap / 2:.1f} {y(0):.1f}V{y(value):.1f}h{width - gap:.1f}V{y(0):.1f}z"
        for left, value in zip(lefts, shares, strict=True)
        if value > 0
    )


def _labels(bars: Bars, lefts: Floats, width: float, frame: Frame) -> Iterator[Html]:
    at = frame.floor + 15
    if bars.tails:
        for x, text, anchor in (
            (lefts[1], bars.labels[0], "start"),
            (lefts[-2] + width, bars.labels[1], "end"),
        ):
            yield element("text", text, x=float(x), y=at, text_anchor=anchor)
        if bars.logarithmic:
            middle = (frame.left + frame.end) / 2
            yield element("text", "logarithmic", x=middle, y=at, text_anchor="middle")
        return
    every = max(-(-len(bars.labels) // LABELS_MAX), 1)
    if max(map(len, bars.labels)) * 7 > width * every:
        every = max(len(bars.labels) - 1, 1)
    for place in range(0, len(bars.labels), every):
        x = float(lefts[place]) + width / 2
        anchor = "middle"
        if x < frame.left + 24:
            x, anchor = float(lefts[place]), "start"
        elif x > frame.end - 24:
            x, anchor = float(lefts[place]) + width, "end"
        yield element("text", bars.labels[place], x=x, y=at, text_anchor=anchor)


def _category_rows(bars: Bars, frame: Frame) -> Iterator[Html]:
    top = float(max(bars.reference.max(), bars.live.max())) or 1.0
    x = Scale(0.0, top, NAME_WIDTH, frame.end - VALUE_WIDTH)
    for place, label in enumerate(bars.labels):
        at = frame.top + place * ROW
        before, now = float(bars.reference[place]), float(bars.live[place])
        short = label if len(label) <= NAME_LETTERS else label[: NAME_LETTERS - 1] + "…"
        yield element("text", short or "(empty)", x=NAME_WIDTH - 6, y=at + 15, text_anchor="end")
        wide = max(x(before) - NAME_WIDTH, 0.5)
        yield shape("rect", class_="reference", x=NAME_WIDTH, y=at + 3, width=wide, height=17)
        wide = max(x(now) - NAME_WIDTH, 0.5)
        yield shape("rect", class_="bar live", x=NAME_WIDTH, y=at + 7, width=wide, height=9)
        text = f"{whole_share(before)} → {whole_share(now)}"
        yield element("text", text, x=frame.end, y=at + 15, text_anchor="end")
