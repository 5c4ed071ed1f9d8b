"""How requests share a batch and how long they may queue: `dynamic_batching`."""

from collections.abc import Sequence
from dataclasses import dataclass

from registry_client.core.config_fields import Notes, constant, integer, message, truth, wrong
from registry_client.core.errors import Invalid
from registry_client.core.pbtxt import Field

BATCH_MAX = 1 << 20
QUEUE_DELAY_US_MAX = 60_000_000  # a minute: beyond it the deadline of any request
TIMEOUT_US_MAX = 86_400_000_000  # a day
QUEUE_SIZE_MAX = (1 << 32) - 1

# What a `dynamic_batching` sets, and so what another one replaces.
BATCHING_KEYS = (
    "max_queue_delay_us",
    "preferred_batch_sizes",
    "max_queue_size",
    "default_timeout_us",
    "allow_timeout_override",
)


@dataclass(slots=True)
class Batching:
    """What was read; a zero is the default of its field."""

    preferred_batch_sizes: tuple[int, ...] = ()
    queue_delay_us: int = 0
    max_queue_size: int = 0
    default_timeout_us: int = 0
    allow_timeout_override: bool = False

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
        return settings


def read_batching(item: Field, notes: Notes) -> Batching:
    """Raises: Invalid."""
    batching = Batching()
    preferred: list[Field] = []
    for part in message(item).fields:
        if part.name == "preferred_batch_size":
            preferred.append(part)
        elif part.name == "max_queue_delay_microseconds":
            batching.queue_delay_us = integer(part, 0, QUEUE_DELAY_US_MAX)
        elif part.name == "default_queue_policy":
            _read_queue_policy(batching, part, notes)
        else:
            notes.unsupported(part, f"dynamic_batching.{part.name}")
    sizes = [integer(part, 1, BATCH_MAX) for part in preferred]
    batching.preferred_batch_sizes = tuple(sorted(set(sizes)))
    if preferred and not batching.queue_delay_us and not notes.strict:
        notes.ineffective(
            preferred[0],
            "'dynamic_batching.preferred_batch_size' has no effect without a "
            "max_queue_delay_microseconds: a batch is whatever waits",
        )
    return batching


def _read_queue_policy(batching: Batching, item: Field, notes: Notes) -> None:
    delays: Field | None = None
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
            delays = part if action == "DELAY" else None
        else:
            notes.unsupported(part, f"dynamic_batching.default_queue_policy.{part.name}")
    if delays is not None:
        # Rejecting what its owner wanted served late would be worse than neither.
        batching.default_timeout_us = 0
        notes.ineffective(
            delays,
            "'dynamic_batching.default_queue_policy.timeout_action' DELAY is not supported: "
            "requests keep their place, and default_timeout_microseconds has no effect",
        )


def check_preferred(sizes: Sequence[int], max_batch_size: int | None) -> None:
    """Raises: Invalid if a batch of a preferred size can never be."""
    if max_batch_size is not None and sizes and max(sizes) > max_batch_size:
        raise Invalid(
            f"dynamic_batching.preferred_batch_size {max(sizes)} must be <= "
            f"max_batch_size {max_batch_size}"
        )
