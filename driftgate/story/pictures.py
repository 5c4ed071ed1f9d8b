"""From the monitor's history and the journals to the report's pictures."""

import itertools
import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from driftgate.story.charts import Points
from driftgate.story.journal import Sent
from driftgate.story.report import FeatureShift, Report, write
from driftgate.story.story import Story
from driftgate.story.training import MODEL

INTERVAL_S = 1.0
SHOWN_FEATURES = 6
BARS = 32  # of a histogram; the monitor's 256 bins are too fine for a page
EVIDENCE_FLOOR = -1.0  # log10 of seconds: nothing to see below


def write_report(story: Story, folder: Path) -> Path:
    """Write the report into `folder`; returns the page's path."""
    history = story.system.monitor(f"models/{MODEL}/history")
    requests = [s for journal in story.system.journals for s in journal.requests if not s.failed]
    start_ns = story.events[0][0]
    blocks: Sequence[Mapping[str, Any]] = history["blocks"]
    report = Report(
        summary=story.summary,
        events=[((at - start_ns) / 1e9, text) for at, text in story.events],
        features=_shifts(history["verdicts"]),
        evidence={"evidence of a change": _evidence(blocks, start_ns)},
        threshold=math.log10(_threshold_s(story)),
        loss=_per_interval(requests, start_ns, _share_wrong),
        versions=_per_interval(requests, start_ns, _rows),
        interval_s=INTERVAL_S,
    )
    path = folder / "index.html"
    write(report, path)
    return path


def _threshold_s(story: Story) -> float:
    state = story.system.monitor()
    return float(state["models"][MODEL]["threshold_s"])


def _evidence(blocks: Sequence[Mapping[str, Any]], start_ns: int) -> Points:
    return [
        (
            (block["start_ns"] - start_ns) / 1e9,
            max(EVIDENCE_FLOOR, math.log10(block["evidence_s"] or 10.0**EVIDENCE_FLOOR)),
        )
        for block in blocks
        if block["start_ns"] >= start_ns
    ]


def _per_interval(requests: Sequence[Sent], start_ns: int, value: Any) -> dict[str, Points]:
    """version -> (start of the interval, value of its requests)."""
    groups: dict[str, dict[int, list[Sent]]] = defaultdict(lambda: defaultdict(list))
    for sent in requests:
        interval = int((sent.sent_ns - start_ns) / 1e9 / INTERVAL_S)
        groups[f"version {sent.version}"][interval].append(sent)
    return {
        version: [(i * INTERVAL_S, value(group)) for i, group in sorted(intervals.items())]
        for version, intervals in sorted(groups.items())
    }


def _share_wrong(group: Sequence[Sent]) -> float:
    return sum(sent.wrong for sent in group) / _rows(group)


def _rows(group: Sequence[Sent]) -> float:
    return float(sum(sent.rows for sent in group))


def _shifts(verdicts: Sequence[Mapping[str, Any]]) -> list[FeatureShift]:
    """The inputs that moved most when the monitor asked for a retraining."""
    for verdict in verdicts:
        if verdict["kind"] == "retrain":
            inputs = [shift for shift in verdict["shifts"] if shift["evidence_s"] is not None]
            return [_shift(shift) for shift in inputs[:SHOWN_FEATURES]]
    return []


def _shift(shift: Mapping[str, Any]) -> FeatureShift:
    """Equal-width bars over the reference's range, and one bar for what lies on either side."""
    edges = [*shift["starts"], shift["high"]]
    span = edges[-1] - edges[0]
    count = BARS if span > 0 else 1  # a feature that never varied has one bar
    bars = {side: [0.0] * count for side in ("reference", "live")}
    for index, (low, end) in enumerate(itertools.pairwise(edges)):
        middle = ((low + end) / 2 - edges[0]) / span if span > 0 else 0.0
        place = min(int(middle * count), count - 1)
        for side, heights in bars.items():
            heights[place] += shift[side][index]
    special = shift["special"]
    for side, heights in bars.items():
        heights.insert(0, special["below"][side])
        heights.append(special["above"][side])
    return FeatureShift(shift["name"], bars["reference"], bars["live"], float(shift["ks"]))
