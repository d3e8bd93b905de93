"""The semi-supervised classifier."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, Literal, Self

import numpy as np
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset as SkorchDataset
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sk_mixup._data.batches import Batch
from sk_mixup._data.joint_batches import JointBatch, JointBatches
from sk_mixup._skorch.default_callbacks import is_early_stopping
from sk_mixup._training.consistency_losses import guess_targets, semi_supervised_loss
from sk_mixup.estimators._advice import warn_labels
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._holdout import Stopping
from sk_mixup.estimators._inputs import take_rows
from sk_mixup.estimators._options import store_options
from sk_mixup.estimators._outputs import check_is_tensor
from sk_mixup.estimators._partial_labels import (
    UNLABELED,
    PartialLabels,
    PartlyLabeledRows,
    check_is_array,
    check_labeled_parts,
)
from sk_mixup.estimators._semi_supervised_epoch import draw_epoch
from sk_mixup.estimators._semi_supervised_options import check_semi_supervised_options, refuse_options
from sk_mixup.estimators._semi_supervised_step import (
    AveragedWeights,
    Method,
    build_virtual_examples,
    check_logits,
    choose_method,
)
from sk_mixup.estimators._targets import ClassWeight, Targets
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.modules import MLP

__all__ = ["SemiSupervisedMixupClassifier"]


class SemiSupervisedMixupClassifier(MixupEstimator, NeuralNetClassifier):
    """Neural-network classifier that learns from unlabelled rows too, by mixing them.

    Rows whose label is -1 are unlabelled, as in scikit-learn. Each step guesses targets for a
    mini-batch of them, mixes rows and targets, and lowers

        ``cross_entropy(mixed labelled rows) + w(t) mean |softmax(f(x)) - q|^2 / n_classes``,

    where x and q are the mixed unlabelled rows and their mixed guesses: interpolation
    consistency training (ICT) [1]_, or MixMatch [2]_, whose equation (4) the second loss is.

    Parameters
    ----------
    module : type of torch.nn.Module or instance, default=MLP
        Network from (n_samples, *features) to logits (n_samples, n_classes); see
        :class:`MixupClassifier`.

    method : {'ict', 'mixmatch'}, default='mixmatch'
        'ict' mixes unlabelled rows with each other, and guesses with the averaged weights, by
        which it also predicts (section 2 of [1]_). 'mixmatch' mixes labelled and unlabelled rows
        with each other, with λ folded to max(λ, 1 - λ), and guesses with the current weights;
        guesses are averaged over views and sharpened (algorithm 1 of [2]_). 'mixmatch' had the lower
        test error in 7 of the 8 cases in the notes.

    alpha : float, default=0.75
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha); 0 mixes nothing. 0.75 is that
        of section 4 of [2]_; the authors' runs of [1]_ use 1 on CIFAR-10, 0.1 on SVHN.

    unlabeled_weight : float, default=10.0
        Largest weight w of the unlabelled loss, at least 0. Both papers use more on images: [1]_
        up to 100, [2]_ 75 on CIFAR-10. On digits 30 was better than 10, on iris worse.

    rampup_epochs : int or None, default=None
        Epochs in which w(t) rises to its largest value, counted from initialization: by
        ``exp(-5 (1 - t)^2)`` for 'ict', in a line for 'mixmatch', as in the papers. None is
        half of `max_epochs`, where the authors' runs of [1]_ take a quarter of theirs and [2]_ 1/64. With
        0, the full weight from the start, the mean test error was higher in 13 of 16 comparisons (8 cases
        in the notes, two methods), lower in one.

    ema_decay : float, default=0.99
        Decay of the average of the weights over the steps, in [0, 1); 0 predicts with the
        last weights. Both papers use 0.999, in some hundred times as many steps. The first
        steps are averaged uniformly.

    temperature : float or None, default=None
        T of the sharpening of guesses, ``p^(1/T)`` normalised to sum to 1; above 0. 1 leaves them
        as they are. None is 0.5 for 'mixmatch', as in section 4 of [2]_, and 1 for 'ict', which
        sharpens nothing.

    n_augmentations : int or None, default=None
        Views of each unlabelled row in a step, whose guesses are averaged, at least 1. None
        is 2 for 'mixmatch', as in section 4 of [2]_, and 1 for 'ict'.

    noise_std : float, default=0.3
        Standard deviation of the Gaussian noise that makes a view of a row, labelled or not, in
        the units of the features as they are given: meant for standardised ones. Not used
        where `augment` is given.

    lam_per : {'example', 'batch'}, default='example'
        Whether each row draws its own λ or all of a step share one.

    label_smoothing : float, default=0.0
        Share of each mixed target of a labelled row that is spread over all classes, in [0, 1].

    class_weight : dict, 'balanced' or None, default=None
        Weight of each class among the labelled rows; multiplies `sample_weight`.

    augment : callable, default=None
        Makes a view: called with the inputs of a step, labelled rows first, a tensor on the
        device; returns as many rows. For images use flips and shifts, such as
        ``sk_mixup.augmentation.crop_and_flip()``. A random transform of torchvision draws once for all
        images, and ``sk_mixup.augmentation.per_image(transform)`` for each. None adds noise.

    early_stopping : 'auto' or bool, default=False
        Whether to hold out `validation_fraction` of the labelled rows and to stop by the loss
        on them; 'auto' as in :class:`MixupClassifier`, whose default it is. It is off here, because
        training on few labels helps more than holding them out.

    n_iter_no_change : int, default=20
        Patience of early stopping, in epochs.

    validation_fraction : float, default=0.1
        Share of the labelled rows to hold out, in (0, 1).

    calibrate : bool, default=True
        Whether predictions divide the logits by a temperature, which is fitted to the rows that
        early stopping holds out; see :class:`MixupClassifier`.

    lr : float, default=0.001
        Learning rate of the optimizer.

    max_epochs : int, default=100
        Number of epochs. An epoch is a pass over the unlabelled rows, or over the labelled
        ones if that takes more steps; the others are shuffled and begun anew as often as needed.

    epochs_per_partial_fit : int, default=None
        Epochs of one call of ``partial_fit``; None for `max_epochs`, as in skorch. With a number,
        such as scikit-learn's 1, calls are parts of one training of `max_epochs` epochs: the
        ramp-up and skorch's ``LRScheduler`` go on from call to call.

    batch_size : int, default=32
        Labelled rows in a step, at most all; -1 for all.

    unlabeled_batch_size : int, default=64
        Unlabelled rows in a step, at most all; -1 for all.

    optimizer : type of torch.optim.Optimizer, default=Adam
        The optimizer; options are ``optimizer__<name>``.

    train_split : {'auto', None} or callable, default='auto'
        What is held out of the labelled rows; see :class:`MixupClassifier`.

    callbacks : list, 'disable' or None, default=None
        skorch callbacks. As training set they are shown the labelled rows.

    classes : sequence, default=None
        All labels, where the labelled rows may lack some; without -1.

    iterator_valid : type, default=DataLoader
        Serves the batches of validation and prediction.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit instead of starting anew.

    verbose : int, default=0
        1 prints a line for each epoch.

    device : str, default='cpu'
        Where the module and the data live: 'cpu', 'cuda', 'mps', ...

    compile : bool, default=False
        Whether to compile the module with ``torch.compile``.

    autocast : {None, 'bfloat16', 'float16'}, default=None
        Mixed precision of the forward passes.

    storage : {'auto', 'device', 'host'}, default='auto'
        Where the training rows are kept; see :class:`MixupClassifier`.

    channels_last : bool, default=False
        Whether images and weights are laid out with the channels last.

    use_caching : bool or 'auto', default='auto'
        skorch's switch for scoring callbacks.

    torch_load_kwargs : dict, default=None
        Options of ``torch.load`` for :meth:`load_params`.

    random_state : int, RandomState, Generator or None, default=None
        Seeds parameter initialisation, shuffling, partner, λ and noise sampling, the validation
        split and dropout. The global generators of numpy and torch are left as they were.

    **kwargs : dict
        Options of components, such as ``module__hidden_layer_sizes``.

    Attributes
    ----------
    classes_ : ndarray of shape (n_classes,)
        Labels seen in fit, sorted, without -1; column j of ``predict_proba`` is
        ``classes_[j]``.

    transduction_ : ndarray of shape (n_samples,)
        Labels predicted for the rows of the last ``fit``, labelled ones too, as in
        :class:`sklearn.semi_supervised.LabelSpreading`.

    n_features_in_, feature_names_in_, n_iter_, loss_curve_, history_, temperature_, module_
        As in :class:`MixupClassifier`; ``module_`` holds the averaged weights.

    See Also
    --------
    MixupClassifier : Learns from labelled rows alone.
    sklearn.semi_supervised.SelfTrainingClassifier : Labels rows that a classifier is sure of.
    sklearn.semi_supervised.LabelSpreading : Spreads labels along a graph of near rows.

    Notes
    -----
    The average of the weights predicts, is validated, saved and pickled, as in section 4 of
    [2]_, and as the authors' code of [1]_ does; its floating buffers, such as the running
    statistics of batch normalisation, are averaged too. A pickle also holds the weights in training,
    so that training goes on from it as if nothing had happened; after :meth:`load_params`, and after early
    stopping, training goes on from the averaged ones.

    Beyond [1]_, 'ict' mixes labelled rows with each other too, as the authors' own runs do. Those mix the
    logits of guesses, and this the probabilities; over 6 seeds of digits, wine and iris logits changed the
    test error by at most 0.4 points and never for the better beyond the noise. They guess for labelled rows
    too; here that is done only where no row is marked -1.
    Guesses are made in eval mode, without dropout and with running statistics. Labelled and
    unlabelled rows go through the module as one batch.

    The weight of a virtual example is the product of the weights of the rows in it; each of the
    two losses is divided by the sum of its weights.

    :meth:`score` leaves out rows whose label is -1, so that a search may be given the y of
    ``fit``. Give a ``scoring`` of your own labelled rows only.

    Guesses are not facts: where classes overlap, or the labelled rows are few and badly placed,
    unlabelled rows do harm. With the defaults and the labelled rows of 8 cases (digits with 4 and
    25 labels a class, wine with 4 and 10, iris with 4, breast cancer with 10 and 25, a made-up
    problem of four classes with 10; standardised; means over 8 splits of 80 % for training),
    'mixmatch' had a lower test error than 100 epochs of plain training on the labelled rows in 7,
    and on iris three times as high a one; 'ict' a lower one in 3, all on digits and wine, and a
    worse likelihood in 6. The defaults were chosen on these splits. Compare on your own
    data; ``python -m benchmarks semi`` does so on others.

    In a step of 32 labelled and 64 unlabelled rows 'mixmatch' trains on 160 rows and guesses for
    128, 'ict' trains on 96 and guesses for 64.

    Torch data sets are refused. Under :func:`sk_mixup.stacked` the net is trained alone.

    References
    ----------
    .. [1] V. Verma, K. Kawaguchi, A. Lamb, J. Kannala, A. Solin, Y. Bengio and D. Lopez-Paz,
       "Interpolation Consistency Training for Semi-Supervised Learning", IJCAI 2019,
       https://arxiv.org/abs/1903.03825
    .. [2] D. Berthelot, N. Carlini, I. Goodfellow, N. Papernot, A. Oliver and C. Raffel,
       "MixMatch: A Holistic Approach to Semi-Supervised Learning", NeurIPS 2019,
       https://arxiv.org/abs/1905.02249

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_mixup import SemiSupervisedMixupClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X = StandardScaler().fit_transform(X)
    >>> partly = np.where(np.arange(150) % 10 == 0, y, -1)
    >>> net = SemiSupervisedMixupClassifier(max_epochs=20, random_state=0).fit(X, partly)
    >>> net.classes_
    array([0, 1, 2])
    >>> bool(np.mean(net.transduction_ == y) > 0.8)
    True
    """

    kinds: ClassVar[tuple[type[Targets], ...]] = (PartialLabels,)
    _targets: Targets = PartialLabels()
    _weights: AveragedWeights | None = None

    # What skorch and the mixed step ask for that is no option here.
    n_mixed = 2
    partners = "batch"
    vicinity = None
    warmup_epochs = 0
    cooldown_epochs = 0
    criterion = "auto"
    predict_nonlinearity = "auto"
    iterator_train = DataLoader
    dataset = SkorchDataset
    cuda_graph = False

    def __init__(
        self,
        module: type[nn.Module] | nn.Module = MLP,
        *,
        method: Literal["mixmatch", "ict"] = "mixmatch",
        alpha: float = 0.75,
        unlabeled_weight: float = 10.0,
        rampup_epochs: int | None = None,
        ema_decay: float = 0.99,
        temperature: float | None = None,
        n_augmentations: int | None = None,
        noise_std: float = 0.3,
        lam_per: LamPer = "example",
        label_smoothing: float = 0.0,
        class_weight: ClassWeight = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        early_stopping: Stopping = False,
        n_iter_no_change: int = 20,
        validation_fraction: float = 0.1,
        calibrate: bool = True,
        lr: float = 1e-3,
        max_epochs: int = 100,
        epochs_per_partial_fit: int | None = None,
        batch_size: int = 32,
        unlabeled_batch_size: int = 64,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        train_split: Literal["auto"] | Callable[..., object] | None = "auto",
        callbacks: Literal["disable"] | list[Callback] | list[tuple[str, Callback]] | None = None,
        classes: Sequence[object] | None = None,
        iterator_valid: object = DataLoader,
        warm_start: bool = False,
        verbose: int = 0,
        device: str = "cpu",
        compile: bool = False,
        autocast: Literal["bfloat16", "float16"] | None = None,
        storage: Literal["auto", "device", "host"] = "auto",
        channels_last: bool = False,
        use_caching: bool | Literal["auto"] = "auto",
        torch_load_kwargs: dict[str, object] | None = None,
        random_state: object = None,
        **kwargs: object,
    ) -> None:
        store_options(self, locals())

    def _check_names(self) -> None:
        refuse_options(type(self), {name: getattr(self, name) for name in self._params_to_validate})
        super()._check_names()

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        super().check_options()
        check_semi_supervised_options(self)

    def _mixes_inputs(self) -> bool:
        """Return True: both methods mix or change inputs."""
        return True

    @property
    def temperature_(self) -> float:
        """What logits are divided by for predictions."""
        return self._targets.temperature

    @property
    def _method(self) -> Method:
        """The method, with the options that were given."""
        return choose_method(self.method, self.temperature, self.n_augmentations)

    def _check_training_data(
        self, X: object, y: object, sample_weight: object, **options: Any
    ) -> tuple[Any, Any, np.ndarray | None]:
        check_is_array(X, type(self))
        return super()._check_training_data(X, y, sample_weight, **options)

    def _advise(self, given: object, X: object, codes: object, weight: np.ndarray | None) -> None:
        super()._advise(given, X, codes, weight)
        if self.classes is None:
            warn_labels(self.classes_, int(np.sum(np.asarray(codes) == UNLABELED)), type(self).__name__)

    def _split(self, dataset: Any, y: Any, params: Mapping[str, object]) -> tuple[Any, Any]:
        """Hold out labelled rows only; put the unlabelled ones beside the others."""
        labeled, unlabeled = np.flatnonzero(y != UNLABELED), np.flatnonzero(y == UNLABELED)
        params = take_rows(params, labeled, len(y))
        train, valid = super()._split(dataset.subset(labeled), y[labeled], params)
        train = check_labeled_parts(train, valid)
        beside = dataset.subset(unlabeled) if len(unlabeled) else train
        return PartlyLabeledRows.join(train, beside), valid

    def get_training_batches(self, dataset: PartlyLabeledRows, *_: object, **__: object) -> JointBatches:
        """Return the joint batches of one epoch; see :class:`MixupNetMixin`."""
        generator, n_done = self.generator_.spawn(1)[0], max(len(self.history) - 1, 0)
        return draw_epoch(self, self._method, dataset, generator, n_done=n_done, dtype=self.float_dtype)

    # -- averaged weights: outside of the steps of an epoch the module holds them, so that
    #    validation, callbacks, predictions and files all see them

    def initialize_module(self) -> Self:
        """Build the module; the average begins anew."""
        self._weights = None
        return super().initialize_module()

    def load_params(self, *args: Any, **kwargs: Any) -> None:
        """Load what ``save_params`` wrote: averaged weights, from which training goes on."""
        super().load_params(*args, **kwargs)
        self._weights = None

    def fit_loop(self, X: object, y: object = None, epochs: int | None = None, **params: Any) -> Self:
        """Run the epochs; see :class:`MixupNetMixin`."""
        super().fit_loop(X, y, epochs, **params)
        # What early stopping puts back, once this is done, is where a further fit begins.
        if any(
            is_early_stopping(name, each)
            and each.load_best
            and (name != "early_stopping" or self._stops_early or not self.early_stopping)
            for name, each in self.callbacks_
        ):
            self._weights = None
        return self

    def run_single_epoch(self, iterator: Any, training: bool, *args: Any, **kwargs: Any) -> None:
        """Run one pass, a training pass with the trained weights in the module."""
        if not training:
            super().run_single_epoch(iterator, training, *args, **kwargs)
            return
        self._weights = self._weights or AveragedWeights(self.module_)
        with self._weights.swapped(self.module_):
            super().run_single_epoch(iterator, training, *args, **kwargs)

    def choose_trainer(self, *_: object) -> str:
        """Return in words why there is no faster way than step by step."""
        return f"a step of {type(self).__name__} takes labelled and unlabelled rows"

    def train_step(self, batch: JointBatch, **fit_params: object) -> dict[str, Any]:
        """Do one optimisation step, and let the average follow."""
        step: dict[str, Any] = super().train_step(batch, **fit_params)
        assert self._weights is not None, "made before the first step"
        self._weights.update(self.module_, self.ema_decay)
        return step

    def train_step_single(self, batch: JointBatch, **fit_params: object) -> dict[str, Any]:
        """Guess, mix, compute the loss of one joint batch and the gradients."""
        n_labeled = len(batch[1])
        views = self._make_views(batch)
        # A copy, for a module may work in place, and the views are mixed afterwards.
        guesses = self.guess(views[n_labeled:].clone(), batch.n_views, **fit_params)
        x, target, weight = build_virtual_examples(batch, views, guesses, mixes_weights=self.alpha > 0)
        logits = self._infer_logits(x, training=True, **fit_params)
        loss = semi_supervised_loss(
            logits, target, n_labeled, batch.unlabeled_weight, weight, self.label_smoothing
        )
        self._descend_from(loss)
        return {"loss": loss, "y_pred": logits[:n_labeled]}

    def _make_views(self, batch: JointBatch) -> Tensor:
        x = batch.inputs if batch.noise is None else batch.inputs + batch.noise
        return x if self.augment is None else self._augment_batch(Batch(x, batch.place)).loaded

    def guess(self, x: Tensor, n_views: int, **fit_params: object) -> Tensor:
        """Return the guessed targets of unlabelled rows, which no gradient goes through.

        Parameters
        ----------
        x : Tensor of shape (n_views * n, *features)
            Views of the rows, one after the other.
        n_views : int
            Number of views.
        **fit_params : dict
            What the module's ``forward`` is given beside the inputs.

        Returns
        -------
        target : Tensor of shape (n, n_classes)
        """
        # As it predicts: no dropout, no running statistic moved.
        with torch.no_grad(), self._guessing_weights():
            logits = self._infer_logits(x, training=False, **fit_params)
        views = torch.softmax(logits, dim=1).view(n_views, -1, logits.shape[1])
        return guess_targets(views, self._method.temperature)

    def _guessing_weights(self) -> AbstractContextManager[None]:
        assert self._weights is not None, "made before the first step"
        return self._weights.swapped(self.module_) if self._method.averaged_guesses else nullcontext()

    def _infer_logits(self, x: Tensor, *, training: bool, **fit_params: object) -> Tensor:
        """Return the module's output in full precision, or raise if it is not one row of logits each."""
        self._set_training(training)
        with self._get_autocast():
            output = self.infer(x, **fit_params)
        check_is_tensor(output, self._bare_criterion)
        logits: Tensor = self._to_full_precision(check_logits(output))
        return logits

    def fit(self, X: object, y: object = None, sample_weight: object = None, **fit_params: object) -> Self:
        """Train on labelled and unlabelled rows.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features)
            Training examples. Arrays become float32 (the default dtype of torch); rows of a
            sparse matrix are made dense batch by batch.
        y : array-like of shape (n_samples,)
            Labels, with -1 for unlabelled rows; strings in an array of dtype object, with the
            number -1. Without any -1 all rows serve as unlabelled ones too.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0, also of unlabelled ones; within each of the two
            losses only ratios count. Rows of weight 0 are left out.
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
        super().fit(X, y, sample_weight, **fit_params)
        self.transduction_ = self.predict(X)
        return self
