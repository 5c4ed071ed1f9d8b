"""The path of a request between transports and versions: route, decode, admit, queue.

One per worker. The routing table is replaced whole by the control path and read
once per request; nothing else of the control path is visible here.
"""

import random
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from serving.core.admission import (
    MESSAGE_OVERHEAD_BYTES,
    RAW_BYTES_FACTOR,
    Admission,
    message_limit,
)
from serving.core.binary_forms import BinaryForms
from serving.core.datatypes import Array
from serving.core.errors import (
    DeadlineExceeded,
    InvalidRequest,
    Overloaded,
    ServeError,
    TooLarge,
    shown,
)
from serving.core.grpc_forms import Forms
from serving.core.json_codec_reply import wants_json_of
from serving.core.json_template import Templates
from serving.core.request import Envelope, WantedOutput, check_routing_key
from serving.core.request_head import is_count
from serving.core.routing import Arm, Route, RoutingTable, key_point
from serving.core.shared_memory import FindRegion, no_region
from serving.core.signature import Signature, count_rows
from serving.core.tenants import NAMELESS, Tenants
from serving.settings import LimitSettings
from serving.worker.batcher import Batcher
from serving.worker.counters import UNKNOWN, GateMetrics
from serving.worker.run_threads import RunThreads
from serving.worker.task import Task, Waiter
from serving.worker.version import Version

# So long after a refusal for want of room or time, requests are asked first whether they
# have any chance, before they are read.
PRESSED_NS = 1_000_000_000


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
        threads: RunThreads | None = None,
        clock_ns: Callable[[], int] = time.monotonic_ns,
        wall_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self.limits = limits
        self.metrics = metrics
        self.tenant_header = limits.tenant_header.lower()
        self._tenants = Tenants() if self.tenant_header else None
        self._find_region = find_region
        self.admission = Admission(
            limits.rows_in_flight_max,
            limits.bytes_in_flight_max,
            limits.body_bytes_max,
            limits.message_bytes_max + MESSAGE_OVERHEAD_BYTES,
            self._tenants,
        )
        # Of a gRPC message; and as many of them at most may count as JSON does.
        self.message_bytes_max = message_limit(limits.message_bytes_max, self.admission.bytes_max)
        self.untyped_bytes_max = min(limits.body_bytes_max, self.message_bytes_max)
        self.table: RoutingTable[Version] = RoutingTable(0, {})
        self.templates = Templates()
        self.binary_forms = BinaryForms()
        self.forms = Forms()
        self.draining = False
        self._threads = threads
        self.pressed = False  # requests are being refused for want of room or time
        self._pressed_until_ns = 0
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
        self._collect_runs()
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
            if type(error) is Overloaded:
                self.pressed = True
                self._pressed_until_ns = began_ns + PRESSED_NS
            raise
        if waiter.trace:
            task.version.traced = True
        task.version.submit(task)
        return task

    def is_hopeless(
        self,
        model: str,
        version: str,
        timeout_ns: int,
        body_timeout_ns: int = 0,
        tenant: str = NAMELESS,
    ) -> bool:
        """Whether a request would be refused for want of room or time, whatever else it holds.

        Asked while `pressed`: a refusal before a request is read costs a fraction of one
        after it, and what it saves answers others.
        body_timeout_ns: that the message itself asks for; 0 for none, or if it is not known.
        tenant: as the request names it.
        """
        self._collect_runs()
        now_ns = self._clock_ns()
        if now_ns > self._pressed_until_ns:
            self.pressed = False
            return False
        route = self.table.routes.get(model)
        if route is None:
            return False
        arms: Sequence[Arm[Version]] = route.arms
        if version:
            pinned = route.pinned.get(version)
            arms = () if pinned is None else (pinned,)
        if not arms:
            return False
        large = self._tenants is not None and self.admission.is_large(
            self._tenants.known_as(tenant)
        )
        for arm in arms:
            batcher = arm.target.batcher
            longest = self._longest_ns(timeout_ns, body_timeout_ns, batcher)
            patient = longest == self._deadline_ns_max
            if not batcher.has_no_room(now_ns, longest, patient=patient, large=large):
                return False
        self._pressed_until_ns = now_ns + PRESSED_NS
        return True

    def leave_core(self) -> None:
        """Leave it to what runs in threads, for a moment."""
        if self._threads is not None:
            self._threads.leave_core()

    def _collect_runs(self) -> None:
        threads = self._threads
        if threads is not None and threads.ended:
            threads.collect()

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
        if target.padder is not None:
            target.padder.check(arrays)
        now_ns = self._clock_ns()
        deadline_ns = self._deadline(began_ns, now_ns, timeout_ns, envelope, target)
        batcher, level, share = target.batcher, 0, 1.0
        if batcher.settings.priority_levels:
            level = batcher.settings.level(envelope.priority)
            share = batcher.settings.share(level)
        patient = deadline_ns - began_ns == self._deadline_ns_max
        admission, tenants, tenant, large = self.admission, self._tenants, NAMELESS, False
        if tenants is not None:
            tenant = tenants.known_as(waiter.tenant(self.tenant_header))
            large = admission.is_large(tenant)
        batcher.check_room(now_ns, deadline_ns, rows, level, patient=patient, large=large)
        admission.hold_rows(rows or 1, batcher.queue.rows_queued, share, tenant)
        if request.shared_bytes:
            cost_bytes += self._hold_shared(request.shared_bytes, rows or 1, tenant)
        return Task(
            target, arm, waiter, arrays, rows, envelope, wanted, cost_bytes, ts_ns, began_ns,
            now_ns, deadline_ns, level, tenant,
        )  # fmt: skip

    def _hold_shared(self, size: int, rows: int, tenant: str) -> int:
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
            self.admission.free_rows(rows, tenant)
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
        """Raises: DeadlineExceeded if it has passed."""
        longest = self._longest_ns(timeout_ns, envelope.timeout_ns, version.batcher)
        deadline_ns = began_ns + longest
        if now_ns >= deadline_ns:
            raise DeadlineExceeded(
                f"the deadline of {longest // 1000} us passed before the request was queued"
            )
        return deadline_ns

    def _longest_ns(self, timeout_ns: int, own_ns: int, batcher: Batcher[Task]) -> int:
        """How long a request may take. own_ns: what its message asks for."""
        longest = self._deadline_ns_max
        if timeout_ns and timeout_ns < longest:
            longest = timeout_ns
        if own_ns and own_ns < longest and batcher.heeds_timeout:
            longest = own_ns
        return longest


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
