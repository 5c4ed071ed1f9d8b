"""When a model is trained anew without a verdict: by the calendar, and by new labels."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Training:
    """When the stable version, or the last training, began, and what it has seen since.

    since_ns: of the later of the two; labelled: labelled rows since.
    """

    since_ns: int
    labelled: int


@dataclass(frozen=True, slots=True)
class Schedule:
    """0: not by this."""

    every_ns: int = 0
    after_labels: int = 0

    def reason(self, last: Training, now_ns: int) -> str | None:
        """Why a training is due; None when it is not."""
        age_ns = now_ns - last.since_ns
        if self.every_ns and age_ns >= self.every_ns:
            return f"{age_ns / 86_400e9:.1f} days since the last training or version"
        if self.after_labels and last.labelled >= self.after_labels:
            return f"{last.labelled} labelled rows since the last training or version"
        return None
