"""Charts are well-formed XML whatever the data."""

import re
import xml.etree.ElementTree as ET

import pytest

from driftgate.story.charts import bar_pairs, line_chart, stacked_shares
from driftgate.story.pictures import _shift
from driftgate.story.report import FeatureShift, Report, render


def parse(markup: str) -> ET.Element:
    return ET.fromstring(f"<div>{markup}</div>")


@pytest.mark.parametrize(
    "points", [[], [(0.0, 0.0)], [(0.0, 1.0), (1.0, 1.0)], [(1.0, -3.0), (2.0, 5.0)]]
)
def test_a_line_chart_stands_any_number_of_points(points):
    parse(line_chart({"a<b": points}, y_label="x & y", threshold=4.0, marks=[(1.0, "<here>")]))


def test_the_threshold_line_lies_inside_the_drawing():
    markup = line_chart({"a": [(0.0, 0.0), (1.0, 1.0)]}, y_label="y", threshold=100.0)
    line = next(e for e in parse(markup).iter("line") if e.get("class") == "threshold")
    assert 0 < float(line.get("y1")) < 240


def test_bars_are_shares_so_samples_of_any_size_compare():
    small = parse(bar_pairs([1, 3], [1, 3], ("a", "b")))
    heights = [float(rect.get("height")) for rect in small.iter("rect")]
    large = parse(bar_pairs([1, 3], [1000, 3000], ("a", "b")))
    assert [float(rect.get("height")) for rect in large.iter("rect")] == heights
    parse(bar_pairs([0, 0], [0, 0], ("a", "b")))


def test_shares_stack_up_to_the_whole():
    markup = stacked_shares({"1": [(0.0, 30.0)], "2": [(0.0, 10.0)]}, 1.0)
    heights = [float(rect.get("height")) for rect in parse(markup).iter("rect")]
    assert sum(heights) == pytest.approx(240 - 16 - 36, abs=0.2)
    assert heights[0] == pytest.approx(3 * heights[1], abs=0.3)


def test_the_report_escapes_what_it_shows():
    report = Report(
        {"<key>": "<value>"}, [(0.0, "<script>")], [FeatureShift("<f>", [1], [1], 0.5)],
        {}, 5.0, {}, {}, 1.0,
    )  # fmt: skip
    page = render(report)
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert not re.search(r'(src|href)="http', page)


def test_what_lies_beside_the_references_range_has_bars_of_its_own():
    shift = {
        "name": "f", "ks": 0.5, "starts": [0.0], "high": 0.0, "reference": [9], "live": [4],
        "special": {"below": {"reference": 0, "live": 2}, "above": {"reference": 1, "live": 3}},
    }  # fmt: skip
    found = _shift(shift)
    assert list(found.reference) == [0, 9, 1]
    assert list(found.live) == [2, 4, 3]


def test_bins_of_any_width_are_drawn_over_the_references_range():
    shift = {
        "name": "f", "ks": 0.5, "starts": [0.0, 1.0], "high": 32.0, "reference": [5, 7],
        "live": [1, 2],
        "special": {"below": {"reference": 0, "live": 0}, "above": {"reference": 0, "live": 0}},
    }  # fmt: skip
    found = _shift(shift)
    assert sum(found.reference) == 12
    assert found.reference[1] == 5
    assert found.live.index(2) == 1 + 16
