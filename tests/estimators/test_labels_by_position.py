"""A label per step of a sequence, and masks with an axis of a channel."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

GENERATOR = np.random.default_rng(0)
OPTIONS = QUICK | {"max_epochs": 2, "batch_size": 8, "lr": 0.1, "optimizer": torch.optim.SGD}
SEQUENCES = GENERATOR.normal(size=(24, 4, 6)).astype(np.float32)
IMAGES = GENERATOR.normal(size=(24, 8, 4, 5)).astype(np.float32)
STEPS = GENERATOR.integers(3, size=(24, 6))
MAPS = GENERATOR.integers(3, size=(24, 4, 5))


class Tagger(nn.Conv1d):
    def __init__(self, n_classes: int = 3) -> None:
        super().__init__(4, n_classes, 1)


class Segmenter(nn.Conv2d):
    def __init__(self, n_classes: int = 3) -> None:
        super().__init__(8, n_classes, 1)


CASES: dict[str, tuple[type[nn.Module], np.ndarray, np.ndarray]] = {
    "steps": (Tagger, SEQUENCES, STEPS),
    "int32 steps": (Tagger, SEQUENCES, STEPS.astype(np.int32)),
    "labels of steps": (Tagger, SEQUENCES, 10 * STEPS + 5),
    "steps with a channel": (Tagger, SEQUENCES, STEPS[:, None]),
    "two classes of steps": (Tagger, SEQUENCES, STEPS[:, None] % 2),
    "masks": (Segmenter, IMAGES, MAPS[:, None]),
    "uint8 masks": (Segmenter, IMAGES, (127 * (MAPS[:, None] % 2)).astype(np.uint8)),
    "float masks": (Segmenter, IMAGES, (MAPS[:, None] % 2).astype(np.float32)),
    "rows of pixels": (Segmenter, IMAGES[:, :, :1], MAPS[:, None, 0]),
}


def make_net(case: str, **options: Any) -> MixupClassifier:
    module, _, y = CASES[case]
    given = {"alpha": 0, "iterator_train__shuffle": False, "module__n_classes": len(np.unique(y))}
    return MixupClassifier(module, **given | OPTIONS | options)


def train_by_hand(module: nn.Module, case: str) -> list[float]:
    """Train in order, by torch's cross-entropy of each position; return the mean loss of each epoch."""
    _, X, y = CASES[case]
    codes = torch.tensor(np.unique(y, return_inverse=True)[1].reshape(y.shape))
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=0.1), []
    for _ in range(2):
        for start in range(0, 24, 8):
            output = module(torch.tensor(X[start : start + 8]))
            target = codes[start : start + 8].reshape(8, *output.shape[2:])
            loss = F.cross_entropy(output, target)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return [float(np.mean(losses[:3])), float(np.mean(losses[3:]))]


@pytest.mark.filterwarnings("ignore:stacked")
@pytest.mark.parametrize("way", ["array", "stacked", "Dataset"])
@pytest.mark.parametrize("case", CASES)
def test_training_equals_a_loop_of_torchs_cross_entropy(case: str, way: str) -> None:
    _, X, y = CASES[case]
    net, module = make_net(case), make_net(case).initialize().module_
    if way == "stacked":
        fit_stacked([(net, X, y), (make_net(case, random_state=1), X, y)])
    elif way == "Dataset":
        net.fit(TensorDataset(torch.tensor(X), torch.tensor(y)))
    else:
        net.fit(X, y)
    assert net.loss_curve_ == pytest.approx(train_by_hand(module, case), rel=1e-4)
    output = module(torch.tensor(X)).detach()
    expected = np.unique(y)[output.argmax(dim=1).numpy()].reshape(y.shape)
    predicted = net.predict(X)
    assert predicted.shape == y.shape
    np.testing.assert_array_equal(predicted, expected)
    np.testing.assert_allclose(net.predict_proba(X), torch.softmax(output.double(), 1), rtol=1e-3)
    assert net.score(X, y) == pytest.approx((expected == y).mean())


@pytest.mark.parametrize("case", ["steps", "masks"])
def test_mixed_losses_and_held_out_rows_are_taken(case: str) -> None:
    _, X, y = CASES[case]
    net = make_net(case, alpha=0.4, early_stopping=True).fit(X, y, sample_weight=np.linspace(1, 2, 24))
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss", "valid_acc")]).all()


def test_later_steps_may_hold_two_classes_only() -> None:
    net = make_net("steps").fit(SEQUENCES, STEPS)
    assert net.partial_fit(SEQUENCES, STEPS % 2).predict(SEQUENCES).shape == STEPS.shape


def test_ignored_steps_count_for_nothing() -> None:
    y = np.where(STEPS == 2, -100, STEPS)
    net = make_net("two classes of steps", batch_size=-1, lr=1e-9).fit(SEQUENCES, y)
    output = net.module_(torch.tensor(SEQUENCES))
    assert net.loss_curve_[-1] == pytest.approx(F.cross_entropy(output, torch.tensor(y)).item(), rel=1e-5)
    assert net.score(SEQUENCES, y) == pytest.approx((net.predict(SEQUENCES) == y)[y != -100].mean())


