"""Without mixing, training is a short loop in plain torch: history, weights and scores, whatever the loss."""

from __future__ import annotations

from collections.abc import Callable
import copy
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from skorch import NeuralNet, NeuralNetClassifier
from skorch.dataset import Dataset as SkorchDataset
import torch
from torch import Tensor, nn
from torch.utils.data import Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.sampling import cover_pairs, each_pair

N, N_TRAIN, EPOCHS = 45, 30, 2
RATES = {"mean": 0.1, "sum": 0.001}
_generator = np.random.default_rng(0)
X = _generator.normal(size=(N, 4))
IMAGES = _generator.normal(size=(N, 1, 3, 3))
LABELS = _generator.choice(3, size=N, p=[0.6, 0.3, 0.1])
INDICATORS = (_generator.random((N, 3)) < 0.4).astype(np.int64)
VALUES = _generator.normal(size=(N, 2))
PIXELS = _generator.choice(4, size=(N, 3, 3), p=[0.6, 0.1, 0.1, 0.2])
# Batches of several rows that weigh much, and others that weigh little.
UNEVEN = np.where(np.arange(N) % 14 < 7, 10.0, 0.1) * _generator.uniform(0.5, 2, N)


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
    if weight is None and not (y == getattr(criterion, "ignore_index", torch.nan)).all():
        return criterion(output, y)
    weight = torch.ones(len(y)) if weight is None else weight
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


def fit(task: Task, form: str, size: int, weight: Any, alpha: float = 0.0, **options: Any) -> Any:
    x, given = IMAGES if task.y.ndim > 2 else X, task.y
    criterion = {f"criterion__{name}": value for name, value in (task.options | options).items()}
    own = {} if issubclass(task.owner, Net | Classifier) else {"early_stopping": False}
    own |= {"standardize_targets": False} if task.owner is MixupRegressor else {}
    net = task.owner(
        task.build(),
        criterion=task.criterion,
        optimizer=torch.optim.SGD,
        lr=RATES[options["reduction"]],
        alpha=alpha,
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
        "sparse": sparse.csr_matrix,
    }
    return net.fit(forms[form](x), given, **({} if weight is None else {"sample_weight": weight}))


def is_allowed(name: str, form: str, reduction: str, size: int, weighted: str) -> bool:
    task = TASKS[name]
    if form == "sparse" and (task.y.ndim > 2 or issubclass(task.owner, Net | Classifier)):
        return False
    return form != "dataset" or weighted == "plain"


CASES = cover_pairs(
    TASKS,
    ("array", "sparse", "dataset"),
    ("mean", "sum"),
    (1, 7, -1),
    ("plain", "uneven"),
    allowed=is_allowed,
)


@pytest.mark.parametrize(("name", "form", "reduction", "size", "weighted"), CASES)
def test_plain_training_is_a_loop_of_torch(
    float64: None, name: str, form: str, reduction: str, size: int, weighted: str
) -> None:
    task, weight = TASKS[name], {"plain": None, "uneven": UNEVEN}[weighted]
    net = fit(task, form, size, weight, reduction=reduction)
    module, criterion = task.build(), task.criterion(**task.options, reduction=reduction)
    x = torch.as_tensor(IMAGES if task.y.ndim > 2 else X)
    y = torch.as_tensor(task.y).to(task.targets or torch.as_tensor(task.y).dtype)
    expected = train(module, criterion, x, y, None if weight is None else torch.as_tensor(weight), size)
    columns = "train_loss", "valid_loss"
    np.testing.assert_allclose(net.history[:, columns], expected, rtol=1e-7)
    torch.testing.assert_close(net.module_.state_dict(), module.state_dict(), rtol=1e-7, atol=1e-9)


# -- mixed rows --------------------------------------------------------------------------


MIXED = [
    name
    for name, task in TASKS.items()
    if task.y.dtype.kind == "i"  # real targets are mixed, not their losses
]


def reduce_mixed(criterion: Any, output: Tensor, y: Tensor, lam: Tensor, weight: Tensor | None) -> Tensor:
    """Add up torch's row losses by their shares, target by target."""
    by_row = copy.copy(criterion)
    by_row.reduction = "none"
    if isinstance(criterion, NLL):
        output = torch.log(output + torch.finfo(output.dtype).eps)
    total, divisor = torch.zeros(()), torch.zeros(())
    for k in range(len(y)):
        losses = by_row(output, y[k])
        share = lam[k] if weight is None else lam[k] * weight
        for i in range(len(share)):
            total += share[i] * losses[i].sum()
            counts = torch.ones_like(losses[i])
            if isinstance(criterion, CE | NLL):
                counted = y[k, i] != criterion.ignore_index
                counts = counted.double()
                if criterion.weight is not None:
                    counts = counts * criterion.weight[y[k, i] * counted]
            divisor += share[i] * counts.sum()
    return total if criterion.reduction == "sum" else total / divisor


