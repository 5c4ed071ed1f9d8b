"""What the shipper tells of itself, in one small file that anybody may read.

The supervisor shows it on its metrics port. Counters go on from what the file says,
so that they do not fall when a shipper is replaced; a kill loses a second of them.
"""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

NAME = "shipper.json"  # in the folder of what runs
# A shipper writes each second; one that has not for so long is not there.
STALE_NS = 10_000_000_000


@dataclass(slots=True)
class Figures:
    """Counters since the file began; then how things stand.

    records, rows, bytes: acknowledged by Kafka; rows of predictions, bytes of bodies.
    refused_rows: prediction rows of records that the brokers never take.
    away_since_ns, away: since when Kafka is away, and why; 0 and empty while it answers.
    events_left_out: of rows, that their own topic did not get.
    labels:        of `kafka.labels_topic`, that the gateway took.
    labels_refused, labels_dropped, labels_expired: messages there that went to the dead
                   letters, that not even these took, that were gone before they were read.
    labels_lag:    messages there that wait, as far as is known.
    labels_away_since_ns, labels_away: since when labels cannot be taken, and why.
    lag_rows:      numbered by the workers and not acknowledged by Kafka.
    lag_bytes:     on disk, of the segments that they are in.
    lag_s:         age of the oldest record that waits.
    """

    records: int = 0
    rows: int = 0
    bytes: int = 0
    retries: int = 0
    dead_letters: int = 0
    refused_rows: int = 0
    events_left_out: int = 0
    labels: int = 0
    labels_refused: int = 0
    labels_dropped: int = 0
    labels_expired: int = 0
    labels_lag: int = 0
    labels_away_since_ns: int = 0
    labels_away: str = ""
    away_since_ns: int = 0
    away: str = ""
    lag_rows: int = 0
    lag_bytes: int = 0
    lag_s: float = 0.0
    at_ns: int = 0
    pid: int = 0


def write_figures(folder: Path, figures: Figures) -> None:
    """Replace the file at once; it need not survive a power loss. Raises: OSError."""
    path = folder / NAME
    scratch = path.with_suffix(".new")
    scratch.write_text(json.dumps(asdict(figures)))
    os.replace(scratch, path)


def read_figures(folder: Path) -> Figures | None:
    """None if no shipper ever wrote here, or the file is damaged."""
    try:
        return Figures(**json.loads((folder / NAME).read_bytes()))
    except (OSError, ValueError, TypeError):
        return None
