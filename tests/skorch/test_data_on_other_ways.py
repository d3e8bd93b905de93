"""Data that a subclass, a split or a loader of the user's changes on its way is trained on as such."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from skorch.callbacks import Checkpoint, EarlyStopping, LoadInitState
import torch
from torch.utils.data import ConcatDataset, Dataset, StackDataset, Subset, default_collate

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier

X = np.random.default_rng(0).normal(size=(300, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(int)
OPTIONS: dict[str, Any] = {"early_stopping": False, "lr": 0.01, "max_epochs": 20, "random_state": 0}
CHANCE = float(np.log(2))


class Zeroed(Dataset):
    """Holds another data set, with inputs of zero."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        x, y = self.dataset[index]
        return x * 0, y


class ZeroedSubset(Subset):
    """Some rows of another data set, with inputs of zero."""

    def __getitem__(self, index: Any) -> Any:
        x, y = super().__getitem__(index)
        return x * 0, y

    def __getitems__(self, indices: list[int]) -> list[Any]:
        return [self[index] for index in indices]


@pytest.mark.parametrize("alpha", [0.0, 0.2])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_a_subset_of_a_class_of_ones_own_yields_what_it_says(owner: type, alpha: float) -> None:
    def split(dataset: Any, y: Any = None) -> Any:
        return ZeroedSubset(dataset, range(200)), Subset(dataset, range(200, 300))

    net = owner(train_split=split, alpha=alpha, **OPTIONS).fit(X, Y)
    chance = CHANCE if owner is MixupClassifier else float(np.var(Y))
    assert net.history[-1, "train_loss"] == pytest.approx(chance, rel=0.2)
    with pytest.raises(ValueError, match="train_split must return a subset of the data set"):
        net.fit(X, Y, sample_weight=np.arange(1, 301))


@pytest.mark.parametrize("alpha", [0.0, 0.2])
def test_a_loader_of_ours_over_another_data_set_serves_that_one(alpha: float) -> None:
    class Own(MixupClassifier):
        def get_iterator(self, dataset: Any, training: bool = False) -> Any:
            return super().get_iterator(Zeroed(dataset) if training else dataset, training=training)

    net = Own(alpha=alpha, **OPTIONS).fit(X, Y)
    assert net.history[-1, "train_loss"] == pytest.approx(CHANCE, rel=0.05)
    plain = MixupClassifier(alpha=alpha, **OPTIONS).fit(X, Y)
    assert plain.history[-1, "train_loss"] < 0.8 * CHANCE


@pytest.mark.parametrize("y", [1000 + 50 * X[:, 0], 7 * Y + 3], ids=["values", "labels"])
@pytest.mark.parametrize("part", ["train", "valid", "both"])
def test_joined_parts_of_arrays_are_encoded_once(y: np.ndarray, part: str) -> None:
    def split(dataset: Any, _: Any = None) -> Any:
        first, middle, last = (Subset(dataset, range(k, k + 100)) for k in (0, 100, 200))
        ends = Subset(dataset, [*range(100), *range(200, 300)])
        train = ends if part == "valid" else ConcatDataset([first, last])
        return train, middle if part == "train" else ConcatDataset([middle])

    def split_plainly(dataset: Any, _: Any = None) -> Any:
        return Subset(dataset, [*range(100), *range(200, 300)]), Subset(dataset, range(100, 200))

    owner = MixupClassifier if y.dtype.kind == "i" else MixupRegressor
    joined, plain = (owner(train_split=way, alpha=0, **OPTIONS).fit(X, y) for way in (split, split_plainly))
    np.testing.assert_allclose(joined.predict(X), plain.predict(X), rtol=1e-4)
    for name in ("train_loss", "valid_loss"):
        np.testing.assert_allclose(joined.history[:, name], plain.history[:, name], rtol=1e-4)


def test_stacked_parts_of_arrays_are_encoded_once() -> None:
    class Half(Dataset):
        def __init__(self, dataset: Any, place: int) -> None:
            self.dataset, self.place = dataset, place

        def __len__(self) -> int:
            return len(self.dataset)

        def __getitem__(self, index: int) -> Any:
            return self.dataset[index][self.place]

    def split(dataset: Any, _: Any = None) -> Any:
        return StackDataset(Half(dataset, 0), Half(dataset, 1)), None

    net = MixupRegressor(train_split=split, alpha=0, **OPTIONS).fit(X, 1000 + 50 * X[:, 0])
    assert net.predict(X).mean() == pytest.approx(1000, abs=50)


