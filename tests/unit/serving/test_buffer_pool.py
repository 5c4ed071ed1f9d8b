"""Slabs go from the batcher to the log and back, and run out in a defined way."""

import numpy as np

from serving.core.datatypes import Datatype
from serving.core.signature import TensorSpec
from serving.worker.buffers import SLABS_MIN, BufferPool

WIDE = TensorSpec("x", Datatype.FP32, (-1, 8 * 1024 * 1024))  # 32 MiB a row: 4 slabs of 1 row
NARROW = TensorSpec("x", Datatype.FP32, (-1, 3))


def test_rooms_do_not_overlap_while_both_are_held():
    pool = BufferPool([NARROW], 8)
    (a,), _ = pool.claim(3)
    (b,), _ = pool.claim(3)
    a[:], b[:] = 1, 2
    assert a.tolist() == [[1] * 3] * 3
    assert not np.shares_memory(a, b)


def test_a_slab_is_not_used_again_before_all_its_rooms_are_back():
    pool = BufferPool([WIDE], 1)
    rooms = [pool.claim(1) for _ in range(SLABS_MIN)]
    assert None not in rooms
    assert pool.claim(1) is None
    assert pool.leased == SLABS_MIN
    rooms[2][1]()
    assert pool.leased == SLABS_MIN - 1
    (again,), _ = pool.claim(1)
    assert np.shares_memory(again, rooms[2][0][0])
    assert pool.claim(1) is None


def test_a_pool_serves_for_ever_when_rooms_come_back():
    pool = BufferPool([NARROW], 8)
    for _ in range(100_000):
        room = pool.claim(8)
        assert room is not None
        room[1]()
    assert pool.leased == 0


def test_only_rows_of_one_known_size_fit():
    assert BufferPool.fits([NARROW])
    assert not BufferPool.fits([TensorSpec("x", Datatype.FP32, (-1, -1))])
    assert not BufferPool.fits([TensorSpec("x", Datatype.BYTES, (-1, 2))])
