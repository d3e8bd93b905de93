"""Guesses, losses and averages of semi-supervised learning, against their formulas row by row."""

import math
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
import numpy as np
import pytest
import torch
from torch import Tensor

from sk_mixup._training.consistency_losses import (
    consistency_loss,
    guess_targets,
    ramp_up,
    semi_supervised_loss,
    sharpen,
    update_average,
)
from tests.helpers.reference import cross_entropy_row


def draw_distributions(*shape: int, seed: int = 0) -> Tensor:
    values = np.random.default_rng(seed).dirichlet(np.ones(shape[-1]), shape[:-1])
    return torch.from_numpy(values)


def draw_normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=shape))


def sharpen_row(probabilities: Any, temperature: float) -> list[float]:
    """Sharpen one distribution in Python floats."""
    powers = [float(p) ** (1 / temperature) for p in probabilities]
    return [p / sum(powers) for p in powers]


def squared_distance_row(logits: Any, target: Any) -> float:
    """Mean squared distance of one row's softmax from its target."""
    exponentials = [math.exp(float(z)) for z in logits]
    predicted = [e / sum(exponentials) for e in exponentials]
    return sum((p - float(q)) ** 2 for p, q in zip(predicted, target, strict=True)) / len(predicted)


def average_rows_slowly(losses: list[float], weight: Any) -> float:
    weights = [1.0] * len(losses) if weight is None else [float(w) for w in weight]
    return sum(w * x for w, x in zip(weights, losses, strict=True)) / sum(weights)


# -- sharpen, guess ----------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.1, 0.5, 1.0, 3.0])
def test_sharpen_equals_its_formula(temperature: float) -> None:
    p = draw_distributions(7, 4)
    expected = torch.tensor([sharpen_row(row, temperature) for row in p], dtype=torch.float64)
    torch.testing.assert_close(sharpen(p, temperature), expected)


POSITIVE = arrays(np.float64, st.integers(2, 6), elements=st.floats(1e-6, 1.0))


@given(values=POSITIVE, temperature=st.floats(0.05, 1.0))
def test_sharpen_keeps_the_order_and_raises_the_largest(values: np.ndarray, temperature: float) -> None:
    p = torch.from_numpy(values / values.sum())
    q = sharpen(p, temperature)
    assert q.sum().item() == pytest.approx(1)
    assert q.max() >= p.max() - 1e-12
    assert torch.equal(q.max(), q[p.argmax()])


@given(values=POSITIVE, first=st.floats(0.2, 2.0), second=st.floats(0.2, 2.0))
def test_sharpen_twice_equals_the_product_of_temperatures(
    values: np.ndarray, first: float, second: float
) -> None:
    p = torch.from_numpy(values / values.sum())
    twice, once = sharpen(sharpen(p, first), second), sharpen(p, first * second)
    torch.testing.assert_close(twice, once, rtol=1e-6, atol=1e-9)


def test_sharpen_ends_are_exact() -> None:
    p = draw_distributions(5, 3)
    assert torch.equal(sharpen(p, 1.0), p)
    certain = torch.eye(3)
    assert torch.equal(sharpen(certain, 0.5), certain)
    torch.testing.assert_close(sharpen(p, 1e-4), torch.eye(3, dtype=p.dtype)[p.argmax(dim=1)])


def test_sharpen_does_not_write_to_its_input() -> None:
    p = draw_distributions(5, 3)
    before = p.clone()
    sharpen(p, 1.0).zero_()
    sharpen(p, 0.5).zero_()
    assert torch.equal(p, before)


def test_guess_is_the_sharpened_average_over_views() -> None:
    views = draw_distributions(3, 6, 4)
    expected = [sharpen_row(views[:, i].mean(dim=0), 0.5) for i in range(6)]
    torch.testing.assert_close(guess_targets(views, 0.5), torch.tensor(expected, dtype=views.dtype))


def test_guess_does_not_depend_on_the_order_of_views() -> None:
    views = draw_distributions(2, 6, 4)
    assert torch.equal(guess_targets(views, 0.5), guess_targets(views.flip(0), 0.5))


# -- ramp --------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", ["sigmoid", "linear"])
@given(first=st.floats(0, 3), second=st.floats(0, 3))
def test_ramp_rises_to_one_and_stays(shape: str, first: float, second: float) -> None:
    low, high = sorted([ramp_up(first, shape), ramp_up(second, shape)])
    assert 0 <= low <= high <= 1
    assert (ramp_up(min(first, second), shape), ramp_up(max(first, second), shape)) == (low, high)
    assert ramp_up(1 + first, shape) == 1


def test_ramp_begins_as_the_papers_say() -> None:
    assert ramp_up(0.0, "sigmoid") == pytest.approx(math.exp(-5))
    assert ramp_up(0.0, "linear") == 0


