"""Temperature scaling of a fitted classifier by the rows that it did not train on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.special import log_softmax, softmax
from torch import Tensor

from sk_mixup._data.batches import Batch
from sk_mixup._tensors import to_double, to_host
from sk_mixup._training.averages import count_targets
from sk_mixup.estimators._links import Link
from sk_mixup.estimators._targets import Targets

__all__ = ["HeldOutScores", "find_temperature", "read_scores"]

# Standard deviation of the logarithm of the temperature, before any row is seen: rows that are all
# right would else ask for a temperature of 0, as the held-out rows of small tables often are.
PRIOR = 0.3
# The logarithm stays within this of 0.
WIDEST = 3.0
# The logarithm of the least number that is not 0.
LEAST_LOG = float(np.log(np.nextafter(0, 1)))


@dataclass(frozen=True)
class HeldOutScores:
    """What a classifier gives rows that it did not train on, and what they are.

    Attributes
    ----------
    log_proba : ndarray of shape (n, n_members, n_classes)
        Logarithms of the probabilities that each member of an implicit ensemble gives, or the one net; of
        several labels a row for each, with columns for no and yes.
    targets : ndarray of shape (n, n_classes)
        The distribution of each row over the classes.
    weight : ndarray of shape (n,)
        The weight of each row.
    """

    log_proba: np.ndarray
    targets: np.ndarray
    weight: np.ndarray

    @classmethod
    def of_labels(cls, log_proba: np.ndarray, targets: np.ndarray, weight: np.ndarray) -> HeldOutScores:
        """Take several labels per row, each with a probability of its own."""
        log_yes = np.minimum(log_proba, 0)
        with np.errstate(divide="ignore"):  # each form is exact on its side
            log_no = np.where(log_yes > -np.log(2), np.log(-np.expm1(log_yes)), np.log1p(-np.exp(log_yes)))
        pairs = np.stack([np.maximum(log_no, LEAST_LOG), log_proba], axis=-1).swapaxes(1, 2)
        both = np.stack([1 - targets, targets], axis=-1)
        n_labels = targets.shape[1]
        return cls(pairs.reshape(-1, *pairs.shape[2:]), both.reshape(-1, 2), np.repeat(weight, n_labels))

    @classmethod
    def join(cls, parts: Sequence[HeldOutScores]) -> HeldOutScores:
        """Take the rows of several."""
        columns = zip(*((part.log_proba, part.targets, part.weight) for part in parts), strict=True)
        return cls(*map(np.concatenate, columns))


def read_scores(
    pairs: Iterable[tuple[Batch, object]], targets: Targets, link: Link, criterion: object
) -> HeldOutScores:
    """Return the scores of rows, of batches of them and what a module returned for each.

    Rows count as they do in the mean of the criterion: by the weight of their class, and not at all where
    their label is ignored.
    """
    parts = []
    for batch, output in pairs:
        first = output[0] if isinstance(output, tuple) else output
        assert isinstance(first, Tensor), "checked before the first epoch"
        if targets.count_members(first):  # before they are averaged
            log_proba = _to_numpy(link.log(to_double(first)))
        else:
            log_proba = _to_numpy(targets.read(first, link.log, log=True))[:, None]
        weight = np.ones(len(log_proba)) if batch.weight is None else _to_numpy(to_double(batch.weight))
        counts = count_targets(criterion, batch.targets)
        weight = weight if counts is None else weight * _to_numpy(to_double(counts))
        make = HeldOutScores.of_labels if link.is_by_column else HeldOutScores
        parts.append(make(log_proba, targets.spread(_to_numpy(batch[1]), log_proba.shape[2]), weight))
    return HeldOutScores.join(parts)


def _to_numpy(tensor: Tensor) -> np.ndarray:
    return np.asarray(to_host(tensor))


def find_temperature(scores: HeldOutScores) -> float:
    """Return the temperature T at which probabilities ``softmax(log_proba / T)`` have the lowest loss.

    Those of several members are averaged.

    The loss is the weighted sum of NLL in nats, of weights whose mean is 1, and ``log(T)² / (2 * 0.3²)``: the
    posterior mode of T, whose prior is log-normal. Without the prior this is the temperature scaling of
    Guo et al. 2017, "On Calibration of Modern Neural Networks", https://arxiv.org/abs/1706.04599.
    Rows with a logarithm that is not finite are left out.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.estimators._temperature import HeldOutScores, find_temperature
    >>> log_proba, right = np.log([[[0.9, 0.1]]] * 100), np.eye(2)[[0] * 75 + [1] * 25]
    >>> round(find_temperature(HeldOutScores(log_proba, right, np.ones(100))), 3)
    1.647
    """
    is_known = np.isfinite(scores.log_proba).all(axis=(1, 2))
    log_proba, targets, weight = scores.log_proba[is_known], scores.targets[is_known], scores.weight[is_known]
    if not weight.sum() > 0:
        return 1.0
    weight = weight * (np.count_nonzero(weight) / weight.sum())

    def compute_slope(s: float) -> float:
        """Return the derivative of the loss by the logarithm of 1 / T."""
        power = np.exp(s)
        given = log_softmax(power * log_proba, axis=2)
        mean = (np.exp(given) * log_proba).sum(axis=2, keepdims=True)
        share = softmax(given, axis=1)  # of each member in the probability of a class
        gain = (share * (log_proba - mean)).sum(axis=1)
        return float(-power * (weight @ (targets * gain).sum(axis=1)) + s / PRIOR**2)

    if compute_slope(-WIDEST) >= 0 or compute_slope(WIDEST) <= 0:
        return float(np.exp(WIDEST if compute_slope(-WIDEST) >= 0 else -WIDEST))
    return float(np.exp(-brentq(compute_slope, -WIDEST, WIDEST, xtol=1e-13)))
