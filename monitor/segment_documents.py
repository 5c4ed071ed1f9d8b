"""Segments that moved most, in JSON."""

from dataclasses import dataclass
from typing import Any

from monitor.core.bins import Counts
from monitor.core.model_state import ModelState
from monitor.core.profile import ReferenceProfile
from monitor.core.segment_ranking import ALPHA, ROWS_MIN, Segment, rank_segments
from monitor.documents import number

SHOWN = 20

Document = dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class LiveSegments:
    """What `segments_document` is made of; its arrays are nobody else's.

    off: why nothing is compared; empty: it is.
    """

    version: str
    profile: ReferenceProfile
    live: Counts
    off: str = ""


def live_segments(state: ModelState) -> LiveSegments | None:
    """None while no version is known."""
    stable = state.stable
    if stable is None:
        return None
    off = ""
    if stable.yardstick.learned is not None:
        off = "the reference is the version's own traffic, which does not tell answers by segment"
    elif not stable.yardstick.known:
        off = "the version has no reference"
    elif stable.yardstick.segmenter is None:
        off = "the reference tells no answers by segment; push the version again to have them"
    return LiveSegments(stable.version, stable.yardstick.profile, stable.segments.live, off)


def segments_document(model: str, found: LiveSegments | None) -> Document:
    """The segments that moved most; a few hundredths of a second of one core."""
    off = "no row has been seen" if found is None else found.off
    document: Document = {
        "model": model,
        "version": found.version if found else "",
        "off": off,
        "false_named_share_max": ALPHA,
        "rows_min": ROWS_MIN,
        "looked_at": 0,
        "segments": [],
    }
    if found is None or off or found.profile.segments is None:
        return document
    ranking = rank_segments(found.profile, found.profile.segments, found.live, SHOWN)
    segments = [_segment(segment) for segment in ranking.segments]
    return {**document, "looked_at": ranking.looked_at, "segments": segments}


def _segment(found: Segment) -> Document:
    return {
        "features": [{"name": item.feature, "values": item.group} for item in found.members],
        "reference_rows": found.reference_rows,
        "live_rows": found.live_rows,
        "effect": number(found.effect),
        "by_chance": number(found.by_chance),
        "p_value": number(found.p_value),
        "named": found.named,
        "most": {
            "answer": found.most.answer,
            "reference": number(found.most.reference),
            "live": number(found.most.live),
        },
    }
