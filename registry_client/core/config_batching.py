"""How requests share a batch and how long they may queue: `dynamic_batching`."""

from collections.abc import Sequence
from dataclasses import dataclass

from registry_client.core.config_fields import Notes, constant, integer, message, truth, wrong
from registry_client.core.errors import Invalid
from registry_client.core.pbtxt import Field

BATCH_MAX = 1 << 20
QUEUE_DELAY_US_MAX = 60_000_000  # a minute: beyond it the deadline of any request
TIMEOUT_US_MAX = 86_400_000_000  # a day
LEVELS_MAX = 100
QUEUE_SIZE_MAX = (1 << 32) - 1

# What a `dynamic_batching` sets, and so what another one replaces.
BATCHING_KEYS = (
    "max_queue_delay_us",
    "preferred_batch_sizes",
    "max_queue_size",
    "default_timeout_us",
    "allow_timeout_override",
    "timeout_action",
    "preserve_ordering",
    "priority_levels",
    "default_priority_level",
)


@dataclass(slots=True)
class Batching:
    """What was read; a zero is the default of its field."""

    preferred_batch_sizes: tuple[int, ...] = ()
    queue_delay_us: int = 0
    max_queue_size: int = 0
    default_timeout_us: int = 0
    allow_timeout_override: bool = False
    timeout_delays: bool = False
    preserve_ordering: bool = False
    priority_levels: int = 0
    default_priority_level: int = 0

    def serving(self) -> dict[str, object]:
        """The manifest's settings; the delay always, so that the message leaves a trace."""
        settings: dict[str, object] = {"max_queue_delay_us": self.queue_delay_us}
        if self.preferred_batch_sizes:
            settings["preferred_batch_sizes"] = list(self.preferred_batch_sizes)
        if self.max_queue_size:
            settings["max_queue_size"] = self.max_queue_size
        if self.default_timeout_us:
            settings["default_timeout_us"] = self.default_timeout_us
        if self.allow_timeout_override:
            settings["allow_timeout_override"] = True
        if self.timeout_delays:
            settings["timeout_action"] = "DELAY"
        if self.preserve_ordering:
            settings["preserve_ordering"] = True
        if self.priority_levels:
            settings["priority_levels"] = self.priority_levels
            settings["default_priority_level"] = self.default_priority_level
        return settings


def read_batching(item: Field, notes: Notes) -> Batching:
    """Raises: Invalid."""
    batching = Batching()
    preferred: list[int] = []
    last = item
    for part in message(item).fields:
        if part.name == "preferred_batch_size":
            preferred.append(integer(part, 1, BATCH_MAX))
        elif part.name == "max_queue_delay_microseconds":
            batching.queue_delay_us = integer(part, 0, QUEUE_DELAY_US_MAX)
        elif part.name == "default_queue_policy":
            _read_queue_policy(batching, part, notes)
        elif part.name == "preserve_ordering":
            batching.preserve_ordering = truth(part)
        elif part.name == "priority_levels":
            last, batching.priority_levels = part, integer(part, 0, LEVELS_MAX)
        elif part.name == "default_priority_level":
            last, batching.default_priority_level = part, integer(part, 0, LEVELS_MAX)
        else:
            notes.unsupported(part, f"dynamic_batching.{part.name}")
    batching.preferred_batch_sizes = tuple(sorted(set(preferred)))
    _check_priorities(batching, last)
    return batching


def _check_priorities(batching: Batching, item: Field) -> None:
    """Raises: Invalid where Triton would not load the model either."""
    levels = batching.priority_levels
    if not levels and batching.default_priority_level:
        raise wrong(item, "left out without priority_levels")
    if levels and not 1 <= batching.default_priority_level <= levels:
        raise wrong(item, f"with a default_priority_level from 1 to {levels}")
    if levels > 1 and batching.preserve_ordering:
        raise wrong(item, "at most 1 with preserve_ordering")


def _read_queue_policy(batching: Batching, item: Field, notes: Notes) -> None:
    for part in message(item).fields:
        if part.name == "max_queue_size":
            batching.max_queue_size = integer(part, 0, QUEUE_SIZE_MAX)
        elif part.name == "default_timeout_microseconds":
            batching.default_timeout_us = integer(part, 0, TIMEOUT_US_MAX)
        elif part.name == "allow_timeout_override":
            batching.allow_timeout_override = truth(part)
        elif part.name == "timeout_action":
            action = constant(part)
            if action not in {"REJECT", "DELAY"}:
                raise wrong(part, "REJECT or DELAY")
            batching.timeout_delays = action == "DELAY"
        else:
            notes.unsupported(part, f"dynamic_batching.default_queue_policy.{part.name}")


def check_preferred(sizes: Sequence[int], max_batch_size: int | None) -> None:
    """Raises: Invalid if a batch of a preferred size can never be."""
    if max_batch_size is not None and sizes and max(sizes) > max_batch_size:
        raise Invalid(
            f"dynamic_batching.preferred_batch_size {max(sizes)} must be <= "
            f"max_batch_size {max_batch_size}"
        )
