"""The classifier."""

from __future__ import annotations

from collections.abc import Callable, Sequence
import sys
from typing import ClassVar, Literal

from sklearn.utils import Tags
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback
from skorch.dataset import Dataset
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from sk_mixup._validation import check_real
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._holdout import Stopping
from sk_mixup.estimators._indicators import Indicators
from sk_mixup.estimators._options import check_smoothing, store_options
from sk_mixup.estimators._pixel_labels import PixelLabels
from sk_mixup.estimators._row_labels import Labels
from sk_mixup.estimators._soft_labels import SoftLabels
from sk_mixup.estimators._targets import ClassWeight, Targets
from sk_mixup.mixing import Partners, Vicinity
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.mixing.partners import PartnersName
from sk_mixup.modules import MLP

__all__ = ["MixupClassifier"]


class MixupClassifier(MixupEstimator, NeuralNetClassifier):
    """Neural-network classifier trained on convex combinations of examples.

    Each training step draws partners for the examples of a mini-batch and weights
    λ ~ Beta(alpha, alpha), and lowers the cross-entropy of the mixed inputs against the
    mixed labels: mixup [1]_, or another vicinity of the examples. Binary, multiclass and
    multilabel targets and semantic segmentation, tables, arrays of any rank, sparse rows and
    torch data sets are supported. It is also a :class:`skorch.NeuralNetClassifier`, with all its
    options.

    Parameters
    ----------
    module : type of torch.nn.Module or instance, default=MLP
        Network from (n_samples, *features) to logits (n_samples, n_classes), or (n_samples,
        n_members, n_classes) for an implicit ensemble, whose members' losses and predictions are
        averaged; by default with two hidden layers of 128 units. Arguments named ``in_features`` and
        ``out_features`` are filled in from the data; others are ``module__<name>``. A fit copies an
        instance, so that every fit starts from the same weights; ``initialize`` takes the instance itself.

    alpha : float, default=0.2
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha). 0 is plain training
        (empirical risk minimisation) exactly, 1 draws λ uniformly, inf is the plain
        average. On 50, 200 and 1,000 rows of 14, 12 and 7 public tables the mean test NLL with 0 was
        higher by 14 % (clearly), 2 and 2 % than with 0.2; with 0.1, 0.4 and 1 by -2 to +2 %, never clearly
        (``python -m benchmarks defaults``; by share of wrong labels: ``tabular-alpha``).

    lam_per : {'example', 'batch'}, default='example'
        Whether each example of a mini-batch draws its own λ, or all share one as in the
        authors' experiments. The latter raised the mean test NLL by 2 % (clearly) on 50 rows of 14
        public tables, and lowered it by 2 % on 200 of 12, not clearly (``python -m benchmarks defaults``).

    n_mixed : int, default=2
        How many examples go into a virtual example, at least 2; their weights follow
        Dirichlet(alpha, ..., alpha). Section 2 of [1]_ found no gain from 3.

    partners : {'batch', 'dataset', 'same_class', 'neighbors'} or policy, default='batch'
        Where the other examples come from: a permutation of the same mini-batch (the
        choice of [1]_), of the whole training set ("two data loaders" in section 2), or of
        the rows with the same label; one of the nearest rows (both in the ablation of
        section 3.8). A policy of :mod:`sk_mixup.mixing`, such as ``NeighborPartners(10)``,
        brings options of its own.

    vicinity : Vicinity, default=None
        A policy of :mod:`sk_mixup.mixing` that takes the place of mixup with the four
        options above, which are then not used: ``GaussianNoise(0.1)``,
        ``CutMix()``, ``ManifoldMixup()``, ``Mixture((Mixup(0.8), CutMix()))``, ...

    warmup_epochs : int, default=0
        Epochs of plain training before mixing begins (section 3.3 of [1]_ uses 5 on
        speech); counted from initialization, within `max_epochs`.

    cooldown_epochs : int, default=0
        Epochs of plain training at the end: the last of `max_epochs`. After early
        stopping they are run too, from the best weights.

    label_smoothing : float, default=0.0
        Share of each label that is spread over all classes, in [0, 1] (Szegedy et al.
        2016). 0.05 lowered the mean test NLL by 8 % on 50 rows of 14 public tables and by
        2 % on 200 of 12, neither clearly (``python -m benchmarks defaults``).

    confidence_penalty : float, default=0.0
        Weight of the entropy bonus, in nats, subtracted from the cross-entropy, at least 0
        (Pereyra et al. 2017, who take 0.1 on CIFAR-10 and 1 on MNIST). 0.1 lowered the test
        NLL of plain training by 3.5 % on eight tables, with no difference in error
        (``python -m benchmarks ablation``).

    class_weight : dict, 'balanced' or None, default=None
        Weight of each class, as in scikit-learn; multiplies `sample_weight`. For one label
        per row.

    augment : callable, default=None
        Called with the inputs of each training batch, a tensor on the device, before they
        are mixed; returns as many rows. It is called once for each batch, so a random transform of
        torchvision draws once for all images in it; ``sk_mixup.augmentation.per_image(transform)`` draws
        for each image, and ``sk_mixup.augmentation.crop_and_flip()`` does so fast.

    early_stopping : 'auto' or bool, default='auto'
        Whether to hold out `validation_fraction` of the rows, unmixed, and to stop when
        the loss on them has not improved for `n_iter_no_change` epochs; the weights of
        the best epoch are kept. 'auto' does so if that holds out 10 rows or more. Of fewer rows
        it holds out none, and trains for at most 50 mixed epochs. On 200 rows of 12
        public tables, 50, 100 and 200 epochs on all rows had a mean test NLL higher by 3 % (not clearly),
        14 and 23 %; on 50 rows of 14, 50 epochs were as good as early stopping, 100 worse by 12 %, and 200
        by 26 % (not clearly; ``python -m benchmarks defaults``).

    n_iter_no_change : int, default=20
        Patience of early stopping, in epochs.

    validation_fraction : float, default=0.1
        Share of the rows to hold out, in (0, 1), stratified where every class has
        enough rows; used where ``train_split='auto'``.

    calibrate : bool, default=True
        Whether predictions divide the logits by a temperature. It is fitted to the rows that early
        stopping holds out, as in [2]_, under a prior: its logarithm is normal with mean 0 and standard
        deviation 0.3. On 200 rows of 12 public tables the mean test NLL without it was lower by 1 % (95 %
        interval -4 to +2; ``python -m benchmarks defaults``). Where labels are wrong it is fitted to wrong
        ones too, and the probabilities of the true labels get worse. It is 1 where ``fit`` holds out no
        rows, and for a label per pixel or step; ``partial_fit``, which holds out none, leaves that of an
        earlier ``fit``. ``module_`` returns logits as they were trained.

    lr : float, default=0.001
        Learning rate of the optimizer.

    max_epochs : int, default=200
        Number of epochs, or the largest number with early stopping. Where `early_stopping='auto'` holds
        out no rows, at most 50 epochs are mixed. Without early stopping, 50 were better than 100 or
        200 on public tables of 50 and 200 rows.

    epochs_per_partial_fit : int, default=None
        Epochs of one call of ``partial_fit``; None for `max_epochs`, as in skorch. With a number,
        such as scikit-learn's 1, calls are parts of one training of `max_epochs` epochs: warm-up,
        cool-down and skorch's ``LRScheduler`` go on from call to call.

    batch_size : int, default=32
        Rows in a mini-batch; -1 for all rows. A last batch of one row joins the one
        before. On 50 rows of 14 public tables 16 had a clearly higher test NLL, by 5 %; 64, and both
        on 200 rows, had no clearly different one (``python -m benchmarks defaults``).

    optimizer : type of torch.optim.Optimizer, default=Adam
        The optimizer; Adam and AdamW are run by their fused kernels. Options are
        ``optimizer__<name>``.

    criterion : {'auto'} or type of torch.nn.Module, default='auto'
        Loss of the logits. 'auto' is cross-entropy, or binary cross-entropy for
        multilabel targets; ``torch.nn.BCEWithLogitsLoss`` takes one logit for two
        classes; ``torch.nn.NLLLoss`` takes probabilities, as in skorch.

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

    classes : sequence, default=None
        All labels, where the training rows may lack some. A `Dataset` is then not read for its
        labels beforehand; where they are strings, it may yield their positions here. Of several labels
        per row, and of soft labels, the name of each column of `y`, in that order.

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
        Link from the module's output, in double precision, to probabilities; 'auto' follows the
        criterion. For a criterion of your own it is the softmax or, for several labels, the sigmoid.

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
    classes_ : ndarray of shape (n_classes,)
        Labels seen in fit, sorted, or the names of the columns of `y`, in their order; column j of
        ``predict_proba`` is ``classes_[j]``.

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
        The trained network.

    temperature_ : float
        What logits are divided by for predictions.

    See Also
    --------
    MixupRegressor : The same for real-valued targets.
    MixupNetMixin : The mixed training step for a skorch net of your own.

    Notes
    -----
    By default a tenth of the rows, rounded up, is held out to tell when to stop, if these are 10 or more.
    With ``early_stopping=False`` the net is trained on all rows, for `max_epochs` epochs.

    The loss on mixed rows is larger than on clean ones: compare held-out losses only.

    Each epoch's plan (order, partners, weights) is drawn at once from one numpy generator,
    the order first. So nets that differ only in how they mix see the rows in the same order.

    The loss of a batch is ``sum_i w_i sum_k lam_ki l_ki / sum_i w_i``: the weight w_i of a
    virtual example is the product of the weights (sample times class) of the examples that
    go into it. So a weight of 2 equals a repeated row on average, with mixing too, but not to the
    last digit, because the batches are drawn at random. Held-out rows count by their weights in
    `valid_loss` and `valid_acc`, whatever the batch size. With ``criterion__reduction='sum'``
    nothing is divided, and `valid_loss` is the sum over the held-out rows. ``criterion__weight``
    weighs targets instead of rows, as torch does: the loss towards each class of a virtual example
    counts λ times the weight of that class, in the sum and in what it is divided by.

    Floats `y` of shape (n_samples, n_classes) are soft labels where each row sums to 1 and not all are 0 or
    1; rows of zeros and ones only are several labels per row. Their cross-entropy is trained on, column j is
    ``classes_[j]``, which is j where `classes` does not name it, and scores are those of the most
    probable class.

    Targets of semantic segmentation are an integer array `y` of shape (n_samples, *sizes), for a module that
    returns logits of shape (n_samples, n_classes, *sizes). The losses towards both label maps
    are mixed, and divided by what the pixels count in torch's mean: λ by the weight of the row and
    by ``criterion__weight`` of the class. Pixels of the label ``criterion__ignore_index`` (-100, if
    it is not set) are ignored, in `score` too. Masks of shape (n_samples, 1, height, width) are
    taken, and predictions have that shape too. Integers of shape (n_samples, n_steps) that take more
    than two values are a label per step, for logits of shape (n_samples, n_classes, n_steps); for two
    classes, give y the shape (n_samples, 1, n_steps).

    Integers in `X` become floats, unless the module takes integers only, as an embedding does.

    A table is predicted in padded blocks, so that the prediction of a row does not
    depend on the rows beside it. Where a layer of fewer than 16 outputs has a number of inputs that is
    no multiple of 4, its place in the table changes it by up to 1e-7.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    .. [2] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural Networks",
       ICML 2017, https://arxiv.org/abs/1706.04599

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_mixup import MixupClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> model = make_pipeline(StandardScaler(), MixupClassifier(alpha=0.4, random_state=0)).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    kinds: ClassVar[tuple[type[Targets], ...]] = (PixelLabels, SoftLabels, Indicators, Labels)
    _targets: Targets = Labels()

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
        label_smoothing: float = 0.0,
        confidence_penalty: float = 0.0,
        class_weight: ClassWeight = None,
        augment: Callable[[Tensor], Tensor] | None = None,
        early_stopping: Stopping = "auto",
        n_iter_no_change: int = 20,
        validation_fraction: float = 0.1,
        calibrate: bool = True,
        lr: float = 1e-3,
        max_epochs: int = 200,
        epochs_per_partial_fit: int | None = None,
        batch_size: int = 32,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        criterion: Literal["auto"] | Callable[..., nn.Module] = "auto",
        train_split: Literal["auto"] | Callable[..., object] | None = "auto",
        callbacks: Literal["disable"] | list[Callback] | list[tuple[str, Callback]] | None = None,
        classes: Sequence[object] | None = None,
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

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        super().check_options()
        check_smoothing(self.label_smoothing)
        hint = "Use 0 for none, 0.1 as a first try."
        check_real("confidence_penalty", self.confidence_penalty, low=0.0, high=sys.float_info.max, hint=hint)

    @property
    def temperature_(self) -> float:
        """What logits are divided by for predictions."""
        return self._targets.temperature

    def __sklearn_tags__(self) -> Tags:
        """Return the estimator tags."""
        tags: Tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags
