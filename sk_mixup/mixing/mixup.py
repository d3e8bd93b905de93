"""mixup and ERM: the policies that draw an epoch's plan."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from sk_mixup._checks import check_choice, check_integer, check_real
from sk_mixup.mixing.partners import (
    CHUNK,
    draw_batch_partners,
    draw_class_partners,
    draw_dataset_partners,
)
from sk_mixup.mixing.plan import Index, Plan, Weights, batch_bounds, draw_order

__all__ = ["ERM", "LAM_PER", "PARTNERS", "Mixup", "draw_lam"]

LAM_PER = ("example", "batch")
PARTNERS = ("batch", "dataset", "same_class")


@dataclass(frozen=True)
class ERM:
    """Plain training on the examples as they are: empirical risk minimisation.

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import ERM
    >>> plan = ERM()(np.random.default_rng(0), n_samples=5, batch_size=2)
    >>> [batch.rows.tolist() for batch in plan]
    [[2, 4], [3, 0, 1]]
    """

    def __call__(
        self,
        generator: np.random.Generator,
        n_samples: int,
        batch_size: int,
        *,
        labels: ArrayLike | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> Plan:
        """Draw the order of one epoch; see :meth:`Mixup.__call__`."""
        bounds = batch_bounds(n_samples, batch_size, drop_last=drop_last)
        order = draw_order(generator, n_samples, shuffle=shuffle)
        return Plan(bounds, order)


@dataclass(frozen=True)
class Mixup:
    """Convex combinations of examples: the vicinity of mixup [1]_.

    Each virtual example is ``sum_k lam_k x_k`` with the target ``sum_k lam_k y_k`` and
    weights ``(lam_1, ..., lam_K) ~ Dirichlet(alpha, ..., alpha)``; for two examples this
    is ``lam ~ Beta(alpha, alpha)``, equation (1) and section 2 of [1]_.

    Parameters
    ----------
    alpha : float, default=1.0
        Strength of mixing, in (0, inf]. Small values stay near the examples; 1 draws λ
        uniformly; inf is the plain average. (For no mixing use :class:`ERM`.)
    lam_per : {'example', 'batch'}, default='example'
        Whether each example of a mini-batch draws its own λ, or all share one as in the
        authors' experiments.
    n_mixed : int, default=2
        How many examples go into one virtual example, at least 2.
    partners : {'batch', 'dataset', 'same_class'}, default='batch'
        Where partners come from: a permutation of the same mini-batch (the choice of
        [1]_), a permutation of the whole training set ("two data loaders" in section 2),
        or a permutation of the rows of the same class (the ablation of section 3.8).

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

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

    alpha: float = 1.0
    lam_per: str = "example"
    n_mixed: int = 2
    partners: str = "batch"

    def __post_init__(self) -> None:
        check_real("alpha", self.alpha, low=0.0, above=True, hint="For no mixing use the policy ERM.")
        check_choice("lam_per", self.lam_per, LAM_PER)
        check_integer("n_mixed", self.n_mixed, low=2, hint="Use 2 for pairs, as in the paper.")
        check_choice("partners", self.partners, PARTNERS)

    def __call__(
        self,
        generator: np.random.Generator,
        n_samples: int,
        batch_size: int,
        *,
        labels: ArrayLike | None = None,
        shuffle: bool = True,
        drop_last: bool = False,
    ) -> Plan:
        """Draw the plan of one epoch.

        Parameters
        ----------
        generator : numpy.random.Generator
            The only source of randomness. The order of the rows is drawn first, so two
            policies given equal generators visit the rows in the same order.
        n_samples : int
            Number of training rows, at least 1.
        batch_size : int
            Rows in a mini-batch; -1 for all of them.
        labels : array-like of shape (n_samples,), default=None
            Class of each row, for ``partners='same_class'``.
        shuffle : bool, default=True
            Whether the rows are visited in a random order.
        drop_last : bool, default=False
            Whether a last batch that is not full is left out.

        Returns
        -------
        plan : Plan

        Raises
        ------
        ValueError
            If ``partners='same_class'`` and `labels` is None.
        """
        bounds = batch_bounds(n_samples, batch_size, drop_last=drop_last)
        order = draw_order(generator, n_samples, shuffle=shuffle)
        lam = self._draw_lam(generator, bounds)
        partners = [self._draw_partners(generator, bounds, order, labels) for _ in range(self.n_mixed - 1)]
        place = (partners[0][None] if len(partners) == 1 else np.stack(partners))[:, : bounds[-1]]
        return Plan(bounds, order, place, lam, within_batch=self.partners == "batch")

    def _draw_lam(self, generator: np.random.Generator, bounds: Index) -> Weights:
        if self.lam_per == "example":
            return draw_lam(generator, self.alpha, int(bounds[-1]), self.n_mixed)
        lam = draw_lam(generator, self.alpha, len(bounds) - 1, self.n_mixed)
        return np.repeat(lam, np.diff(bounds), axis=1)

    def _draw_partners(
        self, generator: np.random.Generator, bounds: Index, order: Index, labels: ArrayLike | None
    ) -> Index:
        """Return one partner of every place of the epoch, as a place of the epoch."""
        if self.partners == "batch":
            return draw_batch_partners(generator, bounds)
        if self.partners == "dataset":
            return draw_dataset_partners(generator, len(order))
        if labels is None:
            raise ValueError(
                "labels must be given for partners='same_class'; got None. Pass the class of each row, or "
                "choose partners='batch' or 'dataset'."
            )
        return draw_class_partners(generator, np.asarray(labels)[order])


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
        Weights in [0, 1]; each column adds up to 1. For K = 2 the first row follows
        Beta(alpha, alpha).

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import draw_lam
    >>> draw_lam(np.random.default_rng(0), float("inf"), size=2, n_mixed=4)[:, 0]
    array([0.25, 0.25, 0.25, 0.25])
    """
    if np.isinf(alpha):
        return np.full((n_mixed, size), 1.0 / n_mixed)
    if n_mixed == 2:
        lam = np.empty((2, size))
        for first in np.split(lam[0], range(CHUNK, size, CHUNK)):
            first[:] = generator.beta(alpha, alpha, len(first))
        np.subtract(1.0, lam[0], out=lam[1])
        return lam
    return np.ascontiguousarray(generator.dirichlet(np.full(n_mixed, float(alpha)), size).T)
