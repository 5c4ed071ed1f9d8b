"""What an ONNX file refers to, read from its protobuf wire format.

A model may name other files as the home of its tensors (external data). This
scanner finds every such reference, in initializers, sparse tensors, attributes
of nodes, subgraphs, functions and training graphs, and the graph's declared
inputs and outputs, without building the model: tensor bytes are skipped, so a
memory-mapped file of any size costs its node count.

Laws: anything that carries an `external_data` entry or is marked EXTERNAL is a
reference, whatever else it says, because readers differ in which of the two
they believe; every bound has a clear refusal; nothing is trusted to be UTF-8.
Field numbers: onnx.proto3 of ONNX 1.x.
"""

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field

from registry_client.core.errors import Corrupt, Invalid, Unsafe
from registry_client.core.names import check_file_name, shown
from registry_client.core.signature import ONNX_ELEMENT_TYPES, RANK_MAX, TensorSpec

DEPTH_MAX = 16  # If in Loop in If ...: real models stay below 4
FIELDS_MAX = 5_000_000  # seconds of scanning; the largest public graphs have 1e5 nodes
LOCATION_BYTES_MAX = 4_096

Buffer = bytes | bytearray | memoryview | mmap.mmap

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_EXTERNAL = 1  # TensorProto.DataLocation.EXTERNAL


@dataclass(frozen=True, slots=True)
class ExternalReference:
    """One tensor whose bytes live in another file. length: -1 if not stated."""

    location: str
    offset: int
    length: int
    tensor: str


@dataclass(slots=True)
class OnnxSummary:
    """What was found. inputs are those that a caller must or may give."""

    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    external: list[ExternalReference] = field(default_factory=list)
    unreadable: list[str] = field(default_factory=list)  # inputs, outputs without an OIP type

    def locations(self) -> list[str]:
        """The distinct files that are referred to, in order of first use."""
        return list(dict.fromkeys(reference.location for reference in self.external))


# Which fields of a message lead to tensors: message -> {field number: message}.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {
        5: "tensor",
        6: "graph",
        10: "tensor",
        11: "graph",
        22: "sparse",
        23: "sparse",
    },
    "sparse": {1: "tensor", 2: "tensor"},
}
_NESTING = frozenset({"graph"})


def scan_onnx(data: Buffer) -> OnnxSummary:
    """Scan a whole model.

    data: the file, best a memory map; borrowed.
    Raises: Corrupt if it is not a protobuf message with a graph, Unsafe past a bound.
    """
    view = memoryview(data).cast("B")
    try:
        return _Scanner(view).run()
    finally:
        view.release()


