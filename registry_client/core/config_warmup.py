"""Warm-up samples: what a version runs before it may serve, `model_warmup`.

A sample is kept as Triton's JSON writes it. One request is described, without
the batch dimension; a batch repeats it `batch_size` times, and the sample runs
`count` times. Files lie in the folder `warmup` of the model.
"""

from typing import Any

from registry_client.core.config_fields import Notes, datatype, integer, message, text, truth, wrong
from registry_client.core.names import check_file_name
from registry_client.core.pbtxt import Field
from registry_client.core.signature import RANK_MAX, TRITON_TYPES

WARMUP_FOLDER = "warmup"
SAMPLES_MAX = 32
INPUTS_MAX = 64  # of a sample; as many as a request may have
RUNS_MAX = 1_000  # of a sample: more is a benchmark, and keeps others from loading
BATCH_MAX = 1 << 20
DIM_MAX = (1 << 31) - 1

_SOURCES = frozenset({"zero_data", "random_data", "input_data_file"})
_WORDS = {word: name for name, word in TRITON_TYPES.items()}


def read_warmup(item: Field, notes: Notes) -> dict[str, Any]:
    """One sample. Raises: Invalid, InvalidName."""
    name, batch_size, count = "", 1, 1
    inputs: dict[str, Any] = {}
    for part in message(item).fields:
        if part.name == "name":
            name = text(part)
        elif part.name == "batch_size":
            batch_size = integer(part, 0, BATCH_MAX)
        elif part.name == "count":
            count = max(1, integer(part, 0, RUNS_MAX))
        elif part.name == "inputs":
            inputs |= _read_inputs(part, notes)
        else:
            notes.unsupported(part, f"model_warmup.{part.name}")
    if not inputs:
        raise wrong(item, "given inputs")
    if len(inputs) > INPUTS_MAX:
        raise wrong(item, f"a sample of at most {INPUTS_MAX} inputs")
    return {"name": name, "batch_size": batch_size, "inputs": inputs, "count": count}


def _read_inputs(item: Field, notes: Notes) -> dict[str, Any]:
    """One entry of the map in text format, all of them in JSON."""
    fields = message(item).fields
    if item.line == 0:
        return {part.name: _read_input(part, notes) for part in fields}
    keys = [text(part) for part in fields if part.name == "key"]
    values = [part for part in fields if part.name == "value"]
    if len(keys) != 1 or len(values) != 1 or len(fields) != 2:
        raise wrong(item, "given one key and one value")
    return {keys[0]: _read_input(values[0], notes)}


def _read_input(item: Field, notes: Notes) -> dict[str, Any]:
    made: dict[str, Any] = {"data_type": "", "dims": []}
    for part in message(item).fields:
        if part.name == "data_type":
            made["data_type"] = _WORDS[datatype(part)]
        elif part.name == "dims":
            made["dims"].append(integer(part, 0, DIM_MAX))
        elif part.name in _SOURCES:
            _set_source(made, part)
        else:
            notes.unsupported(part, f"model_warmup.inputs.{part.name}")
    if not made["data_type"] or not _SOURCES & made.keys():
        raise wrong(item, f"given a data_type and one of {', '.join(sorted(_SOURCES))}")
    if len(made["dims"]) > RANK_MAX:
        raise wrong(item, f"of at most {RANK_MAX} dims")
    return made


def _set_source(made: dict[str, Any], part: Field) -> None:
    """The last of the three counts, whatever its value: they are one `oneof`."""
    for other in _SOURCES:
        made.pop(other, None)
    if part.name == "input_data_file":
        made[part.name] = check_file_name(text(part))
    else:
        truth(part)
        made[part.name] = True


def warmup_files(samples: list[dict[str, Any]]) -> list[str]:
    """The files that samples need, each once, as paths below the model's folder."""
    names = {
        f"{WARMUP_FOLDER}/{each['input_data_file']}"
        for sample in samples
        for each in sample["inputs"].values()
        if "input_data_file" in each
    }
    return sorted(names)
