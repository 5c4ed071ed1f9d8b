"""Labels to the gateway of this machine, by the route that every client uses.

So a label from Kafka is checked, written and counted as one that came over HTTP.
"""

import http.client
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from urllib.parse import quote

import orjson

from eventlog.core.record import LogError

TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
WRONG = (400, 413, 422)  # no other try makes it right
UNKNOWN = 404
BROKEN, BROKEN_TRIES, BROKEN_PAUSE_S = 500, 3, 1.0  # it may be these labels that it fails on


class GatewayAway(LogError):
    """The gateway takes no labels now; the same may work later."""


class LabelGateway:
    """Blocking; for one thread at a time."""

    def __init__(
        self,
        url: str,
        certificate_file: str = "",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """url: of its data port; certificate_file: where that speaks TLS, its own chain."""
        self._url, self._certificate_file, self._sleep = url.rstrip("/"), certificate_file, sleep

    def post(self, model: str, body: bytes) -> str:
        """What is wrong with these labels; empty: all of them are on its disk.

        Raises: GatewayAway.
        """
        for attempt in range(1, BROKEN_TRIES + 1):
            if attempt > 1:
                self._sleep(BROKEN_PAUSE_S)
            status, said = self._ask(f"/v2/models/{quote(model, safe='')}/labels", body)
            if status == 200:
                return ""
            if status in WRONG:
                return said
            if status == UNKNOWN and self._is_ready():  # else it may not know its models yet
                return said
            if status != BROKEN:
                raise GatewayAway(f"the gateway takes no labels: {status}, {said}")
        return f"the gateway fails on it: {said}"

    def _is_ready(self) -> bool:
        return self._ask("/v2/health/ready", None)[0] == 200

    def _ask(self, path: str, body: bytes | None) -> tuple[int, str]:
        """Status and error. Raises: GatewayAway."""
        headers = {"content-type": "application/json"} if body is not None else {}
        request = urllib.request.Request(self._url + path, body, headers)
        try:
            context = own_certificate(self._certificate_file)
            with urllib.request.urlopen(request, timeout=TIMEOUT_S, context=context) as reply:
                reply.read(ANSWER_BYTES_MAX)
                return reply.status, ""
        except urllib.error.HTTPError as error:
            with error:
                return error.code, _sentence(error)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "reason", error)
            raise GatewayAway(f"no gateway answers at {self._url}: {reason}") from error


def own_certificate(file: str) -> ssl.SSLContext | None:
    """Trusts the certificate of this machine's gateway, whoever signed it and for whatever name.

    file: may be replaced, so it is read anew each time; empty: the gateway speaks plain text.
    Raises: OSError.
    """
    if not file:
        return None
    context = ssl.create_default_context(cafile=file)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def _sentence(error: urllib.error.HTTPError) -> str:
    try:
        return str(orjson.loads(error.read(ANSWER_BYTES_MAX))["error"])
    except (OSError, http.client.HTTPException, ValueError, KeyError, TypeError):
        return str(error.reason)
