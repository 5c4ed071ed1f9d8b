"""From evidence to a verdict: what is wrong, and hence what should be done.

The rules, in order:
1. too many rows unseen: blind, and a blind monitor does nothing;
2. rows do not fit the reference at all: page, no retraining; no chance brings that;
3. evidence below the budget: healthy, or a warning;
4. the candidate is worse than stable within the same blocks, and stable keeps
   its promise: roll back; not before enough rows, and inconclusive where the
   arms saw different inputs;
5. the data itself is broken: page, and no retraining on garbage; and so it stays until
   evidence that was gathered meanwhile is gone, whatever else that evidence would mean;
6. loss is up on every version that serves, and inputs moved (or nothing else
   could have done it): retrain;
7. loss is up on stable alone: a candidate that does better is the cure;
8. the loss is estimated to be up, and its labels have yet to say so: page;
9. inputs or predictions moved, or more rows are unlike the reference's, and the loss did
   not: annotate;
10. else: page, a human should look.

The estimated loss is likely, not seen: it takes part in what pages and warns, and is named
beside a loss that is up. Where evidence without it would not page, nothing is rolled back
and nothing retrained.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from math import log

from monitor.core.data_quality import in_words
from monitor.core.events import Group
from monitor.core.evidence import NOTHING
from monitor.core.settings import CoreSettings

# The chance that a rollout's comparison ever calls an equal candidate worse.
ATTRIBUTION_ALPHA = 0.01
# A page or warning that has been raised stands until evidence is this much
# below the warning, so that it does not flicker.
RELEASE_NATS = 1.0


class Kind(StrEnum):
    HEALTHY = "healthy"
    WARN = "warn"
    ANNOTATE = "annotate"
    UPSTREAM = "upstream"
    ROLLBACK = "rollback"
    RETRAIN = "retrain"
    RECOVERING = "recovering"
    INCONCLUSIVE = "inconclusive"
    PAGE = "page"
    BLIND = "blind"

    @property
    def pages(self) -> bool:
        return self not in (Kind.HEALTHY, Kind.WARN, Kind.BLIND)


# What broken data leaves behind looks like these.
AFTER_A_BREAK = (Kind.RETRAIN, Kind.ANNOTATE, Kind.PAGE)
ACTING = (Kind.ROLLBACK, Kind.RETRAIN)


@dataclass(frozen=True, slots=True)
class RolloutEvidence:
    """What is known of the rollout under way."""

    log_e_value: float
    candidate_rows: int
    stable_rows: int
    labelled_rows: int  # of the candidate
    inputs_differ: bool


@dataclass(frozen=True, slots=True)
class Evidence:
    """Logs of e-detectors in seconds, and the facts around them, at one block's end."""

    total: float
    groups: Mapping[Group, float]
    unseen_share: float
    changed_recently: bool
    broken: tuple[str, ...] = ()  # features whose data is broken, in words
    misfits: tuple[str, ...] = ()  # why rows cannot be held against the reference, in words
    rollout: RolloutEvidence | None = None
    warming: str = ""  # how far a reference from own traffic is; empty: none is under way
    without_estimate: float | None = None  # the total without the estimated loss; None: the same

    def group(self, group: Group) -> float:
        return self.groups.get(group, NOTHING)


@dataclass(frozen=True, slots=True)
class Verdict:
    kind: Kind
    reason: str


def judge(evidence: Evidence, settings: CoreSettings, standing: Kind) -> Verdict:
    """The verdict after a block; `standing` is the one before it."""
    if evidence.unseen_share > settings.loss_max_share:
        share, limit = evidence.unseen_share, settings.loss_max_share
        return Verdict(
            Kind.BLIND, f"{share:.1%} of the rows were not seen, the limit is {limit:.1%}"
        )
    if evidence.misfits:
        what = in_words(evidence.misfits)
        return Verdict(Kind.UPSTREAM, f"the schema is not the reference's: {what}")
    release = settings.warn - RELEASE_NATS
    paged = evidence.total >= (release if standing.pages else settings.page)
    if paged:
        return _paging(evidence, settings, standing)
    warned = evidence.total >= (release if standing is Kind.WARN else settings.warn)
    if warned:
        return Verdict(Kind.WARN, "evidence is above the warning's budget")
    return Verdict(Kind.HEALTHY, evidence.warming or "evidence is within the budget")


