"""How requests whose inputs differ in length may share a batch: the `pad_` parameters.

Triton leaves `parameters` to backends; ours are told from others by their names.
Nothing is padded without `pad_axis`.
"""

import re
from dataclasses import dataclass, field
from typing import Any

from registry_client.core.config_fields import Notes, message, place, text, wrong
from registry_client.core.errors import Invalid
from registry_client.core.names import shown
from registry_client.core.pbtxt import Field
from registry_client.core.signature import TENSOR_NAME_CHARS_MAX

AXIS, MASK, VALUES, LENGTHS = "pad_axis", "pad_mask", "pad_values", "pad_lengths"
PARAMETERS = (AXIS, MASK, VALUES, LENGTHS)
LENGTHS_MAX = 64  # each is run when the version is loaded
LENGTH_MAX = 1 << 20
VALUES_MAX = 64  # as many inputs as a request may have

_SPLIT = re.compile(r"[,\s]+")
_NUMBER = re.compile(r"[0-9]{1,7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Padding:
    """What was read.

    axis:    the graph's own name of the dimension.
    mask:    the input that is 1 where a request has something, "" if there is none.
    values:  input -> what it is padded with, as it was written; zero where none is given.
    lengths: rising; () leaves them to what runs are measured to take.
    """

    axis: str
    mask: str = ""
    values: dict[str, str] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if not self.axis or len(self.axis) > TENSOR_NAME_CHARS_MAX:
            raise Invalid(f"{AXIS} {shown(self.axis)} is empty or too long")
        if self.mask in self.values:
            raise Invalid(f"{VALUES}: {shown(self.mask)} is the mask, which is padded with 0")

    def serving(self) -> dict[str, Any]:
        """The manifest's settings."""
        return {
            "axis": self.axis,
            "mask": self.mask,
            "values": dict(self.values),
            "lengths": list(self.lengths),
        }


def read_parameters(items: list[Field], notes: Notes) -> Padding | None:
    """Of all `parameters` of a configuration. Raises: Invalid."""
    given: dict[str, str] = {}
    for item in items:
        for name, value in _entries(item):
            if name in PARAMETERS and value is not None:
                given |= {name: value} if value else {}
            elif value != "":
                notes.unsupported(item, f"parameters.{name}")
    if not given:
        return None
    try:
        return read_padding(given)
    except Invalid as exc:
        raise Invalid(f"{place(items[0])}: {exc}") from exc


def read_padding(given: dict[str, str]) -> Padding:
    """Of the parameters as they are written. Raises: Invalid."""
    if not given.get(AXIS):
        raise Invalid(f"{max(given)} without {AXIS} pads nothing")
    return Padding(
        given[AXIS].strip(),
        given.get(MASK, "").strip(),
        _values(given.get(VALUES, "")),
        _lengths(given.get(LENGTHS, "")),
    )


def _entries(item: Field) -> list[tuple[str, str | None]]:
    """(key, string_value), None without one: one entry in text format, all in JSON."""
    fields = message(item).fields
    if item.line == 0:
        return [(part.name, _string(part)) for part in fields]
    if not fields:
        return []
    keys = [text(part) for part in fields if part.name == "key"]
    values = [part for part in fields if part.name == "value"]
    if len(keys) != 1 or len(values) > 1 or len(fields) != 1 + len(values):
        raise wrong(item, "given one key and one value")
    return [(keys[0], _string(values[0]) if values else "")]


def _string(item: Field) -> str | None:
    parts = message(item).fields
    if not parts:
        return ""
    return text(parts[-1]) if parts[-1].name == "string_value" else None


def _values(words: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for word in filter(None, _SPLIT.split(words)):
        name, separator, value = word.rpartition("=")
        if not separator or not name or not value or name in values:
            raise Invalid(f"{VALUES} {shown(word)} must be INPUT=VALUE, each input once")
        values[name] = value
    if len(values) > VALUES_MAX:
        raise Invalid(f"{VALUES} names more than {VALUES_MAX} inputs")
    return values


def _lengths(words: str) -> tuple[int, ...]:
    parts = list(filter(None, _SPLIT.split(words)))
    if len(parts) > LENGTHS_MAX or not all(_NUMBER.fullmatch(part) for part in parts):
        raise Invalid(f"{LENGTHS} {shown(words)} must be at most {LENGTHS_MAX} whole numbers")
    lengths = tuple(int(part) for part in parts)
    if any(not 1 <= n <= LENGTH_MAX for n in lengths) or list(lengths) != sorted(set(lengths)):
        raise Invalid(f"{LENGTHS} {shown(words)} must rise, from 1 to {LENGTH_MAX}")
    return lengths
