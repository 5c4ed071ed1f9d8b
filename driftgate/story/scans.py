"""The demo's data: scikit-learn's bundled digits, and what can happen to a scanner.

1,797 real 8x8 scans of handwritten digits, pixels 0 to 16 (UCI "Optical
Recognition of Handwritten Digits"). Half is the training set and reference, the
other half is replayed as traffic, drawn with replacement.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Rows: TypeAlias = NDArray[np.float32]  # (n, 64), row-major pixels
Labels: TypeAlias = NDArray[np.int64]  # (n,)

SIDE = 8
PIXELS = SIDE * SIDE
PIXEL_MAX = 16.0
TRAINING_ROWS = 900
BLUR_SIGMA = 0.6  # pixels
NOISE_SIGMA = 2.0  # on the scale 0 to 16
PALE = 0.7  # of the ink: every pixel moves, and the digits are as easy to read
FEATURE_NAMES = tuple(f"pixel_{r}_{c}" for r in range(SIDE) for c in range(SIDE))


@dataclass(frozen=True, slots=True)
class Scans:
    """The two halves; nothing of the replay half is ever trained on."""

    training: Rows
    training_labels: Labels
    replay: Rows
    replay_labels: Labels

    @property
    def digest(self) -> str:
        """sha256 of the training half, for the lineage of what is trained on it."""
        content = self.training.tobytes() + self.training_labels.tobytes()
        return hashlib.sha256(content).hexdigest()


def load_scans(seed: int) -> Scans:
    """The digits, shuffled by `seed` and cut in two."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.default_rng(seed).permutation(len(digits.data))
    pixels = digits.data.astype(np.float32)[order]
    labels = digits.target.astype(np.int64)[order]
    cut = TRAINING_ROWS
    return Scans(pixels[:cut], labels[:cut], pixels[cut:], labels[cut:])


def read_by_columns(rows: Rows) -> Rows:
    """The same scans flattened column by column: the bug behind version 3."""
    return rows.reshape(-1, SIDE, SIDE).transpose(0, 2, 1).reshape(-1, PIXELS).copy()


def dirty(rows: Rows, rng: np.random.Generator) -> Rows:
    """What a dirty scanner makes of `rows`: blur and noise, clipped, not rescaled."""
    from scipy.ndimage import gaussian_filter

    images = rows.reshape(-1, SIDE, SIDE)
    blurred = gaussian_filter(images, (0.0, BLUR_SIGMA, BLUR_SIGMA))
    noisy = blurred + rng.normal(0.0, NOISE_SIGMA, blurred.shape)
    clipped: Rows = np.clip(noisy, 0.0, PIXEL_MAX).reshape(-1, PIXELS).astype(np.float32)
    return clipped


def pale(rows: Rows, _: np.random.Generator) -> Rows:
    """Written with a paler pen: other inputs, and no reason to read them otherwise."""
    return (rows * PALE).astype(np.float32)


def rescaled(rows: Rows, _: np.random.Generator) -> Rows:
    """Pixels from 0 to 1, as somebody upstream thought they should be."""
    return (rows / PIXEL_MAX).astype(np.float32)


def _as_they_are(rows: Rows, _: np.random.Generator) -> Rows:
    return rows


# By the word that the traffic is told.
CONDITIONS: dict[str, Callable[[Rows, np.random.Generator], Rows]] = {
    "clean": _as_they_are,
    "dirty": dirty,
    "pale": pale,
    "rescaled": rescaled,
}
