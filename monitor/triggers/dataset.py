"""The rows that a training is asked for because of, as one file with their labels.

Laws:
- a file is there whole or not at all, under the id of its request; asked for again, it
  is the same file;
- the newest `kept` files stay;
- it is not begun on a disk that might not hold it: of what the window holds nothing is
  known beforehand but that it is no more than the log.
"""

import hashlib
import shutil
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from eventlog import LogError, LogSettings, PredictionIds, SqliteLog
from eventlog.export import Selection, export_parquet
from monitor.triggers.core.request import Dataset

CHUNK_BYTES = 1 << 20


class NoDataset(Exception):
    """There is no file; the message says why. The request goes without one."""


class Datasets(Protocol):
    def export(self, id: str, evidence: Mapping[str, Any]) -> Dataset:
        """The window of the evidence as a file. Raises: NoDataset."""


@dataclass(frozen=True, slots=True)
class Without:
    """None are made, for one reason."""

    reason: str

    def export(self, id: str, evidence: Mapping[str, Any]) -> Dataset:  # noqa: ARG002
        raise NoDataset(self.reason)


class LogDatasets:
    """From the log of a gateway on this machine."""

    def __init__(self, state_dir: Path, folder: Path, kept: int) -> None:
        self._log_dir, self._state_dir = state_dir / "log", state_dir
        self._folder, self._kept = folder, kept

    def export(self, id: str, evidence: Mapping[str, Any]) -> Dataset:
        path = self._folder / f"{id}.parquet"
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if not path.exists():
                self._check_room()
                self._write(path, evidence)
            self._forget_old()
            return _described(path)
        except (LogError, OSError, ValueError) as exc:
            raise NoDataset(str(exc)) from exc

    def _write(self, path: Path, evidence: Mapping[str, Any]) -> None:
        selection = Selection(
            model=str(evidence["model"]),
            since_ns=int(evidence["window_start_ns"]),
            until_ns=int(evidence["window_end_ns"]),
            labels=True,
        )
        with closing(SqliteLog(self._log_dir, settings=LogSettings())) as log:
            export_parquet(log, path, selection, PredictionIds.load(self._state_dir).codec)

    def _check_room(self) -> None:
        log_bytes = sum(item.stat().st_size for item in self._log_dir.iterdir() if item.is_file())
        free = shutil.disk_usage(self._folder).free
        if free < log_bytes:
            raise NoDataset(
                f"{self._folder} has {free >> 20} MiB free, the log is {log_bytes >> 20} MiB"
            )

    def _forget_old(self) -> None:
        files = sorted(
            self._folder.glob("driftgate-*.parquet"), key=lambda item: item.stat().st_mtime
        )
        for old in files[: -self._kept]:
            old.unlink(missing_ok=True)


def _described(path: Path) -> Dataset:
    """Of the file as it is, so that what the receiver computes is what it was told."""
    import pyarrow.parquet as pq

    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
    with pq.ParquetFile(path) as table:
        rows = table.metadata.num_rows
        labelled = rows - sum(_nulls(table, group) for group in range(table.num_row_groups))
    return Dataset(str(path), digest.hexdigest(), path.stat().st_size, rows, labelled)


def _nulls(table: Any, group: int) -> int:
    """Rows of a row group without a label."""
    return int(table.read_row_group(group, columns=["label"]).column(0).null_count)
