"""Vicinities on the line through two examples: a step that keeps the label, and mixup beyond the examples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import numpy as np

from sk_mixup._validation import check_real
from sk_mixup.mixing.mixup import LamPer, check_weights, draw_weights
from sk_mixup.mixing.partners import NeighborPartners, Partners, PartnersName, as_partners
from sk_mixup.mixing.plan import INPUT, Index, Plan
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity, check_layers, draw_layers, draw_partners

__all__ = ["Extrapolation", "FeatureExtrapolation", "FeatureInterpolation"]

NEAR = NeighborPartners(10, same_class=True)


@dataclass(frozen=True)
class _FeatureStep(Vicinity):
    """A fixed step from each example along the line to a near one; the label is kept."""

    lam: float = 0.5
    layers: Literal["auto"] | tuple[str, ...] = (INPUT,)
    partners: PartnersName | Partners = NEAR

    lam_per: ClassVar[str] = "batch"  # all weights are equal
    # The weight of the partner, in units of lam, and the largest lam.
    direction: ClassVar[float]
    largest: ClassVar[float]

    def __post_init__(self) -> None:
        check_real("lam", self.lam, low=0.0, high=self.largest, above=True, hint="Use 0.5.")
        object.__setattr__(self, "layers", check_layers(self.layers))
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw partners and layers; see :meth:`Vicinity.draw`."""
        place, within_batch = draw_partners(generator, bounds, order, facts, partners=self.partners)
        layers = draw_layers(generator, bounds, self.layers, facts, repr(self))
        step, n_planned = self.direction * self.lam, int(bounds[-1])
        kept = np.repeat([[1.0], [0.0]], n_planned, axis=1)
        moved = np.repeat([[1.0 - step], [step]], n_planned, axis=1)
        return Plan(bounds, order, place, kept, within_batch, moved, layers=layers)


@dataclass(frozen=True)
class FeatureInterpolation(_FeatureStep):
    """A step from each example towards a near one of its class, the label kept [1]_.

    Each virtual example is ``x + lam (x' - x)`` with the target ``y``, where ``x'`` is one of
    the ten nearest examples of the same class. It stands in the place of the example, where [1]_ adds it to
    the training set.

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
        If an option breaks its rule; at ``fit``, if the targets are not classes.

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

    direction = 1.0
    largest = 1.0


@dataclass(frozen=True)
class FeatureExtrapolation(_FeatureStep):
    """A step from each example away from a near one of its class, the label kept [1]_.

    Each virtual example is ``x + lam (x - x')`` with the target ``y``, where ``x'`` is one of
    the ten nearest examples of the same class. It stands in the place of the example, where [1]_ adds it to
    the training set.

    Parameters
    ----------
    lam : float, default=0.5
        Length of the step, as a share of the distance, in (0, inf); implementations of [1]_
        take 0.5.
    layers : 'auto' or tuple of str, default=('input',)
        As in :class:`FeatureInterpolation`.
    partners : str or policy, default=NeighborPartners(10, same_class=True)
        As in :class:`FeatureInterpolation`.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule; at ``fit``, if the targets are not classes.

    Notes
    -----
    Measured at the inputs (``python -m benchmarks ablation``): it lowered ERM's test NLL by 11 % on
    eight tables and by 13 % on 5,000 images of CIFAR-10; no clear difference in error.

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

    direction = -1.0
    largest = float(np.finfo(float).max)


@dataclass(frozen=True)
class Extrapolation(Vicinity):
    """mixup beyond the examples: inputs and targets are mixed with λ above 1.

    Section 5 of the mixup paper [1]_ asks for "feature-label extrapolation". Here λ = 1 +
    min(λ', 1 - λ') with λ' ~ Beta(alpha, alpha): the virtual example of mixup, mirrored at
    its nearer parent. Inputs and targets have the weights λ and 1 - λ, which sum to 1.

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
    driven to 0, and the loss may be negative. Label smoothing that makes all shares
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
    lam_per: LamPer = "example"
    partners: PartnersName | Partners = "batch"

    keeps_shares_positive: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_weights(self.alpha, self.lam_per)
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw weights, then partners; see :meth:`Vicinity.draw`."""
        step = draw_weights(generator, bounds, self.alpha, lam_per=self.lam_per).min(axis=0)
        place, within_batch = draw_partners(generator, bounds, order, facts, partners=self.partners)
        return Plan(bounds, order, place, np.stack([1 + step, -step]), within_batch)
