"""A kind of target from outside: one class, named by an estimator, and nothing else."""

from dataclasses import dataclass
import pickle

import numpy as np
import pytest
from sklearn.base import clone
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.estimators._real_values import RealValues
from sk_mixup.estimators._row_labels import Labels

QUICK = {"max_epochs": 30, "lr": 0.02, "random_state": 0}


@dataclass(frozen=True, eq=False)
class Counts(RealValues):
    """Counts, whose logarithm the module returns; losses are mixed, not targets."""

    criterion = nn.PoissonNLLLoss

    @classmethod
    def check(cls, y: np.ndarray) -> np.ndarray:
        if np.any(y < 0):
            raise ValueError(f"y must hold counts; got {y.min()}. Leave such rows out.")
        return super().check(y)

    def mix(self, y: Tensor, lam: Tensor, output: Tensor) -> Tensor | None:
        return None

    def get_link(self, criterion: nn.Module) -> object:
        return torch.exp


class CountRegressor(MixupRegressor):
    kinds = (Counts,)
    _targets = Counts()


@pytest.fixture(scope="module")
def counts() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    X = generator.normal(size=(300, 2)).astype(np.float32)
    return X, generator.poisson(np.exp(1 + X[:, 0]))


def test_counts_are_learned(counts: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = counts
    net = CountRegressor(criterion="auto", **QUICK).fit(X, y)
    assert isinstance(net.criterion_, nn.PoissonNLLLoss)
    assert np.all(net.predict(X) > 0)
    assert net.predict(X).shape == y.shape
    assert net.score(X, y) > 0.5
    again = pickle.loads(pickle.dumps(net))
    np.testing.assert_array_equal(again.predict(X), net.predict(X))


def test_counts_are_restored_from_a_file(counts: tuple[np.ndarray, np.ndarray], tmp_path: object) -> None:
    X, y = counts
    net = CountRegressor(criterion="auto", **QUICK).fit(X, y)
    net.save_params(f_params=f"{tmp_path}/net", use_safetensors=True)
    other = clone(net)
    other.load_params(f_params=f"{tmp_path}/net", use_safetensors=True)
    np.testing.assert_array_equal(other.predict(X), net.predict(X))


@pytest.mark.usefixtures("float64")
def test_losses_of_counts_are_mixed(counts: tuple[np.ndarray, np.ndarray]) -> None:
    net = CountRegressor(criterion="auto", max_epochs=1, random_state=0).fit(*counts)
    output, y = torch.randn(5, 1), torch.randint(0, 4, (2, 5, 1)).double()
    lam = torch.rand(5)
    lam = torch.stack([lam, 1 - lam])
    losses = torch.exp(output) - y * output
    expected = (lam.unsqueeze(-1) * losses).sum(dim=0).mean()
    torch.testing.assert_close(net.get_mixed_loss(output, y, lam), expected)


def test_counts_below_zero_are_refused(counts: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = counts
    with pytest.raises(ValueError, match=r"y must hold counts; got -1\. Leave"):
        CountRegressor(criterion="auto", **QUICK).fit(X, y - y.min() - 1)


@dataclass(frozen=True, eq=False)
class Grades(Labels):
    """Ordered classes: for each but the lowest, whether a row has at least that grade."""

    criterion = nn.BCEWithLogitsLoss

    @property
    def n_outputs(self) -> int | None:
        return None if self.classes is None else len(self.classes) - 1

    def encode(self, y: np.ndarray) -> np.ndarray:
        codes = super().encode(y)[:, None]
        return (codes > np.arange(len(self.known) - 1)).astype(np.float32)

    def decode(self, codes: np.ndarray | Tensor) -> np.ndarray:
        codes = np.asarray(codes)
        return self.known[codes.sum(axis=1).astype(int) if codes.ndim == 2 else codes]

    def check_output(self, output: Tensor, criterion: nn.Module) -> None:
        self.check_width(output, self.n_outputs)

    def get_link(self, criterion: nn.Module) -> object:
        return torch.sigmoid

    def choose(self, values: np.ndarray) -> np.ndarray:
        return (values > 0.5).sum(axis=1)


class GradeClassifier(MixupClassifier):
    kinds = (Grades,)
    _targets = Grades()


def test_grades_are_learned() -> None:
    X = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    y = np.array(["a", "b", "c", "d"])[np.digitize(X[:, 0], [-0.7, 0, 0.7])]
    net = GradeClassifier(early_stopping=False, **QUICK).fit(X, y)
    assert net.module_.layers[-1].out_features == 3
    assert net.classes_.tolist() == ["a", "b", "c", "d"]
    assert set(net.predict(X)) <= set("abcd")
    assert net.score(X, y) > 0.85
