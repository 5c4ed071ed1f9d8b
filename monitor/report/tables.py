"""Tables that a screen reader can walk and a phone can scroll."""

from collections.abc import Iterable, Sequence

from monitor.report.markup import Html, element, join


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> Html:
    """The first cell of each row names it; the first `left` columns are text, the rest numbers.
    The last column takes the room that there is.

    It scrolls by itself where it is wider than the page, by keyboard too.
    """
    kinds = [_kind(place, left, len(head)) for place in range(len(head))]
    first = element(
        "tr",
        *(element("th", c, scope="col", class_=k) for c, k in zip(head, kinds, strict=True)),
    )
    body = [
        element(
            "tr",
            element("th", row[0], scope="row"),
            *(element("td", c, class_=k) for c, k in zip(row[1:], kinds[1:], strict=True)),
        )
        for row in rows
    ]
    whole = element(
        "table",
        element("caption", caption),
        element("thead", first),
        element("tbody", join(body)),
    )
    return element("div", whole, class_="scroll", tabindex=0, role="region", aria_label=caption)


def _kind(place: int, left: int, columns: int) -> str | None:
    if place >= left:
        return "n"
    return "t" if 0 < place < columns - 1 else None
