"""The default network."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn

from sk_mixup._validation import check_integer, check_real

__all__ = ["MLP"]


class MLP(nn.Module):
    """Fully connected network: the one of the paper's section 3.6.

    Parameters
    ----------
    in_features : int
        Number of features of an example, at least 1.
    out_features : int
        Number of outputs, at least 1: classes, labels or targets.
    hidden_layer_sizes : sequence of int, default=(128, 128)
        Units of each hidden layer, a ReLU after each. The default is the network of
        [1]_, section 3.6. Empty for a linear model.
    dropout : float, default=0.0
        Probability that a hidden unit is zeroed in training, in [0, 1].

    Raises
    ------
    TypeError, ValueError
        If an option breaks its rule.

    Notes
    -----
    Examples of any shape are flattened. The outputs are logits, or predictions as they
    are for regression: no activation follows the last layer.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.modules import MLP
    >>> MLP(4, 3)(torch.zeros(2, 4)).shape
    torch.Size([2, 3])
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        hidden_layer_sizes: Sequence[int] = (128, 128),
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_real("dropout", dropout, low=0.0, high=1.0, hint="Use 0 for none.")
        check_integer("in_features", in_features, low=1, hint="Give the number of features of an example.")
        check_integer("out_features", out_features, low=1, hint="Give the number of outputs.")
        sizes = [in_features, *_as_sizes(hidden_layer_sizes), out_features]
        layers: list[nn.Module] = [nn.Flatten()]
        for n_in, n_out in pairwise(sizes):
            layers += [nn.Linear(n_in, n_out), nn.ReLU(), *([nn.Dropout(dropout)] if dropout else [])]
        n_after_last = 2 if dropout else 1
        self.layers = nn.Sequential(*layers[:-n_after_last])

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of shape (n, out_features) for `x` of shape (n, *features)."""
        return self.layers(x)


def _as_sizes(hidden_layer_sizes: Sequence[int] | int) -> list[int]:
    """Check the sizes; a bare int is one layer, as in scikit-learn."""
    hint = "Give the units of each layer, such as (128, 128)."
    if isinstance(hidden_layer_sizes, str) or not hasattr(hidden_layer_sizes, "__iter__"):
        return [check_integer("hidden_layer_sizes", hidden_layer_sizes, low=1, hint=hint)]
    return [check_integer("hidden_layer_sizes", size, low=1, hint=hint) for size in hidden_layer_sizes]
