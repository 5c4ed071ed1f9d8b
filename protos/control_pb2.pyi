from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Verb(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VERB_UNSPECIFIED: _ClassVar[Verb]
    ADOPT: _ClassVar[Verb]
    START: _ClassVar[Verb]
    ADVANCE: _ClassVar[Verb]
    PROMOTE: _ClassVar[Verb]
    SET_WEIGHT: _ClassVar[Verb]
    PAUSE: _ClassVar[Verb]
    RESUME: _ClassVar[Verb]
    ABORT: _ClassVar[Verb]
    ROLLBACK: _ClassVar[Verb]
    UNDO: _ClassVar[Verb]
    HOLD: _ClassVar[Verb]
    RELEASE: _ClassVar[Verb]
    FREEZE: _ClassVar[Verb]
    UNFREEZE: _ClassVar[Verb]
    NOTE: _ClassVar[Verb]
    LOAD: _ClassVar[Verb]
    UNLOAD: _ClassVar[Verb]
    IMPORT: _ClassVar[Verb]

class Phase(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    PHASE_UNSPECIFIED: _ClassVar[Phase]
    EMPTY: _ClassVar[Phase]
    STABLE: _ClassVar[Phase]
    PROGRESSING: _ClassVar[Phase]
    PAUSED: _ClassVar[Phase]
VERB_UNSPECIFIED: Verb
ADOPT: Verb
START: Verb
ADVANCE: Verb
PROMOTE: Verb
SET_WEIGHT: Verb
PAUSE: Verb
RESUME: Verb
ABORT: Verb
ROLLBACK: Verb
UNDO: Verb
HOLD: Verb
RELEASE: Verb
FREEZE: Verb
UNFREEZE: Verb
NOTE: Verb
LOAD: Verb
UNLOAD: Verb
IMPORT: Verb
PHASE_UNSPECIFIED: Phase
EMPTY: Phase
STABLE: Phase
PROGRESSING: Phase
PAUSED: Phase

class Version(_message.Message):
    __slots__ = ("version", "digest", "override")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    OVERRIDE_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    override: str
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ..., override: _Optional[str] = ...) -> None: ...

class Command(_message.Message):
    __slots__ = ("id", "ts_ns", "actor", "origin", "model", "verb", "version", "steps", "weight", "hold_until_ns", "reason", "evidence_json", "expected_generation", "force", "rollout", "fence", "local", "leaving", "import_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    TS_NS_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    ORIGIN_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    HOLD_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    EVIDENCE_JSON_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_GENERATION_FIELD_NUMBER: _ClassVar[int]
    FORCE_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    FENCE_FIELD_NUMBER: _ClassVar[int]
    LOCAL_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    IMPORT_JSON_FIELD_NUMBER: _ClassVar[int]
    id: str
    ts_ns: int
    actor: str
    origin: str
    model: str
    verb: Verb
    version: Version
    steps: _containers.RepeatedScalarFieldContainer[int]
    weight: int
    hold_until_ns: int
    reason: str
    evidence_json: str
    expected_generation: int
    force: bool
    rollout: str
    fence: int
    local: bool
    leaving: str
    import_json: str
    def __init__(self, id: _Optional[str] = ..., ts_ns: _Optional[int] = ..., actor: _Optional[str] = ..., origin: _Optional[str] = ..., model: _Optional[str] = ..., verb: _Optional[_Union[Verb, str]] = ..., version: _Optional[_Union[Version, _Mapping]] = ..., steps: _Optional[_Iterable[int]] = ..., weight: _Optional[int] = ..., hold_until_ns: _Optional[int] = ..., reason: _Optional[str] = ..., evidence_json: _Optional[str] = ..., expected_generation: _Optional[int] = ..., force: _Optional[bool] = ..., rollout: _Optional[str] = ..., fence: _Optional[int] = ..., local: _Optional[bool] = ..., leaving: _Optional[str] = ..., import_json: _Optional[str] = ...) -> None: ...

class Proposal(_message.Message):
    __slots__ = ("gateway", "id", "command")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    id: str
    command: Command
    def __init__(self, gateway: _Optional[str] = ..., id: _Optional[str] = ..., command: _Optional[_Union[Command, _Mapping]] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("model", "generation", "phase", "stable", "previous", "candidate", "weight", "steps", "step", "rollout", "hold_until_ns", "frozen", "quarantined", "history", "changed_ns")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    PHASE_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    STEP_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    HOLD_UNTIL_NS_FIELD_NUMBER: _ClassVar[int]
    FROZEN_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    HISTORY_FIELD_NUMBER: _ClassVar[int]
    CHANGED_NS_FIELD_NUMBER: _ClassVar[int]
    model: str
    generation: int
    phase: Phase
    stable: Version
    previous: Version
    candidate: Version
    weight: int
    steps: _containers.RepeatedScalarFieldContainer[int]
    step: int
    rollout: str
    hold_until_ns: int
    frozen: bool
    quarantined: _containers.RepeatedScalarFieldContainer[str]
    history: _containers.RepeatedCompositeFieldContainer[Revision]
    changed_ns: int
    def __init__(self, model: _Optional[str] = ..., generation: _Optional[int] = ..., phase: _Optional[_Union[Phase, str]] = ..., stable: _Optional[_Union[Version, _Mapping]] = ..., previous: _Optional[_Union[Version, _Mapping]] = ..., candidate: _Optional[_Union[Version, _Mapping]] = ..., weight: _Optional[int] = ..., steps: _Optional[_Iterable[int]] = ..., step: _Optional[int] = ..., rollout: _Optional[str] = ..., hold_until_ns: _Optional[int] = ..., frozen: _Optional[bool] = ..., quarantined: _Optional[_Iterable[str]] = ..., history: _Optional[_Iterable[_Union[Revision, _Mapping]]] = ..., changed_ns: _Optional[int] = ...) -> None: ...

class Revision(_message.Message):
    __slots__ = ("generation", "ts_ns", "verb", "actor", "reason", "stable", "previous", "candidate", "weight", "command")
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    TS_NS_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    STABLE_FIELD_NUMBER: _ClassVar[int]
    PREVIOUS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    COMMAND_FIELD_NUMBER: _ClassVar[int]
    generation: int
    ts_ns: int
    verb: Verb
    actor: str
    reason: str
    stable: Version
    previous: Version
    candidate: Version
    weight: int
    command: str
    def __init__(self, generation: _Optional[int] = ..., ts_ns: _Optional[int] = ..., verb: _Optional[_Union[Verb, str]] = ..., actor: _Optional[str] = ..., reason: _Optional[str] = ..., stable: _Optional[_Union[Version, _Mapping]] = ..., previous: _Optional[_Union[Version, _Mapping]] = ..., candidate: _Optional[_Union[Version, _Mapping]] = ..., weight: _Optional[int] = ..., command: _Optional[str] = ...) -> None: ...

class CommandResult(_message.Message):
    __slots__ = ("accepted", "duplicate", "dry_run", "error", "before", "after", "accepted_ns", "applied_ns", "workers", "undo", "diverged")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    BEFORE_FIELD_NUMBER: _ClassVar[int]
    AFTER_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_NS_FIELD_NUMBER: _ClassVar[int]
    APPLIED_NS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    UNDO_FIELD_NUMBER: _ClassVar[int]
    DIVERGED_FIELD_NUMBER: _ClassVar[int]
    accepted: bool
    duplicate: bool
    dry_run: bool
    error: str
    before: Deployment
    after: Deployment
    accepted_ns: int
    applied_ns: int
    workers: int
    undo: str
    diverged: bool
    def __init__(self, accepted: _Optional[bool] = ..., duplicate: _Optional[bool] = ..., dry_run: _Optional[bool] = ..., error: _Optional[str] = ..., before: _Optional[_Union[Deployment, _Mapping]] = ..., after: _Optional[_Union[Deployment, _Mapping]] = ..., accepted_ns: _Optional[int] = ..., applied_ns: _Optional[int] = ..., workers: _Optional[int] = ..., undo: _Optional[str] = ..., diverged: _Optional[bool] = ...) -> None: ...
