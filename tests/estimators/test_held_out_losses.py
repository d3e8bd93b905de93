"""A loss of held-out rows that is no finite number: refused, warned of, or left to who means it."""

from typing import Any

import numpy as np
import pytest
from skorch import NeuralNet
from skorch.helper import predefined_split
import torch
from torch import nn
from torch.utils.data import Subset

from sk_mixup import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupNetMixin,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.estimators._temperature import HeldOutScores, find_temperature

GENERATOR = np.random.default_rng(0)
X = GENERATOR.normal(size=(60, 4)).astype(np.float32)
CODES = np.arange(60) % 3
FAR = X.copy()
FAR[3] = 3e38  # finite in float32, but no sum of these is
WEIGHT = np.arange(60) % 3 + 1.0
TARGETS = {
    "labels": (MixupClassifier, CODES),
    "soft labels": (MixupClassifier, 0.8 * np.eye(3)[CODES] + 0.2 / 3),
    "several labels": (MixupClassifier, (X[:, :2] > 0).astype(int)),
    "values": (MixupRegressor, X[:, 0]),
    "columns": (MixupRegressor, X[:, :2]),
    "some labels": (SemiSupervisedMixupClassifier, np.where(np.arange(60) < 30, CODES, -1)),
}
MATCH = r"valid_loss must stay finite; got (nan|inf) in epoch 1\. Look for values far .* or lower lr \(now"


def hold_out_ten(dataset: Any, y: object = None, **_: object) -> tuple[Any, Any]:
    return Subset(dataset, np.arange(10, len(dataset))), Subset(dataset, np.arange(10))


QUICK: dict[str, Any] = {"max_epochs": 3, "random_state": 0, "train_split": hold_out_ten}
# Held-out losses of whole blocks, and step by step.
WAYS: dict[str, dict[str, Any]] = {
    "blocks": {},
    "steps": {"augment": lambda x: x},
    "no_stop": {"early_stopping": False},
}


@pytest.mark.filterwarnings("ignore:X must be near unit scale")
@pytest.mark.parametrize("is_weighted", [False, True], ids=["plain", "weighted"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", TARGETS)
def test_a_held_out_loss_that_is_not_finite_is_refused(kind: str, way: str, is_weighted: bool) -> None:
    owner, y = TARGETS[kind]
    with pytest.raises(ValueError, match=MATCH):
        owner(**QUICK, **WAYS[way]).fit(FAR, y, sample_weight=WEIGHT if is_weighted else None)


@pytest.mark.filterwarnings("ignore:X must be near unit scale")
@pytest.mark.parametrize(
    "option", [{"calibrate": False}, {"n_iter_no_change": 1}, {"callbacks": "disable"}], ids=str
)
def test_it_is_refused_whatever_is_made_of_it(option: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=MATCH):
        MixupClassifier(**QUICK, **option).fit(FAR, CODES)


@pytest.mark.filterwarnings("ignore:X must be near unit scale", "ignore:stacked. nets are trained one by one")
@pytest.mark.parametrize(
    ("owner", "y"), [(MixupEnsembleClassifier, CODES), (MixupEnsembleRegressor, X[:, 0])]
)
def test_it_is_refused_by_ensembles(owner: Any, y: np.ndarray) -> None:
    options = {f"estimator__{name}": value for name, value in QUICK.items() if name != "random_state"}
    with pytest.raises(ValueError, match=MATCH):
        owner(n_members=2, random_state=0, **options).fit(FAR, y)


class Own(nn.CrossEntropyLoss):
    """A loss of the user's own, who may mean what it returns."""


@pytest.mark.filterwarnings("ignore:X must be near unit scale")
@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_loss_of_the_users_own_is_warned_of_once_and_tells_no_temperature(early_stopping: bool) -> None:
    net = MixupClassifier(**QUICK, criterion=Own, early_stopping=early_stopping)
    with pytest.warns(UserWarning, match=MATCH) as caught:
        net.fit(FAR, CODES)
    assert sum("valid_loss" in str(item.message) for item in caught) == 1
    assert len(net.history) == 3
    assert 0.1 < net.temperature_ < 10


class Mixed(MixupNetMixin, NeuralNet):
    """A net of skorch's that mixes."""


class Diverging(nn.Linear):
    """Logits that are no numbers in training, evaluation or both."""

    def __init__(self, *when: bool) -> None:
        super().__init__(4, 3)
        self.when = when

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x) * (torch.nan if self.training in self.when else 1.0)


@pytest.mark.parametrize(
    ("when", "expected"), [((False,), "valid"), ((True,), "train"), ((True, False), "train")]
)
def test_a_skorch_net_warns_once_of_the_first_loss_and_goes_on(when: tuple[bool, ...], expected: str) -> None:
    held_out = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(CODES))
    net = Mixed(
        Diverging(*when), nn.CrossEntropyLoss, max_epochs=3, verbose=0, train_split=predefined_split(held_out)
    )
    with pytest.warns(UserWarning, match="must stay finite") as caught:
        net.fit(X, CODES)
    told = [str(item.message) for item in caught if "must stay finite" in str(item.message)]
    assert len(told) == 1
    assert told[0].startswith(f"{expected}_loss must stay finite; got nan in epoch 1.")
    assert len(net.history) == 3


@pytest.mark.parametrize("owner", [MixupClassifier, Mixed])
def test_held_out_images_without_a_label_count_for_nothing(owner: Any) -> None:
    """A batch of them has the loss NaN in torch, and no weight."""
    images, maps = X.reshape(60, 1, 2, 2), np.tile(CODES[:, None, None], (1, 2, 2))
    maps[:5] = -100
    options = {"iterator_valid__batch_size": 5, "verbose": 0, "train_split": hold_out_ten, "max_epochs": 2}
    net = owner(nn.Conv2d(1, 3, 1), criterion=nn.CrossEntropyLoss, **options).fit(images, maps)
    np.testing.assert_allclose(net.history[:, "valid_loss"], net.history[:, "batches", -1, "valid_loss"])


@pytest.mark.parametrize("bad", [np.nan, -np.inf, np.inf])
def test_a_row_without_probabilities_tells_nothing_of_the_temperature(bad: float) -> None:
    log_proba = np.log(GENERATOR.dirichlet(np.ones(3), size=60))
    right, weight = np.eye(3)[CODES], WEIGHT
    expected = find_temperature(HeldOutScores(log_proba[1:, None], right[1:], weight[1:]))
    log_proba[0, 1] = bad
    assert find_temperature(HeldOutScores(log_proba[:, None], right, weight)) == pytest.approx(
        expected, rel=1e-12
    )
    assert find_temperature(HeldOutScores(np.full((60, 1, 3), bad), right, weight)) == 1.0
