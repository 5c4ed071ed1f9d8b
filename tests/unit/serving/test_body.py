"""Bodies in one buffer, and what may be kept for its tensors."""

import numpy as np
import pytest

from serving.core.binary_codec import split_body
from serving.core.body import ALIGNMENT, BESIDE_BYTES_MAX, PAGE_BYTES, BodyBuffer, mostly_tensors


@pytest.mark.parametrize("tensors_at", [0, 1, 2, 63, 64, 151])
def test_the_first_tensor_of_a_buffer_is_aligned(tensors_at):
    buffer = BodyBuffer(1000, tensors_at)
    buffer.add(bytes(1000))
    tensors = np.frombuffer(buffer.whole()[tensors_at:], np.uint8)
    assert tensors.__array_interface__["data"][0] % ALIGNMENT == 0


def test_pieces_and_what_is_written_to_the_room_follow_each_other():
    buffer = BodyBuffer(6, 0)
    buffer.add(b"ab")
    assert (buffer.missing, len(buffer.room)) == (4, 4)
    buffer.room[:3] = b"cde"
    buffer.advance(3)
    buffer.add(memoryview(b"f"))
    assert buffer.missing == 0
    assert bytes(buffer.whole()) == b"abcdef"


def test_a_body_counts_by_the_pages_that_are_written_to():
    buffer = BodyBuffer(3 * PAGE_BYTES + 5, 0)
    assert buffer.touched == 0
    for size, touched in (
        (1, PAGE_BYTES),
        (PAGE_BYTES, 2 * PAGE_BYTES),
        (PAGE_BYTES - 1, 2 * PAGE_BYTES),
        (1, 3 * PAGE_BYTES),
        (PAGE_BYTES + 4, 3 * PAGE_BYTES + 5),
    ):
        buffer.advance(size)
        assert buffer.touched == touched


def test_a_whole_body_cannot_be_written_to():
    buffer = BodyBuffer(2, 0)
    buffer.add(b"ab")
    with pytest.raises(TypeError):
        buffer.whole()[0] = 1
    assert not np.frombuffer(buffer.whole(), np.uint8).flags.writeable


def test_a_small_tensor_does_not_keep_what_stands_beside_it():
    """What ran alone is kept by the log, which counts its tensors only."""
    text = b" " * (BESIDE_BYTES_MAX + 1)
    body = text + b"1234"
    assert not mostly_tensors(4, len(body))
    _, small = split_body(body, str(len(text)))
    assert (bytes(small), small.obj is body) == (b"1234", False)
    body = text[1:] + b"1234"
    _, small = split_body(body, str(len(text) - 1))
    assert small.obj is body
    body = text + bytes(2 * len(text))
    _, large = split_body(body, str(len(text)))
    assert large.obj is body
