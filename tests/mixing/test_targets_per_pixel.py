"""Nets of skorch with a target for each pixel: a vicinity that mixes whole targets only is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import skorch
import torch
from torch import nn
from torch.utils.data import SequentialSampler

from sk_mixup import MixupNetMixin
from sk_mixup.mixing import CutMix, GaussianNoise, ManifoldMixup, Mixture, Mixup, RowFacts, Vicinity
from tests.helpers.datasets import Stream, make_tensor_dataset
from tests.helpers.sampling import cover_pairs
from tests.helpers.vicinities import Noted

N = 20
GENERATOR = np.random.default_rng(0)
IMAGES = GENERATOR.normal(size=(N, 2, 4, 4)).astype(np.float32)
LABELS = GENERATOR.integers(3, size=(N, 4, 4))
DEPTHS = GENERATOR.normal(size=(N, 1, 4, 4)).astype(np.float32)


class Net(MixupNetMixin, skorch.NeuralNet):
    pass


def map_pixels(n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, n_outputs, 1))


def map_images(n_outputs: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(32, n_outputs))


def make(module: nn.Module, criterion: Any, vicinity: Vicinity, **options: Any) -> Net:
    common = {"train_split": None, "max_epochs": 2, "batch_size": 8, "verbose": 0, "random_state": 0}
    return Net(module, criterion, vicinity=vicinity, **common | options)


FORMS: dict[str, tuple[Callable[[Any], tuple[Any, ...]], dict[str, Any]]] = {
    "arrays": (lambda y: (IMAGES, y), {}),
    "tensors": (lambda y: (torch.as_tensor(IMAGES), torch.as_tensor(y)), {}),
    "data set": (lambda y: (make_tensor_dataset(IMAGES, y),), {}),
    "sampled": (
        lambda y: (make_tensor_dataset(IMAGES, y),),
        {"iterator_train__sampler": SequentialSampler(range(N))},
    ),
    "stream": (lambda y: (Stream(make_tensor_dataset(IMAGES, y)),), {}),
}
DENSE: dict[str, tuple[Any, Any, Any]] = {
    "labels": (nn.CrossEntropyLoss, LABELS, 3),
    "shares": (nn.CrossEntropyLoss, np.eye(3, dtype=np.float32)[LABELS].transpose(0, 3, 1, 2), 3),
    "reals": (nn.MSELoss, DEPTHS, 1),
    "indicators": (nn.BCEWithLogitsLoss, (DEPTHS > 0).astype(np.float32), 1),
}
PASTING: dict[str, Vicinity] = {
    "alone": CutMix(),
    "per batch": CutMix(lam_per="batch"),
    "in a mixture": Mixture((Mixup(), CutMix())),
    "deep in a mixture": Mixture((Mixture((CutMix(), Mixup())), GaussianNoise())),
    "of the user's own": Noted(CutMix()),
}


@pytest.mark.parametrize(("name", "kind", "form"), cover_pairs(PASTING, DENSE, FORMS))
def test_boxes_are_not_pasted_where_each_pixel_has_a_target(name: str, kind: str, form: str) -> None:
    criterion, y, n_outputs = DENSE[kind]
    give, options = FORMS[form]
    net = make(map_pixels(n_outputs), criterion, PASTING[name], **options)
    with pytest.raises(ValueError, match=r"vicinity CutMix\(.*\) must be given one label per image; got one"):
        net.fit(*give(y))


@pytest.mark.parametrize("form", ["arrays", "data set", "stream"])
@pytest.mark.parametrize("kind", DENSE)
@pytest.mark.parametrize("vicinity", [Mixup(0.4), GaussianNoise(0.1), ManifoldMixup(layers=("0",))], ids=str)
def test_others_take_a_target_for_each_pixel(vicinity: Vicinity, kind: str, form: str) -> None:
    criterion, y, n_outputs = DENSE[kind]
    net = make(map_pixels(n_outputs), criterion, vicinity)
    assert np.isfinite(net.fit(*FORMS[form][0](y)).history[-1, "train_loss"])


WHOLE: dict[str, tuple[Any, Any, Any]] = {
    "labels": (nn.CrossEntropyLoss, LABELS[:, 0, 0], 3),
    "shares": (nn.CrossEntropyLoss, np.full((N, 3), 1 / 3, dtype=np.float32), 3),
    "real": (nn.MSELoss, DEPTHS[:, :, 0, 0], 1),
    "reals": (nn.MSELoss, DEPTHS[:, 0, 0], 4),
}


@pytest.mark.parametrize(("name", "kind", "form"), cover_pairs(PASTING, WHOLE, FORMS))
def test_boxes_are_pasted_where_an_image_has_one_target(name: str, kind: str, form: str) -> None:
    criterion, y, n_outputs = WHOLE[kind]
    give, options = FORMS[form]
    net = make(map_images(n_outputs), criterion, PASTING[name], **options)
    assert np.isfinite(net.fit(*give(y)).history[-1, "train_loss"])


def test_whether_targets_are_dense_is_asked_once_and_only_where_it_matters() -> None:
    asked: list[bool] = []
    facts = RowFacts(shape=(2, 4, 4), is_dense=lambda: bool(asked.append(True)))
    Mixup().check(facts)
    assert asked == []
    for _ in range(2):
        CutMix().check(facts)
    assert asked == [True]
