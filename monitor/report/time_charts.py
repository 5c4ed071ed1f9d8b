"""What changes over time: evidence against its budget, loss, versions and traffic."""

from collections.abc import Iterator, Mapping, Sequence
from math import ceil, floor, log10

from monitor.core.performance.intervals import wilson
from monitor.report.axes import Frame, Scale, round_steps, rule, time_axis, time_scale
from monitor.report.markup import Html, element, shape
from monitor.report.timeline import Bucket, Losses, Timeline
from monitor.report.words import DAY_S, SPACE, Clock, count, days, number

LOSS_POINTS = 40  # fewer, and each of more labels, than there are buckets
DECADES_ABOVE = 3.0  # of the axis beyond the budget; what is higher is drawn at its end
DECADES_BELOW = 6.0
LETTER = 6.6  # width of a letter, about

Span = tuple[int, int]


def span_of(timeline: Timeline) -> Span:
    return timeline.start_ns or 0, timeline.end_ns


def evidence_parts(
    timeline: Timeline, threshold_s: float, warn_s: float, clock: Clock, frame: Frame
) -> Iterator[Html]:
    """The highest evidence of each moment in days, on a logarithmic axis, and the budgets."""
    width_ns, buckets = timeline.buckets()
    known = [bucket.evidence_s for _, bucket in buckets if bucket.evidence_s > 0]
    budget = log10(threshold_s)
    low = min([log10(value) for value in known] + [budget - 2])
    high = max([log10(value) for value in known] + [budget + 0.7])
    y = Scale(
        max(low, budget - DECADES_BELOW),
        min(high, budget + DECADES_ABOVE) + 0.2,
        frame.floor,
        frame.top,
    )
    x = time_scale(*span_of(timeline), frame)
    yield from _decades(y, frame)
    yield from time_axis(x, frame, clock)
    for run in _runs(buckets, width_ns):
        points = [
            (x((at + width_ns / 2) / 1e9), y(log10(bucket.evidence_s or 1e-9)))
            for at, bucket in run
        ]
        yield _line(points, "live")
    # Last, so that their names stay readable where the line crosses them.
    yield from _level(y(log10(warn_s)), f"warning, {days(warn_s)}", "warning", frame)
    yield from _level(y(budget), f"budget, {days(threshold_s)}", "budget", frame)


