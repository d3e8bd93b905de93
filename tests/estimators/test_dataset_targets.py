"""What a Dataset yields gives the net, the classes and the errors of arrays of the same rows."""

from collections.abc import Callable
import random
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.callbacks import EpochScoring
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.datasets import Items, Stream
from tests.helpers.nets import QUICK, USER, Net

ALPHAS = pytest.mark.parametrize("alpha", [0, 1])


def _fit(X: Any, y: Any = None, owner: type = MixupClassifier, **options: Any) -> Any:
    return owner(**{**QUICK, "max_epochs": 2, **options}).fit(X, y)


def _assert_same(net: Any, expected: Any, X: np.ndarray) -> None:
    predict = "predict_proba" if isinstance(net, MixupClassifier) else "predict"
    np.testing.assert_array_equal(getattr(net, predict)(X), getattr(expected, predict)(X))
    np.testing.assert_array_equal(net.predict(X), expected.predict(X))
    assert net.loss_curve_ == expected.loss_curve_


def _make_items(X: np.ndarray, y: Any, convert: Callable[[Any], Any] = lambda target: target) -> Items:
    return Items(len(X), lambda row: (X[row], convert(y[row])))


TARGETS: dict[str, Callable[[Any], Any]] = {
    **{f"numpy-{name}": np.dtype(name).type for name in ("uint8", "int8", "int16", "int32", "int64")},
    **{
        f"torch-{str(dtype)[6:]}": lambda code, dtype=dtype: torch.tensor(int(code), dtype=dtype)
        for dtype in (torch.uint8, torch.int8, torch.int16, torch.int32, torch.float64, torch.bfloat16)
    },
    "python-int": int,
    "python-float": float,
    "string": lambda code: "abc"[code],
    "array-of-no-axes": np.array,
    "array-of-one": lambda code: np.array([code]),
    "tensor-of-one": lambda code: torch.tensor([code]),
    "far-apart": lambda code: int(code) * 10 + 10,
    "negative": lambda code: int(code) - 2,
}


@ALPHAS
@pytest.mark.parametrize("convert", TARGETS.values(), ids=TARGETS)
def test_labels_of_any_form_give_the_net_of_arrays(blobs: Any, convert: Any, alpha: float) -> None:
    net = _fit(_make_items(blobs.X, blobs.y, convert), alpha=alpha)
    expected = np.unique([np.asarray(_to_plain(convert(code))).ravel()[0] for code in blobs.y])
    np.testing.assert_array_equal(net.classes_, expected)
    _assert_same(net, _fit(blobs.X, expected[blobs.y], alpha=alpha), blobs.X)


def _to_plain(target: Any) -> Any:
    return target.float().numpy() if isinstance(target, torch.Tensor) else target


# torch 2.6 joins booleans of numpy in a way that numpy warns of.
@pytest.mark.filterwarnings("ignore:In future, it will be an error for 'np.bool':DeprecationWarning")
@ALPHAS
@pytest.mark.parametrize("convert", [bool, np.bool_, torch.tensor], ids=["python", "numpy", "torch"])
def test_booleans_are_two_classes(binary: Any, convert: Any, alpha: float) -> None:
    net = _fit(_make_items(binary.X, binary.y.astype(bool).tolist(), convert), alpha=alpha)
    assert net.classes_.tolist() == [False, True]
    _assert_same(net, _fit(binary.X, binary.y.astype(bool), alpha=alpha), binary.X)


class Transformed(Dataset):
    """A data set as torchvision has them: its attributes are not what it yields."""

    def __init__(self, X: np.ndarray, targets: np.ndarray) -> None:
        self.X, self.targets, self.y = X, targets, targets

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> Any:
        return self.X[row], int(self.targets[row] > 0)


class Relabelled(SkorchDataset):
    """The same on skorch's class."""

    def transform(self, X: Any, y: Any) -> Any:
        return X, int(y > 0)


