"""The body of a request, and how often the bytes of a tensor are copied: once.

Between what the socket delivered and the batch:
- The event loop delivers a read as one `bytes`. An HTTP body that is whole in it
  becomes a view of it, and so does what a gRPC message holds (`grpc_wire.py`).
- A longer HTTP body gets a `BodyBuffer`, once, and from then on the kernel writes
  into that (`BodyReader`). What came with the head is moved there, which is at
  most one read.
- Decoding makes arrays that are views (`binary_codec.decode_raw`).
- The batcher copies each view to its rows of the batch: this is the copy. What
  runs alone runs on its views, or on a copy of those that are not aligned.
Not so for what is no tensor yet when it is read: JSON, chunks, which have their
framing between them, compressed bodies, and strings, which become objects.

A view keeps all that it is cut from, and the log keeps what ran alone but counts
only its tensors: `mostly_tensors` says whether that is near enough to the truth.
"""

import numpy as np

Blob = bytes | memoryview

PAGE_BYTES = 2 * 2**20  # a huge page, which is what numpy asks for
ALIGNMENT = 64  # a cache line, and more than any datatype needs
BESIDE_BYTES_MAX = 4096  # the names and shapes of an honest request, and some to spare


def mostly_tensors(tensor_bytes: int, total_bytes: int) -> bool:
    """Whether a request of so many bytes may be kept for the sake of its tensors."""
    return total_bytes - tensor_bytes <= max(tensor_bytes, BESIDE_BYTES_MAX)


class BodyBuffer:
    """Room for a body of a size that was checked, filled from its beginning."""

    __slots__ = ("_filled", "_view")

    def __init__(self, size: int, tensors_at: int) -> None:
        """tensors_at: where the bytes of the first tensor begin; they will be aligned.

        Pages that nothing is written to take no memory, whatever size is announced;
        `touched` says how much the others take.
        """
        room = np.empty(size + ALIGNMENT, np.uint8)
        address, _ = room.__array_interface__["data"]
        start = -(address + tensors_at) % ALIGNMENT
        self._view = room.data[start : start + size]
        self._filled = 0

    def add(self, piece: Blob) -> None:
        """Copy a piece to the end. It fits."""
        stop = self._filled + len(piece)
        self._view[self._filled : stop] = piece
        self._filled = stop

    @property
    def room(self) -> memoryview:
        """What is not filled yet, to be written to."""
        return self._view[self._filled :]

    def advance(self, size: int) -> None:
        """So many bytes of `room` are written."""
        self._filled += size
        assert self._filled <= len(self._view)

    @property
    def missing(self) -> int:
        return len(self._view) - self._filled

    @property
    def touched(self) -> int:
        """Bytes of the pages that something is written to."""
        pages = -(-self._filled // PAGE_BYTES)
        return min(pages * PAGE_BYTES, len(self._view))

    def whole(self) -> memoryview:
        """The body, which nobody writes to any more."""
        assert not self.missing
        return self._view.toreadonly()
