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
    timeout_delays: bool = False  # who waits longer runs when nobody else waits, instead
    preserve_ordering: bool = False
    priority_levels: int = 0  # 1 goes first
    default_priority_level: int = 0
    instances: int = 1  # runs at a time, where runs are in threads

    def __post_init__(self) -> None:
        if self.preserve_ordering and self.priority_levels > 1:
            raise ValueError("preserve_ordering and priority_levels contradict each other")
        if self.priority_levels and not 1 <= self.default_priority_level <= self.priority_levels:
            raise ValueError(
                f"default_priority_level is {self.default_priority_level}, not one of the "
                f"{self.priority_levels} priority_levels"
            )

    def level(self, priority: int) -> int:
        """The priority level of a request that asks for `priority`; 0: of none."""
        return priority if 1 <= priority <= self.priority_levels else self.default_priority_level

    def share(self, level: int) -> float:
        """What of the worker's budget of rows requests of this level may fill.

        All of it for the first; the last leaves almost half, so that there is room for
        those above it whenever they come.
        """
        return 1.0 - (level - 1) / (2 * self.priority_levels) if self.priority_levels else 1.0

    @staticmethod
    def from_settings(settings: Mapping[str, Any]) -> "QueueSettings":
        """Of a version's settings document. Raises: TypeError or ValueError."""
        return QueueSettings(
            _whole(settings, "max_queue_delay_us"),
            tuple(int(size) for size in settings.get("preferred_batch_sizes") or ()),
            _whole(settings, "max_queue_size"),
            _whole(settings, "default_timeout_us"),
            bool(settings.get("allow_timeout_override")),
            settings.get("timeout_action") == "DELAY",
            bool(settings.get("preserve_ordering")),
            _whole(settings, "priority_levels"),
            _whole(settings, "default_priority_level"),
            _whole(settings, "instance_count") or 1,
        )


def _whole(settings: Mapping[str, Any], key: str) -> int:
    value = settings.get(key) or 0
    if type(value) is not int or value < 0:
        raise ValueError(f"{key} is {value!r}, not a whole number from 0")
    return value
