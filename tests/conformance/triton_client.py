"""tritonclient, in a process of its own, against whatever serves the suite's models.

    python triton_client.py KIND ADDRESS CASES

KIND: http, http.aio, grpc or grpc.aio. Prints one JSON line per thing tried: the
table's cases in every form that the transport has, then every `check_` function.
It imports no server's code: client and server register message names that must
not meet in one process.
"""

import asyncio
import importlib
import json
import os
import queue
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
from tritonclient.utils import InferenceServerException
from wire import difference, from_numpy, load_cases, to_numpy

KIND, ADDRESS = sys.argv[1:3]
CASES = load_cases(Path(sys.argv[3]))
IS_HTTP, IS_AIO = KIND.startswith("http"), KIND.endswith(".aio")
OURS = "OIP_URL" not in os.environ
IN_FLIGHT = 8
ANSWER_S = 30
# Inputs and outputs, each in binary or as JSON; gRPC has one form.
FORMS = {
    "binary": (True, True),
    "json": (False, False),
    "json_to_binary": (False, True),
    "binary_to_json": (True, False),
}
if not IS_HTTP:
    FORMS = {"raw": (True, True)}

library = importlib.import_module("tritonclient.http" if IS_HTTP else "tritonclient.grpc")
loop = asyncio.new_event_loop() if IS_AIO else None


class Client:
    """The four kinds behind one synchronous face."""

    def __init__(self):
        if loop is not None:
            self.client = loop.run_until_complete(self._aio())
        elif IS_HTTP:
            self.client = library.InferenceServerClient(ADDRESS, concurrency=IN_FLIGHT)
        else:
            self.client = library.InferenceServerClient(ADDRESS)

    async def _aio(self):
        return importlib.import_module(library.__name__ + ".aio").InferenceServerClient(ADDRESS)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        if loop is None:
            return method
        return lambda *args, **kwargs: loop.run_until_complete(method(*args, **kwargs))


client = Client()


def tensors_in(inputs, *, binary=True):
    found = []
    for name, tensor in inputs.items():
        array = to_numpy(tensor)
        if tensor.datatype == "BF16":
            array = array.view(ml_dtypes.bfloat16)
        given = library.InferInput(name, list(tensor.shape), tensor.datatype)
        if IS_HTTP:
            given.set_data_from_numpy(array, binary_data=binary)
        else:
            given.set_data_from_numpy(array)
        found.append(given)
    return found


def wanted(names, *, binary=True, **options):
    if IS_HTTP:
        options["binary_data"] = binary
    return [library.InferRequestedOutput(name, **options) for name in names]


def tensor_out(result, name):
    """The output as its bytes, or None if the reply has none of that name."""
    array = result.as_numpy(name)
    if array is None:
        return None
    described = result.get_output(name)
    datatype = described["datatype"] if IS_HTTP else described.datatype
    if datatype == "BF16":
        assert array.dtype == ml_dtypes.bfloat16, array.dtype
        array = array.view("<u2")
    return from_numpy(datatype, array)


def expect(result, case, *, exact):
    for name, expected in case.outputs.items():
        got = tensor_out(result, name)
        assert got is not None, f"no output {name}"
        wrong = difference(got, expected, exact=exact)
        assert wrong is None, f"{name}: {wrong}"


def infer(case, *, binary=True, **options):
    return client.infer(case.model, tensors_in(case.inputs, binary=binary), **options)


def run_case(case, inputs_binary, outputs_binary):
    outputs = wanted(case.outputs, binary=outputs_binary)
    result = infer(case, binary=inputs_binary, outputs=outputs)
    # Alone on the server, a request has the batch shape that the reference had. Triton
    # writes doubles in JSON that differ in the last digit.
    rounds = not OURS and case.datatype == "FP64" and not (inputs_binary and outputs_binary)
    expect(result, case, exact=case.exact and not rounds)


def case_named(name, datatype="FP32"):
    return next(case for case in CASES if (case.name, case.datatype) == (name, datatype))


