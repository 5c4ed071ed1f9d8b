"""The verdict in a sentence, and the few facts that a reader needs first."""

from collections.abc import Iterator

from monitor.core.judge import Kind
from monitor.report.content import Content
from monitor.report.markup import Html, element
from monitor.report.words import amount, count, days, share

# What to do, and how loud it is: ok, watch, act.
HEADLINES: dict[Kind, tuple[str, str]] = {
    Kind.HEALTHY: ("Nothing to do.", "ok"),
    Kind.WARN: ("Keep an eye on it.", "watch"),
    Kind.ANNOTATE: ("The data moved, the loss did not.", "watch"),
    Kind.UPSTREAM: ("Broken data reaches the model: mend its source.", "act"),
    Kind.ROLLBACK: ("Roll the candidate back.", "act"),
    Kind.RETRAIN: ("Retrain the model.", "act"),
    Kind.RECOVERING: ("The candidate does better: let it go on.", "watch"),
    Kind.INCONCLUSIVE: ("It is not settled yet.", "watch"),
    Kind.PAGE: ("A person should look.", "act"),
    Kind.BLIND: ("Too few of the rows were seen to judge.", "watch"),
}


def tone_of(kind: str) -> str:
    return HEADLINES[Kind(kind)][1]


def summary(content: Content) -> Html:
    """The head of the page: verdict, sentence, facts."""
    state = content.state
    headline, tone = HEADLINES[Kind(state["verdict"])]
    pill = element("span", state["verdict"], class_=f"pill {tone}")
    facts = [
        element("div", element("dt", name), element("dd", value)) for name, value in _facts(content)
    ]
    return element(
        "section",
        element("h2", "Verdict", id="verdict"),
        element("p", pill, " ", element("strong", headline), class_="lead"),
        element("p", _sentence(content)),
        element("dl", *facts, class_="facts"),
        aria_labelledby="verdict",
    )


def _sentence(content: Content) -> str:
    state = content.state
    reason = str(state["reason"])
    parts = [f"{reason[:1].upper()}{reason[1:]}."] if reason else []
    parts.append(
        f"Evidence of a change stands at {days(state['evidence_s'])}, "
        f"the budget is {days(state['threshold_s'])}."
    )
    if content.verdicts:
        last = content.verdicts[-1]
        when = content.clock.moment(last["block_end_ns"])
        raised = amount(len(content.verdicts), "verdict")
        parts.append(f"{raised} raised in this time, the last “{last['kind']}” at {when}.")
    else:
        parts.append("No verdict was raised in this time.")
    return " ".join(parts)


def _facts(content: Content) -> Iterator[tuple[str, str]]:
    state, timeline = content.state, content.timeline
    total = timeline.total()
    stable, candidate = state["stable"], state["candidate"]
    if stable:
        yield "Stable version", stable["version"]
    if candidate:
        yield "Candidate", candidate["version"]
    if timeline.start_ns is not None:
        moment = content.clock.moment
        yield "From", moment(timeline.start_ns)
        yield "To", moment(timeline.end_ns)
    yield "Rows", count(total.rows)
    labelled = total.stable_loss.rows + total.candidate_loss.rows
    yield "Rows with a label", count(labelled)
    inputs = [effect for effect in content.effects if effect.log_evidence is not None]
    moved = sum(effect.named for effect in inputs)
    yield "Features that moved", f"{count(moved)} of {count(len(inputs))}"
    if total.rows + total.lost:
        yield "Rows seen", share(total.rows / (total.rows + total.lost))
