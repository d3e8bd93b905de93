"""The confidence penalty: closed forms, steps and stacks agree."""

import numpy as np
import pytest
from sklearn.datasets import load_iris, make_multilabel_classification
import torch
from torch import nn

from sk_mixup import MixupClassifier, fit_stacked
from sk_mixup._training.closed_form_losses import find_loss, get_divisors
from sk_mixup._training.losses import average_entropy

N, K = 6, 4


@pytest.mark.parametrize(
    "criterion", [nn.CrossEntropyLoss(label_smoothing=0.1), nn.BCEWithLogitsLoss()], ids=str
)
@pytest.mark.parametrize("weighted", [False, True])
def test_closed_form_equals_autograd(criterion, weighted):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(N, K, generator=generator, dtype=torch.float64, requires_grad=True)
    lam = torch.rand(N, generator=generator, dtype=torch.float64)
    lam = torch.stack([lam, 1 - lam])
    weight = torch.rand(N, generator=generator, dtype=torch.float64) + 0.1 if weighted else None
    binary = isinstance(criterion, nn.BCEWithLogitsLoss)
    codes = torch.randint(K, (2, N), generator=generator)
    y = (torch.rand(2, N, K, generator=generator, dtype=torch.float64) < 0.5).double() if binary else codes
    losses = {}
    for penalty in (0.0, 0.3):
        loss = find_loss(criterion, K, confidence_penalty=penalty)
        prepared = loss.prepare(y, lam, get_divisors(weight, [N], lam))
        kept = torch.empty(N, K, dtype=torch.float64)
        gradient = loss.compute_gradient(logits.detach(), kept, *prepared)
        losses[penalty] = loss.compute_values(kept, *prepared).sum(), gradient
    entropy = average_entropy(logits, weight, binary=binary)
    (expected,) = torch.autograd.grad(-0.3 * entropy, logits)
    torch.testing.assert_close(losses[0.3][0], losses[0.0][0] - 0.3 * entropy.detach())
    torch.testing.assert_close(losses[0.3][1], losses[0.0][1] + expected)


def test_entropy_of_binary_outputs():
    p = torch.tensor([[0.2, 0.9]], dtype=torch.float64)
    expected = -(p * p.log() + (1 - p) * (1 - p).log()).mean()
    torch.testing.assert_close(average_entropy(torch.logit(p), binary=True), expected)


def load_problem(kind):
    if kind == "multilabel":
        return make_multilabel_classification(60, 5, n_classes=3, random_state=0)
    return load_iris(return_X_y=True)


def make_net(**options):
    options = {
        "max_epochs": 5,
        "early_stopping": False,
        "random_state": 0,
        "confidence_penalty": 0.4,
    } | options
    return MixupClassifier(**options)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("kind", ["classes", "multilabel"])
@pytest.mark.parametrize("weighted", [False, True])
def test_fast_epochs_equal_steps(kind, weighted):
    X, y = load_problem(kind)
    weight = np.linspace(0.5, 2, len(X)) if weighted else None
    fast = make_net().fit(X, y, sample_weight=weight)
    steps = make_net(augment=lambda x: x).fit(X, y, sample_weight=weight)
    np.testing.assert_allclose(fast.predict_proba(X), steps.predict_proba(X), atol=1e-9)
    np.testing.assert_allclose(fast.loss_curve_, steps.loss_curve_, atol=1e-9)


def test_held_out_loss_is_not_penalized():
    X, y = load_iris(return_X_y=True)
    penalized = make_net(max_epochs=1, lr=0.0, early_stopping=True).fit(X, y)
    plain = make_net(max_epochs=1, lr=0.0, early_stopping=True, confidence_penalty=0.0).fit(X, y)
    assert penalized.history[-1, "valid_loss"] == plain.history[-1, "valid_loss"]
    assert penalized.history[-1, "train_loss"] < plain.history[-1, "train_loss"]


def test_penalty_raises_entropy():
    X, y = load_iris(return_X_y=True)
    entropy = [
        -np.mean(np.sum(p * np.log(p), axis=1))
        for p in (make_net(confidence_penalty=c, max_epochs=40).fit(X, y).predict_proba(X) for c in (0, 0.5))
    ]
    assert entropy[1] > 1.2 * entropy[0]


@pytest.mark.usefixtures("float64")
def test_stack_of_different_penalties_equals_lone_fits():
    X, y = load_iris(return_X_y=True)
    penalties = (0.0, 0.1, 0.1, 0.9)
    nets = fit_stacked(
        [(make_net(confidence_penalty=c, random_state=k), X, y) for k, c in enumerate(penalties)]
    )
    for k, (net, penalty) in enumerate(zip(nets, penalties, strict=True)):
        lone = make_net(confidence_penalty=penalty, random_state=k).fit(X, y)
        np.testing.assert_allclose(net.predict_proba(X), lone.predict_proba(X), atol=1e-9)


@pytest.mark.parametrize(
    ("value", "error"),
    [(-0.1, ValueError), (float("nan"), ValueError), (float("inf"), ValueError), ("1", TypeError)],
)
def test_bad_penalty_is_refused(value, error):
    with pytest.raises(error, match="confidence_penalty must be"):
        make_net(confidence_penalty=value).fit(*load_iris(return_X_y=True))


def test_penalty_needs_logits():
    net = make_net(criterion=nn.NLLLoss, module=nn.Sequential(nn.Linear(4, 3), nn.Softmax(1)))
    with pytest.raises(ValueError, match="confidence_penalty must be 0 for criterion NLLLoss"):
        net.fit(*load_iris(return_X_y=True))