def floats(*shape):
    return from_numpy("FP32", np.ones(shape, np.float32))


def refusal(call, *args, **options):
    """(status, message) of a call that must be refused."""
    refused = attempt(call, *args, **options)
    assert refused is not None, "the call was not refused"
    return refused


def attempt(call, *args, **options):
    """(status, message) of a call that was refused, else None."""
    try:
        call(*args, **options)
    except InferenceServerException as error:
        return error.status(), error.message()
    return None


def infer_refusal(model, inputs, **options):
    return refusal(client.infer, model, tensors_in(inputs), **options)


def extensions():
    described = client.get_server_metadata()
    return set(described["extensions"] if IS_HTTP else described.extensions)


def has(extension):
    """Whether the server declares it; a gateway must."""
    declared = extension in extensions()
    assert declared or not OURS, f"{extension} is not declared"
    return declared


def check_the_server_is_live_and_ready():
    assert client.is_server_live()
    assert client.is_server_ready()


def check_models_are_ready_and_unknown_ones_are_not():
    assert client.is_model_ready("pair")
    assert client.is_model_ready("pair", "1")
    for unknown in (("nope",), ("pair", "99")):
        try:
            ready = client.is_model_ready(*unknown)
        except InferenceServerException as error:  # how gRPC says it
            ready = "unknown model" not in error.message()
        assert not ready, unknown


def check_the_server_describes_itself():
    described = client.get_server_metadata()
    name, version = (
        (described["name"], described["version"])
        if IS_HTTP
        else (described.name, described.version)
    )
    assert name
    assert version
    assert {"binary_tensor_data", "parameters"} <= extensions()


def check_models_describe_themselves():
    for version in ("", "1"):
        described = client.get_model_metadata("many_INT16", version)
        if not IS_HTTP:
            described = {
                "name": described.name,
                "versions": list(described.versions),
                "platform": described.platform,
                "inputs": [
                    {"name": x.name, "datatype": x.datatype, "shape": list(x.shape)}
                    for x in described.inputs
                ],
                "outputs": [
                    {"name": x.name, "datatype": x.datatype, "shape": list(x.shape)}
                    for x in described.outputs
                ],
            }

        if not OURS:
            described["platform"] = "onnxruntime_onnx"  # Triton's Python backend is another

        def tensor(name, *shape):
            return {"name": name, "datatype": "INT16", "shape": [-1, *shape]}

        assert described == {
            "name": "many_INT16",
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [tensor("a", 2), tensor("b", 1), tensor("c", 2, 3)],
            "outputs": [tensor("ab", 3), tensor("turned", 3, 2), tensor("twice", 2, 6)],
        }, described


def check_unknown_models_have_no_metadata():
    for name, version in (("nope", ""), ("pair", "99")):
        _, said = refusal(client.get_model_metadata, name, version)
        assert f"Request for unknown model: '{name}'" in said, said


def check_all_outputs_come_without_being_asked_for():
    case = case_named("many of 2")
    result = infer(case)
    expect(result, case, exact=True)
    reply = result.get_response()
    outputs = reply["outputs"] if IS_HTTP else reply.outputs
    assert [x["name"] if IS_HTTP else x.name for x in outputs] == list(case.outputs)


def check_only_the_outputs_asked_for_come_in_their_order():
    case = case_named("many of 2")
    result = infer(case, outputs=wanted(["twice", "ab"]))
    for name in ("twice", "ab"):
        assert difference(tensor_out(result, name), case.outputs[name], exact=True) is None
    assert tensor_out(result, "turned") is None


def check_the_request_id_comes_back():
    case = case_named("one of 1")
    for request_id in ("my-id", ""):
        result = infer(case, request_id=request_id, model_version="1")
        reply = result.get_response()
        if IS_HTTP:
            assert reply.get("id", "") == request_id
            assert (reply["model_name"], reply["model_version"]) == (case.model, "1")
        else:
            assert reply.id == request_id
            assert (reply.model_name, reply.model_version) == (case.model, "1")


