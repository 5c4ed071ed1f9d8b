"""A sweep for a person: the table, what is recommended and why, and the lines to paste."""

from driftgate.commands.tables import table
from driftgate.tuning.sweep import Swept
from driftgate.tuning.target import Origin, Target
from serving.core.tuning import best, curves, duration, knee

_MARKS = {(True, True): "knee, most", (True, False): "knee", (False, True): "most"}


def as_lines(target: Target, swept: Swept) -> list[str]:
    inputs = "its golden samples" if swept.golden else "made-up inputs"
    cores = "1 core" if swept.cores == 1 else f"{swept.cores} cores"
    rows: list[tuple[str, ...]] = [("threads", "rows", "median", "p99", "rows/s", "runs", "")]
    for curve in curves(swept.timings).values():
        bend, top = knee(curve), best(curve)
        rows += [
            (
                *(str(t.threads), str(t.rows), duration(t.median_ns), duration(t.p99_ns)),
                *(f"{t.rows_per_s:,.0f}", str(t.runs), _MARKS.get((t is bend, t is top), "")),
            )
            for t in curve
        ]
    lines = [
        f"{target.name} version {target.version}, from the {target.origin.value}: "
        f"{inputs}, {cores}",
        *table(rows, left={6}),
    ]
    if swept.left_out:
        sizes = ", ".join(f"{rows} with {threads}" for threads, rows in swept.left_out)
        lines.append(f"left out, for lack of time (rows with threads): {sizes}; see --seconds")
    for threads, rate in swept.together.items():
        with_threads = "1 thread" if threads == 1 else f"{threads} threads"
        lines.append(
            f"{swept.cores // threads} sessions with {with_threads} at once: {rate:,.0f} rows/s"
        )
    lines += ["recommended:", *(f"  {reason}" for reason in swept.advice.reasons)]
    return [*lines, "", *paste(target, swept)]


def paste(target: Target, swept: Swept) -> list[str]:
    """The settings as their files and commands take them."""
    advice = swept.advice
    each = advice.workers == swept.cores
    workers = "0  # one per core" if each else str(advice.workers)
    lines = ["# driftgate.toml", "[gateway]", f"workers = {workers}", ""]
    if target.origin is not Origin.REGISTRY:
        lines += ["# config.pbtxt", f"max_batch_size: {advice.max_batch_size}"]
    if target.origin is not Origin.FOLDER:
        name, file = ("NAME", f"{target.name}.onnx")
        if target.origin is Origin.REGISTRY:
            name, file = target.name, "FILE.onnx"
        lines += [
            "# at the next push to the registry",
            f"driftgate model push {name} {file} --max-batch-size {advice.max_batch_size}",
        ]
    return lines
