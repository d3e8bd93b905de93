"""Real values that a network is trained on as standardised ones: in units of their own mean and spread."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
import inspect
from numbers import Real
from typing import Self

import numpy as np
import torch
from torch import Tensor, nn

from sk_mixup._training.losses import Loss, SquaredError
from sk_mixup._warning import warn_user
from sk_mixup.estimators._inputs import check_weights, get_input_dtype
from sk_mixup.estimators._real_values import RealValues
from sk_mixup.estimators._targets import TargetOptions

__all__ = ["StandardizedValues", "ValuesOfOneUnit", "find_standardized_kind"]

# By what power of a unit of y a criterion changes, if its own constant, an error in units of y, does so too.
POWERS: dict[object, int] = {nn.MSELoss: 2, nn.L1Loss: 1, nn.HuberLoss: 2, nn.SmoothL1Loss: 1}
CONSTANTS: dict[object, str] = {nn.HuberLoss: "delta", nn.SmoothL1Loss: "beta"}
# Columns that differ by rounding alone are constant.
ROUNDING = 10 * np.finfo(np.float64).eps
# A prediction must tell values apart that differ by so many standard deviations.
RESOLUTION = 1e-3
# Operations after which a module is still what comes before them, in other units or of another shape.
AFFINE = ("Add", "Sub", "Mul", "Div", "View", "ReshapeAlias", "UnsafeView", "Squeeze", "Unsqueeze", "ToCopy")
# What no training can bring out of a range.
BOUNDED = (
    *("Sigmoid", "Softplus", "Relu", "Tanh", "Exp", "Softmax", "Hardtanh", "Clamp", "ClampMin", "ClampMax"),
    *("Abs", "Pow", "Exp2", "Expm1", "Elu", "Gelu", "Silu"),
)


@dataclass(frozen=True, eq=False)
class StandardizedValues(RealValues):
    """Real values whose codes have the mean 0 and the standard deviation 1 in each column.

    Attributes
    ----------
    mean, std : tuple of float
        Of the targets that were learned, by the weights of the rows; 1 for the spread of a constant.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return finite numbers in double precision: what makes them differ may be far less than they are."""
        super().check(y)
        exact = np.asarray(y, dtype=np.float64)
        return exact[:, 0] if exact.ndim == 2 and exact.shape[1] == 1 else exact

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Take mean and spread of each column; of the first targets of a stream neither."""
        columns = y.reshape(len(y), -1)
        mean, std = np.zeros(columns.shape[1]), np.ones(columns.shape[1])
        if options.is_whole:
            weight = check_weights(options.weight, len(y))
            mean = np.average(columns, axis=0, weights=weight)
            std = np.sqrt(np.average(np.square(columns - mean), axis=0, weights=weight))
            std = np.where(std > ROUNDING * np.abs(mean), std, 1.0)
        return cls(columns.shape[1], y.ndim == 1, tuple(mean.tolist()), tuple(std.tolist()))

    @classmethod
    def warn_of_weights_alone(cls) -> None:
        """Warn: mean and spread are not among the weights."""
        warn_user(
            "f_params is loaded into a net that has seen no data and keeps no mean and spread of y, so that "
            "predictions are those of standardised targets if it was trained so. Use save_params(f_params, "
            "use_safetensors=True), or set standardize_targets=False for a net that was not.",
        )

    # -- codes and back ------------------------------------------------------------------

    @property
    def scale(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation of each column."""
        return np.asarray(self.mean), np.asarray(self.std)

    @property
    def units(self) -> dict[str, object]:
        """Mean and standard deviation of each column."""
        return {"mean": list(self.mean), "std": list(self.std)}

    def of_units(self, units: Mapping[str, object]) -> Self:
        """Return the same targets, with the mean and the spread of those of other weights."""
        mean, std = units.get("mean"), units.get("std")
        if not (isinstance(mean, list) and isinstance(std, list)):
            raise ValueError(
                "standardize_targets must be False for weights that were trained on targets as they are; got "
                "True. Make the net with the option of the one that was saved."
            )
        return replace(self, mean=tuple(mean), std=tuple(std))

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the standardised columns."""
        mean, std = self.scale
        return ((super().encode(y) - mean) / std).astype(get_input_dtype())

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return the standardised columns."""
        return self.encode(y.astype(np.float64, copy=False))

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return values in units of y, in double precision, of the shape that y had."""
        return super().decode(self._restore(torch.as_tensor(codes)))

    def decode_given(self, codes: np.ndarray) -> np.ndarray:
        """Return values in units of y."""
        return self.decode(codes)

    def _restore(self, codes: Tensor) -> Tensor:
        mean, std = map(torch.as_tensor, self.scale)
        return codes.cpu().double() * std + mean

    # -- training ------------------------------------------------------------------------

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise also where the output cannot leave a range, as targets of the mean 0 do."""
        super().check_output(output, criterion)
        name = _find_bound(output)
        if name:
            raise ValueError(
                "module must return numbers of any size and sign while standardize_targets=True; got the "
                f"output of {name}, whose range is bounded. Set standardize_targets=False, or end in a "
                "linear layer."
            )

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return squared error, if that is the criterion; its values count columns by their units."""
        loss = super().find_closed_form(criterion, label_smoothing, confidence_penalty)
        return SquaredError(self.column_units) if isinstance(loss, SquaredError) else loss

    def get_loss_unit(self, criterion: object) -> float:
        """Return the unit of the criterion's losses."""
        return float(self._spread ** POWERS.get(type(criterion), 0))

    @property
    def _spread(self) -> float:
        """The standard deviation; of several columns, the root of their mean variance."""
        std = self.scale[1]
        return float(std.max() * np.sqrt(np.mean(np.square(std / std.max()))))

    @property
    def column_units(self) -> tuple[float, ...] | None:
        """The unit of each column, in that of all together; None where they are alike."""
        units = self.scale[1] / self._spread
        return None if np.all(units == units[0]) else tuple(units.tolist())

    # -- prediction ----------------------------------------------------------------------

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return what the link makes of the output in units of y."""
        return super().read(self._restore(output), link, log=log)

    def present(self, values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """Return predictions of the network's precision; of double where that could not tell them apart."""
        mean, std = self.scale
        own = get_input_dtype()
        is_coarse = np.any(np.spacing(np.abs(mean).astype(own)) > RESOLUTION * std)
        return super().present(
            values if is_coarse else values.astype(own), np.float64 if is_coarse else dtype
        )


@dataclass(frozen=True, eq=False)
class ValuesOfOneUnit(StandardizedValues):
    """Real values whose columns are all divided by one spread, for criteria with a constant in that unit."""

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Take the mean of each column, and the root of their mean variance."""
        columns = super().learn(y, options)
        return replace(columns, std=(columns._spread,) * len(columns.std))

    def scale_constant(self, criterion: object, options: dict[str, object]) -> dict[str, object]:
        """Return options of a criterion whose constant, given in units of y, is in those of the codes."""
        name = CONSTANTS.get(criterion, "") if inspect.isclass(criterion) else ""
        value = options.get(name, 1.0)  # the default of both
        return {**options, name: float(value) / self._spread} if name and isinstance(value, Real) else options


def find_standardized_kind(criterion: object) -> type[StandardizedValues] | None:
    """Return the standardised values that a criterion may be given; None where y is to stay as it is.

    A constant is scaled where the criterion is built, so not in an instance.
    """
    if inspect.isclass(criterion) and criterion in CONSTANTS:
        return ValuesOfOneUnit
    kind = criterion if inspect.isclass(criterion) else type(criterion)
    return StandardizedValues if criterion == "auto" or kind in POWERS.keys() - CONSTANTS.keys() else None


def _find_bound(output: Tensor) -> str:
    """Return the function with a bounded range that an output is of; '' for none that is known."""
    node = output.grad_fn
    while node is not None:
        name = node.name().partition("Backward")[0]
        exponent = getattr(node, "_saved_exponent", 0)
        is_odd = isinstance(exponent, int | float) and exponent % 2 == 1
        if name in BOUNDED and not (name == "Pow" and is_odd):
            return name
        parents = [parent for parent, _ in node.next_functions if parent is not None]
        if name not in AFFINE or len(parents) != 1:
            return ""
        node = parents[0]
    return ""
