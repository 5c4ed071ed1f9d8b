"""From settings to the arguments that every aiokafka client takes."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError

from eventlog.kafka.failure import sentence
from eventlog.settings import KafkaSettings

CLIENT_ID = "driftgate"
EXPLAIN_S = 3.0  # per address: it has just been waited for


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


async def explain(bootstrap: str, settings: KafkaSettings, error: BaseException) -> str:
    """Why no client could be had, in a sentence.

    The library only says that it could not connect; what a broker answered is found
    out by asking one again. Where one of several takes a connection, that the others
    do not is told beside the reason, not for it.
    """
    if isinstance(error, OSError) and error.filename:
        return f"kafka: {error.filename}: {sentence(error)}"
    reason, refused, reached = sentence(error), "", False
    try:
        arguments = client_arguments(bootstrap, settings)
        for host, port, _ in collect_hosts(arguments.pop("bootstrap_servers")):
            try:
                async with asyncio.timeout(EXPLAIN_S):
                    connection = await create_conn(host, port, **arguments)
            except (OSError, KafkaError) as refusal:
                refused = f"{host}:{port}: {sentence(refusal)}"
            else:
                connection.close()
                reached = True
    except OSError as unreadable:
        reason = sentence(unreadable)
    if refused:
        reason = f"{reason}, and {refused}" if reached else refused
    return f"kafka cannot be used: {reason}"
