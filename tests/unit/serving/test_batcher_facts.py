"""What several workers' batchers do together."""

import json
from dataclasses import asdict, replace

from serving.core.batcher_facts import BatcherFacts, together
from serving.core.latency import Point

ONE = BatcherFacts(
    inline=True,
    inline_at_load=True,
    load_run_ns=100,
    mean_run_ns=50,
    instances=3,
    hold_ns=0,
    running=0,
    queued=2,
    rows_queued=4,
    shapes_queued=1,
    oldest_wait_ns=7,
    refused_full=3,
    refused_late=1,
    refused_standing=2,
    slowed_by=1.0,
    work_is_rows=True,
    profile=(Point(1, 3, 10, 20), Point(4, 1, 40, 50)),
)
OTHER = replace(
    ONE,
    inline=False,
    load_run_ns=None,
    mean_run_ns=90,
    running=2,
    shapes_queued=3,
    oldest_wait_ns=5,
    profile=(Point(1, 1, 30, 15), Point(2, 1, 12, 13)),
)


def test_facts_survive_their_json():
    assert BatcherFacts.from_json(json.loads(json.dumps(asdict(ONE)))) == ONE


def test_counts_add_up_and_the_greatest_time_counts():
    found = together([ONE, OTHER])
    assert (found["workers"], found["inline_workers"], found["inline_at_load_workers"]) == (2, 1, 2)
    assert (found["load_run_ns"], found["mean_run_ns_max"], found["oldest_wait_ns"]) == (100, 90, 7)
    assert (found["queued"], found["rows_queued"], found["running"]) == (4, 8, 2)
    assert (found["refused_full"], found["refused_late"]) == (6, 2)
    assert found["refused_standing"] == 4
    assert found["shapes_queued_max"] == 3


def test_the_event_loop_is_one_instance_however_many_are_configured():
    assert together([ONE])["instances"] == 1
    assert together([ONE, OTHER])["instances"] == 4


def test_profiles_are_weighted_by_their_runs():
    assert together([ONE, OTHER])["profile"] == [
        {"work": 1, "runs": 4, "mean_ns": 15, "high_ns": 20},
        {"work": 2, "runs": 1, "mean_ns": 12, "high_ns": 13},
        {"work": 4, "runs": 1, "mean_ns": 40, "high_ns": 50},
    ]


def test_what_was_never_measured_is_not_zero():
    assert together([OTHER])["load_run_ns"] is None


def test_what_a_run_pays_of_padding_is_told_of_those_that_pad():
    assert together([ONE, OTHER])["positions_paid"] is None
    pads = replace(OTHER, positions_paid=9)
    assert together([pads, replace(pads, positions_paid=4)])["positions_paid"] == 9
    assert BatcherFacts.from_json(json.loads(json.dumps(asdict(pads)))) == pads
