"""TLS on the data ports: contexts from files, made anew when the files change."""

import logging
import os
import ssl
from collections.abc import Sequence

from serving.settings import TlsSettings

log = logging.getLogger("driftgate.serving")

HTTP_PROTOCOLS = ("http/1.1",)
GRPC_PROTOCOLS = ("h2",)  # clients of gRPC insist that it is agreed on

Files = tuple[bytes, bytes, bytes]  # certificate, key, authority of clients (may be empty)


class TlsError(Exception):
    """Files that no TLS can be served with; the message is one line for an operator."""


class Certificates:
    """What is shown to clients, as it was in the files last."""

    def __init__(self, settings: TlsSettings) -> None:
        """Raises: TlsError if the files cannot be used."""
        self._settings = settings
        self._problem = ""
        self._stamps = self._look()
        self._make()

    def refresh(self) -> None:
        """Take over files that were replaced; new connections see them.

        Files that do not fit each other, as in between two renames, change nothing yet.
        """
        problem = ""
        try:
            stamps = self._look()
            if stamps == self._stamps:
                return
            self._stamps = stamps
            self._make()
        except TlsError as error:
            problem = str(error)
        if problem and problem != self._problem:
            log.warning("TLS: %s; what was read before stays", problem)
        self._problem = problem

    def _make(self) -> None:
        files = _read(self._settings)
        http = make_context(self._settings, HTTP_PROTOCOLS)
        self.grpc = make_context(self._settings, GRPC_PROTOCOLS)
        self.http, self.files = http, files

    def _look(self) -> list[tuple[int, int, int]]:
        found = []
        for name in _names(self._settings):
            try:
                status = os.stat(name)
            except OSError as error:
                raise TlsError(f"{name}: {error.strerror}") from error
            found.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return found


def make_context(settings: TlsSettings, protocols: Sequence[str]) -> ssl.SSLContext:
    """A server's context: TLS 1.2 or newer, and clients' certificates where they are asked for.

    protocols: by ALPN. Raises: TlsError.
    """
    if not settings.key_file:
        raise TlsError("tls.certificate_file is set, and tls.key_file is not")
    try:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        # Without a password it would ask on a terminal for that of an encrypted key.
        context.load_cert_chain(settings.certificate_file, settings.key_file, password="")
    except (ssl.SSLError, OSError, ValueError) as error:
        names = f"{settings.certificate_file} and {settings.key_file}"
        raise TlsError(
            f"{names} cannot be used: {_reason(error)}; wanted are a certificate and its key in "
            "PEM, without a password"
        ) from error
    if settings.client_ca_file:
        try:
            context.load_verify_locations(settings.client_ca_file)
        except (ssl.SSLError, OSError, ValueError) as error:
            raise TlsError(f"{settings.client_ca_file} cannot be used: {_reason(error)}") from error
        context.verify_mode = ssl.CERT_REQUIRED
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(protocols))
    return context


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLError):
        return (error.reason or "no PEM").lower().replace("_", " ")
    return error.strerror or str(error) if isinstance(error, OSError) else str(error)


def _names(settings: TlsSettings) -> list[str]:
    names = (settings.certificate_file, settings.key_file, settings.client_ca_file)
    return [name for name in names if name]


def _read(settings: TlsSettings) -> Files:
    contents = [b"", b"", b""]
    for place, name in enumerate(_names(settings)):
        try:
            with open(name, "rb") as file:
                contents[place] = file.read()
        except OSError as error:
            raise TlsError(f"{name}: {error.strerror}") from error
    certificate, key, authority = contents
    return certificate, key, authority
