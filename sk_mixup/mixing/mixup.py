"""mixup and ERM: the policies that draw an epoch's plan."""

from __future__ import annotations

from dataclasses import dataclass
import math
from typing import ClassVar, Literal, get_args

import numpy as np

from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.mixing.partners import Partners, PartnersName, as_partners
from sk_mixup.mixing.permutation_partners import CHUNK
from sk_mixup.mixing.plan import Index, Plan, Weights
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity, draw_partners

__all__ = ["ERM", "LAM_PER", "LamPer", "Mixup", "check_weights", "draw_lam", "draw_weights"]

LamPer = Literal["example", "batch"]
LAM_PER: tuple[str, ...] = get_args(LamPer)


@dataclass(frozen=True)
class ERM(Vicinity):
    """Plain training on the examples as they are: empirical risk minimisation.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import ERM
    >>> plan = ERM()(np.random.default_rng(0), n_samples=5, batch_size=2)
    >>> [batch.rows.tolist() for batch in plan]
    [[2, 4], [3, 0, 1]]
    """

    lam_per: ClassVar[str] = "batch"  # all weights are equal

    def may_mix_inputs(self, facts: RowFacts) -> bool:
        """Return False: examples stay as they are."""
        return False

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Return the order of one epoch; see :meth:`Vicinity.draw`."""
        return Plan(bounds, order)


@dataclass(frozen=True)
class Mixup(Vicinity):
    """Convex combinations of examples: the vicinity of mixup [1]_.

    Each virtual example is ``sum_k lam_k x_k`` with the target ``sum_k lam_k y_k`` and
    weights ``(lam_1, ..., lam_K) ~ Dirichlet(alpha, ..., alpha)``; for two examples this
    is ``lam ~ Beta(alpha, alpha)``, equation (1) and section 2 of [1]_.

    Parameters
    ----------
    alpha : float, default=0.2
        Strength of mixing, in (0, inf]; the default is that of the estimators. Small values
        stay near the examples; 1 draws λ uniformly; inf is the plain average. (For no mixing
        use :class:`ERM`.)
    lam_per : {'example', 'batch'}, default='example'
        Whether each example of a mini-batch draws its own λ, or all share one as in the
        authors' experiments.
    n_mixed : int, default=2
        How many examples go into one virtual example, at least 2.
    partners : {'batch', 'dataset', 'same_class', 'neighbors', 'kernel'} or policy, default='batch'
        Where partners come from: a permutation of the same mini-batch (the choice of
        [1]_), a permutation of the whole training set ("two data loaders" in section 2),
        or a permutation of the rows of the same class; the nearest neighbours; rows with
        similar targets. The last two have options: :class:`NeighborPartners`,
        :class:`KernelPartners`.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Measured against ERM (``python -m benchmarks ablation``): on 5,000 images of CIFAR-10 with
    alpha 1, it lowered the test error by 2.4 points (of 53.0 %) and the test NLL by 29 %; three
    or four examples, one λ per batch, and partners from the class, or from 10 neighbours, did no
    better. On eight tables with alpha 0.2 there was no clear difference, nor with k = 3 or 4, any
    alpha or other partners, but for 10 neighbours, which lowered the test NLL by 12 %.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import Mixup
    >>> plan = Mixup(alpha=float("inf"))(np.random.default_rng(0), n_samples=4, batch_size=2)
    >>> [batch.lam.tolist() for batch in plan]
    [[[0.5, 0.5], [0.5, 0.5]], [[0.5, 0.5], [0.5, 0.5]]]
    """

    alpha: float = 0.2
    lam_per: LamPer = "example"
    n_mixed: int = 2
    partners: PartnersName | Partners = "batch"

    def __post_init__(self) -> None:
        check_weights(self.alpha, self.lam_per, self.n_mixed)
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw weights, then partners; see :meth:`Vicinity.draw`."""
        lam = draw_weights(generator, bounds, self.alpha, self.n_mixed, self.lam_per)
        place, within_batch = draw_partners(
            generator, bounds, order, facts, partners=self.partners, n_partners=self.n_mixed - 1
        )
        return Plan(bounds, order, place, lam, within_batch)


def check_weights(alpha: object, lam_per: object, n_mixed: object = 2) -> None:
    """Raise if weights cannot be drawn with these options of a policy."""
    check_real("alpha", alpha, low=0.0, above=True, hint="For no mixing use the policy ERM.")
    check_choice("lam_per", lam_per, LAM_PER)
    check_integer("n_mixed", n_mixed, low=2, hint="Use 2 for pairs, as in the paper.")


def draw_weights(
    generator: np.random.Generator, bounds: Index, alpha: float, n_mixed: int = 2, lam_per: str = "example"
) -> Weights:
    """Draw the weights of an epoch: for each example, or one set for each batch; see :func:`draw_lam`."""
    if lam_per == "example":
        return draw_lam(generator, alpha, int(bounds[-1]), n_mixed)
    return np.repeat(draw_lam(generator, alpha, len(bounds) - 1, n_mixed), np.diff(bounds), axis=1)


def draw_lam(generator: np.random.Generator, alpha: float, size: int, n_mixed: int = 2) -> Weights:
    """Draw mixing weights from a symmetric Dirichlet distribution.

    Parameters
    ----------
    generator : numpy.random.Generator
        Source of randomness.
    alpha : float
        Concentration, in (0, inf]; inf gives equal weights and draws nothing.
    size : int
        Number of virtual examples.
    n_mixed : int, default=2
        Number of weights for each, K.

    Returns
    -------
    lam : ndarray of shape (n_mixed, size), dtype float64
        Weights in [0, 1]; each column sums to 1. For K = 2 the first row follows
        Beta(alpha, alpha).

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_lam
    >>> draw_lam(np.random.default_rng(0), float("inf"), size=2, n_mixed=4)[:, 0]
    array([0.25, 0.25, 0.25, 0.25])
    """
    alpha = float(alpha)  # numpy draws with no large integer
    if math.isinf(n_mixed * alpha):  # as is the sum that numpy divides by
        return np.full((n_mixed, size), 1.0 / n_mixed)
    if n_mixed == 2:
        lam = np.empty((2, size))
        for first in np.split(lam[0], range(CHUNK, size, CHUNK)):
            first[:] = generator.beta(alpha, alpha, len(first))
        np.subtract(1.0, lam[0], out=lam[1])
        return lam
    return np.ascontiguousarray(generator.dirichlet(np.full(n_mixed, float(alpha)), size).T)
