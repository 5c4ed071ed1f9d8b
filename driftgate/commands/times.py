"""Moments and durations as a person types them."""

import re
import time
from argparse import ArgumentTypeError
from datetime import UTC, datetime

from driftgate.errors import CliError, Exit
from monitor.core.periods import UNITS_S

_AGO = re.compile(r"(\d+)([smhd])")
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?")


def parse_time(text: str | None) -> int | None:
    """Unix ns of an ISO time (UTC unless it says otherwise) or an age. Raises: CliError."""
    if text is None:
        return None
    if match := _AGO.fullmatch(text):
        return time.time_ns() - int(match[1]) * UNITS_S[match[2]] * 1_000_000_000
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise CliError(
            f"{text!r} is no time", hint="2026-01-31T12:00:00Z, or an age: 90m", code=Exit.USAGE
        ) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000_000) * 1000


def seconds(text: str) -> float:
    """A duration such as 500ms, 90s, 60m, 24h or 7d; a bare number is seconds.

    Raises: ArgumentTypeError, whose sentence argparse shows as a usage error.
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ArgumentTypeError(f"{text!r} is not a duration such as 90s, 60m or 24h")
    number, unit = float(match[1]), match[2] or "s"
    return number * 0.001 if unit == "ms" else number * UNITS_S[unit]
