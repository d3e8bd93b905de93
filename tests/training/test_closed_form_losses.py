"""Losses in closed form: their gradients against autograd, their values against a slow reference."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812

from sk_mixup._training.closed_form_losses import (
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    SquaredError,
    find_loss,
    get_divisors,
    sum_batches,
)
from sk_mixup._training.module_structure import find_chain
from sk_mixup.modules import MLP

SIZE, N_BATCHES, N_OUTPUTS = 5, 3, 4
M = SIZE * N_BATCHES


# -- slow references: each row on its own ------------------------------------------------


def score_class(output: Tensor, label: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy of one row: ``-sum_c t_c log softmax(output)_c``."""
    target = torch.full_like(output, smoothing / len(output))
    target[int(label)] += 1 - smoothing
    return -(target * (output - output.exp().sum().log())).sum()


def score_labels(output: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Mean over the labels of one row of ``-t log s - (1 - t) log(1 - s)``, with s a sigmoid."""
    target = (1 - smoothing) * labels + smoothing / 2
    s = 1 / (1 + (-output).exp())
    return -(target * s.log() + (1 - target) * (1 - s).log()).mean()


def score_batch(score: Callable[..., Tensor], output: Tensor, y: Tensor, lam: Tensor, weight: Any) -> Tensor:
    """Return ``sum_i w_i sum_k lam_ki score(output_i, y_ki) / sum_i w_i``."""
    weight = torch.ones(len(output)) if weight is None else weight
    total = torch.zeros(())
    for i in range(len(output)):
        for k in range(len(y)):
            total = total + weight[i] * lam[k, i] * score(output[i], y[k, i])
    return total / weight.sum()


def score_mixed_targets(output: Tensor, y: Tensor, lam: Tensor, weight: Any) -> Tensor:
    """Return the squared error against ``sum_k lam_ki y_ki``, rows by their weight."""
    weight = torch.ones(len(output)) if weight is None else weight
    rows = [sum(lam[k, i] * y[k, i] for k in range(len(y))) for i in range(len(output))]
    errors = [((output[i] - row) ** 2).mean() for i, row in enumerate(rows)]
    return sum((w * error for w, error in zip(weight, errors, strict=True)), torch.zeros(())) / weight.sum()


def make_score(loss: Loss) -> Callable[..., Tensor]:
    """Return the reference of a loss: (output, y, lam, weight) of one batch to its value."""
    if isinstance(loss, SquaredError):
        return score_mixed_targets
    score = score_class if isinstance(loss, CrossEntropy) else score_labels

    def score_row(output: Tensor, y: Tensor) -> Tensor:
        return score(output, y, loss.label_smoothing)  # type: ignore[attr-defined]

    return lambda *batch: score_batch(score_row, *batch)


LOSSES: list[Loss] = [
    CrossEntropy(N_OUTPUTS),
    CrossEntropy(N_OUTPUTS, 0.1),
    CrossEntropy(N_OUTPUTS, 1.0),
    BinaryCrossEntropy(),
    BinaryCrossEntropy(0.1),
    BinaryCrossEntropy(1.0),
    SquaredError(),
]


def draw(loss: Loss, k: int, weighted: bool) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return output, targets, mixing weights and weights of the rows of some batches."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(M, N_OUTPUTS, generator=generator)
    lam = torch.rand(k, M, generator=generator)
    if isinstance(loss, CrossEntropy):
        y = torch.randint(N_OUTPUTS, (k, M), generator=generator)
    elif isinstance(loss, BinaryCrossEntropy):
        y = torch.randint(2, (k, M, N_OUTPUTS), generator=generator)
    else:
        y = torch.randn(k, M, N_OUTPUTS, generator=generator)
    weight = 0.5 + torch.rand(M, generator=generator) if weighted else None
    return output, y, lam / lam.sum(dim=0), weight


def cut(batch: int, output: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None) -> tuple[Any, ...]:
    """Return the part of one batch."""
    rows = slice(batch * SIZE, (batch + 1) * SIZE)
    return output[rows], y[:, rows], lam[:, rows], None if weight is None else weight[rows]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_gradient_and_value_equal_autograd_of_the_reference(
    float64: None, loss: Loss, k: int, weighted: bool
) -> None:
    block = draw(loss, k, weighted)
    output, y, lam, weight = block
    prepared = loss.prepare(y, lam, get_divisors(weight, [SIZE] * (len(lam[0]) // SIZE), lam))
    kept = torch.full_like(output, torch.nan)
    parts = [part.split(SIZE) for part in (output, kept, *prepared)]
    gradients = [loss.compute_gradient(*part) for part in zip(*parts, strict=True)]
    values = loss.compute_values(kept, *prepared)
    assert values.shape == (M,)
    for batch, gradient in enumerate(gradients):
        own, *rest = cut(batch, *block)
        own = own.clone().requires_grad_()
        expected = make_score(loss)(own, *rest)
        torch.testing.assert_close(gradient, *torch.autograd.grad(expected, own), rtol=1e-12, atol=1e-14)
        value = values[batch * SIZE : (batch + 1) * SIZE].sum()
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_loss_leaves_what_it_is_given(loss: Loss, weighted: bool) -> None:
    output, *given = draw(loss, 2, weighted)
    before = [None if part is None else part.clone() for part in (output, *given)]
    prepared = loss.prepare(*given[:2], get_divisors(given[2], [M], given[1]))
    prepared_before = [part.clone() for part in prepared]
    kept = torch.empty_like(output)
    loss.compute_gradient(output, kept, *prepared)
    kept_before = kept.clone()
    loss.compute_values(kept, *prepared)
    assert all(a is None or torch.equal(a, b) for a, b in zip(before, (output, *given), strict=True))
    assert all(torch.equal(a, b) for a, b in zip(prepared_before, prepared, strict=True))
    assert torch.equal(kept, kept_before)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
def test_plain_rows_are_mixed_rows_of_one_example(float64: None, loss: Loss) -> None:
    _, y, _, _ = draw(loss, 1, weighted=False)
    lam = torch.tensor([1.0, 0.0])[:, None].expand(2, M)
    plain = loss.prepare(y, torch.ones(1, M), torch.tensor(float(SIZE)))
    mixed = loss.prepare(torch.cat([y, y.flip(1)]), lam, torch.tensor(float(SIZE)))
    for a, b in zip(plain, mixed, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0)


@pytest.mark.parametrize("loss", LOSSES, ids=str)
@pytest.mark.parametrize("scale", [1.0, 2.0**-100, 2.0**100])
def test_equal_weights_are_no_weights(float64: None, loss: Loss, scale: float) -> None:
    output, y, lam, _ = draw(loss, 2, weighted=False)
    results = []
    for weight in (None, torch.full((M,), scale)):
        prepared = loss.prepare(y, lam, get_divisors(weight, [M], lam))
        kept = torch.empty_like(output)
        results.append((loss.compute_gradient(output, kept, *prepared), loss.compute_values(kept, *prepared)))
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("loss", [CrossEntropy(N_OUTPUTS), BinaryCrossEntropy()], ids=str)
def test_large_outputs_stay_finite(loss: Loss) -> None:
    output, y, lam, _ = draw(loss, 2, weighted=False)
    prepared = loss.prepare(y, lam, torch.tensor(float(M)))
    kept = torch.empty_like(output)
    assert loss.compute_gradient(1e4 * output, kept, *prepared).isfinite().all()
    assert loss.compute_values(kept, *prepared).isfinite().all()


# -- what has a closed form --------------------------------------------------------------


class OwnCrossEntropy(nn.CrossEntropyLoss):
    """A criterion of the user's own."""


def hook(criterion: nn.Module) -> nn.Module:
    criterion.register_forward_hook(lambda *_: None)
    return criterion


def patch(criterion: nn.Module) -> nn.Module:
    criterion.forward = lambda output, y: F.cross_entropy(2 * output, y)  # type: ignore[method-assign]
    return criterion


@pytest.mark.parametrize(
    ("criterion", "label_smoothing", "expected"),
    [
        (nn.CrossEntropyLoss(), 0.0, CrossEntropy(3)),
        (nn.CrossEntropyLoss(label_smoothing=0.1), 0.1, CrossEntropy(3, 0.1)),
        (nn.CrossEntropyLoss(ignore_index=-1), 0.0, CrossEntropy(3)),
        (nn.BCEWithLogitsLoss(), 0.0, BinaryCrossEntropy()),
        (nn.BCEWithLogitsLoss(), 0.1, BinaryCrossEntropy(0.1)),
        (nn.MSELoss(), 0.0, SquaredError()),
        (nn.CrossEntropyLoss(weight=torch.ones(3)), 0.0, None),
        (nn.CrossEntropyLoss(ignore_index=0), 0.0, None),
        (nn.CrossEntropyLoss(reduction="sum"), 0.0, None),
        (nn.BCEWithLogitsLoss(weight=torch.ones(3)), 0.0, None),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), 0.0, None),
        (nn.BCEWithLogitsLoss(reduction="sum"), 0.0, None),
        (nn.MSELoss(reduction="sum"), 0.0, None),
        (nn.MSELoss(reduction="none"), 0.0, None),
        (nn.L1Loss(), 0.0, None),
        (nn.NLLLoss(), 0.0, None),
        (nn.BCELoss(), 0.0, None),
        (nn.MultiMarginLoss(), 0.0, None),
        (OwnCrossEntropy(), 0.0, None),
        (hook(nn.CrossEntropyLoss()), 0.0, None),
        (hook(nn.MSELoss()), 0.0, None),
        (patch(nn.CrossEntropyLoss()), 0.0, None),
        (nn.Identity(), 0.0, None),
    ],
    ids=str,
)
def test_closed_form_is_found_where_there_is_one(
    criterion: nn.Module, label_smoothing: float, expected: Loss | None
) -> None:
    assert find_loss(criterion, 3, label_smoothing) == expected


