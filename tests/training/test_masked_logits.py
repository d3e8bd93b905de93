"""Logits of minus infinity, for classes that cannot be, cost nothing where they are no target."""

from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import FeatureInterpolation, GaussianNoise

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.where(X[:, 0] > 0, 0, np.arange(60) % 3)
WHOLE: dict[str, Any] = {
    "batch_size": -1,
    "max_epochs": 3,
    "lr": 0.1,
    "verbose": 0,
    "optimizer": torch.optim.SGD,
}


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


class Masked(nn.Module):
    """Rules class 2 out where the first input is positive."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        is_out = (torch.arange(3) == 2) & (x[:, :1] > 0)
        return self.linear(x).masked_fill(is_out, -torch.inf)


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize(
    "mixing",
    [
        {"alpha": 0},
        {"vicinity": GaussianNoise(1e-9)},
        {"vicinity": FeatureInterpolation(1e-9, partners="batch")},
    ],
    ids=str,
)
@pytest.mark.parametrize("weight", [None, np.linspace(1, 2, 60)], ids=["even", "weighted"])
def test_losses_are_those_of_a_plain_loop(owner: Any, mixing: Any, weight: np.ndarray | None) -> None:
    if weight is not None and isinstance(mixing.get("vicinity"), FeatureInterpolation):
        pytest.skip("a pair has the product of two weights")
    own = (
        {"criterion": nn.CrossEntropyLoss, "train_split": None} if owner is Net else {"early_stopping": False}
    )
    given = {} if weight is None else {"sample_weight": weight}
    net = owner(Masked, random_state=0, **WHOLE, **mixing, **own).fit(X, Y, **given)
    module, of_rows = Masked(), torch.ones(60) if weight is None else torch.as_tensor(weight).float()
    losses = []
    for _ in range(3):
        rows = nn.functional.cross_entropy(module(torch.as_tensor(X)), torch.as_tensor(Y), reduction="none")
        loss = (of_rows * rows).sum() / of_rows.sum()
        module.zero_grad()
        loss.backward()
        losses.append(float(loss.detach()))
        with torch.no_grad():
            for parameter in module.parameters():
                parameter -= 0.1 * parameter.grad  # type: ignore[operator]
    np.testing.assert_allclose(net.history[:, "train_loss"], losses, rtol=1e-4)


def test_the_confidence_penalty_is_that_of_the_classes_that_can_be() -> None:
    net = MixupClassifier(
        Masked, alpha=0, confidence_penalty=0.3, early_stopping=False, **WHOLE | {"max_epochs": 1}
    ).fit(X, Y)
    with torch.no_grad():
        logits = Masked()(torch.as_tensor(X))
    p = logits.softmax(dim=1)
    entropy = -torch.special.xlogy(p, p).sum(dim=1).mean()
    expected = nn.functional.cross_entropy(logits, torch.as_tensor(Y)) - 0.3 * entropy
    assert net.history[-1, "train_loss"] == pytest.approx(float(expected), rel=1e-5)
