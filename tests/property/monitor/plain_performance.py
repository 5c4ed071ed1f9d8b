"""The measures of performance once more, slow and obvious, from the rows themselves.

Imports nothing of the code that it judges. Definitions as in scikit-learn's documentation,
an undefined part of a mean over classes being 0.
"""

import numpy as np


def accuracy(said: list[str], truth: list[str]) -> float:
    return float(np.mean(np.array(said) == np.array(truth)))


def precision(said: list[str], truth: list[str], of: str) -> float:
    chosen = [t == of for s, t in zip(said, truth, strict=True) if s == of]
    return float(np.mean(chosen)) if chosen else float("nan")


def recall(said: list[str], truth: list[str], of: str) -> float:
    return precision(truth, said, of)


def f1(said: list[str], truth: list[str], of: str) -> float:
    if of not in {*said, *truth}:
        return float("nan")
    p, r = (np.nan_to_num(f(said, truth, of)) for f in (precision, recall))
    return float(2 * p * r / (p + r)) if p + r else 0.0


def macro(kind: str, said: list[str], truth: list[str]) -> float:
    of_class = {"precision": precision, "recall": recall, "f1": f1}[kind]
    classes = sorted({*said, *truth})
    return float(np.mean([np.nan_to_num(of_class(said, truth, name)) for name in classes]))


def log_loss(scores: np.ndarray, truth: np.ndarray) -> float:
    """scores: (n, c); truth: (n,) columns."""
    return float(-np.mean(np.log(np.maximum(scores[np.arange(len(truth)), truth], 2.0**-23))))


def brier(scores: np.ndarray, truth: np.ndarray) -> float:
    wanted = np.eye(scores.shape[1])[truth]
    if scores.shape[1] == 2:
        return float(np.mean((scores[:, 1] - wanted[:, 1]) ** 2))
    return float(np.mean(np.sum((scores - wanted) ** 2, axis=1)))


def calibration_error(scores: np.ndarray, truth: np.ndarray) -> float:
    top, right = scores.max(axis=1), scores.argmax(axis=1) == truth
    total = 0.0
    for k in range(15):
        inside = (top * 15 >= k) & ((top * 15 < k + 1) | (k == 14))
        if inside.any():
            total += inside.mean() * abs(right[inside].mean() - top[inside].mean())
    return float(total)


def roc_auc(scores: np.ndarray, positive: np.ndarray) -> float:
    """scores: (n,); positive: (n,) booleans."""
    highs, lows = scores[positive][:, None], scores[~positive][None]
    if not highs.size or not lows.size:
        return float("nan")
    return float(np.mean((highs > lows) + 0.5 * (highs == lows)))


def ranked_classes(scores: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """ROC AUC of each class against the rest by counting pairs, (macro, by prevalence).

    scores: (n, c); truth: (n,) columns, -1: of a class without one. A class that no row or
    every row is of has no part in the second mean, and leaves the first one undefined.
    """
    of_class, rows = [], []
    for k in range(scores.shape[1]):
        pairs = []
        for i in np.flatnonzero(truth == k):
            for j in np.flatnonzero(truth != k):
                high, low = scores[i, k], scores[j, k]
                pairs.append(1.0 if high > low else 0.5 if high == low else 0.0)
        of_class.append(sum(pairs) / len(pairs) if pairs else float("nan"))
        rows.append(int(np.sum(truth == k)))
    defined = [(area, count) for area, count in zip(of_class, rows, strict=True) if area == area]
    total = sum(count for _, count in defined)
    by_rows = sum(area * count for area, count in defined) / total if total else float("nan")
    return sum(of_class) / len(of_class), by_rows


def numbers(said: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    error = said - truth
    spread = np.sum((truth - truth.mean()) ** 2)
    return {
        "mae": float(np.mean(np.abs(error))),
        "rmse": float(np.sqrt(np.mean(error**2))),
        "r2": float(1 - np.sum(error**2) / spread) if spread else float("nan"),
    }


def median_error(said: np.ndarray, truth: np.ndarray) -> float:
    """The lower median."""
    return float(np.sort(np.abs(said - truth))[(len(said) - 1) // 2])
