"""What a log policy keeps of a version's tensors, and how it looks in the log."""

from dataclasses import replace

import numpy as np
import pytest

from eventlog.core.arrow_codec import decode_predictions, encode_predictions
from eventlog.fake import fake_rows
from eventlog.hash_key import HashKey
from eventlog.settings import ModelLogSettings, log_settings_of
from serving.core.datatypes import Datatype
from serving.core.log_policy import log_policy
from serving.core.signature import Signature, TensorSpec
from serving.worker.log_shape import LogShape

KEY = HashKey.of(b"k" * 32)
FEATURES = {"age": ("x", 0), "income": ("x", 2), "gone": ("other", 0)}


def signature(max_batch_size=8, x=(-1, 3)):
    return Signature(
        "m",
        "1",
        (
            TensorSpec("x", Datatype.FP32, x),
            TensorSpec("customer", Datatype.BYTES, (-1, 1)),
        ),
        (TensorSpec("y", Datatype.FP32, (-1, 2)), TensorSpec("brain", Datatype.BF16, (-1,))),
        max_batch_size,
    )


def arrays(n=3):
    x = np.arange(n * 3, dtype=np.float32).reshape(n, 3) + 1
    customer = np.array([[b"ann"], [b"bob"], [b"ann"]], dtype=object)[:n]
    y, brain = np.ones((n, 2), np.float32), np.full(n, 0x3F80, np.uint16)
    return [x, customer], [y, brain]


def logged(settings, outputs=True, of=None):
    """The rows as they come out of a record."""
    of = of or signature()
    policy = log_policy(of, ModelLogSettings(**settings), FEATURES)
    inputs, answers = arrays()
    shape = LogShape(of, policy, KEY if policy.hashes else None)
    fields = shape.columns(inputs, answers if outputs else [])
    base = fake_rows(0, 3, inputs={}, outputs={})
    return decode_predictions(encode_predictions(replace(base, **fields), "0a0b0c", 0))


def kept(rows):
    return {
        *(f"input:{name}" for name in rows.inputs),
        *(f"output:{name}" for name in rows.outputs),
    }


ALL = {"input:x", "input:customer", "output:y", "output:brain"}


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ALL),
        ({"payload": "full"}, ALL),
        ({"payload": "features"}, {"input:x", "input:customer"}),
        ({"payload": "off"}, set()),
        ({"drop": ("customer",)}, ALL - {"input:customer"}),
        ({"drop": ("output:*",)}, {"input:x", "input:customer"}),
        ({"drop": ("input:y",)}, ALL),
        ({"keep": ("x", "output:y")}, {"input:x", "output:y"}),
        ({"keep": ("input:*",), "drop": ("x",)}, {"input:customer"}),
        ({"payload": "features", "keep": ("y",)}, set()),
        ({"hash": ("customer",)}, ALL - {"input:customer"}),
        ({"drop": ("x.0", "x.1", "age", "income")}, ALL - {"input:x"}),
        ({"drop": ("customer.0",)}, ALL - {"input:customer"}),
    ],
)
def test_what_is_kept_and_what_is_named_as_dropped(settings, expected):
    rows = logged(settings)
    assert kept(rows) == expected
    assert set(rows.dropped) == ALL - expected - rows.hashed.keys()


def test_a_full_payload_goes_to_the_log_by_reference():
    inputs, outputs = arrays()
    shape = LogShape(signature(), log_policy(signature(), ModelLogSettings(), {}), None)
    fields = shape.columns(inputs, outputs)
    assert fields["inputs"]["x"] is inputs[0]
    assert fields["outputs"]["y"] is outputs[0]


@pytest.mark.parametrize("names", [("x.1",), ("input:x.1",)])
def test_elements_are_masked_and_the_rest_of_the_row_stays(names):
    rows = logged({"drop": names})
    assert rows.inputs["x"].tolist() == [[1, 0, 3], [4, 0, 6], [7, 0, 9]]
    assert rows.masked == {"input:x": (1,)}


def test_features_go_by_the_names_they_were_pushed_with():
    rows = logged({"keep": ("income", "y")})
    assert rows.inputs["x"].tolist() == [[0, 0, 3], [0, 0, 6], [0, 0, 9]]
    assert rows.masked == {"input:x": (0, 1)}
    assert kept(rows) == {"input:x", "output:y"}


def test_equal_values_have_equal_digests_that_only_the_key_makes():
    digests = logged({"hash": ("customer",)}).hashed["input:customer"]
    ann, bob, again = (row.tobytes() for row in digests.digests)
    assert ann == again != bob
    assert (digests.datatype, digests.shape, digests.key) == ("BYTES", (1,), KEY.name)
    value = np.array([[b"ann"]], dtype=object)
    assert HashKey.of(b"k" * 32).digests(value)[0].tobytes() == ann
    assert HashKey.of(b"l" * 32).digests(value)[0].tobytes() != ann


def test_a_hashed_element_is_masked_and_has_a_column_of_digests():
    rows = logged({"hash": ("age",), "keep": ("x", "output:*")})
    assert rows.inputs["x"][:, 0].tolist() == [0, 0, 0]
    digest = rows.hashed["input:x.0"]
    assert (digest.datatype, digest.shape) == ("FP32", ())
    assert digest.digests[0].tobytes() == KEY.digests(np.float32([[1.0]]))[0].tobytes()


def test_what_is_hashed_is_not_kept_as_it_is_whatever_else_names_it():
    rows = logged({"hash": ("customer", "x.2"), "keep": ("x", "customer")})
    assert "customer" not in rows.inputs
    assert rows.inputs["x"][:, 2].tolist() == [0, 0, 0]
    assert "input:customer" in rows.hashed
    rows = logged({"hash": ("customer",), "drop": ("customer",)})
    assert not rows.hashed
    assert "input:customer" in rows.dropped


def test_failed_rows_have_no_outputs_and_nothing_masked_in_them():
    rows = logged({"drop": ("y.0", "x.0")}, outputs=False)
    assert rows.masked == {"input:x": (0,)}
    assert not rows.outputs


def test_fields_that_a_version_does_not_have_are_reported():
    settings = ModelLogSettings(drop=("snn", "x.3", "gone", "x.no"), hash=("y",))
    assert log_policy(signature(), settings, FEATURES).unknown == ("snn", "x.3", "gone", "x.no")


def test_elements_of_rows_without_a_fixed_size():
    of = signature(x=(-1, -1))
    rows = logged({"drop": ("x.2", "x.9")}, of=of)
    assert rows.inputs["x"].tolist() == [[1, 2, 0], [4, 5, 0], [7, 8, 0]]
    assert "input:x" in logged({"keep": ("x.0",)}, of=of).dropped


def test_a_request_that_is_not_batched_is_one_row_of_all_its_elements():
    of = Signature("m", "1", (TensorSpec("x", Datatype.FP32, (2, 2)),), (), 0)
    policy = log_policy(of, ModelLogSettings(drop=("x.3",)), {})
    fields = LogShape(of, policy, None).columns([np.ones((2, 2), np.float32)], [])
    assert fields["inputs"]["x"].tolist() == [[[1, 1], [1, 0]]]


def test_a_models_own_settings_go_over_those_of_all_models():
    settings = {
        "*": ModelLogSettings(payload="features", drop=("ssn",)),
        "fraud": ModelLogSettings(payload="full", mode="durable"),
    }
    assert log_settings_of("fraud", settings) == ModelLogSettings(
        mode="durable", payload="full", drop=("ssn",)
    )
    assert log_settings_of("other", settings) == settings["*"]
    assert log_settings_of("other", {}) == ModelLogSettings()
