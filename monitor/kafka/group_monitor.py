"""The monitor on Kafka: one task for each partition that the group gives it, in one thread.

Laws:
- a task exists while its partition is assigned, and from its claim on: a partition
  that is taken away is stored, handed over and closed before the group goes on;
- one partition's failure to open or to be read holds up no other for longer than a try;
- told to stop, it ends within seconds whatever the brokers do: what waits for them is
  cut off, what was read is stored here, and handed over if Kafka answers;
- what the others of the group own is not known here, and not shown.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

from eventlog import LABELS, PREDICTIONS, Consumed, LogError, StoredRecord
from eventlog.core.kafka_message import Message, to_message
from eventlog.kafka.log import KafkaLog
from eventlog.kafka.topics import Topics
from eventlog.settings import KafkaSettings
from monitor.action_store import ACTIONS_FILE, ActionStore
from monitor.automation import Automation
from monitor.core.settings import CoreSettings
from monitor.database import StoreDamaged
from monitor.kafka.dead_letters import DeadLetters
from monitor.kafka.handover_topic import HandoverTopic
from monitor.kafka.membership import COMMIT_S, Member, Membership
from monitor.kafka.ownership import Ownership
from monitor.kafka.shared_ids import SharedIds
from monitor.mandate import Mandate
from monitor.published import Document, Published, Snapshot
from monitor.service import IDLE_S, PUBLISH_S
from monitor.task import Parts, Task, open_parts, open_store
from registry_client import Source

OPEN_AGAIN_S = 2.0
DATABASE_FILE = "monitor.db"
# Told to stop: how long the turn under way may take, and then each thing that Kafka is asked.
GRACE_S = 2.0
LAST_WORD_S = 5.0

logger = logging.getLogger(__name__)

Automate = Callable[[Parts, Mandate], Automation]


@dataclass(frozen=True, slots=True)
class Place:
    """Where a monitor of a group works. home: a folder for the partitions' files."""

    bootstrap: str
    kafka: KafkaSettings
    member: Member
    home: Path
    handover_s: float


@dataclass(slots=True)
class Owned:
    """One partition that is ours."""

    number: int
    ownership: Ownership
    log: KafkaLog
    task: Task
    origin: str  # what its state was taken from

    @property
    def name(self) -> str:
        return f"{PREDICTIONS}/{self.number}"


