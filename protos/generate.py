"""Generate the Python modules and the descriptors of this folder from its .proto files.

Run as `python -m protos.generate` (needs grpcio-tools). Messages only: the
services are hosted through byte handlers, so no stubs are generated.

Standard packages (`inference`, `grpc.health.v1`, `grpc.reflection.v1`) get a
prefix of ours in the generated code: the default descriptor pool is one per
process, and a client library that registers the same names there could not be
imported beside us. The wire carries neither package nor message names, only
method paths. Reflection does carry them, so it answers from descriptors of the
sources as they are: those of the public services alone.
"""

import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
STANDARD_PACKAGES = ("inference", "grpc.health.v1", "grpc.reflection.v1")
DESCRIPTORS = "services.binpb"
PUBLIC = ("inference.proto", "health.proto", "reflection.proto")
# The package's older name, which many clients still ask for first.
ALPHA = ("reflection_v1alpha.proto", "grpc.reflection.v1alpha")


def generate(target: Path) -> None:
    """Write `<name>_pb2.py` and `.pyi` for every .proto file, and the descriptors."""
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder) / "protos"
        staging.mkdir()
        for source in sorted(HERE.glob("*.proto")):
            text = source.read_text()
            for package in STANDARD_PACKAGES:
                text = text.replace(f"package {package};", f"package driftgate.wire.{package};")
            (staging / source.name).write_text(text)
        files = [f"protos/{path.name}" for path in sorted(staging.glob("*.proto"))]
        _protoc(f"-I{folder}", f"--python_out={folder}", f"--pyi_out={folder}", *files)
        for made in sorted(staging.glob("*_pb2.py*")):
            (target / made.name).write_text(made.read_text())
    (target / DESCRIPTORS).write_bytes(_descriptors())


def _descriptors() -> bytes:
    """A FileDescriptorSet of the public services and all that they import."""
    with tempfile.TemporaryDirectory() as folder:
        staging = Path(folder) / "protos"
        staging.mkdir()
        for source in HERE.glob("*.proto"):
            (staging / source.name).write_text(source.read_text())
        name, package = ALPHA
        text = (staging / "reflection.proto").read_text()
        text = text.replace("package grpc.reflection.v1;", f"package {package};")
        (staging / name).write_text(text)
        out = Path(folder) / "set"
        files = [f"protos/{file}" for file in (*PUBLIC, name)]
        _protoc(f"-I{folder}", "--include_imports", f"--descriptor_set_out={out}", *files)
        return out.read_bytes()


def _protoc(*arguments: str) -> None:
    from grpc_tools import protoc

    code = protoc.main(["protoc", *arguments])
    if code != 0:
        raise SystemExit(code)


if __name__ == "__main__":
    generate(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE)
