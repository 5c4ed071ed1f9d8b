"""The demo's versions, as they are pushed into the registry."""

from pathlib import Path
from typing import Any

from driftgate.story.scans import FEATURE_NAMES, Scans, load_scans
from driftgate.story.training import INPUT, MODEL, Trained, logistic_regression, train

SEED = 7
GOLDEN_ROWS = 8


def push(registry_dir: Path, trained: Trained) -> str:
    """Push `trained` as the model's next version with its reference profile; returns it."""
    import numpy as np

    from driftgate.commands.model import golden_samples
    from monitor.profile import FeatureSpec, build_profile
    from registry_client import EmbeddedRegistry, Feature, FileRole, TensorSpec

    features = [FeatureSpec(name, kind="continuous") for name in FEATURE_NAMES]
    profile = build_profile(
        trained.reference,
        features,
        predictions=trained.probabilities,
        losses=trained.losses,
    )
    golden = golden_samples(trained.onnx, {INPUT: trained.reference[:GOLDEN_ROWS]})
    manifest = EmbeddedRegistry(registry_dir).push(
        MODEL,
        {
            "model.onnx": (FileRole.MODEL, trained.onnx),
            "reference.profile": (FileRole.REFERENCE, profile.to_bytes()),
            "golden.npz": (FileRole.GOLDEN, golden),
        },
        inputs=[TensorSpec(INPUT, "FP32", (-1, len(FEATURE_NAMES)))],
        outputs=[
            TensorSpec("label", "INT64", (-1,)),
            TensorSpec("probabilities", "FP32", (-1, int(np.max(trained.labels)) + 1)),
        ],
        features=[
            Feature(name, "continuous", INPUT, index) for index, name in enumerate(FEATURE_NAMES)
        ],
        lineage=dict(trained.lineage),
    )
    return manifest.version


def first_version(scans: Scans) -> Trained:
    return train(logistic_regression(), scans.training, scans.training_labels, scans.digest)


def ensure_first_version(registry_dir: Path) -> None:
    """Put version 1 and the alias `champion` into a registry that lacks the model."""
    from registry_client import EmbeddedRegistry

    registry: Any = EmbeddedRegistry(registry_dir)
    if MODEL in registry.models():
        return
    version = push(registry_dir, first_version(load_scans(SEED)))
    registry.set_alias(MODEL, "champion", version)
