"""Our messages against those that tritonclient was generated from: one wire."""

import json
import subprocess
import sys

from tests.conftest import ROOT

# In a process of its own: nothing here depends on which of both was imported first.
PROGRAM = """
import json, sys
from google.protobuf.descriptor import FieldDescriptor

def fields(message, prefix=""):
    for field in message.fields:
        of = field.message_type or field.enum_type
        kind = [field.number, field.type, of.name if of else ""]
        yield f"{prefix}{message.name}.{field.name}", kind
    for nested in message.nested_types:
        yield from fields(nested, f"{prefix}{message.name}.")

def enums(holder, prefix=""):
    for enum in holder.enum_types_by_name.values():
        yield prefix + enum.name, {value.name: value.number for value in enum.values}

def described(files):
    found, values = {}, {}
    for file in files:
        values |= enums(file.DESCRIPTOR)
        for message in file.DESCRIPTOR.message_types_by_name.values():
            found |= fields(message)
            values |= enums(message, message.name + ".")
    return found, values

from protos import inference_pb2, model_config_pb2
from tritonclient.grpc import model_config_pb2 as config, service_pb2 as service
ours, theirs = described([inference_pb2, model_config_pb2]), described([service, config])
whole = list(described([service])[0])
methods = [
    {m.name: [m.input_type.name, m.output_type.name, m.client_streaming, m.server_streaming]
     for m in file.DESCRIPTOR.services_by_name["GRPCInferenceService"].methods}
    for file in (inference_pb2, service)
]
json.dump([ours, theirs, whole, methods], sys.stdout)
"""
OF_KSERVE = {
    "ModelMetadataResponse.properties",
    "ModelMetadataResponse.PropertiesEntry.key",
    "ModelMetadataResponse.PropertiesEntry.value",
    "RepositoryModelLoadResponse.isLoaded",
    "RepositoryModelLoadResponse.model_name",
    "RepositoryModelUnloadResponse.isUnloaded",
    "RepositoryModelUnloadResponse.model_name",
}


def test_fields_enums_and_methods_are_those_of_tritonclient():
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (ours, our_enums), (theirs, their_enums), whole, methods = json.loads(done.stdout)
    assert {name for name in ours if name not in theirs} == OF_KSERVE
    assert {name: ours[name] for name in ours if name in theirs} == {
        name: theirs[name] for name in ours if name in theirs
    }
    assert set(whole) <= set(ours)  # of the model configuration ours is a selection
    assert our_enums == {name: their_enums[name] for name in our_enums}
    assert methods[0] == methods[1]
