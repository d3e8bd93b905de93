"""How rows fall into batches and chunks: rows beside others, rows left alone, chunks of a stream."""

from typing import Any

import numpy as np
import pytest
from scipy import sparse
from torch import nn
from torch.utils.data import Subset

from sk_mixup import MixupClassifier
from tests.helpers.datasets import Stream, make_tensor_dataset
from tests.helpers.nets import QUICK

pytestmark = pytest.mark.usefixtures("warn_always")


# -- a prediction does not depend on the rows beside it ----------------------------------


@pytest.fixture(scope="module")
def wide() -> Any:
    """A net of the default width, whose products are large enough to differ by batch."""
    X = np.random.default_rng(0).normal(size=(600, 20)).astype(np.float32)
    y = (X[:, 0] > 0).astype(int)
    net = MixupClassifier(early_stopping=False, max_epochs=1, random_state=0).fit(X, y)
    return net, X, net.predict_proba(X)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 255, 256, 257, 513])
def test_row_is_predicted_alike_among_others(wide: Any, n_rows: int) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X[:n_rows]), proba[:n_rows])


@pytest.mark.parametrize("row", [0, 255, 256, 599])
def test_row_is_predicted_alike_alone(wide: Any, row: int) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X[[row]])[0], proba[row])
    np.testing.assert_array_equal(net.predict_proba(sparse.csr_matrix(X[[row]]))[0], proba[row])


def test_order_of_rows_is_the_order_of_predictions(wide: Any) -> None:
    net, X, proba = wide
    order = np.random.default_rng(1).permutation(len(X))
    np.testing.assert_array_equal(net.predict_proba(X[order]), proba[order])


@pytest.mark.parametrize("batch_size", [1, 7, 1000, -1])
def test_batch_size_does_not_touch_the_prediction_of_a_table(wide: Any, batch_size: int) -> None:
    net, X, proba = wide
    net.set_params(batch_size=batch_size)
    np.testing.assert_array_equal(net.predict_proba(X), proba)


def test_prediction_twice_is_the_same(wide: Any) -> None:
    net, X, proba = wide
    np.testing.assert_array_equal(net.predict_proba(X), proba)


# -- last batches of one row -------------------------------------------------------------


class Normed(nn.Sequential):
    """A linear model after batch normalisation, which cannot take one row in training."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(5), nn.Linear(5, 3))


NORMED: dict[str, Any] = {"early_stopping": False, "batch_size": 8, "max_epochs": 2, "random_state": 0}


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("partners", ["batch", "dataset", "same_class"])
def test_last_batch_of_one_row_is_normalised(blobs: Any, alpha: float, partners: str) -> None:
    net = MixupClassifier(Normed, alpha=alpha, partners=partners, **NORMED).fit(blobs.X[:33], blobs.y[:33])
    assert np.isfinite(net.predict_proba(blobs.X)).all()
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 33


def test_last_batch_of_one_row_after_weights_is_normalised(blobs: Any) -> None:
    weight = np.arange(60) < 33
    net = MixupClassifier(Normed, **NORMED).fit(blobs.X, blobs.y, sample_weight=weight)
    assert np.isfinite(net.predict_proba(blobs.X)).all()


@pytest.mark.parametrize("n_rows", [33, 37, 41])
def test_last_batch_of_one_row_after_a_split_is_normalised(blobs: Any, n_rows: int) -> None:
    options = {**NORMED, "early_stopping": True, "validation_fraction": 0.1}
    net = MixupClassifier(Normed, **options).fit(blobs.X[:n_rows], blobs.y[:n_rows])
    assert np.isfinite(net.predict_proba(blobs.X)).all()


@pytest.mark.parametrize("wrap", [lambda pairs: pairs, lambda pairs: Subset(pairs, range(33)), Stream])
def test_last_batch_of_one_row_of_a_dataset_is_normalised(blobs: Any, wrap: Any) -> None:
    pairs = make_tensor_dataset(blobs.X[:33], blobs.y[:33])
    net = MixupClassifier(Normed, classes=[0, 1, 2], **NORMED).fit(wrap(pairs))
    assert np.isfinite(net.predict_proba(blobs.X)).all()


# -- partial data ------------------------------------------------------------------------


def test_chunks_of_a_stream_are_learned(blobs: Any) -> None:
    net = MixupClassifier(max_epochs=1, lr=0.02, random_state=0)
    for chunk in 10 * np.array_split(np.arange(60), 3):
        net.partial_fit(blobs.X[chunk], blobs.y[chunk], classes=[0, 1, 2])
    assert net.score(blobs.X, blobs.y) > 0.8
    assert net.n_iter_ == 30


def test_first_chunk_may_lack_a_class(blobs: Any) -> None:
    few = blobs.y < 2
    net = MixupClassifier(**QUICK).partial_fit(blobs.X[few], blobs.y[few], classes=[0, 1, 2])
    assert net.predict_proba(blobs.X).shape == (60, 3)
    net.partial_fit(blobs.X, blobs.y)
    assert net.classes_.tolist() == [0, 1, 2]


def test_chunk_of_one_row_is_trained_on(blobs: Any) -> None:
    net = MixupClassifier(**QUICK).partial_fit(blobs.X, blobs.y)
    assert net.partial_fit(blobs.X[:1], blobs.y[:1]).n_iter_ == 6


def test_class_without_rows_has_a_column(blobs: Any) -> None:
    net = MixupClassifier(**QUICK, classes=[0, 1, 2, 3]).fit(blobs.X, blobs.y)
    assert net.predict_proba(blobs.X).shape == (60, 4)
    assert net.classes_.tolist() == [0, 1, 2, 3]
