"""The scikit-learn edge: arrays in, labels out, options checked, for skorch nets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
import copy
import inspect
import math
from typing import Any

import numpy as np
from scipy import sparse
from sklearn.utils.validation import assert_all_finite, check_is_fitted, validate_data
from skorch.callbacks import EarlyStopping
from skorch.callbacks.scoring import ScoringBase
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.utils import data_from_dataset, is_dataset, to_device
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, Subset

from sk_mixup._data.storage import Rows, align
from sk_mixup._random import draw_seed
from sk_mixup._skorch.datasets import check_inputs, is_mapped, unwrap_subset
from sk_mixup.estimators._options import OptionsMixin
from sk_mixup.estimators._persistence import PersistenceMixin
from sk_mixup.mixing import RowFacts

__all__ = ["MixupEstimatorMixin"]

# A table is predicted in blocks of this many rows, the last one filled up: float32 matrix
# products choose their kernel by batch size, and rows predicted one by one differed from
# rows predicted together by up to 3e-7.
BLOCK_SIZE = 256
# Results of so many rows are handed on at once.
TABLE_SIZE = 64 * BLOCK_SIZE


class MixupEstimatorMixin(PersistenceMixin, OptionsMixin):
    """What :class:`MixupClassifier` and :class:`MixupRegressor` share.

    It turns a mixed skorch net into a scikit-learn estimator: the constructor stores,
    ``fit`` checks, data is validated once at the edge, and the module's sizes follow from
    the data.
    """

    casts_integers = True

    @property
    def _default_callbacks(self) -> list[tuple[str, Any]]:
        callbacks = list(super()._default_callbacks)
        if self.early_stopping and self.max_epochs:
            stopper = EarlyStopping(patience=self.n_iter_no_change, load_best=True)
            callbacks.insert(-1, ("early_stopping", stopper))
        return callbacks

    def get_params_for(self, prefix: str) -> dict[str, Any]:
        """Return the options of a component; a module's sizes are filled in from the data."""
        params = super().get_params_for(prefix)
        if prefix != "module" or not inspect.isclass(self.module):
            return params
        accepted = inspect.signature(self.module).parameters
        sizes = {"in_features": "_n_inputs", "out_features": "_n_outputs"}
        known = {key: vars(self).get(attr) for key, attr in sizes.items() if key in accepted}
        return {**{key: size for key, size in known.items() if size is not None}, **params}

    def initialize_module(self) -> Any:
        """Build the module; an instance is copied, so that every fit starts from it alike."""
        kwargs = self.get_params_for("module")
        if not isinstance(self.module, nn.Module) and "in_features" in _required(self.module):
            self._check_sizes_known(kwargs)
        module = copy.deepcopy(self.module) if isinstance(self.module, nn.Module) else self.module
        self.module_ = self.initialized_instance(module, kwargs)
        self._set_memory_format()
        return self

    def _check_sizes_known(self, kwargs: dict[str, Any]) -> None:
        missing = [f"module__{key}" for key in ("in_features", "out_features") if key not in kwargs]
        if missing:
            raise ValueError(
                f"{' and '.join(missing)} must be given to initialize without data; got none. Call fit, "
                "load_params on a safetensors file, or set them."
            )

    def get_dataset(self, X: Any, y: Any = None, sample_weight: Any = None) -> Any:
        """Return the data as whole tensors on the device where that can be done."""
        dataset = super().get_dataset(X, y, sample_weight)
        if isinstance(dataset, Rows):
            dataset.decode = self._decode_targets
        return dataset

    def get_split_datasets(self, X: Any, y: Any = None, sample_weight: Any = None, **params: Any) -> Any:
        """Return the training and the validation set; see ``skorch.NeuralNet``."""
        dataset = self.get_dataset(X, y, sample_weight)
        self._report_streaming(dataset)
        if sample_weight is not None and not np.all(sample_weight):
            kept = np.flatnonzero(sample_weight)
            dataset, y = dataset.subset(kept), y[kept]
        split = self._get_split(dataset, y)
        if split is None:
            return dataset, None
        train, valid = split(dataset, **params) if y is None else split(dataset, y, **params)
        return unwrap_subset(train), self._encode_foreign(unwrap_subset(valid))

    def _get_split(self, X: Any, y: Any) -> Any:
        """Return what splits the training rows, or None for no held-out rows."""
        if self.train_split != "auto":
            return self.train_split or None
        if not self._needs_validation() or isinstance(X, IterableDataset):
            return None
        n_valid = self._check_holdout(X)
        stratified = self._can_stratify(y, n_valid)
        return ValidSplit(self.validation_fraction, stratified=stratified, random_state=self._split_seed)

    def _check_holdout(self, X: Any) -> int:
        """Return how many rows are held out, or raise if none is left to train on."""
        if isinstance(X, IterableDataset):
            return 0
        n_samples = len(X) if is_dataset(X) else len_of(X)
        n_valid = math.ceil(n_samples * self.validation_fraction)
        if n_valid >= n_samples:
            raise ValueError(
                f"validation_fraction must leave rows to train on; got {self.validation_fraction!r} for "
                f"{n_samples} rows. Lower it, or set early_stopping=False."
            )
        return n_valid

    def _can_stratify(self, y: Any, n_valid: int) -> bool:
        """Whether a held-out set of that size can hold every class, as its share is."""
        return False

    def _encode_foreign(self, valid: Any) -> Any:
        """Bring a validation set of arrays that a user's split made into our form."""
        if not isinstance(valid, SkorchDataset) or isinstance(valid, Rows) or "_shape_in" not in vars(self):
            return valid
        X, y = data_from_dataset(valid)
        if y is None:
            return valid
        X = self._check_arrays(X, y, reset=False)
        return self.get_dataset(X, self._encode_targets(y, len_of(X), reset=False))

    def fit_loop(self, X: Any, y: Any = None, epochs: int | None = None, **params: Any) -> Any:
        """Run the epochs; early stopping is for ``fit``, not for a call of ``partial_fit``."""
        self._stops_early = self.early_stopping and params.get("_routing_method") == "fit"
        return super().fit_loop(X, y, epochs, **params)

    def _run_epochs(self, n_epochs: int, policy: Any, *, valid: Any, **run: Any) -> bool:
        if self._stops_early and valid is not None:
            return super()._run_epochs(n_epochs, policy, valid=valid, **run)
        with self._without_callbacks(lambda name, callback: name == "early_stopping"):
            return super()._run_epochs(n_epochs, policy, valid=valid, **run)

    def _needs_validation(self) -> bool:
        """Whether early stopping or a callback of the user's looks at held-out scores."""
        if self._stops_early:
            return True
        default = {name for name, _ in self._default_callbacks}
        own = [cb for name, cb in self.callbacks_ if name not in default]
        monitors = (getattr(cb, "monitor", None) for cb in own)
        return any(isinstance(m, str) and m.startswith("valid") for m in monitors) or any(
            isinstance(cb, ScoringBase) and not cb.on_train for cb in own
        )

    def fit(self, X: Any, y: Any = None, sample_weight: Any = None, **fit_params: Any) -> Any:
        """Train on a table, an array of any rank, or a torch data set.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Training examples. Arrays become float32 (the default dtype of torch);
            rows of a sparse matrix are made dense batch by batch. A torch ``Dataset``
            yields pairs (x, y) and is read as it is.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. Needed unless `X` is a Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0; the loss is divided by the weights of the
            rows that were mixed. Rows of weight 0 are left out.
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
        self.check_options()
        self._check_schedule()
        fresh = not self.warm_start or not self.initialized_
        with self._on_device_of_stack():
            with self._unchanged_on_error():
                X, y, weight = self._check_training_data(
                    X, y, sample_weight, reset=fresh or not self._has_seen_data
                )
                self.check_room(X)
                if self.early_stopping and self.train_split == "auto":
                    self._check_holdout(X if weight is None else np.flatnonzero(weight))
                if fresh:
                    self.initialize()
                self._check_policy(X, y)
            return super().partial_fit(X, y, _routing_method="fit", sample_weight=weight, **fit_params)

    def partial_fit(
        self, X: Any, y: Any = None, classes: Any = None, sample_weight: Any = None, **fit_params: Any
    ) -> Any:
        """Train for ``max_epochs`` more epochs, without starting anew.

        As in skorch, one call runs ``max_epochs`` epochs over the rows it is given; set
        ``max_epochs=1`` to visit each chunk of a stream once. All rows are trained on: no
        rows are held out for early stopping, which is for :meth:`fit`.

        Parameters
        ----------
        X, y, sample_weight, **fit_params
            As in :meth:`fit`.
        classes : array-like of shape (n_classes,), default=None
            All labels that will occur; needed in the first call if `y` lacks some.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        self.check_options()
        reset = not self.initialized_ or not self._has_seen_data
        with self._unchanged_on_error():
            X, y, weight = self._check_training_data(X, y, sample_weight, reset=reset, classes=classes)
            self.check_room(X)
        return super().partial_fit(X, y, sample_weight=weight, **fit_params)

    @property
    def _has_seen_data(self) -> bool:
        """Whether features and targets are known; an initialized net need not have seen any."""
        return "_n_outputs" in vars(self)

    def initialize(self) -> Any:
        """Initialize the components; see ``skorch.NeuralNet.initialize``."""
        self.check_options()
        super().initialize()
        self._split_seed = draw_seed(self.generator_)
        return self

    def _check_policy(self, X: Any, y: Any) -> None:
        """Raise if the vicinity does not fit the data, before anything is trained."""
        if is_dataset(X):
            facts = self.get_facts(X, y)
        else:
            facts = RowFacts(
                labels=lambda: self._get_class_codes(y),
                targets=lambda: self._get_real_targets(y),
                inputs=lambda: check_inputs(X),
                shape=None if _is_mapping(X) else tuple(X.shape[1:]),
                layers=self._find_layers,
                is_dense=getattr(self, "_dense", False),
                is_stream=self._orders_rows_itself(),
            )
        self.get_policy().check(facts)

    def _check_schedule(self) -> None:
        plain = self.warmup_epochs + self.cooldown_epochs
        if plain > self.max_epochs:
            raise ValueError(
                f"warmup_epochs + cooldown_epochs must be at most max_epochs; got {plain} for max_epochs="
                f"{self.max_epochs}. Raise max_epochs."
            )

    def _check_training_data(
        self, X: Any, y: Any, sample_weight: Any, *, reset: bool, classes: Any = None
    ) -> tuple[Any, Any, Any]:
        """Check the data and turn targets into codes."""
        if is_dataset(X):
            if sample_weight is not None:
                raise ValueError(
                    "sample_weight must be None for a Dataset; got weights. Pass X and y as arrays."
                )
            y = self._check_dataset(X, y, reset=reset, classes=classes)
            return X, y, None
        X = self._check_arrays(X, y, reset=reset)
        y = self._encode_targets(y, len_of(X), reset=reset, classes=classes)
        weight = self._get_weights(y, sample_weight)
        if weight is None:
            return X, y, None
        # The products of mixed rows' weights must not overflow.
        return X, y, weight / weight[weight > 0].mean()

    def _check_arrays(self, X: Any, y: Any, *, reset: bool) -> Any:
        """Check X, and that y is there; remember the features of X."""
        if y is None:
            raise ValueError(
                f"y must be given: {type(self).__name__} requires y to be passed, but the target y is None. "
                "Pass labels, or a Dataset of pairs as X."
            )
        if _is_mapping(X):
            return _check_mapping(X)
        return self._validate(X, reset=reset, ensure_min_samples=2 if reset else 1)

    def _validate(self, X: Any, *, reset: bool, ensure_min_samples: int = 1) -> Any:
        checked = validate_data(
            self,
            _to_host(X),
            reset=reset,
            accept_sparse="csr",
            allow_nd=True,
            dtype="numeric" if self._stays_on_host(X) else self._get_input_dtype(),
            ensure_min_samples=ensure_min_samples,
        )
        self._check_shape(checked.shape[1:], reset=reset)
        return checked

    def _stays_on_host(self, X: Any) -> bool:
        """Whether numbers are read where they are, and made floats batch by batch."""
        if not isinstance(X, np.ndarray) or X.dtype.kind not in "fiu":
            return False
        return self.storage == "host" or (self.storage == "auto" and is_mapped(X))

    def _get_input_dtype(self) -> Any:
        return np.float64 if torch.get_default_dtype() == torch.float64 else np.float32

    def _check_shape(self, shape: tuple[int, ...], *, reset: bool) -> None:
        if reset:
            self._shape_in = tuple(shape)
            self._n_inputs = math.prod(shape)
        elif tuple(shape) != getattr(self, "_shape_in", tuple(shape)):
            raise ValueError(
                f"X must hold examples of the shape seen in fit, {self._shape_in}; got {tuple(shape)}. Give "
                "the same features in the same order."
            )

    def _check_dataset(self, dataset: Any, y: Any, *, reset: bool, classes: Any) -> Any:
        """Look at a Dataset's first pair for the sizes."""
        if reset:
            x, _ = first_pair(dataset)
            if isinstance(x, Tensor | np.ndarray):
                self._check_shape(tuple(x.shape), reset=True)
                if x.ndim:
                    self.n_features_in_ = int(x.shape[0])
            y = self._read_dataset_targets(dataset, y, classes)
        return None if y is None else np.asarray(_to_host(y))

    def _get_weights(self, y: Any, sample_weight: Any) -> Any:
        """Return one weight per row, or None where all rows count alike."""
        if sample_weight is None:
            return None
        weight = np.asarray(_to_host(sample_weight), dtype=np.float64)
        n_samples = len(y)
        if weight.shape != (n_samples,):
            raise ValueError(
                f"sample_weight must be 1-dimensional, one weight per row; got shape {weight.shape} for "
                f"{n_samples} rows. Give an array of shape ({n_samples},)."
            )
        if not np.all(weight >= 0) or not np.all(np.isfinite(weight)):
            bad = weight[~(weight >= 0) | ~np.isfinite(weight)][0]
            raise ValueError(
                f"sample_weight must be finite and at least 0; got {bad}. Negative values in sample_weight "
                "have no meaning here: leave such rows out."
            )
        if not weight.any():
            raise ValueError("sample_weight must hold a weight above 0; got only zeros. Drop the argument.")
        return None if np.all(weight == weight[0]) else weight

    def forward_iter(self, X: Any, training: bool = False, device: str = "cpu") -> Iterator[Any]:
        """Yield the module's outputs batch by batch; see ``skorch.NeuralNet``."""
        if is_dataset(X) and not isinstance(X, Rows):
            yield from super().forward_iter(X, training=training, device=device)
            return
        rows = X if isinstance(X, Rows) else self._as_rows(X)
        table = getattr(rows.x, "ndim", None) == 2 and not training
        size = TABLE_SIZE if table else self._get_valid_batch_size(len(rows))
        predict = self._predict_blocks if table else self.evaluation_step
        for start in range(0, len(rows), size):
            n = min(size, len(rows) - start)
            output = predict((rows.slice(start, start + n)[0], None), training=training)
            yield to_device(output, device=device)

    def _predict_blocks(self, batch: Any, training: bool) -> Any:
        """Predict a part of a table block by block; the last block is filled up."""
        blocks = list(map(align, batch[0].split(BLOCK_SIZE)))
        n_last = len(blocks[-1])
        blocks[-1] = torch.cat([blocks[-1], blocks[-1][-1:].expand(BLOCK_SIZE - n_last, -1)])
        *outputs, last = self._evaluate_blocks(blocks)
        outputs.append(tuple(part[:n_last] for part in last) if isinstance(last, tuple) else last[:n_last])
        if isinstance(last, tuple):
            return tuple(torch.cat(parts) for parts in zip(*outputs, strict=True))
        return torch.cat(outputs)

    def _evaluate_blocks(self, blocks: list[Tensor]) -> list[Any]:
        if self.is_overridden("evaluation_step"):
            return [self.evaluation_step((block, None)) for block in blocks]
        self._set_training(False)  # once; to walk through the modules takes as long as a block
        with torch.no_grad(), self._get_autocast():
            return [self._to_full_precision(self.infer(block)) for block in blocks]

    def _as_rows(self, X: Any) -> Rows:
        check_is_fitted(self)
        X = _check_mapping(X) if _is_mapping(X) else self._validate(X, reset=False)
        return self.get_dataset(X, np.zeros(len_of(X), dtype=np.int64))

    def _get_valid_batch_size(self, n_samples: int) -> int:
        size = super().get_params_for("iterator_valid").get("batch_size", self.batch_size)
        return n_samples if size == -1 else size

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

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags: sparse rows and arrays of any rank are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.input_tags.three_d_array = True
        tags.target_tags.required = True
        return tags


