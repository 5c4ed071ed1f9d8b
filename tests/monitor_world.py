"""A small world for the monitor's tests: versions, traffic, labels, in virtual time.

Traffic is written into any Log as a gateway would: records of two producers,
heartbeats, labels that follow later. Everything is drawn from a seed.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from eventlog import (
    GapReason,
    Label,
    Log,
    PredictionRows,
    Record,
    encode_labels,
    encode_predictions,
)
from eventlog.core.marks import end_record, gap_record, heartbeat_record
from eventlog.core.prediction_id import IdCodec
from monitor.core.settings import CoreSettings
from monitor.profile import FeatureSpec, ReferenceProfile, build_profile

FEATURES = 6
CLASSES = 4
MODEL = "m"
BLOCK_NS = 1_000_000_000
START_NS = 1_700_000_000 * 10**9
CODEC = IdCodec([bytes(range(32))])
DAY_S = 86_400.0
REFERENCE_ROWS = 4000

SETTINGS = CoreSettings(
    verify_ns=100 * 10**9,
    block_ns=BLOCK_NS,
    lateness_ns=0,
    tolerance=0.05,
    loss_tolerance=0.03,
    budget_s=90 * DAY_S,
    warn_budget_s=7 * DAY_S,
    rows_min=100,
    loss_max_share=0.05,
    coarse_edges=12,
    window_blocks=20,
    recent_change_ns=10 * BLOCK_NS,
    multivariate_rows=300,
)


@dataclass(frozen=True)
class Version:
    """accuracy: of its answers; the profile promises `promised`."""

    name: str
    accuracy: float = 0.95
    promised: float = 0.95

    @property
    def digest(self) -> str:
        return f"{self.name:0>64}"


def inputs(rows: int, random: np.random.Generator, shift: float = 0.0) -> np.ndarray:
    return (random.normal(size=(rows, FEATURES)) + shift).astype(np.float32)


def answers(truth: np.ndarray, accuracy: float, random: np.random.Generator) -> np.ndarray:
    wrong = random.random(len(truth)) >= accuracy
    return np.where(wrong, (truth + 1) % CLASSES, truth).astype(np.int64)


def profile_of(version: Version) -> ReferenceProfile:
    random = np.random.default_rng(3)
    truth = random.integers(0, CLASSES, REFERENCE_ROWS)
    said = answers(truth, version.promised, random)
    features = [FeatureSpec(f"f{i}", kind="continuous") for i in range(FEATURES)]
    return build_profile(
        inputs(REFERENCE_ROWS, random), features, said, (said != truth).astype(float)
    )


class Profiles:
    """The engine's `ProfileOf` over versions of this world."""

    def __init__(self, *versions: Version) -> None:
        self._found = {
            v.digest: ReferenceProfile.from_bytes(profile_of(v).to_bytes()) for v in versions
        }

    def __call__(self, model: str, version: str, digest: str) -> ReferenceProfile | None:
        return self._found.get(digest)


