"""Nets and their options that several test files share, and looks into a trained net."""

from collections.abc import Callable
from typing import Any

from sklearn.metrics import accuracy_score
from skorch.dataset import ValidSplit
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor

ESTIMATORS = [MixupClassifier, MixupRegressor]

QUICK = {"early_stopping": False, "max_epochs": 3, "lr": 0.02, "batch_size": 16, "random_state": 0}
# For the tests that ask whether something is learned.
LEARN = {**QUICK, "max_epochs": 20}


class Net(nn.Module):
    """A small net as a skorch user writes one."""

    def __init__(self, width: int = 8, dropout: float = 0.0, n_features: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.first(x))))


class Sum(nn.Module):
    """A linear model of the sum of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(5, 3)

    def forward(self, a: Tensor, b: Tensor) -> Tensor:
        return self.line(a + b)


USER: dict[str, Any] = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.SGD,
    "lr": 0.1,
    "max_epochs": 3,
    "batch_size": 16,
    "train_split": ValidSplit(4, stratified=True),
    "verbose": 0,
}

Make = Callable[..., Any]


def get_weights(net: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def is_equal(weights: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(weights[name], other[name]) for name in weights)


def get_accuracy(net: Any, X: Any, y: Any) -> float:
    return accuracy_score(y, net.predict_proba(X).argmax(axis=1))
