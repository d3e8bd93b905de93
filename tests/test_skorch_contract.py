"""A skorch user's code runs unchanged with the class name swapped and ``alpha=0``."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
import random
import time
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
from sklearn.model_selection import GridSearchCV, GroupKFold, cross_val_score
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    Freezer,
    GradientNormClipping,
    Initializer,
    InputShapeSetter,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    PrintLog,
    ProgressBar,
    TrainEndCheckpoint,
    Unfreezer,
)
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import SliceDataset, predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup.modules import MLP


class Net(nn.Module):
    """A small net as a skorch user writes one."""

    def __init__(self, width: int = 8, dropout: float = 0.0, n_features: int = 5) -> None:
        super().__init__()
        self.first = nn.Linear(n_features, width)
        self.drop = nn.Dropout(dropout)
        self.last = nn.Linear(width, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(torch.relu(self.first(x))))


USER: dict[str, Any] = {
    "criterion": nn.CrossEntropyLoss,
    "optimizer": torch.optim.SGD,
    "lr": 0.1,
    "max_epochs": 3,
    "batch_size": 16,
    "train_split": ValidSplit(4, stratified=True),
    "verbose": 0,
}

Make = Callable[..., Any]


@pytest.fixture(params=[NeuralNetClassifier, partial(MixupClassifier, alpha=0)], ids=["skorch", "sk_mixup"])
def make(request: pytest.FixtureRequest) -> Make:
    """Build a net of skorch's or of ours with the options of a skorch user."""

    def build(module: Any = Net, **options: Any) -> Any:
        torch.manual_seed(0)
        return request.param(module, **{**USER, **options})

    return build


