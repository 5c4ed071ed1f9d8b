"""What timings of a model's runs recommend: largest batch, workers, threads, with reasons.

Laws: a batch is no larger than its rows per second are worth, since everybody in it
waits for all of it; more threads a session are worth having only where a lone run is
long and all cores together answer about as much, since every worker also reads and
writes requests; of what is about equal the smaller one is taken.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

# Beyond the knee a doubling of the batch gains a tenth at most, and doubles the wait.
KNEE_SHARE = 0.9
# A run shorter than this is not what a caller waits for: with it come the network, reading
# the request and writing the reply, and those need workers.
LONG_RUN_NS = 1_000_000
FASTER_MIN = 1.2  # threads that gain less than this are not worth a worker
KEPT_SHARE = 0.9  # of the rows per second of all cores that threads may cost


@dataclass(frozen=True, slots=True)
class Timing:
    """Runs of one size. p99_ns: 99 of 100 runs took no longer; of fewer runs the longest."""

    threads: int
    rows: int
    runs: int
    median_ns: int
    p99_ns: int

    @property
    def rows_per_s(self) -> float:
        return self.rows * 1e9 / self.median_ns


@dataclass(frozen=True, slots=True)
class Advice:
    """max_batch_size 0: one request at a time. inline: runs are on the event loop."""

    max_batch_size: int
    workers: int
    threads: int
    inline: bool
    reasons: tuple[str, ...]


def timing_of(threads: int, rows: int, took_ns: Sequence[int]) -> Timing:
    """took_ns: of one run or more."""
    ordered = sorted(took_ns)
    rank = -(-99 * len(ordered) // 100)
    return Timing(
        threads, rows, len(ordered), max(1, ordered[len(ordered) // 2]), max(1, ordered[rank - 1])
    )


def curves(timings: Sequence[Timing]) -> dict[int, list[Timing]]:
    """By number of threads, the fewest first; each by rows."""
    found: dict[int, list[Timing]] = {}
    for timing in sorted(timings, key=lambda t: (t.threads, t.rows)):
        found.setdefault(timing.threads, []).append(timing)
    return found


def knee(curve: Sequence[Timing]) -> Timing:
    """The smallest batch that answers about as many rows per second as the best."""
    enough = KNEE_SHARE * best(curve).rows_per_s
    return min((t for t in curve if t.rows_per_s >= enough), key=lambda t: t.rows)


def best(curve: Sequence[Timing]) -> Timing:
    """The batch with the most rows per second."""
    return max(curve, key=lambda t: t.rows_per_s)


def evenly(cores: int, threads: int) -> bool:
    """Whether there is a number of workers whose sessions have so many threads."""
    return cores // (cores // threads) == threads


def advise(
    timings: Sequence[Timing],
    cores: int,
    together: Mapping[int, float],
    *,
    batches: bool,
    inline_ns_max: int,
) -> Advice:
    """What to set for a model on so many cores.

    timings: one thread is among them. batches: requests may share a run.
    together: threads -> rows per second of as many sessions at once as the cores have room
    for; where it was not measured they are taken not to disturb each other.
    inline_ns_max: what a full batch may take on the event loop.
    """
    by_threads = curves(timings)
    threads, why_workers = _threads(by_threads, cores, together)
    curve = by_threads[threads]
    most = knee(curve)
    inline = most.median_ns <= inline_ns_max
    return Advice(
        most.rows if batches else 0,
        cores // threads,
        threads,
        inline,
        (
            _why_batch(curve, most) if batches else _WHY_ALONE,
            why_workers,
            _why_place(most, inline_ns_max, inline=inline),
        ),
    )


_WHY_ALONE = (
    "max_batch_size 0: requests cannot share a run, since the configuration says so, not all "
    "tensors have a first dimension of any size, or a row's answer depends on its company"
)


def _threads(
    by_threads: Mapping[int, Sequence[Timing]], cores: int, together: Mapping[int, float]
) -> tuple[int, str]:
    """Threads of a session, and why so many: workers share the cores evenly, and each session
    has its worker's share."""
    one, begin = by_threads[1], f"workers {cores}, 1 thread a session: "
    more = {n: curve for n, curve in by_threads.items() if n > 1 and evenly(cores, n)}
    if not more:
        return 1, begin + "there is no core to spare"
    lone_ns = one[0].median_ns
    if lone_ns < LONG_RUN_NS:
        return 1, begin + (
            f"a lone run takes {duration(lone_ns)}, too short for threads to be felt, and every "
            "worker reads and answers requests too"
        )
    rates = {
        n: together.get(n) or cores // n * knee(curve).rows_per_s
        for n, curve in ((1, one), *more.items())
    }
    kept = {n: rates[n] / rates[1] for n in more}
    worth = [
        n
        for n, curve in more.items()
        if lone_ns / curve[0].median_ns >= FASTER_MIN and kept[n] >= KEPT_SHARE
    ]
    if worth:
        threads = min(worth, key=lambda n: more[n][0].median_ns)
        begin = f"workers {cores // threads}, {threads} threads a session: "
    else:
        threads = max(more, key=lambda n: kept[n])
    return threads if worth else 1, begin + (
        f"with {threads} threads a lone run takes {duration(more[threads][0].median_ns)} instead "
        f"of {duration(lone_ns)}, and all cores together answer {kept[threads]:.0%} of the rows/s "
        "that one thread a session does"
    )


def _why_batch(curve: Sequence[Timing], most: Timing) -> str:
    top, first = best(curve), curve[0]
    begin = f"max_batch_size {most.rows}: "
    if most.rows == first.rows:
        return begin + (
            f"larger batches gain little ({first.rows_per_s:,.0f} rows/s with {first.rows}, at "
            f"most {top.rows_per_s:,.0f}) and everybody in them waits for all of them; a request "
            "of more rows is refused, so keep it as large as your largest"
        )
    gain = f"{most.rows_per_s / first.rows_per_s:.1f} times the rows/s of {first.rows}"
    if most.rows == curve[-1].rows:
        return begin + f"{gain}, and rows/s still rise at the largest batch that was measured"
    return begin + (
        f"{gain}, and {most.rows_per_s / top.rows_per_s:.0%} of the most that was measured "
        f"({top.rows} rows, which take {duration(top.median_ns)} instead of "
        f"{duration(most.median_ns)}); a request of more rows is refused"
    )


def _why_place(most: Timing, inline_ns_max: int, *, inline: bool) -> str:
    full = f"a run of {most.rows} takes {duration(most.median_ns)}"
    limit = duration(inline_ns_max)
    if inline:
        return f"on the event loop: {full}, less than the {limit} that the loop may stand still"
    return f"in a thread: {full}, and the event loop may stand still for {limit} at most"


def duration(ns: float) -> str:
    """For a person: 14 µs, 1.3 ms, 2.5 s."""
    if ns < 999_500:
        return f"{ns / 1e3:.3g} µs"
    return f"{ns / 1e6:.3g} ms" if ns < 999_500_000 else f"{ns / 1e9:.3g} s"
