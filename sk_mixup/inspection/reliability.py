"""Whether a classifier is right as often as it claims, before and after temperature scaling."""

from __future__ import annotations

from functools import partial
import sys
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from sklearn.utils import Bunch
from sklearn.utils.validation import check_consistent_length
import torch

from sk_mixup._tensors import to_host
from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.inspection._labels import check_labels, encode_labels
from sk_mixup.inspection._logits import Classifier, check_classifier, read_numbers
from sk_mixup.inspection._plotting import find_axes, list_styles, require

__all__ = ["ReliabilityDisplay", "fit_temperature", "reliability_curve", "scale_temperature"]

# What scikit-learn adds to probabilities before their logarithm: T = 1 / beta_ belongs to it.
FLOOR = 1e-12
# Of the logarithm of 1 / T, as in scikit-learn.
LIMITS = (-10.0, 10.0)
DIAGONAL, CURVE = "sk_mixup-diagonal", "sk_mixup-reliability"


def reliability_curve(
    y_true: ArrayLike,
    y_prob: ArrayLike,
    *,
    labels: ArrayLike | None = None,
    n_bins: int = 15,
    strategy: Literal["uniform", "quantile"] = "uniform",
) -> Bunch:
    """Compare the confidence of predictions with how often they are right.

    The reliability diagram of [1]_, section 2; confidence is the probability of the most probable class.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels; without `labels`, of two classes or more.
    y_prob : array-like of shape (n_samples, n_classes) or (n_samples,)
        Predicted probabilities; rows sum to 1. One value per row is that of the second of two classes.
    labels : array-like of shape (n_classes,), default=None
        Label of each column; None takes the sorted labels of `y_true`.
    n_bins : int, default=15
        Number of bins, at least 1; 15 as in [1]_.
    strategy : {'uniform', 'quantile'}, default='uniform'
        Whether the bins of the curve are of equal width in [0, 1], or hold equally many rows.

    Returns
    -------
    curve : Bunch
        With these values:

        confidence, accuracy, counts : ndarrays of shape (n_filled,)
            Of each bin that holds rows: mean confidence, share predicted right, number of rows.
        ece : float
            Expected calibration error, in [0, 1]: the mean distance of confidence and accuracy over `n_bins`
            bins of equal width, weighted by rows.
        nll : float
            Mean negative log-likelihood, in nats.
        brier : float
            Brier score: the sum over the classes, in [0, 2]; for two classes half of it, in [0, 1].
        error : float
            Share of rows that are predicted wrong, in [0, 1].

    Raises
    ------
    ValueError
        If there is no row, rows do not sum to 1, a label is missing or unknown, or an option breaks its rule.

    Notes
    -----
    The curve is scikit-learn's ``calibration_curve``, the NLL its ``log_loss`` and the Brier score its
    ``brier_score_loss``. Bins hold their upper edge, as in [1]_.

    References
    ----------
    .. [1] C. Guo, G. Pleiss, Y. Sun and K. Q. Weinberger, "On Calibration of Modern Neural
       Networks", ICML 2017, https://arxiv.org/abs/1706.04599

    Examples
    --------
    Four rows of confidence 0.75, of which two are right:

    >>> from sk_mixup.inspection import reliability_curve
    >>> curve = reliability_curve([0, 0, 1, 1], [[0.75, 0.25]] * 4)
    >>> curve.confidence, curve.accuracy, curve.counts
    (array([0.75]), array([0.5]), array([4]))
    >>> round(curve.ece, 6)
    0.25
    """
    codes, proba = _check_predictions(y_true, y_prob, labels)
    n_bins = check_integer("n_bins", n_bins, low=1, hint="Use 15 or so.")
    check_choice("strategy", strategy, ("uniform", "quantile"))
    predicted, confidence = proba.argmax(axis=1), proba.max(axis=1)
    hits = (predicted == codes).astype(int)
    accuracies, means = calibration_curve(hits, confidence, pos_label=1, n_bins=n_bins, strategy=strategy)
    columns = np.arange(proba.shape[1])
    return Bunch(
        confidence=means,
        accuracy=accuracies,
        counts=_count_rows(confidence, n_bins, strategy),
        ece=_find_calibration_error(confidence, hits, n_bins),
        nll=float(log_loss(codes, proba, labels=columns)),
        brier=float(brier_score_loss(codes, proba, labels=columns)),
        error=float(1 - hits.mean()),
    )


