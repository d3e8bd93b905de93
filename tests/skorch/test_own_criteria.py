"""Criteria of the user's own are called as they are; mixed losses are averaged as they average."""

from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNet, NeuralNetClassifier
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import Partners

X = np.random.default_rng(0).normal(size=(30, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 30)
WEIGHT = torch.tensor([1.0, 2.0, 5.0])
WHOLE = {"batch_size": -1, "max_epochs": 3, "train_split": None, "verbose": 0, "lr": 0.1}


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


class Focal(nn.CrossEntropyLoss):
    """A focal loss, averaged over the rows."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(input, target, self.weight, reduction="none", ignore_index=self.ignore_index)
        losses = (1 - torch.exp(-losses)) ** 2 * losses
        return losses if self.reduction == "none" else losses.mean()


class Cooled(nn.CrossEntropyLoss):
    """torch's own loss of other logits, and so its mean."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input / 3, target)


class FocalOfLogs(nn.NLLLoss):
    """The same of logarithms of probabilities."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = F.nll_loss(input, target, self.weight, reduction="none")
        return 2 * losses if self.reduction == "none" else 2 * losses.mean()


class Margins(nn.CrossEntropyLoss):
    """Made for three classes, and for no other number."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.register_buffer("margins", torch.linspace(0.1, 0.5, 3))

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input - self.margins, target)


class Uncopyable(Cooled):
    """Holds what cannot be copied deeply, and so cannot be tried."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.kept = torch.ones(1, requires_grad=True) * 2

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        return super().forward(input * self.kept.detach(), target)


class FocalOfCounted(Focal):
    """A focal loss, averaged over the rows that are not ignored."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(input, target, self.weight, reduction="none", ignore_index=self.ignore_index)
        if self.reduction == "none":
            return losses**2
        return (losses**2).sum() / (target != self.ignore_index).sum()


class OfItsOwn(nn.Module):
    """A cross-entropy that is derived from none of torch's."""

    def __init__(self, weight: Tensor | None = None, reduction: str = "mean", ignore_index: int = -1) -> None:
        super().__init__()
        self.register_buffer("weight", weight)
        self.reduction, self.ignore_index = reduction, ignore_index

    def forward(self, output: Tensor, target: Tensor) -> Tensor:
        options: dict[str, Any] = {"reduction": self.reduction, "ignore_index": self.ignore_index}
        return F.cross_entropy(output, target, self.weight, **options)


@dataclass(frozen=True)
class Itself(Partners):
    """Mixes each example with itself: the loss is that of the example, and nothing may jump there."""

    within_batch = True

    def draw(self, generator: Any, bounds: Any, order: Any, facts: Any) -> Any:
        return np.arange(len(order))


def make_module(*layers: nn.Module) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3), *layers)


CRITERIA: list[tuple[Any, dict[str, Any]]] = [
    (nn.CrossEntropyLoss, {"weight": WEIGHT}),
    (Focal, {"weight": WEIGHT}),
    (Focal, {"ignore_index": 1}),
    (Focal, {}),
    (Cooled, {"weight": WEIGHT}),
    (Cooled, {"weight": WEIGHT, "ignore_index": 2}),
    (Cooled, {"label_smoothing": 0.1, "weight": WEIGHT}),
    (FocalOfLogs, {"weight": WEIGHT}),
    (OfItsOwn, {"weight": WEIGHT}),
    (OfItsOwn, {"ignore_index": 1}),
    (OfItsOwn, {}),
    (Margins, {"weight": WEIGHT}),
    (Margins, {"ignore_index": 1}),
    (Uncopyable, {"weight": WEIGHT}),
    (Uncopyable, {"ignore_index": 0}),
    (FocalOfCounted, {"weight": WEIGHT, "ignore_index": 1}),
    (FocalOfCounted, {"ignore_index": 0}),
    (Cooled, {"weight": torch.tensor([0.0, 1.0, 2.0]), "label_smoothing": 0.2}),
    (nn.CrossEntropyLoss, {"weight": torch.tensor([0.0, 1.0, 2.0]), "label_smoothing": 0.2}),
]


def fit(owner: Any, criterion: Any, options: dict[str, Any], **more: Any) -> Any:
    layers = [nn.Softmax(dim=1)] if issubclass(criterion, nn.NLLLoss) else []
    given = {f"criterion__{name}": value for name, value in options.items()}
    more = {**WHOLE, "criterion": criterion, **given, **more}
    if owner is MixupClassifier:
        more |= {"early_stopping": False, "optimizer": torch.optim.SGD}
    return owner(make_module(*layers), **more).fit(X, Y)


