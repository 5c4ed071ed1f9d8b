"""How long the monitor takes to say what moved, beside other drift monitors, in one run.

All of them get the same two tables of float32, a reference and live rows, and are
asked in turn, so that whatever else the machine does falls on all alike. What counts is
CPU time: some use more than one core. Ours starts from the records of the log and
gives four statistics of every feature and a verdict after each tenth of the rows;
NannyML starts from a DataFrame and gives two after each tenth; Evidently starts from
DataFrames and gives one statistic of all rows. Imports and a first round of each,
in which ours compiles, are left out.
"""

import json
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from monitor.bench import RECORD_ROWS, make_engine, make_log
from monitor.core.bins import AnyArray
from monitor.core.effects import effects
from monitor.engine import Closed
from monitor.profile import FeatureSpec, build_profile

ROWS, FEATURES, CHUNKS, ROUNDS = 100_000, 50, 10, 5
MOVED, SHIFT = 5, 0.3  # the first features, by so many deviations
SEED = 1
OURS = "driftgate"
SCRIPT = "{}_drift.py"


class PeerError(RuntimeError):
    """A peer did not run, or did not find what moved; the message says which."""


@dataclass(frozen=True, slots=True)
class Round:
    """fit_s: from the reference's rows to what is kept of them; answer_s: from live rows
    to statistics; CPU seconds. values: one statistic per feature that grows with the shift.
    """

    fit_s: float
    answer_s: float
    values: list[float]


Ask = Callable[[], Round]


def measure(
    environments: Mapping[str, Path],
    scripts: Path,
    rounds: int = ROUNDS,
    rows: int = ROWS,
    features: int = FEATURES,
) -> dict[str, Any]:
    """environments: peer -> its virtual environment. Raises: PeerError."""
    random = np.random.default_rng(SEED)
    reference = random.normal(size=(rows, features)).astype(np.float32)
    live = random.normal(size=(rows, features)).astype(np.float32)
    live[:, :MOVED] += np.float32(SHIFT)
    versions: dict[str, str] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory()))
        np.save(folder / "reference.npy", reference)
        np.save(folder / "live.npy", live)
        asked: dict[str, Ask] = {OURS: _ours(reference, live)}
        for name, env in environments.items():
            command = [
                str(env / "bin" / "python"),
                str(scripts / SCRIPT.format(name)),
                str(folder / "reference.npy"),
                str(folder / "live.npy"),
                str(rows // CHUNKS),
            ]
            running = _running(name, command, folder / f"{name}.log")
            versions[name], asked[name] = stack.enter_context(running)
        found: dict[str, list[Round]] = {name: [] for name in asked}
        for number in range(-1, rounds):  # the first warms up and is not counted
            for name, ask in asked.items():
                answer = ask()
                _check(name, answer)
                if number >= 0:
                    found[name].append(answer)
    return _document(found, versions, rows, features)


def _ours(reference: AnyArray, live: AnyArray) -> Ask:
    specs = [FeatureSpec(f"f{i}") for i in range(reference.shape[1])]
    blocks = [
        [chunk[at : at + RECORD_ROWS] for at in range(0, len(chunk), RECORD_ROWS)]
        for chunk in np.split(live, CHUNKS)
    ]
    log, records = make_log(blocks), sum(len(block) + 1 for block in blocks)

    def ask() -> Round:
        started = time.process_time()
        profile = build_profile(reference, specs)
        fitted = time.process_time()
        engine = make_engine(log, profile)
        answers = []

        def on_closed(closed: Closed) -> None:
            answers.append(effects(engine.models[closed.model]))

        engine.read(records)
        engine.close_blocks(on_closed)
        spent_s = time.process_time() - fitted
        assert len(answers) == CHUNKS
        by_name = {item.feature.name: item.statistics["ks"] for item in answers[-1]}
        return Round(fitted - started, spent_s, [by_name[spec.name] for spec in specs])

    return ask


@contextmanager
def _running(name: str, command: list[str], errors: Path) -> Iterator[tuple[str, Ask]]:
    """The peer's version, and how to ask it; errors: a file for what it says of itself.

    Raises: PeerError.
    """
    with (
        errors.open("w") as said,
        subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True
        ) as process,
    ):
        questions, answers = process.stdin, process.stdout
        assert questions is not None
        assert answers is not None

        def answer() -> dict[str, Any]:
            text = answers.readline()
            if not text:
                raise PeerError(f"{name} ended: {errors.read_text().strip()[-400:]}")
            found: dict[str, Any] = json.loads(text)
            return found

        def ask() -> Round:
            questions.write("\n")
            questions.flush()
            return Round(**answer())

        try:
            yield answer()["version"], ask
        finally:
            process.kill()


def _check(name: str, answer: Round) -> None:
    largest = np.argsort(answer.values)[-MOVED:]
    if set(largest.tolist()) != set(range(MOVED)):
        raise PeerError(f"{name} did not find what moved: {answer.values}")


def _document(
    found: Mapping[str, list[Round]], versions: Mapping[str, str], rows: int, features: int
) -> dict[str, Any]:
    figures = {
        name: {
            "version": versions.get(name),
            "fit_s": median(item.fit_s for item in items),
            "answer_s": median(item.answer_s for item in items),
            "answers_s": [item.answer_s for item in items],
        }
        for name, items in found.items()
    }
    ours = found[OURS]
    for name, items in found.items():
        pairs = list(zip(items, ours, strict=True))
        figures[name]["answer_times_ours"] = median(a.answer_s / b.answer_s for a, b in pairs)
        figures[name]["both_times_ours"] = median(
            (a.fit_s + a.answer_s) / (b.fit_s + b.answer_s) for a, b in pairs
        )
    return {
        "benchmark": "monitor-peers",
        "rows": rows,
        "features": features,
        "monitors": figures,
        "text": _text(figures, rows, features),
    }


def _text(figures: Mapping[str, Mapping[str, Any]], rows: int, features: int) -> str:
    lines = [
        f"which of {features} features moved, {rows} reference and {rows} live rows, CPU seconds:",
        f"  {'':<20}{'fit':>8}{'answer':>9}{'M values/s':>12}{'answer, x ours':>16}"
        f"{'with fit, x ours':>18}",
    ]
    for name, item in figures.items():
        title = f"{name} {item['version'] or ''}".rstrip()
        fit = f"{item['fit_s']:.2f}" if item["fit_s"] else "-"
        rate = rows * features / item["answer_s"] / 1e6
        lines.append(
            f"  {title:<20}{fit:>8}{item['answer_s']:>9.3f}{rate:>12.1f}"
            f"{item['answer_times_ours']:>16.1f}{item['both_times_ours']:>18.1f}"
        )
    return "\n".join(lines)
