"""What workers counted, as Triton's clients read it."""

import subprocess
from pathlib import Path

import pytest

from protos import inference_pb2 as pb
from serving import metrics
from serving.core.message_json import to_plain
from serving.metrics import MetricsSlab, Totals, read_slab
from serving.statistics import model_statistics, triton_metrics
from serving.worker.counters import ExecutionTimes, VersionMetrics


def counted(path: Path, last_ms: int) -> Totals:
    """One run of 3 requests with 5 rows together, of which one request failed."""
    slab = MetricsSlab(path)
    version = VersionMetrics(slab, "m", "1")
    times = ExecutionTimes(input_ns=10, infer_ns=100, queue_ns=7, output_ns=20)
    version.executed(times, rows=5, requests=2, success_ns=300, last_ms=last_ms)
    version.failed("http", 500, took_ns=40)
    return read_slab(path)


@pytest.fixture
def totals(tmp_path: Path) -> Totals:
    both = Totals()
    both.add(counted(tmp_path / "a.metrics", last_ms=2_000))
    both.add(counted(tmp_path / "b.metrics", last_ms=1_000))
    return both


def duration(found: pb.StatisticDuration) -> tuple[int, int]:
    return found.count, found.ns


def test_requests_of_all_workers_add_up_and_the_last_one_is_the_last(totals: Totals) -> None:
    (found,) = model_statistics(totals, [("m", "1")]).model_stats
    assert (found.name, found.version, found.last_inference) == ("m", "1", 2_000)
    assert (found.inference_count, found.execution_count) == (10, 2)
    inference = found.inference_stats
    assert duration(inference.success) == (4, 600)
    assert duration(inference.fail) == (2, 80)


def test_every_request_counts_the_whole_time_of_its_batch(totals: Totals) -> None:
    (found,) = model_statistics(totals, [("m", "1")]).model_stats
    inference = found.inference_stats
    assert duration(inference.queue) == (4, 28)
    assert duration(inference.compute_input) == (4, 40)
    assert duration(inference.compute_infer) == (4, 400)
    assert duration(inference.compute_output) == (4, 80)
    (batch,) = found.batch_stats
    assert batch.batch_size == 5
    assert duration(batch.compute_input) == (2, 20)
    assert duration(batch.compute_infer) == (2, 200)
    assert duration(batch.compute_output) == (2, 40)


def test_a_version_that_ran_nothing_has_zeros_and_one_not_asked_for_is_left_out(
    totals: Totals,
) -> None:
    (found,) = model_statistics(totals, [("m", "2")]).model_stats
    assert to_plain(found)["inference_stats"]["cache_hit"] == {"count": 0, "ns": 0}
    assert found.inference_count == 0
    assert not found.batch_stats


def test_batch_sizes_that_found_no_room_are_left_out(totals: Totals) -> None:
    key = (metrics.BATCH_STATISTICS.name, "other", "other", "other")
    totals.cells[key] = [1.0] * 4
    (found,) = model_statistics(totals, [("m", "1")]).model_stats
    assert [batch.batch_size for batch in found.batch_stats] == [5]


def test_tritons_metrics_say_the_same_and_are_clean(totals: Totals, promtool: str) -> None:
    text = triton_metrics(totals).decode()
    lines = text.splitlines()
    version = 'model="m",version="1"'
    assert f"nv_inference_request_success{{{version}}} 4" in lines
    assert f"nv_inference_count{{{version}}} 10" in lines
    assert f"nv_inference_exec_count{{{version}}} 2" in lines
    assert f"nv_inference_compute_infer_duration_us{{{version}}} 0" in lines  # 400 ns
    backend = 'model="m",reason="BACKEND",version="1"'
    assert f"nv_inference_request_failure{{{backend}}} 2" in lines
    assert f"nv_inference_request_failure{{{backend.replace('BACKEND', 'REJECTED')}}} 0" in lines
    # Triton's names do not end in _total, which promtool's lint would have.
    done = subprocess.run(
        [promtool, "check", "metrics"], input=text, capture_output=True, text=True
    )
    complaints = [line for line in done.stdout.splitlines() if "_total" not in line]
    assert not complaints
    assert done.returncode in {0, 3}, done.stderr


def test_plain_values_have_every_field_and_numbers_for_64_bits() -> None:
    message = pb.ModelStatistics(name="m", last_inference=2**60)
    message.response_stats["0"].success.count = 1
    plain = to_plain(message)
    assert plain["last_inference"] == 2**60
    assert plain["batch_stats"] == []
    assert "inference_stats" not in plain  # a message that is not set has no value
    assert plain["response_stats"]["0"]["success"] == {"count": 1, "ns": 0}
