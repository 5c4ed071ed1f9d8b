"""The page on performance is what the kept results say, and is up to date."""

import xml.etree.ElementTree as ET

import pytest

from loadtests.performance import DOCS, PAGE, PLOT, RESULTS, page, plot, write

PHASE = {
    "phase": "half", "offered_per_s": 500.0, "good_per_s": 499.0, "good_share": 0.998,
    "p50_ms": 0.5, "p99_ms": 2.25, "p999_ms": 8.0, "refused": 1, "refused_p99_ms": 3.0,
    "wrong": 0, "unanswered": 0, "cpu_us_per_request": 40.0, "void": False,
}  # fmt: skip
MACHINE = {"cores": 2, "cpu": "CPU", "python": "3.11", "commit": "abc", "packages": {"numpy": "2"}}
SWEEP = {
    "scenario": "sweep", "what": "to the knee", "workers": 1, "connections": 64,
    "deadline_ms": 100.0, "capacity_per_s": 1000.0, "machine": MACHINE,
    "phases": [PHASE, {**PHASE, "phase": "all", "offered_per_s": 950.0, "void": True}],
}  # fmt: skip


def test_every_phase_has_its_line():
    text = page({"sweep": SWEEP})
    row = "| half | 500 | 499 | 99.80% | 0.50 | 2.25 | 8.00 | 1 | 3.0 | 0 | 0 | 40 |"
    assert row in text
    assert "all (void: the generator was late)" in text
    assert "right within 100 ms" in text
    assert "Measured at abc on 2 cores of CPU" in text


def test_the_plot_is_a_picture_with_a_line_for_each_quantile():
    root = ET.fromstring(plot(SWEEP))
    assert len(root.findall("{*}polyline")) == 3
    assert {"p50", "p99", "p99.9"} <= {text.text for text in root.findall("{*}text")}


@pytest.mark.parametrize("name", [PAGE, PLOT])
def test_the_page_is_what_is_made_of_the_results(tmp_path, name):
    write(RESULTS, tmp_path)
    assert (DOCS / name).read_text() == (tmp_path / name).read_text()
