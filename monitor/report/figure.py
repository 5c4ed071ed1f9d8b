"""A drawing with its words: drawn once for a desk and once for a phone.

A drawing that is only scaled down has letters that nobody can read. The one that does
not fit is not displayed, so a screen reader meets one of the two.
"""

from collections.abc import Callable, Iterable

from monitor.report.axes import Frame
from monitor.report.markup import Html, element, join

WIDE = Frame(960, 260, left=78)
NARROW = Frame(340, 220, left=68)


def drawing(parts: Iterable[str], frame: Frame, title: str, class_: str | None = None) -> Html:
    """An image to a screen reader, which says `title` and nothing of its parts."""
    inside = join([element("title", title), *parts])
    return element(
        "svg", inside, viewBox=f"0 0 {frame.width} {frame.height}", role="img", class_=class_
    )


def figure(
    draw: Callable[[Frame], Iterable[str]], title: str, caption: str, height: int | None = None
) -> Html:
    """draw: the parts of the drawing in a frame; caption: what is to be seen, for everybody."""
    frames = {"wide": WIDE, "narrow": NARROW}
    if height is not None:
        frames = {name: Frame(frame.width, height, frame.left) for name, frame in frames.items()}
    drawn = [drawing(draw(frame), frame, title, class_=name) for name, frame in frames.items()]
    return element("figure", *drawn, element("figcaption", caption))
