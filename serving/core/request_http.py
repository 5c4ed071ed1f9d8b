"""An HTTP infer body: JSON, JSON with binary tensors, or one raw tensor."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from serving.core.binary_codec import BlobReader, decode_raw, raw_request_input, split_body
from serving.core.binary_forms import BinaryForm, BinaryForms, Bound
from serving.core.body import Blob
from serving.core.datatypes import Array
from serving.core.errors import InvalidRequest, shown
from serving.core.json_codec import decode_elements, parse_json
from serving.core.json_template import Template, Templates
from serving.core.request import (
    PLAIN,
    Envelope,
    WantedOutput,
    read_envelope,
    refuse_extensions,
    wanted_outputs,
)
from serving.core.shared_memory import FindRegion, Place, no_region, read_place
from serving.core.signature import (
    Signature,
    TensorSpec,
    check_tensor,
    find_input,
    missing_inputs,
)

_NO_BLOB = memoryview(b"")
# A quote before a colon ends a key, so this is one; strings have theirs escaped.
_TIMEOUT = re.compile(rb'(?<!\\)"timeout"\s*:\s*([0-9]{1,16})[,}\s]')
_TIMEOUT_WITHIN = 16 * 1024  # of a body; what stands further back is read with the rest
RAW_ENVELOPE = Envelope(binary_outputs=True)


def peek_timeout_us(data: bytes, start: int) -> int:
    """The timeout that a JSON body from `start` on asks for, without parsing it.

    0 if there is none, or none that is beyond doubt. In microseconds.
    """
    end = start + _TIMEOUT_WITHIN
    found = _TIMEOUT.search(data, start, end)
    if found is None or _TIMEOUT.search(data, found.end(), end):
        return 0
    return int(found[1])


class HttpRequest:
    """A parsed body, not yet bound to a version's signature."""

    __slots__ = ("_blob", "_data", "_document", "_form", "_source", "_template", "_wanted",
                 "envelope", "shared_bytes")  # fmt: skip

    def __init__(
        self,
        body: Blob,
        header_length: str | None,
        depth_max: int,
        templates: Templates | None = None,
        forms: BinaryForms | None = None,
    ) -> None:
        """Parse; with `templates` and `forms` only what is new in it. Raises: InvalidRequest."""
        self._template: Template | None = None
        self._form: BinaryForm | None = None
        self._wanted: tuple[Signature, tuple[WantedOutput, ...]] | None = None
        self.shared_bytes = 0
        self._document: Mapping[str, Any] | None = None
        self._blob = _NO_BLOB
        if header_length is not None:
            text, self._blob = split_body(body, header_length)
            if text:
                self._parse_binary(text, depth_max, forms)
            else:
                self.envelope = RAW_ENVELOPE
            return
        text = bytes(body)
        if templates is not None:
            matched = templates.match(text)
            if matched is not None:
                self._template, self._data = matched
                self._source = text, depth_max
                self.envelope = self._template.envelope
                return
        self._parse(text, depth_max)
        if templates is not None and self._document is not None:
            templates.learn(text, self._document, self.envelope)

    def _parse_binary(self, text: bytes, depth_max: int, forms: BinaryForms | None) -> None:
        form = None if forms is None else forms.match(text)
        if form is not None:
            self._form, self._document, self.envelope = form, form.document, form.envelope
            return
        self._parse(text, depth_max)
        if forms is not None and self._document is not None:
            self._form = forms.learn(text, self._document, self.envelope)

    def _bound(self, signature: Signature) -> Bound | None:
        """What the form of this very body came to before."""
        bound = None if self._form is None else self._form.bound
        if (
            bound is None
            or bound.signature is not signature
            or bound.tensor_bytes != len(self._blob)
        ):
            return None
        return bound

    def _parse(self, text: bytes, depth_max: int) -> None:
        document = parse_json(text, depth_max)
        if type(document) is not dict:
            raise InvalidRequest(f"the request must be a JSON object, got '{shown(document)}'")
        self._document = document
        if "id" in document or "parameters" in document:
            self.envelope = read_envelope(
                document.get("id"), document.get("parameters"), reserved_allowed=False
            )
        else:
            self.envelope = PLAIN

    def wanted(
        self, signature: Signature, find: FindRegion = no_region
    ) -> tuple[WantedOutput, ...]:
        """Raises: InvalidRequest, Unsupported."""
        if self._template is not None:
            bound = self._template.bind(signature)
            if bound is not None:
                return bound.wanted
            self._parse_in_full()
        if self._document is None:
            return ()
        known = self._bound(signature)
        if known is not None:
            return known.wanted
        wanted = wanted_outputs(signature, self._document.get("outputs"), find)
        self._wanted = signature, wanted
        return wanted

    def tensors(
        self, signature: Signature, tensors_max: int, find: FindRegion = no_region
    ) -> list[Array]:
        """The inputs in the signature's order. Raises: InvalidRequest, Unsupported."""
        if self._template is not None:
            bound = self._template.bind(signature)
            if bound is not None:
                try:
                    shape, count = bound.shape, bound.count
                    return [decode_elements(signature, bound.spec, self._data, shape, count)]
                except InvalidRequest:
                    pass
            self._parse_in_full()
        if self._document is None:
            shape, count = raw_request_input(signature, self._blob)
            return [decode_raw(signature, signature.inputs[0], self._blob, shape, count)]
        known = self._bound(signature)
        if known is not None and len(known.pieces) <= tensors_max:
            return known.tensors(self._blob)
        entries = self._document.get("inputs")
        if type(entries) is not list:
            raise InvalidRequest(
                f"'inputs' of a request for model '{signature.model}' must be an array, "
                f"got '{shown(entries)}'"
            )
        if len(entries) > tensors_max:
            raise InvalidRequest(
                f"a request has at most {tensors_max} inputs, got {len(entries)} for model "
                f"'{signature.model}'"
            )
        source = _Source(BlobReader(self._blob, signature.model), find)
        arrays = _bind(signature, entries, source)
        self.shared_bytes = source.shared_bytes
        if self._form is not None and self._wanted is not None and self._wanted[0] is signature:
            self._form.bind(signature, self._wanted[1], arrays)
        return arrays

    def _parse_in_full(self) -> None:
        """What does not fit is told of as if there were no templates."""
        self._template = None
        self._parse(*self._source)