class GroupMonitor:
    """Mutable; `run` returns when `stop` was set."""

    def __init__(
        self,
        place: Place,
        settings: CoreSettings,
        ids: SharedIds,
        source: Source,
        automate: Automate,
        published: Published,
    ) -> None:
        self._place, self._settings = place, settings
        self._ids, self._source, self._automate = ids, source, automate
        self._published = published
        self._topics = Topics(place.kafka.namespace)
        self._handover = HandoverTopic(place.bootstrap, place.kafka, self._topics.monitor)
        self._letters = DeadLetters(place.bootstrap, place.kafka, self._topics.dead_letters)
        self._membership = Membership(
            place.bootstrap, place.kafka, self._topics.predictions, place.member
        )
        self._owned: dict[int, Owned] = {}
        self._poison: dict[int, int] = {}
        self._open_again: dict[int, float] = {}
        self._not_opened: dict[int, str] = {}  # why
        self._shown = self._shared = -inf
        self._stop, self._turned = threading.Event(), threading.Event()

    def run(self, stop: threading.Event) -> None:
        self._stop = stop
        threading.Thread(target=self._cut_off, name="monitor-stop", daemon=True).start()
        self._publish()
        while not stop.is_set():
            if not self.round():
                stop.wait(IDLE_S)
        self._turned.set()

    def close(self) -> None:
        """Store and hand over what is owned, and leave."""
        self._turned.set()
        self._handover.hurry(LAST_WORD_S)
        answers = True
        for number, owned in list(self._owned.items()):
            owned.task.commit()
            answers = answers and (self._hand_over(owned) or owned.ownership.lost)
            self._drop(number, "this monitor stops")
        self._membership.close()
        self._letters.close()
        self._handover.close()

    def _cut_off(self) -> None:
        """In a thread of its own: end what the main loop waits for after it was told to stop."""
        self._stop.wait()
        if self._turned.wait(GRACE_S):
            return
        self._handover.hurry(LAST_WORD_S)
        for owned in list(self._owned.values()):
            threading.Thread(target=owned.log.close, daemon=True).start()

    def round(self) -> bool:
        """A turn of each task, and what the group asks for; False when there was nothing to do."""
        busy = self._follow_group()
        for owned in list(self._owned.values()):
            if self._stop.is_set():
                return False
            try:
                busy = owned.task.turn() or busy
            except LogError as error:
                if self._stop.is_set():
                    return False
                self._drop(owned.number, f"{error}; it is taken over again as it was stored")
                self._not_opened[owned.number] = str(error)
                continue
            if owned.ownership.lost:
                self._drop(owned.number, "another monitor has claimed it")
            elif owned.ownership.due(self._place.handover_s):
                self._hand_over(owned)
        self._letters.flush()
        now = time.monotonic()
        if now - self._shared >= COMMIT_S:
            self._share_positions()
        if now - self._shown >= PUBLISH_S:
            self._publish()
        return busy

    # -- owning --------------------------------------------------------------------

    def _follow_group(self) -> bool:
        assigned = self._membership.assigned
        wanted = frozenset() if assigned is None else assigned
        for number in set(self._owned) - wanted:
            self._release(number)
        self._not_opened = {n: why for n, why in self._not_opened.items() if n in wanted}
        if assigned is None:
            self._membership.released()
        due = [
            number
            for number in sorted(wanted - set(self._owned))
            if time.monotonic() >= self._open_again.get(number, -inf)
        ]
        for number in due[:1]:  # the others' turns come in between
            self._open(number)
        return bool(due)

    def _open(self, number: int) -> None:
        try:
            self._owned[number] = owned = self._take_over(number)
        except (LogError, OSError, StoreDamaged) as error:
            logger.warning("partition %d cannot be taken over: %s; trying again", number, error)
            self._open_again[number] = time.monotonic() + OPEN_AGAIN_S
            self._not_opened[number] = str(error)
            return
        self._not_opened.pop(number, None)
        owned.task.begin()
        epoch = owned.ownership.epoch
        logger.info("owns partition %d, epoch %d, from %s", number, epoch, owned.origin)

    def _take_over(self, number: int) -> Owned:
        folder = self._place.home / str(number)
        ownership = Ownership(self._handover, number, self._place.member.instance)
        store = open_store(folder / DATABASE_FILE, self._settings)
        try:
            origin = ownership.inherit(store)
        finally:
            store.close()
        actions = ActionStore(folder / ACTIONS_FILE)
        try:
            ownership.adopt_actions(actions)
        finally:
            actions.close()
        ownership.forget_found()
        log = KafkaLog(
            self._place.bootstrap, self._place.kafka, only={number}, on_poison=self._on_poison
        )
        try:
            parts = open_parts(
                folder / DATABASE_FILE,
                self._settings,
                log,
                self._ids.decode,
                self._source,
                partitions=(f"{PREDICTIONS}/{number}", f"{LABELS}/{number}"),
                on_undecodable=self._on_undecodable,
                encode_id=self._ids.encode,
            )
        except BaseException:
            log.close()
            raise
        # A state that turned out to be damaged was set aside, and the claim with it.
        parts.store.claimed(ownership.epoch)
        task = Task(parts, self._automate(parts, ownership), _nowhere)
        return Owned(number, ownership, log, task, origin)

    def _release(self, number: int) -> None:
        """Give it up in good order."""
        owned = self._owned[number]
        owned.task.commit()
        self._hand_over(owned)
        self._drop(number, "the group has given it to another")

    def _drop(self, number: int, reason: str) -> None:
        owned = self._owned.pop(number)
        owned.log.close()
        owned.task.parts.close()
        self._open_again[number] = time.monotonic() + OPEN_AGAIN_S
        logger.info("gave up partition %d: %s", number, reason)

    def _hand_over(self, owned: Owned) -> bool:
        models = owned.task.engine.models.values()
        standing = {state.standing_id for state in models if state.standing_key}
        unfinished = {row.verdict for row in owned.task.parts.actions.unfinished()}
        return owned.ownership.hand_over(owned.task.parts.store, standing | unfinished)

    # -- poison --------------------------------------------------------------------

    def _on_poison(
        self, topic: str, number: int, offset: int, message: Message, reason: str
    ) -> None:
        owned, stream = self._owned.get(number), self._stream(topic)
        if owned is not None and offset < owned.task.engine.position(f"{stream}/{number}"):
            return  # read again after a start
        self._poison[number] = self._poison.get(number, 0) + 1
        self._letters.add(topic, number, offset, message, reason)

    def _on_undecodable(self, stored: StoredRecord, reason: str) -> None:
        stream, _, number = stored.partition.partition("/")
        topic, record = self._topics.stream(stream), stored.record
        message = to_message(record, topic, record.headers.get("model", ""))
        self._poison[int(number)] = self._poison.get(int(number), 0) + 1
        self._letters.add(topic, int(number), stored.offset - 1, message, reason)

    def _stream(self, topic: str) -> str:
        return PREDICTIONS if topic == self._topics.predictions else LABELS

    # -- showing -------------------------------------------------------------------

    def _share_positions(self) -> None:
        positions = {n: item.task.engine.position(item.name) for n, item in self._owned.items()}
        self._membership.commit({number: at for number, at in positions.items() if at})
        self._shared = time.monotonic()

    def _failure(self) -> str:
        """Why Kafka cannot be used now, for the group's part or for a partition's."""
        unreadable = (owned.task.unreadable for owned in self._owned.values())
        reasons = (self._membership.failure, *unreadable, *self._not_opened.values())
        return next(filter(None, reasons), "")

    def _publish(self) -> None:
        shown = {number: owned.task.show() for number, owned in self._owned.items()}
        partitions = [self._partition(self._owned[n], item.overall) for n, item in shown.items()]
        more = {
            "kafka": {
                "group": self._place.member.group,
                "instance": self._place.member.instance,
                "member": self._membership.assigned is not None and not self._membership.failure,
                "failure": self._failure(),
                "rebalances": self._membership.rebalances,
                "partitions": partitions,
                "dead_letters": self._letters.sent,
                "dead_letters_dropped": self._letters.dropped,
                "label_keys": self._ids.known,
                "models_are_of": "the partitions of this monitor alone",
            }
        }
        ready = self._membership.rebalances > 0
        self._published.snapshot = Snapshot.of(list(shown.values()), ready=ready, more=more)
        self._shown = time.monotonic()

    def _partition(self, owned: Owned, overall: Mapping[str, Any]) -> Document:
        return {
            "number": owned.number,
            "epoch": owned.ownership.epoch,
            "from": owned.origin,
            "lag_s": overall["lag_s"],
            "position": owned.task.engine.position(owned.name),
            "poison": self._poison.get(owned.number, 0),
            "passed_over": overall["passed_over"],
            "late": overall["late"],
            "seen_share": owned.task.engine.seen_share(),
        }


def _nowhere(consumed: Consumed) -> None:
    """The positions are in the state, and in the group's commits."""
