"""torchvision's own random transforms, of each image by itself."""

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.augmentation import per_image
from tests.clients.conftest import Rows

v2 = pytest.importorskip("torchvision.transforms.v2", exc_type=(ImportError, RuntimeError))

TO_NORMAL = v2.Compose([v2.RandomHorizontalFlip(), v2.Normalize([0.3], [0.5])])
TRANSFORMS = {
    "flip": v2.RandomHorizontalFlip(),
    "crop": v2.RandomCrop(8, padding=2),
    "resized crop": v2.RandomResizedCrop(8, antialias=True),
    "turn": v2.RandomRotation(20),
    "erase": v2.RandomErasing(p=0.5),
    "several": v2.Compose([v2.RandomCrop(8, padding=1), TO_NORMAL]),
    "dtype": v2.Compose([v2.RandomHorizontalFlip(), v2.ToDtype(torch.float32, scale=True)]),
}


def _make_images(n: int = 60) -> Tensor:
    return torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", TRANSFORMS)
def test_each_image_is_what_the_transform_makes_of_it_next(name: str) -> None:
    transform, images = TRANSFORMS[name], _make_images()
    torch.manual_seed(3)
    changed = per_image(transform)(images)
    torch.manual_seed(3)
    expected = torch.stack([transform(image) for image in images])
    torch.testing.assert_close(changed, expected, rtol=0, atol=0)


@pytest.mark.parametrize("name", TRANSFORMS)
def test_equal_images_are_changed_differently(name: str) -> None:
    torch.manual_seed(0)
    changed = per_image(TRANSFORMS[name])(_make_images(1).expand(60, -1, -1, -1))
    assert len(changed.unique(dim=0)) >= 2


@pytest.mark.parametrize("name", ["flip", "several"])
def test_a_fit_repeats_with_the_seed(digits: Rows, classifier: MixupClassifier, name: str) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(64, 3))
    X, y = digits.train
    X = np.asarray(X, dtype=np.float32).reshape(len(X), 1, 8, 8)

    def fit(augment: Any) -> Tensor:
        options = {"module": module, "augment": augment, "max_epochs": 2, "early_stopping": False}
        return clone(classifier).set_params(**options).fit(X, y).module_[1].weight

    augment = per_image(TRANSFORMS[name])
    assert torch.equal(fit(augment), fit(augment))
    assert not torch.equal(fit(augment), fit(None))
