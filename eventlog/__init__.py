"""The durable log both sides speak: records, codecs, the SQLite log, the ledger.

Everything other packages use is named here. Names are resolved on first use, so
that reading the settings does not import Arrow.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eventlog.balance import LedgerLine, ledger
    from eventlog.books import ClosedIncarnation, allocate_incarnation, close_books
    from eventlog.core.arrow_codec import decode_predictions, encode_predictions
    from eventlog.core.labels import Label, decode_labels, encode_labels
    from eventlog.core.marks import End, Gap, parse_end, parse_gap
    from eventlog.core.prediction_id import InvalidPredictionId, PredictionId, split_row
    from eventlog.core.predictions import Omitted, PredictionRows, Status
    from eventlog.core.record import (
        LABELS,
        PREDICTIONS,
        GapReason,
        LogError,
        Position,
        Record,
        RecordError,
        RecordKind,
        StoredRecord,
    )
    from eventlog.elsewhere import record_elsewhere
    from eventlog.fake import MemoryLog, fake_rows
    from eventlog.ids import PredictionIds, rotate_keys, set_damaged_keys_aside
    from eventlog.log import Log, LogClosed, StorageError
    from eventlog.positions import (
        MONITOR_GROUP,
        Consumed,
        ConsumedTally,
        delivery_group,
        publish_position,
        read_position,
    )
    from eventlog.retention import Removed, enforce_retention
    from eventlog.settings import LogSettings
    from eventlog.slab import rows_numbered
    from eventlog.sqlite_log import SqliteLog
    from eventlog.writer import MonotoneClock, PredictionWriter

_HOME = {
    "books": (
        "ClosedIncarnation",
        "allocate_incarnation",
        "close_books",
    ),
    "core.arrow_codec": (
        "decode_predictions",
        "encode_predictions",
    ),
    "core.labels": (
        "Label",
        "decode_labels",
        "encode_labels",
    ),
    "core.marks": (
        "End",
        "Gap",
        "parse_end",
        "parse_gap",
    ),
    "core.prediction_id": (
        "InvalidPredictionId",
        "PredictionId",
        "split_row",
    ),
    "core.predictions": (
        "Omitted",
        "PredictionRows",
        "Status",
    ),
    "core.record": (
        "LABELS",
        "PREDICTIONS",
        "GapReason",
        "LogError",
        "Position",
        "Record",
        "RecordError",
        "RecordKind",
        "StoredRecord",
    ),
    "fake": ("MemoryLog", "fake_rows"),
    "ids": (
        "PredictionIds",
        "rotate_keys",
        "set_damaged_keys_aside",
    ),
    "balance": (
        "LedgerLine",
        "ledger",
    ),
    "elsewhere": ("record_elsewhere",),
    "log": (
        "Log",
        "LogClosed",
        "StorageError",
    ),
    "positions": (
        "MONITOR_GROUP",
        "Consumed",
        "ConsumedTally",
        "delivery_group",
        "publish_position",
        "read_position",
    ),
    "retention": (
        "Removed",
        "enforce_retention",
    ),
    "settings": ("LogSettings",),
    "slab": ("rows_numbered",),
    "sqlite_log": ("SqliteLog",),
    "writer": (
        "MonotoneClock",
        "PredictionWriter",
    ),
}
_MODULE = {name: module for module, names in _HOME.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE[name]}"), name)


__all__ = [
    "LABELS",
    "MONITOR_GROUP",
    "PREDICTIONS",
    "ClosedIncarnation",
    "Consumed",
    "ConsumedTally",
    "End",
    "Gap",
    "GapReason",
    "InvalidPredictionId",
    "Label",
    "LedgerLine",
    "Log",
    "LogClosed",
    "LogError",
    "LogSettings",
    "MemoryLog",
    "MonotoneClock",
    "Omitted",
    "Position",
    "PredictionId",
    "PredictionIds",
    "PredictionRows",
    "PredictionWriter",
    "Record",
    "RecordError",
    "RecordKind",
    "Removed",
    "SqliteLog",
    "Status",
    "StorageError",
    "StoredRecord",
    "allocate_incarnation",
    "close_books",
    "decode_labels",
    "decode_predictions",
    "delivery_group",
    "encode_labels",
    "encode_predictions",
    "enforce_retention",
    "fake_rows",
    "ledger",
    "parse_end",
    "parse_gap",
    "publish_position",
    "read_position",
    "record_elsewhere",
    "rotate_keys",
    "rows_numbered",
    "set_damaged_keys_aside",
    "split_row",
]
