"""What made-up curves recommend: flat, linear, saturating, threads that help and that hurt."""

import pytest

from serving.core.tuning import Timing, advise, duration, knee, timing_of

MS = 1_000_000
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


def curve(base_ns, row_ns, threads=1, sizes=SIZES):
    return [Timing(threads, n, 100, base_ns + n * row_ns, 2 * base_ns + n * row_ns) for n in sizes]


def advice(*curves, cores=1, batches=True, together=None):
    timings = [timing for each in curves for timing in each]
    return advise(timings, cores, together or {}, batches=batches, inline_ns_max=2 * MS)


def test_a_flat_curve_wants_the_largest_batch():
    found = advice(curve(50_000, 1))
    assert found.max_batch_size == 256
    assert "still rise at the largest batch" in found.reasons[0]


def test_a_linear_curve_wants_no_batches():
    found = advice(curve(1_000, 1 * MS))
    assert found.max_batch_size == 1
    assert "gain little" in found.reasons[0]
    assert "a request of more rows is refused" in found.reasons[0]


def test_a_saturating_curve_has_its_knee_where_a_doubling_gains_a_tenth_at_most():
    timings = curve(100_000, 10_000)  # 10 µs a row at best: 100,000 rows/s, 96 % of it at 256
    bend = knee(timings)
    assert bend.rows == 128
    assert bend.rows_per_s >= 0.9 * timings[-1].rows_per_s > timings[6].rows_per_s
    assert "96% of the most" in advice(timings).reasons[0]


def test_batches_that_become_dearer_are_not_recommended():
    cheap, dear = curve(100_000, 1_000, sizes=SIZES[:6]), curve(0, 50_000, sizes=SIZES[6:])
    assert advice([*cheap, *dear]).max_batch_size == 32


@pytest.mark.parametrize(("row_ns", "inline"), [(1_000, True), (100_000, False)])
def test_a_long_run_leaves_the_event_loop(row_ns, inline):
    found = advice(curve(500_000, row_ns))
    assert found.inline is inline
    assert found.reasons[2].startswith("on the event loop" if inline else "in a thread")


def test_a_short_run_wants_a_worker_on_every_core_however_well_it_scales():
    found = advice(curve(20_000, 100), curve(10_000, 50, threads=2), cores=2)
    assert (found.workers, found.threads) == (2, 1)
    assert "too short for threads" in found.reasons[1]


def test_a_long_run_that_scales_gets_threads():
    found = advice(
        curve(1 * MS, 8 * MS), curve(MS // 2, 4 * MS, 2), curve(MS // 4, 2 * MS, 4), cores=4
    )
    assert (found.workers, found.threads) == (1, 4)
    assert "2.25 ms instead of 9 ms" in found.reasons[1]


def test_threads_that_hurt_are_not_recommended():
    found = advice(curve(1 * MS, 8 * MS), curve(2 * MS, 9 * MS, threads=2), cores=2)
    assert (found.workers, found.threads) == (2, 1)
    assert "11 ms instead of 9 ms" in found.reasons[1]


def test_threads_that_cost_too_many_rows_are_not_recommended():
    found = advice(curve(0, 10 * MS), curve(0, 7 * MS, threads=2), cores=2)
    assert (found.workers, found.threads) == (2, 1)
    assert "71% of the rows/s" in found.reasons[1]


def test_sessions_that_disturb_each_other_make_room_for_threads():
    """Two sessions at once answer 1.2 times what one does: as much as one with two threads."""
    alone = curve(0, 10 * MS)
    found = advice(alone, curve(0, 8 * MS, threads=2), cores=2, together={1: 120})
    assert (found.workers, found.threads) == (1, 2)
    assert "104% of the rows/s" in found.reasons[1]


def test_threads_that_do_not_share_the_cores_evenly_are_never_recommended():
    """Of 3 cores a worker gets 3 or 1: no number of workers gives sessions of 2 threads."""
    found = advice(curve(0, 10 * MS), curve(0, 5 * MS, threads=2), cores=3)
    assert (found.workers, found.threads) == (3, 1)


def test_one_core_has_nothing_to_share_out():
    assert advice(curve(0, 10 * MS)).reasons[1].endswith("there is no core to spare")


def test_a_model_that_does_not_batch_is_told_why():
    found = advice(curve(20_000, 0, sizes=(1,)), batches=False)
    assert found.max_batch_size == 0
    assert "cannot share a run" in found.reasons[0]


def test_of_few_runs_the_longest_is_the_99th_percentile():
    assert timing_of(1, 1, [3, 1, 2]) == Timing(1, 1, 3, 2, 3)
    assert timing_of(1, 1, range(1, 201)).p99_ns == 198


def test_durations_are_read_by_people():
    words = [duration(ns) for ns in (13_400, 999_600, 2 * MS, 2_500 * MS)]
    assert words == ["13.4 µs", "1 ms", "2 ms", "2.5 s"]
