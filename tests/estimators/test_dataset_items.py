"""Items of any form reach the module, or a message says which form is taken."""

from typing import Any

import numpy as np
from PIL import Image
import pytest
from skorch import NeuralNetClassifier
from skorch.dataset import Dataset as SkorchDataset
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.mixing import ManifoldMixup, Mixup
from tests.helpers.datasets import Items, Stream, make_tensor_dataset
from tests.helpers.nets import QUICK, Sum

ALPHAS = pytest.mark.parametrize("alpha", [0, 1])


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """skorch's classifier with our training."""


class Joint(Sum):
    """The same model, whose two inputs come as one."""

    def forward(self, x: Any) -> Tensor:
        a, b = x
        return super().forward(a, b)


def _fit(X: Any, y: Any = None, owner: type = MixupClassifier, **options: Any) -> Any:
    return owner(**{**QUICK, "max_epochs": 2, **options}).fit(X, y)


# -- several inputs ------------------------------------------------------------------------


@ALPHAS
@pytest.mark.parametrize("criterion", ["auto", nn.CrossEntropyLoss], ids=["auto", "named"])
@pytest.mark.parametrize("held_out", [False, True])
def test_several_inputs_are_trained_on(blobs: Any, alpha: float, criterion: Any, held_out: bool) -> None:
    options = {"alpha": alpha, "criterion": criterion, "early_stopping": held_out}
    named = _fit(
        Items(60, lambda row: ({"a": blobs.X[row], "b": blobs.X[row]}, blobs.y[row])), module=Sum, **options
    )
    joint = _fit(Items(60, lambda row: ((blobs.X[row], blobs.X[row]), blobs.y[row])), module=Joint, **options)
    X = {"a": blobs.X, "b": blobs.X}
    arrays = _fit(X, blobs.y, module=Sum, **options)
    np.testing.assert_allclose(named.predict_proba(X), arrays.predict_proba(X), rtol=1e-5)
    pairs = Items(60, lambda row: ((blobs.X[row], blobs.X[row]), blobs.y[row]))
    np.testing.assert_allclose(joint.predict_proba(pairs), arrays.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("policy", [Mixup(1, partners="dataset"), ManifoldMixup(layers=["line"])], ids=str)
def test_several_inputs_are_mixed_by_any_policy(blobs: Any, policy: Any) -> None:
    joint = Items(60, lambda row: ((blobs.X[row], blobs.X[row]), blobs.y[row]))
    named = Items(60, lambda row: ({"a": blobs.X[row], "b": blobs.X[row]}, blobs.y[row]))
    losses = [_fit(joint, module=Joint, vicinity=policy).loss_curve_]
    losses.append(_fit(named, module=Sum, vicinity=policy).loss_curve_)
    assert losses[0] == losses[1]


# -- other items ---------------------------------------------------------------------------

NO_PAIRS = {
    "three": (lambda row: (np.zeros(5), row % 2, row), "items of 3 values"),
    "dict": (lambda row: {"x": np.zeros(5), "labels": row % 2}, "dicts with the keys 'x', 'labels'"),
    "dict-of-three": (lambda row: {"a": 0.0, "b": 1.0, "label": 1}, "dicts with the keys 'a', 'b', 'label'"),
    "one": (lambda row: (np.zeros(5),), "items of 1 value"),
    "bare": (lambda row: np.zeros(5), "items that are one Tensor"),
}


@ALPHAS
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize("name", NO_PAIRS)
def test_items_that_are_no_pairs_are_refused(owner: Any, name: str, alpha: float) -> None:
    make, found = NO_PAIRS[name]
    with pytest.raises(ValueError, match=rf"X must be a Dataset of pairs \(x, y\); got {found}"):
        owner(alpha=alpha).fit(Items(24, make))


def _make_image(row: int) -> Any:
    return Image.new("RGB", (4, 4), (row, 0, 0)), row % 2


@pytest.mark.parametrize("classes", [None, [0, 1]])
def test_images_that_are_no_tensors_are_refused(classes: Any) -> None:
    with pytest.raises(ValueError, match=r"items torch can join to batches; got .*Image.*ToTensor"):
        MixupClassifier(classes=classes).fit(Items(24, _make_image))


def test_images_are_joined_by_the_users_loader() -> None:
    def collate(items: Any) -> Any:
        pixels = [np.asarray(image, dtype=np.float64).ravel() / 255 for image, _ in items]
        return torch.as_tensor(np.array(pixels)), torch.tensor([code for _, code in items])

    net = _fit(Items(24, _make_image), iterator_train__collate_fn=collate, iterator_valid__collate_fn=collate)
    assert net.predict(Items(24, _make_image)).shape == (24,)


def test_rows_of_several_lengths_are_refused() -> None:
    rows = Items(24, lambda row: (np.zeros(3 + row % 2), row % 2))
    with pytest.raises(ValueError, match=r"X must be a Dataset whose items torch can join to batches"):
        MixupClassifier().fit(rows)


@ALPHAS
def test_lists_of_numbers_are_rows(multilabel: Any, alpha: float) -> None:
    X, y = multilabel.X.tolist(), multilabel.y.tolist()
    net = _fit(Items(60, lambda row: (X[row], y[row])), alpha=alpha)
    plain = _fit(X, y, alpha=alpha)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))


