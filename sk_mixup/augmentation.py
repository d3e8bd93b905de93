"""Random changes of images for the option `augment`: of each image by itself, or of a whole batch at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike
import torch
from torch import Tensor

from sk_mixup._tensors import send, to_host
from sk_mixup._validation import check_bool, check_integer, check_real

__all__ = ["crop_and_flip", "per_image"]

Transform = Callable[[Tensor], Tensor]


def per_image(transform: Transform) -> Transform:
    """Return what applies a transform to each image of a batch by itself.

    A random transform, such as torchvision's ``RandomHorizontalFlip``, draws once a call: given a whole
    batch, it flips all images or none. Here each image has draws of its own.

    Parameters
    ----------
    transform : callable
        Takes a tensor of one example and returns another, of the same shape for all.

    Returns
    -------
    augment : callable
        Takes a batch, a tensor of shape (n, ...), and returns a new one.

    Raises
    ------
    TypeError
        If the transform cannot be called.

    See Also
    --------
    crop_and_flip : Much faster where that is all.

    Notes
    -----
    The images are gone through in order. In a fit, what a transform draws on torch repeats with
    ``random_state``, as torchvision's does; what it draws on numpy or on Python does not.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.augmentation import per_image
    >>> def flip(image):
    ...     return image.flip(-1) if torch.rand(()) < 0.5 else image
    >>> x = torch.arange(2.0).expand(100, 1, 1, 2)
    >>> 30 < int(per_image(flip)(x)[..., 0].sum()) < 70
    True
    """
    if not callable(transform):
        raise TypeError(f"transform must be callable; got {transform!r}. Give a function of one image.")
    return _PerImage(transform)


def crop_and_flip(padding: int = 4, *, flip: bool = True, fill: ArrayLike = 0.0) -> Transform:
    """Return what cuts each image at a random place and flips every other one, a whole batch at once.

    Each image is padded on all sides, cut to its size again, all places alike, and mirrored with
    probability 1/2: torchvision's ``RandomCrop(size, padding)`` and ``RandomHorizontalFlip`` of each image.

    Parameters
    ----------
    padding : int, default=4
        Pixels added on each side, at least 0.
    flip : bool, default=True
        Whether to mirror, left and right.
    fill : float or array-like of float, default=0.0
        Value of the pixels that are added, one for all channels or one for each. To pad raw images with
        black and to normalise them afterwards is to pad normalised images with ``-mean / std``.

    Returns
    -------
    augment : callable
        Takes images of shape (n, channels, height, width) and returns new ones, of the same dtype and
        memory format, on the same device.

    Raises
    ------
    TypeError, ValueError
        If an argument breaks its rule.

    Notes
    -----
    The draws are from torch's global generator on the device, which a fit seeds from ``random_state``;
    nothing waits for the device. On a GPU several batches are changed by one call.

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.augmentation import crop_and_flip
    >>> x = torch.arange(2.0).expand(100, 1, 1, 2)
    >>> 30 < int(crop_and_flip(padding=0)(x)[..., 0].sum()) < 70
    True
    """
    check_integer("padding", padding, low=0, hint="Use 4 for images of 32 x 32 pixels.")
    check_bool("flip", flip, hint="Use False for images that are not to be mirrored, such as digits.")
    values = np.atleast_1d(np.asarray(to_host(fill), dtype=object)).tolist()
    if not values:
        raise ValueError(
            f"fill must hold a number for each channel; got {fill!r}. Give one for all, or each."
        )
    for value in values:
        check_real("fill", value, low=-float("inf"), hint="Give a number, or one for each channel.")
    return _CropAndFlip(padding, flip, tuple(map(float, values)))


@dataclass(frozen=True)
class _PerImage:
    transform: Transform

    def __call__(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor):
            raise TypeError(
                f"augment must be given a tensor of images; got {type(x).__name__}. Call the transform on "
                "its images in a function of your own."
            )
        images = [self.transform(image) for image in x]
        for image in images:
            if not isinstance(image, Tensor):
                raise TypeError(
                    f"transform must return a tensor; got {type(image).__name__}. Let its last step make one."
                )
        shapes = sorted({tuple(image.shape) for image in images})
        if len(shapes) > 1:
            raise ValueError(
                f"transform must return images of one shape; got {shapes[0]} and {shapes[1]}. Crop or resize "
                "them at its end."
            )
        return torch.stack(images)


@dataclass(frozen=True)
class _CropAndFlip:
    rowwise: ClassVar[bool] = True  # several batches may be changed by one call
    padding: int
    flip: bool
    fill: tuple[float, ...]

    def __call__(self, x: Tensor) -> Tensor:
        if not isinstance(x, Tensor) or x.ndim != 4 or len(self.fill) not in (1, x.shape[1]):
            got = f"shape {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise ValueError(
                f"augment must be given images of shape (n, channels, height, width), with a fill for each "
                f"channel or one; got {got} and fill={self.fill}. Change fill, or reshape X."
            )
        n, _, height, width = x.shape
        # Cuts begin at -padding, ..., padding.
        top, left = torch.randint(-self.padding, self.padding + 1, (2, n, 1), device=x.device)
        rows, columns = (torch.arange(size, device=x.device).unsqueeze(0) for size in (height, width))
        if self.flip:
            is_flipped = torch.rand(n, 1, device=x.device) < 0.5
            columns = torch.where(is_flipped, width - 1 - columns, columns)
        rows, columns = rows + top, columns + left
        inside = _lies_in(rows, height).unsqueeze(2) & _lies_in(columns, width).unsqueeze(1)
        place = rows.clamp(0, height - 1).unsqueeze(2) * width + columns.clamp(0, width - 1).unsqueeze(1)
        fill = send(self._cast_fill(x.dtype), x.device).reshape(-1, 1, 1)
        return torch.where(inside.unsqueeze(1), _take_pixels(x, place), fill)

    def _cast_fill(self, dtype: torch.dtype) -> Tensor:
        """Return the values of added pixels in the dtype of the images, or raise if it does not hold them."""
        given = torch.tensor(self.fill, dtype=torch.float64)
        fill = given.to(dtype)
        if not dtype.is_floating_point and not torch.equal(fill.to(given.dtype), given):
            raise ValueError(
                f"fill must hold values of the dtype of the images; got fill={self.fill} for {dtype}. Change "
                "it, or give images as float32."
            )
        return fill


def _lies_in(place: Tensor, size: int) -> Tensor:
    return (place >= 0) & (place < size)


def _take_pixels(x: Tensor, place: Tensor) -> Tensor:
    """Return the pixels of each image at places from 0 to height * width - 1, in the layout of `x`."""
    n, channels, height, width = x.shape
    if not x.is_contiguous() and x.is_contiguous(memory_format=torch.channels_last):
        start = height * width * torch.arange(n, device=x.device).reshape(n, 1, 1)
        pixels = x.permute(0, 2, 3, 1).reshape(-1, channels)
        taken = pixels.index_select(0, (place + start).reshape(-1))
        return taken.reshape(n, height, width, channels).permute(0, 3, 1, 2)
    index = place.reshape(n, 1, -1).expand(-1, channels, -1)
    return x.reshape(n, channels, -1).gather(2, index).reshape(x.shape)
