"""The training of a GAN: its epochs, the callbacks that look on, the losses in its history."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count, pairwise
from typing import Protocol

import numpy as np
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    EpochTimer,
    LoadInitState,
    LRScheduler,
    ParamMapper,
    PassthroughScoring,
    TrainEndCheckpoint,
)
from skorch.history import History
from skorch.utils import TeeGenerator
import torch
from torch import Tensor, nn

from sk_mixup._random import draw_seed, seeded_torch
from sk_mixup._skorch.default_callbacks import QuietPrintLog, has_batch_hooks, looks_at_gradients
from sk_mixup._skorch.runner import run_trainer
from sk_mixup._skorch.stack_member import exclusive_section
from sk_mixup._tensors import send
from sk_mixup._training.ambient_autocast import casting_anew, find_region
from sk_mixup._training.gan import GanBatches, GanTrainer
from sk_mixup._training.threads import fitting_threads, suit_threads
from sk_mixup._validation import describe_nonfinite_loss
from sk_mixup.estimators._gan_nets import BuiltGan, get_placement, get_players
from sk_mixup.estimators._gan_options import Callbacks
from sk_mixup.mixing import draw_gan_plan
from sk_mixup.stacking._scheduler import find_task

__all__ = ["GanTraining", "TrainedGan", "make_callbacks"]

# Callbacks of skorch's that ask for a module, a criterion, an optimizer or predictions.
FOR_ONE_NET = (
    BatchScoring,
    Checkpoint,
    EpochScoring,
    LRScheduler,
    LoadInitState,
    ParamMapper,
    PassthroughScoring,
    TrainEndCheckpoint,
)

LOSSES = ("discriminator_loss", "generator_loss")


class TrainedGan(BuiltGan, Protocol):
    """A GAN in training."""

    callbacks_: list[Callback]
    history_: History
    n_iter_: int
    rng_: np.random.Generator


class GanTraining:
    """Trains a GAN on rows (n_samples, *features).

    All is read from the GAN when it is needed: a callback may set it.
    """

    def __init__(self, gan: TrainedGan, rows: np.ndarray) -> None:
        self.gan, self.rows = gan, rows
        self.watchers = Watchers(gan)

    def run(self, n_epochs: int) -> None:
        """Train for some epochs, or until a callback stops the training in skorch's way."""
        gan = self.gan
        nets = [player.module for player in get_players(gan).values()]
        with (
            _on_device_of_stack(gan),
            casting_anew(get_placement(gan.generator_)[0]),
            seeded_torch(draw_seed(gan.rng_)),
            fitting_threads(suit_threads(nets, (gan.noise_features,), gan.batch_size)),
        ):
            self.watchers.notify("on_train_begin", X=self.rows, y=None)
            with suppress(KeyboardInterrupt):
                self._run_epochs(send(self.rows, *get_placement(gan.generator_)), n_epochs)
            for player in get_players(gan).values():
                player.module.eval()
            self.watchers.notify("on_train_end", X=self.rows, y=None)

    def _run_epochs(self, rows: Tensor, n_epochs: int) -> None:
        look = self.watchers.show_gradients if self.watchers.look_at_gradients() else None
        generator, discriminator = get_players(self.gan).values()
        autocast = find_region(rows.device.type)
        trainer = GanTrainer(generator, discriminator, self.gan.generator_loss, look, autocast)
        sets, numbers = {"dataset_train": rows, "dataset_valid": None}, count(1)
        for _ in range(n_epochs):
            history = self.gan.history_
            history.new_epoch()
            history.record("epoch", len(history))
            self.watchers.notify("on_epoch_begin", **sets)
            self._run_epoch(trainer, rows, numbers)
            with exclusive_section():
                self.watchers.notify("on_epoch_end", **sets)

    def _run_epoch(self, trainer: GanTrainer, rows: Tensor, numbers: Iterator[int]) -> None:
        """Run an epoch in one piece, but for the generator steps after which a callback looks on."""
        gan = self.gan
        batch_size = len(rows) if gan.batch_size == -1 else min(gan.batch_size, len(rows))
        shape = (gan.steps_per_epoch, gan.discriminator_steps + 1, batch_size)
        plan = draw_gan_plan(gan.rng_, len(rows), shape, gan.alpha, gan.lam_per)
        losses = StepLosses(gan.history_)
        try:
            for start, stop in pairwise([0, *self.watchers.find_stops()]):
                batches = GanBatches(rows, plan.slice(start, stop), gan.noise_features)
                self._run_steps(trainer, batches, next(numbers), losses)
        finally:  # an interrupted epoch keeps its losses
            losses.record_means()
            gan.history_.record("n_iter", gan.n_iter_)
        losses.refuse_nonfinite(gan.lr)

    def _run_steps(self, trainer: GanTrainer, batches: GanBatches, number: int, losses: StepLosses) -> None:
        gan, is_watched = self.gan, self.watchers.look_at_steps()
        if is_watched:
            gan.history_.new_batch()
            self.watchers.notify("on_batch_begin", batch=None, training=True)
        gan.generator_.train()
        gan.discriminator_.train()
        try:
            run_trainer(trainer, batches, losses.keep, number, gan.max_epochs)
            gan.n_iter_ += len(batches)
        finally:
            losses.record_kept(n_batches=batches.plan.rows.shape[1])
        if is_watched:
            self.watchers.notify("on_batch_end", batch=None, training=True)
        self.watchers.end_iteration()


