"""Soft labels: distributions over the classes, trained on by their cross-entropy."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(40, 5)).astype(np.float32)
SOFT = GENERATOR.dirichlet(np.ones(3), size=40)
SOFT[:4] = np.eye(3)[[0, 1, 2, 0]]
OPTIONS = QUICK | {"max_epochs": 2, "batch_size": 10, "lr": 0.1, "optimizer": torch.optim.SGD}
FORMS: dict[str, Any] = {
    "float64": SOFT,
    "float32": SOFT.astype(np.float32),
    "tensor": torch.as_tensor(SOFT),
    "list": SOFT.tolist(),
}


def train_by_hand(module: nn.Module, lr: float = 0.1, **options: Any) -> list[float]:
    """Train in order, by torch's cross-entropy; return the mean loss of each epoch."""
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=lr), []
    for _ in range(2):
        for start in range(0, 40, 10):
            rows = slice(start, start + 10)
            y = torch.tensor(SOFT[rows], dtype=torch.float32)
            loss = F.cross_entropy(module(torch.tensor(X[rows])), y, **options)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return [float(np.mean(losses[:4])), float(np.mean(losses[4:]))]


def make_net(**options: Any) -> MixupClassifier:
    given = {"alpha": 0, "iterator_train__shuffle": False, **OPTIONS, **options}
    return MixupClassifier(nn.Linear, module__in_features=5, module__out_features=3, **given)


@pytest.mark.parametrize("way", ["fast", "steps", "stacked", "Dataset"])
@pytest.mark.parametrize(
    "options", [{}, {"label_smoothing": 0.1}, {"weight": torch.tensor([1.0, 2.0, 3.0])}], ids=str
)
@pytest.mark.filterwarnings("ignore:stacked")
def test_training_equals_a_loop_of_torchs_cross_entropy(way: str, options: dict[str, Any]) -> None:
    given = {
        name if name == "label_smoothing" else f"criterion__{name}": value for name, value in options.items()
    }
    net = make_net(**given, **({"augment": lambda x: x} if way == "steps" else {}))
    module = make_net().initialize().module_
    if way == "stacked":
        fit_stacked([(net, X, SOFT), (make_net(**given, random_state=1), X, SOFT)])
    elif way == "Dataset":
        net.fit(TensorDataset(torch.tensor(X), torch.tensor(SOFT)))
    else:
        net.fit(X, SOFT)
    assert net.loss_curve_ == pytest.approx(train_by_hand(module, **options), rel=1e-4)
    torch.testing.assert_close(net.module_.weight, module.weight, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("form", FORMS)
def test_forms_of_soft_labels_train_alike(form: str) -> None:
    net, other = make_net(alpha=0.4).fit(X, FORMS[form]), make_net(alpha=0.4).fit(X, SOFT)
    torch.testing.assert_close(net.module_.weight, other.module_.weight, rtol=1e-4, atol=1e-5)
    assert net.classes_.tolist() == [0, 1, 2]
    expected = torch.softmax(net.module_(torch.tensor(X)).detach().double(), 1)
    np.testing.assert_allclose(net.predict_proba(X), expected, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(X), expected.argmax(1))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("own", [False, True])
def test_labels_are_mixed_linearly(own: bool, weighted: bool) -> None:
    net = make_net(criterion=type("Own", (nn.CrossEntropyLoss,), {}) if own else "auto").fit(X, SOFT)
    logits, lam = torch.randn(40, 3, generator=torch.Generator().manual_seed(0)), torch.rand(40)
    y = torch.tensor(SOFT, dtype=torch.float32)
    weight = torch.linspace(1, 3, 40)
    target = lam[:, None] * y + (1 - lam[:, None]) * y.roll(1, 0)
    losses = -(target * torch.log_softmax(logits, 1)).sum(1)
    expected = (weight * losses).sum() / weight.sum() if weighted else losses.mean()
    pair, lams = torch.stack([y, y.roll(1, 0)]), torch.stack([lam, 1 - lam])
    loss = net.get_mixed_loss(logits, pair, lams, weight if weighted else None)
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-5)


