"""The model in KServe's Python server."""

import os

import onnxruntime as ort
from kserve import InferOutput, InferResponse, Model, ModelServer


class Mlp(Model):
    def load(self):
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self.session = ort.InferenceSession(
            os.environ["MODEL"], options, providers=["CPUExecutionProvider"]
        )
        self.ready = True
        return True

    def predict(self, payload, headers=None, response_headers=None):
        (y,) = self.session.run(None, {"x": payload.inputs[0].as_numpy()})
        output = InferOutput(name="y", shape=list(y.shape), datatype="FP32")
        output.set_data_from_numpy(y, binary_data=False)
        return InferResponse(payload.id or "", self.name, [output])


if __name__ == "__main__":
    model = Mlp("bench")
    model.load()
    ModelServer().start([model])
