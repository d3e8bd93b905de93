"""How rows fall into batches and chunks: rows beside others, rows left alone, chunks of a stream."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
import torch
from torch import Tensor, nn
from torch.utils.data import Subset

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.estimators import _block_sizes
from sk_mixup.estimators._block_sizes import ACTIVATIONS, split_table
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


class Noisy(nn.Linear):
    """Adds noise in prediction too, so that no two predictions are the same."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + torch.randn(len(x), 1)


class Picky(nn.Linear):
    """Refuses rows that are none of the user's, and remembers how it was called."""

    def forward(self, x: Tensor) -> Tensor:
        assert x.abs().max() < 2
        self.seen = [*getattr(self, "seen", []), x]
        return super().forward(x)


class Wired(nn.Module):
    """A user's own module, of several branches."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(20, 130), nn.Linear(130, 1)
        self.norm = nn.LayerNorm(130)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.sigmoid(self.first(x))
        return self.second(self.norm(hidden) + hidden @ hidden.new_ones(130, 130))


STACKS: dict[str, Callable[[], nn.Module]] = {
    "tanh and norm": lambda: nn.Sequential(
        nn.Linear(20, 33), nn.BatchNorm1d(33), nn.Tanh(), nn.Linear(33, 1)
    ),
    "softplus": lambda: nn.Sequential(nn.Linear(20, 17), nn.Softplus(), nn.Dropout(), nn.Linear(17, 1)),
    "all units off": lambda: nn.Sequential(nn.Linear(20, 64), nn.Threshold(1e9, 0), nn.Linear(64, 1)),
    "own": Wired,
    "double": lambda: nn.Linear(20, 1, dtype=torch.float64),
}


@pytest.mark.parametrize("threads", [1, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("stack", STACKS)
def test_modules_of_other_kinds_predict_a_row_alike_alone(wide: Any, stack: str, threads: int) -> None:
    X, before = wide[1], torch.get_num_threads()
    many = np.concatenate([X, -X, 2 * X])
    torch.manual_seed(0)
    net = MixupRegressor(STACKS[stack](), early_stopping=False, max_epochs=1, random_state=0)
    torch.set_num_threads(threads)
    try:
        together = net.fit(X, X[:, 0]).predict(many)
        for n_rows in (1, 8, 9, 33, 100, 255, 257, 1025, 1500):
            np.testing.assert_array_equal(net.predict(many[:n_rows]), together[:n_rows])
            last = net.predict(many[-n_rows:].astype(float)).astype(np.float32)
            np.testing.assert_array_equal(last, together[-n_rows:])
    finally:
        torch.set_num_threads(before)


def test_trial_of_a_block_size_leaves_no_trace() -> None:
    X = np.random.default_rng(0).uniform(-1, 1, size=(40, 5)).astype(np.float32)
    net = MixupRegressor(Picky(5, 1), early_stopping=False, max_epochs=1, random_state=0).fit(X, X[:, 0])
    net.module_.seen = []
    calls: list[int] = []
    handle = net.module_.register_forward_hook(lambda _, x, output: calls.append(len(x[0])))
    net.predict(X[:3])
    handle.remove()
    assert len(calls) == 1
    (seen,) = net.module_.seen
    np.testing.assert_array_equal(seen[:3], X[:3])
    net.predict(X[:3])
    assert all(np.isin(x, X[:3]).all() for x in net.module_.seen)


def test_module_that_draws_draws_for_its_own_rows_only() -> None:
    X = np.random.default_rng(0).normal(size=(40, 5)).astype(np.float32)
    net = MixupRegressor(Noisy(5, 1), early_stopping=False, max_epochs=1, random_state=0).fit(X, X[:, 0])
    drawn = []
    for _ in range(2):  # the first prediction of a module tries block sizes
        torch.manual_seed(1)
        drawn.append((net.predict(X[:3]), torch.rand(1)))
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert drawn[0][1] == drawn[1][1]


def test_prediction_of_few_rows_computes_few_rows(wide: Any) -> None:
    net, X, _ = wide
    sizes: list[int] = []
    net.predict_proba(X[:1])
    with net.module_.register_forward_hook(lambda _, x, output: sizes.append(len(x[0]))):
        net.predict_proba(X[:1])
    assert len(sizes) == 1
    assert sizes[0] <= 256


# -- tables that need no more than a look ------------------------------------------------


@pytest.mark.parametrize("dtype", ["f4", "f8"])
@pytest.mark.parametrize("change", ["order", "view", "reversed", "read-only", "subclass", "list", "swapped"])
def test_form_of_a_table_does_not_touch_the_prediction(wide: Any, dtype: str, change: str) -> None:
    net, X, proba = wide
    rows = X[:9].astype(dtype)
    forms: dict[str, Any] = {
        "order": np.asfortranarray(rows),
        "view": np.repeat(rows, 2, axis=1)[:, ::2],
        "reversed": rows[::-1].copy()[::-1],
        "read-only": np.frombuffer(rows.tobytes(), dtype).reshape(rows.shape),
        "subclass": rows.view(np.recarray),
        "list": rows.tolist(),
        "swapped": rows.astype(rows.dtype.newbyteorder()),
    }
    np.testing.assert_array_equal(net.predict_proba(forms[change]), proba[:9])


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_bad_value_among_good_ones_is_refused_in_prediction(wide: Any, value: float) -> None:
    net, X, _ = wide
    rows = X[:9].astype(float)
    rows[4, 4] = value
    with pytest.raises(ValueError, match="Input X contains"):
        net.predict_proba(rows)


def test_values_whose_sum_overflows_are_taken(wide: Any) -> None:
    net, X, _ = wide
    assert net.predict_proba(np.full_like(X[:9], 3e38) * np.float32(1)).shape == (9, 2)


def test_array_for_named_columns_still_warns() -> None:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 3)), columns=list("abc"))
    net = MixupClassifier(**QUICK).fit(frame, np.arange(40) % 2)
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        net.predict(frame.to_numpy())


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


def rounds_by_place(activation: nn.Module) -> bool:
    """Whether a number comes out otherwise at the end of a vector than inside one, tried at each length."""
    values = torch.randn(3000)
    whole = activation(values.clone())
    ends = [activation(values[: n + 1].clone())[n] for n in range(1, 3000, 7)]
    return not torch.equal(torch.stack(ends), whole[1::7][: len(ends)])


@pytest.mark.parametrize("kind", [*ACTIVATIONS, partial(nn.SiLU, inplace=True), partial(nn.ELU, 0.5)])
def test_what_rounds_by_place_is_predicted_in_whole_vectors(kind: Callable[[], nn.Module]) -> None:
    module = nn.Sequential(nn.Linear(3, 5), kind(), nn.Linear(5, 1)).eval()
    for n_rows in (1, 7, 33, 100, 1000, 1030):
        sizes = {len(block) % 32 for block in split_table(torch.randn(n_rows, 3), module)}
        assert sizes == {0} or not rounds_by_place(kind())


@pytest.mark.parametrize("kind", ACTIVATIONS)
def test_activation_is_tried_where_the_module_is(kind: Callable[[], nn.Module], monkeypatch: Any) -> None:
    monkeypatch.setattr(_block_sizes, "_OF_ACTIVATIONS", {})
    module = nn.Sequential(nn.Linear(3, 5), kind(), nn.Linear(5, 1)).eval()
    x = torch.randn(7, 3)
    with torch.device("meta"):  # the default of the user's own
        blocks = split_table(x, module)
    assert torch.equal(torch.cat(blocks)[:7], x)


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_what_is_not_known_is_predicted_in_whole_vectors(norm: Callable[[int], nn.Module]) -> None:
    module = nn.Sequential(nn.Linear(3, 5), norm(5), nn.Linear(5, 1)).eval()
    assert {len(block) % 32 for n in (1, 7, 100) for block in split_table(torch.randn(n, 3), module)} == {0}
