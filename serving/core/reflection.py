"""What we serve, told to clients that have no .proto files: gRPC server reflection.

Answers come from the descriptors of the public services under their own names;
the generated modules of this process carry a prefix that no client knows.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from protos import reflection_pb2 as pb
from serving.core.errors import GrpcStatus, shown


class Reflection:
    """An index over descriptors. Lives as long as the process; nothing in it changes."""

    def __init__(self, descriptors: bytes) -> None:
        """descriptors: a serialized FileDescriptorSet, each file after what it imports."""
        files = FileDescriptorSet.FromString(descriptors).file
        imports = {file.name: list(file.dependency) for file in files}
        serialized = {file.name: file.SerializeToString() for file in files}
        self._files = {
            name: [serialized[each] for each in _closure(name, imports)] for name in imports
        }
        self._symbols = {symbol: file.name for file in files for symbol in _symbols(file)}
        self.services = sorted(
            f"{file.package}.{service.name}" for file in files for service in file.service
        )

    def answer(self, request: Any) -> Any:
        """The ServerReflectionResponse to a ServerReflectionRequest."""
        reply = pb.ServerReflectionResponse(valid_host=request.host, original_request=request)
        asked = request.WhichOneof("message_request")
        if asked == "list_services":
            listed = reply.list_services_response
            listed.service.extend([pb.ServiceResponse(name=name) for name in self.services])
        elif asked == "file_by_filename":
            self._add_file(reply, request.file_by_filename, request.file_by_filename)
        elif asked == "file_containing_symbol":
            symbol = request.file_containing_symbol.removeprefix(".")
            self._add_file(reply, self._symbols.get(symbol), symbol)
        elif asked == "all_extension_numbers_of_type":
            self._add_extensions(reply, request.all_extension_numbers_of_type)
        elif asked == "file_containing_extension":
            _refuse(reply, f"extension of '{shown(request.file_containing_extension)}'")
        else:
            reply.error_response.error_code = int(GrpcStatus.INVALID_ARGUMENT)
            reply.error_response.error_message = "the request asks for nothing"
        return reply

    def _add_file(self, reply: Any, name: str | None, wanted: str) -> None:
        files = self._files.get(name) if name is not None else None
        if files is None:
            _refuse(reply, f"'{shown(wanted)}'")
        else:
            reply.file_descriptor_response.file_descriptor_proto.extend(files)

    def _add_extensions(self, reply: Any, name: str) -> None:
        """proto3 messages have none, so there is only the question whether we know the name."""
        if name.removeprefix(".") in self._symbols:
            reply.all_extension_numbers_response.base_type_name = name
        else:
            _refuse(reply, f"'{shown(name)}'")


def _refuse(reply: Any, what: str) -> None:
    reply.error_response.error_code = int(GrpcStatus.NOT_FOUND)
    reply.error_response.error_message = f"{what} is not found"


def _closure(name: str, imports: dict[str, list[str]]) -> list[str]:
    """A file and all that it imports, itself first."""
    found = [name]
    for each in found:
        found.extend(other for other in imports[each] if other not in found)
    return found


def _symbols(file: FileDescriptorProto) -> Iterator[str]:
    """Full names of messages, enums, services and methods."""
    for service in file.service:
        name = f"{file.package}.{service.name}"
        yield name
        yield from (f"{name}.{method.name}" for method in service.method)
    yield from _types(file.package, file.message_type, file.enum_type)


def _types(scope: str, messages: Sequence[Any], enums: Sequence[Any]) -> Iterator[str]:
    yield from (f"{scope}.{enum.name}" for enum in enums)
    for message in messages:
        name = f"{scope}.{message.name}"
        yield name
        yield from _types(name, message.nested_type, message.enum_type)
