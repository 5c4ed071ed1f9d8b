"""The document that every trigger carries."""

import json
import re

from monitor.triggers.core.request import (
    BRIEF_BYTES_MAX,
    FEATURES_MAX,
    Dataset,
    brief,
    cloud_event,
    make_request,
    request_id,
    standing_evidence,
)
from tests.unit.monitor.triggers.evidence import EVIDENCE

DATASET = Dataset("/data/x.parquet", "ab" * 32, 1000, 10, 7)


def test_the_id_is_the_same_for_the_same_action_and_fit_for_names_everywhere():
    made = request_id("monitor:a.b_C:retrain:0123:4")
    assert made == request_id("monitor:a.b_C:retrain:0123:4")
    assert made != request_id("monitor:a.b_C:retrain:0123:5")
    assert re.fullmatch(r"[a-z][a-z0-9-]{0,62}", made)


def test_a_request_has_what_a_trainer_needs():
    document = make_request("k", EVIDENCE, DATASET, "").document
    assert {"id", "model", "version", "digest", "features", "window_start_ns", "window_end_ns"} <= (
        document.keys()
    )
    assert document["dataset"] == {
        "path": "/data/x.parquet", "sha256": "ab" * 32, "bytes": 1000, "rows": 10, "labelled": 7,
    }  # fmt: skip
    assert make_request("k", EVIDENCE, None, "no room").document["dataset_missing"] == "no room"


def test_a_request_is_bounded_and_says_what_was_left_out():
    many = {**EVIDENCE, "features": [f"feature_{i}" for i in range(FEATURES_MAX + 7)]}
    document = make_request("k", many, DATASET, "").document
    assert (len(document["features"]), document["features_left_out"]) == (FEATURES_MAX, 7)
    short = brief({**document, "reason": "r" * 9000})
    assert len(json.dumps(short)) <= BRIEF_BYTES_MAX
    assert short["dataset"] == document["dataset"]
    assert "feature_0" in short["features"]
    assert "shifts" not in short


def test_an_event_is_a_cloud_event():
    event = cloud_event(make_request("k", EVIDENCE, None, "off"), "2026-01-31T12:00:00Z")
    assert (event["specversion"], event["type"]) == ("1.0", "io.driftgate.retrain.requested.v1")
    assert (event["source"], event["subject"]) == ("/models/fraud/versions/3", "fraud")
    assert event["id"] == event["data"]["id"] == request_id("k")


def test_evidence_without_a_verdict_has_the_fields_of_one_with():
    state = {
        "model": "fraud", "verdict": "healthy", "verdict_id": "", "evidence_s": 1.0, "end_ns": 100,
        "stable": {"version": "3", "digest": "d3"}, "candidate": None, "loss": {},
        "features": [
            {"name": "a", "named": True, "tensor": "x", "index": 0, "ks": 0.2, "psi": 0.1, "js": 0},
            {"name": "b", "named": False},
        ],
    }  # fmt: skip
    found = standing_evidence(state, "schedule", "7 days", 60)
    assert found.keys() == EVIDENCE.keys()
    assert (found["features"], found["version"], found["digest"]) == (["a"], "3", "d3")
    assert (found["window_start_ns"], found["window_end_ns"]) == (40, 100)
