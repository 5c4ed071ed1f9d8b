"""What may be in flight at once, in rows and in bytes of memory.

A budget, not a queue: what does not fit is refused at once, since a caller who
knows can go elsewhere and a queue only makes everybody late.
"""

from serving.core.errors import Overloaded

JSON_BYTES_FACTOR = 24  # measured worst case: an array of empty arrays, decoded
RAW_BYTES_FACTOR = 2  # the body, and its copy in a batch


class Admission:
    """Rows and bytes admitted and not yet released."""

    __slots__ = ("_bytes_max", "_rows_max", "bytes", "rows")

    def __init__(self, rows_max: int, bytes_max: int, body_bytes_max: int) -> None:
        self._rows_max = rows_max
        # One maximal body must always fit, or it could never be served at all.
        self._bytes_max = max(bytes_max, body_bytes_max * JSON_BYTES_FACTOR)
        self.rows = 0
        self.bytes = 0

    def hold_bytes(self, size: int) -> None:
        """Take `size` bytes of the budget. Raises: Overloaded."""
        if self.bytes + size > self._bytes_max:
            raise Overloaded(
                f"Exceeds maximum queue size: {self._bytes_max} bytes in flight are allowed, "
                f"{self.bytes} are held, {size} more asked for"
            )
        self.bytes += size

    def free_bytes(self, size: int) -> None:
        self.bytes -= size
        assert self.bytes >= 0, "more bytes freed than held"

    def hold_rows(self, rows: int) -> None:
        """Take `rows` of the budget. Raises: Overloaded."""
        if self.rows + rows > self._rows_max and self.rows:
            raise Overloaded(
                f"Exceeds maximum queue size: {self._rows_max} rows in flight are allowed, "
                f"{self.rows} are held, {rows} more asked for"
            )
        self.rows += rows

    def free_rows(self, rows: int) -> None:
        self.rows -= rows
        assert self.rows >= 0, "more rows freed than held"
