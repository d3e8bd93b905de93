"""Without mixing, training is a short loop in plain torch: history, weights and scores, whatever the loss."""

from __future__ import annotations

from collections.abc import Callable
import copy
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from skorch import NeuralNet, NeuralNetClassifier
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.sampling import cover_pairs

N, N_TRAIN, EPOCHS = 45, 30, 2
RATES = {"mean": 0.1, "sum": 0.001}
_generator = np.random.default_rng(0)
X = _generator.normal(size=(N, 4))
IMAGES = _generator.normal(size=(N, 1, 3, 3))
LABELS = _generator.choice(3, size=N, p=[0.6, 0.3, 0.1])
INDICATORS = (_generator.random((N, 3)) < 0.4).astype(np.int64)
VALUES = _generator.normal(size=(N, 2))
PIXELS = _generator.choice(4, size=(N, 3, 3), p=[0.6, 0.1, 0.1, 0.2])
WEIGHT = _generator.uniform(0.2, 5, N)
# Batches of several rows that weigh much, and others that weigh little.
UNEVEN = np.where(np.arange(N) % 14 < 7, 10.0, 0.1)


class Classifier(MixupNetMixin, NeuralNetClassifier):
    """skorch's classifier with our training."""


class Net(MixupNetMixin, NeuralNet):
    """skorch's bare net with our training."""


def split_off_the_last(dataset: Any, y: Any = None, **_: Any) -> tuple[Subset, Subset]:
    return Subset(dataset, range(N_TRAIN)), Subset(dataset, range(N_TRAIN, N))


# -- the loop ----------------------------------------------------------------------------


def reduce(criterion: Any, output: Tensor, y: Tensor, weight: Tensor | None) -> Tensor:
    """Return torch's own loss; of weighted rows that of rows which occur so often."""
    if isinstance(criterion, nn.NLLLoss):  # skorch gives it the logarithms of probabilities
        output = torch.log(output + torch.finfo(output.dtype).eps)
    if weight is None:
        return criterion(output, y)
    by_row = copy.copy(criterion)
    by_row.reduction = "none"
    losses = by_row(output, y)
    weight = weight.reshape(-1, *(1,) * (losses.ndim - 1)).expand(losses.shape)
    total = (weight * losses).sum()
    if criterion.reduction == "sum":
        return total
    if isinstance(criterion, nn.CrossEntropyLoss | nn.NLLLoss):
        counts = (y != criterion.ignore_index).double()
        if criterion.weight is not None:
            counts = counts * criterion.weight[y.where(counts > 0, torch.zeros(()).long())]
        weight = weight * counts
    return total / (weight.sum() or 1)


def train(
    module: nn.Module, criterion: Any, x: Tensor, y: Tensor, weight: Tensor | None, size: int
) -> list[tuple[float, float]]:
    """Train on the first rows, validate on the others; return both losses of each epoch."""
    optimizer = torch.optim.SGD(module.parameters(), RATES[criterion.reduction])
    own = torch.ones(N) if weight is None else weight
    held_out = slice(N_TRAIN, N)
    history = []
    for _ in range(EPOCHS):
        losses, shares = [], []
        for rows in torch.arange(N_TRAIN).split(N_TRAIN if size == -1 else size):
            loss = reduce(criterion, module(x[rows]), y[rows], None if weight is None else weight[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            shares.append(own[rows].sum().item())
        with torch.no_grad():
            valid = reduce(
                criterion, module(x[held_out]), y[held_out], None if weight is None else weight[held_out]
            )
        history.append((np.average(losses, weights=shares), valid.item()))
    return history


# -- what is compared --------------------------------------------------------------------


@dataclass(frozen=True)
class Task:
    """A loss: who is trained by it, on what."""

    owner: Any
    criterion: Any
    y: np.ndarray
    options: dict[str, Any] = field(default_factory=dict)
    link: Callable[[], nn.Module] = nn.Identity
    targets: torch.dtype | None = None

    def build(self) -> nn.Module:
        torch.manual_seed(0)
        n = 3 if self.y.dtype.kind == "i" else 2
        if self.y.ndim > 2:
            return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.Tanh(), nn.Conv2d(4, 3, 1))
        return nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, n), self.link())


