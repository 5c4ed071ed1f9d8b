"""From settings to the arguments that every aiokafka client takes."""

import ssl
from pathlib import Path
from typing import Any

from eventlog.settings import KafkaSettings

CLIENT_ID = "driftgate"


def client_arguments(bootstrap: str, settings: KafkaSettings) -> dict[str, Any]:
    """Addresses, encryption and credentials; read anew for each client, as files may change.

    Raises: OSError or ssl.SSLError for a file that cannot be used.
    """
    arguments: dict[str, Any] = {
        "bootstrap_servers": [item.strip() for item in bootstrap.split(",") if item.strip()],
        "client_id": CLIENT_ID,
        "security_protocol": settings.security_protocol,
        "request_timeout_ms": round(settings.request_timeout_s * 1000),
    }
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.username
        arguments["sasl_plain_password"] = password(settings)
    return arguments


def password(settings: KafkaSettings) -> str:
    """Raises: OSError when its file cannot be read."""
    if settings.password_file:
        return Path(settings.password_file).read_text().strip()
    return settings.password


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=settings.ca_file or None)
    if settings.certificate_file:
        context.load_cert_chain(settings.certificate_file, settings.key_file or None)
    return context
