"""Protobuf messages as plain JSON values, the way Triton's HTTP port spells them.

Unlike protobuf's own JSON, 64-bit integers are numbers, and every field stands
there: the parsers of Triton's clients look for members, not for defaults.
"""

from typing import Any

from google.protobuf.message import Message


def to_plain(message: Message) -> dict[str, Any]:
    """Names as in the .proto file; an unset message field or oneof is left out."""
    plain: dict[str, Any] = {}
    for field in message.DESCRIPTOR.fields:
        if field.is_repeated:
            plain[field.name] = _repeated(field, getattr(message, field.name))
        elif not field.has_presence or message.HasField(field.name):
            plain[field.name] = _value(field, getattr(message, field.name))
    return plain


def _repeated(field: Any, values: Any) -> list[Any] | dict[str, Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        value = entry.fields_by_name["value"]
        return {str(key): _value(value, values[key]) for key in sorted(values)}
    return [_value(field, each) for each in values]


def _value(field: Any, value: Any) -> Any:
    if field.message_type is not None:
        return to_plain(value)
    if field.enum_type is not None:
        return field.enum_type.values_by_number[value].name
    return value
