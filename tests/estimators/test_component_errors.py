"""Options that a component refuses, or that give no data: an error that names them."""

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor
from tests.helpers.architectures import PROBLEMS, make_rows
from tests.helpers.datasets import Items
from tests.helpers.nets import QUICK

X, Y = np.eye(12, 3, dtype=np.float32), np.arange(12) % 3
REFUSED = r"optimizer must take the module's parameters and its options; got .*, which {} refuses: "


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"optimizer__weight_decay": -1.0}, ValueError, REFUSED.format("Adam")),
        ({"optimizer__weight_decay": "a"}, TypeError, REFUSED.format("Adam")),
        ({"optimizer": torch.optim.SGD, "optimizer__momentum": -1.0}, ValueError, REFUSED.format("SGD")),
        ({"module": nn.ReLU}, ValueError, REFUSED.format("Adam")),
        (
            {"iterator_train__batch_size": 0},
            ValueError,
            r"iterator_train__batch_size must be at least 1; got 0",
        ),
        (
            {"iterator_valid__batch_size": 2.5},
            TypeError,
            r"iterator_valid__batch_size must be an integer; got 2\.5",
        ),
        (
            {"train_split": lambda *_: None},
            TypeError,
            r"train_split must return two Datasets.*; got NoneType",
        ),
        ({"train_split": lambda X, y: (X, 3)}, TypeError, r"train_split must return two .*; got .*Rows, int"),
    ],
)
def test_what_a_component_refuses_is_named(
    owner: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        owner(**QUICK | options).fit(X, Y)


@pytest.mark.parametrize("options", [{"optimizer__weight_decay": -1.0}, {"optimizer__lr": "a"}])
def test_an_optimizer_of_a_gan_that_refuses_its_options_is_named(options: dict[str, Any]) -> None:
    with pytest.raises((TypeError, ValueError), match=REFUSED.format("Adam")):
        MixupGAN(max_epochs=1, **options).fit(X)


def test_a_gan_takes_no_optimizer_that_evaluates_several_times() -> None:
    with pytest.raises(ValueError, match=r"optimizer must step by one gradient; got LBFGS"):
        MixupGAN(max_epochs=1, optimizer=torch.optim.LBFGS).fit(X)


@pytest.mark.parametrize(
    "form", [X[::-1].copy()[::-1], pd.DataFrame(X), np.broadcast_to(X, X.shape)], ids=type
)
def test_a_gan_trains_on_rows_that_torch_does_not_take(form: Any) -> None:
    nets = [
        MixupGAN(max_epochs=1, steps_per_epoch=2, discriminator_steps=1, random_state=0).fit(rows)
        for rows in (form, X)
    ]
    samples = [net.sample(4, random_state=0) for net in nets]
    assert np.array_equal(*samples)


@pytest.mark.parametrize("batch_size", [1, 4])
def test_label_maps_of_another_size_than_the_output_are_refused(batch_size: int) -> None:
    images = np.zeros((6, 1, 4, 4), dtype=np.float32)
    net = MixupClassifier(nn.Conv2d(1, 2, 1), **QUICK | {"batch_size": batch_size})
    with pytest.raises(
        ValueError, match=r"y must hold a label for each pixel .*; got label maps of shape \(2, 4\)"
    ):
        net.fit(images, np.arange(48).reshape(6, 2, 4) % 2)


@pytest.mark.parametrize("plain", [{"cooldown_epochs": 2}, {"warmup_epochs": 1, "cooldown_epochs": 1}])
def test_early_stopping_has_nothing_to_restore_where_all_epochs_are_plain(plain: dict[str, int]) -> None:
    rows = np.repeat(X, 3, axis=0)
    nets = [MixupClassifier(max_epochs=2, random_state=0, early_stopping=True, **plain) for _ in range(2)]
    nets[1].set_params(alpha=0, warmup_epochs=0, cooldown_epochs=0, n_iter_no_change=99)
    losses = [net.fit(rows, np.tile(Y, 3)).history[:, "train_loss"] for net in nets]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, MixupGAN])
