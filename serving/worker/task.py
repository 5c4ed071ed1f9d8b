"""One admitted request, and who waits for its answer."""

from typing import Any, Protocol

from serving.core.batch import State
from serving.core.datatypes import Array
from serving.core.errors import ServeError
from serving.core.grpc_codec import GrpcReplies
from serving.core.json_codec_reply import BatchOutputs, JsonReplies
from serving.core.padding import Padder
from serving.core.request import Envelope, WantedOutput
from serving.core.routing import Arm
from serving.core.signature import Signature
from serving.core.tenants import NAMELESS
from serving.worker import batcher


class Waiter(Protocol):
    """The transport's end of a request."""

    protocol: str

    def routing_key(self) -> str:
        """What the transport says besides the message; "" for nothing. Asked at a split only."""

    def tenant(self, header: str) -> str:
        """The value of the header or metadata key that names tenants; "" without one."""

    @property
    def trace(self) -> bytes:
        """The trace that the request belongs to; b"" for none. See `Version.traced`."""

    def succeed(self, task: "Task", outputs: BatchOutputs, start: int, stop: int) -> None:
        """Encode and send. May raise ServeError, which then becomes the answer."""

    def fail(self, error: ServeError) -> None: ...


class Owner(Protocol):
    """The version that a request was admitted to."""

    signature: Signature
    padder: Padder | None
    json: JsonReplies
    grpc: GrpcReplies
    traced: bool

    def submit(self, task: "Task") -> None: ...
    def cancel(self, task: "Task") -> None: ...


class Task(batcher.Task):
    """One admitted request."""

    __slots__ = (
        "arm",
        "began_ns",
        "cost_bytes",
        "envelope",
        "prediction_id",
        "tenant",
        "ts_ns",
        "version",
        "waiter",
        "wanted",
    )

    def __init__(
        self,
        version: Owner,
        arm: Arm[Any],
        waiter: Waiter,
        arrays: list[Array],
        rows: int,
        envelope: Envelope,
        wanted: tuple[WantedOutput, ...],
        cost_bytes: int,
        ts_ns: int,
        began_ns: int,
        queued_ns: int,
        deadline_ns: int,
        level: int = 0,
        tenant: str = NAMELESS,
    ) -> None:
        """ts_ns: arrival, Unix time; the others: monotonic. level: of priority.
        tenant: whose share its rows are of.
        """
        # Not through super(): this runs once per request.
        if version.signature.rows_alike:
            self.key = arm.group
        elif version.padder is not None:
            self.key = version.padder.key(arm.group, arrays)
        else:
            self.key = (arm.group, *[array.shape[1:] for array in arrays])
        self.rows, self.deadline_ns, self.state, self.order = rows, deadline_ns, State.QUEUED, 0
        self.level, self.tenant = level, tenant
        self.version, self.arm, self.waiter, self.arrays = version, arm, waiter, arrays
        self.envelope, self.wanted, self.cost_bytes = envelope, wanted, cost_bytes
        self.ts_ns, self.began_ns, self.queued_ns = ts_ns, began_ns, queued_ns
        self.prediction_id = ""
