"""KServe's SDK, in a process of its own, against whatever serves the suite's models.

    python kserve_client.py KIND ADDRESS CASES

KIND: rest.v1, rest.v2 or grpc. Prints one JSON line per thing tried, as
triton_client.py does. The SDK knows no BF16, and reads JSON by a parser that
refuses NaN and infinities, so those cases are left to the forms that can.
"""

import asyncio
import json
import logging
import sys
from pathlib import Path

import grpc
import httpx
import numpy as np
from kserve import (
    InferenceGRPCClient,
    InferenceRESTClient,
    InferInput,
    InferRequest,
    RESTConfig,
)
from kserve.protocol.infer_type import RequestedOutput
from wire import NUMPY, difference, from_numpy, load_cases, to_numpy

KIND, ADDRESS = sys.argv[1:3]
CASES = [case for case in load_cases(Path(sys.argv[3])) if case.datatype != "BF16"]
URL = f"http://{ADDRESS}"
FORMS = {
    "rest.v1": ("instances", "inputs"),
    "rest.v2": ("binary", "json"),
    "grpc": ("raw", "typed"),
}[KIND]

logging.disable(logging.ERROR)  # the SDK logs the errors that the checks provoke
loop = asyncio.new_event_loop()


async def make_client():
    if KIND == "grpc":
        return InferenceGRPCClient(ADDRESS)
    return InferenceRESTClient(RESTConfig(protocol=KIND.removeprefix("rest.")))


client = loop.run_until_complete(make_client())


def call(name, *args, **options):
    """A method of the client; over REST its first argument is the base URL."""
    first = () if KIND == "grpc" else (URL,)
    return loop.run_until_complete(getattr(client, name)(*first, *args, **options))


def has_form(case, form):
    if form in ("binary", "raw"):
        return True
    if form == "instances" and case.name == "scalar":
        return False
    return case.in_json and (form == "typed" or case.finite)


def predict_v1(model, document):
    return call("infer", document, model_name=model)


def predict_v2(model, inputs, form, outputs=(), request_id=None):
    binary = form in ("binary", "raw")
    given = []
    for name, tensor in inputs.items():
        entry = InferInput(name, list(tensor.shape), tensor.datatype)
        entry.set_data_from_numpy(to_numpy(tensor), binary_data=binary)
        given.append(entry)
    request = InferRequest(
        model,
        given,
        request_id=request_id,
        request_outputs=[RequestedOutput(name, {"binary_data": binary}) for name in outputs],
    )
    if KIND == "grpc":
        return call("infer", request)
    return call("infer", request, model_name=model)


def plain(tensor):
    """Nested lists; strings as text."""
    array = to_numpy(tensor)
    if tensor.datatype == "BYTES":
        texts = np.empty(array.size, dtype=object)
        texts[:] = [text.decode() for text in array.reshape(-1)]
        array = texts.reshape(array.shape)
    return array.tolist()


def run_case_v1(case, form):
    values = {name: plain(tensor) for name, tensor in case.inputs.items()}
    if form == "instances":
        rows = [dict(zip(values, row, strict=True)) for row in zip(*values.values(), strict=True)]
        # One input may be named or not, several are.
        rows = rows if len(values) > 1 else [row["x"] for row in rows]
        answered = predict_v1(case.model, {"instances": rows})["predictions"]
        if len(case.outputs) > 1:
            answered = {name: [row[name] for row in answered] for name in case.outputs}
    else:
        document = {"inputs": values if len(values) > 1 else values["x"]}
        answered = predict_v1(case.model, document)["outputs"]
    if len(case.outputs) == 1:
        answered = dict.fromkeys(case.outputs, answered)
    assert answered.keys() == case.outputs.keys(), answered
    for name, expected in case.outputs.items():
        got = from_numpy(expected.datatype, np.array(answered[name], NUMPY[expected.datatype]))
        wrong = difference(got, expected, exact=case.exact)
        assert wrong is None, f"{name}: {wrong}"


def run_case_v2(case, form):
    reply = predict_v2(case.model, case.inputs, form, list(case.outputs))
    assert [output.name for output in reply.outputs] == list(case.outputs)
    for output in reply.outputs:
        got = from_numpy(output.datatype, output.as_numpy())
        wrong = difference(got, case.outputs[output.name], exact=case.exact)
        assert wrong is None, f"{output.name}: {wrong}"


