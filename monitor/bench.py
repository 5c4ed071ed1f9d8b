"""How many values a second of CPU time the monitor counts, on one core.

By distribution: decoded rows to counts, float32 unless another type is named;
that is the kernel and what calls it. End to end: records, as they lie in the
log, to statistics and verdicts, with decoding, accounting and the closing of
blocks; reading the disk is left out.
"""

import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from eventlog import MemoryLog, PredictionId, PredictionRows, encode_predictions
from eventlog.core.marks import heartbeat_record
from monitor.bench_cases import DISTRIBUTIONS, Draw
from monitor.core.bins import AnyArray
from monitor.core.counter import Counter
from monitor.engine import Engine
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile
from monitor.service import core_settings
from monitor.settings import MonitorSettings

FEATURES = 100
REFERENCE_ROWS = 20_000
RECORD_ROWS = 1_800  # of 100 float32 features: what a record of 768 KiB holds
RECORDS = 8  # different ones counted in turn, so that nothing is learned by heart
SECONDS = 0.4
SEED = 1
MODEL, DIGEST, PRODUCER = "m", "d" * 64, "00000a"
BLOCKS = 4
BLOCK_NS = 10**9
NORMAL, INTEGERS = "normal(0, 1)", "integers to 1000"


def measure(
    seconds: float = SECONDS, features: int = FEATURES, record_rows: int = RECORD_ROWS
) -> dict[str, Any]:
    """Count for about `seconds` per case; returns values/s and a text."""
    counting = {
        name: _counting(draw, dtype, seconds, features, record_rows)
        for name, (draw, dtype) in _cases().items()
    }
    whole = _end_to_end(seconds, features, record_rows)
    lines = [f"counting into 256 bins, one core: {features} features, {record_rows} rows a record"]
    lines += [f"  {name:<28}{rate / 1e6:6.0f} M values/s" for name, rate in counting.items()]
    lines += [f"  {'from records to verdicts':<28}{whole / 1e6:6.0f} M values/s of {NORMAL}"]
    return {
        "what": "values per second of CPU, one core",
        "features": features,
        "record_rows": record_rows,
        "counting_values_per_s": counting,
        "end_to_end_values_per_s": whole,
        "text": "\n".join(lines),
    }


def _cases() -> dict[str, tuple[Draw, type[Any]]]:
    cases: dict[str, tuple[Draw, type[Any]]] = {
        name: (draw, np.float32) for name, draw in DISTRIBUTIONS.items()
    }
    cases[f"{NORMAL}, float64"] = (DISTRIBUTIONS[NORMAL], np.float64)
    cases[f"{INTEGERS}, int64"] = (DISTRIBUTIONS[INTEGERS], np.int64)
    return cases


def _profile(draw: Draw, features: int, dtype: type[Any]) -> ReferenceProfile:
    datatype = {np.float32: "FP32", np.float64: "FP64", np.int64: "INT64"}[dtype]
    drawn = draw(np.random.default_rng(SEED), REFERENCE_ROWS * features)
    specs = [FeatureSpec(f"f{i}", datatype=datatype) for i in range(features)]
    return build_profile(drawn.reshape(REFERENCE_ROWS, features, order="F"), specs)


def _record_rows(draw: Draw, dtype: type[Any], features: int, rows: int) -> list[AnyArray]:
    random = np.random.default_rng(SEED + 1)
    return [
        np.ascontiguousarray(
            draw(random, rows * features).reshape(rows, features, order="F"), dtype
        )
        for _ in range(RECORDS)
    ]


def _counting(draw: Draw, dtype: type[Any], seconds: float, features: int, rows: int) -> float:
    counter = Counter(_profile(draw, features, dtype))
    records = _record_rows(draw, dtype, features, rows)
    counts = counter.empty()
    counter.count({"": records[0]}, {}, counts)
    values, started = 0, time.thread_time()
    while time.thread_time() - started < seconds:
        for record in records:
            counter.count({"": record}, {}, counts)
            values += record.size
    return values / (time.thread_time() - started)


def _end_to_end(seconds: float, features: int, rows: int) -> float:
    profile = _profile(DISTRIBUTIONS[NORMAL], features, np.float32)
    records = _record_rows(DISTRIBUTIONS[NORMAL], np.float32, features, rows)
    log = make_log([records] * BLOCKS)
    values, spent = 0, 0.0
    while spent < seconds:
        engine = make_engine(log, profile)
        _close(engine, RECORDS + 1)  # the first block makes the tables
        started = time.thread_time()
        _close(engine, (BLOCKS - 1) * (RECORDS + 1))
        spent += time.thread_time() - started
        values += (BLOCKS - 1) * RECORDS * rows * features
        assert engine.models[MODEL].rows == BLOCKS * RECORDS * rows
    return values / spent


def _close(engine: Engine, records: int) -> None:
    engine.read(records)
    engine.close_blocks(lambda _: None)


def _no_labels(text: str) -> PredictionId:
    raise AssertionError(f"the benchmark's log holds no labels: {text}")


def make_engine(log: MemoryLog, profile: ReferenceProfile) -> Engine:
    """As the monitor has it by default, over a log of `make_log`."""
    return Engine(
        log,
        _no_labels,
        lambda *_: profile,
        core_settings(MonitorSettings()),
        load_page=lambda _: None,
    )


def make_log(blocks: Sequence[Sequence[AnyArray]]) -> MemoryLog:
    """Blocks of a second, the records in each, and the heartbeat that closes it.

    blocks: of arrays (rows, f), each the inputs of one record.
    """
    log, sequence = MemoryLog(), 0
    for block, records in enumerate(blocks):
        start_ns = (1_700_000_000 + block) * 10**9
        for place, values in enumerate(records):
            first_ns = start_ns + place * BLOCK_NS // len(records)
            rows = _rows(values, sequence, first_ns)
            log.append([encode_predictions(rows, PRODUCER, first_ns)])
            sequence += len(values)
        log.append([heartbeat_record(PRODUCER, sequence, start_ns + BLOCK_NS)])
    return log


def _rows(values: AnyArray, first_sequence: int, first_ns: int) -> PredictionRows:
    rows = len(values)
    return PredictionRows(
        model=MODEL,
        version="1",
        digest=DIGEST,
        role="stable",
        rollout="",
        first_sequence=first_sequence,
        ts_ns=np.arange(first_ns, first_ns + rows, dtype=np.int64),
        latency_ns=np.full(rows, 1_000_000, dtype=np.int64),
        status=np.zeros(rows, dtype=np.uint8),
        flags=np.zeros(rows, dtype=np.uint8),
        weight=np.ones(rows, dtype=np.float32),
        row=np.zeros(rows, dtype=np.uint32),
        inputs={"x": values},
        outputs={},
    )


if __name__ == "__main__":
    print(measure()["text"])