# -- what is a chain ---------------------------------------------------------------------

A, B, C = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
RELU, FLAT = nn.ReLU(), nn.Flatten()
HOOKED, FROZEN, TIED = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
HOOKED.register_forward_hook(lambda *_: None)
FROZEN.bias.requires_grad_(False)
TIED.weight = A.weight


class OwnSequential(nn.Sequential):
    """A container of the user's own."""


@pytest.mark.parametrize(
    ("module", "ndim", "expected"),
    [
        (nn.Sequential(A), 2, [A]),
        (nn.Sequential(A, RELU, B), 2, [A, B]),
        (nn.Sequential(A, nn.ReLU(), B, nn.ReLU(), C), 2, [A, B, C]),
        (nn.Sequential(FLAT, A, RELU, B), 2, [A, B]),
        (nn.Sequential(FLAT, A, RELU, B), 4, [A, B]),
        (nn.Sequential(A, nn.ReLU(inplace=True), B), 2, [A, B]),
        (nn.Sequential(A, RELU, B), 3, None),
        (nn.Sequential(), 2, None),
        (nn.Sequential(FLAT), 2, None),
        (nn.Sequential(A, B), 2, None),
        (nn.Sequential(A, RELU), 2, None),
        (nn.Sequential(RELU, A), 2, None),
        (nn.Sequential(A, RELU, RELU, B), 2, None),
        (nn.Sequential(A, RELU, B, C), 2, None),
        (nn.Sequential(A, FLAT, B), 2, None),
        (nn.Sequential(FLAT, FLAT, A), 2, None),
        (nn.Sequential(nn.Flatten(0), A), 2, None),
        (nn.Sequential(nn.Flatten(1, 2), A), 4, None),
        (nn.Sequential(A, nn.Tanh(), B), 2, None),
        (nn.Sequential(A, nn.LeakyReLU(), B), 2, None),
        (nn.Sequential(A, RELU, nn.Dropout(0.0), B), 2, None),
        (nn.Sequential(A, nn.BatchNorm1d(4), RELU, B), 2, None),
        (nn.Sequential(nn.Sequential(A, RELU), B), 2, None),
        (nn.Sequential(A, RELU, A), 2, None),
        (nn.Sequential(A, RELU, TIED), 2, None),
        (nn.Sequential(A, RELU, HOOKED), 2, None),
        (nn.Sequential(A, RELU, FROZEN), 2, None),
        (OwnSequential(A, RELU, B), 2, None),
        (hook(nn.Sequential(A, RELU, B)), 2, None),
        (A, 2, None),
        (nn.Bilinear(4, 4, 4), 2, None),
        (MLP(4, 3, dropout=0.5), 2, None),
    ],
)
def test_chain_is_found_where_there_is_one(
    module: nn.Module, ndim: int, expected: list[nn.Linear] | None
) -> None:
    assert find_chain(module, ndim) == expected


