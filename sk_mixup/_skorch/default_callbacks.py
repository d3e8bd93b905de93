"""skorch's callbacks: quicker forms of the default ones, and which want to be called when."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeGuard

import numpy as np
from sklearn.metrics import accuracy_score, check_scoring
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping, EpochScoring, LRScheduler, PassthroughScoring, PrintLog
from skorch.callbacks.scoring import ScoringBase
from skorch.utils import to_numpy
import torch
from torch import Tensor

from sk_mixup._data.batches import Batch
from sk_mixup._skorch.overriding import find_overridden

__all__ = [
    "ALL_CALLBACKS",
    "Watchers",
    "WeightedScoring",
    "find_caching_scorings",
    "goes_on",
    "has_batch_hooks",
    "has_hook",
    "is_early_stopping",
    "looks_at_gradients",
    "quicken",
    "rebind_schedules",
    "restore_best",
    "scored_by_labels",
    "show_trained_rows",
    "takes_joined_batches",
    "without_callbacks",
]


class QuietPrintLog(PrintLog):
    """skorch's PrintLog, which lays out a table in every epoch also where it prints none.

    The default sink is not pickled: ray and others put a function of their own in the place of ``print``,
    and what was there before is then found under no name.
    """

    sink = print

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the last epoch, unless nothing is to be printed."""
        if net.verbose or self.sink is not QuietPrintLog.sink:
            super().on_epoch_end(net, **kwargs)

    def __getstate__(self) -> dict[str, object]:
        """Return the state without the default sink."""
        is_default = self.sink is QuietPrintLog.sink
        return {name: value for name, value in vars(self).items() if name != "sink" or not is_default}


class QuickScoring(PassthroughScoring):
    """skorch's PassthroughScoring of a loss, which reads all batches three times.

    Each batch counts by the weights of its rows, not by their number. Sums over held-out rows are added.
    """

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the loss of the epoch, if there were batches."""
        prefix = "train" if self.on_train else "valid"
        size_name, weight_name = f"{prefix}_batch_size", f"{prefix}_batch_weight"
        batches = [row for row in net.history[-1]["batches"] if self.name in row and size_name in row]
        if not batches:
            return
        scores = np.asarray([row[self.name] for row in batches])
        weights = np.asarray([row.get(weight_name, row[size_name]) for row in batches])
        if not np.any(weights):
            raise ValueError(
                f"{self.name} must be an average of rows that count; got rows whose weights, or those of "
                "their targets, are all 0. Give some of them a weight above 0."
            )
        average = np.multiply(scores, weights)[weights != 0].sum() / weights.sum()
        if not self.on_train and getattr(net, "_reduction", "mean") == "sum":
            average = scores.sum()
        is_best = self._is_best_score(average)
        if is_best:
            self.best_score_ = average
        net.history.record(self.name, average)
        if is_best is not None:
            net.history.record(f"{self.name}_best", bool(is_best))


class WeightedScoring(EpochScoring):
    """skorch's EpochScoring, which scores held-out rows that have weights by these.

    Accuracy is counted here: scikit-learn's rules take longer than all else at an epoch's end.
    """

    def _initialize_cache(self) -> None:
        super()._initialize_cache()
        self.weights_: list[Tensor] = []

    def on_batch_end(self, net: Any, batch: Any, y_pred: Any, training: bool, **kwargs: Any) -> None:
        """Remember predictions, targets and weights of a batch."""
        super().on_batch_end(net, batch, y_pred, training, **kwargs)
        weight = None if training else getattr(batch, "weight", None)
        if weight is not None:
            self.weights_.append(weight)

    def _scoring(self, net: Any, X_test: object, y_test: object) -> Any:
        if not self.weights_:
            if self.scoring == "accuracy":
                return _compute_accuracy(y_test, net.predict(X_test))
            return super()._scoring(net, X_test, y_test)
        weight = torch.cat(self.weights_).numpy(force=True)
        return check_scoring(net, self.scoring_)(net, X_test, y_test, sample_weight=weight)


def _compute_accuracy(y_true: object, y_pred: object) -> float:
    """Return scikit-learn's accuracy; of plain labels of one type without its rules."""
    if isinstance(y_pred, np.ndarray) and isinstance(y_true, np.ndarray) and y_true.ndim == 1:
        is_alike = y_pred.shape == y_true.shape and y_pred.dtype == y_true.dtype
        if is_alike and y_true.dtype.kind in "biuUS" and len(y_true):
            return float(np.mean(y_pred == y_true))
    return float(accuracy_score(y_true, y_pred))


