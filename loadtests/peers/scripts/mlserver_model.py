"""The model as a runtime of MLServer's."""

import os

import onnxruntime as ort
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceResponse


class Mlp(MLModel):
    async def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        return True

    async def predict(self, payload):
        x = NumpyCodec.decode_input(payload.inputs[0])
        (y,) = self.session.run(None, {"x": x})
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("y", y)])
