"""The committed code is what the .proto files generate, and it can live beside others."""

import subprocess
import sys

from protos import generate
from tests.conftest import ROOT


def test_the_generated_code_is_current(tmp_path):
    generate.generate(tmp_path)
    folder = ROOT / "protos"
    committed = [*folder.glob("*_pb2.py*"), *folder.glob("*.binpb")]
    made = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    kept = {path.name: path.read_bytes() for path in committed}
    assert made == kept


def test_our_messages_live_in_one_process_with_tritonclients():
    program = (
        "import protos.inference_pb2, protos.health_pb2, tritonclient.grpc as t;"
        "from tritonclient.grpc import service_pb2 as s;"
        "m = s.ModelInferRequest(model_name='m', raw_input_contents=[b'x']);"
        "o = protos.inference_pb2.ModelInferRequest.FromString(m.SerializeToString());"
        "assert o.model_name == 'm' and o.raw_input_contents[0] == b'x'"
    )
    for order in (program, "import tritonclient.grpc;" + program):
        done = subprocess.run([sys.executable, "-c", order], cwd=ROOT, capture_output=True)
        assert done.returncode == 0, done.stderr.decode()
