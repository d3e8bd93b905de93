"""Subclasses: what a user overrides in a skorch net, and the mixed step in a net of their own."""

from collections import Counter
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import GaussianNoise, ManifoldMixup
from sk_mixup.modules import MLP
from tests.helpers.nets import USER, Net


@pytest.fixture(params=[NeuralNetClassifier, MixupClassifier], ids=["skorch", "sk_mixup"])
def owner(request: pytest.FixtureRequest) -> Any:
    return request.param


def _get_user_options(owner: Any) -> dict[str, Any]:
    return {**USER, **({"alpha": 0} if owner is MixupClassifier else {})}


class TwoOutputs(Net):
    """Returns its hidden units beside the logits."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), self.first(x)


def test_subclass_changes_the_loss(owner: Any, blobs: Any) -> None:
    class Penalised(owner):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            loss = super().get_loss(y_pred, y_true, X=X, training=training)
            return loss + 100 * self.module_.last.weight.square().sum() if training else loss

    options = {**_get_user_options(owner), "lr": 0.001, "max_epochs": 30, "train_split": None}
    net = Penalised(Net, **options).fit(blobs.X, blobs.y)
    assert net.module_.last.weight.abs().max() < 0.05


@pytest.mark.parametrize("options", [{}, {"n_mixed": 3}, {"class_weight": "balanced"}], ids=str)
def test_subclass_changes_the_loss_of_mixed_batches_too(blobs: Any, options: dict[str, Any]) -> None:
    class Penalised(MixupClassifier):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            loss = super().get_loss(y_pred[0], y_true, X=X, training=training)
            return loss + 100 * self.module_.last.weight.square().sum() if training else loss

    options = {**USER, **options, "lr": 0.001, "max_epochs": 30, "train_split": None, "alpha": 1}
    net = Penalised(TwoOutputs, **options, random_state=0).fit(blobs.X, blobs.y)
    assert net.module_.last.weight.abs().max() < 0.05


def test_subclass_scores_the_first_of_several_outputs(owner: Any, blobs: Any) -> None:
    class First(owner):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            return super().get_loss(y_pred[0], y_true, X=X, training=training)

    options = {**_get_user_options(owner), "lr": 0.2, "max_epochs": 20}
    if owner is MixupClassifier:
        options |= {"criterion": "auto", "random_state": 0}
    torch.manual_seed(0)
    net = First(TwoOutputs, **options).fit(blobs.X, blobs.y)
    assert [part.shape[1] for part in net.forward(blobs.X)] == [3, 8]
    assert net.score(blobs.X, blobs.y) > 0.8


def test_subclass_changes_the_training_step(owner: Any, blobs: Any) -> None:
    calls = []

    class Noisy(owner):
        def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
            x, y = batch
            calls.append(len(y))
            return super().train_step_single((x, y), **fit_params)

    Noisy(Net, **_get_user_options(owner)).fit(blobs.X, blobs.y)
    assert calls == [16, 16, 13] * 3


def test_subclass_changes_the_whole_step(owner: Any, blobs: Any) -> None:
    class Manual(owner):
        def train_step_single(self, batch: Any, **fit_params: Any) -> dict[str, Any]:
            self._set_training(True)
            x, y = batch
            y_pred = self.infer(torch.as_tensor(x), **fit_params)
            loss = self.get_loss(y_pred, torch.as_tensor(y), X=x, training=True)
            loss.backward()
            return {"loss": loss, "y_pred": y_pred}

    net = Manual(Net, **{**_get_user_options(owner), "max_epochs": 20}).fit(blobs.X, blobs.y)
    assert net.score(blobs.X, blobs.y) > 0.8


def test_subclass_sees_batches_and_epochs(owner: Any, blobs: Any) -> None:
    calls: Counter[str] = Counter()

    class Watching(owner):
        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **step: Any) -> None:
            super().on_batch_end(net, batch=batch, training=training, **step)
            calls[f"batch-{training}"] += 1

        def on_epoch_end(self, net: Any, **sets: Any) -> None:
            super().on_epoch_end(net, **sets)
            calls["epoch"] += 1

    Watching(Net, **_get_user_options(owner)).fit(blobs.X, blobs.y)
    assert calls == {"batch-True": 9, "batch-False": 3, "epoch": 3}


def test_subclass_adds_a_criterion_of_its_own(owner: Any, blobs: Any) -> None:
    class Doubled(owner):
        def initialize_criterion(self) -> Any:
            super().initialize_criterion()
            self.extra_ = nn.Linear(3, 1)
            return self

        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            plain = super().get_loss(y_pred, y_true, X=X, training=training)
            return plain + self.extra_(y_pred).square().mean()

    net = Doubled(Net, **_get_user_options(owner)).fit(blobs.X, blobs.y)
    assert len(list(net.get_all_learnable_params())) == 4 + 2


class MixedNet(MixupNetMixin, NeuralNet):
    """A skorch net with the mixed step."""


class MixedRegressor(MixupNetMixin, NeuralNetRegressor):
    """A skorch regressor with the mixed step."""


@pytest.mark.parametrize(
    "options",
    [{"alpha": 0}, {"alpha": 1}, {"n_mixed": 3}, {"partners": "dataset"}, {"partners": "same_class"}],
    ids=str,
)
def test_net_of_the_users_own_is_mixed(blobs: Any, options: dict[str, Any]) -> None:
    net = MixedNet(Net, **{**USER, "max_epochs": 20}, **options, random_state=0).fit(blobs.X, blobs.y)
    assert net.predict(blobs.X).shape == (60, 3)
    assert accuracy_score(blobs.y, net.predict(blobs.X).argmax(axis=1)) > 0.8


def test_regressor_of_the_users_own_is_mixed(plane: Any) -> None:
    options = {"module__in_features": 5, "module__out_features": 2, "max_epochs": 40, "verbose": 0}
    net = MixedRegressor(MLP, **options, lr=0.05, batch_size=16, alpha=0.4, random_state=0)
    assert net.fit(plane.X, plane.y).score(plane.X, plane.y) > 0.5


class Renamed(MixedNet):
    """The same with a module under another name, and no `module_`."""

    def initialize_module(self) -> Any:
        self.body_ = self.initialized_instance(self.module, self.get_params_for("body"))
        return self

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return self.body_(x, **fit_params)


@pytest.mark.parametrize(
    "options",
    [
        *({}, {"n_mixed": 3, "partners": "dataset"}, {"vicinity": GaussianNoise(0.1)}),
        *({"vicinity": ManifoldMixup(layers=("input",))}, {"warmup_epochs": 1, "cooldown_epochs": 1}),
    ],
    ids=str,
)
def test_module_may_have_another_name(blobs: Any, options: dict[str, Any]) -> None:
    nets = [owner(Net, **USER, **options, random_state=0) for owner in (MixedNet, Renamed)]
    named, renamed = (net.fit(blobs.X, blobs.y) for net in nets)
    assert not hasattr(renamed, "module_")
    expected = named.module_.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in renamed.body_.state_dict().items())
    np.testing.assert_array_equal(renamed.predict_proba(blobs.X), named.predict_proba(blobs.X))


@pytest.mark.parametrize("wanted", ["auto", ("first",), ("input", "first")])
def test_hidden_layers_of_a_module_with_another_name_are_refused(blobs: Any, wanted: Any) -> None:
    net = Renamed(Net, **USER, vicinity=ManifoldMixup(layers=wanted))
    with pytest.raises(ValueError, match="vicinity must mix inputs alone in a net without module_"):
        net.fit(blobs.X, blobs.y)


def test_arguments_of_a_module_with_another_name_are_handed_on(blobs: Any) -> None:
    class Scaled(Net):
        def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
            return scale * super().forward(x)

    nets = [Renamed(Scaled, **USER, random_state=0) for _ in range(2)]
    none, whole = (net.fit(blobs.X, blobs.y, scale=scale) for net, scale in zip(nets, (0, 1), strict=True))
    assert none.history[0, "train_loss"] == pytest.approx(np.log(3), rel=1e-5)
    assert whole.history[0, "train_loss"] != none.history[0, "train_loss"]


def test_net_of_the_users_own_without_mixing_is_skorchs(blobs: Any) -> None:
    torch.manual_seed(0)
    start = Net().state_dict()

    def fit(owner: Any, **options: Any) -> Any:
        module = Net()
        module.load_state_dict(start)
        net = owner(module, **USER, iterator_train__shuffle=False, **options)
        return net.fit(blobs.X, blobs.y)

    ours, theirs = fit(MixedNet, alpha=0), fit(NeuralNet)
    columns = ("train_loss", "valid_loss")
    np.testing.assert_allclose(ours.history[:, columns], theirs.history[:, columns], rtol=1e-5)


@pytest.mark.parametrize(
    ("options", "match"),
    [({"alpha": -1}, "alpha must be at least 0"), ({"n_mixed": 1}, "n_mixed must be at least 2")],
    ids=["alpha", "n_mixed"],
)
def test_net_of_the_users_own_checks_its_options(blobs: Any, options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        MixedNet(Net, **USER, **options).fit(blobs.X, blobs.y)


def test_net_of_the_users_own_refuses_unknown_options(blobs: Any) -> None:
    with pytest.raises(ValueError, match=r"unexpected argument\(s\) alhpa"):
        MixedNet(Net, **USER, alhpa=1).fit(blobs.X, blobs.y)


@pytest.mark.parametrize("options", [{}, {"alpha": 1}], ids=str)
def test_net_calls_hooks_in_a_way_of_its_own(owner: Any, blobs: Any, options: dict[str, Any]) -> None:
    calls: Counter[str] = Counter()

    class Telling(owner):
        def notify(self, method_name: str, **kwargs: Any) -> None:
            calls[method_name] += 1
            super().notify(method_name, **kwargs)

    if owner is NeuralNetClassifier and options:
        pytest.skip("skorch does not mix")
    net = Telling(Net, **{**_get_user_options(owner), **options}).fit(blobs.X, blobs.y)
    n_train, n_valid = (sum(net.history[:, f"{name}_batch_count"]) for name in ("train", "valid"))
    n_epochs = len(net.history)
    assert calls == {
        **{"on_train_begin": 1, "on_train_end": 1, "on_epoch_begin": n_epochs, "on_epoch_end": n_epochs},
        **{
            "on_batch_begin": n_train + n_valid,
            "on_batch_end": n_train + n_valid,
            "on_grad_computed": n_train,
        },
    }


# -- a loss of the user's own ------------------------------------------------------------


def distances(output: Tensor, y: Tensor) -> Tensor:
    """Return of each row how far its probabilities are from its label."""
    return (output.softmax(dim=1) - nn.functional.one_hot(y, 3)).square().sum(dim=1)


def make_own(owner: Any, is_by_row: bool) -> Any:
    class Own(owner):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            loss = super().get_loss(y_pred, y_true, X=X, training=training)
            own = distances(y_pred, y_true)
            return loss + (own if is_by_row and loss.ndim else own.mean())

    return Own


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("is_by_row", "lam_per"), [(True, "example"), (True, "batch"), (False, "batch")])
@pytest.mark.parametrize("base", [MixedNet, MixupClassifier])
def test_own_loss_is_mixed_by_the_weights_of_its_rows(
    blobs: Any, base: Any, is_by_row: bool, lam_per: str, weighted: bool
) -> None:
    options = {"train_split": None, "max_epochs": 1, "lr": 0.1, "verbose": 0, "lam_per": lam_per}
    net = make_own(base, is_by_row)(Net, criterion=nn.CrossEntropyLoss, **options).fit(blobs.X, blobs.y)
    y = torch.as_tensor(blobs.y[:16]).reshape(2, 8)
    with torch.no_grad():
        output = net.module_(torch.as_tensor(blobs.X[:8]))
    share = torch.rand(8, generator=torch.Generator().manual_seed(0))
    share = share if lam_per == "example" else share[:1].expand(8)
    lam = torch.stack([share, 1 - share])
    weight = torch.arange(1.0, 9.0) if weighted and is_by_row else None
    rows = torch.ones(8) if weight is None else weight
    total = sum(
        rows[i] * lam[k, i] * (distances(output, y[k]) - output.log_softmax(dim=1)[range(8), y[k]])[i]
        for k in range(2)
        for i in range(8)
    )
    torch.testing.assert_close(net.get_mixed_loss(output, y, lam, weight), total / rows.sum())


@pytest.mark.parametrize(("lam_per", "weighted"), [("example", False), ("example", True), ("batch", True)])
@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("base", [MixedNet, MixupClassifier])
def test_own_loss_of_a_batch_that_rows_share_unevenly_is_refused(
    blobs: Any, base: Any, reduction: str, lam_per: str, weighted: bool
) -> None:
    class Own(base):
        def get_loss(self, *args: Any, **kwargs: Any) -> Tensor:
            return super().get_loss(*args, **kwargs).mean() / 2

    options = {"criterion": nn.CrossEntropyLoss, "criterion__reduction": reduction, "train_split": None}
    net = Own(Net, **options, verbose=0, lam_per=lam_per)
    rows = {"sample_weight": 1.0 + blobs.y} if weighted else {}
    with pytest.raises(ValueError, match=r"get_loss must return a loss for each row .*; got one for the b"):
        net.fit(blobs.X, blobs.y, **rows)
