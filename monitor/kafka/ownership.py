"""One partition's ownership by this monitor: the claim, the state handed over, the mandate.

Laws:
- nothing is done to a model unless this monitor's claim was the newest a moment ago.
  Between that look and the command the gateway stands guard: it refuses a command
  whose fence is below one that it has seen for the model;
- an action is in the topic before it is done, so a successor knows of it;
- which state a new owner goes on from: its own file, if nobody else has owned the
  partition since that was written; else what the topic holds; else its own file after
  all, since any state is one of the same fold, or the log's beginning.
"""

import logging
import time
from collections.abc import Collection
from math import inf

from eventlog import LogError
from monitor.action_store import ActionRow, ActionStore, pack_action, unpack_action
from monitor.admin import AdminError
from monitor.core.handover import ACTION, HandedOver, Snapshots
from monitor.kafka.handover_topic import HandoverTopic
from monitor.store import Store

RETRY_S = 2.0  # of what could not be written
ACTIONS_KEPT = 1000  # in the topic, per partition

logger = logging.getLogger(__name__)


class NotOwner(AdminError):
    """Somebody else has claimed the partition."""


class Ownership:
    """Mutable; a Mandate for one automation."""

    def __init__(self, topic: HandoverTopic, number: int, owner: str) -> None:
        """Claims the partition. Raises: Unavailable."""
        self._topic, self.number = topic, number
        self._found: HandedOver = topic.claim(number, owner)
        assert self._found.claim is not None
        self.epoch = self._found.claim.epoch
        self._snapshots = Snapshots(self.epoch)
        self._waiting: dict[str, ActionRow] = {}
        self._foreign = self._found.foreign(self.epoch)
        self._written = -inf
        self._said = False  # that it cannot be handed over now
        self.lost = False

    @property
    def fence(self) -> int:
        return self.epoch

    # -- taking over ---------------------------------------------------------------

    def inherit(self, store: Store) -> str:
        """Bring a partition's own store to where it goes on; says in a word from where."""
        previous = self._found.previous.epoch if self._found.previous else 0
        own = store.state() is not None
        if own and previous and store.epoch() == previous:
            store.claimed(self.epoch)
            return "its own file"
        parts = self._found.state()
        if parts is not None:
            try:
                store.inherit(parts, self.epoch)
            except (ValueError, KeyError, TypeError) as error:
                logger.warning("partition %d: a state that is none: %s", self.number, error)
            else:
                return "the topic"
        store.claimed(self.epoch)
        return "its own file" if own else "the log's beginning"

    def adopt_actions(self, actions: ActionStore) -> None:
        rows = []
        for data in self._found.actions.values():
            try:
                rows.append(unpack_action(data))
            except (ValueError, KeyError, TypeError):
                logger.warning("partition %d: an action that cannot be read", self.number)
        rows.sort(key=lambda row: row.at_ns)
        for row in rows[-ACTIONS_KEPT:]:
            actions.adopt(row)
        self._foreign += [(ACTION + row.key, None) for row in rows[:-ACTIONS_KEPT]]

    def forget_found(self) -> None:
        """What was handed over has been taken."""
        self._found = HandedOver()

    # -- the mandate ---------------------------------------------------------------

    def confirm(self) -> None:
        """Raises: NotOwner; AdminError while Kafka cannot say who the owner is."""
        try:
            newest = self._topic.newest_claim(self.number, self.epoch)
        except LogError as error:
            raise AdminError(
                f"whose partition {self.number} is cannot be asked: {error}"
            ) from error
        if newest != self.epoch:
            self.lost = True
            raise NotOwner(f"partition {self.number} has another owner now")

    def record(self, row: ActionRow) -> None:
        """Raises: AdminError; it is tried again with the next one, or by `tend`."""
        self._waiting[row.key] = row
        self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        rows = list(self._waiting.values())
        try:
            entries = [(ACTION + row.key, pack_action(row)) for row in rows]
            self._topic.write(self.number, entries)
        except LogError as error:
            raise AdminError(f"an action cannot be kept in Kafka: {error}") from error
        for row in rows:
            if self._waiting.get(row.key) is row:
                del self._waiting[row.key]

    # -- handing over --------------------------------------------------------------

    def due(self, every_s: float) -> bool:
        return time.monotonic() - self._written >= every_s

    def hand_over(self, store: Store, standing: Collection[str]) -> bool:
        """Put what was stored last where a successor finds it; False if that failed now."""
        try:
            self.confirm()
            self._flush()
            plan = self._snapshots.plan(*store.changes(standing))
            self._topic.write(self.number, plan.entries)
            self._topic.write(self.number, [*plan.gone, *self._foreign])
        except (AdminError, LogError) as error:
            store.changes_lost()
            self._written = time.monotonic() - RETRY_S
            if not self.lost and not self._said:
                self._said = True
                logger.warning("partition %d cannot be handed over: %s", self.number, error)
            return False
        self._snapshots.written(plan)
        self._foreign, self._said = [], False
        self._written = time.monotonic()
        return True
