"""skorch's callbacks: quicker forms of the default ones, and which want to be called when."""

from __future__ import annotations

from typing import Any

import numpy as np
from skorch.callbacks import EarlyStopping, LRScheduler, PassthroughScoring, PrintLog

__all__ = ["has_batch_hooks", "is_early_stopping", "is_idle_scheduler", "quicken"]


class QuietPrintLog(PrintLog):
    """skorch's PrintLog, which lays out a table in every epoch also where it prints none."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Print the last epoch, unless nothing is to be printed."""
        if net.verbose or self.sink is not print:
            super().on_epoch_end(net, **kwargs)


class QuickScoring(PassthroughScoring):
    """skorch's PassthroughScoring, which reads all batches three times; the same averages."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        """Record the average over the batches, if there were any."""
        size_name = "train_batch_size" if self.on_train else "valid_batch_size"
        batches = [row for row in net.history[-1]["batches"] if self.name in row and size_name in row]
        if not batches:
            return
        scores, sizes = (np.asarray([row[name] for row in batches]) for name in (self.name, size_name))
        average = np.multiply(scores, sizes).sum() / sizes.sum()
        is_best = self._is_best_score(average)
        if is_best:
            self.best_score_ = average
        net.history.record(self.name, average)
        if is_best is not None:
            net.history.record(f"{self.name}_best", bool(is_best))


def quicken(callback: Any) -> Any:
    """Return our own form of a default callback of skorch's, where there is one."""
    if type(callback) is PrintLog:
        return QuietPrintLog()
    if type(callback) is PassthroughScoring:
        return QuickScoring(**callback.get_params())
    return callback


def is_early_stopping(name: str, callback: Any) -> bool:
    """Whether a callback stops the training early."""
    return isinstance(callback, EarlyStopping)


def is_idle_scheduler(callback: Any) -> bool:
    """Whether a callback is skorch's scheduler that waits for the end of the epoch."""
    return type(callback) is LRScheduler and callback.step_every == "epoch"


def has_batch_hooks(instance: Any, base: type) -> bool:
    """Whether an object has hooks of its own round a batch."""
    names = ("on_batch_begin", "on_batch_end")
    return any(getattr(type(instance), name) is not getattr(base, name) for name in names)
