"""Requests that differ in length along one axis, in one batch: padded, and cut back.

Laws:
- nothing is padded unless the model's configuration says that padding is safe, and
  then only along the axis that it names;
- rows go straight into the wider buffer, which is the one copy that a batch makes;
- what is answered and logged has the shape of what the client sent.
"""

from bisect import bisect_left
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic

import numpy as np

from serving.core.batch import Batch, M
from serving.core.company import PadKey, RunCost
from serving.core.datatypes import Array, Datatype
from serving.core.errors import InvalidRequest, ModelFailed
from serving.core.signature import Signature, TensorSpec

Axes = Sequence[Sequence[str]]  # of each tensor, the names of its dimensions; "" for none


@dataclass(frozen=True, slots=True)
class PaddingSettings:
    """What a model's configuration says.

    axis: the graph's name of the dimension. mask: the input that is 1 where a request has
    something, "" for none. values: what other inputs are padded with; 0 if they are not
    here. lengths: the only ones to pad to, rising; () for whatever costs least.
    """

    axis: str
    mask: str = ""
    values: Mapping[str, str] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "PaddingSettings | None":
        """Of a version's settings document. Raises: KeyError, TypeError or ValueError."""
        document = settings.get("padding")
        if document is None:
            return None
        lengths = tuple(int(length) for length in document["lengths"])
        if min(lengths, default=1) < 1 or list(lengths) != sorted(set(lengths)):
            raise ValueError(f"padding lengths {lengths} do not rise from 1 on")
        values = {str(name): str(value) for name, value in document["values"].items()}
        return PaddingSettings(str(document["axis"]), str(document["mask"]), values, lengths)

    def parameters(self) -> dict[str, str]:
        """As a configuration writes it."""
        values = ", ".join(f"{name}={value}" for name, value in self.values.items())
        given = {
            "pad_axis": self.axis,
            "pad_mask": self.mask,
            "pad_values": values,
            "pad_lengths": ", ".join(map(str, self.lengths)),
        }
        return {name: value for name, value in given.items() if value}


@dataclass(slots=True)
class Part(Generic[M]):
    """Members of one batch with one shape, next to each other; member i has rows from
    `starts[i]` on, counted within the part, which begins at row `first` of the batch.
    """

    members: Sequence[M]
    starts: Sequence[int]
    first: int
    rows: int
    inputs: Sequence[Array]
    outputs: Sequence[Array]