def test_weights_equal_repeated_rows() -> None:
    weight = np.where(np.arange(40) < 20, 2.0, 1.0)
    repeated = np.repeat(np.arange(40), weight.astype(int))
    net = make_net(batch_size=-1).fit(X, SOFT, sample_weight=weight)
    other = make_net(batch_size=-1).fit(X[repeated], SOFT[repeated])
    assert net.loss_curve_ == pytest.approx(other.loss_curve_, rel=1e-4)


@pytest.mark.parametrize("names", [None, ["a", "b", "c"]], ids=["codes", "names"])
def test_a_column_of_labels_is_scored_as_labels(names: Any) -> None:
    net = make_net(classes=names).fit(X, SOFT)
    labels = np.asarray(names or range(3))[SOFT.argmax(1)]
    expected = np.mean(net.predict(X) == labels)
    for form in (labels, labels[:, None], pd.DataFrame({"label": labels}), SOFT, torch.as_tensor(SOFT)):
        assert net.score(X, form) == pytest.approx(expected)


@pytest.mark.parametrize("y", [SOFT[:, :2], np.eye(5)[:1].repeat(40, 0), np.zeros((40, 3)), SOFT * 2])
def test_scores_towards_other_shares_are_refused(y: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"y must hold rows of 3 probabilities that sum to 1, or one label"):
        make_net().fit(X, SOFT).score(X, y)


def test_scores_are_those_of_the_most_probable_class() -> None:
    net = make_net(early_stopping=True, max_epochs=3).fit(X, SOFT)
    hits = net.predict(X) == SOFT.argmax(1)
    assert net.score(X, SOFT) == net.score(X, SOFT.argmax(1)) == pytest.approx(hits.mean())
    weight = np.linspace(0, 1, 40)
    assert net.score(X, SOFT, weight) == pytest.approx(np.average(hits, weights=weight))
    assert set(net.history[:, "valid_acc"]) <= {0.0, 0.25, 0.5, 0.75, 1.0}
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


def test_names_of_classes_are_those_of_the_columns(tmp_path: Any) -> None:
    net = make_net(classes=["c", "a", "b"]).fit(X, SOFT)
    assert net.classes_.tolist() == ["c", "a", "b"]
    codes = net.predict_proba(X).argmax(1)
    np.testing.assert_array_equal(net.predict(X), np.array(["c", "a", "b"])[codes])
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = make_net(classes=["c", "a", "b"])
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))
    with pytest.raises(ValueError, match="classes must name one label for each column of y; got 2 for 3"):
        make_net(classes=["a", "b"]).fit(X, SOFT)


def test_later_rows_of_zeros_and_ones_are_soft_labels_too() -> None:
    net = make_net().fit(X, SOFT).partial_fit(X[:4], SOFT[:4])
    assert net.predict(X).shape == (40,)
    assert make_net().fit(X, SOFT[GENERATOR.integers(4, size=40)]).predict(X).shape == (40, 3)


def test_rows_that_do_not_sum_to_one_are_refused() -> None:
    with pytest.raises(
        ValueError, match="soft labels whose rows sum to 1; got fractions in rows that sum to"
    ):
        make_net().fit(X, 2 * SOFT)
    with pytest.raises(ValueError, match="y contains missing values"):
        make_net().fit(X, np.where(SOFT > 0.9, np.nan, SOFT))
    with pytest.raises(ValueError, match="class_weight must be None for rows of"):
        make_net(class_weight="balanced").fit(X, SOFT)
    with pytest.raises(ValueError, match="by class for soft labels"):
        make_net(alpha=0.4, partners="same_class").fit(X, SOFT)
    with pytest.raises(ValueError, match="criterion must take probabilities as targets"):
        make_net(criterion=nn.MultiMarginLoss).fit(X, SOFT)
    with pytest.raises(ValueError, match="module must return 3 logits per row"):
        MixupClassifier(nn.Linear(5, 4), **OPTIONS).fit(X, SOFT)


def test_members_share_soft_labels() -> None:
    class Members(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x).unflatten(1, (4, 3))

    net = MixupClassifier(Members(5, 12), alpha=0, **OPTIONS | {"batch_size": -1, "lr": 1e-9}).fit(X, SOFT)
    output, y = net.module_(torch.tensor(X)), torch.tensor(SOFT, dtype=torch.float32)
    expected = torch.stack([F.cross_entropy(output[:, k], y) for k in range(4)]).mean()
    assert net.loss_curve_[-1] == pytest.approx(expected.item(), rel=1e-5)
