"""A `model.py` for Triton's Python backend: ONNX Runtime, one request at a time.

For a Triton that comes without its ONNX Runtime backend; it becomes the model of
each folder that `graphs.py --python-backend` writes.
"""

import os

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as pb_utils  # Triton gives it to the model's process


class TritonPythonModel:
    def initialize(self, args):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        path = os.path.join(args["model_repository"], args["model_version"], "model.onnx")
        self.session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        self.inputs = [value.name for value in self.session.get_inputs()]
        self.outputs = [value.name for value in self.session.get_outputs()]

    def execute(self, requests):
        return [self._answer(request) for request in requests]

    def _answer(self, request):
        try:
            feed = {
                name: _mapped(pb_utils.get_input_tensor_by_name(request, name).as_numpy(), "decode")
                for name in self.inputs
            }
            arrays = self.session.run(self.outputs, feed)
        except Exception as error:  # whatever it is, it is this request's own
            return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(error)[:200]))
        wanted = request.requested_output_names()
        return pb_utils.InferenceResponse(
            [
                pb_utils.Tensor(name, _mapped(array, "encode"))
                for name, array in zip(self.outputs, arrays, strict=True)
                if name in wanted
            ]
        )


def _mapped(array, method):
    """Texts are `bytes` for Triton and `str` for ONNX Runtime; numbers stay."""
    if array.dtype != object:
        return array
    texts = np.empty(array.size, object)
    texts[:] = [getattr(text, method)() for text in array.reshape(-1)]
    return texts.reshape(array.shape)