class LabelExtractor:
    """A scoring callback's ``target_extractor``, which is handed labels where a batch holds codes.

    Parameters
    ----------
    extract : callable
        The callback's own; it stays the callback's when that is copied or pickled.
    decode : callable
        Turns codes into labels.
    """

    def __init__(self, extract: Callable[[object], object], decode: Callable[[Tensor], np.ndarray]) -> None:
        self.extract = extract
        self.decode = decode

    def __call__(self, y: object) -> object:
        """Return the targets as the scorer takes them; arrays hold labels already."""
        if not isinstance(y, Tensor):
            return self.extract(y)
        labels = self.decode(y)
        if self.extract is to_numpy:
            return labels
        # One of the user's own takes tensors, as far as labels can be such.
        return self.extract(torch.as_tensor(labels) if labels.dtype.kind in "biuf" else labels)

    def __reduce__(self) -> tuple[Callable[[object], object], tuple[object]]:
        return _same, (self.extract,)


def _same(extract: object) -> object:
    return extract


@contextmanager
def scored_by_labels(
    callbacks: Iterable[tuple[str, object]], decode: Callable[[Tensor], np.ndarray]
) -> Iterator[None]:
    """Let scoring callbacks compare labels for a while, as scikit-learn's scorers do."""
    scorings = [callback for _, callback in callbacks if isinstance(callback, ScoringBase)]
    extractors = [callback.target_extractor for callback in scorings]
    for callback, extract in zip(scorings, extractors, strict=True):
        callback.target_extractor = LabelExtractor(extract, decode)
    try:
        yield
    finally:
        for callback, extract in zip(scorings, extractors, strict=True):
            callback.target_extractor = extract


def scores_trained_rows(callback: object) -> TypeGuard[EpochScoring]:
    """Whether a callback scores, once an epoch, predictions of the rows that are trained on."""
    if not isinstance(callback, EpochScoring) or not callback.on_train:
        return False
    return type(callback).on_batch_end is EpochScoring.on_batch_end


def find_caching_scorings(
    callbacks: Iterable[tuple[str, object]], use_caching: bool | Literal["auto"]
) -> list[EpochScoring]:
    """Return the callbacks that score the rows that are trained on by predictions that are kept."""
    return [
        callback
        for _, callback in callbacks
        if scores_trained_rows(callback) and (callback.use_caching if use_caching == "auto" else use_caching)
    ]


def show_trained_rows(scorings: Iterable[EpochScoring], rows: Iterable[tuple[object, object]]) -> None:
    """Give scores of the rows trained on the predictions of the epoch's end, not those on its way."""
    y_true, y_pred = map(list, zip(*rows, strict=True))
    for callback in scorings:
        callback.y_trues_, callback.y_preds_ = y_true, y_pred


def takes_joined_batches(callback: object) -> bool:
    """Whether a callback does no more with held-out batches than to keep them for a score of the epoch."""
    return type(callback) in (EpochScoring, WeightedScoring) and not getattr(callback, "on_train", True)


QUICK = {PrintLog: QuietPrintLog, EpochScoring: WeightedScoring, PassthroughScoring: QuickScoring}


def quicken(callback: Any) -> Any:
    """Return our own form of a default callback of skorch's, where there is one."""
    form = QUICK.get(type(callback))
    if form is None:
        return callback
    quick = form.__new__(form)
    vars(quick).update(vars(callback))  # the constructor only stores; to ask for its arguments takes longer
    return quick


class CallingNet(Protocol):
    """A net that is initialized and calls callbacks."""

    callbacks_: list[tuple[str, object]]
    optimizer_: torch.optim.Optimizer


def is_early_stopping(name: str, callback: object) -> bool:
    """Whether a callback stops the training early."""
    return isinstance(callback, EarlyStopping)


def goes_on(name: str, callback: object) -> bool:
    """Whether a callback has begun a schedule of the learning rate."""
    return isinstance(callback, LRScheduler) and callback.lr_scheduler_ is not None


def rebind_schedules(net: CallingNet) -> None:
    """Let schedules of the learning rate go on with the optimizer of the net, which may be a copy."""
    for _, callback in net.callbacks_:
        if isinstance(callback, LRScheduler) and callback.lr_scheduler_ is not None:
            callback.lr_scheduler_.optimizer = net.optimizer_


def restore_best(net: CallingNet) -> None:
    """Go back to the best weights where early stopping kept them."""
    for _, callback in net.callbacks_:
        if isinstance(callback, EarlyStopping) and callback.load_best and callback.best_model_weights_:
            callback.on_train_end(net)
            callback.best_model_weights_ = None


