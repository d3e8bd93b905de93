"""The scikit-learn edge of a mixed skorch net: arrays in, labels out, options checked."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
import copy
from functools import partial
import inspect
import math
from typing import Any, ClassVar, Self, SupportsIndex, cast

import numpy as np
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from skorch.callbacks import Callback, EarlyStopping
from skorch.dataset import Dataset as SkorchDataset
from skorch.exceptions import NotInitializedError
from skorch.history import History
from skorch.utils import data_from_dataset, is_dataset, multi_indexing, params_for, to_device
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, IterableDataset

from sk_mixup._data.batches import Batch
from sk_mixup._data.storage import Rows
from sk_mixup._files import whole_files
from sk_mixup._random import draw_seed, make_generator, seeded_torch, unseen_draws, unseen_torch_draws
from sk_mixup._skorch.dataset_items import (
    CODED,
    ItemReader,
    find_exact_targets,
    holds_codes,
    keep_stream,
    refuse_loader,
    to_array,
)
from sk_mixup._skorch.datasets import check_keeps_weights, refuse_weights
from sk_mixup._skorch.default_callbacks import (
    WeightedScoring,
    find_caching_scorings,
    goes_on,
    rebind_schedules,
    scored_by_labels,
    show_trained_rows,
    without_callbacks,
)
from sk_mixup._skorch.fit_params import get_split_params
from sk_mixup._skorch.loading import SAMPLERS
from sk_mixup._skorch.net import MixupNetMixin
from sk_mixup._skorch.options import check_callbacks
from sk_mixup._skorch.overriding import find_overridden
from sk_mixup._skorch.runner import TrainingStep
from sk_mixup._skorch.stack_member import on_device_of_stack
from sk_mixup._skorch.step import as_batch
from sk_mixup._tensors import to_host
from sk_mixup._training.averages import IGNORED, average_entropy
from sk_mixup._training.losses import Loss
from sk_mixup._training.trainer import Trainer
from sk_mixup._validation import check_choice, check_names, naming, refuse_masked
from sk_mixup._warning import warn_user
from sk_mixup.estimators._advice import (
    choose_rows,
    explaining_columns,
    find_categories,
    warn_best_is_first,
    warn_few_held_out,
    warn_input,
    warn_out_of_reach,
)
from sk_mixup.estimators._block_sizes import looks_at_batch
from sk_mixup.estimators._codes import PairEncoder, TargetLearner
from sk_mixup.estimators._holdout import (
    EPOCHS_OF_FEW,
    HoldOut,
    count_held_out,
    count_trainable,
    is_known_few,
    may_stop_by,
    watches_validation,
)
from sk_mixup.estimators._inputs import (
    FoundTargets,
    check_has_rows,
    check_mapping,
    check_weights,
    count_rows,
    get_input_dtype,
    is_mapping,
    limit_spread,
    read_plain_rows,
    refuse_arguments,
    refuse_weights_of_dataset,
    stays_on_host,
    take_rows,
    validate_rows,
)
from sk_mixup.estimators._integers import (
    as_integers,
    find_taken,
    holds_integers,
    refuse_mixed_codes,
    take_two,
)
from sk_mixup.estimators._labels import as_class_array, as_target_array, check_given, refuse_classes
from sk_mixup.estimators._links import Link
from sk_mixup.estimators._members import average_losses
from sk_mixup.estimators._opaque_targets import OpaqueTargets
from sk_mixup.estimators._options import (
    check_fit_options,
    check_known,
    check_module,
    check_one_smoothing,
    check_options_of,
    check_prefixes,
    check_schedule,
    check_shared_options,
    check_sizes_known,
    copy_module,
    explaining_refusal,
    is_set_to,
    list_arguments,
    list_options,
    refuse_arrays,
)
from sk_mixup.estimators._outputs import check_is_tensor, check_output, explaining_shape
from sk_mixup.estimators._persistence import (
    File,
    Learned,
    forget_learned,
    name_files,
    read_header,
    refuse_state,
    write_state,
)
from sk_mixup.estimators._plain_state import (
    OF_A_FIT,
    describe_net,
    is_whole,
    reduce_whole,
    restore_net,
    takes_whole,
)
from sk_mixup.estimators._prediction import (
    NotReadyError,
    Output,
    TablePredictor,
    count_at_once,
    cut_rows,
    find_like,
    in_namespace_of,
    is_table,
)
from sk_mixup.estimators._targets import (
    ClassWeight,
    TargetOptions,
    Targets,
    check_length,
)
from sk_mixup.estimators._temperature import find_temperature, read_scores
from sk_mixup.estimators._weights_files import reading_units, unchanged_if_refused, with_units
from sk_mixup.mixing import RowFacts, Vicinity
from sk_mixup.mixing.plan import INPUT
from sk_mixup.stacking._scheduler import rejoin_scheduler

__all__ = ["MixupEstimator"]


class MixupEstimator(MixupNetMixin):
    """What the estimators share: a mixed skorch net as scikit-learn wants it.

    The constructor stores, ``fit`` checks, data is validated once at the edge, and the
    module's sizes follow from the data. What depends on the kind of the targets is asked of a
    :class:`Targets`, which is learned from them.

    Attributes
    ----------
    kinds : tuple of type
        The kinds of targets that are taken; the first that accepts y is learned.
    components : tuple of str
        What options with two underscores belong to.
    """

    kinds: ClassVar[tuple[type[Targets], ...]]
    components: ClassVar[tuple[str, ...]] = (
        "module",
        "optimizer",
        "criterion",
        "iterator_train",
        "iterator_valid",
    )
    # Whether the module takes integers and no floats, as embeddings do; of new rows whether it must be asked.
    # None where it took neither, by X alone.
    _takes_integers: bool | None = False
    _scores_after_epochs = True

    # Options of classifiers.
    classes: Sequence[object] | None = None
    class_weight: ClassWeight = None
    label_smoothing = 0.0
    confidence_penalty = 0.0
    calibrate = False
    # What finds the temperature, given the scores of held-out rows.
    _find_temperature = staticmethod(find_temperature)
    # An option of regressors.
    standardize_targets = False
    # skorch sets these in its constructor; here a constructor sets nothing but options.
    history_: Any = None
    initialized_ = False
    virtual_params_: ClassVar[dict[str, object]] = {}
    # What is known of the targets before a fit.
    _targets: Targets
    # An empty array of the namespace of X in fit, where scikit-learn dispatched on it.
    _like: object = None
    # Whether the module returned a row of numbers for each of two examples, so far as it was looked at.
    _gives_rows = True
    # Weight of each class of the rows that are trained on.
    _by_class: np.ndarray | None = None
    # Whether the last fit was of arrays.
    _is_of_arrays = False
    # Which columns of a data frame that is trained on hold categories.
    _is_category: np.ndarray | None = None

    # -- options -------------------------------------------------------------------------

    @classmethod
    def _get_option_names(cls) -> tuple[str, ...]:
        return list_options(cls, MixupEstimator)  # type: ignore[arg-type]

    def _get_param_names(self) -> list[str]:
        options = self._get_option_names()
        extra = [name for name in vars(self).keys() - set(options) if not (name[0] == "_" or name[-1] == "_")]
        replaced = {name for name in extra if inspect.isfunction(getattr(type(self), name, None))}
        return [*options, *sorted(set(extra) - replaced)]

    @property
    def _params_to_validate(self) -> set[str]:
        return set(self._get_param_names()) - set(self._get_option_names())

    def _get_params_callbacks(self, deep: bool = True) -> dict[str, object]:
        """Return the options of callbacks but those that were set, which stand among the net's own."""
        own = [name for name in vars(self) if name.startswith("callbacks__")]
        params: dict[str, object] = super()._get_params_callbacks(deep=deep)
        return {
            key: value
            for key, value in params.items()
            if not any(key == name or key.startswith(f"{name}__") for name in own)
        }

    # Nor is any other option that is a module.
    def _check_settable_attr(self, name: str, attr: object) -> None:
        if name not in self._get_option_names():
            super()._check_settable_attr(name, attr)

    def _register_attribute(self, name: str, attr: object, **kinds: bool) -> None:
        if name not in self._get_option_names():
            super()._register_attribute(name, attr, **kinds)

    def set_params(self, **params: object) -> Self:
        """Set options; see ``sklearn.base.BaseEstimator.set_params``."""
        known = {*self._get_option_names(), *self._get_param_names()}
        for name in params:
            check_known(type(self), name, known, self._get_components(), vars(self))
        if self.initialized_:
            # What stays the same is no reason to build the module anew, as skorch does.
            changed = {name: value for name, value in params.items() if not is_set_to(self, name, value)}
            module = vars(self).get("module_")
            super().set_params(**changed)
            if vars(self).get("module_") is not module:
                self._built_anew = ", ".join(changed)
            return self
        for name, value in params.items():
            setattr(self, name, value)
        return self

    __repr__ = BaseEstimator.__repr__

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        refuse_arrays({name: getattr(self, name) for name in self._get_option_names()})
        self._check_names()
        self.check_mixing_options()
        check_shared_options(self)
        check_fit_options(self)
        if self.early_stopping is True and not self._has_stopper:
            raise ValueError(
                "early_stopping must be 'auto' or False where the callback that stops is turned off, by "
                "callbacks='disable' or callbacks__early_stopping=None; got True. Leave that option out."
            )

    @property
    def _has_stopper(self) -> bool:
        """Whether there may be a callback that stops early."""
        is_removed = "callbacks__early_stopping" in vars(self) and self.callbacks__early_stopping is None
        return self.callbacks != "disable" and not is_removed

    def _check_names(self) -> None:
        """Check option names such as ``module__hidden_layer_sizes`` as far as they are known."""
        given = self._params_to_validate
        parts = self._get_components()
        check_prefixes(type(self), given, self._get_option_names(), parts)
        for prefix in self.components:
            check_options_of(prefix, parts[prefix], params_for(prefix, vars(self)))
        of_callbacks = {name.split("__")[1] for name in given if name.startswith("callbacks__")}
        if of_callbacks:
            check_callbacks(self.callbacks)
            named = self._uniquely_named_callbacks() if self.callbacks != "disable" else ()
            check_names("callbacks", of_callbacks, {name for name, _ in named})

    def _get_components(self) -> dict[str, object]:
        """Return what has options of its own, by prefix."""
        return {prefix: getattr(self, prefix, None) for prefix in (*self.components, *self.prefixes_)}

    @property
    def _default_callbacks(self) -> list[tuple[str, object]]:
        callbacks = dict(super()._default_callbacks)
        if "valid_acc" in callbacks and self._targets.scoring != "accuracy":
            scoring = WeightedScoring(self._targets.scoring, name="valid_acc", lower_is_better=False)
            callbacks["valid_acc"] = scoring
        items: list[tuple[str, object]] = list(callbacks.items())
        if self.early_stopping and self.max_epochs:
            stopper = EarlyStopping(patience=self.n_iter_no_change, load_best=True)
            items.insert(-1, ("early_stopping", stopper))
        return items

    # -- components ----------------------------------------------------------------------

    @property
    def _n_outputs(self) -> int | None:
        return self._targets.n_outputs

    @property
    def _dense(self) -> bool:
        return self._targets.is_dense

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the options of a component; a module's sizes are filled in from the data."""
        params: dict[str, Any] = super().get_params_for(prefix)
        if prefix != "module" or not inspect.isclass(self.module):
            return params
        accepted = list_arguments(self.module)
        n_inputs = math.prod(self._shape_in) if "_shape_in" in vars(self) else None
        sizes = {"in_features": n_inputs, "out_features": self._targets.get_width(self._criterion_kind)}
        known = {key: size for key, size in sizes.items() if key in accepted and size is not None}
        return {**known, **params}

    def initialize(self) -> Self:
        """Initialize the components; see ``skorch.NeuralNet.initialize``."""
        super().initialize()
        self._split_seed = draw_seed(self.generator_)
        return self

    def _make_generator(self) -> np.random.Generator:
        return make_generator(self.random_state)

    def initialize_module(self) -> Self:
        """Build the module; a fit copies an instance, so that every fit starts from it alike."""
        kwargs = self.get_params_for("module")
        check_sizes_known(self.module, kwargs)
        is_copied = isinstance(self.module, nn.Module) and "_before" in vars(self)
        module = copy_module(self.module) if is_copied else self.module
        with naming("module", module, "Give a class, and its arguments as module__<name>."):
            self.module_ = self.initialized_instance(module, kwargs)
        check_module("module", self.module_)
        self._set_memory_format()
        return self

    @property
    def _criterion_class(self) -> object:
        return self._targets.criterion if isinstance(self.criterion, str) else super()._criterion_class

    @property
    def _criterion_kind(self) -> object:
        """The class of the criterion, also where an instance is given."""
        criterion = self._criterion_class
        return type(criterion) if isinstance(criterion, nn.Module) else criterion

    def _get_criterion_options(self) -> dict[str, object]:
        """Return the options of the criterion, those that an instance was built with among them."""
        criterion, built = self._criterion_class, dict[str, object]()
        if isinstance(criterion, nn.Module):
            names = ("ignore_index", "label_smoothing", "reduction")
            built = {name: getattr(criterion, name) for name in names if hasattr(criterion, name)}
            defaults = {"label_smoothing": 0, "ignore_index": IGNORED}  # as without the options
            built = {name: value for name, value in built.items() if value != defaults.get(name)}
        return built | self.get_params_for("criterion")

    def initialize_criterion(self) -> Self:
        """Build the criterion; 'auto' follows the kind of the targets."""
        criterion = self._criterion_class
        given = self.get_params_for("criterion")
        check_options_of("criterion", criterion, given)
        if "reduction" in given and getattr(criterion, "__module__", "") == nn.modules.loss.__name__:
            check_choice("criterion__reduction", given["reduction"], ("mean", "sum", "none", "batchmean"))
        own = self._targets.get_criterion_options(self._criterion_kind, self.label_smoothing)
        check_one_smoothing(own, self._get_criterion_options())
        kwargs = own | {key: value for key, value in given.items() if key != "ignore_index" or key not in own}
        if isinstance(criterion, nn.Module) and own:  # which is not built anew: it may hold weights
            criterion = copy.deepcopy(criterion)
            vars(criterion).update(own)
            kwargs = given
        hint = "Give a class such as torch.nn.CrossEntropyLoss, and its arguments as criterion__<name>."
        with naming("criterion", criterion, hint):
            self.criterion_ = self.initialized_instance(criterion, kwargs)
        if not callable(self.criterion_):
            raise TypeError(f"criterion must be a class of losses; got {criterion!r}. {hint}")
        self._targets.check_criterion(self.criterion_, self.label_smoothing, self.confidence_penalty)
        if not self.is_overridden("get_loss"):
            self._targets.check_loss(self.criterion_)
        self._built_smoothing = self.label_smoothing
        return self

    def initialize_callbacks(self) -> Self:
        """Build the callbacks; see ``skorch.NeuralNet.initialize_callbacks``."""
        super().initialize_callbacks()
        self._built_stopping = self.early_stopping, self.n_iter_no_change
        return self

    def _follow_options(self) -> None:
        """Build anew what follows from options that were set since it was built."""
        stopping = self.early_stopping, self.n_iter_no_change
        if self.callbacks != "disable" and vars(self).get("_built_stopping", stopping) != stopping:
            self._initialize_callbacks()
        smoothing = self.label_smoothing
        if vars(self).get("_built_smoothing", smoothing) != smoothing:
            self._initialize_criterion()
            if isinstance(self.criterion_, nn.Module) and any(True for _ in self.criterion_.parameters()):
                self._initialize_optimizer()

    def initialize_optimizer(self, *args: object, **kwargs: object) -> Self:
        """Build the optimizer; what it does not take is refused with its options."""
        with explaining_refusal(self.optimizer, params_for("optimizer", vars(self)) | {"lr": self.lr}):
            super().initialize_optimizer(*args, **kwargs)
        return self

    # -- data ----------------------------------------------------------------------------

    def check_data(self, X: object, y: object) -> None:
        """Do nothing: data was checked at the edge."""

    def _check_training_data(
        self,
        X: Any,
        y: object,
        sample_weight: object,
        *,
        reset: bool,
        classes: Sequence[object] | None = None,
        min_samples: int = 1,
    ) -> tuple[Any, Any, np.ndarray | None]:
        """Check the data and turn targets into codes."""
        refuse_loader(X)
        self._by_class, self._mean_weight = None, 1.0
        self._is_category = find_categories(X)
        self._like = find_like(X) if reset else self._like
        learner = self._make_learner(reset=reset, classes=classes, sample_weight=sample_weight)
        self._is_of_arrays = not is_dataset(X)
        if is_dataset(X):
            X = keep_stream(X, self.get_params_for("iterator_train").get("num_workers", 0))
            refuse_weights_of_dataset(sample_weight, self.class_weight)
            if reset:
                forget_learned(self.__dict__)
            y = self._check_dataset(X, y, learner)
            if reset and vars(self).get("_shape_in"):
                self.n_features_in_ = self._shape_in[0]
            return X, y, None
        check_given(y, type(self).__name__)
        X = self._check_inputs(X, reset=reset, min_samples=min_samples)
        if not self._keeps_whole(X, np.zeros(0)):  # what the user's own Dataset makes of them is the data
            X = X.astype(get_input_dtype()) if reset and self._takes_integers and not is_mapping(X) else X
            refuse_weights(sample_weight if self.class_weight is None else self.class_weight, "dataset")
            y = as_target_array(y)
            check_length(y, count_rows(X))
            dataset = self.get_dataset(X, y)
            return dataset, self._check_dataset(dataset, y, learner), None
        targets, codes = learner.encode(y, count_rows(X))
        self._take_targets(targets)
        return X, codes, self._scale_weights(self._weigh(codes, sample_weight))

    def _take_targets(self, targets: Targets) -> None:
        """Keep what is known of the targets."""
        self._targets = targets

    def _weigh(self, codes: np.ndarray, sample_weight: object) -> np.ndarray | None:
        """Return one weight per row, those of its class included; None where all rows count alike."""
        given = check_weights(sample_weight, len(codes))
        counted = codes if given is None else codes[given > 0]
        self._by_class = self._targets.weigh_classes(counted, self.class_weight)
        with np.errstate(over="ignore"):
            weight = self._targets.weigh(codes, given, self._by_class)
        if weight is not None and not np.any(weight):
            raise ValueError(
                "class_weight must leave a row that counts; got weights of 0 for the classes of all rows. "
                "Give a weight to one of them, or leave such rows out."
            )
        adds = self._get_criterion_options().get("reduction") == "sum"
        is_even = weight is None or (not adds and np.all(weight == weight[0]))
        return None if weight is None or is_even else limit_spread(weight)

    def _check_dataset(
        self, dataset: Dataset[object], y: object, learner: TargetLearner
    ) -> np.ndarray | None:
        """Look at a Dataset's first pair for the sizes, and learn from its targets."""
        reader = self._make_reader(dataset)
        x, first = reader.read_first(dataset)
        if learner.reset:
            self._takes_integers = holds_integers(x)
        if isinstance(x, Tensor | np.ndarray):
            self._check_shape(tuple(x.shape[1:]), reset=learner.reset)
        targets, codes = learner.encode_dataset(dataset, reader, first)
        self._take_targets(targets)
        return codes if y is None else np.asarray(to_host(y))

    def _make_reader(self, dataset: Dataset[object]) -> ItemReader:
        """Return what reads a Dataset as the training iterator does."""
        check_has_rows(dataset)
        return ItemReader.of(self.get_iterator(dataset, training=True))

    def _make_learner(
        self, *, reset: bool, classes: Sequence[object] | None = None, sample_weight: object = None
    ) -> TargetLearner:
        """Return what checks targets."""
        ignored = cast(int | None, self._get_criterion_options().get("ignore_index"))
        given = as_class_array(self.classes if classes is None else classes)
        options = TargetOptions(given, None if ignored is None else int(ignored), sample_weight)
        takes_classes = "classes" in self._get_option_names()
        return TargetLearner(self._list_kinds(), options, self._targets, reset, takes_classes)

    def _check_inputs(self, X: object, *, reset: bool, min_samples: int = 1) -> Any:
        """Check arrays, and remember their features."""
        checked = (
            check_mapping(X) if is_mapping(X) else self._validate(X, reset=reset, min_samples=min_samples)
        )
        if reset:
            if is_mapping(X):  # whose features have no names and no one shape
                forget_learned(self.__dict__)
            self._takes_integers = holds_integers(checked)
        return checked

    def _validate(self, X: object, *, reset: bool, min_samples: int = 1) -> Any:
        refuse_masked(X, "X")
        checked = read_plain_rows(self, X, self.storage, reset=True) if reset else None
        if checked is None or len(checked) < min_samples:
            takes_integers = reset or bool(self._takes_integers)
            with explaining_columns(X, type(self).__name__):
                checked = validate_rows(
                    self, X, takes_integers, self.storage, reset=reset, ensure_min_samples=min_samples
                )
        if self._has_plain_dataset:  # else the shape is that of what is yielded
            self._check_shape(tuple(checked.shape[1:]), reset=reset)
        return checked

    @property
    def casts_integers(self) -> bool:
        """Whether integers in host memory become floating numbers."""
        return not self._takes_integers

    def _settle_integers(self, X: Any) -> Any:
        """Ask the module whether integers stay such; return arrays in the dtype that it takes."""
        if not self._takes_integers:
            return X
        x = self._make_reader(X).read_first(X, n_copies=2)[0] if is_dataset(X) else take_two(X)
        with seeded_torch(self._split_seed, alone=True):  # a lazy module draws its weights now
            self._takes_integers = find_taken(x, self.float_dtype, self._runs)
        if self._takes_integers and self._mixes_inputs():
            refuse_mixed_codes(self.get_policy(), is_own=self.vicinity is not None)
        if not isinstance(X, np.ndarray) or stays_on_host(X, self.storage):
            return X
        return X.astype(np.int64 if self._takes_integers else get_input_dtype())

    def _runs(self, x: object) -> bool:
        """Whether the module takes such inputs."""
        try:
            self._infer_unseen(x)
        except Exception:  # whatever else is wrong shows when it is trained
            return False
        return True

    def _mixes_inputs(self) -> bool:
        """Whether some mini-batches may be mixed, or changed, at the inputs."""
        return self.get_policy().may_mix_inputs(RowFacts(layers=self._find_layers))

    def _find_layers(self, wanted: str | tuple[str, ...]) -> tuple[str, ...]:
        names: tuple[str, ...] = super()._find_layers(wanted)
        keeps_inputs = self._takes_integers and wanted == "auto"
        return tuple(name for name in names if name != INPUT) if keeps_inputs else names

    def _cast_inputs(self, x: object) -> object:
        if isinstance(x, Tensor) and not x.is_complex() and self._takes_integers is False:
            return x.to(self.float_dtype)
        return super()._cast_inputs(x)

    def infer(self, x: object, **fit_params: object) -> Any:
        """Return the module's output; see ``skorch.NeuralNet.infer``."""
        x = as_integers(x) if self._takes_integers else x
        try:
            return super().infer(x, **fit_params)
        except TypeError as error:
            refuse_arguments(self.module_, x, fit_params, error)
            raise

    def _check_shape(self, shape: tuple[int, ...], *, reset: bool) -> None:
        if reset:
            self._shape_in = shape
        elif shape != getattr(self, "_shape_in", shape):
            raise ValueError(
                f"X must hold examples of the shape seen in fit, {self._shape_in}; got {shape}. Give "
                "the same features in the same order."
            )

    def _list_kinds(self) -> tuple[type[Targets], ...]:
        """Return the kinds of targets that are taken; a loss of the user's own takes others too."""
        return (OpaqueTargets, *self.kinds) if self.is_overridden("get_loss") else self.kinds

    @property
    def _has_seen_data(self) -> bool:
        """Whether features and targets are known; an initialized net need not have seen any."""
        return "_targets" in vars(self)

    def get_dataset(self, X: object, y: object = None, sample_weight: np.ndarray | None = None) -> Any:
        """Return the data as whole tensors on the device where that can be done."""
        dataset = super().get_dataset(X, y, sample_weight)
        if isinstance(dataset, Rows):
            dataset.decode = self._targets.decode
        return dataset

    def get_split_datasets(
        self, X: Any, y: Any = None, sample_weight: np.ndarray | None = None, **params: object
    ) -> tuple[Any, Any]:
        """Return the training and the validation set; see ``skorch.NeuralNet``."""
        dataset = self._get_weighted(X, y, sample_weight)
        if not is_dataset(X) and not isinstance(dataset, Rows):  # of a `get_dataset` of the user's own
            setattr(dataset, CODED, True)
        self._placement.warn_streaming(dataset)
        if sample_weight is not None and not np.all(sample_weight):
            kept = np.flatnonzero(sample_weight)
            params = take_rows(params, kept, len(y))
            dataset, y = dataset.subset(kept), y[kept]
        train, valid = self._split(dataset, y if is_dataset(X) else self._targets.decode_given(y), params)
        check_keeps_weights(train, sample_weight)
        return train, valid

    def _split(self, dataset: Any, y: np.ndarray | None, params: Mapping[str, object]) -> tuple[Any, Any]:
        is_watched = watches_validation(self.callbacks_, dict(self._default_callbacks))
        options = self.get_params_for("iterator_train")
        sampler = next((name for name in SAMPLERS if name in options), "")
        hold_out = HoldOut(
            self.train_split,
            self.validation_fraction,
            self._split_seed,
            self.early_stopping if self._may_stop_early else False,
            is_watched,
            sampler,
        )
        train, valid = hold_out.divide(dataset, y, params, self._targets)
        if hold_out.stopping not in (False, "auto") and isinstance(train, Sized):
            warn_few_held_out(valid, len(train), self.train_split)
        return train, self._encode_foreign(valid, is_whole=isinstance(dataset, Rows))

    def _encode_foreign(self, valid: object, *, is_whole: bool) -> object:
        """Bring a validation set of arrays that a user's split made into our form, and check its labels."""
        if valid is None or holds_codes(valid) or not self._has_seen_data:
            return valid
        if is_whole and type(valid) is SkorchDataset and self._has_plain_dataset:
            X, y = data_from_dataset(valid)
            check_given(y, type(self).__name__)
            X = self._check_inputs(X, reset=False)
            codes = self._make_learner(reset=False).encode(y, count_rows(X))[1]
            weight = self._targets.weigh(codes, None, self._by_class)
            return self._get_weighted(X, codes, None if weight is None else weight / self._mean_weight)
        targets = find_exact_targets(valid)  # what another yields is read batch by batch
        if targets is not None:
            self._targets.encode_yielded(targets)
        return valid

    def get_facts(self, dataset: object, labels: object = None, whole: object = None) -> RowFacts:
        """Return what a policy may ask of a training set; see :class:`MixupNetMixin`."""
        labels = self._targets.decode_given(labels) if isinstance(labels, FoundTargets) else labels
        return super().get_facts(dataset, labels, whole)

    def _get_read(self, dataset: object) -> Callable[[object], object]:
        if holds_codes(dataset):
            return self._cast_pair
        targets, by_class = self._targets if self._has_seen_data else None, None
        if self._by_class is not None:  # a Dataset is held out where these are known
            by_class = torch.as_tensor(self._by_class / self._mean_weight, dtype=self.float_dtype)
        return PairEncoder(targets, self._cast_pair, by_class)

    def _get_class_codes(self, targets: np.ndarray | None) -> np.ndarray:
        self._targets.check_has_classes()
        codes: np.ndarray = super()._get_class_codes(targets)
        return codes

    def _get_real_targets(self, targets: np.ndarray | None) -> np.ndarray:
        self._targets.check_has_distances()
        values: np.ndarray = super()._get_real_targets(targets)
        return values

    # -- training ------------------------------------------------------------------------

    def fit(self, X: object, y: object = None, sample_weight: object = None, **fit_params: object) -> Self:
        """Train on a table, an array of any rank, or a torch data set.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Training examples. Arrays become float32 (the default dtype of torch);
            rows of a sparse matrix are made dense batch by batch. A torch ``Dataset``
            yields pairs (x, y), of which x may be a dict of the module's arguments; all its
            targets are read once beforehand, but not where `classes` is given.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. Needed unless `X` is a Dataset, for which they go to `train_split` only.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0; the loss is divided by the weights of the
            rows that were mixed. Rows of weight 0 are left out, and others count for
            1e-18 of the largest weight at least.
        **fit_params : dict
            Handed on to the module's ``forward`` and to ``train_split``, as in skorch.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If an option or the data break a rule; the message names it.
        """
        refuse_classes(fit_params)
        self.check_training_readiness()
        self.check_options()
        check_schedule(self.warmup_epochs, self.cooldown_epochs, self.max_epochs)
        get_split_params(self, "fit", fit_params)  # metadata that nobody asked for is refused before the data
        fresh = not self.warm_start or not self.initialized_
        reset = fresh or not self._has_seen_data
        given, n_before = X, len(self.history_ or ()) if not fresh else 0
        with on_device_of_stack(self), self._unchanged_if_refused():
            X, y, weight = self._check_training_data(
                X, y, sample_weight, reset=reset, min_samples=2 if reset else 1
            )
            self._placement.check_room(X)
            is_sure = self.early_stopping not in (False, "auto") and self.train_split == "auto"
            if is_sure and not isinstance(X, IterableDataset):
                count_held_out(count_trainable(X, y, weight, self._targets), self.validation_fraction)
            if fresh:
                self.initialize()
            self._follow_options()
            X = self._settle_integers(X) if reset else X
            self._n_planned = None
            self._advise(given, X, y, weight)
            super().partial_fit(X, y, _routing_method="fit", sample_weight=weight, **fit_params)
            self._set_temperature()
        if self._stops_early:
            epochs = self.history_[n_before:]
            losses = [epoch["valid_loss"] for epoch in epochs if "valid_loss" in epoch]
            warn_best_is_first(losses, self.lr, self.n_iter_no_change)
        return self

    def partial_fit(
        self,
        X: object,
        y: object = None,
        classes: Sequence[object] | None = None,
        sample_weight: object = None,
        **fit_params: object,
    ) -> Self:
        """Train for ``epochs_per_partial_fit`` more epochs, or ``max_epochs``, without starting anew.

        As in skorch, one call runs ``max_epochs`` epochs over the rows it is given; with
        ``epochs_per_partial_fit=1`` it visits them once, as scikit-learn's estimators do, and
        ``max_epochs`` stays that of :meth:`fit`. All rows are trained on: no
        rows are held out for early stopping, which is for :meth:`fit`.

        Parameters
        ----------
        X, y, sample_weight, **fit_params
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur; needed in the first call if `y` lacks some, and the same in
            later ones, where it may be left out.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._go_on(X, y, classes, sample_weight, fit_params)

    def _go_on(
        self,
        X: object,
        y: object,
        classes: Sequence[object] | None,
        sample_weight: object,
        fit_params: Mapping[str, object],
    ) -> Self:
        """Do what ``partial_fit`` does."""
        refuse_classes(fit_params)
        self.check_training_readiness()
        self.check_options()
        if self.epochs_per_partial_fit is not None:
            check_schedule(self.warmup_epochs, self.cooldown_epochs, self.max_epochs)
        reset = not self.initialized_ or not self._has_seen_data
        named = None if reset else as_class_array(classes)
        if named is not None:
            self._targets.check_same_classes(named)
        given = X
        with self._unchanged_if_refused():
            X, y, weight = self._check_training_data(X, y, sample_weight, reset=reset, classes=classes)
            self._placement.check_room(X)
            if not self.initialized_:
                self.initialize()
            self._follow_options()
            if reset:
                X = self._settle_integers(X)
                self._advise_on_input(given, X, y, weight)
            warn_out_of_reach()
            self._n_planned = None if self.epochs_per_partial_fit is None else self.max_epochs
            super().partial_fit(X, y, _routing_method="partial_fit", sample_weight=weight, **fit_params)
        return self

    def _set_temperature(self) -> None:
        """Fit the temperature of predictions to the rows that early stopping held out; 1 without them."""
        held_out = self.__dict__.pop("_held_out", None)
        self._take_temperature(1.0)
        link = self._get_predict_nonlinearity()
        if self.calibrate and held_out is not None and isinstance(link, Link) and not self._dense:
            rows, fit_params = held_out
            try:  # as they are predicted: by the defaults of `forward`, unless it needs what the fit gave
                scores = read_scores(self._evaluate_rows(rows, {}), self._targets, link, self._bare_criterion)
            except TypeError:
                pairs = self._evaluate_rows(rows, fit_params)
                scores = read_scores(pairs, self._targets, link, self._bare_criterion)
            self._take_temperature(self._find_temperature(scores))

    def _take_temperature(self, temperature: float) -> None:
        """Let predictions be made at a temperature; a net that knows no classes cannot keep one."""
        if self._has_seen_data:
            self._targets = self._targets.at(temperature)
        elif temperature != 1:
            warn_user(
                "f_params must be saved with use_safetensors=True, or loaded into a net that has seen data, "
                f"to keep its temperature; got {temperature:.3g}. Probabilities are those of the logits."
            )

    def _advise(self, given: object, X: object, codes: object, weight: np.ndarray | None) -> None:
        """Warn of what is allowed, and hardly meant."""
        self._advise_on_input(given, X, codes, weight)
        warn_out_of_reach()

    def _advise_on_input(self, given: object, X: object, codes: object, weight: np.ndarray | None) -> None:
        if self._takes_integers:  # which are meant to be codes
            return
        inputs = getattr(codes, "inputs", None)  # beside targets that were read
        if weight is not None and not np.all(weight):  # other rows are left out
            X = multi_indexing(X, choose_rows(np.flatnonzero(weight), X))
        warn_input(self, vars(self).get("module_"), given, X if inputs is None else inputs)

    @contextmanager
    def _unchanged_if_refused(self) -> Iterator[None]:
        """Leave an earlier fit as it was if what is new is refused before its first epoch."""
        outer = {name: self.__dict__[name] for name in ("_before", "_held_out") if name in vars(self)}
        before = dict(vars(self))
        history = None if self.history_ is None else list(self.history_)
        self.__dict__["_before"] = before
        try:
            yield
        except Exception:
            if "_before" in vars(self):
                self.__dict__.clear()
                self.__dict__.update(before)
                if history is not None:  # a net that is initialized empties the one it has
                    self.history_[:] = history
            raise
        finally:
            for name in ("_before", "_held_out"):
                self.__dict__.pop(name, None)
            self.__dict__.update(outer)  # those of a fit in which a callback loads weights

    def notify(self, method_name: str, **cb_kwargs: object) -> None:
        """Call a hook of the net and its callbacks; parts of a training do not begin schedules anew."""
        if method_name != "on_train_begin" or self._n_planned is None:
            super().notify(method_name, **cb_kwargs)
            return
        rebind_schedules(self)
        with without_callbacks(self, goes_on):
            super().notify(method_name, **cb_kwargs)

    def fit_loop(self, X: object, y: object = None, epochs: int | None = None, **params: Any) -> Self:
        """Run the epochs; early stopping is for ``fit``, not for a call of ``partial_fit``."""
        is_fit = params.get("_routing_method") == "fit"
        self._may_stop_early = bool(self.early_stopping) and is_fit and self._has_stopper
        if epochs is None and params.get("_routing_method") == "partial_fit":
            epochs = self.epochs_per_partial_fit
        self.__dict__.pop("_built_anew", None)
        super().fit_loop(X, y, epochs, **params)
        self.__dict__.pop("_built_anew", None)  # by a callback
        return self

    def _look_at_output(self, dataset: Any) -> None:
        """Check what the module returns for an example, twice: by itself, some normalisations refuse it."""
        if isinstance(dataset, Rows):
            pair: tuple[object, object] = dataset.take(np.zeros(2, dtype=np.int64))[:2]
        else:
            pair = self._make_reader(dataset).read_first(dataset, n_copies=2)
        x = self._cast_inputs(pair[0])
        with explaining_shape(x):
            output = self._infer_unseen(x)
        check_output(output, pair[1], self._targets, self._bare_criterion, self._get_predict_nonlinearity())
        self._gives_rows = isinstance(output, Tensor) and output.shape in ((2, self._n_outputs), (2,))

    def _infer_unseen(self, x: object) -> object:
        """Return the module's output, in eval mode, as if torch had drawn nothing for it."""
        rejoin_scheduler()
        self._set_training(False)
        # With gradients: what was computed last is asked for.
        with unseen_torch_draws(), torch.enable_grad(), self._get_autocast():
            return self.infer(x)

    def _limit_mixed(self, n_epochs: int, train: object, valid: object) -> int:
        is_few = is_known_few(train, valid, self.train_split)
        limits = self._may_stop_early and self.early_stopping == "auto" and is_few
        return min(n_epochs, EPOCHS_OF_FEW) if limits else n_epochs

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
        if n_epochs and "_before" in vars(self):
            # A module whose forward wants more than X cannot be looked at beforehand.
            if not fit_params and not self.is_overridden("get_loss"):
                self._look_at_output(train)
            del self.__dict__["_before"]  # nothing is refused from here on; the memory is needed
        self._stops_early = stops = self._may_stop_early and may_stop_by(valid, self.early_stopping)
        if stops:
            self._held_out = valid, fit_params
        # Losses may be computed in codes; scores are those of labels.
        labelled = scored_by_labels(self.callbacks_, self._targets.decode)
        is_ours = self.early_stopping and not stops  # else a callback of that name is the user's
        with labelled, without_callbacks(self, lambda name, _: is_ours and name == "early_stopping"):
            stopped: bool = super()._run_epochs(
                n_epochs, find_policy, train=train, valid=valid, facts=facts, fit_params=fit_params
            )
            return stopped

    def _has_bounded_loss(self) -> bool:
        """Whether the loss cannot be below zero; an entropy bonus may bring it there."""
        return not self.confidence_penalty and super()._has_bounded_loss()

    @property
    def _loss_unit(self) -> float:
        return self._targets.get_loss_unit(self._bare_criterion)

    def train_step(self, batch: Any, **fit_params: object) -> dict[str, Any]:
        """Do one optimisation step; see ``skorch.NeuralNet.train_step``."""
        return self._count_columns(super().train_step(batch, **fit_params), batch, training=True)

    def validation_step(self, batch: object, **fit_params: object) -> dict[str, Any]:
        """Compute the loss of one batch as it is: never mixed, never augmented."""
        return self._count_columns(super().validation_step(batch, **fit_params), batch, training=False)

    def _count_columns(self, step: dict[str, Any], batch: object, *, training: bool) -> dict[str, Any]:
        """Let the errors of columns that were standardised count in the loss by their units."""
        if self._targets.column_units is None:
            return step
        with torch.no_grad():
            loss = self._compute_loss_in_units(step["y_pred"], as_batch(batch), training)
        return {**step, "loss": loss}

    def _compute_loss_in_units(self, y_pred: Tensor, batch: Batch, training: bool) -> Tensor:
        """Return the loss of a batch whose columns count by their units, as a fast epoch computes it."""
        y, lam, weight = batch.get_mixed_targets()
        y, lam = y.to(y_pred.device), lam.to(y_pred.device)
        loss = self._get_closed_form_loss(training)
        if loss is not None and loss.accepts(y_pred, y):
            return loss.apply(y_pred, y, lam, None if weight is None else weight.to(y_pred.device))
        units = y_pred.new_tensor(self._targets.column_units)
        targets = batch.targets * units.to(batch.targets)
        counted = Batch(batch.loaded, targets, batch.weight, batch.position, batch.lam, batch.variation)
        return self.get_batch_loss(y_pred * units, counted, training=training)

    def _end_epoch(self, sets: dict[str, Any], fit_params: Mapping[str, object]) -> bool:
        """Call the callbacks; return whether one stops the training, in skorch's way."""
        scorings = find_caching_scorings(self.callbacks_, self.use_caching)
        if scorings:
            pairs = self._evaluate_rows(sets["dataset_train"], fit_params)
            show_trained_rows(scorings, ((batch[1], output) for batch, output in pairs))
        stopped: bool = super()._end_epoch(sets, fit_params)
        return stopped

    def _evaluate_rows(
        self, dataset: Dataset[object], fit_params: Mapping[str, object]
    ) -> Iterator[tuple[Batch, object]]:
        """Yield the batches of a data set, and the module's outputs."""
        with unseen_draws():
            for batch in map(as_batch, self._get_validation_batches(dataset)):
                yield batch, self._predict_clean(batch, fit_params)

    def _on_nonfinite_loss(self, message: str, prefix: str) -> None:
        """Raise, unless the criterion is the user's own, who may mean it."""
        if type(self._bare_criterion) is self._targets.criterion:
            raise ValueError(message)
        super()._on_nonfinite_loss(message, prefix)

    # -- losses --------------------------------------------------------------------------

    def get_loss(self, y_pred: Any, y_true: Any, X: object = None, training: bool = False) -> Tensor:
        """Return the loss of plain targets; see ``skorch.NeuralNet``."""
        check_is_tensor(y_pred, self._bare_criterion)
        if not isinstance(y_pred, Tensor):
            whole: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
            return whole
        n_members = self._targets.count_members(y_pred)
        y_pred, y_true = self._targets.align(y_pred, y_true, self._bare_criterion, self.label_smoothing)
        loss: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        adds = getattr(self._bare_criterion, "reduction", "mean") == "sum"
        return average_losses(loss, n_members, adds=adds) if n_members else loss

    def _apply_criterion(self, y_pred: Any, batch: Batch, x: object, training: bool) -> Tensor:
        if self._targets.is_dense and not self.is_overridden("get_loss"):
            y, lam, weight = batch.get_mixed_targets()
            return self.get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)
        loss: Tensor = super()._apply_criterion(y_pred, batch, x, training)
        if not training or not self.confidence_penalty:
            return loss
        logits = y_pred.unsqueeze(1) if y_pred.ndim == 1 else y_pred
        binary = isinstance(self._bare_criterion, nn.BCEWithLogitsLoss)
        weight = None if batch.weight is None else batch.get_mixed_targets()[2]
        entropy = average_entropy(logits, weight, binary=binary)
        if self._reduction == "sum":
            n_rows = len(logits) if weight is None else self._mean_weight * weight.sum()
            entropy = entropy * n_rows * (logits.shape[-1] if binary else 1)
        return loss - float(self.confidence_penalty) * entropy

    def get_mixed_loss(
        self,
        y_pred: Any,
        y: Tensor,
        lam: Tensor,
        weight: Tensor | None = None,
        *,
        x: object = None,
        training: bool = False,
    ) -> Tensor:
        """Return the loss of mixed targets; see :class:`MixupNetMixin`."""
        loss: Tensor | None = self._mix_in_closed_form(y_pred, y, lam, weight)
        if loss is not None:
            return loss
        target = self._targets.mix(y, lam, y_pred)
        if target is None:
            return super().get_mixed_loss(y_pred, y, lam, weight, x=x, training=training)
        if weight is None:
            return self.get_loss(y_pred, target, X=x, training=training)
        mixed, one = target.unsqueeze(0), torch.ones_like(lam[:1])
        return super().get_mixed_loss(y_pred, mixed, one, weight, x=x, training=training)

    def _build_trainer(
        self, rows: Rows, *, training: bool = False, hidden: Collection[str] = ()
    ) -> Trainer | str:
        """Return the trainer for these rows, or in words why there is none."""
        loss, n_outputs = self._get_closed_form_loss(training), self._n_outputs
        if loss is None or n_outputs is None:
            return (
                f"criterion {type(self._bare_criterion).__name__} has no gradient in closed form here for "
                "these targets; nets are stacked with CrossEntropyLoss for classes, BCEWithLogitsLoss for "
                "several labels a row and MSELoss for real targets, averaged"
            )
        if training and not self._gives_rows:
            return "the module returns other than a row of numbers for each example"
        trainer = TrainingStep(
            self.module_,
            self.optimizer_,
            loss,
            n_outputs,
            self.float_dtype,
            self._make_autocast(),
            is_cast=bool(self.autocast or torch.is_autocast_enabled(self._torch_device.type)),
            cuda_graph=self.cuda_graph,
        ).build_trainer(rows, hidden)
        if training and self.augment is not None and isinstance(trainer, Trainer):
            trainer.augment = self._augment_batch
        return trainer

    def _get_closed_form_loss(self, training: bool) -> Loss | None:
        penalty = float(self.confidence_penalty) if training else 0.0
        criterion = self._bare_criterion
        if criterion is None:
            return None
        return self._targets.find_closed_form(criterion, self.label_smoothing, penalty)

    # -- prediction ----------------------------------------------------------------------

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch; see ``skorch.NeuralNet``."""
        table = None if training else self._find_table(X)
        if table is not None:
            size = count_at_once(table.shape[1], table.device)
            parts = (table,) if table.shape[0] <= size else torch.split(table, size)
            return self._predict_table(parts, device)
        return self._forward_rows(X, training, device)

    def _forward_rows(self, X: Any, training: bool, device: str) -> Iterator[Any]:
        rows = X if is_dataset(X) else self._as_rows(X)
        if not isinstance(rows, Rows) or self.is_overridden("get_iterator") or self._collates_arrays:
            check_has_rows(rows)
            yield from super().forward_iter(rows, training=training, device=device)
            return
        if is_table(rows) and not training and not looks_at_batch(vars(self).get("module_")):
            size = count_at_once(rows.x.shape[1], self._torch_device)
            yield from self._predict_table(cut_rows(rows, size), device)
            return
        for x in cut_rows(rows, self._get_valid_batch_size(len(rows))):
            yield to_device(self.evaluation_step((x, None), training=training), device=device)

    @property
    def _collates_arrays(self) -> bool:
        """Whether a function of the user's makes the batches of arrays, as it did in the fit."""
        return self._is_of_arrays and "iterator_valid__collate_fn" in vars(self)

    def _find_table(self, X: object) -> Tensor | None:
        """Return rows that need no more than a look; None for all others, which go by longer ways."""
        self._check_ready()
        is_plain = self._has_plain_dataset and not find_overridden(self, ("get_dataset", "get_iterator"))
        is_plain = is_plain and not (self._takes_integers or self._collates_arrays)
        if not is_plain or looks_at_batch(vars(self).get("module_")):
            return None
        rows = read_plain_rows(self, X, self.storage, reset=False)
        weight = next(self._iterate_parameters(), None)
        if rows is None or weight is None or weight.device.type != "cpu":
            return None
        table = torch.from_numpy(rows if rows.flags.carray else np.require(rows, requirements=["C", "W"]))
        return table.to(self.float_dtype)

    def _predict_table(self, parts: Iterable[Tensor], device: str) -> Iterator[Any]:
        module, in_batches = self._find_sole_module(), callable(self.predict_nonlinearity)
        evaluate = self._evaluate_batches if module is None else partial(self._evaluate_module, module)
        predictor = TablePredictor(evaluate, module, self._get_valid_batch_size, in_batches)
        moves = device != "cpu" or self.device != "cpu"
        for x in parts:
            for output in predictor.predict(x):
                yield to_device(output, device=device) if moves else output

    def _find_sole_module(self) -> nn.Module | None:
        """Return the module, if outputs come of it alone, and it is not compiled for a size."""
        is_more = self.compile or self.autocast is not None or self._takes_integers
        if is_more or find_overridden(self, ("evaluation_step", "infer")):
            return None
        module: nn.Module | None = vars(self).get("module_")  # a subclass may have another name for it
        return module

    def _evaluate_module(self, module: nn.Module, batches: list[Tensor]) -> list[Output]:
        self._set_training(False)
        with torch.no_grad():
            return [self._to_full_precision(module(x)) for x in batches]

    def _evaluate_batches(self, batches: list[Tensor]) -> list[Output]:
        return [self.evaluation_step((x, None)) for x in batches]

    def _check_ready(self) -> None:
        """Raise what callers of skorch and of scikit-learn expect of a net that cannot predict yet."""
        if not self.initialized_:
            raise NotReadyError(
                f"This {type(self).__name__} instance is not initialized yet. Call 'initialize' or 'fit' "
                "with appropriate arguments before using this method."
            )
        if "_built_anew" in vars(self):
            warn_user(
                f"fit must be called once {self._built_anew} was set; got a prediction of a module that was "
                "built anew for it, whose weights are those before any training."
            )

    def _as_rows(self, X: object) -> Dataset[object]:
        """Return examples as a data set, of ours where the option `dataset` leaves that open."""
        self._check_ready()
        refuse_loader(X)
        X = check_mapping(X) if is_mapping(X) else self._validate(X, reset=False)
        codes = np.zeros(count_rows(X), dtype=np.int64)
        if not self._keeps_whole(X, codes):
            return self._wrap_to_predict(X, codes)
        rows: Dataset[object] = self.get_dataset(X, codes)
        return rows

    def _wrap_to_predict(self, X: object, codes: np.ndarray) -> Dataset[object]:
        """Put examples into the user's Dataset: without targets, as skorch does, where it can do without."""
        dataset: Dataset[object] = self.get_dataset(X, None)
        try:
            self._make_reader(dataset).read_first(dataset)
        except Exception:  # of whatever kind: it is code of the user's that looks at a target
            dataset = self.get_dataset(X, self._targets.decode(codes))
        return dataset

    def _get_valid_batch_size(self, n_samples: int) -> int:
        size: Any = super().get_params_for("iterator_valid").get("batch_size", self.batch_size)
        return n_samples if size == -1 else int(size)

    def _get_predict_nonlinearity(self) -> Callable[[Tensor], Tensor]:
        criterion = self._bare_criterion  # a subclass may have another name for it
        is_known = self.predict_nonlinearity == "auto" and len(self._criteria) == 1
        link = self._targets.get_link(criterion) if is_known else None
        if link is not None:
            return link.at(self._targets.temperature) if isinstance(link, Link) else link
        own: Callable[[Tensor], Tensor] = super()._get_predict_nonlinearity()
        return own

    def _read_outputs(self, X: object, link: Callable[[Tensor], Tensor], *, log: bool = False) -> np.ndarray:
        """Return what a link makes of the module's outputs; of several, of the first."""
        read = self._targets.read
        outputs = [read(y[0] if isinstance(y, tuple) else y, link, log=log) for y in self.forward_iter(X)]
        # A copy, for an output may be what the module was given.
        return np.concatenate([np.asarray(to_host(output)) for output in outputs])

    def predict_proba(self, X: object) -> np.ndarray:
        """Predict the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes) or (n_samples, n_classes, *sizes)
            Column j belongs to ``classes_[j]``. For several labels per row, the
            probability of each label; those do not sum to 1. Of dtype float64.
        """
        self._check_ready()
        return in_namespace_of(X, self._read_outputs(X, self._get_predict_nonlinearity()))

    def predict_log_proba(self, X: object) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        log_proba : ndarray of the shape of ``predict_proba(X)``
            Computed from the logits, so finite where a probability is rounded to 0.
        """
        self._check_ready()
        link = self._get_predict_nonlinearity()
        if isinstance(link, Link) and not self.is_overridden("predict_proba"):
            return in_namespace_of(X, self._read_outputs(X, link.log, log=True))
        with np.errstate(divide="ignore"):
            return in_namespace_of(X, np.log(to_array(self.predict_proba(X))))

    def predict(self, X: object) -> np.ndarray:
        """Predict the label of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,), (n_samples, n_labels) or (n_samples, *sizes)
            Labels; 0-1 indicators for several labels per row; a label for each pixel.
        """
        return in_namespace_of(X, self._targets.decode(self._targets.choose(to_array(self.predict_proba(X)))))

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return how well the targets of rows are predicted.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.
        y : array-like of shape (n_samples,), (n_samples, n_outputs) or (n_samples, *sizes)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            Of a classifier the accuracy, in [0, 1]: the share of rows, or of labelled pixels,
            predicted right; for multilabel targets, subset accuracy. Of a regressor R², at most 1.
        """
        y_pred = to_array(self.predict(X))
        return self._targets.score(as_target_array(y), y_pred, check_weights(sample_weight, len(y_pred)))

    @property
    def classes_(self) -> np.ndarray:
        """Labels seen in fit; column j of ``predict_proba`` is ``classes_[j]``."""
        classes = getattr(self._targets, "classes", None)
        if self.classes is not None and len(self.classes) == 0:
            raise AttributeError(f"{type(self).__name__} has no attribute 'classes_'")
        if classes is None:
            raise AttributeError(f"{type(self).__name__} has no classes_ before it is fitted.")
        return in_namespace_of(self._like, np.asarray(classes))

    @property
    def n_iter_(self) -> int:
        """Number of epochs that were run."""
        check_is_fitted(self)
        return len(self.history_)

    @property
    def loss_curve_(self) -> list[float]:
        """Training loss of each epoch, on mixed rows where rows were mixed."""
        check_is_fitted(self)
        return [float(epoch["train_loss"]) for epoch in self.history_ if "train_loss" in epoch]

    def __sklearn_tags__(self) -> Tags:
        """Return the estimator tags: sparse rows and arrays of any rank are taken."""
        tags: Tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags

    # -- files ---------------------------------------------------------------------------

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        return reduce_whole(self)

    def __getstate__(self) -> dict[str, object]:
        """Return the whole state for a pickle or a copy, else one of plain values, as for skops."""
        if not is_whole():
            return describe_net(self, MixupEstimator)
        state: dict[str, object] = super().__getstate__()
        return {name: value for name, value in state.items() if name not in OF_A_FIT}

    def __setstate__(self, state: dict[str, object]) -> None:
        """Become the net whose state it is."""
        if takes_whole(self):
            super().__setstate__(state)
        else:
            restore_net(self, MixupEstimator, state)

    def save_params(
        self,
        f_params: File | None = None,
        f_optimizer: File | None = None,
        f_criterion: File | None = None,
        f_history: File | None = None,
        use_safetensors: bool = False,
        **kwargs: File | None,
    ) -> None:
        """Save the module's weights, and what else is asked for.

        Parameters
        ----------
        f_params : str, path or file-like object, default=None
            Where the weights go. With ``use_safetensors=True`` the file also holds the
            classes and the features seen in fit, so that :meth:`load_params` restores an
            estimator that predicts.
        f_optimizer, f_criterion, f_history : str, path or file-like object, default=None
            Where the optimizer's state, the criterion's and the history go.
        use_safetensors : bool, default=False
            Write safetensors files, which hold no pickle. The optimizer's state cannot be
            written so.
        **kwargs : dict
            ``f_<name>`` of further components, as in skorch.

        Notes
        -----
        A file named by its path appears whole or not at all. Beside the weights stands what turns outputs
        into predictions: a temperature, or the mean and the spread of the targets.
        """
        files = name_files(
            f_params=f_params, f_optimizer=f_optimizer, f_criterion=f_criterion, f_history=f_history, **kwargs
        )
        if use_safetensors:
            refuse_state(files, self._optimizers)
        with whole_files(files) as paths:
            if use_safetensors and files["f_params"] is not None:
                self.check_is_fitted()
                learned = self._get_learned().describe(
                    without=self._targets.units.keys() - self._get_known_units()
                )
                write_state(paths.pop("f_params"), self.module_.state_dict(), learned)  # type: ignore[arg-type]
                if not any(value is not None for value in paths.values()):
                    return
            is_plain = files["f_params"] is not None and files.get("f_module") is None
            if "module_" in vars(self) and not use_safetensors and is_plain:
                state = with_units(self.module_.state_dict(), self._get_known_units())
                torch.save(state, paths.pop("f_params"))  # type: ignore[arg-type]
                if not any(value is not None for value in paths.values()):
                    return
            super().save_params(use_safetensors=use_safetensors, **paths)

    def load_params(
        self,
        f_params: File | None = None,
        f_optimizer: File | None = None,
        f_criterion: File | None = None,
        f_history: File | None = None,
        checkpoint: Callback | None = None,
        use_safetensors: bool = False,
        **kwargs: File | None,
    ) -> None:
        """Load what :meth:`save_params` wrote.

        Parameters
        ----------
        f_params : str, path or file-like object, default=None
            The weights. A safetensors file of ours makes an estimator that was never
            fitted ready to predict; its options, such as ``module__hidden_layer_sizes``,
            must be those of the one that was saved.
        f_optimizer, f_criterion, f_history : str, path or file-like object, default=None
            The optimizer's state, the criterion's and the history.
        checkpoint : skorch.callbacks.Checkpoint, default=None
            A checkpoint to load from.
        use_safetensors : bool, default=False
            Whether the files are safetensors files.
        **kwargs : dict
            ``f_<name>`` of further components, as in skorch.
        """
        files = name_files(
            f_params=f_params, f_optimizer=f_optimizer, f_criterion=f_criterion, f_history=f_history, **kwargs
        )
        is_within = "_before" in vars(self) or "_fit_loaders" in vars(self)
        with self._unchanged_if_refused():
            if use_safetensors and (file := self._find_weights(files, checkpoint)) is not None:
                self._restore_learned(file)
            try:
                with self._loading(is_within=is_within):
                    super().load_params(checkpoint=checkpoint, use_safetensors=use_safetensors, **files)
            except NotInitializedError as error:
                error.add_note(
                    "This file holds no sizes and no classes: call initialize() with module__<size>, and "
                    "`classes` for labels, or save by save_params(f_params, use_safetensors=True)."
                )
                raise
        self.__dict__.pop("_built_anew", None)  # its weights are those of a training now
        if not self._has_seen_data:
            self._list_kinds()[0].warn_of_weights_alone()

    def _get_known_units(self) -> dict[str, object]:
        """Return the units of the outputs, but for a temperature that the end of this fit will find."""
        units = self._targets.units
        return {name: units[name] for name in units if name != "temperature" or "_held_out" not in vars(self)}

    def _find_weights(self, files: Mapping[str, File | None], checkpoint: Callback | None) -> File | None:
        """Return the file of the weights; that of a checkpoint may be named by the history."""
        if files["f_params"] is not None or checkpoint is None:
            return files["f_params"]
        if files["f_history"] is None and checkpoint.f_history is not None:
            self.history = History.from_file(checkpoint.f_history_)
        if not self.history_:
            return None
        return name_files(**checkpoint.get_formatted_files(self))["f_params"]

    @contextmanager
    def _loading(self, *, is_within: bool) -> Iterator[None]:
        """Take over the units of weights that are loaded inside; what does not fit changes nothing.

        Within a fit targets were encoded already, and their mean and spread are those of the fit.
        """
        names = (*self._modules, *self._criteria, *self._optimizers)
        parts = [vars(self)[f"{name}_"] for name in names if f"{name}_" in vars(self)]
        parts = [part for part in parts if hasattr(part, "load_state_dict")]
        with unchanged_if_refused(parts), reading_units(vars(self).get("module_")) as found:
            yield
            units = found[-1] if found else {}
            if found and self._has_seen_data:
                found_targets = self._targets.of_units(units)
                self._targets = self._targets if is_within and "mean" in units else found_targets
            elif isinstance(temperature := units.get("temperature"), float):
                self._take_temperature(temperature)

    def _get_learned(self) -> Learned:
        return Learned.of(vars(self), self._targets)

    def _restore_learned(self, file: File) -> None:
        """Take over classes and features from the header of a safetensors file.

        A net that already has them, and weights of those shapes, is left as it is.
        """
        header = read_header(file)
        if self.initialized_ and header.tells_of(self._get_learned(), self.module_.state_dict()):
            return
        learned = Learned.read(header.learned, self._list_kinds(), type(self).__name__)
        if learned is None:
            return
        named = as_class_array(self.classes)
        if named is not None:
            learned.targets.check_same_classes(named)
        forget_learned(self.__dict__)
        self.__dict__.update(learned.values)
        self._targets = learned.targets
        # A new module, so that weights that do not fit leave the one at hand as it was.
        history, self.history_ = self.history_, None
        self.initialize()
        self.history_ = history if history is not None else self.history_
