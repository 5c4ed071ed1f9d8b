"""The benchmarks run, check their answers and say what they measured."""

import json
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
def test_the_model_benchmark_measures_a_checked_gateway():
    require("wrk")
    result = bench("model", "--seconds", "1", "--rounds", "1")
    assert result["median"]["requests_per_s"] > 0
    assert result["median"]["cpu_us_per_request"] > 0
    assert result["machine"]["packages"]["onnxruntime"]


@pytest.mark.ci
def test_the_log_benchmark_measures_what_it_adds_and_who_reads_it(tmp_path):
    require("wrk")
    with running_broker(tmp_path) as broker:
        result = bench(
            *("log", "--seconds", "1", "--pairs", "2", "--kafka", broker.address),
            *("--hurt", f"kill -STOP {broker.pid}", "--heal", f"kill -CONT {broker.pid}"),
        )
    assert result["cost"]["added_cpu_us"]["low"] < result["cost"]["added_cpu_us"]["high"]
    assert result["shipper"]["rows_per_cpu_s"] > 0
    assert result["monitor"]["rows_per_cpu_s"] > 0
    assert result["hurt"]["p99_ratio"]["mean"] > 0
    assert result["hurt"]["failed"] == 0


def test_the_log_benchmark_hurts_no_broker_that_it_cannot_heal(capsys):
    assert main(["bench", "log", "--kafka", "localhost:1", "--hurt", "true"]) == Exit.USAGE
    assert "--heal" in capsys.readouterr().err


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