# -- dtypes --------------------------------------------------------------------------------


@ALPHAS
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_floats_of_any_size_are_cast(blobs: Any, owner: Any, dtype: Any, alpha: float) -> None:
    X = torch.as_tensor(blobs.X).to(dtype)
    valid = predefined_split(TensorDataset(X, torch.as_tensor(blobs.y)))
    net = _fit(TensorDataset(X, torch.as_tensor(blobs.y)), owner=owner, alpha=alpha, train_split=valid)
    plain = _fit(X.float().numpy(), blobs.y, owner=owner, alpha=alpha)
    np.testing.assert_array_equal(net.predict(X.float()), plain.predict(X.float()))
    assert len(net.predict(TensorDataset(X))) == 60


@ALPHAS
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, bool], ids=lambda dtype: dtype.__name__)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize("form", ["tensors", "items", "skorch"])
def test_integers_are_floats_to_a_module_that_takes_such(
    blobs: Any, form: str, owner: Any, dtype: Any, alpha: float
) -> None:
    rows = np.abs(blobs.X * 3).astype(dtype)
    forms: dict[str, Any] = {
        "tensors": lambda: TensorDataset(torch.as_tensor(rows), torch.as_tensor(blobs.y)),
        "items": lambda: Items(60, lambda row: (rows[row], blobs.y[row])),
        "skorch": lambda: SkorchDataset(rows, blobs.y),
    }
    dataset, floats = forms[form](), rows.astype(np.float32)
    options = {"owner": owner, "alpha": alpha}
    net = _fit(dataset, train_split=predefined_split(dataset), **options)
    plain = _fit(floats, blobs.y, train_split=predefined_split(SkorchDataset(floats, blobs.y)), **options)
    columns = "train_loss", "valid_loss"
    np.testing.assert_allclose(net.history[:, columns], plain.history[:, columns], rtol=1e-5)
    expected = plain.predict(floats)
    for fitted in (net, plain):
        np.testing.assert_allclose(fitted.predict(dataset), expected, rtol=1e-4, atol=1e-6)


class Bag(nn.Module):
    """Takes token ids, and as a second argument how much they count."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.EmbeddingBag(9, 3, mode="sum")

    def forward(self, x: Tensor, scale: float) -> Tensor:
        return scale * self.words(x)


def test_integers_stay_such_for_a_module_that_takes_more_than_them(blobs: Any) -> None:
    rows = np.abs(blobs.X * 3).astype(np.int64) % 9
    net = MixupClassifier(Bag, alpha=0, max_epochs=1, early_stopping=False)
    net.fit(TensorDataset(torch.as_tensor(rows), torch.as_tensor(blobs.y)), scale=2.0)
    assert np.isfinite(net.loss_curve_).all()


# -- prediction ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda X: TensorDataset(torch.as_tensor(X)),
        lambda X: Items(len(X), lambda row: X[row]),
        lambda X: Items(len(X), lambda row: (X[row].astype(np.float64), -1)),
        lambda X: Stream(Items(len(X), lambda row: (X[row], 0))),
    ],
    ids=["one", "bare", "float64-without-label", "stream"],
)
@pytest.mark.parametrize("n_rows", [2, 60])
def test_rows_without_targets_are_predicted(blobs: Any, make: Any, n_rows: int) -> None:
    net = _fit(blobs.X, blobs.y)
    X = blobs.X[:n_rows]
    np.testing.assert_allclose(net.predict_proba(make(X)), net.predict_proba(X), rtol=1e-5)


@pytest.mark.parametrize("method", ["fit", "predict"])
def test_no_rows_are_refused(blobs: Any, method: str) -> None:
    net = _fit(blobs.X, blobs.y)
    with pytest.raises(ValueError, match=r"X must hold at least one row; got an empty Dataset"):
        getattr(net, method)(make_tensor_dataset(blobs.X[:0], blobs.y[:0]))


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
@pytest.mark.parametrize("method", ["fit", "partial_fit", "predict"])
def test_loader_in_the_place_of_data_is_refused(blobs: Any, owner: Any, method: str) -> None:
    net = _fit(blobs.X, blobs.y, owner=owner)
    with pytest.raises(TypeError, match=r"X must be arrays or a Dataset; got a DataLoader"):
        getattr(net, method)(DataLoader(make_tensor_dataset(blobs.X, blobs.y), batch_size=7))


@pytest.mark.parametrize(
    ("make", "found"),
    [
        (lambda row: (row % 2, 1), "a tuple or list of 2 values"),
        (lambda row: (row % 2,), "a tuple or list of 1 value"),
        (lambda row: [torch.tensor(0.0), torch.tensor(1.0)], "a tuple or list of 2 values"),
        (lambda row: {"y": row % 2}, "a dict with the keys 'y'"),
    ],
)
@pytest.mark.parametrize("n", [32, 60])  # a batch of the reader, or no multiple of it
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor])
def test_targets_of_several_parts_are_refused(blobs: Any, owner: Any, n: int, make: Any, found: str) -> None:
    with pytest.raises(ValueError, match=rf"y is a number, a string or one array; got {found}\. Return"):
        _fit(Items(n, lambda row: (blobs.X[row], make(row))), owner=owner)


class Table:
    """Rows of dicts that are no torch Dataset, as Hugging Face's."""

    def __init__(self, X: Any, y: Any) -> None:
        self.columns = {"x": X, "label": y}

    def __len__(self) -> int:
        return len(self.columns["x"])

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self.columns[key]
        return {name: column[key] for name, column in self.columns.items()}


