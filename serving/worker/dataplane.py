"""The path of a request between transports and versions: route, decode, admit, queue.

One per worker. The routing table is replaced whole by the control path and read
once per request; nothing else of the control path is visible here.
"""

import random
import time
from collections.abc import Callable
from typing import Protocol

from serving.core.admission import MESSAGE_OVERHEAD_BYTES, RAW_BYTES_FACTOR, Admission
from serving.core.binary_forms import BinaryForms
from serving.core.datatypes import Array
from serving.core.errors import DeadlineExceeded, InvalidRequest, ServeError, TooLarge, shown
from serving.core.grpc_forms import Forms
from serving.core.json_codec_reply import wants_json_of
from serving.core.json_template import Templates
from serving.core.request import Envelope, WantedOutput, check_routing_key
from serving.core.request_head import is_count
from serving.core.routing import Arm, Route, RoutingTable, key_point
from serving.core.shared_memory import FindRegion, no_region
from serving.core.signature import Signature, count_rows
from serving.settings import LimitSettings
from serving.worker.counters import UNKNOWN, GateMetrics
from serving.worker.task import Task, Waiter
from serving.worker.version import Version


class Parsed(Protocol):
    """A request of either protocol, parsed but not bound to a signature."""

    envelope: Envelope
    shared_bytes: int  # of the inputs that `tensors` read from shared memory

    def wanted(self, signature: Signature, find: FindRegion, /) -> tuple[WantedOutput, ...]: ...
    def tensors(
        self, signature: Signature, tensors_max: int, find: FindRegion, /
    ) -> list[Array]: ...


class DataPlane:
    """Everything a worker's transports share."""

    def __init__(
        self,
        limits: LimitSettings,
        metrics: GateMetrics,
        find_region: FindRegion = no_region,
        *,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self._find_region = find_region
        self.admission = Admission(
            limits.rows_in_flight_max,
            limits.bytes_in_flight_max,
            limits.body_bytes_max,
            limits.message_bytes_max + MESSAGE_OVERHEAD_BYTES,
        )
        self.table: RoutingTable[Version] = RoutingTable(0, {})
        self.templates = Templates()
        self.binary_forms = BinaryForms()
        self.forms = Forms()
        self.draining = False
        self._clock_ns, self._wall_ns = clock_ns, wall_ns
        self._deadline_ns_max = int(limits.request_s_max * 1e9)
        self._random = random.Random().getrandbits  # noqa: S311 - a split, not a secret

    def infer(
        self,
        parse: Callable[[], Parsed],
        model: str,
        version: str,
        timeout_ns: int,
        cost_bytes: int,
        waiter: Waiter,
    ) -> Task:
        """Queue a request; `waiter` gets its outcome later, on the loop.

        version: "" for the one that the routing table chooses.
        timeout_ns: of the transport; 0 for none.
        Raises: ServeError, in which case `waiter` is not called.
        """
        began_ns = self._clock_ns()
        ts_ns = self._wall_ns()
        try:
            route = self.table.find(model)
            self.admission.hold_bytes(cost_bytes)
            try:
                task = self._decode(
                    parse(), route, version, timeout_ns, cost_bytes, waiter,
                    ts_ns, began_ns,
                )  # fmt: skip
            except BaseException:
                self.admission.free_bytes(cost_bytes)
                raise
        except ServeError as error:
            self.count_refused(model, waiter.protocol, error)
            raise
        if waiter.trace:
            task.version.traced = True
        task.version.submit(task)
        return task

    def count_refused(self, model: str, protocol: str, error: ServeError) -> None:
        """Count a request that was not queued; `model` as its client named it."""
        known = model if model in self.table.routes else UNKNOWN
        self.metrics.refused(known, protocol, error.http_status, error.reason)

    def _decode(
        self,
        request: Parsed,
        route: Route[Version],
        version: str,
        timeout_ns: int,
        cost_bytes: int,
        waiter: Waiter,
        ts_ns: int,
        began_ns: int,
    ) -> Task:
        envelope = request.envelope
        arm = self._pick(route, version, waiter, envelope)
        target = arm.target
        signature = target.signature
        wanted = request.wanted(signature, self._find_region)
        if not signature.json_everywhere and waiter.protocol == "http":
            _check_json_outputs(signature, envelope, wanted)
        arrays = request.tensors(signature, self.limits.tensors_max, self._find_region)
        rows = count_rows(signature, arrays)
        now_ns = self._clock_ns()
        deadline_ns = self._deadline(began_ns, now_ns, timeout_ns, envelope, target)
        self.admission.hold_rows(rows or 1)
        if request.shared_bytes:
            cost_bytes += self._hold_shared(request.shared_bytes, rows or 1)
        return Task(
            target, arm, waiter, arrays, rows, envelope, wanted, cost_bytes, ts_ns, began_ns,
            now_ns, deadline_ns,
        )  # fmt: skip

    def _hold_shared(self, size: int, rows: int) -> int:
        """The budget of inputs that did not come with the request. Raises: Overloaded, TooLarge."""
        cost_bytes = size * RAW_BYTES_FACTOR
        try:
            if size > self.limits.body_bytes_max:
                raise TooLarge(
                    f"inputs in shared memory have at most {self.limits.body_bytes_max} bytes "
                    f"together, got {size}"
                )
            self.admission.hold_bytes(cost_bytes)
        except ServeError:
            self.admission.free_rows(rows)
            raise
        return cost_bytes

    def _pick(
        self, route: Route[Version], version: str, waiter: Waiter, envelope: Envelope
    ) -> Arm[Version]:
        if version:
            return route.pick_version(version)
        arms = route.arms
        if len(arms) == 1:
            return arms[0]
        key = check_routing_key(waiter.routing_key()) or envelope.routing_key
        return route.pick(key_point(route.salt, key) if key else self._random(64))

    def _deadline(
        self, began_ns: int, now_ns: int, timeout_ns: int, envelope: Envelope, version: Version
    ) -> int:
        """Raises: DeadlineExceeded if it has passed, or cannot be met; Overloaded."""
        longest = self._deadline_ns_max
        if timeout_ns and timeout_ns < longest:
            longest = timeout_ns
        own_ns = envelope.timeout_ns
        if own_ns and own_ns < longest and version.batcher.heeds_timeout:
            longest = own_ns
        deadline_ns = began_ns + longest
        wait_ns = version.batcher.estimate_ns()
        if now_ns + wait_ns >= deadline_ns:
            raise DeadlineExceeded(
                f"the deadline of {longest // 1000} us cannot be met: the queue of model "
                f"'{version.signature.model}' takes {wait_ns // 1000} us"
            )
        return deadline_ns


def _check_json_outputs(
    signature: Signature, envelope: Envelope, wanted: tuple[WantedOutput, ...]
) -> None:
    """Raises: InvalidRequest if an output cannot be sent as asked."""
    for index in wants_json_of(signature, envelope, wanted):
        spec = signature.outputs[index]
        if not spec.datatype.in_json:
            raise InvalidRequest(
                f"sending {spec.datatype.wire} data via JSON is not supported. Please use the "
                f"binary data format for output '{spec.name}'"
            )


def check_timeout_ms(text: str) -> int:
    """Nanoseconds of an x-request-timeout-ms header. Raises: InvalidRequest."""
    if not is_count(text):
        raise InvalidRequest(
            f"x-request-timeout-ms must be a non-negative integer, got '{shown(text)}'"
        )
    return int(text) * 1_000_000
