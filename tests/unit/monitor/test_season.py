"""The hours of the week, a reference's answers in each, and the null that follows."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import log

import numpy as np
import pytest
from scipy.stats import norm

from monitor.core.bins import MISSING, UNSEEN, Counts
from monitor.core.data_quality import broken_features
from monitor.core.events import Group, make_events
from monitor.core.evidence import Bets
from monitor.core.season import EDGES, UNITS, Nulls, season_of
from monitor.core.season_reference import (
    HOUR_NS,
    HOURS,
    WATCHED_MAX,
    SeasonReference,
    hours_between,
    hours_of,
)
from monitor.core.watched import Stable, Yardstick
from monitor.profile import FeatureSpec, ProfileError, ReferenceProfile, build_profile
from tests.monitor_world import SETTINGS
from tests.seasonal_world import MONDAY_NS, SPECS, reference, rows_at

SEED = 20261130
TOLERANCE = 0.02
MINUTE_NS = 60 * 10**9


@pytest.fixture(scope="module")
def profile() -> ReferenceProfile:
    print("seed", SEED)
    return reference(np.random.default_rng(SEED), 60)


def counted(yardstick: Yardstick, inputs: np.ndarray, said: np.ndarray) -> Counts:
    named = {
        "x": inputs[:, :3].astype(np.float64),
        "shop": np.array([shop.encode() for shop in inputs[:, 3]], dtype=object),
    }
    counts = yardstick.counter.empty()
    assert yardstick.counter.count(named, {"label": said}, counts)
    return counts


def season(profile: ReferenceProfile) -> SeasonReference:
    assert profile.season is not None
    return profile.season


def nulls(profile: ReferenceProfile) -> Nulls:
    return Nulls.of(profile, season(profile), make_events(profile, EDGES), TOLERANCE)


def test_hours_are_those_of_the_calendar_in_utc() -> None:
    start = datetime(1969, 12, 25, 7, 59, 59, tzinfo=UTC)
    moments = [start + timedelta(minutes=37 * i) for i in range(2000)]
    times_ns = np.array([round(moment.timestamp()) for moment in moments]) * 10**9
    assert hours_of(times_ns).tolist() == [m.weekday() * 24 + m.hour for m in moments]


def test_a_block_lies_in_every_hour_that_it_touches() -> None:
    assert hours_between(MONDAY_NS, MONDAY_NS + HOUR_NS).tolist() == [0]
    assert hours_between(MONDAY_NS - 1, MONDAY_NS + HOUR_NS + 1).tolist() == [167, 0, 1]
    assert sorted(hours_between(0, 400 * HOUR_NS)) == list(range(HOURS))


def test_answers_by_hour_are_those_of_a_reference_of_its_rows_alone() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    times_ns = MONDAY_NS + random.integers(0, 3 * HOURS * HOUR_NS, 9000)
    inputs, said = rows_at(random, hours_of(times_ns))
    whole = build_profile(inputs, SPECS, said, times_ns=times_ns)
    found, events = season(whole), make_events(whole, EDGES)
    for hour in (0, 30, 167):
        own = hours_of(times_ns) == hour
        assert found.rows[hour] == np.count_nonzero(own)
        for v in range(events.size):
            f, place = int(events.feature[v]), int(events.place[v])
            values = said if f == 4 else inputs[:, f]
            feature = (*whole.features, *whole.predictions)[f]
            if events.cumulative[v]:
                numbers = values[own].astype(float)
                edge = feature.starts[place] if place < feature.starts.size else np.inf
                # Below nothing but what is below the first bin, up to all that has a place.
                expected = np.count_nonzero(numbers < edge)
            elif place == MISSING:
                expected = sum(value != value for value in values[own])
            elif place < len(feature.categories):
                expected = np.count_nonzero(values[own].astype(str) == feature.categories[place])
            else:
                expected = 0
            assert found.yes[hour, v] == expected, (hour, feature.name, place)
            valued = sum(value == value for value in values[own])
            assert found.values[hour, f] == valued
    assert found.rows.sum() == 9000
    for f, feature in enumerate((*whole.features, *whole.predictions)):
        assert found.held[:, f].sum() == feature.held
        assert found.novel[:, f].sum() == feature.novel


def test_values_that_half_of_the_rows_lack_are_novel_in_the_hour_of_the_others() -> None:
    """Text and numbers; each value but one comes once, so every held one is new."""
    rows = 2000
    times_ns = MONDAY_NS + np.arange(rows) % HOURS * HOUR_NS
    names = np.array([f"n{i}" for i in range(rows)], dtype=object)
    names[0] = None
    found = season(build_profile(names[:, None], [FeatureSpec("name")], times_ns=times_ns))
    whole = build_profile(names[:, None], [FeatureSpec("name")]).features[0]
    assert found.novel.sum() == whole.novel == whole.held == found.held.sum()
    assert found.held[:, 0].max() <= -(-rows // HOURS)


def test_a_season_is_part_of_a_profiles_bytes(profile: ReferenceProfile) -> None:
    back = ReferenceProfile.from_bytes(profile.to_bytes())
    assert back.to_bytes() == profile.to_bytes()
    assert season(back).asked == season(profile).asked
    without = json.loads(profile.to_bytes())
    del without["season"]
    assert ReferenceProfile.from_bytes(json.dumps(without).encode()).season is None


def broken(profile: ReferenceProfile, part: str) -> bytes:
    tree = json.loads(profile.to_bytes())
    found = tree["season"]
    match part:
        case "place":
            found["asked"][0][0] = 300
        case "features":
            found["asked"].pop()
        case "shape":
            found["yes"].pop()
        case "sign":
            found["rows"][3] = -1
        case "more":
            found["yes"][5][0] = found["rows"][5] + 1
        case "large":
            found["rows"][0] = 2**40
        case "worth":
            found["effective"][1] = 1.5
        case "novel":
            found["novel"][0][2] = found["held"][0][2] + 1
        case _:
            del found[part]
    return json.dumps(tree).encode()


@pytest.mark.parametrize(
    "part",
    ["place", "features", "shape", "sign", "more", "large", "novel", "worth", "rows", "asked"],
)
def test_a_damaged_season_is_refused(profile: ReferenceProfile, part: str) -> None:
    with pytest.raises(ProfileError):
        ReferenceProfile.from_bytes(broken(profile, part))


def test_times_that_are_not_of_the_rows_and_too_many_features_are_refused() -> None:
    rows = np.zeros((4, WATCHED_MAX + 1))
    specs = [FeatureSpec(f"f{i}") for i in range(WATCHED_MAX + 1)]
    with pytest.raises(ProfileError, match="at most 256"):
        build_profile(rows, specs, times_ns=np.zeros(4, dtype=np.int64))
    whole = build_profile(rows[:, :1], specs[:1])
    with pytest.raises(ProfileError, match="times have shape"):
        season_of(whole, [rows[:, 0]], np.zeros(3, dtype=np.int64))


def test_every_hours_truth_is_within_its_bounds_and_they_are_no_wider_than_the_rows_ask(
    profile: ReferenceProfile,
) -> None:
    """The truth: a far larger sample of the hour, counted in the same bins."""
    found = nulls(profile)
    random = np.random.default_rng(SEED + 1)
    yardstick = Yardstick(profile, replace(SETTINGS, tolerance=TOLERANCE))
    for hour in (3, 60, 150):
        inputs, said = rows_at(random, np.full(20_000, hour))
        counts = counted(yardstick, inputs, said)
        yes, totals = yardstick.events.answers(counts)
        share = yes / totals
        assert np.all(share <= found.rise[hour] / UNITS)
        assert np.all(1.0 - share <= found.fall[hour] / UNITS)
    assert np.nanmedian(found.rise / UNITS - found.share) < 0.5


def test_an_hour_without_rows_bets_nothing_and_one_with_few_not_on_every_edge() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    hours = np.concatenate([np.repeat(np.arange(24), 200), [30] * 3])
    values = np.concatenate([random.normal(size=4800), [5.0] * 3])[:, None]
    whole = build_profile(
        values, [FeatureSpec("x", kind="continuous")], times_ns=MONDAY_NS + hours * HOUR_NS
    )
    found, events = nulls(whole), make_events(whole, EDGES)
    assert np.all(found.rise[100] == UNITS)
    assert np.all(found.fall[100] == UNITS)
    assert np.all(np.isnan(found.share[100]))
    middle = int(np.argmin(np.abs(events.share - 0.5)))
    assert np.isnan(found.share[30, middle])  # three rows leave no room for an edge
    assert found.rise[5, middle] < UNITS


def test_few_rows_of_an_hour_are_drawn_to_the_whole(profile: ReferenceProfile) -> None:
    few = replace(
        season(profile),
        **{name: getattr(season(profile), name) // 10 for name in ("rows", "values", "yes")},
    )
    events, many = make_events(profile, EDGES), nulls(profile)
    found = Nulls.of(profile, few, events, TOLERANCE)
    apart = np.abs(found.share - events.share), np.abs(many.share - events.share)
    both = ~np.isnan(apart[0]) & ~np.isnan(apart[1])
    assert np.mean(apart[0][both]) < 0.6 * np.mean(apart[1][both])


def bets_of(yardstick: Yardstick) -> Bets:
    return yardstick.bets[Group.FEATURES]


def test_bets_against_their_own_bounds_are_the_bets_that_they_were(
    profile: ReferenceProfile,
) -> None:
    yardstick = Yardstick(replace(profile, season=None), SETTINGS)
    events, bets = yardstick.events, bets_of(yardstick)
    rise = events.share + events.error + SETTINGS.tolerance
    fall = 1.0 - events.share + events.error + SETTINGS.tolerance + events.unseen
    same = bets.against(rise, fall)
    np.testing.assert_allclose(same.idle, bets.idle, rtol=1e-12)
    np.testing.assert_allclose(same.slope, bets.slope, rtol=1e-12)


def test_evidence_against_no_room_waits(profile: ReferenceProfile) -> None:
    bets = bets_of(Yardstick(profile, SETTINGS))
    size = int(bets.event.max()) + 1
    full, unknown = np.ones(size), np.full(size, np.nan)
    for bound in (full, unknown):
        m = bets.against(bound, bound).step(bets.start(), np.zeros(size), 7.0)
        assert np.all(m == 7.0)


def test_a_bet_has_mean_one_at_its_bound_and_never_loses_all(profile: ReferenceProfile) -> None:
    bets = bets_of(Yardstick(profile, SETTINGS))
    size = int(bets.event.max()) + 1
    for bound in (0.1, 0.6, 0.97):
        against = bets.against(np.full(size, bound), np.full(size, bound))
        at_bound = against.idle + against.slope * np.where(bets.rising, bound, 1.0 - bound)
        np.testing.assert_allclose(at_bound, 1.0, atol=1e-12)
        worst = np.minimum(against.idle, against.idle + against.slope)
        assert np.all(worst > 0.0)


def test_a_stretch_over_two_hours_is_held_against_their_bounds_by_their_rows(
    profile: ReferenceProfile,
) -> None:
    """Three blocks of 20 minutes, two of 60 rows in the first hour, one of 20 in the next."""
    yardstick = Yardstick(profile, replace(SETTINGS, block_ns=HOUR_NS // 3))
    stable = Stable.start("1", "d" * 64, 0, yardstick)
    stable.span = replace(stable.span, blocks=4)  # one is still to come
    random = np.random.default_rng(SEED)
    start_ns = MONDAY_NS + 4 * HOUR_NS + HOUR_NS // 3
    for place, rows in enumerate((60, 60, 20)):
        inputs, said = rows_at(random, np.full(rows, 4 + place // 2))
        counts = counted(yardstick, inputs, said)
        stable.step(counts, 0, 0, 1, start_ns + place * HOUR_NS // 3)
    size = yardstick.events.size
    rises = slice(size + 3, 2 * size + 3)  # after the losses and outliers
    assert yardstick.hours is not None
    rise = yardstick.hours.rise / UNITS
    of_all = np.flatnonzero(yardstick.events.of_all)
    expected = (120 * rise[4] + 20 * rise[5]) / 140
    found = stable.stretch.yes[rises] / stable.stretch.totals[rises]
    np.testing.assert_allclose(found[of_all], expected[of_all], rtol=1e-9)


def test_without_the_setting_the_whole_reference_judges(profile: ReferenceProfile) -> None:
    plain = Yardstick(profile, replace(SETTINGS, seasonal=False))
    never = Yardstick(replace(profile, season=None), SETTINGS)
    assert plain.hours is None
    assert never.hours is None
    np.testing.assert_array_equal(plain.limits, never.limits)
    np.testing.assert_array_equal(bets_of(plain).bound, bets_of(never).bound)


def test_values_that_the_reference_never_held_have_room_by_the_hour_too() -> None:
    """Ids: nearly every live one is new, in every hour."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    ids = np.array([f"u{i}" for i in random.integers(0, 10**6, 50_000)], dtype=object)
    times_ns = MONDAY_NS + random.integers(0, HOURS, ids.size) * HOUR_NS
    whole = build_profile(ids[:, None], [FeatureSpec("id")], times_ns=times_ns)
    found, events = nulls(whole), make_events(whole, EDGES)
    unseen = int(np.flatnonzero(events.of_all & (events.place == UNSEEN))[0])
    assert np.all(found.rise[:, unseen] == UNITS)


