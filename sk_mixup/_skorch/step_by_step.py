"""An epoch gone through batch by batch, as skorch does."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from skorch.dataset import get_len
from skorch.history import History
from torch import Tensor

from sk_mixup._data.batches import Batch
from sk_mixup._skorch.default_callbacks import Watchers
from sk_mixup._skorch.overriding import STEPS, VALIDATION_STEPS, find_overridden
from sk_mixup._skorch.schedule import EpochLosses

__all__ = ["StepByStep"]


class SteppedNet(Protocol):
    """A skorch net that is trained, or validated, step by step."""

    history: History

    def notify(self, method_name: str, **kwargs: object) -> None:
        """Call the callbacks."""

    def get_share(self, batch: object, training: bool) -> Tensor | None:
        """Return what a batch's loss counts in the mean of an epoch."""

    def _predict_clean(self, batch: object, fit_params: Mapping[str, object]) -> object: ...

    def _set_training(self, training: bool) -> None: ...


@dataclass(frozen=True)
class StepByStep:
    """Goes through the batches of an epoch.

    Parameters
    ----------
    net : skorch.NeuralNet
        The net.
    watchers : Watchers
        Who wants to be called within the epoch.
    step : callable
        Does a step on a batch, and returns its loss and prediction.
    losses : EpochLosses
        Takes the losses.
    training : bool
        Whether the net is trained.
    fit_params : dict
        What the step is given beside a batch.
    """

    net: SteppedNet
    watchers: Watchers
    step: Callable[..., dict[str, Any]]
    losses: EpochLosses
    training: bool
    fit_params: dict[str, object]

    def run(self, batches: Iterable[object]) -> None:
        """Go through the batches; code of the user's that looks on finds the loss of each in the history."""
        names = STEPS if self.training else VALIDATION_STEPS
        if self.watchers.run_foreign_code(self.training) or find_overridden(self.net, names):
            self._run_watched(batches)
        else:
            self._run_unwatched(batches)

    def _run_unwatched(self, batches: Iterable[object]) -> None:
        for batch in batches:
            self.net.history.new_batch()
            step = self.step(batch, **self.fit_params)
            self.losses.add(step["loss"].detach(), [_count_rows(batch)], self._get_share(batch))

    def _run_watched(self, batches: Iterable[object]) -> None:
        """Show scoring callbacks a prediction for the clean rows, never for mixed ones."""
        shows_predictions = self.training and self.watchers.look_at_batches(self.training)
        for batch in batches:
            self.net.notify("on_batch_begin", batch=batch, training=self.training)
            step = self.step(batch, **self.fit_params)
            self.losses.record_last(step["loss"], _count_rows(batch), self._get_share(batch))
            if shows_predictions and isinstance(batch, Batch) and not batch.is_clean:
                step = {**step, "y_pred": self.net._predict_clean(batch, self.fit_params)}
                self.net._set_training(True)
            self.net.notify("on_batch_end", batch=batch, training=self.training, **step)

    def _get_share(self, batch: object) -> Tensor | None:
        return self.net.get_share(batch, self.training)


def _count_rows(batch: Any) -> int:
    if isinstance(batch, Batch):
        return len(batch[1])
    return int(get_len(batch[0]) if isinstance(batch, tuple | list) else get_len(batch))
