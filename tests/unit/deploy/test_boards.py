"""The Grafana boards: generated, linted, and naming only metrics that exist."""

import json
import re

import pytest

from deploy.grafana import build
from monitor import metrics as monitor_metrics
from serving.metrics import CATALOGUE, Kind

BOARDS = build.render()


def test_the_committed_boards_are_what_the_builder_makes():
    kept = {path.name: path.read_text() for path in build.FOLDER.glob("*.json")}
    assert kept == BOARDS


def exposed_names() -> set[str]:
    names = set()
    for name, metric in CATALOGUE.items():
        suffixes = ("_bucket", "_sum", "_count") if metric.kind is Kind.HISTOGRAM else ("",)
        names |= {name + suffix for suffix in suffixes}
    for entry in monitor_metrics.CATALOGUE:
        names.add(f"driftgate_monitor_{entry.name}" + ("_total" if entry.counter else ""))
    return names


@pytest.mark.parametrize("name", BOARDS)
def test_every_query_names_metrics_and_labels_of_the_catalogue(name):
    for panel in json.loads(BOARDS[name])["panels"]:
        for target in panel["targets"]:
            used = set(re.findall(r"driftgate_\w+", target["expr"]))
            assert used <= exposed_names(), panel["title"]


@pytest.mark.parametrize("name", BOARDS)
def test_boards_follow_the_usual_rules(name):
    board = json.loads(BOARDS[name])
    assert board["editable"] is False
    assert next(v["name"] for v in board["templating"]["list"]) == "datasource"
    for panel in board["panels"]:
        assert panel["title"]
        assert panel["description"].endswith(".")
        assert panel["fieldConfig"]["defaults"]["unit"]
        assert panel["targets"]
        for target in panel["targets"]:
            assert 'job=~"$job"' in target["expr"]
            assert 'instance=~"$instance"' in target["expr"]
            if "rate(" in target["expr"]:
                assert "[$__rate_interval]" in target["expr"]