class Padder:
    """Pads the requests of one version."""

    def __init__(
        self,
        signature: Signature,
        settings: PaddingSettings,
        input_axes: Axes,
        output_axes: Axes,
        cost: RunCost = RunCost(),  # noqa: B008 - frozen
    ) -> None:
        """Raises: ValueError with why the settings do not fit the model."""
        self.settings, self.cost = settings, cost
        axis = settings.axis
        if not signature.max_batch_size:
            raise ValueError(f"pad_axis '{axis}' is set, but the model runs one request at a time")
        self._signature = signature
        self._inputs = [_places(names, axis) for names in input_axes]
        if any(0 in places for places in self._inputs):
            raise ValueError(f"pad_axis '{axis}' is the batch dimension, which is never padded")
        self._padded = [i for i, places in enumerate(self._inputs) if places]
        if not self._padded:
            known = sorted({name for names in input_axes for name in names[1:] if name})
            raise ValueError(
                f"pad_axis '{axis}' is no dimension of any input; they have {known or 'no names'}"
            )
        self._first = (self._padded[0], self._inputs[self._padded[0]][0])
        self._open = [  # other dimensions that must agree in a batch
            (index, place)
            for index, spec in enumerate(signature.inputs)
            for place, dim in enumerate(spec.shape)
            if place and dim < 0 and place not in self._inputs[index]
        ]
        self._outputs = _output_places(signature, axis, input_axes, output_axes)
        self._values = _pad_values(signature, settings, self._inputs)

    def check(self, arrays: Sequence[Array]) -> None:
        """Raises: InvalidRequest unless all inputs are of one length, as the graph wants it.

        A model would say so itself of a request that runs as it is, but padding hides it.
        """
        length = self.length(arrays)
        for index in self._padded:
            for place in self._inputs[index]:
                if arrays[index].shape[place] != length:
                    raise InvalidRequest(
                        f"inputs of model '{self._signature.model}' must be of one length along "
                        f"'{self.settings.axis}': '{self._signature.inputs[index].name}' has "
                        f"{arrays[index].shape[place]} in dimension {place}, "
                        f"'{self._signature.inputs[self._first[0]].name}' has {length}"
                    )

    def length(self, arrays: Sequence[Array]) -> int:
        """Of a request along the axis."""
        index, place = self._first
        return int(arrays[index].shape[place])

    def key(self, group: Hashable, arrays: Sequence[Array]) -> PadKey:
        """What a request can share a batch with. group: whatever else must be equal."""
        length = self.length(arrays)
        family: Hashable = group
        if self._open or not length:
            others = tuple([arrays[index].shape[place] for index, place in self._open])
            family = (group, others, bool(length))
        return PadKey(family, self.padded_length(length))

    def padded_length(self, length: int) -> int:
        """To what a request of `length` is padded in any case."""
        lengths = self.settings.lengths
        place = bisect_left(lengths, length)
        return lengths[place] if length and place < len(lengths) else length

    def gather(self, requests: Sequence[Sequence[Array]]) -> list[Array] | None:
        """The inputs of a batch, each request padded to the longest of them, or to where
        that one is padded in any case; None for one request that needs nothing.
        """
        lengths = [self.length(arrays) for arrays in requests]
        length = self.padded_length(max(lengths))
        if lengths == [length]:
            return None
        columns = zip(*requests, strict=True)
        return [self._stack(index, column, length) for index, column in enumerate(columns)]

    def _stack(self, index: int, column: Sequence[Array], length: int) -> Array:
        places = self._inputs[index]
        if not places:
            return np.concatenate(column)
        head = column[0]
        shape = [length if place in places else dim for place, dim in enumerate(head.shape)]
        shape[0] = sum(map(len, column))
        buffer = np.empty(shape, head.dtype)
        start, value = 0, self._values[index]
        for array in column:
            rows = buffer[start : start + len(array)]
            if array.shape[places[0]] == length:
                rows[...] = array
            else:
                rows[...] = value
                rows[_within(places, array.ndim, array.shape[places[0]])] = array
            start += len(array)
        return buffer

    def check_outputs(self, inputs: Sequence[Array], outputs: Sequence[Array]) -> None:
        """Raises: ModelFailed if an output cannot be cut back."""
        length = self.length(inputs)
        for spec, places, array in zip(
            self._signature.outputs, self._outputs, outputs, strict=True
        ):
            if any(array.shape[place] != length for place in places):
                raise ModelFailed(
                    f"output '{spec.name}' of model '{self._signature.model}' has shape "
                    f"{list(array.shape)} for inputs of {length} along '{self.settings.axis}'"
                )

    def parts(
        self, batch: Batch[M], requests: Sequence[Sequence[Array]], inputs: Sequence[Array],
        outputs: Sequence[Array],
    ) -> list[Part[M]]:  # fmt: skip
        """A batch that ran, cut where lengths change, each part to its own length.

        requests: the arrays of each member. Inputs are views, outputs contiguous.
        """
        lengths = [self.length(arrays) for arrays in requests]
        ends = [i for i in range(1, len(lengths)) if lengths[i] != lengths[i - 1]]
        parts: list[Part[M]] = []
        begin = 0
        for end in [*ends, len(lengths)]:
            first = batch.starts[begin]
            stop = batch.starts[end] if end < len(lengths) else batch.rows
            parts.append(
                Part(
                    batch.members[begin:end],
                    [start - first for start in batch.starts[begin:end]],
                    first,
                    stop - first,
                    _cut(inputs, self._inputs, first, stop, lengths[begin]),
                    [
                        np.ascontiguousarray(array)
                        for array in _cut(outputs, self._outputs, first, stop, lengths[begin])
                    ],
                )
            )
            begin = end
        return parts

    def example(self, arrays: Sequence[Array], length: int) -> list[Array]:
        """These inputs, made `length` long from their own elements; the mask all ones."""
        made = []
        for spec, places, given in zip(self._signature.inputs, self._inputs, arrays, strict=True):
            array: Array = given
            for place in places:
                array = np.take(array, np.arange(length) % max(1, array.shape[place]), axis=place)
            if spec.name == self.settings.mask:
                array = np.full_like(array, _value(spec, "1"))
            made.append(np.ascontiguousarray(array))
        return made


