"""Infer replies as JSON, with or without binary tensors behind it.

What the replies of one version share (names, datatypes, shapes of a row count)
is rendered once and kept; a reply then costs one join.
"""

from collections.abc import Sequence
from math import prod

import orjson

from serving.core.binary_codec import encode_raw
from serving.core.datatypes import BYTES_VARY, Array
from serving.core.json_codec import row_texts
from serving.core.request import Envelope, WantedOutput
from serving.core.signature import Signature

_HEADS_MAX = 1024  # distinct output shapes whose rendering is kept per version
SHORT_ROW_BYTES = 1024  # up to here a second copy costs less than cutting the array


class BatchOutputs:
    """The outputs of one execution, cut by request and rendered once.

    arrays: one per output of the signature, (rows, ...), C-contiguous; for a
    version that does not batch, the whole output of its single request.
    """

    __slots__ = (
        "_raws",
        "_texts",
        "arrays",
        "batched",
        "blob_tails",
        "heads",
        "row_tails",
        "signature",
    )

    def __init__(self, signature: Signature, arrays: Sequence[Array]) -> None:
        self.signature = signature
        self.arrays = arrays
        self.batched = signature.max_batch_size > 0
        self._texts: list[list[bytes] | None] = [None] * len(arrays)
        self._raws: list[tuple[bytes, int] | None] = [None] * len(arrays)
        # Of replies, filled when first needed: in JSON their ends by row, with binary tensors
        # what stands before those by number of rows, in gRPC their heads by number of rows.
        self.row_tails: list[bytes] | None = None
        self.blob_tails: dict[int, bytes] = {}
        self.heads: dict[int, bytes] = {}

    def slice(self, output: int, start: int, stop: int) -> Array:
        """A view of the rows of one request."""
        array = self.arrays[output]
        return array[start:stop] if self.batched else array

    def raw(self, output: int, start: int, stop: int) -> bytes:
        """The rows of one request as they travel in binary."""
        data, row_bytes = self._raws[output] or self._raw(output)
        if row_bytes:
            return data[start * row_bytes : stop * row_bytes]
        return encode_raw(self.slice(output, start, stop))

    def _raw(self, output: int) -> tuple[bytes, int]:
        """All rows and the size of one; 0: each request's are better taken by themselves."""
        array, found = self.arrays[output], (b"", 0)
        if self.batched and array.dtype != object and array.nbytes > 0:
            row_bytes = array.nbytes // len(array)
            if row_bytes <= SHORT_ROW_BYTES:
                found = (array.tobytes(), row_bytes)
        self._raws[output] = found
        return found

    def text(self, output: int, start: int, stop: int) -> bytes:
        """The flat JSON elements of the rows of one request, without brackets."""
        texts = self._texts[output]
        if texts is None:
            texts = self.texts(output)
        if stop - start == 1 or not self.batched:
            return texts[start]
        return b",".join(text for text in texts[start:stop] if text)

    def texts(self, output: int) -> list[bytes]:
        """The flat JSON elements of every row; of one that does not batch, of all."""
        array = self.arrays[output]
        spec = self.signature.outputs[output]
        texts = self._texts[output] = row_texts(spec, array if self.batched else array[None])
        return texts

    def shape(self, output: int, rows: int) -> tuple[int, ...]:
        """The shape of the outputs of a request with so many rows."""
        shape: tuple[int, ...] = self.arrays[output].shape
        return (rows, *shape[1:]) if self.batched else shape


