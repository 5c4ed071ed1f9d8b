"""A client of the admin API, on the standard library alone and quick to import."""

import http.client
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

TIMEOUT_S = 10.0


class AdminUnreachableError(Exception):
    """No gateway answers at this address."""


class AdminError(Exception):
    """The gateway answered with an error that is not about a command's merits.

    unknown: whether the command was taken is not known; the same id may be sent again.
    """

    def __init__(self, status: int, sentence: str, *, unknown: bool = False) -> None:
        super().__init__(sentence)
        self.status, self.sentence, self.unknown = status, sentence, unknown


class AdminClient:
    """One connection per call: an operator's command must not meet a stale one."""

    def __init__(self, base_url: str, token: str, timeout_s: float = TIMEOUT_S) -> None:
        parts = urlsplit(base_url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(f"not an http address: {base_url}")
        self._secure = parts.scheme == "https"
        self._host, self._port = parts.hostname, parts.port
        self._token, self._timeout_s = token, timeout_s
        self.base_url = base_url

    def status(self) -> dict[str, Any]:
        """Workers, deployments and the registry, as GET /v1/status says."""
        return self._expect("GET", "/v1/status")

    def deployment(self, model: str) -> dict[str, Any] | None:
        """The deployment of a model, or None if there is none."""
        status, document = self._call("GET", f"/v1/models/{quote(model, safe='')}")
        if status == 404:
            return None
        return _checked(status, document)

    def batching(self, model: str) -> dict[str, Any] | None:
        """What its batchers do with a model and why, or None if there is no deployment."""
        status, document = self._call("GET", f"/v1/models/{quote(model, safe='')}/batching")
        if status == 404:
            return None
        return _checked(status, document)

    def apply(
        self, command: Mapping[str, Any], *, dry_run: bool = False, wait_ms: int = 5000
    ) -> dict[str, Any]:
        """Send a command (protobuf JSON); returns its CommandResult, accepted or refused.

        The result has one more key, `status`: 200, 409 for a stale generation, or 422.
        """
        query = urlencode({"dry_run": int(dry_run), "wait_ms": wait_ms})
        status, document = self._call(
            "POST", f"/v1/commands?{query}", command, self._timeout_s + wait_ms / 1000
        )
        if status in {409, 422}:
            return {**document, "status": status}
        return {**_checked(status, document), "status": status}

    def audit(self, model: str = "", after: int = 0, limit: int = 100) -> list[dict[str, Any]]:
        """Audit entries above sequence `after`, oldest first."""
        query = urlencode({"model": model, "after": after, "limit": limit})
        entries: list[dict[str, Any]] = self._expect("GET", f"/v1/audit?{query}")["entries"]
        return entries

    def verify_audit(self) -> dict[str, Any]:
        """{"ok", "entries", "problems"} of the audit chain."""
        return self._expect("GET", "/v1/audit/verify")

    def ledger(self) -> list[dict[str, Any]]:
        """The prediction log's ledger, one line per producer."""
        producers: list[dict[str, Any]] = self._expect("GET", "/v1/ledger")["producers"]
        return producers

    def _expect(self, method: str, path: str) -> dict[str, Any]:
        return _checked(*self._call(method, path))

    def _call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        timeout_s: float | None = None,
    ) -> tuple[int, dict[str, Any]]:
        kind = http.client.HTTPSConnection if self._secure else http.client.HTTPConnection
        connection = kind(self._host, self._port, timeout=timeout_s or self._timeout_s)
        headers = {"Authorization": f"Bearer {self._token}", "Accept": "application/json"}
        data = None
        if body is not None:
            data = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        try:
            connection.request(method, path, data, headers)
            response = connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise AdminUnreachableError(f"{self.base_url}: {why}") from error
        finally:
            connection.close()
        return response.status, _document(response.status, text)


def _document(status: int, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError as error:
        raise AdminError(status, "the answer is not JSON; is this the admin port?") from error
    if not isinstance(document, dict):
        raise AdminError(status, "the answer is not a JSON object; is this the admin port?")
    return document


def _checked(status: int, document: dict[str, Any]) -> dict[str, Any]:
    if status != 200:
        sentence = str(document.get("error", f"status {status}"))
        raise AdminError(status, sentence, unknown=bool(document.get("unknown")))
    return document
