"""One look into the metadata of an Arrow IPC message, which Arrow itself does not offer.

We never compress inside a record: the log's transport does, within bounds. A
buffer that claims to be compressed may be a few bytes that unfold to gigabytes,
and Arrow unfolds it while reading.

Source: Apache Arrow, format/Message.fbs; FlatBuffers, "internals".
"""

import struct

from eventlog.core.record import RecordError

_MESSAGE_HEADER, _BATCH_COMPRESSION = 2, 3  # places of these fields in their tables


def refuse_compressed(metadata: bytes) -> None:
    """metadata: of a record batch's message. Raises: RecordError, also if it is malformed."""
    try:
        (message,) = struct.unpack_from("<I", metadata, 0)
        batch = _follow(metadata, message, _MESSAGE_HEADER)
        if _slot(metadata, batch, _BATCH_COMPRESSION):
            raise RecordError("its Arrow buffers are compressed, which no record of ours is")
    except struct.error as error:
        raise RecordError("its Arrow metadata are malformed") from error


def _follow(data: bytes, table: int, field: int) -> int:
    """Where the table lies that a field of another table refers to."""
    place = table + _slot(data, table, field)
    (offset,) = struct.unpack_from("<I", data, place)
    return place + int(offset)


def _slot(data: bytes, table: int, field: int) -> int:
    """Where in a table a field lies, from the table's begin; 0 if it is not there."""
    (back,) = struct.unpack_from("<i", data, table)
    vtable = table - back
    if vtable < 0:
        raise struct.error("a table before the begin")
    (size,) = struct.unpack_from("<H", data, vtable)
    place = 4 + 2 * field
    if place + 2 > size:
        return 0
    (offset,) = struct.unpack_from("<H", data, vtable + place)
    return int(offset)
