"""Mixtures of vicinities."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
import math

import numpy as np
from numpy.typing import NDArray

from sk_mixup._validation import check_choice, check_real
from sk_mixup.mixing.mixup import LAM_PER, LamPer
from sk_mixup.mixing.plan import INPUT, Index, Plan, Weights
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity

__all__ = ["Mixture"]


@dataclass(frozen=True)
class Mixture(Vicinity):
    """Several vicinities, one of them drawn for each mini-batch or example.

    ``Mixture((Mixup(0.8), CutMix(1.0)))`` takes mixup or CutMix for each batch, as recipes for
    ImageNet do since DeiT [1]_.

    Parameters
    ----------
    vicinities : tuple of Vicinity
        What is drawn from, at least one.
    weights : tuple of float, default=None
        Probability of each, up to a factor: at least 0, not all 0. None for equal ones.
    per : {'batch', 'example'}, default='batch'
        Whether all examples of a mini-batch share a vicinity, as in [1]_, or each draws its
        own. Vicinities that mix hidden layers are drawn for batches only.

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Measured: mixup or CutMix, drawn for each batch of 5,000 images of CIFAR-10, did as well as
    CutMix alone (``python -m benchmarks ablation``).

    References
    ----------
    .. [1] H. Touvron, M. Cord, M. Douze, F. Massa, A. Sablayrolles and H. Jegou, "Training
       data-efficient image transformers & distillation through attention", ICML 2021,
       https://arxiv.org/abs/2012.12877

    Examples
    --------
    >>> import numpy as np
    >>> from sk_mixup.mixing import ERM, Mixture, Mixup
    >>> policy = Mixture((ERM(), Mixup(alpha=float("inf"))))
    >>> plan = policy(np.random.default_rng(3), n_samples=6, batch_size=2)
    >>> plan.lam[0].tolist()
    [0.5, 0.5, 1.0, 1.0, 1.0, 1.0]
    """

    vicinities: tuple[Vicinity, ...]
    weights: tuple[float, ...] | None = None
    per: LamPer = "batch"

    def __post_init__(self) -> None:
        check_choice("per", self.per, LAM_PER[::-1])
        given = self.vicinities
        hint = "Give policies such as (Mixup(), CutMix())."
        if not isinstance(given, tuple | list) or not all(isinstance(v, Vicinity) for v in given):
            raise TypeError(f"vicinities must be a tuple of policies; got {given!r}. {hint}")
        if not given:
            raise ValueError(f"vicinities must hold at least one policy; got {given!r}. {hint}")
        object.__setattr__(self, "vicinities", tuple(given))
        self._check_weights()

    def _check_weights(self) -> None:
        if self.weights is None:
            return
        if not isinstance(self.weights, tuple | list) or len(self.weights) != len(self.vicinities):
            raise ValueError(
                f"weights must hold one number per vicinity; got {self.weights!r} for "
                f"{len(self.vicinities)}. Give as many."
            )
        hint = "Give probabilities."
        total = sum(check_real("weights", w, low=0.0, high=1e100, hint=hint) for w in self.weights)
        if not total > 0:
            raise ValueError(f"weights must hold a number above 0; got {self.weights!r}. Raise one.")

    @property
    def has_one_lam_per_batch(self) -> bool:
        """Whether all examples of a mini-batch have the same weights."""
        return self.per == "batch" and all(vicinity.has_one_lam_per_batch for vicinity in self.vicinities)

    @property
    def keeps_shares_positive(self) -> bool:
        """Whether no target has a share below 0 by any of the policies."""
        return all(vicinity.keeps_shares_positive for vicinity in self.vicinities)

    def check(self, facts: RowFacts) -> None:
        """Raise if one of the policies does not fit the rows; see :meth:`Vicinity.check`."""
        for vicinity in self.vicinities:
            vicinity.check(facts)
        self._check_per(self.may_mix_hidden(facts))

    def _check_per(self, mixes_hidden: bool) -> None:
        if self.per == "example" and mixes_hidden:
            raise ValueError(
                "per must be 'batch' where hidden layers are mixed; got 'example'. Use per='batch'."
            )

    def may_mix_hidden(self, facts: RowFacts) -> bool:
        """Whether some mini-batches may be mixed inside the network."""
        return any(vicinity.may_mix_hidden(facts) for vicinity in self.vicinities)

    def may_mix_inputs(self, facts: RowFacts) -> bool:
        """Whether some mini-batches may be mixed, or changed, at the inputs."""
        return any(vicinity.may_mix_inputs(facts) for vicinity in self.vicinities)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw a plan of each, and which of them holds where; see :meth:`Vicinity.draw`."""
        plans = [vicinity.draw_checked(generator, bounds, order, facts) for vicinity in self.vicinities]
        hidden = any(plan.mixes_hidden for plan in plans)
        self._check_per(hidden or self.may_mix_hidden(facts))
        share = None if self.weights is None else np.asarray(self.weights) / math.fsum(self.weights)
        n_draws = len(bounds) - 1 if self.per == "batch" else int(bounds[-1])
        which = generator.choice(len(plans), size=n_draws, p=share)
        layers = _choose_layers(plans, which) if hidden else None
        which = np.repeat(which, np.diff(bounds)) if self.per == "batch" else which
        return _merge(plans, which, layers)


