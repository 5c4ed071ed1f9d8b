"""A broker that asks for a user and a password, and what an operator does to users meanwhile."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.broker.broker import Broker

MECHANISM = "SCRAM-SHA-512"
USER, PASSWORD = "driftgate", "right"
SETTINGS = {
    "sasl.enabled.mechanisms": MECHANISM,
    "listener.name.sasl.scram-sha-512.sasl.jaas.config": (
        "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    ),
}


@contextmanager
def scram_broker(folder: Path, session_ms: int) -> Iterator[Broker]:
    """Its listener SASL knows USER; a connection must authenticate anew after `session_ms`."""
    session = {"listener.name.sasl.scram-sha-512.connections.max.reauth.ms": str(session_ms)}
    broker = Broker(folder, SETTINGS | session, {"SASL": "SASL_PLAINTEXT"})
    try:
        broker.format("--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]")
        broker.start()
        yield broker
    finally:
        broker.stop()


def set_password(broker: Broker, password: str) -> None:
    """Makes the user if there is none."""
    _alter(broker, "--add-config", f"{MECHANISM}=[password={password}]")


def delete_user(broker: Broker) -> None:
    _alter(broker, "--delete-config", MECHANISM)


def _alter(broker: Broker, option: str, value: str) -> None:
    user = ("--entity-type", "users", "--entity-name", USER)
    where = ("--bootstrap-server", broker.address)
    broker.tool("kafka.admin.ConfigCommand", *where, "--alter", *user, option, value)
