"""The benchmark's smoke value, so that it cannot rot."""

from monitor.bench import measure
from monitor.bench_statistics import measure as measure_statistics


def test_the_benchmark_runs_and_prints_a_rate_per_precision() -> None:
    result = measure(seconds=0.01, features=3)
    assert set(result["values_per_s"]) == {"float32", "float64"}
    assert all(rate > 0 for rate in result["values_per_s"].values())
    assert "M values/s" in result["text"]


def test_the_benchmark_of_the_statistics_runs() -> None:
    result = measure_statistics(features=4, rounds=1)
    assert all(result[name] > 0 for name in result if name.endswith("_ms"))
    assert "statistics of 4 features" in result["text"]
