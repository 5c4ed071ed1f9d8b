"""What an operator can set about the prediction log; defaults and units stand here."""

from dataclasses import dataclass
from typing import Literal, get_args

MIB = 1024 * 1024
Mode = Literal["async", "durable", "sampled", "off"]
MODES: tuple[str, ...] = get_args(Mode)


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Modes: async (reply at once), durable (reply after commit), sampled, off."""

    mode: Mode = "async"
    sample_rate: float = 1.0  # share of rows kept in mode `sampled`
    flush_ms: int = 50
    record_rows_max: int = 4096
    record_bytes_max: int = 768 * 1024
    buffer_rows_max: int = 65_536  # rows waiting for the spool, per worker
    buffer_bytes_max: int = 256 * MIB
    heartbeat_ms: int = 1000
    segment_bytes: int = 64 * MIB
    segment_s: float = 60.0
    retention_s: float = 7 * 86_400.0
    retention_bytes: int = 5 * 1024 * MIB  # all segments of a state_dir, WAL included
