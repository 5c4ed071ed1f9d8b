"""Runs a model with every number of threads and rows, as a worker's session would.

One session at a time, so that two never fight for cores or memory, but where it is to be
known what they take from each other. The time is shared out evenly among the sizes; what
becomes too slow for its share is left out, and said.
"""

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from driftgate.errors import CliError, Exit
from driftgate.tuning.target import Target
from serving.core.datatypes import Array
from serving.core.errors import ModelFailed
from serving.core.signature import Signature, TensorSpec
from serving.core.tuning import (
    LONG_RUN_NS,
    Advice,
    Timing,
    advise,
    curves,
    evenly,
    knee,
    timing_of,
)
from serving.worker.session import LoadError, OnnxSession
from serving.worker.session_load import (
    INLINE_NS_MAX,
    LoadSettings,
    invent,
    load_session,
    read_golden,
    read_specs,
    repeat_rows,
    warm_sizes,
)

# Sizes take turns, so that what disturbs the machine for a while does not fall on one size.
ROUNDS = 3
RUNS_MIN, RUNS_MAX = 1, 2_000  # of a size in a round
OVERTIME = 3  # times its share that a size may take for its fewest runs

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class Swept:
    """golden: inputs are the version's own samples. left_out: (threads, rows) too slow.
    together: threads -> rows per second of sessions on all cores at once, where measured.
    """

    signature: Signature
    cores: int
    golden: bool
    timings: tuple[Timing, ...]
    left_out: tuple[tuple[int, int], ...]
    together: Mapping[int, float]
    advice: Advice


def sweep(
    target: Target,
    shapes: Shapes,
    seconds: float,
    max_batch_size: int | None,
    max_batch_size_default: int,
) -> Swept:
    """Measure a model for about so many seconds, after it is loaded.

    shapes: input -> its dimensions without the batch's, where the model leaves some open.
    max_batch_size: instead of the model's own setting. Raises: CliError.
    """
    try:
        signature, golden = _load(target, max_batch_size, max_batch_size_default)
        specs = signature.inputs
        if golden is None or shapes:
            golden, specs = None, _concrete(signature, shapes)
        return _Sweep(target, signature, specs, golden, seconds).run()
    except LoadError as error:
        raise CliError(f"{target.name} cannot be loaded", str(error)) from error
    except ModelFailed as error:
        hint = (
            "give the dimensions that it takes with --shape, or push it with samples of inputs: "
            "`driftgate model push NAME FILE --golden DATA.npz`"
        )
        raise CliError(
            f"{target.name} does not take made-up inputs", error.message, hint
        ) from error


class _Sweep:
    """Every size with every number of threads, then all cores at once where that decides."""

    def __init__(
        self,
        target: Target,
        signature: Signature,
        specs: Sequence[TensorSpec],
        golden: list[Array] | None,
        seconds: float,
    ) -> None:
        self._target, self._signature = target, signature
        self._specs, self._golden = specs, golden
        self._cores = len(os.sched_getaffinity(0))
        self._threads = list(warm_sizes(self._cores))  # powers of two, and all cores
        self._sizes = list(warm_sizes(signature.max_batch_size))
        self._batches: dict[int, list[Array]] = {}
        # One part each for the threads that are run on all cores at once.
        self._clock = _Clock(seconds, (ROUNDS * len(self._sizes) + 1) * len(self._threads))

    def run(self) -> Swept:
        """Raises: LoadError, ModelFailed."""
        timings = [timing for threads in self._threads for timing in self._curve(threads)]
        measured = {(timing.threads, timing.rows) for timing in timings}
        sizes = [(threads, rows) for threads in self._threads for rows in self._sizes]
        left_out = [size for size in sizes if size not in measured]
        together = self._together(timings)
        advice = advise(
            timings,
            self._cores,
            together,
            batches=self._signature.max_batch_size > 0,
            inline_ns_max=INLINE_NS_MAX,
        )
        golden = self._golden is not None
        return Swept(
            self._signature, self._cores, golden, tuple(timings), tuple(left_out), together, advice
        )

    def _curve(self, threads: int) -> list[Timing]:
        """Sizes that are too slow for the time are left out, from the first one on."""
        session = self._session(threads)
        took_ns: dict[int, list[int]] = {}
        for turn in range(ROUNDS):
            before: Timing | None = None
            for rows in self._sizes:
                share_s = self._clock.share_s()
                if turn and rows not in took_ns:
                    continue
                if before is not None and _too_slow(before, rows, share_s):
                    continue
                times = took_ns.setdefault(rows, [])
                times += _run(session, self._batch(rows), share_s)
                before = timing_of(threads, rows, times)
        return [timing_of(threads, rows, times) for rows, times in took_ns.items()]

    def _together(self, timings: Sequence[Timing]) -> dict[int, float]:
        """Rows per second of all cores, by threads a session.

        Of long runs alone: of short ones the interpreter's lock would be measured, which
        sessions in workers do not share.
        """
        by_threads = curves(timings)
        if by_threads[1][0].median_ns < LONG_RUN_NS:
            return {}
        return {
            threads: self._at_once(threads, knee(curve).rows)
            for threads, curve in by_threads.items()
            if threads < self._cores and evenly(self._cores, threads)
        }

    def _at_once(self, threads: int, rows: int) -> float:
        """Rows per second of as many sessions as the cores have room for."""
        count, share_s = self._cores // threads, self._clock.share_s()
        sessions = [self._session(threads) for _ in range(count)]
        batch = self._batch(rows)
        with ThreadPoolExecutor(count) as pool:
            took_ns = list(pool.map(lambda each: list(_run(each, batch, share_s)), sessions))
        return sum(rows * len(each) * 1e9 / sum(each) for each in took_ns)

    def _session(self, threads: int) -> OnnxSession:
        return OnnxSession(self._target.model_fd, self._target.external_fds, threads)

    def _batch(self, rows: int) -> list[Array]:
        if rows not in self._batches:
            self._batches[rows] = _batch(self._signature, self._specs, self._golden, rows)
        return self._batches[rows]


