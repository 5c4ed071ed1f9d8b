"""What the monitor says of a model in JSON: for the API, the history and the verdicts."""

from collections.abc import Mapping
from math import exp, isfinite, log
from typing import Any

import numpy as np

from monitor.core.bins import BINS, SLOTS
from monitor.core.budget import budget_text
from monitor.core.effects import Effect, effect_sizes, effects, moved_names
from monitor.core.estimation import Reason
from monitor.core.evidence import NOTHING
from monitor.core.model_state import ModelState, Summary
from monitor.core.predictions import LOSS_UNITS
from monitor.core.rolling import Rolling
from monitor.core.rollout import ArmTotals
from monitor.core.settings import WEIGHTS, CoreSettings
from monitor.core.verification import Verification
from monitor.core.watched import Stable
from monitor.outlier_documents import outlier_counts

SPECIAL = ("missing", "below", "above", "nonfinite", "unseen")
SHOWN_FEATURES = 8  # with their histograms, in a verdict
RANKED_FEATURES = 200  # in the state
TRAINING = ("ks", "psi")  # statistics of live traffic against training
LOG_MAX = 700.0  # exp of more is no float

Document = dict[str, Any]


def seconds(log_seconds: float) -> float:
    """Evidence in seconds, a number that JSON can carry."""
    return 0.0 if log_seconds == NOTHING else exp(min(log_seconds, LOG_MAX))


def number(value: float) -> float | None:
    return value if isfinite(value) else None


def mean_loss(units: int, rows: int) -> float | None:
    return units / LOSS_UNITS / rows if rows else None


def block_document(summary: Summary) -> Document:
    """One block of history."""
    return {
        "start_ns": summary.start_ns,
        "stable": summary.stable_version,
        "candidate": summary.candidate_version,
        "rollout": summary.rollout,
        "rows": {"stable": summary.stable.rows, "candidate": summary.candidate.rows},
        "traffic": {
            "stable": summary.stable.stands_for,
            "candidate": summary.candidate.stands_for,
        },
        "labelled": {"stable": summary.stable_labelled, "candidate": summary.candidate_labelled},
        "loss": {
            "stable": mean_loss(summary.stable_loss_units, summary.stable_labelled),
            "candidate": mean_loss(summary.candidate_loss_units, summary.candidate_labelled),
        },
        "lost": summary.lost,
        "evidence_s": seconds(summary.evidence),
        "groups_s": {name: seconds(value) for name, value in summary.groups.items()},
        "verdict": summary.verdict.kind.value,
    }


def verdict_document(state: ModelState, summary: Summary, decided_ns: int) -> Document:
    """A raised verdict with everything it rests on."""
    rollout, stable = state.rollout, state.stable
    of_rollout = rollout is not None and summary.verdict.kind.value in ("rollback", "inconclusive")
    ranked = effects(state)
    document: Document = {
        "id": state.standing_id,
        "model": state.model,
        "kind": summary.verdict.kind.value,
        "reason": summary.verdict.reason,
        "version": rollout.version if of_rollout and rollout else summary.stable_version,
        "stable": summary.stable_version,
        "candidate": summary.candidate_version,
        "rollout": summary.rollout,
        "digest": rollout.digest if of_rollout and rollout else stable.digest if stable else "",
        "block_start_ns": summary.start_ns,
        "block_end_ns": summary.start_ns + state.settings.block_ns,
        "changed_after_ns": state.quiet_ns,
        "decided_ns": decided_ns,
        "evidence_s": seconds(summary.evidence),
        "threshold_s": state.settings.budget_s,
        "groups_s": {name: seconds(value) for name, value in summary.groups.items()},
        "seen_share": state.seen_share(),
        "broken": list(summary.broken),
        "reference": reference_document(state, stable) if stable else None,
        "features": moved_names(ranked, state.settings.tolerance),
        "shifts": [feature_document(effect) for effect in _shown(ranked)],
        "verification": _verification(state.verification),
        "loss": _losses(state),
    }
    if rollout is not None:
        document |= {
            "candidate_first_ns": rollout.first_ns,
            "candidate_rows": rollout.candidate.rows,
            "candidate_labelled": rollout.candidate.labelled,
            "stable_rows": rollout.stable.rows,
        }
    return document


