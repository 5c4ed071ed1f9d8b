"""What `driftgate explain` says about batchers of every kind."""

import pytest

from driftgate.commands.explain_words import as_lines, by_size
from serving.core.queue_settings import QueueSettings

MS = 1_000_000
SETTINGS = {name: getattr(QueueSettings(), name) for name in QueueSettings.__dataclass_fields__}
FORCE = {
    **SETTINGS,
    "max_batch_size": 64,
    "open_inputs": [],
    "padding": None,
    "inline_ns_max": 2 * MS,
    "slow_ns": 5 * MS,
}
TOGETHER = {
    "workers": 2,
    "inline_workers": 2,
    "inline_at_load_workers": 2,
    "load_run_ns": 150_000,
    "mean_run_ns_max": 40_000,
    "instances": 2,
    "hold_ns": 0,
    "running": 0,
    "queued": 0,
    "rows_queued": 0,
    "shapes_queued_max": 0,
    "oldest_wait_ns": 0,
    "refused_full": 0,
    "refused_late": 0,
    "refused_standing": 0,
    "slowed_by_max": 1.0,
    "work_is_rows": True,
    "profile": [{"work": 1, "runs": 9, "mean_ns": 10_000, "high_ns": 12_000}],
}
COUNTED = {
    "requests": 6,
    "rows": 9,
    "runs": 3,
    "mean_wait_ns": 80_000,
    "elements": {"sent": 0, "padding": 0},
    "failed": {},
    "batches": [],
}
ADMISSION = {"rows": 4, "rows_max": 16_384, "tenants": None}


def text(force=None, so=None, counted=None, model=None, **version):
    one = {
        "version": "1",
        "role": "stable",
        "weight": 100,
        "silent_workers": [],
        "in_force": {**FORCE, **(force or {})},
        "together": {**TOGETHER, **(so or {})},
        "counted": {**COUNTED, **(counted or {})},
        "workers": [{"index": i, "admission": ADMISSION} for i in range(2)],
        **version,
    }
    of_model = {"refused": {}, "cancelled": 0, "wait_s_max": {"p50": None, "p99": None}}
    document = {"model": "m", "versions": [one], "counted": {**of_model, **(model or {})}}
    return "\n".join(as_lines(document))


def test_a_fast_model_is_on_the_loop_because_of_what_was_measured():
    said = text()
    assert "m version 1: stable, 100 % of the traffic, on 2 workers" in said
    assert "on the event loop: the largest batch tried at load, of 64 rows at most, took" in said
    assert "took 150 µs, and up to 2 ms stay there" in said
    assert "6 requests with 9 rows in 3 runs, 3.0 rows a run; a request waited 80 µs" in said
    assert "a worker has 16,384 rows in flight for all models (held now: 4)" in said
    assert "Now nobody waits." in said
    assert "No request was refused." in said


@pytest.mark.parametrize(
    ("so", "sentence"),
    [
        ({"load_run_ns": 9 * MS}, "took 9 ms; only up to 2 ms stay on the event loop"),
        ({"load_run_ns": None}, "could not be measured at load; only up to 2 ms stay"),
        (
            {"inline_at_load_workers": 2, "mean_run_ns_max": 6 * MS},
            "in threads: they came to average above 5 ms, 6 ms lately; the largest batch",
        ),
        ({"inline_workers": 1, "inline_at_load_workers": 1}, "in threads on 1 of 2 workers"),
        ({"instances": 6}, "in threads, up to 6 at a time"),
    ],
)
def test_threads_have_their_reason(so, sentence):
    assert sentence in text(so={"inline_workers": 0, "inline_at_load_workers": 0, **so})


@pytest.mark.parametrize(
    ("force", "sentence"),
    [
        ({}, "Nobody waits for company: what came while the last batch ran is the next one, up to"),
        ({"max_batch_size": 0}, "Every request runs alone"),
        ({"max_batch_size": 0}, "by deadline, the earliest first."),
        ({"preferred_sizes": [8, 16]}, "in batches of 8, 16 rows where enough wait"),
        ({"open_inputs": ["ids", "mask"]}, "64 rows, if ids and mask have the same shape"),
        ({"preserve_ordering": True}, "in the order in which they came"),
        (
            {"priority_levels": 3, "default_priority_level": 2},
            "by 3 priorities (2 where none is named), then by deadline",
        ),
        ({"max_queue_size": 128}, "at most 128 requests of it wait on a worker, and"),
        (
            {"default_timeout_us": 20_000},
            "more than 20 ms is refused; requests may not name another timeout",
        ),
        ({"default_timeout_us": 20_000, "timeout_delays": True}, "runs when nobody else waits"),
        ({"default_timeout_us": 1, "allow_timeout_override": True}, "requests may name another"),
    ],
)
def test_what_is_in_force_is_said(force, sentence):
    assert sentence in text(force)