def test_what_is_usually_missing_at_an_hour_is_not_broken_then_and_is_at_another() -> None:
    """A feed that rests: 18 % of the ages lack at six in the morning, 2 % at six at night."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    yardstick = Yardstick(reference(random, 1000), replace(SETTINGS, tolerance=TOLERANCE))
    inputs, said = rows_at(random, np.full(20_000, 6))
    counts = counted(yardstick, inputs, said)
    profile = yardstick.profile

    def at(hour: int) -> tuple[str, ...]:
        start_ns = MONDAY_NS + hour * HOUR_NS
        usual = yardstick.usual(start_ns, start_ns + HOUR_NS // 2)
        return broken_features(profile, counts, TOLERANCE, usual)

    (by_whole,) = broken_features(profile, counts, TOLERANCE)
    assert by_whole.startswith("age is missing in 1")
    assert at(6) == ()
    assert at(18) == (by_whole,)
    assert Yardstick(replace(profile, season=None), SETTINGS).usual(0, HOUR_NS) is None


def test_independent_rows_are_bet_on_one_by_one_against_their_hour() -> None:
    print("seed", SEED)
    settings = replace(SETTINGS, independent_rows=True, block_ns=MINUTE_NS)
    yardstick = Yardstick(reference(np.random.default_rng(SEED), 300), settings)

    def evidence(of_hour: int) -> float:
        random = np.random.default_rng(SEED)
        stable = Stable.start("1", "d" * 64, 0, yardstick)
        for block in range(40):
            counts = counted(yardstick, *rows_at(random, np.full(50, of_hour)))
            stable.step(counts, 0, 0, 1, MONDAY_NS + 19 * HOUR_NS + block * MINUTE_NS)
        return stable.evidence(Group.FEATURES)

    page = log(settings.budget_s)
    assert evidence(19) < page < evidence(6)


WEEKS, OF_A_VISIT = 10, 60


def visited(random: np.random.Generator, alike: float) -> ReferenceProfile:
    """Each hour of some weeks; alike: the deviation of what rows of one visit share."""
    visits = np.arange(WEEKS * HOURS)
    mood = alike * random.normal(size=visits.size)
    times_ns = MONDAY_NS + np.repeat(visits, OF_A_VISIT) * HOUR_NS
    noise = np.sqrt(1.0 - alike**2) * random.normal(size=times_ns.size)
    of_hour = np.sin(np.repeat(visits, OF_A_VISIT) % 24)
    values = np.repeat(mood, OF_A_VISIT) + noise + of_hour
    specs = [FeatureSpec("x", kind="continuous", datatype="FP64")]
    return build_profile(values[:, None], specs, times_ns=times_ns)


def beyond(profile: ReferenceProfile) -> float:
    """The largest distance of an hour's share from the truth, over its bound."""
    found, events = nulls(profile), make_events(profile, EDGES)
    rest = season(profile)
    edges = np.append(profile.features[0].starts, np.inf)
    ratio = 0.0
    for v in np.flatnonzero(~events.of_all):
        truth = norm.cdf(edges[events.place[v]] - np.sin(np.arange(HOURS) % 24))
        share = rest.yes[:, v] / rest.rows
        room = (found.rise[:, v] < UNITS) & (found.fall[:, v] < UNITS)
        above = found.rise[room, v] / UNITS - TOLERANCE - share[room]
        below = found.fall[room, v] / UNITS - TOLERANCE - (1.0 - share[room])
        apart = (truth - share)[room]
        ratio = max(ratio, *(apart / above), *(-apart / below), 0.0)
    return ratio


