"""How an action is done: stored first, sent until it is heard, by one key.

Laws:
- an action is stored before it is done; after a crash it is done again under
  the same key, and the gateway applies it once;
- what came of it is put into its verdict before it counts as finished.
"""

import contextlib
import logging
from collections.abc import Callable

from monitor.action_store import PENDING, REFUSED, ActionRow, ActionStore
from monitor.admin import AdminError, AdminRefused
from monitor.documents import Document
from monitor.mandate import Gateway, Mandate
from monitor.store import Store

DONE = "done"

logger = logging.getLogger(__name__)


class Doing:
    """Of one monitor; owned by its main loop."""

    def __init__(
        self,
        store: Store,
        actions: ActionStore,
        gateway: Gateway,
        mandate: Mandate,
        clock: Callable[[], int],
    ) -> None:
        self._store, self._actions = store, actions
        self._gateway, self._mandate, self._clock = gateway, mandate, clock

    def begin(self, row: ActionRow) -> None:
        if self.store_first(row):
            self._send(row)

    def store_first(self, row: ActionRow) -> bool:
        """Whether it may be done now: it is stored here, and where a successor would look.

        Raises: AdminError; nothing is stored then, or it is found unfinished.
        """
        if not self._actions.may_begin(row):
            return False
        self._mandate.confirm()
        self._mandate.record(row)
        return self._actions.begin(row)

    def send_unfinished(self) -> None:
        for row in self._actions.unfinished():
            if row.state == PENDING:
                self._send(row)

    def _send(self, row: ActionRow) -> None:
        """Raises: AdminError when the gateway cannot be asked; the row stays pending."""
        try:
            self._mandate.confirm()
            result = self._gateway.apply(self._fenced(row.data["command"]))
        except AdminRefused as exc:
            self.refused(row, str(exc))
            return
        outcome = {
            "accepted_ns": int(result.get("accepted_ns", 0)),
            "applied_ns": int(result.get("applied_ns", 0)) or self._clock(),
            "undo": str(result.get("undo", "")),
        }
        self.finish(row.key, DONE, outcome)
        logger.info("%s: %s done", row.model, row.action.value)

    def send_note(self, note: Document) -> None:
        """Raises: AdminError when the gateway cannot be asked."""
        try:
            self._gateway.apply(self._fenced(note), wait_ms=0)
        except AdminRefused as exc:
            logger.warning("a note was refused: %s", exc)

    def _fenced(self, command: Document) -> Document:
        """A command under this mandate, whoever began it."""
        fence = self._mandate.fence
        return {**command, "fence": str(fence)} if fence else command

    def finish(self, key: str, state: str, data: Document) -> None:
        """The verdict first: killed in between, an unfinished action is done again."""
        verdict = self._actions.verdict_of(key)
        if verdict:
            self._store.extend_verdict(verdict, {"action_state": state, **data})
        self._actions.finish(key, state, data)
        row = self._actions.action(key)
        if row is not None:
            with contextlib.suppress(AdminError):
                self._mandate.record(row)

    def refused(self, row: ActionRow, reason: str) -> None:
        """Nothing has happened; if it is still wanted, it is decided afresh.

        Insisting would be wrong: a hold may have begun since we looked, or the
        rollout may be over.
        """
        self.finish(row.key, REFUSED, {"outcome": reason})
        logger.warning("%s: %s refused: %s", row.model, row.action.value, reason)