@pytest.mark.parametrize("sizes", [(), (8,), (8, 7)])
@pytest.mark.parametrize("ndim", [2, 4])
def test_chain_of_the_default_network_is_found(sizes: tuple[int, ...], ndim: int) -> None:
    chain = find_chain(MLP(4, 3, hidden_layer_sizes=sizes), ndim)
    assert chain is not None
    assert [layer.out_features for layer in chain] == [*sizes, 3]


@pytest.mark.parametrize("name", ["weight", "bias"])
@pytest.mark.parametrize("register", ["register_hook", "register_post_accumulate_grad_hook"])
def test_chain_with_a_hooked_weight_is_none(name: str, register: str) -> None:
    module = MLP(4, 3)
    getattr(getattr(module.layers[1], name), register)(lambda *_: None)
    assert find_chain(module) is None


def test_chain_that_is_compiled_is_none() -> None:
    module = MLP(4, 3)
    module._compiled_call_impl = module.forward  # as nn.Module.compile leaves it
    assert find_chain(module) is None


@pytest.mark.parametrize("sizes", [[3], [3, 3], [3, 3, 2], [3, 4], [1, 1, 1], [4, 1]], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_divisors_make_the_mean_of_each_batch(sizes: list[int], weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    losses, weight = torch.rand(2, sum(sizes), generator=generator, dtype=torch.float64)
    divisor = get_divisors(weight if weighted else None, sizes, losses)
    weight = weight if weighted else torch.ones_like(weight)
    means = [
        (w * part).sum() / w.sum() for w, part in zip(weight.split(sizes), losses.split(sizes), strict=True)
    ]
    sums = sum_batches(losses / divisor.expand(len(losses), 1).squeeze(1), sizes)
    torch.testing.assert_close(sums, torch.stack(means), rtol=1e-12, atol=0)