ALL_CALLBACKS = "_all_callbacks"


@contextmanager
def without_callbacks(net: CallingNet, is_dropped: Callable[[str, object], bool]) -> Iterator[None]:
    """Keep some callbacks of a net from being called for a while."""
    callbacks = net.callbacks_
    outer = vars(net).setdefault(ALL_CALLBACKS, callbacks)  # of which copies that are made within have all
    net.callbacks_ = [item for item in callbacks if not is_dropped(*item)]
    try:
        yield
    finally:
        net.callbacks_ = callbacks
        if outer is callbacks:
            del vars(net)[ALL_CALLBACKS]


def looks_at_batches(callback: object, training: bool) -> bool:
    """Whether a callback wants to be called before or after each batch of training, or of validation."""
    if (
        isinstance(callback, ScoringBase)
        and callback.on_train != training
        and not _has_own_batch_hooks(callback)
    ):
        return False
    waits_for_epoch = type(callback) is LRScheduler and vars(callback)["step_every"] == "epoch"
    return not waits_for_epoch and has_batch_hooks(callback)


def _has_own_batch_hooks(callback: object) -> bool:
    """Whether the hooks of a callback round a batch are the user's, who may look at any."""
    hooks = (getattr(callback, name) for name in ("on_batch_begin", "on_batch_end"))
    return any(not getattr(hook, "__module__", "").startswith(("skorch.", "sk_mixup.")) for hook in hooks)


def looks_at_gradients(callback: object) -> bool:
    """Whether a callback wants to be called when gradients are computed."""
    return has_hook(callback, "on_grad_computed")


def _is_foreign(callback: object) -> bool:
    """Whether a callback is the user's own, and so may look at anything when it is called."""
    return not type(callback).__module__.startswith(("skorch.", "sk_mixup."))


def has_batch_hooks(instance: object) -> bool:
    """Whether an object has hooks of its own round a batch."""
    return has_hook(instance, "on_batch_begin", "on_batch_end")


def has_hook(instance: object, *names: str) -> bool:
    """Whether an object, of whatever class, has one of these hooks and not just skorch's empty one."""
    for name in names:
        hook = getattr(instance, name, None)
        empty = (None, getattr(Callback, name), getattr(NeuralNet, name))
        if getattr(hook, "__func__", hook) not in empty:
            return True
    return False


@dataclass(frozen=True)
class Watchers:
    """Who wants to be called within an epoch: callbacks, and the net itself by hooks of its own.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    callbacks : sequence of (str, callback)
        Its callbacks.
    scores_after_epochs : bool
        Whether scores of the rows trained on are given predictions at the end of an epoch.
    """

    net: object
    callbacks: Sequence[tuple[str, Callback]]
    scores_after_epochs: bool

    @property
    def _net_looks_on(self) -> bool:
        """Whether the net has hooks of its own round a batch, or a way of its own to call all hooks."""
        return has_batch_hooks(self.net) or bool(find_overridden(self.net, ("notify",)))

    def look_at_batches(self, training: bool) -> bool:
        """Whether anyone wants to be called before or after each batch."""
        return self._net_looks_on or any(
            looks_at_batches(callback, training)
            and not (self.scores_after_epochs and scores_trained_rows(callback))
            for _, callback in self.callbacks
        )

    def look_at_held_out_batches(self) -> bool:
        """Whether anyone wants to be called before or after each held-out batch of the right size."""
        return self._net_looks_on or any(
            looks_at_batches(callback, training=False) and not takes_joined_batches(callback)
            for _, callback in self.callbacks
        )

    def show_scorings(self, batch: Batch, output: Tensor) -> None:
        """Show callbacks that score an epoch several held-out batches as one."""
        for _, callback in self.callbacks:
            if takes_joined_batches(callback):
                callback.on_batch_end(self.net, batch=batch, y_pred=output, training=False)

    def look_at_gradients(self) -> bool:
        """Whether anyone wants to be called when gradients are computed."""
        return any(map(looks_at_gradients, [self.net, *(callback for _, callback in self.callbacks)]))

    def run_foreign_code(self, training: bool) -> bool:
        """Whether code of the user's runs at each batch, and so must find its row in the history."""
        if self.look_at_batches(training):
            return True
        own = [self.net, *(callback for _, callback in self.callbacks if _is_foreign(callback))]
        return training and any(map(looks_at_gradients, own))
