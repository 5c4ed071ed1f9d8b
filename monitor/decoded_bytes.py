"""What a record of predictions takes in memory once it is decoded."""

from eventlog import Record

# Measured with Python 3.11 and pyarrow 26: of records of one row it is most of it.
OBJECTS_BYTES = 5_000  # the arrays of the fixed columns, the headers, the Arrow batch


def decoded_bytes(record: Record) -> int:
    """Its body and all objects around it; a third more for those of its own columns."""
    return OBJECTS_BYTES + len(record.body) * 4 // 3
