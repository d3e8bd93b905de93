"""Kinds of targets: what stands in y, and how a network is trained on it and read."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
import inspect
from typing import Any, ClassVar, Literal, Self

import numpy as np
from scipy.special import entr
import torch
from torch import Tensor, nn

from sk_mixup._skorch.dataset_items import to_array
from sk_mixup._training.losses import Loss

__all__ = [
    "ClassWeight",
    "TargetOptions",
    "Targets",
    "check_length",
]

ClassWeight = Mapping[Any, float] | Literal["balanced"] | None


@dataclass(frozen=True)
class TargetOptions:
    """What the options of an estimator say of its targets.

    Attributes
    ----------
    classes : ndarray or None
        All labels, where they are given.
    ignored : int or None
        The label of positions that have none, where it is given.
    weight : object
        The weights of the rows, as they were given.
    is_whole : bool
        Whether all targets of a fit are at hand; of an endless stream, the first only.
    """

    classes: np.ndarray | None = None
    ignored: int | None = None
    weight: object = None
    is_whole: bool = True


@dataclass(frozen=True, eq=False)
class Targets(ABC):
    """A kind of target, as it was learned from y.

    A kind is a subclass that stands in ``kinds`` of an estimator; the first that accepts y is
    taken. It knows no net: what it needs of one, it is given.
    """

    # Of each example a target at each position, as in semantic segmentation.
    is_dense: ClassVar[bool] = False
    # What ``criterion='auto'`` stands for.
    criterion: ClassVar[type[nn.Module]]
    # How held-out rows are scored in each epoch; see ``skorch.callbacks.EpochScoring``.
    # Losses of torch for other targets.
    unsuited: ClassVar[tuple[type[nn.Module], ...]] = ()
    scoring: ClassVar[str | Callable[..., float]] = "accuracy"

    # -- learned from y ------------------------------------------------------------------

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array is of this kind."""
        return True

    def takes(self, y: np.ndarray) -> bool:
        """Whether later targets are of this kind though by themselves they would look like another."""
        return False

    @classmethod
    @abstractmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return y, checked, with the axes that :meth:`encode` takes."""

    @classmethod
    @abstractmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Return what is to be known of checked targets."""

    def check_same_classes(self, given: np.ndarray) -> None:  # noqa: B027
        """Raise if other classes are given than those that were learned."""

    @classmethod  # noqa: B027
    def warn_of_weights_alone(cls) -> None:
        """Warn if a net that has seen no y cannot predict by its weights alone."""

    @property
    @abstractmethod
    def n_outputs(self) -> int | None:
        """Outputs of the module; None before anything is learned."""

    def get_width(self, criterion: object) -> int | None:
        """Return how many outputs a class of criteria wants of a module whose width is ours to choose."""
        return self.n_outputs

    @abstractmethod
    def describe(self) -> str:
        """Return in words what y must be."""

    # -- codes and back ------------------------------------------------------------------

    @abstractmethod
    def encode(self, y: np.ndarray) -> np.ndarray:
        """Turn checked targets into what the network is trained on."""

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Turn targets that a Dataset yields into what the network is trained on."""
        return self.encode(y)

    def encode_batch(self, y: object) -> object:
        """Do the same for a batch of a loader, in whatever form it joins targets."""
        return torch.as_tensor(self.encode_yielded(to_array(y)))

    @abstractmethod
    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Turn what the network is trained on into targets as the user writes them."""

    def decode_given(self, codes: np.ndarray) -> np.ndarray:
        """Return what code of the user's is given as y that divides the rows: the codes of classes."""
        return codes

    def weigh_classes(self, codes: np.ndarray, class_weight: ClassWeight) -> np.ndarray | None:
        """Return the weight of each class; None where they count alike."""
        return None

    def weigh(
        self, codes: np.ndarray, weight: np.ndarray | None, by_class: np.ndarray | None
    ) -> np.ndarray | None:
        """Return one weight per row: those given, times those of the classes."""
        if by_class is None:
            return weight
        return np.asarray(by_class[codes] if weight is None else by_class[codes] * weight)

    def find_trainable(self, codes: np.ndarray) -> np.ndarray:
        """Return which rows may be held out, and divided by class."""
        return np.ones(len(codes), dtype=bool)

    def can_stratify(self, codes: np.ndarray | None, n_valid: int) -> bool:
        """Whether a held-out set of that size can hold every class, as its share is."""
        return False

    def check_has_classes(self) -> None:  # noqa: B027 (a kind that has them keeps it)
        """Raise if partners cannot be drawn by class."""

    def check_has_distances(self) -> None:  # noqa: B027
        """Raise if partners cannot be drawn by the distance of targets."""

    # -- training ------------------------------------------------------------------------

    def get_criterion_options(self, criterion: object, label_smoothing: float) -> dict[str, object]:
        """Return options of the criterion that follow from the targets and the smoothing."""
        return {}

    def check_criterion(  # noqa: B027
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise if the criterion does not go with the targets or with an option."""

    def check_loss(self, criterion: nn.Module) -> None:
        """Raise if the criterion is one of torch's for other targets."""
        name = type(criterion).__name__
        is_torchs = type(criterion).__module__ == nn.modules.loss.__name__
        arguments = inspect.signature(criterion.forward).parameters if is_torchs else ()
        if type(criterion) in self.unsuited or len(arguments) > 2:
            raise ValueError(
                f"criterion must be a loss for {self.describe()}; got {name}. Use criterion='auto', which "
                f"is {self.criterion.__name__}."
            )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:  # noqa: B027
        """Raise if the module's output does not fit."""

    def check_sizes(self, output: Tensor, y: object) -> None:  # noqa: B027
        """Raise if output and target of an example are maps of other sizes."""

    def count_members(self, output: Tensor) -> int:
        """Return how many members of an implicit ensemble an output of the module is of; 0 for none."""
        return 0

    def align(
        self, output: Tensor, y: Tensor, criterion: nn.Module, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give output and plain targets the form that the criterion takes, each member a row of its own."""
        return output, y

    def mix(self, y: Tensor, lam: Tensor, output: Tensor) -> Tensor | None:
        """Return mixed targets, where they are mixed; None where losses are."""
        return None

    def find_closed_form(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> Loss | None:
        """Return the loss with its gradient, where it has a closed form."""
        return None

    def get_loss_unit(self, criterion: object) -> float:
        """Return what losses of codes are multiplied by in the history."""
        return 1.0

    @property
    def column_units(self) -> tuple[float, ...] | None:
        """What errors of each column are multiplied by in losses of the history; None for 1."""
        return None

    # -- prediction ----------------------------------------------------------------------

    @property
    def temperature(self) -> float:
        """What logits are divided by for predictions."""
        return 1.0

    def at(self, temperature: float) -> Targets:
        """Return the same targets, predicted at a temperature; those without probabilities have none."""
        return self

    @property
    def units(self) -> dict[str, object]:
        """What turns outputs into predictions beside the link: plain values, kept beside weights."""
        return {}

    def of_units(self, units: Mapping[str, object]) -> Targets:
        """Return the same targets, predicted by weights that were kept with these units."""
        if "mean" in units:
            raise ValueError(
                "standardize_targets must be True for weights that were trained on standardised targets; got "
                "a net whose targets are not. Make the net with the option of the one that was saved."
            )
        return self

    def spread(self, codes: np.ndarray, n_outputs: int) -> np.ndarray:
        """Return what codes say of each output, in double precision."""
        return codes.astype(np.float64)

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the link from outputs to predictions; None for skorch's own."""
        return None

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return what the link makes of the module's output; `log` says that it gives logarithms."""
        return link(output)

    def choose(self, values: np.ndarray) -> np.ndarray:
        """Return codes from what the link gives."""
        return values

    def compute_entropy(self, proba: np.ndarray) -> np.ndarray:
        """Return the entropy of probabilities, in nats."""
        return np.asarray(entr(proba).sum(axis=1))

    def present(self, values: np.ndarray, dtype: type[np.floating]) -> np.ndarray:
        """Return real-valued predictions, of a dtype, in the shape that y had."""
        return to_array(values.astype(dtype, copy=False))

    @abstractmethod
    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return how good predictions are."""


def check_length(y: np.ndarray, n_samples: int) -> None:
    """Raise unless there is a target for each row."""
    if len(y) != n_samples:
        raise ValueError(
            f"Found input variables with inconsistent numbers of samples: {[n_samples, len(y)]}. y must hold "
            "one target per row of X."
        )
