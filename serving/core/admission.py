"""What may be in flight at once, in rows and in bytes of memory.

A budget, not a queue: what does not fit is refused at once, since a caller who
knows can go elsewhere and a queue only makes everybody late.
"""

from serving.core.errors import Overloaded
from serving.core.tenants import NAMELESS, Tenants

JSON_BYTES_FACTOR = 24  # measured worst case: an array of empty arrays, decoded
RAW_BYTES_FACTOR = 2  # what was received, and the copy in a batch
MESSAGE_RAW_FACTOR = 3  # a gRPC message, its tensors if they were parsed, and the copy in a batch
MESSAGE_OVERHEAD_BYTES = 64 * 1024  # names, shapes and parameters beside a message's tensors
# One version's queue may hold so many times the rows that are left to everybody: alone four
# fifths of the budget, and of two that are flooded four ninths each. So there is always
# room for a version that asks for little, and no version needs a quota.
# The same holds for a tenant that has more than its share, where tenants are told apart.
QUEUE_TO_FREE = 4
_GRPC_BYTES_MAX = 2**31 - 1  # what grpcio can be told, and protobuf can read


def message_limit(message_bytes_max: int, bytes_max: int) -> int:
    """Bytes of the largest gRPC message that is taken in.

    message_bytes_max: of the configuration; 0: as large as the budget of
    `bytes_max` could ever admit, so what it could not is refused unread.
    """
    if message_bytes_max:
        return min(message_bytes_max + MESSAGE_OVERHEAD_BYTES, _GRPC_BYTES_MAX)
    return min(bytes_max // MESSAGE_RAW_FACTOR, _GRPC_BYTES_MAX)


class Admission:
    """Rows and bytes admitted and not yet released."""

    __slots__ = ("_rows_max", "bytes", "bytes_max", "rows", "tenants")

    def __init__(
        self,
        rows_max: int,
        bytes_max: int,
        body_bytes_max: int,
        message_bytes_max: int = 0,
        tenants: Tenants | None = None,
    ) -> None:
        """tenants: None where they are not told apart."""
        self._rows_max = rows_max
        self.tenants = tenants
        # One maximal body or message must always fit, or it could never be served at all. In a
        # message no more than a body's size counts as JSON does.
        self.bytes_max = max(
            bytes_max,
            body_bytes_max * JSON_BYTES_FACTOR + message_bytes_max * MESSAGE_RAW_FACTOR,
        )
        self.rows = 0
        self.bytes = 0

    @property
    def rows_max(self) -> int:
        """The budget of rows."""
        return self._rows_max

    def hold_bytes(self, size: int) -> None:
        """Take `size` bytes of the budget. Raises: Overloaded."""
        if self.bytes + size > self.bytes_max:
            raise Overloaded(
                f"Exceeds maximum queue size: {self.bytes_max} bytes in flight are allowed, "
                f"{self.bytes} are held, {size} more asked for"
            )
        self.bytes += size

    def free_bytes(self, size: int) -> None:
        self.bytes -= size
        assert self.bytes >= 0, "more bytes freed than held"

    def is_large(self, tenant: str) -> bool:
        """Whether a tenant has more than its share of what is in flight."""
        return self.tenants is not None and not self.tenants.has_a_share(tenant, 0, self.rows)

    def hold_rows(
        self, rows: int, queued: int = 0, share: float = 1.0, tenant: str = NAMELESS
    ) -> None:
        """Take `rows` of the budget.

        queued: rows that wait for the same version. share: of the budget, that requests
        of this priority may fill. tenant: who is within its share of the budget needs
        nothing but room.
        Raises: Overloaded.
        """
        if self.rows + rows > self._rows_max * share and self.rows:
            raise Overloaded(
                f"Exceeds maximum queue size: {int(self._rows_max * share)} rows in flight are "
                f"allowed, {self.rows} are held, {rows} more asked for"
            )
        tenants, left = self.tenants, self._rows_max - self.rows
        owed = tenants is not None and tenants.has_a_share(tenant, rows, self._rows_max)
        if queued and queued + rows > QUEUE_TO_FREE * left and not owed:
            raise Overloaded(
                f"Exceeds maximum queue size: {queued} rows wait for this version, and the "
                f"{left} that are left are kept for others"
            )
        if tenants is not None:
            held = tenants.rows_of(tenant)
            if held and held + rows > QUEUE_TO_FREE * left and not owed:
                raise Overloaded(
                    f"Exceeds maximum queue size: {held} rows of this tenant are in flight, and "
                    f"the {left} that are left are kept for others"
                )
            tenants.came(tenant, rows)
        self.rows += rows

    def free_rows(self, rows: int, tenant: str = NAMELESS) -> None:
        self.rows -= rows
        assert self.rows >= 0, "more rows freed than held"
        if self.tenants is not None:
            self.tenants.left(tenant, rows)
