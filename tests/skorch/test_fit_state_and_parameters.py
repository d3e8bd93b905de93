"""The state that a fit leaves, what a file restores, and which of a fit's parameters go where."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, LRScheduler
from skorch.dataset import ValidSplit
from skorch.exceptions import NotInitializedError
import torch
from torch import Tensor, nn

from sk_mixup import (
    MixupClassifier,
    MixupGAN,
    MixupNetMixin,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from tests.helpers.nets import Net
from tests.helpers.stacking import fit_stacked

ONE_EPOCH: dict[str, Any] = {"max_epochs": 1, "random_state": 0}
X = np.random.default_rng(0).normal(size=(60, 5)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64)
GROUPS = np.arange(60) // 6


class MixedNet(MixupNetMixin, NeuralNetClassifier):
    pass


def _make_mixed_net(**options: Any) -> MixedNet:
    return MixedNet(nn.Linear(5, 2), criterion=nn.CrossEntropyLoss, verbose=0, **options)


class Interrupt(Callback):
    """Stop the training as a user does by Ctrl-C."""

    def on_epoch_begin(self, net: Any, **kwargs: Any) -> None:
        raise KeyboardInterrupt


MAKERS: dict[str, Callable[..., Any]] = {
    "classifier": MixupClassifier,
    "regressor": MixupRegressor,
    "semi-supervised": SemiSupervisedMixupClassifier,
    "mixin": _make_mixed_net,
}


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize(
    "options",
    [{"train_split": None}, {"callbacks": [Interrupt()]}, {"max_epochs": 0}],
    ids=["no-split", "interrupt", "no-epochs"],
)
@pytest.mark.parametrize("kind", MAKERS)
def test_module_is_in_eval_mode_after_a_fit(kind: str, options: dict[str, Any], method: str) -> None:
    net = MAKERS[kind](**{**ONE_EPOCH, **options})
    getattr(net, method)(X, X[:, 0] if kind == "regressor" else Y)
    assert not any(part.training for part in net.module_.modules())


def test_modules_are_in_eval_mode_after_a_stack() -> None:
    nets = [MixupClassifier(**ONE_EPOCH, alpha=alpha, early_stopping=False) for alpha in (0.0, 1.0)]
    fit_stacked((net, X, Y) for net in nets)
    assert not any(net.module_.training for net in nets)


def test_nets_of_a_gan_are_in_eval_mode_after_a_fit() -> None:
    gan = MixupGAN(**ONE_EPOCH, steps_per_epoch=1).fit(X)
    assert not gan.generator_.training
    assert not gan.discriminator_.training


# -- files of skorch's -------------------------------------------------------------------


@pytest.mark.parametrize("classes", [[0, 1, 2], ["a", "b", "c"]])
def test_weights_that_skorch_saved_are_loaded(tmp_path: Any, classes: list[Any]) -> None:
    theirs = NeuralNetClassifier(Net, criterion=nn.CrossEntropyLoss, verbose=0).initialize()
    theirs.save_params(f_params=tmp_path / "params.pt")
    ours = MixupClassifier(Net, classes=classes).initialize()
    ours.load_params(f_params=tmp_path / "params.pt")
    expected = theirs.module_(torch.as_tensor(X)).softmax(dim=1).detach()
    np.testing.assert_allclose(ours.predict_proba(X), expected, rtol=1e-5)


@pytest.mark.parametrize("kind", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
def test_a_fresh_net_says_how_weights_can_be_loaded(tmp_path: Any, kind: type[Any]) -> None:
    torch.save(Net().state_dict(), tmp_path / "params.pt")
    with pytest.raises(NotInitializedError, match="use_safetensors=True"):
        kind().load_params(f_params=tmp_path / "params.pt")


def test_another_file_is_not_taken_for_safetensors(tmp_path: Any) -> None:
    torch.save(Net().state_dict(), tmp_path / "params.pt")
    with pytest.raises(ValueError, match="f_params must be a safetensors file"):
        MixupClassifier(Net).load_params(f_params=tmp_path / "params.pt", use_safetensors=True)


# -- callbacks ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "callbacks",
    [LRScheduler(), LRScheduler, "lr", 42, {"lr": LRScheduler()}, (LRScheduler(),), ["lr"], [42], [object()],
     [("lr", LRScheduler(), 1)], [("lr",)], [(LRScheduler(), "lr")], [("lr", "StepLR")]],
    ids=range(13),
)  # fmt: skip
@pytest.mark.parametrize("kind", ["classifier", "semi-supervised", "mixin", "gan"])
def test_what_is_no_list_of_callbacks_is_refused(kind: str, callbacks: Any) -> None:
    net = {**MAKERS, "gan": MixupGAN}[kind](**ONE_EPOCH, callbacks=callbacks)
    with pytest.raises(TypeError, match="callbacks must"):
        net.fit(X, None if kind == "gan" else Y)


@pytest.mark.parametrize(
    "callbacks",
    [
        None,
        "disable",
        [],
        [None],
        [("lr", None)],
        [LRScheduler],
        [("lr", LRScheduler)],
        [["lr", LRScheduler()]],
    ],
    ids=range(8),
)
@pytest.mark.parametrize("kind", ["classifier", "mixin"])
def test_lists_of_callbacks_are_taken(kind: str, callbacks: Any) -> None:
    assert len(MAKERS[kind](**ONE_EPOCH, callbacks=callbacks).fit(X, Y).history) == 1


# -- parameters of a fit -----------------------------------------------------------------


class Watched(nn.Module):
    """A network that keeps what its forward pass is given beside X."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(5, 2)
        self.seen: list[Any] = []

    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        self.seen.append(scale)
        return self.layer(x) * scale


