"""The demo's retrain hook: train on what was logged since the change, push, move the alias.

Run by the monitor, as any hook is: the evidence comes as JSON on standard
input, the model and the state directory in the environment.
"""

import hashlib
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from driftgate.story.models import push
from driftgate.story.scans import PIXELS, Labels, Rows
from driftgate.story.training import INPUT, neural_network, train

ROWS_MIN = 1500  # labelled rows that a training needs
ROWS_MAX = 6000  # more would take longer than the demo has
WAIT_S = 20.0
ITERATIONS = 25


def main() -> int:
    evidence: dict[str, Any] = json.load(sys.stdin)
    model, state_dir = os.environ["DRIFTGATE_MODEL"], Path(os.environ["DRIFTGATE_STATE_DIR"])
    rows, labels = labelled_rows(state_dir, model, int(evidence["changed_after_ns"]))
    digest = hashlib.sha256(rows.tobytes() + labels.tobytes()).hexdigest()
    trained = train(neural_network(ITERATIONS), rows, labels, digest)
    version = push(state_dir / "registry", trained)
    move_champion(state_dir, model, version)
    print(f"version {version} trained on {len(rows)} logged rows, accuracy {trained.accuracy:.3f}")
    return 0


def labelled_rows(state_dir: Path, model: str, since_ns: int) -> tuple[Rows, Labels]:
    """Logged rows that have a label by now; waits while there are too few.

    Raises: TimeoutError when not enough labels arrive within WAIT_S.
    """
    deadline = time.monotonic() + WAIT_S
    while True:
        rows, labels = _export(state_dir, model, since_ns)
        if len(rows) >= ROWS_MIN:
            return rows[-ROWS_MAX:], labels[-ROWS_MAX:]
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(rows)} labelled rows since the change, {ROWS_MIN} are needed")
        time.sleep(0.5)


def _export(state_dir: Path, model: str, since_ns: int) -> tuple[Rows, Labels]:
    """What `driftgate log export --labels` gives a data scientist."""
    import pyarrow.parquet as pq

    from eventlog import LogSettings, PredictionIds, SqliteLog
    from eventlog.export import Selection, export_parquet

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "rows.parquet"
        log = SqliteLog(state_dir / "log", settings=LogSettings())
        try:
            selection = Selection(model=model, since_ns=since_ns, labels=True)
            export_parquet(log, path, selection, PredictionIds.load(state_dir).codec)
        finally:
            log.close()
        table = pq.read_table(path)
    table = table.filter(table.column("label").is_valid())
    pixels = [table.column(f"input.{INPUT}.{index}").to_numpy() for index in range(PIXELS)]
    return np.stack(pixels, axis=1), table.column("label").to_numpy().astype(np.int64)


def move_champion(state_dir: Path, model: str, version: str) -> None:
    """Tell the registry; the gateway sees the alias move and starts the rollout."""
    from registry_client import EmbeddedRegistry

    EmbeddedRegistry(state_dir / "registry").set_alias(model, "champion", version)


if __name__ == "__main__":
    sys.exit(main())
