"""A small client of the gateway's admin API: read a deployment, send a command.

Laws:
- a command carries its idempotency key, so sending it again is harmless; that is
  left to the caller, who stored the command first;
- of several gateways any will do: the one that answered last is asked first, and the
  next when it cannot be asked;
- nothing here raises anything but AdminError.
"""

import http.client
import json
import urllib.parse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monitor.core.deployment import Deployment, parse_deployment

TIMEOUT_S = 5.0
REPLY_BYTES_MAX = 4 * 1024 * 1024
ACCEPTED, REFUSED = 200, (400, 403, 404, 409, 422)


class AdminError(Exception):
    """The gateway could not be asked; try again later."""


class AdminRefused(AdminError):
    """The gateway said no; the message is its reason."""


class AdminClient:
    def __init__(self, base_urls: Sequence[str], token_path: Path) -> None:
        """base_urls: of the gateways that may be asked; at least one."""
        self._gateways = [urllib.parse.urlsplit(url) for url in base_urls]
        self._token_path = token_path

    def deployment(self, model: str) -> Deployment:
        """Raises: AdminError, AdminRefused for a model that the gateway does not know."""
        name = urllib.parse.quote(model, safe="")
        return parse_deployment(self._call("GET", f"/v1/models/{name}"))

    def apply(self, command: Mapping[str, Any], wait_ms: int = 2000) -> dict[str, Any]:
        """Send a command; returns its result once the workers serve it, or the wait is over.

        Raises: AdminRefused when the gateway refuses it, AdminError when it cannot be asked.
        """
        return self._call("POST", f"/v1/commands?wait_ms={wait_ms}", command)

    def _call(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        failure = AdminError("no gateway is configured")
        for gateway in list(self._gateways):
            try:
                return self._ask(gateway, method, path, body)
            except AdminRefused:
                raise
            except AdminError as exc:
                failure = exc
                self._gateways.append(self._gateways.pop(0))
        raise failure

    def _ask(
        self,
        gateway: urllib.parse.SplitResult,
        method: str,
        path: str,
        body: Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        host, secure = gateway.hostname or "127.0.0.1", gateway.scheme == "https"
        port = gateway.port or (443 if secure else 80)
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(host, port, timeout=TIMEOUT_S)
        try:
            token = self._token_path.read_text().strip()
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            payload = None if body is None else json.dumps(body).encode()
            connection.request(method, path, payload, headers)
            reply = connection.getresponse()
            return _parse(reply.status, reply.read(REPLY_BYTES_MAX))
        except (OSError, http.client.HTTPException) as exc:
            raise AdminError(f"admin API at {host}:{port}: {exc}") from exc
        finally:
            connection.close()


def _parse(status: int, body: bytes) -> dict[str, Any]:
    try:
        document = json.loads(body)
    except ValueError as exc:
        raise AdminError(f"admin API answered {status} without JSON") from exc
    if status == ACCEPTED and isinstance(document, dict):
        return document
    reason = document.get("error", "") if isinstance(document, dict) else ""
    if status in REFUSED:
        raise AdminRefused(str(reason) or f"refused with {status}")
    raise AdminError(f"admin API answered {status}: {reason}")
