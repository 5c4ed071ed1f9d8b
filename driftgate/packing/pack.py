"""Everything that goes into a version, made from the files that a person has."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from driftgate.errors import CliError
from driftgate.packing.features import name_features
from driftgate.packing.golden import make_golden, read_golden
from driftgate.packing.graph import load_graph
from driftgate.packing.profile import fit_profile
from driftgate.packing.reference import LABEL, Reference, predict, read_reference
from driftgate.packing.times import note_on
from registry_client import Feature, FileRole, TensorSpec
from registry_client.core.names import check_file_name

MODEL_FILE = "model.onnx"
REFERENCE_FILE = "reference.json"
GOLDEN_FILE = "golden.npz"


@dataclass(frozen=True, slots=True)
class Pack:
    """What `EmbeddedRegistry.push` takes. notes: what a person should know."""

    files: dict[str, tuple[FileRole, Path | bytes]]
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    features: tuple[Feature, ...]
    notes: tuple[str, ...] = field(default=())


def pack_model(
    model: Path,
    *,
    external: Sequence[Path] = (),
    reference: Path | Reference | None = None,
    golden: Path | None = None,
    label: str = LABEL,
    time: str | None = None,
    continuous: bool = False,
    sample_rows: int | None = None,
    max_batch_size: int | None = None,
) -> Pack:
    """Read a model's signature, and make or check its golden samples and its profile.

    time: the reference's column of times, to judge each hour of the week by itself.
    Raises: CliError, RegistryError. Nothing is written.
    """
    locations = name_external(model, external)
    graph = load_graph(model, locations)
    if reference is not None and not isinstance(reference, Reference):
        reference = read_reference(reference, graph.inputs, label, time)
    rows = reference.inputs if reference else None
    files: dict[str, tuple[FileRole, Path | bytes]] = {MODEL_FILE: (FileRole.MODEL, model)}
    files |= {name: (FileRole.EXTERNAL, path) for name, path in locations.items()}
    notes: list[str] = []
    samples = read_golden(golden, graph) if golden else make_golden(graph, rows, max_batch_size)
    if isinstance(samples, bytes):
        files[GOLDEN_FILE] = (FileRole.GOLDEN, samples)
    else:
        notes.append(samples)
    features = name_features(graph.inputs, reference.columns if reference else ())
    if reference:
        outputs = predict(graph, reference, max_batch_size)
        profile, features = fit_profile(
            reference,
            graph.inputs,
            features,
            outputs,
            continuous=continuous,
            sample_rows=sample_rows,
        )
        files[REFERENCE_FILE] = (FileRole.REFERENCE, profile)
        if reference.times_ns is not None and (note := note_on(reference.times_ns)):
            notes.append(note)
    else:
        notes.append("no reference: the monitor makes one of the version's first traffic")
    return Pack(files, graph.inputs, graph.outputs, features, tuple(notes))


def name_external(model: Path, external: Sequence[Path]) -> Mapping[str, Path]:
    """Location as the graph spells it -> file: relative to the model's folder."""
    reserved = {MODEL_FILE, GOLDEN_FILE, REFERENCE_FILE}
    locations: dict[str, Path] = {}
    for path in external:
        name = os.path.relpath(path, model.parent)
        if name.startswith(".."):
            name = path.name
        if check_file_name(name) in locations or name in reserved:
            raise CliError(f"--external {path}: the name {name} is taken")
        locations[name] = path
    return locations