def test_weights_follow_a_split_of_a_subclass() -> None:
    class Own(MixupClassifier):
        def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
            train, valid = super().get_split_datasets(X, y, **params)
            return Subset(train, range(200)), valid

    weight = np.linspace(0.01, 9, 300)
    found = Own(alpha=0, **OPTIONS).fit(X, Y, sample_weight=weight)
    expected = MixupClassifier(alpha=0, **OPTIONS).fit(X[:200], Y[:200], sample_weight=weight[:200])
    np.testing.assert_allclose(found.predict_proba(X), expected.predict_proba(X), atol=1e-5)

    class Anew(MixupClassifier):
        def get_split_datasets(self, X: Any, y: Any = None, **params: Any) -> Any:
            train, valid = super().get_split_datasets(X, y, **params)
            return Zeroed(train), valid

    with pytest.raises(ValueError, match="train_split must return a subset of the data set"):
        Anew(**OPTIONS).fit(X, Y, sample_weight=weight)


def scale(items: Any) -> Any:
    """Return a batch with inputs of a tenth."""
    x, y = default_collate(items)
    return x / 10, y


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize("kind", ["table", "rows", "sparse"])
def test_arrays_are_predicted_by_the_function_that_makes_their_batches(owner: type, kind: str) -> None:
    from scipy import sparse

    options = {f"iterator_{part}__collate_fn": scale for part in ("train", "valid")}
    rows = {"table": 10 * X, "rows": (10 * X).reshape(300, 2, 2), "sparse": sparse.csr_matrix(10 * X)}[kind]
    net = owner(**OPTIONS | {"max_epochs": 3}, **options).fit(rows, Y)
    logits = net.module_(torch.as_tensor(X)).detach()
    if owner is MixupClassifier:
        np.testing.assert_allclose(net.predict_proba(rows), logits.softmax(dim=1), atol=1e-5)
    else:
        expected = net.target_mean_ + net.target_std_ * logits[:, 0].numpy()
        np.testing.assert_allclose(net.predict(rows), expected, atol=1e-5)


NOISE = np.random.default_rng(0).integers(0, 2, 300)


@pytest.mark.parametrize("name", ["early_stopping", "stop"])
@pytest.mark.parametrize("owner", [MixupClassifier, SemiSupervisedMixupClassifier])
def test_a_callback_of_any_name_stops(owner: type, name: str) -> None:
    y = np.where(np.arange(300) % 3, NOISE, -1) if owner is SemiSupervisedMixupClassifier else NOISE
    stopper = EarlyStopping("valid_loss", patience=2, load_best=True)
    options = OPTIONS | {"lr": 0.05, "max_epochs": 60}
    net = owner(callbacks=[(name, stopper)], **options).fit(X, y)
    assert net.n_iter_ < 60
    best = int(np.argmin(net.history[:, "valid_loss"]))
    assert net.n_iter_ == best + 3
    net.partial_fit(X, y)
    assert net.n_iter_ < 120 + best


def test_weights_that_are_loaded_within_a_fit_are_trained_in_its_units(tmp_path: Path) -> None:
    first = 5 * X[:, 0]
    checkpoint = Checkpoint(dirname=str(tmp_path), monitor=None)
    MixupRegressor(callbacks=[checkpoint], **OPTIONS).fit(X, first)
    y = 100 + 50 * first
    loading = LoadInitState(Checkpoint(dirname=str(tmp_path), monitor=None))
    net = MixupRegressor(callbacks=[loading], **OPTIONS).fit(X, y)
    np.testing.assert_allclose(net.target_mean_, y.mean(), rtol=1e-5)
    assert net.score(X, y) > 0.9
    net.load_params(checkpoint=Checkpoint(dirname=str(tmp_path), monitor=None))
    np.testing.assert_allclose(net.target_mean_, first.mean(), atol=1e-4)