def get_weights(net: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize(("criterion", "options"), CRITERIA, ids=str)
@pytest.mark.parametrize("mixing", [{"alpha": 0}, {"alpha": 1, "partners": Itself()}], ids=str)
def test_trains_as_skorch_does_where_nothing_is_mixed(
    owner: Any, criterion: Any, options: dict[str, Any], mixing: dict[str, Any]
) -> None:
    net = fit(owner, criterion, options, **mixing, random_state=0)
    skorch_net = fit(NeuralNetClassifier, criterion, options)
    np.testing.assert_allclose(net.history[:, "train_loss"], skorch_net.history[:, "train_loss"], rtol=1e-5)
    torch.testing.assert_close(get_weights(net), get_weights(skorch_net), rtol=0, atol=1e-5)


@pytest.mark.parametrize(("criterion", "options"), CRITERIA, ids=str)
def test_validates_as_skorch_does(criterion: Any, options: dict[str, Any]) -> None:
    def split(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
        return dataset, dataset

    net = fit(Net, criterion, options, alpha=0, random_state=0, train_split=split)
    skorch_net = fit(NeuralNetClassifier, criterion, options, train_split=split)
    np.testing.assert_allclose(net.history[:, "valid_loss"], skorch_net.history[:, "valid_loss"], rtol=1e-5)


class Delegating(Net):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        loss: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss


class Doubling(MixupClassifier):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        loss: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        return 2 * loss


@pytest.mark.parametrize("owner", [Delegating, Doubling])
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, OfItsOwn, Focal])
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("options", [{}, {"weight": WEIGHT}, {"ignore_index": 1}], ids=str)
@pytest.mark.parametrize("mixing", [{"alpha": 0}, {"alpha": 1, "partners": Itself()}], ids=str)
def test_a_loss_of_one_s_own_is_averaged_as_it_averages(
    owner: Any, criterion: Any, reduction: str, options: dict[str, Any], mixing: dict[str, Any]
) -> None:
    def split(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
        return dataset, dataset

    if criterion is Focal and reduction == "sum":
        pytest.skip("it takes the mean in any case")
    given = {f"criterion__{name}": value for name, value in {**options, "reduction": reduction}.items()}
    more = WHOLE | {"lr": 1e-12, "max_epochs": 1, "train_split": split, "random_state": 0}
    net = owner(make_module(), criterion=criterion, **{**more, **given, **mixing}).fit(X, Y)
    with torch.no_grad():
        whole = criterion(reduction=reduction, **options)(net.module_(torch.as_tensor(X)), torch.as_tensor(Y))
    expected = float(whole) * (2 if owner is Doubling else 1)
    np.testing.assert_allclose(net.history[-1, ("train_loss", "valid_loss")], expected, rtol=1e-5)


class Flattened(nn.CrossEntropyLoss):
    """Takes maps alone."""

    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = super().forward(input.flatten(2), target.flatten(1))
        return losses.view(target.shape) if self.reduction == "none" else losses


class FocalOfPixels(Focal):
    def forward(self, input: Tensor, target: Tensor) -> Tensor:
        losses = F.cross_entropy(input.flatten(2), target.flatten(1), self.weight, reduction="none") ** 2
        return losses.view(target.shape) if self.reduction == "none" else losses.mean()


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("criterion", [Flattened, FocalOfPixels])
@pytest.mark.parametrize("weight", [None, WEIGHT], ids=["even", "weighted"])
@pytest.mark.parametrize("mixing", [{"alpha": 0}, {"alpha": 1, "partners": Itself()}], ids=str)
def test_maps_are_averaged_as_the_criterion_averages(
    owner: Any, criterion: Any, weight: Tensor | None, mixing: dict[str, Any]
) -> None:
    generator = np.random.default_rng(0)
    images = generator.normal(size=(12, 1, 4, 4)).astype(np.float32)
    labels = generator.integers(0, 3, (12, 4, 4))
    labels[:, :2] = -100
    labels[0] = -100

    def split(dataset: Any, y: Any = None, **_: Any) -> tuple[Any, Any]:
        return dataset, dataset

    options = WHOLE | {"lr": 1e-12, "max_epochs": 1, "train_split": split, "criterion__weight": weight}
    options |= {"criterion": criterion, "random_state": 0, **mixing}
    options |= {"callbacks__valid_acc": None} if owner is Net else {"early_stopping": False}
    net = owner(nn.Conv2d(1, 3, 1), **options).fit(images, labels)
    with torch.no_grad():
        expected = criterion(weight=weight)(net.module_(torch.as_tensor(images)), torch.as_tensor(labels))
    losses = net.history[-1, ("train_loss", "valid_loss")]
    np.testing.assert_allclose(losses, expected, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64], ids=str)
