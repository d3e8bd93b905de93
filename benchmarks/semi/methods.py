"""The methods that the benchmark of few labels compares, and how each chooses its option."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from sklearn.impute import SimpleImputer
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.semi_supervised import LabelSpreading, SelfTrainingClassifier

from benchmarks.harness.fitting import score_log_likelihood
from sk_mixup import MixupClassifier, SemiSupervisedMixupClassifier

__all__ = ["METHODS", "Method", "PartlyLabeled", "choose_fit", "hide_labels"]


def hide_labels(y: np.ndarray, n_labels: int, seed: int) -> np.ndarray:
    """Return labels of which all but some a class are -1."""
    generator = np.random.default_rng(seed)
    partly = np.full(y.shape, -1)
    for label in np.unique(y):
        kept = generator.permutation(np.flatnonzero(y == label))[:n_labels]
        partly[kept] = label
    return partly


@dataclass(frozen=True)
class PartlyLabeled:
    """Training rows, standardised, of which some are labelled."""

    X: np.ndarray  # All training rows
    y: np.ndarray  # Labels, -1 for unlabelled rows
    scaler: Pipeline  # What standardised the rows

    @classmethod
    def make(cls, X: np.ndarray, y: np.ndarray) -> PartlyLabeled:
        """Standardise the rows; that needs no labels, so all methods may use all rows for it."""
        scaler = make_pipeline(SimpleImputer(strategy="median", keep_empty_features=True), StandardScaler())
        return cls(scaler.fit_transform(X), y, scaler)

    def scale(self, X: np.ndarray) -> np.ndarray:
        """Return test rows in the scale of the training rows."""
        return self.scaler.transform(X)

    @property
    def labeled(self) -> np.ndarray:
        """Which rows are labelled."""
        return self.y >= 0

    def make_folds(self, n_folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return folds of the labelled rows; unlabelled rows are in every training part."""
        labeled, unlabeled = np.flatnonzero(self.labeled), np.flatnonzero(~self.labeled)
        folds = StratifiedKFold(n_folds, shuffle=True, random_state=seed)
        return [
            (np.concatenate([labeled[train], unlabeled]), labeled[test])
            for train, test in folds.split(labeled, self.y[labeled])
        ]

    def drop_unlabeled(self) -> PartlyLabeled:
        """Return the labelled rows alone."""
        return PartlyLabeled(self.X[self.labeled], self.y[self.labeled], self.scaler)


class SpreadLabels(LabelSpreading):
    """Label spreading that knows nothing of rows whose neighbours no label reaches.

    scikit-learn divides 0 by 0 there; here all classes are as likely.
    """

    def predict_proba(self, X: np.ndarray) -> np.ndarray:
        """Return probabilities that are never NaN."""
        with np.errstate(invalid="ignore", divide="ignore"):
            probabilities = super().predict_proba(X)
        return np.nan_to_num(probabilities, nan=1 / len(self.classes_))


@dataclass(frozen=True)
class Method:
    """One method."""

    title: str
    option: str  # What is chosen
    grid: str  # Name of the values to choose from in the configuration
    make: Callable[[Any, list[int], int], Any]  # ``make(config, classes, seed)`` returns the estimator
    needs_labels: bool = False  # Whether it is given the labelled rows alone

    def get_values(self, config: Any) -> tuple[Any, ...]:
        """Return the values that the option is chosen from."""
        values: tuple[Any, ...] = getattr(config, self.grid)
        return values


def choose_fit(method: Method, config: Any, data: PartlyLabeled, seed: int) -> tuple[Any, float]:
    """Choose a method's option on the labelled rows, and fit it to all rows that it takes."""
    if method.needs_labels:
        data = data.drop_unlabeled()
    values = method.get_values(config)
    estimator = method.make(config, np.unique(data.y[data.labeled]).tolist(), seed)
    if len(values) == 1:
        estimator.set_params(**{method.option: values[0]})
        return estimator.fit(data.X, data.y), values[0]
    search = GridSearchCV(
        estimator,
        {method.option: list(values)},
        scoring=score_log_likelihood,
        cv=data.make_folds(config.n_folds, seed),
        error_score="raise",
    ).fit(data.X, data.y)
    return search.best_estimator_, search.best_params_[method.option]


def _make_plain(config: Any, classes: list[int], seed: int, **options: Any) -> MixupClassifier:
    return MixupClassifier(
        **{"alpha": 0, "max_epochs": config.supervised_epochs, **options},
        early_stopping=False,
        module__hidden_layer_sizes=config.hidden_layer_sizes,
        classes=classes,
        device=config.device,
        random_state=seed,
    )


def _make_semi(
    config: Any, classes: list[int], seed: int, *, method: Literal["ict", "mixmatch"]
) -> SemiSupervisedMixupClassifier:
    return SemiSupervisedMixupClassifier(
        method=method,
        max_epochs=config.semi_epochs,
        module__hidden_layer_sizes=config.hidden_layer_sizes,
        classes=classes,
        device=config.device,
        random_state=seed,
    )


def _make_mixup(config: Any, classes: list[int], seed: int) -> MixupClassifier:
    return _make_plain(config, classes, seed, alpha=1.0)


def _make_ict(config: Any, classes: list[int], seed: int) -> SemiSupervisedMixupClassifier:
    return _make_semi(config, classes, seed, method="ict")


def _make_mixmatch(config: Any, classes: list[int], seed: int) -> SemiSupervisedMixupClassifier:
    return _make_semi(config, classes, seed, method="mixmatch")


def _make_self_training(config: Any, classes: list[int], seed: int) -> SelfTrainingClassifier:
    net = _make_plain(config, classes, seed, max_epochs=config.self_training_epochs)
    return SelfTrainingClassifier(net, max_iter=config.n_rounds)


def _make_spreading(config: Any, classes: list[int], seed: int) -> SpreadLabels:
    return SpreadLabels(kernel="knn", max_iter=1000)


METHODS = {
    "erm": Method("ERM", "max_epochs", "erm_epochs", _make_plain, needs_labels=True),
    "mixup": Method("mixup", "alpha", "alphas", _make_mixup, needs_labels=True),
    "ict": Method("ICT", "unlabeled_weight", "unlabeled_weights", _make_ict),
    "mixmatch": Method("MixMatch", "unlabeled_weight", "unlabeled_weights", _make_mixmatch),
    "self_training": Method("self-training", "threshold", "thresholds", _make_self_training),
    "label_spreading": Method("label spreading", "n_neighbors", "n_neighbors", _make_spreading),
}