def _get_weights(net: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def _is_equal(weights: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(weights[name], other[name]) for name in weights)


def _get_accuracy(net: Any, X: Any, y: Any) -> float:
    return accuracy_score(y, net.predict_proba(X).argmax(axis=1))


# -- the same numbers as skorch ----------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"batch_size": 7},
        {"batch_size": -1},
        {"optimizer": torch.optim.Adam, "lr": 0.01},
        {"optimizer": torch.optim.SGD, "optimizer__momentum": 0.9, "optimizer__weight_decay": 0.01},
        {"train_split": None},
        {"train_split": ValidSplit(3)},
        {"criterion__label_smoothing": 0.1},
        {"criterion__weight": torch.tensor([1.0, 2.0, 3.0])},
        {"callbacks": [LRScheduler("StepLR", step_size=1)]},
        {"callbacks": [GradientNormClipping(0.1)]},
        {"optimizer": torch.optim.LBFGS, "batch_size": -1},
    ],
    ids=lambda options: "-".join(options) or "plain",
)
def test_net_trains_as_in_skorch(blobs: Any, options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    start = Net().state_dict()

    def fit(owner: Any) -> Any:
        module = Net()
        module.load_state_dict(start)
        net = owner(module, **{**USER, "iterator_train__shuffle": False, **options})
        return net.fit(blobs.X, blobs.y)

    ours, theirs = fit(partial(MixupClassifier, alpha=0)), fit(NeuralNetClassifier)
    held_out = options.get("train_split", True) is not None
    columns = ["train_loss", *(["valid_loss", "valid_acc"] if held_out else [])]
    np.testing.assert_allclose(ours.history[:, columns], theirs.history[:, columns], rtol=1e-5)
    expected = nn.functional.softmax(theirs.forward(blobs.X), dim=1)
    np.testing.assert_allclose(ours.predict_proba(blobs.X), expected, rtol=1e-4, atol=1e-6)


def test_regressor_trains_as_in_skorch(plane: Any) -> None:
    torch.manual_seed(0)
    start = MLP(5, 2).state_dict()

    def fit(owner: Any) -> Any:
        module = MLP(5, 2)
        module.load_state_dict(start)
        options = {"lr": 0.05, "max_epochs": 3, "batch_size": 16, "verbose": 0, "optimizer": torch.optim.SGD}
        net = owner(module, **options, train_split=ValidSplit(4), iterator_train__shuffle=False)
        return net.fit(plane.X, plane.y)

    ours, theirs = fit(partial(MixupRegressor, alpha=0)), fit(NeuralNetRegressor)
    columns = ["train_loss", "valid_loss"]
    np.testing.assert_allclose(ours.history[:, columns], theirs.history[:, columns], rtol=1e-5)
    np.testing.assert_allclose(ours.predict(plane.X), theirs.predict(plane.X), rtol=1e-4, atol=1e-6)


# -- callbacks ---------------------------------------------------------------------------


class Counting(Callback):
    """Count the calls of each hook and check what it is given."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self.calls["train_begin"] += X is not None and y is not None

    def on_train_end(self, net: Any, X: Any = None, y: Any = None, **_: Any) -> None:
        self.calls["train_end"] += X is not None and y is not None

    def on_epoch_begin(self, net: Any, **sets: Any) -> None:
        self.calls["epoch_begin"] += self._has_sets(**sets)

    def on_epoch_end(self, net: Any, **sets: Any) -> None:
        self.calls["epoch_end"] += self._has_sets(**sets)

    def _has_sets(self, dataset_train: Any, dataset_valid: Any) -> bool:
        return (len(dataset_train), len(dataset_valid)) == (45, 15)

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        x, y = batch
        self.calls[f"batch_begin-{training}"] += len(x) == len(y)

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **step: Any) -> None:
        _, y = batch
        self.calls[f"batch_end-{training}"] += len(y) == len(step["y_pred"]) and step["loss"].ndim == 0

    def on_grad_computed(self, net: Any, named_parameters: Any, batch: Any = None, **_: Any) -> None:
        names = [name for name, parameter in named_parameters if parameter.grad is not None]
        self.calls["grad_computed"] += len(names) == 4


def test_every_hook_is_called(make: Make, blobs: Any) -> None:
    counting = Counting()
    make(callbacks=[counting]).fit(blobs.X, blobs.y)
    assert counting.calls == {
        "train_begin": 1,
        "train_end": 1,
        "epoch_begin": 3,
        "epoch_end": 3,
        "batch_begin-True": 9,
        "batch_begin-False": 3,
        "batch_end-True": 9,
        "batch_end-False": 3,
        "grad_computed": 9,
    }


@pytest.mark.parametrize("scoring", ["accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr", _get_accuracy])
@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("use_caching", [False, True])
def test_score_of_an_epoch_is_recorded(
    make: Make, blobs: Any, scoring: Any, on_train: bool, use_caching: bool
) -> None:
    options = {"on_train": on_train, "use_caching": use_caching, "lower_is_better": False}
    net = make(callbacks=[EpochScoring(scoring, name="score", **options)]).fit(blobs.X, blobs.y)
    assert len(net.history[:, ("score", "score_best")]) == 3
    assert np.isfinite(net.history[:, "score"]).all()


def test_score_without_a_cache_is_that_of_the_net(make: Make, blobs: Any) -> None:
    scored = EpochScoring("accuracy", name="train_acc", on_train=True, use_caching=False)
    net = make(callbacks=[scored], train_split=None).fit(blobs.X, blobs.y)
    assert net.history[-1, "train_acc"] == accuracy_score(blobs.y, net.predict(blobs.X))


def test_score_of_the_held_out_rows_is_that_of_the_net(make: Make, blobs: Any) -> None:
    held_out = Dataset(blobs.X[:20], blobs.y[:20])
    net = make(train_split=predefined_split(held_out)).fit(blobs.X[20:], blobs.y[20:])
    expected = accuracy_score(blobs.y[:20], net.predict(blobs.X[:20]))
    assert net.history[-1, "valid_acc"] == pytest.approx(expected)


@pytest.mark.parametrize("on_train", [False, True])
def test_score_of_a_batch_is_recorded(make: Make, blobs: Any, on_train: bool) -> None:
    def score(net: Any, X: Any, y: Any) -> float:
        return f1_score(y, net.predict(X), average="macro")

    scored = BatchScoring(score, name="f1", on_train=on_train)
    net = make(callbacks=[scored]).fit(blobs.X, blobs.y)
    batches = net.history[-1, "batches", :, "f1" if not on_train else ("f1", "train_loss")]
    assert len(batches) == (3 if on_train else 1)
    assert 0 <= net.history[-1, "f1"] <= 1


def test_value_of_a_batch_is_passed_through(make: Make, blobs: Any) -> None:
    class Record(Callback):
        def on_batch_end(self, net: Any, batch: Any, training: bool, **_: Any) -> None:
            if training:
                net.history.record_batch("rows", len(batch[1]))

    callbacks = [("record", Record()), ("pass", PassthroughScoring("rows", on_train=True))]
    net = make(callbacks=callbacks).fit(blobs.X, blobs.y)
    assert net.history[-1, "rows"] == pytest.approx((16**2 + 16**2 + 13**2) / 45)


def test_rate_is_scheduled_by_epoch(make: Make, blobs: Any) -> None:
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5)
    net = make(callbacks=[scheduler]).fit(blobs.X, blobs.y)
    assert net.history[:, "event_lr"] == [0.1, 0.05, 0.025]
    assert net.optimizer_.param_groups[0]["lr"] == 0.0125


def test_rate_is_scheduled_by_batch(make: Make, blobs: Any) -> None:
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5, step_every="batch")
    net = make(callbacks=[scheduler]).fit(blobs.X, blobs.y)
    assert net.history[0, "batches", :3, "event_lr"] == [0.1, 0.05, 0.025]
    assert net.optimizer_.param_groups[0]["lr"] == pytest.approx(0.1 / 2**9)


def test_rate_is_scheduled_by_a_score(make: Make, blobs: Any) -> None:
    scheduler = LRScheduler("ReduceLROnPlateau", monitor="valid_loss", patience=0, threshold=10.0)
    net = make(callbacks=[scheduler]).fit(blobs.X, blobs.y)
    assert net.optimizer_.param_groups[0]["lr"] < 0.1


@pytest.mark.parametrize("load_best", [False, True])
def test_checkpoint_keeps_the_best_epoch(make: Make, blobs: Any, tmp_path: Any, load_best: bool) -> None:
    checkpoint = Checkpoint(monitor="valid_loss_best", dirname=tmp_path, load_best=load_best)
    net = make(callbacks=[checkpoint], lr=2.0, max_epochs=8).fit(blobs.X, blobs.y)
    final = _get_weights(net)
    net.load_params(checkpoint=checkpoint)
    assert {path.name for path in tmp_path.iterdir()} >= {"params.pt", "optimizer.pt", "history.json"}
    assert _is_equal(final, _get_weights(net)) or not load_best


def test_checkpoint_at_the_end_restores_the_net(make: Make, blobs: Any, tmp_path: Any) -> None:
    net = make(callbacks=[TrainEndCheckpoint(dirname=tmp_path)]).fit(blobs.X, blobs.y)
    other = make(max_epochs=1).fit(blobs.X, blobs.y)
    other.load_params(f_params=tmp_path / "train_end_params.pt")
    assert _is_equal(_get_weights(other), _get_weights(net))


def test_checkpoint_loads_into_a_net_never_fitted(make: Make, blobs: Any, tmp_path: Any) -> None:
    checkpoint = Checkpoint(dirname=tmp_path)
    net = make(callbacks=[checkpoint]).fit(blobs.X, blobs.y)
    other = make(classes=[0, 1, 2]).initialize()
    other.load_params(checkpoint=checkpoint)
    assert len(other.history) == len(net.history)


def test_early_stopping_ends_training(make: Make, blobs: Any) -> None:
    stopping = EarlyStopping(monitor="train_loss", patience=2, threshold=10.0, threshold_mode="abs")
    net = make(callbacks=[stopping], max_epochs=20).fit(blobs.X, blobs.y)
    assert len(net.history) == 3


def test_early_stopping_restores_the_best_weights(make: Make, blobs: Any) -> None:
    class Keep(Callback):
        weights: list[dict[str, Tensor]]

        def on_train_begin(self, net: Any, **_: Any) -> None:
            self.weights = []

        def on_epoch_end(self, net: Any, **_: Any) -> None:
            self.weights.append(_get_weights(net))

    keep, stopping = Keep(), EarlyStopping(patience=3, load_best=True)
    net = make(callbacks=[("keep", keep), ("stop", stopping)], lr=3.0, max_epochs=30).fit(blobs.X, blobs.y)
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert _is_equal(_get_weights(net), keep.weights[best])


def test_gradient_norm_is_clipped(make: Make, blobs: Any) -> None:
    norms = []

    class Measure(Callback):
        def on_grad_computed(self, net: Any, named_parameters: Any, **_: Any) -> None:
            grads = [parameter.grad.norm() for _, parameter in named_parameters]
            norms.append(float(torch.stack(grads).norm()))

    make(callbacks=[("clip", GradientNormClipping(1e-3)), ("measure", Measure())]).fit(blobs.X, blobs.y)
    assert len(norms) == 9
    assert max(norms) <= 1e-3 * (1 + 1e-4)


def test_frozen_weights_stay(make: Make, blobs: Any) -> None:
    def fill(parameter: Tensor) -> None:
        nn.init.constant_(parameter, 0.5)

    callbacks = [Initializer("first.*", fn=fill), Freezer("first.*")]
    net = make(callbacks=callbacks).fit(blobs.X, blobs.y)
    assert torch.all(net.module_.first.weight == 0.5)
    assert not net.module_.first.weight.requires_grad


def test_frozen_weights_thaw(make: Make, blobs: Any) -> None:
    net = make(callbacks=[Freezer("first.*"), Unfreezer("first.*", at=2)]).fit(blobs.X, blobs.y)
    assert net.module_.first.weight.requires_grad


def test_parameters_are_mapped(make: Make, blobs: Any) -> None:
    mapper = ParamMapper("last.bias", at=2, fn=lambda parameter: nn.init.constant_(parameter, 9.0))
    net = make(callbacks=[mapper]).fit(blobs.X, blobs.y)
    assert net.module_.last.bias.min() > 5


def test_input_shape_is_set(make: Make, blobs: Any) -> None:
    setter = InputShapeSetter(param_name="n_features")
    net = make(module__n_features=3, callbacks=[setter]).fit(blobs.X, blobs.y)
    assert net.module_.first.in_features == 5


def test_progress_is_shown(make: Make, blobs: Any, capsys: Any) -> None:
    make(callbacks=[ProgressBar(detect_notebook=False)]).fit(blobs.X, blobs.y)
    assert "0/4" in capsys.readouterr().err


def test_log_is_printed(make: Make, blobs: Any, capsys: Any) -> None:
    make(verbose=1).fit(blobs.X, blobs.y)
    head, _, *rows = capsys.readouterr().out.splitlines()[-5:]
    assert head.split() == ["epoch", "train_loss", "valid_acc", "valid_loss", "dur"]
    assert [row.split()[0] for row in rows] == ["1", "2", "3"]


def test_log_goes_to_its_sink(make: Make, blobs: Any) -> None:
    lines: list[str] = []
    make(callbacks__print_log__sink=lines.append, verbose=1).fit(blobs.X, blobs.y)
    assert len(lines) == 5


def test_log_of_the_user_stands_beside_the_default(make: Make, blobs: Any) -> None:
    lines: list[str] = []
    options = {"callbacks": [PrintLog(sink=lines.append)], "callbacks__print_log": None, "verbose": 1}
    make(**options).fit(blobs.X, blobs.y)
    assert len(lines) == 5


def test_default_callback_is_switched_off(make: Make, blobs: Any) -> None:
    net = make(callbacks__valid_acc=None, callbacks__epoch_timer=None).fit(blobs.X, blobs.y)
    assert "valid_acc" not in net.history[-1]
    assert "dur" not in net.history[-1]
    assert "valid_loss" in net.history[-1]


def test_all_callbacks_are_switched_off(make: Make, blobs: Any) -> None:
    net = make(callbacks="disable").fit(blobs.X, blobs.y)
    assert net.callbacks_ == []
    assert len(net.history) == 3


def test_callbacks_of_one_class_get_names(make: Make, blobs: Any) -> None:
    net = make(callbacks=[EpochTimer(), EpochTimer()]).fit(blobs.X, blobs.y)
    assert {"EpochTimer_1", "EpochTimer_2"} <= {name for name, _ in net.callbacks_}


@pytest.mark.parametrize("hook", ["on_epoch_end", "on_batch_end", "on_batch_begin", "on_epoch_begin"])
def test_interrupt_keeps_what_was_trained(make: Make, blobs: Any, hook: str) -> None:
    class Interrupt(Callback):
        def on_train_begin(self, net: Any, **_: Any) -> None:
            self.before = _get_weights(net)

    def stop(self: Any, net: Any, **_: Any) -> None:
        if len(net.history) == 2:
            raise KeyboardInterrupt

    setattr(Interrupt, hook, stop)
    interrupt = Interrupt()
    net = make(callbacks=[interrupt], max_epochs=9).fit(blobs.X, blobs.y)
    assert len(net.history) == 2
    assert not _is_equal(_get_weights(net), interrupt.before)
    assert net.predict(blobs.X).shape == (60,)


# -- history -----------------------------------------------------------------------------


@pytest.fixture
def history(make: Make, blobs: Any) -> Any:
    return make().fit(blobs.X, blobs.y).history


def test_history_is_indexed_by_epoch(history: Any) -> None:
    assert len(history) == 3
    assert len(history[1:]) == 2
    assert history[-1]["epoch"] == 3
    assert [row["epoch"] for row in history] == [1, 2, 3]


def test_history_is_indexed_by_epoch_and_column(history: Any) -> None:
    assert history[:, "epoch"] == [1, 2, 3]
    assert history[-1, "train_loss"] == history[:, "train_loss"][-1]
    assert [len(row) for row in history[:, ("train_loss", "valid_loss", "valid_acc", "dur")]] == [4] * 3
    assert history[0, "train_batch_count"] == 3
    assert history[0, "valid_batch_count"] == 1


def test_history_is_indexed_by_batch(history: Any) -> None:
    assert len(history[0, "batches"]) == 3 + 1
    assert len(history[:, "batches", 0]) == 3
    assert history[-1, "batches", 2]["train_batch_size"] == 13
    assert history[-1, "batches", -1]["valid_batch_size"] == 15


def test_history_is_indexed_by_batch_and_column(history: Any) -> None:
    assert history[0, "batches", :, "train_batch_size"] == [16, 16, 13]
    assert np.shape(history[:, "batches", :, "train_loss"]) == (3, 3)
    assert len(history[0, "batches", 0, ("train_loss", "train_batch_size")]) == 2


def test_history_averages_batches_by_their_size(history: Any) -> None:
    losses, sizes = np.transpose(history[0, "batches", :, ("train_loss", "train_batch_size")])
    assert history[0, "train_loss"] == pytest.approx(np.average(losses, weights=sizes))


def test_history_marks_the_best_epochs(history: Any) -> None:
    losses = np.array(history[:, "valid_loss"])
    best = np.minimum.accumulate(losses) == losses
    assert history[:, "valid_loss_best"] == best.tolist()


def test_history_of_a_missing_column_raises(history: Any) -> None:
    with pytest.raises(KeyError):
        history[:, "nothing"]


# -- options -----------------------------------------------------------------------------


def test_options_of_components_are_set_before_fit(make: Make, blobs: Any) -> None:
    net = make().set_params(optimizer__weight_decay=0.25, lr=0.01, module__width=4, max_epochs=1)
    net.fit(blobs.X, blobs.y)
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.25
    assert net.optimizer_.param_groups[0]["lr"] == 0.01
    assert net.module_.first.out_features == 4


def test_options_of_the_optimizer_are_set_on_an_initialized_net(make: Make) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    module = net.module_
    net.set_params(optimizer__weight_decay=0.25, lr=0.01)
    assert net.optimizer_.param_groups[0]["weight_decay"] == 0.25
    assert net.optimizer_.param_groups[0]["lr"] == 0.01
    assert net.module_ is module


def test_options_of_the_module_build_it_anew(make: Make) -> None:
    net = make(classes=[0, 1, 2]).initialize().set_params(module__width=4)
    assert net.module_.first.out_features == 4
    assert net.optimizer_.param_groups[0]["params"][0] is net.module_.first.weight


def test_options_of_callbacks_are_set(make: Make, blobs: Any) -> None:
    net = make(callbacks=[("stop", EarlyStopping(patience=9))])
    net.set_params(callbacks__stop__patience=2, callbacks__stop__threshold=10.0)
    net.set_params(callbacks__stop__threshold_mode="abs", max_epochs=20)
    assert len(net.fit(blobs.X, blobs.y).history) == 3


def test_options_are_searched(make: Make, blobs: Any) -> None:
    grid = {"module__width": [4, 8], "optimizer__weight_decay": [0.0, 0.1], "lr": [0.1]}
    search = GridSearchCV(make(max_epochs=1), grid, cv=2, error_score="raise").fit(blobs.X, blobs.y)
    assert len(search.cv_results_["params"]) == 4


def test_options_of_parameter_groups_are_used(make: Make, blobs: Any) -> None:
    groups = [("first.*", {"lr": 0.0}), ("last.bias", {"lr": 0.5})]
    net = make(optimizer__param_groups=groups, classes=[0, 1, 2]).initialize()
    before = _get_weights(net)
    net.partial_fit(blobs.X, blobs.y)
    assert [group["lr"] for group in net.optimizer_.param_groups] == [0.0, 0.5, 0.1]
    assert torch.equal(net.module_.first.weight, before["first.weight"])
    assert not torch.equal(net.module_.last.weight, before["last.weight"])


def test_module_may_be_an_instance(make: Make, blobs: Any) -> None:
    net = make(Net(width=4), max_epochs=9).fit(blobs.X, blobs.y)
    assert net.module_.first.out_features == 4
    assert net.score(blobs.X, blobs.y) > 0.5


def test_module_may_be_a_function(make: Make, blobs: Any) -> None:
    net = make(lambda width: Net(width), module__width=4).fit(blobs.X, blobs.y)
    assert net.module_.first.out_features == 4


def test_criterion_may_be_an_instance(make: Make, blobs: Any) -> None:
    assert len(make(criterion=nn.CrossEntropyLoss()).fit(blobs.X, blobs.y).history) == 3


def test_probabilities_are_trained_with_nll(make: Make, blobs: Any) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    net = make(module, criterion=nn.NLLLoss, max_epochs=20).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X).sum(axis=1), 1, rtol=1e-5)
    assert net.score(blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("options", [{"alpha": 1.0}, {"n_mixed": 3}, {"lam_per": "batch"}], ids=str)
def test_probabilities_are_mixed_with_nll(blobs: Any, options: dict[str, Any]) -> None:
    module = nn.Sequential(nn.Linear(5, 3), nn.Softmax(dim=1))
    net = MixupClassifier(module, **{**USER, **options}, random_state=0)
    net.set_params(criterion=nn.NLLLoss, max_epochs=20).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X).sum(axis=1), 1, rtol=1e-5)
    assert net.score(blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("alpha", [0, 1])
def test_lbfgs_closes_over_one_mixed_batch(blobs: Any, alpha: float) -> None:
    options = {**USER, "optimizer": torch.optim.LBFGS, "batch_size": -1, "lr": 1, "max_epochs": 5}
    net = MixupClassifier(Net, **options, alpha=alpha, random_state=0).fit(blobs.X, blobs.y)
    assert net.score(blobs.X, blobs.y) > 0.8


def test_link_may_be_a_function(make: Make, blobs: Any) -> None:
    net = make(predict_nonlinearity=lambda logits: torch.sigmoid(logits)).fit(blobs.X, blobs.y)
    np.testing.assert_allclose(net.predict_proba(blobs.X), torch.sigmoid(net.forward(blobs.X)), rtol=1e-5)


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doing
def test_module_is_compiled(make: Make, blobs: Any) -> None:
    net = make(compile=True, compile__backend="eager", batch_size=-1, max_epochs=9).fit(blobs.X, blobs.y)
    assert isinstance(net.module_, torch._dynamo.eval_frame.OptimizedModule)
    assert net.score(blobs.X, blobs.y) > 0.5


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
def test_compiled_module_trains_the_same_net(blobs: Any) -> None:
    net = MixupClassifier(early_stopping=False, max_epochs=3, random_state=0)
    plain = net.fit(blobs.X, blobs.y).predict_proba(blobs.X)
    fast = net.set_params(compile=True).fit(blobs.X, blobs.y).predict_proba(blobs.X)
    np.testing.assert_allclose(fast, plain, rtol=1e-4)


# -- what is trained on ------------------------------------------------------------------


class Pairs(torch.utils.data.Dataset):
    """A map-style data set of a user's own; it holds no arrays."""

    def __init__(self, X: Any, y: Any) -> None:
        self.pairs = [(torch.as_tensor(x), int(code)) for x, code in zip(X, y, strict=True)]

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, row: int) -> Any:
        return self.pairs[row]


