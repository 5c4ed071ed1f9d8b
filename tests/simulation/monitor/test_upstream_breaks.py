"""Data that broke before it reached the model: paged, and no reason to retrain."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from eventlog import MemoryLog, Record, RecordKind, decode_predictions, encode_predictions
from monitor.core.judge import Kind
from monitor.engine import Closed, Engine
from tests.monitor_world import CODEC, MODEL, SETTINGS, Profiles, Traffic, Version

GOOD, NEXT = Version("1"), Version("2")


def watch(traffic: Traffic) -> tuple[list[tuple[Kind, str]], Engine]:
    raised: list[tuple[Kind, str]] = []

    def closed(closed: Closed) -> None:
        if closed.summary.raised:
            raised.append((closed.summary.verdict.kind, closed.summary.verdict.reason))

    engine = Engine(
        traffic.log, CODEC.decode, Profiles(GOOD, NEXT), SETTINGS, load_page=lambda _: None
    )
    while engine.read(64):
        engine.close_blocks(closed)
    return raised, engine


def first_feature(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[np.ndarray], np.ndarray]:
    def spoil(rows: np.ndarray) -> np.ndarray:
        rows[:, 0] = change(rows[:, 0])
        return rows

    return spoil


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda x: x * 12, "f0 is as if multiplied by"),
        (lambda x: x / 1000, "f0 is stuck near 0, or multiplied by"),
        (lambda x: x + 100, "f0 is above the reference's range"),
    ],
)
def test_a_broken_feature_with_a_loss_pages_and_asks_for_no_retraining(
    change: Callable[[np.ndarray], np.ndarray], words: str
) -> None:
    traffic = Traffic(MemoryLog()).run(20)
    traffic.spoil, traffic.harm = first_feature(change), 0.4
    raised, _ = watch(traffic.run(30))
    assert raised
    assert {kind for kind, _ in raised} <= {Kind.WARN, Kind.UPSTREAM}
    assert words in raised[-1][1]


def narrower(log: MemoryLog, producer: str, records: list[Record]) -> None:
    """Half of the rows come without their last column."""
    log.append([_narrower(record) if producer == "00000a" else record for record in records])


def _narrower(record: Record) -> Record:
    if record.kind is not RecordKind.DATA or record.stream != "predictions":
        return record
    rows = decode_predictions(record)
    rows = replace(rows, inputs={"x": rows.inputs["x"][:, :-1]})
    return encode_predictions(rows, record.producer, record.watermark_ns)


def test_columns_that_vanish_are_an_event_and_no_crash() -> None:
    traffic = Traffic(MemoryLog()).run(10)
    append, traffic.append = traffic.append, narrower
    traffic.run(30)
    traffic.append = append
    raised, engine = watch(traffic.run(60))
    (first, *_) = raised
    assert first == (
        Kind.UPSTREAM,
        "the schema is not the reference's: input x has 5 values a row, the reference 6",
    )
    assert engine.models[MODEL].standing is Kind.HEALTHY  # once it is mended


def test_a_new_stable_version_is_not_blamed_for_rows_that_did_not_fit_the_last() -> None:
    traffic = Traffic(MemoryLog()).run(10)
    append, traffic.append = traffic.append, narrower
    traffic.run(10)
    traffic.append, traffic.stable = append, NEXT
    _, engine = watch(traffic.run(3))
    assert engine.models[MODEL].standing is Kind.HEALTHY


@pytest.mark.parametrize("delay", [2, 60])
def test_a_break_that_is_mended_leaves_nothing_behind_not_even_in_late_labels(delay: int) -> None:
    traffic = Traffic(MemoryLog(), label_delay_blocks=delay).run(20)
    traffic.spoil, traffic.harm = first_feature(lambda x: x * 12), 0.4
    traffic.run(40)
    traffic.spoil, traffic.harm = None, 0.0
    raised, engine = watch(traffic.run(80))
    state = engine.models[MODEL]
    assert {kind for kind, _ in raised} <= {Kind.WARN, Kind.UPSTREAM}
    assert state.standing is Kind.HEALTHY
    assert not state.mending.is_broken


def test_drift_with_a_loss_after_a_break_asks_for_a_retraining_all_the_same() -> None:
    traffic = Traffic(MemoryLog()).run(20)
    traffic.spoil, traffic.harm = first_feature(lambda x: x * 12), 0.4
    traffic.run(40)
    traffic.spoil, traffic.shift = None, 1.0
    raised, _ = watch(traffic.run(40))
    assert raised[-1][0] is Kind.RETRAIN