def _shown(ranked: list[Effect]) -> list[Effect]:
    inputs = [effect for effect in ranked if effect.log_evidence is not None]
    return [*inputs[:SHOWN_FEATURES], *(e for e in ranked if e.log_evidence is None)]


def _losses(state: ModelState) -> Document:
    stable, rollout = state.stable, state.rollout
    reference = stable.yardstick.profile.loss if stable else None
    return {
        "reference": reference.mean if reference else None,
        "bound": stable.yardstick.loss_bound if stable else None,
        "stable": mean_loss(stable.loss_units, stable.labelled) if stable else None,
        "candidate": _arm_loss(rollout.candidate) if rollout else None,
        "stable_during_rollout": _arm_loss(rollout.stable) if rollout else None,
    }


def estimated_loss_document(state: ModelState) -> Document | None:
    """What evidence before labels is about; None where it is not watched.

    value: of the live window's rows; None with a reason why it is withheld.
    """
    found = state.estimated_loss()
    if found is None:
        return None
    reason = found if isinstance(found, Reason) else None
    return {
        "value": None if isinstance(found, Reason) else number(found),
        "reason": reason and reason.value,
        "sentence": reason.sentence if reason else "",
    }


def _arm_loss(totals: ArmTotals) -> float | None:
    return mean_loss(totals.loss_units, totals.labelled)


def effect_document(effect: Effect) -> Document:
    """One feature in numbers."""
    evidence = effect.log_evidence
    return {
        "name": effect.feature.name,
        "kind": effect.feature.kind.value,
        "tensor": effect.feature.tensor,
        "index": effect.feature.index,
        "rows": int(effect.live.sum()),
        "evidence_s": None if evidence is None else seconds(evidence),
        "named": effect.named,
        "distinct": None
        if effect.log_evidence is None or not effect.feature.exact
        else {"reference": effect.feature.distinct_values, "live": effect.distinct},
        **{name: number(value) for name, value in effect.statistics.items()},
    }


def feature_document(effect: Effect) -> Document:
    """One feature with its reference and live histograms.

    `starts` begin the bins, `high` ends the last one; `reference` and `live`
    hold as many counts as there are bins, `special` the values outside them.
    """
    feature, size = effect.feature, effect.feature.starts.size
    reference, live = feature.counts, effect.live
    return {
        **effect_document(effect),
        "starts": feature.starts.tolist(),
        "high": feature.high,
        "categories": list(feature.categories),
        "reference": reference[:size].tolist(),
        "live": live[:size].tolist(),
        "special": {
            name: {"reference": int(reference[slot]), "live": int(live[slot])}
            for name, slot in zip(SPECIAL, range(BINS, SLOTS), strict=True)
        },
    }


def _verification(found: Verification | None) -> Document | None:
    """Of the last rollback."""
    if found is None:
        return None
    return {
        "rollout": found.rollout,
        "outcome": found.outcome.value,
        "since_ns": found.since_ns,
        "until_ns": found.until_ns,
        "in_words": found.in_words(),
    }