class Watchers:
    """The callbacks of a GAN: what they are told, and when they look on."""

    def __init__(self, gan: TrainedGan) -> None:
        self.gan = gan

    def notify(self, event: str, **facts: object) -> None:
        """Call a hook of each callback."""
        for callback in self.gan.callbacks_:
            getattr(callback, event)(self.gan, **facts)

    def show_gradients(self, module: nn.Module) -> None:
        """Call the hooks that look at the gradients of one of the nets."""
        named = TeeGenerator(module.named_parameters())
        self.notify("on_grad_computed", named_parameters=named, batch=None, training=True)

    def end_iteration(self) -> None:
        """Call those that look on after generator steps of their own choice."""
        for callback in self._list_snapshots():
            with exclusive_section():
                callback.on_iteration_end(self.gan)

    def look_at_gradients(self) -> bool:
        """Whether a callback wants to be called when gradients are computed."""
        return any(map(looks_at_gradients, self.gan.callbacks_))

    def look_at_steps(self) -> bool:
        """Whether a callback wants to be called around each generator step."""
        return any(map(has_batch_hooks, self.gan.callbacks_))

    def find_stops(self) -> list[int]:
        """Return after which generator steps of an epoch callbacks look on, and the last."""
        n_steps = self.gan.steps_per_epoch
        if self.look_at_steps():
            return list(range(1, n_steps + 1))
        steps = (step for callback in self._list_snapshots() for step in callback.iterations)
        wanted = {step - self.gan.n_iter_ for step in steps}
        return [*sorted(stop for stop in wanted if 0 < stop < n_steps), n_steps]

    def _list_snapshots(self) -> list[Callback]:
        return [callback for callback in self.gan.callbacks_ if hasattr(callback, "on_iteration_end")]


class StepLosses:
    """The losses of an epoch's generator steps: kept on the device, then written to the history."""

    def __init__(self, history: History) -> None:
        self.history = history
        self.rows: list[dict[str, float]] = history[-1]["batches"]
        self.kept: list[Tensor] = []

    def keep(self, losses: Tensor, *_: object) -> None:
        """Keep the losses of some mini-batches."""
        self.kept.append(losses)

    def record_kept(self, n_batches: int) -> None:
        """Write the loss of each generator step, and the discriminator's mean before it.

        Of the `n_batches` mini-batches of a step the generator's is the last.
        """
        if not self.kept:
            return
        table = torch.cat(self.kept).view(-1, n_batches)
        self.kept.clear()
        pairs = zip(table[:, :-1].mean(dim=1).tolist(), table[:, -1].tolist(), strict=True)
        steps = [dict(zip(LOSSES, pair, strict=True)) for pair in pairs]
        if self.rows and LOSSES[0] not in self.rows[-1]:  # begun for callbacks that look at each step
            steps[0] |= self.rows.pop()
        self.rows.extend(steps)

    def record_means(self) -> None:
        """Write the means over the epoch."""
        for name in LOSSES:
            if values := self._list_values(name):
                self.history.record(name, sum(values) / len(values))

    def refuse_nonfinite(self, lr: float) -> None:
        """Raise if a loss is no finite number."""
        hint = (
            f"Scale X (for example with StandardScaler), lower lr (now {lr}), or use "
            "generator_loss='non-saturating'."
        )
        for name in LOSSES:
            if message := describe_nonfinite_loss(name, self._list_values(name), len(self.history), hint):
                raise ValueError(message)

    def _list_values(self, name: str) -> list[float]:
        return [row[name] for row in self.rows if name in row]


@contextmanager
def _on_device_of_stack(gan: BuiltGan) -> Iterator[None]:
    """Train where :func:`sk_mixup.stacked` says, and be back on the own device afterwards."""
    task = find_task()
    device = gan.device if task is None or task.scheduler.device is None else task.scheduler.device
    try:
        for player in get_players(gan).values():
            player.move_to(device)
        yield
    finally:
        for player in get_players(gan).values():
            player.move_to(gan.device)


def _refuse_for_one_net(callback: Callback) -> None:
    """Raise for a callback of skorch's that asks for what a GAN has two of, or none."""
    if not isinstance(callback, FOR_ONE_NET) and getattr(callback, "load_best", False) is not True:
        return
    name = type(callback).__name__
    if isinstance(callback, LRScheduler):
        remedy = (
            "Step a scheduler of torch.optim.lr_scheduler for net.generator_optimizer_, and one for "
            "net.discriminator_optimizer_"
        )
    else:
        name += "(load_best=True)" if isinstance(callback, EarlyStopping) else ""
        remedy = "Save by net.save_params(f_params), or record a score by net.history_.record(name, score)"
    raise ValueError(
        "callbacks must be such that ask for no module_, criterion_ or optimizer_, for a GAN has two nets; "
        f"got {name}. {remedy}, in on_epoch_end of a Callback of your own."
    )


def make_callbacks(given: Callbacks) -> list[Callback]:
    """Return the callbacks, initialized, behind those that measure times and print."""
    if given == "disable":
        return []
    parts = [part[1] if isinstance(part, tuple | list) else part for part in given or ()]
    parts = [part for part in parts if part is not None]
    callbacks = [part() if isinstance(part, type) else part for part in (EpochTimer, QuietPrintLog, *parts)]
    for callback in callbacks:
        _refuse_for_one_net(callback)
    for callback in callbacks:
        callback.initialize()
    return callbacks
