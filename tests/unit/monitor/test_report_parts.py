"""The parts of a report that need no page: escaping, words, time, bars, intervals."""

import numpy as np
import pytest
from scipy.stats import binomtest

from monitor.core.bins import MISSING, SLOTS, count_slots
from monitor.core.effects import Effect
from monitor.core.judge import Kind
from monitor.core.performance.intervals import wilson
from monitor.core.profile import FeatureSpec, encode_text, fit_feature
from monitor.report.axes import Frame, Scale, round_steps, time_axis
from monitor.report.histogram import CATEGORIES_SHOWN, Bars, bars_of
from monitor.report.markup import Html, element, join, shape
from monitor.report.summary import HEADLINES
from monitor.report.timeline import BUCKETS_MAX, Timeline
from monitor.report.words import DAY_S, ELAPSED, UTC, days, duration, effect, number, share

SEED = 20261128
HOSTILE = "<script>alert('x')</script> & \"quotes\""


def test_text_and_attributes_are_escaped_and_markup_is_not_twice() -> None:
    inner = element("b", HOSTILE, title=HOSTILE)
    assert "<script" not in inner
    assert "&lt;script&gt;" in inner
    assert 'title="&lt;script&gt;alert(&#x27;x&#x27;)' in inner
    assert element("p", inner) == f"<p>{inner}</p>"
    assert isinstance(join(["<", inner]), Html)


def test_attributes_are_written_as_html_has_them() -> None:
    made = shape("rect", class_="bar", stroke_width=1.26, x=2.0, hidden=True, id=None, open=False)
    assert made == '<rect class="bar" stroke-width="1.3" x="2" hidden/>'


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (float("nan"), "–"),
        (0, "0"),
        (1234567.0, "1,230,000"),
        (0.012345, "0.0123"),
        (-2.5, "−2.5"),
        (100.0, "100"),
        (3e-9, "3.00e−09"),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


def test_a_number_is_rounded_to_what_matters_beside_another() -> None:
    assert number(-0.00328, beside=0.989) == "−0.003"
    assert number(-0.00028, beside=0.989) == "0"
    assert number(0.0123, beside=0.1) == "0.012"
    assert effect(0.0001) == "<0.001"
    assert effect(0.12345) == "0.123"


def test_times_and_shares_are_told_in_their_units() -> None:
    assert duration(90.0) == "1.5\u00a0min"
    assert duration(2 * DAY_S) == "2\u00a0d"
    assert days(90 * DAY_S) == "90\u00a0d"
    assert days(1.0) == "<\u00a00.001\u00a0d"
    assert days(1e300) == ">\u00a010⁹\u00a0d"
    assert share(0.0004) == "<\u00a00.1\u00a0%"
    assert share(0.125) == "12.5\u00a0%"
    assert UTC.moment(1_700_000_000 * 10**9) == "2023-11-14 22:13:20 UTC"
    assert UTC.moment(1_700_000_040 * 10**9) == "2023-11-14 22:14 UTC"
    assert ELAPSED.moment(7200 * 10**9) == "2\u00a0h"
    assert ELAPSED.moment(0) == "the start"


def test_every_verdict_has_a_headline() -> None:
    assert set(HEADLINES) == set(Kind)


def block(index: int, evidence_s: float, rows: int, loss: float | None) -> dict[str, object]:
    return {
        "start_ns": index * 10**9,
        "stable": "1",
        "candidate": "2",
        "rows": {"stable": rows, "candidate": 1},
        "labelled": {"stable": rows if loss is not None else 0, "candidate": 0},
        "loss": {"stable": loss, "candidate": None},
        "lost": 1,
        "evidence_s": evidence_s,
    }


@pytest.mark.parametrize("blocks", [1, 480, 481, 5000])
def test_a_timeline_stays_small_and_loses_neither_rows_nor_the_highest_evidence(
    blocks: int,
) -> None:
    random = np.random.default_rng(SEED)
    evidence, rows = random.exponential(size=blocks), random.integers(1, 9, blocks)
    timeline, at = Timeline(10**9), 0
    starts = []
    for value, count in zip(evidence.tolist(), rows.tolist(), strict=True):
        at += int(random.integers(1, 4))
        starts.append(at)
        timeline.add(block(at, value, count, 0.5))
    width_ns, buckets = timeline.buckets()
    assert len(buckets) <= BUCKETS_MAX
    assert len(timeline.buckets(40)[1]) <= 40
    assert (timeline.start_ns, timeline.end_ns) == (starts[0] * 10**9, (at + 1) * 10**9)
    total = timeline.total()
    assert total.stable == {"1": rows.sum()}
    assert total.candidate == {"2": blocks}
    assert total.lost == blocks
    assert total.evidence_s == evidence.max()
    assert total.stable_loss.rows == rows.sum()
    assert total.stable_loss.mean == pytest.approx(0.5)
    for start_ns, bucket in buckets:
        inside = [
            value
            for value, start in zip(evidence, starts, strict=True)
            if start_ns <= start * 10**9 < start_ns + width_ns
        ]
        assert bucket.evidence_s == max(inside)