def test_ramp_of_another_shape_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shape must be one of 'sigmoid', 'linear'; got 'sigmoidal'"):
        ramp_up(0.5, "sigmoidal")


# -- losses ------------------------------------------------------------------------------


@pytest.mark.parametrize("weighted", [False, True])
def test_consistency_loss_equals_its_formula(weighted: bool) -> None:
    logits, target = draw_normal(6, 4), draw_distributions(6, 4)
    weight = torch.linspace(0.5, 3, 6, dtype=torch.float64) if weighted else None
    rows = [squared_distance_row(z, q) for z, q in zip(logits, target, strict=True)]
    expected = average_rows_slowly(rows, weight)
    assert consistency_loss(logits, target, weight).item() == pytest.approx(expected)


def test_consistency_loss_ends_are_exact() -> None:
    logits = draw_normal(5, 3)
    assert consistency_loss(logits, torch.softmax(logits, dim=1)).item() == 0
    certain = 1e4 * torch.eye(2)
    assert consistency_loss(certain, torch.eye(2).flip(0)).item() == 1  # 2 / C


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("label_smoothing", [0.0, 0.1])
def test_semi_supervised_loss_equals_its_formula(weighted: bool, label_smoothing: float) -> None:
    logits, target = draw_normal(7, 4), draw_distributions(7, 4, seed=1)
    weight = torch.linspace(0.5, 3, 7, dtype=torch.float64) if weighted else None
    entropies = [
        sum(float(q) * cross_entropy_row(z, c, label_smoothing) for c, q in enumerate(row))
        for z, row in zip(logits[:3], target[:3], strict=True)
    ]
    distances = [squared_distance_row(z, q) for z, q in zip(logits[3:], target[3:], strict=True)]
    own, other = (None, None) if weight is None else (weight[:3], weight[3:])
    expected = average_rows_slowly(entropies, own) + 7.5 * average_rows_slowly(distances, other)
    loss = semi_supervised_loss(logits, target, 3, 7.5, weight, label_smoothing)
    assert loss.item() == pytest.approx(expected)


def test_weights_of_each_part_count_relative_to_each_other() -> None:
    logits, target = draw_normal(7, 4), draw_distributions(7, 4)
    weight = torch.linspace(0.5, 3, 7, dtype=torch.float64)
    scaled = torch.cat([8 * weight[:3], weight[3:] / 4])
    losses = [semi_supervised_loss(logits, target, 3, 2.0, w) for w in (weight, scaled)]
    torch.testing.assert_close(*losses)


def test_unlabeled_weight_zero_leaves_no_gradient_to_unlabeled_rows() -> None:
    logits = draw_normal(5, 3).requires_grad_()
    semi_supervised_loss(logits, draw_distributions(5, 3), 2, 0.0).backward()
    assert logits.grad is not None
    assert logits.grad[:2].abs().min() > 0
    assert torch.equal(logits.grad[2:], torch.zeros(3, 3, dtype=torch.float64))


def test_gradient_of_the_loss_is_that_of_finite_differences() -> None:
    target = draw_distributions(5, 3)
    logits = draw_normal(5, 3).requires_grad_()
    assert torch.autograd.gradcheck(lambda z: semi_supervised_loss(z, target, 2, 3.0), logits)


def test_loss_under_vmap_equals_a_loop() -> None:
    logits, target = draw_normal(4, 5, 3), draw_distributions(4, 5, 3)

    def compute(z: Tensor, q: Tensor) -> Tensor:
        return semi_supervised_loss(z, q, 2, 3.0)

    expected = torch.stack([compute(z, q) for z, q in zip(logits, target, strict=True)])
    torch.testing.assert_close(torch.vmap(compute)(logits, target), expected)


# -- averages ----------------------------------------------------------------------------


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.99])
def test_average_equals_its_formula(decay: float) -> None:
    steps = [draw_normal(3, 2, seed=seed) for seed in range(5)]
    average, expected = [steps[0].clone()], steps[0].numpy().copy()
    for value in steps[1:]:
        update_average(average, [value], decay)
        expected = decay * expected + (1 - decay) * value.numpy()
    np.testing.assert_allclose(average[0].numpy(), expected, rtol=1e-12)


def test_average_without_decay_is_the_last_value() -> None:
    average, value = [draw_normal(3, 2)], draw_normal(3, 2, seed=1)
    update_average(average, [value], 0.0)
    assert torch.equal(average[0], value)


def test_average_keeps_what_it_is_given_as_it_is() -> None:
    value = draw_normal(3, 2)
    before = value.clone()
    update_average([torch.zeros(3, 2, dtype=value.dtype)], [value], 0.5)
    assert torch.equal(value, before)


def test_average_of_a_counter_is_the_last_count() -> None:
    average = [torch.tensor(3)]
    update_average(average, [torch.tensor(8)], 0.9)
    assert average[0].item() == 8
    assert average[0].dtype == torch.int64