@each_pair({"name": MIXED, "reduction": ["mean", "sum"], "weighted": [False, True]})
def test_mixed_loss_is_the_sum_of_row_losses(
    float64: None, name: str, reduction: str, weighted: bool
) -> None:
    task = TASKS[name]
    net = fit(task, "array", -1, None, reduction=reduction)
    x = torch.as_tensor(IMAGES if task.y.ndim > 2 else X)
    with torch.no_grad():
        output = net.module_(x[:8])
    y = torch.as_tensor(task.y).to(task.targets or torch.int64)
    y = torch.stack([y[:8], y[8:16], y[16:24]])
    lam = torch.rand(3, 8, generator=torch.Generator().manual_seed(0))
    lam = lam / lam.sum(dim=0)
    weight = torch.as_tensor(UNEVEN[:8]) if weighted else None
    found = net.get_mixed_loss(output, y, lam, weight)
    criterion = task.criterion(**task.options, reduction=reduction)
    torch.testing.assert_close(found, reduce_mixed(criterion, output, y, lam, weight))


@each_pair(
    {
        "name": ["pixels_weight", "pixels_all", "ce_weight", "ce_all", "nll_weight", "net_ce_weight"],
        "alpha": [0.0, 0.5],
        "form": ["array", "dataset"],
    }
)
def test_ten_times_the_weights_of_classes_give_the_same_net(
    float64: None, name: str, alpha: float, form: str
) -> None:
    nets = []
    for scale in (1, 10):
        task = TASKS[name]
        options = task.options | {"weight": scale * BY_CLASS}
        task = Task(task.owner, task.criterion, task.y, options, task.link, task.targets)
        nets.append(fit(task, form, 7, None, alpha=alpha, reduction="mean"))
    columns = "train_loss", "valid_loss"
    np.testing.assert_allclose(*(net.history[:, columns] for net in nets), rtol=1e-9)
    torch.testing.assert_close(*(net.module_.state_dict() for net in nets), rtol=1e-9, atol=1e-12)


# -- sums of weighted rows ---------------------------------------------------------------


@pytest.mark.parametrize("name", ["ce", "bce", "huber", "pixels", "net_huber"])
@pytest.mark.parametrize("scale", [1, 2])
def test_summed_losses_of_integer_weights_equal_repeated_rows(float64: None, name: str, scale: int) -> None:
    task, weight = TASKS[name], scale * np.where(np.arange(N_TRAIN) % 3, 1, 2)
    x = (IMAGES if task.y.ndim > 2 else X)[:N_TRAIN]
    options = {"lr": RATES["sum"], "alpha": 0, "criterion__reduction": "sum", "batch_size": -1}
    options |= {"optimizer": torch.optim.SGD, "max_epochs": 2, "train_split": None, "verbose": 0}
    nets = [task.owner(task.build(), criterion=task.criterion, random_state=0, **options) for _ in range(2)]
    if not isinstance(nets[0], Net):
        nets = [net.set_params(early_stopping=False) for net in nets]
    nets[0].fit(x, task.y[:N_TRAIN], sample_weight=weight)
    nets[1].fit(x.repeat(weight, axis=0), task.y[:N_TRAIN].repeat(weight, axis=0))
    torch.testing.assert_close(*(net.module_.state_dict() for net in nets))
    np.testing.assert_allclose(*(net.history[:, "train_loss"] for net in nets))


@pytest.mark.parametrize(
    ("name", "reduction"), [("ce", "none"), ("pixels", "none"), ("huber", "average"), ("net_nll", "none")]
)
def test_reduction_to_anything_but_a_number_is_refused(name: str, reduction: str) -> None:
    task = TASKS[name]
    net = task.owner(task.build(), criterion=task.criterion, criterion__reduction=reduction, verbose=0)
    x = IMAGES if task.y.ndim > 2 else X
    message = rf"criterion__reduction must be one of 'mean', 'sum'.*got '{reduction}'"
    with pytest.raises(ValueError, match=message):
        net.fit(x.astype(np.float32), task.y.astype(np.float32) if task.y.dtype.kind == "f" else task.y)


class Halved(MixupNetMixin, NeuralNetClassifier):
    """A net that reduces the losses of rows itself, as skorch's documentation shows."""

    def get_loss(self, *args: Any, **kwargs: Any) -> Tensor:
        return super().get_loss(*args, **kwargs).mean() / 2


def test_loss_per_row_is_for_a_get_loss_of_the_users_own() -> None:
    nets = [
        owner(
            TASKS["ce"].build(),
            criterion=CE,
            criterion__reduction=reduction,
            alpha=0,
            verbose=0,
            random_state=0,
            lr=1e-9,
            max_epochs=1,
            train_split=None,
        ).fit(X.astype(np.float32), LABELS)
        for owner, reduction in ((Halved, "none"), (Classifier, "mean"))
    ]
    found, expected = (net.history[0, "train_loss"] for net in nets)
    assert found == pytest.approx(expected / 2, rel=1e-5)


# -- targets that are ignored ------------------------------------------------------------