@pytest.mark.parametrize("n_axes", [0, 2])
def test_one_output_per_row_is_refused_for_several_columns(n_axes: int) -> None:
    class Other(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            output = super().forward(x.flatten(1))
            return output.reshape(*output.shape, *(1,) * n_axes)

    with pytest.raises(
        ValueError, match=r"shape \(n_samples, 3, n_steps\) for a label per step; .*multioutput"
    ):
        MixupClassifier(Other(24, 3), **OPTIONS).fit(SEQUENCES, STEPS)


def test_zeros_and_ones_of_steps_are_told_from_members() -> None:
    with pytest.raises(ValueError, match=r"y must have the shape \(n_samples, 1, 6\) .* Use y\[:, None\]"):
        make_net("two classes of steps").fit(SEQUENCES, STEPS % 2)


def test_predictions_are_never_broadcast_against_targets() -> None:
    net = make_net("masks").fit(IMAGES, MAPS[:, None])
    assert net.score(IMAGES, MAPS) == net.score(IMAGES, MAPS[:, None])
    with pytest.raises(ValueError, match="y must hold a label for each prediction"):
        net.score(IMAGES, MAPS[:, None, :2])


# -- criteria of maps --------------------------------------------------------------------


class Focal(nn.Module):
    """Focal loss of each pixel, as users write it."""

    def __init__(self, reduction: str = "mean") -> None:
        super().__init__()
        self.reduction = reduction

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        losses = F.cross_entropy(logits, y, reduction="none")
        losses = (1 - (-losses).exp()) ** 2 * losses
        return losses if self.reduction == "none" else losses.mean()


class Dice(nn.Module):
    """Dice loss of a batch, without losses of rows."""

    def forward(self, logits: Tensor, y: Tensor) -> Tensor:
        p, target = torch.softmax(logits, 1), F.one_hot(y, logits.shape[1]).movedim(-1, 1)
        return 1 - 2 * (p * target).sum() / (p.sum() + target.sum())


@pytest.mark.parametrize("criterion", [Focal, Dice])
def test_criterion_of_the_users_own_is_given_the_maps(criterion: type[nn.Module]) -> None:
    net = make_net("masks", criterion=criterion, batch_size=-1, lr=1e-9).fit(IMAGES, MAPS[:, None])
    output = net.module_(torch.tensor(IMAGES)).detach()
    assert net.loss_curve_[-1] == pytest.approx(criterion()(output, torch.tensor(MAPS)).item(), rel=1e-5)
    np.testing.assert_allclose(net.predict_proba(IMAGES), torch.softmax(output.double(), 1), rtol=1e-5)
    mixed = make_net("masks", criterion=criterion, alpha=0.4, lam_per="batch", early_stopping=True)
    assert np.isfinite(mixed.fit(IMAGES, MAPS).history[:, ("train_loss", "valid_loss")]).all()


@pytest.mark.parametrize("batch_size", [-1, 8])
@pytest.mark.parametrize("y", [MAPS[:, None] % 2, MAPS % 2], ids=["mask", "map"])
def test_binary_masks_take_one_logit_per_pixel(y: np.ndarray, batch_size: int) -> None:
    y = np.where(IMAGES[:, :1].reshape(-1, *y.shape[1:]) > 1.5, -100, y)
    options = {
        "module__n_classes": 1,
        "criterion": nn.BCEWithLogitsLoss,
        "criterion__pos_weight": torch.tensor(2.0),
    }
    net = make_net("masks", **options, batch_size=batch_size, lr=1e-9)
    net.set_params(train_split=lambda rows, codes: (rows, rows), early_stopping=True).fit(IMAGES, y)
    output = net.module_(torch.tensor(IMAGES)).detach()
    target = torch.tensor(y).reshape(output.shape)
    losses = F.binary_cross_entropy_with_logits(
        output, target.float(), pos_weight=torch.tensor(2.0), reduction="none"
    )
    assert net.history[-1, "valid_loss"] == pytest.approx(losses[target >= 0].mean().item(), rel=1e-4)
    proba = torch.cat([(-output.double()).sigmoid(), output.double().sigmoid()], 1)
    np.testing.assert_allclose(net.predict_proba(IMAGES), proba, rtol=1e-5)
    np.testing.assert_array_equal(net.predict(IMAGES), (output > 0).long().reshape(y.shape))
    mixed = make_net("masks", **options, alpha=0.4).fit(IMAGES, y, sample_weight=np.linspace(1, 2, 24))
    assert np.isfinite(mixed.loss_curve_).all()


def test_mixed_loss_of_binary_masks_is_a_sum_over_pixels() -> None:
    net = make_net("masks", module__n_classes=1, criterion=nn.BCEWithLogitsLoss).fit(IMAGES, MAPS % 2)
    output, lam = torch.randn(4, 1, 2, 3, generator=torch.Generator().manual_seed(0)), torch.rand(4)
    y = torch.tensor(GENERATOR.integers(-1, 2, size=(2, 4, 2, 3)))
    y[y < 0] = -100
    lams, total, share = torch.stack([lam, 1 - lam]), 0.0, 0.0
    for k, i, a, b in np.argwhere(y.numpy() >= 0):
        total += lams[k, i] * F.binary_cross_entropy_with_logits(output[i, 0, a, b], y[k, i, a, b].float())
        share += lams[k, i]
    torch.testing.assert_close(net.get_mixed_loss(output, y, lams), total / share)


def test_binary_criteria_are_for_two_classes_of_pixels() -> None:
    with pytest.raises(ValueError, match="criterion must be a cross-entropy for a label per pixel"):
        make_net("masks", criterion=nn.BCEWithLogitsLoss).fit(IMAGES, MAPS)
    with pytest.raises(
        ValueError, match=r"module must return logits of shape \(n_samples, 1, height, width\)"
    ):
        make_net("masks", criterion=nn.BCEWithLogitsLoss).fit(IMAGES, MAPS % 2)
