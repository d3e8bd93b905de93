"""The regressor."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Literal, NoReturn, Self

import numpy as np
from sklearn.utils import Tags
from skorch import NeuralNetRegressor
from skorch.callbacks import Callback
from skorch.dataset import Dataset
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sk_mixup._skorch.options import find_maker
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._holdout import Stopping
from sk_mixup.estimators._options import store_options
from sk_mixup.estimators._prediction import in_namespace_of
from sk_mixup.estimators._real_values import RealValues
from sk_mixup.estimators._standardized import StandardizedValues, ValuesOfOneUnit, find_standardized_kind
from sk_mixup.estimators._targets import Targets
from sk_mixup.mixing import Partners, Vicinity
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.mixing.partners import PartnersName
from sk_mixup.modules import MLP

__all__ = ["MixupRegressor"]


class MixupRegressor(MixupEstimator, NeuralNetRegressor):
    """Neural-network regressor trained on convex combinations of examples.

    Each training step draws partners for the examples of a mini-batch and weights
    λ ~ Beta(alpha, alpha), and lowers the loss of the mixed inputs against the mixed
    targets: mixup [1]_. One or several targets per row are taken. It is a
    :class:`skorch.NeuralNetRegressor` as well, with all its options.

    Parameters
    ----------
    module : type of torch.nn.Module or instance, default=MLP
        Network from (n_samples, *features) to predictions (n_samples, n_outputs), or (n_samples,
        n_members, n_outputs) for an implicit ensemble, whose members' losses and predictions are
        averaged. With a criterion of your own, which is given `y` of shape (n_samples, n_outputs),
        it may return more, such as quantiles, and all is predicted. Arguments named
        ``in_features`` and ``out_features`` are filled in from the data;
        others are ``module__<name>``. A fit copies an instance, so that every fit
        starts from the same weights; ``initialize`` takes the instance itself.

    alpha : float, default=0.2
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha). 0 is plain training
        (empirical risk minimisation) exactly, 1 draws λ uniformly, inf is the plain
        average. The defaults of this class are those of :class:`MixupClassifier`, where
        they were measured.

    lam_per : {'example', 'batch'}, default='example'
        Whether each example of a mini-batch draws its own λ, or all share one as in the
        authors' experiments.

    n_mixed : int, default=2
        How many examples go into a virtual example, at least 2; their weights follow
        Dirichlet(alpha, ..., alpha). Section 2 of [1]_ found no gain from 3.

    partners : {'batch', 'dataset', 'neighbors', 'kernel'} or policy, default='batch'
        Where the other examples come from: a permutation of the same mini-batch (the
        choice of [1]_), or of the whole training set ("two data loaders" in section 2); one
        of the nearest rows; rows with similar targets (C-Mixup). A policy of
        :mod:`sk_mixup.mixing`, such as ``KernelPartners(0.5)``, brings options of its own.

    vicinity : Vicinity, default=None
        A policy of :mod:`sk_mixup.mixing` that takes the place of mixup with the four
        options above, which are then not used: ``GaussianNoise(0.1)``,
        ``ManifoldMixup()``, ``Extrapolation()``, ...

    warmup_epochs : int, default=0
        Epochs of plain training before mixing begins (section 3.3 of [1]_ uses 5 on
        speech); counted from initialization, within `max_epochs`.

    cooldown_epochs : int, default=0
        Epochs of plain training at the end: the last of `max_epochs`. After early
        stopping they are run too, from the best weights.

    augment : callable, default=None
        Called with the inputs of each training batch, a tensor on the device, before they
        are mixed; returns as many rows. It is called once for each batch, so a random transform of
        torchvision draws once for all images in it; ``sk_mixup.augmentation.per_image(transform)`` draws
        for each image, and ``sk_mixup.augmentation.crop_and_flip()`` does so fast.

    early_stopping : 'auto' or bool, default='auto'
        Whether to hold out `validation_fraction` of the rows, unmixed, and to stop when
        the loss on them has not improved for `n_iter_no_change` epochs; the weights of
        the best epoch are kept. 'auto' does so if that holds out 10 rows or more. Of fewer rows
        it holds out none, and trains for at most 50 mixed epochs.

    n_iter_no_change : int, default=20
        Patience of early stopping, in epochs.

    validation_fraction : float, default=0.1
        Share of the rows to hold out, in (0, 1); used where ``train_split='auto'``.

    lr : float, default=0.001
        Learning rate of the optimizer.

    max_epochs : int, default=200
        Number of epochs, or the largest number with early stopping. Where `early_stopping='auto'` holds
        out no rows, at most 50 epochs are mixed.

    epochs_per_partial_fit : int, default=None
        Epochs of one call of ``partial_fit``; None for `max_epochs`, as in skorch. With a number,
        such as scikit-learn's 1, calls are parts of one training of `max_epochs` epochs: warm-up,
        cool-down and skorch's ``LRScheduler`` go on from call to call.

    batch_size : int, default=32
        Rows in a mini-batch; -1 for all rows. A last batch of one row joins the one
        before.

    optimizer : type of torch.optim.Optimizer, default=Adam
        The optimizer; Adam and AdamW are run by their fused kernels. Options are
        ``optimizer__<name>``.

    criterion : type of torch.nn.Module, default=MSELoss
        Loss of the predictions. Whatever it is, targets are mixed, not losses; for
        squared error both have the same gradient.

    standardize_targets : bool, default=True
        Whether the network is trained on ``(y - target_mean_) / target_std_``, column by column,
        which makes learning rates mean the same for every `y`; predictions, scores and losses in
        the history are in units of `y`. Done for squared and absolute error (``MSELoss``,
        ``L1Loss``), which mean the same in any unit, and for ``HuberLoss`` and ``SmoothL1Loss``,
        whose ``criterion__delta`` and ``criterion__beta`` are in units of `y`; all columns then share one
        standard deviation, and ``criterion_`` holds the option divided by it. Other
        criteria, instances of those two, and a ``get_loss`` of your own are given `y` as it is, and
        so are all where an ``IterableDataset`` is the data. A module whose outputs are bounded, as
        by a sigmoid, needs False.

    train_split : {'auto', None} or callable, default='auto'
        What is held out for scores in each epoch. 'auto' holds out
        `validation_fraction` of the rows if early stopping, or a callback that watches a
        validation score, needs them, and nothing otherwise (nor of an
        ``IterableDataset``, which cannot be split). A callable is skorch's, such
        as ``skorch.dataset.ValidSplit(5)``; None holds out nothing, and so turns early
        stopping off.

    callbacks : list, 'disable' or None, default=None
        skorch callbacks. Those that score training rows are given predictions for the
        clean rows, never for mixed ones.

    iterator_train : type, default=DataLoader
        Serves the training batches. With the default, whole arrays stay on the device and
        a `Dataset` is read through a data loader, both in the order of the epoch's plan;
        another class keeps its own order, and partners come from its batches.
        ``iterator_train__shuffle=False`` keeps the rows in order.

    iterator_valid : type, default=DataLoader
        Serves the batches of validation and prediction.

    dataset : type, default=Dataset
        What wraps arrays for the iterators; skorch's, unless you need another.

    predict_nonlinearity : callable, 'auto' or None, default='auto'
        Link from the module's output to predictions; 'auto' is the sigmoid for ``BCEWithLogitsLoss``, the
        exponential for ``PoissonNLLLoss``, which is given logarithms, and none for other losses.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit instead of starting anew.

    verbose : int, default=0
        1 prints a line for each epoch.

    device : str, default='cpu'
        Where the module and the data live: 'cpu', 'cuda', 'mps', ...

    compile : bool, default=False
        Whether to compile the module with ``torch.compile``; options are
        ``compile__<name>``.

    autocast : {None, 'bfloat16', 'float16'}, default=None
        Mixed precision of the forward pass; 'float16' scales the loss against underflow.

    storage : {'auto', 'device', 'host'}, default='auto'
        Where the training rows are kept. 'device' keeps them on the device; 'host' leaves
        them where they are, in memory or in a memory-mapped file, and sends them batch by
        batch. 'auto' keeps on the device what fits into half of its free memory and is
        not memory-mapped.

    channels_last : bool, default=False
        Whether images (inputs of 4 axes) and the module's weights are laid out with the
        channels last, with which convolutions are often faster.

    cuda_graph : bool, default=False
        Whether training steps are recorded as a CUDA graph, up to 32 as one, and replayed,
        which spares a small net most of its launches. The recording is kept with the net, and made anew
        where shapes, options or the module change; the learning rate may change between
        epochs. Needs a CUDA device, arrays as training data, a module without host-device
        synchronisation that leaves its attributes alone, and SGD or an optimizer with the
        option ``capturable``, such as AdamW.

    use_caching : bool or 'auto', default='auto'
        skorch's switch for scoring callbacks: whether they reuse predictions.

    torch_load_kwargs : dict, default=None
        Options of ``torch.load`` for :meth:`load_params`.

    random_state : int, RandomState, Generator or None, default=None
        Seeds parameter initialisation, shuffling, partner and λ sampling, the validation
        split and dropout. None takes fresh entropy each fit. The global
        generators of numpy and torch are left as they were.

    **kwargs : dict
        Options of components, such as ``module__hidden_layer_sizes``,
        ``optimizer__weight_decay`` or ``callbacks__<name>__<option>``.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen in fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    n_iter_ : int
        Number of epochs that were run.

    loss_curve_ : list of float
        Training loss of each epoch; on mixed rows, where rows were mixed.

    history_ : skorch.history.History
        All that was recorded, epoch by epoch and batch by batch.

    module_ : torch.nn.Module
        The trained network. Where targets were standardised, predictions are its outputs times
        `target_std_` plus `target_mean_`.

    target_mean_, target_std_ : ndarray of shape (n_outputs,)
        Weighted mean and standard deviation of `y` in each ``fit`` (with ``warm_start``, the first) or in
        the first ``partial_fit``; only where targets were standardised.

    See Also
    --------
    MixupClassifier : The same for labels.
    sklearn.compose.TransformedTargetRegressor : Transforms the targets otherwise, as by a logarithm.

    Notes
    -----
    By default a tenth of the rows, rounded up, is held out to tell when to stop, if these are 10 or more.
    With ``early_stopping=False`` the net is trained on all rows, for `max_epochs` epochs.

    Losses of standardised targets are those of `y`: of several columns, the mean of their squared
    errors, each in its own unit, while the network is trained on columns that count alike.

    Targets of shape (n_samples, 1) are taken for a vector, with scikit-learn's usual
    warning; predictions and targets are never broadcast against each other.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sk_mixup import MixupRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> net = MixupRegressor(max_epochs=20, lr=1e-2, random_state=0).fit(X, y)
    >>> bool(net.score(X, y) > 0.4)
    True
    """

    kinds: ClassVar[tuple[type[Targets], ...]] = (StandardizedValues, ValuesOfOneUnit, RealValues)
    _targets: Targets = RealValues()

    def __init__(
        self,
        module: type[nn.Module] | nn.Module = MLP,
        *,
        alpha: float = 0.2,
        lam_per: LamPer = "example",
        n_mixed: int = 2,
        partners: PartnersName | Partners = "batch",
        vicinity: Vicinity | None = None,
        warmup_epochs: int = 0,
        cooldown_epochs: int = 0,
        augment: Callable[[Tensor], Tensor] | None = None,
        early_stopping: Stopping = "auto",
        n_iter_no_change: int = 20,
        validation_fraction: float = 0.1,
        lr: float = 1e-3,
        max_epochs: int = 200,
        epochs_per_partial_fit: int | None = None,
        batch_size: int = 32,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        criterion: Literal["auto"] | Callable[..., nn.Module] = nn.MSELoss,
        standardize_targets: bool = True,
        train_split: Literal["auto"] | Callable[..., object] | None = "auto",
        callbacks: Literal["disable"] | list[Callback] | list[tuple[str, Callback]] | None = None,
        iterator_train: object = DataLoader,
        iterator_valid: object = DataLoader,
        dataset: object = Dataset,
        predict_nonlinearity: Literal["auto"] | Callable[[Tensor], Tensor] | None = "auto",
        warm_start: bool = False,
        verbose: int = 0,
        device: str = "cpu",
        compile: bool = False,
        autocast: Literal["bfloat16", "float16"] | None = None,
        storage: Literal["auto", "device", "host"] = "auto",
        channels_last: bool = False,
        cuda_graph: bool = False,
        use_caching: bool | Literal["auto"] = "auto",
        torch_load_kwargs: dict[str, object] | None = None,
        random_state: object = None,
        **kwargs: object,
    ) -> None:
        store_options(self, locals())

    def _list_kinds(self) -> tuple[type[Targets], ...]:
        """Return the kinds of targets that are taken; the first is learned, others may stand in a file."""
        kinds: tuple[type[Targets], ...] = super()._list_kinds()
        wanted: type[Targets] | None = None
        if self.standardize_targets and not self.is_overridden("get_loss"):
            wanted = find_standardized_kind(find_maker(self.criterion)[0])
        last = {StandardizedValues, ValuesOfOneUnit} - {wanted}
        return tuple(sorted(kinds, key=lambda kind: kind in last))

    def _take_targets(self, targets: Targets) -> None:
        is_news = targets is not self._targets
        if not is_news:
            self._check_same_scale()
        super()._take_targets(targets)
        if is_news and self.initialized_ and isinstance(targets, ValuesOfOneUnit):
            self.initialize_criterion()  # it was built before the spread of y was known

    def _check_same_scale(self) -> None:
        """Raise where the net goes on with targets on a scale that its criterion does not take."""
        wanted = next(kind for kind in self._list_kinds() if issubclass(kind, RealValues))
        if isinstance(self._targets, StandardizedValues) and wanted is not type(self._targets):
            raise ValueError(
                "criterion and standardize_targets must scale targets as in the fit that goes on; got "
                f"{self.criterion!r} and {self.standardize_targets!r}. Call fit with warm_start=False."
            )

    def get_params_for(self, prefix: str) -> dict[str, object]:
        """Return the options of a component; a constant of the criterion is in the unit of the codes."""
        params: dict[str, object] = super().get_params_for(prefix)
        if prefix != "criterion" or not isinstance(self._targets, ValuesOfOneUnit):
            return params
        return self._targets.scale_constant(find_maker(self.criterion)[0], params)

    def partial_fit(  # type: ignore[override]  # scikit-learn's third argument, where skorch has `classes`
        self,
        X: object,
        y: object = None,
        sample_weight: object = None,
        *,
        classes: None = None,
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
        classes : None
            For classifiers only; skorch's nets all have it.

        Returns
        -------
        self : object
            The fitted estimator.
        """
        return self._go_on(X, y, None, sample_weight, {"classes": classes, **fit_params})

    def predict(self, X: object) -> np.ndarray:
        """Predict the targets of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of the shape that `y` had in fit. Of dtype float32 for `X` of that dtype, unless it
            could not tell targets apart, as of 1.6e9 seconds; else float64.
        """
        self._check_ready()
        values = self._targets.choose(self._read_outputs(X, self._get_predict_nonlinearity()))
        dtype = np.float32 if str(getattr(X, "dtype", "")).endswith("float32") else np.float64
        return in_namespace_of(X, self._targets.present(values, dtype))

    @property
    def target_mean_(self) -> np.ndarray:
        """Mean of each column of the targets that were standardised."""
        return self._get_standardized().scale[0]

    @property
    def target_std_(self) -> np.ndarray:
        """Standard deviation of each column of the targets that were standardised; 1 for a constant."""
        return self._get_standardized().scale[1]

    def _get_standardized(self) -> StandardizedValues:
        if not isinstance(self._targets, StandardizedValues):
            raise AttributeError(
                f"{type(self).__name__} has no mean and spread of targets: none are standardised."
            )
        return self._targets

    @property
    def predict_proba(self) -> NoReturn:
        """Not for regressors, though skorch's nets have it."""
        raise AttributeError(f"{type(self).__name__} has no predict_proba; use predict.")

    @property
    def predict_log_proba(self) -> NoReturn:
        """Not for regressors."""
        raise AttributeError(f"{type(self).__name__} has no predict_log_proba; use predict.")

    def __sklearn_tags__(self) -> Tags:
        """Return the estimator tags."""
        tags: Tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        tags.target_tags.single_output = True
        return tags
