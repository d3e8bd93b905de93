"""The generative model: a GAN whose discriminator is shown mixtures of real and generated examples."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils.validation import check_is_fitted, validate_data
from skorch import NeuralNet
import torch

from sk_mixup._random import draw_seed, make_generator, seeded_torch
from sk_mixup._training.gan import GENERATOR_LOSSES
from sk_mixup._validation import check_bool, check_choice, check_device, check_integer, check_real
from sk_mixup.estimators._gan_net import AdversarialNetMixin
from sk_mixup.mixing.mixup import LAM_PER
from sk_mixup.modules import MLP

__all__ = ["MixupGAN"]


class MixupGAN(AdversarialNetMixin, NeuralNet):
    """Generative adversarial network trained on mixtures of real and generated examples.

    A generator g turns noise z into examples, a discriminator d tells real ones from
    generated ones. Here it is shown mixtures of both and must tell the share of the real
    one, which smooths what the generator learns from (section 3.7 of [1]_)::

        max_g min_d  E ℓ(d(λx + (1-λ)g(z)), λ),   λ ~ Beta(alpha, alpha)

    with ℓ the binary cross-entropy. It is a :class:`skorch.NeuralNet` as well.

    Parameters
    ----------
    generator : type of torch.nn.Module or instance, default=MLP
        Network from noise (n, noise_features) to examples, with as many numbers each as the
        rows of `X`. :class:`sk_mixup.modules.MLP` has the three hidden layers of 512 ReLU
        units of [1]_ here, unless ``generator__hidden_layer_sizes`` is given. Arguments named
        ``in_features`` and ``out_features`` are filled in from the data; others are
        ``generator__<name>``. An instance is copied, so that every fit starts from it alike.

    discriminator : type of torch.nn.Module or instance, default=MLP
        Network from examples (n, *features) to one logit each; as `generator`.

    alpha : float, default=0.2
        Strength of mixing, in [0, inf]: λ ~ Beta(alpha, alpha). 0 is the plain GAN: a batch of
        real and a batch of generated examples, by the same code. 0.2 is that of Figure 5
        in [1]_.

    lam_per : {'example', 'batch'}, default='example'
        Whether each pair of a mini-batch draws its own λ, or all share one.

    generator_loss : {'non-saturating', 'minimax'}, default='non-saturating'
        What the generator descends. 'minimax' is the objective above, -ℓ(d(x̃), λ), which has
        no lower bound: on a ring of eight Gaussians the samples of most nets ran away from the
        data at learning rates of 0.001 and more, with mixing mostly farther than without
        (``python -m benchmarks gan``).
        'non-saturating' is ℓ(d(x̃), 1-λ), the discriminator's loss with targets swapped: for
        ``alpha=0`` that of section 3 in [2]_.

    noise_features : int, default=2
        Number of independent standard normal inputs of the generator.

    discriminator_steps : int, default=5
        Steps of the discriminator before each step of the generator, at least 1.

    max_epochs : int, default=40
        Number of epochs of a fit.

    steps_per_epoch : int, default=100
        Generator steps in an epoch; an epoch is a row of the history, not a pass over the data.

    batch_size : int, default=64
        Real examples in a mini-batch, each of which is mixed with a generated one both ways
        round: the discriminator sees twice as many rows. -1 for all rows; never more than
        there are.

    lr : float, default=0.001
        Learning rate of both optimizers. ``generator_optimizer__lr`` and
        ``discriminator_optimizer__lr`` set one of them.

    optimizer : type of torch.optim.Optimizer, default=Adam
        Class of both optimizers; its fused kernel is used where it has one. Options are
        ``optimizer__<name>`` for both, ``generator_optimizer__<name>`` and
        ``discriminator_optimizer__<name>`` for one.

    callbacks : list, 'disable' or None, default=None
        skorch callbacks, such as :class:`sk_mixup.callbacks.Snapshots`. Those with hooks round a
        batch are called round each generator step, without a batch. Learning-rate schedulers
        and checkpoints of skorch that look for a single ``optimizer_`` find none.

    warm_start : bool, default=False
        Whether ``fit`` goes on from the last fit instead of starting anew.

    verbose : int, default=0
        1 prints a line for each epoch.

    device : str, default='cpu'
        Where nets and data live: 'cpu', 'cuda', 'mps', ...

    compile : bool, default=False
        Whether to compile both nets with ``torch.compile``; options are ``compile__<name>``.

    torch_load_kwargs : dict, default=None
        Options of ``torch.load`` for unpickling.

    random_state : int, RandomState, Generator or None, default=None
        Seed of the initial weights, the order of the rows, noise, weights and dropout. None
        takes fresh entropy each fit. The global generators of numpy and torch are left as
        they were.

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
        by step; the discriminator's is a mean over virtual examples, log 2 where it can tell
        nothing and nothing is mixed.

    generator_, discriminator_ : torch.nn.Module
        The trained networks.

    See Also
    --------
    sk_mixup.callbacks.Snapshots : Keeps samples drawn as training goes on.
    fit_stacked : Trains several seeds as one stack.

    Notes
    -----
    Of each real example x and each generated g(z) of a mini-batch the discriminator sees both
    λx + (1-λ)g(z) and (1-λ)x + λg(z). As λ has a symmetric law this estimates the objective
    with less noise than one of them would, and ``alpha=0`` is exactly the plain GAN.

    Data should be near unit size (``StandardScaler``). In a pipeline the last step samples, and
    the steps before it turn samples back: ``pipe[:-1].inverse_transform(pipe[-1].sample(9))``.

    A GAN tells nothing of a row's likelihood; ``score_samples`` is the discriminator's logit,
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

    def __init__(
        self,
        generator: Any = MLP,
        discriminator: Any = MLP,
        *,
        alpha: float = 0.2,
        lam_per: str = "example",
        generator_loss: str = "non-saturating",
        noise_features: int = 2,
        discriminator_steps: int = 5,
        max_epochs: int = 40,
        steps_per_epoch: int = 100,
        batch_size: int = 64,
        lr: float = 1e-3,
        optimizer: Any = torch.optim.Adam,
        callbacks: Any = None,
        warm_start: bool = False,
        verbose: int = 0,
        device: Any = "cpu",
        compile: bool = False,
        torch_load_kwargs: dict[str, Any] | None = None,
        random_state: Any = None,
        **kwargs: Any,
    ) -> None:
        self._store_options(dict(locals()))

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        self._check_names()
        check_real("alpha", self.alpha, low=0.0, hint="Use alpha=0 for the plain GAN, 0.2 for mixup.")
        check_choice("lam_per", self.lam_per, LAM_PER)
        check_choice("generator_loss", self.generator_loss, GENERATOR_LOSSES)
        hint = "Give the number of normal inputs of the generator, such as 2."
        check_integer("noise_features", self.noise_features, low=1, hint=hint)
        check_integer("discriminator_steps", self.discriminator_steps, low=1, hint="Use 5, as in the paper.")
        check_integer("max_epochs", self.max_epochs, low=0, hint="Use 1 or more to train.")
        check_integer("steps_per_epoch", self.steps_per_epoch, low=1, hint="Give generator steps.")
        if self.batch_size != -1:
            check_integer("batch_size", self.batch_size, low=1, hint="Use -1 for all rows.")
        check_real("lr", self.lr, low=0.0, hint="Use 1e-3 for Adam, say.")
        check_bool("warm_start", self.warm_start, hint="Use True to go on from the last fit.")
        check_device(self.device)

    def fit(self, X: Any, y: Any = None, **fit_params: Any) -> MixupGAN:
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
        return self._train(X, fresh=not self.warm_start or not self.initialized_, fit_params=fit_params)

    def partial_fit(self, X: Any, y: Any = None, classes: Any = None, **fit_params: Any) -> MixupGAN:
        """Train for ``max_epochs`` more epochs, without starting anew.

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
        return self._train(X, fresh=not self.initialized_, fit_params=fit_params)

    def _train(self, X: Any, *, fresh: bool, fit_params: dict[str, Any]) -> MixupGAN:
        if fit_params:
            raise TypeError(f"fit must be given X alone; got {sorted(fit_params)} too. Leave them out.")
        self.check_options()
        with self._on_device_of_stack():
            with self._unchanged_on_error():
                X = self._check_rows(X, reset=fresh or "_shape_in" not in vars(self))
                if fresh:
                    self.initialize()
                self.check_nets(X)
            with seeded_torch(draw_seed(self.rng_)):
                super().partial_fit(X)
        return self

    def _check_rows(self, X: Any, *, reset: bool) -> NDArray[Any]:
        dtype = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
        checked: NDArray[Any] = validate_data(
            self,
            X.numpy(force=True) if isinstance(X, torch.Tensor) else X,
            reset=reset,
            allow_nd=True,
            dtype=dtype,
            ensure_min_samples=2 if reset else 1,
            ensure_min_features=2 if reset else 1,
        )
        shape = tuple(checked.shape[1:])
        if reset:
            self._shape_in, self._n_inputs = shape, checked[0].size
        elif shape != self._shape_in:
            raise ValueError(
                f"X must hold examples of the shape seen in fit, {self._shape_in}; got {shape}. Give "
                "the same features in the same order."
            )
        return checked

    def sample(self, n_samples: int = 1, random_state: Any = None) -> NDArray[Any]:
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
        dtype = np.float64 if torch.get_default_dtype() == torch.float64 else np.float32
        noise = make_generator(random_state).standard_normal((n_samples, self.noise_features), dtype=dtype)
        samples: NDArray[Any] = self.evaluate_blocks("generator", noise).numpy()
        return samples.reshape(n_samples, *self._shape_in)

    def score_samples(self, X: Any) -> NDArray[Any]:
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
        rows = self._check_rows(X, reset=False)
        logits: NDArray[Any] = self.evaluate_blocks("discriminator", rows).numpy()
        return logits.reshape(-1)

    @property
    def predict(self) -> Any:
        """There is nothing to predict."""
        raise AttributeError("MixupGAN has no predict; use sample or score_samples")

    @property
    def predict_proba(self) -> Any:
        """There is nothing to predict."""
        raise AttributeError("MixupGAN has no predict_proba; use sample or score_samples")

    def __sklearn_tags__(self) -> Any:
        """Return the estimator tags: arrays of any rank are taken."""
        tags = super().__sklearn_tags__()
        tags.input_tags.three_d_array = True
        tags.target_tags.required = False
        return tags
