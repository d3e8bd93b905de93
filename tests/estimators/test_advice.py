"""Warnings before harm: each comes where it should, once a fit, and not on well-made data."""

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import multiprocessing
from typing import Any
import warnings

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.base import clone
from sklearn.datasets import load_breast_cancer, load_diabetes, load_digits, load_iris, load_wine
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from skorch.dataset import Dataset as SkorchDataset
import torch
from torch import nn
from torch.utils.data import ConcatDataset, Dataset, Subset, TensorDataset

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.sampling import each_pair
from tests.helpers.stacking import fit_stacked, stacked

QUICK = {"max_epochs": 1, "early_stopping": False, "random_state": 0}


def _find_warnings(fit: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit()
    assert {warning.category for warning in caught} <= {UserWarning}
    return [str(warning.message) for warning in caught]


def _make_table(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return StandardScaler().fit_transform(rng.normal(size=(n, 4))), np.arange(n) % 2


# -- scale -------------------------------------------------------------------------------

SPOIL = {
    "offset": lambda column: column + 1e6,
    "large": lambda column: column * 1e3,
    "small": lambda column: column * 1e-3,
}


def _as_mapped(X: np.ndarray, folder: Any) -> np.ndarray:
    np.save(folder / "X.npy", X)
    return np.load(folder / "X.npy", mmap_mode="r")


FORMS = {
    "float64": lambda X, _: X,
    "float32": lambda X, _: X.astype(np.float32),
    "fortran": lambda X, _: np.asfortranarray(X),
    "list": lambda X, _: X.tolist(),
    "frame": lambda X, _: pd.DataFrame(X),
    "tensor": lambda X, _: torch.as_tensor(X),
    "mapped": _as_mapped,
}


@each_pair(
    {
        "spoil": [None, *SPOIL],
        "form": FORMS,
        "n": [60, 3000],
    }
)
def test_a_column_far_from_unit_scale_is_named(tmp_path: Any, spoil: Any, form: str, n: int) -> None:
    X, y = _make_table(n)
    if spoil is not None:
        X[:, 2] = SPOIL[spoil](X[:, 2])
    given = FORMS[form](X, tmp_path)
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(given, y))
    assert [message.partition(" of X")[0][-8:] for message in found] == ["column 2"] * (spoil is not None)
    assert all("StandardScaler()" in message for message in found)


@pytest.mark.parametrize("factor", [1.0, 1e3])
@pytest.mark.parametrize("storage", [sparse.csr_matrix, sparse.csc_array])
def test_sparse_columns_are_looked_at(storage: Any, factor: float) -> None:
    X, y = _make_table()
    X = storage(np.column_stack([X[:, :1] * factor, OneHotEncoder().fit_transform(X.round()).toarray()]))
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(X, y))
    assert ["column 0 of X" in message and "with_mean=False" in message for message in found] == [True] * (
        factor > 1
    )


@pytest.mark.parametrize("factor", [1.0, 1e3])
def test_a_dataset_of_tensors_is_looked_at(factor: float) -> None:
    X, y = _make_table()
    rows = TensorDataset(torch.as_tensor(X * factor, dtype=torch.float32), torch.as_tensor(y))
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(rows))
    assert len(found) == (factor > 1)


class Own(Dataset):
    """Rows of the user's own, which its type does not tell."""

    def __init__(self, X: Any, y: Any) -> None:
        self.rows = X, y

    def __len__(self) -> int:
        return len(self.rows[1])

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        X, y = self.rows
        return ({name: part[i] for name, part in X.items()} if isinstance(X, dict) else X[i]), y[i]


