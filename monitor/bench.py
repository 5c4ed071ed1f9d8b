"""How many values a second of CPU time the monitor counts: decoded records to counts."""

import time
from typing import Any

import numpy as np

FEATURES = 100
RECORD_ROWS = 4096
SECONDS = 1.0
SEED = 1


def measure(seconds: float = SECONDS, features: int = FEATURES) -> dict[str, Any]:
    """Count random rows for about `seconds` per case; returns values/s and a text.

    Rows are row-major as they come out of a record; each case counts eight
    different records in turn, so nothing is learned by heart.
    """
    from monitor.core.counter import Counter
    from monitor.profile import FeatureSpec, build_profile

    generator = np.random.default_rng(SEED)
    reference = generator.normal(size=(20_000, features))
    cases: dict[str, float] = {}
    for dtype, datatype in ((np.float32, "FP32"), (np.float64, "FP64")):
        specs = [
            FeatureSpec(f"f{i}", kind="continuous", datatype=datatype) for i in range(features)
        ]
        counter = Counter(build_profile(reference, specs))
        records = [generator.normal(size=(RECORD_ROWS, features)).astype(dtype) for _ in range(8)]
        cases[dtype.__name__] = _values_per_s(counter, records, seconds)
    text = "\n".join(
        f"counting {name} into 256 bins, {features} features: {rate / 1e6:.0f} M values/s"
        for name, rate in cases.items()
    )
    return {
        "what": "decoded records to counts, one core",
        "features": features,
        "record_rows": RECORD_ROWS,
        "values_per_s": cases,
        "text": text,
    }


def _values_per_s(counter: Any, records: list[Any], seconds: float) -> float:
    counts = counter.empty()
    counter.count({"": records[0]}, {}, counts)
    values, started = 0, time.thread_time()
    while time.thread_time() - started < seconds:
        for record in records:
            counter.count({"": record}, {}, counts)
            values += record.size
    return values / (time.thread_time() - started)


if __name__ == "__main__":
    print(measure()["text"])