def _choose_layers(plans: Sequence[Plan], which: Index) -> tuple[str, ...]:
    layers = [plan.layers or (INPUT,) * len(which) for plan in plans]
    return tuple(layers[chosen][batch] for batch, chosen in enumerate(which))


def _merge(plans: Sequence[Plan], which: Index, layers: tuple[str, ...] | None) -> Plan:
    """Return one plan that follows ``plans[which[i]]`` at place i."""
    first = plans[0]
    n_planned = int(first.bounds[-1])
    n_mixed = max(1 if plan.lam is None else len(plan.lam) for plan in plans)
    operations = tuple(
        operation.keep(which == k) for k, plan in enumerate(plans) for operation in plan.operations
    )
    if n_mixed == 1:
        return Plan(first.bounds, first.order, operations=operations)
    inputs = [plan.lam if plan.lam_x is None else plan.lam_x for plan in plans]
    return Plan(
        first.bounds,
        first.order,
        np.choose(which, [_pad_places(plan, n_mixed) for plan in plans]),
        np.choose(which, [_pad_weights(plan.lam, n_mixed, n_planned) for plan in plans]),
        all(plan.place is None or plan.within_batch for plan in plans),
        np.choose(which, [_pad_weights(lam_x, n_mixed, n_planned) for lam_x in inputs]),
        operations,
        layers,
        _choose_absent(plans, which, n_mixed),
    )


def _choose_absent(plans: Sequence[Plan], which: Index, n_mixed: int) -> NDArray[np.bool_] | None:
    """Return which partners are absent; None if all are there."""
    absent = np.choose(which, [_pad_absent(plan, n_mixed) for plan in plans])
    return absent if absent.any() else None


def _pad_absent(plan: Plan, n_mixed: int) -> NDArray[np.bool_]:
    """Return which partners a plan lacks, of as many as are asked for."""
    absent = np.ones((n_mixed - 1, int(plan.bounds[-1])), dtype=bool)
    if plan.place is not None:
        absent[: len(plan.place)] = False if plan.absent is None else plan.absent
    return absent


def _pad_places(plan: Plan, n_mixed: int) -> Index:
    """Return partners of a plan, as many as asked for; those that it lacks are the example itself."""
    own = np.tile(np.arange(int(plan.bounds[-1])), (n_mixed - 1, 1))
    if plan.place is not None:
        own[: len(plan.place)] = plan.place
    return own


def _pad_weights(lam: Weights | None, n_mixed: int, n_planned: int) -> Weights:
    """Return weights of a plan, with zeros for the partners that it lacks."""
    padded = np.zeros((n_mixed, n_planned))
    if lam is None:
        padded[0] = 1.0
    else:
        padded[: len(lam)] = lam
    return padded
