"""Random changes of images: each image has its own, as if it had been changed by itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
import pickle
from typing import Any

import numpy as np
import pytest
from scipy import stats
from sklearn.base import clone
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.augmentation import crop_and_flip, per_image
from tests.helpers.fake_cuda import Waiting
from tests.helpers.nets import QUICK
from tests.helpers.sampling import each_pair

FORMATS = (torch.contiguous_format, torch.channels_last)


@each_pair(
    {
        "padding,shape": [(1, (3, 4, 5)), (2, (1, 3, 3)), (0, (2, 3, 4))],
        "dtype": [torch.float32, torch.float64, torch.bfloat16],
        "memory_format": FORMATS,
    }
)
def test_crop_and_flip_gives_a_cut_of_the_padded_image(
    memory_format: torch.memory_format, dtype: torch.dtype, padding: int, shape: tuple[int, int, int]
) -> None:
    fill = tuple(-10.0 - channel for channel in range(shape[0]))
    x = torch.arange(40 * np.prod(shape)).reshape(40, *shape).remainder(251).to(dtype)
    x = x.contiguous(memory_format=memory_format)
    before = x.clone()
    y = crop_and_flip(padding, fill=fill)(x)
    assert (y.shape, y.dtype, y.stride()) == (x.shape, x.dtype, x.stride())
    assert torch.equal(x, before)
    for image, cut in zip(x, y, strict=True):
        assert any(torch.equal(cut, other) for other in list_cuts(image, padding, fill))


def list_cuts(image: Tensor, padding: int, fill: tuple[float, ...]) -> Iterator[Tensor]:
    """Yield every cut of a padded image, as it is and flipped: the slow reference."""
    channels, height, width = image.shape
    padded = image.new_empty(channels, height + 2 * padding, width + 2 * padding)
    padded[:] = torch.tensor(fill).reshape(-1, 1, 1)
    padded[:, padding : padding + height, padding : padding + width] = image
    for top in range(2 * padding + 1):
        for left in range(2 * padding + 1):
            cut = padded[:, top : top + height, left : left + width]
            yield cut
            yield cut.flip(2)


def test_crop_and_flip_draws_all_cuts_alike() -> None:
    torch.manual_seed(0)
    image = torch.arange(12.0).reshape(1, 3, 4)
    kinds = [tuple(cut.ravel().tolist()) for cut in list_cuts(image, 1, (-1.0,))]
    cuts = crop_and_flip(1, fill=(-1.0,))(image.expand(9000, -1, -1, -1)).reshape(9000, -1).tolist()
    counts = [cuts.count(list(kind)) for kind in kinds]
    assert sum(counts) == 9000
    assert stats.chisquare(counts).pvalue > 1e-3


def test_crop_and_flip_repeats_with_the_seed() -> None:
    x = torch.arange(160.0).reshape(10, 1, 4, 4)
    augment = crop_and_flip(2)
    cuts = []
    for _ in range(2):
        torch.manual_seed(1)
        cuts.append(augment(x))
    assert torch.equal(*cuts)


@pytest.mark.slow
def test_crop_and_flip_waits_for_no_value() -> None:
    # A tensor without values: whoever reads one fails. Slow is torch's first use of such tensors.
    assert crop_and_flip(2)(torch.empty(5, 3, 8, 8, device="meta")).shape == (5, 3, 8, 8)


@pytest.mark.parametrize("form", [torch.contiguous_format, torch.channels_last])
def test_crop_and_flip_has_no_operation_for_which_the_host_waits(form: torch.memory_format) -> None:
    x = torch.ones(5, 3, 8, 8).to(memory_format=form)
    with Waiting() as waiting:
        crop_and_flip(2, fill=(0.0, 1.0, 2.0))(x)
    assert waiting.seen
    assert not waiting.waits


def test_crop_without_flip_keeps_left_and_right() -> None:
    torch.manual_seed(0)
    image = torch.arange(12.0).reshape(1, 1, 3, 4)
    assert torch.equal(
        crop_and_flip(0, flip=False)(image.expand(50, -1, -1, -1)), image.expand(50, -1, -1, -1)
    )


# -- image by image ----------------------------------------------------------------------


def flip(image: Tensor) -> Tensor:
    """Mirror an image with probability 1/2, as torchvision does."""
    return image.flip(-1) if torch.rand(1) < 0.5 else image


def shift(image: Tensor) -> Tensor:
    """Roll an image by a number of pixels that must be known to Python."""
    return image.roll(int(torch.randint(0, 4, ()).item()), dims=-1)


def shift_by_numpy(image: Tensor) -> Tensor:
    """Draw on numpy's global generator, as many transforms do."""
    return image.roll(int(np.random.randint(4)), dims=-1)  # noqa: NPY002 (what is tested)


TRANSFORMS: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "flip": (flip, 2),
    "shift": (shift, 4),
    "numpy": (shift_by_numpy, 4),
}
IMAGES = torch.arange(4.0).expand(2000, 1, 1, 4)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_image_has_draws_of_its_own(name: str) -> None:
    transform, n_kinds = TRANSFORMS[name]
    torch.manual_seed(0)
    counts = per_image(transform)(IMAGES)[:, 0, 0, 0].to(torch.int64).bincount()
    counts = counts[counts > 0]
    assert len(counts) == n_kinds
    assert stats.chisquare(counts.tolist()).pvalue > 1e-3


