"""A network and its link in the graph of an ONNX model: which layers are converted, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from skorch.utils import _identity
import torch
from torch import Tensor, nn

from sk_mixup.estimators._links import (
    SIGMOID,
    SIGMOID_COLUMNS,
    SOFTMAX,
    clip,
    divide_by_sum,
    keep,
    make_columns,
    squash,
)
from sk_mixup.modules import MLP

if TYPE_CHECKING:
    from skl2onnx.common._container import ModelComponentContainer
    from skl2onnx.common._topology import Scope

__all__ = ["LINKS", "Graph", "add_columns", "add_layer"]


@dataclass(frozen=True)
class Graph:
    """What skl2onnx builds a model in: each node has one output."""

    scope: Scope
    container: ModelComponentContainer
    dtype: torch.dtype  # of the network

    def add(self, kind: str, *inputs: str, output: str | None = None, **attributes: object) -> str:
        """Add a node; return the name of its output."""
        name: str = output or self.scope.get_unique_variable_name(kind.lower())
        node = self.scope.get_unique_operator_name(kind)
        try:
            self.container.add_node(kind, list(inputs), name, name=node, **attributes)
        except RuntimeError as error:  # the operator came later
            raise ValueError(
                f"target_opset must be one with {kind}, which the network needs; got "
                f"{self.container.target_opset} ({str(error).rstrip('.')}). Use a later one, or leave it out."
            ) from error
        return name

    def hold(self, values: Tensor | np.ndarray) -> str:
        """Add a constant; return its name."""
        from onnx import TensorProto
        from onnx.numpy_helper import from_array

        array = values.numpy(force=True) if isinstance(values, Tensor) else values
        name: str = self.scope.get_unique_variable_name("constant")
        code = TensorProto.STRING if array.dtype.kind == "S" else from_array(array).data_type
        self.container.add_initializer(name, code, array.shape, array.ravel().tolist())
        return name


Link = Callable[[Graph, str], str]


def _add_sigmoid_columns(graph: Graph, logit: str) -> str:
    both = graph.add("Concat", graph.add("Neg", logit), logit, axis=1)
    return graph.add("Sigmoid", both)


def add_columns(graph: Graph, probability: str) -> str:
    other = graph.add("Sub", graph.hold(np.array(1.0)), probability)
    return graph.add("Concat", other, probability, axis=1)


def _add_shares(graph: Graph, output: str) -> str:
    zero = graph.hold(np.array(0.0))
    shares = graph.add("Max", output, zero)
    total = graph.add("ReduceSum", shares, graph.hold(np.array([1])), keepdims=1)
    alike = graph.add("Softmax", graph.add("Mul", shares, zero), axis=1)
    return graph.add("Where", graph.add("Greater", total, zero), graph.add("Div", shares, total), alike)


def _add_clip(graph: Graph, output: str) -> str:
    return graph.add("Clip", output, graph.hold(np.array(0.0)), graph.hold(np.array(1.0)))


def _add_nothing(graph: Graph, output: str) -> str:
    return output


LINKS: dict[Callable[[Tensor], Tensor], Link] = {
    SOFTMAX: lambda graph, logits: graph.add("Softmax", logits, axis=1),
    SIGMOID: lambda graph, logits: graph.add("Sigmoid", logits),
    SIGMOID_COLUMNS: _add_sigmoid_columns,
    make_columns: add_columns,
    squash: lambda graph, logits: graph.add("Sigmoid", logits),
    torch.exp: lambda graph, output: graph.add("Exp", output),
    clip: _add_clip,
    divide_by_sum: _add_shares,
    keep: _add_nothing,
    _identity: _add_nothing,
}


# -- layers ------------------------------------------------------------------------------


def add_layer(graph: Graph, layer: nn.Module, x: str, name: str) -> str:
    """Add a layer; return the name of its output."""
    add = LAYERS.get(type(layer))
    if add is None or layer._forward_hooks or layer._forward_pre_hooks:
        kinds = ", ".join(sorted(kind.__name__ for kind in LAYERS))
        found = type(layer).__name__ if add is None else f"a {type(layer).__name__} with hooks"
        raise TypeError(
            f"{name} must be one of {kinds} to be converted to ONNX; got {found}. Export module_ by "
            "torch.onnx.export, or by torch.export."
        )
    return add(graph, layer, x, name)


def _add_children(graph: Graph, module: nn.Module, x: str, name: str) -> str:
    for child, layer in module._modules.items():  # those that stand in it twice, too
        if layer is not None:
            x = add_layer(graph, layer, x, f"{name}.{child}")
    return x


def _skip(graph: Graph, layer: nn.Module, x: str, name: str) -> str:
    return x


def _add_function(
    kind: str, options: Sequence[str], graph: Graph, layer: nn.Module, x: str, name: str
) -> str:
    """Add a function whose options have the same names, or that of `axis` for `dim`."""
    values = {"axis" if option == "dim" else option: getattr(layer, option) for option in options}
    if None in values.values():
        raise ValueError(
            f"{name} must have a dim to be converted to ONNX; got {layer}. Set it, such as dim=1."
        )
    return graph.add(kind, x, **values)


def _add_flatten(graph: Graph, layer: nn.Flatten, x: str, name: str) -> str:
    if (layer.start_dim, layer.end_dim) != (1, -1):
        raise ValueError(
            f"{name} must flatten all axes but the first to be converted to ONNX; got {layer}. Use "
            "nn.Flatten()."
        )
    return graph.add("Flatten", x, axis=1)


def _add_linear(graph: Graph, layer: nn.Linear, x: str, name: str) -> str:
    product = graph.add("MatMul", x, graph.hold(layer.weight.T))
    return product if layer.bias is None else graph.add("Add", product, graph.hold(layer.bias))


def _add_batch_norm(graph: Graph, layer: nn.BatchNorm1d, x: str, name: str) -> str:
    mean, variance = layer.running_mean, layer.running_var
    if mean is None or variance is None:
        raise ValueError(
            f"{name} must have running statistics to be converted to ONNX; got track_running_stats=False. "
            "Predictions of such a net depend on the rows beside them."
        )
    scale = torch.ones_like(mean) if layer.weight is None else layer.weight
    shift = torch.zeros_like(mean) if layer.bias is None else layer.bias
    constants = map(graph.hold, (scale, shift, mean, variance))
    return graph.add("BatchNormalization", x, *constants, epsilon=layer.eps)


def _add_layer_norm(graph: Graph, layer: nn.LayerNorm, x: str, name: str) -> str:
    shape = layer.normalized_shape
    scale = torch.ones(shape, dtype=graph.dtype) if layer.weight is None else layer.weight
    constants = [graph.hold(part) for part in (scale, layer.bias) if part is not None]
    return graph.add("LayerNormalization", x, *constants, axis=-len(shape), epsilon=layer.eps)


def _add_silu(graph: Graph, layer: nn.SiLU, x: str, name: str) -> str:
    return graph.add("Mul", x, graph.add("Sigmoid", x))


def _add_prelu(graph: Graph, layer: nn.PReLU, x: str, name: str) -> str:
    return graph.add("PRelu", x, graph.hold(layer.weight))


LAYERS: dict[type[nn.Module], Callable[..., str]] = {
    MLP: _add_children,
    nn.Sequential: _add_children,
    nn.Flatten: _add_flatten,
    nn.Linear: _add_linear,
    nn.BatchNorm1d: _add_batch_norm,
    nn.LayerNorm: _add_layer_norm,
    nn.Dropout: _skip,
    nn.Identity: _skip,
    nn.ReLU: partial(_add_function, "Relu", ()),
    nn.LeakyReLU: lambda graph, layer, x, name: graph.add("LeakyRelu", x, alpha=layer.negative_slope),
    nn.PReLU: _add_prelu,
    nn.ELU: partial(_add_function, "Elu", ("alpha",)),
    nn.SELU: partial(_add_function, "Selu", ()),
    nn.SiLU: _add_silu,
    nn.GELU: lambda graph, layer, x, name: graph.add("Gelu", x, approximate=layer.approximate),
    nn.Tanh: partial(_add_function, "Tanh", ()),
    nn.Sigmoid: partial(_add_function, "Sigmoid", ()),
    nn.Softmax: partial(_add_function, "Softmax", ("dim",)),
    nn.LogSoftmax: partial(_add_function, "LogSoftmax", ("dim",)),
}