def check_parameters_are_taken():
    case = case_named("one of 1")
    options = {"priority": 1} if OURS else {}
    result = infer(case, timeout=5_000_000, parameters={"mine": "x", "n": 3, "ok": True}, **options)
    expect(result, case, exact=True)
    result = infer(case, sequence_id=7, sequence_start=True, sequence_end=True) if OURS else result
    expect(result, case, exact=True)


def check_predictions_have_an_id():
    if not OURS:  # an addition of ours to the protocol
        return
    reply = infer(case_named("one of 2")).get_response()
    if IS_HTTP:
        prediction_id = reply["parameters"]["prediction_id"]
    else:
        prediction_id = reply.parameters["prediction_id"].string_param
    assert len(prediction_id) == 36


def check_refusals_say_what_was_expected_and_what_came():
    one, x = "one_FP32", {"x": floats(1, 3)}
    wrong_type = {"x": from_numpy("FP64", np.ones((1, 3)))}
    invalid, missing = ("400", "StatusCode.INVALID_ARGUMENT"), ("404", "StatusCode.NOT_FOUND")
    cases = [
        ("nope", x, {}, missing, "Request for unknown model: 'nope' is not found"),
        (one, x, {"model_version": "99"}, missing, f"Request for unknown model: '{one}' version "),
        (
            one,
            {"x": floats(1, 4)},
            {},
            invalid,
            f"unexpected shape for input 'x' for model '{one}'. Expected [-1,3], got [1,4]",
        ),
        (one, wrong_type, {}, invalid, "inference input 'x' data-type is 'FP64', but model "),
        (one, {"q": floats(1, 3)}, {}, invalid, "unexpected inference input 'q' for model"),
        (
            "pair",
            {"a": floats(1, 4)},
            {},
            invalid,
            "expected 2 inputs but got 1 inputs for model 'pair'. Got input(s) ['a'], but missing "
            "required input(s) ['b']. Please provide all required input(s).",
        ),
        (one, {"x": floats(9, 3)}, {}, invalid, "inference request batch-size must be <= 8 for"),
        (one, x, {"outputs": wanted(["q"])}, invalid, "unexpected inference output 'q' for model"),
    ]
    for model, inputs, options, statuses, message in cases:
        status, said = infer_refusal(model, inputs, **options)
        assert message in said, f"{said!r} instead of {message!r}"
        assert status == statuses[not IS_HTTP], f"{status}: {said}"


def check_bytes_that_do_not_fill_the_shape_are_refused():
    (tensor,) = tensors_in({"x": floats(1, 2)})
    tensor.set_shape([1, 3])
    _, said = refusal(client.infer, "one_FP32", [tensor])
    text = "input byte size mismatch for input 'x' for model 'one_FP32'. Expected 12, got 8"
    assert text in said, said


def check_an_output_twice_is_refused():
    inputs = tensors_in({"x": floats(1, 3)})
    refused = attempt(client.infer, "one_FP32", inputs, outputs=wanted(["y", "y"]))
    if refused is None and not OURS:
        return  # Triton 2.51 answers it once, later ones refuse
    assert refused is not None, "the call was not refused"
    assert "output 'y' already exists in request" in refused[1], refused


def check_a_row_that_cannot_run_is_the_callers_own_trouble():
    status, said = infer_refusal("lookup", {"x": from_numpy("INT64", np.array([[9]]))})
    assert status == ("500" if IS_HTTP else "StatusCode.INTERNAL"), (status, said)
    good = client.infer("lookup", tensors_in({"x": from_numpy("INT64", np.array([[2]]))}))
    assert good.as_numpy("y").tolist() == [[20.0]]


def check_sixteen_bit_floats_are_refused_as_json():
    if not IS_HTTP:  # has no JSON
        return
    case = case_named("one of 1", "FP16")
    for binary in (False, True):
        outputs = wanted(["y"], binary=not binary)
        _, said = refusal(infer, case, binary=binary, outputs=outputs)
        text = "FP16 data via JSON is not supported. Please use the binary data format"
        assert text in said, said


