"""The shipper's loop: the spool to Kafka, in order, and the position behind it.

Laws:
- nothing is held but one batch, bounded in bytes; what waits, waits in the spool;
- the position is published after every partition has acknowledged, and segments are
  removed after that: killed anywhere, the next shipper sends what may be there again,
  and its readers know it by its sequence numbers;
- Kafka being away is an ordinary state: each reason is said once, it is tried again
  with growing pauses, and ends nothing;
- told to stop, it ships what is there if Kafka answers, and ends in bounded time
  whether it does or not.
"""

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Protocol

from eventlog.core.dead_letter import truncated
from eventlog.core.kafka_message import Placed
from eventlog.core.record import PREDICTIONS, LogError, RecordKind, StoredRecord
from eventlog.core.shipping import Letter, Shipment, Watermarks, letter_message
from eventlog.kafka.failure import Unavailable, Unsendable
from eventlog.kafka.figures import Figures, read_figures, write_figures
from eventlog.kafka.row_topic import RowTopic
from eventlog.kafka.sender import Addressed
from eventlog.kafka.shipped import Shipped, lag
from eventlog.kafka.topics import Topics, partition_of
from eventlog.settings import KafkaSettings, LogSettings
from eventlog.sqlite_log import SqliteLog

BATCH_BYTES = 8 * 1024 * 1024  # read and not acknowledged; a few times that while it is encoded
BATCH_RECORDS = 1024
IDLE_S = 0.1
PUBLISH_S = 0.25  # two waits for the disk each; what came after it may be sent twice
REMOVE_S = 5.0
FIGURES_S = 1.0
BACKOFF_S = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)
READ_RETRY_S = 1.0
LAST_S = 5.0  # after the order to stop
CLOSE_S = 3.0
LETTER_ATTEMPTS = 3
REASONS_MAX = 8

logger = logging.getLogger(__name__)


class Outlet(Protocol):
    """The part of `Sender` that the shipper uses."""

    @property
    def partitions(self) -> int: ...
    async def start(self) -> None: ...
    async def send(self, placed: Sequence[Placed]) -> None: ...
    async def send_messages(self, messages: Sequence[Addressed]) -> None: ...
    async def close(self, timeout_s: float) -> None: ...


