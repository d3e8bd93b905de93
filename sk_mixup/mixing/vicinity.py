"""What all vicinities share: they draw the plan of an epoch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

from sk_mixup.mixing.partners import Partners, as_partners
from sk_mixup.mixing.plan import INPUT, Index, Plan, batch_bounds, draw_order
from sk_mixup.mixing.plan_checks import check_places, check_plan, is_ours
from sk_mixup.mixing.row_facts import RowFacts

__all__ = ["Vicinity", "check_layers", "draw_layers", "draw_partners"]


class Vicinity(ABC):
    """A distribution of virtual examples round the training examples; a frozen object.

    Called, it draws the plan of one epoch. Vicinal risk minimisation [1]_ trains on such
    draws in place of the examples.

    For a vicinity of your own, subclass it as a frozen dataclass and write `draw`;
    :func:`draw_partners` finds partners, and an :class:`Operation` of your own in the plan
    changes the inputs after they are mixed. If all examples of a mini-batch share their
    weights, set `lam_per` to 'batch'.

    References
    ----------
    .. [1] O. Chapelle, J. Weston, L. Bottou and V. Vapnik, "Vicinal Risk Minimization",
       NIPS 2000
    """

    def __call__(
        self,
        generator: np.random.Generator,
        n_samples: int,
        batch_size: int,
        *,
        facts: RowFacts | None = None,
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
        facts : RowFacts, default=None
            What is known of the training rows: labels for partners of the same class, for
            example. None for nothing.
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
            If `facts` lack what the policy needs.
        """
        facts = RowFacts() if facts is None else facts
        bounds = batch_bounds(n_samples, batch_size, drop_last=drop_last)
        order = draw_order(generator, n_samples, shuffle=shuffle)
        return self.draw_checked(generator, bounds, order, facts)

    def draw_checked(
        self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts
    ) -> Plan:
        """Draw a plan, and raise if one of a user's own class breaks a rule of it; see :meth:`draw`."""
        plan = self.draw(generator, bounds, order, facts)
        if is_ours(self):
            return plan
        shares_lam = self.has_one_lam_per_batch
        return check_plan(plan, type(self).__name__, bounds, order, facts, shares_lam=shares_lam)

    @property
    def has_one_lam_per_batch(self) -> bool:
        """Whether all examples of a mini-batch have the same weights: if `lam_per` says so."""
        return getattr(self, "lam_per", "example") == "batch"

    @property
    def keeps_shares_positive(self) -> bool:
        """Whether it is known that no target has a share below 0, so that cross-entropies stay above it."""
        return is_ours(self)

    def may_mix_hidden(self, facts: RowFacts) -> bool:
        """Whether some mini-batches may be mixed inside the network."""
        return hasattr(self, "layers") and facts.find_layers(self.layers, repr(self)) != (INPUT,)

    def may_mix_inputs(self, facts: RowFacts) -> bool:
        """Whether some mini-batches may be mixed, or changed, at the inputs."""
        return not hasattr(self, "layers") or INPUT in facts.find_layers(self.layers, repr(self))

    def check(self, facts: RowFacts) -> None:
        """Raise if the policy does not fit the training rows.

        Parameters
        ----------
        facts : RowFacts
            What is known of them.

        Raises
        ------
        ValueError
            With the reason, and what to do.
        """
        if hasattr(self, "partners"):
            as_partners(self.partners).check(facts)
        if hasattr(self, "layers"):
            facts.find_layers(check_layers(self.layers), repr(self))

    @abstractmethod
    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw the plan of an epoch whose order is known; see :meth:`__call__`.

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
        plan : Plan
        """


def draw_partners(
    generator: np.random.Generator,
    bounds: Index,
    order: Index,
    facts: RowFacts,
    *,
    partners: str | Partners,
    n_partners: int = 1,
) -> tuple[Index, bool]:
    """Draw the partners of each example, for :meth:`Vicinity.draw`.

    Parameters
    ----------
    generator, bounds, order, facts
        As in :meth:`Vicinity.draw`.
    partners : str or policy
        Where partners come from; see :class:`Mixup`.
    n_partners : int, default=1
        Number of partners of each example.

    Returns
    -------
    place : ndarray of shape (n_partners, n_planned)
        Places of the partners.
    within_batch : bool
        Whether all come from the example's own mini-batch.
    """
    policy = as_partners(partners)
    n_samples, user = len(order), type(policy).__name__
    shapes = [(int(bounds[-1]),), (n_samples,)]
    drawn = []
    for _ in range(n_partners):
        place = policy.draw(generator, bounds, order, facts)
        if not is_ours(policy):
            place = check_places(place, policy.within_batch, user, bounds, n_samples, shapes)
        drawn.append(place[: bounds[-1]])
    return drawn[0][None] if n_partners == 1 else np.stack(drawn), policy.within_batch


def draw_layers(
    generator: np.random.Generator, bounds: Index, layers: str | tuple[str, ...], facts: RowFacts, user: str
) -> tuple[str, ...] | None:
    """Draw for each batch, uniformly, where it is mixed; None if all are at the inputs."""
    names = facts.find_layers(layers, user)
    if names == (INPUT,):
        return None
    return tuple(names[k] for k in generator.integers(len(names), size=len(bounds) - 1))


def check_layers(layers: object) -> str | tuple[str, ...]:
    """Return 'auto' or a tuple of names, or raise if `layers` is neither."""
    if layers == "auto":
        return "auto"
    if isinstance(layers, tuple | list) and layers and all(isinstance(name, str) for name in layers):
        return tuple(layers)
    error: Callable[[str], Exception] = ValueError if isinstance(layers, str | tuple | list) else TypeError
    raise error(
        f"layers must be 'auto' or a tuple of names of submodules; got {layers!r}. Name those whose outputs "
        "are mixed, such as ('input', 'layers.2')."
    )
