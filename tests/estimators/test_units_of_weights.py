"""What predictions need beside the weights goes with them into files, and comes back from them."""

import copy
import io
from pathlib import Path
import pickle
from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Callback, Checkpoint
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier

pytest.importorskip("safetensors")

RNG = np.random.default_rng(0)
X = RNG.normal(size=(80, 4)).astype(np.float32)
Y = 200 + 30 * X[:, 0] + RNG.normal(size=80)
CODES = (X[:, 0] + 0.5 * RNG.normal(size=80) > 0).astype(int)
HIGH = Y > 200
OPTIONS: dict[str, Any] = {"module__hidden_layer_sizes": (8,), "max_epochs": 3, "lr": 0.02, "random_state": 0}
PLAIN = OPTIONS | {"early_stopping": False}


def _load(net: Any, source: Any, how: str, tmp_path: Path) -> None:
    """Let a net load the weights of another."""
    use_safetensors = "safetensors" in how
    path = tmp_path / "weights"
    source.save_params(f_params=path, use_safetensors=use_safetensors)
    if how == "memory":
        net.load_params(f_params=io.BytesIO(path.read_bytes()))
    else:
        net.load_params(f_params=path, use_safetensors=use_safetensors)


@pytest.mark.parametrize("y", [Y, np.stack([Y, -3 * Y], axis=1)], ids=["one column", "two columns"])
@pytest.mark.parametrize("criterion", [nn.MSELoss, nn.HuberLoss])
@pytest.mark.parametrize("how", ["plain", "memory", "safetensors"])
def test_mean_and_spread_go_with_the_weights(y: Any, criterion: type, how: str, tmp_path: Path) -> None:
    net = MixupRegressor(criterion=criterion, **PLAIN).fit(X, y)
    other = MixupRegressor(criterion=criterion, **PLAIN).fit(X[HIGH], y[HIGH])
    assert not np.allclose(other.predict(X), net.predict(X))
    _load(other, net, how, tmp_path)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


def _save_all(tmp_path: Path, **options: Any) -> Checkpoint:
    return Checkpoint(dirname=str(tmp_path), **{"monitor": None, "f_optimizer": None, **options})


@pytest.mark.parametrize("use_safetensors", [False, True])
@pytest.mark.parametrize("is_regressor", [False, True])
def test_a_checkpoint_of_another_fit_predicts_as_it_did(
    tmp_path: Path, use_safetensors: bool, is_regressor: bool
) -> None:
    owner: Any = MixupRegressor if is_regressor else MixupClassifier
    y = Y if is_regressor else CODES
    checkpoint = _save_all(tmp_path, use_safetensors=use_safetensors)
    net = owner(callbacks=[checkpoint], **PLAIN).fit(X, y)
    others = [owner(**PLAIN).fit(X[10:], y[10:])]
    others += [owner(**PLAIN)] if use_safetensors else []  # whose header makes a net
    for other in others:
        other.load_params(checkpoint=checkpoint, use_safetensors=use_safetensors)
        np.testing.assert_array_equal(other.predict(X), net.predict(X))


@pytest.mark.parametrize("is_standardized", [False, True])
def test_weights_of_targets_in_other_units_are_refused(is_standardized: bool, tmp_path: Path) -> None:
    net, other = (
        MixupRegressor(standardize_targets=option, **PLAIN).fit(X, Y)
        for option in (is_standardized, not is_standardized)
    )
    before = other.predict(X)
    with pytest.raises(
        ValueError, match=f"standardize_targets must be {is_standardized} for weights that were"
    ):
        _load(other, net, "plain", tmp_path)
    np.testing.assert_array_equal(other.predict(X), before)


def test_weights_of_others_leave_the_units(tmp_path: Path) -> None:
    net, other = MixupRegressor(**PLAIN).fit(X, Y), MixupRegressor(**PLAIN).fit(X[HIGH], Y[HIGH])
    torch.save({name: value.clone() for name, value in net.module_.state_dict().items()}, tmp_path / "state")
    mean, std = other._targets.scale
    other.load_params(f_params=tmp_path / "state")
    outputs = net.module_(torch.as_tensor(X)).detach().numpy()[:, 0]
    np.testing.assert_allclose(other.predict(X), outputs * std + mean, rtol=1e-5)


