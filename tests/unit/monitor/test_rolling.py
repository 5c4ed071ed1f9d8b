"""A reference that is renewed: when, of what, what it is worth, and what keeps it as it is."""

from dataclasses import replace

import numpy as np
import pytest

import monitor.core.rolling
from driftgate.commands.monitor_status import model_lines
from monitor.core.block import LossSum
from monitor.core.effects import effects
from monitor.core.events import Group, make_events
from monitor.core.evidence import carried, share_bets
from monitor.core.judge import Kind
from monitor.core.rolling import references_within
from monitor.core.settings import RollingSettings
from monitor.core.warm_up import Gathered
from monitor.documents import state_document
from monitor.metrics import expose, make_registry
from monitor.published import Published, Snapshot
from monitor.report.content import Content
from monitor.report.feature_sections import features_section
from monitor.report.timeline import Timeline
from monitor.service import core_settings
from monitor.settings import DAY_S, MonitorSettings
from tests.monitor_world import BLOCK_NS, SETTINGS
from tests.rolling_world import (
    GUARD,
    PARTS,
    ROLLING,
    SPAN,
    START,
    WARM_UP,
    Watch,
    pushed,
    rows_of,
)

SEED = 20261202


@pytest.fixture(scope="module")
def spans() -> list[tuple[int, tuple[int, int]]]:
    """Of calm traffic: the block after which another reference was in use, and its span."""
    watch, found = Watch([SEED]).run(WARM_UP + 1), []
    for _ in range(SPAN + 4 * GUARD):
        watch.step()
        if not found or found[-1][1] != watch.span:
            found.append((watch.block - 1, watch.span))
    return found


def test_it_begins_with_the_warm_up(spans: list[tuple[int, tuple[int, int]]]) -> None:
    assert spans[0][1][1] == START + WARM_UP


def test_it_is_renewed_at_the_first_block_of_a_part_and_at_no_other(
    spans: list[tuple[int, tuple[int, int]]],
) -> None:
    assert len(spans) > 3
    assert all(block % GUARD == 0 for block, _ in spans[1:])


def test_a_whole_part_lies_between_it_and_what_it_judges(
    spans: list[tuple[int, tuple[int, int]]],
) -> None:
    assert all(to == block - GUARD for block, (_, to) in spans[1:])


def test_it_grows_to_its_span_and_no_longer(spans: list[tuple[int, tuple[int, int]]]) -> None:
    lengths = [to - first for _, (first, to) in spans[1:]]
    assert lengths == sorted(lengths)
    assert lengths[-1] == SPAN


def test_what_is_kept_does_not_grow() -> None:
    watch = Watch([SEED, 1]).run(WARM_UP + SPAN + 4 * GUARD)
    before = len(watch.stored)
    watch.run(5 * GUARD)
    assert len(watch.rolling.parts) == PARTS + 2
    assert len(watch.stored) < 1.01 * before


def test_killed_and_started_again_anywhere_it_ends_in_the_same_state() -> None:
    whole, broken = (Watch([SEED, 2], profile=profile, labelled=True) for profile in (PUSHED,) * 2)
    for block in range(WARM_UP + 5 * GUARD):
        for watch in (whole, broken):
            watch.shift = 0.4 if block > WARM_UP + 4 * GUARD + 50 else 0.0
            watch.step()
        if block % 37 == 0 or (START + block) % GUARD in (0, GUARD - 1):
            broken.restart()
    assert broken.stored == whole.stored
    assert broken.said[-1] == whole.said[-1]
    assert whole.rolling.is_frozen


PUSHED = pushed(np.random.default_rng([SEED, 3]))


def test_bins_and_loss_are_those_of_the_pushed_reference_which_stays_beside_it() -> None:
    watch = Watch([SEED, 4], profile=PUSHED)
    watch.shift = 0.2
    watch.run(WARM_UP + 1)
    stable = watch.state.stable
    assert stable is not None
    profile = stable.yardstick.profile
    assert np.array_equal(profile.features[0].starts, PUSHED.features[0].starts)
    assert profile.loss == PUSHED.loss
    document = state_document(watch.state, watch.said[-1], {})["stable"]["reference"]
    assert document["from"] == "rolling"
    training = document["training"]
    assert training["rows"] == PUSHED.rows
    assert {item["name"] for item in training["features"][:2]} == {"x[0]", "x[1]"}
    assert all(0.1 < item["ks"] < 0.35 for item in training["features"][:2])