def test_numbers_too_large_for_float32_are_refused_without_a_warning(owner: Any) -> None:
    with pytest.raises(ValueError, match="X contains infinity or a value too large"):
        owner(max_epochs=1).fit(*(1e300 * X.astype(np.float64), Y)[: 1 + (owner is not MixupGAN)])
    if owner is MixupRegressor:
        with pytest.raises(ValueError, match="y contains infinity or a value too large"):
            owner(max_epochs=1).fit(X, 1e300 * Y)


WEIGHT = [1.0, 2.0, 5.0]
PIXELS = {"X": np.ones((12, 1, 2, 2), dtype=np.float32), "y": np.arange(48).reshape(12, 2, 2) % 3}
KINDS: dict[str, Any] = {
    "labels": ({"X": X, "y": Y}, {}, "weight"),
    "nll": ({"X": X, "y": Y}, {"module": nn.Sequential(nn.Linear(3, 3), nn.Softmax(1))}, "weight"),
    "indicators": ({"X": X, "y": (X > 0).astype(int)}, {}, "pos_weight"),
    "pixels": (PIXELS, {"module": nn.Conv2d(1, 3, 1)}, "weight"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "form", [list, np.array, np.float32, pd.Series, torch.tensor, lambda w: torch.tensor(w).double()]
)
def test_weights_of_classes_may_have_any_form(kind: str, form: Any) -> None:
    data, options, name = KINDS[kind]
    options = QUICK | options | ({"criterion": nn.NLLLoss} if kind == "nll" else {})
    losses = [
        MixupClassifier(**options, **{f"criterion__{name}": weight}).fit(**data).loss_curve_
        for weight in (form(WEIGHT), torch.tensor(WEIGHT))
    ]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("kind", ["labels", "nll", "pixels"])
@pytest.mark.parametrize("n", [1, 2, 4])
def test_weights_for_other_classes_are_refused(kind: str, n: int) -> None:
    data, options, _ = KINDS[kind]
    options = QUICK | options | ({"criterion": nn.NLLLoss} if kind == "nll" else {})
    message = rf"criterion__weight must hold a weight for each of the 3 classes \[0, 1, 2\]; got {n}\."
    with pytest.raises(ValueError, match=message):
        MixupClassifier(**options, criterion__weight=np.ones(n)).fit(**data)


@pytest.mark.parametrize("loss", [nn.MSELoss, nn.L1Loss, nn.HuberLoss, nn.PoissonNLLLoss, nn.KLDivLoss])
@pytest.mark.parametrize("make", [lambda loss: loss, lambda loss: loss()], ids=["class", "instance"])
def test_a_loss_for_other_targets_is_refused(loss: type[nn.Module], make: Any) -> None:
    with pytest.raises(
        ValueError, match=f"criterion must be a loss for one label per row; got {loss.__name__}"
    ):
        MixupClassifier(criterion=make(loss), **QUICK).fit(X, Y)


@pytest.mark.parametrize("loss", [nn.PoissonNLLLoss, nn.SoftMarginLoss, nn.HingeEmbeddingLoss])
@pytest.mark.parametrize("kind", ["indicators", "soft"])
def test_a_loss_of_counts_or_signs_is_refused_for_several_columns(loss: type[nn.Module], kind: str) -> None:
    y = np.eye(3)[Y] if kind == "indicators" else 0.7 * np.eye(3)[Y] + 0.1
    words = "indicators of 3 labels" if kind == "indicators" else "rows of 3 probabilities that sum to 1"
    with pytest.raises(ValueError, match=f"criterion must be a loss for {words}; got {loss.__name__}"):
        MixupClassifier(criterion=loss, **QUICK).fit(X, y)


@pytest.mark.parametrize("loss", [nn.CrossEntropyLoss, nn.NLLLoss])
def test_a_loss_for_classes_is_refused_for_one_real_value(loss: type[nn.Module]) -> None:
    with pytest.raises(ValueError, match=f"criterion must be a loss for real values; got {loss.__name__}"):
        MixupRegressor(criterion=loss, **QUICK).fit(X, Y)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("weight_decay", "optimizer__weight_decay"),
        ("betas", "optimizer__betas"),
        ("dropout", "module__dropout"),
        ("hidden_layer_sizes", "module__hidden_layer_sizes"),
        ("learning_rate_init", "lr"),
        ("max_iter", "max_epochs"),
        ("n_epochs", "max_epochs"),
        ("momentum", "optimizer__momentum"),
    ],
)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_names_of_elsewhere_are_translated(owner: Any, name: str, meant: str) -> None:
    with pytest.raises(
        ValueError, match=f"{name} must be an option of {owner.__name__}; .* Did you mean '{meant}'"
    ):
        owner(**{name: 1}).fit(X, Y)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"compile": "yes"}, TypeError, "compile must be True or False; got 'yes'"),
        ({"dataset": 3}, TypeError, "dataset must be a Dataset class, .*; got 3"),
        (
            {"predict_nonlinearity": "soft"},
            TypeError,
            "predict_nonlinearity must be 'auto', None or callable",
        ),
    ],
)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_options_that_mean_nothing_are_refused(
    owner: Any, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        owner(**QUICK | options).fit(X, Y)


class TakesInput(nn.Module):
    """A module whose only argument is not named x."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        return self.layer(input)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("alpha", [0, 1.0])
@pytest.mark.parametrize("form", ["mapping", "Dataset"])
def test_rows_by_a_name_that_the_module_does_not_take(form: str, alpha: float, early: bool) -> None:
    net = MixupClassifier(TakesInput, max_epochs=1, alpha=alpha, early_stopping=early)

    def fit(name: str) -> MixupClassifier:
        if form == "Dataset":
            rows = Items(12, lambda row: ({name: torch.full((4,), float(row))}, row % 2))
            return net.fit(rows, None)
        return net.fit({name: np.ones((12, 4), "f")}, np.arange(12) % 2)

    message = r"X must fit the arguments of TakesInput\.forward, \(input.*got \['x'\] \(missing .* 'input'\)"
    with pytest.raises(TypeError, match=message):
        fit("x")
    assert fit("input").n_iter_ == 1


def test_fit_parameter_that_the_module_does_not_take() -> None:
    X = np.ones((12, 4), "f")
    with pytest.raises(TypeError, match=r"speed must be among the arguments of TakesInput\.forward"):
        MixupClassifier(TakesInput, max_epochs=1).fit(X, np.arange(12) % 2, speed=1)


# -- labels that are smoothed ------------------------------------------------------------

SMOOTHED = {
    "codes": (make_rows("mlp"), PROBLEMS["classes"].y, {}),
    "soft": (make_rows("mlp"), np.full((45, 3), 1 / 3), {}),
    "pixels": (
        make_rows("convolution"),
        np.arange(45 * 16).reshape(45, 4, 4) % 3,
        {"module": nn.Conv2d(2, 3, 1)},
    ),
}


@pytest.mark.parametrize("kind", SMOOTHED)
@pytest.mark.parametrize("own", [0, 0.1, 0.3])
def test_labels_are_smoothed_by_one_option(kind: str, own: float) -> None:
    X, y, options = SMOOTHED[kind]
    net = MixupClassifier(**QUICK, **options, label_smoothing=0.2, criterion__label_smoothing=own)
    with pytest.raises(ValueError, match=rf"criterion__label_smoothing must not differ .*; got {own} b"):
        net.fit(X, y)


@pytest.mark.parametrize("kind", SMOOTHED)
def test_smoothing_of_the_criterion_is_that_of_the_estimator(kind: str) -> None:
    X, y, options = SMOOTHED[kind]
    torch.manual_seed(0)
    both = {"label_smoothing": 0.2}, {"criterion__label_smoothing": 0.2}
    nets = [
        MixupClassifier(**QUICK, **options, **own).fit(X, y) for own in (both[0], both[1], both[0] | both[1])
    ]
    for net in nets[1:]:
        torch.testing.assert_close(net.module_.state_dict(), nets[0].module_.state_dict())