class Stream(IterableDataset):
    """The pairs of another data set, in order."""

    def __init__(self, pairs: Any) -> None:
        self.pairs = pairs

    def __iter__(self) -> Any:
        return (self.pairs[row] for row in range(len(self.pairs)))


def _make_tensor_dataset(X: Any, y: Any) -> TensorDataset:
    return TensorDataset(torch.as_tensor(X), torch.as_tensor(y))


DATASETS = {
    "skorch": Dataset,
    "tensors": _make_tensor_dataset,
    "subset": lambda X, y: Subset(_make_tensor_dataset(X, y), range(50)),
    "pairs": Pairs,
    "pairs-subset": lambda X, y: Subset(Pairs(X, y), range(50)),
}


# skorch itself cannot take the rows of a Subset of tensors out for prediction.
@pytest.mark.parametrize("name", ["skorch", "tensors", "pairs", "pairs-subset"])
def test_dataset_is_trained_on(make: Make, blobs: Any, name: str) -> None:
    dataset = DATASETS[name](blobs.X, blobs.y)
    net = make(train_split=None, max_epochs=20).fit(dataset, y=None)
    assert _get_accuracy(net, blobs.X, blobs.y) > 0.8
    assert net.predict_proba(dataset).shape == (len(dataset), 3)


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_split_with_its_targets(make: Make, blobs: Any, wrap: Any) -> None:
    dataset = wrap(blobs.X, blobs.y)
    y = np.array([int(dataset[row][1]) for row in range(len(dataset))])
    net = make(train_split=ValidSplit(5, stratified=True)).fit(dataset, y)
    assert "valid_acc" in net.history[-1]
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == len(dataset) * 4 // 5


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
@pytest.mark.parametrize("partners", ["batch", "dataset"])
def test_dataset_is_mixed_as_arrays_are(blobs: Any, wrap: Any, partners: str) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "partners": partners, "random_state": 0}
    dataset = wrap(blobs.X, blobs.y)
    n_rows = len(dataset)
    net = MixupClassifier(**options).fit(dataset)
    plain = MixupClassifier(**options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_mixed_within_classes(blobs: Any, wrap: Any) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "partners": "same_class", "random_state": 0}
    dataset = wrap(blobs.X, blobs.y)
    n_rows = len(dataset)
    net = MixupClassifier(**options).fit(dataset)
    plain = MixupClassifier(**options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))


