"""Policies of partners: frozen objects that say who is mixed with whom."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sk_mixup._validation import check_bool, check_choice, check_integer, check_real
from sk_mixup.mixing.kernel_partners import draw_kernel_partners
from sk_mixup.mixing.permutation_partners import (
    draw_batch_partners,
    draw_class_partners,
    draw_dataset_partners,
)
from sk_mixup.mixing.plan import Index
from sk_mixup.mixing.row_facts import RowFacts

__all__ = [
    "PARTNERS",
    "BatchPartners",
    "ClassPartners",
    "DatasetPartners",
    "KernelPartners",
    "NeighborPartners",
    "Partners",
    "PartnersName",
    "as_partners",
]


PartnersName = Literal["batch", "dataset", "same_class", "neighbors", "kernel"]


class Partners(ABC):
    """Says who is mixed with whom; a frozen object without data."""

    within_batch = False

    def __str__(self) -> str:
        """Return the policy as a user would write it."""
        names = [name for name, policy in PARTNERS.items() if policy == self]
        return repr(names[0] if names else self)

    def check(self, facts: RowFacts) -> None:
        """Raise if the rows do not have what the policy needs.

        Parameters
        ----------
        facts : RowFacts
            What is known of the training rows.

        Raises
        ------
        ValueError
            With the reason, and what to do.
        """
        if facts.is_stream and not self.within_batch:
            raise ValueError(
                f"partners must be 'batch' for a data set or iterator with an order of its own; got "
                f"{self}. Pass arrays or a map-style Dataset for other partners."
            )

    @abstractmethod
    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a partner of each example of an epoch.

        Parameters
        ----------
        generator : numpy.random.Generator
            Source of randomness.
        bounds : ndarray of shape (n_batches + 1,)
            Where the mini-batches begin and end.
        order : ndarray of shape (n_samples,)
            The row at each place of the epoch.
        facts : RowFacts
            What is known of the training rows.

        Returns
        -------
        place : ndarray of shape (n_planned,) or (n_samples,)
            The place of each one's partner.
        """


@dataclass(frozen=True)
class BatchPartners(Partners):
    """A permutation of the same mini-batch: the choice of the mixup paper [1]_, section 2.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    """

    within_batch = True

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a permutation of each batch; see :meth:`Partners.draw`."""
        return draw_batch_partners(generator, bounds)


@dataclass(frozen=True)
class DatasetPartners(Partners):
    """A permutation of the whole training set: "two data loaders" in section 2 of [1]_.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    """

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a permutation of the epoch; see :meth:`Partners.draw`."""
        return draw_dataset_partners(generator, len(order))


@dataclass(frozen=True)
class ClassPartners(Partners):
    """A permutation of the rows of each class: "SC + RP" in Table 5 of [1]_.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    """

    def check(self, facts: RowFacts) -> None:
        """Raise if the rows have no labels; see :meth:`Partners.check`."""
        super().check(facts)
        facts.get_labels(f"partners={self}")

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a permutation of each class; see :meth:`Partners.draw`."""
        return draw_class_partners(generator, facts.get_labels(f"partners={self}")[order])


@dataclass(frozen=True)
class NeighborPartners(Partners):
    """One of the nearest rows, drawn uniformly: "KNN" in Table 5 of the mixup paper [1]_.

    Parameters
    ----------
    n_neighbors : int, default=200
        From how many of the nearest other rows a partner is drawn, at least 1; section 3.8
        of [1]_ takes 200. Where there are fewer, all others.
    same_class : bool, default=False
        Whether only rows of the same class count: "SC + KNN", and the choice of [2]_,
        whose implementations take 10 of them.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Distances are Euclidean, of the inputs as they are given: standardise a table first. The
    neighbours are found once in a fit and take ``n_samples * n_neighbors`` integers.

    Measured (``python -m benchmarks ablation``): on eight tables no clear difference from
    partners of the batch, but 10 neighbours clearly lowered ERM's test NLL, by 12 %. On 5,000 images
    of CIFAR-10 partners of the batch lowered ERM's test error by 2.4 points and 200 neighbours by
    0.6; 10 neighbours raised it by 0.7. Neighbours of the same class did not lower it.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    .. [2] T. DeVries and G. W. Taylor, "Dataset Augmentation in Feature Space", 2017,
       https://arxiv.org/abs/1702.05538

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import Mixup, NeighborPartners, RowFacts
    >>> policy = Mixup(partners=NeighborPartners(1))
    >>> facts = RowFacts(inputs=[[0.0], [1.0], [9.0], [8.0]])
    >>> plan = policy(np.random.default_rng(0), n_samples=4, batch_size=2, facts=facts, shuffle=False)
    >>> plan.index.tolist()
    [[0, 1, 2, 3], [1, 0, 3, 2]]
    """

    n_neighbors: int = 200
    same_class: bool = False

    def __post_init__(self) -> None:
        check_integer("n_neighbors", self.n_neighbors, low=1, hint="Use 10 to 200.")
        check_bool("same_class", self.same_class, hint="Use True to look in the row's own class only.")

    def check(self, facts: RowFacts) -> None:
        """Raise if there are no arrays to search; see :meth:`Partners.check`."""
        super().check(facts)
        facts.check_inputs(f"partners={self}")
        if self.same_class:
            facts.get_labels(f"partners={self}")

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a neighbour of each row; see :meth:`Partners.draw`."""
        n, same_class, user = self.n_neighbors, self.same_class, f"partners={self}"
        neighbors = facts.find_neighbors(n, same_class=same_class, user=user)
        counts = facts.count_neighbors(n, same_class=same_class, user=user)
        chosen = (generator.random(len(order)) * counts[order]).astype(np.int64)
        return _locate(order, neighbors[order, chosen])


