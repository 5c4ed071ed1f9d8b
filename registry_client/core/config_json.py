"""A model configuration in JSON, as the tree that text format becomes.

Every field has line 0. `null` and an empty list leave a field out, as in
protobuf's JSON; a key that stands twice in one object is refused.
"""

import json

from registry_client.core.errors import Invalid
from registry_client.core.names import shown
from registry_client.core.pbtxt import DEPTH_MAX, TEXT_CHARS_MAX, Field, Message, Scalar, Word


def parse_config_json(text: str) -> Message:
    """Raises: Invalid, and nothing else, for any other text."""
    if len(text) > TEXT_CHARS_MAX:
        raise Invalid(f"config override: over the limit of {TEXT_CHARS_MAX} characters")
    try:
        document = json.loads(text, object_pairs_hook=_no_doubles, parse_constant=_no_constant)
    except (ValueError, RecursionError) as exc:
        raise Invalid(f"config override: not JSON: {shown(str(exc))}") from exc
    if not isinstance(document, dict):
        raise Invalid("config override: must be a JSON object")
    return _message(document, 0)


def _no_doubles(pairs: list[tuple[str, object]]) -> dict[str, object]:
    made = dict(pairs)
    if len(made) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise Invalid(f"config override: {shown(twice)} stands twice")
    return made


def _no_constant(word: str) -> object:
    raise Invalid(f"config override: {word} is not a value of any field")


def _message(document: dict[str, object], depth: int) -> Message:
    if depth > DEPTH_MAX:
        raise Invalid(f"config override: nested deeper than {DEPTH_MAX}")
    return Message(
        tuple(
            Field(name, _value(name, each, depth), 0)
            for name, value in document.items()
            if value is not None
            for each in (value if isinstance(value, list) else [value])
        )
    )


def _value(name: str, value: object, depth: int) -> "Scalar | Message":
    if isinstance(value, dict):
        return _message(value, depth + 1)
    if isinstance(value, bool):
        return Word("true" if value else "false")
    if isinstance(value, str | int | float):
        return value
    raise Invalid(f"config override: {shown(name)} holds a list or null in a list")
