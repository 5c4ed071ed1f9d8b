"""libnghttp2: found on this machine, judged, and loaded through cffi without a compiler.

Laws:
- a library that has not been mended against resets and CONTINUATION frames without
  end is not used. Distributions mend old versions, so the version says nothing;
  what tells is whether it has the two functions that set the limits;
- the system's library comes first, since the system's updates reach it; then one
  that an installed Python package carries.

The functions that take `ssize_t` are older than their successors and still in every
release. cffi's own types stay in here and in `worker/http2`.
"""

import ctypes.util
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Any

import cffi

SONAMES = ("libnghttp2.so.14", "libnghttp2.14.dylib")
# Wheels that bring the library along for their own use, in folders beside their modules.
CARRIERS = ("pycurl",)
LIMITS = ("nghttp2_option_set_stream_reset_rate_limit", "nghttp2_option_set_max_continuations")
PACKAGES = (
    "install libnghttp2-14 (Debian, Ubuntu), libnghttp2 (Fedora), nghttp2-libs (Alpine) or "
    "libnghttp2 (Homebrew)"
)

# Callbacks take addresses that nobody looks at as integers: that is cheaper than a pointer.
# The header of a frame is its first member, whatever the frame.
DECLARATIONS = """
typedef struct nghttp2_session nghttp2_session;
typedef struct nghttp2_session_callbacks nghttp2_session_callbacks;
typedef struct nghttp2_option nghttp2_option;
typedef struct { size_t length; int32_t stream_id; uint8_t type, flags, reserved; } frame_head;
typedef struct { uint8_t *name, *value; size_t namelen, valuelen; uint8_t flags; } nghttp2_nv;
typedef struct { int32_t settings_id; uint32_t value; } nghttp2_settings_entry;
typedef struct { int age, version_num; const char *version_str, *proto_str; } nghttp2_info;

typedef int (*begin_headers)(uintptr_t, const frame_head *, uintptr_t);
typedef int (*header)(uintptr_t, uintptr_t, const char *, size_t, const char *, size_t, uint8_t,
                      uintptr_t);
typedef int (*frame_recv)(uintptr_t, const frame_head *, uintptr_t);
typedef int (*data_chunk_recv)(uintptr_t, uint8_t, int32_t, const char *, size_t, uintptr_t);
typedef int (*stream_close)(uintptr_t, int32_t, uint32_t, uintptr_t);
typedef ssize_t (*source_read)(uintptr_t, int32_t, char *, size_t, uint32_t *, uintptr_t,
                               uintptr_t);
typedef struct { void *source; source_read read; } nghttp2_data_provider;

const nghttp2_info *nghttp2_version(int);
const char *nghttp2_strerror(int);
int nghttp2_session_callbacks_new(nghttp2_session_callbacks **);
void nghttp2_session_callbacks_set_on_begin_headers_callback(nghttp2_session_callbacks *,
                                                             begin_headers);
void nghttp2_session_callbacks_set_on_header_callback(nghttp2_session_callbacks *, header);
void nghttp2_session_callbacks_set_on_frame_recv_callback(nghttp2_session_callbacks *,
                                                          frame_recv);
void nghttp2_session_callbacks_set_on_data_chunk_recv_callback(nghttp2_session_callbacks *,
                                                               data_chunk_recv);
void nghttp2_session_callbacks_set_on_stream_close_callback(nghttp2_session_callbacks *,
                                                            stream_close);
int nghttp2_option_new(nghttp2_option **);
void nghttp2_option_set_no_auto_window_update(nghttp2_option *, int);
void nghttp2_option_set_no_closed_streams(nghttp2_option *, int);
void nghttp2_option_set_max_outbound_ack(nghttp2_option *, size_t);
void nghttp2_option_set_max_settings(nghttp2_option *, size_t);
void nghttp2_option_set_stream_reset_rate_limit(nghttp2_option *, uint64_t, uint64_t);
void nghttp2_option_set_max_continuations(nghttp2_option *, size_t);
int nghttp2_session_server_new2(nghttp2_session **, const nghttp2_session_callbacks *, void *,
                                const nghttp2_option *);
void nghttp2_session_del(nghttp2_session *);
ssize_t nghttp2_session_mem_recv(nghttp2_session *, const uint8_t *, size_t);
ssize_t nghttp2_session_mem_send(nghttp2_session *, const char **);
int nghttp2_session_want_read(nghttp2_session *);
int nghttp2_session_want_write(nghttp2_session *);
int nghttp2_session_consume_connection(nghttp2_session *, size_t);
int nghttp2_session_consume_stream(nghttp2_session *, int32_t, size_t);
int nghttp2_session_resume_data(nghttp2_session *, int32_t);
int nghttp2_session_terminate_session(nghttp2_session *, uint32_t);
int32_t nghttp2_session_get_last_proc_stream_id(nghttp2_session *);
int nghttp2_session_set_local_window_size(nghttp2_session *, uint8_t, int32_t, int32_t);
int nghttp2_submit_settings(nghttp2_session *, uint8_t, const nghttp2_settings_entry *, size_t);
int nghttp2_submit_response(nghttp2_session *, int32_t, const nghttp2_nv *, size_t,
                            const nghttp2_data_provider *);
int nghttp2_submit_trailer(nghttp2_session *, int32_t, const nghttp2_nv *, size_t);
int nghttp2_submit_rst_stream(nghttp2_session *, uint8_t, int32_t, uint32_t);
int nghttp2_submit_ping(nghttp2_session *, uint8_t, const uint8_t *);
int nghttp2_submit_shutdown_notice(nghttp2_session *);
int nghttp2_submit_goaway(nghttp2_session *, uint8_t, int32_t, uint32_t, const uint8_t *, size_t);
"""