class _Scanner:
    """An explicit stack of (message, start, end, depth); no recursion."""

    def __init__(self, view: memoryview) -> None:
        self._view = view
        self._fields = 0
        self._summary = OnnxSummary()

    def run(self) -> OnnxSummary:
        stack = [("model", 0, len(self._view), 0)]
        graphs: list[tuple[int, int]] = []
        while stack:
            kind, start, end, depth = stack.pop()
            if kind == "tensor":
                self._tensor(start, end)
                continue
            paths = _PATHS[kind]
            for number, wire, first, last in self._walk(start, end):
                inner = paths.get(number)
                if inner is None or wire != _BYTES:
                    continue
                if kind == "model" and number == 7:
                    graphs.append((first, last))
                stack.append((inner, first, last, depth + (inner in _NESTING)))
                if stack[-1][3] > DEPTH_MAX:
                    raise Unsafe(f"model nests graphs deeper than {DEPTH_MAX}")
        if not graphs:
            raise Corrupt("model file has no graph: it is not an ONNX model")
        self._signature(graphs)
        return self._summary

    def _varint(self, position: int, end: int) -> tuple[int, int]:
        value = shift = 0
        while position < end and shift < 70:
            byte = self._view[position]
            position += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & 0xFFFF_FFFF_FFFF_FFFF, position
            shift += 7
        raise Corrupt(f"model file is damaged or truncated at byte {position}")

    def _walk(self, position: int, end: int) -> Iterator[tuple[int, int, int, int]]:
        """Yield (field number, wire type, start or value, end) of a message's fields."""
        while position < end:
            self._fields += 1
            if self._fields > FIELDS_MAX:
                raise Unsafe(f"model has more than {FIELDS_MAX} fields")
            key, start = self._varint(position, end)
            number, wire = key >> 3, key & 7
            if wire == _VARINT:
                value, position = self._varint(start, end)
                yield number, wire, value, position
                continue
            if wire == _BYTES:
                size, start = self._varint(start, end)
            else:
                size = {_FIXED64: 8, _FIXED32: 4}.get(wire, -1)
            position = start + size
            if number == 0 or size < 0 or position > end:
                raise Corrupt(f"model file is damaged or truncated at byte {start}")
            yield number, wire, start, position

    def _text(self, start: int, end: int) -> str:
        if end - start > LOCATION_BYTES_MAX:
            raise Unsafe(f"model holds a name of {end - start} bytes")
        return bytes(self._view[start:end]).decode("utf-8", "backslashreplace")

    def _tensor(self, start: int, end: int) -> None:
        is_external, name = False, ""
        entries: dict[str, str] = {}
        for number, wire, first, last in self._walk(start, end):
            if number == 14 and wire == _VARINT:
                is_external |= first == _EXTERNAL
            elif number == 8 and wire == _BYTES:
                name = self._text(first, last)
            elif number == 13 and wire == _BYTES:
                is_external = True
                self._entry(entries, first, last, name)
        if is_external:
            self._summary.external.append(_reference(entries, name))

    def _entry(self, entries: dict[str, str], start: int, end: int, tensor: str) -> None:
        key = value = ""
        for number, wire, first, last in self._walk(start, end):
            if number == 1 and wire == _BYTES:
                key = self._text(first, last)
            elif number == 2 and wire == _BYTES:
                value = self._text(first, last)
        if entries.setdefault(key, value) != value:
            raise Unsafe(f"tensor {shown(tensor)} states its external {shown(key)} twice")

    def _signature(self, graphs: list[tuple[int, int]]) -> None:
        initialized: set[str] = set()
        infos: dict[int, list[tuple[int, int]]] = {11: [], 12: []}
        for start, end in graphs:
            for number, wire, first, last in self._walk(start, end):
                if wire == _BYTES and number in infos:
                    infos[number].append((first, last))
                elif wire == _BYTES and number in (5, 15):
                    initialized.add(self._initializer_name(number, first, last))
        for number, specs in ((11, self._summary.inputs), (12, self._summary.outputs)):
            for first, last in infos[number]:
                name, spec = self._value_info(first, last)
                if number == 11 and name in initialized:
                    continue  # before IR 4 weights are inputs with a default
                if spec is None:
                    self._summary.unreadable.append(name)
                else:
                    specs.append(spec)

    def _initializer_name(self, number: int, start: int, end: int) -> str:
        if number == 15:  # a sparse tensor is named by its values
            for inner, wire, first, last in self._walk(start, end):
                if inner == 1 and wire == _BYTES:
                    return self._initializer_name(5, first, last)
            return ""
        for inner, wire, first, last in self._walk(start, end):
            if inner == 8 and wire == _BYTES:
                return self._text(first, last)
        return ""

    def _value_info(self, start: int, end: int) -> tuple[str, TensorSpec | None]:
        name, element, dims = "", 0, None
        for number, wire, first, last in self._walk(start, end):
            if number == 1 and wire == _BYTES:
                name = self._text(first, last)
            elif number == 2 and wire == _BYTES:
                element, dims = self._type(first, last)
        datatype = ONNX_ELEMENT_TYPES.get(element)
        if datatype is None or dims is None or len(dims) > RANK_MAX or not name:
            return name, None
        return name, TensorSpec(name, datatype, tuple(dims))

    def _type(self, start: int, end: int) -> tuple[int, list[int] | None]:
        """TypeProto -> (element type, dims); dims None where the rank is not stated."""
        element, dims = 0, None
        for number, wire, first, last in self._walk(start, end):
            if number != 1 or wire != _BYTES:
                continue
            for part, kind, one, two in self._walk(first, last):
                if part == 1 and kind == _VARINT:
                    element = one
                elif part == 2 and kind == _BYTES:
                    dims = [
                        self._dim(a, b)
                        for n, w, a, b in self._walk(one, two)
                        if n == 1 and w == _BYTES
                    ]
        return element, dims

    def _dim(self, start: int, end: int) -> int:
        for number, wire, value, _ in self._walk(start, end):
            if number == 1 and wire == _VARINT and value < 1 << 63:
                return value
        return -1


def _reference(entries: dict[str, str], tensor: str) -> ExternalReference:
    location = entries.get("location", "")
    if not location:
        raise Unsafe(f"tensor {shown(tensor)} is external data without a location")
    try:
        offset = int(entries.get("offset") or "0")
        length = int(entries.get("length") or "-1")
    except ValueError as exc:
        raise Corrupt(f"tensor {shown(tensor)}: offset or length is not a number") from exc
    if offset < 0 or length < -1:
        raise Corrupt(f"tensor {shown(tensor)}: offset or length is negative")
    return ExternalReference(location, offset, length, tensor)


def check_external(references: list[ExternalReference], sizes: dict[str, int]) -> None:
    """Every reference must name a listed file and stay inside it.

    sizes: name -> bytes of the files with role `external`.
    Raises: Unsafe for a file that is not listed, Corrupt for bytes beyond its end.
    """
    for reference in references:
        place = f"tensor {shown(reference.tensor)} has external data in"
        size = sizes.get(reference.location)
        if size is None:
            raise Unsafe(f"{place} {shown(reference.location)}, which the manifest does not list")
        if reference.offset + max(reference.length, 0) > size:
            raise Corrupt(f"{place} {shown(reference.location)} beyond its {size} bytes")


def check_locations(summary: OnnxSummary) -> list[str]:
    """The files referred to, each a plain relative path. Raises InvalidName, Invalid."""
    locations = [check_file_name(location) for location in summary.locations()]
    if len(locations) > 4_096:
        raise Invalid(f"model refers to {len(locations)} files of external data")
    return locations
