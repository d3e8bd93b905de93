"""Manifold mixup: a hidden layer is mixed in place of the inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sk_mixup.mixing.mixup import LamPer, check_weights, draw_weights
from sk_mixup.mixing.partners import Partners, PartnersName, as_partners
from sk_mixup.mixing.plan import Index, Plan
from sk_mixup.mixing.row_facts import RowFacts
from sk_mixup.mixing.vicinity import Vicinity, check_layers, draw_layers, draw_partners

__all__ = ["ManifoldMixup"]


@dataclass(frozen=True)
class ManifoldMixup(Vicinity):
    """mixup at a layer that is drawn anew for each mini-batch [1]_.

    A layer of the network is drawn uniformly; with ``h`` its output for an example, the rest of
    the network is given ``sum_k lam_k h_k``, against the target ``sum_k lam_k y_k``:
    section 2 of [1]_.

    Parameters
    ----------
    alpha : float, default=2.0
        Strength of mixing, in (0, inf]; λ ~ Beta(alpha, alpha). [1]_ takes 2 on CIFAR.
    layers : 'auto' or tuple of str, default='auto'
        Where to mix: names of submodules, whose outputs are mixed, and 'input'. 'auto' is, for
        a sequence of layers, the input and the inputs of all later layers with weights; for
        another network the input and the outputs of its parts of several layers, and of blocks of a
        ``ModuleList``, except the last part with weights, such as the head. The first dimension of
        such an output counts the rows.
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
    mixup, but for the mixing itself, and stacked under :func:`sk_mixup.stacked`. Other networks
    are mixed by a hook on the layer, one batch and one net at a time.

    Measured with 'auto' and the alpha of mixup beside it (``python -m benchmarks ablation``): on
    5,000 images of CIFAR-10 a test error lower than ERM's by 2.2 points (of 53.0 %), mixup's by
    2.4; on eight tables no clear difference: 0.9 points lower on average, mixup 0.5. On real-valued targets
    it was no better than ERM, and on Airfoil worse (``python -m benchmarks regression``).

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
    layers: Literal["auto"] | tuple[str, ...] = "auto"
    lam_per: LamPer = "example"
    n_mixed: int = 2
    partners: PartnersName | Partners = "batch"

    def __post_init__(self) -> None:
        check_weights(self.alpha, self.lam_per, self.n_mixed)
        object.__setattr__(self, "layers", check_layers(self.layers))
        as_partners(self.partners)

    def draw(self, generator: np.random.Generator, bounds: Index, order: Index, facts: RowFacts) -> Plan:
        """Draw weights, partners and layers; see :meth:`Vicinity.draw`."""
        lam = draw_weights(generator, bounds, self.alpha, self.n_mixed, self.lam_per)
        place, within_batch = draw_partners(
            generator, bounds, order, facts, partners=self.partners, n_partners=self.n_mixed - 1
        )
        layers = draw_layers(generator, bounds, self.layers, facts, repr(self))
        return Plan(bounds, order, place, lam, within_batch, layers=layers)
