"""The whole engine over a log in memory: what it says of which kind of trouble."""

from collections.abc import Callable

import numpy as np
import pytest

from eventlog import GapReason, MemoryLog, Record
from monitor.core.block import Arm, ModelBlock, Part
from monitor.core.judge import Kind
from monitor.core.model_state import ModelState
from monitor.engine import Closed, Engine
from monitor.profile import FeatureSpec, build_profile
from tests.monitor_world import (
    BLOCK_NS,
    CODEC,
    MODEL,
    SETTINGS,
    Profiles,
    Traffic,
    Version,
    inputs,
)

GOOD = Version("1")
BETTER = Version("2", accuracy=0.96, promised=0.96)
BAD = Version("3", accuracy=0.55)
PROFILES = Profiles(GOOD, BETTER, BAD)


class Watch:
    """An engine that remembers what it raised."""

    def __init__(
        self, log: MemoryLog, state: bytes | None = None, pages: dict | None = None
    ) -> None:
        self.pages = {} if pages is None else pages
        self.engine = Engine(
            log, CODEC.decode, PROFILES, SETTINGS, load_page=self.pages.get, state=state
        )
        self.raised: list[tuple[Kind, str]] = []

    def closed(self, closed: Closed) -> None:
        if closed.summary.raised:
            self.raised.append((closed.summary.verdict.kind, closed.summary.verdict.reason))

    def catch_up(self, limit: int = 7) -> "Watch":
        while self.engine.read(limit):
            self.engine.close_blocks(self.closed)
        return self

    @property
    def kinds(self) -> list[Kind]:
        return [kind for kind, _ in self.raised]


def restarted(log: MemoryLog, records: int = 9) -> Watch:
    """The last of engines that read so many records each, and begin from what the one before
    it had stored."""
    state, pages = None, {}
    while True:
        watch = Watch(log, state, dict(pages))
        if not watch.engine.read(records):
            return watch
        watch.engine.close_blocks(watch.closed)
        state = watch.engine.to_bytes()
        pages |= watch.engine.book.dirty()


def doubled(log: MemoryLog, producer: str, records: list[Record]) -> None:
    """Appends every record twice."""
    log.append([record for record in records for _ in range(2)])


def watch(change: Callable[[Traffic], None], before: int = 30, after: int = 60) -> Watch:
    """Stationary traffic, then a change, then more of it."""
    traffic = Traffic(MemoryLog())
    traffic.run(before)
    change(traffic)
    traffic.run(after)
    return Watch(traffic.log).catch_up()


def test_stationary_traffic_raises_nothing() -> None:
    found = watch(lambda traffic: None, after=300)
    assert found.raised == []
    state = found.engine.models[MODEL]
    assert state.rows >= 300 * 200
    assert found.engine.counters.late == 0


def test_a_bad_candidate_is_to_be_rolled_back() -> None:
    def change(traffic: Traffic) -> None:
        traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.1, "r1"

    found = watch(change)
    assert Kind.ROLLBACK in found.kinds
    assert not {Kind.RETRAIN, Kind.ANNOTATE, Kind.UPSTREAM} & set(found.kinds)
    state = found.engine.models[MODEL]
    assert state.rollout is not None
    assert state.rollout.candidate.rows >= SETTINGS.rows_min


def test_a_good_candidate_raises_nothing() -> None:
    def change(traffic: Traffic) -> None:
        traffic.candidate, traffic.weight, traffic.rollout = BETTER, 0.25, "r1"

    found = watch(change, after=150)
    assert found.raised == []


def test_dirty_inputs_with_a_loss_ask_for_a_retraining() -> None:
    def change(traffic: Traffic) -> None:
        traffic.shift, traffic.harm = 1.0, 0.4

    found = watch(change)
    assert found.kinds[-1] is Kind.RETRAIN
    assert Kind.ROLLBACK not in found.kinds


def test_dirty_inputs_during_a_rollout_are_not_the_candidates_fault() -> None:
    def change(traffic: Traffic) -> None:
        traffic.candidate, traffic.weight, traffic.rollout = BETTER, 0.25, "r1"
        traffic.shift, traffic.harm = 1.0, 0.4

    found = watch(change)
    assert Kind.RETRAIN in found.kinds
    assert Kind.ROLLBACK not in found.kinds


