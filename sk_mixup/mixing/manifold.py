"""Vicinities in feature space: hidden layers are mixed."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import numpy as np

from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.mixing.mixup import LAM_PER, draw_weights
from sk_mixup.mixing.partners import NeighborPartners, Partners, as_partners
from sk_mixup.mixing.plan import INPUT, Index, Plan, Weights
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity, check_layers, draw_layers, draw_partners

__all__ = ["Extrapolation", "FeatureExtrapolation", "FeatureInterpolation", "ManifoldMixup"]

NEAR = NeighborPartners(10, same_class=True)


@dataclass(frozen=True)
class ManifoldMixup(Vicinity):
    """mixup at a layer that is drawn anew for each mini-batch [1]_.

    A layer of the network is drawn evenly; with ``h`` its output for an example, the rest of
    the network is given ``sum_k lam_k h_k``, against the target ``sum_k lam_k y_k``:
    section 2 of [1]_.

    Parameters
    ----------
    alpha : float, default=2.0
        Strength of mixing, in (0, inf]; λ ~ Beta(alpha, alpha). [1]_ takes 2 on CIFAR.
    layers : 'auto' or tuple of str, default='auto'
        Where to mix: names of submodules, whose outputs are mixed, and 'input'. 'auto' is
        the input and what each further layer with weights is given, in a chain of layers;
        in another network its parts but the last. The first dimension of such an output
        counts the rows.
    lam_per : {'example', 'batch'}, default='example'
        Whether each example draws its own λ, or all of a mini-batch share one as in [1]_.
    n_mixed : int, default=2
        How many examples go into one virtual example, at least 2.
    partners : str or policy, default='batch'
        Where partners come from; see :class:`Mixup`. Those from outside the mini-batch go
        through the first layers beside it, and so into batch normalisation's statistics.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule; at ``fit``, if the network has no such layer.

    Notes
    -----
    Plain multilayer perceptrons with partners from the batch are trained as fast as with
    mixup, but for the mixing itself, and as one under :func:`sk_mixup.stacked`. Other networks
    are mixed by a hook on the layer, a batch at a time and net by net.

    Measured with 'auto' and the alpha of mixup beside it (``python -m benchmarks ablation``): on
    5,000 images of CIFAR-10 a test error lower than ERM's by 2.2 points (of 53.0 %), mixup's by
    2.4; on eight tables by 0.9 on average, mixup's by 0.5, neither clearly. On real-valued
    targets it was no better than ERM, and on Airfoil clearly worse (``python -m benchmarks
    regression``).

    References
    ----------
    .. [1] V. Verma, A. Lamb, C. Beckham, A. Najafi, I. Mitliagkas, D. Lopez-Paz and
       Y. Bengio, "Manifold Mixup: Better Representations by Interpolating Hidden States",
       ICML 2019, https://arxiv.org/abs/1806.05236

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import ManifoldMixup
    >>> policy = ManifoldMixup(layers=("input", "layers.2"))
    >>> policy(np.random.default_rng(0), n_samples=6, batch_size=2).layers
    ('input', 'layers.2', 'layers.2')
    """

    alpha: float = 2.0
    layers: str | tuple[str, ...] = "auto"
    lam_per: str = "example"
    n_mixed: int = 2
    partners: str | Partners = "batch"

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha, low=0.0, above=True, hint="For no mixing use the policy ERM.")
        object.__setattr__(self, "layers", check_layers(self.layers))
        check_choice("lam_per", self.lam_per, LAM_PER)
        check_integer("n_mixed", self.n_mixed, low=2, hint="Use 2 for pairs, as in the paper.")
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw weights, partners and layers; see :meth:`Vicinity.draw`."""
        lam = draw_weights(generator, bounds, self.alpha, self.n_mixed, self.lam_per)
        place, within_batch = draw_partners(
            generator, bounds, order, facts, partners=self.partners, n_partners=self.n_mixed - 1
        )
        layers = draw_layers(generator, bounds, self.layers, facts, repr(self))
        return Plan(bounds, order, place, lam, within_batch, layers=layers)


@dataclass(frozen=True)
class _Feature(Vicinity):
    """A fixed step from each example towards, or away from, a near one; the label is kept.

    Parameters
    ----------
    lam : float, default=0.5
        Length of the step, as a share of the distance.
    layers : 'auto' or tuple of str, default=('input',)
        Where the step is taken; see :class:`ManifoldMixup`.
    partners : str or policy, default=NeighborPartners(10, same_class=True)
        Where the other examples come from; see :class:`Mixup`. Neighbours are sought among
        the inputs, also where the step is taken at a hidden layer.
    """

    lam: float = 0.5
    layers: str | tuple[str, ...] = (INPUT,)
    partners: str | Partners = NEAR

    @abstractmethod
    def _get_weights(self) -> tuple[float, float]:
        """Return the weights of the example and of its partner."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", check_layers(self.layers))
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw partners and layers; see :meth:`Vicinity.draw`."""
        place, within_batch = draw_partners(generator, bounds, order, facts, partners=self.partners)
        layers = draw_layers(generator, bounds, self.layers, facts, repr(self))
        n_planned = int(bounds[-1])
        kept, lam_x = _repeat((1.0, 0.0), n_planned), _repeat(self._get_weights(), n_planned)
        return Plan(bounds, order, place, kept, within_batch, lam_x, layers=layers)


