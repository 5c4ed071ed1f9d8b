"""What all connections of a worker share of libnghttp2: callbacks, options, header lists.

A callback from C costs about a third of a microsecond before its first line, so
there are five, and they do little. They run inside `mem_recv` and `mem_send`, one
connection at a time: `active` is that one. Nothing in them may delete a session,
end it, or feed it: what ends a connection is noted, and done after the call.
"""

import ctypes
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import _cffi_backend

from serving.core.grpc_framing import ACCEPTED_CODINGS, CODINGS, Chunk, Target
from serving.nghttp2 import Library
from serving.worker.grpc_call import METADATA_KEYS, STREAMS_MAX

log = logging.getLogger("driftgate.serving")

INPUT_BYTES = 256 * 1024  # read at once; as many as the event loop itself would
STREAM_WINDOW_BYTES = 256 * 1024  # of one call, unread by its handler
CONNECTION_WINDOW_BYTES = 1024 * 1024
# Cancelled calls of a connection: so many at once, and so many a second for ever. A
# client that hedges or times out stays far below; each costs some 30 us.
RESETS_BURST, RESETS_PER_S = 1000, 200
CONTINUATIONS_MAX = 8
SETTINGS_MAX = 32  # in one frame
ACKS_MAX = 1000  # of PING and SETTINGS that the client has not read

DATA, HEADERS, RST_STREAM, SETTINGS, PING = 0, 1, 3, 4, 6  # types of frames
END_STREAM = ACK = 1
NO_ERROR, INTERNAL_ERROR, CANCEL, ENHANCE_YOUR_CALM = 0, 2, 8, 11

_FLAG_EOF, _FLAG_NO_END_STREAM = 1, 2
_NO_COPY = 2 | 4  # of a header's name and value: ours outlive the session
_NO_RFC7540_PRIORITIES, _MAX_CONCURRENT_STREAMS = 9, 3
_INITIAL_WINDOW_SIZE, _MAX_HEADER_LIST_SIZE = 4, 6
_DEFERRED, _CALLBACK_FAILURE, _STREAM_FAILURE = -508, -902, -521

# The fields of a head that mean something to us, beside the one that names tenants; the
# others are only counted. A field is first known by its length, which costs nothing.
FIELDS = frozenset(
    {
        *(b":method", b":path", b"content-type"),
        *(b"grpc-timeout", b"grpc-encoding", b"grpc-accept-encoding"),
        *(key.encode() for key in METADATA_KEYS),
    }
)

Pairs = Sequence[tuple[bytes, bytes]]

_STATUS = (b":status", b"200")
_TYPE = (b"content-type", b"application/grpc")
_TAKES = (b"grpc-accept-encoding", ACCEPTED_CODINGS)


class HeaderList:
    """A header list in the library's form, with the memory that it points to."""

    __slots__ = ("_kept", "array", "size")

    def __init__(self, ffi: Any, pairs: Pairs, flags: int = 0) -> None:
        self.size = len(pairs)
        self.array = ffi.new("nghttp2_nv[]", self.size)
        self._kept = [ffi.from_buffer("uint8_t[]", part) for pair in pairs for part in pair]
        for index, (name, value) in enumerate(pairs):
            item = self.array[index]
            item.name, item.value = self._kept[2 * index], self._kept[2 * index + 1]
            item.namelen, item.valuelen, item.flags = len(name), len(value), flags


class Outgoing(Protocol):
    """A call, as the library asks it for what is to be sent."""

    pieces: list[bytes | memoryview]
    trailers: HeaderList | None
    half_closed: bool

    def sent(self, size: int) -> None: ...


class Events(Protocol):
    """A connection, as the library tells it what came."""

    session: Any
    fields: dict[bytes, bytes]  # of the header list that arrives
    field_bytes: int
    field_bytes_soft: int
    field_bytes_hard: int

    @property
    def calls(self) -> Mapping[int, Outgoing]: ...
    def begin_headers(self, stream_id: int) -> None: ...
    def end_headers(self, stream_id: int, ends: int) -> None: ...
    def data(self, stream_id: int, chunk: Chunk, ends: int) -> None: ...
    def half_closed(self, stream_id: int) -> None: ...
    def small_frame(self, size: int) -> None: ...
    def control_frame(self, kind: int, ack: int) -> None: ...
    def stream_closed(self, stream_id: int, error_code: int) -> None: ...
    def answered_early(self, stream_id: int) -> None: ...


