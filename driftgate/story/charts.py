"""Small charts as inline SVG, without a library: a report must open anywhere."""

import html
import math
from collections.abc import Iterator, Mapping, Sequence

from monitor.report.axes import Scale

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 720, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 36
# Distinct also for colour-blind readers (Okabe and Ito's palette).
COLOURS = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9")


def line_chart(
    series: Mapping[str, Points],
    *,
    y_label: str,
    threshold: float | None = None,
    marks: Sequence[tuple[float, str]] = (),
    y_max: float | None = None,
) -> str:
    """Lines over seconds; `threshold` is dashed, `marks` are labelled moments."""
    points = [point for line in series.values() for point in line]
    if not points:
        return "<p>No data.</p>"
    x = Scale(min(p[0] for p in points), max(p[0] for p in points), LEFT, WIDTH - RIGHT)
    highest = max([p[1] for p in points] + ([threshold * 1.05] if threshold else []))
    lowest = min(0.0, *(p[1] for p in points))
    y = Scale(lowest, y_max if y_max is not None else highest, HEIGHT - BOTTOM, TOP)
    parts = [*_axes(x, y, y_label)]
    for index, line in enumerate(series.values()):
        path = " ".join(f"{x(px):.1f},{y(py):.1f}" for px, py in line)
        parts.append(
            f'<polyline fill="none" stroke="{_colour(index)}" stroke-width="1.6" points="{path}"/>'
        )
    if threshold is not None:
        parts.append(_horizontal(y(threshold), "threshold"))
    parts += [_mark(x(at), text, place) for place, (at, text) in enumerate(marks)]
    return _svg(parts) + _legend(list(series))


def bar_pairs(first: Sequence[float], second: Sequence[float], names: tuple[str, str]) -> str:
    """Two distributions over the same bins, side by side, as shares of their sums."""
    shares = [[value / (sum(bars) or 1.0) for value in bars] for bars in (first, second)]
    y = Scale(0.0, max(map(max, shares)) or 1.0, HEIGHT - BOTTOM, TOP)
    x = Scale(0.0, float(len(first)), LEFT, WIDTH - RIGHT)
    half = (WIDTH - LEFT - RIGHT) / len(first) / 2 * 0.9
    parts = [
        *_axes(
            x,
            y,
            "share of rows",
            x_label="below the reference's range, its bins from low to high, above it",
        )
    ]
    for side, bars in enumerate(shares):
        for index, share in enumerate(bars):
            left = x(index) + side * half
            parts.append(
                f'<rect x="{left:.1f}" y="{y(share):.1f}" width="{half:.1f}" '
                f'height="{y(0) - y(share):.1f}" fill="{_colour(side)}"/>'
            )
    return _svg(parts) + _legend(list(names))


def stacked_shares(rows: Mapping[str, Points], step: float) -> str:
    """Which share each name has of all, per interval of `step` seconds."""
    moments = sorted({at for points in rows.values() for at, _ in points})
    if not moments:
        return "<p>No data.</p>"
    values = {name: dict(points) for name, points in rows.items()}
    x = Scale(moments[0], moments[-1] + step, LEFT, WIDTH - RIGHT)
    y = Scale(0.0, 1.0, HEIGHT - BOTTOM, TOP)
    parts = [*_axes(x, y, "share of rows")]
    for at in moments:
        total, base = sum(v.get(at, 0.0) for v in values.values()) or 1.0, 0.0
        for index, by_time in enumerate(values.values()):
            share = by_time.get(at, 0.0) / total
            width = x(at + step) - x(at) + 0.5  # overlap: no hairlines between bars
            parts.append(
                f'<rect x="{x(at):.1f}" y="{y(base + share):.1f}" width="{width:.1f}" '
                f'height="{y(base) - y(base + share):.1f}" fill="{_colour(index)}"/>'
            )
            base += share
    return _svg(parts) + _legend(list(rows))


def _colour(index: int) -> str:
    return COLOURS[index % len(COLOURS)]


def _svg(parts: Sequence[str]) -> str:
    inside = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{inside}</svg>'


def _axes(x: Scale, y: Scale, y_label: str, x_label: str = "seconds") -> Iterator[str]:
    for value in _ticks(y.low, y.high):
        at = y(value)
        yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        yield f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{value:g}</text>'
    for value in _ticks(x.low, x.high):
        yield (
            f'<text x="{x(value):.1f}" y="{HEIGHT - BOTTOM + 14}" text-anchor="middle">'
            f"{value:g}</text>"
        )
    middle = (TOP + HEIGHT - BOTTOM) / 2
    yield (
        f'<text transform="translate(12 {middle:.0f}) rotate(-90)" text-anchor="middle">'
        f"{html.escape(y_label)}</text>"
    )
    yield (
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2:.0f}" y="{HEIGHT - 4}" text-anchor="middle">'
        f"{html.escape(x_label)}</text>"
    )


def _ticks(low: float, high: float) -> list[float]:
    """About five round values inside [low, high]."""
    span = high - low
    if span <= 0:
        return [low]
    raw = span / 5
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= raw)
    first = math.ceil(low / step)
    return [round(k * step, 10) for k in range(first, math.floor(high / step) + 1)]


def _horizontal(at: float, text: str) -> str:
    return (
        f'<line class="threshold" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
        f'<text x="{WIDTH - RIGHT}" y="{at - 4:.1f}" text-anchor="end">{text}</text>'
    )


def _mark(at: float, text: str, place: int) -> str:
    height = TOP + 10 + place % 3 * 12  # neighbours on different lines stay readable
    return (
        f'<line class="mark" x1="{at:.1f}" x2="{at:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>'
        f'<text x="{at + 3:.1f}" y="{height}">{html.escape(text)}</text>'
    )


def _legend(names: Sequence[str]) -> str:
    items = "".join(
        f'<li><span style="background:{_colour(index)}"></span>{html.escape(name)}</li>'
        for index, name in enumerate(names)
    )
    return f'<ul class="legend">{items}</ul>'
