"""The sections about features: those with most evidence in detail, all as a table, quality."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from monitor.core.bins import ABOVE, BELOW, MISSING, NONFINITE, UNSEEN
from monitor.core.effects import Effect
from monitor.documents import seconds
from monitor.drift_documents import one_drift_document
from monitor.report.content import Content
from monitor.report.distribution import distribution
from monitor.report.markup import Html, element, join
from monitor.report.tables import table
from monitor.report.words import count, days, duration, number, share
from monitor.report.words import effect as effect_size

DETAILED = 12  # features with a picture and every statistic; about a tenth of a second each
LISTED = 1000  # in the tables
HEADLINE = {"ks": "KS", "psi": "PSI", "js": "JS", "wasserstein_scaled": "Wasserstein"}
QUALITY = {
    "missing": MISSING,
    "not finite": NONFINITE,
    "unseen": UNSEEN,
    "below the range": BELOW,
    "above the range": ABOVE,
}


def inputs_of(content: Content) -> list[Effect]:
    return [effect for effect in content.effects if effect.log_evidence is not None]


def predictions_of(content: Content) -> list[Effect]:
    return [effect for effect in content.effects if effect.log_evidence is None]


def features_section(content: Content) -> Html:
    """Cards of the features with most evidence."""
    inputs = inputs_of(content)
    if not inputs:
        return element("p", _no_reference(content), class_="empty")
    shown = inputs[:DETAILED]
    rest = len(inputs) - len(shown)
    intro = f"{_live_words(content)} Most evidence first"
    intro += f"; the other {count(rest)} stand in the table of all features." if rest else "."
    notes = [element("p", note) for note in _own_traffic(content)]
    return join([element("p", intro), *notes, _legend(), _cards(content.model, shown)])


def _own_traffic(content: Content) -> Iterator[str]:
    """What a rolling reference is of, and how far live traffic is from the pushed one."""
    stable = content.state["stable"]
    rolling = stable["reference"]["rolling"] if stable else None
    if rolling is None:
        return
    text = (
        f"The reference is the version's own traffic of {duration(rolling['span_s'])}, which "
        f"ended {duration(rolling['age_s'])} before"
    )
    yield (
        f"{text}; it stays as it is while the verdict stands." if rolling["frozen"] else f"{text}."
    )
    training = stable["reference"]["training"]
    if training is not None:
        told = (item for item in training["features"] if item["ks"] is not None)
        named = ", ".join(f"{item['name']} {number(item['ks'])}" for item in told)
        yield f"Kolmogorov-Smirnov of live values from the pushed reference: {named or 'none'}."


def _no_reference(content: Content) -> str:
    stable = content.state["stable"]
    text = "This version has no reference, so its inputs cannot be compared with anything."
    warming = stable["reference"]["warming_up"] if stable else None
    return f"{text} One is made of its traffic: {warming['reason']}." if warming else text


def predictions_section(content: Content) -> Html:
    """Cards of what the model answers."""
    answers = predictions_of(content)
    if not answers:
        return element("p", "The reference holds no predictions.", class_="empty")
    return join([_legend(), _cards(content.model, answers)])


def _live_words(content: Content) -> str:
    live_s = content.state["settings"]["live_window_s"]
    return (
        f"“Live” is the end of the time shown: the last {duration(live_s)} to "
        f"{duration(2 * live_s)}."
    )


def _legend() -> Html:
    return element(
        "p",
        element("span", "", class_="key reference"),
        "reference ",
        element("span", "", class_="key live"),
        "live",
        class_="legend",
        aria_hidden="true",
    )


def _cards(model: str, effects: Sequence[Effect]) -> Html:
    return element("div", *(_card(model, effect) for effect in effects), class_="cards")


def _card(model: str, effect: Effect) -> Html:
    document = one_drift_document(model, effect)
    name = effect.feature.name
    badge = element("span", "moved", class_="pill watch") if effect.named else ""
    head = element("h3", name, " ", badge)
    parts = [
        head,
        element("p", _card_words(effect, document), class_="note"),
        distribution(effect),
        _summary_table(name, document["summary"]) if document["summary"] else "",
        element(
            "details",
            element("summary", "All statistics of ", element("span", name, class_="name")),
            _statistics_table(name, document),
        ),
    ]
    return element("article", *parts, class_="card")


def _card_words(effect: Effect, document: dict[str, Any]) -> str:
    words = f"{document['kind']}, {count(document['rows'])} live rows against "
    words += f"{count(document['reference_rows'])}"
    if effect.log_evidence is not None:
        words += f"; own evidence {days(seconds(effect.log_evidence))}"
    return words + "."


def _summary_table(name: str, summary: dict[str, dict[str, float | None]]) -> Html:
    columns = {"mean": "mean", "deviation": "dev.", "p05": "5 %", "p50": "50 %", "p95": "95 %"}
    spread = summary["reference"]["deviation"]
    rows = [
        (side, *(number(summary[side][key], spread) for key in columns))
        for side in ("reference", "live")
    ]
    return table(f"Moments and quantiles of {name}", ("", *columns.values()), rows)


def _statistics_table(name: str, document: dict[str, Any]) -> Html:
    head = ("statistic", "effect", "by chance", f"{document['level']:.0%} interval", "p-value")
    rows = []
    for item in document["statistics"]:
        size, low, high = item["effect"], item["low"], item["high"]
        interval = number(None)
        if low is not None:
            interval = f"{number(low, size)} to {number(high, size)}"
        by_chance, p_value = number(item["null_mean"], size), number(item["p_value"])
        rows.append((item["title"], number(size), by_chance, interval, p_value))
    return table(f"Statistics of {name}", head, rows)


def all_features_section(content: Content) -> Html:
    """Headline effects of every feature and of the predictions."""
    inputs, answers = inputs_of(content), predictions_of(content)
    if not inputs and not answers:
        return element("p", "There is nothing to compare with.", class_="empty")
    shown = inputs[:LISTED]
    head = ("feature", "kind", "moved", "live rows", "distinct values", *HEADLINE.values())
    rows = [_effect_row(effect) for effect in (*answers, *shown)]
    parts = [table("Effect sizes, live against reference", (*head, "evidence"), rows, left=3)]
    if len(inputs) > len(shown):
        text = f"{count(len(inputs) - len(shown))} features with less evidence are left out."
        parts.append(element("p", text, class_="empty"))
    return join(parts)


def _effect_row(effect: Effect) -> tuple[str, ...]:
    evidence = effect.log_evidence
    return (
        effect.feature.name,
        effect.feature.kind.value,
        "moved" if effect.named else "",
        count(int(effect.live.sum())),
        _distinct(effect),
        *(effect_size(effect.statistics.get(name)) for name in HEADLINE),
        number(None) if evidence is None else days(seconds(evidence)),
    )


def _distinct(effect: Effect) -> str:
    before, now = effect.feature.distinct_values, effect.distinct
    if effect.log_evidence is None or before is None:
        return number(None)
    return f"{count(before)} → {number(None) if now is None else count(now)}"


def quality_section(content: Content) -> Html:
    """Values that are missing or impossible, and rows that are in no statistic."""
    found = list(_of_rows(content))
    rows = [row for effect in content.effects if (row := _quality_row(effect)) is not None]
    parts: list[Html] = []
    if found:
        parts.append(element("ul", *(element("li", text) for text in found)))
    if rows:
        rows.sort(key=lambda row: -row[0])
        head = ("feature", *(name for name in QUALITY))
        caption = "Shares of the values, reference → live, largest change first"
        parts.append(table(caption, head, [cells for _, cells in rows[:LISTED]]))
    else:
        text = "No value is missing, non-finite, beyond the reference's range or new."
        parts.append(element("p", text, class_="empty"))
    return join(parts)


def _quality_row(effect: Effect) -> tuple[float, tuple[str, ...]] | None:
    """The largest change and the cells; None where there is nothing to say."""
    slots = list(QUALITY.values())
    sides = [c[slots] / max(int(c.sum()), 1) for c in (effect.feature.counts, effect.live)]
    if not any(side.any() for side in sides):
        return None
    cells = [
        f"{share(float(before))} → {share(float(now))}" if before or now else number(None)
        for before, now in zip(*sides, strict=True)
    ]
    return float(np.max(np.abs(sides[1] - sides[0]))), (effect.feature.name, *cells)


def _repeated(found: Mapping[str, Any] | None) -> Iterator[str]:
    if found is None or not found["live"]:
        return
    text = f"{share(found['live'])} of {count(found['rows'])} rows repeat another of their block"
    if found["reference"] is None:
        yield f"{text}."
    else:
        yield f"{text}; of rows drawn from the reference {share(found['reference'])} would."


def _of_rows(content: Content) -> Iterator[str]:
    state = content.state
    lost = content.timeline.total().lost
    if lost:
        yield f"{count(lost)} rows of this time were lost or late: they are in no statistic."
    yield from _repeated(state["repeated_rows"])
    stable = state["stable"]
    if stable and stable["mismatched"]:
        yield f"{count(stable['mismatched'])} rows did not have the reference's tensors."
    if stable and stable["withheld"]:
        yield f"The log's policy withholds: {', '.join(stable['withheld'])}."
    fates = {fate: n for fate, n in state["labels"].items() if fate != "joined"}
    if fates:
        told = ", ".join(f"{count(n)} {fate}" for fate, n in sorted(fates.items()))
        yield f"Labels that could not be used: {told}."