def whole(batch: Batch[M], inputs: Sequence[Array], outputs: Sequence[Array]) -> Part[M]:
    """A batch of which all members have one shape."""
    return Part(batch.members, batch.starts, 0, batch.rows, inputs, outputs)


def _places(names: Sequence[str], axis: str) -> tuple[int, ...]:
    return tuple(place for place, name in enumerate(names) if name == axis)


def _output_places(
    signature: Signature, axis: str, input_axes: Axes, output_axes: Axes
) -> list[tuple[int, ...]]:
    """Raises: ValueError if an output may follow the axis, or not."""
    known = {name for names in input_axes for name in names if name}
    for spec, names in zip(signature.outputs, output_axes, strict=True):
        for place, (dim, name) in enumerate(zip(spec.shape, names, strict=True)):
            if place and dim < 0 and name not in known:
                raise ValueError(
                    f"whether dimension {place} of output '{spec.name}' follows pad_axis "
                    f"'{axis}' cannot be known: the graph calls it '{name}', which no input "
                    "has. Give it the input's name if it does, or a size"
                )
    return [_places(names, axis) for names in output_axes]


def _pad_values(
    signature: Signature, settings: PaddingSettings, places: Sequence[tuple[int, ...]]
) -> list[Any]:
    """Raises: ValueError."""
    padded = {spec.name for spec, own in zip(signature.inputs, places, strict=True) if own}
    for what, names in (("pad_mask", [settings.mask]), ("pad_values", settings.values)):
        for name in filter(None, names):
            if name not in padded:
                raise ValueError(
                    f"{what} names '{name}', which is no input along '{settings.axis}'; "
                    f"those are {sorted(padded)}"
                )
    return [_value(spec, settings.values.get(spec.name, "")) for spec in signature.inputs]


def _value(spec: TensorSpec, text: str) -> Any:
    """Raises: ValueError."""
    datatype = spec.datatype
    if datatype is Datatype.BYTES:
        return text.encode()
    try:
        if datatype.is_float:
            return datatype.dtype.type(float(text or 0))
        if datatype is Datatype.BF16:
            return np.float32(text or 0).view(np.uint32) >> 16
        number = int(text or 0)
        if datatype is Datatype.BOOL and number not in {0, 1}:
            raise ValueError
        return np.array(number, datatype.dtype)[()]
    except (ValueError, OverflowError) as error:
        raise ValueError(
            f"pad_values: '{text}' is no {datatype.wire}, which input '{spec.name}' is"
        ) from error


def _within(places: Sequence[int], rank: int, length: int) -> tuple[slice, ...]:
    return tuple([slice(length) if place in places else slice(None) for place in range(rank)])


def _cut(
    arrays: Sequence[Array], places: Sequence[tuple[int, ...]], first: int, stop: int, length: int
) -> list[Array]:
    return [
        array[first:stop][_within(own, array.ndim, length)] if own else array[first:stop]
        for array, own in zip(arrays, places, strict=True)
    ]
