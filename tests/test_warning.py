"""Warnings point at the user's line, once a line where Python shows them so."""

from itertools import count
from typing import Any
import warnings

import pytest

NUMBER = count()
BEGIN = """
from joblib import parallel_backend
import numpy as np
import pandas as pd
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.multiclass import OneVsRestClassifier
from sklearn.pipeline import make_pipeline
from sk_mixup import MixupClassifier
from tests.helpers.stacking import stacked
X = np.random.default_rng(0).normal(size=(40, 3)) * 1e3
y = np.arange(40) % 2
net = MixupClassifier(max_epochs=1, early_stopping=False, random_state=0)
class Own(MixupClassifier):
    def __init__(self, max_epochs=1, early_stopping=False):
        super().__init__(max_epochs=max_epochs, early_stopping=early_stopping)
"""
# What a user writes, and how many nets are trained by it on rows far from unit scale.
CALLS = {
    "net.fit(X, y)": 1,
    "net.partial_fit(X, y)": 1,
    "Own().fit(X, y)": 1,
    "make_pipeline(net).fit(X, y)": 1,
    "OneVsRestClassifier(net).fit(X, np.arange(40) % 3)": 3,
    "cross_val_score(net, X, y, cv=3)": 3,
    "GridSearchCV(make_pipeline(net), {'mixupclassifier__alpha': [0, 1]}, cv=2).fit(X, y)": 5,
    "[net.fit(X * scale, y) for scale in (1, 2, 3)]": 3,
}
ELSEWHERE = {
    "threads": "with parallel_backend('threading', n_jobs=2): ",
    "a stack": "with stacked(): ",
}


def _run(line: str, action: Any) -> list[tuple[str, int]]:
    """Run a line as a user's own, below `BEGIN`; return where warnings point."""
    name = f"user_{next(NUMBER)}"
    scope = {"__name__": name}
    exec(compile(BEGIN, name, "exec"), scope)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter(action)
        exec(compile("\n" * 9 + line, name, "exec"), scope)
    assert all(str(warning.message).startswith("X must") for warning in caught)
    return [(warning.filename.replace(name, "user"), warning.lineno) for warning in caught]


@pytest.mark.parametrize("line", CALLS)
def test_the_default_filter_shows_one_warning_at_the_users_line(line: str) -> None:
    assert _run(line, "default") == [("user", 10)]


@pytest.mark.parametrize("line", CALLS)
def test_other_filters_do_as_they_say(line: str) -> None:
    assert _run(line, "always") == [("user", 10)] * CALLS[line]
    assert _run(line, "ignore") == []


@pytest.mark.parametrize("where", ELSEWHERE)
def test_warnings_of_a_search_in_threads_are_one(where: str) -> None:
    [(file, line)] = _run(ELSEWHERE[where] + "cross_val_score(net, X, y, cv=3)", "default")
    if where == "a stack":
        assert (file, line) == ("user", 10)


def test_a_warning_can_be_an_error() -> None:
    with pytest.raises(UserWarning, match="unit scale"):
        _run("net.fit(X, y)", "error")


def test_filters_that_name_a_module_or_a_text_are_heeded() -> None:
    with warnings.catch_warnings():
        warnings.filterwarnings("error", module="user_")
        scope: dict[str, Any] = {"__name__": "user_module"}
        exec(compile(BEGIN, "user", "exec"), scope)
        with pytest.raises(UserWarning, match="unit scale"):
            exec("net.fit(X, y)", scope)
        warnings.filterwarnings("ignore", message="X must be near unit scale")
        exec("net.fit(X, y)", scope)


def test_different_rules_are_different_warnings() -> None:
    line = "net.fit(pd.DataFrame(X, columns=list('abc')).assign(kind=np.arange(40) % 3), y)"
    assert _run(line, "default") == [("user", 10)] * 2
