"""Compressed request bodies, bounded by what comes out of them, whatever went in."""

import zlib

from serving.core.body import Blob
from serving.core.errors import InvalidRequest, TooLarge


def inflate(body: Blob, coding: str, limit: int) -> bytes:
    """The body as it was before compression.

    coding: "gzip", "deflate" (with zlib's frame, as HTTP means it) or "" for none.
    limit:  of the result, in bytes; not much more is ever allocated.
    Raises: TooLarge, InvalidRequest if it is not one whole stream and nothing else.
    """
    if not coding:
        return bytes(body)
    stream = zlib.decompressobj(31 if coding == "gzip" else 15)
    try:
        plain = stream.decompress(body, limit + 1)
    except zlib.error as error:
        raise InvalidRequest(f"the request body is not valid {coding} data") from error
    if len(plain) > limit:
        raise TooLarge(f"the decompressed request body exceeds the limit of {limit} bytes")
    if not stream.eof:
        raise InvalidRequest(f"the request body is not complete {coding} data")
    if stream.unused_data:
        raise InvalidRequest(
            f"the request body goes on for {len(stream.unused_data)} bytes after the end of "
            f"its {coding} data"
        )
    return plain
