"""Asking for trainings: each in a thread of its own, until it is answered or given up.

Laws:
- every attempt of a request carries the same id, also after a restart of the monitor;
- attempts end `give_up_ns` after the action began, however often the monitor was
  restarted in between;
- a thread ends in exactly one `HookEnded`, or, told to stop, in none: the action is
  then found unfinished at the next start, and `resume` goes on with it.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from monitor.triggers.core.request import Request, make_request, request_id
from monitor.triggers.core.retry import Attempt, Fate, backoff_s
from monitor.triggers.dataset import Datasets, NoDataset
from monitor.triggers.trigger import Trigger

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class HookEnded:
    """outcome: for the record of the action; sentence: for the audit log."""

    key: str  # of the action
    model: str
    good: bool
    sentence: str
    outcome: Mapping[str, Any]
    ended_ns: int


class RetrainHooks:
    """Asks; what came of it is fetched with `ended()`."""

    def __init__(
        self,
        trigger: Trigger | None,
        datasets: Datasets,
        give_up_ns: int,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        """trigger: None where none is configured."""
        self._trigger, self._datasets = trigger, datasets
        self._give_up_ns, self._clock = give_up_ns, clock
        self._ended: queue.SimpleQueue[HookEnded] = queue.SimpleQueue()
        self._stopped = threading.Event()

    @property
    def configured(self) -> bool:
        return self._trigger is not None

    def start(self, key: str, evidence: Mapping[str, Any]) -> None:
        self._begin(key, evidence, self._clock())

    def resume(self, key: str, evidence: Mapping[str, Any], begun_ns: int) -> bool:
        """Go on with what another run began; False where it must not be done twice."""
        if self._trigger is None or not self._trigger.repeatable:
            return False
        self._begin(key, evidence, begun_ns)
        return True

    def ended(self) -> list[HookEnded]:
        found = []
        while not self._ended.empty():
            found.append(self._ended.get())
        return found

    def kill(self) -> None:
        """End what is still running; called once, when the monitor stops."""
        self._stopped.set()
        if self._trigger is not None:
            self._trigger.stop()

    def _begin(self, key: str, evidence: Mapping[str, Any], begun_ns: int) -> None:
        arguments = (key, evidence, begun_ns)
        threading.Thread(target=self._run, args=arguments, name="retrain", daemon=True).start()

    def _run(self, key: str, evidence: Mapping[str, Any], begun_ns: int) -> None:
        try:
            last = self._ask_until(self._request(key, evidence), begun_ns)
        except Exception as exc:
            # An action that nobody ends would block the next one for ever.
            logger.exception("%s: asking for a training failed", evidence["model"])
            last = Attempt(Fate.FAILED, f"asking for a training failed: {type(exc).__name__}")
        if last is None:
            return
        good = last.fate is Fate.DONE
        model, ended_ns = str(evidence["model"]), self._clock()
        outcome = {"outcome": last.sentence, **last.detail}
        self._ended.put(HookEnded(key, model, good, last.sentence, outcome, ended_ns))

    def _request(self, key: str, evidence: Mapping[str, Any]) -> Request:
        try:
            return make_request(key, evidence, self._datasets.export(request_id(key), evidence), "")
        except NoDataset as exc:
            logger.warning("%s: no dataset for a training: %s", evidence["model"], exc)
            return make_request(key, evidence, None, str(exc))

    def _ask_until(self, request: Request, begun_ns: int) -> Attempt | None:
        """Attempts until one is final; None: told to stop meanwhile."""
        assert self._trigger is not None
        started = time.monotonic()
        for number in count(1):
            attempt = self._trigger.attempt(request)
            if attempt.fate is not Fate.RETRY:
                return Attempt(
                    attempt.fate, attempt.sentence, {**attempt.detail, "attempts": number}
                )
            wait_s = max(backoff_s(request.key, number), attempt.wait_s)
            # The clock may have been set; the time that this thread has spent is certain.
            spent_ns = max(self._clock() - begun_ns, round((time.monotonic() - started) * 1e9))
            if spent_ns + wait_s * 1e9 > self._give_up_ns:
                sentence = f"given up after {number} attempts: {attempt.sentence}"
                return Attempt(Fate.FAILED, sentence, {**attempt.detail, "attempts": number})
            if number == 1:
                logger.warning("%s: %s; trying again", request.model, attempt.sentence)
            if self._stopped.wait(wait_s):
                return None
        raise AssertionError("count() has no end")
