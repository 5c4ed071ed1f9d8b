"""River's drift detectors over streams of losses: how long each takes, and how often it errs.

Standard input: an .npy array of 0 and 1, (streams, rows); argument: the row at which
they change. Standard output: JSON, per detector `false` (streams with an alarm before
that row), `delays` (rows from the change to the first alarm after it; null: none) and
`streams`, how many of them it was given.
"""

import io
import json
import sys

import numpy as np
from river import drift
from river.drift import binary

DETECTORS = {
    "ADWIN": drift.ADWIN,
    "DDM": binary.DDM,
    "EDDM": binary.EDDM,
    "Page-Hinkley": drift.PageHinkley,
    "HDDM_A": binary.HDDMA,
    "HDDM_W": binary.HDDMW,
    "KSWIN": lambda: drift.KSWIN(seed=1),
}
SLOW = {"KSWIN": 20}  # a hundred times the cost of the others, so fewer streams


def watch(detector, losses, change):
    """Whether it alarmed before the change, and the delay of its first alarm after it."""
    early = False
    for row, loss in enumerate(losses):
        detector.update(loss)
        if detector.drift_detected:
            if row >= change:
                return early, row - change + 1
            early = True
    return early, None


def main():
    streams = np.load(io.BytesIO(sys.stdin.buffer.read())).tolist()
    change = int(sys.argv[1])
    found = {}
    for name, make in DETECTORS.items():
        given = streams[: SLOW.get(name, len(streams))]
        outcomes = [watch(make(), losses, change) for losses in given]
        found[name] = {
            "streams": len(given),
            "false": sum(early for early, _ in outcomes),
            "delays": [delay for _, delay in outcomes],
        }
    json.dump(found, sys.stdout)


if __name__ == "__main__":
    main()
