"""Registering the schema of the row events at a Confluent schema registry."""

import base64
import http.client
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import quote, urlsplit

from eventlog.core.confluent import registered_id, registration
from eventlog.core.record import LogError
from eventlog.settings import KafkaSettings

ANSWER_BYTES_MAX = 64 * 1024
TIMEOUT_S = 10.0
_CONTENT_TYPE = "application/vnd.schemaregistry.v1+json"


class RegistryError(LogError):
    """The registry cannot be asked, or refuses."""


def register(settings: KafkaSettings) -> int:
    """The id of the events' schema, registered for the values of their topic; blocking.

    Raises: RegistryError.
    """
    url = settings.schema_registry.rstrip("/")
    if urlsplit(url).scheme not in ("http", "https"):
        raise RegistryError(f"kafka.schema_registry {url} is no http or https address")
    subject = quote(f"{settings.rows_topic}-value", safe="")
    request = urllib.request.Request(
        f"{url}/subjects/{subject}/versions",
        data=registration(),
        headers={"content-type": _CONTENT_TYPE, **_authorization(settings)},
        method="POST",
    )
    try:
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            return registered_id(answer.read(ANSWER_BYTES_MAX))
    except urllib.error.HTTPError as error:
        with error:
            said = error.read(500).decode(errors="replace")
        raise RegistryError(f"{url} answers {error.code}: {said}") from error
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise RegistryError(f"{url} cannot be asked: {error}") from error


def _authorization(settings: KafkaSettings) -> dict[str, str]:
    if not settings.schema_registry_username:
        return {}
    password = settings.schema_registry_password
    if settings.schema_registry_password_file:
        try:
            password = Path(settings.schema_registry_password_file).read_text().strip()
        except OSError as error:
            raise RegistryError(f"kafka.schema_registry_password_file: {error}") from error
    pair = f"{settings.schema_registry_username}:{password}".encode()
    return {"authorization": f"Basic {base64.b64encode(pair).decode()}"}
