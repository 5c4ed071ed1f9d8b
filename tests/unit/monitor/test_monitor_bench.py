"""The benchmark's smoke value, so that it cannot rot."""

from monitor.bench import measure
from monitor.bench_cases import DISTRIBUTIONS
from monitor.bench_delay import measure as measure_delay
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


def test_the_delay_of_a_rise_in_the_loss_is_within_what_was_promised() -> None:
    """Row mode within 320 rows and block mode within 30 blocks in the median."""
    result = measure_delay(streams=60)
    found = result["detectors"]
    assert found["driftgate, rows"]["median_delay"] <= 320
    assert found["driftgate, blocks"]["median_delay"] <= 30
    for name in ("driftgate, rows", "driftgate, blocks"):
        assert found[name]["found_share"] == 1.0
        assert found[name]["false_alarm_share"] == 0.0  # of 60 x 5,000 rows, once in 10^6
    assert found["always"]["false_alarm_share"] == 1.0
