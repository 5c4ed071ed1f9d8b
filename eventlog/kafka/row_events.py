"""The optional topic of rows: which messages a record gives, once their schema is known.

Laws:
- rows are a by-product: nothing about them holds a record back. While a configured
  registry cannot be asked they are left out, counted, and said once;
- an event that no broker would take for its size is left out and counted.
"""

import logging
import time
from collections.abc import Callable

from eventlog.core.arrow_codec import decode_predictions
from eventlog.core.confluent import schema_frame
from eventlog.core.kafka_message import Message
from eventlog.core.prediction_id import IdCodec
from eventlog.core.predictions import PredictionRows
from eventlog.core.record import PREDICTIONS, Record, RecordError, RecordKind
from eventlog.core.rows_json import EventOrigin, count_events, events, request_ids
from eventlog.kafka.schema_registry import RegistryError, register
from eventlog.settings import KafkaSettings

RETRY_S = 30.0
OVERHEAD_BYTES = 2048  # of a message's headers and its place in a batch

logger = logging.getLogger(__name__)


class RowEvents:
    """Of one shipper. `messages` may block for a registry's timeout: call it in a thread."""

    def __init__(
        self,
        settings: KafkaSettings,
        codec: IdCodec | None,
        *,
        register: Callable[[KafkaSettings], int] = register,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """codec: makes prediction ids; without one events are named by producer and number."""
        self._settings, self._codec = settings, codec
        self._register, self._clock = register, clock
        self._origin = EventOrigin(settings.rows_source, settings.rows_namespace)
        self._frame: bytes | None = None
        self._retry_at = float("-inf")
        self.topic = settings.rows_topic
        self.left_out = 0  # events

    def messages(self, record: Record) -> list[Message]:
        """Two per answered row of a record of predictions; none for any other record."""
        rows = self._rows(record)
        if rows is None:
            return []
        frame = self._known_frame()
        if frame is None:
            self.left_out += count_events(rows)
            return []
        if self._codec is None:
            names = [f"{record.producer}/{number}" for number in rows.sequences().tolist()]
        else:
            names = request_ids(rows, record.producer, self._codec)
        made = list(events(rows, names, self._origin, frame))
        bytes_max = self._settings.message_bytes_max - OVERHEAD_BYTES
        fit = [m for m in made if len(m.value) <= bytes_max]
        self.left_out += len(made) - len(fit)
        return fit

    def leave_out(self, record: Record) -> None:
        """Count its events without making them."""
        rows = self._rows(record)
        self.left_out += count_events(rows) if rows is not None else 0

    def _rows(self, record: Record) -> PredictionRows | None:
        """None for a record that has no events."""
        is_rows = record.kind is RecordKind.DATA and record.stream == PREDICTIONS
        if not self.topic or not is_rows:
            return None
        try:
            return decode_predictions(record)
        except RecordError:
            return None  # the record's own way ends among the dead letters

    def _known_frame(self) -> bytes | None:
        """What stands before each value; None while it cannot be known."""
        if self._frame is None and self._clock() >= self._retry_at:
            try:
                self._frame = self._find_frame()
            except RegistryError as error:
                if self._retry_at == float("-inf"):
                    logger.warning("rows are left out of %s: %s; trying again", self.topic, error)
                self._retry_at = self._clock() + RETRY_S
        return self._frame

    def _find_frame(self) -> bytes:
        settings = self._settings
        if settings.schema_id:
            return schema_frame(settings.schema_id)
        return schema_frame(self._register(settings)) if settings.schema_registry else b""
