"""Reads the rest of a body into its buffer, in the place of the connection's protocol.

What the connection is told besides bytes goes on to it.
"""

import asyncio
from typing import Protocol


class Connection(Protocol):
    """What the reader needs of a connection whose body is not complete."""

    def body_room(self) -> memoryview:
        """Where to write to; not empty."""
        ...

    def body_read(self, size: int) -> None: ...
    def eof_received(self) -> bool | None: ...
    def connection_lost(self, exc: Exception | None) -> None: ...
    def pause_writing(self) -> None: ...
    def resume_writing(self) -> None: ...


class BodyReader(asyncio.BufferedProtocol):
    """Of one body; the connection takes it away when the body is complete or refused."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def get_buffer(self, _: int) -> memoryview:
        return self._connection.body_room()

    def buffer_updated(self, nbytes: int) -> None:
        self._connection.body_read(nbytes)

    def eof_received(self) -> bool | None:
        return self._connection.eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.connection_lost(exc)

    def pause_writing(self) -> None:
        self._connection.pause_writing()

    def resume_writing(self) -> None:
        self._connection.resume_writing()
