"""Mean ranks of methods on many tables, and the diagram that shows which differ."""

from collections.abc import Sequence
import math
from typing import NamedTuple

from matplotlib.axes import Axes
import numpy as np
from numpy.typing import NDArray
from scipy import stats

from benchmarks.harness.figures import EVEN

__all__ = ["Ranking", "draw_critical_difference", "find_cliques", "rank_methods"]


class Ranking(NamedTuple):
    """Ranks of methods, 1 the best, and how much they must differ."""

    ranks: NDArray[np.float64]  # Of each method, the mean over the tables
    p_value: float  # Friedman's test that all are alike; NaN for fewer than three methods
    critical: float  # The difference of two mean ranks that Nemenyi's test calls clear at 5 %


def rank_methods(scores: NDArray[np.float64]) -> Ranking:
    """Rank methods on each table by scores of shape (n_tables, n_methods), of which the lowest is best [1]_.

    References
    ----------
    .. [1] J. Demšar, "Statistical Comparisons of Classifiers over Multiple Data Sets", JMLR 7, 2006,
       sections 3.2.2 and 3.2.3.

    Examples
    --------
    >>> import numpy as np
    >>> from benchmarks.harness.ranks import rank_methods
    >>> rank_methods(np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 3.0]])).ranks
    array([1.  , 2.25, 2.75])
    """
    n_tables, n_methods = scores.shape
    several = n_methods > 2 and n_tables > 1 and bool((scores != scores[:, :1]).any())
    quantile = stats.studentized_range.ppf(0.95, max(n_methods, 2), np.inf) / math.sqrt(2)
    return Ranking(
        stats.rankdata(scores, axis=1).mean(axis=0),
        float(stats.friedmanchisquare(*scores.T).pvalue) if several else math.nan,
        float(quantile * math.sqrt(n_methods * (n_methods + 1) / (6 * n_tables))),
    )


def find_cliques(ranks: Sequence[float], critical: float) -> list[tuple[int, int]]:
    """Return first and last place of each largest group of sorted ranks that do not differ clearly.

    Examples
    --------
    >>> from benchmarks.harness.ranks import find_cliques
    >>> find_cliques([1.0, 1.5, 2.2, 4.0], critical=1.0)
    [(0, 1), (1, 2)]
    """
    last = [max(j for j, rank in enumerate(ranks) if rank - ranks[i] <= critical) for i in range(len(ranks))]
    return [(i, j) for i, j in enumerate(last) if j > i and (i == 0 or last[i - 1] < j)]


def draw_critical_difference(ax: Axes, names: Sequence[str], ranking: Ranking) -> None:
    """Draw the methods along an axis of mean ranks; a bar joins those that do not differ clearly."""
    order, n_methods = np.argsort(ranking.ranks, kind="stable"), len(names)
    ranks, half = ranking.ranks[order], (n_methods + 1) // 2
    cliques = find_cliques(ranks.tolist(), ranking.critical)
    top = 0.6 + 0.5 * len(cliques)
    for place, (rank, method) in enumerate(zip(ranks, order, strict=True)):
        is_left = place < half
        depth = top + (place if is_left else n_methods - 1 - place)
        end = 0.8 if is_left else n_methods + 0.2
        ax.plot([rank, rank, end], [0, depth, depth], color="black", linewidth=0.8)
        label = f" {names[method]}  {rank:.2f} "
        ax.text(end, depth, label, ha="right" if is_left else "left", va="center", fontsize=8)
    for line, (first, last) in enumerate(cliques):
        height = 0.5 + 0.5 * line
        ends = [ranks[first] - 0.05, ranks[last] + 0.05]
        ax.plot(ends, [height, height], color=EVEN, linewidth=3, solid_capstyle="butt")
    ax.plot([1, 1 + ranking.critical], [-1.6, -1.6], color="black", linewidth=1.6)
    ax.text(1, -2.0, f"critical difference {ranking.critical:.2f}", fontsize=8)
    ax.set(xlim=(1 - 0.55 * n_methods, n_methods * 1.55), ylim=(top + half, -2.8), yticks=[])
    ax.spines[:].set_visible(False)
    ax.plot([1, n_methods], [0, 0], color="black", linewidth=0.8)
    ax.set_xticks([])
    for tick in range(1, n_methods + 1):
        ax.text(tick, -0.25, str(tick), ha="center", fontsize=8)
