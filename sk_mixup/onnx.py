"""Estimators and pipelines as ONNX models; needs skl2onnx, which the extra ``onnx`` installs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from sklearn.base import ClassifierMixin, is_classifier
from sklearn.compose import ColumnTransformer
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted
import torch
from torch import Tensor, nn

from sk_mixup.estimators import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._indicators import Indicators
from sk_mixup.estimators._links import Link
from sk_mixup.estimators._onnx_network import LINKS, Graph, add_columns, add_layer
from sk_mixup.estimators._pixel_labels import PixelLabels
from sk_mixup.estimators._row_labels import Labels
from sk_mixup.estimators._standardized import StandardizedValues

if TYPE_CHECKING:
    from onnx import ModelProto
    from skl2onnx.common._container import ModelComponentContainer
    from skl2onnx.common._topology import Operator, Scope

__all__ = ["register_converters", "to_onnx"]

# Codes of dtypes in ONNX.
CODES = {np.dtype(np.float32): 1, np.dtype(np.int64): 7, np.dtype(np.float64): 11}
DOUBLE = np.dtype(np.float64)


def to_onnx(model: object, X: object, **options: object) -> ModelProto:
    """Return a fitted estimator, or a pipeline that ends in one, as an ONNX model.

    Parameters
    ----------
    model : estimator
        Such as a pipeline of scikit-learn.
    X : array-like or DataFrame
        Some rows, of the dtype that will be served: of float64 what comes before the network is
        computed in double precision, as in scikit-learn. Of a frame of pandas each column is an
        input of its own; another frame is read as an array.
    **options : dict
        Handed on to ``skl2onnx.to_onnx``, such as `target_opset`.

    Returns
    -------
    model : onnx.ModelProto
        Outputs of a classifier are ``label`` and ``probabilities``; the latter are an array, or
        a dictionary of each row, as is skl2onnx's default, with ``options={"zipmap": True}``. The
        output of a regressor is ``variable``, of shape (n_samples, n_outputs).

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    TypeError, ValueError
        If the estimator, its network or what follows it cannot be converted, or `X` is not of such rows; the
        message says what can.

    Examples
    --------
    >>> from sk_mixup.onnx import to_onnx
    >>> pipeline = make_pipeline(StandardScaler(), MixupClassifier()).fit(X, y)  # doctest: +SKIP
    >>> content = to_onnx(pipeline, X).SerializeToString()  # doctest: +SKIP
    """
    register_converters()
    import skl2onnx

    check_is_fitted(model)
    given = options.pop("options", {id(model): {"zipmap": False}} if is_classifier(model) else None)
    rows = X if hasattr(X, "iloc") else np.asarray(X)
    _check_rows(rows)
    _check_order(model, X)
    joined = _join_columns(model, rows)
    if isinstance(given, dict):
        given = {id(joined) if key == id(model) else key: values for key, values in given.items()}
    return skl2onnx.to_onnx(joined, rows, options=given, **options)


def _check_order(model: object, X: object) -> None:
    """Raise unless columns stand as in fit, where they are told apart by their places."""
    seen, given = getattr(model, "feature_names_in_", None), getattr(X, "columns", None)
    if seen is None or given is None or _chooses_columns(model) or list(seen) == list(given):
        return
    place = next((i for i, (a, b) in enumerate(zip(seen, given, strict=False)) if a != b), -1)
    found = f"{given[place]!r} in the place of {seen[place]!r}" if place >= 0 else f"{len(given)} columns"
    raise ValueError(
        f"X must have the {len(seen)} columns seen in fit, in that order, to be converted to ONNX; got "
        f"{found}. Give X[model.feature_names_in_]."
    )


def _chooses_columns(model: object) -> bool:
    """Whether a model finds its columns by their names."""
    parts = (model, *getattr(model, "get_params", dict)().values())
    return any(isinstance(part, ColumnTransformer) for part in parts)


def _join_columns(model: object, rows: object) -> object:
    """Return a pipeline that gives a model, but a net itself, the columns of numbers of a frame as one array.

    Of columns of several dtypes a scaler of skl2onnx's makes the dtype of the first: whole numbers of floats.
    """
    is_table = hasattr(rows, "iloc") and all(
        dtype.kind in "iuf" for dtype in np.ravel(getattr(rows, "dtypes", ()))
    )
    if not is_table or _chooses_columns(model) or isinstance(model, MixupEstimator):
        return model
    join = ColumnTransformer([("all", "passthrough", list(getattr(rows, "columns", ())))]).fit(rows)
    return Pipeline([("columns", join), ("model", model)])


def _check_rows(X: object) -> None:
    """Raise unless rows are dense, and of a frame each column has a name."""
    dtypes = np.array(getattr(X, "dtypes", getattr(X, "dtype", None)), dtype=object).ravel()
    shape = getattr(X, "shape", ())
    if len(shape) < 2 or any(dtype == np.float16 for dtype in dtypes):
        found = f"shape {shape} of {', '.join(sorted({str(dtype) for dtype in dtypes}))}"
        raise ValueError(
            "X must be a dense array or a frame of rows, of float32 or float64, to be converted to ONNX; got "
            f"{found}. Convert it."
        )
    unnamed = [name for name in getattr(X, "columns", ()) if not isinstance(name, str)]
    if unnamed:
        raise ValueError(
            f"X must have columns with names, each an input, to be converted to ONNX; got {unnamed[0]!r}. "
            "Give X.to_numpy(), or call X.rename(columns=str) before fit."
        )


def register_converters() -> None:
    """Let ``skl2onnx.to_onnx`` and ``skl2onnx.convert_sklearn`` take the estimators of this package.

    Ensembles and GANs are refused; the error says what to do.

    Raises
    ------
    ImportError
        If skl2onnx is not installed.
    """
    try:
        from skl2onnx import update_registered_converter
    except ImportError as error:
        raise ImportError(
            "skl2onnx must be installed to convert to ONNX; got none. Run pip install skl2onnx onnxruntime."
        ) from error
    of_classifiers = {"zipmap": [True, False, "columns"], "nocl": [True, False]}
    of_classifiers["output_class_labels"] = [False, True]
    for owner in (MixupClassifier, SemiSupervisedMixupClassifier):
        args = (f"SkMixup{owner.__name__}", _declare_classes, _convert_classifier)
        update_registered_converter(owner, *args, overwrite=True, options=of_classifiers)
    args = ("SkMixupMixupRegressor", _declare_values, _convert_regressor)
    update_registered_converter(MixupRegressor, *args, overwrite=True)
    for other in (MixupEnsembleClassifier, MixupEnsembleRegressor, MixupGAN):
        args = (f"SkMixup{other.__name__}", _refuse, _convert_classifier)
        given = of_classifiers if issubclass(other, ClassifierMixin) else None
        update_registered_converter(other, *args, overwrite=True, options=given)


# -- estimators --------------------------------------------------------------------------


def _refuse(operator: Operator) -> None:
    """Raise: the estimator is not converted."""
    raise TypeError(
        "model must be, or end in, a MixupClassifier, MixupRegressor or SemiSupervisedMixupClassifier to be "
        f"converted to ONNX; got {type(operator.raw_operator).__name__}. Convert each of an ensemble's "
        "estimators_ and average what they give, or export a GAN's generator_ by torch.export."
    )


def _declare_classes(operator: Operator) -> None:
    """Set types and shapes of labels and probabilities."""
    from skl2onnx.common.data_types import Int64TensorType, StringTensorType

    net = operator.raw_operator
    n_rows, n_classes = operator.inputs[0].get_first_dimension(), len(net.classes_)
    several = isinstance(net._targets, Indicators)
    is_text = not several and _list_labels(operator).dtype.kind == "S"
    kind = StringTensorType if is_text else Int64TensorType
    operator.outputs[0].set_type(kind([n_rows, n_classes] if several else [n_rows]))
    zipped = operator.scope_inst.get_options(net, {"zipmap": True})["zipmap"] is True  # takes floats only
    is_double = _has_double_inputs(operator) and not zipped
    operator.outputs[1].set_type(_get_type(is_double)([n_rows, n_classes]))


def _declare_values(operator: Operator) -> None:
    """Set type and shape of predictions."""
    targets = operator.raw_operator._targets
    shape = [operator.inputs[0].get_first_dimension(), targets.n_outputs]
    narrowest = targets.present(np.zeros((1, targets.n_outputs)), np.float32).dtype
    is_double = narrowest == DOUBLE or _has_double_inputs(operator)
    operator.outputs[0].set_type(_get_type(is_double)(shape))


def _has_double_inputs(operator: Operator) -> bool:
    return any(isinstance(each.type, _get_type(True)) for each in operator.inputs)


def _get_type(is_double: bool) -> type:
    from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType

    return DoubleTensorType if is_double else FloatTensorType


def _convert_classifier(scope: Scope, operator: Operator, container: ModelComponentContainer) -> None:
    net = operator.raw_operator
    graph = Graph(scope, container, net.float_dtype)
    probabilities = _predict(graph, operator)
    label, proba = (output.full_name for output in operator.outputs)
    graph.add("Cast", probabilities, output=proba, to=_get_code(operator.outputs[1]))
    if isinstance(net._targets, Indicators):
        chosen = graph.add("Greater", probabilities, graph.hold(np.array(0.5)))
        graph.add("Cast", chosen, output=label, to=CODES[np.dtype(np.int64)])
        return
    code = graph.add("ArgMax", probabilities, axis=1, keepdims=0)
    graph.add("Gather", graph.hold(_list_labels(operator)), code, output=label)


def _convert_regressor(scope: Scope, operator: Operator, container: ModelComponentContainer) -> None:
    graph, output = Graph(scope, container, operator.raw_operator.float_dtype), operator.outputs[0]
    graph.add("Cast", _predict(graph, operator), output=output.full_name, to=_get_code(output))


def _get_code(variable: object) -> int:
    from skl2onnx.common.data_types import guess_proto_type

    code: int = guess_proto_type(variable.type)  # type: ignore[attr-defined]
    return code


def _predict(graph: Graph, operator: Operator) -> str:
    """Add the network and its link; return the predictions in double precision, as the net makes them."""
    net: MixupEstimator = operator.raw_operator
    _check_net(net)
    chosen = net._get_predict_nonlinearity()
    link = LINKS.get(chosen.at(1.0) if isinstance(chosen, Link) else chosen)
    if link is None:
        raise ValueError(
            "predict_nonlinearity must be 'auto' or None to be converted to ONNX; got "
            f"{net.predict_nonlinearity!r}. Apply it to the outputs of the ONNX model."
        )
    dtype = torch.zeros((), dtype=graph.dtype).numpy().dtype
    columns = [graph.add("Cast", each.full_name, to=CODES[dtype]) for each in operator.inputs]
    x = columns[0] if len(columns) == 1 else graph.add("Concat", *columns, axis=1)
    module = getattr(net.module_, "_orig_mod", net.module_)  # of a compiled one, the plain one
    output = graph.add("Cast", add_layer(graph, module, x, "module"), to=CODES[DOUBLE])
    sample = _compute_sample(net, module)
    if isinstance(net._targets, StandardizedValues):
        mean, std = map(graph.hold, net._targets.scale)
        output = graph.add("Add", graph.add("Mul", output, std), mean)
    if isinstance(chosen, Link) and chosen.temperature != 1:
        output = graph.add("Div", output, graph.hold(np.array(chosen.temperature)))
    values = link(graph, output)
    is_second = isinstance(net._targets, Labels) and chosen(sample.cpu().double()).shape[1] == 1
    return add_columns(graph, values) if is_second else values


def _compute_sample(net: MixupEstimator, module: nn.Module) -> Tensor:
    """Return what a module makes of two rows of zeros; raise unless it is a row of numbers for each."""
    device = next((weight.device for weight in module.parameters()), None)
    net._set_training(False)
    with torch.no_grad():
        output: Tensor = module(torch.zeros(2, *net._shape_in, dtype=net.float_dtype, device=device))
    if output.ndim != 2:
        raise ValueError(
            "module must return one row of numbers for each example to be converted to ONNX; got an output "
            f"of shape {tuple(output.shape)} for 2 examples. Export module_ by torch.export, and average the "
            "members of an implicit ensemble."
        )
    return output


def _check_net(net: MixupEstimator) -> None:
    """Raise if a net computes its predictions in a way that is not converted."""
    if isinstance(net._targets, PixelLabels):
        raise ValueError(
            "y must hold a label, or several, of each row to be converted to ONNX; got labels of pixels. "
            "Export module_ by torch.export."
        )
    if net.autocast is not None:
        raise ValueError(
            f"autocast must be None to be converted to ONNX; got {net.autocast!r}. Call "
            "set_params(autocast=None) first, and look at the predictions that it leads to."
        )
    if net.float_dtype not in (torch.float32, torch.float64):
        raise ValueError(
            f"module must have weights of float32 or float64 to be converted to ONNX; got {net.float_dtype}. "
            "Call module_.float() first, and look at the predictions that it leads to."
        )


def _list_labels(operator: Operator) -> np.ndarray:
    """Return the classes as ONNX can hold them, integers or strings as bytes; by option their positions."""
    net = operator.raw_operator
    classes = np.asarray(net._targets.known)
    if operator.scope_inst.get_options(net, {"nocl": False})["nocl"]:
        return np.arange(len(classes))
    if classes.dtype.kind in "US" or all(isinstance(label, str) for label in classes):
        return np.array([str(label).encode() for label in classes])
    if classes.dtype.kind in "biuf" and np.all(classes == classes.astype(np.int64)):
        return classes.astype(np.int64)
    raise ValueError(
        f"y must hold integers or strings to be converted to ONNX; got classes {classes.tolist()}. Convert "
        "them before fit."
    )
