"""Rows under each other, for a terminal."""

from collections.abc import Collection, Sequence


def table(rows: Sequence[tuple[str, ...]], left: Collection[int]) -> list[str]:
    """Lines of columns under each other; those numbered in `left` are set to the left."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if i in left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
