"""`docs/performance.md` out of the results that were kept: `python -m loadtests.performance`.

Whoever measures again keeps the new results (`driftgate bench ... --results`) and
writes the page again; nothing on it is typed by hand.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results")
DOCS = Path(__file__).parent.parent / "docs"
PAGE, PLOT = "performance.md", "performance-sweep.svg"

Result = Mapping[str, Any]


def write(results: Path = RESULTS, docs: Path = DOCS) -> None:
    """The page and its plot, from every result in the folder."""
    found = {path.stem: json.loads(path.read_text()) for path in sorted(results.glob("*.json"))}
    (docs / PAGE).write_text(page(found))
    if "sweep" in found:
        (docs / PLOT).write_text(plot(found["sweep"]))


def page(results: Mapping[str, Result]) -> str:
    parts = [
        "# Performance\n\n"
        "This page is written by `python -m loadtests.performance` from the results in "
        "`loadtests/results`. Absolute figures are of the machine that each names, which was "
        "shared with others: compare within one run, and measure your own machine by the "
        "commands that stand beside the tables.\n"
    ]
    if "peers" in results:
        parts.append(_peers(results["peers"]))
    order = ["baseline", "sweep", "overload", "swap", "sizes", "models", "unlogged", "steady"]
    names = [*order, *sorted(results.keys() - {*order, "peers"})]
    parts += [_scenario(results[name]) for name in names if name in results]
    return "\n".join(parts)


def _peers(result: Result) -> str:
    setup = result["setup"]
    rows = []
    for form in result["forms"]:
        median, times = form["median"], form.get("times_ours")
        rows.append(
            (
                form["peer"],
                form["form"],
                f"{median['cpu_us_per_request']:.1f}",
                _maybe(median.get("front_end_cpu_us"), 1),
                f"{median['requests_per_s']:,.0f}",
                _maybe(median.get("p99_ms"), 2),
                f"{times['mean']:.1f} ({times['low']:.1f} to {times['high']:.1f})"
                if times
                else "1",
            )
        )
    head = (
        "server",
        "form",
        "CPU µs",
        "its front end alone",
        "requests/s",
        "p99 ms",
        "CPU, ours = 1",
    )
    return "\n".join(
        [
            "## Beside other servers\n",
            f"{result['what']}: `driftgate bench peers`. Medians of {setup['rounds']} rounds of "
            f"{setup['seconds']} s in turn; HTTP on {setup['connections']} connections, gRPC on "
            f"{setup['channels']} channels with {setup['calls']} calls each. The last column is "
            "over driftgate in the same form (else JSON), with its 95 % interval.\n",
            _table(head, rows),
            *(
                f"- {peer['name']}: {peer['what']}; {peer['rss_mib']:.0f} MiB"
                for peer in result["peers"]
            ),
            "",
            _machine(result),
        ]
    )


def _scenario(result: Result) -> str:
    capacity, deadline = result["capacity_per_s"], result["deadline_ms"]
    said = [f"`driftgate bench scenario {result['scenario']}`: {result['what']}."]
    workers = result["workers"] or "all"
    plural = "" if result["workers"] == 1 else "s"
    said.append(f"{workers} worker{plural}, {result['connections']} connections.")
    if capacity:
        said.append(f"It took {capacity:,.0f} requests/s with all connections busy.")
    good = f"good: right within {deadline:.0f} ms" if deadline else "good: right"
    said.append(f"Latency counts from when a request was due; {good}.")
    head = ("", "offered/s", "good/s", "good", "p50 ms", "p99 ms", "p99.9 ms", "refused",
            "in ms (p99)", "wrong", "lost", "CPU µs")  # fmt: skip
    rows = [
        (
            phase["phase"] + (" (void: the generator was late)" if phase["void"] else ""),
            f"{phase['offered_per_s']:,.0f}",
            f"{phase['good_per_s']:,.0f}",
            f"{phase['good_share']:.2%}",
            *(_maybe(phase[key], 2) for key in ("p50_ms", "p99_ms", "p999_ms")),
            str(phase["refused"]),
            _maybe(phase["refused_p99_ms"], 1),
            str(phase["wrong"]),
            str(phase["unanswered"]),
            f"{phase['cpu_us_per_request']:.0f}",
        )
        for phase in result["phases"]
    ]
    picture = [f"![Latency by load]({PLOT})\n"] if result["scenario"] == "sweep" else []
    title = result["scenario"].capitalize()
    return "\n".join(
        [f"## {title}\n", " ".join(said) + "\n", _table(head, rows), *picture, _machine(result)]
    )


def _machine(result: Result) -> str:
    machine = result["machine"]
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    commit = f" at {machine['commit']}" if machine.get("commit") else ""
    return (
        f"Measured{commit} on {machine['cores']} cores of {machine['cpu']}, Python "
        f"{machine['python']}, {packages}.\n"
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    align = ["---", *["---:"] * (len(head) - 1)]
    lines = [f"| {' | '.join(cells)} |" for cells in (head, align, *rows)]
    return "\n".join(lines) + "\n"


def _maybe(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:,.{digits}f}"


# -- the plot: p50, p99 and p99.9 over the load, on a scale of powers of ten ----------

WIDTH, HEIGHT, LEFT, BOTTOM, TOP = 640, 320, 56, 40, 16
LINES = (
    ("p50_ms", "p50", "#2563eb"),
    ("p99_ms", "p99", "#d97706"),
    ("p999_ms", "p99.9", "#be123c"),
)


def plot(sweep: Result) -> str:
    """The sweep as SVG."""
    phases = [phase for phase in sweep["phases"] if phase["p999_ms"] is not None]
    values = [phase[key] for phase in phases for key, *_ in LINES]
    low = math.floor(math.log10(min(values)))
    high = max(math.ceil(math.log10(max(values))), low + 1)
    most: float = max(phase["offered_per_s"] for phase in phases)

    def x(per_s: float) -> float:
        return LEFT + (WIDTH - LEFT - 60) * per_s / most

    def y(ms: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (high - math.log10(ms)) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        'font-family="system-ui, sans-serif" font-size="12">',
        "<title>Latency over requests per second</title>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for power in range(low, high + 1):
        at = y(10.0**power)
        parts.append(f'<path d="M{LEFT} {at:.1f}H{WIDTH - 60}" stroke="#ddd"/>')
        parts.append(
            f'<text x="{LEFT - 6}" y="{at + 4:.1f}" text-anchor="end">{10.0**power:g} ms</text>'
        )
    parts += [
        f'<text x="{x(phase["offered_per_s"]):.1f}" y="{HEIGHT - BOTTOM + 16}" '
        f'text-anchor="middle">{phase["offered_per_s"] / 1000:.1f}k</text>'
        for phase in phases
    ]
    middle = (LEFT + WIDTH - 60) / 2
    parts.append(
        f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">requests/s offered</text>'
    )
    for key, name, colour in LINES:
        points = " ".join(f"{x(p['offered_per_s']):.1f},{y(p[key]):.1f}" for p in phases)
        parts.append(
            f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="2"/>'
        )
        parts.append(
            f'<text x="{x(most) + 6:.1f}" y="{y(phases[-1][key]) + 4:.1f}" '
            f'fill="{colour}">{name}</text>'
        )
    return "\n".join([*parts, "</svg>"]) + "\n"


if __name__ == "__main__":
    write()
