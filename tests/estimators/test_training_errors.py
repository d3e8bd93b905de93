"""Training that goes wrong: outputs of another width, a loss that is not finite, rows that go missing."""

from math import nan
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor
from tests.helpers.nets import ESTIMATORS

# -- the module's output -----------------------------------------------------------------


class Wide(nn.Module):
    """A linear model whose outputs number `width`, or have no axis of their own for None."""

    def __init__(self, width: int | None) -> None:
        super().__init__()
        self.width = width
        self.line = nn.Linear(5, width or 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        output = self.line(x)
        return output[:, 0] if self.width is None else output


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("width", [1, 2, 4, None])
def test_classifier_module_of_another_width_is_refused(blobs: Any, alpha: float, width: int | None) -> None:
    net = MixupClassifier(Wide, module__width=width, alpha=alpha)
    with pytest.raises(ValueError, match=r"module must return 3 logits per row.*last layer to 3"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("width", [2, 4])
def test_multilabel_module_of_another_width_is_refused(multilabel: Any, alpha: float, width: int) -> None:
    with pytest.raises(ValueError, match=r"module must return 3 logits per row"):
        MixupClassifier(Wide, module__width=width, alpha=alpha).fit(multilabel.X, multilabel.y)


@pytest.mark.parametrize("alpha", [0, 1])
def test_two_logits_for_a_binary_loss_are_refused(binary: Any, alpha: float) -> None:
    net = MixupClassifier(Wide, module__width=2, alpha=alpha, criterion=nn.BCEWithLogitsLoss)
    with pytest.raises(ValueError, match=r"module must return 1 logit"):
        net.fit(binary.X, binary.y)


def test_binary_loss_for_three_classes_is_refused(blobs: Any) -> None:
    net = MixupClassifier(Wide, module__width=1, criterion=nn.BCEWithLogitsLoss)
    with pytest.raises(ValueError, match=r"BCEWithLogitsLoss|criterion must"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("width", [2, 60])
def test_regressor_module_of_another_width_is_refused(
    line: Any, alpha: float, weighted: bool, width: int
) -> None:
    weight = 1.0 + np.arange(60) if weighted else None
    net = MixupRegressor(Wide, module__width=width, alpha=alpha, batch_size=-1)
    with pytest.raises(ValueError, match=r"module must return 1 outputs? per row"):
        net.fit(line.X, line.y, sample_weight=weight)


@pytest.mark.parametrize("width", [None, 1])
def test_targets_are_never_broadcast(line: Any, width: int | None) -> None:
    options = {"module__width": width, "lr": 0.1, "max_epochs": 60, "random_state": 0}
    net = MixupRegressor(Wide, **options).fit(line.X, line.y)
    assert net.score(line.X, line.y) > 0.9


# -- training that goes wrong ------------------------------------------------------------


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("alpha", [0, 1])
def test_loss_that_overflows_is_reported(owner: type, blobs: Any, alpha: float) -> None:
    net = owner(alpha=alpha, lr=1e30, optimizer=torch.optim.SGD, max_epochs=5)
    with pytest.raises(ValueError, match=r"train_loss must stay finite; got (nan|inf) in epoch \d.*lower lr"):
        net.fit(blobs.X, blobs.y)


class Breaking(nn.Linear):
    """A linear model whose output is NaN from the `after`-th training batch on."""

    def __init__(self, after: int) -> None:
        super().__init__(5, 3)
        self.calls = 0
        self.after = after

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        return super().forward(x) * (nan if self.calls >= self.after else 1.0)


@pytest.mark.parametrize(("after", "epoch"), [(1, 1), (4, 1), (5, 2), (11, 3)])
def test_loss_that_becomes_nan_names_its_epoch(blobs: Any, after: int, epoch: int) -> None:
    net = MixupClassifier(Breaking, module__after=after, batch_size=15, max_epochs=9)
    with pytest.raises(ValueError, match=rf"got nan in epoch {epoch}\. Scale the inputs"):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("augment", [lambda x: x[:-1], lambda x: torch.cat([x, x])])
@pytest.mark.parametrize("alpha", [0, 1])
def test_augment_that_changes_the_number_of_rows_is_refused(blobs: Any, augment: Any, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"augment must return as many rows as it is given; got \d+ rows"):
        MixupClassifier(augment=augment, alpha=alpha).fit(blobs.X, blobs.y)


def test_held_out_share_that_leaves_no_rows_is_refused(binary: Any) -> None:
    net = MixupClassifier(early_stopping=True, validation_fraction=0.9)
    rows = [0, 1, 2]
    with pytest.raises(ValueError, match=r"validation_fraction must leave rows to train on; got 0\.9 for 3"):
        net.fit(binary.X[rows], np.array([0, 1, 1]))