def test_rows_are_worth_as_little_as_visits_of_an_hour_differ() -> None:
    """Independent rows are worth themselves; of 60 that share a third of their variance
    about one in 20 is left, 1 / (1 + 59 times what two of them have in common)."""
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    assert season(visited(random, 0.0)).effective[0] > 0.9
    alike = visited(random, np.sqrt(1 / 3))
    assert 0.03 < season(alike).effective[0] < 0.12
    assert beyond(alike) < 1.0
    as_independent = replace(season(alike), effective=np.ones(1))
    assert beyond(replace(alike, season=as_independent)) > 1.0


def test_a_feed_that_fails_for_hours_makes_rows_worth_less() -> None:
    print("seed", SEED)
    random = np.random.default_rng(SEED)
    visits = np.repeat(np.arange(WEEKS * HOURS), OF_A_VISIT)
    values = random.normal(size=visits.size)
    values[np.isin(visits, random.choice(WEEKS * HOURS, WEEKS * HOURS // 20))] = np.nan
    times_ns = MONDAY_NS + visits * HOUR_NS
    found = season(build_profile(values[:, None], [FeatureSpec("x")], times_ns=times_ns))
    assert found.effective[0] < 0.05


def test_where_no_hour_came_twice_rows_are_taken_as_they_are() -> None:
    rows = np.random.default_rng(SEED).normal(size=(HOURS * 5, 1))
    times_ns = MONDAY_NS + np.repeat(np.arange(HOURS), 5) * HOUR_NS
    found = season(build_profile(rows, [FeatureSpec("x")], times_ns=times_ns))
    assert found.effective.tolist() == [1.0]
