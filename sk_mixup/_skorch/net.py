"""Mixed training for any skorch net."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
import inspect
import math
from typing import Any, Literal, Self
import warnings

import numpy as np
from sklearn import get_config
from sklearn.utils.metadata_routing import process_routing
from skorch import NeuralNetClassifier
from skorch.callbacks import EarlyStopping
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len
from skorch.hf import AccelerateMixin as SkorchAccelerateMixin
from skorch.utils import is_dataset, to_device
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, IterableDataset

from sk_mixup._data.batches import PlannedBatches, RowSlices, is_pair
from sk_mixup._data.storage import Rows
from sk_mixup._data.virtual_examples import find_layers
from sk_mixup._random import draw_seed, make_generator, seeded_torch
from sk_mixup._skorch.dataset_items import (
    ReadBatches,
    cast_floats,
    join_items,
    refuse_loader,
    split_inputs,
    split_pair,
)
from sk_mixup._skorch.datasets import (
    PLAN_OPTIONS,
    Loading,
    Placement,
    find_shape,
    get_all_targets,
    get_inputs,
    is_whole,
    refuse_weights,
    unwrap_subset,
)
from sk_mixup._skorch.default_callbacks import (
    has_batch_hooks,
    is_early_stopping,
    is_foreign_callback,
    looks_at_gradients,
    quicken,
    watch_batches,
)
from sk_mixup._skorch.options import check_mixing_options, takes_argument, warn_unused_options
from sk_mixup._skorch.processes import Processes
from sk_mixup._skorch.runner import TrainingStep, run_trainer
from sk_mixup._skorch.schedule import EpochLosses, Schedule
from sk_mixup._skorch.stack_member import exclusive_section, on_device_of_stack, warn_single
from sk_mixup._skorch.step import PLAIN_MODULES, STEPS, MixedSteps, find_overridden
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.trainer import HIDDEN, Trainer
from sk_mixup._validation import describe_nonfinite_loss
from sk_mixup.mixing import ERM, Mixup, Partners, RowFacts, Vicinity
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.mixing.partners import PartnersName
from sk_mixup.mixing.plan import INPUT
from sk_mixup.stacking._scheduler import rejoin_scheduler

__all__ = ["MixupNetMixin"]

# Cross-entropies, and how far below zero rounding may bring the loss of a row: skorch gives NLLLoss the
# logarithms of probabilities to which it has added the dtype's eps.
BOUNDED = (nn.CrossEntropyLoss, nn.BCEWithLogitsLoss, nn.BCELoss)
SLACK = -1e-5


class MixupNetMixin(MixedSteps):
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

    With :class:`sk_mixup.AccelerateMixin` before it among the bases, and ``accelerate launch``,
    several processes train one net. `random_state` must then be an int, and each process is
    given all rows. The order of an epoch is the same in all of them and sharded row by
    row, as by torch's ``DistributedSampler``: shards are of one size, padded with the first
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
        *args: object,
        alpha: float = 1.0,
        lam_per: LamPer = "example",
        n_mixed: int = 2,
        partners: PartnersName | Partners = "batch",
        vicinity: Vicinity | None = None,
        warmup_epochs: int = 0,
        cooldown_epochs: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        autocast: Literal["bfloat16", "float16"] | None = None,
        storage: Literal["auto", "device", "host"] = "auto",
        channels_last: bool = False,
        cuda_graph: bool = False,
        random_state: Any = None,
        **kwargs: object,
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

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        order = cls.__mro__
        names = ", ".join(base.__name__ for base in cls.__bases__)
        before = [base for base in order[: order.index(MixupNetMixin)] if base.__module__ in PLAIN_MODULES]
        if before:
            raise TypeError(
                f"MixupNetMixin must stand before the net's class among the bases; got class {cls.__name__}"
                f"({names}). Write class {cls.__name__}(MixupNetMixin, {before[0].__name__})."
            )
        if SkorchAccelerateMixin not in order:
            return
        is_first = order.index(SkorchAccelerateMixin) < order.index(MixupNetMixin)
        if not cls._trains_by_processes or not is_first:
            raise TypeError(
                "AccelerateMixin must be that of sk_mixup, before the net's class among the bases; got "
                f"class {cls.__name__}({names}). Write class {cls.__name__}(sk_mixup.AccelerateMixin, ...)."
            )

    # -- components ----------------------------------------------------------------------

    _trains_by_processes = False
    _scores_after_epochs = False

    @property
    def casts_integers(self) -> bool:
        """Whether integers in host memory become floating numbers."""
        return False

    @property
    def _processes(self) -> Processes:
        """Who trains the net."""
        return Processes()

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [(name, quicken(callback)) for name, callback in super()._default_callbacks]

    def check_mixing_options(self) -> None:
        """Raise if an option of mixing, storage or precision breaks its rule."""
        check_mixing_options(self)

    def initialize(self) -> Self:
        """Initialize the components, the weights from `random_state`."""
        self.generator_ = make_generator(self.random_state)
        scaled = self.autocast == "float16"
        self.scaler_ = torch.amp.GradScaler(torch.device(self.device or "cpu").type) if scaled else None
        rejoin_scheduler()
        with seeded_torch(draw_seed(self.generator_), alone=True):
            super().initialize()
        return self

    def initialize_module(self) -> Self:
        """Build the module; see ``skorch.NeuralNet.initialize_module``."""
        super().initialize_module()
        self._set_memory_format()
        return self

    # -- epochs --------------------------------------------------------------------------

    def fit(self, X: Any, y: Any = None, **fit_params: object) -> Self:
        """Initialize and train; see ``skorch.NeuralNet.fit``."""
        self.check_mixing_options()
        super().fit(X, y, **fit_params)
        return self

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: object) -> Self:
        """Train for ``max_epochs`` more epochs; see ``skorch.NeuralNet.partial_fit``."""
        if "_routing_method" not in fit_params:  # else the method of that name has checked
            self.check_mixing_options()
        if not self.initialized_:
            self.initialize()
        seed = self._processes.derive_seed(draw_seed(self.generator_))  # of dropout and augmentation
        with self._on_device_of_stack(), seeded_torch(seed):
            super().partial_fit(X, y, classes, **fit_params)
        self._set_training(False)
        return self

    def _on_device_of_stack(self) -> AbstractContextManager[None]:
        return on_device_of_stack(self)

    def fit_loop(
        self,
        X: Any,
        y: Any = None,
        epochs: int | None = None,
        *,
        sample_weight: np.ndarray | None = None,
        _routing_method: str = "fit",
        **fit_params: object,
    ) -> Self:
        """Run the epochs: plain ones, mixed ones, plain ones; see ``skorch.NeuralNet``."""
        self.check_data(X, y)
        self.check_training_readiness()
        self._check_reduction()
        self._set_memory_format()  # the option may have been set since
        n_done, epochs = len(self.history), self.max_epochs if epochs is None else epochs
        self._n_epochs_before, self._n_epochs_now = n_done, epochs
        split_params = self._get_split_params(_routing_method, fit_params)
        train, valid = self.get_split_datasets(X, y, sample_weight=sample_weight, **split_params)
        schedule = Schedule.make(
            epochs, n_done=n_done, warmup_epochs=self.warmup_epochs, cooldown_epochs=self.cooldown_epochs
        )
        warn_unused_options(self)
        policy, facts = self.get_policy(), self.get_facts(train, y)
        policy.check(facts)
        forward_params = self._get_forward_params(fit_params)
        run = {"train": train, "valid": valid, "facts": facts, "fit_params": forward_params}
        with self._without_callbacks(is_early_stopping):
            stopped = self._run_epochs(schedule.warmup, ERM(), **run)
        if not stopped:
            self._run_epochs(schedule.mixed, policy, **run)
        if schedule.cooldown:
            self._restore_best()
            with self._without_callbacks(is_early_stopping):
                self._run_epochs(schedule.cooldown, ERM(), **run)
        return self

    def get_policy(self) -> Vicinity:
        """Return the policy of a mixed epoch."""
        if self.vicinity is not None:
            return self.vicinity
        if self.alpha == 0:
            return ERM()
        return Mixup(alpha=self.alpha, lam_per=self.lam_per, n_mixed=self.n_mixed, partners=self.partners)

    def _get_split_params(self, routing_method: str, fit_params: dict[str, object]) -> dict[str, Any]:
        if not get_config()["enable_metadata_routing"]:
            return {name: value for name, value in fit_params.items() if self._is_for_split(name)}
        routed = process_routing(self, routing_method, **fit_params)
        return dict(routed.get("splitter", {"split": {}})["split"])

    def _is_for_split(self, name: str) -> bool:
        return callable(self.train_split) and takes_argument(self.train_split, name)

    def _get_forward_params(self, fit_params: dict[str, object]) -> dict[str, object]:
        """Leave out what is for ``train_split`` alone, such as groups of rows."""
        forward = self._bare_module.forward
        return {
            name: value
            for name, value in fit_params.items()
            if takes_argument(forward, name) or not self._is_for_split(name)
        }

    def _run_epochs(
        self,
        n_epochs: int,
        policy: Vicinity,
        *,
        train: Any,
        valid: Any,
        facts: RowFacts,
        fit_params: dict[str, object],
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
            self._check_losses()
            with exclusive_section():
                iterator = None if valid is None else self._get_validation_batches(valid)
                self.run_single_epoch(
                    iterator, training=False, prefix="valid", step_fn=self.validation_step, **fit_params
                )
                stopped = self._end_epoch(sets)
            if self._processes.agree(stopped):
                return True
        return False

    def _end_epoch(self, sets: dict[str, Any]) -> bool:
        """Call the callbacks; return whether one stops the training, in skorch's way."""
        try:
            self.notify("on_epoch_end", **sets)
        except KeyboardInterrupt:
            return True
        return False

    def _restore_best(self) -> None:
        """Go back to the best weights where early stopping kept them."""
        for _, callback in self.callbacks_:
            if isinstance(callback, EarlyStopping) and callback.load_best and callback.best_model_weights_:
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
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable[..., Any], **fit_params: object
    ) -> None:
        """Run one pass; the losses are read once at its end unless code of the user's looks on."""
        if iterator is None:
            return
        losses = EpochLosses(self.history, prefix)
        try:
            run_fast = self._run_trainer if training else self._run_evaluator
            if not run_fast(iterator, losses, fit_params):
                watched = self._is_watched(training)
                run_batch = self._run_watched_batch if watched else self._run_batch
                with exclusive_section(single=True) if training else nullcontext():
                    for batch in iterator:
                        run_batch(batch, step_fn, losses, training, fit_params)
        finally:  # an interrupted epoch keeps its losses
            losses.record_all()
            self.history.record(f"{prefix}_batch_count", len(losses.sizes))

    def _run_batch(
        self,
        batch: object,
        step_fn: Callable[..., dict[str, Any]],
        losses: EpochLosses,
        training: bool,
        fit_params: dict[str, object],
    ) -> None:
        self.history.new_batch()
        step = step_fn(batch, **fit_params)
        losses.add(step["loss"].detach(), [_count_rows(batch)], self.get_share(batch, training))

    def _run_watched_batch(
        self,
        batch: object,
        step_fn: Callable[..., dict[str, Any]],
        losses: EpochLosses,
        training: bool,
        fit_params: dict[str, object],
    ) -> None:
        self.notify("on_batch_begin", batch=batch, training=training)
        step = step_fn(batch, **fit_params)
        losses.record_last(step["loss"], _count_rows(batch), self.get_share(batch, training))
        step = self._unmix_step(batch, step) if training else step
        self.notify("on_batch_end", batch=batch, training=training, **step)

    def _is_watched(self, training: bool) -> bool:
        """Whether code of the user's runs at each batch, and so must find its row in the history."""
        names = STEPS if training else ("validation_step", "infer", "get_batch_loss", "get_loss")
        if self._has_batch_hooks(training) or find_overridden(self, names):
            return True
        own = [cb for _, cb in self.callbacks_ if is_foreign_callback(cb)]
        return training and (looks_at_gradients(self) or any(map(looks_at_gradients, own)))

    def _has_batch_hooks(self, training: bool) -> bool:
        """Whether anything wants to be called before or after each batch."""
        return has_batch_hooks(self) or watch_batches(self.callbacks_, training, self._scores_after_epochs)

    def _wants_gradients(self) -> bool:
        return looks_at_gradients(self) or any(looks_at_gradients(cb) for _, cb in self.callbacks_)

    def _unmix_step(self, batch: object, step: dict[str, Any]) -> dict[str, Any]:
        """Give scoring callbacks a prediction for the clean rows, never for mixed ones."""
        if getattr(batch, "lam", None) is None or not self._has_batch_hooks(training=True):
            return step
        y_pred = self.evaluation_step(batch)
        self._set_training(True)
        return {**step, "y_pred": y_pred}

    def _check_losses(self) -> None:
        epoch = self.history[-1]
        rows = [row for row in epoch["batches"] if "train_loss" in row]
        losses = [row["train_loss"] for row in rows]
        hint = (
            f"Scale the inputs (for example with StandardScaler), lower lr (now {self.lr}), or clip "
            "gradients with skorch.callbacks.GradientNormClipping."
        )
        if message := describe_nonfinite_loss("train_loss", losses, epoch["epoch"], hint):
            self._on_nonfinite_loss(message)
        below = [row["train_loss"] for row in rows if row["train_loss"] < SLACK * row["train_batch_size"]]
        if below and self._has_bounded_loss():
            message = (
                f"train_loss must be at least 0 for {type(self.criterion_).__name__}; got {min(below)} in "
                f"epoch {epoch['epoch']}. Give targets that are classes, or 0 and 1, and no weight below 0."
            )
            if not isinstance(self.criterion_, nn.NLLLoss):
                raise ValueError(message)
            warnings.warn(
                message, UserWarning, stacklevel=2
            )  # skorch takes outputs that are no probabilities

    def _has_bounded_loss(self) -> bool:
        """Whether the loss cannot be below zero if targets are what they should be."""
        kinds = (*BOUNDED, nn.NLLLoss) if isinstance(self, NeuralNetClassifier) else BOUNDED
        criterion = vars(self).get("criterion_")
        if type(criterion) not in kinds or "forward" in vars(criterion):  # put there by the user
            return False
        return not find_overridden(self, STEPS)

    def _on_nonfinite_loss(self, message: str) -> None:
        """Say so, once a fit: a skorch net goes on."""
        if len(self.history) == self._n_epochs_before + 1 or math.isfinite(self.history[-2]["train_loss"]):
            warnings.warn(message, UserWarning, stacklevel=2)

    # -- the fast way through an epoch ---------------------------------------------------

    def _run_trainer(self, batches: Any, losses: EpochLosses, fit_params: dict[str, object]) -> bool:
        """Run a training epoch the fast way; return False where that cannot be done."""
        trainer = self.choose_trainer(batches, fit_params)
        if isinstance(trainer, str):
            if self.cuda_graph:
                raise ValueError(
                    f"cuda_graph must be False where training goes step by step; got True, but {trainer}. "
                    "Remove one of them."
                )
            warn_single(trainer)
            return False
        self._set_training(True)
        number = len(self.history) - self._n_epochs_before
        return run_trainer(trainer, batches, losses.add, number, self._n_epochs_now)

    def choose_trainer(self, batches: Any, fit_params: dict[str, object]) -> Trainer | str:
        """Return what runs a training epoch faster than step by step, or in words why it cannot be done.

        Parameters
        ----------
        batches : iterable
            The batches of an epoch.
        fit_params : dict
            What the module's ``forward`` is given beside the inputs.

        Returns
        -------
        trainer : Trainer or str
            The reason wherever the epoch must run step by step: for a criterion without a
            closed form, steps of a subclass, callbacks that look at batches or gradients,
            half precision, augmentation, inputs that are no array of floats.
        """
        if self._has_batch_hooks(training=True):
            return "a callback has hooks round a batch"
        if fit_params:
            return f"forward takes {sorted(fit_params)} beside X"
        if not isinstance(batches, PlannedBatches):
            return "the rows come from a Dataset or a loader of its own"
        hidden = set(batches.plan.layers or ()) - {INPUT}
        if hidden and self.cuda_graph:
            return HIDDEN
        return self._find_own_step() or self._build_trainer(batches.rows, training=True, hidden=hidden)

    def _run_evaluator(self, batches: Any, losses: EpochLosses, fit_params: dict[str, object]) -> bool:
        """Run a validation epoch the fast way; return False where that cannot be done."""
        evaluator = self.get_evaluator(batches, fit_params)
        if evaluator is None:
            return False
        self._set_training(False)
        evaluator.evaluate(batches, losses.add)
        return True

    def get_evaluator(self, batches: Any, fit_params: dict[str, object]) -> PerceptronTrainer | None:
        """Return what computes the losses of a validation set faster than step by step, if there is such."""
        if fit_params or not isinstance(batches, RowSlices) or self.is_overridden("validation_step"):
            return None
        if self._has_batch_hooks(training=False):
            return None
        trainer = self._find_own_step() or self._build_trainer(batches.rows)
        return trainer if isinstance(trainer, PerceptronTrainer) else None

    def _build_trainer(
        self, rows: Rows, *, training: bool = False, hidden: Collection[str] = ()
    ) -> Trainer | str:
        """Return the trainer for these rows, or in words why there is none."""
        loss = self._get_closed_form_loss(training)
        if loss is None:
            return f"criterion {type(self.criterion_).__name__} has no gradient in closed form here"
        return TrainingStep(
            self.module_,
            self.optimizer_,
            loss,
            self._n_outputs,
            self.float_dtype,
            self._make_autocast(),
            is_cast=bool(self.autocast or torch.is_autocast_enabled(self._torch_device.type)),
            cuda_graph=self.cuda_graph,
        ).build_trainer(rows, hidden)

    def _find_own_step(self) -> str:
        """Return in words what a training step is beside what this library and skorch make of it."""
        if (self._modules, self._criteria, self._optimizers) != (["module"], ["criterion"], ["optimizer"]):
            return "there are several modules, criteria or optimizers"
        if self.augment is not None:
            return "augment is called on each batch"
        if self.scaler_ is not None:
            return "autocast='float16' scales the loss step by step"
        if self._wants_gradients():
            return "a callback looks at the gradients"
        if isinstance(self.optimizer_, torch.optim.LBFGS):
            return "LBFGS takes several evaluations a step"
        name = find_overridden(self, STEPS)
        return f"{name} is overridden" if name else ""

    # -- data ----------------------------------------------------------------------------

    @property
    def _placement(self) -> Placement:
        """Where whole arrays are kept."""
        return Placement(
            self.storage, self._torch_device, self.float_dtype, self.channels_last, self.casts_integers
        )

    def get_dataset(self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None) -> Any:
        """Return the data as whole tensors on the device where that can be done."""
        refuse_loader(X)
        if self._keeps_whole(X, y):
            return self._placement.make_rows(X, y, sample_weight)
        refuse_weights(sample_weight, "dataset")
        return super().get_dataset(X, y)

    def _keeps_whole(self, X: Any, y: Any) -> bool:
        """Whether examples and targets are kept as whole tensors, and not in a Dataset of the user's."""
        return self._has_plain_dataset and not is_dataset(X) and is_whole(X, y)

    @property
    def _has_plain_dataset(self) -> bool:
        return self.dataset is SkorchDataset and not self.get_params_for("dataset")

    def check_room(self, X: Any) -> None:
        """Raise a ValueError if arrays must be kept on the device but are too large for it."""
        self._placement.check_room(X)

    def get_split_datasets(
        self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None, **params: Any
    ) -> Any:
        """Return the training and the validation set; see ``skorch.NeuralNet``."""
        self.check_room(X)
        dataset = self.get_dataset(X, y, self._scale_weights(sample_weight))
        self._report_streaming(dataset)
        if not self.train_split:
            return dataset, None
        args = (dataset,) if y is None else (dataset, y)
        train, valid = self.train_split(*args, **params)
        return unwrap_subset(train), unwrap_subset(valid)

    def _scale_weights(self, weight: np.ndarray | None) -> np.ndarray | None:
        """Return weights with the mean 1 among those above 0: products of mixed rows' must not overflow."""
        self._mean_weight = 1.0
        if weight is not None:
            weight = np.asarray(weight, dtype=np.float64)
            self._mean_weight = float(np.mean(weight[weight > 0])) if np.any(weight > 0) else 1.0
        return None if weight is None else weight / self._mean_weight

    def _report_streaming(self, dataset: Any) -> None:
        self._placement.warn_streaming(dataset)

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch; see ``skorch.NeuralNet``."""
        self.check_is_fitted()
        if not is_dataset(X):
            refuse_loader(X)
            codes = np.zeros(get_len(X), dtype=np.int64)
            X = self.get_dataset(X, codes if self._keeps_whole(X, codes) else None)
        for batch in self.get_iterator(X, training=training):
            x, y = split_inputs(batch)
            output = self.evaluation_step((self._cast_inputs(x), y), training=training)
            yield to_device(output, device=device)

    def get_facts(self, dataset: Any, labels: Any = None) -> RowFacts:
        """Return what a policy may ask about the rows of a training set.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The training set.
        labels : ndarray, default=None
            Targets of a data set that does not hold them itself.

        Returns
        -------
        facts : RowFacts
            What it holds is found when it is first asked for.
        """
        return RowFacts(
            labels=lambda: self._get_class_codes(get_all_targets(dataset, labels)),
            targets=lambda: self._get_real_targets(get_all_targets(dataset, labels)),
            inputs=lambda: get_inputs(dataset),
            shape=lambda: find_shape(dataset) or vars(self).get("_shape_in"),
            layers=self._find_layers,
            is_dense=getattr(self, "_dense", False),
            is_stream=isinstance(dataset, IterableDataset) or self._orders_rows_itself(),
        )

    def _find_layers(self, wanted: str | tuple[str, ...]) -> tuple[str, ...]:
        if getattr(self, "compile", False) and set(wanted) != {INPUT}:
            raise ValueError(
                "compile must be False where hidden layers are mixed; got True. Remove the argument."
            )
        return find_layers(self.module_, wanted)

    def _get_class_codes(self, targets: np.ndarray | None) -> np.ndarray:
        """Return one class per row; rows of several labels belong together if all agree."""
        if targets is None:
            raise ValueError(
                "partners='same_class' must know the class of each row; got a Dataset without one label per "
                "row. Pass arrays instead."
            )
        return np.unique(targets, axis=0, return_inverse=True)[1].ravel()

    def _get_real_targets(self, targets: np.ndarray | None) -> np.ndarray:
        """Return targets between which there is a distance, or raise."""
        if targets is None or targets.dtype.kind != "f":
            raise ValueError(
                "partners='kernel' must be drawn from real-valued targets; got "
                f"{'none' if targets is None else f'targets of dtype {targets.dtype}'}. Use 'batch', say."
            )
        return targets

    def _get_loading(self, dataset: object = None) -> Loading:
        """Return how training batches are served."""
        options, read = self.get_params_for("iterator_train"), self._get_read(dataset)
        device, dtype = self._torch_device, self.float_dtype
        return Loading(self.iterator_train, options, self.batch_size, device, dtype, read)

    def _get_read(self, dataset: object) -> Callable[[object], object]:
        """Return what makes of a batch of a data set's loader what the net takes."""
        return self._cast_pair

    def _cast_pair(self, loaded: object) -> object:
        """Return a pair in the dtype of the module; leave alone what is for a step of the user's own."""
        if not is_pair(loaded):
            return loaded
        x, y = split_pair(loaded)
        return self._cast_inputs(x), cast_floats(y, self.float_dtype)

    def _cast_inputs(self, x: object) -> object:
        """Return inputs that a Dataset yields in the dtype of the module."""
        return cast_floats(x, self.float_dtype)

    def _orders_rows_itself(self) -> bool:
        """Whether the training iterator has an order of its own."""
        return self._get_loading().orders_rows

    def _get_validation_batches(self, dataset: object) -> Iterable[object]:
        batches = self.get_iterator(dataset, training=False)
        return batches if isinstance(batches, RowSlices) else ReadBatches(batches, self._get_read(dataset))

    def get_training_batches(self, dataset: Any, policy: Vicinity, facts: RowFacts | None = None) -> Any:
        """Return the batches of one training epoch, drawn from its plan.

        Parameters
        ----------
        dataset : torch.utils.data.Dataset
            The training set.
        policy : Vicinity
            What draws the plan.
        facts : RowFacts, default=None
            What is known of the rows; None to find it anew.

        Returns
        -------
        batches : iterable of Batch
        """
        facts = self.get_facts(dataset) if facts is None else facts
        loading, processes = self._get_loading(dataset), self._processes
        generator = self.generator_.spawn(1)[0]
        loading.refuse_weights(dataset)
        if not loading.orders_rows and not isinstance(dataset, IterableDataset):
            return loading.plan_epoch(dataset, policy, facts, generator, processes)
        loader = processes.shard(self.get_iterator(dataset, training=True))
        own = generator if processes.n_processes == 1 else processes.spawn(generator)
        return loading.mix_loaded(loader, policy, facts, own)

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the batches of a data set, in order; see ``skorch.NeuralNet``."""
        name = "iterator_train" if training else "iterator_valid"
        options = self.get_params_for(name)
        size = options.get("batch_size", self.batch_size)
        iterator = getattr(self, name)
        if iterator is DataLoader and isinstance(dataset, Rows) and not options.keys() - PLAN_OPTIONS:
            return RowSlices(dataset, len(dataset) if size == -1 else size)
        if inspect.isclass(iterator) and issubclass(iterator, DataLoader):
            options.setdefault("generator", torch.Generator())
        if iterator is DataLoader:
            options.setdefault("collate_fn", join_items)
        options["batch_size"] = get_len(dataset) if size == -1 else size
        if "batch_sampler" in options:
            del options["batch_size"]
        return iterator(dataset, **options)


def _count_rows(batch: Any) -> int:
    return int(get_len(batch[0]) if isinstance(batch, tuple | list) else get_len(batch))
