"""The benchmarks run, check their answers and say what they measured."""

import json
import subprocess
import sys

import pytest

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
def test_the_log_benchmark_counts_values():
    assert "M values/s" in bench("log")["text"]


@pytest.mark.ci
def test_the_load_benchmark_loads_beside_predictions_that_do_not_fail():
    result = bench("load", "--pairs", "2", "--seconds", "1", "--megabytes", "20")
    assert result["failed"] == 0
    assert result["loads"] >= 2
    assert result["p99_ms_loading"] > 0
