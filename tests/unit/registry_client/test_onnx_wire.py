import onnx
import pytest
from onnx import TensorProto, helper

from registry_client import Corrupt, InvalidName, RegistryError, TensorSpec, Unsafe
from registry_client.core.onnx_wire import (
    ExternalReference,
    check_external,
    check_locations,
    scan_onnx,
)
from tests.registry_models import (
    OPSET,
    external_model,
    external_tensor,
    inline_tensor,
    model_with,
    nested_graph,
    plain_model,
)


def scan_locations(model: onnx.ModelProto) -> list[str]:
    return scan_onnx(model.SerializeToString()).locations()


def test_a_self_contained_model_refers_to_nothing() -> None:
    assert scan_onnx(plain_model()).external == []


def test_an_initializer_elsewhere_is_found_with_its_place() -> None:
    found = scan_onnx(external_model("w.bin", offset="8", length="64")).external
    assert found == [ExternalReference("w.bin", 8, 64, "w")]


def test_a_tensor_in_an_attribute_is_found() -> None:
    node = helper.make_node("Constant", [], ["w"], value=external_tensor("a.bin"))
    assert scan_locations(model_with(nodes=[node])) == ["a.bin"]


def test_tensors_in_a_list_attribute_are_found() -> None:
    node = helper.make_node("Odd", [], ["w"], values=[external_tensor("b.bin", "1")] * 2)
    assert scan_locations(model_with(nodes=[node])) == ["b.bin"]


@pytest.mark.parametrize("depth", [1, 2, 12])
def test_a_tensor_in_a_nested_graph_is_found(depth: int) -> None:
    nested = nested_graph(external_tensor("deep.bin"), depth)
    node = helper.make_node("If", ["x"], ["y"], then_branch=nested)
    assert scan_locations(model_with(nodes=[node])) == ["deep.bin"]


def test_graphs_nested_too_deep_are_refused() -> None:
    nested = nested_graph(inline_tensor(), 20)
    node = helper.make_node("If", ["x"], ["y"], then_branch=nested)
    with pytest.raises(Unsafe, match="deeper than 16"):
        scan_locations(model_with(nodes=[node]))


def test_a_tensor_in_a_function_and_in_its_attribute_defaults_is_found() -> None:
    node = helper.make_node("Constant", [], ["o"], value=external_tensor("f.bin"))
    default = helper.make_attribute("d", external_tensor("g.bin"))
    function = helper.make_function(
        "own", "f", ["i"], ["o"], [node], OPSET, attributes=[], attribute_protos=[default]
    )
    model = model_with(inline_tensor(), functions=[function])
    assert set(scan_locations(model)) == {"f.bin", "g.bin"}


def test_a_sparse_initializer_is_found_in_values_and_indices() -> None:
    model = model_with(inline_tensor())
    sparse = model.graph.sparse_initializer.add(dims=[4, 4])
    sparse.values.CopyFrom(external_tensor("v.bin", "s"))
    sparse.indices.CopyFrom(external_tensor("i.bin", ""))
    assert set(scan_locations(model)) == {"v.bin", "i.bin"}


def test_a_sparse_attribute_is_found_alone_and_in_a_list() -> None:
    node = helper.make_node("Constant", [], ["w"])
    sparse = node.attribute.add(name="sparse_value", type=onnx.AttributeProto.SPARSE_TENSOR)
    sparse.sparse_tensor.values.CopyFrom(external_tensor("v.bin"))
    several = node.attribute.add(name="list", type=onnx.AttributeProto.SPARSE_TENSORS)
    several.sparse_tensors.add().values.CopyFrom(external_tensor("l.bin"))
    assert set(scan_locations(model_with(nodes=[node]))) == {"v.bin", "l.bin"}


def test_graphs_in_a_list_attribute_are_scanned() -> None:
    node = helper.make_node("Odd", ["x"], ["y"])
    branches = node.attribute.add(name="branches", type=onnx.AttributeProto.GRAPHS)
    branches.graphs.add().CopyFrom(nested_graph(external_tensor("g.bin"), 0))
    assert scan_locations(model_with(nodes=[node])) == ["g.bin"]


def test_a_training_graph_is_found() -> None:
    model = model_with(inline_tensor())
    training = model.training_info.add()
    training.algorithm.CopyFrom(nested_graph(external_tensor("t.bin"), 0))
    assert scan_locations(model) == ["t.bin"]


def test_an_entry_counts_even_if_the_tensor_says_it_is_inline() -> None:
    tensor = external_tensor("w.bin")
    tensor.data_location = TensorProto.DEFAULT
    assert scan_locations(model_with(tensor)) == ["w.bin"]


