"""Request bodies that differ in nothing but their numbers.

A client mostly sends the same JSON text around the elements of its one input.
Of such a text only the elements need parsing: the rest was parsed and checked
when it first came. Laws:
- a template is made of a body that was parsed in full, and by parsing its frame
  with `null` in the place of the elements, so that place is known, not guessed;
- a JSON value in a value's place gives the document with that value: so a match
  means what the whole body would have meant;
- what does not match, or does not fit, is parsed in full, and that decides.
"""

from collections.abc import Mapping
from typing import Any

import orjson

from serving.core.errors import InvalidRequest, Unsupported
from serving.core.request import COMMON_PARAMETERS, Envelope, WantedOutput, wanted_outputs
from serving.core.shared_memory import no_region
from serving.core.signature import Signature, TensorSpec, check_tensor

TEMPLATES_MAX = 256
FRAME_BYTES_MAX = 2048  # of either side; bounds what is kept and searched
_DATA = b'"data":'
_KEYS = frozenset(("name", "shape", "datatype", "data"))
_TOP_KEYS = frozenset(("inputs", "outputs", "parameters"))


class Binding:
    """What a template comes to for one version."""

    __slots__ = ("count", "shape", "signature", "spec", "wanted")

    def __init__(
        self,
        signature: Signature,
        spec: TensorSpec,
        shape: list[int],
        count: int,
        wanted: tuple[WantedOutput, ...],
    ) -> None:
        self.signature, self.spec, self.shape, self.count = signature, spec, shape, count
        self.wanted = wanted


class Template:
    """The frame of a body: everything but the elements of its one input."""

    __slots__ = ("_bound", "_document", "envelope", "suffix")

    def __init__(self, document: Mapping[str, Any], suffix: bytes, envelope: Envelope) -> None:
        """document: with None in the place of the elements. envelope: what it says besides."""
        self._document, self.envelope = document, envelope
        self.suffix = suffix
        self._bound: Binding | None = None

    def bind(self, signature: Signature) -> Binding | None:
        """None if the request does not fit the version: parsing in full says why."""
        bound = self._bound
        if bound is None or bound.signature is not signature:
            bound = self._bound = self._bind(signature)
        return bound

    def _bind(self, signature: Signature) -> Binding | None:
        (entry,) = self._document["inputs"]
        spec = signature.inputs[0]
        if len(signature.inputs) != 1 or entry.get("name") != spec.name:
            return None
        try:
            count = check_tensor(signature, spec, entry.get("datatype"), entry.get("shape"))
            # No region: a place must not be remembered beyond its registration.
            wanted = wanted_outputs(signature, self._document.get("outputs"), no_region)
        except (InvalidRequest, Unsupported):
            return None
        return Binding(signature, spec, entry["shape"], count, wanted)


class Templates:
    """A bounded memory of frames; when it is full it starts anew."""

    __slots__ = ("_known",)

    def __init__(self) -> None:
        self._known: dict[bytes, Template] = {}

    def match(self, body: bytes) -> tuple[Template, list[Any]] | None:
        """The template of `body` and the elements in it, which may be nested."""
        start = body.find(_DATA, 0, FRAME_BYTES_MAX) + len(_DATA)
        template = self._known.get(body[:start])
        if template is None or not body.endswith(template.suffix):
            return None
        try:
            data = orjson.loads(body[start : len(body) - len(template.suffix)])
        except orjson.JSONDecodeError:
            return None
        return (template, data) if type(data) is list else None

    def learn(self, body: bytes, document: Mapping[str, Any], envelope: Envelope) -> None:
        """Make a template of a body and what it was parsed to, if one can be made."""
        if not _is_simple(document):
            return
        start = body.find(_DATA, 0, FRAME_BYTES_MAX) + len(_DATA)
        stop = _end_of_array(body, start)
        prefix, suffix = body[:start], body[stop:]
        if start < len(_DATA) or len(suffix) > FRAME_BYTES_MAX:
            return
        try:
            frame = orjson.loads(prefix + b"null" + suffix)
        except orjson.JSONDecodeError:
            return
        if frame != _without_data(document):
            return
        if len(self._known) >= TEMPLATES_MAX:
            self._known.clear()
        self._known[prefix] = Template(frame, suffix, envelope)


def _is_simple(document: Mapping[str, Any]) -> bool:
    """One input with elements, and nothing that is another one in every request."""
    inputs = document.get("inputs")
    if type(inputs) is not list or len(inputs) != 1 or not document.keys() <= _TOP_KEYS:
        return False
    if not (document.get("parameters") or {}).keys() <= COMMON_PARAMETERS:
        return False
    return type(inputs[0]) is dict and inputs[0].keys() == _KEYS


def _without_data(document: Mapping[str, Any]) -> dict[str, Any]:
    return {**document, "inputs": [{**document["inputs"][0], "data": None}]}


def _end_of_array(body: bytes, start: int) -> int:
    """Where the brackets of a flat array, or of a nested one of one row, are closed."""
    stop = body.find(b"]", start)
    while body[stop : stop + 1] == b"]":
        stop += 1
    return stop
