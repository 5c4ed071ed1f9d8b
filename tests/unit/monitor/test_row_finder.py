"""Finding the row of a label: from the rows at hand, else from the log."""

import numpy as np

from eventlog import MemoryLog, PredictionRows, encode_predictions
from monitor.row_finder import RowFinder
from tests.monitor_world import Version, prediction_rows

ROWS = 10


def rows(first: int) -> PredictionRows:
    ts_ns = np.arange(ROWS, dtype=np.int64)
    seen = np.zeros((ROWS, 2), dtype=np.float32)
    return prediction_rows(Version("1"), "stable", "", first, ts_ns, seen, np.arange(ROWS))


def test_a_small_cache_gives_the_same_answers_as_a_large_one() -> None:
    log = MemoryLog()
    small, large = RowFinder(log, bytes_kept=1), RowFinder(log)
    for first in range(0, 200, ROWS):
        log.append([encode_predictions(rows(first), "00000a", 0)])
        for finder in (small, large):
            finder.add("00000a", rows(first), first + 1)
    for sequence in (0, 9, 10, 57, 199, 3, 200, 10**9):
        found = [finder.find("00000a", sequence, 0) for finder in (small, large)]
        places = [None if item is None else (item[0].first_sequence, item[1]) for item in found]
        assert places[0] == places[1]
        expected = (sequence // ROWS * ROWS, sequence % ROWS) if sequence < 200 else None
        assert places[0] == expected
    assert small.find("00000b", 0, 0) is None


def test_a_record_of_several_runs_is_found_by_each() -> None:
    from dataclasses import replace

    finder = RowFinder(MemoryLog())
    finder.add("00000a", replace(rows(0), first_sequence=5, runs=((5, 4), (30, 6))), 1)
    found = [finder.find("00000a", sequence, 0) for sequence in (5, 8, 30, 35)]
    assert [item and item[1] for item in found] == [0, 3, 4, 9]
    assert finder.find("00000a", 9, 0) is None
