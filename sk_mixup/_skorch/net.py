"""Mixed training for any skorch net."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
import math
from typing import Any

from sklearn import get_config
from sklearn.utils.metadata_routing import process_routing
from skorch import NeuralNet
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import get_len
import torch
from torch import Tensor

from sk_mixup._random import draw_seed, make_generator, seeded_torch
from sk_mixup._skorch.datasets import FeedMixin
from sk_mixup._skorch.default_callbacks import has_batch_hooks, is_early_stopping, is_idle_scheduler, quicken
from sk_mixup._skorch.distributed import place_parallel_mixin
from sk_mixup._skorch.options import MixingOptionsMixin
from sk_mixup._skorch.stack_member import StackMemberMixin, exclusive_section, find_own_stream, warn_single
from sk_mixup._skorch.step import MixedStepMixin
from sk_mixup._training.epoch import Epoch
from sk_mixup.mixing import ERM, Mixup, Vicinity
from sk_mixup.stacking._scheduler import find_task, rejoin_scheduler

__all__ = ["MixupNetMixin"]


BATCH_HOOKS = "a callback has hooks round a batch"


class _Losses:
    """Losses of the batches of an epoch: kept on the device, read once."""

    def __init__(self, prefix: str) -> None:
        self.names = f"{prefix}_loss", f"{prefix}_batch_size"
        self.values: list[Tensor] = []
        self.sizes: list[int] = []

    def add(self, losses: Tensor, sizes: list[int]) -> None:
        """Add the losses of some batches of so many rows each."""
        self.values.append(losses.reshape(-1))
        self.sizes.extend(sizes)

    def read(self) -> list[dict[str, Any]]:
        """Wait for the losses; return the rows of the history."""
        losses = torch.cat(self.values).tolist() if self.values else []
        loss_name, size_name = self.names
        rows = zip(losses, self.sizes, strict=True)
        return [{loss_name: loss, size_name: size} for loss, size in rows]

    def read_last(self) -> dict[str, Any]:
        """Wait for the loss of the last batch; return its row."""
        return dict(zip(self.names, (self.values[-1].item(), self.sizes[-1]), strict=True))


def _count_rows(batch: Any) -> int:
    return int(get_len(batch[0]) if isinstance(batch, tuple | list) else get_len(batch))


class MixupNetMixin(StackMemberMixin, MixingOptionsMixin, FeedMixin, MixedStepMixin):
    """Give a skorch net the mixed training iteration.

    Put it before a skorch net among the bases: ``class MyNet(MixupNetMixin, NeuralNet)``.
    Each epoch draws its plan (order, partners, weights) from one seeded generator; each
    training batch is augmented, mixed and scored on the device.

    Parameters
    ----------
    *args
        Positional arguments of the skorch net.

    alpha : float, default=1.0
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha). 0 is plain training
        (ERM), inf the plain average.

    lam_per : {'example', 'batch'}, default='example'
        Whether each example draws its own λ or all of a mini-batch share one.

    n_mixed : int, default=2
        Examples in a virtual example, at least 2; weights ~ Dirichlet(alpha, ..., alpha).

    partners : {'batch', 'dataset', 'same_class', 'neighbors', 'kernel'} or policy, default='batch'
        Where partners come from; see :class:`sk_mixup.mixing.Mixup`.

    vicinity : Vicinity, default=None
        A policy of :mod:`sk_mixup.mixing` in the place of mixup with the four options above,
        which are then not used.

    warmup_epochs : int, default=0
        Epochs of plain training before mixing begins, counted from initialization.

    cooldown_epochs : int, default=0
        Epochs of plain training after mixing: the last of ``max_epochs``, and also
        after early stopping, from the best weights where the callback restores them.

    augment : callable, default=None
        Called with each training batch's inputs, a tensor on the device, before mixing;
        returns as many rows.

    autocast : {None, 'bfloat16', 'float16'}, default=None
        Mixed precision of the forward pass; 'float16' scales the loss.

    storage : {'auto', 'device', 'host'}, default='auto'
        Where whole arrays are kept. 'device' keeps them on the device; 'host' leaves them
        where they are, in memory or in a memory-mapped file, and sends batches. 'auto'
        keeps on the device what fits into half of its free memory and is not
        memory-mapped.

    channels_last : bool, default=False
        Whether images (inputs of 4 axes) and the module's weights are laid out with the
        channels last, which convolutions are often faster with.

    cuda_graph : bool, default=False
        Whether the training step is recorded as a CUDA graph in each epoch and replayed,
        which spares a small net most of its launches. Needs a CUDA device, arrays as
        training data, a module without host-device synchronisation and a learning rate
        that stays the same through an epoch.

    random_state : int, RandomState, Generator or None, default=None
        Seed of the initial weights and of all that training draws.

    **kwargs : dict
        Options of the skorch net.

    Notes
    -----
    The net's criterion is applied to each mixed target and the losses are averaged with
    the mixing weights, as in section 3 of the paper. It must offer ``reduction='none'``,
    as torch's losses do, or else ``lam_per='batch'`` must be chosen.

    With ``skorch.hf.AccelerateMixin`` before it among the bases, and ``accelerate launch``,
    several processes train one net. `random_state` must then be an int, and each process is
    given all rows. The order of an epoch is drawn alike in all of them and dealt out row by
    row, as by torch's ``DistributedSampler``: shares are of one size, filled up with the first
    rows of the order, or cut to one size with ``iterator_train__drop_last=True``.
    ``batch_size`` is that of one process. Each draws the partners and weights of its own
    mini-batches, its dropout and its augmentation from its own stream of the seed; partners
    from elsewhere than the mini-batch come from all rows. A batch normalisation sees the rows
    of its own process; after each epoch all have the statistics of the first. Losses in the
    history are averages over the processes, held-out rows are scored whole in each of them,
    and a training that a callback stops in one is stopped in all. Methods that predict return
    in each process what it asked for; ``save_params`` writes in the main process only. The
    learning rate is not scaled. Gradients are averaged, so with weights of rows each process
    divides by its own rows' weights. In one process the result is what it is without
    ``AccelerateMixin``, bit for bit.

    A batch unpacks as ``x, y``, its clean examples, and carries what they are mixed with: a
    ``train_step_single`` of your own must hand on the batch it is given, not a new pair.

    Examples
    --------
    >>> import numpy as np
    >>> import skorch
    >>> import torch
    >>> from sk_mixup import MixupNetMixin
    >>> class Net(MixupNetMixin, skorch.NeuralNet):
    ...     pass
    >>> net = Net(
    ...     torch.nn.Linear(2, 3), torch.nn.CrossEntropyLoss, train_split=None, alpha=0.4,
    ...     max_epochs=2, verbose=0, random_state=0,
    ... )
    >>> X = np.eye(6, 2, dtype=np.float32)
    >>> len(net.fit(X, np.array([0, 1, 2, 0, 1, 2])).history)
    2
    """

    def __init__(
        self,
        *args: Any,
        alpha: float = 1.0,
        lam_per: str = "example",
        n_mixed: int = 2,
        partners: Any = "batch",
        vicinity: Vicinity | None = None,
        warmup_epochs: int = 0,
        cooldown_epochs: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        autocast: str | None = None,
        storage: str = "auto",
        channels_last: bool = False,
        cuda_graph: bool = False,
        random_state: Any = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.lam_per = lam_per
        self.n_mixed = n_mixed
        self.partners = partners
        self.vicinity = vicinity
        self.warmup_epochs = warmup_epochs
        self.cooldown_epochs = cooldown_epochs
        self.augment = augment
        self.autocast = autocast
        self.storage = storage
        self.channels_last = channels_last
        self.cuda_graph = cuda_graph
        self.random_state = random_state

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        place_parallel_mixin(cls, MixupNetMixin)

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [(name, quicken(callback)) for name, callback in super()._default_callbacks]

    def initialize(self) -> Any:
        """Initialize the components, the weights from `random_state`."""
        self.check_mixing_options()
        self.generator_ = make_generator(self.random_state)
        scaled = self.autocast == "float16"
        self.scaler_ = torch.amp.GradScaler(torch.device(self.device or "cpu").type) if scaled else None
        rejoin_scheduler()
        with seeded_torch(draw_seed(self.generator_), alone=True):
            return super().initialize()

    def initialize_module(self) -> Any:
        """Build the module; see ``skorch.NeuralNet.initialize_module``."""
        super().initialize_module()
        self._set_memory_format()
        return self

    def _set_memory_format(self) -> None:
        if self.channels_last:
            self.module_.to(memory_format=torch.channels_last)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> Any:
        """Train for ``max_epochs`` more epochs; see ``skorch.NeuralNet.partial_fit``."""
        if not self.initialized_:
            self.initialize()
        self.check_mixing_options()
        with self._on_device_of_stack(), seeded_torch(self._draw_torch_seed()):
            return super().partial_fit(X, y, classes, **fit_params)

    def _draw_torch_seed(self) -> int:
        """Draw the seed of what training draws on torch: dropout and augmentation."""
        return draw_seed(self.generator_)

    def fit_loop(
        self,
        X: Any,
        y: Any = None,
        epochs: int | None = None,
        *,
        sample_weight: Any = None,
        _routing_method: str = "fit",
        **fit_params: Any,
    ) -> Any:
        """Run the epochs: plain ones, mixed ones, plain ones; see ``skorch.NeuralNet``."""
        self.check_data(X, y)
        self.check_training_readiness()
        self._set_memory_format()  # the option may have been set since
        epochs = self.max_epochs if epochs is None else epochs
        self._n_epochs_before, self._n_epochs_now = len(self.history), epochs
        split_params = self._get_split_params(_routing_method, fit_params)
        train, valid = self.get_split_datasets(X, y, sample_weight=sample_weight, **split_params)
        warmup = min(max(self.warmup_epochs - len(self.history), 0), epochs)
        cooldown = min(self.cooldown_epochs, epochs - warmup)
        self._warn_unused_options()
        policy, facts = self.get_policy(), self.get_facts(train, y)
        policy.check(facts)
        run = {"train": train, "valid": valid, "facts": facts, "fit_params": fit_params}
        with self._without_callbacks(is_early_stopping):
            stopped = self._run_epochs(warmup, ERM(), **run)
        if not stopped:
            self._run_epochs(epochs - warmup - cooldown, policy, **run)
        if cooldown:
            self._restore_best()
            with self._without_callbacks(is_early_stopping):
                self._run_epochs(cooldown, ERM(), **run)
        return self

    def get_policy(self) -> Vicinity:
        """Return the policy of a mixed epoch."""
        if self.vicinity is not None:
            return self.vicinity
        if self.alpha == 0:
            return ERM()
        return Mixup(alpha=self.alpha, lam_per=self.lam_per, n_mixed=self.n_mixed, partners=self.partners)

    def _get_split_params(self, routing_method: str, fit_params: dict[str, Any]) -> dict[str, Any]:
        if not get_config()["enable_metadata_routing"]:
            return fit_params
        routed = process_routing(self, routing_method, **fit_params)
        return dict(routed.get("splitter", {"split": {}})["split"])

    def _run_epochs(
        self, n_epochs: int, policy: Vicinity, *, train: Any, valid: Any, facts: Any, fit_params: Any
    ) -> bool:
        """Run epochs until they are done or a callback stops them; return whether one did."""
        sets = {"dataset_train": train, "dataset_valid": valid}
        for _ in range(n_epochs):
            self.notify("on_epoch_begin", **sets)
            self.run_single_epoch(
                # No name keeps the plan: the next one would be drawn beside it.
                self.get_training_batches(train, policy, facts),
                training=True,
                prefix="train",
                step_fn=self.train_step,
                **fit_params,
            )
            self._check_losses_finite()
            with exclusive_section():
                iterator = None if valid is None else self.get_iterator(valid, training=False)
                self.run_single_epoch(
                    iterator, training=False, prefix="valid", step_fn=self.validation_step, **fit_params
                )
                stopped = self._end_epoch(sets)
            if self._is_stopped(stopped):
                return True
        return False

    def _end_epoch(self, sets: dict[str, Any]) -> bool:
        """Call the callbacks; return whether one stops the training, in skorch's way."""
        try:
            self.notify("on_epoch_end", **sets)
        except KeyboardInterrupt:
            return True
        return False

    def _is_stopped(self, stopped: bool) -> bool:
        """Whether the training ends here; `stopped` is whether a callback of this process says so."""
        return stopped

    def _restore_best(self) -> None:
        """Go back to the best weights where early stopping kept them."""
        for _, callback in self.callbacks_:
            if isinstance(callback, EarlyStopping) and callback.load_best:
                callback.on_train_end(self)
                callback.best_model_weights_ = None

    @contextmanager
    def _without_callbacks(self, is_dropped: Callable[[str, Any], bool]) -> Iterator[None]:
        """Keep some callbacks from being called for a while."""
        callbacks: list[tuple[str, Any]] = self.callbacks_
        self.callbacks_: list[tuple[str, Any]] = [item for item in callbacks if not is_dropped(*item)]
        try:
            yield
        finally:
            self.callbacks_ = callbacks

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable[..., Any], **fit_params: Any
    ) -> None:
        """Run one pass; the losses are read once at its end unless a callback looks on."""
        if iterator is None:
            return
        losses = _Losses(prefix)
        watched = self._has_batch_hooks(training)
        try:
            run_fast = self._run_trainer if training else self._run_evaluator
            if not run_fast(iterator, losses, watched, fit_params):
                run_batch = self._run_watched_batch if watched else self._run_batch
                with exclusive_section(single=True) if training else nullcontext():
                    for batch in iterator:
                        run_batch(batch, step_fn, losses, training, fit_params)
        finally:  # an interrupted epoch keeps its losses
            if not watched:
                self.history[-1]["batches"].extend(losses.read())
            self.history.record(f"{prefix}_batch_count", len(losses.sizes))

    def _run_trainer(self, batches: Any, losses: _Losses, watched: bool, fit_params: dict[str, Any]) -> bool:
        """Run a training epoch the fast way; return False where that cannot be done."""
        trainer = BATCH_HOOKS if watched else self.choose_trainer(batches, fit_params)
        if isinstance(trainer, str) and self.cuda_graph:
            raise ValueError(
                f"cuda_graph must be False where training goes step by step; got True, but {trainer}. Drop "
                "one of them."
            )
        if isinstance(trainer, str):
            warn_single(trainer)
            return False
        self._set_training(True)
        task = find_task()
        if task is None:
            return trainer.run_epoch(batches, losses.add)
        number = len(self.history) - self._n_epochs_before
        epoch = Epoch(trainer, batches, losses.add, find_own_stream(), number, self._n_epochs_now)
        task.ask(epoch)
        epoch.stream.is_single = epoch.is_single
        if epoch.reason:
            warn_single(epoch.reason)
        return epoch.done

    def _run_evaluator(
        self, batches: Any, losses: _Losses, watched: bool, fit_params: dict[str, Any]
    ) -> bool:
        """Run a validation epoch the fast way; return False where that cannot be done."""
        evaluator = None if watched else self.get_evaluator(batches, fit_params)
        if evaluator is None:
            return False
        self._set_training(False)
        evaluator.evaluate(batches, losses.add)
        return True

    def _run_batch(
        self, batch: Any, step_fn: Any, losses: _Losses, training: bool, fit_params: dict[str, Any]
    ) -> None:
        step = step_fn(batch, **fit_params)
        losses.add(step["loss"].detach(), [_count_rows(batch)])

    def _run_watched_batch(
        self, batch: Any, step_fn: Any, losses: _Losses, training: bool, fit_params: dict[str, Any]
    ) -> None:
        self.notify("on_batch_begin", batch=batch, training=training)
        step = step_fn(batch, **fit_params)
        losses.add(step["loss"].detach(), [_count_rows(batch)])
        for name, value in losses.read_last().items():
            self.history.record_batch(name, value)
        step = self._unmix_step(batch, step) if training else step
        self.notify("on_batch_end", batch=batch, training=training, **step)

    def _has_batch_hooks(self, training: bool) -> bool:
        """Whether anything wants to be called before or after each batch."""
        callbacks = [cb for _, cb in self.callbacks_ if getattr(cb, "on_train", training) == training]
        looking = [cb for cb in callbacks if not is_idle_scheduler(cb)]
        return has_batch_hooks(self, NeuralNet) or any(has_batch_hooks(cb, Callback) for cb in looking)

    def _unmix_step(self, batch: Any, step: dict[str, Any]) -> dict[str, Any]:
        """Give scoring callbacks a prediction for the clean rows, never for mixed ones."""
        wants_scores = any(getattr(cb, "on_train", False) for _, cb in self.callbacks_)
        if not wants_scores or getattr(batch, "lam", None) is None:
            return step
        y_pred = self.evaluation_step(batch)
        self._set_training(True)
        return {**step, "y_pred": y_pred}

    def _check_losses_finite(self) -> None:
        epoch = self.history[-1]
        losses = [row["train_loss"] for row in epoch["batches"] if "train_loss" in row]
        if all(map(math.isfinite, losses)):
            return
        bad = next(loss for loss in losses if not math.isfinite(loss))
        raise ValueError(
            f"train_loss must stay finite; got {bad} in epoch {epoch['epoch']}. Scale the inputs (for "
            f"example with StandardScaler), lower lr (now {self.lr}), or clip gradients with "
            "skorch.callbacks.GradientNormClipping."
        )
