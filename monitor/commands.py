"""What the monitor says to the gateway: commands, and notes for its audit log."""

import json
from collections.abc import Callable

from monitor.documents import Document

NOTES_MAX = 1000  # waiting; beyond, the oldest is dropped and counted


def command_of(
    model: str,
    key: str,
    verb: str,
    evidence: Document | None,
    *,
    reason: str = "",
    rollout: str = "",
    expected_generation: int | None = None,
) -> Document:
    """A command as the admin API takes it; what shifted is left out of its evidence."""
    evidence = {k: v for k, v in (evidence or {}).items() if k != "shifts"}
    command: Document = {
        "id": key,
        "actor": "monitor",
        "origin": "monitor",
        "model": model,
        "verb": verb,
        "reason": reason or str(evidence.get("reason", "")),
        "evidence_json": json.dumps(evidence),
    }
    if rollout:
        command["rollout"] = rollout
    if expected_generation is not None:
        command["expected_generation"] = str(expected_generation)
    return command


class Notes:
    """Sentences that wait for the gateway, in their order."""

    def __init__(self) -> None:
        self._waiting: list[Document] = []
        self.dropped = 0

    def add(self, model: str, key: str, reason: str, evidence: Document) -> None:
        self._waiting.append(command_of(model, key, "NOTE", evidence, reason=reason))
        if len(self._waiting) > NOTES_MAX:
            self._waiting.pop(0)
            self.dropped += 1

    def send(self, send: Callable[[Document], None]) -> None:
        """Raises: whatever `send` raises; the note is then still there."""
        while self._waiting:
            send(self._waiting[0])
            self._waiting.pop(0)
