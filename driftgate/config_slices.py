"""The slices of models: `[models.NAME.slices]`, and `[models."*".slices]` for the others."""

import math
import typing
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from driftgate.config_values import convert, unfit, unknown_key
from monitor.core.slice import OTHER, PARTS_MAX, SLICES_MAX, Slice

SLICES = "slices"
NAME_MAX = 64  # characters of a slice or a value; both are labels of metrics


def read_slices(table: Mapping[str, Any], name: str, origin: str) -> tuple[Slice, ...]:
    """name: of the table. Raises: CliError for what cannot be meant."""
    if len(table) > SLICES_MAX:
        raise unfit(name, sorted(table), origin, f"at most {SLICES_MAX} slices of a model")
    return tuple(_slice(key, item, f"{name}.{key}", origin) for key, item in table.items())


def _slice(key: str, table: Any, name: str, origin: str) -> Slice:
    if not isinstance(table, dict):
        raise unfit(name, table, origin, 'a table as { feature = "age", edges = [25, 65] }')
    if not 1 <= len(key) <= NAME_MAX:
        raise unfit(name, key, origin, f"a name of at most {NAME_MAX} characters")
    hints = {item: hint for item, hint in typing.get_type_hints(Slice).items() if item != "name"}
    values: dict[str, Any] = {}
    for item, raw in table.items():
        if item not in hints:
            raise unknown_key(f"{name}.{item}", item, sorted(hints), origin)
        if item in _READERS:
            read, expected = _READERS[item]
            values[item] = read(raw)
            if values[item] is None:
                raise unfit(f"{name}.{item}", raw, origin, expected)
        else:
            values[item] = convert(raw, hints[item], f"{name}.{item}", origin)
    if not values.get("feature"):
        raise unfit(name, table, origin, "a feature, which tells its rows apart")
    if ("values" in values) == ("edges" in values):
        raise unfit(name, table, origin, "values or edges, one of the two")
    return Slice(key, **values)


def _values(raw: Any) -> tuple[str, ...] | None:
    texts = [_text(item) for item in raw] if isinstance(raw, list) else []
    named = tuple(text for text in texts if text and text != OTHER and len(text) <= NAME_MAX)
    fits = 1 <= len(named) < PARTS_MAX and len(set(named)) == len(texts)
    return named if fits else None


def _edges(raw: Any) -> tuple[float, ...] | None:
    numbers = tuple(map(_number, raw)) if isinstance(raw, list) else ()
    rises = all(low < high for low, high in pairwise(numbers))  # which NaN does not
    fits = 1 <= len(numbers) <= PARTS_MAX - 2 and all(map(math.isfinite, numbers)) and rises
    return numbers if fits else None


def _text(raw: Any) -> str | None:
    """As `monitor.core.profile.text_of`, which needs numpy."""
    if isinstance(raw, bool):
        return str(int(raw))
    if isinstance(raw, float) and raw.is_integer():
        return str(int(raw))
    return str(raw) if isinstance(raw, int | float | str) else None


def _number(raw: Any) -> float:
    is_number = isinstance(raw, int | float) and not isinstance(raw, bool)
    return float(raw) if is_number else math.nan


def _share(raw: Any) -> float | None:
    number = _number(raw)
    return number if 0.0 <= number <= 1.0 else None


_SHARE = (_share, "a number from 0 to 1")
_READERS: Mapping[str, tuple[Callable[[Any], Any], str]] = {
    "values": (
        _values,
        f"a list of 1 to {PARTS_MAX - 1} different values of at most {NAME_MAX} characters, "
        f"none of them {OTHER!r}",
    ),
    "edges": (_edges, f"a list of 1 to {PARTS_MAX - 2} numbers that rise"),
    "positive": (_text, "an answer: text, a number, true or false"),
    "difference_max": _SHARE,
    "ratio_min": _SHARE,
}
