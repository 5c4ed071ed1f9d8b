"""A client's own model configuration at load: Triton's `config` parameter.

A field that is given replaces the whole of what was set before; one that is not
stays. What we do not honour is refused by its name, and what the graph decides
(names, types, shapes) must agree with it, so that a load either does what the
client said or says why not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from registry_client import RegistryError
from registry_client.core.config_batching import BATCHING_KEYS, check_preferred
from registry_client.core.triton_config import TritonConfig, parse_config_override
from serving.core.errors import InvalidRequest, Unsupported, shown
from serving.core.model_config import MODEL_FILENAME
from serving.core.signature import TensorSpec

FILE_PREFIX = "file:"


def override_parameter(parameters: Mapping[str, object]) -> str:
    """The override among the parameters of a load request; "" if there is none.

    Raises: InvalidRequest for a parameter that a load does not have, Unsupported
            for files: a version is what the registry holds, verified.
    """
    for name, value in parameters.items():
        if name.startswith(FILE_PREFIX):
            raise Unsupported(
                f"load parameter '{shown(name)}' is not supported: files come from the registry, "
                "where they are verified, and never from a client. Push a new version instead"
            )
        if name != "config":
            raise InvalidRequest(f"unknown load parameter '{shown(name)}', expected 'config'")
        if not isinstance(value, str):
            raise InvalidRequest("load parameter 'config' must be a string, the JSON of a config")
    return str(parameters.get("config", ""))


def merge_override(model: str, settings: Mapping[str, Any], override_json: str) -> dict[str, Any]:
    """A version's settings document with a client's configuration laid over it.

    settings: as the supervisor sends it; `inputs` and `outputs` are those of the graph,
              and null means that only the worker knows them, and will compare.
    Returns: a new document. Raises: InvalidRequest, with the field's name.
    """
    try:
        config = parse_config_override(override_json)
        merged = dict(settings)
        if config.batching is not None:
            merged |= dict.fromkeys(BATCHING_KEYS)
        if config.parameters:
            merged["padding"] = None
        # Of all workers together, in what a client was told: not what a version is set to.
        merged |= config.serving() | {"instance_count": settings.get("instance_count")}
        if merged.get("max_batch_size"):  # of no matter to a version that does not batch
            check_preferred(merged.get("preferred_batch_sizes") or (), merged["max_batch_size"])
    except RegistryError as exc:
        raise InvalidRequest(str(exc)) from exc
    _check_fixed(model, settings, config)
    rows_max = merged.get("max_batch_size")
    _check_batching(rows_max, settings)
    _check_tensors("input", config, settings, rows_max)
    _check_tensors("output", config, settings, rows_max)
    _check_warmup(merged, settings, rows_max)
    return merged


def _check_fixed(model: str, settings: Mapping[str, Any], config: TritonConfig) -> None:
    """What a load cannot change may only be repeated. Raises: InvalidRequest."""
    filename = settings.get("model_filename") or MODEL_FILENAME
    for name, given, own in (
        ("name", config.name, model),
        ("default_model_filename", config.given_filename, filename),
    ):
        if given not in {"", own}:
            raise InvalidRequest(f"config override: {name} is '{own}', got '{shown(given)}'")


def _specs(settings: Mapping[str, Any], key: str) -> list[TensorSpec]:
    return [TensorSpec.from_json(entry) for entry in settings.get(key) or ()]


def _check_batching(rows_max: int | None, settings: Mapping[str, Any]) -> None:
    """Raises: InvalidRequest if the graph cannot take batches."""
    specs = [*_specs(settings, "inputs"), *_specs(settings, "outputs")]
    fixed = next((spec for spec in specs if not spec.shape or spec.shape[0] >= 0), None)
    if rows_max and fixed is not None:
        raise InvalidRequest(
            f"config override: max_batch_size {rows_max} needs a first dimension of any size, "
            f"'{shown(fixed.name)}' is {list(fixed.shape)}"
        )


def _check_tensors(
    what: str, config: TritonConfig, settings: Mapping[str, Any], rows_max: int | None
) -> None:
    """Raises: InvalidRequest unless names, types and shapes are the graph's."""
    given = config.inputs if what == "input" else config.outputs
    graph = {spec.name: spec for spec in _specs(settings, f"{what}s")}
    if not given or not graph:
        return
    names = [spec.name for spec in given]
    if sorted(names) != sorted(graph):
        raise InvalidRequest(
            f"config override: {what} names must be {shown(str(sorted(graph)))}, "
            f"got {shown(str(sorted(names)))}"
        )
    for spec in given:
        own = graph[spec.name]
        if spec.datatype != own.datatype.wire or not _agrees(spec.shape, own.shape, rows_max):
            raise InvalidRequest(
                f"config override: {what} '{shown(spec.name)}' is {own.datatype.wire} "
                f"{list(own.shape)} in the model, got {spec.datatype} dims {list(spec.shape)} "
                f"with max_batch_size {rows_max if rows_max is not None else 'not set'}"
            )


def _agrees(dims: Sequence[int], shape: Sequence[int], rows_max: int | None) -> bool:
    """dims: without the batch dimension, where the version batches; unknown: either way."""
    forms = [shape[1:]] if rows_max else [shape] if rows_max == 0 else [shape, shape[1:]]
    return any(
        len(form) == len(dims)
        and all(a == b or a < 0 or b < 0 for a, b in zip(form, dims, strict=True))
        for form in forms
    )


def _check_warmup(
    merged: Mapping[str, Any], settings: Mapping[str, Any], rows_max: int | None
) -> None:
    """Raises: InvalidRequest for samples that no version of this signature can run."""
    names = {spec.name for spec in _specs(settings, "inputs")}
    files = settings.get("roles") or {}
    for sample in merged.get("warmup") or ():
        where = f"config override: model_warmup '{shown(sample['name'])}'"
        if names and set(sample["inputs"]) != names:
            raise InvalidRequest(f"{where} must have the inputs {shown(str(sorted(names)))}")
        if rows_max is not None and sample["batch_size"] > max(rows_max, 1):
            raise InvalidRequest(
                f"{where} has batch_size {sample['batch_size']}, max_batch_size is {rows_max}"
            )
        for given in sample["inputs"].values():
            name = given.get("input_data_file")
            if name is not None and f"warmup/{name}" not in files:
                raise InvalidRequest(
                    f"{where}: input_data_file '{shown(name)}' is not among the version's files"
                )