class Binding:
    """One per worker."""

    def __init__(self, library: Library, header_bytes_max: int, tenant_header: str = "") -> None:
        """header_bytes_max: of a call's metadata, told to clients. tenant_header: kept too."""
        self._fields = FIELDS | {tenant_header.encode()} if tenant_header else FIELDS
        self._lengths = frozenset(map(len, self._fields))
        self.ffi, self.lib = library.ffi, library.lib
        self.active: Events  # only inside the library's functions
        ffi = self.ffi
        # Not `ffi`'s own, which are functions in Python around these.
        self._unpack, self._memmove = _cffi_backend.unpack, _cffi_backend.memmove
        self._buffer = ffi.buffer
        self._input = bytearray(INPUT_BYTES)
        self.input = memoryview(self._input)
        self.input_address = ffi.from_buffer("uint8_t[]", self._input)
        self.output = ffi.new("const char **")
        self.heads = {
            coding: self.list(
                [_STATUS, _TYPE, _TAKES, *([(b"grpc-encoding", coding.encode())] * bool(coding))]
            )
            for coding in ("", *CODINGS)
        }
        self.ok = self.list([(b"grpc-status", b"0")])
        self.option = self._options()
        self._settings = ffi.new(
            "nghttp2_settings_entry[]",
            [
                {"settings_id": key, "value": value}
                for key, value in (
                    (_MAX_CONCURRENT_STREAMS, STREAMS_MAX),
                    (_INITIAL_WINDOW_SIZE, STREAM_WINDOW_BYTES),
                    (_MAX_HEADER_LIST_SIZE, header_bytes_max),
                    (_NO_RFC7540_PRIORITIES, 1),
                )
            ],
        )
        self._kept: list[Any] = []  # callbacks live as long as this
        self._callbacks = self._make_callbacks()
        self.provider = ffi.new("nghttp2_data_provider *")
        self.provider.read = self._callback("source_read", self._read)

    def list(self, pairs: Pairs) -> HeaderList:
        """Header fields that live as long as this."""
        return HeaderList(self.ffi, pairs, _NO_COPY)

    def failed_only(self, pairs: Pairs) -> HeaderList:
        """The only header list of a call that failed before it had a reply."""
        return HeaderList(self.ffi, [_STATUS, _TYPE, *pairs])

    def allocate(self, size: int) -> tuple[bytes, Target]:
        """A bytes object that nobody has seen yet, and its inside to be filled.

        Not zeroed, so the pages of a message that was announced and does not come
        are never touched. CPython's own C API makes such objects.
        """
        made: bytes = _uninitialised(None, size)
        inside: Target = self.ffi.buffer(self.ffi.from_buffer("char[]", made))
        return made, inside

    def new_session(self) -> Any:
        """A server's session, with our settings on their way. Raises: MemoryError."""
        lib = self.lib
        made = self.ffi.new("nghttp2_session **")
        if lib.nghttp2_session_server_new2(made, self._callbacks, self.ffi.NULL, self.option):
            raise MemoryError("no memory for a connection")
        session = made[0]
        lib.nghttp2_submit_settings(session, 0, self._settings, len(self._settings))
        lib.nghttp2_session_set_local_window_size(session, 0, 0, CONNECTION_WINDOW_BYTES)
        return session

    def _options(self) -> Any:
        made, lib = self.ffi.new("nghttp2_option **"), self.lib
        lib.nghttp2_option_new(made)
        option = made[0]
        lib.nghttp2_option_set_no_auto_window_update(option, 1)
        lib.nghttp2_option_set_no_closed_streams(option, 1)
        lib.nghttp2_option_set_max_outbound_ack(option, ACKS_MAX)
        lib.nghttp2_option_set_max_settings(option, SETTINGS_MAX)
        lib.nghttp2_option_set_stream_reset_rate_limit(option, RESETS_BURST, RESETS_PER_S)
        lib.nghttp2_option_set_max_continuations(option, CONTINUATIONS_MAX)
        return option

    def _make_callbacks(self) -> Any:
        ffi, lib = self.ffi, self.lib
        made = ffi.new("nghttp2_session_callbacks **")
        lib.nghttp2_session_callbacks_new(made)
        for name, kind, method in (
            ("on_begin_headers", "begin_headers", self._on_begin_headers),
            ("on_header", "header", self._on_header),
            ("on_frame_recv", "frame_recv", self._on_frame_recv),
            ("on_data_chunk_recv", "data_chunk_recv", self._on_data),
            ("on_stream_close", "stream_close", self._on_stream_close),
        ):
            callback = self._callback(kind, method)
            getattr(lib, f"nghttp2_session_callbacks_set_{name}_callback")(made[0], callback)
        return made[0]

    def _callback(self, kind: str, method: Callable[..., int]) -> Any:
        callback = self.ffi.callback(kind, method, error=_CALLBACK_FAILURE, onerror=_failed)
        self._kept.append(callback)
        return callback

    def _on_begin_headers(self, _session: int, frame: Any, _user: int) -> int:
        self.active.begin_headers(frame.stream_id)
        return 0

    def _on_header(
        self, _session: int, _frame: int, name: Any, name_size: int, value: Any, value_size: int,
        _flags: int, _user: int,
    ) -> int:  # fmt: skip
        connection = self.active
        size = connection.field_bytes = connection.field_bytes + name_size + value_size + 32
        if size <= connection.field_bytes_soft:
            if name_size in self._lengths:
                fields, key = connection.fields, self._unpack(name, name_size)
                if key in self._fields and key not in fields:
                    fields[key] = self._unpack(value, value_size)
        elif size > connection.field_bytes_hard:
            return _STREAM_FAILURE
        return 0

    def _on_frame_recv(self, _session: int, frame: Any, _user: int) -> int:
        connection = self.active
        kind = frame.type
        if kind == DATA:
            if frame.flags & END_STREAM:
                connection.half_closed(frame.stream_id)
            else:
                connection.small_frame(frame.length)
        elif kind == HEADERS:
            connection.end_headers(frame.stream_id, frame.flags & END_STREAM)
        else:
            connection.control_frame(kind, frame.flags & ACK)
        return 0

    def _on_data(
        self, _session: int, flags: int, stream_id: int, data: Any, size: int, _user: int
    ) -> int:
        self.active.data(stream_id, self._buffer(data, size), flags & END_STREAM)
        return 0

    def _on_stream_close(self, _session: int, stream_id: int, error_code: int, _user: int) -> int:
        self.active.stream_closed(stream_id, error_code)
        return 0

    def _read(
        self, _session: int, stream_id: int, target: Any, room: int, flags: Any, _source: int,
        _user: int,
    ) -> int:  # fmt: skip
        """The library's question for the next bytes of a reply."""
        connection, memmove = self.active, self._memmove
        call = connection.calls.get(stream_id)
        if call is None:
            return _STREAM_FAILURE
        pieces, written = call.pieces, 0
        while pieces:
            piece = pieces[0]
            size = len(piece)
            if size > room:
                view = memoryview(piece)
                memmove(target + written, view[:room], room)
                pieces[0] = view[room:]
                call.sent(written + room)
                return written + room
            memmove(target + written, piece, size)
            written += size
            room -= size
            del pieces[0]
        trailers = call.trailers
        if trailers is not None:
            flags[0] = _FLAG_EOF | _FLAG_NO_END_STREAM
            self.lib.nghttp2_submit_trailer(
                connection.session, stream_id, trailers.array, trailers.size
            )
            if not call.half_closed:
                connection.answered_early(stream_id)
        elif not written:
            return _DEFERRED
        call.sent(written)
        return written


def _failed(_kind: object, error: BaseException, _traceback: object) -> None:
    log.error("a callback of HTTP/2 failed", exc_info=error)


# A prototype of our own: attributes of `pythonapi`'s are shared by the whole process.
_uninitialised = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_ssize_t)(
    ("PyBytes_FromStringAndSize", ctypes.pythonapi)
)
