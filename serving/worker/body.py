"""Reading the body of a request that goes through the application."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.requests import Request

from serving.core.admission import JSON_BYTES_FACTOR, Admission


@asynccontextmanager
async def body_of(request: Request, admission: Admission) -> AsyncIterator[bytes]:
    """The whole body, whose size the connection has bounded, held as infer's is.

    Raises: Overloaded.
    """
    pieces, held = [], 0

    def hold(size: int) -> None:
        nonlocal held
        admission.hold_bytes(size)
        held += size

    try:
        async for piece in request.stream():
            hold(len(piece))
            pieces.append(piece)
        hold(held * (JSON_BYTES_FACTOR - 1))  # what parsing may need
        yield b"".join(pieces)
    finally:
        admission.free_bytes(held)
