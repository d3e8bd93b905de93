"""Probabilities at scikit-learn's edge: in double precision, by the link that the criterion implies."""

from collections.abc import Callable
import json
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from sklearn.metrics import log_loss
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.inspection import reliability_curve
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

X = np.random.default_rng(0).normal(size=(60, 5)).round(1)
LABELS = np.arange(60) % 3
INDICATORS = np.stack([X[:, 0] > 0, X[:, 1] > 0, X[:, 2] > 0.5], axis=1).astype(int)
OPTIONS = QUICK | {"max_epochs": 1}


class Loud(nn.Linear):
    """Returns logits that are so large that probabilities are rounded to 0 and 1."""

    def __init__(
        self, out_features: int = 3, scale: float = 100.0, n_axes: int = 0, dtype: Any = None
    ) -> None:
        super().__init__(5, out_features, dtype=dtype)
        self.scale, self.n_axes = scale, n_axes

    def forward(self, x: Tensor) -> Tensor:
        logits = super().forward(x.to(self.weight.dtype)) * self.scale
        return logits.reshape(*logits.shape, *(1,) * self.n_axes)


def compute_logits(net: Any, rows: Any = X) -> Tensor:
    """Return the logits of single precision, as double ones."""
    with torch.no_grad():
        return net.module_(torch.tensor(rows, dtype=torch.float32)).double()


FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda rows: rows.astype(np.float32),
    "float64": lambda rows: rows,
    "list": lambda rows: rows.tolist(),
    "sparse": sparse.csr_matrix,
    "tensor": torch.as_tensor,
    "Dataset": lambda rows: TensorDataset(torch.as_tensor(rows, dtype=torch.float32), torch.zeros(len(rows))),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_log_loss_equals_the_cross_entropy_of_the_logits(form: str, scale: float) -> None:
    net = MixupClassifier(Loud, module__scale=scale, **OPTIONS).fit(X, LABELS)
    proba, logits = net.predict_proba(FORMS[form](X)), compute_logits(net)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-12)
    log_p = torch.log_softmax(logits, 1).clamp(min=np.log(np.finfo(float).eps))  # where scikit-learn clips
    expected = F.nll_loss(log_p, torch.tensor(LABELS))
    assert log_loss(LABELS, proba) == pytest.approx(float(expected), rel=1e-6)
    np.testing.assert_array_equal(net.predict(X), logits.argmax(dim=1))
    np.testing.assert_array_equal(net.predict(X), proba.argmax(axis=1))
    np.testing.assert_allclose(net.predict_log_proba(FORMS[form](X)), torch.log_softmax(logits, 1), rtol=1e-5)


def test_reliability_is_that_of_double_precision() -> None:
    net = MixupClassifier(Loud, **OPTIONS).fit(X, LABELS)
    curve = reliability_curve(LABELS, net.predict_proba(X))
    assert curve.nll == pytest.approx(log_loss(LABELS, torch.softmax(compute_logits(net), 1)), rel=1e-6)


def test_one_logit_gives_both_probabilities_to_full_precision() -> None:
    y = (X[:, 0] > 0).astype(int)
    net = MixupClassifier(Loud, module__out_features=1, criterion=nn.BCEWithLogitsLoss, **OPTIONS).fit(X, y)
    logits = compute_logits(net).squeeze(1)
    proba = net.predict_proba(X)
    np.testing.assert_allclose(proba, torch.stack([(-logits).sigmoid(), logits.sigmoid()], 1), rtol=1e-4)
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(net.predict_log_proba(X)[:, 0], F.logsigmoid(-logits), rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), logits > 0)


def test_several_labels_and_pixels_are_in_double_precision() -> None:
    net = MixupClassifier(Loud, **OPTIONS).fit(X, INDICATORS)
    np.testing.assert_allclose(net.predict_proba(X), compute_logits(net).sigmoid(), rtol=1e-4)
    assert np.isfinite(net.predict_log_proba(X)).all()
    maps = MixupClassifier(Loud, module__n_axes=2, **OPTIONS).fit(X, LABELS[:, None, None])
    proba = maps.predict_proba(X)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-12)
    np.testing.assert_allclose(proba, torch.softmax(compute_logits(maps), 1), rtol=1e-4)


