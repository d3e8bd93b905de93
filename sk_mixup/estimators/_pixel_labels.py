"""A label per pixel, or per step of a sequence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Self

import numpy as np
from sklearn.utils.multiclass import is_multilabel
from skorch.utils import to_numpy
import torch
from torch import Tensor, nn

from sk_mixup._training.averages import IGNORED
from sk_mixup._training.mixed_targets import smooth_targets
from sk_mixup.estimators._class_targets import ClassTargets, is_softmax, list_classes, score_by_net
from sk_mixup.estimators._links import MAP_SIGMOID_COLUMNS, MAP_SOFTMAX, keep, takes_probabilities
from sk_mixup.estimators._own_losses import is_own
from sk_mixup.estimators._targets import TargetOptions

__all__ = ["PixelLabels"]


@dataclass(frozen=True, eq=False)
class PixelLabels(ClassTargets):
    """A label per pixel, or per step of a sequence: semantic segmentation, tagging.

    Attributes
    ----------
    ignored : int
        The label of pixels that have none, as the user writes it.
    n_axes : int or None
        Axes of the positions: 2 for images, 1 for sequences.
    has_channel : bool
        Whether y has an axis of size 1 before them, as masks often have.
    """

    is_dense = True
    scoring = staticmethod(score_by_net)

    ignored: int = IGNORED
    n_axes: int | None = None
    has_channel: bool = False

    @classmethod
    def accepts(cls, y: np.ndarray) -> bool:
        """Whether an array has a map of labels for each example, or several integers and not only two."""
        steps = y.ndim == 2 and y.shape[1] > 1 and y.dtype.kind in "iu" and not is_multilabel(y)
        return y.ndim > 2 or steps

    def takes(self, y: np.ndarray) -> bool:
        """Whether an array has the axes of that in fit: a few steps may be labelled 0 and 1 only."""
        return self.n_axes is not None and y.ndim == 1 + self.n_axes + self.has_channel

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        """Return maps of integers."""
        if y.dtype.kind == "f" and np.all(np.isfinite(y)) and np.all(y == np.floor(y)):
            y = y.astype(np.int64)
        if y.dtype.kind not in "iub":
            raise ValueError(
                f"y must hold integer labels where it has one per pixel; got an array of shape {y.shape} and "
                f"dtype {y.dtype}. Encode the labels as integers."
            )
        return y

    @classmethod
    def learn(cls, y: np.ndarray, options: TargetOptions) -> Self:
        """Remember the labels, without that of ignored pixels."""
        has_channel = y.ndim > 2 and y.shape[1] == 1
        ignored = IGNORED if options.ignored is None else options.ignored
        classes = list_classes(y[y != ignored], options.classes)
        return cls(classes, ignored, y.ndim - 1 - has_channel, has_channel)

    def describe(self) -> str:
        """Return in words what y must be."""
        return "a label per pixel"

    def encode(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label."""
        return self._encode_labelled(y, self.encode_labels)

    def encode_yielded(self, y: np.ndarray) -> np.ndarray:
        """Return the code of each label."""
        return self._encode_labelled(self.check_axes(y, y.ndim > 1), self.encode_labels_or_codes)

    def _encode_labelled(self, y: np.ndarray, encode: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
        if self.n_axes is not None and y.ndim == self.n_axes + 2 and y.shape[1] == 1:
            y = y[:, 0]
        codes = np.full(y.shape, IGNORED, dtype=np.int64)
        labelled = y != self.ignored
        codes[labelled] = encode(y[labelled])
        return codes

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        """Return the label of each code, with the axes that y had."""
        codes = to_numpy(codes)
        if self.has_channel and self.n_axes is not None and codes.ndim == 1 + self.n_axes:
            codes = codes[:, None]
        return np.where(codes == IGNORED, self.ignored, self.known[np.maximum(codes, 0)])

    def check_has_classes(self) -> None:
        """Raise: an example has no class of its own."""
        raise ValueError(
            "partners must not be drawn by class for a label per pixel; got a policy that looks at "
            "classes. Use 'batch' or 'dataset'."
        )

    def get_criterion_options(self, criterion: object, label_smoothing: float) -> dict[str, object]:
        """Return the smoothing, and which code is none."""
        if not is_softmax(criterion):
            return {}
        options: dict[str, object] = {"label_smoothing": label_smoothing} if label_smoothing else {}
        return options | {"ignore_index": IGNORED}

    def check_criterion(
        self, criterion: nn.Module, label_smoothing: float, confidence_penalty: float
    ) -> None:
        """Raise unless the criterion is a cross-entropy, a binary one of two classes, or the user's own."""
        super().check_criterion(criterion, label_smoothing, confidence_penalty)
        is_binary = isinstance(criterion, nn.BCEWithLogitsLoss) and self.n_outputs in (None, 2)
        if not is_binary and not isinstance(criterion, nn.CrossEntropyLoss) and not is_own(criterion):
            raise ValueError(
                f"criterion must be a cross-entropy for a label per pixel; got {type(criterion).__name__}. "
                "Use criterion='auto'."
            )
        if confidence_penalty:
            raise ValueError(
                f"confidence_penalty must be 0 for a label per pixel; got {confidence_penalty!r}. Remove it."
            )

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        """Raise unless there is a map of logits for each class, or one for two."""
        fits = self.n_axes is None or self._drop_channel(output).ndim == 2 + self.n_axes
        width = 1 if isinstance(criterion, nn.BCEWithLogitsLoss) else self.n_outputs
        if output.ndim < 3 or output.shape[1] != width or not fits:
            sizes, rest = (
                ("n_steps", "one for each step, or fit one estimator per column by sklearn.multioutput")
                if self.n_axes == 1
                else ("height, width", "them by a convolutional module")
            )
            raise ValueError(
                f"module must return logits of shape (n_samples, {width}, {sizes}) for a label per "
                f"{'step' if self.n_axes == 1 else 'pixel'}; got an output of shape {tuple(output.shape)}. "
                f"Return {rest}."
            )

    def _drop_channel(self, output: Tensor) -> Tensor:
        """Return logits without the axis that y had, where the module's first axis of positions is that."""
        if self.has_channel and self.n_axes is not None and output.shape[2:3] == (1,):
            return output.squeeze(2) if output.ndim == 3 + self.n_axes else output
        return output

    def align(
        self, output: Tensor, y: Tensor, criterion: nn.Module, label_smoothing: float
    ) -> tuple[Tensor, Tensor]:
        """Give output and targets the same positions; those of a binary criterion are indicators."""
        output = self._drop_channel(output)
        if not isinstance(criterion, nn.BCEWithLogitsLoss):
            return output, y
        y = y.to(output.device, output.dtype).clamp(min=0)  # what is ignored counts for nothing
        return output[:, 0], smooth_targets(y, label_smoothing, 2)

    def check_sizes(self, output: Tensor, y: object) -> None:
        """Raise unless the maps of logits are of the size of the label maps."""
        sizes = tuple(getattr(y, "shape", ()))[1:]
        if self.has_channel and self.n_axes is not None and len(sizes) > self.n_axes:
            sizes = sizes[1:]
        if tuple(self._drop_channel(output).shape[2:]) != sizes:
            raise ValueError(
                f"y must hold a label for each pixel of the module's output, of shape {tuple(output.shape)}; "
                f"got label maps of shape {sizes}. Give them that size."
            )

    def count_members(self, output: Tensor) -> int:
        """Return 0: what has an axis more is a label per step."""
        return 0

    def read(self, output: Tensor, link: Callable[[Tensor], Tensor], *, log: bool = False) -> Tensor:
        """Return probabilities; one map, by a link of the user's, is that of the second class."""
        values = super().read(output, link, log=log)
        is_one = self.n_outputs == 2 and values.shape[1:2] == (1,)
        return torch.cat([1 - values, values], dim=1) if is_one and not log else values

    def get_link(self, criterion: nn.Module | None) -> Callable[[Tensor], Tensor] | None:
        """Return the softmax over the classes of each pixel, or the sigmoid of its one logit."""
        if criterion is not None and takes_probabilities(criterion):
            return keep
        return MAP_SIGMOID_COLUMNS if isinstance(criterion, nn.BCEWithLogitsLoss) else MAP_SOFTMAX

    def score(self, y: object, y_pred: np.ndarray, sample_weight: object = None) -> float:
        """Return the share of labelled pixels whose label is predicted."""
        y = to_numpy(y) if isinstance(y, Tensor) else np.asarray(y)
        sizes, expected = ([size for size in maps.shape[1:] if size != 1] for maps in (y, y_pred))
        if y.shape[:1] != y_pred.shape[:1] or sizes != expected:  # but for an axis of a channel
            raise ValueError(
                f"y must hold a label for each prediction; got shape {y.shape} for {y_pred.shape}. Give maps "
                "of the size that the module returns."
            )
        y = y.reshape(y_pred.shape)
        counts = y != self.ignored
        weight = np.ones(len(y)) if sample_weight is None else np.asarray(sample_weight)
        share = weight.reshape(-1, *(1,) * (y.ndim - 1)) * counts
        if not np.any(share):
            raise ValueError(
                f"y must hold the label of a pixel that counts; got pixels to ignore alone, {self.ignored}, "
                "or rows that weigh 0. Score rows with labels."
            )
        return float(np.sum(share * (y_pred == y)) / np.sum(share))
