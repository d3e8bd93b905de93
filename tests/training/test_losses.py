"""Losses of mixed targets against the slow reference."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from sk_mixup import MixupClassifier
from sk_mixup._training import losses
from sk_mixup.mixing import soft_targets
from tests.helpers import reference

N, C = 6, 4


@pytest.fixture
def generator():
    return np.random.default_rng(0)


def make_case(generator, n_mixed, weighted):
    logits = torch.as_tensor(generator.normal(size=(N, C)))
    lam = torch.as_tensor(generator.dirichlet(np.ones(n_mixed), N).T)
    weight = torch.as_tensor(generator.uniform(0.1, 3, size=N)) if weighted else None
    return logits, lam, weight


@pytest.mark.parametrize("label_smoothing", [0.0, 0.1, 1.0])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_mixed", [1, 2, 3])
def test_mixed_cross_entropy_equals_reference(generator, n_mixed, weighted, label_smoothing):
    logits, lam, weight = make_case(generator, n_mixed, weighted)
    labels = torch.as_tensor(generator.integers(C, size=(n_mixed, N)))

    def row_loss(row, label):
        return reference.cross_entropy_row(row, int(label), label_smoothing)

    expected = reference.mixed_loss(row_loss, logits, labels, lam, weight)
    loss = losses.mixed_cross_entropy(logits, labels, lam, weight, label_smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_mixed", [1, 2, 3])
def test_mixed_cross_entropy_equals_mixed_losses(generator, n_mixed, weighted):
    logits, lam, weight = make_case(generator, n_mixed, weighted)
    labels = torch.as_tensor(generator.integers(C, size=(n_mixed, N)))
    rows = torch.stack([F.cross_entropy(logits, y, reduction="none") for y in labels])
    expected = losses.mix_losses(rows, lam, weight)
    torch.testing.assert_close(losses.mixed_cross_entropy(logits, labels, lam, weight), expected)


@pytest.mark.parametrize("label_smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_mixed", [1, 2, 3])
def test_mixed_binary_cross_entropy_equals_reference(generator, n_mixed, weighted, label_smoothing):
    logits, lam, weight = make_case(generator, n_mixed, weighted)
    targets = torch.as_tensor(generator.integers(2, size=(n_mixed, N, C)), dtype=torch.float64)

    def row_loss(row, target):
        return reference.binary_cross_entropy_row(row, target, label_smoothing)

    expected = reference.mixed_loss(row_loss, logits, targets, lam, weight)
    loss = losses.mixed_binary_cross_entropy(logits, targets, lam, weight, label_smoothing)
    assert loss.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("n_mixed", [1, 2, 3])
def test_mixed_squared_error_has_the_gradient_of_the_reference(generator, n_mixed, weighted):
    prediction, lam, weight = make_case(generator, n_mixed, weighted)
    targets = torch.as_tensor(generator.normal(size=(n_mixed, N, C)))
    prediction.requires_grad_()
    ours = losses.average_rows((prediction - losses.mix_targets(targets, lam)) ** 2, weight)
    rows = torch.stack([((prediction - y) ** 2).mean(dim=1) for y in targets])
    rule = losses.mix_losses(rows, lam, weight)
    gradients = [torch.autograd.grad(loss, prediction)[0] for loss in (ours, rule)]
    torch.testing.assert_close(*gradients)
    slow = reference.mixed_loss(reference.squared_error_row, prediction.detach(), targets, lam, weight)
    assert rule.item() == pytest.approx(slow, rel=1e-12)


def test_weighted_loss_divides_by_the_weights():
    # torch's own cross-entropy divides probability targets with class weights by the
    # number of rows; the rule divides by the weights that were used.
    logits = torch.zeros(1, 3, dtype=torch.float64)
    labels, lam = torch.tensor([[0], [1]]), torch.tensor([[0.5], [0.5]], dtype=torch.float64)
    weight = torch.tensor([10.0], dtype=torch.float64)
    assert losses.mixed_cross_entropy(logits, labels, lam, weight).item() == pytest.approx(np.log(3))


@pytest.mark.parametrize("factor", [0.5, 4.0])
def test_constant_weight_changes_nothing(generator, factor):
    logits, lam, _ = make_case(generator, 2, False)
    labels = torch.as_tensor(generator.integers(C, size=(2, N)))
    weighted = losses.mixed_cross_entropy(logits, labels, lam, torch.full_like(lam[0], factor))
    torch.testing.assert_close(weighted, losses.mixed_cross_entropy(logits, labels, lam))


def test_weightless_row_counts_for_nothing(generator):
    logits, lam, _ = make_case(generator, 2, False)
    labels = torch.as_tensor(generator.integers(C, size=(2, N)))
    weight = torch.tensor([1.0] * (N - 1) + [0.0], dtype=torch.float64)
    kept = losses.mixed_cross_entropy(logits[:-1], labels[:, :-1], lam[:, :-1])
    torch.testing.assert_close(losses.mixed_cross_entropy(logits, labels, lam, weight), kept)


def test_soft_targets_add_up_equal_labels():
    target = soft_targets(torch.tensor([[1], [1]]), torch.tensor([[0.25], [0.75]]), 3)
    assert target.tolist() == [[0.0, 1.0, 0.0]]


def test_mixed_cross_entropy_under_vmap_equals_loop(generator):
    logits = torch.as_tensor(generator.normal(size=(3, N, C)))
    labels = torch.as_tensor(generator.integers(C, size=(3, 2, N)))
    lam = torch.as_tensor(generator.dirichlet(np.ones(2), (3, N))).transpose(1, 2)
    loop = torch.stack([losses.mixed_cross_entropy(*args) for args in zip(logits, labels, lam, strict=True)])
    torch.testing.assert_close(torch.func.vmap(losses.mixed_cross_entropy)(logits, labels, lam), loop)


@pytest.mark.parametrize("alpha", [0, 1.0])
def test_indicators_with_cross_entropy_are_soft_classes(float64, alpha):
    X = np.random.default_rng(0).normal(size=(12, 3))
    y = (X > 0).astype(int)
    y[:, 0] |= y.sum(axis=1) == 0
    options = {"max_epochs": 1, "batch_size": -1, "lr": 0.0, "early_stopping": False, "random_state": 0}
    net = MixupClassifier(criterion=torch.nn.CrossEntropyLoss, alpha=alpha, **options).fit(X, y)
    generator = np.random.default_rng(0)
    generator.integers(2**31 - 1, size=3)
    plan = net.get_policy()(generator.spawn(1)[0], 12, -1)
    lam = np.ones((1, 12)) if plan.lam is None else plan.lam
    mixed = (lam[:, :, None] * X[plan.index]).sum(axis=0)
    target = (lam[:, :, None] * y[plan.index]).sum(axis=0)
    logits = net.module_(torch.as_tensor(mixed))
    expected = F.cross_entropy(logits, torch.as_tensor(target)).item()
    assert net.loss_curve_ == pytest.approx([expected], rel=1e-9)
