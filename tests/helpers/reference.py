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


def paste_row(image, partner, box):
    """Take the pixels inside the rectangle from the partner, the others from the image, one by one."""
    top, bottom, left, right = (int(edge) for edge in box)
    pasted = np.array(image, dtype=np.float64)
    for channel, i, j in np.ndindex(*pasted.shape):
        if top <= i < bottom and left <= j < right:
            pasted[channel, i, j] = partner[channel][i][j]
    return pasted


def swap_row(mixed, own, partner, marks):
    """Take the features marked 1 from the row and those marked 2 from its partner, one by one."""
    return np.array([(mixed, own, partner)[int(mark)][j] for j, mark in enumerate(marks)], dtype=np.float64)


def normal_rows(seed, bounds, shape):
    """Standard normal numbers of an epoch: each batch has a generator of its own, each row its turn."""
    rows = []
    for batch in range(len(bounds) - 1):
        generator = np.random.Generator(np.random.Philox(key=np.array([seed, batch], dtype=np.uint64)))
        rows += [generator.standard_normal(shape) for _ in range(bounds[batch], bounds[batch + 1])]
    return rows


def noisy_row(row, noise, std):
    """Add noise number by number."""
    pairs = zip(np.ravel(row).tolist(), np.ravel(noise).tolist(), strict=True)
    return np.reshape([x + float(std) * e for x, e in pairs], np.shape(row))


def box_row(lam, centre, height, width):
    """Rectangle of one image from its weight and its centre, clipped at the edges."""
    box = []
    for length, middle in zip((height, width), centre, strict=True):
        cut = int(length * math.sqrt(1 - lam))
        start = int(middle) - cut // 2
        box += [max(start, 0), min(start + cut, length)]
    return box


def neighbor_distances_row(inputs, row, others):
    """Distances of one row to some others, the smallest first."""
    flat = [np.ravel(x).astype(np.float64).tolist() for x in inputs]
    return sorted(math.dist(flat[row], flat[other]) for other in others if other != row)


def kernel_row(targets, row, bandwidth):
    """Probability of each row to be the partner of one, by a Gaussian kernel on the targets."""
    points = [np.ravel(t).astype(np.float64).tolist() for t in targets]
    weights = [math.exp(-0.5 * (math.dist(points[row], other) / bandwidth) ** 2) for other in points]
    return [weight / sum(weights) for weight in weights]