class TwoInputs(nn.Module):
    """A linear layer of two inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 2)

    def forward(self, left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
        return self.layer(torch.cat([left, right], dim=1))


def _halve(X: np.ndarray) -> dict[str, np.ndarray]:
    return {"left": X[:, :1], "right": X[:, 1:]}


def _as_tensors(X: np.ndarray, y: np.ndarray) -> TensorDataset:
    return TensorDataset(torch.as_tensor(X), torch.as_tensor(y))


DATASETS = {
    "own": Own,
    "own tensors": lambda X, y: Own(torch.as_tensor(X), torch.as_tensor(y)),
    "own mapping": lambda X, y: Own(_halve(X), y),
    "subset of own": lambda X, y: Subset(Own(X, y), range(50)),
    "skorch": SkorchDataset,
    "skorch mapping": lambda X, y: SkorchDataset(_halve(X), y),
    "subset": lambda X, y: Subset(_as_tensors(X, y), range(50)),
    "both": lambda X, y: ConcatDataset([_as_tensors(X[:30], y[:30]), _as_tensors(X[30:], y[30:])]),
}


@each_pair(
    {
        "form": [*DATASETS, "mapping"],
        "owner": [MixupClassifier, MixupRegressor],
        "factor": [1, 1e3],
    }
)
def test_what_is_no_table_is_looked_at(form: str, owner: type, factor: float) -> None:
    X, y = _make_table()
    X = (X * [1, 1, factor, 1]).astype(np.float32)
    y = y if owner is MixupClassifier else X[:, :2]
    net = owner(TwoInputs, **QUICK) if "mapping" in form else owner(**QUICK)
    if form == "mapping":
        found = _find_warnings(lambda: net.fit(_halve(X), y))
    else:
        found = _find_warnings(lambda: net.fit(DATASETS[form](X, y)))
    where = "column 1 of X['right']" if "mapping" in form else "column 2 of X"
    assert [where in message for message in found] == [True] * (factor > 1)
    assert all("fit_transform" in message for message in found)  # no pipeline takes these


@pytest.mark.parametrize(("dtype", "n_warnings"), [(np.uint8, 1), (np.float32, 0)])
def test_images_of_a_dataset_are_looked_at(dtype: type, n_warnings: int) -> None:
    images = np.random.default_rng(0).uniform(size=(20, 1, 4, 4))
    images = (images * 255).astype(dtype) if dtype is np.uint8 else images.astype(dtype)
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(Own(images, np.arange(20) % 2)))
    assert ["X / 255" in message for message in found] == [True] * n_warnings


@pytest.mark.parametrize("form", ["float64", "frame", "tensor"])
@pytest.mark.parametrize("factor", [1, 1e3])
def test_rows_of_a_gan_are_looked_at(tmp_path: Any, factor: float, form: str) -> None:
    X, _ = _make_table()
    gan = MixupGAN(max_epochs=1, steps_per_epoch=1, random_state=0)
    X = FORMS[form](X * factor, tmp_path)
    found = _find_warnings(lambda: gan.fit(X))
    assert ["make_pipeline(StandardScaler(), MixupGAN(...))" in message for message in found] == [True] * (
        factor > 1
    )


@pytest.mark.parametrize(("factor", "n_warnings"), [(1, 0), (255, 1)])
def test_images_are_looked_at_as_a_whole(factor: float, n_warnings: int) -> None:
    images = np.random.default_rng(0).uniform(size=(20, 1, 4, 4)).astype(np.float32) * factor
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(images, np.arange(20) % 2))
    assert ["X / 255" in message for message in found] == [True] * n_warnings


class Normalised(nn.Sequential):
    """A network that brings inputs to unit scale itself."""

    def __init__(self) -> None:
        super().__init__(nn.BatchNorm1d(4), nn.Linear(4, 2))


class Plain(nn.Sequential):
    """A linear layer."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 2))


class Tokens(nn.Sequential):
    """A network of token ids."""

    def __init__(self) -> None:
        super().__init__(nn.Embedding(100, 3), nn.Flatten(), nn.Linear(12, 2))


@pytest.mark.parametrize(("module", "n_warnings"), [(Normalised, 0), (Plain, 1)])
def test_what_normalises_its_inputs_takes_any_scale(module: type, n_warnings: int) -> None:
    X, y = _make_table()
    found = _find_warnings(lambda: MixupClassifier(module, **QUICK).fit(X * 1e3, y))
    assert len(found) == n_warnings


def test_token_ids_have_no_scale() -> None:
    tokens = np.random.default_rng(0).integers(100, size=(60, 4))
    net = MixupClassifier(Tokens, alpha=0, **QUICK)
    assert not _find_warnings(lambda: net.fit(tokens, np.arange(60) % 2))


def test_a_stream_is_warned_of_in_its_first_chunk() -> None:
    X, y = _make_table()
    net = MixupClassifier(**QUICK)
    assert len(_find_warnings(lambda: net.partial_fit(X * 1e3, y))) == 1
    assert not _find_warnings(lambda: net.partial_fit(X * 1e3, y))


TABLES = {
    "iris": (load_iris, MixupClassifier, 0),
    "wine": (load_wine, MixupClassifier, 1),
    "breast cancer": (load_breast_cancer, MixupClassifier, 1),
    "digits": (load_digits, MixupClassifier, 0),
    "diabetes": (load_diabetes, MixupRegressor, 0),
}