def _decades(y: Scale, frame: Frame) -> Iterator[Html]:
    """Powers of ten of days."""
    day = log10(DAY_S)
    first, last = ceil(y.low - day), floor(y.high - day)
    step = max(1, -(-(last - first + 1) // 6))
    for power in range(first, last + 1):
        if power % step == 0:
            yield rule(y(power + day), f"{_power_of_ten(power)}{SPACE}d", frame)


def _power_of_ten(power: int) -> str:
    """Written out while it is short."""
    if power < 0:
        return f"{10.0**power:.{-power}f}"
    return (
        f"{10**power:,}" if power < 4 else "10" + "".join("⁰¹²³⁴⁵⁶⁷⁸⁹"[int(d)] for d in str(power))
    )


def _level(at: float, label: str, kind: str, frame: Frame) -> Iterator[Html]:
    """A line across with its name above; the reference's stands below, clear of the bound's."""
    yield shape("line", class_=kind, x1=frame.left, x2=frame.end, y1=at, y2=at)
    above = at + 14 if kind == "reference-level" else at - 5
    yield element("text", label, class_=f"{kind} halo", x=frame.left + 6, y=above)


def _runs(
    buckets: Sequence[tuple[int, Bucket]], width_ns: int
) -> Iterator[list[tuple[int, Bucket]]]:
    """Neighbours; a line is not drawn over a time in which there was nothing."""
    run: list[tuple[int, Bucket]] = []
    for at, bucket in buckets:
        if run and at > run[-1][0] + width_ns:
            yield run
            run = []
        run.append((at, bucket))
    if run:
        yield run


def _line(points: Sequence[tuple[float, float]], class_: str) -> Html:
    path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
    if len(points) == 1:
        (px, py) = points[0]
        path = f"{px - 1:.1f},{py:.1f} {px + 1:.1f},{py:.1f}"
    return shape("polyline", class_=f"line {class_}", points=path)


def loss_parts(
    timeline: Timeline,
    levels: Mapping[str, float | None],
    clock: Clock,
    frame: Frame,
) -> Iterator[Html]:
    """Mean loss with 95 % intervals; levels: "reference" and "bound", where known."""
    width_ns, buckets = timeline.buckets(LOSS_POINTS)
    arms = {
        "live": [(at, b.stable_loss) for at, b in buckets if b.stable_loss.rows],
        "candidate": [(at, b.candidate_loss) for at, b in buckets if b.candidate_loss.rows],
    }
    tops = [wilson(losses.mean, losses.rows)[1] for arm in arms.values() for _, losses in arm]
    tops += [level for level in levels.values() if level is not None]
    y = Scale(0.0, min(max(tops, default=1.0) * 1.1, 1.0) or 1.0, frame.floor, frame.top)
    x = time_scale(*span_of(timeline), frame)
    for value in round_steps(y.high):
        yield rule(y(value), number(value), frame)
    yield from time_axis(x, frame, clock)
    for name, level in levels.items():
        if level is not None:
            kind = "budget" if name == "bound" else "reference-level"
            yield from _level(y(level), f"{name}, {number(level)}", kind, frame)
    for arm, points in arms.items():
        for at, losses in points:
            yield from _whisker(x((at + width_ns / 2) / 1e9), losses, y, arm)


def _whisker(at: float, losses: Losses, y: Scale, class_: str) -> Iterator[Html]:
    low, high = wilson(losses.mean, losses.rows)
    yield shape("line", class_=f"whisker {class_}", x1=at, x2=at, y1=y(low), y2=y(high))
    middle = y(losses.mean)
    if class_ == "live":
        yield shape("circle", class_="dot live", cx=at, cy=middle, r=3)
    else:  # another form too, for who cannot tell the colours apart
        yield shape(
            "path",
            class_="dot candidate",
            d=f"M{at:.1f} {middle - 4.5:.1f}l4.5 4.5l-4.5 4.5l-4.5-4.5z",
        )


LANE, LANE_GAP = 22, 10


def story_parts(
    timeline: Timeline, marks: Sequence[tuple[int, str, str]], clock: Clock, frame: Frame
) -> Iterator[Html]:
    """Versions and traffic as lanes, what was said and done as marks above them.

    marks: when, the number that the list gives it, and its class.
    """
    width_ns, buckets = timeline.buckets()
    x = time_scale(*span_of(timeline), frame)
    yield from time_axis(x, frame, clock)
    top = frame.top + 22
    lanes = ["stable"]
    if any(bucket.candidate for _, bucket in buckets):
        lanes.append("candidate")
    for place, lane in enumerate(lanes):
        at = top + place * (LANE + LANE_GAP)
        yield element("text", lane, x=frame.left - 6, y=at + 15, text_anchor="end")
        yield from _versions(buckets, width_ns, lane, x, at)
    at = top + len(lanes) * (LANE + LANE_GAP)
    yield from _traffic(buckets, width_ns, x, at, frame)
    yield from _marks(marks, x, frame)


def _versions(
    buckets: Sequence[tuple[int, Bucket]], width_ns: int, lane: str, x: Scale, top: float
) -> Iterator[Html]:
    for place, (version, start_ns, end_ns) in enumerate(_reigns(buckets, width_ns, lane)):
        left, right = x(start_ns / 1e9), x(end_ns / 1e9)
        width = max(right - left - 1, 1.5)
        kind = f"version v{place % 2} {lane}"
        bar = shape("rect", class_=kind, x=left, y=top, width=width, height=LANE, rx=2)
        yield element("g", element("title", f"version {version}, {lane}"), bar)
        if len(version) * LETTER + 10 < width:
            yield element("text", version, class_="on-version", x=left + 6, y=top + 15)


def _reigns(
    buckets: Sequence[tuple[int, Bucket]], width_ns: int, lane: str
) -> Iterator[tuple[str, int, int]]:
    """From when to when which version answered most rows of the lane."""
    current: tuple[str, int, int] | None = None
    for at, bucket in buckets:
        rows = bucket.stable if lane == "stable" else bucket.candidate
        version = max(rows, key=lambda name: (rows[name], name), default=None)
        if version is None:
            continue
        if current is not None and current[0] == version and at <= current[2] + width_ns:
            current = (version, current[1], at + width_ns)
            continue
        if current is not None:
            yield current
        current = (version, at, at + width_ns)
    if current is not None:
        yield current


def _traffic(
    buckets: Sequence[tuple[int, Bucket]], width_ns: int, x: Scale, top: float, frame: Frame
) -> Iterator[Html]:
    """Rows of each bucket; the height that is left, the busiest fills it."""
    most = max((bucket.rows for _, bucket in buckets), default=0)
    y = Scale(0.0, float(most or 1), frame.floor, top)
    for label, at in (("rows", frame.floor - 2), (count(most), top + 9)):
        yield element("text", label, x=frame.left - 6, y=at, text_anchor="end")
    for at, bucket in buckets:
        left = x(at / 1e9)
        width = max(x((at + width_ns) / 1e9) - left, 0.8)
        height = frame.floor - y(bucket.rows)
        yield shape("rect", class_="rows", x=left, y=y(bucket.rows), width=width, height=height)


def _marks(marks: Sequence[tuple[int, str, str]], x: Scale, frame: Frame) -> Iterator[Html]:
    """Numbers where there is room for them, else a stroke."""
    last = -1e9
    for at_ns, label, kind in sorted(marks):
        at = x(at_ns / 1e9)
        yield shape("line", class_=f"mark {kind}", x1=at, x2=at, y1=frame.top, y2=frame.floor)
        if at - last < 19:
            continue
        last = at
        yield shape("circle", class_=f"flag {kind}", cx=at, cy=frame.top, r=9)
        yield element("text", label, class_="on-flag", x=at, y=frame.top + 4, text_anchor="middle")