def check_classification_is_declared_or_refused():
    case = case_named("perceptron of 2")
    outputs = wanted(["p"], class_count=2)
    if "classification" in extensions():
        rows = infer(case, outputs=outputs).as_numpy("p")
        assert rows.shape == (2, 2), rows
        return
    status, said = refusal(infer, case, outputs=outputs)
    assert status == ("501" if IS_HTTP else "StatusCode.UNIMPLEMENTED"), (status, said)
    assert "classification is not supported" in said, said


def check_shared_memory_is_declared_or_refused():
    if "system_shared_memory" in extensions():
        client.get_system_shared_memory_status()
        return
    (tensor,) = tensors_in({"x": floats(1, 3)})
    tensor.set_shared_memory("region", 12)
    status, said = refusal(client.infer, "one_FP32", [tensor])
    assert status == ("501" if IS_HTTP else "StatusCode.UNIMPLEMENTED"), (status, said)
    assert "shared memory" in said, said


def check_declared_extensions_answer():
    calls = {
        "statistics": client.get_inference_statistics,
        "model_configuration": lambda: client.get_model_config("pair"),
        "model_repository": client.get_model_repository_index,
        "trace": client.get_trace_settings,
        "logging": client.get_log_settings,
        "system_shared_memory": client.get_system_shared_memory_status,
        "cuda_shared_memory": client.get_cuda_shared_memory_status,
    }
    declared = extensions()
    for name, call in calls.items():
        refused = attempt(call)
        if refused is not None:
            assert name not in declared, f"{name}: {refused}"
            known = {"404", "501"} if IS_HTTP else {"StatusCode.UNIMPLEMENTED"}
            assert refused[0] in known, f"{name}: {refused}"


def as_json(name, *args):
    """What a call that describes something answers, in the JSON form of both transports."""
    options = {} if IS_HTTP else {"as_json": True}
    return getattr(client, name)(*args, **options)


def check_statistics_count_requests_rows_and_executions():
    if not has("statistics"):
        return

    def counts():
        (entry,) = as_json("get_inference_statistics", "perceptron", "1")["model_stats"]
        success = entry["inference_stats"].get("success", {})
        rows, executions = entry.get("inference_count", 0), entry.get("execution_count", 0)
        return [int(number) for number in (success.get("count", 0), rows, executions)]

    before = counts()
    for name in ("perceptron of 1", "perceptron of 3"):
        infer(case_named(name))
    after = counts()
    assert [b - a for a, b in zip(before, after, strict=True)] == [2, 4, 2], (before, after)


def check_the_repository_lists_what_is_ready():
    if not has("model_repository"):
        return
    index = as_json("get_model_repository_index")
    models = {x["name"]: x for x in (index if IS_HTTP else index["models"])}
    assert (models["pair"]["version"], models["pair"]["state"]) == ("1", "READY"), models["pair"]
    assert len(models) >= len({case.model for case in CASES})


def check_the_configuration_has_no_batch_dimension():
    if not has("model_configuration"):
        return
    config = as_json("get_model_config", "many_INT16")
    config = config.get("config", config)
    assert (config["name"], config["max_batch_size"]) == ("many_INT16", 8), config
    inputs = {x["name"]: (x["data_type"], [int(d) for d in x["dims"]]) for x in config["input"]}
    assert inputs == {
        "a": ("TYPE_INT16", [2]),
        "b": ("TYPE_INT16", [1]),
        "c": ("TYPE_INT16", [2, 3]),
    }, config


def check_compressed_requests_and_replies():
    case = case_named("perceptron of 8")
    for algorithm in ("gzip", "deflate"):
        if IS_HTTP:
            results = [
                infer(case, request_compression_algorithm=algorithm),
                infer(case, response_compression_algorithm=algorithm),
                infer(
                    case,
                    outputs=wanted(case.outputs, binary=False),
                    request_compression_algorithm=algorithm,
                    response_compression_algorithm=algorithm,
                ),
            ]
        else:
            results = [infer(case, compression_algorithm=algorithm)]
        for result in results:
            expect(result, case, exact=case.exact)


