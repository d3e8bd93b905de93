"""Losses of mixed targets: values and gradients against slow references, by hand and by autograd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from sklearn.datasets import load_iris
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812

from sk_mixup import MixupClassifier
from sk_mixup._training.averages import (
    average_entropy,
    average_rows,
    get_divisors,
    mix_losses,
    sum_batches,
)
from sk_mixup._training.losses import (
    CLOSED_FORMS,
    BinaryCrossEntropy,
    CrossEntropy,
    Loss,
    LossOptions,
    SquaredError,
    find_loss,
)
from sk_mixup._training.mixed_targets import mix_columns, mix_targets
from sk_mixup.mixing import soft_targets
from tests.helpers import reference
from tests.helpers.architectures import (
    PROBLEMS,
    WEIGHT,
    assert_close_nets,
    assert_same_history,
    assert_same_nets,
    fit,
    make_rows,
    note_epochs,
)
from tests.helpers.stacking import fit_stacked

SIZE, N_BATCHES, C = 5, 3, 4
M = SIZE * N_BATCHES
SIZES = [SIZE] * N_BATCHES
BY_CLASS = torch.tensor([0.5, 1.0, 2.0, 3.0], dtype=torch.float64)

# -- a loss from outside -----------------------------------------------------------------


@dataclass(frozen=True)
class Huber(Loss):
    """Squared error near the target, absolute error far from it."""

    delta: float

    def make_targets(self, y: Tensor, lam: Tensor, divisor: Tensor) -> tuple[Tensor, ...]:
        target = mix_columns(y, lam)
        return target, (divisor * target.shape[1]).expand(len(target), 1)

    def compute_gradient(self, output: Tensor, kept: Tensor, *prepared: Tensor) -> Tensor:
        target, divisor = prepared
        kept.copy_(output)
        return (output - target).clamp_(-self.delta, self.delta).div_(divisor)

    def compute_values(self, kept: Tensor, *prepared: Tensor) -> Tensor:
        target, divisor = prepared
        losses = F.huber_loss(kept, target, reduction="none", delta=self.delta)
        return (losses / divisor).sum(dim=-1)


@pytest.fixture
def huber(monkeypatch: pytest.MonkeyPatch) -> None:
    """Huber loss in closed form."""
    monkeypatch.setitem(CLOSED_FORMS, nn.HuberLoss, lambda criterion, options: Huber(criterion.delta))


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["unweighted", "weighted"])
@pytest.mark.parametrize("alpha", [0, 0.4])
def test_loss_from_outside_trains_as_step_by_step(
    monkeypatch: pytest.MonkeyPatch, float64: None, huber: None, architecture: str, weight: Any, alpha: float
) -> None:
    epochs = note_epochs(monkeypatch)
    options = {"criterion": nn.HuberLoss, "criterion__delta": 0.5, "alpha": alpha}
    fast = fit(architecture, "targets", weight, **options)
    assert len(epochs) == len(fast.history)
    slow = fit(architecture, "targets", weight, **options, stepwise=True)
    assert_same_nets(fast, slow)
    assert_same_history(fast, slow)
    CLOSED_FORMS.pop(nn.HuberLoss)
    by_autograd = fit(architecture, "targets", weight, **options)
    assert len(epochs) == len(fast.history)
    assert_close_nets(fast, by_autograd, rtol=1e-7, atol=1e-9)


# -- slow references: each row on its own ------------------------------------------------


def score_class(loss: CrossEntropy, output: Tensor, label: Tensor) -> Tensor:
    """Cross-entropy of one row, ``-sum_c t_c log softmax(output)_c``, less the weighted entropy."""
    target = torch.full_like(output, loss.label_smoothing / len(output))
    target[int(label)] += 1 - loss.label_smoothing
    log_p = output - output.exp().sum().log()
    return -(target * log_p).sum() + loss.confidence_penalty * (log_p.exp() * log_p).sum()


def score_labels(loss: BinaryCrossEntropy, output: Tensor, labels: Tensor) -> Tensor:
    """Mean over the labels of one row of ``-t log p - (1 - t) log(1 - p)``, less the entropies of p."""
    target = (1 - loss.label_smoothing) * labels + loss.label_smoothing / 2
    p = 1 / (1 + (-output).exp())
    target = target - loss.confidence_penalty * p
    weight = 1 - loss.confidence_penalty - target
    return -(target * p.log() + weight * (1 - p).log()).mean()


def score_values(loss: Loss, output: Tensor, target: Tensor) -> Tensor:
    """Mean squared error of one row, or its Huber loss."""
    error = (output - target).abs()
    if not isinstance(loss, Huber):
        return (error**2).mean()
    return torch.where(error < loss.delta, error**2 / 2, loss.delta * (error - loss.delta / 2)).mean()


def score_batch(loss: Loss, output: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None) -> Tensor:
    """Return ``sum_i w_i sum_k lam_ki l(output_i, y_ki) / sum_i w_i``; of real targets, of their mixture.

    Of classes with weights, λ is multiplied by these, in both sums.
    """
    total, divisor = torch.zeros(()), torch.zeros(())
    for i in range(len(output)):
        w = torch.ones(()) if weight is None else weight[i]
        share = lam[:, i]
        if isinstance(loss, CrossEntropy) and loss.class_weight is not None:
            share = share * loss.class_weight[y[:, i]]
        if isinstance(loss, SquaredError | Huber):
            mixed = sum((lam[k, i] * y[k, i] for k in range(len(y))), torch.zeros(C))
            row = score_values(loss, output[i], mixed)
        else:
            score: Any = score_class if isinstance(loss, CrossEntropy) else score_labels
            row = sum((share[k] * score(loss, output[i], y[k, i]) for k in range(len(y))), torch.zeros(()))
        total, divisor = total + w * row, divisor + w * share.sum()
    return total / divisor


LOSSES: dict[str, Loss] = {
    "classes": CrossEntropy(C),
    "smoothed_classes": CrossEntropy(C, 0.1),
    "uniform_classes": CrossEntropy(C, 1.0),
    "penalized_classes": CrossEntropy(C, 0.1, 0.3),
    "weighted_classes": CrossEntropy(C, 0.0, 0.3, BY_CLASS),
    "labels": BinaryCrossEntropy(),
    "smoothed_labels": BinaryCrossEntropy(0.1),
    "half_labels": BinaryCrossEntropy(1.0),
    "penalized_labels": BinaryCrossEntropy(0.1, 0.3),
    "targets": SquaredError(),
    "huber": Huber(0.7),
}
each_loss = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
# How many examples are mixed, and whether rows are weighted.
each_mixing = pytest.mark.parametrize(("k", "weighted"), [(1, False), (1, True), (2, False), (3, True)])


def draw(loss: Loss, k: int = 2, weighted: bool = False) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Return output, targets, mixing weights and weights of the rows of some batches."""
    generator = torch.Generator().manual_seed(0)
    output = torch.randn(M, C, generator=generator)
    lam = torch.rand(k, M, generator=generator)
    if isinstance(loss, CrossEntropy):
        y = torch.randint(C, (k, M), generator=generator)
    elif isinstance(loss, BinaryCrossEntropy):
        y = torch.randint(2, (k, M, C), generator=generator)
    else:
        y = torch.randn(k, M, C, generator=generator)
    weight = 0.5 + torch.rand(M, generator=generator) if weighted else None
    return output, y, lam / lam.sum(dim=0), weight


