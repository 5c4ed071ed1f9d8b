"""Gateways that share control over TLS, with a user and a password."""

import dataclasses
from collections.abc import Callable, Iterator

import pytest

from eventlog.kafka.admin import init_topics
from eventlog.settings import KafkaSettings, LogSettings
from tests.broker.authority import Authority
from tests.broker.broker import Broker
from tests.broker.scram import MECHANISM, PASSWORD, SETTINGS, USER
from tests.broker.topics import run, settings_for_test

from .conftest import FakeGateway, eventually

pytestmark = pytest.mark.ci


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority").create()


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[Broker]:
    settings = {
        "sasl.enabled.mechanisms": MECHANISM,
        "listener.name.both.scram-sha-512.sasl.jaas.config": SETTINGS[
            "listener.name.sasl.scram-sha-512.sasl.jaas.config"
        ],
        **authority.keystore(),
        "listener.name.mutual.ssl.client.auth": "required",
    }
    listeners = {"BOTH": "SASL_SSL", "MUTUAL": "SSL"}
    broker = Broker(tmp_path_factory.mktemp("broker"), settings, listeners)
    try:
        broker.format("--add-scram", f"{MECHANISM}=[name={USER},password={PASSWORD}]")
        broker.start()
        yield broker
    finally:
        broker.stop()


def secured(authority: Authority, listener: str) -> KafkaSettings:
    fields = {"ca_file": str(authority.ca), "control_timeout_s": 2.0, "control_wait_s": 5.0}
    if listener == "BOTH":
        user = {"username": USER, "password": PASSWORD, "sasl_mechanism": MECHANISM}
        return settings_for_test(security_protocol="SASL_SSL", **user, **fields)
    certificate, key = authority.issue("gateway")
    own = {"certificate_file": str(certificate), "key_file": str(key)}
    return settings_for_test(security_protocol="SSL", **own, **fields)


def on(gateway: FakeGateway, address: str, kafka: KafkaSettings, other: FakeGateway) -> FakeGateway:
    gateway.config = dataclasses.replace(
        gateway.config,
        log=LogSettings(kafka=address),
        kafka=kafka,
        registry_dir=other.config.registry_dir,
    )
    return gateway


@pytest.mark.parametrize("listener", ["BOTH", "MUTUAL"])
def test_a_rollback_at_one_gateway_takes_effect_on_the_other(
    broker: Broker,
    authority: Authority,
    make_gateway: Callable[..., FakeGateway],
    listener: str,
) -> None:
    kafka, address = secured(authority, listener), broker.address_of(listener)
    run(init_topics(address, kafka))
    one, two = make_gateway(workers=1), make_gateway(workers=1)
    one.push()
    one.push("other", champion=False)
    for gateway in (one, two):
        on(gateway, address, kafka, one).start()
    eventually(lambda: up(one) and up(two))
    assert one.tell("START", version={"version": "2"}, steps=[100])["accepted"]
    eventually(lambda: two.arms() == [{"2": 100}])
    assert not two.tell("ROLLBACK", reason="complaints")["diverged"]
    eventually(lambda: one.arms() == [{"1": 100}] and one.deployment() == two.deployment())
    assert [gateway.stop() for gateway in (one, two)] == [0, 0]
    for gateway in (one, two):
        assert PASSWORD not in gateway.errors().split()


def test_a_gateway_that_is_not_let_in_serves_and_says_why(
    broker: Broker, authority: Authority, make_gateway: Callable[..., FakeGateway]
) -> None:
    kafka = secured(authority, "BOTH")
    run(init_topics(broker.address_of("BOTH"), kafka))
    gateway = make_gateway(workers=1)
    gateway.push()
    stranger = dataclasses.replace(kafka, password="wrong")
    on(gateway, broker.address_of("BOTH"), stranger, gateway).start()
    said = "the user name or password was refused"
    eventually(lambda: any(said in it for it in gateway.admin.status()["degraded"]))
    assert gateway.tell("HOLD", hold_until_ns=2 * 10**18)["diverged"]
    assert gateway.stop() == 0


def up(gateway: FakeGateway) -> bool:
    return bool(gateway.admin.status()["control"]["kafka"]["up"])
