"""The benchmarks run, check their answers and say what they measured."""

import json
import os
import subprocess
import sys

import pytest

from driftgate.cli import main
from driftgate.errors import Exit
from tests.broker.broker import running_broker
from tests.conftest import ROOT, require


def bench(*words):
    done = subprocess.run(
        [sys.executable, "-m", "driftgate", "bench", *words, "-o", "json"],
        cwd=ROOT, capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.ci
def test_the_requests_benchmark_measures_a_checked_gateway():
    require("wrk")
    result = bench("requests", "--seconds", "1", "--rounds", "1")
    assert result["median"]["requests_per_s"] > 0
    assert result["median"]["cpu_us_per_request"] > 0
    assert result["machine"]["packages"]["onnxruntime"]
    assert result["alone"]["http_ms"] > result["alone"]["run_ms"] > 0
    if (os.cpu_count() or 1) > 1:
        times = result["two_workers"]["times_one"]
        assert 0 < times["low"] < times["mean"] < times["high"]


@pytest.mark.ci
def test_the_log_benchmark_measures_what_it_adds_and_who_reads_it(tmp_path):
    require("wrk")
    with running_broker(tmp_path) as broker:
        result = bench(
            *("log", "--seconds", "1", "--pairs", "2", "--kafka", broker.address),
            *("--hurt", f"kill -STOP {broker.pid}", "--heal", f"kill -CONT {broker.pid}"),
        )
    assert result["cost"]["added_cpu_us"]["low"] < result["cost"]["added_cpu_us"]["high"]
    trace = result["cost"]["traceparent_cpu_us"]
    assert trace["low"] < trace["mean"] < trace["high"]
    assert result["shipper"]["rows_per_cpu_s"] > 0
    assert result["monitor"]["rows_per_cpu_s"] > 0
    assert result["hurt"]["p99_ratio"]["median"] > 0
    assert result["hurt"]["failed"] == 0


@pytest.mark.ci
def test_the_control_benchmark_rolls_back_two_gateways_and_ends_them(tmp_path):
    with running_broker(tmp_path) as broker:
        result = bench(
            *("control", "--rollbacks", "2", "--kafka", broker.address),
            *("--hurt", f"kill -STOP {broker.pid}", "--heal", f"kill -CONT {broker.pid}"),
        )
    rollback = result["rollback"]
    assert 0 < rollback["here_ms"]["median"] <= rollback["both_ms"]["median"]
    for exits in (result["exit_well_s"], result["exit_hurt_s"]):
        assert exits["gateway"] > 0
        assert exits["shipper"] > 0


def test_the_log_benchmark_hurts_no_broker_that_it_cannot_heal(capsys):
    assert main(["bench", "log", "--kafka", "localhost:1", "--hurt", "true"]) == Exit.USAGE
    assert "--heal" in capsys.readouterr().err
    assert main(["bench", "log", "--hurt-only"]) == Exit.USAGE
    assert "--hurt-only" in capsys.readouterr().err


@pytest.mark.ci
def test_the_monitor_benchmark_measures_distributions_and_the_whole_way():
    result = bench("monitor", "--seconds", "0.01", "--features", "5", "--rows", "100")
    assert result["counting_values_per_s"]["normal(0, 1)"] > 0
    assert result["end_to_end_values_per_s"] > 0
    assert main(["bench", "monitor", "--rows", "0"]) == Exit.USAGE


@pytest.mark.ci
def test_the_load_benchmark_loads_beside_predictions_that_do_not_fail():
    result = bench("load", "--pairs", "2", "--seconds", "1", "--megabytes", "20")
    assert result["failed"] == 0
    assert result["loads"] >= 2
    assert result["p99_ms_loading"] > 0


@pytest.mark.ci
def test_scenarios_find_no_wrong_reply_while_versions_change():
    result = bench("scenario", "swap", "--quick")
    before, during, _ = result["phases"]
    assert during["changes"] >= 1
    for phase in (before, during):
        assert phase["requests"] > 0
        assert phase["wrong"] == phase["unanswered"] == phase["refused"] == 0