def cut(batch: int, output: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None) -> tuple[Any, ...]:
    """Return the part of one batch."""
    rows = slice(batch * SIZE, (batch + 1) * SIZE)
    return output[rows], y[:, rows], lam[:, rows], None if weight is None else weight[rows]


def compute(loss: Loss, output: Tensor, *rest: Any, sizes: list[int] = SIZES) -> tuple[Tensor, Tensor]:
    """Return the values of all batches and the gradients, as an epoch without autograd computes them."""
    prepared = loss.prepare(*rest, sizes)
    kept = torch.full_like(output, torch.nan)
    parts = [part.split(sizes) for part in (output, kept, *prepared)]
    gradient = torch.cat([loss.compute_gradient(*part) for part in zip(*parts, strict=True)])
    values = loss.compute_values(kept, *prepared)
    assert values.shape == (len(output),)
    return sum_batches(values, sizes), gradient


def differentiate(function: Callable[..., Tensor], output: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    """Return the value of a function and its gradient by autograd."""
    output = output.clone().requires_grad_()
    value = function(output, *rest)
    return value.detach(), torch.autograd.grad(value, output)[0]


# -- the rule, in closed form and step by step -------------------------------------------


@each_mixing
@each_loss
def test_gradient_and_value_equal_autograd_of_the_reference(
    float64: None, loss: Loss, k: int, weighted: bool
) -> None:
    block = draw(loss, k, weighted)
    values, gradient = compute(loss, *block)
    for batch in range(N_BATCHES):
        expected = differentiate(lambda *part: score_batch(loss, *part), *cut(batch, *block))
        found = values[batch], gradient.split(SIZE)[batch]
        torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@each_mixing
@each_loss
def test_step_equals_its_part_of_an_epoch_bit_for_bit(loss: Loss, k: int, weighted: bool) -> None:
    block = draw(loss, k, weighted)
    values, gradient = compute(loss, *block)
    for batch in range(N_BATCHES):
        value, own = differentiate(loss.apply, *cut(batch, *block))
        assert torch.equal(value, values[batch])
        assert torch.equal(own, gradient.split(SIZE)[batch])


@each_loss
def test_gradient_passes_the_check_of_torch(float64: None, loss: Loss) -> None:
    output, *rest = cut(0, *draw(loss, 2, weighted=True))
    assert torch.autograd.gradcheck(lambda z: 3 * loss.apply(z, *rest), output.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_loss
def test_step_in_half_precision_is_computed_in_float32(loss: Loss, dtype: torch.dtype) -> None:
    output, *rest = cut(0, *draw(loss, 2, weighted=True))
    half = output.to(dtype)
    expected = differentiate(loss.apply, half.float(), *rest)
    value, gradient = differentiate(lambda *given: 1024 * loss.apply(*given), half, *rest)
    assert torch.equal(value, 1024 * expected[0])
    assert torch.equal(gradient, (1024 * expected[1]).to(dtype))


@each_loss
def test_loss_leaves_what_it_is_given(loss: Loss) -> None:
    output, *rest = draw(loss, 2, weighted=True)
    prepared = loss.prepare(*rest, SIZES)
    kept = torch.empty_like(output)
    given = [output, *rest, *prepared]
    before = [part.clone() for part in given]
    loss.compute_gradient(output, kept, *prepared)
    kept_before = kept.clone()
    loss.compute_values(kept, *prepared)
    loss.apply(output, *rest)
    assert all(torch.equal(a, b) for a, b in zip(before, given, strict=True))
    assert torch.equal(kept, kept_before)


@each_loss
def test_plain_rows_are_mixed_rows_of_one_example(float64: None, loss: Loss) -> None:
    output, y, _, _ = draw(loss, 1)
    lam = torch.tensor([1.0, 0.0])[:, None].expand(2, M)
    plain = compute(loss, output, y, torch.ones(1, M), None)
    mixed = compute(loss, output, torch.cat([y, y.flip(1)]), lam, None)
    torch.testing.assert_close(mixed, plain, rtol=1e-13, atol=1e-15)


@each_loss
@pytest.mark.parametrize("scale", [1.0, 2.0**-100, 2.0**100])
def test_equal_weights_are_no_weights(float64: None, loss: Loss, scale: float) -> None:
    output, y, lam, _ = draw(loss)
    results = [compute(loss, output, y, lam, w) for w in (None, torch.full((M,), scale))]
    torch.testing.assert_close(results[0], results[1], rtol=1e-12, atol=1e-14)


@each_loss
def test_weightless_row_counts_for_nothing(float64: None, loss: Loss) -> None:
    output, y, lam, _ = cut(0, *draw(loss))
    weight = torch.tensor([1.0] * (SIZE - 1) + [0.0])
    value, gradient = compute(loss, output, y, lam, weight, sizes=[SIZE])
    kept = compute(loss, output[:-1], y[:, :-1], lam[:, :-1], None, sizes=[SIZE - 1])
    torch.testing.assert_close((value, gradient[:-1]), kept, rtol=1e-12, atol=1e-14)
    assert torch.equal(gradient[-1], torch.zeros(C))


@each_loss
def test_integer_weights_are_repeated_rows(float64: None, loss: Loss) -> None:
    output, y, lam, _ = cut(0, *draw(loss))
    repeats = torch.tensor([1, 2, 3, 1, 4])
    index = torch.repeat_interleave(torch.arange(SIZE), repeats)
    value, _ = compute(loss, output, y, lam, repeats.double(), sizes=[SIZE])
    repeated, _ = compute(loss, output[index], y[:, index], lam[:, index], None, sizes=[len(index)])
    torch.testing.assert_close(value, repeated, rtol=1e-12, atol=0)


@each_loss
def test_stack_of_nets_equals_a_loop(float64: None, loss: Loss) -> None:
    nets = [cut(k, *draw(loss, 2, weighted=True)) for k in range(N_BATCHES)]
    prepared = [loss.prepare(*rest, [SIZE]) for _, *rest in nets]
    stacked = [torch.stack(parts) for parts in zip(*prepared, strict=True)]
    kept = torch.empty(N_BATCHES, SIZE, C)
    gradient = loss.compute_gradient(torch.stack([output for output, *_ in nets]), kept, *stacked)
    values = loss.compute_values(kept, *stacked).sum(dim=1)
    for found, net in zip(zip(values, gradient, strict=True), nets, strict=True):
        value, own = compute(loss, *net, sizes=[SIZE])
        torch.testing.assert_close(found, (value[0], own), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", ["smoothed_classes", "penalized_classes", "labels", "penalized_labels"])
def test_large_outputs_stay_finite(name: str) -> None:
    output, *rest = draw(LOSSES[name])
    value, gradient = compute(LOSSES[name], 1e4 * output, *rest)
    assert value.isfinite().all()
    assert gradient.isfinite().all()


def test_loss_is_that_of_python_floats(float64: None) -> None:
    rules = [
        (CrossEntropy(C, 0.1), reference.cross_entropy_row),
        (BinaryCrossEntropy(0.1), reference.binary_cross_entropy_row),
    ]
    for loss, rule in rules:
        batch = cut(0, *draw(loss, 2, weighted=True))

        def score(row: Tensor, y: Tensor, rule: Any = rule) -> float:
            return rule(row, int(y) if y.ndim == 0 else y, 0.1)

        assert loss.apply(*batch).item() == pytest.approx(reference.mixed_loss(score, *batch), rel=1e-12)


def test_squared_error_has_the_gradient_of_the_mixed_losses(float64: None) -> None:
    output, y, lam, weight = cut(0, *draw(SquaredError(), 3, weighted=True))

    def mix_errors(prediction: Tensor) -> Tensor:
        rows = torch.stack([((prediction - target) ** 2).mean(dim=1) for target in y])
        return mix_losses(rows, lam, weight)

    value, expected = differentiate(mix_errors, output)
    _, gradient = differentiate(SquaredError().apply, output, y, lam, weight)
    torch.testing.assert_close(gradient, expected, rtol=1e-12, atol=1e-14)
    slow = reference.mixed_loss(reference.squared_error_row, output, y, lam, weight)
    assert value.item() == pytest.approx(slow, rel=1e-12)


def test_mixed_targets_sum_equal_labels() -> None:
    target = soft_targets(torch.tensor([[1], [1]]), torch.tensor([[0.25], [0.75]]), 3)
    assert target.tolist() == [[0.0, 1.0, 0.0]]
    assert mix_targets(torch.tensor([[[4.0]], [[8.0]]]), torch.tensor([[0.25], [0.75]])).tolist() == [[7.0]]


# -- which outputs a loss knows ----------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "output", "y", "expected"),
    [
        ("classes", torch.zeros(2, C), torch.zeros(1, 2, dtype=torch.int64), True),
        ("classes", torch.zeros(2, C, dtype=torch.bfloat16), torch.zeros(1, 2, dtype=torch.int64), True),
        ("classes", torch.zeros(2, C + 1), torch.zeros(1, 2, dtype=torch.int64), False),
        ("classes", torch.zeros(2, C, 3), torch.zeros(1, 2, dtype=torch.int64), False),
        ("classes", torch.zeros(2, C, dtype=torch.int64), torch.zeros(1, 2, dtype=torch.int64), False),
        ("classes", (torch.zeros(2, C),), torch.zeros(1, 2, dtype=torch.int64), False),
        ("classes", torch.zeros(2, C), torch.zeros(1, 2, C), False),
        ("classes", torch.zeros(2, C), torch.zeros(1, 2), False),
        ("labels", torch.zeros(2, C), torch.zeros(1, 2, C), True),
        ("labels", torch.zeros(2, 1), torch.zeros(1, 2, C), False),
        ("targets", torch.zeros(2, 1), torch.zeros(1, 2), True),
        ("targets", torch.zeros(2), torch.zeros(1, 2), False),
        ("targets", None, torch.zeros(1, 2), False),
    ],
)
def test_loss_accepts_what_it_knows(name: str, output: object, y: Tensor, expected: bool) -> None:
    assert LOSSES[name].accepts(output, y) is expected


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
        (nn.CrossEntropyLoss(weight=torch.ones(3)), 0.0, CrossEntropy(3)),
        (nn.BCEWithLogitsLoss(), 0.0, BinaryCrossEntropy()),
        (nn.BCEWithLogitsLoss(), 0.1, BinaryCrossEntropy(0.1)),
        (nn.MSELoss(), 0.0, SquaredError()),
        (nn.CrossEntropyLoss(weight=torch.ones(3), label_smoothing=0.1), 0.0, None),
        (nn.CrossEntropyLoss(ignore_index=-1), 0.0, None),
        (nn.CrossEntropyLoss(ignore_index=0), 0.0, None),
        (nn.CrossEntropyLoss(reduction="sum"), 0.0, None),
        (nn.BCEWithLogitsLoss(weight=torch.ones(3)), 0.0, None),
        (nn.BCEWithLogitsLoss(pos_weight=torch.ones(3)), 0.0, None),
        (nn.BCEWithLogitsLoss(reduction="sum"), 0.0, None),
        (nn.MSELoss(reduction="sum"), 0.0, None),
        (nn.MSELoss(reduction="none"), 0.0, None),
        (nn.L1Loss(), 0.0, None),
        (nn.HuberLoss(), 0.0, None),
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
    assert find_loss(criterion, LossOptions(3, label_smoothing)) == expected


def test_closed_form_has_the_weights_of_its_criterion() -> None:
    weight = torch.tensor([1.0, 2.0, 3.0])
    loss = find_loss(nn.CrossEntropyLoss(weight), LossOptions(3))
    assert isinstance(loss, CrossEntropy)
    assert loss.class_weight is weight


# -- averages ----------------------------------------------------------------------------


@pytest.mark.parametrize("sizes", [[3], [3, 3], [3, 3, 2], [3, 4], [1, 1, 1], [4, 1]], ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_divisors_make_the_mean_of_each_batch(sizes: list[int], weighted: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    losses, weight = torch.rand(2, sum(sizes), generator=generator, dtype=torch.float64)
    divisor = get_divisors(weight if weighted else None, sizes, losses)
    means = [
        average_rows(part, w if weighted else None)
        for part, w in zip(losses.split(sizes), weight.split(sizes), strict=True)
    ]
    sums = sum_batches(losses / divisor.expand(len(losses), 1).squeeze(1), sizes)
    torch.testing.assert_close(sums, torch.stack(means), rtol=1e-12, atol=0)


def test_average_of_rows_divides_by_their_weights() -> None:
    losses, weight = torch.tensor([[1.0, 3.0], [4.0, 8.0]]), torch.tensor([10.0, 30.0])
    assert average_rows(losses, weight).item() == (10 * 2 + 30 * 6) / 40


def test_entropy_of_binary_outputs() -> None:
    p = torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    torch.testing.assert_close(average_entropy(torch.logit(p), binary=True), expected)


# -- in an estimator ---------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0, 1.0])
def test_indicators_with_cross_entropy_are_soft_classes(float64: None, alpha: float) -> None:
    X = np.random.default_rng(0).normal(size=(12, 3))
    y = (X > 0).astype(int)
    y[:, 0] |= y.sum(axis=1) == 0
    options: dict[str, Any] = {"max_epochs": 1, "batch_size": -1, "lr": 1e-30, "early_stopping": False}
    net = MixupClassifier(criterion=nn.CrossEntropyLoss, alpha=alpha, random_state=0, **options).fit(X, y)
    generator = np.random.default_rng(0)
    generator.integers(2**31 - 1, size=3)
    plan = net.get_policy()(generator.spawn(1)[0], 12, -1)
    lam = np.ones((1, 12)) if plan.lam is None else plan.lam
    mixed = (lam[:, :, None] * X[plan.index]).sum(axis=0)
    target = (lam[:, :, None] * y[plan.index]).sum(axis=0)
    logits = net.module_(torch.as_tensor(mixed))
    expected = F.cross_entropy(logits, torch.as_tensor(target)).item()
    assert net.loss_curve_ == pytest.approx([expected], rel=1e-9)


def fit_penalized(penalty: float = 0.4, sample_weight: Any = None, **options: Any) -> Any:
    defaults = {"max_epochs": 5, "early_stopping": False, "random_state": 0}
    net = MixupClassifier(**defaults | options, confidence_penalty=penalty)
    return net.fit(*load_iris(return_X_y=True), sample_weight=sample_weight)


def test_held_out_loss_is_not_penalized() -> None:
    penalized, plain = (fit_penalized(c, max_epochs=1, lr=1e-30, early_stopping=True) for c in (0.4, 0.0))
    assert penalized.history[-1, "valid_loss"] == plain.history[-1, "valid_loss"]
    assert penalized.history[-1, "train_loss"] < plain.history[-1, "train_loss"]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weighted", [False, True])
def test_weights_of_classes_are_none_of_the_penalty(float64: None, smoothing: float, weighted: bool) -> None:
    X, y = load_iris(return_X_y=True)
    weight, rows = torch.tensor([1.0, 5.0, 20.0]), np.linspace(0.1, 2, 150)
    net = fit_penalized(
        0.5,
        alpha=0,
        max_epochs=1,
        batch_size=-1,
        lr=1e-30,
        criterion__weight=weight,
        criterion__label_smoothing=smoothing,
        sample_weight=rows if weighted else None,
    )
    with torch.no_grad():
        logits = net.module_(torch.as_tensor(X))
    codes, of_rows = torch.as_tensor(y), torch.as_tensor(rows if weighted else np.ones(150))
    losses = F.cross_entropy(logits, codes, weight, reduction="none", label_smoothing=smoothing)
    log_p = logits.log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1)
    expected = (of_rows * losses).sum() / (of_rows * weight[codes]).sum()
    expected -= 0.5 * (of_rows * entropy).sum() / of_rows.sum()
    assert net.loss_curve_ == pytest.approx([expected.item()], rel=1e-9)


def test_penalty_raises_entropy() -> None:
    X, _ = load_iris(return_X_y=True)
    predicted = [fit_penalized(c, max_epochs=40).predict_proba(X) for c in (0.0, 0.5)]
    entropy = [-np.mean(np.sum(p * np.log(p), axis=1)) for p in predicted]
    assert entropy[1] > 1.2 * entropy[0]


@pytest.mark.parametrize("problem", ["classes", "labels"])
def test_penalty_is_there_where_a_loss_is_overridden(float64: None, problem: str) -> None:
    class Own(MixupClassifier):
        def get_loss(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().get_loss(*args, **kwargs)

    problem = PROBLEMS["labels"]
    for y in (problem.y, PROBLEMS["classes"].y):
        nets = [
            owner(
                confidence_penalty=0.4,
                label_smoothing=0.1,
                max_epochs=2,
                early_stopping=False,
                random_state=0,
            ).fit(make_rows("mlp"), y)
            for owner in (Own, MixupClassifier)
        ]
        assert_close_nets(*nets, rtol=1e-7, atol=1e-9)


def test_stack_of_different_penalties_equals_single_fits(float64: None) -> None:
    X, y = load_iris(return_X_y=True)
    penalties = (0.0, 0.1, 0.1, 0.9)
    options: dict[str, Any] = {"max_epochs": 5, "early_stopping": False}
    nets = fit_stacked(
        [
            (MixupClassifier(confidence_penalty=c, random_state=k, **options), X, y)
            for k, c in enumerate(penalties)
        ]
    )
    for k, (net, penalty) in enumerate(zip(nets, penalties, strict=True)):
        alone = fit_penalized(penalty, random_state=k)
        np.testing.assert_allclose(net.predict_proba(X), alone.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize(
    ("value", "error"),
    [(-0.1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_bad_penalty_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="confidence_penalty must be"):
        fit_penalized(value)


def test_penalty_needs_logits() -> None:
    module = nn.Sequential(nn.Linear(4, 3), nn.Softmax(1))
    with pytest.raises(ValueError, match="confidence_penalty must be 0 for criterion NLLLoss"):
        fit_penalized(criterion=nn.NLLLoss, module=module)