def test_a_second_graph_field_is_scanned_too() -> None:
    # Protobuf merges repeated occurrences of a single field; so must a checker.
    data = plain_model() + external_model("late.bin")
    assert scan_onnx(data).locations() == ["late.bin"]


def test_external_without_a_location_is_refused() -> None:
    with pytest.raises(Unsafe, match="without a location"):
        scan_onnx(external_model(None))


def test_a_location_stated_twice_is_refused() -> None:
    tensor = external_tensor("a.bin")
    tensor.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(Unsafe, match="twice"):
        scan_locations(model_with(tensor))


@pytest.mark.parametrize("keys", [{"offset": "x"}, {"offset": "-1"}, {"length": "-5"}])
def test_an_offset_that_is_no_number_is_refused(keys: dict[str, str]) -> None:
    with pytest.raises(Corrupt):
        scan_onnx(external_model("w.bin", **keys))


@pytest.mark.parametrize(
    "location",
    ["../w.bin", "/etc/passwd", "a/../../b", "*/_ORT_MEM_ADDR_/*", "w\0.bin", "\udc00", "..\\w"],
)
def test_a_location_that_leaves_the_folder_is_refused(location: str) -> None:
    tensor = external_tensor(None)
    raw = location.encode("utf-8", "surrogatepass")
    entry = b"\x0a\x08location\x12" + bytes([len(raw)]) + raw
    data = model_with(tensor).SerializeToString()
    old = tensor.SerializeToString()
    new = old + b"\x6a" + bytes([len(entry)]) + entry
    initializer = b"\x2a" + bytes([len(new)]) + new
    assert old in data
    with pytest.raises(InvalidName):
        check_locations(scan_onnx(b"\x3a" + bytes([len(initializer)]) + initializer))


def test_a_reference_must_be_listed_and_stay_inside_its_file() -> None:
    inside = ExternalReference("w.bin", 4, 60, "w")
    check_external([inside], {"w.bin": 64})
    with pytest.raises(Unsafe, match=r"'w' has external data in 'w\.bin', which the manifest does"):
        check_external([inside], {"v.bin": 64})
    with pytest.raises(Corrupt, match="beyond its 63 bytes"):
        check_external([inside], {"w.bin": 63})
    with pytest.raises(Corrupt):
        check_external([ExternalReference("w.bin", 64 + 1, -1, "w")], {"w.bin": 64})


def test_the_signature_is_read_without_weights_that_are_listed_as_inputs() -> None:
    model = model_with(inline_tensor())
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4, 4]))
    model.graph.input.append(helper.make_tensor_value_info("t", TensorProto.STRING, []))
    summary = scan_onnx(model.SerializeToString())
    assert summary.inputs == [TensorSpec("x", "FP32", (-1, 4)), TensorSpec("t", "BYTES", ())]
    assert summary.outputs == [TensorSpec("y", "FP32", (-1, 4))]


def test_an_output_without_a_rank_or_that_is_no_tensor_is_named() -> None:
    model = model_with(inline_tensor())
    model.graph.output.append(helper.make_tensor_value_info("r", TensorProto.FLOAT, None))
    model.graph.output.append(
        helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, [None])
    )
    summary = scan_onnx(model.SerializeToString())
    assert summary.unreadable == ["r", "s"]


@pytest.mark.parametrize(
    "data",
    [b"", b"\x00", b"\xff" * 20, b"ORTM" * 8, b"\x08\x08", b"\x3b", b"\x3a\xff\xff\x03", b"PK\x03"],
)
def test_what_is_no_model_is_corrupt(data: bytes) -> None:
    with pytest.raises(Corrupt):
        scan_onnx(data)


def test_a_model_cut_anywhere_is_refused_or_has_lost_only_what_follows_its_graph() -> None:
    data = plain_model()
    end_of_graph = data.index(b"\x3a") + 2 + data[data.index(b"\x3a") + 1]
    for size in range(end_of_graph):
        with pytest.raises(Corrupt):
            scan_onnx(data[:size])


def test_no_flipped_bit_makes_the_scanner_fail_in_its_own_way() -> None:
    data = bytearray(external_model("w.bin", offset="0", length="64"))
    messages = []
    for place in range(len(data) * 8):
        data[place // 8] ^= 1 << place % 8
        try:
            scan_onnx(data)
        except RegistryError as refusal:
            messages.append(str(refusal))
        data[place // 8] ^= 1 << place % 8
    assert len(messages) > 50
    assert not [message for message in messages if "\n" in message]
