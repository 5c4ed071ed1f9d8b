"""How a limited read is divided over partitions."""

from collections.abc import Mapping


def shares(backlog: Mapping[str, int], limit: int) -> dict[str, int]:
    """Records to take per partition: equal shares, what one leaves goes to the others.

    backlog: records waiting per partition. Returns: in the order of `backlog`,
    counts that add up to min(limit, sum(backlog)).
    """
    taken: dict[str, int] = {}
    left = limit
    ascending = sorted(backlog, key=lambda name: backlog[name])
    for index, name in enumerate(ascending):
        share = -(-left // (len(ascending) - index))  # rounded up: the limit is always used
        taken[name] = min(backlog[name], share)
        left -= taken[name]
    return {name: taken[name] for name in backlog}
