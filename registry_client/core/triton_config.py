"""A Triton config.pbtxt, as far as we honour it, with a warning for all the rest.

A key that is not honoured is never dropped in silence: it becomes one line of
`warnings`, which travels on the manifest to `driftgate model show` and the log.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

from registry_client.core.errors import Invalid
from registry_client.core.names import check_version, shown
from registry_client.core.pbtxt import Field, Message, Word, parse_pbtxt
from registry_client.core.signature import TRITON_TYPES, TensorSpec

BATCH_MAX = 1 << 20
QUEUE_DELAY_US_MAX = 60_000_000  # a minute: beyond it the deadline of any request
DIM_MAX = (1 << 31) - 1
INSTANCES_MAX = 1_024
WARNINGS_MAX = 100

_SERVED_PLATFORMS = frozenset({"", "onnxruntime_onnx"})
_SERVED_BACKENDS = frozenset({"", "onnxruntime"})


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions on disk may be served; all three empty: every one."""

    latest: int = 0
    specific: tuple[str, ...] = ()

    def select(self, versions: list[str]) -> list[str]:
        """The versions of an ascending list that the policy makes available."""
        if self.specific:
            return [version for version in versions if version in self.specific]
        return versions[-self.latest :] if self.latest else versions


@dataclass(slots=True)
class TritonConfig:
    """What was read. dims of inputs and outputs are without the batch dimension."""

    name: str = ""
    model_filename: str = "model.onnx"
    max_batch_size: int | None = None
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    has_dynamic_batching: bool = False
    preferred_batch_sizes: list[int] = field(default_factory=list)
    queue_delay_us: int = 0
    version_policy: VersionPolicy = field(default_factory=VersionPolicy)
    instances: int | None = None
    warmups: int = 0
    warnings: list[str] = field(default_factory=list)

    def serving(self) -> dict[str, object]:
        """The manifest's serving settings; only what the file says."""
        settings: dict[str, object] = {}
        if self.max_batch_size is not None:
            settings["max_batch_size"] = self.max_batch_size
        if self.has_dynamic_batching:
            settings["max_queue_delay_us"] = self.queue_delay_us
        if self.preferred_batch_sizes:
            settings["preferred_batch_sizes"] = list(self.preferred_batch_sizes)
        if self.instances is not None:
            settings["instance_count"] = self.instances
        return settings

    def with_batch(self, specs: list[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Specs as served: the batch dimension first, where the model batches."""
        if not self.max_batch_size:
            return tuple(specs)
        return tuple(TensorSpec(s.name, s.datatype, (-1, *s.shape)) for s in specs)


def parse_triton_config(text: str) -> TritonConfig:
    """Read a config.pbtxt. Raises Invalid for text or values that cannot be meant."""
    config = TritonConfig()
    for item in parse_pbtxt(text).fields:
        reader = _READERS.get(item.name)
        if reader is None:
            _warn(config, item, item.name)
        else:
            reader(config, item)
    return config


def _warn(config: TritonConfig, item: Field, path: str) -> None:
    if len(config.warnings) < WARNINGS_MAX:
        config.warnings.append(
            f"config.pbtxt line {item.line}: {path!r} is not supported and has no effect"
        )


def _wrong(item: Field, wanted: str) -> Invalid:
    return Invalid(f"config.pbtxt line {item.line}: {item.name} must be {wanted}")


def _integer(item: Field, low: int, high: int) -> int:
    if type(item.value) is not int or not low <= item.value <= high:
        raise _wrong(item, f"a whole number from {low} to {high}")
    return item.value


def _text(item: Field) -> str:
    if not isinstance(item.value, str):
        raise _wrong(item, "a quoted string")
    return item.value


def _message(item: Field) -> Message:
    if not isinstance(item.value, Message):
        raise _wrong(item, "a message in braces")
    return item.value


def _read_name(config: TritonConfig, item: Field) -> None:
    config.name = _text(item)


def _read_filename(config: TritonConfig, item: Field) -> None:
    config.model_filename = _text(item) or "model.onnx"


def _one_of(served: frozenset[str]) -> Callable[[TritonConfig, Field], None]:
    def read(_: TritonConfig, item: Field) -> None:
        if _text(item) not in served:
            raise Invalid(
                f"config.pbtxt line {item.line}: {item.name} {shown(item.value)} is not served "
                "here; only ONNX models are"
            )

    return read


def _read_max_batch_size(config: TritonConfig, item: Field) -> None:
    config.max_batch_size = _integer(item, 0, BATCH_MAX)


def _tensor(config: TritonConfig, item: Field) -> TensorSpec:
    name, datatype, dims = "", "", []
    for part in _message(item).fields:
        if part.name == "name":
            name = _text(part)
        elif part.name == "data_type":
            datatype = _datatype(part)
        elif part.name == "dims":
            dims.append(_integer(part, -1, DIM_MAX))
        else:
            _warn(config, part, f"{item.name}.{part.name}")
    if not name or not datatype:
        raise _wrong(item, "given a name and a data_type")
    return TensorSpec(name, datatype, tuple(dims))


def _datatype(item: Field) -> str:
    word = item.value.text if isinstance(item.value, Word) else ""
    if word not in TRITON_TYPES:
        raise _wrong(item, "a Triton data type such as TYPE_FP32")
    return TRITON_TYPES[word]


def _read_input(config: TritonConfig, item: Field) -> None:
    config.inputs.append(_tensor(config, item))


def _read_output(config: TritonConfig, item: Field) -> None:
    config.outputs.append(_tensor(config, item))


def _read_dynamic_batching(config: TritonConfig, item: Field) -> None:
    config.has_dynamic_batching = True
    for part in _message(item).fields:
        if part.name == "preferred_batch_size":
            config.preferred_batch_sizes.append(_integer(part, 1, BATCH_MAX))
        elif part.name == "max_queue_delay_microseconds":
            config.queue_delay_us = _integer(part, 0, QUEUE_DELAY_US_MAX)
        else:
            _warn(config, part, f"dynamic_batching.{part.name}")


def _read_version_policy(config: TritonConfig, item: Field) -> None:
    for part in _message(item).fields:
        inner = _message(part).fields
        if part.name == "latest":
            counts = [_integer(f, 1, BATCH_MAX) for f in inner if f.name == "num_versions"]
            config.version_policy = VersionPolicy(latest=counts[-1] if counts else 1)
        elif part.name == "specific":
            numbers = [_integer(f, 1, 10**18 - 1) for f in inner if f.name == "versions"]
            if not numbers:
                raise _wrong(part, "given at least one of versions")
            versions = tuple(check_version(str(number)) for number in numbers)
            config.version_policy = VersionPolicy(specific=versions)
        elif part.name == "all":
            config.version_policy = VersionPolicy()
        else:
            _warn(config, part, f"version_policy.{part.name}")


def _read_instance_group(config: TritonConfig, item: Field) -> None:
    for part in _message(item).fields:
        if part.name == "count":
            config.instances = (config.instances or 0) + _integer(part, 1, INSTANCES_MAX)
        else:
            _warn(config, part, f"instance_group.{part.name}")


def _read_model_warmup(config: TritonConfig, item: Field) -> None:
    _message(item)
    config.warmups += 1
    if config.warmups == 1:
        config.warnings.append(
            f"config.pbtxt line {item.line}: 'model_warmup' samples are not used; "
            "every model is warmed on the batch sizes that it will see"
        )


_READERS: dict[str, Callable[[TritonConfig, Field], None]] = {
    "name": _read_name,
    "platform": _one_of(_SERVED_PLATFORMS),
    "backend": _one_of(_SERVED_BACKENDS),
    "default_model_filename": _read_filename,
    "max_batch_size": _read_max_batch_size,
    "input": _read_input,
    "output": _read_output,
    "dynamic_batching": _read_dynamic_batching,
    "version_policy": _read_version_policy,
    "instance_group": _read_instance_group,
    "model_warmup": _read_model_warmup,
}
