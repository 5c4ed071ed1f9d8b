from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class GapReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    GAP_REASON_UNSPECIFIED: _ClassVar[GapReason]
    CRASH: _ClassVar[GapReason]
    OVERFLOW: _ClassVar[GapReason]
    SAMPLED: _ClassVar[GapReason]
    STORAGE: _ClassVar[GapReason]
    RETENTION: _ClassVar[GapReason]
    CORRUPT: _ClassVar[GapReason]
    UNKNOWN: _ClassVar[GapReason]
    REFUSED: _ClassVar[GapReason]
GAP_REASON_UNSPECIFIED: GapReason
CRASH: GapReason
OVERFLOW: GapReason
SAMPLED: GapReason
STORAGE: GapReason
RETENTION: GapReason
CORRUPT: GapReason
UNKNOWN: GapReason
REFUSED: GapReason

class Gap(_message.Message):
    __slots__ = ("first_sequence", "count", "reason", "model")
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    COUNT_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    first_sequence: int
    count: int
    reason: GapReason
    model: str
    def __init__(self, first_sequence: _Optional[int] = ..., count: _Optional[int] = ..., reason: _Optional[_Union[GapReason, str]] = ..., model: _Optional[str] = ...) -> None: ...

class Heartbeat(_message.Message):
    __slots__ = ("watermark_ns",)
    WATERMARK_NS_FIELD_NUMBER: _ClassVar[int]
    watermark_ns: int
    def __init__(self, watermark_ns: _Optional[int] = ...) -> None: ...

class End(_message.Message):
    __slots__ = ("next_sequence", "clean")
    NEXT_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    CLEAN_FIELD_NUMBER: _ClassVar[int]
    next_sequence: int
    clean: bool
    def __init__(self, next_sequence: _Optional[int] = ..., clean: _Optional[bool] = ...) -> None: ...

class Label(_message.Message):
    __slots__ = ("prediction_id", "row", "ts_ns", "number", "category")
    PREDICTION_ID_FIELD_NUMBER: _ClassVar[int]
    ROW_FIELD_NUMBER: _ClassVar[int]
    TS_NS_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    CATEGORY_FIELD_NUMBER: _ClassVar[int]
    prediction_id: str
    row: int
    ts_ns: int
    number: float
    category: str
    def __init__(self, prediction_id: _Optional[str] = ..., row: _Optional[int] = ..., ts_ns: _Optional[int] = ..., number: _Optional[float] = ..., category: _Optional[str] = ...) -> None: ...

class LabelBatch(_message.Message):
    __slots__ = ("model", "labels")
    MODEL_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    model: str
    labels: _containers.RepeatedCompositeFieldContainer[Label]
    def __init__(self, model: _Optional[str] = ..., labels: _Optional[_Iterable[_Union[Label, _Mapping]]] = ...) -> None: ...
