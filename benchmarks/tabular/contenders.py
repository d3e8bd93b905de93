"""The contenders: each at its own defaults, behind the preprocessing that its documentation recommends."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import TransformedTargetRegressor, make_column_selector, make_column_transformer
from sklearn.ensemble import RandomForestClassifier, RandomForestRegressor
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
import torch
from torch import Tensor, nn

import sk_mixup
from sk_mixup import MixupClassifier, MixupRegressor

__all__ = [
    "CONTENDERS",
    "ENSEMBLE",
    "OURS",
    "PLAIN",
    "SLOW_FOR_CATBOOST",
    "Contender",
    "Job",
    "find_missing_contenders",
    "list_packages",
    "prepare",
]

OURS, PLAIN, ENSEMBLE = "mixup", "alpha=0", "ensemble of 8"
MISSING = "missing"
NUMBERS = make_column_selector(dtype_include=np.number)


@dataclass(frozen=True)
class Job:
    """What an estimator is made for."""

    X: pd.DataFrame
    is_real: bool
    seed: int
    threads: int

    def choose(self, classifier: Callable[..., Any], regressor: Callable[..., Any]) -> Callable[..., Any]:
        """Return the one of two classes that fits the targets."""
        return regressor if self.is_real else classifier


@dataclass(frozen=True)
class Contender:
    """A model that is fitted to data frames."""

    make: Callable[[Job], BaseEstimator]
    packages: tuple[str, ...] = ()  # What it needs
    is_slow: bool = False  # Whether it takes minutes where others take seconds
    left_out: tuple[str, ...] = ()  # Tables on which it does


def find_missing_contenders() -> dict[str, str]:
    """Return what each contender that cannot be run here lacks."""
    lacking = {
        name: [package for package in contender.packages if find_spec(package) is None]
        for name, contender in CONTENDERS.items()
    }
    missing = {name: ", ".join(packages) for name, packages in lacking.items() if packages}
    if not hasattr(sk_mixup, "MixupEnsembleClassifier"):
        missing[ENSEMBLE] = "MixupEnsembleClassifier"
    return missing


def list_packages(names: Iterable[str]) -> list[str]:
    """Return name and version of the packages that these contenders are made with, skrub among them."""
    packages = {package for name in names for package in CONTENDERS[name].packages}
    prepared = {"skrub"} if find_spec("skrub") is not None else set()
    return [f"{package} {version(package)}" for package in sorted(packages | prepared)]


def prepare(model: BaseEstimator) -> Pipeline:
    """Return a model behind skrub's preprocessing, or behind medians, one-hot codes and standardisation."""
    if find_spec("skrub") is not None:
        return import_module("skrub").tabular_pipeline(model)
    numbers = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
    categories = OneHotEncoder(handle_unknown="ignore", sparse_output=False)
    return make_pipeline(make_column_transformer((numbers, NUMBERS), remainder=categories), model)


def _make_linear(job: Job) -> BaseEstimator:
    return prepare(job.choose(LogisticRegression, Ridge)())


def _make_forest(job: Job) -> BaseEstimator:
    kind = job.choose(RandomForestClassifier, RandomForestRegressor)
    return prepare(kind(random_state=job.seed, n_jobs=job.threads))


def _make_histogram_boosting(job: Job) -> BaseEstimator:
    model = import_module("skrub").tabular_pipeline("regressor" if job.is_real else "classifier")
    return model.set_params(**{f"{model.steps[-1][0]}__random_state": job.seed})


def _make_perceptron(job: Job) -> BaseEstimator:
    model = prepare(job.choose(MLPClassifier, MLPRegressor)(random_state=job.seed))
    return TransformedTargetRegressor(model, transformer=StandardScaler()) if job.is_real else model


def _make_catboost(job: Job) -> BaseEstimator:
    catboost = import_module("catboost")
    categorical = list(job.X.columns[job.X.dtypes == "category"])
    model = job.choose(catboost.CatBoostClassifier, catboost.CatBoostRegressor)(
        cat_features=categorical,
        random_seed=job.seed,
        thread_count=job.threads,
        verbose=False,
        allow_writing_files=False,
    )
    return make_pipeline(FunctionTransformer(_name_missing), model)


