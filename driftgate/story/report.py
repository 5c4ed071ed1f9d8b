"""The demo's report: one HTML file with what happened, in pictures."""

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from driftgate.story.charts import Points, bar_pairs, line_chart, stacked_shares

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 760px; margin: 2rem auto; padding: 0 1rem;
       color: #222; background: #fff; }
svg { width: 100%; height: auto; } svg text { font-size: 11px; fill: currentColor; }
.grid { stroke: #8884; } .threshold { stroke: #d55e00; stroke-dasharray: 5 3; }
.mark { stroke: #888; stroke-dasharray: 2 3; }
.legend { list-style: none; display: flex; gap: 1.2rem; padding: 0; margin: 0 0 1.5rem;
          font-size: 13px; }
.legend span { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
table { border-collapse: collapse; } td, th { padding: .2rem 1rem .2rem 0; text-align: left;
       border-bottom: 1px solid #8884; }
td.n { white-space: nowrap; vertical-align: top; font-variant-numeric: tabular-nums; }
@media (prefers-color-scheme: dark) { body { color: #ddd; background: #181818; } }
"""


@dataclass(frozen=True, slots=True)
class FeatureShift:
    """One feature that moved, and how far: below the reference's range, its bins, above it."""

    name: str
    reference: Sequence[float]
    live: Sequence[float]
    ks: float


@dataclass(frozen=True, slots=True)
class Report:
    """All times are seconds since the traffic began; an event's place names it in charts.

    evidence: log10 of the page evidence over log10-scaled time, per model state.
    loss:     mean 0/1 loss of labelled rows per version and interval.
    versions: rows per version and interval of `interval_s`.
    """

    summary: Mapping[str, Any]
    events: Sequence[tuple[float, str]]
    features: Sequence[FeatureShift]
    evidence: Mapping[str, Points]
    threshold: float
    loss: Mapping[str, Points]
    versions: Mapping[str, Points]
    interval_s: float


def render(report: Report) -> str:
    """The report as one self-contained page."""
    sections = (
        ("What happened", _events(report)),
        ("In numbers", _table(report.summary)),
        (
            "Evidence and threshold",
            line_chart(
                report.evidence,
                y_label="log10 of evidence (s)",
                threshold=report.threshold,
                marks=[(at, str(n)) for n, (at, _) in enumerate(report.events, 1)],
            ),
        ),
        ("Loss by version", line_chart(report.loss, y_label="share wrong", y_max=1.0)),
        ("Versions over time", stacked_shares(report.versions, report.interval_s)),
        ("The features that moved most", _features(report)),
    )
    body = "".join(f"<h2>{title}</h2>{content}" for title, content in sections)
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width"><title>driftgate demo</title>'
        f"<style>{STYLE}</style><h1>Serve, drift, roll back, retrain</h1>{body}</html>"
    )


def write(report: Report, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(render(report))


def _events(report: Report) -> str:
    rows = "".join(
        f'<tr><td class="n">{n}</td><td class="n">{at:.1f} s</td><td>{html.escape(text)}</td></tr>'
        for n, (at, text) in enumerate(report.events, 1)
    )
    return f"<table>{rows}</table>"


def _table(summary: Mapping[str, Any]) -> str:
    rows = "".join(
        f'<tr><th>{html.escape(str(key))}</th><td class="n">{html.escape(str(value))}</td></tr>'
        for key, value in summary.items()
    )
    return f"<table>{rows}</table>"


def _features(report: Report) -> str:
    if not report.features:
        return "<p>None.</p>"
    return "".join(
        f"<h3>{html.escape(shift.name)}: Kolmogorov-Smirnov distance {shift.ks:.2f}</h3>"
        + bar_pairs(shift.reference, shift.live, ("reference", "live"))
        for shift in report.features
    )