@dataclass(slots=True)
class _Source:
    """Where inputs that are not JSON elements come from."""

    blobs: BlobReader
    find: FindRegion
    shared_bytes: int = 0


def _bind(signature: Signature, entries: list[Any], source: _Source) -> list[Array]:
    arrays: list[Array | None] = [None] * len(signature.inputs)
    names: list[str] = []
    for entry in entries:
        if type(entry) is not dict:
            raise InvalidRequest(f"an entry of 'inputs' must be an object, got '{shown(entry)}'")
        index = find_input(signature, entry.get("name"), arrays)
        arrays[index] = _tensor(signature, index, entry, source)
        names.append(entry["name"])
    source.blobs.finish()
    if len(names) != len(arrays):
        raise missing_inputs(signature, names)
    return arrays  # type: ignore[return-value]  # every place is taken: names are unique


def _tensor(signature: Signature, index: int, entry: Mapping[str, Any], source: _Source) -> Array:
    spec = signature.inputs[index]
    shape = entry.get("shape")
    count = check_tensor(signature, spec, entry.get("datatype"), shape)
    assert isinstance(shape, list)
    parameters = entry.get("parameters")
    place: Place | None = None
    if parameters is None:
        size = None
    elif isinstance(parameters, dict):
        where = f"input '{spec.name}'"
        refuse_extensions(parameters, where)
        place = read_place(parameters, source.find, where)
        size = parameters.get("binary_data_size")
    else:
        raise InvalidRequest(f"'parameters' of input '{spec.name}' must be an object")
    if place is not None:
        return _shared(signature, spec, entry, place, source, count)
    # KServe's client sends null beside the size of an empty tensor.
    data = entry.get("data")
    if size is None:
        if data is None:
            raise InvalidRequest(
                f"input '{spec.name}' for model '{signature.model}' must have 'data' or "
                "'binary_data_size'"
            )
        return decode_elements(signature, spec, data, shape, count)
    if data is not None:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{signature.model}' must not have both 'data' and "
            "'binary_data_size'"
        )
    return decode_raw(signature, spec, source.blobs.take(spec.name, size), shape, count)


def _shared(
    signature: Signature,
    spec: TensorSpec,
    entry: Mapping[str, Any],
    place: Place,
    source: _Source,
    count: int,
) -> Array:
    if "data" in entry or "binary_data_size" in entry["parameters"]:
        raise InvalidRequest(
            f"input '{spec.name}' for model '{signature.model}' must not have both "
            "'shared_memory_region' and 'data' or 'binary_data_size'"
        )
    source.shared_bytes += place.size
    return decode_raw(signature, spec, place.read(), entry["shape"], count)
