"""Finding the row of a label: from the rows at hand, else from the log."""

import tracemalloc
from dataclasses import replace

import numpy as np

from eventlog import (
    MemoryLog,
    PredictionRows,
    StoredRecord,
    decode_predictions,
    encode_predictions,
)
from monitor.row_finder import RowFinder
from tests.monitor_world import Version, prediction_rows

ROWS = 10


def rows(first: int, count: int = ROWS) -> PredictionRows:
    ts_ns = np.arange(count, dtype=np.int64)
    seen = np.zeros((count, 2), dtype=np.float32)
    return prediction_rows(Version("1"), "stable", "", first, ts_ns, seen, np.arange(count))


def stored(kept: PredictionRows, offset: int) -> StoredRecord:
    return StoredRecord("00000a", offset, encode_predictions(kept, "00000a", 0))


def test_a_small_cache_gives_the_same_answers_as_a_large_one() -> None:
    log = MemoryLog()
    small, large = RowFinder(log, bytes_kept=1), RowFinder(log)
    for first in range(0, 200, ROWS):
        log.append([encode_predictions(rows(first), "00000a", 0)])
        for finder in (small, large):
            finder.add(stored(rows(first), first + 1), rows(first))
    for sequence in (0, 9, 10, 57, 199, 3, 200, 10**9):
        found = [finder.find("00000a", sequence, 0) for finder in (small, large)]
        places = [None if item is None else (item[0].first_sequence, item[1]) for item in found]
        assert places[0] == places[1]
        expected = (sequence // ROWS * ROWS, sequence % ROWS) if sequence < 200 else None
        assert places[0] == expected
    assert small.find("00000b", 0, 0) is None


def test_a_record_of_several_runs_is_found_by_each() -> None:
    finder = RowFinder(MemoryLog())
    kept = replace(rows(0), first_sequence=5, runs=((5, 4), (30, 6)))
    finder.add(stored(kept, 1), kept)
    found = [finder.find("00000a", sequence, 0) for sequence in (5, 8, 30, 35)]
    assert [item and item[1] for item in found] == [0, 3, 4, 9]
    assert finder.find("00000a", 9, 0) is None


def test_what_surrounds_a_row_counts_too() -> None:
    """A quiet gateway writes a record for each row, whose values are the least of it."""
    kept_bytes = 4_000_000
    finder = RowFinder(MemoryLog(), kept_bytes)
    tracemalloc.start()
    try:
        for sequence in range(3_000):
            record = stored(rows(sequence, 1), sequence + 1)
            finder.add(record, decode_predictions(record.record))
        held_bytes, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held_bytes < kept_bytes
    assert finder.find("00000a", 2_999, 0) is not None  # of the newest
    assert finder.find("00000a", 2_700, 0) is not None
    assert finder.find("00000a", 0, 0) is None  # and the oldest went
