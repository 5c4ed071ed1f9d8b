"""Which reference a version is judged by: a pushed one, or one from its own traffic.

Laws:
- a pushed reference goes first wherever it is known, unless the settings want none;
- a version that serves again is judged by what it learned before, if that is still kept:
  rolling back begins no new warm-up;
- only the stable version warms up, and begins anew if another was stable meanwhile.
"""

from collections.abc import Iterable

from monitor.core.block import Outcome, Part
from monitor.core.settings import CoreSettings
from monitor.core.tree import Tree
from monitor.core.warm_up import Learned, Progress, WarmUp
from monitor.core.watched import Yardstick

LEARNED_KEPT = 2  # references: of the stable version, and of the one before it


class OwnReferences:
    """One model's. Mutable; owned by its state."""

    def __init__(self, settings: CoreSettings) -> None:
        self._settings, self._needs = settings, settings.warm_up
        self._learned: dict[str, Learned] = {}  # by digest, the newest last
        self._warming: WarmUp | None = None

    @property
    def goes_first(self) -> bool:
        """Whether a pushed reference is passed over."""
        return self._needs is not None and self._needs.always

    def begin(self, digest: str, since_ns: int) -> Yardstick:
        """A version has become stable, and no pushed reference counts for it."""
        self._warming = None
        if digest in self._learned:
            return self.learned(digest)
        if self._needs is not None:
            self._warming = WarmUp(since_ns)
        return Yardstick(None, self._settings)

    def end(self) -> None:
        """A pushed reference counts."""
        self._warming = None

    def add(
        self, digest: str, start_ns: int, parts: list[Part], outcomes: Iterable[Outcome]
    ) -> Yardstick | None:
        """Take the stable version's rows and labels of a block; its yardstick once it has one."""
        if self._warming is None or self._needs is None:
            return None
        learned = self._warming.add(start_ns, parts, outcomes, self._settings, self._needs)
        if learned is None:
            return None
        self._warming = None
        self._learned[digest] = learned
        while len(self._learned) > LEARNED_KEPT:
            del self._learned[next(iter(self._learned))]
        return self.learned(digest)

    def learned(self, digest: str) -> Yardstick:
        """That of a version whose reference is kept. Raises: KeyError."""
        learned = self._learned[digest] = self._learned.pop(digest)
        return Yardstick(learned.profile, self._settings, learned)

    @property
    def progress(self) -> Progress | None:
        """Of the warm-up that is under way."""
        if self._warming is None or self._needs is None:
            return None
        return self._warming.progress(self._needs)

    def to_tree(self) -> Tree:
        return {
            "learned": [[digest, item.to_tree()] for digest, item in self._learned.items()],
            "warming": self._warming.to_tree() if self._warming else None,
        }

    @classmethod
    def from_tree(cls, tree: Tree, settings: CoreSettings) -> "OwnReferences":
        found = cls(settings)
        found._learned = {digest: Learned.from_tree(item) for digest, item in tree["learned"]}
        if tree["warming"] is not None:
            found._warming = WarmUp.from_tree(tree["warming"], settings.coarse_edges)
        return found
