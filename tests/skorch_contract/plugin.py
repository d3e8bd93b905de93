"""A pytest plugin that puts our classes in the place of skorch's before skorch's own tests are collected.

Two swaps, each with a list of the tests that are expected to fail, beside this file:

``mixin`` (``mixin.txt``)
    ``class Net(MixupNetMixin, NeuralNetClassifier)``, and so for the other nets of skorch, without mixing
    and without shuffling: what skorch does.
``estimators`` (``estimators.txt``)
    :class:`MixupClassifier` and :class:`MixupRegressor` with the defaults of skorch's nets.

A line of a list is ``<test id>  # <reason>``. A listed test that passes is an error, and so is an unlisted
one that fails, and a line whose test does not exist. ``make test-skorch`` runs both.

One test, quickly: ``python -m tests.skorch_contract mixin -k test_pickle_save_load``. To see why a listed
test fails, add ``--runxfail``.
"""

from collections.abc import Callable
from functools import partial
from itertools import count
import os
from pathlib import Path
import tempfile
import time
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import skorch
from skorch import NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor
import skorch.classifier
from skorch.dataset import ValidSplit
import skorch.net
import torch

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.skorch_contract.cuda_files import write_cuda_files

SWAP = "SKORCH_CONTRACT_SWAP"
HERE = Path(__file__).parent

NO_MIXING = {"alpha": 0, "iterator_train__shuffle": False}
SKORCH_DEFAULTS = {
    **NO_MIXING,
    "optimizer": torch.optim.SGD,
    "lr": 0.01,
    "max_epochs": 10,
    "batch_size": 128,
    "early_stopping": False,
    "verbose": 1,
}


def _draw_seed() -> int:
    """Draw the seed of a net from the generator that skorch's tests seed: other nets, other weights."""
    return int(np.random.randint(2**31))  # noqa: NPY002


def _make_net(base: type) -> type:
    """Give a net of skorch the mixed training iteration, which does not mix here."""

    class Net(MixupNetMixin, base):  # type: ignore[misc, valid-type]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **{**NO_MIXING, **kwargs})

    return Net


def _make_estimator(base: type, **defaults: Any) -> type:
    """Give an estimator of ours the defaults of skorch's nets."""

    class Net(base):  # type: ignore[misc, valid-type]
        def __init__(self, module: Any, **kwargs: Any) -> None:
            options = {**SKORCH_DEFAULTS, **defaults, "random_state": _draw_seed(), **kwargs}
            super().__init__(module, **options)

    return Net


def _replace(original: type, made: type) -> None:
    """Put a class where skorch's tests import it from, under skorch's name, so that it can be pickled."""
    name = original.__name__
    made.__name__ = made.__qualname__ = name
    made.__module__ = "skorch"
    setattr(skorch, name, made)
    if not name.endswith(("NetClassifier", "NetRegressor")):  # those name themselves in their `super()`
        setattr(skorch.net if original is NeuralNet else skorch.classifier, name, made)


def _swap_nets() -> None:
    for original in (NeuralNet, NeuralNetBinaryClassifier, NeuralNetClassifier, NeuralNetRegressor):
        _replace(original, _make_net(original))


def _swap_estimators() -> None:
    stratified = {"criterion": torch.nn.NLLLoss, "train_split": ValidSplit(5, stratified=True)}
    _replace(NeuralNetClassifier, _make_estimator(MixupClassifier, **stratified))
    plain = {"criterion": torch.nn.MSELoss, "train_split": ValidSplit(5)}
    _replace(NeuralNetRegressor, _make_estimator(MixupRegressor, **plain))


SWAPS: dict[str, Callable[[], None]] = {"mixin": _swap_nets, "estimators": _swap_estimators}


@pytest.fixture(autouse=True)
def base_of_all_nets(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave skorch's base class where a test puts a mock on it that is meant for all nets."""
    if "save_params_mock" in request.fixturenames:
        monkeypatch.setattr(skorch, "NeuralNet", NeuralNet)


SECONDS = count()


@pytest.fixture(autouse=True)
def clock_that_goes_on(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each run of a flaky test a seed of its own: skorch takes the second, which all five runs share."""
    if getattr(request.module, "time", None) is time:
        monkeypatch.setattr(request.module, "time", SimpleNamespace(time=partial(next, SECONDS)))


def read_expected_failures(path: Path) -> dict[str, str]:
    """Read the ids of the tests that are expected to fail, and why."""
    lines = [line for line in path.read_text().splitlines() if line and not line.startswith("#")]
    return dict(line.split("  # ", 1) for line in lines)  # type: ignore[misc]


def pytest_configure(config: pytest.Config) -> None:
    """Swap the classes, and go where the files are that skorch's tests read: nothing is collected yet."""
    SWAPS[os.environ[SWAP]]()
    home, folder = Path.cwd(), tempfile.TemporaryDirectory()
    write_cuda_files(Path(folder.name))
    os.chdir(folder.name)
    config.add_cleanup(folder.cleanup)
    config.add_cleanup(lambda: os.chdir(home))  # the last is called first


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Expect the failures that are listed, and no others."""
    path = HERE / f"{os.environ[SWAP]}.txt"
    expected = read_expected_failures(path)
    for item in items:
        reason = expected.pop(item.nodeid.rsplit("skorch/tests/", 1)[-1], None)
        if reason is not None:
            item.add_marker(pytest.mark.xfail(reason=reason, strict=True), append=False)
    if expected:
        raise pytest.UsageError(f"{path.name} must list tests that exist; got {sorted(expected)}.")
