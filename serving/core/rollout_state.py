"""The values that the fold of serving.core.rollout is about: commands, deployments, outcomes."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum, StrEnum
from hashlib import sha256
from itertools import pairwise

HISTORY_MAX = 32  # revisions kept to undo and to show; the audit log has the rest
REMEMBERED_MAX = 256  # command ids kept here; the control log refuses older repeats
QUARANTINE_MAX = 256  # digests; the oldest is forgotten first


class Verb(IntEnum):
    """The numbers are those of protos/control.proto."""

    ADOPT = 1
    START = 2
    ADVANCE = 3
    PROMOTE = 4
    SET_WEIGHT = 5
    PAUSE = 6
    RESUME = 7
    ABORT = 8
    ROLLBACK = 9
    UNDO = 10
    HOLD = 11
    RELEASE = 12
    FREEZE = 13
    UNFREEZE = 14
    NOTE = 15
    LOAD = 16
    UNLOAD = 17
    IMPORT = 18


class Phase(IntEnum):
    """The numbers are those of protos/control.proto."""

    EMPTY = 1
    STABLE = 2
    PROGRESSING = 3
    PAUSED = 4


class Origin(StrEnum):
    """Which door a command came through."""

    CLI = "cli"
    HTTP = "http"
    MONITOR = "monitor"
    ALIAS = "alias"
    SUPERVISOR = "supervisor"


class Refusal(Enum):
    """Why a command was refused, for whom the sentence is not enough."""

    STALE = "stale"  # someone else was faster; look again
    INVALID = "invalid"  # no state would accept it
    FORBIDDEN = "forbidden"  # not through this door
    HELD = "held"
    FROZEN = "frozen"
    QUARANTINED = "quarantined"
    INAPPLICABLE = "inapplicable"  # not in this state
    FENCED = "fenced"  # from a monitor that another one has relieved


@dataclass(frozen=True, slots=True)
class Version:
    """A version of a model; `digest` (sha256 of its manifest, hex) is its identity.

    override: a configuration in JSON that a client laid over the version's own.
    """

    version: str
    digest: str
    override: str = ""

    @property
    def build(self) -> str:
        """What a worker loads: the content, and how it is configured."""
        if not self.override:
            return self.digest
        return f"{self.digest}+{sha256(self.override.encode()).hexdigest()[:16]}"


def content_of(build: str) -> str:
    """The digest of a build's manifest."""
    return build.partition("+")[0]


@dataclass(frozen=True, slots=True)
class Command:
    """One wish, as protos/control.proto has it; `weight` and `steps` in percent.

    local: an override that a gateway took while it had no shared log; `leaving` is the
    build that is no longer to serve, `version` what served instead.
    """

    id: str
    ts_ns: int
    actor: str
    origin: Origin
    model: str
    verb: Verb
    version: Version | None = None
    steps: tuple[int, ...] = ()
    weight: int = 0
    hold_until_ns: int = 0
    reason: str = ""
    evidence_json: str = ""
    expected_generation: int | None = None
    force: bool = False
    rollout: str = ""
    fence: int = 0
    local: bool = False
    leaving: str = ""
    imported: "Deployment | None" = None


@dataclass(frozen=True, slots=True)
class Serving:
    """What serves: the part of a deployment that UNDO can bring back."""

    stable: Version | None = None
    previous: Version | None = None
    candidate: Version | None = None
    weight: int = 0
    steps: tuple[int, ...] = ()
    step: int = 0
    rollout: str = ""


@dataclass(frozen=True, slots=True)
class Revision:
    """One change of what serves, and what served after it."""

    generation: int
    ts_ns: int
    verb: Verb
    actor: str
    reason: str
    command: str
    serving: Serving


@dataclass(frozen=True, slots=True)
class Deployment:
    """The desired state of one model.

    fence: the highest that a monitor's accepted command carried. followed: the last
    command of an alias; it is sent at every start, so it outlives `remembered`.
    """

    model: str
    generation: int = 0
    phase: Phase = Phase.EMPTY
    serving: Serving = Serving()
    hold_until_ns: int = 0
    frozen: bool = False
    quarantined: tuple[str, ...] = ()
    history: tuple[Revision, ...] = ()
    changed_ns: int = 0
    remembered: tuple[str, ...] = ()
    fence: int = 0
    followed: str = ""

    @property
    def stable(self) -> Version | None:
        return self.serving.stable

    @property
    def previous(self) -> Version | None:
        return self.serving.previous

    @property
    def candidate(self) -> Version | None:
        return self.serving.candidate

    def __repr__(self) -> str:
        def name(version: Version | None) -> str:
            return version.version if version else "-"

        return (
            f"<{self.model} g{self.generation} {self.phase.name} {name(self.stable)}"
            f" candidate={name(self.candidate)}@{self.serving.weight}>"
        )


@dataclass(frozen=True, slots=True)
class Accepted:
    before: Deployment
    after: Deployment


@dataclass(frozen=True, slots=True)
class Repeated:
    """The id was applied before; nothing changes."""

    state: Deployment


@dataclass(frozen=True, slots=True)
class Refused:
    state: Deployment
    refusal: Refusal
    sentence: str


Outcome = Accepted | Repeated | Refused
State = Mapping[str, Deployment]

OPERATORS = frozenset({Origin.CLI, Origin.HTTP})


def problems(deployment: Deployment) -> list[str]:
    """What is inconsistent in a deployment; empty for every state that a fold reaches."""
    serving = deployment.serving
    checks = {
        "weight is 0 to 100": 0 <= serving.weight <= 100,
        "no weight without a candidate": serving.candidate is not None or serving.weight == 0,
        "a rollout has a candidate and a candidate a rollout": (
            (serving.candidate is not None) == bool(serving.rollout) == bool(serving.steps)
        ),
        "a candidate stands beside a stable": serving.candidate is None
        or serving.stable is not None,
        "candidate and stable differ": serving.candidate is None
        or (
            serving.stable is not None
            and serving.candidate.version != serving.stable.version
            and serving.candidate.digest != serving.stable.digest
        ),
        "phase fits": deployment.phase in _phases(serving),
        "nothing quarantined serves": not {
            version.digest for version in (serving.stable, serving.candidate) if version
        }.intersection(deployment.quarantined),
        "history is bounded": len(deployment.history) <= HISTORY_MAX,
        "memory is bounded": len(deployment.remembered) <= REMEMBERED_MAX,
        "quarantine is bounded": len(deployment.quarantined) <= QUARANTINE_MAX,
        "history rises": all(a.generation < b.generation for a, b in pairwise(deployment.history)),
        "history ends before now": not deployment.history
        or deployment.history[-1].generation <= deployment.generation,
    }
    return [name for name, holds in checks.items() if not holds]


def _phases(serving: Serving) -> set[Phase]:
    if serving.stable is None:
        return {Phase.EMPTY}
    return {Phase.PROGRESSING, Phase.PAUSED} if serving.candidate else {Phase.STABLE}