@pytest.mark.parametrize("transform", [flip, shift])
def test_images_are_changed_in_order(transform: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(3)
    changed = per_image(transform)(IMAGES[:20])
    torch.manual_seed(3)
    for image, other in zip(IMAGES, changed, strict=False):
        assert torch.equal(transform(image), other)


def test_crop_and_flip_is_that_of_each_image_in_distribution() -> None:
    def crop(image: Tensor) -> Tensor:
        padded = nn.functional.pad(image, (1, 1, 1, 1))
        top, left = torch.randint(0, 3, (2,)).tolist()
        return flip(padded[:, top : top + 2, left : left + 2])

    torch.manual_seed(0)
    x = torch.arange(1.0, 5).reshape(1, 1, 2, 2).expand(5000, -1, -1, -1)
    found = []
    for augment in (crop_and_flip(1), per_image(crop)):
        code = (augment(x).reshape(5000, 4) * torch.tensor([1, 5, 25, 125])).sum(dim=1).to(torch.int64)
        found.append(code.bincount(minlength=625))
    counts = torch.stack(found)
    assert stats.chi2_contingency(counts[:, counts.sum(dim=0) > 0].numpy()).pvalue > 1e-3


@pytest.mark.parametrize("augment", [per_image(flip), crop_and_flip(1)], ids=["per_image", "crop_and_flip"])
def test_a_fit_repeats_with_the_seed(augment: Any) -> None:
    X = np.random.default_rng(0).normal(size=(24, 1, 4, 4)).astype(np.float32)
    y = np.arange(24) % 3
    module = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
    net = MixupClassifier(module, augment=augment, **QUICK)
    again = clone(pickle.loads(pickle.dumps(net)))
    plain = clone(net).set_params(augment=None)
    weights = [each.fit(X, y).module_[1].weight for each in (net, again, plain)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


# -- errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: per_image(3), TypeError, "transform must be callable; got 3"),
        (lambda: crop_and_flip(-1), ValueError, "padding must be at least 0; got -1"),
        (lambda: crop_and_flip(1.5), TypeError, "padding must be an integer"),
        (lambda: crop_and_flip(1, flip=2), TypeError, "flip must be"),
        (lambda: crop_and_flip(1, fill=(0.0, "black")), TypeError, "fill must be"),
        (lambda: crop_and_flip(1)(torch.zeros(3, 4)), ValueError, r"images of shape .*; got shape \(3, 4\)"),
        (lambda: crop_and_flip(1, fill=(1, 2))(torch.zeros(1, 3, 4, 4)), ValueError, r"fill=\(1.0, 2.0\)"),
        (
            lambda: crop_and_flip(1, fill=[]),
            ValueError,
            r"fill must hold a number for each .*; got \[\]",
        ),
        (
            lambda: crop_and_flip(1, fill=()),
            ValueError,
            r"fill must hold a number for each .*; got \(\)",
        ),
        (lambda: per_image(flip)({"x": IMAGES}), TypeError, "a tensor of images; got dict"),
        (lambda: per_image(torch.Tensor.numpy)(IMAGES), TypeError, "must return a tensor; got ndarray"),
        (lambda: per_image(lambda image: None)(IMAGES), TypeError, "must return a tensor; got NoneType"),
    ],
)
def test_what_cannot_be_done_is_refused(make: Callable[[], object], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make()


@pytest.mark.parametrize("n_fills", [1, 2])
@pytest.mark.parametrize(
    ("dtype", "held", "others"),
    [
        (torch.uint8, (0, 255), (300, -1, 0.5, float("inf"))),
        (torch.int16, (-300, 300), (1e5, 0.5)),
        (torch.float32, (-0.5, 300, float("inf")), ()),
        (torch.float64, (0.1, 1e300), ()),
    ],
    ids=str,
)
def test_fill_is_a_value_that_images_hold(
    dtype: torch.dtype, held: tuple[float, ...], others: tuple[float, ...], n_fills: int
) -> None:
    x = torch.ones(50, n_fills, 2, 2, dtype=dtype)
    for value in held:
        pixels = crop_and_flip(1, fill=[value] * n_fills)(x).unique()
        assert set(pixels.tolist()) == {1, torch.tensor(value, dtype=dtype).item()}
    for value in others:
        with pytest.raises(ValueError, match=r"fill must hold values of the dtype of .*; got fill=\("):
            crop_and_flip(1, fill=[value] * n_fills)(x)


@pytest.mark.parametrize("make", [np.array, torch.tensor, np.float32, lambda fill: fill[0]])
def test_fill_is_computed_with_any_library(make: Callable[[object], object]) -> None:
    mean, std = [0.25, 0.5, 0.125], 0.5
    fill: Any = make([-value / std for value in mean])
    x = torch.ones(50, 3, 2, 2)
    edges = crop_and_flip(3, fill=fill)(x).transpose(0, 1).flatten(1).amin(1)
    np.testing.assert_array_equal(edges, np.broadcast_to(fill, 3))


def test_images_of_several_shapes_are_refused() -> None:
    sizes = iter([1, 2, 1])
    with pytest.raises(ValueError, match=r"images of one shape; got \(1, 1, 1\) and \(1, 1, 2\)"):
        per_image(lambda image: image[..., : next(sizes)])(IMAGES[:3])
