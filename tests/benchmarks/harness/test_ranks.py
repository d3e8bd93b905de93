"""Ranks against the worked example of Demšar (JMLR 7, 2006), Table 6 and section 3.2.2."""

import numpy as np
import pytest
from scipy import stats

from benchmarks.harness.figures import make_figure
from benchmarks.harness.ranks import Ranking, draw_critical_difference, find_cliques, rank_methods

# Ranks by AUC of C4.5, with pruning by m, by the confidence, and by both, on 14 tables of UCI.
DEMSAR = np.array(
    [
        [4, 3, 2, 1],
        [1, 2, 3, 4],
        [4, 1, 2, 3],
        [4, 1, 3, 2],
        [4, 2, 3, 1],
        [1, 2.5, 4, 2.5],
        [3, 2, 4, 1],
        [2.5, 2.5, 4, 1],
        [4, 3, 2, 1],
        [2.5, 2.5, 2.5, 2.5],
        [4, 2.5, 1, 2.5],
        [3, 2, 4, 1],
        [4, 1, 2, 3],
        [3, 1, 4, 2],
    ]
)


def test_ranks_and_critical_difference_are_the_published_ones() -> None:
    ranking = rank_methods(DEMSAR)
    np.testing.assert_allclose(ranking.ranks, [3.143, 2.000, 2.893, 1.964], atol=5e-4)
    assert ranking.critical == pytest.approx(1.25, abs=5e-3)


def test_p_value_is_that_of_friedmans_test() -> None:
    assert rank_methods(DEMSAR).p_value == stats.friedmanchisquare(*DEMSAR.T).pvalue
    assert np.isnan(rank_methods(DEMSAR[:, :2]).p_value)  # for two there is no such test


def test_cliques_are_the_largest_groups_within_the_critical_difference() -> None:
    ranks = np.sort(np.random.default_rng(0).uniform(1, 9, size=9))
    cliques = find_cliques(ranks.tolist(), 2.0)
    pairs = {(i, j) for i in range(9) for j in range(i + 1, 9) if ranks[j] - ranks[i] <= 2.0}
    assert {
        (i, j) for first, last in cliques for i in range(first, last) for j in range(i + 1, last + 1)
    } == pairs
    assert all(not (a <= c and d <= b) for a, b in cliques for c, d in cliques if (a, b) != (c, d))


def test_diagram_places_each_method_at_its_rank() -> None:
    ax = make_figure(3).subplots()
    draw_critical_difference(ax, ["a", "b", "c"], Ranking(np.array([2.6, 1.2, 2.2]), 0.01, 0.5))
    placed = {
        text.get_text().split()[0]: line.get_xdata()[0]
        for text, line in zip(ax.texts, ax.lines, strict=False)
    }
    assert {name: placed[name] for name in "abc"} == {"a": 2.6, "b": 1.2, "c": 2.2}
    (clique,) = [line.get_xdata() for line in ax.lines if line.get_linewidth() == 3]
    np.testing.assert_allclose(clique, [2.15, 2.65])