def fit_temperature(y_true: ArrayLike, y_prob: ArrayLike, *, labels: ArrayLike | None = None) -> float:
    """Find the temperature at which held-out probabilities have the lowest NLL.

    Parameters
    ----------
    y_true : array-like of shape (n_samples,)
        Labels of rows that the model was not trained on.
    y_prob, labels
        As in :func:`reliability_curve`.

    Returns
    -------
    temperature : float
        T > 0 of section 4.2 of Guo et al. (2017, arXiv:1706.04599); above 1 for a model too confident.

    Raises
    ------
    ValueError
        As :func:`reliability_curve`.

    Notes
    -----
    As scikit-learn's ``CalibratedClassifierCV(method="temperature")``, within exp(-10) and exp(10). Where all
    rows are right there is no lowest NLL: it falls as long as T does, and the T that is found makes it 0 but
    for rounding. Where all are wrong of two classes, T is at the upper end.

    Examples
    --------
    A claim of 90 % holds for 3 rows of 4; at T = log(9) / log(3) = 2 it becomes 75 %:

    >>> from sk_mixup.inspection import fit_temperature
    >>> round(fit_temperature([0, 0, 0, 1], [[0.9, 0.1]] * 4), 3)
    2.0
    """
    codes, proba = _check_predictions(y_true, y_prob, labels)
    logits = np.log(proba + FLOOR)
    own = logits[np.arange(len(codes)), codes]

    def average_loss(log_inverse: float) -> float:
        inverse = np.exp(log_inverse)
        return float(np.mean(logsumexp(inverse * logits, axis=1) - inverse * own))

    found = minimize_scalar(average_loss, bounds=LIMITS, method="bounded", options={"xatol": 1e-12})
    return float(np.exp(-found.x))


def scale_temperature(y_prob: ArrayLike, temperature: float) -> np.ndarray:
    """Soften or sharpen probabilities: ``softmax(log(y_prob + 1e-12) / temperature)``, as scikit-learn does.

    Parameters
    ----------
    y_prob : array-like of shape (n_samples, n_classes) or (n_samples,)
        As in :func:`reliability_curve`.
    temperature : float
        Positive; above 1 softens.

    Returns
    -------
    scaled : ndarray of shape (n_samples, n_classes), dtype float64
        A new array; the most probable class of a row stays the same.

    Raises
    ------
    ValueError
        If a row is not a distribution, or the temperature is not positive and finite.

    Examples
    --------
    >>> from sk_mixup.inspection import scale_temperature
    >>> scale_temperature([[0.9, 0.1]], 2.0).round(6)
    array([[0.75, 0.25]])
    """
    limit, hint = sys.float_info.max, "Take that of fit_temperature."
    check_real("temperature", temperature, low=0.0, high=limit, above=True, hint=hint)
    logits = np.log(_check_probabilities(y_prob) + FLOOR)
    powers = np.exp((logits - logits.max(axis=1, keepdims=True)) / temperature)
    return np.asarray(powers / powers.sum(axis=1, keepdims=True))


