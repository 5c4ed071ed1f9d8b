"""Making a version fit to serve: signature, batching, warm-up, golden samples.

Runs in a thread, before any request sees the version. What it measures decides
where the version runs: on the event loop if even its largest batch is short.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from serving.core.datatypes import Array, Datatype
from serving.core.errors import ModelFailed
from serving.core.latency import work_of
from serving.core.padding import Padder, PaddingSettings
from serving.core.signature import Signature, TensorSpec
from serving.worker.padding_load import warm_padded
from serving.worker.session import LoadError, OnnxSession
from serving.worker.warmup import run_samples

TOLERANCE = 1e-5
# The loop may stand still for this long at most; a hand-over to a thread costs
# 50 to 100 us, so shorter runs lose by it.
INLINE_NS_MAX = 2_000_000
PROBE_ROWS = 3
WARM_RUNS = 3  # of a size; the fastest counts
WARM_NS_MAX = 1_000_000_000  # a slow model is not warmed on sizes beyond this time


@dataclass(frozen=True, slots=True)
class LoadSettings:
    """How to serve a version; `max_batch_size` None: find out."""

    max_batch_size: int | None
    max_batch_size_default: int
    inputs: tuple[TensorSpec, ...] | None
    outputs: tuple[TensorSpec, ...] | None
    threads: int
    warmup: Sequence[Mapping[str, Any]] = ()
    padding: PaddingSettings | None = None


@dataclass(frozen=True, slots=True)
class LoadedSession:
    """A version that passed."""

    session: OnnxSession
    signature: Signature
    timings: Sequence[tuple[int, int]]  # (work, ns) of runs, see `core/latency.py`
    run_ns: int | None  # of the largest batch; None: it does not run on invented inputs
    padder: Padder | None = None

    @property
    def inline(self) -> bool:
        """Whether it may run on the event loop."""
        return self.run_ns is not None and self.run_ns <= INLINE_NS_MAX


def load_session(
    model: str,
    version: str,
    model_fd: int,
    external_fds: Mapping[str, int],
    golden_fd: int | None,
    settings: LoadSettings,
    warmup_fds: Mapping[str, int],
) -> LoadedSession:
    """Load, check and warm a version. Raises: LoadError."""
    session = OnnxSession(model_fd, external_fds, settings.threads)
    _check_declared("input", settings.inputs, session.inputs)
    _check_declared("output", settings.outputs, session.outputs)
    golden_in, golden_out = read_golden(session, golden_fd)
    rows_max = _max_batch_size(session, settings, golden_in)
    signature = Signature(model, version, session.inputs, session.outputs, rows_max)
    run_samples(session, signature, settings.warmup, warmup_fds)
    run_ns, timings = _warm(session, signature, golden_in)
    _check_golden(session, signature, golden_in, golden_out)
    if settings.padding is None:
        return LoadedSession(session, signature, timings, run_ns)
    examples = golden_in or invent(session.inputs, PROBE_ROWS)
    padded = warm_padded(session, signature, settings.padding, examples, INLINE_NS_MAX)
    return LoadedSession(
        session, signature, [*timings, *padded.timings], padded.run_ns or run_ns, padded.padder
    )


def _check_declared(
    what: str, declared: Sequence[TensorSpec] | None, actual: Sequence[TensorSpec]
) -> None:
    """The manifest's signature against the model's own. Raises: LoadError."""
    if declared is None:
        return
    by_name = {spec.name: spec for spec in actual}
    if sorted(by_name) != sorted(spec.name for spec in declared):
        raise LoadError(
            f"the manifest names {what}s {sorted(spec.name for spec in declared)}, "
            f"the model has {sorted(by_name)}"
        )
    for spec in declared:
        own = by_name[spec.name]
        same_rank = len(own.shape) == len(spec.shape)
        if own.datatype is not spec.datatype or not (
            same_rank
            and all(a == b or a < 0 or b < 0 for a, b in zip(own.shape, spec.shape, strict=True))
        ):
            raise LoadError(
                f"{what} '{spec.name}' is {spec.datatype.wire} {list(spec.shape)} in the manifest, "
                f"{own.datatype.wire} {list(own.shape)} in the model"
            )


def _max_batch_size(
    session: OnnxSession, settings: LoadSettings, golden: Sequence[Array] | None
) -> int:
    """Rows per execution; 0 for a version that runs one request at a time."""
    specs = (*session.inputs, *session.outputs)
    shared = bool(session.inputs) and all(s.shape and s.shape[0] < 0 for s in specs)
    if settings.max_batch_size is not None:
        if settings.max_batch_size > 0 and not shared:
            raise LoadError(
                f"max_batch_size is {settings.max_batch_size}, but not every input and output "
                "has a first dimension of any size"
            )
        return max(settings.max_batch_size, 0)
    if shared and _rows_are_independent(session, golden):
        return settings.max_batch_size_default
    return 0


def _rows_are_independent(session: OnnxSession, golden: Sequence[Array] | None) -> bool:
    """Whether a batch gives each of its rows what that row gets alone."""
    rows = (
        [repeat_rows(a, PROBE_ROWS) for a in golden]
        if golden
        else invent(session.inputs, PROBE_ROWS)
    )
    try:
        together = session.run(rows)
        alone = [session.run([a[i : i + 1] for a in rows]) for i in range(PROBE_ROWS)]
    except ModelFailed:
        return False
    for index, output in enumerate(together):
        singles = [outputs[index] for outputs in alone]
        if output.shape[0] != PROBE_ROWS or any(a.shape[0] != 1 for a in singles):
            return False
        if not _same(np.concatenate(singles), output):
            return False
    return True


def invent(specs: Sequence[TensorSpec], rows: int, seed: int = 7) -> list[Array]:
    """Inputs that differ from row to row; dimensions of any size are 1."""
    chance = np.random.default_rng(seed)
    arrays: list[Array] = []
    for spec in specs:
        shape = (rows, *(dim if dim >= 0 else 1 for dim in spec.shape[1:]))
        if spec.datatype is Datatype.BYTES:
            text = np.empty(shape, dtype=object)
            text[...] = b"1"
            arrays.append(text)
        elif spec.datatype.is_float:
            arrays.append(chance.standard_normal(shape).astype(spec.datatype.dtype))
        else:
            # Ones: a valid index of most tables, and nothing to divide by zero.
            arrays.append(np.ones(shape, dtype=spec.datatype.dtype))
    return arrays


def repeat_rows(array: Array, rows: int) -> Array:
    """`rows` rows of an array, from its start again when it has fewer."""
    return np.ascontiguousarray(np.resize(array, (rows, *array.shape[1:])))


def _warm(
    session: OnnxSession, signature: Signature, golden: Sequence[Array] | None
) -> tuple[int | None, list[tuple[int, int]]]:
    """Run on every batch size that traffic will form.

    A model that cannot run on invented data is not refused: golden samples are
    what decides, and requests are checked one by one.

    Returns: the largest size's time in ns, None if it cannot be run, and (work, ns) of the
    runs of all sizes.
    """
    took = spent = 0
    timings: list[tuple[int, int]] = []
    try:
        for rows in warm_sizes(signature.max_batch_size):
            if spent > WARM_NS_MAX:
                break
            batch = (
                [repeat_rows(a, rows) for a in golden]
                if golden and signature.max_batch_size
                else _invent_for(session, signature, golden, rows)
            )
            took = _time_run(session, batch)
            spent += took
            again = [
                _time_run(session, batch) for _ in range(WARM_RUNS if took < INLINE_NS_MAX else 0)
            ]
            took = min([took, *again])
            work = work_of(signature, rows, batch)
            timings += [(work, each) for each in again or [took]]  # the first run is a cold one
    except ModelFailed:
        return None, timings  # unknown, so not on the loop
    return took, timings


def _invent_for(
    session: OnnxSession, signature: Signature, golden: Sequence[Array] | None, rows: int
) -> list[Array]:
    if golden:
        return [array[0] for array in golden]
    if signature.max_batch_size:
        return invent(session.inputs, rows)
    arrays = invent(session.inputs, 1)
    shapes = [tuple(d if d >= 0 else 1 for d in spec.shape) for spec in session.inputs]
    return [
        np.ascontiguousarray(np.resize(array, shape))
        for array, shape in zip(arrays, shapes, strict=True)
    ]


def warm_sizes(rows_max: int) -> Iterator[int]:
    """Powers of two, then the largest batch; 1 for a version that does not batch."""
    rows = 1
    while rows < rows_max:
        yield rows
        rows *= 2
    yield max(rows_max, 1)


def _time_run(session: OnnxSession, arrays: Sequence[Array]) -> int:
    begun = time.perf_counter_ns()
    session.run(arrays)
    return time.perf_counter_ns() - begun


def read_golden(
    session: OnnxSession, golden_fd: int | None
) -> tuple[list[Array] | None, list[Array | None]]:
    """Golden inputs, and the outputs that are to be checked. Raises: LoadError."""
    if golden_fd is None:
        return None, []
    try:
        with np.load(Path(f"/proc/self/fd/{golden_fd}"), allow_pickle=False) as archive:
            arrays: dict[str, Array] = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError) as error:
        raise LoadError("the golden samples are not a readable .npz file") from error
    try:
        inputs = [_golden(spec, arrays[f"input:{spec.name}"]) for spec in session.inputs]
    except KeyError as error:
        raise LoadError(f"the golden samples lack {error.args[0]!r}") from error
    outputs = [
        _golden(spec, arrays[name]) if (name := f"output:{spec.name}") in arrays else None
        for spec in session.outputs
    ]
    if not inputs or not len(inputs[0]):
        return None, []
    return inputs, outputs


def _golden(spec: TensorSpec, array: Array) -> Array:
    if spec.datatype is not Datatype.BYTES:
        return array.astype(spec.datatype.dtype, copy=False)
    text = np.empty(array.size, dtype=object)
    text[:] = [
        item if isinstance(item, bytes) else str(item).encode() for item in array.reshape(-1)
    ]
    return text.reshape(array.shape)


def _check_golden(
    session: OnnxSession,
    signature: Signature,
    inputs: Sequence[Array] | None,
    outputs: Sequence[Array | None],
) -> None:
    """Raises: LoadError if a golden sample does not come out as recorded."""
    if inputs is None:
        return
    samples = len(inputs[0])
    step = signature.max_batch_size or 1
    for start in range(0, samples, step):
        stop = min(start + step, samples)
        try:
            got = session.run(
                [a[start:stop] if signature.max_batch_size else a[start] for a in inputs]
            )
        except ModelFailed as error:
            raise LoadError(f"golden sample {start} fails: {error.message}") from error
        for spec, array, want in zip(session.outputs, got, outputs, strict=True):
            if want is None:
                continue
            expected = want[start:stop] if signature.max_batch_size else want[start]
            if expected.shape != array.shape or not _same(expected, array):
                raise LoadError(
                    f"output '{spec.name}' of golden samples {start} to {stop - 1} differs from "
                    f"the recorded one by more than {TOLERANCE:g}"
                )


def _same(left: Array, right: Array) -> bool:
    if left.dtype.kind == "f":
        return bool(np.allclose(left, right, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True))
    return bool(np.array_equal(left, right))


def read_specs(entries: Any) -> tuple[TensorSpec, ...] | None:
    """Tensor specs of a settings document; None stays None. Raises: LoadError."""
    if entries is None:
        return None
    try:
        return tuple(TensorSpec.from_json(entry) for entry in entries)
    except (KeyError, TypeError, ValueError) as error:
        raise LoadError(f"the manifest's signature is malformed: {error}") from error
