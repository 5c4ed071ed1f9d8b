"""A Triton model configuration, as far as we honour it.

From a file, a key that is not honoured is never dropped in silence: it becomes
one line of `warnings`, which travels on the manifest to `driftgate model show`
and the log. From a client's override it is refused by its name.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from registry_client.core.config_batching import (
    BATCH_MAX,
    Batching,
    check_preferred,
    read_batching,
)
from registry_client.core.config_fields import (
    Notes,
    constant,
    datatype,
    integer,
    message,
    place,
    text,
    wrong,
)
from registry_client.core.config_json import parse_config_json
from registry_client.core.config_padding import Padding, read_parameters
from registry_client.core.config_warmup import SAMPLES_MAX, read_warmup
from registry_client.core.errors import Invalid
from registry_client.core.names import check_version, shown
from registry_client.core.pbtxt import Field, Message, parse_pbtxt
from registry_client.core.signature import TensorSpec

DIM_MAX = (1 << 31) - 1
INSTANCES_MAX = 1_024
MODEL_FILENAME = "model.onnx"

_SERVED_PLATFORMS = frozenset({"", "onnxruntime_onnx"})
_SERVED_BACKENDS = frozenset({"", "onnxruntime"})
_SERVED_KINDS = frozenset({"KIND_AUTO", "KIND_CPU"})


@dataclass(frozen=True, slots=True)
class VersionPolicy:
    """Which of the versions on disk may be served; both empty: every one."""

    latest: int = 0
    specific: tuple[str, ...] = ()

    def select(self, versions: list[str]) -> list[str]:
        """The versions of an ascending list that the policy makes available."""
        if self.specific:
            return [version for version in versions if version in self.specific]
        return versions[-self.latest :] if self.latest else versions

    def to_json(self) -> dict[str, Any]:
        """As Triton's JSON writes it."""
        if self.specific:
            return {"specific": {"versions": [int(version) for version in self.specific]}}
        return {"latest": {"num_versions": self.latest}} if self.latest else {"all": {}}