@pytest.mark.parametrize("wrap", DATASETS.values(), ids=DATASETS)
def test_dataset_is_stopped_early(blobs: Any, wrap: Any) -> None:
    net = MixupClassifier(early_stopping=True, n_iter_no_change=2, lr=0.1, max_epochs=50, random_state=0)
    net.fit(wrap(blobs.X, blobs.y))
    assert net.n_iter_ < 50
    assert "valid_loss" in net.history[-1]


@pytest.mark.parametrize("name", ["skorch", "tensors", "subset"])
def test_dataset_of_real_targets_is_trained_on(line: Any, name: str) -> None:
    net = MixupRegressor(early_stopping=False, max_epochs=30, lr=0.02, random_state=0)
    assert net.fit(DATASETS[name](line.X, line.y)).score(line.X, line.y) > 0.5


def test_stream_is_trained_on(make: Make, blobs: Any) -> None:
    stream = Stream(Pairs(blobs.X, blobs.y))
    net = make(train_split=None, max_epochs=20, classes=[0, 1, 2]).fit(stream, y=None)
    assert _get_accuracy(net, blobs.X, blobs.y) > 0.8


@pytest.mark.parametrize("alpha", [0, 1])
def test_stream_is_trained_on_with_the_defaults(blobs: Any, alpha: float) -> None:
    stream = Stream(Pairs(blobs.X, blobs.y))
    net = MixupClassifier(alpha=alpha, classes=[0, 1, 2], max_epochs=20, lr=0.02, random_state=0)
    assert _get_accuracy(net.fit(stream), blobs.X, blobs.y) > 0.8


