"""One model under watch: a fold of its blocks, in order, into statistics and verdicts.

Laws:
- the state after a block is a function of the blocks so far and of the
  profiles of the versions named in them; no clock, no chance;
- within a block everything is a sum of integers, so the order of records is
  immaterial;
- the stable version is the one that answered most stable rows of a block; when
  it changes, evidence starts anew from the new version's own reference; so it
  does when a reference that could not be had becomes known, or is learned from
  the version's own traffic.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import log

import numpy as np

from monitor.core.bins import Counts, Floats
from monitor.core.block import (
    CANDIDATE,
    NO_LOSS,
    STABLE,
    Arm,
    ArmRows,
    LossSum,
    ModelBlock,
    Outcome,
    Sample,
)
from monitor.core.block_losses import BlockLosses, losses_of
from monitor.core.data_quality import broken_features
from monitor.core.estimation import Reason
from monitor.core.estimation.answered import AnsweredScores, count_scores
from monitor.core.estimation.calibration import Calibration
from monitor.core.estimation.estimate import found_by
from monitor.core.estimation.estimated_loss import estimated_loss
from monitor.core.events import Group
from monitor.core.evidence import NOTHING, log_sum
from monitor.core.judge import Evidence, Kind, RolloutEvidence, Verdict, judge
from monitor.core.mending import Mending
from monitor.core.own_references import OwnReferences
from monitor.core.performance.book import PerformanceBook
from monitor.core.profile import ReferenceProfile
from monitor.core.rollout import ArmTotals, Rollout
from monitor.core.schema import Fit, misfits
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.slicing import count_slices
from monitor.core.tree import Tree
from monitor.core.verification import Verification
from monitor.core.watched import Stable, Window, Yardstick, loss_bound

# version, digest -> profile, or None when the version has none
Profiles = Callable[[str, str], ReferenceProfile | None]

# Without any change, evidence is mostly below this many block lengths; the last
# block below it is where a change began, to within a few blocks.
QUIET_BLOCKS = 200.0
REPEAT_NS = 600 * 10**9  # a verdict that comes back within ten minutes is the same one


@dataclass(frozen=True, slots=True)
class Summary:
    """One block of one model, as history keeps it. Losses are sums in 2^-30 with their counts."""

    start_ns: int
    stable_version: str
    candidate_version: str
    rollout: str
    stable: Sample
    candidate: Sample
    stable_labelled: int
    stable_loss_units: int
    candidate_labelled: int
    candidate_loss_units: int
    lost: int
    evidence: float  # log seconds
    groups: dict[str, float]
    verdict: Verdict
    broken: tuple[str, ...]  # what is wrong with the data, in words
    raised: bool  # the verdict differs from the one before and is not `healthy`


class ModelState:
    """Mutable; owned by the engine."""

    def __init__(self, model: str, settings: CoreSettings) -> None:
        self.model = model
        self.settings = settings
        self.own = OwnReferences(settings, model)
        self.stable: Stable | None = None
        self.rollout: Rollout | None = None
        self.verification: Verification | None = None  # of the last rollback
        self.last_index: int | None = None
        self.blocks = 0
        self.rows = 0
        self.lost = 0
        self.receives_labels = False
        self.seen = Window.empty((2,))  # rows seen, rows lost
        self.fit = Fit()  # of the stable version's rows to its reference
        self.mending = Mending()
        self.slices = settings.slices_of(model)
        self.performance = PerformanceBook(self.slices)
        self.standing = Kind.HEALTHY
        self.standing_key = ""
        self.raised: dict[str, int] = {}  # verdict -> start of the block that raised it
        self.quiet_ns = 0  # end of the last block with no more evidence than chance brings

    # -- folding -------------------------------------------------------------------

    def close(self, block: ModelBlock, profiles: Profiles) -> Summary:
        """Fold the next block; its index must be above the last one's."""
        assert self.last_index is None or block.index > self.last_index
        elapsed = block.index - self.last_index if self.last_index is not None else 1
        self._choose_stable(block, profiles)
        self._renew_reference(block)
        self._follow_rollout(block, profiles)
        self._count_rows(block)
        outcomes = [item for item in block.outcomes if not self.mending.covers(item.predicted_ns)]
        losses = losses_of(outcomes, self.stable, self.rollout)
        losses.stable.add_many(block.losses.rows, block.losses.units)
        scored = self._measure(block, outcomes, profiles)
        estimated = self._estimated_loss(scored)
        labelled = losses.stable.rows + losses.candidate.rows
        self.receives_labels = self.receives_labels or labelled > 0
        counts = self._count(block)
        latest = self._fold_stable(block, counts, losses, elapsed, estimated)
        self._fold_rollout(block, counts, losses, elapsed)
        self._verify(block, outcomes)
        self._end_rollout(block)
        self.last_index = block.index
        self.blocks += 1
        summary = self._judge(block, losses, latest)
        self._warm_up(block, outcomes, latest)
        return summary

    def _start_ns(self, block: ModelBlock) -> int:
        return block.index * self.settings.block_ns

    def _choose_stable(self, block: ModelBlock, profiles: Profiles) -> None:
        votes: dict[tuple[str, str], int] = {}
        for arm, rows in block.arms.items():
            if arm.role == STABLE:
                key = (arm.digest, arm.version)
                votes[key] = votes.get(key, 0) + rows.rows
        if not votes:
            return
        current = self.stable.digest if self.stable else ""
        digest, version = max(votes, key=lambda key: (votes[key], key[0] == current, key))
        if digest == current:
            self._find_reference(block, profiles)
            return
        start_ns = self._start_ns(block)
        pushed = profiles(version, digest)
        profile = None if self.own.goes_first else pushed
        if profile is None:
            yardstick = self.own.begin(digest, start_ns, pushed)
        else:
            yardstick = Yardstick(profile, self.settings)
            self.own.end()
        self.stable = Stable.start(version, digest, start_ns, yardstick)
        self.fit, self.rollout = Fit(), None
        self.mending.end(start_ns)

    def _find_reference(self, block: ModelBlock, profiles: Profiles) -> None:
        """Judge a version by its reference from the block on at which there is one."""
        stable = self.stable
        if stable is None or self.own.goes_first:
            return
        if stable.yardstick.known and stable.yardstick.learned is None:
            return
        profile = profiles(stable.version, stable.digest)
        if profile is not None:
            self.own.end()
            self._judge_by(Yardstick(profile, self.settings), stable, self._start_ns(block))

    def _judge_by(self, yardstick: Yardstick, stable: Stable, at_ns: int) -> None:
        """Evidence begins anew, by a reference that was not known before."""
        self.stable = stable.judged_by(yardstick, at_ns)
        self.fit, self.rollout = Fit(), None  # a rollout's questions were the former reference's

    def _renew_reference(self, block: ModelBlock) -> None:
        stable = self.stable
        if stable is None or stable.yardstick.learned is None:
            return
        start_ns, in_stretch = self._start_ns(block), stable.stretch.blocks > 0
        yardstick = self.own.renew(stable.digest, start_ns, in_stretch=in_stretch)
        if yardstick is not None:
            self.stable = stable.renewed(yardstick)

    def _warm_up(self, block: ModelBlock, outcomes: list[Outcome], latest: Counts | None) -> None:
        """Let the stable version's rows of this block take part in its own reference.

        latest: counts of those rows.
        """
        stable = self.stable
        if stable is None:
            return
        start_ns = self._start_ns(block)
        parts = [p for arm, rows in block.arms.items() if self._is_stable(arm) for p in rows.parts]
        own = [item for item in outcomes if item.digest == stable.digest]
        if latest is not None:
            self.own.gather(
                stable.digest,
                start_ns,
                latest,
                parts,
                own,
                self.standing,
                self.quiet_ns,
                held=self._holds_references(),
            )
        yardstick = self.own.add(stable.digest, start_ns, parts, own)
        if yardstick is not None:
            self._judge_by(yardstick, stable, start_ns + self.settings.block_ns)

    def _follow_rollout(self, block: ModelBlock, profiles: Profiles) -> None:
        if self.stable is None:
            return
        arms = {
            arm: rows
            for arm, rows in block.arms.items()
            if arm.role == CANDIDATE and arm.digest != self.stable.digest
        }
        if not arms:
            return
        arm = max(arms, key=lambda arm: (arms[arm].rows, arm))
        if self.rollout is not None and self.rollout.id == arm.rollout:
            return
        profile, yardstick = profiles(arm.version, arm.digest), self.stable.yardstick
        own = loss_bound(profile, self.settings.loss_tolerance, yardstick.loss_scale)
        bounds = [b for b in (own, yardstick.loss_bound) if b is not None]
        self.rollout = Rollout.start(
            arm.rollout,
            arm.version,
            arm.digest,
            arms[arm].first_ns,
            bound=max(bounds, default=None),
            loss_scale=profile.loss_scale if profile else None,
            questions=yardstick.events.size,
            settings=self.settings,
        )

    def _count_rows(self, block: ModelBlock) -> None:
        self.rows += sum(rows.rows for rows in block.arms.values())
        self.lost += block.lost
        # Lost rows are counted one by one, so rows that are a sample count for all they are of.
        rows = sum(rows.stands_for for rows in block.arms.values())
        self.seen.move_to(block.index // self.settings.window_blocks)
        self.seen.current += np.array([rows, block.lost])

    def _measure(
        self, block: ModelBlock, outcomes: Sequence[Outcome], profiles: Profiles
    ) -> dict[Arm, AnsweredScores]:
        """Returns: the scores of each arm's rows."""
        rollout, settings = self.rollout, self.settings
        self.performance.follow(rollout.id if rollout else "", rollout.first_ns if rollout else 0)
        sliced = {
            arm: count_slices(self.slices, rows.parts, profiles(arm.version, arm.digest))
            for arm, rows in block.arms.items()
            if self.slices
        }
        scored = {
            arm: count_scores(rows.parts, profiles(arm.version, arm.digest))
            for arm, rows in block.arms.items()
        }
        self.performance.fold(
            block.index,
            settings.block_ns,
            settings.window_blocks,
            block.arms,
            outcomes,
            sliced,
            scored,
        )
        return scored

    def _estimated_loss(self, scored: dict[Arm, AnsweredScores]) -> LossSum | None:
        """Of the block's stable rows, without their labels; None: there is no estimate now."""
        found = self._estimated_by()
        if self.stable is None or not isinstance(found, Calibration):
            return None
        own = AnsweredScores()
        for arm, scores in scored.items():
            if self._is_stable(arm):
                own.merge(scores)
        return estimated_loss(own, found, self.stable.yardstick.probability_scale)

    def estimated_loss(self) -> float | Reason | None:
        """The least that the stable version's rows of the live window are estimated to have.

        Returns: why there is none; None where it is not watched.
        """
        found = self._estimated_by()
        if self.stable is None or not isinstance(found, Calibration):
            return found if isinstance(found, Reason) else None
        window = self.performance.versions[self.stable.digest].estimation.window()
        return estimated_loss(window, found, self.stable.yardstick.probability_scale).mean

    def _estimated_by(self) -> Calibration | Reason | None:
        """Of the stable version; None where no estimated loss is watched."""
        stable = self.stable
        if stable is None or not stable.yardstick.watches_estimates:
            return None
        measured = self.performance.versions.get(stable.digest)
        if measured is None:
            return Reason.TOO_FEW_ROWS
        return found_by(
            measured.estimation,
            measured.whole,
            measured.estimation.window(),
            is_broken=self.was_broken(measured.whole.half),
        )

    def was_broken(self, half: int) -> bool:
        """Whether data was, while rows of windows `half` and the one before were answered."""
        from_ns = (half - 1) * self.settings.window_blocks * self.settings.block_ns
        return any(to_ns > from_ns for _, to_ns in self.mending.breaks)

    def _is_candidate(self, arm: Arm) -> bool:
        rollout = self.rollout
        return rollout is not None and (arm.role, arm.rollout) == (CANDIDATE, rollout.id)

    def _is_stable(self, arm: Arm) -> bool:
        stable = self.stable
        return stable is not None and (arm.role, arm.digest) == (STABLE, stable.digest)

    def _count(self, block: ModelBlock) -> tuple[Counts, Counts] | None:
        """Histograms of the stable and of the candidate rows, both on stable's bins."""
        if self.stable is None:
            return None
        counter = self.stable.yardstick.counter
        counts = (counter.empty(), counter.empty())
        withheld: set[str] = set()
        rows_of_stable, misfitting, statements = 0, 0, set[str]()
        for arm, rows in block.arms.items():
            if not (self._is_stable(arm) or self._is_candidate(arm)):
                continue
            into = counts[int(self._is_candidate(arm))]
            rows_of_stable += rows.rows if self._is_stable(arm) else 0
            if rows.counts is not None:
                into += rows.counts
            for part in rows.parts:
                withheld |= counter.withheld(part.inputs, part.outputs, part.withheld)
                if counter.count(part.inputs, part.outputs, into, part.withheld):
                    continue
                unlike = len(next(iter(part.inputs.values()), ()))
                self.stable.mismatched += unlike
                if self._is_stable(arm):
                    misfitting += unlike
                    statements.update(misfits(counter.profile, part.inputs))
        half = block.index // self.settings.window_blocks
        self.fit.add(half, rows_of_stable, misfitting, statements)
        if any(rows.parts for rows in block.arms.values()):
            self.stable.withheld = tuple(sorted(withheld))
        return counts

    def _fold_stable(
        self,
        block: ModelBlock,
        counts: tuple[Counts, Counts] | None,
        losses: BlockLosses,
        elapsed: int,
        estimated: LossSum | None,
    ) -> Counts | None:
        stable = self.stable
        if stable is None or counts is None:
            return None
        stable.window.move_to(block.index // self.settings.window_blocks)
        stable.window.current += counts[0]
        own = (rows.parts for arm, rows in block.arms.items() if self._is_stable(arm))
        parts = [part for parts in own for part in parts]
        start_ns, half = self._start_ns(block), block.index // self.settings.window_blocks
        outliers = stable.add_rows(half, parts, counts[0], start_ns)
        stable.rows += sum(r.rows for arm, r in block.arms.items() if self._is_stable(arm))
        stable.labelled += losses.stable.rows
        stable.loss_units += losses.stable.units
        stable.step(
            counts[0],
            losses.stable.units,
            losses.stable.rows,
            elapsed,
            start_ns,
            estimated,
            outliers,
        )
        return counts[0]

    def _fold_rollout(
        self,
        block: ModelBlock,
        counts: tuple[Counts, Counts] | None,
        losses: BlockLosses,
        elapsed: int,
    ) -> None:
        rollout, stable = self.rollout, self.stable
        if rollout is None or stable is None or counts is None:
            return
        arms = [ArmRows(), ArmRows()]
        for arm, rows in block.arms.items():
            if self._is_stable(arm) or self._is_candidate(arm):
                arms[int(self._is_candidate(arm))].add(0, 0, rows.rows, rows.failed)
        of_stable, of_candidate = arms
        _add(rollout.stable, of_stable, losses.paired)
        _add(rollout.candidate, of_candidate, losses.candidate)
        alone = rollout.stable_rows_alone + of_stable.rows
        rollout.stable_rows_alone = 0 if of_candidate.rows else alone
        events = stable.yardstick.events
        rollout.add_answers(events.answers(counts[1]), events.answers(counts[0]))
        differences = np.array(
            [
                losses.candidate.mean - losses.paired.mean,
                _share(of_candidate) - _share(of_stable),
                stable.no_number(counts[1]) - stable.no_number(counts[0]),
            ]
        )
        own = losses.candidate
        rollout.step(own.units, own.rows, differences, elapsed, stable.span.blocks)

    def _end_rollout(self, block: ModelBlock) -> None:
        rollout, stable, settings = self.rollout, self.stable, self.settings
        if rollout is None or stable is None or not rollout.is_over():
            return
        if f"{Kind.ROLLBACK.value}:{rollout.id}" in self.raised:
            end_ns = self._start_ns(block) + settings.block_ns
            self.verification = Verification.begin(
                rollout, stable.digest, end_ns, settings.verify_ns, settings.loss_tolerance
            )
        self.rollout = None

    def _verify(self, block: ModelBlock, outcomes: Sequence[Outcome]) -> None:
        found, stable = self.verification, self.stable
        if found is None or not found.is_open:
            return None
        if stable is None or stable.digest != found.stable_digest or self.rollout is not None:
            return found.give_up()
        arms = [rows for arm, rows in block.arms.items() if self._is_stable(arm)]
        since = [item for item in outcomes if item.predicted_ns >= found.since_ns]
        return found.fold(
            sum(rows.rows for rows in arms),
            sum(rows.failed for rows in arms),
            losses_of(since, stable, None).stable,
            self._start_ns(block) + self.settings.block_ns,
        )

    # -- judging -------------------------------------------------------------------

    def groups(self) -> dict[Group, float]:
        """log evidence of each group on its own, as far as it is watched."""
        found: dict[Group, float] = {}
        if self.stable is not None:
            found |= {group: self.stable.evidence(group) for group in self.stable.m}
        if self.rollout is not None:
            found[Group.CANDIDATE] = self.rollout.evidence(Group.CANDIDATE)
            found[Group.COMPARISON] = self.rollout.evidence(Group.COMPARISON)
        return found

    def total_evidence(self) -> float:
        """log of the weighted mean over all detectors of this model."""
        return _weighted(self.groups())

    def evidence(self, latest: Counts | None = None) -> Evidence:
        """What the judge needs; `latest`: the stable rows of the block just closed."""
        total, groups = self.total_evidence(), self.groups()
        rows, lost = (int(value) for value in self.seen.live)
        enough = rows + lost >= self.settings.rows_min
        return Evidence(
            total=total,
            without_estimate=_weighted(
                {g: value for g, value in groups.items() if g is not Group.ESTIMATED}
            ),
            groups=groups,
            unseen_share=lost / (rows + lost) if enough else 0.0,
            changed_recently=self._changed_recently(),
            broken=self._broken(latest) if total >= self.settings.warn else (),
            misfits=self.fit.broken(self.settings.loss_max_share, self.settings.rows_min),
            rollout=self._rollout_evidence(),
            warming=self.own.progress.in_words() if self.own.progress else "",
        )

    def seen_share(self) -> float | None:
        """The share of the live windows' rows that are in the statistics; None: there are none."""
        rows, lost = (int(value) for value in self.seen.live)
        return rows / (rows + lost) if rows + lost else None

    def _changed_recently(self) -> bool:
        if self.stable is None or self.last_index is None:
            return False
        age_ns = (self.last_index + 1) * self.settings.block_ns - self.stable.since_ns
        return age_ns < self.settings.recent_change_ns

    def _broken(self, latest: Counts | None) -> tuple[str, ...]:
        if self.stable is None:
            return ()
        profile, tolerance = self.stable.yardstick.profile, self.settings.tolerance
        usual = self._usual(self.stable)
        recent = () if latest is None else broken_features(profile, latest, tolerance, usual)
        window = broken_features(profile, self.stable.window.live, tolerance, usual)
        return tuple(dict.fromkeys((*recent, *window)))

    def _usual(self, stable: Stable) -> Floats | None:
        """Of values that may be absent: by the hours of the live windows, if those are known."""
        if self.last_index is None:
            return None
        window, block_ns = self.settings.window_blocks, self.settings.block_ns
        first = max(self.last_index // window - 1, 0) * window
        return stable.yardstick.usual(first * block_ns, (self.last_index + 1) * block_ns)

    def _rollout_evidence(self) -> RolloutEvidence | None:
        rollout = self.rollout
        if rollout is None:
            return None
        return RolloutEvidence(
            rollout.log_e_value(),
            rollout.candidate.rows,
            rollout.stable.rows,
            rollout.candidate.labelled,
            self.inputs_differ(),
        )

    def inputs_differ(self) -> bool:
        """Whether the arms' inputs differ by more than tolerance and chance explain."""
        if self.rollout is None or self.stable is None:
            return False
        yardstick = self.stable.yardstick
        features = len(yardstick.profile.features)
        # Of inputs alone: answers that differ are what a candidate is judged for.
        return self.rollout.differs(yardstick.events.feature < features, features, self.settings)

    def _judge(self, block: ModelBlock, losses: BlockLosses, latest: Counts | None) -> Summary:
        evidence = self.evidence(latest)
        verdict = judge(evidence, self.settings, self.standing)
        subject = self.rollout.id if verdict.kind is Kind.ROLLBACK and self.rollout else ""
        raised = self._stand(verdict.kind, f"{verdict.kind.value}:{subject}", self._start_ns(block))
        if evidence.total <= log(QUIET_BLOCKS * self.settings.block_s):
            self.quiet_ns = self._start_ns(block) + self.settings.block_ns
        rollout = self.rollout
        summary = Summary(
            start_ns=self._start_ns(block),
            stable_version=self.stable.version if self.stable else "",
            candidate_version=rollout.version if rollout else "",
            rollout=rollout.id if rollout else "",
            stable=_sample(r for arm, r in block.arms.items() if self._is_stable(arm)),
            candidate=_sample(r for arm, r in block.arms.items() if self._is_candidate(arm)),
            stable_labelled=losses.stable.rows,
            stable_loss_units=losses.stable.units,
            candidate_labelled=losses.candidate.rows,
            candidate_loss_units=losses.candidate.units,
            lost=block.lost,
            evidence=evidence.total,
            groups={group.name.lower(): value for group, value in evidence.groups.items()},
            verdict=verdict,
            broken=evidence.misfits or evidence.broken,
            raised=raised,
        )
        self._mend(evidence, summary, latest)
        return summary

    def _mend(self, evidence: Evidence, summary: Summary, latest: Counts | None) -> None:
        """Begin evidence anew once data that was broken is sound: see `monitor.core.mending`."""
        mending, stable, settings = self.mending, self.stable, self.settings
        end_ns = summary.start_ns + settings.block_ns
        is_upstream = summary.verdict.kind is Kind.UPSTREAM
        if is_upstream and summary.broken:
            mending.broke(self.quiet_ns)
        if mending.is_broken and not is_upstream:
            mending.end(end_ns)
        if not mending.is_broken or stable is None or latest is None:
            return
        if summary.raised or evidence.misfits:
            return  # what is raised is shown with its evidence
        profile = stable.yardstick.profile
        usual, rows_min = self._usual(stable), settings.rows_min
        if mending.is_mended(latest, profile, settings.tolerance, rows_min, end_ns, usual):
            self.stable, self.rollout = stable.judged_by(stable.yardstick, end_ns), None

    def _stand(self, kind: Kind, key: str, start_ns: int) -> bool:
        """Make `kind` the standing verdict; True when it is to be raised.

        The same verdict that comes back soon is the old one, not a new one.
        """
        self.raised = {
            k: at
            for k, at in self.raised.items()
            if k == self.standing_key or start_ns - at < REPEAT_NS
        }
        new = key != self.standing_key and kind is not Kind.HEALTHY and key not in self.raised
        self.standing, self.standing_key = kind, key
        if new:
            self.raised[key] = start_ns
        return new

    @property
    def standing_id(self) -> str:
        """Names the verdict that stands, the same in every run over the same log."""
        return f"{self.model}:{self.standing_key}:{self.raised.get(self.standing_key, 0)}"

    def has_moved(self) -> bool:
        """Whether inputs moved, or are broken, so that a loss may be theirs."""
        warn = self.settings.warn
        groups = self.groups()
        return any(groups.get(g, NOTHING) >= warn for g in (Group.FEATURES, Group.QUALITY)) or (
            self.standing in (Kind.UPSTREAM, Kind.BLIND)
        )

    def _holds_references(self) -> bool:
        """Whether the verdict keeps a rolling reference as it is.

        A warning does only for what such a reference is of: losses may be watched for
        months before the first label comes.
        """
        if self.standing is not Kind.WARN:
            return self.standing is not Kind.HEALTHY
        return (
            self.has_moved() or self.groups().get(Group.PREDICTIONS, NOTHING) >= self.settings.warn
        )

    # -- storing -------------------------------------------------------------------

    def to_tree(self) -> Tree:
        return {
            "stable": self.stable.to_tree() if self.stable else None,
            "own": self.own.to_tree(),
            "rollout": self.rollout.to_tree() if self.rollout else None,
            "verification": self.verification.to_tree() if self.verification else None,
            "last_index": self.last_index,
            "blocks": self.blocks,
            "rows": self.rows,
            "lost": self.lost,
            "receives_labels": self.receives_labels,
            "seen": self.seen.to_tree(),
            "fit": self.fit.to_tree(),
            "mending": self.mending.to_tree(),
            "performance": self.performance.to_tree(),
            "standing": self.standing.value,
            "standing_key": self.standing_key,
            "raised": self.raised,
            "quiet_ns": self.quiet_ns,
        }

    @classmethod
    def from_tree(
        cls, model: str, tree: Tree, settings: CoreSettings, profiles: Profiles
    ) -> "ModelState":
        state = cls(model, settings)
        state.own = OwnReferences.from_tree(tree["own"], settings, model)
        if tree["stable"] is not None:
            stable = tree["stable"]
            # What was judged without a reference goes on so until its next block.
            if stable["learned"]:
                yardstick = state.own.learned(stable["digest"])
            else:
                known = stable["known"]
                profile = profiles(stable["version"], stable["digest"]) if known else None
                yardstick = Yardstick(profile, settings)
            state.stable = Stable.from_tree(stable, yardstick)
        if tree["rollout"] is not None:
            state.rollout = Rollout.from_tree(tree["rollout"], settings)
        if tree["verification"] is not None:
            state.verification = Verification.from_tree(tree["verification"])
        state.last_index = tree["last_index"]
        state.blocks, state.rows, state.lost = tree["blocks"], tree["rows"], tree["lost"]
        state.receives_labels = tree["receives_labels"]
        state.seen, state.fit = Window.from_tree(tree["seen"]), Fit.from_tree(tree["fit"])
        state.mending = Mending.from_tree(tree["mending"])
        state.performance = PerformanceBook.from_tree(tree["performance"], state.slices)
        state.standing, state.standing_key = Kind(tree["standing"]), tree["standing_key"]
        state.raised, state.quiet_ns = dict(tree["raised"]), tree["quiet_ns"]
        return state


def _weighted(groups: dict[Group, float]) -> float:
    """log of the weighted sum."""
    parts = [value + np.log(WEIGHTS[group]) for group, value in sorted(groups.items())]
    return log_sum(np.array(parts)) if parts else NOTHING


def _add(totals: ArmTotals, rows: ArmRows, losses: LossSum) -> None:
    totals.rows += rows.rows
    totals.failed += rows.failed
    totals.labelled += losses.rows
    totals.loss_units += losses.units


def _sample(arms: Iterable[ArmRows]) -> Sample:
    of_arms = list(arms)
    return Sample(sum(arm.rows for arm in of_arms), sum(arm.stands_for for arm in of_arms))


def _share(rows: ArmRows) -> float:
    return rows.failed / rows.rows if rows.rows else NO_LOSS