def test_semi_supervised_and_stacked_nets_give_the_same_precision() -> None:
    partly = np.where(np.arange(60) < 30, LABELS, -1)
    net = SemiSupervisedMixupClassifier(Loud, max_epochs=1, random_state=0).fit(X, partly)
    np.testing.assert_allclose(net.predict_proba(X), torch.softmax(compute_logits(net), 1), rtol=1e-4)
    single = [MixupClassifier(Loud, **OPTIONS | {"random_state": k}).fit(X, LABELS) for k in (0, 1)]
    nets = fit_stacked([(MixupClassifier(Loud, **OPTIONS | {"random_state": k}), X, LABELS) for k in (0, 1)])
    for one, other in zip(single, nets, strict=True):
        assert other.predict_proba(X).dtype == np.float64
        np.testing.assert_allclose(other.predict_log_proba(X), one.predict_log_proba(X), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_modules_of_other_precision_have_the_same_link(dtype: torch.dtype) -> None:
    net = MixupClassifier(Loud, module__dtype=dtype, module__scale=1.0, **OPTIONS).fit(X, LABELS)
    proba = net.predict_proba(X)
    assert proba.dtype == np.float64
    np.testing.assert_allclose(proba.sum(axis=1), 1, rtol=0, atol=1e-12)
    json.dumps(float(proba[0, 0]))


def test_link_of_the_users_own_wins_and_is_given_doubles() -> None:
    net = MixupClassifier(Loud, predict_nonlinearity=lambda z: torch.softmax(z / 50, 1), **OPTIONS).fit(
        X, LABELS
    )
    expected = torch.softmax(compute_logits(net) / 50, 1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_allclose(net.predict_log_proba(X), expected.log(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("form", "dtype"), [("float32", "f4"), ("float64", "f8"), ("list", "f8"), ("int", "f8")]
)
def test_regressors_predict_in_the_precision_of_the_rows(form: str, dtype: str) -> None:
    rows = (FORMS | {"int": lambda rows: (10 * rows).astype(int)})[form](X)
    net = MixupRegressor(**OPTIONS).fit(rows, X[:, 0])
    assert net.predict(rows).dtype == dtype
    assert not hasattr(net, "predict_log_proba")


# -- criteria of the user's own ----------------------------------------------------------


class Focal(nn.Module):
    """Focal loss of logits, as users write it."""

    def __init__(self, gamma: float = 2.0, reduction: str = "mean") -> None:
        super().__init__()
        self.gamma, self.reduction = gamma, reduction

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, y, reduction="none")
        losses = (1 - (-losses).exp()) ** self.gamma * losses
        return losses if self.reduction == "none" else losses.mean()


class Wrapped(nn.Module):
    """A module round a loss of torch's."""

    def __init__(self, loss: type[nn.Module] = nn.CrossEntropyLoss) -> None:
        super().__init__()
        self.loss = loss()

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return self.loss(output, y)


class Own(nn.CrossEntropyLoss):
    """A cross-entropy of the user's."""


class OfProbabilities(nn.Module):
    """A loss of probabilities, as users write it."""

    def forward(self, proba: Tensor, y: Tensor) -> Tensor:
        proba = proba.clamp(1e-6, 1 - 1e-6)
        if y.ndim == 1:
            return -proba.gather(1, y[:, None]).log().mean()
        return -torch.where(y > 0.5, proba, 1 - proba).log().mean()


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("criterion", [Focal, Wrapped, Own, nn.MultiMarginLoss])
def test_criterion_on_logits_implies_a_softmax(criterion: type[nn.Module], alpha: float) -> None:
    net = MixupClassifier(
        Loud, criterion=criterion, alpha=alpha, lam_per="batch", module__scale=1.0, **OPTIONS
    )
    expected = torch.softmax(compute_logits(net.fit(X, LABELS)), 1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)


@pytest.mark.parametrize("criterion", [nn.MultiLabelSoftMarginLoss, Wrapped])
def test_criterion_on_logits_of_several_labels_implies_a_sigmoid(criterion: type[nn.Module]) -> None:
    options = {"criterion__loss": nn.BCEWithLogitsLoss} if criterion is Wrapped else {}
    net = MixupClassifier(Loud, criterion=criterion, alpha=0, module__scale=1.0, **options, **OPTIONS)
    expected = compute_logits(net.fit(X, INDICATORS)).sigmoid()
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), expected > 0.5)


def make_module(n_outputs: int, *last: nn.Module) -> nn.Module:
    return nn.Sequential(nn.Linear(5, n_outputs), *last)


@pytest.mark.parametrize(
    ("criterion", "module", "y"),
    [
        (nn.NLLLoss, make_module(3, nn.Softmax(1)), LABELS),
        (nn.BCELoss, make_module(3, nn.Sigmoid()), INDICATORS),
        (nn.BCELoss, make_module(1, nn.Sigmoid()), INDICATORS[:, 0]),
    ],
    ids=["NLL", "BCE of several labels", "BCE of one"],
)
def test_probabilities_of_a_known_criterion_are_kept(
    criterion: Any, module: nn.Module, y: np.ndarray
) -> None:
    net = MixupClassifier(module, criterion=criterion, alpha=0, **OPTIONS).fit(X, y)
    output = compute_logits(net)
    expected = torch.cat([1 - output, output], 1) if output.shape[1] == 1 else output
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("last", "y"), [(nn.Softmax(1), LABELS), (nn.Sigmoid(), INDICATORS)], ids=["softmax", "sigmoid"]
)
def test_probabilities_of_an_unknown_criterion_are_asked_about(last: nn.Module, y: np.ndarray) -> None:
    net = MixupClassifier(make_module(3, last), criterion=OfProbabilities, alpha=0, **OPTIONS)
    with pytest.warns(UserWarning, match="looks like probabilities. Set predict_nonlinearity=None"):
        net.fit(X, y)
    net.set_params(predict_nonlinearity=None).fit(X, y)
    np.testing.assert_allclose(net.predict_proba(X), compute_logits(net), rtol=1e-5)


def test_loss_of_a_wrapped_criterion_is_that_of_the_logits() -> None:
    net = MixupClassifier(Loud, criterion=Wrapped, alpha=0, module__scale=1.0, **OPTIONS | {"lr": 1e-12})
    net.fit(X, LABELS)
    expected = F.cross_entropy(compute_logits(net), torch.tensor(LABELS))
    assert net.loss_curve_[0] == pytest.approx(float(expected), rel=1e-4)