@pytest.mark.parametrize("as_frame", [False, True])
@pytest.mark.parametrize("name", TABLES)
def test_bundled_tables_are_warned_of_raw_only(name: str, as_frame: bool) -> None:
    load, owner, n_warnings = TABLES[name]
    X, y = load(return_X_y=True, as_frame=as_frame)
    assert len(_find_warnings(lambda: owner(**QUICK).fit(X, y))) == n_warnings
    scaled = StandardScaler().set_output(transform="pandas" if as_frame else "default").fit_transform(X)
    assert not _find_warnings(lambda: owner(**QUICK).fit(scaled, y))


# -- frames ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "is_code"),
    [
        (np.arange(60) % 3, True),
        (1 + np.arange(60) % 12, True),
        (pd.Categorical(np.arange(60) % 3 * 5), True),
        (pd.array(np.arange(60) % 3, dtype="Int64"), True),
        (np.arange(60) % 2, False),
        (np.arange(60) % 3 * 1.0, False),
        (np.arange(60) % 3 * 7, False),
        (np.arange(60) % 30, False),
    ],
)
def test_codes_of_categories_in_a_frame_are_named(values: Any, is_code: bool) -> None:
    X, y = _make_table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(kind=values)
    found = _find_warnings(lambda: MixupClassifier(**QUICK).fit(frame, y))
    assert ["column 'kind'" in text and "OneHotEncoder" in text for text in found] == [True] * is_code