class ReliabilityDisplay:
    """Reliability diagram, before and after temperature scaling.

    Build it with :meth:`from_estimator` or :meth:`from_predictions`; one axes may hold several.

    Parameters
    ----------
    curve, scaled : Bunch
        From :func:`reliability_curve`, before and after scaling; `scaled` may be None.
    temperature : float, default=None
        The temperature of `scaled`.
    name : str, default=None
        Name in the legend.

    Attributes
    ----------
    ax_ : matplotlib Axes
        Where it is drawn; its figure is `figure_`.
    line_, scaled_line_ : matplotlib Line2D or None
        The curves.

    Notes
    -----
    A point above the diagonal is a bin that is right more often than it claims; the disc around it has an
    area proportional to its share of the rows.

    Two findings stand against each other, so look at both curves. Nets trained with mixup were found to be
    better calibrated [1]_. Once both are scaled by a temperature, they were found to be calibrated worse
    than nets trained without it [2]_.

    References
    ----------
    .. [1] S. Thulasidasan, G. Chennupati, J. Bilmes, T. Bhattacharya and S. Michalak, "On Mixup Training:
       Improved Calibration and Predictive Uncertainty for Deep Neural Networks", NeurIPS 2019,
       https://arxiv.org/abs/1905.11001
    .. [2] D.-B. Wang et al., "On the Pitfall of Mixup for Uncertainty Calibration", CVPR 2023

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sk_mixup.inspection import ReliabilityDisplay
    >>> ax = Figure().subplots()
    >>> display = ReliabilityDisplay.from_predictions([0, 0, 1, 1], [[0.75, 0.25]] * 4, ax=ax)
    >>> display.line_.get_xydata()
    array([[0.75, 0.5 ]])
    """

    def __init__(
        self,
        *,
        curve: Bunch,
        scaled: Bunch | None = None,
        temperature: float | None = None,
        name: str | None = None,
    ) -> None:
        self.curve, self.scaled, self.temperature, self.name = curve, scaled, temperature, name

    @classmethod
    def from_estimator(
        cls,
        estimator: Classifier,
        X: ArrayLike,
        y: ArrayLike,
        *,
        X_calibration: Any = None,
        y_calibration: ArrayLike | None = None,
        name: str | None = None,
        **options: Any,
    ) -> ReliabilityDisplay:
        """Predict with a fitted classifier and plot.

        Parameters
        ----------
        estimator : fitted classifier
            With `predict_proba` and `classes_`.
        X, y : array-likes of shape (n_samples, *features) and (n_samples,)
            Test examples and their labels.
        X_calibration, y_calibration : array-likes, default=None
            Examples and labels to find the temperature on, neither of the training nor of the test rows.
            None leaves temperature scaling out.
        name : str, default=None
            Name in the legend; None takes that of the class.
        **options : dict
            Options of :meth:`from_predictions`: `n_bins`, `strategy`, `ax`, ...

        Returns
        -------
        display : ReliabilityDisplay
            It is drawn.

        Raises
        ------
        TypeError, NotFittedError, ImportError, ValueError
            If `estimator` is not a fitted classifier with `predict_proba`; or as :meth:`from_predictions`.
        """
        classes = check_classifier("estimator", estimator)
        if X_calibration is not None:
            options["y_prob_calibration"] = estimator.predict_proba(X_calibration)
        options |= {"y_calibration": y_calibration, "name": name or type(estimator).__name__}
        return cls.from_predictions(y, estimator.predict_proba(X), labels=classes, **options)

    @classmethod
    def from_predictions(
        cls,
        y_true: ArrayLike,
        y_prob: ArrayLike,
        *,
        labels: ArrayLike | None = None,
        y_prob_calibration: ArrayLike | None = None,
        y_calibration: ArrayLike | None = None,
        n_bins: int = 15,
        strategy: Literal["uniform", "quantile"] = "uniform",
        name: str | None = None,
        ax: object = None,
        **options: Any,
    ) -> ReliabilityDisplay:
        """Plot predicted probabilities.

        Parameters
        ----------
        y_true, y_prob, labels, n_bins, strategy
            As in :func:`reliability_curve`.
        y_prob_calibration, y_calibration : array-likes, default=None
            Probabilities and labels to find the temperature on. None leaves temperature scaling out.
        name : str, default=None
            Name in the legend.
        ax : Axes, default=None
            Where to draw; None makes a figure.
        **options : dict
            Options of :meth:`plot`.

        Returns
        -------
        display : ReliabilityDisplay
            It is drawn.

        Raises
        ------
        ImportError, ValueError
            As :func:`reliability_curve` and :func:`fit_temperature`; or if matplotlib, or one of the two
            calibration arrays, is missing.
        """
        require("matplotlib.figure", "ReliabilityDisplay")
        if (y_prob_calibration is None) != (y_calibration is None):
            missing = "y_calibration" if y_calibration is None else "X_calibration or y_prob_calibration"
            raise ValueError(f"{missing} must be given for temperature scaling; got None. Give both or none.")
        labels = np.unique(check_labels("y_true", y_true)) if labels is None else labels
        compare = partial(reliability_curve, y_true, labels=labels, n_bins=n_bins, strategy=strategy)
        curve, scaled, temperature = compare(y_prob), None, None
        if y_calibration is not None and y_prob_calibration is not None:
            temperature = fit_temperature(y_calibration, y_prob_calibration, labels=labels)
            scaled = compare(scale_temperature(y_prob, temperature))
        return cls(curve=curve, scaled=scaled, temperature=temperature, name=name).plot(ax, **options)

    def plot(
        self, ax: object = None, *, name: str | None = None, ref_line: bool = True, **line_kwargs: Any
    ) -> ReliabilityDisplay:
        """Draw the diagram.

        Parameters
        ----------
        ax : Axes, default=None
            Where to draw; None makes a figure.
        name : str, default=None
            Name in the legend; None takes that of the display.
        ref_line : bool, default=True
            Whether to draw the diagonal, once.
        **line_kwargs
            Options of the lines, such as ``lw``.

        Returns
        -------
        display : ReliabilityDisplay
            Itself, with `ax_`, `figure_`, `line_` and `scaled_line_`.
        """
        [self.ax_] = find_axes(ax, 1, "ReliabilityDisplay.plot")
        self.figure_ = self.ax_.figure
        if ax is None:  # room for the legend
            self.figure_.set_size_inches(4.8, 5.2)
        drawn = [line.get_gid() for line in self.ax_.get_lines()]
        if ref_line and DIAGONAL not in drawn:
            self.ax_.plot([0, 1], [0, 1], color="0.6", linewidth=1, label="calibrated", gid=DIAGONAL)
        style = list_styles(drawn.count(CURVE) + 1)[-1] | {"linestyle": "-", "clip_on": False, "gid": CURVE}
        title, self.scaled_line_ = name or self.name, None
        self.line_ = self._draw(self.curve, title, style, line_kwargs)
        if self.scaled is not None:
            style |= {"linestyle": "--", "markerfacecolor": "white", "gid": None}
            title = f"{title or 'scaled'}, T = {self.temperature:.2f}"
            self.scaled_line_ = self._draw(self.scaled, title, style, line_kwargs)
        self.ax_.set(xlabel="Confidence", ylabel="Accuracy", xlim=(0, 1), ylim=(0, 1))
        # Below the label of the axis, whatever the size: the padding is in units of the font.
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "borderaxespad": 4.5}
        self.ax_.legend(fontsize="small", frameon=False, **place)
        return self

    def _draw(self, curve: Bunch, title: str | None, style: dict[str, Any], options: dict[str, Any]) -> Any:
        """Draw one curve, and a disc for the rows of each bin."""
        figures = f"ECE {curve.ece:.3f}, NLL {curve.nll:.3f}, Brier {curve.brier:.3f}"
        label = figures if title is None else f"{title}: {figures}"
        [line] = self.ax_.plot(curve.confidence, curve.accuracy, label=label, **style)
        line.set(**options)
        shares = curve.counts / curve.counts.sum()
        discs = {"s": 600 * shares, "color": line.get_color(), "alpha": 0.25, "lw": 0, "clip_on": False}
        self.ax_.scatter(curve.confidence, curve.accuracy, **discs)
        return line


