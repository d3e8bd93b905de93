import dataclasses
from typing import Any

import numpy as np
import pytest

from benchmarks.data.tables import load_tables
from benchmarks.harness.command import UserError
from benchmarks.semi.methods import METHODS, PartlyLabeled, SpreadLabels, choose_fit, hide_labels
from benchmarks.semi.run import PRESETS, Config, describe_protocol, fit_once, make_tasks
from benchmarks.semi.summary import summarise, tabulate

SMOKE = PRESETS["smoke"]
ERRORS = {
    "erm": 0.2,
    "mixup": 0.2,
    "ict": 0.25,
    "mixmatch": 0.1,
    "self_training": 0.15,
    "label_spreading": 0.3,
}


def make_records(methods: tuple[str, ...] = tuple(METHODS)) -> list[dict[str, Any]]:
    """Return records in which each method has its error, with the same noise as all others."""
    return [
        {
            "dataset": "digits",
            "n_labels": n_labels,
            "method": method,
            "repeat": repeat,
            "chosen": 3.0,
            "error": ERRORS[method] + 0.01 * repeat,
            "nll": 2 * ERRORS[method],
            "seconds": 1.0,
        }
        for n_labels in (4, 10)
        for method in methods
        for repeat in range(3)
    ]


@pytest.fixture
def summary() -> list[dict[str, Any]]:
    return summarise(make_records(), test_ratio=0.25)


def test_hide_labels_keeps_as_many_of_each_class() -> None:
    y = np.repeat([0, 1, 2], [20, 12, 3])
    partly = hide_labels(y, 5, seed=0)
    kept = partly >= 0
    assert np.bincount(partly[kept]).tolist() == [5, 5, 3]
    assert (partly[kept] == y[kept]).all()


def test_fewer_labels_are_among_more() -> None:
    y = np.repeat([0, 1, 2], 20)
    few, many = (np.flatnonzero(hide_labels(y, n, seed=3) >= 0) for n in (4, 10))
    assert set(few) <= set(many)


def test_folds_score_labelled_rows_and_train_on_all_unlabelled_ones() -> None:
    y = hide_labels(np.repeat([0, 1], 20), 4, seed=0)
    data = PartlyLabeled.make(np.arange(80.0).reshape(40, 2), y)
    scored = []
    for train, test in data.make_folds(2, seed=0):
        assert (y[test] >= 0).all()
        assert set(np.flatnonzero(y < 0)) <= set(train)
        assert not set(train) & set(test)
        scored.extend(test)
    assert sorted(scored) == np.flatnonzero(y >= 0).tolist()


def test_label_spreading_without_a_label_near_gives_equal_probabilities() -> None:
    X = np.array([[0.0], [0.1], [0.2], [9.0], [9.1], [9.2]])
    net = SpreadLabels(kernel="knn", n_neighbors=2).fit(X, [0, 1, 0, -1, -1, -1])
    np.testing.assert_array_equal(net.predict_proba([[9.1]]), [[0.5, 0.5]])


@pytest.mark.parametrize("method", METHODS)
def test_every_method_is_fitted_and_scored(method: str) -> None:
    (table,) = load_tables(["iris"])
    record = fit_once(SMOKE, table, 4, method, 0)
    assert (record["n_labeled"], record["n_train"], record["n_test"]) == (12, 120, 30)
    assert 0 <= record["error"] <= 1
    assert np.isfinite(record["nll"])


@pytest.mark.slow
@pytest.mark.parametrize("names", [[-1, 0, 1], ["a", "b", "c"]], ids=str)
def test_a_class_may_have_any_name(names: list[Any]) -> None:
    (table,) = load_tables(["iris"])
    named = dataclasses.replace(table, y=np.asarray(names)[np.unique(table.y, return_inverse=True)[1]])
    found, expected = (fit_once(SMOKE, each, 4, "mixmatch", 0) for each in (named, table))
    assert found["n_labeled"] == 12
    assert (found["error"], found["nll"]) == (expected["error"], expected["nll"])


def test_choice_is_made_among_the_values() -> None:
    config = dataclasses.replace(
        SMOKE,
        erm_epochs=(1, 2),
        alphas=(0.1, 0.4),
        unlabeled_weights=(3.0, 10.0),
        thresholds=(0.75, 0.9),
        n_neighbors=(3, 7),
    )
    (table,) = load_tables(["iris"])
    data = PartlyLabeled.make(table.X, hide_labels(table.y, 4, seed=0))
    for method in METHODS.values():
        assert choose_fit(method, config, data, seed=0)[1] in method.get_values(config)


def test_tasks_hold_erm_whatever_is_asked_for() -> None:
    config = dataclasses.replace(SMOKE, methods=("ict",), n_labels=(4, 10))
    tasks = make_tasks(config, load_tables(["iris"]))
    assert len(tasks) == 2 * 2 * 2
    assert {key.split("/")[2] for key in tasks} == {"erm", "ict"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"methods": ("mixmatsh",)}, "--methods must be one of .*Did you mean 'mixmatch'"),
        ({"n_labels": (1,)}, "--n-labels must be at least 2; got 1"),
        (
            {"alphas": (0.1, 0.4, 1.0)},
            "must hold as many values each, so that the choice is fair; got .*2, 3, 2, 2, 2",
        ),
        ({"thresholds": (0.9, 1.0)}, "--thresholds must be between 0 and 0.999; got 1.0"),
        ({"datasets": ("digit",)}, "--datasets must be one of"),
    ],
)
def test_config_explains_a_wrong_value(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_cpu_preset_has_ten_repeats_of_4_10_and_25_labels_on_digits() -> None:
    tasks = make_tasks(PRESETS["cpu"], load_tables(["digits"]))
    assert len(tasks) == 3 * len(METHODS) * 10
    assert PRESETS["cpu"].n_labels == (4, 10, 25)


def test_summarise_pairs_methods_with_erm_and_the_better_rival(summary: list[dict[str, Any]]) -> None:
    rows = {row["method"]: row for row in summary if row["n_labels"] == 4}
    assert rows["mixmatch"]["error"] == pytest.approx(11.0)
    assert rows["mixmatch"]["error_diff"] == pytest.approx(-10.0)
    assert rows["mixmatch"]["error_diff_high"] == pytest.approx(-10.0)
    assert rows["mixmatch"]["nll_diff"] == pytest.approx(-0.2)
    assert {row["rival"] for row in summary} == {"self_training"}
    assert rows["ict"]["rival_diff"] == pytest.approx(10.0)
    assert rows["erm"]["error_diff"] == 0


def test_tables_stand_by_number_of_labels(summary: list[dict[str, Any]]) -> None:
    tables = tabulate({"summary": summary})
    assert list(tables) == ["Digits, 4 labels a class", "Digits, 10 labels a class"]
    erm, *_, spreading = next(iter(tables.values()))
    assert (erm["method"], erm["against ERM"]) == ("ERM", "")
    assert spreading["against ERM"] == "+10.0 [+10.0, +10.0]"
    # The better of scikit-learn's methods here.
    assert erm["against self-training"] == "+5.0 [+5.0, +5.0]"


def test_tables_without_scikit_learns_methods_compare_with_erm_alone() -> None:
    (rows, _) = tabulate({"summary": summarise(make_records(("erm", "ict")), test_ratio=0.25)}).values()
    assert [title for title in rows[1] if "against" in title] == ["against ERM", "NLL against ERM"]


def test_protocol_names_every_choice() -> None:
    text = describe_protocol(Config())
    for method in METHODS.values():
        assert f"{method.title}: {method.option} in " in text
