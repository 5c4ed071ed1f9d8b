from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class File(_message.Message):
    __slots__ = ("name", "size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    size: int
    def __init__(self, name: _Optional[str] = ..., size: _Optional[int] = ...) -> None: ...

class Load(_message.Message):
    __slots__ = ("model", "version", "digest", "files", "settings_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    SETTINGS_JSON_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    files: _containers.RepeatedCompositeFieldContainer[File]
    settings_json: bytes
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., files: _Optional[_Iterable[_Union[File, _Mapping]]] = ..., settings_json: _Optional[bytes] = ...) -> None: ...

class Unload(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Arm(_message.Message):
    __slots__ = ("version", "digest", "role", "weight", "rollout")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    ROLE_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    ROLLOUT_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    role: str
    weight: int
    rollout: str
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ..., role: _Optional[str] = ..., weight: _Optional[int] = ..., rollout: _Optional[str] = ...) -> None: ...

class Route(_message.Message):
    __slots__ = ("model", "salt", "arms", "loaded", "generation")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    SALT_FIELD_NUMBER: _ClassVar[int]
    ARMS_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    model: str
    salt: str
    arms: _containers.RepeatedCompositeFieldContainer[Arm]
    loaded: _containers.RepeatedScalarFieldContainer[str]
    generation: int
    def __init__(self, model: _Optional[str] = ..., salt: _Optional[str] = ..., arms: _Optional[_Iterable[_Union[Arm, _Mapping]]] = ..., loaded: _Optional[_Iterable[str]] = ..., generation: _Optional[int] = ...) -> None: ...

class SetRoutes(_message.Message):
    __slots__ = ("epoch", "routes")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    ROUTES_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    routes: _containers.RepeatedCompositeFieldContainer[Route]
    def __init__(self, epoch: _Optional[int] = ..., routes: _Optional[_Iterable[_Union[Route, _Mapping]]] = ...) -> None: ...

class Drain(_message.Message):
    __slots__ = ("grace_ms",)
    GRACE_MS_FIELD_NUMBER: _ClassVar[int]
    grace_ms: int
    def __init__(self, grace_ms: _Optional[int] = ...) -> None: ...

class Ask(_message.Message):
    __slots__ = ("id", "method", "request", "json")
    ID_FIELD_NUMBER: _ClassVar[int]
    METHOD_FIELD_NUMBER: _ClassVar[int]
    REQUEST_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    id: int
    method: str
    request: bytes
    json: bool
    def __init__(self, id: _Optional[int] = ..., method: _Optional[str] = ..., request: _Optional[bytes] = ..., json: _Optional[bool] = ...) -> None: ...

class Answer(_message.Message):
    __slots__ = ("id", "error", "grpc_status", "http_status", "reply")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    GRPC_STATUS_FIELD_NUMBER: _ClassVar[int]
    HTTP_STATUS_FIELD_NUMBER: _ClassVar[int]
    REPLY_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: str
    grpc_status: int
    http_status: int
    reply: bytes
    def __init__(self, id: _Optional[int] = ..., error: _Optional[str] = ..., grpc_status: _Optional[int] = ..., http_status: _Optional[int] = ..., reply: _Optional[bytes] = ...) -> None: ...

class Region(_message.Message):
    __slots__ = ("name", "offset", "byte_size")
    NAME_FIELD_NUMBER: _ClassVar[int]
    OFFSET_FIELD_NUMBER: _ClassVar[int]
    BYTE_SIZE_FIELD_NUMBER: _ClassVar[int]
    name: str
    offset: int
    byte_size: int
    def __init__(self, name: _Optional[str] = ..., offset: _Optional[int] = ..., byte_size: _Optional[int] = ...) -> None: ...

class SetRegions(_message.Message):
    __slots__ = ("epoch", "regions")
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    REGIONS_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    regions: _containers.RepeatedCompositeFieldContainer[Region]
    def __init__(self, epoch: _Optional[int] = ..., regions: _Optional[_Iterable[_Union[Region, _Mapping]]] = ...) -> None: ...

class RegionsApplied(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class Explain(_message.Message):
    __slots__ = ("id", "model", "version")
    ID_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    id: int
    model: str
    version: str
    def __init__(self, id: _Optional[int] = ..., model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Explained(_message.Message):
    __slots__ = ("id", "document_json")
    ID_FIELD_NUMBER: _ClassVar[int]
    DOCUMENT_JSON_FIELD_NUMBER: _ClassVar[int]
    id: int
    document_json: bytes
    def __init__(self, id: _Optional[int] = ..., document_json: _Optional[bytes] = ...) -> None: ...

class ToWorker(_message.Message):
    __slots__ = ("load", "unload", "set_routes", "drain", "answer", "set_regions", "explain")
    LOAD_FIELD_NUMBER: _ClassVar[int]
    UNLOAD_FIELD_NUMBER: _ClassVar[int]
    SET_ROUTES_FIELD_NUMBER: _ClassVar[int]
    DRAIN_FIELD_NUMBER: _ClassVar[int]
    ANSWER_FIELD_NUMBER: _ClassVar[int]
    SET_REGIONS_FIELD_NUMBER: _ClassVar[int]
    EXPLAIN_FIELD_NUMBER: _ClassVar[int]
    load: Load
    unload: Unload
    set_routes: SetRoutes
    drain: Drain
    answer: Answer
    set_regions: SetRegions
    explain: Explain
    def __init__(self, load: _Optional[_Union[Load, _Mapping]] = ..., unload: _Optional[_Union[Unload, _Mapping]] = ..., set_routes: _Optional[_Union[SetRoutes, _Mapping]] = ..., drain: _Optional[_Union[Drain, _Mapping]] = ..., answer: _Optional[_Union[Answer, _Mapping]] = ..., set_regions: _Optional[_Union[SetRegions, _Mapping]] = ..., explain: _Optional[_Union[Explain, _Mapping]] = ...) -> None: ...

class Started(_message.Message):
    __slots__ = ("pid", "incarnation")
    PID_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    pid: int
    incarnation: str
    def __init__(self, pid: _Optional[int] = ..., incarnation: _Optional[str] = ...) -> None: ...

class Loaded(_message.Message):
    __slots__ = ("model", "version", "digest", "batchable", "load_ns", "signature_json")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BATCHABLE_FIELD_NUMBER: _ClassVar[int]
    LOAD_NS_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_JSON_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    batchable: bool
    load_ns: int
    signature_json: bytes
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., batchable: _Optional[bool] = ..., load_ns: _Optional[int] = ..., signature_json: _Optional[bytes] = ...) -> None: ...

class LoadFailed(_message.Message):
    __slots__ = ("model", "version", "digest", "reason")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    digest: str
    reason: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class RoutesApplied(_message.Message):
    __slots__ = ("epoch",)
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    epoch: int
    def __init__(self, epoch: _Optional[int] = ...) -> None: ...

class Unloaded(_message.Message):
    __slots__ = ("model", "version")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    model: str
    version: str
    def __init__(self, model: _Optional[str] = ..., version: _Optional[str] = ...) -> None: ...

class Drained(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class FromWorker(_message.Message):
    __slots__ = ("started", "loaded", "load_failed", "routes_applied", "unloaded", "drained", "ask", "regions_applied", "explained")
    STARTED_FIELD_NUMBER: _ClassVar[int]
    LOADED_FIELD_NUMBER: _ClassVar[int]
    LOAD_FAILED_FIELD_NUMBER: _ClassVar[int]
    ROUTES_APPLIED_FIELD_NUMBER: _ClassVar[int]
    UNLOADED_FIELD_NUMBER: _ClassVar[int]
    DRAINED_FIELD_NUMBER: _ClassVar[int]
    ASK_FIELD_NUMBER: _ClassVar[int]
    REGIONS_APPLIED_FIELD_NUMBER: _ClassVar[int]
    EXPLAINED_FIELD_NUMBER: _ClassVar[int]
    started: Started
    loaded: Loaded
    load_failed: LoadFailed
    routes_applied: RoutesApplied
    unloaded: Unloaded
    drained: Drained
    ask: Ask
    regions_applied: RegionsApplied
    explained: Explained
    def __init__(self, started: _Optional[_Union[Started, _Mapping]] = ..., loaded: _Optional[_Union[Loaded, _Mapping]] = ..., load_failed: _Optional[_Union[LoadFailed, _Mapping]] = ..., routes_applied: _Optional[_Union[RoutesApplied, _Mapping]] = ..., unloaded: _Optional[_Union[Unloaded, _Mapping]] = ..., drained: _Optional[_Union[Drained, _Mapping]] = ..., ask: _Optional[_Union[Ask, _Mapping]] = ..., regions_applied: _Optional[_Union[RegionsApplied, _Mapping]] = ..., explained: _Optional[_Union[Explained, _Mapping]] = ...) -> None: ...