class Shipper:
    """Ships one log directory; `run` once."""

    def __init__(
        self,
        directory: Path,
        run_dir: Path,
        outlet: Outlet,
        settings: LogSettings,
        kafka: KafkaSettings,
        rows: RowTopic | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """rows: what also gets the rows one by one.

        Raises: FileNotFoundError if there is no log yet.
        """
        self._directory, self._run_dir, self._outlet = directory, run_dir, outlet
        self._log = SqliteLog(directory, settings=settings)
        self._shipped = Shipped(directory)
        self._heartbeat_ns = settings.heartbeat_ms * 1_000_000
        self._topics, self._message_bytes_max = Topics(kafka.namespace), kafka.message_bytes_max
        self._clock, self._rows = clock, rows
        self._watermarks: Watermarks | None = None
        self._batch: list[StoredRecord] = []
        self._shipment: Shipment | None = None
        self._stop = asyncio.Event()
        self._failures = 0
        self._reasons: set[str] = set()  # that were said of this absence
        self._unreadable = self._unpublished = False
        self._published_at = self._removed_at = 0.0
        self.figures = read_figures(run_dir) or Figures()
        self.figures.away_since_ns, self.figures.away, self.figures.pid = 0, "", os.getpid()

    def stop(self) -> None:
        """Ship what is there if that can be done now, and end."""
        self._stop.set()

    async def run(self) -> None:
        """Returns after `stop`, in bounded time."""
        await self._publish()
        work, telling = asyncio.create_task(self._work()), asyncio.create_task(self._tell())
        stopped = asyncio.create_task(self._stop.wait())
        try:
            await asyncio.wait({work, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                await asyncio.wait({work}, timeout=LAST_S)
            work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await work
        finally:
            for task in (telling, stopped):
                task.cancel()
            await asyncio.gather(telling, stopped, return_exceptions=True)
            await self._outlet.close(CLOSE_S)
            if self._rows is not None:
                await self._rows.close(CLOSE_S)
            await self._publish()
            await self._write_figures()
            self._log.close()

    async def _work(self) -> None:
        while True:
            shipped = await self._round()
            if time.monotonic() - self._published_at > PUBLISH_S:
                await self._publish()
            if not shipped:
                if self._stop.is_set():
                    return
                await self._pause(IDLE_S)

    async def _round(self) -> bool:
        """Ship one batch; False if there is none, or if it could not be shipped now."""
        self._batch = self._batch or await self._read()
        if not self._batch:
            return False
        try:
            shipment = await self._prepared()
            await self._send(shipment)
        except Unavailable as error:
            self._away(error)
            await self._pause(BACKOFF_S[min(self._failures, len(BACKOFF_S)) - 1])
            return False
        self._answers()
        if self._rows is not None:
            before = self._rows.left_out
            await self._rows.publish([stored.record for stored in shipment.records])
            self.figures.events_left_out += self._rows.left_out - before
        self._acknowledged(shipment)
        return True

    async def _read(self) -> list[StoredRecord]:
        position = self._shipped.consumed.position
        try:
            batch = await asyncio.to_thread(self._log.read, position, BATCH_RECORDS, BATCH_BYTES)
        except (LogError, OSError) as error:
            if not self._unreadable:
                logger.warning("the log cannot be read: %s; trying again", error)
            self._unreadable = True
            await self._pause(READ_RETRY_S)
            return []
        self._unreadable = False
        return batch

    async def _prepared(self) -> Shipment:
        """Where the batch goes, which is known once Kafka has said how many partitions it has."""
        if self._watermarks is None:
            await self._outlet.start()
            count = self._outlet.partitions
            self._watermarks = Watermarks(
                count, self._heartbeat_ns, lambda model: partition_of(model, count)
            )
        if self._shipment is None:
            self._shipment = Shipment(self._batch, self._watermarks)
        return self._shipment

    async def _send(self, shipment: Shipment) -> None:
        """Returns when all of it is acknowledged, its dead letters too. Raises: Unavailable."""
        while not shipment.is_sent:
            try:
                await self._outlet.send(shipment.placed)
                shipment.sent()
            except Unsendable as refusal:
                shipment.refuse(refusal.index, refusal.reason)
        while shipment.letters:
            await self._send_letter(shipment.letters[0])
            del shipment.letters[0]

    async def _send_letter(self, letter: Letter) -> None:
        """One that Kafka does not take although it is there is given up: its rows are a gap."""
        message = letter_message(letter, *self._lane(letter), self._message_bytes_max)
        problem = ""
        for _ in range(LETTER_ATTEMPTS):
            await self._outlet.send([])  # if Kafka is away, that is no fault of the letter's
            try:
                await self._outlet.send_messages(
                    [Addressed(self._topics.dead_letters, None, message)]
                )
            except Unsendable as refusal:
                problem, message = refusal.reason, truncated(message, 0)
            except Unavailable as failure:
                problem = str(failure)
            else:
                self.figures.dead_letters += 1
                problem = ""
                break
        record, topic = letter.stored.record, self._topics.dead_letters
        logger.warning(
            "record %s/%d of %s cannot be sent: %s; %d rows are a gap, the record is %s",
            *(record.producer, letter.stored.offset, letter.placed.model or "no model"),
            *(letter.reason, record.rows),
            f"dropped, since {topic} does not take it: {problem}" if problem else f"in {topic}",
        )

    def _lane(self, letter: Letter) -> tuple[str, int]:
        assert self._watermarks is not None
        stream, partition = self._watermarks.lane(letter.placed)
        return self._topics.stream(stream), partition

    def _acknowledged(self, shipment: Shipment) -> None:
        figures = self.figures
        for stored in shipment.records:
            self._shipped.add(stored)
            record = stored.record
            figures.records += 1
            figures.bytes += len(record.body)
            if record.stream == PREDICTIONS and record.kind is RecordKind.DATA:
                figures.rows += record.rows
        figures.refused_rows += shipment.refused_rows
        self._batch, self._shipment = [], None

    def _away(self, error: Unavailable) -> None:
        figures, reason = self.figures, str(error)
        if not figures.away_since_ns:
            figures.away_since_ns = self._clock()
            logger.warning("%s; predictions go on, their rows wait in the spool", reason)
        elif reason not in self._reasons and len(self._reasons) < REASONS_MAX:
            logger.warning("still, %s", reason)
        if len(self._reasons) < REASONS_MAX:
            self._reasons.add(reason)
        figures.away = reason
        figures.retries += 1
        self._failures += 1

    def _answers(self) -> None:
        figures = self.figures
        if figures.away_since_ns:
            seconds = (self._clock() - figures.away_since_ns) / 1e9
            logger.warning("kafka takes records again, after %.0f s", seconds)
        figures.away_since_ns, figures.away, self._failures = 0, "", 0
        self._reasons.clear()

    async def _publish(self) -> None:
        """Position first, then what may go because of it; a disk that refuses ends nothing."""
        now, consumed = time.monotonic(), self._shipped.consumed
        try:
            spent = await asyncio.to_thread(self._shipped.publish, consumed)
            if spent or now - self._removed_at > REMOVE_S:
                await asyncio.to_thread(self._shipped.remove)
                self._removed_at = now
        except OSError as error:
            if not self._unpublished:
                logger.warning("the shipper's position cannot be written: %s; going on", error)
            self._unpublished = True
        else:
            self._unpublished = False
        self._published_at = time.monotonic()

    async def _tell(self) -> None:
        """Apart from the work, which may wait for a broker for long."""
        while True:
            await self._write_figures()
            await asyncio.sleep(FIGURES_S)

    async def _write_figures(self) -> None:
        figures = self.figures
        with contextlib.suppress(OSError):
            figures.lag_rows, figures.lag_bytes = await asyncio.to_thread(
                lag, self._directory, self._shipped.consumed
            )
        figures.at_ns = self._clock()
        oldest_ns = min((item.record.watermark_ns for item in self._batch), default=figures.at_ns)
        figures.lag_s = max(0.0, (figures.at_ns - oldest_ns) / 1e9)
        with contextlib.suppress(OSError):
            write_figures(self._run_dir, figures)

    async def _pause(self, seconds: float) -> None:
        """Ends early when told to stop."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
