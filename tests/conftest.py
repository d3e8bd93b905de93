"""Data, settings and nets that the contract tests share."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from hypothesis import settings
import numpy as np
from numpy.typing import NDArray
import pytest
from sklearn.datasets import make_blobs, make_regression
from skorch import NeuralNetClassifier
import torch

from sk_mixup import MixupClassifier
from sk_mixup._training.module import ModuleTrainer
from sk_mixup._training.stacked_trainer import StackedTrainer
from tests.helpers.nets import USER, Make, Net

# The same examples every time, and no clock: a shared machine is slow now and then.
settings.register_profile("steady", deadline=None, derandomize=True)
settings.load_profile("steady")


@dataclass(frozen=True)
class Table:
    """A table of examples and their targets."""

    X: NDArray[np.float32]
    y: NDArray


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Small nets gain nothing from threads, and sums keep their order with one, whatever ran before."""
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def warn_always() -> Iterator[None]:
    """Let torch warn each time, not once a process: no test hides another's warning."""
    torch.set_warn_always(True)
    yield
    torch.set_warn_always(False)


@pytest.fixture
def float64() -> Iterator[None]:
    """Build and train nets in float64."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.fixture
def stack_two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stack any two nets, whether or not that is the faster."""
    monkeypatch.setattr(ModuleTrainer, "fewest_stacked", 2)


@pytest.fixture
def stacks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Numbers of nets in all stacks that were trained for an epoch."""
    sizes: list[int] = []
    run_epoch = StackedTrainer.run_epoch

    def run_noted(self: StackedTrainer, *args: Any) -> bool:
        done = run_epoch(self, *args)
        sizes.extend([len(self.epochs)] * done)
        return done

    monkeypatch.setattr(StackedTrainer, "run_epoch", run_noted)
    return sizes


def _round(values: NDArray) -> NDArray[np.float32]:
    """Round to values that float32 and float64 both hold exactly."""
    return (np.round(values * 64) / 64).astype(np.float32)


@pytest.fixture(scope="session")
def blobs() -> Table:
    """Three separable classes, coded 0, 1, 2: 60 rows of 5 features."""
    X, y = make_blobs(60, n_features=5, centers=3, cluster_std=2.0, random_state=0)
    return Table(_round((X - X.mean(axis=0)) / X.std(axis=0)), y)


@pytest.fixture(scope="session")
def binary(blobs: Table) -> Table:
    """Two classes, coded 0, 1: 40 rows of 5 features."""
    kept = blobs.y < 2
    return Table(blobs.X[kept], blobs.y[kept])


@pytest.fixture(scope="session")
def multilabel(blobs: Table) -> Table:
    """Three indicators a row, some rows with none and some with several."""
    return Table(blobs.X, (blobs.X[:, :3] > 0).astype(np.int64))


@pytest.fixture(scope="session")
def line() -> Table:
    """One real target, linear in the features: 60 rows of 5 features."""
    X, y = make_regression(60, n_features=5, noise=0.1, random_state=0)
    return Table(_round(X), _round(y / y.std()))


@pytest.fixture(scope="session")
def plane(line: Table) -> Table:
    """Two real targets."""
    return Table(line.X, np.stack([line.y, _round(line.X @ np.arange(5) / 8)], axis=1))


@pytest.fixture(
    params=[NeuralNetClassifier, partial(MixupClassifier, alpha=0, random_state=0)],
    ids=["skorch", "sk_mixup"],
)
def make(request: pytest.FixtureRequest) -> Make:
    """Build a net of skorch's or of ours with the options of a skorch user."""

    def build(module: Any = Net, **options: Any) -> Any:
        torch.manual_seed(0)
        return request.param(module, **{**USER, **options})

    return build