@dataclass(slots=True)
class TritonConfig:
    """What was read. dims of inputs and outputs are without the batch dimension."""

    notes: Notes = field(default_factory=Notes)
    name: str = ""
    given_filename: str = ""
    max_batch_size: int | None = None
    inputs: list[TensorSpec] = field(default_factory=list)
    outputs: list[TensorSpec] = field(default_factory=list)
    batching: Batching | None = None
    given_version_policy: VersionPolicy | None = None
    instances: int | None = None
    warmup: list[dict[str, Any]] = field(default_factory=list)
    parameters: list[Field] = field(default_factory=list)
    padding: Padding | None = None

    @property
    def warnings(self) -> list[str]:
        return self.notes.warnings

    @property
    def model_filename(self) -> str:
        return self.given_filename or MODEL_FILENAME

    @property
    def version_policy(self) -> VersionPolicy:
        return self.given_version_policy or VersionPolicy()

    def serving(self) -> dict[str, object]:
        """The manifest's serving settings; only what the configuration says."""
        settings: dict[str, object] = {}
        if self.max_batch_size is not None:
            settings["max_batch_size"] = self.max_batch_size
        if self.batching is not None:
            settings |= self.batching.serving()
        if self.instances is not None:
            settings["instance_count"] = self.instances
        if self.given_version_policy is not None:
            settings["version_policy"] = self.given_version_policy.to_json()
        if self.warmup:
            settings["warmup"] = self.warmup
        if self.padding is not None:
            settings["padding"] = self.padding.serving()
        return settings

    def with_batch(self, specs: list[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Specs as served: the batch dimension first, where the model batches."""
        if not self.max_batch_size:
            return tuple(specs)
        return tuple(TensorSpec(s.name, s.datatype, (-1, *s.shape)) for s in specs)


def parse_triton_config(text: str) -> TritonConfig:
    """Read a config.pbtxt. Raises Invalid for text or values that cannot be meant."""
    return _read(parse_pbtxt(text), TritonConfig())


def parse_config_override(text: str) -> TritonConfig:
    """Read a client's JSON. Raises Invalid also for a field that is not honoured."""
    return _read(parse_config_json(text), TritonConfig(Notes(strict=True)))


def _read(tree: Message, config: TritonConfig) -> TritonConfig:
    for item in tree.fields:
        reader = _READERS.get(item.name)
        if reader is None:
            config.notes.unsupported(item, item.name)
        else:
            reader(config, item)
    if config.batching is not None:
        check_preferred(config.batching.preferred_batch_sizes, config.max_batch_size)
    if config.parameters:
        config.padding = read_parameters(config.parameters, config.notes)
    return config


def _read_name(config: TritonConfig, item: Field) -> None:
    config.name = text(item)


def _read_filename(config: TritonConfig, item: Field) -> None:
    config.given_filename = text(item)


def _one_of(served: frozenset[str]) -> Callable[[TritonConfig, Field], None]:
    def read(_: TritonConfig, item: Field) -> None:
        if text(item) not in served:
            raise Invalid(
                f"{place(item)}: {item.name} {shown(item.value)} is not served "
                "here; only ONNX models are"
            )

    return read


def _read_max_batch_size(config: TritonConfig, item: Field) -> None:
    config.max_batch_size = integer(item, 0, BATCH_MAX)


def _tensor(config: TritonConfig, item: Field) -> TensorSpec:
    name, word, dims = "", "", []
    for part in message(item).fields:
        if part.name == "name":
            name = text(part)
        elif part.name == "data_type":
            word = datatype(part)
        elif part.name == "dims":
            dims.append(integer(part, -1, DIM_MAX))
        else:
            config.notes.unsupported(part, f"{item.name}.{part.name}")
    if not name or not word:
        raise wrong(item, "given a name and a data_type")
    return TensorSpec(name, word, tuple(dims))


def _read_input(config: TritonConfig, item: Field) -> None:
    config.inputs.append(_tensor(config, item))


def _read_output(config: TritonConfig, item: Field) -> None:
    config.outputs.append(_tensor(config, item))


def _read_dynamic_batching(config: TritonConfig, item: Field) -> None:
    config.batching = read_batching(item, config.notes)


def _read_version_policy(config: TritonConfig, item: Field) -> None:
    for part in message(item).fields:
        inner = message(part).fields
        if part.name == "latest":
            counts = [integer(f, 1, BATCH_MAX) for f in inner if f.name == "num_versions"]
            config.given_version_policy = VersionPolicy(latest=counts[-1] if counts else 1)
        elif part.name == "specific":
            numbers = [integer(f, 1, 10**18 - 1) for f in inner if f.name == "versions"]
            if not numbers:
                raise wrong(part, "given at least one of versions")
            versions = tuple(check_version(str(number)) for number in numbers)
            config.given_version_policy = VersionPolicy(specific=versions)
        elif part.name == "all":
            config.given_version_policy = VersionPolicy()
        else:
            config.notes.unsupported(part, f"version_policy.{part.name}")


def _read_instance_group(config: TritonConfig, item: Field) -> None:
    for part in message(item).fields:
        if part.name == "count":
            count = integer(part, 1, INSTANCES_MAX)
            config.instances = (config.instances or 0) + count
        elif part.name == "kind" and constant(part) in _SERVED_KINDS:
            continue
        elif part.name != "name":
            config.notes.unsupported(part, f"instance_group.{part.name}")


def _read_model_warmup(config: TritonConfig, item: Field) -> None:
    if len(config.warmup) >= SAMPLES_MAX:
        raise wrong(item, f"given at most {SAMPLES_MAX} times")
    config.warmup.append(read_warmup(item, config.notes))


def _read_parameters(config: TritonConfig, item: Field) -> None:
    config.parameters.append(item)


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
    "parameters": _read_parameters,
}
