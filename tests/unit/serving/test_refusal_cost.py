"""What is wrong with a request is found in the time that its size allows.

A worker's event loop stands still while it looks, and is killed when it stands
still for long, so one bad body must not cost more than a good one.
"""

import math
import time

import numpy as np
import pytest

from serving.core.datatypes import Datatype
from serving.core.errors import SHOWN_CHARACTERS_MAX, InvalidRequest, shown
from serving.core.json_codec import decode_elements, nesting, parse_json
from serving.core.signature import Signature, TensorSpec

INTEGERS = [d for d in Datatype if d.dtype.kind in "iu" and d is not Datatype.BF16]
FLOATS = [Datatype.FP32, Datatype.FP64]


def cpu_s(work) -> float:
    began = time.process_time()
    work()
    return time.process_time() - began


@pytest.mark.parametrize(
    "text",
    [b'"' + b'\\"' * 200_000, b'"' + b"\\\\" * 200_000, b'"' * 400_001, b'"a\\' * 100_000],
    ids=["escaped quotes", "escaped backslashes", "quotes", "strings cut short"],
)
def test_depth_is_counted_in_linear_time_whatever_the_strings_are(text):
    body = b"[" * 101 + text

    def refuse():
        with pytest.raises(InvalidRequest):
            parse_json(body, 100)

    assert cpu_s(refuse) < 10  # quadratic: minutes


@pytest.mark.parametrize(
    ("text", "depth"),
    [
        (b"", 0),
        (b"1", 0),
        (b'"["', 0),
        (rb'["\"[", "\\", [1]]', 2),
        (rb'["\\\"[[[", {"\\\\": []}]', 3),
        (b'["' + b"[" * 300 + b'", [' + b'"{",' * 300 + b"1]]", 2),
        (b"]]]]", -1),
    ],
)
def test_brackets_in_strings_are_not_counted(text, depth):
    assert nesting(text) == depth


class Item:
    """Something that counts how often it is written out."""

    written = 0

    def __repr__(self) -> str:
        Item.written += 1
        return "i"


def test_of_a_large_value_only_what_is_shown_is_written_out():
    for value in ([Item()] * 10_000, {i: Item() for i in range(10_000)}, [[[Item()]]] * 10_000):
        Item.written = 0
        text = shown(value)
        assert text.endswith("...")
        assert len(text) == SHOWN_CHARACTERS_MAX + 3
        assert Item.written <= SHOWN_CHARACTERS_MAX


@pytest.mark.parametrize(
    "value", [[], {}, [1, "a", None, True], {"k": [1.5, {"q": "'"}]}, 5, None, -1e300, "text"]
)
def test_a_small_value_is_shown_whole(value):
    assert shown(value) == (value if isinstance(value, str) else repr(value))


def edges(datatype):
    if datatype.is_float:
        top = float(np.finfo(datatype.dtype).max)
        values = [top, top * (1 + 2**-26), top * 1.5, 10**400, 1e39, math.inf, math.nan]
        return [0.0, 1, *values, *(-x for x in values)]
    bounds = np.iinfo(datatype.dtype)
    return [0, int(bounds.min), int(bounds.max), int(bounds.min) - 1, int(bounds.max) + 1, 2**80]


@np.errstate(over="raise")
def holds(datatype, value):
    try:
        np.array([value], dtype=datatype.dtype)
    except (OverflowError, FloatingPointError):
        return False
    return True


@pytest.mark.parametrize("datatype", INTEGERS + FLOATS, ids=lambda d: d.wire)
def test_a_number_is_out_of_range_exactly_when_numpy_cannot_hold_it(datatype):
    values = edges(datatype)
    assert list(map(repr, datatype.out_of_range(values))) == [
        repr(x) for x in values if not holds(datatype, x)
    ]


@pytest.mark.parametrize(
    ("datatype", "bad"), [(Datatype.UINT8, 256), (Datatype.FP32, 1e39)], ids=["UINT8", "FP32"]
)
def test_one_element_out_of_range_costs_about_what_a_good_tensor_costs(datatype, bad):
    spec = TensorSpec("x", datatype, (-1,))
    signature = Signature("m", "1", (spec,), (spec,), 0)
    count = 400_000
    good = [1] * count

    def refuse():
        with pytest.raises(InvalidRequest, match=f"element {bad:g}".replace("+", r"\+")):
            decode_elements(signature, spec, [*good[1:], bad], [count], count)

    right = cpu_s(lambda: decode_elements(signature, spec, good, [count], count))
    assert cpu_s(refuse) < 10 * right + 0.1  # one conversion for each element: 40 times


@pytest.mark.parametrize("digits", ["1" * 250 + "e60", "2" * 210 + "e99", "9" * 250 + ".5E+70"])
def test_a_number_that_only_digits_and_exponent_together_make_too_large_is_an_error(digits):
    with pytest.raises(InvalidRequest, match="a number is too large"):
        parse_json(b'{"a": [NaN, %b]}' % digits.encode(), 100)


def test_the_largest_numbers_are_taken_beside_nan():
    found = parse_json(b"[NaN, 1%b, 1.7976931348623157e308, 1%be99]" % (b"0" * 308, b"0" * 208), 9)
    assert found[1:] == [10**308, 1.7976931348623157e308, 1e307]
