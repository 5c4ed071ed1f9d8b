"""From files to verdicts: rows into blocks, blocks into the fold that the monitor runs.

Laws:
- the state is that of `ModelState`, as over a log with the same rows: the same counts,
  evidence and verdicts, to the bit;
- rows are counted as they are read, so memory depends on the columns and not on the
  rows, of the file or of a block;
- no clock and no chance: the same files give the same result.
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from monitor.backtest.columns import BacktestError, Columns, classes, mixed_batch, numbers, texts
from monitor.backtest.losses import Judged, judged_of
from monitor.backtest.reference import NUMBERS, TEXT, Reference, demand, fit_reference
from monitor.backtest.table_file import TableFile
from monitor.backtest.times import Times, times_of
from monitor.core.bins import AnyArray
from monitor.core.block import STABLE, Arm, ArmRows, ModelBlock
from monitor.core.counter import Counter
from monitor.core.effects import effects
from monitor.core.model_state import ModelState, Summary
from monitor.core.profile import PredictionKind
from monitor.core.settings import CoreSettings
from monitor.documents import Document, block_document, state_document, verdict_document
from monitor.report import ELAPSED, UTC, Content, Timeline

VERDICTS_KEPT = 1000  # the newest
HISTOGRAM = ("starts", "reference", "live", "special", "categories", "high")
VERSION = "file"
ARM = Arm(digest="reference", version=VERSION, role=STABLE, rollout="")

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True)
class Result:
    """What came of it; `unwatched`: columns of the data that the reference lacks."""

    content: Content
    rows: int
    blocks: int
    labelled: int
    raised: int
    unwatched: tuple[str, ...]

    @property
    def verdicts(self) -> list[Document]:
        """The newest VERDICTS_KEPT of those that were raised, oldest first."""
        return [dict(verdict) for verdict in self.content.verdicts]


@dataclass(frozen=True, slots=True)
class _Batch:
    """Rows as the core takes them; index: (n,) the block of each."""

    first_row: int
    index: Times
    numeric: AnyArray | None
    text: dict[str, AnyArray]
    predictions: AnyArray | None
    judged: Judged | None

    def tensors(self, first: int, last: int) -> tuple[dict[str, AnyArray], dict[str, AnyArray]]:
        inputs = {TEXT + name: column[first:last] for name, column in self.text.items()}
        if self.numeric is not None:
            inputs[NUMBERS] = self.numeric[first:last]
        said = self.predictions
        return inputs, {} if said is None else {"prediction": said[first:last]}


def backtest(
    data: Path,
    reference: Path,
    columns: Columns,
    settings: CoreSettings,
    *,
    model: str,
    block_rows: int,
    continuous: bool = False,
    progress: Progress = lambda _: None,
) -> Result:
    """block_rows: rows of a block where `columns` names no time.

    progress: told the share of the data that is done.
    Raises:   BacktestError, for the person who named the files.
    """
    if columns.labels is not None and columns.predictions is None:
        raise BacktestError("labels say nothing without predictions", "name their column too")
    fitted = fit_reference(TableFile(reference), columns, continuous=continuous)
    file = TableFile(data)
    run = Backtest(fitted, settings, model)
    for batch, done in _batches(file, fitted, columns, settings.block_ns, block_rows):
        run.take(batch)
        progress(done)
    if not run.rows:
        raise BacktestError(f"{data} has no row")
    known = {*fitted.numeric, *fitted.text, *columns.apart}
    unwatched = tuple(name for name in file.names if name not in known)
    return run.result(
        f"From {data.name} against {reference.name}.", columns.time is None, unwatched
    )


def _batches(
    file: TableFile, fitted: Reference, columns: Columns, block_ns: int, block_rows: int
) -> Iterator[tuple[_Batch, float]]:
    where = str(file.path)
    answers = [name for name in (columns.predictions, columns.labels) if name is not None]
    timed = [columns.time] if columns.time is not None else []
    names = list(dict.fromkeys([*fitted.numeric, *fitted.text, *answers, *timed]))
    demand(file, names, where)
    rows = 0
    for table, done in file.batches(names, fitted.kinds):
        if columns.time is None:
            index = np.arange(rows, rows + table.num_rows, dtype=np.int64) // block_rows
        else:
            found = times_of(columns.time, table.column(columns.time), where)
            index = found // block_ns
        yield _decoded(table, rows, index, fitted, columns, where), done
        rows += table.num_rows


def _decoded(
    table: Any, first_row: int, index: Times, fitted: Reference, columns: Columns, where: str
) -> _Batch:
    numeric = [numbers(name, table.column(name), where) for name in fitted.numeric]
    text = {name: texts(table.column(name)) for name in fitted.text}
    predictions: AnyArray | None = None
    judged = None
    spec = fitted.profile.prediction
    if spec is not None and columns.predictions is not None:
        said = table.column(columns.predictions)
        is_number = spec.kind is PredictionKind.NUMBER
        predictions = numbers(columns.predictions, said, where) if is_number else classes(said)
        if columns.labels is not None:
            labels = table.column(columns.labels)
            judged = judged_of(predictions, labels, spec.kind, columns.labels, where)
    return _Batch(
        first_row, index, mixed_batch(numeric) if numeric else None, text, predictions, judged
    )


class Backtest:
    """Mutable: takes batches in the order of time, then gives the result once."""

    def __init__(self, reference: Reference, settings: CoreSettings, model: str) -> None:
        self._profile = reference.profile
        self._settings = settings
        self._counter = Counter(reference.profile)
        self._state = ModelState(model, settings)
        self._timeline = Timeline(settings.block_ns)
        self._verdicts: deque[Document] = deque(maxlen=VERDICTS_KEPT)
        self._block: ModelBlock | None = None
        self._last: Summary | None = None
        self.rows = 0
        self._labelled = 0
        self._raised = 0

    def take(self, batch: _Batch) -> None:
        """Raises: BacktestError when a row is of a block before that of the row before it."""
        index = batch.index
        starts = np.flatnonzero(np.diff(index, prepend=index[:1] - 1)).tolist()
        for first, last in zip(starts, [*starts[1:], index.size][: len(starts)], strict=True):
            self._add(batch, first, last)
        self.rows += int(index.size)

    def _add(self, batch: _Batch, first: int, last: int) -> None:
        index = int(batch.index[first])
        block = self._block
        if block is not None and index < block.index:
            raise BacktestError(
                f"row {batch.first_row + first + 1} is of an earlier block than the row before it",
                "sort the file by its time",
            )
        if block is None or index > block.index:
            self._close()
            block = self._block = ModelBlock(index)
        arm = block.arm(ARM)
        self._count(batch, first, last, arm)
        start_ns = index * self._settings.block_ns
        arm.add(start_ns, start_ns, last - first, failed=0)
        scale = self._profile.loss_scale
        if batch.judged is not None and scale is not None:
            rows, units = batch.judged.units(first, last, scale)
            block.losses.add_many(rows, units)
            self._labelled += rows

    def _count(self, batch: _Batch, first: int, last: int, arm: ArmRows) -> None:
        if arm.counts is None:
            arm.counts = self._counter.empty()
        inputs, outputs = batch.tensors(first, last)
        fits = self._counter.count(inputs, outputs, arm.counts)
        assert fits, "the batch was made from the profile's own columns"

    def _close(self) -> None:
        if self._block is None:
            return
        summary = self._state.close(self._block, lambda *_: self._profile)
        self._last = summary
        self._timeline.add(block_document(summary))
        if summary.raised:
            self._raised += 1
            end_ns = summary.start_ns + self._settings.block_ns
            # Nobody decided it: it would have been at the block's end.
            self._verdicts.append(_slim(verdict_document(self._state, summary, end_ns)))

    def result(self, source: str, elapsed: bool, unwatched: tuple[str, ...]) -> Result:
        """elapsed: rows have no time, so it is counted from 0."""
        self._close()
        self._block = None
        content = Content(
            state_document(self._state, self._last, {}),
            effects(self._state),
            self._timeline,
            tuple(self._verdicts),
            clock=ELAPSED if elapsed else UTC,
            source=source,
        )
        return Result(
            content, self.rows, self._state.blocks, self._labelled, self._raised, unwatched
        )


def _slim(verdict: Document) -> Document:
    """Without histograms: a thousand verdicts with them would be tens of megabytes."""
    shifts = [
        {name: value for name, value in shift.items() if name not in HISTOGRAM}
        for shift in verdict["shifts"]
    ]
    return {**verdict, "shifts": shifts}
