"""What a batcher does and knows at one moment, and what several of them do together.

Read by `driftgate explain`. All times are nanoseconds.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from serving.core.latency import Point


@dataclass(frozen=True, slots=True)
class BatcherFacts:
    """One version on one worker.

    load_run_ns:   the largest batch, when it was loaded; None: not on invented inputs.
    mean_run_ns:   moving average; 0: nothing has run since.
    instances:     runs at a time, where runs are in threads.
    hold_ns:       how long a free session waits for company; 0: it does not.
    shapes_queued: shapes of requests that wait; only equal ones share a batch.
    refused_full:  requests that found as many waiting as may, since it was loaded; like
                   refused_late without those that were refused unread.
    refused_late:  requests that would have been answered too late, since it was loaded.
    refused_standing: requests without a deadline that would have waited longer than those
                   may while the queue stands; counted like the others.
    slowed_by:     times as long as the profile says runs take of late.
    work_is_rows:  else the profile is by the elements of all inputs.
    positions_paid: padded positions that cost no more than a run; None: nothing is padded.
    """

    inline: bool
    inline_at_load: bool
    load_run_ns: int | None
    mean_run_ns: int
    instances: int
    hold_ns: int
    running: int
    queued: int
    rows_queued: int
    shapes_queued: int
    oldest_wait_ns: int
    refused_full: int
    refused_late: int
    refused_standing: int
    slowed_by: float
    work_is_rows: bool
    profile: tuple[Point, ...]
    positions_paid: int | None = None

    @staticmethod
    def from_json(document: Mapping[str, Any]) -> "BatcherFacts":
        """Of what `dataclasses.asdict` gave. Raises: KeyError or TypeError for another shape."""
        points = tuple(Point(**point) for point in document["profile"])
        return BatcherFacts(**{**document, "profile": points})


def together(facts: Sequence[BatcherFacts]) -> dict[str, Any]:
    """What the workers of a version do together, as JSON. facts: of one worker or more.

    Means are weighted by runs; of what 19 runs of 20 stay below, and of times at load and
    waits, the greatest counts.
    """
    loads = [each.load_run_ns for each in facts if each.load_run_ns is not None]
    paid = [each.positions_paid for each in facts if each.positions_paid is not None]
    means = [each.mean_run_ns for each in facts if each.mean_run_ns]
    return {
        "workers": len(facts),
        "inline_workers": sum(each.inline for each in facts),
        "inline_at_load_workers": sum(each.inline_at_load for each in facts),
        "load_run_ns": max(loads, default=None),
        "mean_run_ns_max": max(means, default=0),
        "instances": sum(1 if each.inline else each.instances for each in facts),
        "hold_ns": max(each.hold_ns for each in facts),
        "running": sum(each.running for each in facts),
        "queued": sum(each.queued for each in facts),
        "rows_queued": sum(each.rows_queued for each in facts),
        "shapes_queued_max": max(each.shapes_queued for each in facts),
        "oldest_wait_ns": max(each.oldest_wait_ns for each in facts),
        "refused_full": sum(each.refused_full for each in facts),
        "refused_late": sum(each.refused_late for each in facts),
        "refused_standing": sum(each.refused_standing for each in facts),
        "slowed_by_max": max(each.slowed_by for each in facts),
        "work_is_rows": facts[0].work_is_rows,
        "positions_paid": max(paid, default=None),
        "profile": _merged([point for each in facts for point in each.profile]),
    }


def _merged(points: Sequence[Point]) -> list[dict[str, int]]:
    by_work: dict[int, list[Point]] = {}
    for point in points:
        by_work.setdefault(point.work, []).append(point)
    merged = []
    for work, each in sorted(by_work.items()):
        runs = sum(point.runs for point in each)
        mean_ns = sum(point.runs * point.mean_ns for point in each) // runs
        high_ns = max(point.high_ns for point in each)
        merged.append({"work": work, "runs": runs, "mean_ns": mean_ns, "high_ns": high_ns})
    return merged
