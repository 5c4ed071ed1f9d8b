"""Performance estimated without labels once more, row by row; imports nothing of ours.

Rows come with a score that stands for their place in the order (the middle of a narrow bin,
so that near ones tie) and one that is their own.
"""

import numpy as np


def groups(scores: list[float], truth: list[bool], width: dict[float, tuple[float, float]]):  # type: ignore[no-untyped-def]
    """[[scores], [truth]] of labelled rows by rising score; width: from where to where a bin is."""
    wanted = max(25, int(np.ceil(len(scores) / 40)))
    found: list[tuple[list[float], list[bool]]] = []
    for value in sorted(set(scores)):
        own = [t for s, t in zip(scores, truth, strict=True) if s == value]
        last = found[-1] if found else None
        if last is None or len(last[0]) >= wanted or _wide(last[0][0], value, width):
            found.append(([], []))
        found[-1][0].extend([value] * len(own))
        found[-1][1].extend(own)
    if len(found) > 1 and len(found[-1][0]) < wanted:
        (before, of_before), (rest, of_rest) = found[-2], found[-1]
        if not _wide(before[0], rest[-1], width):
            found[-2:] = [(before + rest, of_before + of_rest)]
    return found


def _wide(low: float, high: float, width: dict[float, tuple[float, float]]) -> bool:
    return width[high][1] - width[low][0] > 0.2


def chances(scores: list[float], found: list[tuple[list[float], list[bool]]]) -> np.ndarray:
    """A line from the middle of each group to that of the next."""
    middles = [float(np.mean(own)) for own, _ in found]
    shares = [float(np.mean(truth)) for _, truth in found]
    return np.interp(scores, middles, shares)


def expected(
    order: np.ndarray, scores: np.ndarray, said: np.ndarray, chance: np.ndarray
) -> dict[str, float]:
    """Measures of rows that are positive with their chance each; ties by `order`."""
    true, both = chance.sum(), chance[said].sum()
    beats = (order[:, None] > order[None]) + 0.5 * (order[:, None] == order[None])
    pairs = chance[:, None] * (1 - chance[None])
    floor = 2.0**-23
    return {
        "accuracy": float(np.where(said, chance, 1 - chance).mean()),
        "precision": float(chance[said].mean()) if said.any() else float("nan"),
        "recall": float(both / true) if true else float("nan"),
        "f1": float(2 * both / (true + said.sum())) if true + said.sum() else float("nan"),
        "log_loss": float(
            np.mean(
                -chance * np.log(np.maximum(scores, floor))
                - (1 - chance) * np.log(np.maximum(1 - scores, floor))
            )
        ),
        "brier": float(np.mean(chance * (1 - scores) ** 2 + (1 - chance) * scores**2)),
        "roc_auc": float((pairs * beats).sum() / (true * (1 - chance).sum()))
        if true and (1 - chance).sum()
        else float("nan"),
    }


def realised(scores: np.ndarray, said: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    """What labels say: the same with chances that are 0 or 1, and ties of scores alone."""
    return expected(scores, scores, said, truth.astype(float))


def least_loss(
    scores: np.ndarray,
    said: np.ndarray,
    found: list[tuple[list[float], list[bool]]],
    width: dict[float, tuple[float, float]],
    scale: float | None,
) -> float:
    """Expected losses less 3.09 deviations of what is not known of the groups' shares.

    Rows whose score is not within 0.02 of a group of 25 labels count for nothing.
    """
    middles = [float(np.mean(own)) for own, _ in found]
    counts = [(len(own), sum(truth)) for own, truth in found]
    total, by_group = 0.0, np.zeros(len(found))
    for score, is_positive in zip(scores.tolist(), said.tolist(), strict=True):
        near = [
            width[own[0]][0] - 0.02 <= score <= width[own[-1]][1] + 0.02
            for own, _ in found
            if len(own) >= 25
        ]
        if not any(near):
            continue
        parts = [np.interp(score, middles, unit) for unit in np.eye(len(found))]
        chance = sum(p * k / n for p, (n, k) in zip(parts, counts, strict=True))
        if scale is None:
            if_true, if_not = (0.0, 1.0) if is_positive else (1.0, 0.0)
        else:
            if_true, if_not = min((1 - score) / scale, 1.0), min(score / scale, 1.0)
        total += chance * if_true + (1 - chance) * if_not
        by_group += np.array(parts) * (if_true - if_not)
    shares = [((k + 0.5) / (n + 1), n + 1) for n, k in counts]
    variance = sum(b**2 * p * (1 - p) / n for b, (p, n) in zip(by_group, shares, strict=True))
    return max(float(total - 3.090232306 * np.sqrt(variance)), 0.0)
