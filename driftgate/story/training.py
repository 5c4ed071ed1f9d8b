"""Training the demo's versions and exporting them to ONNX."""

import hashlib
import inspect
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from driftgate.story.scans import PIXELS, Labels, Rows

MODEL = "digits"
INPUT = "pixels"
CLASSES = 10


@dataclass(frozen=True, slots=True)
class Trained:
    """One trained classifier as it is pushed.

    onnx:            inputs `pixels` FP32 (-1, 64); outputs `label` INT64 (-1),
                     `probabilities` FP32 (-1, 10).
    reference:       rows whose distribution is the reference, (n, 64).
    probabilities:   what the classifier says of those rows when it has not been
                     trained on them, (n, 10).
    labels:          the truth of those rows, (n,).
    """

    onnx: bytes
    reference: Rows
    probabilities: Rows
    labels: Labels
    lineage: Mapping[str, str]

    @property
    def losses(self) -> Rows:
        """0/1 loss of each reference row, out of sample."""
        wrong: Rows = (self.probabilities.argmax(axis=1) != self.labels).astype(np.float32)
        return wrong

    @property
    def accuracy(self) -> float:
        return 1.0 - float(self.losses.mean())


def logistic_regression() -> Any:
    """The humble version 1."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    return make_pipeline(MinMaxScaler(), LogisticRegression(C=0.05, max_iter=300))


def neural_network(iterations: int = 150) -> Any:
    """The better version 2, also trained as 3 (on misread scans) and 4 (on dirty ones)."""
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler

    network = MLPClassifier((64,), learning_rate_init=0.005, max_iter=iterations, random_state=1)
    return make_pipeline(MinMaxScaler(), network)


def train(classifier: Any, rows: Rows, labels: Labels, data_digest: str) -> Trained:
    """Fit on all of `rows`; judge by cross-validation, so no row judges itself."""
    from sklearn.model_selection import cross_val_predict

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # ConvergenceWarning: early is good enough here
        probabilities = cross_val_predict(
            classifier, rows, labels, cv=4, method="predict_proba"
        ).astype(np.float32)
        classifier.fit(rows, labels)
    accuracy = float((probabilities.argmax(axis=1) == labels).mean())
    lineage = {
        "data_digest": data_digest,
        "code_revision": _code_revision(),
        "parameters": json.dumps(classifier[-1].get_params(), sort_keys=True, default=str),
        "metrics": f"cross-validated accuracy {accuracy:.4f} on {len(rows)} rows",
    }
    return Trained(_to_onnx(classifier), rows, probabilities, labels, lineage)


def _code_revision() -> str:
    """sha256 of this module's source: the demo must also run outside a checkout."""
    source = inspect.getsource(inspect.getmodule(train) or train)
    return "sha256:" + hashlib.sha256(source.encode()).hexdigest()[:16]


def _to_onnx(classifier: Any) -> bytes:
    from skl2onnx import to_onnx
    from skl2onnx.common.data_types import FloatTensorType

    model = to_onnx(
        classifier,
        initial_types=[(INPUT, FloatTensorType([None, PIXELS]))],
        options={id(classifier[-1]): {"zipmap": False}},
        target_opset=17,
    )
    return bytes(model.SerializeToString())