@dataclass
class Traffic:
    """One block's worth of traffic at a time, over several producers."""

    log: Log
    seed: int = 1
    producers: tuple[str, ...] = ("00000a", "00000b")
    rows_per_block: int = 200
    label_delay_blocks: int = 2
    stable: Version = field(default_factory=lambda: Version("1"))
    candidate: Version | None = None
    weight: float = 0.0
    rollout: str = ""
    one_in: Mapping[str, int] = field(default_factory=dict)  # role -> how many give one logged row
    shift: float = 0.0
    harm: float = 0.0  # accuracy that everybody loses
    block: int = 0
    spoil: Callable[[np.ndarray], np.ndarray] | None = None
    append: Callable[[Log, str, list[Record]], None] = lambda log, _, records: log.append(records)
    model: str = MODEL

    def __post_init__(self) -> None:
        self.random = np.random.default_rng(self.seed)
        self.sequences = dict.fromkeys(self.producers, 0)
        self.label_sequences = dict.fromkeys(self.producers, 0)
        self.due: dict[int, list[tuple[str, Label]]] = {}
        self.sent = 0

    @property
    def now_ns(self) -> int:
        return START_NS + self.block * BLOCK_NS

    def run(self, blocks: int) -> "Traffic":
        for _ in range(blocks):
            self.step()
        return self

    def step(self) -> None:
        """Write one block: rows, labels that are due, and a heartbeat at its end."""
        start_ns = self.now_ns
        for place, producer in enumerate(self.producers):
            records = []
            rows = self.rows_per_block // len(self.producers)
            for version, role, count in self._arms(rows):
                records += self._rows(producer, version, role, count, start_ns + place)
            records += self._labels(producer)
            records.append(
                heartbeat_record(producer, self.sequences[producer], start_ns + BLOCK_NS)
            )
            self.append(self.log, producer, records)
        self.block += 1

    def _arms(self, rows: int) -> list[tuple[Version, str, int]]:
        if self.candidate is None:
            return [(self.stable, "stable", rows)]
        share = int(self.random.binomial(rows, self.weight))
        return [(self.stable, "stable", rows - share), (self.candidate, "candidate", share)]

    def _rows(
        self, producer: str, version: Version, role: str, rows: int, start_ns: int
    ) -> list[Record]:
        weight = self.one_in.get(role, 1)
        left_out = self._leave_out(producer, rows - rows // weight, start_ns)
        rows //= weight
        if rows == 0:
            return left_out
        truth = self.random.integers(0, CLASSES, rows)
        seen = inputs(rows, self.random, self.shift)
        if self.spoil is not None:
            seen = self.spoil(seen)
        said = answers(truth, version.accuracy - self.harm, self.random)
        first = self.sequences[producer]
        self.sequences[producer] += rows
        ts_ns = start_ns + np.sort(self.random.integers(0, BLOCK_NS - 10, rows))
        due = self.due.setdefault(self.block + self.label_delay_blocks, [])
        for i in range(rows):
            prediction_id = CODEC.encode(int(ts_ns[i]) // 10**6, producer, first + i)
            due.append((producer, Label(prediction_id, 0, 0, float(truth[i]))))
        self.sent += rows
        value = prediction_rows(version, role, self.rollout, first, ts_ns, seen, said)
        weights = np.full(rows, weight, dtype=np.float32)
        value = replace(value, model=self.model, weight=weights)
        # The other arm's rows of this time are still to come.
        return [*left_out, encode_predictions(value, producer, start_ns)]

    def _leave_out(self, producer: str, rows: int, start_ns: int) -> list[Record]:
        if rows == 0:
            return []
        first = self.sequences[producer]
        self.sequences[producer] += rows
        self.sent += rows
        reason = GapReason.SAMPLED
        return [
            gap_record(producer, [(first, rows)], reason, model=self.model, watermark_ns=start_ns)
        ]

    def _labels(self, producer: str) -> list[Record]:
        mine = [label for owner, label in self.due.get(self.block, []) if owner == producer]
        if not mine:
            return []
        first = self.label_sequences[producer]
        self.label_sequences[producer] += len(mine)
        at_ns = self.now_ns + BLOCK_NS // 2
        return [encode_labels(self.model, mine, producer, first, at_ns, arrived_ns=at_ns)]

    def lose(self, producer: str, rows: int, reason: GapReason = GapReason.OVERFLOW) -> None:
        """A gap of rows in the current block."""
        first = self.sequences[producer]
        self.sequences[producer] += rows
        record = gap_record(
            producer, [(first, rows)], reason, model=self.model, watermark_ns=self.now_ns + 1
        )
        self.append(self.log, producer, [record])

    def end(self) -> None:
        for producer in self.producers:
            record = end_record(producer, self.sequences[producer], self.now_ns, clean=True)
            self.append(self.log, producer, [record])


def prediction_rows(
    version: Version,
    role: str,
    rollout: str,
    first: int,
    ts_ns: np.ndarray,
    seen: np.ndarray,
    said: np.ndarray | None,
) -> PredictionRows:
    rows = len(ts_ns)
    outputs: Mapping[str, np.ndarray] = {} if said is None else {"label": said}
    return PredictionRows(
        model=MODEL,
        version=version.name,
        digest=version.digest,
        role=role,
        rollout=rollout,
        first_sequence=first,
        ts_ns=ts_ns.astype(np.int64),
        latency_ns=np.full(rows, 1000, dtype=np.int64),
        status=np.full(rows, 0 if said is not None else 50, dtype=np.uint8),
        flags=np.zeros(rows, dtype=np.uint8),
        weight=np.ones(rows, dtype=np.float32),
        row=np.zeros(rows, dtype=np.uint32),
        inputs={"x": seen},
        outputs=outputs,
    )
