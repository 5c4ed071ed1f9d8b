"""What of a version's tensors its model's log policy keeps: decided once, at load.

Laws:
- a payload of `full` keeps inputs and outputs, `features` inputs alone, `off` neither:
  then a list of what to keep, then one of what to drop, then one of what to hash;
- a field that is to be hashed is never kept as it is, whatever else names it;
- a field that is named and that the version does not have is reported, since a name
  with a slip of the pen would otherwise keep what was to be left out.
"""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from eventlog.settings import ModelLogSettings
from serving.core.signature import Signature, TensorSpec

SIDES = ("input", "output")
Place = tuple[str, int]  # an input, and the place of one element in a row of it


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of one tensor.

    index:  of the tensor in the signature.
    key:    "input:NAME" or "output:NAME".
    values: False: not as a column of values.
    masked: elements of a row that are left out of the values.
    hashed: elements of a row that are kept as digests; whole: all of the row as one.
    """

    index: int
    key: str
    values: bool = True
    masked: tuple[int, ...] = ()
    hashed: tuple[int, ...] = ()
    whole: bool = False


@dataclass(frozen=True, slots=True)
class LogPolicy:
    """Of one version. `unknown`: fields that were named and that it does not have."""

    inputs: tuple[Kept, ...]
    outputs: tuple[Kept, ...]
    dropped: tuple[str, ...]
    unknown: tuple[str, ...]

    @property
    def hashes(self) -> bool:
        return any(kept.whole or kept.hashed for kept in (*self.inputs, *self.outputs))

    @property
    def is_full(self) -> bool:
        """Whether every tensor is kept as it is, so that nothing need be looked at."""
        return not self.dropped and all(
            kept.values and not kept.masked for kept in (*self.inputs, *self.outputs)
        )


@dataclass(slots=True)
class _Named:
    """The tensors and elements that a list of fields names."""

    tensors: set[str] = field(default_factory=set)  # keys
    elements: dict[str, set[int]] = field(default_factory=dict)
    unknown: list[str] = field(default_factory=list)


def log_policy(
    signature: Signature, settings: ModelLogSettings, features: Mapping[str, Place]
) -> LogPolicy:
    """features: names of elements of inputs, as the version was pushed with them."""
    sides = zip(SIDES, (signature.inputs, signature.outputs), strict=True)
    specs = {f"{side}:{spec.name}": spec for side, those in sides for spec in those}
    widths = {key: _width(spec, signature.max_batch_size > 0) for key, spec in specs.items()}
    keep, drop, hashed = (
        _read(names or (), widths, features)
        for names in (settings.keep, settings.drop, settings.hash)
    )
    wanted = {"full": SIDES, "features": SIDES[:1], "off": ()}[settings.payload or "full"]
    kept: dict[str, list[Kept]] = {side: [] for side in SIDES}
    dropped = []
    for key, width in widths.items():
        side, _, name = key.partition(":")
        places = signature.input_index if side == "input" else signature.output_index
        listed = keep if settings.keep else None
        found = _kept(places[name], key, listed, drop, hashed, width) if side in wanted else None
        if found is None or not (found.values or found.whole):
            dropped.append(key)
        if found is not None:
            kept[side].append(found)
    unknown = dict.fromkeys([*keep.unknown, *drop.unknown, *hashed.unknown])
    return LogPolicy(tuple(kept["input"]), tuple(kept["output"]), tuple(dropped), tuple(unknown))


def _kept(
    index: int, key: str, keep: _Named | None, drop: _Named, hashed: _Named, width: int | None
) -> Kept | None:
    """What is left of one tensor; None for nothing. width: elements of a row, if fixed."""
    if key in drop.tensors:
        return None
    if key in hashed.tensors:
        return Kept(index, key, values=False, whole=True)
    digests = hashed.elements.get(key, set()) - drop.elements.get(key, set())
    masked = drop.elements.get(key, set()) | digests
    values = True
    if keep is not None and key not in keep.tensors:
        # Elements of rows that have no fixed size cannot be told from the others.
        values = width is not None and key in keep.elements
        masked |= set(range(width or 0)) - keep.elements.get(key, set())
    if values and len(masked) != width:
        return Kept(index, key, True, tuple(sorted(masked)), tuple(sorted(digests)))
    if not digests:
        return None
    if width == 1:
        return Kept(index, key, values=False, whole=True)
    return Kept(index, key, values=False, hashed=tuple(sorted(digests)))


def _read(
    names: Sequence[str], widths: Mapping[str, int | None], features: Mapping[str, Place]
) -> _Named:
    named = _Named()
    for name in names:
        tensors = set(_tensors(name, widths))
        elements = () if tensors else tuple(_elements(name, widths, features))
        named.tensors |= tensors
        for key, element in elements:
            named.elements.setdefault(key, set()).add(element)
        if not tensors and not elements:
            named.unknown.append(name)
    return named


def _tensors(name: str, keys: Iterable[str]) -> Iterator[str]:
    for key in keys:
        side, _, tensor = key.partition(":")
        if name in (tensor, key, f"{side}:*"):
            yield key


def _elements(
    name: str, widths: Mapping[str, int | None], features: Mapping[str, Place]
) -> Iterator[tuple[str, int]]:
    place = features.get(name)
    if place is not None and f"input:{place[0]}" in widths:
        yield f"input:{place[0]}", place[1]
        return
    tensor, dot, number = name.rpartition(".")
    if not (dot and number.isascii() and number.isdecimal() and len(number) < 10):
        return
    for key in _tensors(tensor, widths):
        width = widths[key]
        if width is None or int(number) < width:
            yield key, int(number)


def _width(spec: TensorSpec, batched: bool) -> int | None:
    """Elements of a row; None where that differs from row to row."""
    shape = spec.shape[1:] if batched else spec.shape
    return math.prod(shape) if min(shape, default=0) >= 0 else None
