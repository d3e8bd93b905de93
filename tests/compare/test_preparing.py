"""Rows prepared once for all alphas: the same numbers as without, and no more fits than there are splits."""

from __future__ import annotations

import threading

from joblib import Parallel, delayed, parallel_config
import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from sk_mixup._compare.preparing import Kept, PreparedOnce
from tests.helpers.stacking import stacked

CALLS: list[str] = []


class Counted(TransformerMixin, BaseEstimator):
    """Standardises, and counts how often it is asked to."""

    def fit(self, X: pd.DataFrame, y: object = None) -> Counted:
        CALLS.append("fit")
        self.scaler_ = StandardScaler().fit(X)
        return self

    def transform(self, X: pd.DataFrame) -> np.ndarray:
        CALLS.append("transform")
        return np.asarray(self.scaler_.transform(X))


@pytest.fixture
def frame() -> pd.DataFrame:
    return pd.DataFrame(np.random.default_rng(0).normal(size=(60, 3)), columns=list("abc"))


@pytest.mark.parametrize("n_jobs", [1, 3])
def test_search_scores_as_without_and_prepares_each_part_once(frame: pd.DataFrame, n_jobs: int) -> None:
    y = (frame["a"] + frame["b"] ** 2 > 0.5).to_numpy()
    grid = {"logisticregression__C": [0.01, 1.0, 100.0]}
    options = {"cv": 4, "refit": False, "scoring": ["accuracy", "neg_log_loss"]}
    plain = GridSearchCV(make_pipeline(StandardScaler(), LogisticRegression()), grid, **options).fit(frame, y)
    CALLS.clear()
    model = make_pipeline(PreparedOnce(Counted(), Kept()), LogisticRegression())
    search = GridSearchCV(model, grid, n_jobs=n_jobs, **options)
    with parallel_config(backend="threading"):
        search.fit(frame, y)
    for name in ("accuracy", "neg_log_loss"):
        np.testing.assert_allclose(
            search.cv_results_[f"mean_test_{name}"], plain.cv_results_[f"mean_test_{name}"], rtol=1e-12
        )
    assert CALLS.count("fit") == 4  # of 12 nets
    assert CALLS.count("transform") == 8  # the training and the test rows of each split


def test_same_test_rows_after_other_training_rows_are_made_anew(frame: pd.DataFrame) -> None:
    kept = Kept()
    first = PreparedOnce(StandardScaler(), kept).fit(frame[:30])
    second = PreparedOnce(StandardScaler(), kept).fit(frame[10:40])
    test = frame[40:]
    np.testing.assert_array_equal(first.transform(test), StandardScaler().fit(frame[:30]).transform(test))
    np.testing.assert_array_equal(second.transform(test), StandardScaler().fit(frame[10:40]).transform(test))


def test_order_of_rows_tells_them_apart(frame: pd.DataFrame) -> None:
    prepared = PreparedOnce(StandardScaler(), Kept()).fit(frame)
    forward, backward = prepared.transform(frame), prepared.transform(frame[::-1])
    np.testing.assert_array_equal(forward, np.asarray(backward)[::-1])


def test_clones_share_and_other_caches_do_not(frame: pd.DataFrame) -> None:
    CALLS.clear()
    one = PreparedOnce(Counted(), Kept())
    clone(one).fit(frame), clone(one).fit(frame)
    assert CALLS.count("fit") == 1
    PreparedOnce(Counted(), Kept()).fit(frame)
    assert CALLS.count("fit") == 2


def test_what_fails_is_not_kept() -> None:
    frame = pd.DataFrame({"a": ["x", "y"]})
    kept = Kept()
    with pytest.raises(ValueError, match="could not convert string to float"):
        PreparedOnce(StandardScaler(), kept).fit(frame)
    encoded = PreparedOnce(OneHotEncoder(sparse_output=False), kept).fit_transform(frame)
    np.testing.assert_array_equal(encoded, np.eye(2))


def test_what_is_kept_is_made_in_the_thread_that_asks() -> None:
    # As tasks of a stack its parts would wait for those who wait for it.
    kept, threads = Kept(), []

    def make() -> list[int]:
        return list(Parallel(n_jobs=2)(delayed(threading.get_ident)() for _ in range(4)))

    def ask() -> None:
        threads.append((threading.get_ident(), set(kept.find("rows", make))))

    with stacked():
        Parallel(n_jobs=2)(delayed(ask)() for _ in range(3))
    makers = {one for _, found in threads for one in found}
    assert len(makers) == 1
    assert makers <= {own for own, _ in threads}
