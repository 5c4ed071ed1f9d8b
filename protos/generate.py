"""Generate the Python modules of this folder from its .proto files.

Run as `python -m protos.generate` (needs grpcio-tools). Messages only: the
services are hosted through byte handlers, so no stubs are generated.

Standard packages (`inference`, `grpc.health.v1`) get a prefix of ours in the
generated code: the default descriptor pool is one per process, and a client
library that registers the same names there could not be imported beside us.
The wire carries neither package nor message names, only method paths.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STANDARD_PACKAGES = ("inference", "grpc.health.v1")


def generate(target: Path) -> None:
    """Write `<name>_pb2.py` and `.pyi` for every .proto file into `target`."""
    from grpc_tools import protoc

    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder) / "protos"
        staging.mkdir()
        for source in sorted(HERE.glob("*.proto")):
            text = source.read_text()
            for package in STANDARD_PACKAGES:
                text = text.replace(f"package {package};", f"package driftgate.wire.{package};")
            (staging / source.name).write_text(text)
        files = [f"protos/{path.name}" for path in sorted(staging.glob("*.proto"))]
        code = protoc.main(
            ["protoc", f"-I{folder}", f"--python_out={folder}", f"--pyi_out={folder}", *files]
        )
        if code != 0:
            raise SystemExit(code)
        for made in sorted(staging.glob("*_pb2.py*")):
            (target / made.name).write_text(made.read_text())


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