@dataclass(frozen=True)
class FeatureInterpolation(_Feature):
    """A step from each example towards a near one of its class, the label kept [1]_.

    Each virtual example is ``x + lam (x' - x)`` with the target ``y``, where ``x'`` is one of
    the ten nearest examples of the same class.

    Parameters
    ----------
    lam : float, default=0.5
        Length of the step, as a share of the distance, in (0, 1]; implementations of [1]_
        take 0.5.
    layers : 'auto' or tuple of str, default=('input',)
        Where the step is taken; see :class:`ManifoldMixup`. [1]_ takes it in the space of
        an autoencoder's contexts.
    partners : str or policy, default=NeighborPartners(10, same_class=True)
        Where the other examples come from; see :class:`Mixup`. Neighbours are sought among
        the inputs, also where the step is taken at a hidden layer.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule; at ``fit``, if the targets are no classes.

    Notes
    -----
    Measured at the inputs (``python -m benchmarks ablation``): worse than ERM on 5,000 images of
    CIFAR-10, by 2.8 points of test error; no clear difference on eight tables.

    References
    ----------
    .. [1] T. DeVries and G. W. Taylor, "Dataset Augmentation in Feature Space", 2017,
       https://arxiv.org/abs/1702.05538

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import FeatureInterpolation
    >>> plan = FeatureInterpolation(partners="batch")(np.random.default_rng(0), 2, 2)
    >>> plan.lam_x.tolist(), plan.lam.tolist()
    ([[0.5, 0.5], [0.5, 0.5]], [[1.0, 1.0], [0.0, 0.0]])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        check_real("lam", self.lam, low=0.0, high=1.0, above=True, hint="Use 0.5.")

    def _get_weights(self) -> tuple[float, float]:
        return 1.0 - self.lam, self.lam


@dataclass(frozen=True)
class FeatureExtrapolation(_Feature):
    """A step from each example away from a near one of its class, the label kept [1]_.

    Each virtual example is ``x + lam (x - x')`` with the target ``y``, where ``x'`` is one of
    the ten nearest examples of the same class.

    Parameters
    ----------
    lam : float, default=0.5
        Length of the step, as a share of the distance, in (0, inf); implementations of [1]_
        take 0.5.
    layers : 'auto' or tuple of str, default=('input',)
        Where the step is taken; see :class:`ManifoldMixup`. [1]_ takes it in the space of
        an autoencoder's contexts.
    partners : str or policy, default=NeighborPartners(10, same_class=True)
        Where the other examples come from; see :class:`Mixup`. Neighbours are sought among
        the inputs, also where the step is taken at a hidden layer.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule; at ``fit``, if the targets are no classes.

    Notes
    -----
    Measured at the inputs (``python -m benchmarks ablation``): a likelihood better than ERM's by
    12 % on eight tables and by 13 % on 5,000 images of CIFAR-10; no clear difference in error.

    References
    ----------
    .. [1] T. DeVries and G. W. Taylor, "Dataset Augmentation in Feature Space", 2017,
       https://arxiv.org/abs/1702.05538

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import FeatureExtrapolation
    >>> plan = FeatureExtrapolation(partners="batch")(np.random.default_rng(0), 2, 2)
    >>> plan.lam_x.tolist(), plan.lam.tolist()
    ([[1.5, 1.5], [-0.5, -0.5]], [[1.0, 1.0], [0.0, 0.0]])
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        hint = "Use 0.5."
        check_real("lam", self.lam, low=0.0, high=np.finfo(float).max, above=True, hint=hint)

    def _get_weights(self) -> tuple[float, float]:
        return 1.0 + self.lam, -self.lam


@dataclass(frozen=True)
class Extrapolation(Vicinity):
    """mixup beyond the examples: inputs and targets are mixed with λ above 1.

    Section 5 of the mixup paper [1]_ asks for "feature-label extrapolation". Here λ = 1 +
    min(λ', 1 - λ') with λ' ~ Beta(alpha, alpha): the virtual example of mixup, mirrored at
    its nearer parent. Inputs and targets have the weights λ and 1 - λ, which add up to 1.

    Parameters
    ----------
    alpha : float, default=0.2
        Concentration of λ', in (0, inf]; small values stay near the examples, inf gives
        the weights 1.5 and -0.5.
    lam_per : {'example', 'batch'}, default='example'
        Whether each example draws its own λ, or all of a mini-batch share one.
    partners : str or policy, default='batch'
        Where partners come from; see :class:`Mixup`.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    For squared error this trains on linear extrapolations. A cross-entropy against a
    negative share of a label has no lower bound: the probability of the partner's class is
    driven to 0, and losses below 0 are no error. Label smoothing that makes all shares
    positive again bounds it. Judge it by the loss on held-out rows, as early stopping does.

    Measured (``python -m benchmarks ablation``): the worst of all choices for classes, with a
    test error higher than ERM's by 2.3 points on eight tables and by 17.6 on CIFAR-10, where the
    NLL is 9.5 times as high. Not measured on real-valued targets.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import Extrapolation
    >>> plan = Extrapolation(alpha=float("inf"))(np.random.default_rng(0), 2, 2)
    >>> plan.lam.tolist()
    [[1.5, 1.5], [-0.5, -0.5]]
    """

    alpha: float = 0.2
    lam_per: str = "example"
    partners: str | Partners = "batch"

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha, low=0.0, above=True, hint="For no mixing use the policy ERM.")
        check_choice("lam_per", self.lam_per, LAM_PER)
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw weights, then partners; see :meth:`Vicinity.draw`."""
        step = draw_weights(generator, bounds, self.alpha, lam_per=self.lam_per).min(axis=0)
        place, within_batch = draw_partners(generator, bounds, order, facts, partners=self.partners)
        return Plan(bounds, order, place, np.stack([1 + step, -step]), within_batch)


def _repeat(weights: tuple[float, ...], n: int) -> Weights:
    return np.repeat(np.asarray(weights)[:, None], n, axis=1)
