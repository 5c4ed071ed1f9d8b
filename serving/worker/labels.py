"""Labels from clients: checked against our own ids, then handed to the log."""

import asyncio
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, Protocol

from eventlog import InvalidPredictionId, Label, split_row
from serving.core.errors import InvalidRequest, LogUnavailable, ServeError, shown
from serving.core.json_codec import parse_json
from serving.core.openapi_schemas import CATEGORY_CHARACTERS_MAX, LABELS_MAX
from serving.worker.counters import LabelOutcome
from serving.worker.dataplane import DataPlane

JSON_DEPTH_MAX = 8

Done = Callable[[Exception | None], None]


class LabelWriter(Protocol):
    """The part of eventlog.PredictionWriter that labels go through."""

    def offer_labels(self, model: str, labels: Sequence[Label], done: Done) -> None: ...


class Ids(Protocol):
    """The part of eventlog.PredictionIds that labels are checked with."""

    def decode(self, text: str) -> Any: ...


class LabelDesk:
    """Takes label requests. Without a log there is nowhere to put them."""

    def __init__(self, plane: DataPlane, writer: LabelWriter | None, ids: Ids | None) -> None:
        self._plane, self._writer, self._ids = plane, writer, ids

    async def take(self, model: str, body: bytes) -> int:
        """Commit a request's labels; how many they were.

        body: [{"prediction_id": "ID.i", "label": number | string | bool, "ts"?: ...}].
        Raises: ServeError; then none of them was taken.
        """
        known = self._plane.table.find(model).model
        if self._writer is None or self._ids is None:
            raise LogUnavailable("this gateway keeps no prediction log, so it takes no labels")
        try:
            labels = self._read(body)
        except ServeError:
            self._plane.metrics.labels(known, LabelOutcome.REFUSED, 1)
            raise
        if not labels:
            return 0
        await self._commit(self._writer, known, labels)
        self._plane.metrics.labels(known, LabelOutcome.TAKEN, len(labels))
        return len(labels)

    async def _commit(self, writer: LabelWriter, model: str, labels: list[Label]) -> None:
        loop = asyncio.get_running_loop()
        committed: asyncio.Future[None] = loop.create_future()

        def settle(error: Exception | None) -> None:
            if committed.done():
                return
            if error is None:
                committed.set_result(None)
            else:
                committed.set_exception(LogUnavailable("the log could not commit the labels"))

        def done(error: Exception | None) -> None:
            loop.call_soon_threadsafe(settle, error)

        writer.offer_labels(model, labels, done)
        await committed

    def _read(self, body: bytes) -> list[Label]:
        entries = parse_json(body, JSON_DEPTH_MAX)
        if isinstance(entries, dict):
            entries = entries.get("labels")
        if not isinstance(entries, list):
            raise InvalidRequest(f"labels must be an array, got '{shown(entries)}'")
        if len(entries) > LABELS_MAX:
            raise InvalidRequest(f"a request has at most {LABELS_MAX} labels, got {len(entries)}")
        return [self._label(index, entry) for index, entry in enumerate(entries)]

    def _label(self, index: int, entry: object) -> Label:
        if not isinstance(entry, dict):
            raise InvalidRequest(f"label {index} must be an object, got '{shown(entry)}'")
        prediction_id, row = self._prediction_id(index, entry.get("prediction_id"))
        value = _value(index, entry.get("label"))
        return Label(prediction_id, row, _timestamp(index, entry.get("ts")), value)

    def _prediction_id(self, index: int, text: object) -> tuple[str, int]:
        assert self._ids is not None
        if not isinstance(text, str):
            raise InvalidRequest(
                f"label {index}: 'prediction_id' must be a string such as ID.0, got '{shown(text)}'"
            )
        try:
            prediction_id, row = split_row(text)
        except InvalidPredictionId as error:
            raise InvalidRequest(
                f"label {index}: the row of prediction_id '{shown(text)}' is not a number from 0 "
                f"to {2**32 - 1}"
            ) from error
        try:
            self._ids.decode(prediction_id)
        except InvalidPredictionId as error:
            raise InvalidRequest(
                f"label {index}: prediction_id '{shown(text)}' was not issued here"
            ) from error
        return prediction_id, row


def _value(index: int, value: object) -> float | str:
    if isinstance(value, bool | int | float) and abs(value) <= 2**63 and math.isfinite(value):
        return float(value)
    if isinstance(value, str) and len(value) <= CATEGORY_CHARACTERS_MAX:
        return value
    raise InvalidRequest(
        f"label {index}: 'label' must be a finite number or a string of at most "
        f"{CATEGORY_CHARACTERS_MAX} characters, got '{shown(value)}'"
    )


def _timestamp(index: int, value: object) -> int:
    """Unix ns from seconds or RFC 3339 text; absent is 0, the time of arrival."""
    if value is None:
        return 0
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            moment = None
        if moment is not None and moment.tzinfo is not None:
            value = moment.timestamp()
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 2**33:
        return int(value * 1e9)
    raise InvalidRequest(
        f"label {index}: 'ts' must be Unix seconds or RFC 3339 text with a zone, got "
        f"'{shown(value)}'"
    )
