"""Which values of a key can be meant; anything else would fail later, and elsewhere.

The default rule: a number is finite and not negative. Keys that mean more, or that
cannot be 0, stand in the tables below.
"""

import math
import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any

from monitor.core.budget import FORM, mean_time_s
from monitor.core.periods import parse_period_ns

HEADER = re.compile("[A-Za-z0-9][A-Za-z0-9-]{0,63}")  # what HTTP and gRPC both can carry
PORT_MAX = 65_535  # the resolver takes larger ones modulo 65536, without a word

# 0 would divide by it, spin on it, or refuse everything.
_ABOVE_ZERO = frozenset(
    {
        *("gateway.registry_poll_s", "gateway.worker_rows_max", "gateway.max_batch_size"),
        *("log.record_rows_max", "log.record_bytes_max", "log.buffer_rows_max"),
        *("log.buffer_bytes_max", "log.heartbeat_ms", "log.segment_bytes", "log.segment_s"),
        *("log.sample_rate", "monitor.block_s", "monitor.budget_s", "monitor.warn_budget_s"),
        *("monitor.retrain_window_s", "monitor.coarse_edges", "monitor.window_blocks"),
        *("kafka.partitions", "kafka.request_timeout_s", "kafka.batch_bytes"),
        *("kafka.message_bytes_max", "kafka.control_timeout_s", "monitor.lag_max_s"),
        *("monitor.warm_up_rows", "monitor.rolling_days", "monitor.rolling_guard_days"),
        *("monitor.session_s", "monitor.silence_s", "monitor.handover_s", "monitor.approve_s"),
        "monitor.verify_s",
        *("retrain.timeout_s", "retrain.give_up_s", "retrain.datasets_kept"),
    }
)
# Limits that 0 lifts, or leaves to another one.
_MAY_BE_ZERO = frozenset({"limits.message_bytes_max", "limits.standing_wait_s_max"})
_SHARES = frozenset(
    {
        "log.sample_rate",
        "monitor.tolerance",
        "monitor.loss_tolerance",
        "monitor.outlier_tolerance",
        "monitor.loss_max_share",
        "monitor.quantile_level",
    }
)
APPROVABLE = frozenset({"rollback", "retrain", "undo"})


def expected_range(name: str, value: Any) -> str:
    """What a value of `section.key` has to be, if it is not; empty if it is."""
    if name in _WORDS:
        fits_by_word, wanted = _WORDS[name]
        return "" if fits_by_word(value) else wanted
    if isinstance(value, bool) or not isinstance(value, int | float):
        return ""
    if name.endswith("port"):
        return "" if 0 <= value <= PORT_MAX else f"a port, 0 to {PORT_MAX}"
    limits = name.startswith("limits.") and name not in _MAY_BE_ZERO
    least_open = name in _ABOVE_ZERO or limits
    most = 1.0 if name in _SHARES else math.inf
    fits = math.isfinite(value) and (value > 0 if least_open else value >= 0) and value <= most
    if fits:
        return ""
    low = "above 0" if least_open else "0 or more"
    return f"a number {low}" + (" and at most 1" if name in _SHARES else "")


def _rises(steps: tuple[int, ...]) -> bool:
    if not steps or steps[0] < 1 or steps[-1] != 100:
        return False
    return all(low < high for low, high in pairwise(steps))


def _is_period(text: str) -> bool:
    return _is_read(parse_period_ns, text)


def _is_header(name: str) -> bool:
    return not name or (HEADER.fullmatch(name) is not None and not name.endswith("-bin"))


def _is_budget(text: str) -> bool:
    return not text or _is_read(mean_time_s, text)


def _is_read(read: Callable[[str], Any], text: str) -> bool:
    try:
        read(text)
    except ValueError:
        return False
    return True


# What is no number, and what it has to be.
_WORDS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "gateway.rollout_steps": (_rises, "percentages that rise from at least 1 to 100"),
    "monitor.approve": (APPROVABLE.issuperset, f"of {', '.join(sorted(APPROVABLE))}"),
    "monitor.false_alarms": (_is_budget, FORM),
    "limits.tenant_header": (_is_header, "the name of a header, not one that ends in -bin"),
    "retrain.every": (_is_period, "a time such as 12h, 7d or 2w"),
}
