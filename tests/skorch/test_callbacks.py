"""Callbacks and history: those of skorch, and a user's own, work as in skorch."""

from collections import Counter
import pickle
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score
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
from skorch.dataset import Dataset
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from tests.helpers.nets import Make, get_accuracy, get_weights, is_equal

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


@pytest.mark.parametrize(
    "scoring",
    ["accuracy", "neg_log_loss", "f1_macro", "roc_auc_ovr", pytest.param(get_accuracy, id="_get_accuracy")],
)
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
    final = get_weights(net)
    net.load_params(checkpoint=checkpoint)
    assert {path.name for path in tmp_path.iterdir()} >= {"params.pt", "optimizer.pt", "history.json"}
    assert is_equal(final, get_weights(net)) or not load_best


def test_checkpoint_at_the_end_restores_the_net(make: Make, blobs: Any, tmp_path: Any) -> None:
    net = make(callbacks=[TrainEndCheckpoint(dirname=tmp_path)]).fit(blobs.X, blobs.y)
    other = make(max_epochs=1).fit(blobs.X, blobs.y)
    other.load_params(f_params=tmp_path / "train_end_params.pt")
    assert is_equal(get_weights(other), get_weights(net))


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
            self.weights.append(get_weights(net))

    keep, stopping = Keep(), EarlyStopping(patience=3, load_best=True)
    net = make(callbacks=[("keep", keep), ("stop", stopping)], lr=3.0, max_epochs=30).fit(blobs.X, blobs.y)
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert is_equal(get_weights(net), keep.weights[best])


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
            self.before = get_weights(net)

    def stop(self: Any, net: Any, **_: Any) -> None:
        if len(net.history) == 2:
            raise KeyboardInterrupt

    setattr(Interrupt, hook, stop)
    interrupt = Interrupt()
    net = make(callbacks=[interrupt], max_epochs=9).fit(blobs.X, blobs.y)
    assert len(net.history) == 2
    assert not is_equal(get_weights(net), interrupt.before)
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
    with pytest.raises(KeyError, match="nothing"):
        history[:, "nothing"]


def test_a_net_is_pickled_and_silent_where_print_was_replaced(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    X, y = np.eye(8, dtype=np.float32), np.arange(8) % 2
    net = MixupClassifier(max_epochs=1, early_stopping=False, random_state=0).fit(X, y)
    before = print
    monkeypatch.setattr("builtins.print", lambda *args, **kwargs: before(*args, **kwargs))
    again = pickle.loads(pickle.dumps(net)).partial_fit(X, y)
    np.testing.assert_array_equal(again.predict_proba(X), net.partial_fit(X, y).predict_proba(X))
    assert capsys.readouterr().out == ""
    net.set_params(verbose=1).partial_fit(X, y)
    assert "train_loss" in capsys.readouterr().out
