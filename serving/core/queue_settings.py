"""How the requests of one version queue: what a model's configuration may say."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class QueueSettings:
    """Durations in microseconds, as configurations write them; 0 or empty: not set."""

    delay_us: int = 0
    preferred_sizes: tuple[int, ...] = ()
    max_queue_size: int = 0  # requests
    default_timeout_us: int = 0  # in the queue; who waits longer is rejected
    allow_timeout_override: bool = False

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "QueueSettings":
        """Of a version's settings document. Raises: TypeError or ValueError."""
        return QueueSettings(
            _whole(settings, "max_queue_delay_us"),
            tuple(int(size) for size in settings.get("preferred_batch_sizes") or ()),
            _whole(settings, "max_queue_size"),
            _whole(settings, "default_timeout_us"),
            bool(settings.get("allow_timeout_override")),
        )


def _whole(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key) or 0
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {value!r}, not a whole number from 0")
    return value