class _Clock:
    """Shares what is left of the time among what is left to do."""

    def __init__(self, seconds: float, parts: int) -> None:
        self._ends, self._parts = time.monotonic() + seconds, parts

    def share_s(self) -> float:
        """Of the next part."""
        left_s = max(0.0, self._ends - time.monotonic())
        share_s = left_s / max(1, self._parts)
        self._parts -= 1
        return share_s


def _load(
    target: Target, max_batch_size: int | None, default: int
) -> tuple[Signature, list[Array] | None]:
    """Everything a worker checks; the golden inputs, if there are some. Raises: LoadError."""
    settings = target.settings
    own = settings.get("max_batch_size") if max_batch_size is None else max_batch_size
    loaded = load_session(
        target.name,
        target.version,
        target.model_fd,
        target.external_fds,
        target.golden_fd,
        LoadSettings(
            own,
            default,
            read_specs(settings.get("inputs")),
            read_specs(settings.get("outputs")),
            threads=1,
            warmup=settings.get("warmup") or (),
        ),
        target.warmup_fds,
    )
    golden, _ = read_golden(loaded.session, target.golden_fd)
    return loaded.signature, golden


def _concrete(signature: Signature, shapes: Shapes) -> tuple[TensorSpec, ...]:
    """The inputs with every dimension known but the batch's. Raises: CliError."""
    names = [spec.name for spec in signature.inputs]
    if unknown := set(shapes) - set(names):
        raise CliError(
            f"--shape {min(unknown)}: the model has no such input",
            f"its inputs are {', '.join(names)}",
            code=Exit.USAGE,
        )
    first = 1 if signature.max_batch_size else 0
    return tuple(_with_dims(spec, first, shapes.get(spec.name)) for spec in signature.inputs)


def _with_dims(spec: TensorSpec, first: int, dims: tuple[int, ...] | None) -> TensorSpec:
    own = spec.shape[first:]
    shown = f"{spec.name} {list(own)}" + (" beside the batch's dimension" if first else "")
    if dims is None:
        if min(own, default=0) < 0:
            raise CliError(
                "the model takes inputs of any size, and which is usual is not known",
                f"its input {shown}",
                f"say it: --shape {spec.name}={','.join('128' if d < 0 else str(d) for d in own)}",
                Exit.USAGE,
            )
        return spec
    fits = len(dims) == len(own) and all(a in (-1, b) for a, b in zip(own, dims, strict=True))
    if not fits:
        given = ",".join(map(str, dims))
        raise CliError(
            f"--shape {spec.name}={given} does not fit the model", f"its input {shown}",
            code=Exit.USAGE,
        )  # fmt: skip
    return replace(spec, shape=(*spec.shape[:first], *dims))


def _batch(
    signature: Signature, specs: Sequence[TensorSpec], golden: list[Array] | None, rows: int
) -> list[Array]:
    if signature.max_batch_size:
        return [repeat_rows(a, rows) for a in golden] if golden else invent(specs, rows)
    if golden:
        return [np.ascontiguousarray(array[0]) for array in golden]
    # Without a batch dimension the first one is the model's own.
    return [
        invent([replace(spec, shape=(1, *spec.shape))], 1)[0].reshape(spec.shape) for spec in specs
    ]


def _run(session: OnnxSession, batch: list[Array], seconds: float) -> Iterator[int]:
    """Times of runs in ns, without the first, which finds nothing in its caches."""
    ends = time.monotonic() + seconds
    session.run(batch)
    for count in range(RUNS_MAX):
        if count >= RUNS_MIN and time.monotonic() >= ends:
            return
        begun = time.perf_counter_ns()
        session.run(batch)
        yield time.perf_counter_ns() - begun


def _too_slow(before: Timing, rows: int, share_s: float) -> bool:
    """Whether the fewest runs would take far more than their share, judged by a smaller size."""
    expected_s = (RUNS_MIN + 1) * before.median_ns * 1e-9 * rows / before.rows
    return expected_s > OVERTIME * share_s


def document(target: Target, swept: Swept) -> dict[str, Any]:
    """What was measured and is recommended, as JSON."""
    advice = swept.advice
    return {
        "model": target.name,
        "version": target.version,
        "from": target.origin.value,
        "inputs": "golden samples" if swept.golden else "made up",
        "cores": swept.cores,
        "timings": [
            {
                "threads": t.threads,
                "rows": t.rows,
                "runs": t.runs,
                "median_ns": t.median_ns,
                "p99_ns": t.p99_ns,
                "rows_per_s": round(t.rows_per_s, 1),
            }
            for t in swept.timings
        ],
        "left_out": [{"threads": threads, "rows": rows} for threads, rows in swept.left_out],
        "together_rows_per_s": {
            str(threads): round(rate, 1) for threads, rate in swept.together.items()
        },
        "recommended": {
            "max_batch_size": advice.max_batch_size,
            "workers": advice.workers,
            "threads": advice.threads,
            "inline": advice.inline,
            "reasons": list(advice.reasons),
        },
    }