def _count_rows(confidence: np.ndarray, n_bins: int, strategy: str) -> np.ndarray:
    """Count the rows of the bins that hold any, which calibration_curve does not tell."""
    edges = np.linspace(0.0, 1.0, n_bins + 1)
    if strategy == "quantile":
        edges = np.percentile(confidence, 100 * edges)
    counts = np.bincount(np.searchsorted(edges[1:-1], confidence))
    return counts[counts > 0]


def _find_calibration_error(confidence: NDArray[np.float64], hits: NDArray[np.int64], n_bins: int) -> float:
    """Return the mean over the rows of the distance of confidence and accuracy in their bins."""
    bins = np.searchsorted(np.linspace(0.0, 1.0, n_bins + 1)[1:-1], confidence)
    return float(np.abs(np.bincount(bins, weights=confidence - hits)).sum() / len(hits))


def _check_predictions(
    y_true: ArrayLike, y_prob: ArrayLike, labels: ArrayLike | None
) -> tuple[np.ndarray, np.ndarray]:
    """Return codes and probabilities."""
    proba, truth = _check_probabilities(y_prob), check_labels("y_true", y_true)
    check_consistent_length(truth, proba)
    if labels is not None and np.ndim(labels) != 1:
        raise ValueError(
            f"labels must be a flat array or None; got {labels!r}. Give a label for each column."
        )
    classes = np.unique(truth) if labels is None else check_labels("labels", labels)
    if not len(set(classes.tolist())) == len(classes) == proba.shape[1]:
        found = f"{classes.tolist()}; got {proba.shape[1]} columns"
        raise ValueError(f"y_prob must have one column per class, {found}. Give labels, one per column.")
    return encode_labels("y_true", truth, classes), proba


def _check_probabilities(y_prob: ArrayLike) -> np.ndarray:
    """Return probabilities as float64 of rows that sum to 1 exactly, a column per class."""
    dtype = getattr(y_prob, "dtype", None)
    proba = np.asarray(read_numbers(to_host(y_prob)))
    if proba.ndim == 1:
        proba = np.stack([1 - proba, proba], axis=1)
    if proba.ndim != 2 or proba.shape[1] < 2 or proba.dtype.kind not in "fiub":
        found = f"shape {proba.shape} of {proba.dtype}"
        raise ValueError(f"y_prob must hold a column for each of 2 classes or more; got {found}. Add them.")
    proba = proba if proba.dtype.kind == "f" else proba.astype(np.float64)
    if not len(proba):
        raise ValueError(f"y_prob must hold at least one row; got shape {proba.shape}. Give predictions.")
    # Sums in the dtype that they were computed in are off by its precision.
    precision = torch.finfo(dtype).eps if dtype == torch.bfloat16 else np.finfo(proba.dtype).eps
    tolerance = max(1e-5, np.sqrt(precision))
    sums = proba.sum(axis=1, dtype=np.float64, keepdims=True)
    if not (np.all(proba >= -tolerance) and np.all(np.abs(sums - 1) <= tolerance)):
        found = f"values in [{proba.min():g}, {proba.max():g}] and sums in [{sums.min():g}, {sums.max():g}]"
        raise ValueError(
            f"y_prob must hold rows of probabilities that sum to 1; got {found}. Give what predict_proba "
            "returns, without NaN; of logits, their softmax."
        )
    proba = proba.clip(min=0).astype(np.float64)
    return np.asarray(proba / proba.sum(axis=1, keepdims=True))
