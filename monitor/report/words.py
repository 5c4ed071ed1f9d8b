"""Numbers, shares, durations and moments as a person reads them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC as UTC_ZONE
from datetime import datetime
from math import floor, isfinite, log10
from typing import Any

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
NONE = "–"
MINUS = "−"
SPACE = "\u00a0"  # a number and its unit stay on one line


def count(value: int) -> str:
    return f"{value:,}"


def amount(value: int, what: str) -> str:
    """1 row, 2 rows."""
    return f"{value:,} {what}{'' if value == 1 else 's'}"


def number(value: float | None, beside: float | None = None) -> str:
    """Three significant digits; thousands are set apart.

    beside: a number of which three digits are shown too; this one needs no finer ones.
    """
    if value is None or not isfinite(value):
        return NONE
    scale = max(abs(value), abs(beside) if beside is not None and isfinite(beside) else 0.0)
    if scale == 0:
        return "0"
    size = floor(log10(scale))
    if not -5 <= size < 9:
        return f"{value:.2e}".replace("-", MINUS)
    text = f"{round(value, 2 - size):,.{max(2 - size, 0)}f}"
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text == "-0" else text.replace("-", MINUS)


def effect(value: float | None) -> str:
    """An effect size: to a thousandth, since less is nothing in every unit that there is."""
    if value is not None and 0 < abs(value) < 0.0005:
        return "<0.001"
    return number(value, 0.1)


def share(value: float | None) -> str:
    """Of rows, in percent."""
    if value is None or not isfinite(value):
        return NONE
    if value == 0:
        return f"0{SPACE}%"
    if abs(value) < 0.001:
        return f"<{SPACE}0.1{SPACE}%"
    return f"{value * 100:.1f}".removesuffix(".0") + f"{SPACE}%"


def whole_share(value: float) -> str:
    """Where there is little room."""
    return f"{value * 100:.0f}{SPACE}%" if value >= 0.1 else share(value)


def duration(seconds: float) -> str:
    """In the largest unit of which there is one."""
    for size, unit in ((DAY_S, "d"), (HOUR_S, "h"), (MINUTE_S, "min")):
        if seconds >= size:
            return f"{number(seconds / size)}{SPACE}{unit}"
    return f"{number(seconds)}{SPACE}s"


def days(seconds: float) -> str:
    """Evidence beside its budget: always in days."""
    value = seconds / DAY_S
    if 0 < value < 0.001:
        return f"<{SPACE}0.001{SPACE}d"
    return f">{SPACE}10⁹{SPACE}d" if value > 1e9 else f"{number(value)}{SPACE}d"


@dataclass(frozen=True, slots=True)
class Clock:
    """How moments are told; elapsed: since 0, where data has no time of its own."""

    elapsed: bool = False

    def moment(self, ns: int) -> str:
        if self.elapsed:
            return duration(ns / 1e9) if ns else "the start"
        found = datetime.fromtimestamp(ns // 10**9, UTC_ZONE)
        return f"{found:%Y-%m-%d %H:%M:%S} UTC" if found.second else f"{found:%Y-%m-%d %H:%M} UTC"

    def tick(self, ns: int, step_s: float) -> str:
        """Short, for an axis with a mark every `step_s`."""
        if self.elapsed:
            return duration(ns / 1e9) if ns else "0"
        found = datetime.fromtimestamp(ns // 10**9, UTC_ZONE)
        if step_s < MINUTE_S:
            return f"{found:%H:%M:%S}"
        if step_s < DAY_S:
            is_midnight = (found.hour, found.minute) == (0, 0)
            return f"{found.day}{SPACE}{found:%b}" if is_midnight else f"{found:%H:%M}"
        if step_s < 200 * DAY_S:
            return f"{found.day}{SPACE}{found:%b}"
        return f"{found:%b}{SPACE}{found:%Y}"


UTC, ELAPSED = Clock(), Clock(elapsed=True)


def because(feature: Mapping[str, Any]) -> str:
    """A feature of an outlier, and what would have been no surprise."""
    expected = feature["expected"]
    usual = "" if expected is None else f" (expected {_said(expected)})"
    return f"{feature['name']} {_said(feature['value'])}{usual}"


def _said(value: float | str | None) -> str:
    if value is None:
        return "missing"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
