"""What ``corrupted-tables`` compares, and how it corrupts labels."""

from collections.abc import Sequence
from typing import Any

import numpy as np

__all__ = ["BASELINE", "FAMILIES", "PUBLISHED", "corrupt_labels", "find_family", "make_methods"]

BASELINE = "ERM"
FAMILIES = ("ERM", "dropout", "smoothing", "mixup")
# Table 2 of the paper, CIFAR-10 with PreAct ResNet-18, by share of replaced labels and method: best and
# last test error, training error on true and on corrupted labels, all in %.
PUBLISHED = {
    (0.2, "ERM"): (12.7, 16.6, 0.05, 0.28),
    (0.2, "mixup alpha 8"): (5.9, 6.4, 2.27, 86.32),
    (0.2, "dropout 0.7"): (8.8, 10.4, 5.26, 83.55),
    (0.5, "ERM"): (18.8, 44.6, 0.26, 0.64),
    (0.5, "dropout 0.8"): (14.1, 15.5, 12.71, 86.98),
    (0.5, "mixup alpha 32"): (11.3, 12.7, 5.84, 85.71),
    (0.8, "ERM"): (36.5, 73.9, 0.62, 0.83),
    (0.8, "dropout 0.8"): (30.9, 35.1, 29.84, 86.37),
    (0.8, "mixup alpha 32"): (25.3, 30.9, 18.92, 85.44),
}


def make_methods(
    *, dropouts: Sequence[float], smoothings: Sequence[float], alphas: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Return each method's options of the classifier by its name; ERM is the first.

    Examples
    --------
    >>> from benchmarks.corrupted_tables.methods import make_methods
    >>> list(make_methods(dropouts=[0.5], smoothings=[0.1], alphas=[1, 8]))
    ['ERM', 'dropout 0.5', 'smoothing 0.1', 'mixup alpha 1', 'mixup alpha 8']
    """
    return {
        BASELINE: {"alpha": 0},
        **{f"dropout {p:g}": {"alpha": 0, "module__dropout": p} for p in dropouts},
        **{f"smoothing {share:g}": {"alpha": 0, "label_smoothing": share} for share in smoothings},
        **{f"mixup alpha {alpha:g}": {"alpha": alpha} for alpha in alphas},
    }


def find_family(method: str) -> str:
    """Return which of ``FAMILIES`` a method's name belongs to."""
    return method.partition(" ")[0]


def corrupt_labels(y: np.ndarray, noise: float, seed: int) -> np.ndarray:
    """Return labels of which a share is replaced by labels drawn from all classes, each class as likely.

    ``round(noise * n_samples)`` labels are replaced; of c classes, one replaced label in c is the true one
    again. With one seed, what is replaced at a lower share is replaced by the same labels at a higher one.
    """
    generator = np.random.default_rng(seed)
    rows = generator.permutation(y.size)[: round(noise * y.size)]
    drawn = generator.choice(np.unique(y), size=y.size)
    corrupted = y.copy()
    corrupted[rows] = drawn[rows]
    return corrupted
