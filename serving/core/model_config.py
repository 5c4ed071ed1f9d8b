"""A version's configuration as Triton's clients read it: one document, two forms.

The JSON document is spelled as protobuf's JSON with the names of the .proto, every
field present, and 64-bit numbers as numbers; the gRPC message is parsed from it.
It says what is in force, not what a file asked for. Source: Triton's model
configuration extension.
"""

from collections.abc import Mapping
from typing import Any

from google.protobuf import json_format

from protos import model_config_pb2 as pb
from serving.core.datatypes import Datatype
from serving.core.padding import PaddingSettings
from serving.core.queue_settings import QueueSettings
from serving.core.signature import Signature, TensorSpec

PLATFORM = "onnxruntime_onnx"
BACKEND = "onnxruntime"
MODEL_FILENAME = "model.onnx"


def config_document(
    signature: Signature, settings: Mapping[str, Any], instances: int
) -> dict[str, Any]:
    """settings: the version's settings document. instances: sessions of it, on all workers,
    each of which runs as many batches at a time as the settings say.

    Raises: KeyError, TypeError or ValueError for settings of another form.
    """
    batches = signature.max_batch_size > 0
    queue = QueueSettings.from_settings(settings)
    count = instances * queue.instances
    document: dict[str, Any] = {
        "name": signature.model,
        "platform": PLATFORM,
        "backend": BACKEND,
        "version_policy": settings.get("version_policy") or {"all": {}},
        "max_batch_size": signature.max_batch_size,
        "input": [_input(spec, batches) for spec in signature.inputs],
        "output": [_output(spec, batches) for spec in signature.outputs],
        "instance_group": [
            {"name": signature.model, "kind": "KIND_CPU", "count": count, "gpus": []}
        ],
        "default_model_filename": settings.get("model_filename") or MODEL_FILENAME,
        "parameters": _parameters(PaddingSettings.from_settings(settings)),
        "model_warmup": [_sample(sample) for sample in settings.get("warmup") or ()],
        "model_transaction_policy": {"decoupled": False},
    }
    if batches:
        document["dynamic_batching"] = _batching(queue)
    return document


def config_message(document: Mapping[str, Any]) -> pb.ModelConfig:
    """The same as a message. Raises: json_format.ParseError for what the .proto has not."""
    return json_format.ParseDict(dict(document), pb.ModelConfig())


def data_type(datatype: Datatype) -> str:
    """The configuration's word for a datatype."""
    return "TYPE_STRING" if datatype is Datatype.BYTES else f"TYPE_{datatype.wire}"


def config_dims(spec: TensorSpec, *, batches: bool) -> list[int]:
    """A shape as configurations write it: without the batch dimension."""
    return list(spec.shape[1:] if batches else spec.shape)


def _parameters(padding: PaddingSettings | None) -> dict[str, Any]:
    given = {} if padding is None else padding.parameters()
    return {name: {"string_value": value} for name, value in given.items()}


def _input(spec: TensorSpec, batches: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": data_type(spec.datatype),
        "format": "FORMAT_NONE",
        "dims": config_dims(spec, batches=batches),
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
    }


def _output(spec: TensorSpec, batches: bool) -> dict[str, Any]:
    return {
        "name": spec.name,
        "data_type": data_type(spec.datatype),
        "dims": config_dims(spec, batches=batches),
        "label_filename": "",
        "is_shape_tensor": False,
    }


def _batching(queue: QueueSettings) -> dict[str, Any]:
    return {
        "preferred_batch_size": list(queue.preferred_sizes),
        "max_queue_delay_microseconds": queue.delay_us,
        "preserve_ordering": queue.preserve_ordering,
        "priority_levels": queue.priority_levels,
        "default_priority_level": queue.default_priority_level,
        "default_queue_policy": {
            "timeout_action": "DELAY" if queue.timeout_delays else "REJECT",
            "default_timeout_microseconds": queue.default_timeout_us,
            "allow_timeout_override": queue.allow_timeout_override,
            "max_queue_size": queue.max_queue_size,
        },
    }


def _sample(sample: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": sample["name"],
        "batch_size": sample["batch_size"],
        "inputs": {name: dict(each) for name, each in sample["inputs"].items()},
        "count": sample["count"],
    }