def test_a_loss_without_moved_inputs_and_without_a_change_asks_for_a_retraining() -> None:
    def change(traffic: Traffic) -> None:
        traffic.harm = 0.4

    assert Kind.RETRAIN in watch(change).kinds


def test_covariates_alone_are_annotated() -> None:
    def change(traffic: Traffic) -> None:
        traffic.shift = 1.0

    found = watch(change)
    assert found.kinds[-1] is Kind.ANNOTATE
    assert not {Kind.RETRAIN, Kind.ROLLBACK, Kind.UPSTREAM} & set(found.kinds)


def test_values_that_go_missing_block_a_retraining() -> None:
    def spoil(rows: np.ndarray) -> np.ndarray:
        rows[:, 2] = np.nan
        return rows

    def change(traffic: Traffic) -> None:
        traffic.spoil, traffic.harm = spoil, 0.4

    found = watch(change)
    assert Kind.UPSTREAM in found.kinds
    assert Kind.RETRAIN not in found.kinds
    assert any("f2" in reason for _, reason in found.raised)


def test_a_stuck_sensor_blocks_a_retraining() -> None:
    def spoil(rows: np.ndarray) -> np.ndarray:
        rows[:, 1] = 0.25
        return rows

    def change(traffic: Traffic) -> None:
        traffic.spoil, traffic.harm = spoil, 0.4

    found = watch(change)
    assert Kind.UPSTREAM in found.kinds
    assert Kind.RETRAIN not in found.kinds


def test_a_blind_monitor_says_so_and_nothing_else() -> None:
    traffic = Traffic(MemoryLog())
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.2, "r1"
    for _ in range(60):
        traffic.lose("00000a", 50)
        traffic.step()
    found = Watch(traffic.log).catch_up()
    assert set(found.kinds) == {Kind.BLIND}


def test_rows_left_out_by_sampling_do_not_blind() -> None:
    traffic = Traffic(MemoryLog())
    for _ in range(30):
        traffic.lose("00000a", 100, GapReason.SAMPLED)
        traffic.step()
    assert Watch(traffic.log).catch_up().raised == []


@pytest.mark.parametrize("delay", [1, 10, 40])
def test_labels_count_however_late_they_come(delay: int) -> None:
    traffic = Traffic(MemoryLog(), label_delay_blocks=delay)
    traffic.run(60)
    found = Watch(traffic.log).catch_up()
    joined = found.engine.counters.labels[MODEL]

    assert joined == {"joined": traffic.rows_per_block * (60 - delay)}


def test_a_candidate_is_found_out_when_its_labels_are_late() -> None:
    traffic = Traffic(MemoryLog(), label_delay_blocks=25)
    traffic.run(30)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.1, "r1"
    traffic.run(20)
    assert Watch(traffic.log).catch_up().raised == []
    traffic.run(60)
    assert Kind.ROLLBACK in Watch(traffic.log).catch_up().kinds


def test_a_new_stable_version_is_judged_from_nothing_by_its_own_reference() -> None:
    traffic = Traffic(MemoryLog())
    traffic.run(20)
    traffic.shift = 1.0
    traffic.run(40)
    found = Watch(traffic.log).catch_up()
    before = found.engine.models[MODEL]
    assert before.stable is not None
    assert before.standing is Kind.ANNOTATE
    traffic.stable = BETTER
    traffic.shift = 0.0
    traffic.run(20)
    found.catch_up()
    after = found.engine.models[MODEL]
    assert after.stable is not None
    assert after.stable.version == BETTER.name
    assert after.standing is Kind.HEALTHY


@pytest.mark.parametrize("missing", [False, True])
def test_arms_that_see_different_inputs_are_told_apart_beside_a_feature_without_values(
    missing: bool,
) -> None:
    traffic = Traffic(MemoryLog())

    def spoil(rows: np.ndarray) -> np.ndarray:
        if missing:
            rows[:, 2] = np.nan  # in both arms alike
        return rows

    traffic.spoil = spoil
    traffic.run(5)
    traffic.candidate, traffic.weight, traffic.rollout = BETTER, 0.3, "r1"
    whole = traffic._rows

    def shifted(producer, version, role, rows, start_ns):  # type: ignore[no-untyped-def]
        traffic.shift = 1.0 if role == "candidate" else 0.0
        return whole(producer, version, role, rows, start_ns)

    traffic._rows = shifted  # type: ignore[method-assign]
    traffic.run(20)
    assert Watch(traffic.log).catch_up().engine.models[MODEL].inputs_differ()


