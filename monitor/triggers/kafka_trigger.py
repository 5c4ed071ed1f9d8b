"""The trigger that puts a CloudEvent on a topic, keyed by the model.

The value is the event in JSON ("structured mode" of CloudEvents for Kafka). It is there
at least once; a reader knows a repetition by the event's id.
"""

import asyncio
import json
import ssl
import time

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from eventlog.kafka.connect import client_arguments
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.failure import sentence
from eventlog.settings import KafkaSettings
from monitor.triggers.core.request import Request
from monitor.triggers.core.retry import Attempt, Fate
from monitor.triggers.http_trigger import EVENT_CONTENT, event_body

CLOSE_S = 3.0


class KafkaTrigger:
    """See `Trigger`."""

    repeatable = True

    def __init__(
        self, bootstrap: str, settings: KafkaSettings, topic: str, timeout_s: float
    ) -> None:
        self._bootstrap, self._settings = bootstrap, settings
        self._topic, self._timeout_s = topic, timeout_s

    def attempt(self, request: Request) -> Attempt:
        """With a client of its own: requests are days apart."""
        loop = EventLoop("monitor-retrain")
        producers: list[AIOKafkaProducer] = []
        try:
            place = loop.submit(self._send(request, producers)).result(self._timeout_s + CLOSE_S)
        except (KafkaError, OSError, ssl.SSLError, ValueError) as exc:
            return Attempt(Fate.RETRY, f"topic {self._topic}: {sentence(exc)}")
        finally:

            async def stop() -> None:
                for producer in producers:
                    await producer.stop()

            loop.end(stop, CLOSE_S)
        return Attempt(
            Fate.DONE, f"a training was asked for on topic {self._topic}", {"place": place}
        )

    def check(self) -> str:
        """Of the brokers, only the files that a connection needs."""
        try:
            client_arguments(self._bootstrap, self._settings)
        except (OSError, ssl.SSLError) as exc:
            return f"kafka: {sentence(exc)}"
        return ""

    def show(self, request: Request) -> str:
        event = json.loads(event_body(request, time.time_ns() // 10**9))
        head = f"topic {self._topic} at {self._bootstrap}\nkey: {request.model}"
        return f"{head}\ncontent-type: {EVENT_CONTENT}\n\n{json.dumps(event, indent=2)}"

    def stop(self) -> None:
        """An attempt ends by itself; what it asked for is asked again, under the same id."""

    async def _send(self, request: Request, producers: list[AIOKafkaProducer]) -> str:
        producer = AIOKafkaProducer(
            **client_arguments(self._bootstrap, self._settings),
            acks="all",
            enable_idempotence=True,
        )
        producers.append(producer)
        async with asyncio.timeout(self._timeout_s):
            await producer.start()
            sent = await producer.send_and_wait(
                self._topic,
                event_body(request, time.time_ns() // 10**9),
                key=request.model.encode(),
                headers=[("content-type", EVENT_CONTENT.encode())],
            )
        return f"{sent.topic}/{sent.partition}/{sent.offset}"