@pytest.mark.parametrize(
    ("force", "sentence"),
    [
        ({}, "A free session waits up to 500 µs for 64 rows; at most 64 run together."),
        ({"preferred_sizes": [8, 16]}, "500 µs for one of 8, 16 rows;"),
        ({}, "by deadline, the earliest first."),
    ],
)
def test_a_hold_is_said_as_it_is_in_force(force, sentence):
    assert sentence in text(force, so={"hold_ns": 500_000})


def test_what_waits_now_is_said():
    waits = {"queued": 5, "rows_queued": 9, "oldest_wait_ns": 3 * MS, "running": 1}
    said = text(so={**waits, "shapes_queued_max": 2})
    assert "Now 5 requests with 9 rows wait, of 2 shapes on one worker, one for 3 ms;" in said
    assert "1 batch in threads" in said


def test_refusals_are_told_by_reason_and_figure():
    said = text(
        so={"refused_late": 40, "refused_full": 1},
        counted={"failed": {"504": 3, "503": 1}},
        model={
            "refused": {"invalid": 1, "overload": 1_250},
            "cancelled": 1,
            "wait_s_max": {"p50": 0.001, "p99": None},
        },
    )
    assert (
        "1 request refused once read, since it was loaded: as many waited as max_queue_size" in said
    )
    assert (
        "40 requests refused once read, since it was loaded: the answer would have come after"
        in said
    )
    assert "3 requests ended with 504: deadline passed" in said
    assert said.index("1,250 requests refused: overload") < said.index("1 request refused: not as")
    assert "Half of the requests waited at most 1 ms for their run, 1 % more than 10 s." in said
    assert "1 client left before the reply." in said


def test_runs_that_are_slowed_down_are_said_to_be_so():
    assert "of late runs take 1.5 times as long" in text(so={"slowed_by_max": 1.5})
    assert "of late" not in text()


def test_a_worker_that_does_not_answer_is_named_and_counts_are_told_all_the_same():
    said = text(silent_workers=[0, 1], workers=[], together=None, in_force=None)
    assert "! not told by worker 0, 1, which did not answer in time" in said
    assert "6 requests with 9 rows in 3 runs" in said


def test_a_model_that_nobody_has_loaded_is_said_to_be_so():
    empty = {"refused": {}, "cancelled": 0, "wait_s_max": {"p50": None, "p99": None}}
    lines = as_lines({"model": "m", "versions": [], "counted": empty})
    assert lines[0] == "m: no worker has loaded a version of it"


def test_batch_sizes_are_told_in_classes_that_double():
    sizes = [(1, 10), (2, 4), (3, 1), (4, 3), (5, 1), (64, 2)]
    batches = [{"rows": rows, "runs": runs, "mean_run_ns": rows * 1000} for rows, runs in sizes]
    assert by_size(batches) == [
        ("1", 10, 1000),
        ("2", 4, 2000),
        ("3 to 4", 4, 3750),
        ("5 to 8", 1, 5000),
        ("33 to 64", 2, 64000),
    ]
    assert "3 to 4     4  19.0%   3.75 µs" in text(counted={"batches": batches})


def test_padding_is_said_with_what_it_may_cost_and_its_share():
    padding = {"axis": "sequence", "mask": "mask", "values": {}, "lengths": [16, 48]}
    said = text(
        {"padding": padding, "open_inputs": ["ids", "mask"]},
        so={"positions_paid": 11},
        counted={"elements": {"sent": 900, "padding": 100}},
    )
    assert "if ids and mask have the same shape but for 'sequence'." in said
    assert "Requests are padded along 'sequence' to 16, 48." in said
    assert "adds less than 11 positions" in said
    assert "Of the input elements that ran 10.0% were padding." in said
    assert "padding" not in text()


def test_tenants_are_counted_where_they_are_told_apart():
    assert "tenant" not in text()
    workers = [{"index": i, "admission": {**ADMISSION, "tenants": i}} for i in range(2)]
    assert "Tenants share these rows: 1 tenant on one worker now." in text(workers=workers)