def test_answers_never_seen_before_are_no_difference_of_inputs() -> None:
    traffic = Traffic(MemoryLog())
    traffic.run(5)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.3, "r1"
    whole = traffic._rows

    def strange(producer, version, role, rows, start_ns):  # type: ignore[no-untyped-def]
        from eventlog import decode_predictions, encode_predictions

        records = whole(producer, version, role, rows, start_ns)
        if role != "candidate" or not records:
            return records
        value = decode_predictions(records[0])
        value.outputs["label"] = value.outputs["label"] + 100
        return [encode_predictions(value, producer, records[0].watermark_ns)]

    traffic._rows = strange  # type: ignore[method-assign]
    traffic.run(40)
    found = Watch(traffic.log).catch_up()
    assert not found.engine.models[MODEL].inputs_differ()
    assert Kind.ROLLBACK in found.kinds


def test_a_rollout_that_was_rolled_back_is_forgotten() -> None:
    traffic = Traffic(MemoryLog())
    traffic.run(10)
    traffic.candidate, traffic.weight, traffic.rollout = BAD, 0.1, "r1"
    traffic.run(40)
    traffic.candidate = None
    traffic.run(30)
    found = Watch(traffic.log).catch_up()
    state = found.engine.models[MODEL]
    assert state.rollout is None
    assert state.standing is Kind.HEALTHY


def test_failures_of_the_candidate_alone_are_enough_without_labels() -> None:
    traffic = Traffic(MemoryLog(), label_delay_blocks=10_000)
    traffic.run(10)
    traffic.candidate, traffic.weight, traffic.rollout = BETTER, 0.3, "r1"
    answer = traffic._rows

    def failing(producer, version, role, rows, start_ns):  # type: ignore[no-untyped-def]
        records = answer(producer, version, role, rows, start_ns)
        if role != "candidate" or not records:
            return records
        from eventlog import decode_predictions, encode_predictions
        from tests.monitor_world import prediction_rows

        value = decode_predictions(records[0])
        failed = prediction_rows(
            version, role, "r1", value.first_sequence, value.ts_ns, value.inputs["x"], None
        )
        return [encode_predictions(failed, producer, records[0].watermark_ns)]

    traffic._rows = failing  # type: ignore[method-assign]
    traffic.run(60)
    assert Kind.ROLLBACK in Watch(traffic.log).catch_up().kinds


def test_a_candidate_that_takes_all_of_a_block_is_followed() -> None:
    """Few rows: in its first block no row went to stable."""
    traffic = Traffic(MemoryLog(), producers=("00000a",), label_delay_blocks=10_000)
    traffic.run(5)
    traffic.candidate, traffic.weight, traffic.rollout = BETTER, 1.0, "r1"
    traffic.run(10)
    rollout = Watch(traffic.log).catch_up().engine.models[MODEL].rollout
    assert rollout is not None
    assert rollout.candidate.rows == 10 * traffic.rows_per_block


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_answers_of_the_candidate_that_are_no_numbers_are_enough_without_labels(
    bad: float,
) -> None:
    random = np.random.default_rng(5)
    answers = random.normal(size=4000)
    profile = build_profile(inputs(4000, random), [FeatureSpec(f"f{i}") for i in range(6)], answers)
    state, kinds = ModelState(MODEL, SETTINGS), []
    for index in range(60):
        made = ModelBlock(index)
        for digest, role, rollout in (("s", "stable", ""), ("c", "candidate", "r1")):
            said = random.normal(size=50)
            said[:25] = bad if role == "candidate" else said[:25]
            arm = made.arm(Arm(digest, digest, role, rollout))
            arm.add(index * BLOCK_NS, index * BLOCK_NS, 50, 0)
            arm.parts.append(Part({"x": inputs(50, random)}, {"y": said}))
        summary = state.close(made, lambda version, digest: profile)
        kinds += [summary.verdict.kind] if summary.raised else []
    assert kinds[-1] is Kind.ROLLBACK
