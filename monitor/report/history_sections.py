"""The sections about time: what happened, evidence, performance."""

from collections.abc import Iterator, Mapping
from typing import Any

from monitor.core.performance.intervals import wilson
from monitor.report.content import Content
from monitor.report.figure import figure
from monitor.report.markup import Html, element, join
from monitor.report.measures import measures_part
from monitor.report.slices import fairness_part, slices_part
from monitor.report.summary import tone_of
from monitor.report.tables import table
from monitor.report.time_charts import evidence_parts, loss_parts, story_parts
from monitor.report.timeline import Losses
from monitor.report.words import amount, count, days, duration, number

EVENTS_MAX = 60  # in the list, the newest
GROUPS = {
    "features": "Inputs: the shares of their values",
    "quality": "Missing, non-finite and unseen values",
    "predictions": "Predictions",
    "loss": "Loss of labelled rows",
    "candidate": "The candidate's loss",
    "comparison": "Candidate against stable, in the same blocks",
    "estimated": "Loss as the scores have it, before labels come",
}
# What is told of a verdict's document under the names that people know.
Event = tuple[int, str, str, str]  # when, what, why, class


def story_section(content: Content) -> Html:
    """Versions, traffic, verdicts and actions on one line of time, and as a list."""
    events = sorted([*_verdicts(content), *_actions(content)])
    left_out = max(len(events) - EVENTS_MAX, 0)
    shown = list(enumerate(events[left_out:], 1))
    marks = [(at, str(n), kind) for n, (at, _, _, kind) in shown]
    drawn = figure(
        lambda frame: story_parts(content.timeline, marks, content.clock, frame),
        "Versions, traffic, verdicts and actions over time",
        "Which version answered, how many rows there were, and where verdicts were raised and "
        "actions taken. The numbers are those of the list.",
        height=190,
    )
    listed = element("p", "No verdict was raised and no action taken.", class_="empty")
    if shown:
        items = [_event(content.clock.moment(at), what, why) for _, (at, what, why, _) in shown]
        listed = element("ol", *items, class_="events", aria_label="Verdicts and actions")
    if left_out:
        note = element("p", f"{amount(left_out, 'earlier event')} left out.", class_="empty")
        listed = join([listed, note])
    return join([drawn, listed])


def _event(when: str, what: str, why: str) -> Html:
    head = element("strong", what)
    return element("li", element("span", when, class_="when"), " ", head, ": ", why)


def _verdicts(content: Content) -> Iterator[Event]:
    for verdict in content.verdicts:
        what = f"{verdict['kind']}"
        moved = list(verdict["features"])
        why = str(verdict["reason"])
        if moved:
            named = ", ".join(moved[:5])
            more = f" and {len(moved) - 5} more" if len(moved) > 5 else ""
            why += f"; moved: {named}{more}"
        yield verdict["block_end_ns"], what, why, tone_of(verdict["kind"])


def _actions(content: Content) -> Iterator[Event]:
    for action in content.actions:
        what = f"action {action['action']}"
        yield action["at_ns"], what, action["state"], "action"


def evidence_section(content: Content) -> Html:
    """Evidence over time against the budget, and what it is about."""
    state, timeline = content.state, content.timeline
    threshold_s, warn_s = state["threshold_s"], state["warn_threshold_s"]
    highest = timeline.total().evidence_s
    drawn = figure(
        lambda frame: evidence_parts(timeline, threshold_s, warn_s, content.clock, frame),
        f"Evidence over time on a logarithmic axis in days; highest {days(highest)}, "
        f"budget {days(threshold_s)}",
        f"Highest: {days(highest)}. A page is raised where the line reaches the budget of "
        f"{days(threshold_s)}; with nothing wrong that is once in {days(threshold_s)} on average, "
        "over everything the model is watched for.",
    )
    groups: Mapping[str, float] = state["groups_s"]
    rows = [(GROUPS.get(name, name), days(value)) for name, value in groups.items()]
    if not rows:
        return drawn
    head = ("What is watched", "own evidence")
    return join([drawn, table("Evidence now, by what it is about", head, rows)])


def performance_section(content: Content) -> Html:
    """Mean loss with intervals, where there are labels."""
    total = content.timeline.total()
    known: Mapping[str, Any] = content.state["loss"]
    arms = {"Stable": total.stable_loss, "Candidate": total.candidate_loss}
    if not any(losses.rows for losses in arms.values()):
        text = "No label has arrived for rows of this time, so nobody knows the loss."
        return join([element("p", text, class_="empty"), *_by_labels(content)])
    levels = {"reference": known["reference"], "bound": known["bound"]}
    width_ns, _ = content.timeline.buckets(40)
    drawn = figure(
        lambda frame: loss_parts(content.timeline, levels, content.clock, frame),
        "Mean loss over time with 95 % intervals",
        f"Mean loss of the labels of each {duration(width_ns / 1e9)} with its 95 % interval: dots "
        "for the stable version, diamonds for the candidate. 0 is always right, 1 is always wrong "
        "(for numbers: wrong by the whole range of the reference).",
    )
    rows = [_arm(name, losses) for name, losses in arms.items() if losses.rows]
    if known["reference"] is not None:
        rows.append(("Reference", "", number(known["reference"]), ""))
    if known["bound"] is not None:
        rows.append(("Bound", "", number(known["bound"]), ""))
    estimated = content.state["estimated_loss"]
    if estimated is not None:
        rows.append(("Estimated now, without labels", "", *_estimated(estimated)))
    head = ("", "labelled rows", "mean loss", "95 % interval")
    note = (
        "The bound is the reference's loss with its own error and the tolerance; evidence gathers "
        "above it. Intervals (Wilson) take the rows as independent of each other."
    )
    return join(
        [
            drawn,
            table("Loss", head, rows),
            element("p", note, class_="note"),
            *_by_labels(content),
        ]
    )


def _estimated(estimated: Mapping[str, Any]) -> tuple[str, str]:
    """Its value, or why there is none; an interval is not told: it is a least value."""
    if estimated["reason"]:
        return "", f"withheld: {estimated['sentence']}"
    return f"at least {number(estimated['value'])}", ""


def _by_labels(content: Content) -> list[Html]:
    return [
        measures_part(content.performance),
        slices_part(content.performance),
        fairness_part(content.fairness),
    ]


def _arm(name: str, losses: Losses) -> tuple[str, ...]:
    low, high = wilson(losses.mean, losses.rows)
    interval = f"{number(low)} to {number(high)}"
    return name, count(losses.rows), number(losses.mean), interval