@pytest.mark.parametrize("criterion", [Cooled, Focal])
def test_a_criterion_is_tried_in_whatever_dtype_the_module_has(criterion: Any, dtype: torch.dtype) -> None:
    module = make_module().to(dtype)
    options = WHOLE | {"lr": 1e-12, "max_epochs": 1, "criterion": criterion}
    options |= {"criterion__weight": WEIGHT.to(dtype)}
    net = Net(module, alpha=1, partners=Itself(), random_state=0, **options).fit(X, Y)
    with torch.no_grad():
        output = net.module_(torch.as_tensor(X).to(dtype)).float()
    expected = criterion(weight=WEIGHT)(output, torch.as_tensor(Y))
    np.testing.assert_allclose(net.history[-1, "train_loss"], expected, rtol=0.02)


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("criterion", [nn.CrossEntropyLoss, Cooled, Focal, FocalOfCounted])
def test_a_batch_of_classes_that_weigh_nothing_teaches_nothing(owner: Any, criterion: Any) -> None:
    y = np.sort(Y)
    n_first = int((y == 0).sum())
    options = WHOLE | {"batch_size": n_first, "max_epochs": 1, "iterator_train__shuffle": False}
    options |= {"criterion": criterion, "criterion__weight": [0.0, 1.0, 1.0], "alpha": 0, "random_state": 0}
    if owner is MixupClassifier:
        options |= {"early_stopping": False, "optimizer": torch.optim.SGD}
    net = owner(make_module(), **options).fit(X[np.argsort(Y)], y)
    assert net.history[-1, "batches", 0, "train_loss"] == 0
    assert get_weights(net).isfinite().all()


def test_a_criterion_is_asked_on_a_copy() -> None:
    class Counting(Focal):
        n_calls = 0

        def forward(self, input: Tensor, target: Tensor) -> Tensor:
            self.n_calls += 1
            return super().forward(input, target)

    net = fit(Net, Counting, {"weight": WEIGHT}, alpha=0)
    assert net.criterion_.n_calls == net.max_epochs


class TwoCriteria(MixupNetMixin, NeuralNet):
    """Criteria under names of the user's own."""

    def initialize_criterion(self) -> Any:
        self.classes_loss_, self.size_loss_ = nn.CrossEntropyLoss(), nn.MSELoss()
        return self

    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
        return self.classes_loss_(y_pred, y_true) + 0.1 * self.size_loss_(y_pred, torch.zeros_like(y_pred))


def test_losses_of_rows_are_refused_where_no_criterion_gives_them() -> None:
    class OfRows(TwoCriteria):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
            return F.cross_entropy(y_pred, y_true, reduction="none")

    with pytest.raises(ValueError, match=r"get_loss must return one loss for a batch.* shape \(30,\)"):
        OfRows(make_module(), nn.CrossEntropyLoss, **WHOLE, alpha=0.5, lam_per="batch").fit(X, Y)


@pytest.mark.parametrize("alpha", [0, 0.5, np.inf])
def test_criteria_of_other_names_are_mixed_by_batch(alpha: float) -> None:
    seen: list[Tensor] = []

    class Noting(TwoCriteria):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Any:
            loss = super().get_loss(y_pred, y_true, X=X, training=training)
            seen.append(loss.detach())
            return loss

    options = {**WHOLE, "max_epochs": 1, "random_state": 0, "alpha": alpha, "lam_per": "batch"}
    net = Noting(make_module(), nn.CrossEntropyLoss, **options).fit(X, Y)
    loss = net.history[-1, "train_loss"]
    assert len(seen) == (1 if alpha == 0 else 2)
    assert min(seen) - 1e-6 <= loss <= max(seen) + 1e-6
    if np.isinf(alpha):
        assert loss == pytest.approx(float(sum(seen)) / 2, rel=1e-6)


def test_criteria_of_other_names_have_no_losses_of_rows() -> None:
    net = TwoCriteria(make_module(), nn.CrossEntropyLoss, **WHOLE, alpha=0.5)
    with pytest.raises(ValueError, match="criterion_ must be there for lam_per='example'"):
        net.fit(X, Y)


class NoModule:
    """No module at all, with a reduction to change."""

    def __init__(self, reduction: str = "mean") -> None:
        self.reduction = reduction

    def __call__(self, output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction=self.reduction)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("mixing", [{"alpha": 0}, {"alpha": 1, "partners": Itself()}], ids=str)
def test_what_is_no_module_is_reduced_as_it_reduces(reduction: str, mixing: dict[str, Any]) -> None:
    options = WHOLE | {"lr": 1e-12, "max_epochs": 1, "criterion": partial(NoModule, reduction)}
    net = Net(make_module(), random_state=0, **options, **mixing).fit(X, Y)
    with torch.no_grad():
        expected = float(NoModule(reduction)(net.module_(torch.as_tensor(X)), torch.as_tensor(Y)))
    assert net.history[-1, "train_loss"] == pytest.approx(expected, rel=1e-5)
