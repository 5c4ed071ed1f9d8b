"""The model as a BentoML service."""

import os

import bentoml
import numpy as np
import onnxruntime as ort


@bentoml.service(workers=1)
class Mlp:
    def __init__(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    @bentoml.api
    def predict(self, x: np.ndarray) -> dict:
        (y,) = self.session.run(None, {"x": np.asarray(x, np.float32)})
        return {"y": y.tolist()}
