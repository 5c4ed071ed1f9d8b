"""Reference profiles by version, from the registry, kept where the statistics are.

Laws:
- what was answered once for a digest is answered for ever, "there is none"
  included: a replay must not depend on whether the registry can be reached. It is
  forgotten once so many other versions of the model were used since that the store
  has no room for it (`monitor.store.PROFILES_KEPT`), and asked for again if need be;
- a registry that cannot be reached has given no answer. It may hold the
  statistics up for a short while; then the version is watched without a
  reference, shown as pending, and asked for again until there is an answer.
  From the next block on it is then judged by it (`ModelState`).
"""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from monitor.core.profile import ProfileError, ReferenceProfile
from monitor.store import Store
from registry_client import FileRole, NotFound, RegistryError, Source, read_file

KEPT = 64  # parsed profiles; 256 bins of 100 features take about 0.5 MB, their hours 1.3 MB
PATIENCE_S = 10.0  # how long an unreachable registry holds the statistics up
RETRY_S = 0.5
ASK_AGAIN_S = 15.0  # after that while; a call may take as long as the source's own timeout

logger = logging.getLogger(__name__)


class Unanswered(Exception):
    """The registry could not be asked."""


class RegistryProfiles:
    """Callable as the engine's `ProfileOf`."""

    def __init__(
        self,
        store: Store,
        source: Source,
        patience_s: float = PATIENCE_S,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._source = store, source
        self._patience_s, self._clock_s = patience_s, clock_s
        self._parsed: OrderedDict[tuple[str, str], ReferenceProfile | None] = OrderedDict()
        self._ask_again_s: dict[tuple[str, str], float] = {}

    @property
    def pending(self) -> frozenset[tuple[str, str]]:
        """Models and digests whose profile the registry could not be asked for yet."""
        return frozenset(self._ask_again_s)

    def __call__(self, model: str, version: str, digest: str) -> ReferenceProfile | None:
        key = (model, digest)
        if key not in self._parsed:
            try:
                data = self._bytes(model, version, digest)
            except Unanswered:
                return None
            self._parsed[key] = parse_profile(model, version, data)
            if len(self._parsed) > KEPT:
                self._parsed.popitem(last=False)
        self._parsed.move_to_end(key)
        return self._parsed[key]

    def _bytes(self, model: str, version: str, digest: str) -> bytes | None:
        known, data = self._store.profile(model, digest)
        if not known:
            data = self._fetch(model, version, digest)
            in_use = [used for name, used in self._parsed if name == model]
            self._store.keep_profile(model, digest, data, in_use)
        return data

    def _fetch(self, model: str, version: str, digest: str) -> bytes | None:
        """Raises: Unanswered, at once if the next attempt is not due yet."""
        key, now_s = (model, digest), self._clock_s()
        again_s = self._ask_again_s.get(key)
        if again_s is not None and now_s < again_s:
            raise Unanswered
        deadline_s = now_s if again_s is not None else now_s + self._patience_s
        while True:
            try:
                data = self._ask(model, version, digest)
            except (RegistryError, OSError) as exc:
                if self._clock_s() >= deadline_s:
                    self._give_up(key, version, exc)
                    raise Unanswered from exc
            else:
                if self._ask_again_s.pop(key, None) is not None:
                    logger.warning("%s %s: the registry answers again", model, version)
                return data
            time.sleep(RETRY_S)

    def _give_up(self, key: tuple[str, str], version: str, error: Exception) -> None:
        if key not in self._ask_again_s:
            logger.warning("%s %s: watched without a reference for now: %s", key[0], version, error)
        self._ask_again_s[key] = self._clock_s() + ASK_AGAIN_S
        while len(self._ask_again_s) > KEPT:  # the oldest is asked for afresh when it is needed
            del self._ask_again_s[next(iter(self._ask_again_s))]

    def _ask(self, model: str, version: str, digest: str) -> bytes | None:
        """None: there is none, for ever. Raises: RegistryError, OSError."""
        try:
            manifest = self._source.manifest(model, version)
            if manifest.digest == digest:
                return read_file(self._source, manifest, FileRole.REFERENCE)
        except NotFound:
            return None
        logger.warning("%s %s: the registry holds another digest", model, version)
        return None


def parse_profile(model: str, version: str, data: bytes | None) -> ReferenceProfile | None:
    """None for no profile, and for one that cannot be read, which is said."""
    if data is None:
        return None
    try:
        return ReferenceProfile.from_bytes(data)
    except ProfileError as exc:
        logger.warning("%s %s: watched without a reference: %s", model, version, exc)
        return None
