"""What workers have counted of each version, as Triton's clients read it.

Counts of `inference_stats` are of requests that got their prediction (of `fail`:
that did not), and every request of a batch counts the whole time of its batch, as
in Triton; `batch_stats` count executions. Both are sums since the gateway's state
directory began: they outlive workers and reloads, and never fall.
"""

from collections.abc import Collection, Mapping

from protos import inference_pb2 as pb
from serving.metrics import BATCH_STATISTICS, MODEL_STATISTICS, QUEUE_ROWS, REQUESTS, Totals

_NOTHING = [0.0] * len(MODEL_STATISTICS.fields)


def model_statistics(
    totals: Totals, versions: Collection[tuple[str, str]]
) -> pb.ModelStatisticsResponse:
    """The statistics of `versions` (model, version), in their order; of new ones, zeros."""
    batches: dict[tuple[str, str], list[tuple[int, list[float]]]] = {}
    for key, cells in totals.cells.items():
        if key[0] == BATCH_STATISTICS.name and key[3].isdigit():
            batches.setdefault((key[1], key[2]), []).append((int(key[3]), cells))
    response = pb.ModelStatisticsResponse()
    for model, version in versions:
        cells = totals.cells.get((MODEL_STATISTICS.name, model, version), _NOTHING)
        found = dict(zip(MODEL_STATISTICS.fields, map(int, cells), strict=True))
        response.model_stats.append(_of_version(model, version, found))
        for rows, each in sorted(batches.get((model, version), ())):
            response.model_stats[-1].batch_stats.append(_of_batch(rows, each))
    return response


def _of_version(model: str, version: str, found: Mapping[str, int]) -> pb.ModelStatistics:
    success = found["success"]
    return pb.ModelStatistics(
        name=model,
        version=version,
        last_inference=found["inference_ms_last"],
        inference_count=found["rows"],
        execution_count=found["executions"],
        inference_stats=pb.InferStatistics(
            success=_duration(success, found["success_ns"]),
            fail=_duration(found["fail"], found["fail_ns"]),
            queue=_duration(success, found["queue_ns"]),
            compute_input=_duration(success, found["compute_input_ns"]),
            compute_infer=_duration(success, found["compute_infer_ns"]),
            compute_output=_duration(success, found["compute_output_ns"]),
            cache_hit=_duration(0, 0),
            cache_miss=_duration(0, 0),
        ),
    )


def _of_batch(rows: int, cells: list[float]) -> pb.InferBatchStatistics:
    found = dict(zip(BATCH_STATISTICS.fields, map(int, cells), strict=True))
    executions = found["executions"]
    return pb.InferBatchStatistics(
        batch_size=rows,
        compute_input=_duration(executions, found["compute_input_ns"]),
        compute_infer=_duration(executions, found["compute_infer_ns"]),
        compute_output=_duration(executions, found["compute_output_ns"]),
    )


def _duration(count: int, ns: int) -> pb.StatisticDuration:
    return pb.StatisticDuration(count=count, ns=max(0, ns))


# name -> (help, field of MODEL_STATISTICS, unit of ours in one of theirs)
_TRITON_COUNTERS: Mapping[str, tuple[str, str, int]] = {
    "nv_inference_request_success": ("Requests answered with a prediction.", "success", 1),
    "nv_inference_count": ("Rows predicted.", "rows", 1),
    "nv_inference_exec_count": ("Executions of the model.", "executions", 1),
    "nv_inference_request_duration_us": ("Time of answered requests.", "success_ns", 1000),
    "nv_inference_queue_duration_us": ("Time in the queue.", "queue_ns", 1000),
    "nv_inference_compute_input_duration_us": (
        "Time to put inputs together.", "compute_input_ns", 1000,
    ),
    "nv_inference_compute_infer_duration_us": ("Time in the model.", "compute_infer_ns", 1000),
    "nv_inference_compute_output_duration_us": (
        "Time to write replies.", "compute_output_ns", 1000,
    ),
}  # fmt: skip
# The reasons that Triton tells apart, by our status codes.
_TRITON_REASONS: Mapping[str, str] = {"503": "REJECTED", "504": "REJECTED", "499": "CANCELED"}


def triton_metrics(totals: Totals) -> bytes:
    """The families of Triton's that dashboards and autoscalers read, of every version seen.

    Failures are counted by reason: REJECTED (queue full, deadline), CANCELED, BACKEND
    (the model could not run the request), OTHER.
    """
    versions = sorted(key[1:] for key in totals.cells if key[0] == MODEL_STATISTICS.name)
    lines: list[str] = []
    for name, (text, field, unit) in _TRITON_COUNTERS.items():
        index = MODEL_STATISTICS.fields.index(field)
        lines += [f"# HELP {name} {text}", f"# TYPE {name} counter"]
        for model, version in versions:
            value = totals.cells[MODEL_STATISTICS.name, model, version][index] // unit
            lines.append(f'{name}{{model="{model}",version="{version}"}} {value:.17g}')
    name = "nv_inference_request_failure"
    lines += [f"# HELP {name} Requests without a prediction, by reason.", f"# TYPE {name} counter"]
    for (model, version, reason), value in sorted(_failures(totals, versions).items()):
        labels = f'model="{model}",reason="{reason}",version="{version}"'
        lines.append(f"{name}{{{labels}}} {value:.17g}")
    name = "nv_inference_pending_request_count"
    lines += [f"# HELP {name} Rows that wait for a run.", f"# TYPE {name} gauge"]
    for key, cells in sorted(totals.cells.items()):
        if key[0] == QUEUE_ROWS.name:
            lines.append(f'{name}{{model="{key[1]}"}} {cells[0]:.17g}')
    return ("\n".join(lines) + "\n").encode()


def _failures(
    totals: Totals, versions: Collection[tuple[str, ...]]
) -> dict[tuple[str, str, str], float]:
    reasons = ("REJECTED", "CANCELED", "BACKEND", "OTHER")
    failures = {(m, v, reason): 0.0 for m, v in versions for reason in reasons}
    for key, cells in totals.cells.items():
        if key[0] == REQUESTS.name and key[4] != "200":
            _, model, version, _, code = key
            reason = _TRITON_REASONS.get(code, "BACKEND" if code == "500" else "OTHER")
            failures[model, version, reason] = (
                failures.get((model, version, reason), 0.0) + cells[0]
            )
    return failures