@pytest.mark.parametrize("use_safetensors", [False, True])
@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_a_checkpoint_of_the_same_fit_leaves_the_temperature(
    owner: Any, use_safetensors: bool, tmp_path: Path
) -> None:
    checkpoint = _save_all(tmp_path, use_safetensors=use_safetensors)
    options = OPTIONS | {"early_stopping": True, "max_epochs": 8, "lr": 0.1}
    net = owner(callbacks=[checkpoint], **options).fit(X, CODES)
    temperature = net.temperature_
    assert temperature != 1
    net.load_params(checkpoint=checkpoint, use_safetensors=use_safetensors)
    assert net.temperature_ == temperature


@pytest.mark.parametrize("part", ["f_params", "f_optimizer"])
def test_weights_that_do_not_fit_change_nothing(part: str, tmp_path: Path) -> None:
    net = MixupClassifier(**PLAIN).fit(X, np.arange(80) % 3)
    files = {"f_params": tmp_path / "weights", "f_optimizer": tmp_path / "optimizer"}
    net.save_params(**files)
    other = MixupClassifier(**PLAIN).fit(X, CODES)
    if part == "f_params":  # of two classes, whose first layer fits
        other.save_params(**files)
    else:  # the weights fit
        torch.save({"param_groups": [], "state": {}}, files["f_optimizer"])
    net.partial_fit(X, np.arange(80) % 3)
    before = copy.deepcopy((net.module_.state_dict(), net.optimizer_.state_dict()))
    with pytest.raises((RuntimeError, ValueError), match=r"size mismatch for|different number of parameter"):
        net.load_params(**files)
    for state, kept in zip((net.module_.state_dict(), net.optimizer_.state_dict()), before, strict=True):
        assert str(state) == str(kept)


class Keep(Callback):  # type: ignore[misc]
    """Copies the net in the middle of a fit."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.copies = [pickle.loads(pickle.dumps(net)), copy.deepcopy(net)]


def test_copies_in_the_middle_of_a_fit_hold_no_rows() -> None:
    keep = Keep()
    options = OPTIONS | {"early_stopping": True}
    MixupClassifier(callbacks=[keep], **options).fit(X, CODES)
    three = np.arange(80) % 3
    expected = MixupClassifier(**PLAIN).fit(X, three)
    for copied in keep.copies:
        assert "_held_out" not in vars(copied)
        again = copied.set_params(early_stopping=False, callbacks=None).fit(X, three)
        assert again.temperature_ == 1
        np.testing.assert_array_equal(again.predict_proba(X), expected.predict_proba(X))


class Head(nn.Linear):
    """Says what it has learned as a plain dict, without what torch keeps beside it."""

    def state_dict(self, *args: Any, **options: Any) -> dict[str, Any]:
        return dict(super().state_dict(*args, **options))


@pytest.mark.parametrize("way", ["file", "checkpoint"])
def test_a_module_may_return_its_weights_in_a_plain_dict(way: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(monitor="train_loss_best", dirname=str(tmp_path), load_best=True)
    callbacks = [checkpoint] if way == "checkpoint" else []
    net = MixupClassifier(Head(4, 2), max_epochs=3, random_state=0, callbacks=callbacks).fit(X, CODES)
    expected = net.predict_proba(X)
    net.save_params(f_params=tmp_path / "weights")
    other = MixupClassifier(Head(4, 2), early_stopping=False, max_epochs=1, random_state=1).fit(X, CODES)
    other.load_params(f_params=tmp_path / "weights")
    np.testing.assert_array_equal(other.module_.weight.detach(), net.module_.weight.detach())
    np.testing.assert_array_equal(net.predict_proba(X), expected)
