"""What workers have counted of a model's requests, as `driftgate explain` tells it.

Counts are sums since the gateway's state directory began, of all workers that were.
"""

from collections.abc import Collection, Sequence
from typing import Any

from serving.metrics import (
    BATCH_STATISTICS,
    CANCELLED,
    INPUT_ELEMENTS,
    MODEL_STATISTICS,
    REJECTED,
    REQUESTS,
    STAGE_BUCKETS,
    STAGE_SECONDS,
    Totals,
)

_NOTHING = [0.0] * len(MODEL_STATISTICS.fields)


def counted_of_model(totals: Totals, model: str) -> dict[str, Any]:
    """Refusals by reason, clients that left, and how long requests waited, of all versions."""
    refused = {
        key[2]: int(cells[0])
        for key, cells in sorted(totals.cells.items())
        if key[:2] == (REJECTED.name, model) and cells[0]
    }
    waits = totals.cells.get((STAGE_SECONDS.name, model, "queue"), [])
    return {
        "refused": refused,
        "cancelled": int(totals.cells.get((CANCELLED.name, model), [0.0])[0]),
        "wait_s_max": {
            "p50": below(waits, STAGE_BUCKETS, 0.5),
            "p99": below(waits, STAGE_BUCKETS, 0.99),
        },
    }


def counted_of_versions(
    totals: Totals, model: str, versions: Collection[str]
) -> dict[str, dict[str, Any]]:
    """Requests, runs, mean waits, the batch sizes that were seen, and errors by HTTP code."""
    found = {version: _version(totals, model, version) for version in versions}
    for key, cells in sorted(totals.cells.items()):
        if key[1:2] != (model,) or len(key) < 3 or key[2] not in found:
            continue
        if key[0] == BATCH_STATISTICS.name and key[3].isdigit():
            found[key[2]]["batches"].append(_batch(int(key[3]), cells))
        elif key[0] == REQUESTS.name and key[4] != "200":
            failed = found[key[2]]["failed"]
            failed[key[4]] = failed.get(key[4], 0) + int(cells[0])
    for each in found.values():
        each["batches"].sort(key=lambda batch: batch["rows"])
    return found


def _version(totals: Totals, model: str, version: str) -> dict[str, Any]:
    cells = totals.cells.get((MODEL_STATISTICS.name, model, version), _NOTHING)
    sums = dict(zip(MODEL_STATISTICS.fields, map(int, cells), strict=True))
    return {
        "requests": sums["success"],
        "rows": sums["rows"],
        "runs": sums["executions"],
        "mean_wait_ns": sums["queue_ns"] // max(1, sums["success"]),
        "elements": {
            kind: int(totals.cells.get((INPUT_ELEMENTS.name, model, version, kind), [0.0])[0])
            for kind in ("sent", "padding")
        },
        "failed": {},
        "batches": [],
    }


def _batch(rows: int, cells: Sequence[float]) -> dict[str, int]:
    sums = dict(zip(BATCH_STATISTICS.fields, map(int, cells), strict=True))
    runs = sums["executions"]
    return {"rows": rows, "runs": runs, "mean_run_ns": sums["compute_infer_ns"] // max(1, runs)}


def below(cells: Sequence[float], buckets: Sequence[float], share: float) -> float | None:
    """The edge below which that share of a histogram's values surely lies.

    cells: counts per bucket, of those beyond the last, and the sum. None if there are no
    values, or if some of the share are beyond the last edge.
    """
    counts = cells[: len(buckets) + 1]
    wanted, seen = share * sum(counts), 0.0
    for edge, count in zip(buckets, counts, strict=False):
        seen += count
        if seen and seen >= wanted:
            return edge
    return None