def state_document(state: ModelState, last: Summary | None, labels: Mapping[str, int]) -> Document:
    """Where a model stands now."""
    stable, rollout, settings = state.stable, state.rollout, state.settings
    ranked = effects(state)
    total = state.total_evidence()
    return {
        "model": state.model,
        "blocks": state.blocks,
        "rows": state.rows,
        "lost": state.lost,
        "seen_share": state.seen_share(),
        "end_ns": ((state.last_index or 0) + 1) * settings.block_ns,
        "verdict": state.standing.value,
        "verdict_id": state.standing_id if state.standing_key else "",
        "reason": last.verdict.reason if last else "",
        "evidence_s": seconds(total),
        "evidence_log10_s": None if total == NOTHING else total / log(10),
        "threshold_s": settings.budget_s,
        "warn_threshold_s": settings.warn_budget_s,
        "budget": budget_document(settings),
        "promise": promise_document(state, stable) if stable else None,
        "settings": {
            "block_s": settings.block_s,
            "live_window_s": settings.window_blocks * settings.block_s,
            "tolerance": settings.tolerance,
            "loss_tolerance": settings.loss_tolerance,
            "outlier_tolerance": settings.outlier_tolerance,
        },
        "groups_s": {group.name.lower(): seconds(value) for group, value in state.groups().items()},
        "stable": {
            "version": stable.version,
            "digest": stable.digest,
            "since_ns": stable.since_ns,
            "judged_since_ns": stable.judged_ns,
            "rows": stable.rows,
            "labelled": stable.labelled,
            "mismatched": stable.mismatched,
            "withheld": list(stable.withheld),
            "has_reference": stable.yardstick.known,
            "reference": reference_document(state, stable),
        }
        if stable
        else None,
        "candidate": {
            "version": rollout.version,
            "digest": rollout.digest,
            "rollout": rollout.id,
            "first_ns": rollout.first_ns,
            "rows": rollout.candidate.rows,
            "labelled": rollout.candidate.labelled,
            "failed": rollout.candidate.failed,
            "stable_rows": rollout.stable.rows,
            "e_value": seconds(rollout.log_e_value()),
            "inputs_differ": state.inputs_differ(),
        }
        if rollout
        else None,
        "verification": _verification(state.verification),
        "loss": _losses(state),
        "estimated_loss": estimated_loss_document(state),
        "repeated_rows": repeated_document(stable) if stable else None,
        "outliers": outlier_counts(stable) if stable else None,
        "labels": dict(labels),
        "features": [effect_document(e) for e in ranked if e.log_evidence is not None][
            :RANKED_FEATURES
        ],
        "predictions": [effect_document(e) for e in ranked if e.log_evidence is None],
    }


def repeated_document(stable: Stable) -> Document:
    """Shares of the rows that repeat one of their block; None: not known.

    rows: of the live window that were looked at.
    """
    live, reference = stable.repeated()
    return {"live": live, "reference": reference, "rows": int(stable.repeats.live[0])}


def reference_document(state: ModelState, stable: Stable) -> Document:
    """What the stable version is judged by, and how far its warm-up is, if one is under way."""
    learned, progress = stable.yardstick.learned, state.own.progress
    rolling = state.own.rolling(stable.digest) if learned else None
    whose = "rolling" if rolling else "warm-up" if learned else "pushed"
    return {
        "from": whose if stable.yardstick.known else None,
        "rows": stable.yardstick.profile.rows,
        "season": season_document(stable),
        "warm_up": None
        if learned is None
        else {"start_ns": learned.from_ns, "end_ns": learned.to_ns},
        "rolling": rolling_document(state, rolling) if rolling else None,
        "training": training_document(stable, rolling) if rolling else None,
        "warming_up": None
        if progress is None
        else {
            "reason": progress.in_words(),
            "ratio": progress.ratio,
            "rows": progress.rows,
            "rows_needed": progress.rows_needed,
            "s": progress.spent_ns / 1e9,
            "s_needed": progress.span_ns / 1e9,
            "left_out": list(progress.left_out),
        },
    }


def rolling_document(state: ModelState, rolling: Rolling) -> Document:
    """Of a reference that is renewed.

    span_s: of the traffic in it; age_s: from its end to the last block's. next_ns: when it
    is renewed, unless a verdict stands: then it is `frozen`, and so is what is counted for it.
    """
    learned, block_ns = rolling.learned, state.settings.block_ns
    end_ns = ((state.last_index or 0) + 1) * block_ns
    return {
        "span_s": (learned.to_ns - learned.from_ns) / 1e9,
        "age_s": max(end_ns - learned.to_ns, 0) / 1e9,
        "next_ns": rolling.next_ns,
        "frozen": rolling.is_frozen,
    }


