"""Labels waiting for their rows during an export, on disk: there may be more than memory holds."""

import sqlite3
from collections.abc import Iterable

from eventlog.core.labels import Label
from eventlog.core.predictions import PredictionRows

LabelValue = tuple[float | str, int]  # value, ts_ns

_SCHEMA = """
CREATE TABLE labels (
  producer TEXT, sequence INTEGER, row INTEGER, model TEXT, value, ts_ns INTEGER,
  PRIMARY KEY (producer, sequence, row, model)) WITHOUT ROWID
"""
# The truth that became known last; of two that did at once, the one read last.
_PUT = """
INSERT INTO labels VALUES (?, ?, ?, ?, ?, ?)
ON CONFLICT DO UPDATE SET value = excluded.value, ts_ns = excluded.ts_ns
WHERE excluded.ts_ns >= ts_ns
"""
_OF_ROWS = """
SELECT sequence, row, value, ts_ns FROM labels
WHERE producer = ? AND sequence BETWEEN ? AND ? AND model = ?
"""


class LabelShelf:
    """One value per row. A label finds its row by number, index in its request, and model."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None)  # a temporary file of its own
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(_SCHEMA)
        self._database.execute("BEGIN")

    def put(self, model: str, labels: Iterable[tuple[str, int, Label]]) -> None:
        """labels: producer, sequence number of the row, label."""
        self._database.executemany(
            _PUT,
            (
                (producer, sequence, label.row, model, label.value, label.ts_ns)
                for producer, sequence, label in labels
            ),
        )

    def of_rows(self, rows: PredictionRows, producer: str) -> list[LabelValue | None]:
        """The label of each row."""
        numbers = rows.sequences().tolist()
        bounds = (producer, min(numbers), max(numbers), rows.model)
        found = {
            (sequence, row): (value, ts_ns)
            for sequence, row, value, ts_ns in self._database.execute(_OF_ROWS, bounds)
        }
        return [found.get(key) for key in zip(numbers, rows.row.tolist(), strict=True)]

    def count(self) -> int:
        (count,) = self._database.execute("SELECT count(*) FROM labels").fetchone()
        return int(count)

    def has_text(self) -> bool:
        query = "SELECT EXISTS (SELECT 1 FROM labels WHERE typeof(value) = 'text')"
        (found,) = self._database.execute(query).fetchone()
        return bool(found)

    def close(self) -> None:
        self._database.close()
