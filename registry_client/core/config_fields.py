"""Values of a model configuration, read from the tree that its text or JSON became.

Two writers are served: a file `config.pbtxt`, where a key that is not honoured
becomes a warning with its line, and a client's override in JSON (line 0), where
it is refused. A key at its default says nothing, and is neither.
"""

import re
from dataclasses import dataclass, field

from registry_client.core.errors import Invalid
from registry_client.core.names import shown
from registry_client.core.pbtxt import Field, Message, Word
from registry_client.core.signature import TRITON_TYPES

WARNINGS_MAX = 100

_DIGITS = re.compile(r"-?[0-9]{1,19}", re.ASCII)
_TRUE = frozenset({"true", "True", "t"})
_FALSE = frozenset({"false", "False", "f"})
_DEFAULTS = frozenset({*_FALSE, "FORMAT_NONE"})
# Messages that change nothing by being there, as `sequence_batching { }` does.
_PLAIN_MESSAGES = frozenset(
    {
        "cc_model_filenames",
        "metric_tags",
        "model_transaction_policy",
        "response_cache",
    }
)


@dataclass(slots=True)
class Notes:
    """What to do with a key that is not honoured. strict: refuse it."""

    strict: bool = False
    warnings: list[str] = field(default_factory=list)

    def unsupported(self, item: Field, path: str) -> None:
        """Raises: Invalid if strict."""
        if _says_nothing(item):
            return
        sentence = f"{place(item)}: {path!r} is not supported and has no effect"
        if self.strict:
            raise Invalid(sentence)
        if len(self.warnings) < WARNINGS_MAX:
            self.warnings.append(sentence)


def _says_nothing(item: Field) -> bool:
    value = item.value
    if isinstance(value, Message):
        return item.name in _PLAIN_MESSAGES and all(map(_says_nothing, value.fields))
    if isinstance(value, Word):
        return value.text in _DEFAULTS
    return value in ("", 0) or value in _DEFAULTS


def place(item: Field) -> str:
    """Where a field stands, for a message."""
    return f"config.pbtxt line {item.line}" if item.line else "config override"


def wrong(item: Field, wanted: str) -> Invalid:
    """The error for a value that cannot be meant."""
    return Invalid(f"{place(item)}: {shown(item.name)[1:-1]} must be {wanted}")


def integer(item: Field, low: int, high: int) -> int:
    """JSON writes 64-bit numbers as text, and some clients all of them. Raises: Invalid."""
    value = item.value
    if item.line == 0 and isinstance(value, str) and _DIGITS.fullmatch(value):
        value = int(value)
    if type(value) is not int or not low <= value <= high:
        raise wrong(item, f"a whole number from {low} to {high}")
    return value


def text(item: Field) -> str:
    """Raises: Invalid."""
    if not isinstance(item.value, str):
        raise wrong(item, "a quoted string")
    return item.value


def message(item: Field) -> Message:
    """Raises: Invalid."""
    if not isinstance(item.value, Message):
        raise wrong(item, "a message in braces")
    return item.value


def truth(item: Field) -> bool:
    """Raises: Invalid."""
    word = item.value.text if isinstance(item.value, Word) else ""
    if word not in _TRUE | _FALSE:
        raise wrong(item, "true or false")
    return word in _TRUE


def constant(item: Field) -> str:
    """The name of an enum's constant, which JSON writes as a string; "" for anything else."""
    if isinstance(item.value, Word):
        return item.value.text
    return item.value if item.line == 0 and isinstance(item.value, str) else ""


def datatype(item: Field) -> str:
    """The protocol's word for a Triton data type. Raises: Invalid."""
    word = constant(item)
    if word not in TRITON_TYPES:
        raise wrong(item, "a Triton data type such as TYPE_FP32")
    return TRITON_TYPES[word]