class Wrapper(Dataset):
    """A wrapper of a user's own, which keeps the attributes of what it wraps."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, row: int) -> Any:
        x, y = self.dataset[row]
        return x, 1 - y

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["dataset"], name)


WRAPPERS: dict[str, Callable[[Any], Any]] = {
    "plain": lambda dataset: dataset,
    "subset": lambda dataset: Subset(dataset, range(60)),
    "subset-of-subset": lambda dataset: Subset(Subset(dataset, range(60)), range(60)),
    "concat": lambda dataset: ConcatDataset([Subset(dataset, range(20)), Subset(dataset, range(20, 60))]),
}


@pytest.mark.parametrize("owner", [Transformed, Relabelled])
@pytest.mark.parametrize("wrap", WRAPPERS.values(), ids=WRAPPERS)
def test_classes_are_those_that_are_yielded(blobs: Any, owner: Any, wrap: Any) -> None:
    net = _fit(wrap(owner(blobs.X, blobs.y)))
    assert net.classes_.tolist() == [0, 1]
    _assert_same(net, _fit(blobs.X, (blobs.y > 0).astype(int)), blobs.X)


def test_classes_are_those_that_a_wrapper_yields(blobs: Any) -> None:
    net = _fit(Wrapper(Transformed(blobs.X, blobs.y)))
    plain = _fit(blobs.X, (blobs.y == 0).astype(int))
    np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))


@pytest.mark.parametrize("name", ["tensors", "skorch", "items"])
def test_rows_are_held_out_as_of_arrays(blobs: Any, name: str) -> None:
    y = blobs.y * 10 + 10
    sets = {
        "tensors": lambda: TensorDataset(torch.as_tensor(blobs.X), torch.as_tensor(y)),
        "skorch": lambda: SkorchDataset(blobs.X, y),
        "items": lambda: _make_items(blobs.X, y),
    }
    net = _fit(sets[name](), early_stopping=True)
    plain = _fit(blobs.X, y, early_stopping=True)
    _assert_same(net, plain, blobs.X)
    for column in ("valid_loss", "valid_acc"):
        np.testing.assert_allclose(net.history[:, column], plain.history[:, column], rtol=1e-6)


@pytest.mark.parametrize("partners", ["same_class", "dataset"])
def test_partners_are_those_of_arrays(blobs: Any, partners: str) -> None:
    net = _fit(_make_items(blobs.X, blobs.y * 2), partners=partners)
    _assert_same(net, _fit(blobs.X, blobs.y * 2, partners=partners), blobs.X)


# -- errors ------------------------------------------------------------------------------


def _make_sets(X: np.ndarray, y: np.ndarray) -> list[Any]:
    return [
        pytest.param(lambda: TensorDataset(torch.as_tensor(X), torch.as_tensor(y)), id="tensors"),
        pytest.param(lambda: SkorchDataset(X, y), id="skorch"),
        pytest.param(lambda: _make_items(X, y), id="items"),
    ]


ROWS = np.random.default_rng(0).standard_normal((24, 5)).astype(np.float32)
CODES = np.arange(24) % 3


@pytest.mark.parametrize("make", _make_sets(ROWS, CODES * 0))
def test_one_class_is_refused(make: Any) -> None:
    with pytest.raises(ValueError, match=r"y must hold at least two classes; got one class, 0"):
        MixupClassifier().fit(make())


@pytest.mark.parametrize("make", _make_sets(ROWS, np.linspace(0, 1, 24)))
def test_real_values_are_no_labels(make: Any) -> None:
    with pytest.raises(ValueError, match=r"Unknown label type: continuous"):
        MixupClassifier().fit(make())


@pytest.mark.parametrize("make", _make_sets(ROWS, CODES + 1))
@ALPHAS
def test_later_labels_are_among_the_classes(make: Any, alpha: float) -> None:
    net = MixupClassifier(**QUICK, alpha=alpha).partial_fit(ROWS, CODES)
    with pytest.raises(ValueError, match=r"y must hold labels among the classes \[0, 1, 2\]; got 3"):
        net.partial_fit(make())


@pytest.mark.parametrize("spoiled", [CODES + 5, CODES - 1], ids=["above", "below"])
@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("wrap", [lambda X, y: (X, y), lambda X, y: (_make_items(X, y), None)])
def test_held_out_labels_are_among_the_classes(spoiled: Any, number: int, wrap: Any) -> None:
    valid = _make_sets(ROWS, spoiled)[number].values[0]()
    net = MixupClassifier(**QUICK, train_split=predefined_split(valid))
    with pytest.raises(ValueError, match=r"y must hold labels among the classes \[0, 1, 2\]; got (5|-1)"):
        net.fit(*wrap(ROWS, CODES))


# -- validation ---------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [[1, 2, 3], [10, 20, 30], ["a", "b", "c"]], ids=str)
@pytest.mark.parametrize("form", ["items", "skorch", "arrays-of-items"])
def test_held_out_labels_are_those_of_y(blobs: Any, labels: Any, form: str) -> None:
    y = np.asarray(labels)[blobs.y]
    valid = SkorchDataset(blobs.X[:30], y[:30]) if form == "skorch" else _make_items(blobs.X[:30], y[:30])
    train = (_make_items(blobs.X[30:], y[30:]), None) if form == "arrays-of-items" else (blobs.X[30:], y[30:])
    net = _fit(*train, lr=0.05, max_epochs=5, train_split=predefined_split(valid))
    proba = net.predict_proba(blobs.X[:30]).astype(np.float64)
    nll = -np.log(proba[np.arange(30), blobs.y[:30]]).mean()
    assert net.history[-1, "valid_loss"] == pytest.approx(nll, rel=1e-5)
    assert net.history[-1, "valid_acc"] == pytest.approx(np.mean(net.predict(blobs.X[:30]) == y[:30]))


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("form", [_make_items, SkorchDataset], ids=["items", "skorch"])
def test_scores_are_those_of_the_labels_that_are_yielded(blobs: Any, form: Any, use_caching: bool) -> None:
    def score(net: Any, rows: Any, y: Any = None) -> float:
        y = [rows[row][1] for row in range(len(rows))] if y is None else y
        return float(np.mean(net.predict(rows) == np.asarray(y)))

    labels = blobs.y * 10 + 10
    scoring = EpochScoring(score, name="own", lower_is_better=False, use_caching=use_caching)
    if form is SkorchDataset and not use_caching:  # which hands its arrays to the scorer
        scoring.set_params(scoring="accuracy")
    split = predefined_split(form(blobs.X[:30], labels[:30]))
    net = _fit(form(blobs.X[30:], labels[30:]), callbacks=[scoring], train_split=split, lr=0.05)
    expected = np.mean(net.predict(blobs.X[:30]) == labels[:30])
    assert net.history[-1, "own"] == net.history[-1, "valid_acc"] == expected


# -- one pass -----------------------------------------------------------------------------


class Augmented(Dataset):
    """Yields rows with noise of every global generator, and counts how often each is read."""

    def __init__(self, X: np.ndarray, y: np.ndarray) -> None:
        self.X, self.y = X, y
        self.n_read = np.zeros(len(X), dtype=int)

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> Any:
        self.n_read[row] += 1
        noise = torch.rand(5).numpy() + np.random.rand(5) + random.random()  # noqa: NPY002
        return (self.X[row] + noise).astype(np.float32), int(self.y[row])


def test_targets_are_read_once_and_draw_nothing() -> None:
    found = []
    for classes in (None, [0, 1, 2]):
        dataset = Augmented(ROWS, CODES)
        np.random.seed(0)  # noqa: NPY002
        random.seed(0)
        torch.manual_seed(0)
        net = _fit(dataset, classes=classes)
        assert set(dataset.n_read[1:]) == {2 + (classes is None)}
        found.append((net.predict_proba(ROWS), torch.rand(1), np.random.rand(), random.random()))  # noqa: NPY002
    for read, told in zip(*found, strict=True):
        np.testing.assert_array_equal(read, told)


def test_targets_are_read_by_the_loader_of_the_user(blobs: Any) -> None:
    def collate(items: Any) -> Any:
        return torch.stack([item["x"] for item in items]), [item["name"] for item in items]

    rows = Items(60, lambda row: {"x": torch.as_tensor(blobs.X[row]), "name": "abc"[blobs.y[row]]})
    options = {"iterator_train__collate_fn": collate, "iterator_valid__collate_fn": collate}
    net = _fit(rows, **options, train_split=ValidSplit(4))
    assert net.classes_.tolist() == ["a", "b", "c"]
    _assert_same(net, _fit(blobs.X, np.array(list("abc"))[blobs.y], train_split=ValidSplit(4)), blobs.X)


def test_workers_read_the_targets() -> None:
    net = _fit(Transformed(ROWS, CODES), iterator_train__num_workers=1, max_epochs=1)
    assert net.classes_.tolist() == [0, 1]


# -- names for codes -----------------------------------------------------------------------


@pytest.mark.parametrize("names", [["dog", "cat", "ant"], np.array(["c", "b", "a"])], ids=str)
def test_codes_are_named_in_the_order_of_the_classes(blobs: Any, names: Any) -> None:
    plain = _fit(blobs.X, blobs.y)
    for rows in (
        TensorDataset(torch.as_tensor(blobs.X), torch.as_tensor(blobs.y)),
        _make_items(blobs.X, blobs.y),
    ):
        net = _fit(rows, classes=names)
        np.testing.assert_array_equal(net.classes_, names)
        np.testing.assert_array_equal(net.predict_proba(blobs.X), plain.predict_proba(blobs.X))
        np.testing.assert_array_equal(net.predict(blobs.X), np.asarray(names)[plain.predict(blobs.X)])


@pytest.mark.parametrize("alpha", [0, 1])
def test_codes_beyond_the_names_are_refused(blobs: Any, alpha: float) -> None:
    with pytest.raises(ValueError, match=r"y must hold codes from 0 to 1, or labels among .*; got 2"):
        _fit(_make_items(blobs.X, blobs.y), classes=["a", "b"], alpha=alpha)


def test_stream_of_labels_is_trained_on(blobs: Any) -> None:
    stream = Stream(_make_items(blobs.X, blobs.y * 10 + 10))
    net = _fit(stream, classes=[10, 20, 30], lr=0.05, max_epochs=10)
    assert np.mean(net.predict(blobs.X) == blobs.y * 10 + 10) > 0.8
    with pytest.raises(ValueError, match=r"y must hold labels among the classes \[10, 20\]; got 30"):
        _fit(stream, classes=[10, 20])


# -- other kinds of targets -----------------------------------------------------------------


@ALPHAS
@pytest.mark.parametrize(
    "convert",
    [np.float64, np.float32, float, lambda v: torch.tensor([v]), lambda v: torch.tensor(v).bfloat16()],
    ids=["float64", "float32", "python", "column", "bfloat16"],
)
def test_real_targets_give_the_net_of_arrays(line: Any, convert: Any, alpha: float) -> None:
    y = np.round(line.y * 8) / 8  # which bfloat16 holds
    net = _fit(_make_items(line.X, y, convert), owner=MixupRegressor, alpha=alpha)
    _assert_same(net, _fit(line.X, y, owner=MixupRegressor, alpha=alpha), line.X)


@ALPHAS
@pytest.mark.parametrize("dtype", [np.uint8, np.int64, np.float32, np.float64, bool], ids=str)
def test_indicators_give_the_net_of_arrays(multilabel: Any, dtype: Any, alpha: float) -> None:
    net = _fit(_make_items(multilabel.X, multilabel.y.astype(dtype)), alpha=alpha)
    _assert_same(net, _fit(multilabel.X, multilabel.y, alpha=alpha), multilabel.X)


def test_held_out_indicators_of_another_width_are_refused(multilabel: Any) -> None:
    valid = _make_items(multilabel.X, multilabel.y[:, :2])
    with pytest.raises(ValueError, match=r"y must be indicators of 3 labels, as in fit"):
        _fit(multilabel.X, multilabel.y, train_split=predefined_split(valid))


class Pixels(nn.Conv2d):
    """A logit for each of three classes at each pixel."""

    def __init__(self) -> None:
        super().__init__(1, 3, 1)


@ALPHAS
@pytest.mark.parametrize("labels", [[0, 1, 2], [0, 10, 20]], ids=str)
@pytest.mark.parametrize("convert", [np.uint8, np.int32, torch.as_tensor], ids=["uint8", "int32", "torch"])
@pytest.mark.parametrize("ignored", [None, 255])
def test_maps_of_labels_give_the_net_of_arrays(alpha: float, labels: Any, convert: Any, ignored: Any) -> None:
    generator = np.random.default_rng(0)
    X = generator.standard_normal((24, 1, 4, 4)).astype(np.float32)
    y = np.asarray(labels)[generator.integers(3, size=(24, 4, 4))]
    options: dict[str, Any] = {"module": Pixels, "alpha": alpha, "train_split": ValidSplit(4)}
    if ignored is not None:
        y[:, 0] = ignored
        options["criterion__ignore_index"] = ignored
    net, plain = _fit(_make_items(X, y, convert), **options), _fit(X, y, **options)
    np.testing.assert_array_equal(net.classes_, labels)
    np.testing.assert_allclose(net.predict_proba(X), plain.predict_proba(X), rtol=1e-5)
    np.testing.assert_allclose(net.history[:, "valid_loss"], plain.history[:, "valid_loss"], rtol=1e-5)


# -- skorch's own nets with mixing -----------------------------------------------------------


class Plain(MixupNetMixin, NeuralNetClassifier):
    """A skorch net, whose targets are what its criterion takes."""


@ALPHAS
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_mixed_net_of_skorch_takes_floats_of_any_size(blobs: Any, dtype: Any, alpha: float) -> None:
    X, y = torch.as_tensor(blobs.X).to(dtype), torch.as_tensor(blobs.y)
    options = {
        **USER,
        "alpha": alpha,
        "random_state": 0,
        "train_split": predefined_split(TensorDataset(X, y)),
    }
    net = Plain(Net, **options).fit(TensorDataset(X, y), None)
    plain = Plain(Net, **options).fit(X.float().numpy(), blobs.y)
    assert net.history[:, "train_loss"] == plain.history[:, "train_loss"]
    np.testing.assert_allclose(net.predict_proba(TensorDataset(X)), plain.predict_proba(X.float()), rtol=1e-5)
