"""A binary criterion for two classes: the width of the module follows it."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupEnsembleClassifier
from sk_mixup.modules import MLP

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
QUICK: dict[str, Any] = {"max_epochs": 3, "early_stopping": False, "random_state": 0}


class Own(nn.Module):
    """A module of a user's, with the names of sizes that are filled in."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_features, out_features)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x)
        return out


@pytest.mark.parametrize("labels", [np.array([0, 1]), np.array(["no", "yes"]), np.array([False, True])])
@pytest.mark.parametrize("module", [MLP, Own])
def test_one_logit_for_two_classes(labels: np.ndarray, module: Any) -> None:
    net = MixupClassifier(module, criterion=nn.BCEWithLogitsLoss, **QUICK).fit(X, labels[Y])
    logits = net.forward(X)
    assert logits.shape == (60, 1)
    expected = torch.sigmoid(logits.double()).numpy()
    np.testing.assert_allclose(net.predict_proba(X), np.hstack([1 - expected, expected]), atol=1e-12)
    assert np.array_equal(net.classes_, labels)
    named = MixupClassifier(module, criterion=nn.BCEWithLogitsLoss, module__out_features=1, **QUICK)
    np.testing.assert_array_equal(net.predict_proba(X), named.fit(X, labels[Y]).predict_proba(X))


@pytest.mark.parametrize("y", [np.arange(60) % 3, X > 0], ids=["three classes", "several labels"])
def test_other_targets_keep_their_width(y: np.ndarray) -> None:
    net = MixupClassifier(criterion=nn.BCEWithLogitsLoss, **QUICK)
    if y.ndim == 1:
        with pytest.raises(ValueError, match="criterion must be a cross-entropy for 3 classes"):
            net.fit(X, y)
    else:
        assert net.fit(X, y.astype(int)).forward(X).shape == (60, 4)


@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one")
def test_members_of_an_ensemble_have_one_logit_too() -> None:
    member = MixupClassifier(criterion=nn.BCEWithLogitsLoss, max_epochs=2)
    model = MixupEnsembleClassifier(member, n_members=2, random_state=0).fit(X, Y)
    assert [net.forward(X).shape for net in model.estimators_] == [(60, 1)] * 2


def test_saved_weights_fit_a_new_net(tmp_path: Any) -> None:
    net = MixupClassifier(criterion=nn.BCEWithLogitsLoss, **QUICK).fit(X, Y)
    net.save_params(tmp_path / "net.safetensors", use_safetensors=True)
    again = MixupClassifier(criterion=nn.BCEWithLogitsLoss, **QUICK)
    again.load_params(tmp_path / "net.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(again.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("classes", [["a", "b"], [0, 1, 2], [1, 2]])
def test_saved_classes_are_those_that_are_named(tmp_path: Any, classes: Any) -> None:
    net = MixupClassifier(**QUICK).fit(X, Y)
    net.save_params(tmp_path / "net.safetensors", use_safetensors=True)
    again = MixupClassifier(**QUICK, classes=classes)
    with pytest.raises(ValueError, match="classes must be the same"):
        again.load_params(tmp_path / "net.safetensors", use_safetensors=True)
    assert not again.initialized_
    same = MixupClassifier(**QUICK, classes=[0, 1])
    same.load_params(tmp_path / "net.safetensors", use_safetensors=True)
    np.testing.assert_array_equal(same.predict_proba(X), net.predict_proba(X))
