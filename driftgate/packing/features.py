"""Naming the features of a model.

A feature is one element of a row of an input whose row shape is fixed; inputs
with open dimensions have none. With a reference the kind of each is the one
that its profile was fitted with; without, it follows from the datatype.
"""

import math
from collections.abc import Iterator

import numpy as np

from registry_client import Feature, FeatureKind, TensorSpec

FEATURES_MAX = 65_536  # of a manifest


def name_features(
    specs: tuple[TensorSpec, ...], columns: tuple[str, ...] = ()
) -> tuple[Feature, ...]:
    """The features of a model, in the order of its inputs and of their elements.

    columns: names for the elements of the one input, if the reference has them.
    """
    features: list[Feature] = []
    for spec in specs:
        size = math.prod(spec.shape[1:])
        if not spec.shape or size <= 0 or -1 in spec.shape[1:]:
            continue
        if len(features) + size > FEATURES_MAX:
            break
        names = columns or tuple(_element_names(spec))
        features += [
            Feature(name, _kind(spec), spec.name, index) for index, name in enumerate(names)
        ]
    return tuple(features)


def _element_names(spec: TensorSpec) -> Iterator[str]:
    row = spec.shape[1:]
    if math.prod(row) == 1:
        yield spec.name
        return
    for place in np.ndindex(*row):
        yield f"{spec.name}[{','.join(str(part) for part in place)}]"


def _kind(spec: TensorSpec) -> FeatureKind:
    if spec.datatype == "BYTES":
        return FeatureKind.CATEGORICAL
    is_range = spec.datatype.startswith(("FP", "BF"))
    return FeatureKind.CONTINUOUS if is_range else FeatureKind.DISCRETE
