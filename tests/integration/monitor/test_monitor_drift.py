"""`driftgate monitor drift` and the page it reads: what is shown of which feature."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from driftgate.cli import main
from monitor.core.bins import SLOTS, count_slots
from monitor.core.distinct_values import NOTHING, live_distinct
from monitor.core.effects import Effect, effect_sizes
from monitor.core.profile import FeatureSpec, fit_feature
from monitor.core.statistics import HEADLINE, STATISTICS, Binned
from monitor.published import Published, Snapshot
from tests.monitor_served import served

SEED = 20261128


def effect_of(name: str, reference: np.ndarray, live: np.ndarray, evidence: float | None) -> Effect:
    feature = fit_feature(FeatureSpec(name), reference)
    if feature.is_text:
        codes = feature.codes()
        live = np.array([codes[value] for value in live])
    counts = count_slots(live, feature.starts, feature.high, feature.exact)
    sizes = effect_sizes([feature], Binned.of_features([feature], counts[None]), HEADLINE)
    named = evidence is not None and evidence > 10
    values = {key: float(found[0]) for key, found in sizes.items()}
    distinct = None if evidence is None else live_distinct(feature, counts, NOTHING)
    return Effect(feature, values, evidence, named, counts, distinct)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    random = np.random.default_rng(SEED)
    words = np.array(["red", "green", "blue"], dtype=object)
    amount = effect_of("amount", random.normal(size=4000), random.normal(0.5, 1, size=900), 12.0)
    colour = effect_of("a/b", random.choice(words, 4000), random.choice(words, 900), -3.0)
    answer = effect_of("prediction", random.choice(words, 4000), random.choice(words, 900), None)
    quiet = fit_feature(FeatureSpec("quiet"), random.normal(size=100))
    silent = Effect(quiet, dict.fromkeys(HEADLINE, float("nan")), 0.0, False, np.zeros(SLOTS, int))
    effects = {"m": [amount, colour, silent, answer], "bare": []}
    published = Published(Snapshot(ready=True, effects=effects))
    with served(published, tmp_path_factory.mktemp("m") / "none.db") as url:
        yield url


def shown(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str, str]:
    code = main(["monitor", "drift", *words])
    said = capsys.readouterr()
    return code, said.out, said.err


def asked(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    code, out, _ = shown(capsys, *words, "-o", "json")
    assert code == 0
    document: dict[str, Any] = json.loads(out)
    return document


def test_a_model_shows_every_feature_and_which_moved(url: str, capsys: Any) -> None:
    code, out, _ = shown(capsys, "m", "--url", url)
    lines = out.splitlines()
    assert code == 0
    assert lines[0].split() == [
        "feature", "kind", "rows", "ks", "psi", "js", "wasserstein", "distinct", "moved",
    ]  # fmt: skip
    assert [line.split()[0] for line in lines[1:]] == ["amount", "a/b", "quiet", "prediction"]
    assert lines[1].endswith("yes")
    assert " - " in lines[2] + " "  # no distance between colours
    assert lines[2].endswith(" 3 > 3")


def test_a_model_in_json_has_all_effect_sizes(url: str, capsys: Any) -> None:
    document = asked(capsys, "m", "--url", url)
    amount = document["features"][0]
    assert set(amount["statistics"]) == set(STATISTICS)
    assert amount["statistics"]["mean_shift"] == pytest.approx(0.5, abs=0.15)
    assert amount["statistics"]["cramers_v"] is None  # not of a continuous feature
    assert [item["distinct"] for item in document["features"]] == [
        None, {"reference": 3, "live": 3}, None,
    ]  # fmt: skip
    assert document["predictions"][0]["distinct"] is None
    assert document["features_left_out"] == 0
    assert [item["name"] for item in document["predictions"]] == ["prediction"]


def test_a_feature_shows_the_whole_table(url: str, capsys: Any) -> None:
    document = asked(capsys, "m", "--feature", "amount", "--url", url)
    named = {item["name"]: item for item in document["statistics"]}
    told = {name for name, item in STATISTICS.items() if document["kind"] in item.kinds}
    assert set(named) == told
    for item in named.values():
        assert item["low"] <= item["high"]
        assert 0 < item["p_value"] <= 1
    assert named["mann_whitney"]["p_value"] < 1e-6
    assert document["summary"]["live"]["mean"] == pytest.approx(0.5, abs=0.15)
    assert document["summary"]["reference"]["p50"] == pytest.approx(0.0, abs=0.1)
    code, out, _ = shown(capsys, "m", "--feature", "amount", "--url", url)
    assert code == 0
    for item in named.values():
        assert f"\n{item['title']} " in out
    _, out, _ = shown(capsys, "m", "--feature", "a/b", "--url", url)
    assert "distinct values, reference > live: 3 > 3" in out


def test_a_name_with_a_slash_and_a_feature_without_rows_are_shown(url: str, capsys: Any) -> None:
    document = asked(capsys, "m", "--feature", "a/b", "--url", url)
    assert document["kind"] == "categorical"
    assert document["summary"] is None
    code, out, _ = shown(capsys, "m", "--feature", "quiet", "--url", url)
    assert code == 0
    assert "0 live rows against 100 of the reference" in out


def test_a_model_without_a_reference_says_so(url: str, capsys: Any) -> None:
    assert "no reference" in shown(capsys, "bare", "--url", url)[1]


@pytest.mark.parametrize("words", [("none",), ("m", "--feature", "none")])
def test_what_is_not_watched_is_refused_with_a_sentence(
    url: str, capsys: Any, words: tuple[str, ...]
) -> None:
    code, _, said = shown(capsys, *words, "--url", url)
    assert code == 1
    assert "has seen no prediction of a model" in said


def test_the_address_is_the_one_that_the_monitor_left(
    url: str, capsys: Any, tmp_path: Path
) -> None:
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor" / "address").write_text(url.removeprefix("http://") + "\n")
    code, out, _ = shown(capsys, "m", "--state-dir", str(tmp_path))
    assert code == 0
    assert "amount" in out


def test_no_monitor_is_said_with_a_hint(capsys: Any, tmp_path: Path) -> None:
    (tmp_path / "monitor").mkdir()
    (tmp_path / "monitor" / "address").write_text("127.0.0.1:1\n")
    code, _, said = shown(capsys, "m", "--state-dir", str(tmp_path))
    assert code == 4
    assert "no monitor answers" in said
    assert "hint" in said