CE, BCE, NLL = nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.NLLLoss
BY_CLASS = torch.tensor([1.0, 10.0, 100.0], dtype=torch.float64)
MAP = np.where(PIXELS == 3, -100, PIXELS)
SOFTMAX = {"link": lambda: nn.Softmax(dim=1)}
FLOAT = {"targets": torch.float64}
TASKS = {
    "ce": Task(MixupClassifier, CE, LABELS),
    "ce_weight": Task(MixupClassifier, CE, LABELS, {"weight": BY_CLASS}),
    "ce_ignored": Task(MixupClassifier, CE, LABELS, {"ignore_index": 1}),
    "ce_smoothed": Task(MixupClassifier, CE, LABELS, {"label_smoothing": 0.2}),
    "ce_all": Task(
        MixupClassifier, CE, LABELS, {"weight": BY_CLASS, "ignore_index": 1, "label_smoothing": 0.2}
    ),
    "nll": Task(MixupClassifier, NLL, LABELS, **SOFTMAX),
    "nll_weight": Task(MixupClassifier, NLL, LABELS, {"weight": BY_CLASS}, **SOFTMAX),
    "margin": Task(MixupClassifier, nn.MultiMarginLoss, LABELS, {"weight": BY_CLASS}),
    "bce": Task(MixupClassifier, BCE, INDICATORS, **FLOAT),
    "bce_pos_weight": Task(MixupClassifier, BCE, INDICATORS, {"pos_weight": BY_CLASS}, **FLOAT),
    "bce_weight": Task(MixupClassifier, BCE, INDICATORS, {"weight": BY_CLASS}, **FLOAT),
    "soft_margin": Task(MixupClassifier, nn.MultiLabelSoftMarginLoss, INDICATORS, **FLOAT),
    "mse": Task(MixupRegressor, nn.MSELoss, VALUES),
    "l1": Task(MixupRegressor, nn.L1Loss, VALUES),
    "smooth_l1": Task(MixupRegressor, nn.SmoothL1Loss, VALUES, {"beta": 0.5}),
    "huber": Task(MixupRegressor, nn.HuberLoss, VALUES, {"delta": 0.5}),
    "poisson": Task(MixupRegressor, nn.PoissonNLLLoss, np.floor(VALUES**2), {"full": True}),
    "pixels": Task(MixupClassifier, CE, MAP),
    "pixels_weight": Task(MixupClassifier, CE, MAP, {"weight": BY_CLASS}),
    "pixels_all": Task(
        MixupClassifier, CE, MAP, {"weight": BY_CLASS, "ignore_index": -100, "label_smoothing": 0.2}
    ),
    "net_ce_weight": Task(Classifier, CE, LABELS, {"weight": BY_CLASS}),
    "net_nll": Task(Classifier, NLL, LABELS, {"weight": BY_CLASS, "ignore_index": 0}, **SOFTMAX),
    "net_huber": Task(Net, nn.HuberLoss, VALUES),
    "net_pixels": Task(Net, CE, MAP, {"weight": BY_CLASS}),
}


def fit(task: Task, form: str, size: int, weight: Any, **options: Any) -> Any:
    x, given = IMAGES if task.y.ndim > 2 else X, options.pop("y", task.y)
    criterion = {f"criterion__{name}": value for name, value in (task.options | options).items()}
    own = {} if issubclass(task.owner, Net | Classifier) else {"early_stopping": False}
    net = task.owner(
        task.build(),
        criterion=task.criterion,
        optimizer=torch.optim.SGD,
        lr=RATES[options["reduction"]],
        alpha=0,
        max_epochs=EPOCHS,
        batch_size=size,
        iterator_train__shuffle=False,
        train_split=split_off_the_last,
        random_state=0,
        verbose=0,
        **criterion,
        **own,
    )
    if task.targets is not None and form == "dataset":
        given = given.astype(np.float64)
    if form == "dataset":
        return net.fit(TensorDataset(torch.as_tensor(x), torch.as_tensor(given)), None)
    forms: dict[str, Callable[[np.ndarray], Any]] = {
        "array": np.asarray,
        "frame": pd.DataFrame,
        "sparse": sparse.csr_matrix,
        "tensor": torch.as_tensor,
        "fortran": np.asfortranarray,
    }
    return net.fit(forms[form](x), given, **({} if weight is None else {"sample_weight": weight}))


def is_allowed(name: str, form: str, reduction: str, size: int, weighted: str) -> bool:
    task = TASKS[name]
    if form in ("frame", "sparse") and (task.y.ndim > 2 or issubclass(task.owner, Net | Classifier)):
        return False
    return form != "dataset" or weighted == "plain"


CASES = cover_pairs(
    TASKS,
    ("array", "frame", "sparse", "tensor", "fortran", "dataset"),
    ("mean", "sum"),
    (1, 7, 16, -1),
    ("plain", "weighted", "uneven"),
    allowed=is_allowed,
)


@pytest.mark.parametrize(("name", "form", "reduction", "size", "weighted"), CASES)
def test_plain_training_is_a_loop_of_torch(
    float64: None, name: str, form: str, reduction: str, size: int, weighted: str
) -> None:
    task, weight = TASKS[name], {"plain": None, "weighted": WEIGHT, "uneven": UNEVEN}[weighted]
    net = fit(task, form, size, weight, reduction=reduction)
    module, criterion = task.build(), task.criterion(**task.options, reduction=reduction)
    x = torch.as_tensor(IMAGES if task.y.ndim > 2 else X)
    y = torch.as_tensor(task.y).to(task.targets or torch.as_tensor(task.y).dtype)
    expected = train(module, criterion, x, y, None if weight is None else torch.as_tensor(weight), size)
    columns = "train_loss", "valid_loss"
    np.testing.assert_allclose(net.history[:, columns], expected, rtol=1e-7)
    torch.testing.assert_close(net.module_.state_dict(), module.state_dict(), rtol=1e-7, atol=1e-9)
