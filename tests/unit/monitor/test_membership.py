"""Membership of a group goes on, however the client's own tasks end."""

import asyncio
import threading

import pytest
from aiokafka.errors import KafkaError

from eventlog.settings import KafkaSettings
from monitor.kafka import membership
from monitor.kafka.membership import Member, Membership

WAIT_S = 30.0


@pytest.mark.parametrize(
    "broken", [KafkaError("no"), OSError("gone"), asyncio.CancelledError()], ids=repr
)
def test_a_client_that_fails_and_cannot_stop_is_followed_by_another(broken, monkeypatch):
    started, polled = [], threading.Event()

    class Consumer:
        def __init__(self, **_):
            started.append(self)

        def subscribe(self, *_, **__):
            pass

        async def start(self):
            pass

        async def getmany(self, **_):
            if len(started) < 3:
                raise broken
            polled.set()
            await asyncio.sleep(3600)

        async def stop(self):
            raise asyncio.CancelledError  # of a task that it waited for

    monkeypatch.setattr(membership, "AIOKafkaConsumer", Consumer)
    monkeypatch.setattr(membership, "RETRY_S", 0.01)
    member = Member("g", "i", 10.0)
    joined = Membership("127.0.0.1:9", KafkaSettings(), "driftgate.predictions.v1", member)
    try:
        assert polled.wait(WAIT_S)
        assert len(started) == 3
    finally:
        joined.close()
