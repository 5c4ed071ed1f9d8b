"""The public client library against a running server. Imports nothing of ours.

Runs as a process of its own: the client registers message names of its own,
which no server's may meet in one process.

    python client_suite.py FLAVOUR ADDRESS MODELS

FLAVOUR: http, http.aio, grpc or grpc.aio. MODELS: a folder of NAME.onnx files
that the server serves under those names; ONNX Runtime's own answers are the
reference. Prints one line per check and exits with 1 if any fails.
"""

import asyncio
import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort

FLAVOUR, ADDRESS, MODELS = sys.argv[1:4]
IS_HTTP, IS_AIO = FLAVOUR.startswith("http"), FLAVOUR.endswith(".aio")
TOLERANCE = 1e-5


def library():
    if FLAVOUR == "http":
        import tritonclient.http as client
    elif FLAVOUR == "http.aio":
        import tritonclient.http.aio as client
    elif FLAVOUR == "grpc":
        import tritonclient.grpc as client
    else:
        import tritonclient.grpc.aio as client
    return client


def values():
    """InferInput and the rest live in the synchronous modules."""
    if IS_HTTP:
        import tritonclient.http as client
    else:
        import tritonclient.grpc as client
    return client


class Client:
    """The four flavours behind one synchronous face."""

    def __init__(self):
        self.loop = asyncio.new_event_loop() if IS_AIO else None
        if IS_AIO:

            async def make():
                return library().InferenceServerClient(ADDRESS)

            self.client = self.loop.run_until_complete(make())
        else:
            self.client = library().InferenceServerClient(ADDRESS)

    def __getattr__(self, name):
        method = getattr(self.client, name)
        if self.loop is None:
            return method
        return lambda *args, **kwargs: self.loop.run_until_complete(method(*args, **kwargs))


CLIENT = Client()
VALUES = values()


def numpy_to_wire(array):
    from tritonclient.utils import np_to_triton_dtype

    return "BYTES" if array.dtype == object else np_to_triton_dtype(array.dtype)


def infer(model, arrays, *, binary=True, outputs=None, **options):
    inputs = []
    for name, array in arrays.items():
        tensor = VALUES.InferInput(name, list(array.shape), numpy_to_wire(array))
        if IS_HTTP:
            tensor.set_data_from_numpy(array, binary_data=binary)
        else:
            tensor.set_data_from_numpy(array)
        inputs.append(tensor)
    wanted = None
    if outputs is not None:
        wanted = [
            VALUES.InferRequestedOutput(name, binary_data=binary)
            if IS_HTTP
            else VALUES.InferRequestedOutput(name)
            for name in outputs
        ]
    return CLIENT.infer(model, inputs, outputs=wanted, **options)


def session(model):
    return ort.InferenceSession(
        str(Path(MODELS) / f"{model}.onnx"), providers=["CPUExecutionProvider"]
    )


def reference(model, arrays):
    mine = session(model)
    names = [output.name for output in mine.get_outputs()]
    return dict(zip(names, mine.run(names, arrays), strict=True))


def same(got, expected, *, exact):
    assert got is not None
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if expected.dtype == object:
        texts = [x.decode() if isinstance(x, bytes) else x for x in got.reshape(-1)]
        assert texts == list(expected.reshape(-1)), (texts, expected)
    elif exact:
        assert got.dtype == expected.dtype, (got.dtype, expected.dtype)
        assert got.tobytes() == expected.tobytes(), (got, expected)
    else:
        assert np.allclose(got, expected, rtol=TOLERANCE, atol=TOLERANCE, equal_nan=True)


CHANCE = np.random.default_rng(5)


def check_health():
    assert CLIENT.is_server_live()
    assert CLIENT.is_server_ready()
    assert CLIENT.is_model_ready("mlp")
    assert CLIENT.is_model_ready("mlp", "1")
    try:
        ready = CLIENT.is_model_ready("nope")
    except Exception as error:
        ready, known = False, str(error)
        print(f"note: an unknown model's readiness raises: {known}")
    assert not ready


def check_metadata():
    server, model = CLIENT.get_server_metadata(), CLIENT.get_model_metadata("two")
    if not IS_HTTP:
        assert server.name
        assert "binary_tensor_data" in server.extensions
        inputs = [(x.name, x.datatype, list(x.shape)) for x in model.inputs]
    else:
        assert server["name"]
        assert "binary_tensor_data" in server["extensions"]
        inputs = [(x["name"], x["datatype"], x["shape"]) for x in model["inputs"]]
    assert inputs == [("a", "FP32", [-1, 4]), ("b", "FP32", [-1, 4])]


def check_predictions_equal_the_runtimes():
    for rows in (1, 2, 7, 32):
        x = CHANCE.standard_normal((rows, 30)).astype(np.float32)
        expected = reference("mlp", {"x": x})["p"]
        # Alone on the server a request has the batch shape that the reference had.
        same(infer("mlp", {"x": x}).as_numpy("p"), expected, exact=True)
        if IS_HTTP:
            same(
                infer("mlp", {"x": x}, binary=False, outputs=["p"]).as_numpy("p"),
                expected,
                exact=False,
            )