class OneHot(nn.Linear):
    """A layer of codes, without an embedding."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(nn.functional.one_hot(x, 3).flatten(1).float())


class Beside(nn.Module):
    """Takes numbers, and codes among them."""

    def __init__(self) -> None:
        super().__init__()
        self.line, self.words = nn.Linear(4, 2), nn.Embedding(3, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.line(x[:, :4]) + self.words(x[:, 4].long())


@pytest.mark.parametrize("module", [nn.EmbeddingBag(3, 2), OneHot(15, 2), Beside()], ids=type)
def test_codes_are_meant_for_a_module_that_embeds_them(module: nn.Module) -> None:
    X, y = _make_table()
    codes = pd.DataFrame(np.random.default_rng(0).integers(3, size=(60, 5)))
    if isinstance(module, Beside):
        codes[[0, 1, 2, 3]] = X
    assert not _find_warnings(lambda: MixupClassifier(module, alpha=0, **QUICK).fit(codes, y))


@pytest.mark.parametrize(
    "values",
    [
        ["red", "green"] * 30,
        pd.Categorical(["red", "green"] * 30),
        pd.array(["red", "green"] * 30, dtype="string"),
        pd.to_datetime(["2020-01-01", "2021-01-01"] * 30),
        ["red", None] * 30,
    ],
)
def test_a_column_of_words_is_named(values: Any) -> None:
    X, y = _make_table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(colour=values)
    with pytest.raises(ValueError, match=r"column 'colour' .*make_column_transformer.*tabular_pipeline"):
        MixupClassifier(**QUICK).fit(frame, y)
    fitted = MixupClassifier(**QUICK).fit(frame.assign(colour=1.0), y)
    with pytest.raises(ValueError, match="column 'colour'"):
        fitted.predict(frame)


@pytest.mark.parametrize(
    "values", [[1.0, np.nan] * 30, [1, None] * 30, pd.array([1, None] * 30, dtype="Int64")]
)
def test_a_column_with_missing_values_is_named(values: Any) -> None:
    X, y = _make_table()
    frame = pd.DataFrame(X, columns=list("abcd")).assign(age=values)
    with pytest.raises(ValueError, match=r"column 'age'.*make_pipeline\(SimpleImputer\(\)"):
        MixupClassifier(**QUICK).fit(frame, y)


def test_numbers_held_as_objects_are_taken() -> None:
    X, y = _make_table()
    assert not _find_warnings(lambda: MixupClassifier(**QUICK).fit(pd.DataFrame(X).astype(object), y))


# -- early stopping ----------------------------------------------------------------------


@pytest.mark.parametrize(("n", "n_warnings"), [(90, 1), (91, 0)])
def test_few_held_out_rows_are_warned_of_where_they_were_asked_for(n: int, n_warnings: int) -> None:
    X, y = _make_table(n)
    net = MixupClassifier(max_epochs=1, early_stopping=True, random_state=0)
    found = _find_warnings(lambda: net.fit(X, y))
    assert ["validation_fraction=0.12" in message for message in found] == [True] * n_warnings
    assert not _find_warnings(lambda: clone(net).set_params(early_stopping=False).fit(X, y))
    assert not _find_warnings(lambda: clone(net).set_params(early_stopping="auto").fit(X, y))


@pytest.mark.parametrize(("lr", "n_warnings"), [(1e-2, 0), (1e-30, 1)])
def test_a_best_epoch_that_is_the_first_is_warned_of(lr: float, n_warnings: int) -> None:
    X, _ = _make_table(300)
    net = MixupClassifier(max_epochs=4, n_iter_no_change=3, lr=lr, random_state=0)
    found = _find_warnings(lambda: net.fit(X, X[:, 0] > 0))
    assert ["the first of 4 epochs" in message for message in found] == [True] * n_warnings
    assert not _find_warnings(lambda: clone(net).set_params(n_iter_no_change=4).fit(X, X[:, 0] > 0))


# -- semi-supervised ---------------------------------------------------------------------


@pytest.mark.parametrize("marker", ["unlabelled", "Unlabeled", "unknown", ""])
@pytest.mark.parametrize("dtype", [object, str])
def test_a_marker_that_became_a_class_is_named(marker: str, dtype: type) -> None:
    X, _ = _make_table()
    y = np.array([["cat", "dog", marker][i % 3] for i in range(60)], dtype=dtype)
    net = SemiSupervisedMixupClassifier(max_epochs=1, random_state=0)
    found = _find_warnings(lambda: net.fit(X, y))
    assert [repr(marker) in message and "np.where" in message for message in found] == [True]
    mended = np.where(y == marker, -1, np.asarray(y, dtype=object))
    assert not _find_warnings(lambda: net.fit(X, mended))
    assert not _find_warnings(lambda: net.set_params(classes=["cat", "dog", marker]).fit(X, y))


def test_a_fit_without_unlabelled_rows_is_warned_of() -> None:
    X, y = _make_table()
    net = SemiSupervisedMixupClassifier(max_epochs=1, random_state=0)
    assert ["got no -1" in message for message in _find_warnings(lambda: net.fit(X, y))] == [True]
    assert not _find_warnings(lambda: net.fit(X, np.where(np.arange(60) % 3, y, -1)))
    assert not _find_warnings(lambda: MixupClassifier(**QUICK).fit(X, y))


# -- stacked -----------------------------------------------------------------------------


def _fit_once(kind: str = "fit") -> list[str]:
    X, y = _make_table()
    if kind == "gan":
        return _find_warnings(lambda: MixupGAN(max_epochs=1, steps_per_epoch=1).fit(X))
    return _find_warnings(lambda: getattr(MixupClassifier(**QUICK), kind)(X, y))


@pytest.mark.parametrize("kind", ["fit", "partial_fit", "gan"])
def test_a_fit_in_a_thread_that_no_block_reaches_is_warned_of(kind: str) -> None:
    with ThreadPoolExecutor(1) as pool:
        with stacked():
            found = pool.submit(_fit_once, kind).result()
            assert not _fit_once(kind)
        assert ["another thread" in message for message in found] == [True]
        assert not pool.submit(_fit_once, kind).result()


@pytest.mark.slow
def test_a_fit_in_a_process_that_no_block_reaches_is_warned_of() -> None:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        with stacked():
            found = pool.submit(_fit_once).result()
        assert ["another process" in message for message in found] == [True]
        assert not pool.submit(_fit_once).result()  # the block is closed


def test_stacked_fits_are_not_warned_of() -> None:
    X, y = _make_table()
    nets = [MixupClassifier(**QUICK) for _ in range(2)]
    assert not _find_warnings(lambda: fit_stacked((net, X, y) for net in nets))


@pytest.mark.parametrize("form", [np.asarray, sparse.csr_matrix, pd.DataFrame, lambda X: {"X": X}])
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
def test_rows_that_are_left_out_are_not_looked_at(form: Callable[..., Any], owner: Any) -> None:
    X, y = _make_table()
    X[:5], weight = 1e6, np.ones(60)
    X, codes = form(X), y
    if isinstance(X, dict) and owner is SemiSupervisedMixupClassifier:
        return  # which takes no mappings
    options = QUICK | ({"module": _TakesMapping} if isinstance(X, dict) else {})
    fit = owner(**options).fit
    assert any("unit scale" in message for message in _find_warnings(lambda: fit(X, codes, weight)))
    weight[:5] = 0
    assert not any("unit scale" in message for message in _find_warnings(lambda: fit(X, codes, weight)))


class _TakesMapping(nn.Module):
    def __init__(self, out_features: int) -> None:
        super().__init__()
        self.linear = nn.LazyLinear(out_features)

    def forward(self, X: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(X)
        return out