@pytest.mark.parametrize(
    ("labels", "ignored"),
    [
        *(([-1, 0, 1], -1), ([0, 1, 255], 255), ([10, 20, 30], 20), ([10, 20, 30], 1), (["a", "b", "c"], 2)),
        ([-100, 0, 1], -100),  # torch's default, where it is meant
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["array", "skorch"])
def test_label_to_ignore_that_torch_would_take_for_another_is_refused(
    labels: list[Any], ignored: int, form: str
) -> None:
    y = np.array(labels)[LABELS]
    net = MixupClassifier(criterion__ignore_index=ignored)
    forms: dict[str, Any] = {"array": lambda: (X, y), "skorch": lambda: (SkorchDataset(X, y),)}
    with pytest.raises(ValueError, match=rf"criterion__ignore_index must not be set.*got {ignored} for"):
        net.fit(*forms[form]())


@pytest.mark.parametrize("options", [{}, {"criterion": nn.CrossEntropyLoss()}], ids=["class", "instance"])
def test_a_label_of_minus_a_hundred_is_a_class_where_none_is_to_be_ignored(options: dict[str, Any]) -> None:
    y = np.array([-100, 0, 100])[LABELS]
    net = MixupClassifier(max_epochs=1, random_state=0, **options).fit(X, y)
    assert net.classes_.tolist() == [-100, 0, 100]


def test_label_to_ignore_that_does_not_occur_changes_nothing() -> None:
    options = {"early_stopping": False, "max_epochs": 1, "random_state": 0}
    nets = [
        MixupClassifier(**options, **own).fit(X, 10 * LABELS) for own in ({"criterion__ignore_index": 7}, {})
    ]
    np.testing.assert_allclose(*(net.predict_proba(X) for net in nets), rtol=1e-5)


# Options of the criterion, and a target that counts nothing.
NOTHING_COUNTS: dict[str, tuple[dict[str, Any], int]] = {
    "default": ({}, -100),
    "smoothed": ({"label_smoothing": 0.2}, -100),
    "named": ({"ignore_index": 3}, 3),
    "weightless": ({"weight": torch.tensor([1.0, 2.0, 0.0])}, 2),
}


def fit_plainly(name: str, options: dict[str, Any], x: np.ndarray, y: np.ndarray, **others: Any) -> Any:
    task = TASKS[name]
    criterion = {f"criterion__{key}": value for key, value in options.items()}
    common = {"optimizer": torch.optim.SGD, "lr": 0.1, "batch_size": 8, "verbose": 0, "train_split": None}
    common |= {"max_epochs": 1, "iterator_train__shuffle": False, "alpha": 0}
    net = task.owner(task.build(), criterion=task.criterion, **common | criterion | others)
    return net.fit(x.astype(np.float32), y)


@pytest.mark.parametrize(
    ("name", "case"),
    [
        *product(("net_pixels", "net_ce_weight", "pixels"), NOTHING_COUNTS),
        *product(("net_nll",), ("default", "named", "weightless")),
    ],
)
def test_batch_in_which_no_target_counts_changes_nothing(name: str, case: str) -> None:
    options, nothing = NOTHING_COUNTS[case]
    x, y = (IMAGES, PIXELS % 2) if "pixels" in name else (X, LABELS % 2)
    y = y.copy()
    y[8:16] = nothing
    if "pixels" in name:  # for the estimator to know the class
        y[0, 0, 0] = 2
    kept = np.r_[:8, 16:24]
    whole, part = (fit_plainly(name, options, x[rows], y[rows]) for rows in (np.arange(24), kept))
    losses = whole.history[-1, "batches", :, "train_loss"]
    assert losses[1] == 0
    assert losses[::2] == part.history[-1, "batches", :, "train_loss"]
    torch.testing.assert_close(whole.module_.state_dict(), part.module_.state_dict(), rtol=0, atol=0)


def test_plain_loss_is_torchs_to_the_last_bit() -> None:
    net = fit_plainly("net_pixels", {"weight": None}, IMAGES, MAP)
    module = TASKS["net_pixels"].build()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    for x, y in zip(
        torch.as_tensor(IMAGES, dtype=torch.float32).split(8), torch.as_tensor(MAP).split(8), strict=True
    ):
        optimizer.zero_grad()
        CE()(module(x), y).backward()
        optimizer.step()
    torch.testing.assert_close(net.module_.state_dict(), module.state_dict(), rtol=0, atol=0)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_held_out_batch_in_which_no_target_counts_is_left_out_of_the_mean(alpha: float) -> None:
    y, last = PIXELS % 3, np.arange(N) >= N - 7
    y[N_TRAIN:-7] = -100
    net = fit_plainly("net_pixels", {}, IMAGES, y, alpha=alpha, train_split=split_off_the_last)
    (found,) = net.history[:, "valid_loss"]
    output = net.module_(torch.as_tensor(IMAGES[last], dtype=torch.float32))
    assert found == pytest.approx(CE()(output, torch.as_tensor(y[last])).item(), rel=1e-5)
