"""Which reference a version is judged by: a pushed one, or one from its own traffic.

Laws:
- a pushed reference goes first wherever it is known, unless the settings want none;
- a version that serves again is judged by what it learned before, if that is still kept:
  rolling back begins no new warm-up;
- only the stable version warms up, and begins anew if another was stable meanwhile;
- a reference that is renewed begins with a warm-up, in the bins of the pushed one if that
  is known when the version becomes stable.
"""

from collections.abc import Iterable

from monitor.core.bins import Counts
from monitor.core.block import Outcome, Part
from monitor.core.judge import Kind
from monitor.core.profile import ReferenceProfile
from monitor.core.rolling import Rolling, bins_of, references_within
from monitor.core.settings import CoreSettings
from monitor.core.tree import Tree
from monitor.core.warm_up import Gathered, Learned, Progress, WarmUp
from monitor.core.watched import Yardstick

LEARNED_KEPT = 2  # references: of the stable version, and of the one before it


class OwnReferences:
    """One model's. Mutable; owned by its state."""

    def __init__(self, settings: CoreSettings, model: str) -> None:
        self._settings = settings
        self._rolls = settings.rolling_of(model)
        self._needs = self._rolls.warm_up if self._rolls else settings.warm_up
        # By digest, the newest last.
        self._learned: dict[str, Learned] = {}
        self._rolling: dict[str, Rolling] = {}
        self._warming: WarmUp | None = None
        self._is_pushed = False  # the bins of the warm-up that is under way

    @property
    def goes_first(self) -> bool:
        """Whether a pushed reference is passed over."""
        return self._needs is not None and self._needs.always

    def begin(self, digest: str, since_ns: int, pushed: ReferenceProfile | None) -> Yardstick:
        """A version has become stable, and no pushed reference counts for it.

        pushed: one that is known nevertheless.
        """
        self._warming = None
        if digest in self._learned or digest in self._rolling:
            return self.learned(digest)
        if self._needs is not None:
            self._warming = WarmUp(since_ns)
            self._is_pushed = self._rolls is not None and pushed is not None
            if self._rolls is not None and pushed is not None:
                bins = bins_of(pushed).to_bytes()
                self._warming.gathered = Gathered(bins, self._settings.coarse_edges)
        return Yardstick(None, self._settings)

    def end(self) -> None:
        """A pushed reference counts."""
        self._warming = None

    def add(
        self, digest: str, start_ns: int, parts: list[Part], outcomes: Iterable[Outcome]
    ) -> Yardstick | None:
        """Take the stable version's rows and labels of a block; its yardstick once it has one."""
        warming = self._warming
        if warming is None or self._needs is None:
            return None
        learned = warming.add(start_ns, parts, outcomes, self._settings, self._needs)
        if learned is None:
            return None
        self._warming = None
        if self._rolls is None:
            self._learned[digest] = learned
        else:
            assert warming.gathered is not None
            self._rolling[digest] = Rolling.start(
                warming.gathered, learned, self._settings, self._rolls, is_pushed=self._is_pushed
            )
        for kept in (self._learned, self._rolling):
            while len(kept) > LEARNED_KEPT:
                del kept[next(iter(kept))]
        return self.learned(digest)

    def learned(self, digest: str) -> Yardstick:
        """That of a version whose reference is kept. Raises: KeyError."""
        if self._rolls is None:
            learned = self._learned[digest] = self._learned.pop(digest)
            return Yardstick(learned.profile, self._settings, learned)
        rolling = self._rolling[digest] = self._rolling.pop(digest)
        learned, references = (
            rolling.learned,
            references_within(self._settings.budget_s, self._rolls),
        )
        return Yardstick(learned.profile, self._settings, learned, rolling.base.bins, references)

    def rolling(self, digest: str) -> Rolling | None:
        """Of a version whose reference is renewed, once there is one."""
        return self._rolling.get(digest)

    def renew(self, digest: str, start_ns: int, *, in_stretch: bool) -> Yardstick | None:
        """Before a block is judged: its yardstick, if that is another one from here on."""
        rolling = self._rolling.get(digest)
        if rolling is None or not rolling.renew(start_ns, in_stretch=in_stretch):
            return None
        return self.learned(digest)

    def gather(
        self,
        digest: str,
        start_ns: int,
        counts: Counts,
        parts: list[Part],
        outcomes: Iterable[Outcome],
        standing: Kind,
        quiet_ns: int,
        *,
        held: bool,
    ) -> None:
        """Take a block for references to come: see `Rolling.add`."""
        rolling = self._rolling.get(digest)
        if rolling is not None:
            rolling.add(start_ns, counts, parts, outcomes, standing, quiet_ns, held=held)

    @property
    def progress(self) -> Progress | None:
        """Of the warm-up that is under way."""
        if self._warming is None or self._needs is None:
            return None
        return self._warming.progress(self._needs)

    def to_tree(self) -> Tree:
        return {
            "learned": [[digest, item.to_tree()] for digest, item in self._learned.items()],
            "rolling": [[digest, item.to_tree()] for digest, item in self._rolling.items()],
            "warming": self._warming.to_tree() if self._warming else None,
            "is_pushed": self._is_pushed,
        }

    @classmethod
    def from_tree(cls, tree: Tree, settings: CoreSettings, model: str) -> "OwnReferences":
        found = cls(settings, model)
        found._learned = {digest: Learned.from_tree(item) for digest, item in tree["learned"]}
        if found._rolls is not None:
            found._rolling = {
                digest: Rolling.from_tree(item, settings, found._rolls)
                for digest, item in tree["rolling"]
            }
        if tree["warming"] is not None:
            found._warming = WarmUp.from_tree(tree["warming"], settings.coarse_edges)
        found._is_pushed = tree["is_pushed"]
        return found