def check_a_large_tensor():
    x = np.random.default_rng(3).standard_normal((1, 500_000)).astype(np.float32)
    tensor = from_numpy("FP32", x)
    for options in _large_options():
        result = client.infer("wide", tensors_in({"x": tensor}), **options)
        assert difference(tensor_out(result, "y"), tensor, exact=True) is None


def _large_options():
    if not IS_HTTP:
        return [{}, {"compression_algorithm": "gzip"}]
    return [{}, {"request_compression_algorithm": "gzip", "response_compression_algorithm": "gzip"}]


def check_requests_in_flight_together_keep_their_rows():
    kinds = ("perceptron of 1", "perceptron of 2", "perceptron of 3")
    cases = [case_named(kinds[index % 3]) for index in range(5 * IN_FLIGHT)]
    for case, result in zip(cases, _together(cases), strict=True):
        # In a batch with others the runtime may add in another order.
        expect(result, case, exact=False)


def _together(cases):
    if IS_AIO:

        async def all_of_them():
            calls = [client.client.infer(case.model, tensors_in(case.inputs)) for case in cases]
            return await asyncio.gather(*calls)

        return loop.run_until_complete(all_of_them())
    if IS_HTTP:
        pending = [client.async_infer(case.model, tensors_in(case.inputs)) for case in cases]
        return [request.get_result() for request in pending]
    answers = queue.Queue()
    for index, case in enumerate(cases):
        client.async_infer(
            case.model,
            tensors_in(case.inputs),
            lambda result, error, index=index: answers.put((index, result, error)),
        )
    found = sorted((answers.get(timeout=ANSWER_S) for _ in cases), key=lambda answer: answer[0])
    assert [error for _, _, error in found if error is not None] == []
    return [result for _, result, _ in found]


def check_a_stream_answers_in_order_and_outlives_an_error():
    if IS_HTTP:  # has no streams
        return
    first, last = case_named("one of 2"), case_named("many of 3")
    requests = [
        {"model_name": first.model, "inputs": tensors_in(first.inputs), "request_id": "a"},
        {"model_name": "nope", "inputs": tensors_in(first.inputs), "request_id": "b"},
        {"model_name": first.model, "inputs": tensors_in({"x": floats(1, 4)}), "request_id": "c"},
        {"model_name": last.model, "inputs": tensors_in(last.inputs), "request_id": "d"},
    ]
    answers = _streamed_aio(requests) if IS_AIO else _streamed(requests)
    assert [error is None for _, error in answers] == [True, False, False, True], answers
    for case, (result, _), request_id in ((first, answers[0], "a"), (last, answers[3], "d")):
        expect(result, case, exact=case.exact)
        assert result.get_response().id == request_id
    assert "unknown model: 'nope'" in answers[1][1].message(), answers[1]
    assert "Expected [-1,3], got [1,4]" in answers[2][1].message(), answers[2]


def _streamed(requests):
    answers = queue.Queue()
    client.start_stream(lambda result, error: answers.put((result, error)))
    try:
        for request in requests:
            client.async_stream_infer(**request)
        return [answers.get(timeout=ANSWER_S) for _ in requests]
    finally:
        client.stop_stream()


def _streamed_aio(requests):
    async def sent():
        for request in requests:
            yield request

    async def answered():
        return [answer async for answer in client.client.stream_infer(sent())]

    return loop.run_until_complete(asyncio.wait_for(answered(), ANSWER_S))


def report(group, name, action, *args):
    try:
        action(*args)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    else:
        text = None
    print(json.dumps({"group": group, "name": name, "error": text}), flush=True)


def main():
    for form, (inputs_binary, outputs_binary) in FORMS.items():
        for case in CASES:
            if case.in_json or (inputs_binary and outputs_binary):
                group = f"{form} {case.datatype}"
                report(group, case.name, run_case, case, inputs_binary, outputs_binary)
    for name, check in sorted(globals().items()):
        if name.startswith("check_"):
            report("checks", name, check)


if __name__ == "__main__":
    main()
