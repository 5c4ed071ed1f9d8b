"""The report on a model that is under watch now: from the snapshot and the stored history."""

from itertools import islice
from pathlib import Path

from monitor.comparisons import Comparisons
from monitor.published import Snapshot
from monitor.report import UTC, Content, Timeline, render
from monitor.segment_documents import segments_document
from monitor.store import BLOCKS_KEPT, read_blocks, read_history

EVENTS_MAX = 1000  # verdicts and actions each, the newest


def live_report(
    snapshot: Snapshot, database: Path, model: str, window_s: float, comparisons: Comparisons
) -> str | None:
    """The page about the last `window_s` of a model's rows; None when it is not under watch.

    Takes some seconds of one core.
    Raises: sqlite3.Error when history cannot be read.
    """
    state = snapshot.models.get(model)
    if state is None:
        return None
    path = snapshot.databases.get(model, database)
    # The window ends with the rows and not with the clock: who looks at a model that has
    # had no traffic for a day wants to see its last day.
    after_ns = max(state["end_ns"] - round(window_s * 1e9) - 1, -1)
    timeline = Timeline(round(state["settings"]["block_s"] * 1e9))
    for block in islice(read_blocks(path, model, after_ns), BLOCKS_KEPT):
        timeline.add(block)
    _, verdicts, actions = read_history(path, model, after_ns, EVENTS_MAX)
    return render(
        Content(
            state,
            snapshot.effects.get(model, []),
            timeline,
            verdicts,
            actions,
            window_s,
            UTC,
            f"As of {UTC.moment(snapshot.overall['at_ns'])}.",
            snapshot.performance.get(model, ()),
            comparisons.of(model, snapshot.spaces.get(model, ())),
            snapshot.fairness.get(model, ()),
            segments_document(model, snapshot.segments.get(model)),
            snapshot.outliers.get(model),
        )
    )