@pytest.mark.parametrize(("wrong", "rows"), [(0, 1), (0, 50), (7, 40), (40, 40), (300, 10_000)])
def test_intervals_are_those_of_wilson(wrong: int, rows: int) -> None:
    expected = binomtest(wrong, rows).proportion_ci(0.95, "wilson")
    assert wilson(wrong / rows, rows) == pytest.approx((expected.low, expected.high), abs=1e-12)


def effect_of(reference: np.ndarray, live: np.ndarray, kind: str | None = None) -> Effect:
    feature = fit_feature(FeatureSpec("x", kind=kind), reference)
    values = encode_text(live, feature.codes()) if feature.is_text else live
    counts = count_slots(values, feature.starts, feature.high, feature.exact)
    return Effect(feature, {}, 0.0, False, counts)


def bars(reference: np.ndarray, live: np.ndarray, kind: str | None = None) -> Bars:
    found = bars_of(effect_of(reference, live, kind))
    assert found is not None
    assert found.reference.sum() == pytest.approx(1.0)
    assert found.live.sum() == pytest.approx(1.0)
    assert found.reference.min() >= 0
    assert found.live.min() >= 0
    assert found.tails or len(found.labels) == len(found.live)
    return found


def test_a_range_is_shown_between_its_tails_however_far_a_value_lies_out() -> None:
    random = np.random.default_rng(SEED)
    live = np.append(random.normal(size=5000), 1e6)
    found = bars(random.normal(size=50_000), live)
    assert found.tails
    assert found.reference[0] == pytest.approx(0.01, abs=0.002)
    assert found.live[-1] == pytest.approx(0.01, abs=0.006)
    assert np.abs(found.reference - found.live).max() < 0.02
    assert found.labels == ("−2.33", "2.33") or float(found.labels[1]) == pytest.approx(2.3, 0.1)


def test_a_value_that_many_rows_have_is_not_smeared_over_its_neighbours() -> None:
    random = np.random.default_rng(SEED)
    values = random.normal(10, 1, size=20_000)
    values[:5000] = 0.0
    found = bars(values, values)
    assert found.reference[1] == pytest.approx(0.25, abs=0.01)
    assert found.reference[2] == pytest.approx(0.0, abs=0.002)


def test_long_tails_to_the_right_are_shown_on_a_logarithm() -> None:
    random = np.random.default_rng(SEED)
    assert bars(random.lognormal(0, 3, 9000), random.lognormal(0, 3, 900)).logarithmic
    assert not bars(random.lognormal(0, 0.3, 9000), random.lognormal(0, 0.3, 900)).logarithmic


def test_a_constant_and_few_rows_can_be_shown() -> None:
    found = bars(np.full(300, 7.0), np.array([7.0, 7.0]))
    assert found.labels == ("7",)
    assert not found.tails
    assert bars(np.arange(5.0), np.array([9.0])).labels[-1] == "unseen"
    bars(np.full(300, 7.0), np.array([7.0, 9.0]), kind="continuous")
    bars(np.arange(3.0), np.array([1.0]), kind="continuous")


def test_many_numbers_share_bars_and_many_categories_a_rest() -> None:
    found = bars(np.repeat(np.arange(50.0), 4), np.arange(50.0))
    assert len(found.labels) <= 24
    words = np.array([f"word {i % 30:02}" for i in range(900)], dtype=object)
    shown = bars(words, np.array([*words[:60], "other"], dtype=object))
    assert len(shown.labels) == CATEGORIES_SHOWN + 2
    assert shown.labels[-2:] == ("22 more", "unseen")
    assert shown.live[-1] == pytest.approx(1 / 61)


def test_nothing_is_drawn_of_rows_without_a_value() -> None:
    missing = effect_of(np.arange(100.0), np.full(10, np.nan))
    assert missing.live[MISSING] == 10
    assert bars_of(missing) is None
    empty = Effect(missing.feature, {}, 0.0, False, np.zeros(SLOTS, dtype=np.int64))
    assert bars_of(empty) is None


@pytest.mark.parametrize("span_s", [0, 1, 59, 3600, 5 * 3600, 86_400, 40 * 86_400, 4e8, 3e9])
@pytest.mark.parametrize("width", [340, 960])
def test_an_axis_has_a_few_marks_whatever_it_spans(span_s: float, width: int) -> None:
    frame = Frame(width, 200)
    scale = Scale(1.7e9, 1.7e9 + span_s, frame.left, frame.end)
    labels = [part for part in time_axis(scale, frame, UTC) if part.startswith("<text")]
    assert len(labels) <= (width // 90) + 1


@pytest.mark.parametrize(("high", "last"), [(0.0, 0.0), (1.0, 1.0), (0.33, 0.3), (0.001, 0.001)])
def test_steps_are_round_and_reach_the_top(high: float, last: float) -> None:
    steps = round_steps(high)
    assert steps[0] == 0
    assert steps[-1] == pytest.approx(last)
    assert len(steps) <= 6
