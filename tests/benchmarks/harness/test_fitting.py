from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks.harness.fitting import (
    compute_scores,
    derive_seed,
    make_folds,
    make_net,
    score_log_likelihood,
    split_rows,
)


def make_fixed_net(probabilities: list[list[float]], classes: list[object]) -> SimpleNamespace:
    """Return what predicts the same whatever it is asked."""
    return SimpleNamespace(
        predict_proba=lambda X: np.array(probabilities, dtype=np.float32),
        classes_=np.array(classes),
    )


def test_compute_scores_equals_a_loop() -> None:
    probabilities, classes = [[0.7, 0.3], [0.4, 0.6], [0.9, 0.1]], ["a", "b"]
    y = np.array(["a", "a", "b"])
    scores = compute_scores(make_fixed_net(probabilities, classes), np.zeros((3, 1)), y)
    expected = -sum(np.log(p) for p in (0.7, 0.4, 0.1)) / 3
    assert scores.nll == pytest.approx(expected, rel=1e-6)
    assert scores.error == pytest.approx(2 / 3)


@pytest.mark.parametrize("label", [1, 5], ids=["probability 0", "no output"])
def test_compute_scores_clips_what_is_impossible(label: int) -> None:
    net = make_fixed_net([[1.0, 0.0]], [0, 1])
    scores = compute_scores(net, np.zeros((1, 1)), np.array([label]))
    assert scores.nll == pytest.approx(-np.log(1e-12))
    assert scores.error == 1.0


def test_score_log_likelihood_is_larger_for_better() -> None:
    good, bad = make_fixed_net([[0.9, 0.1]], [0, 1]), make_fixed_net([[0.6, 0.4]], [0, 1])
    arguments = np.zeros((1, 1)), np.array([0])
    assert score_log_likelihood(good, *arguments) > score_log_likelihood(bad, *arguments)


def test_derive_seed_depends_on_table_and_repeat() -> None:
    seeds = {derive_seed(name, repeat) for name in ("iris", "wine") for repeat in range(50)}
    assert len(seeds) == 100
    assert derive_seed("iris", 0) == derive_seed("iris", 0)
    assert all(0 <= seed < 2**31 for seed in seeds)


@pytest.mark.parametrize("counts", [(10, 10, 10), (20, 9, 1)], ids=["by class", "rare class"])
def test_split_rows_parts_the_rows(counts: tuple[int, ...]) -> None:
    y = np.repeat(np.arange(3), counts)
    train, test = split_rows(y, 0.2, seed=3)
    assert len(test) == 6
    assert sorted([*train, *test]) == list(range(30))


def test_split_rows_keeps_the_shares_of_classes() -> None:
    y = np.repeat([0, 1], [40, 10])
    _, test = split_rows(y, 0.2, seed=0)
    assert np.bincount(y[test]).tolist() == [8, 2]


@pytest.mark.parametrize("counts", [(10, 8), (16, 2)], ids=["by class", "rare class"])
def test_make_folds_scores_every_row_once(counts: tuple[int, int]) -> None:
    y = np.repeat([0, 1], counts)
    folds = make_folds(y, 3, seed=0)
    assert sorted(np.concatenate([scored for _, scored in folds])) == list(range(18))
    assert all(set(fitted).isdisjoint(scored) for fitted, scored in folds)


@pytest.mark.parametrize(("missing", "n_steps"), [(False, 2), (True, 3)])
def test_make_net_imputes_only_where_values_are_missing(missing: bool, n_steps: int) -> None:
    X = np.array([[1.0, 2.0], [3.0, np.nan if missing else 4.0]])
    assert len(make_net(X, alpha=0).steps) == n_steps
