"""Whether mixup helps on a table: alpha = 0 against others, in paired cross-validation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from numbers import Integral
import textwrap
from typing import TYPE_CHECKING, Any

from joblib import parallel_config
from joblib.parallel import get_active_backend
import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, is_classifier, is_regressor
from sklearn.metrics import mean_absolute_error, root_mean_squared_error
from sklearn.model_selection import (
    GridSearchCV,
    KFold,
    PredefinedSplit,
    RepeatedKFold,
    RepeatedStratifiedKFold,
    StratifiedKFold,
    check_cv,
)
from sklearn.utils import Bunch
from sklearn.utils.multiclass import type_of_target
from sklearn.utils.validation import check_consistent_length

from sk_mixup._tensors import to_host
from sk_mixup.inspection._alpha_differences import choose_alphas, find_unit, summarise
from sk_mixup.inspection._alpha_option import check_alphas, check_param, find_alpha
from sk_mixup.inspection._plotting import COLORS, find_axes, require
from sk_mixup.inspection.reliability import reliability_curve

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["AlphaDisplay", "compare_alphas"]

N_FOLDS, N_REPEATS, N_INNER = 5, 2, 3
# scikit-learn's mark of rows without a label. Where training rows had it and it is no class, it is meant so.
UNLABELED = -1

Scoring = str | Callable[..., object] | Sequence[str] | Mapping[str, object]
Split = tuple[NDArray[np.intp], NDArray[np.intp]]


def compare_alphas(
    model: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    *,
    alphas: ArrayLike = (0.0, 0.2, 1.0),
    cv: object = None,
    inner_cv: object = None,
    scoring: Scoring | None = None,
    param: str | None = None,
    groups: ArrayLike | None = None,
    random_state: int | None = 0,
) -> Bunch:
    """Compare plain training with mixup of several strengths in paired cross-validation.

    Each model is trained and tested on the same splits, and differences are taken split by split. The
    training sets of the splits overlap, so the variance of the mean of n differences with sample variance
    S² is taken to be ``(1 / n + n_test / n_train) S²``, equation (9) of [1]_, and the interval is that of
    Student's t with n - 1 degrees of freedom, as for repeated cross-validation in [2]_.

    The best of several alphas looks better than it is, as it was picked by the rows that it is tested on.
    So alpha is also chosen apart, for each split by an inner cross-validation of its training rows, and what
    was chosen is tested on rows that had no part in the choice. The verdict goes by that.

    Parameters
    ----------
    model : estimator
        A mixup estimator, or a pipeline, a ``TransformedTargetRegressor`` or a search with one inside. With
        an integer `random_state` it is trained from the same weights at each alpha, which makes pairs alike.
    X : array-like or frame of shape (n_samples, *features)
        Rows.
    y : array-like of shape (n_samples,)
        Their labels or values.
    alphas : array-like of shape (n_alphas,), default=(0, 0.2, 1)
        Strengths of mixing, in [0, inf]; 0 is always compared with, whether or not it is given.
    cv : int, splitter, iterable of splits or None, default=None
        Splits. None is 5 folds, shuffled twice; an integer that many shuffled folds, once. Those of a
        classifier of one label per row are stratified.
    inner_cv : int, splitter or None, default=None
        Splits of the training rows that alpha is chosen by. None is `cv` where that is a splitter, as for
        groups or time, but not ``PredefinedSplit``; else 3 shuffled folds.
    scoring : str, callable, list, dict or None, default=None
        Scores as in scikit-learn's ``cross_validate``, the larger the better. None measures, of a classifier,
        NLL, error and expected calibration error (15 bins, as :func:`reliability_curve`), and RMSE and MAE of
        a regressor, the smaller the better. The first of them chooses alpha.
    param : str, default=None
        Name of the option, as in ``set_params``. None finds the one ``alpha`` that stands beside ``lam_per``.
    groups : array-like of shape (n_samples,), default=None
        Groups of the rows, for the splitters.
    random_state : int, RandomState or None, default=0
        Shuffles the rows where `cv` and `inner_cv` are no splitters.

    Returns
    -------
    comparison : Bunch
        With these values:

        alphas : ndarray of shape (n_alphas,)
            The strengths, sorted; the first is 0.
        scores : dict of ndarrays of shape (n_splits, n_alphas)
            Each score of each test part. NLL is in nats; error and calibration error are in [0, 1].
        chosen : ndarray of shape (n_splits,)
            The alpha that was chosen within the training rows of each split.
        chosen_scores : dict of ndarrays of shape (n_splits,)
            The scores of what was chosen.
        differences : dict of Bunches with `mean`, `low` and `high`, ndarrays of shape (n_alphas,)
            Mean difference from alpha = 0 and the ends of its 95 % interval.
        chosen_differences : dict of Bunches with `mean`, `low` and `high`, floats
            The same for what was chosen.
        greater_is_better : bool
            Whether larger scores are better.
        verdict : str
            What the differences say, in a sentence.

    Raises
    ------
    TypeError, ValueError
        If `model` has no alpha of mixing, or several, or one without effect; or an option breaks its rule.

    Warns
    -----
    UserWarning
        What the fits warn of; each sees only some of the rows.

    Notes
    -----
    All nets, inner ones too, are trained as one by joblib's backend ``"stacked"``, unless the call stands in
    a block of ``stacked()`` or ``parallel_config``, whose backend it then takes.

    Every interval is one of its own: of several alphas one may well be clear by chance, which is why the
    verdict goes by the chosen one. Seeds vary no more than the model's `random_state` lets them.

    References
    ----------
    .. [1] C. Nadeau and Y. Bengio, "Inference for the Generalization Error", Machine Learning 52, 2003
    .. [2] R. R. Bouckaert and E. Frank, "Evaluating the Replicability of Significance Tests for Comparing
       Learning Algorithms", PAKDD 2004

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.pipeline import make_pipeline
    >>> from sklearn.preprocessing import StandardScaler
    >>> from sk_mixup import MixupClassifier
    >>> from sk_mixup.inspection import compare_alphas
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MixupClassifier(max_epochs=5, early_stopping=False, random_state=0)
    >>> found = compare_alphas(make_pipeline(StandardScaler(), net), X, y, alphas=[1], cv=3)
    >>> found.alphas, found.scores["nll"].shape, list(found.scores)
    (array([0., 1.]), (3, 2), ['nll', 'error', 'ece'])
    """
    strengths = check_alphas(alphas)
    name = find_alpha(model) if param is None else check_param(model, param)
    measure = _choose_measure(model, y) if scoring is None else _list_scoring(scoring)
    outer, inner = _list_all_splits(model, X, y, cv, inner_cv, groups, random_state)
    splits = outer + [split for part in inner for split in part]
    if scoring is None and is_classifier(model):
        _check_classes(np.asarray(_as_one_kind(y)), splits)
    search = GridSearchCV(model, {name: strengths}, cv=splits, scoring=measure, refit=False)
    search.set_params(error_score="raise")
    with _stacking():
        search.fit(X, y)
    found = _read_scores(search.cv_results_, len(splits))
    is_greater = scoring is not None
    chosen = choose_alphas(next(iter(found.values())), [len(part) for part in inner], is_greater)
    ratio = float(np.mean([len(test) for _, test in outer]) / np.mean([len(train) for train, _ in outer]))
    return summarise(np.array(strengths), found, chosen, ratio, is_greater)


class AlphaDisplay:
    """Differences of mixup from plain training, with their intervals, and what follows from them.

    Build it with :meth:`from_estimator`; see :func:`compare_alphas`.

    Parameters
    ----------
    comparison : Bunch
        From :func:`compare_alphas`.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One for each score.
    figure_ : matplotlib Figure
        The figure that holds them.
    verdict : str
        What the differences say, in a sentence.

    Notes
    -----
    A point is a mean difference from alpha = 0, its bar the 95 % interval, a small dot the difference in one
    split. The last of each row is the alpha that was chosen within the training rows.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.datasets import load_iris
    >>> from sk_mixup import MixupClassifier
    >>> from sk_mixup.inspection import AlphaDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> net = MixupClassifier(max_epochs=2, early_stopping=False, random_state=0)
    >>> axes = Figure().subplots(1, 3)
    >>> display = AlphaDisplay.from_estimator(net, X, y, alphas=[0, 1], cv=2, ax=axes)
    >>> [axes.get_xlabel() for axes in display.axes_]
    ['alpha', 'alpha', 'alpha']
    """

    def __init__(self, *, comparison: Bunch) -> None:
        self.comparison = comparison

    @property
    def verdict(self) -> str:
        """What the differences say, in a sentence."""
        return str(self.comparison.verdict)

    @classmethod
    def from_estimator(
        cls, model: BaseEstimator, X: ArrayLike, y: ArrayLike, *, ax: object = None, **options: Any
    ) -> AlphaDisplay:
        """Compare and plot.

        Parameters
        ----------
        model, X, y
            As in :func:`compare_alphas`; the model need not be fitted.
        ax : Axes or sequence of Axes, default=None
            Where to draw, one axes a score; None makes a figure.
        **options : dict
            Options of :func:`compare_alphas`: `alphas`, `cv`, `scoring`, ...

        Returns
        -------
        display : AlphaDisplay
            It is drawn.

        Raises
        ------
        ImportError, TypeError, ValueError
            As :func:`compare_alphas`; or if matplotlib is not installed.
        """
        require("matplotlib.figure", "AlphaDisplay")
        return cls(comparison=compare_alphas(model, X, y, **options)).plot(ax)

    def plot(self, ax: object = None) -> AlphaDisplay:
        """Draw the differences.

        Parameters
        ----------
        ax : Axes or sequence of Axes, default=None
            Where to draw, one axes a score. None makes a figure, with the verdict above it.

        Returns
        -------
        display : AlphaDisplay
            Itself, with `axes_` and `figure_`.

        Raises
        ------
        ImportError, ValueError
            If matplotlib is not installed, or another number of axes is given.
        """
        names = list(self.comparison.scores)
        self.axes_ = find_axes(ax, len(names), "AlphaDisplay.plot")
        self.figure_ = self.axes_[0].figure
        for axes, name in zip(self.axes_, names, strict=True):
            self._draw(axes, name)
        if ax is None:
            text = textwrap.fill(self.verdict, 58 * len(names))
            self.figure_.set_size_inches(4.8 * len(names), 4.2)
            self.figure_.suptitle(text, fontsize="medium", x=0.01, ha="left")
        return self

    def _draw(self, axes: Axes, name: str) -> None:
        found = self.comparison
        label, scale = find_unit(found, name)
        plain = found.scores[name][:, 0]
        values = np.column_stack([found.scores[name][:, 1:], found.chosen_scores[name]])
        single, chosen = found.differences[name], found.chosen_differences[name]
        mean, low, high = (scale * np.append(single[key][1:], chosen[key]) for key in ("mean", "low", "high"))
        places = np.arange(len(mean))
        axes.axhline(0, color="0.6", linewidth=1)
        axes.plot(places, scale * (values - plain[:, None]).T, "o", color="0.7", markersize=2.5, zorder=1)
        for part, color, marker in ((slice(-1), COLORS[0], "o"), (slice(-1, None), COLORS[1], "D")):
            ends = np.stack([mean - low, high - mean])[:, part]
            axes.errorbar(places[part], mean[part], ends, fmt=marker, color=color, capsize=4, markersize=5)
        ticks = [f"{alpha:g}" for alpha in found.alphas[1:]]
        axes.set_xticks(places, [*ticks, "chosen"])
        better = "above" if found.greater_is_better else "below"
        axes.set(
            xlabel="alpha", xlim=(-0.5, len(mean) - 0.5), ylabel=f"Difference ({better} 0: mixup better)"
        )
        axes.set_title(f"{label}, {scale * plain.mean():.4g} at alpha = 0", fontsize="medium")


# -- scores and splits -------------------------------------------------------------------


def _choose_measure(model: BaseEstimator, y: ArrayLike) -> Callable[..., dict[str, float]]:
    """Return what measures a model by default."""
    if is_regressor(model):
        return _measure_regressor
    kind = type_of_target(_as_one_kind(y), input_name="y")
    if is_classifier(model) and kind in ("binary", "multiclass"):
        return _measure_classifier
    raise ValueError(
        f"scoring must be given but for regressors and classifiers of one label per row; got None for "
        f"{type(model).__name__} and {kind} targets. Name scores, such as scoring='neg_log_loss'."
    )


def _as_one_kind(y: ArrayLike) -> object:
    """Return labels on the host; words beside numbers, such as -1 for none, all as words."""
    given = to_host(y)
    labels = np.asarray(given)
    kinds = {isinstance(label, str) for label in labels.tolist()} if labels.dtype == object else set()
    return labels.astype(str) if len(kinds) == 2 and labels.ndim == 1 else given


def _measure_classifier(model: BaseEstimator, X: ArrayLike, y: ArrayLike) -> dict[str, float]:
    labels = np.asarray(to_host(y))
    labels = labels[:, 0] if labels.ndim == 2 else labels
    known, p = np.asarray(to_host(model.classes_)), model.predict_proba(X)
    if UNLABELED not in known.tolist():  # which then marks rows that cannot be scored
        is_labeled = np.array([label != UNLABELED for label in labels.tolist()], dtype=bool)
        labels, p = labels[is_labeled], p[is_labeled]
    curve = reliability_curve(labels, p, labels=known)
    return {name: curve[name] for name in ("nll", "error", "ece")}


def _measure_regressor(model: BaseEstimator, X: ArrayLike, y: ArrayLike) -> dict[str, float]:
    predicted = model.predict(X)
    return {"rmse": root_mean_squared_error(y, predicted), "mae": mean_absolute_error(y, predicted)}


def _list_scoring(scoring: Scoring) -> object:
    return [scoring] if isinstance(scoring, str) else scoring


def _list_all_splits(
    model: BaseEstimator,
    X: ArrayLike,
    y: ArrayLike,
    cv: object,
    inner_cv: object,
    groups: ArrayLike | None,
    random_state: int | None,
) -> tuple[list[Split], list[list[Split]]]:
    """Return the splits, and those of the training rows of each, all by the numbers of rows of `X`."""
    X = X if hasattr(X, "shape") else np.asarray(X, dtype=object)
    check_consistent_length(X, y, groups)
    targets, members = np.asarray(_as_one_kind(y)), None if groups is None else np.asarray(to_host(groups))
    stratify = is_classifier(model) and type_of_target(targets) in ("binary", "multiclass")
    outer = _split(X, targets, _make_splitter(cv, stratify, random_state), members)
    if len(outer) < 2:
        raise ValueError(f"cv must make at least 2 splits; got {len(outer)}. Use 5 folds or so.")
    if inner_cv is None:  # one of predefined folds knows those of all rows alone
        inner_cv = cv if hasattr(cv, "split") and not isinstance(cv, PredefinedSplit) else N_INNER
    if isinstance(inner_cv, str) or not (hasattr(inner_cv, "split") or isinstance(inner_cv, Integral)):
        raise TypeError(
            f"inner_cv must be an integer, a splitter or None; got {type(inner_cv).__name__}. It divides the "
            "training rows of each split, which no list of splits fits: use KFold, or GroupKFold for groups."
        )
    splitter = _make_splitter(inner_cv, stratify, random_state)
    inner = []
    for train, _ in outer:
        part = None if members is None else members[train]
        found = _split(np.zeros((len(train), 1)), targets[train], splitter, part)
        inner.append([(train[fit], train[held_out]) for fit, held_out in found])
    return outer, inner


def _make_splitter(cv: object, stratify: bool, random_state: int | None) -> object:
    if cv is None:
        repeated = RepeatedStratifiedKFold if stratify else RepeatedKFold
        return repeated(n_splits=N_FOLDS, n_repeats=N_REPEATS, random_state=random_state)
    if isinstance(cv, Integral):
        folds = StratifiedKFold if stratify else KFold
        return folds(int(cv), shuffle=True, random_state=random_state)
    return cv


def _split(X: ArrayLike, y: np.ndarray, splitter: object, groups: np.ndarray | None) -> list[Split]:
    return [(np.asarray(train), np.asarray(test)) for train, test in check_cv(splitter).split(X, y, groups)]


def _check_classes(y: np.ndarray, splits: Iterable[Split]) -> None:
    """Raise if a class is tested that was not trained."""
    classes, codes = np.unique(y, return_inverse=True)
    for train, test in splits:
        missing = np.setdiff1d(codes[test], codes[train])
        if len(missing):
            label, count = classes.tolist()[missing[0]], int((codes == missing[0]).sum())
            raise ValueError(
                f"y must hold every class in all training parts; got {count} rows of {label!r}, and a part "
                "without. Leave out or merge classes of few rows, or use fewer folds."
            )


def _stacking() -> AbstractContextManager[object]:
    """Train as one, unless the caller has said how to run."""
    backend, n_jobs = get_active_backend()
    is_default = n_jobs is None and type(backend).__name__ == "LokyBackend"
    return parallel_config(backend="stacked", n_jobs=-1) if is_default else nullcontext()


def _read_scores(results: Mapping[str, ArrayLike], n_splits: int) -> dict[str, NDArray[np.float64]]:
    """Return each score of each split and alpha, or raise if one is not finite."""
    first = "split0_test_"
    names = [key.removeprefix(first) for key in results if key.startswith(first)]
    found = {
        name: np.array([results[f"split{k}_test_{name}"] for k in range(n_splits)], dtype=np.float64)
        for name in names
    }
    for name, values in found.items():
        if not np.all(np.isfinite(values)):
            raise ValueError(
                f"scoring must give finite values; got nan or inf for {name!r}. Use another score."
            )
    return found
