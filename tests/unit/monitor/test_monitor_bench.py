"""The benchmark's smoke value, so that it cannot rot."""

from monitor.bench import measure
from monitor.bench_cases import DISTRIBUTIONS
from monitor.bench_statistics import measure as measure_statistics


def test_the_benchmark_runs_and_prints_a_rate_per_case() -> None:
    result = measure(seconds=0.001, features=3, record_rows=50)
    rates = result["counting_values_per_s"]
    assert set(rates) > set(DISTRIBUTIONS)
    assert all(rate > 0 for rate in rates.values())
    assert result["end_to_end_values_per_s"] > 0
    lines = result["text"].splitlines()
    assert len(lines) == 1 + len(rates) + 1
    assert all("M values/s" in line for line in lines[1:])


def test_the_benchmark_of_the_statistics_runs() -> None:
    result = measure_statistics(features=4, rounds=1)
    assert all(result[name] > 0 for name in result if name.endswith("_ms"))
    assert "statistics of 4 features" in result["text"]
