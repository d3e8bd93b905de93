"""``compile=True`` compiles modules; a criterion is asked for its type, weights and reduction as before."""

from typing import Any, NamedTuple

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupNetMixin, MixupRegressor
from sk_mixup._skorch.precision import to_float32

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3
COMPILED: dict[str, Any] = {"compile": True, "compile__backend": "eager"}
QUICK: dict[str, Any] = {"max_epochs": 3, "random_state": 0, "early_stopping": False}


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


class Softmaxed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x).softmax(dim=1)


@pytest.mark.parametrize("alpha", [0, 0.5])
@pytest.mark.parametrize(
    ("owner", "options"),
    [
        (MixupClassifier, {"criterion__weight": [1.0, 2.0, 5.0]}),
        (MixupClassifier, {"criterion__ignore_index": 1}),
        (MixupClassifier, {"criterion": nn.NLLLoss, "module": Softmaxed}),
        (MixupRegressor, {}),
        (MixupRegressor, {"criterion": nn.HuberLoss}),
    ],
    ids=str,
)
def test_losses_are_those_of_a_net_that_is_not_compiled(
    owner: Any, options: dict[str, Any], alpha: float
) -> None:
    y = 100 * X[:, 0] if owner is MixupRegressor else Y
    nets = [owner(alpha=alpha, **QUICK, **options, **more).fit(X, y) for more in ({}, COMPILED)]
    np.testing.assert_allclose(*(net.history[:, "train_loss"] for net in nets), rtol=1e-5)
    np.testing.assert_allclose(*(net.predict(X) for net in nets), rtol=1e-4)


@pytest.mark.filterwarnings("ignore:stacked")  # what is compiled is trained by itself
def test_arguments_of_a_fit_are_those_of_the_module_that_was_compiled() -> None:
    options = {f"estimator__{name}": value for name, value in COMPILED.items()}
    ensemble = MixupEnsembleClassifier(n_members=2, random_state=0, estimator__max_epochs=2, **options)
    assert ensemble.fit(X, Y).predict_proba(X).shape == (60, 3)
    with pytest.raises(TypeError, match="unknown_thing"):
        MixupClassifier(**QUICK, **COMPILED).fit(X, Y, unknown_thing=1)


def test_partners_of_the_class_are_found_in_a_dataset_of_skorchs() -> None:
    options: dict[str, Any] = {"max_epochs": 1, "train_split": None, "verbose": 0, "random_state": 0}
    module = nn.Linear(4, 3)
    nets = [
        Net(module, criterion=nn.CrossEntropyLoss, partners="same_class", lr=1e-12, **options)
        for _ in range(2)
    ]
    nets[0].fit(X, Y)
    nets[1].fit(Dataset(X, Y), None)
    np.testing.assert_allclose(*(net.history[:, "train_loss"] for net in nets), rtol=1e-5)


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64, torch.int64])
def test_all_parts_of_an_output_are_given_in_single_precision(dtype: torch.dtype) -> None:
    part = torch.ones(2, dtype=dtype)
    expected = torch.float32 if dtype in (torch.bfloat16, torch.float16) else dtype
    found: Any = to_float32({"a": part, "b": [part, Named(part, part)], "c": (part, None)})
    assert isinstance(found["b"][1], Named)
    parts = [found["a"], found["b"][0], *found["b"][1], found["c"][0]]
    assert [tensor.dtype for tensor in parts] == 5 * [expected]
    assert found["c"][1] is None
