"""Which version answers a request: an immutable table and a stable split.

Laws:
- the same key and salt give the same point of [0, 2^64) for ever;
- an arm owns an interval of points, candidates from zero up, so raising a
  candidate's weight only ever moves keys towards it;
- a table is replaced whole and read once per request.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Generic, TypeVar

from serving.core.errors import UnknownModel, shown

POINTS = 1 << 64

Target = TypeVar("Target")


@dataclass(frozen=True, slots=True)
class Arm(Generic[Target]):
    """A share of a model's traffic and the version that takes it."""

    target: Target
    version: str
    role: str  # stable | candidate | pinned
    rollout: str
    weight: int  # percent
    group: tuple[str, str] = field(init=False, repr=False, compare=False)  # one batch, one record

    def __post_init__(self) -> None:
        object.__setattr__(self, "group", (self.role, self.rollout))


@dataclass(frozen=True, slots=True)
class Route(Generic[Target]):
    """One model. `bounds[i]` is the first point beyond `arms[i]`."""

    model: str
    salt: bytes
    arms: tuple[Arm[Target], ...]
    bounds: tuple[int, ...]
    pinned: Mapping[str, Arm[Target]]  # versions that may be asked for by number
    generation: int = 0

    def pick(self, point: int) -> Arm[Target]:
        """The arm that owns `point`."""
        for arm, bound in zip(self.arms, self.bounds, strict=True):
            if point < bound:
                return arm
        return self.arms[-1]

    def pick_version(self, version: str) -> Arm[Target]:
        """The version a client asked for by number. Raises: UnknownModel."""
        arm = self.pinned.get(version)
        if arm is None:
            raise UnknownModel(
                f"Request for unknown model: '{self.model}' version '{shown(version)}' is not found"
            )
        return arm


@dataclass(frozen=True, slots=True)
class RoutingTable(Generic[Target]):
    """Every model's route; `epoch` names the table."""

    epoch: int
    routes: Mapping[str, Route[Target]]

    def find(self, model: str) -> Route[Target]:
        """Raises: UnknownModel."""
        route = self.routes.get(model)
        if route is None:
            raise UnknownModel(f"Request for unknown model: '{shown(model)}' is not found")
        return route


def version_rank(version: str) -> tuple[int, str]:
    """Sorts version numbers as numbers."""
    return len(version), version


def make_route(
    model: str,
    salt: str,
    arms: Sequence[Arm[Target]],
    pinned: Mapping[str, Arm[Target]],
    generation: int = 0,
) -> Route[Target]:
    """A route whose candidates own the low points and whose stable arm the rest.

    Arms of weight 0 get no point. Raises: ValueError if no arm has a weight, or
    the weights exceed 100.
    """
    live = sorted((arm for arm in arms if arm.weight > 0), key=lambda arm: arm.role == "stable")
    if not live or sum(arm.weight for arm in live) > 100:
        raise ValueError(f"weights of model {model!r} must add up to 1 to 100")
    bounds, total = [], 0
    for arm in live:
        total += arm.weight
        bounds.append(POINTS * total // 100)
    bounds[-1] = POINTS
    key = salt.encode()[:64]  # blake2b's limit
    return Route(model, key, tuple(live), tuple(bounds), dict(pinned), generation)


def key_point(salt: bytes, key: str) -> int:
    """The point of [0, 2^64) that `key` has under `salt`."""
    data = key.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=8, key=salt).digest(), "big")