def _paging(evidence: Evidence, settings: CoreSettings, standing: Kind) -> Verdict:
    cause = _cause(evidence, settings)
    if standing is Kind.UPSTREAM and cause.kind in AFTER_A_BREAK:
        return Verdict(Kind.UPSTREAM, "the data was broken, and evidence is still of that time")
    if cause.kind in ACTING and not _may_act(evidence, settings, standing):
        return Verdict(
            Kind.PAGE, f"{cause.reason}; but most evidence is of the loss as it is estimated"
        )
    return cause


def _may_act(evidence: Evidence, settings: CoreSettings, standing: Kind) -> bool:
    """Whether evidence pages without the estimated loss too.

    What an estimate has raised does not lower what is asked of the rest, so only a verdict
    that acts itself stands on until evidence is well below the warning.
    """
    if evidence.without_estimate is None or evidence.group(Group.ESTIMATED) == NOTHING:
        return True
    bar = settings.warn - RELEASE_NATS if standing in ACTING else settings.page
    return evidence.without_estimate >= bar


def _cause(evidence: Evidence, settings: CoreSettings) -> Verdict:
    stable_up = evidence.group(Group.LOSS) >= settings.warn
    if evidence.rollout is not None and not stable_up and is_worse(evidence, settings):
        return _worse(evidence.rollout, settings)
    if evidence.broken or evidence.group(Group.QUALITY) >= settings.warn:
        what = in_words(evidence.broken) or "values are missing or unknown"
        return Verdict(Kind.UPSTREAM, f"the data is broken before it reaches the model: {what}")
    if stable_up:
        return _loss_is_up(evidence, settings)
    if evidence.rollout is not None and evidence.group(Group.CANDIDATE) >= settings.warn:
        return Verdict(
            Kind.INCONCLUSIVE, "the candidate's loss is up, the comparison is not settled yet"
        )
    return _unseen_loss(evidence, settings)


def _unseen_loss(evidence: Evidence, settings: CoreSettings) -> Verdict:
    """What else there is, where no label says that the loss is up."""
    if evidence.group(Group.ESTIMATED) >= settings.warn:
        return Verdict(
            Kind.PAGE, "the loss is likely up: it is estimated so, and labels have yet to say it"
        )
    if _moved(evidence, settings) or evidence.group(Group.PREDICTIONS) >= settings.warn:
        return Verdict(Kind.ANNOTATE, "inputs or predictions moved, the loss did not")
    if evidence.group(Group.OUTLIERS) >= settings.warn:
        return Verdict(Kind.ANNOTATE, "more rows are unlike the reference, the loss is not up")
    return Verdict(Kind.PAGE, "evidence is above the budget, no single cause stands out")


def is_worse(evidence: Evidence, settings: CoreSettings) -> bool:
    """Whether the candidate does worse than stable on the same traffic."""
    if evidence.rollout is None:
        return False
    settled = evidence.rollout.log_e_value >= log(1.0 / ATTRIBUTION_ALPHA)
    return settled or evidence.group(Group.COMPARISON) >= settings.warn


def _worse(rollout: RolloutEvidence, settings: CoreSettings) -> Verdict:
    fewest = min(rollout.candidate_rows, rollout.stable_rows)
    if fewest < settings.rows_min:
        return Verdict(
            Kind.INCONCLUSIVE,
            f"the candidate looks worse, but an arm has {fewest} rows of {settings.rows_min}",
        )
    if rollout.inputs_differ:
        return Verdict(
            Kind.INCONCLUSIVE, "the candidate looks worse, but the arms saw different inputs"
        )
    return Verdict(Kind.ROLLBACK, "the candidate is worse than stable on the same traffic")


def _loss_is_up(evidence: Evidence, settings: CoreSettings) -> Verdict:
    rollout = evidence.rollout
    candidate_up = evidence.group(Group.CANDIDATE) >= settings.warn
    if rollout is not None and not candidate_up:
        return Verdict(
            Kind.RECOVERING, "the loss of stable is up, the candidate's is not: let it go on"
        )
    if _moved(evidence, settings):
        also = evidence.group(Group.ESTIMATED) >= settings.warn
        beside = ", as the estimated loss is" if also else ""
        return Verdict(Kind.RETRAIN, f"the loss is up on every version{beside}, and inputs moved")
    if rollout is None and not evidence.changed_recently:
        return Verdict(
            Kind.RETRAIN, "the loss is up with no change of version: inputs mean something else now"
        )
    return Verdict(Kind.PAGE, "the loss is up, but so recent a change of version may be the cause")


def _moved(evidence: Evidence, settings: CoreSettings) -> bool:
    return evidence.group(Group.FEATURES) >= settings.warn