def floats(*shape):
    return from_numpy("FP32", np.ones(shape, np.float32))


def refusal(action, *args):
    """(status, message) of a call that must be refused."""
    try:
        action(*args)
    except httpx.HTTPStatusError as error:
        return error.response.status_code, str(error)
    except grpc.aio.AioRpcError as error:
        return error.code(), error.details()
    raise AssertionError("the call was not refused")


def predict(model, rows):
    if KIND == "rest.v1":
        return predict_v1(model, {"instances": rows.tolist()})
    return predict_v2(model, {"x": from_numpy("FP32", rows)}, FORMS[0])


def check_the_server_is_live_and_ready():
    assert call("is_server_live")
    if KIND != "rest.v1":  # has no such question
        assert call("is_server_ready")


def check_models_are_ready_and_unknown_ones_are_not():
    assert call("is_model_ready", "pair") is True
    try:
        ready = call("is_model_ready", "nope")
    except (httpx.HTTPStatusError, grpc.aio.AioRpcError) as error:
        ready = "unknown model: 'nope'" not in str(error)
    assert not ready


def check_the_request_id_comes_back():
    if KIND == "rest.v1":  # has none
        return
    reply = predict_v2("one_FP32", {"x": floats(1, 3)}, FORMS[0], request_id="my-id")
    assert (reply.id, reply.model_name) == ("my-id", "one_FP32")


def check_all_outputs_come_without_being_asked_for():
    if KIND == "rest.v1":
        row = {"a": [1.0] * 4, "b": [1.0] * 4}
        (answered,) = predict_v1("pair", {"instances": [row]})["predictions"]
        assert answered == {"sum": [2.0] * 4, "gap": [0.0] * 4}
        return
    for form in FORMS:
        reply = predict_v2("pair", {"a": floats(1, 4), "b": floats(1, 4)}, form)
        assert [output.name for output in reply.outputs] == ["sum", "gap"]
        assert reply.outputs[0].as_numpy().tolist() == [[2.0] * 4]


def check_refusals_say_what_was_expected_and_what_came():
    unknown, wrong = (404, 400)
    if KIND == "grpc":
        unknown, wrong = grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT
    status, said = refusal(predict, "nope", np.ones((1, 3), np.float32))
    assert status == unknown, (status, said)
    assert "Request for unknown model: 'nope' is not found" in said, said
    status, said = refusal(predict, "one_FP32", np.ones((1, 4), np.float32))
    assert status == wrong, (status, said)
    text = "unexpected shape for input 'x' for model 'one_FP32'. Expected [-1,3], got [1,4]"
    assert text in said, said


def check_v1_elements_are_exact():
    if KIND != "rest.v1":
        return
    for model, rows, text in (
        ("one_INT8", [[1, 2, 128]], "element 128 of input 'x' for model 'one_INT8' is out of"),
        ("one_INT8", [[1, 2, 3.0]], "element 2 of input 'x' for model 'one_INT8' must be INT8"),
        ("one_FP32", [[1, 2, 3], [4, 5]], "input 'x' for model 'one_FP32' are nested unevenly"),
        ("one_FP16", [[1, 2, 3]], "of model 'one_FP16' is FP16, which JSON cannot"),
    ):
        status, said = refusal(predict_v1, model, {"instances": rows})
        assert (status, text in said) == (400, True), said


def check_v1_strings_come_in_base64_too():
    if KIND == "rest.v1":
        rows = [[{"b64": "4oKs"}, "b", ""]]
        assert predict_v1("one_BYTES", {"instances": rows}) == {
            "predictions": [["\u20ac", "b", ""]]
        }


def check_v1_explanations_are_refused_with_the_reason():
    if KIND == "rest.v1":
        status, said = refusal(lambda: call("explain", "pair", {"instances": []}))
        assert (status, ":explain is not supported" in said) == (501, True), said


def report(group, name, action, *args):
    try:
        action(*args)
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
    else:
        text = None
    print(json.dumps({"group": group, "name": name, "error": text}), flush=True)


def main():
    run_case = run_case_v1 if KIND == "rest.v1" else run_case_v2
    for form in FORMS:
        for case in CASES:
            if has_form(case, form):
                report(f"{form} {case.datatype}", case.name, run_case, case, form)
    for name, check in sorted(globals().items()):
        if name.startswith("check_"):
            report("checks", name, check)


if __name__ == "__main__":
    main()