def training_document(stable: Stable, rolling: Rolling) -> Document | None:
    """How far live traffic is from the pushed reference, which does not judge; None: there is none.

    features: those farthest off, by Kolmogorov-Smirnov.
    """
    if not rolling.is_pushed:
        return None
    pushed = rolling.base.bins
    watched = (*pushed.features, *pushed.predictions)
    binned = stable.yardstick.binned_of_asked(stable.window.live)
    sizes = effect_sizes(watched, binned, TRAINING)
    order = sorted(range(len(watched)), key=lambda f: (-np.nan_to_num(sizes["ks"][f]), f))
    return {
        "rows": pushed.rows,
        "features": [
            {"name": watched[f].name}
            | {name: number(float(values[f])) for name, values in sizes.items()}
            for f in order[:SHOWN_FEATURES]
        ],
    }


def season_document(stable: Stable) -> Document | None:
    """Of a version that is judged by the hour of the week.

    hours: that hold rows. row_worth: independent rows that one is worth, of the median
    feature. tolerance_least, _most: in the hour with the most rows and in that
    with the fewest, what a share may be from the reference's, whose error is in it.
    """
    season, nulls = stable.yardstick.profile.season, stable.yardstick.hours
    if season is None or nulls is None:
        return None
    return {
        "hours": int((season.rows > 0).sum()),
        "rows_least": int(season.rows.min()),
        "rows_most": int(season.rows.max()),
        "row_worth": float(np.median(season.effective)) if season.effective.size else 1.0,
        "tolerance_least": float(nulls.tolerance.min()),
        "tolerance_most": float(nulls.tolerance.max()),
    }


def promise_document(state: ModelState, stable: Stable) -> Document:
    """Whether the false-alarm promise holds for a version's traffic, and over which blocks."""
    span, learned, progress = stable.span, stable.yardstick.learned, state.own.progress
    reason = span.reason or (learned.caveat if learned else "")
    if not stable.yardstick.known:
        reason = progress.in_words() if progress else "the version has no reference"
    return {
        "covered": not reason,
        "reason": reason,
        "block_s": span.blocks * stable.yardstick.block_s,
        "blocks_seen": stable.means.blocks,
    }


def retrain_evidence(verdict: Document, window_ns: int) -> Document:
    """What a trainer is told of the verdict that asks for a training."""
    kept = ("model", "stable", "candidate", "kind", "reason", "digest", "features", "loss")
    end_ns = verdict["block_end_ns"]
    return {
        "cause": "drift",
        **{name: verdict[name] for name in kept},
        "version": verdict["stable"],
        "verdict": verdict["id"],
        "evidence_s": verdict["evidence_s"],
        "changed_after_ns": verdict["changed_after_ns"],
        "window_start_ns": end_ns - window_ns,
        "window_end_ns": end_ns,
        "shifts": [
            {name: shift[name] for name in ("name", "tensor", "index", "ks", "psi", "js")}
            for shift in verdict["shifts"]
        ],
    }


def budget_document(settings: CoreSettings) -> dict[str, Any]:
    """What may be raised falsely, and which group has which part of it.

    The groups' weights sum to 1, so what one is given is what the others lack.
    alone_s: the evidence that a group needs to page when no other has any.
    An annotation is a page's cause, so it has no budget of its own.
    """
    return {
        "page": budget_text(settings.budget_s),
        "warn": budget_text(settings.warn_budget_s),
        "groups": {
            group.name.lower(): {"weight": weight, "alone_s": settings.budget_s / weight}
            for group, weight in WEIGHTS.items()
        },
    }
