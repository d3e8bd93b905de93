"""Integers in a skorch net: they are not mixed as they are, and what the refusal advises works."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import skorch
from skorch.dataset import ValidSplit
from torch import Tensor, nn

from sk_mixup import MixupNetMixin
from sk_mixup.mixing import GaussianNoise, ManifoldMixup, Mixture, Mixup
from tests.helpers.datasets import make_tensor_dataset

X, CODES = np.random.default_rng(0).integers(9, size=(24, 6)), np.arange(24) % 3
RULE = r"X must be of a floating dtype .*; got torch\.int64\. Give X as float32"


class Net(MixupNetMixin, skorch.NeuralNet):
    pass


class Embedded(nn.Module):
    """Takes integers only."""

    def __init__(self) -> None:
        super().__init__()
        self.codes, self.line = nn.Embedding(9, 2), nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.line(self.codes(x).flatten(1))


class Casting(nn.Linear):
    """Takes numbers of any kind."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.float())


def fit(module: nn.Module, x: Any, form: str, **options: Any) -> Any:
    split = ValidSplit(3)  # what serves training alone would fail in validation
    net = Net(module, nn.CrossEntropyLoss, train_split=split, max_epochs=1, verbose=0, **options)
    return net.fit(x, CODES) if form == "arrays" else net.fit(make_tensor_dataset(x, CODES), None)


@pytest.mark.parametrize("form", ["arrays", "data set"])
@pytest.mark.parametrize(
    "vicinity", [Mixup(), GaussianNoise(), Mixture((GaussianNoise(), Mixup()))], ids=["mix", "noise", "both"]
)
def test_integers_are_refused(vicinity: Any, form: str) -> None:
    with pytest.raises(TypeError, match=RULE):
        fit(Casting(6, 3), X, form, vicinity=vicinity)


@pytest.mark.parametrize("form", ["arrays", "data set"])
@pytest.mark.parametrize(
    ("module", "dtype", "options"),
    [
        (nn.Linear(6, 3), np.float32, {}),
        (nn.Linear(6, 3), np.float32, {"vicinity": GaussianNoise()}),
        (Embedded(), np.int64, {"vicinity": ManifoldMixup(layers=("codes",))}),
        (Embedded(), np.int64, {"alpha": 0}),
    ],
    ids=["float32", "float32 with noise", "hidden", "plain"],
)
def test_what_the_refusal_advises_works(module: nn.Module, dtype: Any, options: Any, form: str) -> None:
    net = fit(module, X.astype(dtype), form, **options)
    assert np.isfinite(net.history[-1, ("train_loss", "valid_loss")]).all()
    assert net.predict_proba(X.astype(dtype)).shape == (24, 3)