def _is_mapping(X: Any) -> bool:
    """Whether X is a mapping of arrays; scipy's ``dok`` matrices are dicts, but no such thing."""
    return isinstance(X, Mapping) and not sparse.issparse(X)


def len_of(X: Any) -> int:
    """Return the number of rows of an array, a sparse matrix or a mapping of arrays."""
    return int(next(iter(X.values())).shape[0] if _is_mapping(X) else X.shape[0])


def _required(module: Any) -> set[str]:
    if not inspect.isclass(module):
        return set()
    parameters = inspect.signature(module).parameters.values()
    return {p.name for p in parameters if p.default is p.empty}


def _to_host(values: Any) -> Any:
    """Turn a tensor on any device into an array; leave everything else alone."""
    return values.numpy(force=True) if isinstance(values, Tensor) else values


def _check_mapping(X: Mapping[str, Any]) -> dict[str, Any]:
    """Check a mapping of arrays, the inputs of a module of several arguments."""
    arrays = {name: np.asarray(_to_host(values)) for name, values in X.items()}
    lengths = {name: values.shape[:1] for name, values in arrays.items()}
    if not arrays or len(set(lengths.values())) != 1:
        raise ValueError(f"X must hold arrays of equal length; got {lengths}. Give one row per example.")
    for name, values in arrays.items():
        if values.dtype.kind == "f":
            assert_all_finite(values, input_name=f"X[{name!r}]")
    return arrays


def find_targets(dataset: Any, y: Any = None) -> Any:
    """Return all targets of a Dataset: given, held by it, or read pair by pair."""
    if y is not None:
        return y
    if isinstance(dataset, Subset):
        return np.asarray(find_targets(dataset.dataset))[np.asarray(dataset.indices)]
    try:
        targets = data_from_dataset(dataset)[1]
    except AttributeError:
        targets = getattr(dataset, "targets", None)
    if targets is not None:
        return _to_host(targets)
    if isinstance(dataset, IterableDataset):
        raise ValueError(
            "classes must be given for an IterableDataset; got None. Name all labels, in the order of their "
            "codes."
        )
    return [_to_host(dataset[i][1]) for i in range(len(dataset))]


def first_pair(dataset: Any) -> Any:
    """Return the first pair (x, y) of a Dataset."""
    try:
        return next(iter(dataset)) if isinstance(dataset, IterableDataset) else dataset[0]
    except (IndexError, StopIteration):
        raise ValueError("X must hold at least one pair; got an empty Dataset. Give it rows.") from None