@dataclass(frozen=True)
class KernelPartners(Partners):
    """Rows with similar targets, drawn by a Gaussian kernel: C-Mixup [1]_, for regression.

    Row j becomes the partner of row i with probability proportional to
    ``exp(-|y_i - y_j|**2 / (2 h**2))``, section 3 of [1]_, where ``h`` is `bandwidth` times
    the standard deviation of the targets.

    Parameters
    ----------
    bandwidth : float, default=1.0
        Width of the kernel in standard deviations of the training targets (for several of
        them, the root of their mean variance), in (0, inf). [1]_ gives widths in units of
        the targets, which would change with the unit.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    A row may be its own partner. Memory grows linearly with the number of rows; see
    :func:`draw_kernel_partners`.

    Measured with bandwidths of 0.25, 0.5 and 1.5 to choose from (``python -m benchmarks
    regression``): on diabetes and abalone no clear difference from ERM or mixup; on Airfoil an
    RMSE higher than ERM's by 28 %, mixup's by 32 %. The gain over ERM that [1]_ reports there
    does not reproduce against an ERM whose learning rate is chosen as well.

    References
    ----------
    .. [1] H. Yao, Y. Wang, L. Zhang, J. Zou and C. Finn, "C-Mixup: Improving Generalization
       in Regression", NeurIPS 2022, https://arxiv.org/abs/2210.05775

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import KernelPartners, Mixup, RowFacts
    >>> policy = Mixup(partners=KernelPartners(bandwidth=0.1))
    >>> facts = RowFacts(targets=[0.0, 100.0, 0.0, 100.0])
    >>> plan = policy(np.random.default_rng(0), n_samples=4, batch_size=2, facts=facts, shuffle=False)
    >>> (plan.index % 2).tolist()
    [[0, 1, 0, 1], [0, 1, 0, 1]]
    """

    bandwidth: float = 1.0

    def __post_init__(self) -> None:
        hint = "Give it in standard deviations of the targets, 0.2 to 2."
        check_real("bandwidth", self.bandwidth, low=0.0, high=np.finfo(float).max, above=True, hint=hint)

    def check(self, facts: RowFacts) -> None:
        """Raise if the targets are not real numbers; see :meth:`Partners.check`."""
        super().check(facts)
        facts.get_targets(f"partners={self}")

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Index:
        """Draw a row with a similar target for each; see :meth:`Partners.draw`."""
        targets = facts.get_targets(f"partners={self}")[order]
        spread = float(np.sqrt(targets.var(axis=0).mean())) or 1.0
        return draw_kernel_partners(generator, targets, self.bandwidth * spread)


# What a policy is called for short.
PARTNERS: dict[str, Partners] = {
    "batch": BatchPartners(),
    "dataset": DatasetPartners(),
    "same_class": ClassPartners(),
    "neighbors": NeighborPartners(),
    "kernel": KernelPartners(),
}


def as_partners(partners: str | Partners) -> Partners:
    """Return the policy that a name stands for, or the policy itself.

    Raises
    ------
    ValueError
        If it is neither.

    Examples
    --------
    >>> from sk_mixup.mixing import as_partners
    >>> as_partners("kernel")
    KernelPartners(bandwidth=1.0)
    """
    if isinstance(partners, Partners):
        return partners
    return PARTNERS[check_choice("partners", partners, tuple(PARTNERS))]


def _locate(order: Index, rows: Index) -> Index:
    """Return the places of some rows."""
    place = np.empty(len(order), dtype=np.int64)
    place[order] = np.arange(len(order))
    return place[rows]