@pytest.mark.parametrize("form", ["table", "list"])
@pytest.mark.parametrize("call", ["fit", "fit with y", "partial_fit", "predict", "net", "validation"])
def test_rows_of_dicts_that_are_no_dataset_are_refused(blobs: Any, call: str, form: str) -> None:
    table: Any = Table(blobs.X, blobs.y)
    table = table if form == "table" else [table[row] for row in range(60)]
    net = _fit(blobs.X, blobs.y)
    calls = {
        "fit": lambda: net.fit(table),
        "fit with y": lambda: net.fit(table, blobs.y),
        "partial_fit": lambda: net.partial_fit(table),
        "predict": lambda: net.predict(table),
        "net": lambda: Mixed(module=nn.Linear(5, 3), verbose=0).fit(table, blobs.y),
        "validation": lambda: _fit(blobs.X, blobs.y, train_split=predefined_split(table)),
    }
    if call == "net" and form == "list":  # for skorch, several inputs
        return
    with pytest.raises(TypeError, match=r"of dicts with the keys 'x', 'label'\. Pass columns of it as the"):
        calls[call]()


# -- a Dataset of the user's own -----------------------------------------------------------


class Doubled(SkorchDataset):
    """Changes the rows, as a user of skorch writes it."""

    def transform(self, X: Any, y: Any) -> Any:
        X, y = super().transform(X, y)
        return 2 * X[::-1].copy(), y


class Taken(SkorchDataset):
    """Changes the rows in its own way, and cannot do without targets."""

    def __getitem__(self, row: int) -> Any:
        return 2 * self.X[row][::-1].copy(), self.y[row]


class Foreign(Dataset):
    """The same, on torch's class only."""

    def __init__(self, X: Any, y: Any) -> None:
        self.X, self.y = X, y

    def __len__(self) -> int:
        return len(self.X)

    def __getitem__(self, row: int) -> Any:
        return 2 * self.X[row][::-1].copy(), self.y[row]


OWN = pytest.mark.parametrize("own", [Doubled, Taken, Foreign])


def _change(X: np.ndarray) -> np.ndarray:
    return 2 * X[:, ::-1].copy()


@OWN
@pytest.mark.parametrize("labels", [np.arange(3), np.array([10, 20, 30]), np.array(list("abc"))], ids=str)
@pytest.mark.parametrize("held_out", [False, True])
def test_dataset_of_the_users_own_is_trained_and_predicted_on(
    blobs: Any, own: Any, labels: np.ndarray, held_out: bool
) -> None:
    y = labels[blobs.y]
    net = _fit(blobs.X, y, dataset=own, early_stopping=held_out)
    plain = _fit(_change(blobs.X), y, early_stopping=held_out)
    np.testing.assert_array_equal(net.classes_, labels)
    np.testing.assert_allclose(net.predict_proba(blobs.X), plain.predict_proba(_change(blobs.X)), rtol=1e-5)
    np.testing.assert_array_equal(net.predict(blobs.X), plain.predict(_change(blobs.X)))
    assert net.score(blobs.X, y) == plain.score(_change(blobs.X), y)