class WatchedSplit(GroupKFold):
    def split(self, X: Any, y: Any = None, groups: Any = None) -> Any:
        self.groups_ = groups
        return super().split(X, y, groups)


@pytest.mark.parametrize("as_form", [np.asarray, pd.Series, list], ids=lambda form: form.__name__)
@pytest.mark.parametrize("kind", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_groups_go_to_the_split_with_the_rows(kind: type[Any], as_form: Any) -> None:
    weight = np.ones(60)
    weight[:9] = 0
    split = WatchedSplit(3)
    y = np.where(np.arange(60) % 4 == 1, -1, Y) if kind is SemiSupervisedMixupClassifier else Y
    net = kind(Watched, **ONE_EPOCH, train_split=ValidSplit(split))
    net.fit(X, y, groups=as_form(GROUPS), sample_weight=weight)
    np.testing.assert_array_equal(split.groups_, GROUPS[(weight > 0) & (y != -1)])
    assert set(net.module_.seen) == {1.0}


def test_other_parameters_go_to_forward() -> None:
    for net in (
        MixupClassifier(Watched, **ONE_EPOCH, train_split=ValidSplit(GroupKFold(3))),
        MixedNet(
            Watched,
            criterion=nn.CrossEntropyLoss,
            verbose=0,
            train_split=ValidSplit(GroupKFold(3)),
            max_epochs=1,
        ),
    ):
        net.fit(X, Y, groups=GROUPS, scale=0.5)
        assert 0.5 in net.module_.seen


def test_parameter_that_nobody_takes_is_refused() -> None:
    with pytest.raises(TypeError, match=r"groups must be among the arguments of Watched\.forward"):
        MixupClassifier(Watched, **ONE_EPOCH).fit(X, Y, groups=GROUPS)


# -- subclasses --------------------------------------------------------------------------


def test_scalar_loss_of_a_subclass_is_mixed_with_one_lam_per_batch() -> None:
    class Scalar(MixupClassifier):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            return nn.functional.cross_entropy(y_pred, y_true)

    options: dict[str, Any] = {**ONE_EPOCH, "lam_per": "batch", "alpha": 1.0, "early_stopping": False}
    plain = MixupClassifier(**options).fit(X, Y)
    assert Scalar(**options).fit(X, Y).loss_curve_ == pytest.approx(plain.loss_curve_, rel=1e-5)


@pytest.mark.parametrize("base", [NeuralNetClassifier, NeuralNetRegressor])
def test_bases_in_the_wrong_order_are_refused(base: type[Any]) -> None:
    class Derived(base):  # type: ignore[misc]
        pass

    for first in (base, Derived):
        with pytest.raises(TypeError, match="MixupNetMixin must stand before"):
            type("Wrong", (first, MixupNetMixin), {})
