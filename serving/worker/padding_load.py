"""Whether a version may really be padded, and what its runs cost by length: found at load.

The configuration's word is taken only as far as it can be checked: rows that run padded
must come out as they do alone.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from serving.core.batch import Batch, Member
from serving.core.company import RunCost, fit_cost
from serving.core.datatypes import Array
from serving.core.errors import ModelFailed
from serving.core.latency import work_of
from serving.core.padding import Axes, Padder, PaddingSettings
from serving.core.signature import Signature
from serving.worker.session import LoadError

# Other lengths are summed in other orders. Beyond it the padding itself is felt.
TOLERANCE = 1e-4
# Where the configuration names none: what most traffic is within. A model that takes no
# such length is measured as far as it does.
LENGTHS = (8, 32, 128)
RUNS = 3  # of a size; the fastest counts
WARM_NS_MAX = 1_000_000_000  # for all sizes
RUN_NS_MAX = 50_000_000  # a size that takes longer is the last of its length
# What a worker spends on a batch besides its run: the hand-over to a thread and back, above
# all. A run that is saved saves that, too.
BATCH_NS = 50_000


class Runs(Protocol):
    """What the probes run on; OnnxSession, or a fake in tests."""

    @property
    def input_axes(self) -> Axes: ...
    @property
    def output_axes(self) -> Axes: ...
    def run(self, arrays: Sequence[Array]) -> list[Array]: ...


@dataclass(frozen=True, slots=True)
class WarmPadded:
    """run_ns: of the largest batch of the longest requests; None: it did not run.
    timings: (work, ns) of runs, see `core/latency.py`.
    """

    padder: Padder
    timings: Sequence[tuple[int, int]]
    run_ns: int | None


def warm_padded(
    session: Runs,
    signature: Signature,
    settings: PaddingSettings,
    examples: Sequence[Array],
    repeat_ns_max: int,
) -> WarmPadded:
    """Check that padding changes nothing, and run the lengths that traffic will form.

    examples: rows that the model takes, of any length. repeat_ns_max: longer runs are
    measured once. Raises: LoadError.
    """
    axes = session.input_axes, session.output_axes
    try:
        padder = Padder(signature, settings, *axes)
    except ValueError as error:
        raise LoadError(str(error)) from error
    _check_harmless(session, signature, padder, examples)
    runs = list(_runs(session, signature, padder, examples, repeat_ns_max))
    if not runs:
        return WarmPadded(padder, [], None)
    cost = fit_cost([(positions, took_ns) for positions, _, took_ns in runs])
    cost = RunCost(cost.each_ns + BATCH_NS, cost.position_ns)
    timings = [(work, took_ns) for _, work, took_ns in runs]
    longest_ns = max(took_ns for _, took_ns in timings)
    return WarmPadded(Padder(signature, settings, *axes, cost), timings, longest_ns)


def _check_harmless(
    session: Runs, signature: Signature, padder: Padder, examples: Sequence[Array]
) -> None:
    """Raises: LoadError if a request that is padded gets another answer than alone."""
    length = next((n for n in padder.settings.lengths or LENGTHS if n > 1), 0)
    if not length:
        return  # everything is of length 1
    row = [array[:1] for array in examples]
    requests = [padder.example(row, n) for n in ((length + 1) // 2, length)]
    try:
        alone = [session.run(request) for request in requests]
    except ModelFailed:
        return  # made-up inputs are not for every model; requests will show
    batch = Batch([Member(None, 1) for _ in requests])
    inputs = padder.gather(requests)
    assert inputs is not None
    try:
        outputs = session.run(inputs)
        padder.check_outputs(inputs, outputs)
    except ModelFailed as error:
        raise LoadError(f"a padded batch fails: {error.message}") from error
    for part, expected in zip(padder.parts(batch, requests, inputs, outputs), alone, strict=True):
        for spec, got, want in zip(signature.outputs, part.outputs, expected, strict=True):
            if got.shape != want.shape or not _same(got, want):
                raise LoadError(
                    f"output '{spec.name}' of a request that is padded along "
                    f"'{padder.settings.axis}' differs from that of the request alone by more "
                    f"than {TOLERANCE:g}: the model does not leave padding out"
                )


def _same(got: Array, want: Array) -> bool:
    if want.dtype.kind == "f":
        return bool(np.allclose(got, want, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(got, want))


def _runs(
    session: Runs,
    signature: Signature,
    padder: Padder,
    examples: Sequence[Array],
    repeat_ns_max: int,
) -> Iterator[tuple[int, int, int]]:
    """(positions, work, ns) of the runs of every length, in batches that double.

    Raises: LoadError for a length that requests would be padded to in vain.
    """
    spent_ns = 0
    ran = False
    for length in padder.settings.lengths or LENGTHS:
        rows = 1
        while rows <= signature.max_batch_size and spent_ns < WARM_NS_MAX:
            resized = [np.resize(array, (rows, *array.shape[1:])) for array in examples]
            batch = padder.example(resized, length)
            try:
                took_ns = _timed(session, batch)
                if took_ns < repeat_ns_max:  # the first run of a size is a cold one
                    took_ns = min(_timed(session, batch) for _ in range(RUNS))
            except ModelFailed as error:
                if ran and padder.settings.lengths:
                    raise LoadError(f"pad_lengths: {length} fails: {error.message}") from error
                return
            ran = True
            spent_ns += took_ns
            yield rows * length, work_of(signature, rows, batch), took_ns
            if took_ns > RUN_NS_MAX:
                break
            rows *= 2


def _timed(session: Runs, arrays: Sequence[Array]) -> int:
    begun_ns = time.perf_counter_ns()
    session.run(arrays)
    return time.perf_counter_ns() - begun_ns
