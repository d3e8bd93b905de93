"""Mixed training for any skorch net."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import nullcontext
from types import MappingProxyType
from typing import Any, Literal, Self

import numpy as np
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import get_len
from skorch.utils import is_dataset, to_device
from torch import Tensor

from sk_mixup._data.batches import RowSlices
from sk_mixup._random import draw_generator, draw_seed, make_generator, seeded_torch
from sk_mixup._skorch.dataset_items import ReadBatches, refuse_loader, split_inputs
from sk_mixup._skorch.datasets import (
    Placement,
    check_keeps_weights,
    check_lengths,
    check_takes_weights,
    is_whole,
    refuse_weights,
    scale_weights,
    unwrap_subset,
)
from sk_mixup._skorch.default_callbacks import (
    ALL_CALLBACKS,
    Watchers,
    is_early_stopping,
    quicken,
    restore_best,
    without_callbacks,
)
from sk_mixup._skorch.facts import check_distances, make_facts, number_classes
from sk_mixup._skorch.fit_params import get_forward_params, get_split_params, refuse_values_of_rows
from sk_mixup._skorch.loading import (
    SAMPLERS,
    FitLoaders,
    Loading,
    is_made_by_net,
    keeping_loaders,
    make_iterator,
)
from sk_mixup._skorch.loss_checks import describe_nonfinite, find_negative, is_bounded, refuse_negative
from sk_mixup._skorch.options import (
    cast_weights,
    check_mixing_options,
    find_maker,
    set_options,
    warn_unused_options,
)
from sk_mixup._skorch.overriding import STEPS, check_bases, find_overridden, list_below
from sk_mixup._skorch.processes import Processes
from sk_mixup._skorch.runner import choose_evaluator, choose_trainer, train_fast, validate_fast
from sk_mixup._skorch.schedule import EpochLosses, Schedule
from sk_mixup._skorch.stack_member import claiming_files, exclusive_section, on_device_of_stack
from sk_mixup._skorch.step import MixedSteps
from sk_mixup._skorch.step_by_step import StepByStep
from sk_mixup._training.ambient_autocast import casting_anew
from sk_mixup._training.perceptron import PerceptronTrainer
from sk_mixup._training.threads import fitting_threads, suit_threads
from sk_mixup._training.trainer import Trainer
from sk_mixup._validation import naming
from sk_mixup._warning import warn_user
from sk_mixup.mixing import ERM, Mixup, Partners, RowFacts, Vicinity
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.mixing.partners import PartnersName
from sk_mixup.stacking._scheduler import rejoin_scheduler

__all__ = ["MixupNetMixin"]


class MixupNetMixin(MixedSteps):
    """Give a skorch net the mixed training iteration.

    Put it before a skorch net among the bases: ``class MyNet(MixupNetMixin, NeuralNet)``.
    Each epoch draws its plan (order, partners, weights) from one seeded generator; each
    training batch is augmented, mixed and scored on the device.

    Parameters
    ----------
    *args
        Positional arguments of the skorch net.

    alpha : float, default=0.2
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
        returns as many rows. A random transform of torchvision draws once for all images, and
        ``sk_mixup.augmentation.per_image(transform)`` for each. A function that changes each example by
        itself and keeps shape and dtype may say so by an attribute ``rowwise = True``, as that of
        ``crop_and_flip`` does: then it takes part in the fast epochs and in CUDA graphs, and is given
        several batches at once off the CPU.

    autocast : {None, 'bfloat16', 'float16'}, default=None
        Mixed precision of the forward pass; 'float16' scales the loss.

    storage : {'auto', 'device', 'host'}, default='auto'
        Where whole arrays are kept; see :class:`MixupClassifier`.

    channels_last : bool, default=False
        Whether images (inputs of 4 axes) and the module's weights are laid out with the
        channels last, which convolutions are often faster with.

    cuda_graph : bool, default=False
        Whether the training step is recorded as a CUDA graph and replayed; see :class:`MixupClassifier`.

    random_state : int, RandomState, Generator or None, default=None
        Seed of the initial weights and of all that training draws. None draws one from torch's
        global generator, so that ``torch.manual_seed`` decides, as in skorch.

    **kwargs : dict
        Options of the skorch net.

    Notes
    -----
    The net's criterion is applied to each mixed target and the losses are averaged with
    the mixing weights, as in section 3 of the paper. It must offer ``reduction='none'``,
    as torch's losses do, or else ``lam_per='batch'`` must be chosen.

    A ``get_loss`` of your own is called once for the targets of each partner, with the criterion's
    reduction 'none', and must then return the loss of each row: all of it, for what it adds for the
    whole batch is added to each row. That is right of what does not depend on the targets, such as a
    penalty on the output; else divide it into losses of rows, or choose ``lam_per='batch'``.

    With :class:`sk_mixup.AccelerateMixin` before it among the bases several processes train one net.

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
        alpha: float = 0.2,
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
        check_bases(cls, MixupNetMixin, trains_by_processes=cls._trains_by_processes)
        cls._overridden_below = list_below(cls, MixupNetMixin)

    # -- components ----------------------------------------------------------------------

    _criteria: list[str]
    # What nets of the user's own define behind the mixin among the bases.
    _overridden_below: Mapping[str, str] = MappingProxyType({})
    _trains_by_processes = False
    # Epochs of the training that a call is a part of; None where it is a whole one.
    _n_planned: int | None = None
    _scores_after_epochs = False

    @property
    def _loaders(self) -> FitLoaders:
        """The loaders of the fit that is going on."""
        return vars(self).get("_fit_loaders") or FitLoaders()

    @property
    def casts_integers(self) -> bool:
        """Whether integers in host memory become floating numbers."""
        return False

    @property
    def _loss_unit(self) -> float:
        """What losses are multiplied by in the history."""
        return 1.0

    @property
    def _processes(self) -> Processes:
        """Who trains the net."""
        return Processes()

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        return [(name, quicken(callback)) for name, callback in super()._default_callbacks]

    # What augments may be a module: skorch would take it for a component that is set at the wrong time.
    def _check_settable_attr(self, name: str, attr: object) -> None:
        if name != "augment":
            super()._check_settable_attr(name, attr)

    def _register_attribute(self, name: str, attr: object, **kinds: bool) -> None:
        if name != "augment":
            super()._register_attribute(name, attr, **kinds)

    def set_params(self, **params: object) -> Self:
        """Set options; see ``skorch.NeuralNet.set_params``. A net that is initialized keeps them, too."""
        if self.initialized_:
            set_options(self, params, super().set_params)
        else:
            super().set_params(**params)
        return self

    def check_mixing_options(self) -> None:
        """Raise if an option of mixing, storage or precision breaks its rule."""
        check_mixing_options(self)

    def initialize(self) -> Self:
        """Initialize the components, the weights from `random_state`."""
        self.generator_ = self._make_generator()
        self.scaler_ = None
        rejoin_scheduler()
        with seeded_torch(draw_seed(self.generator_), alone=True):
            super().initialize()
        self._set_scaler()
        return self

    def _initialize_module(self, reason: str | None = None) -> object:
        """Build the module; anew as an option of it was set, with weights that the net's seed decides."""
        if reason is None:
            return super()._initialize_module()
        with seeded_torch(draw_seed(self.generator_), alone=True):
            return super()._initialize_module(reason)

    def _make_generator(self) -> np.random.Generator:
        """Return what a fit draws from."""
        return draw_generator() if self.random_state is None else make_generator(self.random_state)

    @property
    def _criterion_class(self) -> object:
        """What the criterion is built by: of a ``functools.partial`` of a class, the class."""
        return find_maker(vars(self).get("criterion"))[0]

    def __getstate__(self) -> dict[str, object]:
        """Return the state for a pickle or a copy, with the callbacks that rest at the moment."""
        state: dict[str, object] = super().__getstate__()
        if ALL_CALLBACKS in state:
            state["callbacks_"] = state.pop(ALL_CALLBACKS)
        return state

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the options of a component; weights of classes are tensors, and no sampler is none."""
        params: dict[str, Any] = super().get_params_for(prefix)
        if prefix == "criterion":
            params = find_maker(vars(self).get("criterion"))[1] | params
        if prefix in ("iterator_train", "iterator_valid"):
            return {key: value for key, value in params.items() if value is not None or key not in SAMPLERS}
        is_cast = prefix == "criterion"
        return cast_weights(self._criterion_class, params, self.float_dtype) if is_cast else params

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
        with (
            claiming_files(self.callbacks),
            on_device_of_stack(self),
            casting_anew(self._torch_device),
            seeded_torch(seed),
            fitting_threads(self._suit_threads(X)),
        ):
            super().partial_fit(X, y, classes, **fit_params)
        self._set_training(False)
        return self

    def _suit_threads(self, X: object) -> float:
        """Return how many threads a training step is worth."""
        shape = vars(self).get("_shape_in") or getattr(X, "shape", ())[1:]
        size = self.get_params_for("iterator_train").get("batch_size", self.batch_size)
        return suit_threads(
            [getattr(self, f"{name}_") for name in self._modules], shape, -1 if size is None else int(size)
        )

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
        self.__dict__.pop("_divisor", None)
        self._check_reduction()
        self._set_memory_format()  # the option may have been set since
        self._set_scaler()
        n_done, epochs = len(self.history), self.max_epochs if epochs is None else epochs
        self._n_epochs_before, self._n_epochs_now = n_done, epochs
        split_params = get_split_params(self, _routing_method, fit_params)
        if sample_weight is not None:  # else those of the user's own need not know of it
            split_params["sample_weight"] = sample_weight
        train, valid = map(unwrap_subset, self.get_split_datasets(X, y, **split_params))
        if self.is_overridden("get_split_datasets"):
            check_keeps_weights(train, sample_weight)
        schedule = Schedule.make(
            epochs,
            n_done=n_done,
            warmup_epochs=self.warmup_epochs,
            cooldown_epochs=self.cooldown_epochs,
            n_planned=self._n_planned,
        )
        warn_unused_options(self)
        forward_params = get_forward_params(self, self._find_forward(), fit_params)
        refuse_values_of_rows(self, self._find_forward(), forward_params, X)
        with keeping_loaders(self):
            facts = self.get_facts(train, y, X)
            self.get_policy().check(facts)
            run = {"train": train, "valid": valid, "facts": facts, "fit_params": forward_params}
            with without_callbacks(self, is_early_stopping):
                stopped = self._run_epochs(schedule.warmup, ERM, **run)
            if not stopped:
                self._run_epochs(self._limit_mixed(schedule.mixed, train, valid), self.get_policy, **run)
            if schedule.cooldown:
                restore_best(self)
                with without_callbacks(self, is_early_stopping):
                    self._run_epochs(schedule.cooldown, ERM, **run)
        return self

    def _limit_mixed(self, n_epochs: int, train: object, valid: object) -> int:
        """Return how many of the mixed epochs that are planned are run at most."""
        return n_epochs

    def get_policy(self) -> Vicinity:
        """Return the policy of a mixed epoch."""
        if self.vicinity is not None:
            return self.vicinity
        if self.alpha == 0:
            return ERM()
        return Mixup(alpha=self.alpha, lam_per=self.lam_per, n_mixed=self.n_mixed, partners=self.partners)

    def _run_epochs(
        self,
        n_epochs: int,
        find_policy: Callable[[], Vicinity],
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
            policy = find_policy()  # a callback may have changed an option
            policy.check(facts)
            self.run_single_epoch(
                # No name keeps the plan: the next one would be drawn beside it.
                self.get_training_batches(train, policy, facts),
                training=True,
                prefix="train",
                step_fn=self.train_step,
                **fit_params,
            )
            self._check_losses("train")
            if policy.keeps_shares_positive:
                self._check_signs()
            with exclusive_section():
                iterator = None if valid is None else self._get_validation_batches(valid)
                self.run_single_epoch(
                    iterator, training=False, prefix="valid", step_fn=self.validation_step, **fit_params
                )
                self._check_losses("valid")
                stopped = self._end_epoch(sets, fit_params)
            if self._processes.agree(stopped):
                return True
        return False

    def _end_epoch(self, sets: dict[str, Any], fit_params: Mapping[str, object]) -> bool:
        """Call the callbacks; return whether one stops the training, in skorch's way."""
        try:
            self.notify("on_epoch_end", **sets)
        except KeyboardInterrupt:
            return True
        return False

    def run_single_epoch(
        self, iterator: Any, training: bool, prefix: str, step_fn: Callable[..., Any], **fit_params: object
    ) -> None:
        """Run one pass; the losses are read once at its end unless code of the user's looks on."""
        if iterator is None:
            return
        losses = EpochLosses(self.history, prefix, self._loss_unit)
        try:
            run_fast = train_fast if training else validate_fast
            if not run_fast(self, iterator, losses.add, fit_params):
                steps = StepByStep(self, self._watchers, step_fn, losses, training, fit_params)
                with exclusive_section(single=True) if training else nullcontext():
                    steps.run(iterator)
        finally:  # an interrupted epoch keeps its losses
            losses.record_all()
            self.history.record(f"{prefix}_batch_count", len(losses.sizes))

    @property
    def _watchers(self) -> Watchers:
        """Who wants to be called within an epoch."""
        return Watchers(self, self.callbacks_, self._scores_after_epochs)

    def _check_losses(self, prefix: str) -> None:
        """Raise, or warn, where the losses of a pass are none that training or a choice can go by."""
        rows, epoch = self.history[-1]["batches"], self.history[-1]["epoch"]
        message = describe_nonfinite(rows, prefix, epoch, self.lr)
        if message and (prefix == "train" or not describe_nonfinite(rows, "train", epoch, self.lr)):
            self._on_nonfinite_loss(message, prefix)

    def _check_signs(self) -> None:
        """Raise, or warn, where a loss is below zero that cannot be if targets are what they should be."""
        lowest = find_negative(self.history[-1]["batches"])
        if lowest < 0 and self._has_bounded_loss():
            refuse_negative(lowest, self.history[-1]["epoch"], self._bare_criterion)

    def _has_bounded_loss(self) -> bool:
        criterion, is_classifier = self._bare_criterion, isinstance(self, NeuralNetClassifier)
        return is_bounded(criterion, is_classifier=is_classifier) and not find_overridden(self, STEPS)

    def _on_nonfinite_loss(self, message: str, prefix: str) -> None:
        """Say so, once a fit: a skorch net goes on."""
        is_first = len(self.history) == self._n_epochs_before + 1
        if is_first or not describe_nonfinite(self.history[-2]["batches"], prefix, 0, self.lr):
            warn_user(message)

    def choose_trainer(self, batches: object, fit_params: Mapping[str, object]) -> Trainer | str:
        """Return what runs a training epoch faster than step by step, or in words why it cannot be done."""
        return choose_trainer(self, batches, fit_params)

    def get_evaluator(self, batches: object, fit_params: Mapping[str, object]) -> PerceptronTrainer | None:
        """Return what computes the losses of a validation set faster than step by step, if there is such."""
        return choose_evaluator(self, batches, fit_params)

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
            check_lengths(X, y)
            return self._placement.make_rows(X, y, sample_weight)
        refuse_weights(sample_weight, "dataset")
        is_built = callable(self.dataset)  # skorch says itself what a Dataset that is built does not take
        with naming("dataset", self.dataset, "Leave it out for arrays.") if is_built else nullcontext():
            return super().get_dataset(X, y)

    def _get_weighted(self, X: object, y: object, weight: np.ndarray | None) -> Any:
        """Return the data; of weights, where there are none, a `get_dataset` of the user's need not know."""
        if weight is None:
            return self.get_dataset(X, y)
        check_takes_weights(self.get_dataset)
        return self.get_dataset(X, y, sample_weight=weight)

    def _keeps_whole(self, X: Any, y: Any) -> bool:
        """Whether examples and targets are kept as whole tensors, and not in a Dataset of the user's."""
        return self._has_plain_dataset and not is_dataset(X) and is_whole(X, y)

    @property
    def _has_plain_dataset(self) -> bool:
        # Joined, all names are looked through at once.
        is_plain = self.dataset is SkorchDataset and " dataset__" not in " ".join(vars(self))
        return is_plain and "get_dataset" not in self._overridden_below

    def get_split_datasets(
        self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None, **params: Any
    ) -> Any:
        """Return the training and the validation set; see ``skorch.NeuralNet``."""
        self._placement.check_room(X)
        dataset = self._get_weighted(X, y, self._scale_weights(sample_weight))
        self._placement.warn_streaming(dataset)
        if not self.train_split:
            return dataset, None
        args = (dataset,) if y is None else (dataset, y)
        train, valid = map(unwrap_subset, self.train_split(*args, **params))
        check_keeps_weights(train, sample_weight)
        return train, valid

    def _scale_weights(self, weight: np.ndarray | None) -> np.ndarray | None:
        """Return weights with the mean 1 among those above 0: products of mixed rows' must not overflow."""
        scaled, self._mean_weight = scale_weights(weight)
        return scaled

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

    def trim_for_prediction(self) -> None:
        """Drop what only training needs; see ``skorch.NeuralNet``.

        A sole criterion stays, for it tells what makes probabilities of the module's outputs.
        """
        criteria = self._criteria
        self._criteria = [] if len(criteria) == 1 else criteria
        try:
            super().trim_for_prediction()
        finally:
            self._criteria = criteria

    def get_facts(self, dataset: Any, labels: object = None, whole: object = None) -> RowFacts:
        """Return what a policy may ask of a training set.

        `labels` are targets that it does not hold: those of `whole`, the data set that it was split off.
        """
        return make_facts(self, dataset, labels, whole, self._get_loading(dataset))

    def _get_class_codes(self, targets: np.ndarray | None) -> np.ndarray:
        """Return one class per row; rows of several labels belong together if all agree."""
        return number_classes(targets)

    def _get_real_targets(self, targets: np.ndarray | None) -> np.ndarray:
        """Return targets between which there is a distance, or raise."""
        return check_distances(targets)

    def _get_loading(self, dataset: object) -> Loading:
        """Return how training batches are served."""
        options, read = self.get_params_for("iterator_train"), self._get_read(dataset)
        device, dtype = self._torch_device, self.float_dtype
        own, loaders = self._find_own_loader(dataset), self._loaders
        return Loading(self.iterator_train, options, self.batch_size, device, dtype, read, loaders, own)

    def _find_own_loader(self, dataset: object) -> Iterable[object] | None:
        """Return what a `get_iterator` of the user's makes for training, unless it is what ours has made."""
        if not self.is_overridden("get_iterator"):
            return None
        loader = self._loaders.get(dataset, "train", lambda: self.get_iterator(dataset, training=True))
        return None if is_made_by_net(loader, dataset) else loader

    def _get_read(self, dataset: object) -> Callable[[object], object]:
        """Return what makes of a batch of a data set's loader what the net takes."""
        return self._cast_pair

    def _get_validation_batches(self, dataset: object) -> Iterable[object]:
        batches = self._loaders.get(dataset, "valid", lambda: self.get_iterator(dataset, training=False))
        return batches if isinstance(batches, RowSlices) else ReadBatches(batches, self._get_read(dataset))

    def get_training_batches(self, dataset: Any, policy: Vicinity, facts: RowFacts | None = None) -> Any:
        """Return the batches of one training epoch; `facts` of its rows, or None, which finds them anew."""
        facts = self.get_facts(dataset) if facts is None else facts
        return self._get_loading(dataset).draw_epoch(
            dataset, policy, facts, self.generator_.spawn(1)[0], self._processes, self.get_iterator
        )

    def get_iterator(self, dataset: Any, training: bool = False) -> Any:
        """Return the batches of a data set, in order; see ``skorch.NeuralNet``."""
        name = "iterator_train" if training else "iterator_valid"
        return make_iterator(name, getattr(self, name), dataset, self.get_params_for(name), self.batch_size)