@OWN
def test_dataset_of_the_users_own_holds_real_targets(line: Any, own: Any) -> None:
    net = _fit(line.X, line.y, owner=MixupRegressor, dataset=own)
    plain = _fit(_change(line.X), line.y, owner=MixupRegressor)
    np.testing.assert_allclose(net.predict(line.X), plain.predict(_change(line.X)), rtol=1e-4, atol=1e-5)


@OWN
@pytest.mark.parametrize("labels", [np.arange(3), np.array(list("abc"))], ids=str)
def test_held_out_set_of_the_users_own_is_scored_as_it_yields(
    blobs: Any, own: Any, labels: np.ndarray
) -> None:
    y = labels[blobs.y]
    net = _fit(blobs.X, y, train_split=predefined_split(own(blobs.X[:30], y[:30])))
    proba = net.predict_proba(_change(blobs.X[:30])).astype(np.float64)
    expected = -np.log(proba[np.arange(30), blobs.y[:30]]).mean()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)
    assert net.history[-1, "valid_acc"] == pytest.approx(np.mean(proba.argmax(axis=1) == blobs.y[:30]))


@OWN
def test_held_out_real_targets_are_scored_as_they_are_yielded(line: Any, own: Any) -> None:
    valid = own(line.X[:30], line.y[:30])
    net = _fit(line.X, line.y, owner=MixupRegressor, train_split=predefined_split(valid))
    errors = net.predict(_change(line.X[:30])) - line.y[:30]
    assert net.history[-1, "valid_loss"] == pytest.approx(np.mean(errors**2), rel=1e-4)


def test_held_out_set_beside_unlabelled_rows_is_scored_as_it_yields(blobs: Any) -> None:
    y = np.where(np.arange(60) % 2, -1, blobs.y + 1)
    split = predefined_split(Doubled(blobs.X[:30], blobs.y[:30] + 1))
    net = SemiSupervisedMixupClassifier(train_split=split, max_epochs=2, random_state=0).fit(blobs.X, y)
    proba = net.predict_proba(_change(blobs.X[:30])).astype(np.float64)
    expected = -np.log(proba[np.arange(30), blobs.y[:30]]).mean()
    assert net.history[-1, "valid_loss"] == pytest.approx(expected, rel=1e-5)
    with pytest.raises(ValueError, match=r"y must hold labels among the classes \[1, 2, 3\]; got -1"):
        net.set_params(train_split=predefined_split(Doubled(blobs.X, y))).fit(blobs.X, y)


class Narrowed(SkorchDataset):
    """Yields fewer features than its arrays have."""

    def transform(self, X: Any, y: Any) -> Any:
        return X[:3], y


def test_sizes_are_those_of_what_is_yielded(blobs: Any) -> None:
    net = _fit(blobs.X, blobs.y, dataset=Narrowed)
    plain = _fit(blobs.X[:, :3], blobs.y)
    np.testing.assert_array_equal(net.predict(blobs.X), plain.predict(blobs.X[:, :3]))
    assert net.n_features_in_ == 5


class Wrapped(MixupClassifier):
    """Puts arrays into a Dataset by a method, as a user of skorch may."""

    def get_dataset(self, X: Any, y: Any = None, *args: Any) -> Any:
        return X if isinstance(X, Dataset) else Foreign(np.asarray(X), y)


def test_method_that_makes_a_dataset_is_given_codes(blobs: Any) -> None:
    net = _fit(blobs.X, blobs.y + 1, owner=Wrapped)
    plain = _fit(_change(blobs.X), blobs.y + 1)
    assert net.loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("alpha", [0, 1])
@pytest.mark.parametrize("early_stopping", [False, True])
def test_lists_of_numbers_in_a_dict_are_rows(alpha: float, early_stopping: bool) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 2)

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.layer(a) + b[:, None]

    rows = np.random.default_rng(0).normal(size=(24, 3)).round(2)
    items = Items(24, lambda n: ({"a": rows[n].tolist(), "b": float(n)}, n % 2))
    arrays = Items(24, lambda n: ({"a": rows[n], "b": float(n)}, n % 2))
    found, expected = (
        _fit(each, module=Named, alpha=alpha, early_stopping=early_stopping) for each in (items, arrays)
    )
    np.testing.assert_array_equal(found.predict_proba(items), expected.predict_proba(arrays))
