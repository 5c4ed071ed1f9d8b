"""The model for Triton's Python backend: the requests of one call as one batch."""

import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils


class TritonPythonModel:
    def initialize(self, args):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )

    def execute(self, requests):
        rows = [pb_utils.get_input_tensor_by_name(r, "x").as_numpy() for r in requests]
        batch = rows[0] if len(rows) == 1 else np.concatenate(rows)
        (y,) = self.session.run(None, {"x": batch})
        replies, begin = [], 0
        for each in rows:
            end = begin + len(each)
            replies.append(pb_utils.InferenceResponse([pb_utils.Tensor("y", y[begin:end])]))
            begin = end
        return replies