def _name_missing(X: pd.DataFrame) -> pd.DataFrame:
    """Return the rows with a category of their own for what is missing: CatBoost takes no NaN there."""
    columns = X.select_dtypes("category").columns
    return X.assign(**{name: X[name].astype(object).fillna(MISSING).astype(str) for name in columns})


def _make_lightgbm(job: Job) -> BaseEstimator:
    lightgbm = import_module("lightgbm")
    kind = job.choose(lightgbm.LGBMClassifier, lightgbm.LGBMRegressor)
    model = kind(random_state=job.seed, n_jobs=job.threads, verbose=-1)
    return make_pipeline(FunctionTransformer(_number_columns), model)


def _number_columns(X: pd.DataFrame) -> pd.DataFrame:
    """Return the rows under names that LightGBM allows."""
    return X.set_axis([f"x{place}" for place in range(X.shape[1])], axis=1)


def _make_pytabkit(job: Job, name: str) -> BaseEstimator:
    pytabkit = import_module("pytabkit")
    kind = getattr(pytabkit, f"{name}_{'Regressor' if job.is_real else 'Classifier'}")
    medians = SimpleImputer(strategy="median", keep_empty_features=True)
    impute = make_column_transformer(
        (medians, NUMBERS), remainder="passthrough", verbose_feature_names_out=False
    )
    model = kind(random_state=job.seed, n_threads=job.threads, device="cpu")
    return make_pipeline(impute.set_output(transform="pandas"), model)


class TabMOfNumbers(nn.Module):
    """TabM on a vector of numbers, at its package's defaults."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__()
        self.tabm = import_module("tabm").TabM.make(n_num_features=in_features, d_out=out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return the members' outputs, of shape (n, k, out_features)."""
        return self.tabm(x)


def _make_tabm(job: Job) -> BaseEstimator:
    """Return TabM trained with mixup; the optimizer is that of its documentation's example, the batch too."""
    return _make_ours(
        job,
        **({} if job.is_real else {"calibrate": False}),
        module=TabMOfNumbers,
        optimizer=torch.optim.AdamW,
        lr=2e-3,
        optimizer__weight_decay=3e-4,
        batch_size=256,
    )


def _make_ours(job: Job, **options: Any) -> BaseEstimator:
    return prepare(job.choose(MixupClassifier, MixupRegressor)(random_state=job.seed, **options))


def _make_ensemble(job: Job) -> BaseEstimator:
    kind = getattr(sk_mixup, "MixupEnsembleRegressor" if job.is_real else "MixupEnsembleClassifier")
    return prepare(kind(n_members=8, random_state=job.seed))


# Many categories and classes: a fit of dermatology's 244 rows took 290 s.
SLOW_FOR_CATBOOST = ("dermatology", "soybean", "splice")

CONTENDERS = {
    "linear": Contender(_make_linear),
    "forest": Contender(_make_forest),
    "HistGradientBoosting": Contender(_make_histogram_boosting, ("skrub",)),
    "CatBoost": Contender(_make_catboost, ("catboost",), left_out=SLOW_FOR_CATBOOST),
    "LightGBM": Contender(_make_lightgbm, ("lightgbm",)),
    "MLP of scikit-learn": Contender(_make_perceptron),
    "RealMLP-TD-S": Contender(partial(_make_pytabkit, name="RealMLP_TD_S"), ("pytabkit",), is_slow=True),
    "TabM-D": Contender(partial(_make_pytabkit, name="TabM_D"), ("pytabkit",), is_slow=True),
    "TabM with mixup": Contender(_make_tabm, ("tabm",), is_slow=True),
    PLAIN: Contender(partial(_make_ours, alpha=0)),
    OURS: Contender(_make_ours),
    ENSEMBLE: Contender(_make_ensemble),
}
