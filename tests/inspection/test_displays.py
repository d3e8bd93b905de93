"""What all displays share: which models and axes they take."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from matplotlib.figure import Figure
import numpy as np
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import Bunch
from torch import nn

from sk_mixup.inspection import (
    AlphaDisplay,
    BetweenDisplay,
    MemorizationDisplay,
    ReliabilityDisplay,
    RobustnessDisplay,
    reliability_curve,
)
from sk_mixup.inspection._alpha_differences import choose_alphas, summarise

X = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
Y = np.arange(20) % 3


def _show_between(models: Any, ax: Any = None) -> Any:
    return BetweenDisplay.from_estimators(models, X, Y, n_pairs=3, n_points=2, random_state=0, ax=ax)


def _show_robustness(models: Any, ax: Any = None) -> Any:
    return RobustnessDisplay.from_estimators(models, X, Y, eps=(0, 0.1), ax=ax)


def _show_memorization(models: Any, ax: Any = None) -> Any:
    return MemorizationDisplay.from_estimators(models, ax=ax)


class Recorded(SimpleNamespace):
    """What looks like a net that has recorded its errors."""


NETS = [nn.Linear(5, 3), nn.Linear(5, 3)]
RECORDS = [
    Recorded(history_=[{"train_error_true": error, "train_error_corrupted": 1.0}]) for error in (0.25, 0.5)
]
# The display, models, their class, the number of axes, and what it calls them.
SHOWS: dict[str, tuple[Callable[..., Any], list[Any], str, int, str]] = {
    "between": (_show_between, NETS, "Linear", 2, "models"),
    "robustness": (_show_robustness, NETS, "Linear", 1, "models"),
    "memorization": (_show_memorization, RECORDS, "Recorded", 2, "nets"),
}


def _list_curves(display: Any) -> list[Any]:
    return [[line.get_ydata().tolist() for line in lines] for lines in display.lines_]


@pytest.mark.parametrize("form", [list, tuple])
@pytest.mark.parametrize("name", SHOWS)
def test_displays_take_a_sequence_of_models_as_a_dict(name: str, form: type) -> None:
    show, models, owner, n_axes, _ = SHOWS[name]
    of_dict = show({"a": models[0], "b": models[1]}, Figure().subplots(1, n_axes))
    of_list = show(form(models), Figure().subplots(1, n_axes))
    assert list(of_dict.names) == ["a", "b"]
    assert list(of_list.names) == [f"{owner} 1", f"{owner} 2"]
    assert _list_curves(of_list) == _list_curves(of_dict)


@pytest.mark.parametrize(
    "model", [nn.Linear(5, 3), nn.Sequential(nn.Linear(5, 3)), make_pipeline(StandardScaler()), "net"]
)
@pytest.mark.parametrize("name", SHOWS)
def test_displays_of_several_models_refuse_one(name: str, model: Any) -> None:
    show, *_, option = SHOWS[name]
    match = (
        rf"{option} must be a dict or a sequence of models; got {type(model).__name__}\. Use from_estimator"
    )
    with pytest.raises(TypeError, match=match):
        show(model)


@pytest.mark.parametrize("models", [{}, [], ()])
@pytest.mark.parametrize("name", SHOWS)
def test_displays_refuse_no_model(name: str, models: Any) -> None:
    show, *_, option = SHOWS[name]
    with pytest.raises(ValueError, match=rf"{option} must hold at least 1 model; got [\[\(\{{]"):
        show(models)


def _compare() -> Bunch:
    scores = {"nll": np.array([[1.0, 0.5], [1.0, 0.6], [1.0, 0.4], [1.0, 0.5]])}
    return summarise(np.array([0.0, 1.0]), scores, choose_alphas(scores["nll"], [1, 1], False), 0.1, False)


ERRORS = np.array([[0.1, 0.2]])
DISPLAYS = [
    AlphaDisplay(comparison=_compare()),
    BetweenDisplay(lam=[0, 1], miss_rates=ERRORS),
    MemorizationDisplay(epochs=np.arange(2), train_error_true=ERRORS, train_error_corrupted=ERRORS),
    ReliabilityDisplay(curve=reliability_curve([0, 1], [0.2, 0.9])),
    RobustnessDisplay(eps=np.arange(2), errors=ERRORS[None]),
]


@pytest.mark.parametrize("ax", ["foo", 3, ["foo", "bar"], Figure()], ids=lambda ax: type(ax).__name__)
@pytest.mark.parametrize("display", DISPLAYS, ids=lambda display: type(display).__name__)
def test_displays_refuse_what_is_no_axes(display: Any, ax: Any) -> None:
    with pytest.raises(
        TypeError, match=rf"ax must hold Axes of matplotlib for {type(display).__name__}\.plot; got"
    ):
        display.plot(ax)
