"""Reading the traffic's journals: what was sent, what came back, whether it is right."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from driftgate.story.scans import PIXELS, Rows
from driftgate.story.training import INPUT

SCORE_TOLERANCE = 1e-4  # the journal rounds scores; batches of other sizes add 1e-5


@dataclass(frozen=True, slots=True)
class Sent:
    """One request; `version` is empty when it failed."""

    first_row: int  # of its rows in the journal's row file
    rows: int
    sent_ns: int
    seconds: float
    version: str = ""
    prediction_id: str = ""
    labels: tuple[int, ...] = ()
    scores: tuple[float, ...] = ()
    truth: tuple[int, ...] = ()
    error: str = ""

    @property
    def failed(self) -> bool:
        return self.error != ""

    @property
    def ended_ns(self) -> int:
        return self.sent_ns + int(self.seconds * 1e9)

    @property
    def wrong(self) -> int:
        return sum(got != true for got, true in zip(self.labels, self.truth, strict=True))


@dataclass
class Journal:
    """One traffic process's journal, read as it grows."""

    folder: Path
    requests: list[Sent] = field(default_factory=list)
    _read_bytes: int = 0
    _rows: int = 0

    def refresh(self) -> None:
        """Take in the lines that are complete by now."""
        path = self.folder / "requests.jsonl"
        if not path.exists():
            return
        with path.open("rb") as file:
            file.seek(self._read_bytes)
            complete, newline, _ = file.read().rpartition(b"\n")
        self._read_bytes += len(complete) + len(newline)
        for line in complete.splitlines():
            self._take(json.loads(line))

    def _take(self, line: Mapping[str, Any]) -> None:
        self.requests.append(
            Sent(
                self._rows,
                line["rows"],
                line["sent_ns"],
                line["seconds"],
                line.get("version", ""),
                line.get("id", ""),
                tuple(line.get("labels", ())),
                tuple(line.get("scores", ())),
                tuple(line.get("truth", ())),
                line.get("error", ""),
            )
        )
        self._rows += line["rows"]

    def rows(self) -> Rows:
        """Every row sent, in order, (n, 64)."""
        flat = np.fromfile(self.folder / "rows.f32", np.float32)
        return flat.reshape(-1, PIXELS)


def predicted_rows(journals: Sequence[Journal]) -> int:
    return sum(sent.rows for journal in journals for sent in journal.requests if not sent.failed)


def mismatches(journal: Journal, models: Mapping[str, bytes]) -> int:
    """Replies that differ from what ONNX Runtime says of the same rows.

    models: version -> ONNX bytes. A reply of the wrong version, or one whose
    rows were answered by two versions, is a mismatch.
    """
    import onnxruntime

    sessions = {
        version: onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
        for version, model in models.items()
    }
    rows, wrong = journal.rows(), 0
    for version, session in sessions.items():
        chosen = [sent for sent in journal.requests if sent.version == version]
        if not chosen:
            continue
        index = np.concatenate([np.arange(s.first_row, s.first_row + s.rows) for s in chosen])
        labels, scores = session.run(None, {INPUT: rows[index]})
        got_labels = np.concatenate([s.labels for s in chosen])
        got_scores = np.concatenate([s.scores for s in chosen])
        same = (labels == got_labels) & (np.abs(scores.max(axis=1) - got_scores) < SCORE_TOLERANCE)
        # A tie between two classes may fall either way: equal scores settle it.
        tied = np.abs(np.sort(scores, axis=1)[:, -1] - np.sort(scores, axis=1)[:, -2]) < 1e-4
        wrong += int((~(same | tied)).sum())
    unknown = [s for s in journal.requests if not s.failed and s.version not in models]
    return wrong + len(unknown)


def share_wrong(requests: Sequence[Sent]) -> float:
    """The mean 0/1 loss of the rows of `requests`; nan without any."""
    rows = sum(sent.rows for sent in requests)
    return sum(sent.wrong for sent in requests) / rows if rows else float("nan")


def percentile_ms(journals: Sequence[Journal], percent: float) -> float:
    seconds = [s.seconds for journal in journals for s in journal.requests if not s.failed]
    return float(np.percentile(seconds, percent)) * 1000.0
