"""`python -m eventlog.kafka --config-fd N`: the shipper as a process of its own.

The document on descriptor N is JSON: state_dir, `log` with the fields of LogSettings,
`kafka` with those of KafkaSettings, `gateway_url` of the data port beside it,
`gateway_certificate_file` where that speaks TLS.
"""

import argparse
import asyncio
import contextlib
import fcntl
import json
import logging
import os
import signal
import sys
from pathlib import Path

from eventlog.ids import PredictionIds
from eventlog.kafka.admin import AdminRefused, check_topics
from eventlog.kafka.event_loop import EventLoop
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.figures import Figures
from eventlog.kafka.label_delivery import LabelDelivery
from eventlog.kafka.label_gateway import LabelGateway
from eventlog.kafka.label_topic import LabelTopic
from eventlog.kafka.row_events import RowEvents
from eventlog.kafka.row_topic import RowTopic
from eventlog.kafka.sender import Sender
from eventlog.kafka.ship import Shipper
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings, LogSettings

CANNOT_START = 5  # exit code; tells who restarts us that trying again will not help
LOOK_AGAIN_S = 10.0
LABELS_CLOSE_S, LETTERS_CLOSE_S = 6.0, 1.0

logger = logging.getLogger("eventlog.kafka")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m eventlog.kafka", description=__doc__)
    parser.add_argument("--config-fd", type=int, required=True)
    with os.fdopen(parser.parse_args().config_fd, "rb") as stream:
        document = json.load(stream)
    logging.basicConfig(level=logging.INFO, format="driftgate shipper: %(message)s")
    state_dir = Path(document["state_dir"])
    directory, run_dir = state_dir / "log", state_dir / "run"
    with contextlib.ExitStack() as opened:
        try:
            for folder in (directory, run_dir):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = opened.enter_context((directory / "shipper.lock").open("w"))
        except OSError as error:
            return refuse(
                f"{state_dir} cannot be written ({error.strerror}); choose another --state-dir"
            )
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return refuse(f"another shipper runs in {state_dir}; stop it first")
        settings, kafka = LogSettings(**document["log"]), KafkaSettings(**document["kafka"])
        gateway = LabelGateway(
            document.get("gateway_url", ""), document.get("gateway_certificate_file", "")
        )
        asyncio.run(ship(directory, run_dir, settings, kafka, gateway))
    return 0


async def ship(
    directory: Path,
    run_dir: Path,
    settings: LogSettings,
    kafka: KafkaSettings,
    gateway: LabelGateway,
) -> None:
    """Until SIGTERM or SIGINT."""
    rows = None
    if kafka.rows_topic:
        codec = PredictionIds.load(directory.parent).codec
        rows = RowTopic(RowEvents(kafka, codec), Sender(settings.kafka, kafka))
    shipper = Shipper(directory, run_dir, Sender(settings.kafka, kafka), settings, kafka, rows)
    beside = [asyncio.create_task(warn_of_topics(settings.kafka, kafka))]
    if kafka.labels_topic:
        beside.append(
            asyncio.create_task(take_labels(settings.kafka, kafka, gateway, shipper.figures))
        )

    def stop() -> None:
        shipper.stop()
        for task in beside:
            task.cancel()

    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop)
    try:
        await shipper.run()
    finally:
        for task in beside:
            task.cancel()
        await asyncio.gather(*beside, return_exceptions=True)


async def take_labels(
    bootstrap: str, kafka: KafkaSettings, gateway: LabelGateway, figures: Figures
) -> None:
    """From the topic that applications write to, to the gateway; until cancelled."""
    loop, letters = EventLoop("kafka-labels"), Sender(bootstrap, kafka)
    delivery = LabelDelivery(
        kafka.labels_topic,
        gateway,
        letters,
        Topics(kafka.namespace).dead_letters,
        kafka.message_bytes_max,
    )
    topic = LabelTopic(bootstrap, kafka, delivery, figures)
    try:
        await asyncio.wrap_future(loop.submit(topic.run()))
    finally:
        await asyncio.to_thread(loop.end, lambda: letters.close(LETTERS_CLOSE_S), LABELS_CLOSE_S)


async def warn_of_topics(bootstrap: str, kafka: KafkaSettings) -> None:
    """Name what is dangerous about the topics, once, as soon as brokers answer."""
    while True:
        try:
            sentences = await check_topics(bootstrap, kafka)
        except AdminRefused as error:
            sentences = [f"the topics cannot be looked at: {error}"]
        except Unavailable:  # the shipper says so
            await asyncio.sleep(LOOK_AGAIN_S)
            continue
        for sentence in sentences:
            logger.warning("%s", sentence)
        return


def refuse(sentence: str) -> int:
    print(f"error: {sentence}", file=sys.stderr)
    return CANNOT_START


if __name__ == "__main__":
    sys.exit(main())