def test_state_says_its_span_its_age_and_when_it_is_renewed() -> None:
    watch = Watch([SEED, 5]).run(WARM_UP + SPAN + 3 * GUARD)
    first, to = watch.span
    document = state_document(watch.state, watch.said[-1], {})["stable"]["reference"]
    assert document["rolling"] == {
        "span_s": to - first,
        "age_s": watch.block - to,
        "next_ns": -(-watch.block // GUARD) * GUARD * BLOCK_NS,
        "frozen": False,
    }
    assert document["training"] is None


def test_while_it_warms_up_that_is_said_and_no_reference_judges() -> None:
    watch = Watch([SEED, 6]).run(WARM_UP - 10)
    assert watch.said[-1].verdict.reason.startswith("warming up: ")
    assert state_document(watch.state, watch.said[-1], {})["stable"]["reference"]["from"] is None


def test_no_renewal_comes_into_the_middle_of_blocks_that_are_bet_on_as_one() -> None:
    watch = Watch([SEED, 7]).run(WARM_UP + 5 * GUARD)
    rolling, start_ns = watch.rolling, (watch.block // GUARD + 1) * GUARD * BLOCK_NS
    before = rolling.learned
    assert not rolling.renew(start_ns, in_stretch=True)
    assert rolling.renew(start_ns + 3 * BLOCK_NS, in_stretch=False)
    assert rolling.learned is not before
    assert not rolling.renew(start_ns + 4 * BLOCK_NS, in_stretch=False)


def test_a_renewal_that_a_verdict_forbids_is_left_out_until_the_next_moment() -> None:
    watch = Watch([SEED, 8]).run(WARM_UP + 5 * GUARD)
    rolling, start_ns = watch.rolling, (watch.block // GUARD + 1) * GUARD * BLOCK_NS
    empty = rolling.base.counter.empty()
    rolling.add(start_ns - BLOCK_NS, empty, [], [], Kind.WARN, 0, held=True)
    assert rolling.is_frozen
    assert not rolling.renew(start_ns, in_stretch=False)
    rolling.add(start_ns, empty, [], [], Kind.HEALTHY, 0, held=False)
    assert not rolling.renew(start_ns + BLOCK_NS, in_stretch=False)
    assert rolling.renew(start_ns + GUARD * BLOCK_NS, in_stretch=False)


def held(level: float, random: np.random.Generator) -> Gathered:
    """A part of time whose rows are independent, around a level of its own."""
    found = Gathered(PUSHED.to_bytes(), SETTINGS.coarse_edges)
    for _ in range(300):
        x, said = rows_of(random, 40, level)
        counts = found.counter.empty()
        assert found.counter.count({"x": x}, {"label": said}, counts)
        found.add(counts, 40, LossSum())
    return found


def test_parts_that_differ_are_worth_fewer_rows() -> None:
    print("seed", SEED)
    random = np.random.default_rng([SEED, 9])
    calm = [held(0.0, random) for _ in range(4)]
    restless = [held(level, random) for level in (0.0, 0.05, -0.05, 0.02)]
    worth = [monitor.core.rolling._worth_of_parts(parts[0], parts)[0] for parts in (calm, restless)]
    print(worth)
    assert worth[0] > 0.2
    # 48,000 rows around four levels that are 0.05 apart.
    assert worth[1] * 48_000 < 2_000


def test_carried_evidence_is_of_the_same_questions_and_no_larger() -> None:
    events = make_events(PUSHED, 12)
    members = events.group == Group.FEATURES
    old = share_bets(events, members, 0.05, 0.25, 1e6)
    looser = replace(events, error=events.error + 0.3)
    new = share_bets(looser, members, 0.05, 0.25, 1e6)
    assert new.size < old.size
    m = np.random.default_rng(SEED).random(old.size) * 1000
    there = carried(old, m, new)
    assert np.sum(there * new.weight) <= np.sum(m * old.weight) * (1 + 1e-12)
    back = carried(new, there, old)
    assert np.sum(back * old.weight) <= np.sum(there * new.weight) * (1 + 1e-12)
    same = carried(old, m, old)
    assert np.array_equal(same, m)
    of_new = set(zip(new.event, new.rising, new.stake * 0 + np.arange(new.size) % 6, strict=True))
    kept = [
        key in of_new for key in zip(old.event, old.rising, np.arange(old.size) % 6, strict=True)
    ]
    ratio = there / m[kept]
    assert ratio == pytest.approx(ratio[0])


def test_settings_are_of_chosen_models_or_of_all() -> None:
    none = core_settings(MonitorSettings())
    assert none.rolling is None
    few = core_settings(MonitorSettings(rolling_models=("fraud",), rolling_days=10.0))
    found = few.rolling_of("fraud")
    assert found == RollingSettings(
        ("fraud",), 2, round(7 * DAY_S * 1e9), replace(none.warm_up, always=True)
    )
    assert few.rolling_of("other") is None
    every = core_settings(MonitorSettings(reference="rolling")).rolling_of("other")
    assert every is not None
    assert every.parts == 4


def test_the_errors_of_all_references_of_a_budget_s_time_hold_together() -> None:
    rolling = ROLLING.rolling
    assert rolling is not None
    assert references_within(90 * DAY_S, replace(rolling, guard_ns=round(7 * DAY_S * 1e9))) == 13
    one, many = (make_events(PUSHED, 12, references=number).error for number in (1, 13))
    assert np.all(many > one)


def test_status_says_what_the_reference_is_and_whether_it_is_frozen() -> None:
    watch = Watch([SEED, 10], profile=PUSHED).run(WARM_UP + SPAN + 3 * GUARD)

    def said() -> str:
        document = state_document(watch.state, watch.said[-1], {})
        (line,) = [line for line in model_lines(document) if line.startswith("  reference")]
        return line

    assert "rolling, its own traffic of 0.0 d that ended 0.0 d ago (next 1970-01-02 " in said()
    assert "24,000 rows; from the pushed one: " in said()
    watch.shift = 0.4
    watch.run(GUARD // 2)
    assert "(frozen while the verdict stands)" in said()


def test_metrics_are_of_models_whose_reference_rolls() -> None:
    watch = Watch([SEED, 11]).run(WARM_UP + SPAN + 3 * GUARD)
    models = {"m": state_document(watch.state, watch.said[-1], {})}
    text = expose(make_registry(Published(Snapshot(ready=True, models=models)))).decode()
    first, to = watch.span
    assert f'driftgate_monitor_reference_span_seconds{{model="m"}} {to - first}.0' in text
    assert f'driftgate_monitor_reference_age_seconds{{model="m"}} {watch.block - to}.0' in text
    assert 'driftgate_monitor_reference_frozen{model="m"} 0.0' in text
    assert 'driftgate_monitor_warm_up_ratio{model="m"} 1.0' in text


def test_the_report_says_what_the_reference_is_of_and_how_far_training_is() -> None:
    watch = Watch([SEED, 12], profile=PUSHED).run(WARM_UP + SPAN + 3 * GUARD)
    document = state_document(watch.state, watch.said[-1], {})
    content = Content(document, effects(watch.state), Timeline(BLOCK_NS))
    page = str(features_section(content))
    assert "own traffic of" in page
    assert "Kolmogorov-Smirnov of live values from the pushed reference: " in page


def test_time_without_labels_neither_warns_nor_keeps_a_reference() -> None:
    print("seed", SEED)
    settings = replace(ROLLING, warn_budget_s=180.0)
    watch = Watch([SEED, 13], settings, profile=PUSHED).run(WARM_UP + 8 * GUARD)
    assert watch.said[-1].verdict.kind is Kind.HEALTHY
    assert not watch.rolling.is_frozen
    assert watch.span[1] >= watch.block - 2 * GUARD
