"""The report as one page that loads nothing: no script, no font, no picture from elsewhere."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from monitor.report.content import Content
from monitor.report.feature_sections import (
    all_features_section,
    features_section,
    predictions_section,
    quality_section,
)
from monitor.report.history_sections import (
    evidence_section,
    performance_section,
    story_section,
)
from monitor.report.markup import Html, element, join, shape
from monitor.report.outliers import outliers_section
from monitor.report.segments import segments_section
from monitor.report.summary import summary
from monitor.report.together import together_section
from monitor.report.words import duration

SECTIONS = (
    ("happened", "What happened", story_section),
    ("evidence", "Evidence", evidence_section),
    ("performance", "Performance", performance_section),
    ("features", "Features", features_section),
    ("together", "Features together", together_section),
    ("predictions", "Predictions", predictions_section),
    ("segments", "Segments", segments_section),
    ("outliers", "Unlike the reference", outliers_section),
    ("quality", "Data quality", quality_section),
    ("all", "All features", all_features_section),
)
NOTES = (
    (
        "Evidence",
        "How much speaks against “nothing has moved by more than the tolerance”, in days. With "
        "nothing wrong it reaches the budget once in that time on average, however often one "
        "looks. It alone pages.",
    ),
    (
        "Effect",
        "How large a change is. Effects inform and never page: small ones are no reason to act, "
        "however small their p-value.",
    ),
    (
        "By chance",
        "What chance alone makes of an effect with as many rows. Compare the two before the "
        "effect is taken for a change.",
    ),
    ("95 % interval", "For the effect without sampling error."),
    (
        "p-value",
        "For one look at one number; a hundred features give five below 0.05 by themselves.",
    ),
    (
        "Moved",
        "Named by the false discovery rule: among the features so named, few are wrong.",
    ),
)


def render(content: Content) -> str:
    """The page; the same content gives the same bytes."""
    style = files("monitor.report").joinpath("style.css").read_text()
    return "<!doctype html>\n" + element(
        "html", element("head", *_head(content, style)), element("body", *_body(content)), lang="en"
    )


def _head(content: Content, style: str) -> list[Html]:
    # Also a page that data had got into could load nothing and run nothing.
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
    return [
        shape("meta", charset="utf-8"),
        shape("meta", http_equiv="Content-Security-Policy", content=policy),
        shape("meta", name="viewport", content="width=device-width, initial-scale=1"),
        shape("meta", name="color-scheme", content="light dark"),
        element("title", f"{content.model}: drift report"),
        # Not escaped: it is ours, and the digest is of what the browser reads.
        Html(f"<style>{style}</style>"),
    ]


def _body(content: Content) -> list[Html]:
    links = [element("li", element("a", title, href=f"#{id_}")) for id_, title, _ in SECTIONS]
    sections = [
        element(
            "section",
            element("h2", title, id=id_),
            make(content),
            aria_labelledby=id_,
        )
        for id_, title, make in SECTIONS
    ]
    return [
        element("a", "Skip to the verdict", href="#verdict", class_="skip"),
        element(
            "header",
            element("p", "Drift report", class_="kicker"),
            element("h1", content.model),
            element("p", _subtitle(content), class_="note"),
        ),
        element("nav", element("ul", *links), aria_label="Sections"),
        element("main", summary(content), *sections, _notes()),
        element("footer", element("p", "Made by driftgate. This page loads nothing.")),
    ]


def _subtitle(content: Content) -> str:
    window = content.window_s
    asked = "" if window is None else f"The last {duration(window)} of its rows. "
    return f"{asked}{content.source}"


def _notes() -> Html:
    items = [join([element("dt", name), element("dd", text)]) for name, text in NOTES]
    return element(
        "section",
        element("h2", "How to read this", id="notes"),
        element("dl", *items, class_="notes"),
        aria_labelledby="notes",
    )
