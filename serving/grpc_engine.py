"""Which engine serves gRPC on this machine, and why."""

from dataclasses import dataclass

from serving import nghttp2
from serving.nghttp2 import LibraryError
from serving.settings import GrpcEngineName


@dataclass(frozen=True, slots=True)
class GrpcEngine:
    """library: the path of libnghttp2 for that engine, else "". because: a phrase for people."""

    name: str
    library: str
    because: str

    def __str__(self) -> str:
        return f"{self.name} ({self.because})"


def choose_engine(wanted: GrpcEngineName) -> GrpcEngine:
    """Raises: LibraryError if nghttp2 is wanted and no library of it may be used."""
    if wanted == "grpcio":
        return GrpcEngine("grpcio", "", "as configured")
    try:
        library = nghttp2.find()
    except LibraryError as error:
        if wanted == "nghttp2":
            raise
        return GrpcEngine("grpcio", "", str(error))
    return GrpcEngine("nghttp2", library.path, str(library))
