"""Padding and cutting back give everybody their own, whatever the lengths; lines that join pay."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from serving.core.batch import Batch, BatchQueue, Member
from serving.core.company import PadKey, RunCost, Waiting, companions
from serving.core.datatypes import Datatype
from serving.core.dispatch import Dispatch
from serving.core.forecast import Forecast
from serving.core.latency import LatencyProfile
from serving.core.padding import Padder, PaddingSettings
from serving.core.signature import Signature, TensorSpec

SIGNATURE = Signature(
    "m",
    "1",
    (
        TensorSpec("fixed", Datatype.FP32, (-1, 2)),
        TensorSpec("ids", Datatype.INT64, (-1, -1)),
        TensorSpec("wide", Datatype.FP32, (-1, 3, -1)),
    ),
    (TensorSpec("y", Datatype.FP32, (-1, -1)), TensorSpec("z", Datatype.FP32, (-1, 2))),
    64,
)
AXES = [["b", ""], ["b", "n"], ["b", "", "n"]]
OUT_AXES = [["b", "n"], ["b", ""]]
LENGTHS = st.lists(st.integers(1, 40), max_size=4, unique=True).map(sorted)


@given(st.lists(st.tuples(st.integers(1, 20), st.integers(0, 3)), min_size=1, max_size=8), LENGTHS)
def test_everybody_gets_their_own_rows_back(shapes, lengths):
    padder = Padder(
        SIGNATURE, PaddingSettings("n", "ids", {"wide": "9"}, tuple(lengths)), AXES, OUT_AXES
    )
    chance = np.random.default_rng(len(shapes))
    requests = [
        [
            chance.standard_normal((rows, 2)).astype(np.float32),
            chance.integers(1, 99, (rows, length)),
            chance.standard_normal((rows, 3, length)).astype(np.float32),
        ]
        for length, rows in shapes
    ]
    batch = Batch([Member(None, rows) for _, rows in shapes])
    inputs = padder.gather(requests) or requests[0]
    widest = padder.padded_length(max(length for length, _ in shapes))
    assert [array.shape for array in inputs] == [
        (batch.rows, 2),
        (batch.rows, widest),
        (batch.rows, 3, widest),
    ]
    parts = padder.parts(batch, requests, inputs, [inputs[1].astype(np.float32), inputs[0]])
    answered = []
    for part in parts:
        for member, start in zip(part.members, part.starts, strict=True):
            own = [array[start : start + member.rows] for array in (*part.inputs, *part.outputs)]
            answered.append((member, own))
    assert [member for member, _ in answered] == list(batch.members)
    for (_, own), (fixed, ids, wide) in zip(answered, requests, strict=True):
        for got, want in zip(own, [fixed, ids, wide, ids, fixed], strict=True):
            assert np.array_equal(got, want)
    for (length, _), start, rows in zip(
        shapes, batch.starts, [rows for _, rows in shapes], strict=True
    ):
        assert (inputs[1][start : start + rows, length:] == 0).all()
        assert (inputs[2][start : start + rows, :, length:] == 9).all()
    assert sum(part.rows for part in parts) == batch.rows


WAITING = st.tuples(st.integers(1, 60), st.integers(1, 20)).map(lambda each: Waiting(*each))


@given(
    WAITING,
    st.lists(WAITING, max_size=10, unique_by=lambda each: each.length),
    st.integers(1, 64),
    st.integers(0, 500),
    st.integers(0, 3000),
)
def test_lines_that_join_fit_pay_and_are_in_time(first, others, rows_max, each_ns, slack_ns):
    others = [each for each in others if each.length != first.length]
    cost = RunCost(each_ns, 1.0)
    chosen = companions(first, others, rows_max, cost, slack_ns)
    assert len(set(chosen)) == len(chosen)
    lines = [first, *(others[index] for index in chosen)]
    length, rows = max(line.length for line in lines), sum(line.rows for line in lines)
    assert not chosen or rows <= rows_max
    together = cost.run_ns(length * rows)
    assert together <= sum(cost.run_ns(line.length * line.rows) for line in lines)
    assert together - cost.run_ns(first.length * first.rows) <= slack_ns
    if not each_ns:
        assert not chosen


@given(
    st.lists(st.tuples(st.integers(0, 9), st.integers(0, 4), st.booleans()), max_size=30),
    st.integers(0, 200),
)
def test_a_queue_of_many_lengths_runs_everybody_once(arrivals, each_ns):
    queue = BatchQueue(6)
    forecast = Forecast(LatencyProfile([(1, 10)]), 6, alike=False)
    dispatch = Dispatch(queue, forecast, RunCost(each_ns, 1.0))
    members = [Member(PadKey(length > 0, length), rows) for length, rows, _ in arrivals]
    gone, ran, now_ns = [], [], 1
    for member, (_, _, leaves) in zip(members, arrivals, strict=True):
        queue.submit(member)
        if leaves:
            assert queue.cancel(member)
            gone.append(member)
        queue.check()
    while queue.queued:
        now_ns += 1
        batch, late = dispatch.take(now_ns)
        assert not late
        assert batch.rows <= 6
        assert len({member.key.family for member in batch.members}) == 1
        queue.check()
        ran += batch.members
        queue.succeed(batch)
    assert {id(member) for member in ran} == {id(m) for m in members} - {id(m) for m in gone}
    assert len(ran) == len(members) - len(gone)
