"""From the batches of one flush to records: group, digest what is too large, cut.

Pure array work: one concatenation per column and group, whatever the number of
batches, so that a flush costs few Python steps.
"""

import hashlib
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from eventlog.core.arrow_codec import DIGEST_BYTES, FIXED
from eventlog.core.predictions import (
    FIXED_BYTES_PER_ROW,
    HASH_BYTES,
    TRACE_BYTES,
    Array,
    Omitted,
    PredictionRows,
    array_bytes,
    datatype_of,
    rows_bytes,
    tensors,
    values_bytes,
)
from eventlog.core.record import cut_runs, merge_adjacent

Key = tuple[Hashable, ...]


def key_of(rows: PredictionRows) -> Key:
    """Equal for rows that may share a record; made of what is at hand, since each batch asks."""
    return (
        rows.model,
        rows.version,
        rows.digest,
        rows.role,
        rows.rollout,
        tuple([(name, array.dtype, array.shape[1:]) for name, array in rows.inputs.items()]),
        tuple([(name, array.dtype, array.shape[1:]) for name, array in rows.outputs.items()]),
        tuple(rows.datatypes.items()),
        tuple([(key, value.datatype, value.shape) for key, value in rows.omitted.items()]),
        tuple([(key, value.datatype, value.shape, value.key) for key, value in rows.hashed.items()])
        if rows.hashed
        else (),
        rows.dropped,
        tuple(rows.masked.items()),
    )


def concatenate(batches: Sequence[PredictionRows]) -> PredictionRows:
    """Join batches of one key, lowest sequence first; a single one is not copied."""
    if len(batches) == 1:
        return batches[0]
    batches = sorted(batches, key=lambda rows: rows.first_sequence)
    head = batches[0]
    runs = merge_adjacent([run for rows in batches for run in rows.all_runs])
    fixed: dict[str, Any] = {
        name: np.concatenate([getattr(rows, name) for rows in batches]) for name in FIXED
    }
    return replace(
        head,
        **fixed,
        inputs={name: np.concatenate([b.inputs[name] for b in batches]) for name in head.inputs},
        outputs={name: np.concatenate([b.outputs[name] for b in batches]) for name in head.outputs},
        omitted={
            key: replace(value, digests=np.concatenate([b.omitted[key].digests for b in batches]))
            for key, value in head.omitted.items()
        },
        hashed={
            key: replace(value, digests=np.concatenate([b.hashed[key].digests for b in batches]))
            for key, value in head.hashed.items()
        },
        traces=_join_traces(batches),
        runs=runs if len(runs) > 1 else (),
    )


def _join_traces(batches: Sequence[PredictionRows]) -> Array | None:
    """Requests with a trace and without share a record: most deployments trace a few."""
    if all(rows.traces is None for rows in batches):
        return None
    return np.concatenate(
        [
            np.zeros((len(rows), TRACE_BYTES), np.uint8) if rows.traces is None else rows.traces
            for rows in batches
        ]
    )


def digest_oversize(rows: PredictionRows, row_bytes_max: int) -> PredictionRows:
    """Replace the largest tensors by digests until a row fits, on average."""
    count = len(rows)
    excess = rows_bytes(rows) - row_bytes_max * count
    sizes = {key: array_bytes(array) for key, array in tensors(rows)}
    omitted = dict(rows.omitted)
    for key, array in sorted(tensors(rows), key=lambda item: (-sizes[item[0]], item[0])):
        if excess <= 0 or sizes[key] <= DIGEST_BYTES * count:
            break
        omitted[key] = Omitted(datatype_of(rows, key, array), array.shape[1:], row_digests(array))
        excess -= sizes[key] - DIGEST_BYTES * count
    return replace(
        rows,
        inputs={n: a for n, a in rows.inputs.items() if f"input:{n}" not in omitted},
        outputs={n: a for n, a in rows.outputs.items() if f"output:{n}" not in omitted},
        omitted=omitted,
    )


def row_digests(array: Array) -> Array:
    """sha256 of each row, uint8 (n, 32); see `Omitted`."""
    digests = [hashlib.sha256(values_bytes(array[i : i + 1])).digest() for i in range(len(array))]
    return np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, DIGEST_BYTES)


def split(rows: PredictionRows, rows_max: int, bytes_max: int) -> Iterator[PredictionRows]:
    """Cut into pieces of at most `rows_max` rows and `bytes_max` bytes of values.

    A row that is larger by itself loses its largest tensors to digests.
    """
    if any(array.dtype.hasobject for _, array in tensors(rows)):
        yield from _split_uneven(rows, rows_max, bytes_max)
        return
    if rows_bytes(rows) > bytes_max * len(rows):
        rows = digest_oversize(rows, bytes_max)
    per_row = max(FIXED_BYTES_PER_ROW, rows_bytes(rows) // max(len(rows), 1))
    step = max(1, min(rows_max, bytes_max // per_row))
    if len(rows) <= step:
        yield rows
        return
    for start in range(0, len(rows), step):
        yield cut(rows, start, min(start + step, len(rows)))


def _split_uneven(rows: PredictionRows, rows_max: int, bytes_max: int) -> Iterator[PredictionRows]:
    """As `split`, where elements of BYTES make each row a size of its own."""
    ends = np.cumsum(_row_sizes(rows))
    start = 0
    while start < len(rows):
        used = int(ends[start - 1]) if start else 0
        fits = int(np.searchsorted(ends, used + bytes_max, side="right"))
        stop = min(max(fits, start + 1), start + rows_max, len(rows))
        piece = cut(rows, start, stop)
        oversize = int(ends[stop - 1]) - used > bytes_max
        yield digest_oversize(piece, bytes_max) if oversize else piece
        start = stop


def _row_sizes(rows: PredictionRows) -> Array:
    traced = 0 if rows.traces is None else TRACE_BYTES
    fixed = FIXED_BYTES_PER_ROW + traced + HASH_BYTES * len(rows.hashed)
    sizes = np.full(len(rows), fixed, dtype=np.int64)
    for _, array in tensors(rows):
        if array.dtype.hasobject:
            flat = array.reshape(len(rows), -1).tolist()
            sizes += np.array([sum(map(len, row)) + 4 * len(row) for row in flat], dtype=np.int64)
        else:
            sizes += array.nbytes // len(rows)
    return sizes


def cut(rows: PredictionRows, start: int, stop: int) -> PredictionRows:
    """Rows `start` to `stop` as views."""
    runs = cut_runs(rows.all_runs, start, stop)
    fixed: dict[str, Any] = {name: getattr(rows, name)[start:stop] for name in FIXED}
    return replace(
        rows,
        **fixed,
        inputs={name: array[start:stop] for name, array in rows.inputs.items()},
        outputs={name: array[start:stop] for name, array in rows.outputs.items()},
        omitted={k: replace(o, digests=o.digests[start:stop]) for k, o in rows.omitted.items()},
        hashed={k: replace(h, digests=h.digests[start:stop]) for k, h in rows.hashed.items()},
        traces=None if rows.traces is None else rows.traces[start:stop],
        first_sequence=min(first for first, _ in runs),
        runs=runs if len(runs) > 1 else (),
    )
