"""`python -m eventlog.kafka --config-fd N`: the shipper as a process of its own.

The document on descriptor N is JSON: state_dir, `log` with the fields of LogSettings,
`kafka` with those of KafkaSettings.
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
from eventlog.kafka.failure import Unavailable
from eventlog.kafka.row_events import RowEvents
from eventlog.kafka.row_topic import RowTopic
from eventlog.kafka.sender import Sender
from eventlog.kafka.ship import Shipper
from eventlog.settings import KafkaSettings, LogSettings

CANNOT_START = 5  # exit code; tells who restarts us that trying again will not help
LOOK_AGAIN_S = 10.0

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
        asyncio.run(ship(directory, run_dir, settings, kafka))
    return 0


async def ship(directory: Path, run_dir: Path, settings: LogSettings, kafka: KafkaSettings) -> None:
    """Until SIGTERM or SIGINT."""
    rows = None
    if kafka.rows_topic:
        codec = PredictionIds.load(directory.parent).codec
        rows = RowTopic(RowEvents(kafka, codec), Sender(settings.kafka, kafka))
    shipper = Shipper(directory, run_dir, Sender(settings.kafka, kafka), settings, kafka, rows)
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, shipper.stop)
    warning = asyncio.create_task(warn_of_topics(settings.kafka, kafka))
    try:
        await shipper.run()
    finally:
        warning.cancel()
        await asyncio.gather(warning, return_exceptions=True)


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
