"""Slow, obvious versions of what the package computes: one row, one number at a time."""

import math

import numpy as np


def mix_row(rows, weights):
    """Add up examples, feature by feature, in Python floats."""
    flat = [np.asarray(row, dtype=np.float64).ravel() for row in rows]
    mixed = [sum(w * x[j] for w, x in zip(weights, flat, strict=True)) for j in range(len(flat[0]))]
    return np.reshape(mixed, np.shape(rows[0]))


def cross_entropy_row(logits, label, label_smoothing=0.0):
    """Cross-entropy of one row against one class."""
    logits = [float(z) for z in logits]
    log_total = math.log(sum(math.exp(z - max(logits)) for z in logits)) + max(logits)
    losses = [log_total - z for z in logits]
    return (1 - label_smoothing) * losses[label] + label_smoothing * sum(losses) / len(losses)


def binary_cross_entropy_row(logits, target, label_smoothing=0.0):
    """Mean binary cross-entropy of one row against its indicators."""
    losses = []
    for z, t in zip(map(float, logits), map(float, target), strict=True):
        t = (1 - label_smoothing) * t + label_smoothing / 2
        p = 1 / (1 + math.exp(-z))
        losses.append(-t * math.log(p) - (1 - t) * math.log(1 - p))
    return sum(losses) / len(losses)


def squared_error_row(prediction, target):
    """Mean squared error of one row."""
    errors = [(float(p) - float(t)) ** 2 for p, t in zip(prediction, target, strict=True)]
    return sum(errors) / len(errors)


def mixed_loss(row_loss, predictions, targets, lam, weight=None):
    """``sum_i w_i sum_k lam_ki l(f_i, y_ki) / sum_i w_i``, row by row and example by example."""
    total = divisor = 0.0
    for i in range(len(predictions)):
        w = 1.0 if weight is None else float(weight[i])
        for k in range(len(lam)):
            total += w * float(lam[k][i]) * row_loss(predictions[i], targets[k][i])
        divisor += w
    return total / divisor
