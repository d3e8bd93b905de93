"""Words and holes in a table: an error that names the columns, and a pipeline that mends it."""

from __future__ import annotations

from collections.abc import Callable
import re

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
import torch

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier

Form = Callable[[pd.DataFrame], object]

QUICK = {"max_epochs": 1, "early_stopping": False, "random_state": 0}
TOOLS = {
    tool.__name__: tool
    for tool in (make_pipeline, make_column_transformer, OneHotEncoder, SimpleImputer, StandardScaler)
}
y = np.arange(40) % 2


def make_table(*, holes: bool, words: bool) -> pd.DataFrame:
    frame = pd.DataFrame(np.random.default_rng(0).normal(size=(40, 4)), columns=list("abcd"))
    if holes:
        frame.loc[3:5, "b"] = np.nan
        frame.loc[9, "d"] = np.nan
    if words:
        frame["c"] = ["red", "green"] * 20
    return frame


def as_polars(frame: pd.DataFrame) -> object:
    polars = pytest.importorskip("polars")
    return polars.DataFrame({name: frame[name].to_list() for name in frame})


def as_pyarrow(frame: pd.DataFrame) -> object:
    pyarrow = pytest.importorskip("pyarrow")
    return pyarrow.Table.from_pandas(frame)


def as_nulls(frame: pd.DataFrame) -> object:
    """None in place of NaN."""
    values = frame.to_numpy(dtype=object)
    return np.where(pd.isna(values), None, values)


NAMED: dict[str, Form] = {
    "pandas": lambda frame: frame,
    "pandas-nullable": lambda frame: frame.convert_dtypes(),
    "polars": as_polars,
    "pyarrow": as_pyarrow,
}
NUMBERED: dict[str, Form] = {
    "numbers-as-names": lambda frame: frame.set_axis(range(4), axis=1),
    "objects": lambda frame: frame.to_numpy(dtype=object),
    "objects-with-none": as_nulls,
    "lists": lambda frame: frame.to_numpy(dtype=object).tolist(),
}
PLAIN: dict[str, Form] = {
    "float64": lambda frame: frame.to_numpy(),
    "float32": lambda frame: frame.to_numpy(dtype=np.float32),
    "fortran": lambda frame: np.asfortranarray(frame.to_numpy()),
    "csr": lambda frame: sparse.csr_array(frame.to_numpy()),
    "csc": lambda frame: sparse.csc_matrix(frame.to_numpy()),
}
FORMS = NAMED | NUMBERED | PLAIN
NAMES = {form: "abcd" if form in NAMED else range(4) for form in FORMS}


def read_recipe(message: str, net: object) -> object:
    """Build the pipeline that a message advises."""
    [recipe] = re.findall(r"Use (make_pipeline\(.*?)(?:, or skrub.*)?\.$", message, flags=re.DOTALL)
    return eval(recipe.replace(f"{type(net).__name__}(...)", "net"), TOOLS | {"net": net})


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
@pytest.mark.parametrize("form", ["pandas", "float64"])
def test_each_estimator_names_the_columns_with_holes(owner: type, form: str) -> None:
    b, d = np.array(list(NAMES[form]), dtype=object)[[1, 3]]
    with pytest.raises(
        ValueError, match=rf"missing values; got some in columns {b!r}, {d!r}: Input X contains NaN"
    ):
        owner(**QUICK).fit(FORMS[form](make_table(holes=True, words=False)), y)


@pytest.mark.filterwarnings("ignore:y must mark")
@pytest.mark.parametrize("form", FORMS)
def test_holes_are_named_and_the_pipeline_mends_them(form: str) -> None:
    X = FORMS[form](make_table(holes=True, words=False))
    b, d = np.array(list(NAMES[form]), dtype=object)[[1, 3]]
    net = MixupClassifier(**QUICK)
    with pytest.raises(ValueError, match=rf"got some in columns {b!r}, {d!r}: Input X contains NaN") as error:
        net.fit(X, y)
    if form != "pyarrow":  # which SimpleImputer does not take
        assert read_recipe(str(error.value), net).fit(X, y).predict(X).shape == (40,)


@pytest.mark.parametrize("holes", [False, True])
@pytest.mark.parametrize("form", [*NAMED, *NUMBERED])
def test_words_are_named_and_the_pipeline_mends_them(form: str, holes: bool) -> None:
    X = FORMS[form](make_table(holes=holes, words=True))
    c = list(NAMES[form])[2]
    net = MixupClassifier(**QUICK)
    with pytest.raises(ValueError, match=rf"text, dates or categories in column {c!r} \(") as error:
        net.fit(X, y)
    if form != "pyarrow":
        assert read_recipe(str(error.value), net).fit(X, y).predict(X).shape == (40,)


@pytest.mark.parametrize("form", ["pandas", "objects", "float64", "csr"])
def test_holes_are_named_in_prediction(form: str) -> None:
    net = MixupClassifier(**QUICK).fit(FORMS[form](make_table(holes=False, words=False)), y)
    with pytest.raises(ValueError, match=r"X must hold no missing values; got some in columns"):
        net.predict(FORMS[form](make_table(holes=True, words=False)))


def test_strings_in_an_array_of_text_are_named() -> None:
    X = make_table(holes=False, words=True).to_numpy().astype(str)
    with pytest.raises(ValueError, match=r"text, dates or categories in column 2 \("):
        MixupClassifier(**QUICK).fit(X, y)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        pytest.param(lambda X: np.nan_to_num(X)[:, :3], r"X has 3 features", id="another-width"),
        pytest.param(lambda X: np.where(np.isnan(X), np.inf, X), r"X contains infinity", id="infinite"),
        pytest.param(lambda X: torch.tensor(X)[:, None], r"X contains NaN", id="images"),
    ],
)
def test_other_errors_stay_as_they_are(change: Callable[[np.ndarray], object], match: str) -> None:
    X = make_table(holes=True, words=False).to_numpy()
    net = MixupClassifier(**QUICK).fit(np.nan_to_num(X), y)
    with pytest.raises(ValueError, match=match) as error:
        net.predict(change(X))
    assert "make_pipeline" not in str(error.value)
