"""The generative model: a GAN whose discriminator is shown mixtures of real and generated examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Self, SupportsIndex

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch.history import History
import torch
from torch import Tensor, nn

from sk_mixup._random import draw_seed, make_generator, seeded_torch
from sk_mixup._skorch.options import unchanged_on_error
from sk_mixup._tensors import to_host
from sk_mixup._validation import check_integer
from sk_mixup.estimators._advice import warn_input, warn_out_of_reach
from sk_mixup.estimators._gan_files import (
    ON_DEVICE,
    describe_learned,
    load_nets,
    pack,
    read_nets,
    save_nets,
    unpack,
)
from sk_mixup.estimators._gan_nets import build_parts, check_nets, evaluate, get_players, replace_optimizers
from sk_mixup.estimators._gan_options import (
    Callbacks,
    RandomState,
    check_gan_options,
    get_components,
    get_optimizer_options,
    list_extra_options,
)
from sk_mixup.estimators._gan_training import GanTraining, make_callbacks
from sk_mixup.estimators._inputs import get_input_dtype
from sk_mixup.estimators._options import store_options, suggest
from sk_mixup.estimators._persistence import File, check_kind, forget_learned, from_json, read_header
from sk_mixup.estimators._plain_state import (
    describe,
    is_whole,
    load_parts,
    reduce_whole,
    restore,
    takes_whole,
)
from sk_mixup.estimators._prediction import in_namespace_of
from sk_mixup.mixing.mixup import LamPer
from sk_mixup.modules import MLP
from sk_mixup.stacking._scheduler import rejoin_scheduler

__all__ = ["MixupGAN"]


class MixupGAN(BaseEstimator):
    """Generative adversarial network trained on mixtures of real and generated examples.

    A generator g turns noise z into examples, a discriminator d tells real ones from
    generated ones. Here it is shown mixtures of both and must tell the share of the real
    one, which smooths what the generator learns from (section 3.7 of [1]_)::

        max_g min_d  E ℓ(d(λx + (1-λ)g(z)), λ),   λ ~ Beta(alpha, alpha)

    with ℓ the binary cross-entropy.

    Parameters
    ----------
    generator : type of torch.nn.Module or instance, default=MLP
        Network from noise (n, noise_features) to examples, with as many numbers each as the
        rows of `X`. :class:`sk_mixup.modules.MLP` has the three hidden layers of 512 ReLU
        units of [1]_ here, unless ``generator__hidden_layer_sizes`` is given. Arguments named
        ``in_features`` and ``out_features`` are filled in from the data; others are
        ``generator__<name>``. An instance is copied, so that every fit starts from the
        same weights.

    discriminator : type of torch.nn.Module or instance, default=MLP
        Network from examples (n, *features) to one logit each; as `generator`.

    alpha : float, default=0.2
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha). 0 is the plain GAN: a batch of
        real and a batch of generated examples, by the same code. 0.2 is that of Figure 5
        in [1]_.

    lam_per : {'example', 'batch'}, default='example'
        Whether each pair of a mini-batch draws its own λ, or all share one.

    generator_loss : {'non-saturating', 'minimax'}, default='non-saturating'
        What the generator minimises. 'minimax' is the objective above, -ℓ(d(x̃), λ), which has
        no lower bound: on a ring of eight Gaussians the samples of most nets ran away from the
        data at learning rates of 0.001 and more, with mixing mostly farther than without
        (``python -m benchmarks gan``).
        'non-saturating' is ℓ(d(x̃), 1-λ), the discriminator's loss with targets swapped. For ``alpha=0``
        its gradient is half of that of section 3 in [2]_, as the mean is over real rows, too. To
        Adam that makes no difference, with SGD steps are half as long.

    noise_features : int, default=2
        Number of independent standard normal inputs of the generator, at least 1.

    discriminator_steps : int, default=5
        Steps of the discriminator before each step of the generator, at least 1.

    max_epochs : int, default=40
        Number of epochs of a fit, at least 0.

    epochs_per_partial_fit : int, default=None
        Epochs of one call of ``partial_fit``, at least 1; None for `max_epochs`.

    steps_per_epoch : int, default=100
        Generator steps in an epoch, at least 1; an epoch is a row of the history, not a pass over the data.

    batch_size : int, default=64
        Real examples in a mini-batch, each of which is mixed with a generated one both ways
        round: the discriminator sees twice as many rows. -1 for all rows; never more than
        there are.

    lr : float, default=0.001
        Learning rate of both optimizers. ``generator_optimizer__lr`` and
        ``discriminator_optimizer__lr`` set one of them.

    optimizer : type of torch.optim.Optimizer, default=Adam
        Class of both optimizers; Adam and AdamW are run by their fused kernels. Options are
        ``optimizer__<name>`` for both, ``generator_optimizer__<name>`` and
        ``discriminator_optimizer__<name>`` for one.

    callbacks : list, 'disable' or None, default=None
        :class:`sk_mixup.callbacks.Snapshots`, and callbacks of skorch that need nothing but the
        history, the options and their hooks: EarlyStopping with one of the losses as
        ``monitor``, GradientNormClipping, ProgressBar, your own. Hooks around a batch are called
        around each generator step, without a batch. Scoring, schedulers of the learning rate and
        checkpoints, which look for a single module or optimizer, are refused; ``set_params(lr=...)``
        in ``on_epoch_end`` changes the learning rate. 'disable' leaves out printing and times too.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit instead of starting anew.

    verbose : int, default=0
        1 prints a line for each epoch.

    device : str, default='cpu'
        Where nets and data live: 'cpu', 'cuda', 'mps', ...

    compile : bool, default=False
        Whether to compile both nets with ``torch.compile``; options are ``compile__<name>``.

    torch_load_kwargs : dict, default=None
        Options of ``torch.load`` for unpickling and :meth:`load_params`.

    random_state : int, RandomState, Generator or None, default=None
        Seeds parameter initialisation, shuffling, noise, λ and dropout. None takes fresh
        entropy each fit. The global generators of numpy and torch are left as they were.

    **kwargs : dict
        Options of components, such as ``generator__hidden_layer_sizes`` or
        ``optimizer__betas``.

    Attributes
    ----------
    n_features_in_ : int
        Number of features seen in fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    n_iter_ : int
        Number of generator steps that were done.

    history_ : skorch.history.History
        ``discriminator_loss`` and ``generator_loss``, epoch by epoch and, in its batches, step
        by step. Both are means over virtual examples, real and generated; the discriminator's is log 2
        without mixing where it can tell nothing.

    generator_, discriminator_ : torch.nn.Module
        The trained networks.

    See Also
    --------
    sk_mixup.callbacks.Snapshots : Keeps samples drawn as training goes on.
    fit_stacked : Trains several seeds as one stack.

    Notes
    -----
    Of each real example x and each generated g(z) of a mini-batch the discriminator sees both
    λx + (1-λ)g(z) and (1-λ)x + λg(z). As the distribution of λ is symmetric this estimates the
    objective with less noise than one of them would, and ``alpha=0`` is exactly the plain GAN.

    Data should be near unit size (``StandardScaler``). In a pipeline the last step samples, and
    the steps before it turn samples back: ``pipe[:-1].inverse_transform(pipe[-1].sample(9))``.

    A GAN says nothing about the likelihood of a row; ``score_samples`` is the discriminator's logit,
    which is high where rows look more real than generated. There is no ``score``.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    .. [2] I. Goodfellow et al., "Generative Adversarial Nets", NeurIPS 2014,
       https://arxiv.org/abs/1406.2661

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup import MixupGAN
    >>> X = np.random.default_rng(0).normal(size=(200, 2))
    >>> gan = MixupGAN(
    ...     generator__hidden_layer_sizes=(16,), discriminator__hidden_layer_sizes=(16,),
    ...     max_epochs=2, steps_per_epoch=5, random_state=0,
    ... ).fit(X)
    >>> gan.sample(3, random_state=0).shape, gan.n_iter_
    ((3, 2), 10)
    """

    # Size of the noise that the generator was built for.
    _noise_in: int | None = None

    def __init__(
        self,
        generator: Callable[..., nn.Module] | nn.Module = MLP,
        discriminator: Callable[..., nn.Module] | nn.Module = MLP,
        *,
        alpha: float = 0.2,
        lam_per: LamPer = "example",
        generator_loss: Literal["non-saturating", "minimax"] = "non-saturating",
        noise_features: int = 2,
        discriminator_steps: int = 5,
        max_epochs: int = 40,
        epochs_per_partial_fit: int | None = None,
        steps_per_epoch: int = 100,
        batch_size: int = 64,
        lr: float = 1e-3,
        optimizer: Callable[..., torch.optim.Optimizer] = torch.optim.Adam,
        callbacks: Callbacks = None,
        warm_start: bool = False,
        verbose: int = 0,
        device: str | torch.device = "cpu",
        compile: bool = False,
        torch_load_kwargs: dict[str, object] | None = None,
        random_state: RandomState = None,
        **kwargs: object,
    ) -> None:
        store_options(self, locals())

    # -- options -------------------------------------------------------------------------

    def get_params(self, deep: bool = True) -> dict[str, object]:
        """Return all options, with those of components; see ``sklearn.base.BaseEstimator``."""
        return {name: getattr(self, name) for name in (*self._get_param_names(), *list_extra_options(self))}

    def set_params(self, **params: object) -> Self:
        """Set options; learning rate and options of the optimizers are those of a fitted GAN at once."""
        known = self.get_params()
        for name in params:
            if name not in known and "__" not in name:
                hint = suggest(name, known, get_components(self)) or f"Its options are {sorted(known)}."
                raise ValueError(f"Invalid parameter {name!r} for estimator {type(self).__name__}. {hint}")
        self.__dict__.update(params)
        if "callbacks" in params and "callbacks_" in vars(self):
            self.callbacks_ = make_callbacks(self.callbacks)
        for name, player in get_players(self).items():
            options = get_optimizer_options(self, name)
            changed = {key.rpartition("__")[2] for key in params if key == "lr" or "optimizer__" in key}
            for group in player.optimizer.param_groups:
                group.update({option: options[option] for option in changed & options.keys()})
        return self

    # -- training ------------------------------------------------------------------------

    def fit(self, X: ArrayLike | Tensor, y: None = None, **fit_params: object) -> Self:
        """Train both nets from the start.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *features)
            Real examples, at least 2, with at least 2 features where it is a table. They
            become float32 (the default dtype of torch).
        y : None
            Ignored.
        **fit_params : dict
            None are taken.

        Returns
        -------
        self : MixupGAN
            The fitted estimator.

        Raises
        ------
        TypeError, ValueError
            If an option, a network or the data break a rule; the message names it.
        """
        return self._train(X, self.max_epochs, starts_anew=True, fit_params=fit_params)

    def partial_fit(
        self, X: ArrayLike | Tensor, y: None = None, classes: None = None, **fit_params: object
    ) -> Self:
        """Train for ``epochs_per_partial_fit`` more epochs, or ``max_epochs``, without starting anew.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *features)
            Real examples, as in :meth:`fit`.
        y, classes : None
            Ignored.
        **fit_params : dict
            None are taken.

        Returns
        -------
        self : MixupGAN
            The fitted estimator.
        """
        n_epochs = self.max_epochs if self.epochs_per_partial_fit is None else self.epochs_per_partial_fit
        return self._train(X, n_epochs, starts_anew=False, fit_params=fit_params)

    def _train(
        self, X: ArrayLike | Tensor, n_epochs: int, *, starts_anew: bool, fit_params: dict[str, object]
    ) -> Self:
        if fit_params:
            raise TypeError(f"fit must be given X alone; got {sorted(fit_params)} too. Leave them out.")
        check_gan_options(self)
        fresh = (starts_anew and not self.warm_start) or not get_players(self)
        with unchanged_on_error(self):
            rows = self._check_rows(X, reset=fresh, min_samples=2 if starts_anew else 1)
            if fresh:
                self._initialize()
            self.__dict__.update(replace_optimizers(self))
            check_nets(self.generator_, self.discriminator_, rows, self.noise_features)
            if fresh:
                self.callbacks_ = make_callbacks(self.callbacks)
                warn_input(self, self.discriminator_, X, rows)
        warn_out_of_reach()
        GanTraining(self, rows).run(n_epochs)
        return self

    @np.errstate(over="ignore", invalid="ignore")  # scikit-learn says which number is too large
    def _check_rows(self, X: object, *, reset: bool, min_samples: int = 1) -> np.ndarray:
        if not isinstance(X, Tensor | Sequence) and not hasattr(X, "shape"):
            raise TypeError(
                f"X must be an array of examples; got {type(X).__name__}. Pass an array or a tensor of the "
                "inputs of a Dataset or loader."
            )
        rows: np.ndarray = validate_data(
            self,
            to_host(X),
            reset=reset,
            allow_nd=True,
            dtype=get_input_dtype(),
            ensure_min_samples=min_samples,
            ensure_min_features=2 if reset else 1,
        )
        shape = rows.shape[1:]
        if reset:
            self._shape_in = shape
        elif shape != self._shape_in:
            raise ValueError(
                f"X must hold examples of the shape seen in fit, {self._shape_in}; got {shape}. Give "
                "the same features in the same order."
            )
        return np.require(rows, requirements=["C", "W"])  # as torch takes them

    def _initialize(self) -> None:
        """Build nets and optimizers anew, the weights from `random_state`."""
        self.rng_ = make_generator(self.random_state)
        self.n_iter_, self.history_ = 0, History()
        self._noise_in = self.noise_features
        rejoin_scheduler()
        with seeded_torch(draw_seed(self.rng_), alone=True):
            self.__dict__.update(build_parts(self, self._shape_in))

    @property
    def history(self) -> History:
        """The name by which skorch's callbacks find ``history_``."""
        return self.history_

    # -- the fitted nets -----------------------------------------------------------------

    def sample(self, n_samples: int = 1, random_state: RandomState = None) -> NDArray[np.floating]:
        """Draw examples from the generator.

        Parameters
        ----------
        n_samples : int, default=1
            How many.
        random_state : int, RandomState, Generator or None, default=None
            Seed of the noise: the same int gives the same examples, of which fewer are the first
            of more. None takes fresh entropy.

        Returns
        -------
        X : ndarray of shape (n_samples, *features)
            In the scale of the rows that were given to ``fit``, float32 as the net.
        """
        check_is_fitted(self)
        check_integer("n_samples", n_samples, low=1, hint="Give how many examples to draw.")
        # The option may have been set since.
        shape = (n_samples, self._noise_in or self.noise_features)
        noise = make_generator(random_state).standard_normal(shape, dtype=get_input_dtype())
        return evaluate(self.generator_, noise).reshape(n_samples, *self._shape_in)

    def score_samples(self, X: ArrayLike | Tensor) -> NDArray[np.floating]:
        """Return how real examples look to the discriminator.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, *features)
            Examples.

        Returns
        -------
        logit : ndarray of shape (n_samples,)
            The logit of the probability of being real; of the best discriminator of unmixed
            examples it is the logarithm of their density over that of generated ones.
        """
        check_is_fitted(self)
        logits = evaluate(self.discriminator_, self._check_rows(X, reset=False)).reshape(-1)
        return in_namespace_of(X, logits)

    def save_params(self, f_params: File, use_safetensors: bool = False) -> None:
        """Save the weights of both nets in one file; one named by its path appears whole or not at all.

        Parameters
        ----------
        f_params : str, path or file-like object
            Where the weights go.
        use_safetensors : bool, default=False
            Write a safetensors file, which holds no pickle. It also holds the features seen in
            fit, so that :meth:`load_params` restores a GAN that can be sampled from.
        """
        check_is_fitted(self)
        save_nets(get_players(self), f_params, describe_learned(vars(self)) if use_safetensors else None)

    def load_params(self, f_params: File, use_safetensors: bool = False) -> None:
        """Load what :meth:`save_params` wrote.

        Parameters
        ----------
        f_params : str, path or file-like object
            The weights. A safetensors file makes an estimator that was never fitted ready to
            sample; options such as ``generator__hidden_layer_sizes`` must be those of the GAN that
            was saved.
        use_safetensors : bool, default=False
            Whether it is a safetensors file.
        """
        check_gan_options(self)
        with unchanged_on_error(self):
            learned = read_header(f_params).learned if use_safetensors else None
            if learned is not None:
                check_kind(learned, ["none"], type(self).__name__)
            if learned not in (None, describe_learned(vars(self))):
                forget_learned(self.__dict__)
                self.__dict__.update({name: from_json(value) for name, value in learned.items()})
                self._initialize()
                self.callbacks_ = make_callbacks(self.callbacks)
            check_is_fitted(self)
            options = {"map_location": self.device, **(self.torch_load_kwargs or {})}
            load_nets(get_players(self), read_nets(f_params, None if use_safetensors else options))

    def __reduce_ex__(self, protocol: SupportsIndex) -> tuple[object, ...]:
        return reduce_whole(self)

    def __getstate__(self) -> dict[str, object]:
        """Return the whole state for a pickle or a copy, else one of plain values, as for skops.

        The whole one has nets and optimizers as bytes: a GAN trained on a GPU can be unpickled without one.
        """
        if not is_whole():
            return describe(self, BaseEstimator, ON_DEVICE, ["callbacks_"])
        return pack(super().__getstate__())

    def __setstate__(self, state: Mapping[str, object]) -> None:
        """Put nets and optimizers on the device they were on, or on the CPU if there is none such."""
        if takes_whole(self):
            super().__setstate__(unpack(state))
        else:
            self._restore(state)

    def _restore(self, state: Mapping[str, object]) -> None:
        """Become the GAN whose plain state it is."""
        states = restore(self, BaseEstimator, state)
        if not states:
            return
        kept = dict(self.__dict__)
        self.random_state = 0
        self._initialize()
        load_parts(self, states)
        self.__dict__.update(kept)
        self.callbacks_ = make_callbacks(self.callbacks)

    def __sklearn_tags__(self) -> Tags:
        """Return the estimator tags: arrays of any rank are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        return tags
