"""Times as people write them: 12h, 7d, 2w."""

import re
from collections.abc import Mapping

UNITS_S: Mapping[str, int] = {"s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}
_PERIOD = re.compile(r"([1-9][0-9]{0,5})([smhdw])")


def parse_period_ns(text: str) -> int:
    """`12h`, `7d` in ns; 0 for the empty text. Raises: ValueError."""
    if not text:
        return 0
    found = _PERIOD.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no time such as 12h, 7d or 2w")
    return int(found[1]) * UNITS_S[found[2]] * 10**9
