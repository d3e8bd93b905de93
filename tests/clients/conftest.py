"""What the contract tests of other people's tools share; a tool that is not installed is skipped by name."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits, load_iris, make_classification, make_regression
from sklearn.preprocessing import scale

from sk_mixup import MixupClassifier, MixupRegressor

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let the tools warn of what they please."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("default"))


@dataclass(frozen=True)
class Rows:
    """Rows in three parts: to train on, to calibrate with, to test on."""

    X: np.ndarray
    y: np.ndarray

    @property
    def train(self) -> tuple[np.ndarray, np.ndarray]:
        return self.X[::3], self.y[::3]

    @property
    def held_out(self) -> tuple[np.ndarray, np.ndarray]:
        return self.X[1::3], self.y[1::3]

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray]:
        return self.X[2::3], self.y[2::3]


def _shuffle(X: np.ndarray, y: np.ndarray) -> Rows:
    order = np.random.default_rng(0).permutation(len(y))
    return Rows(X[order].astype(np.float32), y[order])


@pytest.fixture
def iris() -> Rows:
    X, y = load_iris(return_X_y=True)
    return _shuffle(scale(X), y)


@pytest.fixture
def digits() -> Rows:
    X, y = load_digits(n_class=3, return_X_y=True)
    return _shuffle(X.reshape(-1, 1, 8, 8) / 16, y)


@pytest.fixture
def binary() -> Rows:
    return _shuffle(*make_classification(600, 6, class_sep=0.5, random_state=0))


@pytest.fixture
def real() -> Rows:
    X, y = make_regression(900, 4, noise=40.0, random_state=0)
    return _shuffle(X, scale(y).astype(np.float32))


@pytest.fixture
def classifier() -> MixupClassifier:
    return MixupClassifier(max_epochs=5, lr=1e-2, early_stopping=False, random_state=0)


@pytest.fixture
def regressor() -> MixupRegressor:
    return MixupRegressor(max_epochs=10, lr=1e-2, early_stopping=False, random_state=0)
