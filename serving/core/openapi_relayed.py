"""Schemas of what the supervisor answers: statistics, repository, settings, shared memory."""

from serving.core.openapi_nodes import FLAG, TEXT, Node, array, closed, obj, ref
from serving.core.relayed_requests import SETTINGS_MAX

_COUNT: Node = {"type": "integer", "minimum": 0}


def relayed_schemas() -> Node:
    """By name."""
    return _statistics() | _repository() | _settings() | _memory()


def _statistics() -> Node:
    of_requests = (
        *("success", "fail", "queue", "compute_input", "compute_infer", "compute_output"),
        *("cache_hit", "cache_miss"),
    )
    of_batches = ("compute_input", "compute_infer", "compute_output")
    duration = ref("Duration")
    return {
        "Duration": closed("count ns", {"count": _COUNT, "ns": _COUNT}),
        "Statistics": closed("model_stats", {"model_stats": array(ref("ModelStatistics"))}),
        "ModelStatistics": obj(
            "name version last_inference inference_count execution_count inference_stats "
            "batch_stats",
            {
                "name": TEXT,
                "version": TEXT,
                "last_inference": _COUNT,
                "inference_count": _COUNT,
                "execution_count": _COUNT,
                "inference_stats": closed(
                    " ".join(of_requests), dict.fromkeys(of_requests, duration)
                ),
                "batch_stats": array(
                    closed(
                        "batch_size " + " ".join(of_batches),
                        {"batch_size": _COUNT, **dict.fromkeys(of_batches, duration)},
                    )
                ),
            },
        ),
    }


def _repository() -> Node:
    states = {"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]}
    entry = {"name": TEXT, "version": TEXT, "state": states, "reason": TEXT}
    value = {"anyOf": [FLAG, {"type": "integer", "minimum": -(2**63), "maximum": 2**63 - 1}, TEXT]}
    return {
        "Nothing": closed("", {}),
        "Ignored": obj("", {}),
        "RepositoryIndexRequest": obj("", {"ready": FLAG}),
        "RepositoryIndex": array(closed("name", entry)),
        "RepositoryParameters": obj(
            "",
            {"parameters": obj("", {}, additionalProperties=value, maxProperties=SETTINGS_MAX)},
        ),
    }


def _settings() -> Node:
    texts = array(TEXT)
    text = {"anyOf": [TEXT, {"type": "integer"}]}
    wanted = {"anyOf": [{"type": "null"}, *text["anyOf"], array(text)]}
    value = {"anyOf": [FLAG, {"type": "integer", "minimum": 0, "maximum": 2**32 - 1}, TEXT]}
    trace = (
        "trace_level",
        "trace_rate",
        "trace_count",
        "log_frequency",
        "trace_file",
        "trace_mode",
    )
    log = ("log_file", "log_info", "log_warning", "log_error", "log_verbose_level", "log_format")
    return {
        "TraceSettings": closed(
            " ".join(trace), {name: texts if name == "trace_level" else TEXT for name in trace}
        ),
        "TraceSettingsWanted": obj("", dict.fromkeys(trace, wanted), additionalProperties=False),
        "LogSettings": closed(" ".join(log), dict.fromkeys(log, value)),
        "LogSettingsWanted": obj("", dict.fromkeys(log, value), additionalProperties=False),
    }


def _memory() -> Node:
    size = {"type": "integer", "minimum": 0, "maximum": 2**63 - 1}
    region = {"name": TEXT, "key": TEXT, "offset": size, "byte_size": size}
    return {
        "MemoryRegions": array(obj("name byte_size", region)),
        "SystemMemory": obj("key byte_size", {"key": TEXT, "offset": size, "byte_size": size}),
        "CudaMemory": obj("", {}),
    }