def test_dataset_is_predicted_in_codes(blobs: Any) -> None:
    names = np.array(["ash", "beech", "cedar"])
    net = MixupClassifier(max_epochs=3, random_state=0).fit(blobs.X, names[blobs.y])
    codes = net.predict(_make_tensor_dataset(blobs.X, blobs.y))
    np.testing.assert_array_equal(names[codes], net.predict(blobs.X))


def test_slices_of_a_dataset_are_cross_validated(make: Make, blobs: Any) -> None:
    dataset = Dataset(blobs.X, blobs.y)
    X, y = SliceDataset(dataset, idx=0), SliceDataset(dataset, idx=1)
    scores = cross_val_score(make(max_epochs=9), X, np.asarray(y), cv=2, error_score="raise")
    assert scores.min() > 0.5


def test_mapping_is_trained_on(make: Make, blobs: Any) -> None:
    class Sum(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.line = nn.Linear(5, 3)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.line(a + b)

    X = {"a": blobs.X, "b": blobs.X}
    net = make(Sum, max_epochs=20).fit(X, blobs.y)
    assert net.score(X, blobs.y) > 0.8
    assert net.forward(X).shape == (60, 3)


@pytest.mark.parametrize(
    ("split", "n_train"),
    [
        (ValidSplit(3), 40),
        (ValidSplit(0.25, random_state=0), 45),
        (ValidSplit(GroupKFold(4)), 45),
        (lambda dataset, y, **_: (Subset(dataset, range(50)), Subset(dataset, range(50, 60))), 50),
        (None, 60),
    ],
    ids=["folds", "share", "groups", "function", "none"],
)
def test_rows_are_held_out_by_the_users_split(make: Make, blobs: Any, split: Any, n_train: int) -> None:
    class Ignoring(Net):
        def forward(self, x: Tensor, **_: Any) -> Tensor:
            return super().forward(x)

    groups = {"groups": np.arange(60) % 4} if isinstance(getattr(split, "cv", None), GroupKFold) else {}
    net = make(Ignoring, train_split=split).fit(blobs.X, blobs.y, **groups)
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == n_train
    assert ("valid_loss" in net.history[-1]) == (n_train < 60)


def test_held_out_set_may_be_given(make: Make, blobs: Any) -> None:
    split = predefined_split(Dataset(blobs.X[:10], blobs.y[:10]))
    net = make(train_split=split).fit(blobs.X[10:], blobs.y[10:])
    assert net.history[0, "batches", -1, "valid_batch_size"] == 10
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 50


@pytest.mark.parametrize("make_set", [Dataset, _make_tensor_dataset])
def test_held_out_set_of_other_dtypes_is_taken(blobs: Any, make_set: Any) -> None:
    valid = make_set(blobs.X[:10].astype(np.float64), blobs.y[:10])
    valid = Dataset(*valid[:]) if make_set is _make_tensor_dataset else valid
    net = MixupClassifier(max_epochs=1, train_split=predefined_split(valid), random_state=0)
    assert np.isfinite(net.fit(blobs.X[10:], blobs.y[10:]).history[-1, "valid_loss"])


def test_held_out_set_with_labels_is_coded(blobs: Any) -> None:
    names = np.array(["ash", "beech", "cedar"])[blobs.y]
    split = predefined_split(Dataset(blobs.X[:30], names[:30]))
    net = MixupClassifier(max_epochs=30, lr=0.02, train_split=split, random_state=0)
    net.fit(blobs.X[30:], names[30:])
    assert net.history[-1, "valid_acc"] > 0.6


# -- prediction --------------------------------------------------------------------------


def test_forward_returns_the_outputs_of_the_module(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    output = net.forward(blobs.X)
    assert output.shape == (60, 3)
    with torch.no_grad():
        expected = net.module_(torch.as_tensor(blobs.X))
    torch.testing.assert_close(output, expected)


def test_forward_iter_yields_outputs_in_order(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    torch.testing.assert_close(torch.cat(list(net.forward_iter(blobs.X))), net.forward(blobs.X))


def test_forward_in_training_mode_drops_units(make: Make, blobs: Any) -> None:
    net = make(module__dropout=0.5).fit(blobs.X, blobs.y)
    assert not torch.equal(net.forward(blobs.X, training=True), net.forward(blobs.X))
    torch.testing.assert_close(net.forward(blobs.X), net.forward(blobs.X))


def test_infer_calls_the_module(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    assert net.infer(torch.as_tensor(blobs.X[:4])).shape == (4, 3)


def test_module_of_several_outputs_is_trained_by_the_first(make: Make, blobs: Any) -> None:
    class Twice(Net):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return super().forward(x), x

    class OnFirst(nn.CrossEntropyLoss):
        def forward(self, output: Any, target: Tensor) -> Tensor:
            return super().forward(output[0], target)

    net = make(Twice, criterion=OnFirst, callbacks__valid_acc=None, predict_nonlinearity=None, max_epochs=20)
    net.fit(blobs.X, blobs.y)
    assert _get_accuracy(net, blobs.X, blobs.y) > 0.8
    assert [part.shape for part in net.forward(blobs.X)] == [(60, 3), (60, 5)]


# -- going on ----------------------------------------------------------------------------


def test_partial_fit_goes_on(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    before = _get_weights(net)
    net.partial_fit(blobs.X, blobs.y)
    assert len(net.history) == 6
    assert net.history[:, "epoch"] == [1, 2, 3, 4, 5, 6]
    assert not _is_equal(_get_weights(net), before)


def test_partial_fit_begins(make: Make, blobs: Any) -> None:
    assert len(make().partial_fit(blobs.X, blobs.y).history) == 3


def test_warm_start_goes_on(make: Make, blobs: Any) -> None:
    net = make(warm_start=True).fit(blobs.X, blobs.y)
    assert len(net.fit(blobs.X, blobs.y).history) == 6


def test_fit_begins_anew(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    assert len(net.fit(blobs.X, blobs.y).history) == 3


def test_fit_loop_runs_as_many_epochs_as_asked(make: Make, blobs: Any) -> None:
    net = make().fit(blobs.X, blobs.y)
    net.fit_loop(blobs.X, blobs.y, epochs=2)
    assert len(net.history) == 5


def test_initialized_net_saves_and_loads(make: Make, tmp_path: Any) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    net.save_params(f_params=tmp_path / "params.pt", f_optimizer=tmp_path / "optimizer.pt")
    torch.manual_seed(1)
    other = make(classes=[0, 1, 2]).initialize()
    other.load_params(f_params=tmp_path / "params.pt", f_optimizer=tmp_path / "optimizer.pt")
    assert _is_equal(_get_weights(other), _get_weights(net))


def test_initialized_net_predicts(make: Make, blobs: Any) -> None:
    net = make(classes=[0, 1, 2]).initialize()
    assert net.predict_proba(blobs.X).shape == (60, 3)


# -- subclasses --------------------------------------------------------------------------


@pytest.fixture(params=[NeuralNetClassifier, MixupClassifier], ids=["skorch", "sk_mixup"])
def owner(request: pytest.FixtureRequest) -> Any:
    return request.param


def _get_user_options(owner: Any) -> dict[str, Any]:
    return {**USER, **({"alpha": 0} if owner is MixupClassifier else {})}


def test_subclass_changes_the_loss(owner: Any, blobs: Any) -> None:
    class Penalised(owner):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            loss = super().get_loss(y_pred, y_true, X=X, training=training)
            return loss + 100 * self.module_.last.weight.square().sum() if training else loss

    options = {**_get_user_options(owner), "lr": 0.001, "max_epochs": 30, "train_split": None}
    net = Penalised(Net, **options).fit(blobs.X, blobs.y)
    assert net.module_.last.weight.abs().max() < 0.05


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


# -- warm-up, cool-down, early stopping --------------------------------------------------


class Mixing(Callback):
    """Note of each epoch whether its batches were mixed, and the weights before and after."""

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.epochs: dict[int, bool] = {}
        self.before: list[dict[str, Tensor]] = []
        self.after: list[dict[str, Tensor]] = []

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        self.before.append(_get_weights(net))

    def on_batch_begin(self, net: Any, batch: Any = None, training: bool = False, **_: Any) -> None:
        if training:
            self.epochs[len(net.history)] = batch.lam is not None

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        self.after.append(_get_weights(net))


def _fit_watched(table: Any, **options: Any) -> tuple[Any, Mixing]:
    mixing = Mixing()
    callbacks = [("mixing", mixing), *options.pop("callbacks", [])]
    options = {"early_stopping": False, "random_state": 0, "lr": 0.1, **options}
    net = MixupClassifier(**options, callbacks=callbacks).fit(table.X, table.y)
    return net, mixing


@pytest.mark.parametrize(
    ("warmup_epochs", "cooldown_epochs", "expected"),
    [(0, 0, "mmmmm"), (2, 0, "ppmmm"), (0, 2, "mmmpp"), (1, 1, "pmmmp"), (5, 0, "ppppp"), (2, 3, "ppppp")],
)
def test_plain_epochs_stand_round_the_mixed_ones(
    blobs: Any, warmup_epochs: int, cooldown_epochs: int, expected: str
) -> None:
    options = {"warmup_epochs": warmup_epochs, "cooldown_epochs": cooldown_epochs, "max_epochs": 5}
    _, mixing = _fit_watched(blobs, **options)
    assert "".join("m" if mixed else "p" for mixed in mixing.epochs.values()) == expected


@pytest.mark.parametrize("own_callback", [False, True])
def test_plain_epochs_run_after_early_stopping(blobs: Any, own_callback: bool) -> None:
    options = {"cooldown_epochs": 3, "max_epochs": 60}
    if own_callback:
        stopping = EarlyStopping(patience=3, load_best=True)
        options |= {"callbacks": [("stop", stopping)], "train_split": ValidSplit(4, stratified=True)}
    else:
        options |= {"early_stopping": True, "n_iter_no_change": 3}
    _, mixing = _fit_watched(blobs, **options)
    kinds = list(mixing.epochs.values())
    assert len(kinds) < 60
    assert kinds[-3:] == [False] * 3
    assert all(kinds[:-3])


def test_plain_epochs_begin_from_the_best_weights(blobs: Any) -> None:
    options = {"early_stopping": True, "n_iter_no_change": 3, "cooldown_epochs": 2, "max_epochs": 60}
    net, mixing = _fit_watched(blobs, **options)
    best = int(np.argmin(net.history[:-2, "valid_loss"]))
    assert net.n_iter_ == best + 1 + 3 + 2
    assert _is_equal(mixing.before[-2], mixing.after[best])
    assert _is_equal(_get_weights(net), mixing.after[-1])


def test_plain_epochs_before_mixing_are_not_stopped(blobs: Any) -> None:
    options = {"early_stopping": True, "n_iter_no_change": 1, "warmup_epochs": 10, "max_epochs": 40}
    _, mixing = _fit_watched(blobs, **options)
    assert list(mixing.epochs.values())[:10] == [False] * 10
    assert mixing.epochs[11]


def test_stop_in_the_warm_up_ends_training(blobs: Any) -> None:
    class Stop(Callback):
        def on_epoch_end(self, net: Any, **_: Any) -> None:
            if len(net.history) == 2:
                raise KeyboardInterrupt

    net, _ = _fit_watched(blobs, warmup_epochs=3, max_epochs=6, callbacks=[("end", Stop())])
    assert net.n_iter_ == 2


def test_warm_up_is_not_repeated_by_partial_fit(blobs: Any) -> None:
    net, mixing = _fit_watched(blobs, warmup_epochs=2, max_epochs=3)
    net.partial_fit(blobs.X, blobs.y)
    assert list(mixing.epochs.values()) == [True] * 3


def test_interrupted_epoch_has_no_loss(blobs: Any) -> None:
    class Stop(Callback):
        def on_batch_end(self, net: Any, **_: Any) -> None:
            if len(net.history) == 2:
                raise KeyboardInterrupt

    net, _ = _fit_watched(blobs, max_epochs=5, callbacks=[("end", Stop())])
    assert len(net.loss_curve_) == 1
    assert net.predict(blobs.X).shape == (60,)


# -- never an accuracy on mixed batches --------------------------------------------------


def _make_still(**options: Any) -> MixupClassifier:
    """Return a net that never learns, so that its weights are known at every moment."""
    options = {"early_stopping": False, "max_epochs": 2, "random_state": 0, "batch_size": 16, **options}
    return MixupClassifier(lr=0.0, optimizer=torch.optim.SGD, **options)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 1.0},
        {"alpha": np.inf, "lam_per": "batch"},
        {"n_mixed": 3, "partners": "dataset"},
        {"partners": "same_class"},
        {"module__dropout": 0.5},
        {"augment": lambda x: -x},
    ],
    ids=lambda options: "-".join(options),
)
def test_train_score_is_that_of_the_clean_rows(
    blobs: Any, options: dict[str, Any], use_caching: bool
) -> None:
    scored = EpochScoring("accuracy", name="train_acc", on_train=True, use_caching=use_caching)
    net = _make_still(callbacks=[scored], **options).fit(blobs.X, blobs.y)
    assert net.history[:, "train_acc"] == [net.score(blobs.X, blobs.y)] * 2


def test_train_score_of_a_batch_is_that_of_the_clean_rows(blobs: Any) -> None:
    def score(net: Any, X: Any, y: Any) -> float:
        return float(np.mean(net.predict(X) == np.asarray(y)))

    scored = BatchScoring(score, name="train_acc", on_train=True)
    net = _make_still(callbacks=[scored]).fit(blobs.X, blobs.y)
    assert net.history[-1, "train_acc"] == pytest.approx(net.score(blobs.X, blobs.y))


def test_predictions_in_a_hook_of_the_users_are_of_the_clean_rows(blobs: Any) -> None:
    hits = []

    class Score(Callback):
        def on_batch_end(self, net: Any, batch: Any, training: bool, y_pred: Tensor, **_: Any) -> None:
            if training:
                hits.extend((y_pred.argmax(dim=1) == batch[1]).tolist())

    net = _make_still(callbacks=[Score()], max_epochs=1).fit(blobs.X, blobs.y)
    assert np.mean(hits) == pytest.approx(net.score(blobs.X, blobs.y))


def test_train_score_does_not_change_the_training(blobs: Any) -> None:
    options = {"early_stopping": False, "max_epochs": 3, "module__dropout": 0.3, "random_state": 0}
    scored = EpochScoring("accuracy", name="train_acc", on_train=True)
    plain = MixupClassifier(**options).fit(blobs.X, blobs.y)
    watched = MixupClassifier(**options, callbacks=[scored]).fit(blobs.X, blobs.y)
    assert watched.loss_curve_ == pytest.approx(plain.loss_curve_, rel=1e-6)


# -- randomness --------------------------------------------------------------------------


def _get_global_states() -> tuple[Any, ...]:
    name, keys, *rest = np.random.get_state()  # noqa: NPY002  (the state that must not move)
    return random.getstate(), (name, keys.tolist(), *rest), torch.get_rng_state().tolist()


TRAININGS = {
    "arrays": lambda net, X, y: net.fit(X, y),
    "dataset": lambda net, X, y: net.fit(_make_tensor_dataset(X, y)),
    "pairs": lambda net, X, y: net.fit(Pairs(X, y)),
    "partial_fit": lambda net, X, y: net.partial_fit(X, y),
    "weights": lambda net, X, y: net.fit(X, y, sample_weight=np.arange(60.0)),
}


@pytest.mark.parametrize("train", TRAININGS.values(), ids=TRAININGS)
@pytest.mark.parametrize("random_state", [None, 0])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_training_leaves_global_generators_alone(
    blobs: Any, train: Any, random_state: Any, early_stopping: bool
) -> None:
    net = MixupClassifier(
        max_epochs=2, module__dropout=0.2, random_state=random_state, early_stopping=early_stopping
    )
    before = _get_global_states()
    train(net, blobs.X, blobs.y)
    assert _get_global_states() == before


@pytest.mark.parametrize("method", ["predict", "predict_proba", "forward", "score"])
@pytest.mark.parametrize(
    "wrap", [lambda X, _: X, Pairs, _make_tensor_dataset], ids=["array", "pairs", "tensors"]
)
def test_prediction_leaves_global_generators_alone(blobs: Any, method: str, wrap: Any) -> None:
    net = MixupClassifier(max_epochs=1, random_state=0).fit(blobs.X, blobs.y)
    before = _get_global_states()
    getattr(net, method)(wrap(blobs.X, blobs.y), *([blobs.y] if method == "score" else []))
    assert _get_global_states() == before


def test_global_generators_do_not_reach_the_net(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=2, module__dropout=0.2, random_state=0)
    torch.manual_seed(1)
    first = net.fit(blobs.X, blobs.y).loss_curve_
    torch.manual_seed(2)
    assert net.fit(blobs.X, blobs.y).loss_curve_ == first


class Slow(MLP):
    """The default net, interrupted where it draws its weights."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features)
        time.sleep(0.02)
        nn.init.normal_(self.layers[-1].weight)


def _fit_in_threads(table: Any, **options: Any) -> list[list[float]]:
    nets = [MixupClassifier(**options) for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        return [net.loss_curve_ for net in pool.map(lambda net: net.fit(table.X, table.y), nets)]


def test_training_in_threads_leaves_global_generators_alone(blobs: Any) -> None:
    before = _get_global_states()
    _fit_in_threads(blobs, module=Slow, max_epochs=3)
    assert _get_global_states() == before


def test_training_in_threads_gives_the_net_of_a_lone_fit(blobs: Any) -> None:
    options = {"module": Slow, "early_stopping": False, "max_epochs": 20, "random_state": 0}
    alone = MixupClassifier(**options).fit(blobs.X, blobs.y).loss_curve_
    assert _fit_in_threads(blobs, **options) == [alone] * 4
