"""The false-alarm budget as people write it: one page per model in so much time, on average."""

import re

from monitor.core.periods import UNITS_S

FORM = "a number of pages and a time, as: 1 per 90d (units are s, m, h, d and w)"
_BUDGET = re.compile(r"\s*([0-9.]+)\s*per\s*([0-9.]+)\s*([smhdw])\s*")


def mean_time_s(text: str) -> float:
    """Mean time between false pages of "1 per 90d". Raises: ValueError with a sentence."""
    found = _BUDGET.fullmatch(text)
    try:
        pages, time = (float(found[1]), float(found[2]) * UNITS_S[found[3]]) if found else (0, 0)
    except ValueError:
        pages, time = 0, 0
    if pages <= 0 or time <= 0:
        raise ValueError(f"{text!r} is not {FORM}")
    return time / pages


def budget_text(seconds: float) -> str:
    """The budget in its largest unit that leaves a whole number, or in seconds."""
    for unit in reversed(tuple(UNITS_S)):
        count = seconds / UNITS_S[unit]
        if count >= 1 and count == int(count):
            return f"1 per {int(count)}{unit}"
    return f"1 per {seconds:g}s"
