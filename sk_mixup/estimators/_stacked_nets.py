"""Predictions of several fitted nets: of plain multilayer perceptrons by one batched program."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from sklearn.base import is_classifier
import torch
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._skorch.overriding import find_overridden
from sk_mixup._tensors import to_host
from sk_mixup._training.module_structure import find_linear_layers, is_hooked
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._links import Link
from sk_mixup.modules import MLP

__all__ = ["PREDICTIONS", "StackedPerceptrons", "predict_each"]

# What a net predicts, of which a subclass may have its own.
PREDICTIONS = ("predict_proba", "predict_log_proba", "forward", "forward_iter", "predict")


class StackedPerceptrons(nn.Module):
    """Several multilayer perceptrons of one shape as one module, in batched matrix products.

    Parameters
    ----------
    nets : sequence of sequence of torch.nn.Linear
        The linear layers of each net; a ReLU follows all but the last.

    Examples
    --------
    >>> import torch
    >>> from torch import nn
    >>> from sk_mixup.estimators._stacked_nets import StackedPerceptrons
    >>> nets = [[nn.Linear(4, 8), nn.Linear(8, 3)] for _ in range(5)]
    >>> StackedPerceptrons(nets)(torch.zeros(2, 4)).shape
    torch.Size([2, 5, 3])
    """

    def __init__(self, nets: Sequence[Sequence[nn.Linear]]) -> None:
        super().__init__()
        levels = list(zip(*nets, strict=True))
        self.weights = nn.ParameterList(
            [torch.stack([layer.weight.t() for layer in level]) for level in levels]
        )
        self.biases = nn.ParameterList(
            [torch.stack([_get_bias(layer) for layer in level]) for level in levels]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the outputs of shape (n, n_nets, n_outputs) for `x` of shape (n, *features)."""
        x = x.flatten(1).expand(len(self.weights[0]), -1, -1)
        last = len(self.weights) - 1
        for level, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = torch.baddbmm(bias, x, weight)
            x = x if level == last else x.relu_()
        return x.transpose(0, 1)


def _get_bias(layer: nn.Linear) -> Tensor:
    """Return the bias as a row; zeros where there is none."""
    return (layer.weight.new_zeros(layer.out_features) if layer.bias is None else layer.bias).unsqueeze(0)


def predict_each(nets: Sequence[MixupEstimator], X: object, *, log: bool = False) -> Iterator[np.ndarray]:
    """Yield what nets predict for parts of X, in order: float64 arrays of shape (n_nets, n, ...).

    Nets that are fitted alike are predicted as one where they are plain multilayer perceptrons, else one
    after the other: the same but for rounding.

    Parameters
    ----------
    nets : sequence of MixupEstimator
        Fitted nets, all to one kind of targets.
    X : array-like, sparse matrix or Dataset
        Examples.
    log : bool, default=False
        Whether logarithms of probabilities are wanted.
    """
    stack, link = _stack(nets), nets[0]._get_predict_nonlinearity()
    if log and isinstance(link, Link):
        link = link.log
    elif log:
        stack = None
    if stack is None:
        yield np.stack([to_array(_predict(net, X, log)) for net in nets]).astype(np.float64, copy=False)
        return
    for output in stack.forward_iter(X):
        array = _read(stack, output.transpose(0, 1).flatten(0, 1), link, log)
        yield array.reshape(len(nets), -1, *array.shape[1:])


def _predict(net: MixupEstimator, X: object, log: bool) -> object:
    if not is_classifier(net):
        return net.predict(X)
    return net.predict_log_proba(X) if log else net.predict_proba(X)


def _read(net: MixupEstimator, output: Tensor, link: Callable[[Tensor], Tensor], log: bool) -> np.ndarray:
    """Return what the net makes of its module's output."""
    targets = net._targets
    values = np.asarray(to_host(targets.read(output, link, log=log)))
    return values if is_classifier(net) else targets.present(targets.choose(values), np.float64)


def _stack(nets: Sequence[MixupEstimator]) -> MixupEstimator | None:
    """Return a net with all modules in the place of its own; None where they do not stack."""
    found = [_find_layers(net) for net in nets]
    layers = [own for own in found if own is not None]
    if len(layers) < len(nets) or len({_describe(own) for own in layers}) > 1:
        return None
    if len({net._targets.temperature for net in nets}) > 1:
        return None
    stack: MixupEstimator = object.__new__(type(nets[0]))
    with torch.no_grad():
        stack.__dict__.update(vars(nets[0]), module_=StackedPerceptrons(layers).eval())
    return stack


def _describe(layers: Sequence[nn.Linear]) -> tuple[object, ...]:
    return tuple((layer.weight.shape, layer.weight.dtype, layer.weight.device) for layer in layers)


def _find_layers(net: MixupEstimator) -> list[nn.Linear] | None:
    """Return the linear layers of a net that predicts by a plain multilayer perceptron alone."""
    module = net._find_sole_module()
    container = module.layers if type(module) is MLP else module
    if type(container) is not nn.Sequential or is_hooked(container) or find_overridden(net, PREDICTIONS):
        return None
    # Dropout does nothing here, and is left out.
    parts = [part for part in container if type(part) is not nn.Dropout or is_hooked(part)]
    n_axes = 1 + len(vars(net).get("_shape_in", ()))
    return None if module is None or is_hooked(module) else find_linear_layers(nn.Sequential(*parts), n_axes)
