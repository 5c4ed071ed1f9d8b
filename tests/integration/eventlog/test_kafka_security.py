"""TLS and SASL against a real broker, and what is said when they fail."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from eventlog import LogError, encode_predictions, fake_rows
from eventlog.kafka.admin import check_topics, init_topics
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.sender import Sender
from eventlog.settings import KafkaSettings
from tests.broker.authority import Authority
from tests.broker.broker import Broker
from tests.broker.scram import MECHANISM, PASSWORD, SETTINGS, USER
from tests.broker.topics import run, settings_for_test

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority").create()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Broker]:
    settings = {
        **SETTINGS,
        **authority.keystore(),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    listeners = {"SASL": "SASL_PLAINTEXT", "TLS": "SSL", "MUTUAL": "SSL"}
    broker = Broker(tmp_path_factory.mktemp("broker"), settings, listeners)
    try:
        broker.format("--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]")
        broker.start()
        yield broker
    finally:
        broker.stop()


def works(address: str, settings: KafkaSettings) -> None:
    """Every kind of client: administration, sender, reader."""
    run(init_topics(address, settings))
    record = encode_predictions(fake_rows(0, 1), "aaaaaa", 0)
    with closing(KafkaLog(address, settings)) as log:
        log.append([record])
        assert [stored.record for stored in log.read({}, 9)] == [record]


def refusals(address: str, settings: KafkaSettings) -> set[str]:
    """What each kind of client says."""

    async def send() -> None:
        sender = Sender(address, settings)
        try:
            await sender.start()
        finally:
            await sender.close(5.0)

    def read() -> None:
        with closing(KafkaLog(address, settings)) as log:
            log.end()

    said = set()
    for attempt in (
        lambda: run(send()),
        read,
        lambda: run(check_topics(address, settings)),
    ):
        with pytest.raises(Unavailable) as refusal:
            attempt()
        said.add(str(refusal.value))
    return said


def sasl(**fields: str) -> KafkaSettings:
    credentials = {"security_protocol": "SASL_PLAINTEXT", "username": USER, "password": PASSWORD}
    return settings_for_test(**{**credentials, **fields})


def tls(authority: Authority, **fields: str) -> KafkaSettings:
    return settings_for_test(**{"security_protocol": "SSL", "ca_file": str(authority.ca), **fields})


def test_a_user_with_a_password_gets_in(broker: Broker) -> None:
    works(broker.address_of("SASL"), sasl())


def test_a_password_is_read_from_its_file_at_each_connection(
    broker: Broker, tmp_path: Path
) -> None:
    file = tmp_path / "password"
    file.write_text("wrong\n")
    settings = sasl(password="", password_file=str(file))
    address = broker.address_of("SASL")
    with closing(KafkaLog(address, settings)) as log:
        with pytest.raises(Unavailable, match="password was refused"):
            log.end()
        file.write_text(f"{PASSWORD}\n")
        assert log.end() == {}
        file.unlink()
        with pytest.raises(Unavailable, match=r"password: no such file"):
            run(check_topics(address, settings))


def test_wrong_credentials_are_said_in_a_sentence(
    broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    address = broker.address_of("SASL")
    for settings in (sasl(password="wrong"), sasl(username="nobody")):
        for sentence in refusals(address, settings):
            assert sentence.endswith(f"{address}: the user name or password was refused")
            assert "wrong" not in sentence
    for sentence in refusals(address, sasl(sasl_mechanism="PLAIN")):
        assert "do not offer this SASL mechanism" in sentence
    assert not [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_a_broker_with_a_certificate_is_trusted_by_its_authority(
    broker: Broker, authority: Authority
) -> None:
    works(broker.address_of("TLS"), tls(authority))


def test_a_client_with_a_certificate_gets_in_where_one_is_asked_for(
    broker: Broker, authority: Authority
) -> None:
    certificate, key = authority.issue("client")
    address = broker.address_of("MUTUAL")
    works(address, tls(authority, certificate_file=str(certificate), key_file=str(key)))
    for sentence in refusals(address, replace(tls(authority), request_timeout_s=2.0)):
        assert address in sentence


def test_a_stranger_s_certificate_is_refused(
    broker: Broker, authority: Authority, tmp_path: Path
) -> None:
    stranger = Authority(tmp_path, "stranger").create()
    for sentence in refusals(broker.address_of("TLS"), tls(stranger)):
        assert "the broker's certificate was refused" in sentence


def test_a_wrong_protocol_is_over_in_time(broker: Broker, authority: Authority) -> None:
    plain = settings_for_test(request_timeout_s=2.0)
    assert refusals(broker.address_of("TLS"), plain)
    assert refusals(broker.address_of("PLAINTEXT"), replace(tls(authority), request_timeout_s=2.0))
    assert refusals(broker.address_of("SASL"), plain)


def test_a_file_that_is_not_there_is_named(broker: Broker, tmp_path: Path) -> None:
    missing = settings_for_test(security_protocol="SSL", ca_file=str(tmp_path / "nothing.pem"))
    for sentence in refusals(broker.address_of("TLS"), missing):
        assert "no such file" in sentence
    with pytest.raises(LogError):
        run(init_topics(broker.address_of("TLS"), missing))
