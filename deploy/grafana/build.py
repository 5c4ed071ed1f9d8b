"""Build the Grafana boards: `python -m deploy.grafana.build` writes dashboards/*.json.

The committed JSON is what Grafana's provisioning reads; a test holds it against
this file, and another runs every query against a live system.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
SCHEMA_VERSION = 39
MODELS = 'job=~"$job", instance=~"$instance", model=~"$model"'
ALL = 'job=~"$job", instance=~"$instance"'


@dataclass(frozen=True, slots=True)
class Panel:
    """One time series panel; `queries` maps a legend to an expression."""

    title: str
    description: str
    unit: str
    queries: dict[str, str]
    width: int = 12


def _rate(metric: str, labels: str = MODELS, by: str = "") -> str:
    grouped = f" by ({by})" if by else ""
    return f"sum{grouped} (rate({metric}{{{labels}}}[$__rate_interval]))"


def _quantile(q: float, metric: str, by: str = "") -> str:
    groups = f"le, {by}" if by else "le"
    buckets = f"{metric}_bucket{{{MODELS}}}[$__rate_interval]"
    return f"histogram_quantile({q}, sum by ({groups}) (rate({buckets})))"


OVERVIEW = (
    Panel(
        "Requests",
        "Infer requests answered per second, by model and protocol.",
        "reqps",
        {"{{model}} {{protocol}}": _rate("driftgate_requests_total", by="model, protocol")},
    ),
    Panel(
        "Failed requests",
        "Share of the requests answered with anything but success.",
        "percentunit",
        {
            "{{model}}": _rate("driftgate_requests_total", MODELS + ', code!~"200|OK"', by="model")
            + " / "
            + _rate("driftgate_requests_total", by="model")
            + " or 0 * "
            + _rate("driftgate_requests_total", by="model")
        },
    ),
    Panel(
        "Latency",
        "From a request's last byte to its reply.",
        "s",
        {
            "p50": _quantile(0.5, "driftgate_request_duration_seconds"),
            "p99": _quantile(0.99, "driftgate_request_duration_seconds"),
        },
    ),
    Panel(
        "Where the time goes",
        "Mean seconds per stage; infer is per execution, the others per request.",
        "s",
        {
            "{{stage}}": _rate("driftgate_request_stage_seconds_sum", by="stage")
            + " / "
            + _rate("driftgate_request_stage_seconds_count", by="stage")
        },
    ),
    Panel(
        "Rows per execution",
        "Mean batch size: how much natural batching gives at this load.",
        "short",
        {
            "{{model}}": _rate("driftgate_batch_rows_sum", by="model")
            + " / "
            + _rate("driftgate_batch_rows_count", by="model")
        },
    ),
    Panel(
        "Rows in flight and refused requests",
        "Rows admitted and not yet answered; requests refused per second.",
        "short",
        {
            "in flight {{model}}": f"sum by (model) (driftgate_queue_rows{{{MODELS}}})",
            "refused {{model}} {{reason}}": _rate(
                "driftgate_requests_rejected_total", by="model, reason"
            ),
        },
    ),
    Panel(
        "Traffic by version",
        "Share of the traffic that each version is given.",
        "percentunit",
        {"{{model}} {{version}}": f"driftgate_rollout_weight_ratio{{{MODELS}}}"},
    ),
    Panel(
        "Accepted commands",
        "Commands to deployments in the last five minutes, by verb and origin.",
        "short",
        {
            "{{verb}} {{origin}}": "sum by (verb, origin) "
            f"(increase(driftgate_rollout_transitions_total{{{MODELS}}}[5m]))"
        },
    ),
    Panel(
        "Prediction log",
        "Rows numbered, rows written and rows known to be lost, per second.",
        "rowsps",
        {
            "acknowledged": _rate("driftgate_prediction_log_acknowledged_rows_total", ALL),
            "written": _rate("driftgate_prediction_log_written_rows_total", ALL),
            "gaps {{reason}}": _rate("driftgate_prediction_log_gap_rows_total", ALL, by="reason"),
        },
    ),
    Panel(
        "Evidence of drift",
        "Per model, against the threshold that pages; both in seconds of wall time.",
        "s",
        {
            "evidence {{model}}": "max by (model) "
            f"(driftgate_monitor_evidence_seconds{{{MODELS}}})",
            "page {{model}}": "max by (model) (driftgate_monitor_evidence_threshold_seconds"
            f'{{{MODELS}, tier="page"}})',
        },
    ),
    Panel(
        "Loss of labelled rows",
        "Mean loss since the version took its arm, beside the reference's.",
        "percentunit",
        {"{{model}} {{of}}": f"max by (model, of) (driftgate_monitor_loss_ratio{{{MODELS}}})"},
    ),
    Panel(
        "Features that moved most",
        "Kolmogorov-Smirnov distance from the reference, the five largest.",
        "short",
        {
            "{{model}} {{feature}}": "topk(5, max by (model, feature) "
            f'(driftgate_monitor_feature_effect{{{MODELS}, statistic="ks"}}))'
        },
    ),
    Panel(
        "Behind the log",
        "Age of the monitor's newest statistics.",
        "s",
        {"lag": f"max (driftgate_monitor_lag_seconds{{{ALL}}})"},
    ),
    Panel(
        "Workers and connections",
        "Workers that serve, and open HTTP connections.",
        "short",
        {
            "workers": f"sum (driftgate_workers{{{ALL}}})",
            "{{protocol}}": f"sum by (protocol) (driftgate_connections{{{ALL}}})",
        },
    ),
)


def board(uid: str, title: str, panels: tuple[Panel, ...]) -> dict[str, Any]:
    """One dashboard in Grafana's JSON model."""
    return {
        "uid": uid,
        "title": title,
        "tags": ["driftgate"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": list(_variables())},
        "panels": list(_panels(panels)),
    }


def _variables() -> Iterator[dict[str, Any]]:
    yield {
        "name": "datasource",
        "label": "Data source",
        "type": "datasource",
        "query": "prometheus",
    }
    for name, label in (("job", "Job"), ("instance", "Instance"), ("model", "Model")):
        metric = "driftgate_rollout_weight_ratio" if name == "model" else "driftgate_build_info"
        yield {
            "name": name,
            "label": label,
            "type": "query",
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "query": f"label_values({metric}, {name})",
            "refresh": 2,
            "multi": True,
            "includeAll": True,
            "allValue": ".+",
            "current": {"text": "All", "value": "$__all"},
        }


def _panels(panels: tuple[Panel, ...]) -> Iterator[dict[str, Any]]:
    height = 8
    for index, panel in enumerate(panels):
        yield {
            "id": index + 1,
            "type": "timeseries",
            "title": panel.title,
            "description": panel.description,
            "datasource": {"type": "prometheus", "uid": "$datasource"},
            "gridPos": {
                "x": index % 2 * panel.width,
                "y": index // 2 * height,
                "w": panel.width,
                "h": height,
            },
            "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
            "targets": [
                {"refId": chr(65 + place), "expr": expression, "legendFormat": legend}
                for place, (legend, expression) in enumerate(panel.queries.items())
            ],
        }


def render() -> dict[str, str]:
    """File name to content, for every board."""
    boards = {"overview.json": board("driftgate-overview", "driftgate: overview", OVERVIEW)}
    return {name: json.dumps(content, indent=2) + "\n" for name, content in boards.items()}


if __name__ == "__main__":
    for name, content in render().items():
        (FOLDER / name).write_text(content)