def check_two_inputs_and_chosen_outputs():
    arrays = {name: CHANCE.standard_normal((3, 4)).astype(np.float32) for name in "ab"}
    expected = reference("two", arrays)
    result = infer("two", arrays)
    same(result.as_numpy("s"), expected["s"], exact=True)
    same(result.as_numpy("d"), expected["d"], exact=True)
    chosen = infer("two", arrays, outputs=["d"])
    same(chosen.as_numpy("d"), expected["d"], exact=True)
    assert chosen.as_numpy("s") is None


def check_datatypes():
    samples = {
        "BOOL": np.array([[True, False, True]]),
        "UINT8": np.array([[0, 1, 255]], np.uint8),
        "UINT16": np.array([[0, 1, 65535]], np.uint16),
        "UINT32": np.array([[0, 1, 2**32 - 1]], np.uint32),
        "UINT64": np.array([[0, 1, 2**64 - 1]], np.uint64),
        "INT8": np.array([[-128, 0, 127]], np.int8),
        "INT16": np.array([[-(2**15), 0, 7]], np.int16),
        "INT32": np.array([[-(2**31), 0, 7]], np.int32),
        "INT64": np.array([[-(2**63), 0, 7]], np.int64),
        "FP16": np.array([[0.5, -1, np.inf]], np.float16),
        "FP32": np.array([[0.1, np.nan, -np.inf]], np.float32),
        "FP64": np.array([[0.1, np.nan, 1e300]], np.float64),
        "BYTES": np.array([["", "text", "\u20ac\x00"]], dtype=object),
    }
    for datatype, array in samples.items():
        sent = array
        if datatype == "BYTES":
            sent = np.array([[x.encode() for x in row] for row in array], dtype=object)
        same(infer(f"id.{datatype}", {"x": sent}).as_numpy("y"), array, exact=True)
        if IS_HTTP and datatype != "FP16":
            same(
                infer(f"id.{datatype}", {"x": sent}, binary=False).as_numpy("y"), array, exact=True
            )


def check_ids_parameters_and_versions():
    x = np.zeros((1, 30), np.float32)
    result = infer("mlp", {"x": x}, request_id="my-id", model_version="1", timeout=5_000_000)
    response = result.get_response()
    if not IS_HTTP:
        assert response.id == "my-id"
        assert response.model_version == "1"
        prediction_id = response.parameters["prediction_id"].string_param
    else:
        assert response["id"] == "my-id"
        assert response["model_version"] == "1"
        prediction_id = response["parameters"]["prediction_id"]
    assert len(prediction_id) == 36
    result = infer("mlp", {"x": x}, sequence_id=7, sequence_start=True, sequence_end=True)
    assert result.as_numpy("p").shape == (1, 2)


def check_concurrent_requests_keep_their_rows():
    xs = [CHANCE.standard_normal((1 + i % 3, 30)).astype(np.float32) for i in range(40)]
    expected = [reference("mlp", {"x": x})["p"] for x in xs]
    if IS_AIO:

        async def one(x):
            tensor = VALUES.InferInput("x", list(x.shape), "FP32")
            tensor.set_data_from_numpy(x)
            return await CLIENT.client.infer("mlp", [tensor])

        async def all_of_them():
            return await asyncio.gather(*(one(x) for x in xs))

        results = CLIENT.loop.run_until_complete(all_of_them())
    else:
        results = [infer("mlp", {"x": x}) for x in xs]
    for result, p in zip(results, expected, strict=True):
        same(result.as_numpy("p"), p, exact=False)


def check_errors():
    from tritonclient.utils import InferenceServerException

    cases = [
        ("nope", {"x": np.zeros((1, 30), np.float32)}, "unknown model: 'nope'"),
        ("mlp", {"x": np.zeros((1, 29), np.float32)}, "Expected [-1,30], got [1,29]"),
        ("mlp", {"x": np.zeros((1, 30), np.float64)}, "expects 'FP32'"),
        ("mlp", {"q": np.zeros((1, 30), np.float32)}, "unexpected inference input 'q'"),
        ("two", {"a": np.zeros((1, 4), np.float32)}, "missing required input(s) ['b']"),
    ]
    for model, arrays, message in cases:
        said = "no error"
        try:
            infer(model, arrays)
        except InferenceServerException as error:
            said = error.message()
        assert message in said, said


def check_compressed_requests():
    x = np.zeros((8, 30), np.float32)
    expected = reference("mlp", {"x": x})["p"]
    if not IS_HTTP:
        result = infer("mlp", {"x": x}, compression_algorithm="gzip")
    else:
        result = infer("mlp", {"x": x}, request_compression_algorithm="gzip")
    same(result.as_numpy("p"), expected, exact=True)


def check_large_tensors():
    x = CHANCE.standard_normal((200_000, 3)).astype(np.float32)  # 2.4 MB a request
    for rows in (64,):
        part = x[:rows]
        same(infer("id.FP32", {"x": part}).as_numpy("y"), part, exact=True)
    wide = CHANCE.standard_normal((1, 500_000)).astype(np.float32)
    same(infer("wide", {"x": wide}).as_numpy("y"), wide, exact=True)


def main():
    failed = 0
    for name, check in sorted(globals().items()):
        if not name.startswith("check_"):
            continue
        try:
            check()
        except Exception as error:
            failed += 1
            print(f"FAILED {name}: {type(error).__name__}: {error}")
        else:
            print(f"passed {name}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
