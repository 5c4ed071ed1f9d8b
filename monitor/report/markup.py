"""HTML that cannot be broken by data: text is escaped unless it was made here.

Law: `Html` is made by `element`, `shape` and `join` alone, so whatever comes from a
model, a feature's name or a reason passes through `html.escape` exactly once.
"""

import html
from collections.abc import Iterable

Attribute = str | int | float | bool | None


class Html(str):
    """Markup, not to be escaped again."""

    __slots__ = ()


def element(name: str, /, *children: str, **attributes: Attribute) -> Html:
    """`<name ...>children</name>`; children that are not Html are escaped.

    attributes: `class_` is class, other underscores are hyphens; None and False leave
    the attribute out, True is one without a value.
    """
    return Html(f"<{name}{_attributes(attributes)}>{join(children)}</{name}>")


def shape(name: str, /, **attributes: Attribute) -> Html:
    """An element of SVG that holds nothing."""
    return Html(f"<{name}{_attributes(attributes)}/>")


def join(children: Iterable[str]) -> Html:
    return Html("".join(c if isinstance(c, Html) else html.escape(c) for c in children))


def _attributes(attributes: dict[str, Attribute]) -> str:
    return "".join(
        _attribute(name.rstrip("_").replace("_", "-"), value)
        for name, value in attributes.items()
        if value is not None and value is not False
    )


def _attribute(name: str, value: Attribute) -> str:
    if value is True:
        return f" {name}"
    text = f"{value:.1f}".removesuffix(".0") if isinstance(value, float) else str(value)
    return f' {name}="{html.escape(text)}"'
