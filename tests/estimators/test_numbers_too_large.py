"""Numbers that are finite as they were given, and infinite as the network takes them: refused everywhere."""

from collections.abc import Callable
from pathlib import Path
import tracemalloc
from typing import Any

import numpy as np
import pytest
from torch import nn

from sk_mixup import MixupClassifier, MixupEnsembleClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.estimators import _inputs
from tests.helpers.nets import Sum
from tests.helpers.sampling import each_pair

X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float64)
CODES = np.arange(40) % 3
OWNERS: dict[str, Any] = {
    "classifier": lambda storage: MixupClassifier(max_epochs=1, storage=storage),
    "regressor": lambda storage: MixupRegressor(max_epochs=1, storage=storage),
    "semi-supervised": lambda storage: SemiSupervisedMixupClassifier(
        max_epochs=1, storage=storage, classes=[0, 1, 2]
    ),
    "ensemble": lambda storage: MixupEnsembleClassifier(
        n_members=2, estimator__max_epochs=1, estimator__storage=storage
    ),
}


@pytest.fixture
def mapped(tmp_path: Path) -> Callable[[np.ndarray], np.ndarray]:
    def write(array: np.ndarray) -> np.ndarray:
        np.save(tmp_path / "X.npy", array)
        return np.load(tmp_path / "X.npy", mmap_mode="r")

    return write


def spoil(X: np.ndarray, value: float) -> np.ndarray:
    bad = X.copy()
    bad[-1, -1] = value
    return bad


def find_message(call: Callable[[], object]) -> str:
    with pytest.raises(ValueError, match="Input X contains infinity or a value too large") as caught:
        call()
    return str(caught.value)


@each_pair(
    {
        "owner": OWNERS,
        "dtype": [np.float64, ">f8", np.longdouble],
        "value": [1e300, -1e39],
    }
)
def test_they_are_refused_wherever_rows_are_kept(owner: str, dtype: Any, value: float, mapped: Any) -> None:
    rows, bad = X.astype(dtype), spoil(X, value).astype(dtype)
    places = [(bad, "device"), (bad, "host"), (mapped(bad), "auto")]
    told = {
        find_message(lambda X=X, storage=storage: OWNERS[owner](storage).fit(X, CODES))
        for X, storage in places
    }
    for X_kept, storage in places:
        net = OWNERS[owner](storage).fit(rows, CODES)
        told.add(find_message(lambda X=X_kept, net=net: net.predict(X)))
        if hasattr(net, "partial_fit"):
            told.add(find_message(lambda X=X_kept, net=net: net.partial_fit(X, CODES)))
    assert len(told) == 1


@pytest.mark.parametrize("storage", ["device", "host"])
def test_they_are_refused_by_name_in_a_mapping(storage: str) -> None:
    net = MixupClassifier(Sum, max_epochs=1, storage=storage).fit({"a": X, "b": X}, CODES)
    bad = {"a": X, "b": spoil(X, 1e300)}
    for call in (net.predict, lambda X: net.fit(X, CODES)):
        with pytest.raises(ValueError, match=r"Input X\['b'\] contains infinity or a value too large"):
            call(bad)


@pytest.mark.parametrize("storage", ["device", "host"])
def test_the_largest_numbers_of_float32_are_none_of_them(storage: str) -> None:
    rows = spoil(X, float(np.finfo(np.float32).max))
    net = MixupClassifier(max_epochs=1, storage=storage, early_stopping=False).fit(X, CODES)
    np.testing.assert_array_equal(net.predict(rows[:-1]), net.predict(rows)[:-1])


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("storage", ["device", "host"])
def test_nets_of_double_precision_take_what_that_holds(storage: str) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Tanh(), nn.Linear(5, 3))
    net = MixupClassifier(module, max_epochs=1, storage=storage).fit(X, CODES)
    assert np.isfinite(net.predict_proba(spoil(X, 1e300))).all()


def test_a_file_is_looked_at_part_by_part(mapped: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_inputs, "PART", 2**12)
    array = mapped(spoil(np.zeros((2**16, 4)), 1e300))
    _inputs.check_range(array[:-1], "X")
    tracemalloc.start()
    try:
        find_message(lambda: _inputs.check_range(array, "X"))
        assert tracemalloc.get_traced_memory()[1] < array.nbytes / 8
    finally:
        tracemalloc.stop()