class JsonReplies:
    """Encodes the replies of one version."""

    __slots__ = (
        "_all",
        "_blob_heads",
        "_digest",
        "_heads",
        "_name",
        "_open",
        "_signature",
        "_sized",
    )

    def __init__(self, signature: Signature, digest: str) -> None:
        self._signature = signature
        self._digest = digest
        self._all = [WantedOutput(index) for index in range(len(signature.outputs))]
        # Whether the bytes of all outputs follow from their shapes.
        self._sized = all(spec.datatype not in BYTES_VARY for spec in signature.outputs)
        model, version = orjson.dumps(signature.model), orjson.dumps(signature.version)
        self._name = b'"model_name":%b,"model_version":%b' % (model, version)
        self._open = b'{%b,"parameters":{"prediction_id":"' % self._name
        self._heads: dict[tuple[int, tuple[int, ...]], bytes] = {}
        self._blob_heads: dict[tuple[int, tuple[int, ...], int], bytes] = {}

    def encode(
        self,
        outputs: BatchOutputs,
        start: int,
        stop: int,
        envelope: Envelope,
        wanted: Sequence[WantedOutput],
        prediction_id: str,
    ) -> tuple[bytes, int]:
        """Body of a reply, and the length of its JSON part (0: there is no other)."""
        plain = not wanted and not envelope.binary_outputs
        if prediction_id and not envelope.id and not envelope.details:
            if plain and stop - start == 1:
                tails = outputs.row_tails or self._tails(outputs)
                return b"".join((self._open, prediction_id.encode(), tails[start])), 0
            if not wanted and self._sized and envelope.binary_outputs:
                return self._all_blobs(outputs, start, stop, prediction_id)
            pieces = [self._open, prediction_id.encode(), b'"},"outputs":[']
        else:
            pieces = self._opening(envelope, prediction_id)
        if plain:
            self._add_texts(pieces, outputs, start, stop)
            return b"".join(pieces), 0
        return self._with_blobs(pieces, outputs, start, stop, envelope, wanted)

    def _all_blobs(
        self, outputs: BatchOutputs, start: int, stop: int, prediction_id: str
    ) -> tuple[bytes, int]:
        """A reply of nothing but binary tensors, whose sizes follow from the number of rows."""
        rows = stop - start
        tail = outputs.blob_tails.get(rows)
        if tail is None:
            entries = []
            for index, array in enumerate(outputs.arrays):
                shape = outputs.shape(index, rows)
                entries.append(self._blob_head(index, shape, array.itemsize * prod(shape)))
            tail = outputs.blob_tails[rows] = b'"},"outputs":[%b]}' % b",".join(entries)
        pieces = [self._open, prediction_id.encode(), tail]
        pieces += [outputs.raw(index, start, stop) for index in range(len(outputs.arrays))]
        return b"".join(pieces), len(self._open) + len(prediction_id) + len(tail)

    def _opening(self, envelope: Envelope, prediction_id: str) -> list[bytes]:
        parameters: dict[str, str] = {}
        if prediction_id:
            parameters["prediction_id"] = prediction_id
        if envelope.details:
            parameters["model_digest"] = self._digest
        return [
            b'{"id":%b,' % orjson.dumps(envelope.id) if envelope.id else b"{",
            self._name,
            b',"parameters":%b' % orjson.dumps(parameters) if parameters else b"",
            b',"outputs":[',
        ]

    def _tails(self, outputs: BatchOutputs) -> list[bytes]:
        """Replies of one row behind their prediction id, for every row of a batch at once."""
        columns = []
        for index in range(len(outputs.arrays)):
            head = self._head(index, outputs.shape(index, 1))
            columns.append([head + text + b"]}" for text in outputs.texts(index)])
        rows = columns[0] if len(columns) == 1 else map(b",".join, zip(*columns, strict=True))
        tails = outputs.row_tails = [b'"},"outputs":[' + row + b"]}" for row in rows]
        return tails

    def _add_texts(self, pieces: list[bytes], outputs: BatchOutputs, start: int, stop: int) -> None:
        for index in range(len(outputs.arrays)):
            pieces += (
                self._head(index, outputs.shape(index, stop - start)),
                outputs.text(index, start, stop),
                b"]}," if index + 1 < len(outputs.arrays) else b"]}]}",
            )

    def _head(self, index: int, shape: tuple[int, ...]) -> bytes:
        """An output object up to its first element."""
        head = self._heads.get((index, shape))
        if head is None:
            if len(self._heads) >= _HEADS_MAX:
                self._heads.clear()
            head = self._heads[index, shape] = self._describe(index, shape) + b',"data":['
        return head

    def _blob_head(self, index: int, shape: tuple[int, ...], size: int) -> bytes:
        """An output object whose elements stand behind the JSON, `size` bytes of them."""
        head = self._blob_heads.get((index, shape, size))
        if head is None:
            if len(self._blob_heads) >= _HEADS_MAX:
                self._blob_heads.clear()
            said = b',"parameters":{"binary_data_size":%d}}' % size
            head = self._blob_heads[index, shape, size] = self._describe(index, shape) + said
        return head

    def _describe(self, index: int, shape: tuple[int, ...]) -> bytes:
        spec = self._signature.outputs[index]
        described = {"name": spec.name, "datatype": spec.datatype.wire, "shape": shape}
        return orjson.dumps(described)[:-1]

    def _with_blobs(
        self,
        pieces: list[bytes],
        outputs: BatchOutputs,
        start: int,
        stop: int,
        envelope: Envelope,
        wanted: Sequence[WantedOutput],
    ) -> tuple[bytes, int]:
        blobs: list[bytes] = []
        entries: list[bytes] = []
        for want in wanted or self._all:
            shape = outputs.shape(want.index, stop - start)
            if want.place is not None:
                blob = encode_raw(outputs.slice(want.index, start, stop))
                name = self._signature.outputs[want.index].name
                want.place.write(blob, f"output '{name}'")
                # No parameters: Triton's C++ client takes any to hold a `binary_data_size`.
                entries.append(self._describe(want.index, shape) + b"}")
            elif envelope.binary_outputs if want.binary is None else want.binary:
                blob = outputs.raw(want.index, start, stop)
                entries.append(self._blob_head(want.index, shape, len(blob)))
                blobs.append(blob)
            else:
                text = outputs.text(want.index, start, stop)
                entries.append(self._head(want.index, shape) + text + b"]}")
        head = b"".join(pieces) + b",".join(entries) + b"]}"
        return (b"".join((head, *blobs)), len(head)) if blobs else (head, 0)


def float_blob_bytes(
    outputs: BatchOutputs,
    start: int,
    stop: int,
    envelope: Envelope,
    wanted: Sequence[WantedOutput],
) -> int:
    """Bytes of a reply's body that are floating-point tensors in binary.

    Compression finds next to nothing in them, and takes as long as anywhere.
    """
    signature = outputs.signature
    size = 0
    for want in wanted or [WantedOutput(i) for i in range(len(outputs.arrays))]:
        datatype = signature.outputs[want.index].datatype
        binary = envelope.binary_outputs if want.binary is None else want.binary
        if binary and (datatype.is_float or datatype.wire == "BF16"):
            size += outputs.slice(want.index, start, stop).nbytes
    return size


def wants_json_of(
    signature: Signature, envelope: Envelope, wanted: Sequence[WantedOutput]
) -> list[int]:
    """Indices of the outputs that a request wants as JSON elements."""
    if not wanted:
        return [] if envelope.binary_outputs else list(range(len(signature.outputs)))
    default = envelope.binary_outputs
    return [
        want.index
        for want in wanted
        if want.place is None and not (default if want.binary is None else want.binary)
    ]