class LibraryError(Exception):
    """No library that may be used; one sentence that says why and what brings one."""


@dataclass(frozen=True, slots=True)
class Library:
    """A loaded libnghttp2. ffi, lib: cffi's, which have no types to speak of."""

    path: str
    version: str
    ffi: Any
    lib: Any

    def __str__(self) -> str:
        return f"libnghttp2 {self.version} ({self.path})"


def load(path: str) -> Library:
    """Raises: LibraryError if it is not there, or lacks a limit."""
    ffi = cffi.FFI()
    ffi.cdef(DECLARATIONS)
    try:
        lib = ffi.dlopen(path)
        version = ffi.string(lib.nghttp2_version(0).version_str).decode("ascii", "replace")
    except (OSError, AttributeError) as error:
        raise LibraryError(f"{path} cannot be loaded") from error
    missing = [name for name in LIMITS if not hasattr(lib, name)]
    if missing:
        raise LibraryError(
            f"{path} is libnghttp2 {version} without {' and '.join(missing)}: "
            "clients could exhaust it; update it"
        )
    return Library(path, version, ffi, lib)


def find() -> Library:
    """The first library that may be used. Raises: LibraryError."""
    unfit: list[str] = []
    for path in _candidates():
        try:
            return load(path)
        except LibraryError as error:
            if "cannot be loaded" not in str(error):
                unfit.append(str(error))
    raise LibraryError("; ".join(unfit) or f"libnghttp2 is not installed; {PACKAGES}")


def _candidates() -> Iterator[str]:
    yield from SONAMES
    found = ctypes.util.find_library("nghttp2")
    if found:
        yield found
    if sys.platform == "darwin":
        yield from map(str, Path("/opt/homebrew/lib").glob("libnghttp2.14.dylib"))
    for package in CARRIERS:
        yield from _carried(package)


def _carried(package: str) -> Iterator[str]:
    try:
        listed = files(package) or ()
    except PackageNotFoundError:
        return
    for file in listed:
        if file.name.startswith("libnghttp2"):
            yield str(Path(str(file.locate())).resolve())
