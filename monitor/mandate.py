"""The gateway that acts for the monitor, and the right to make it act."""

from collections.abc import Mapping
from typing import Any, Protocol

from monitor.action_store import ActionRow
from monitor.core.deployment import Deployment


class Gateway(Protocol):
    """The admin API, as far as it is needed here."""

    def deployment(self, model: str) -> Deployment: ...
    def apply(self, command: Mapping[str, Any], wait_ms: int = 2000) -> dict[str, Any]: ...


class Mandate(Protocol):
    """The right to act on models, where several monitors might have it."""

    @property
    def fence(self) -> int:
        """Commands carry it: the gateway refuses those of an older mandate; 0: they do not."""

    def confirm(self) -> None:
        """Raises: AdminError unless nobody else has the right now."""

    def record(self, row: ActionRow) -> None:
        """Keep it where the next one who has the right finds it.

        Raises: AdminError when that cannot be done now; it is then done later.
        """


class SoleMandate:
    """There is one monitor, and what it does is kept in its own file."""

    fence = 0

    def confirm(self) -> None:
        pass

    def record(self, row: ActionRow) -> None:
        pass
