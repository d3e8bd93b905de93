"""Memorisation: the training error on true and on corrupted labels as training goes on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import NotFittedError

from sk_mixup.inspection._labels import check_labels, check_same_kind
from sk_mixup.inspection._plotting import find_axes, list_styles, name_models

__all__ = ["ERROR_NAMES", "MemorizationDisplay", "memorization_errors"]

# What `sk_mixup.callbacks.MemorizationErrors` writes into the history, in the order of the panels.
ERROR_NAMES = ("train_error_true", "train_error_corrupted", "test_error")
TITLES = ("Training error, true labels", "Training error, corrupted labels", "Test error")
# Markers on a line; more would touch each other.
MOST_MARKERS = 10


def memorization_errors(y_pred: ArrayLike, y: ArrayLike, y_true: ArrayLike) -> tuple[float, float]:
    """Return the training errors on rows with true and with corrupted labels.

    These are the columns "real" and "corrupted" of Table 2 (section 3.4) of [1]_. A net that
    learns what is common to the rows has a low first error and a high second one; a net that
    learns the rows by heart has a low second error too.

    Parameters
    ----------
    y_pred : array-like of shape (n_samples,)
        Predicted labels of the training rows.
    y : array-like of shape (n_samples,)
        Labels that were trained on, of which some are corrupted.
    y_true : array-like of shape (n_samples,)
        Labels before they were corrupted.

    Returns
    -------
    error_true : float
        Share of the rows with ``y == y_true`` whose prediction is not that label, in [0, 1];
        NaN if there is no such row.
    error_corrupted : float
        Share of the rows with ``y != y_true`` whose prediction is not the corrupted label `y`,
        in [0, 1]; NaN if there is no such row. A prediction of the true label counts as an
        error here, as in the paper: it tells that the wrong label was not memorised.

    Raises
    ------
    ValueError
        If the arrays are not one label per row of the same rows, or a label is missing; or if one holds
        names and another numbers, which are never equal.

    See Also
    --------
    sk_mixup.callbacks.MemorizationErrors : Records both in each epoch.
    MemorizationDisplay : Draws them.

    Notes
    -----
    A corrupted label that was drawn uniformly from all classes is the true one by chance now and
    then; such a row counts as true.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    .. [2] C. Zhang, S. Bengio, M. Hardt, B. Recht and O. Vinyals, "Understanding deep learning
       requires rethinking generalization", ICLR 2017, https://arxiv.org/abs/1611.03530

    Examples
    --------
    >>> from sk_mixup.inspection import memorization_errors
    >>> memorization_errors(y_pred=[0, 1, 1, 0], y=[0, 0, 1, 1], y_true=[0, 0, 1, 0])
    (0.3333333333333333, 1.0)
    """
    y = check_labels("y", y)
    y_pred, y_true = (_check_as(y, *pair) for pair in (("y_pred", y_pred), ("y_true", y_true)))
    wrong, kept = y_pred != y, y == y_true
    return _average(wrong[kept]), _average(wrong[~kept])


def _check_as(y: np.ndarray, name: str, labels: ArrayLike) -> np.ndarray:
    """Return labels as an array that can be compared with y."""
    array = check_labels(name, labels)
    if len(array) != len(y):
        raise ValueError(
            f"{name} must hold as many labels as y; got {len(array)} for {len(y)}. Give the same rows."
        )
    check_same_kind(name, array, "y", y)
    return array


def _average(wrong: NDArray[np.bool_]) -> float:
    return float(wrong.mean()) if wrong.size else float("nan")


class MemorizationDisplay:
    """Errors on true labels, on corrupted labels and in test, over the epochs of training.

    A net that memorises is seen in the middle: its error on the corrupted labels falls, and the
    test error rises with it [1]_, [2]_. The last epoch of a line is the column of Table 2 in [3]_
    (section 3.4). Make one with :meth:`from_estimator` or :meth:`from_estimators`.

    Parameters
    ----------
    epochs : ndarray of shape (n_epochs,)
        Numbers of the epochs.
    train_error_true : ndarray of shape (n_models, n_epochs)
        Error on the training rows with their true label, in [0, 1]; NaN where it is unknown, as
        after the end of a shorter training.
    train_error_corrupted : ndarray of shape (n_models, n_epochs)
        Share of the training rows with a corrupted label for which another one is predicted.
    test_error : ndarray of shape (n_models, n_epochs), default=None
        Error on test rows.
    names : sequence of str, default=None
        Names of the models, for the legend.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One for each error.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of list of matplotlib Line2D
        The lines of each of the axes, one for each model.
    best_ : list of matplotlib Line2D
        Marks of the epoch of the least test error, one for each model that has one.

    See Also
    --------
    sk_mixup.callbacks.MemorizationErrors : Records the errors while a net is trained.
    memorization_errors : Their definition.

    References
    ----------
    .. [1] C. Zhang, S. Bengio, M. Hardt, B. Recht and O. Vinyals, "Understanding deep learning
       requires rethinking generalization", ICLR 2017, https://arxiv.org/abs/1611.03530
    .. [2] D. Arpit et al., "A Closer Look at Memorization in Deep Networks", ICML 2017,
       https://arxiv.org/abs/1706.05394
    .. [3] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_mixup import MixupClassifier
    >>> from sk_mixup.callbacks import MemorizationErrors
    >>> from sk_mixup.inspection import MemorizationDisplay
    >>> X, y_true = load_iris(return_X_y=True)
    >>> y = y_true.copy()
    >>> y[::5] = (y[::5] + 1) % 3
    >>> watch = MemorizationErrors(X, y, y_true)
    >>> net = MixupClassifier(max_epochs=3, callbacks=[watch], random_state=0).fit(X, y)
    >>> display = MemorizationDisplay.from_estimator(net)
    >>> display.train_error_corrupted.shape
    (1, 3)
    """

    def __init__(
        self,
        *,
        epochs: np.ndarray,
        train_error_true: np.ndarray,
        train_error_corrupted: np.ndarray,
        test_error: np.ndarray | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.epochs = epochs
        self.train_error_true = train_error_true
        self.train_error_corrupted = train_error_corrupted
        self.test_error = test_error
        self.names = names

    @classmethod
    def from_estimator(
        cls, net: object, *, name: str | None = None, ax: object = None
    ) -> MemorizationDisplay:
        """Draw the errors that one net has recorded.

        Parameters
        ----------
        net : estimator
            A fitted net of ours or of skorch, or a pipeline or a search with such a net, that
            was trained with :class:`sk_mixup.callbacks.MemorizationErrors`.
        name : str, default=None
            Name of the net; None is that of its class.
        ax : sequence of matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : MemorizationDisplay

        Raises
        ------
        NotFittedError
            If the net is not fitted.
        TypeError, ValueError
            If it keeps no history, or was trained without the callback.
        """
        return cls.from_estimators({type(net).__name__ if name is None else name: net}, ax=ax)

    @classmethod
    def from_estimators(
        cls, nets: Mapping[str, object] | Sequence[object], *, ax: object = None
    ) -> MemorizationDisplay:
        """Draw the errors that several nets have recorded.

        Parameters
        ----------
        nets : dict or sequence of estimators
            Fitted nets, as in :meth:`from_estimator`; the keys of a dict are names, else the names of the
            classes are numbered.
        ax : sequence of matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : MemorizationDisplay

        Raises
        ------
        NotFittedError
            If a net is not fitted.
        TypeError, ValueError
            If one keeps no history, or was trained without the callback; if there is none.
        """
        named = name_models("nets", nets)
        records = [_read_errors(net) for net in named.values()]
        n_epochs = max(len(record) for record in records)
        padded = [
            np.pad(record, ((0, n_epochs - len(record)), (0, 0)), constant_values=np.nan)
            for record in records
        ]
        true, corrupted, test = np.moveaxis(np.stack(padded), 2, 0)
        display = cls(
            epochs=np.arange(1, n_epochs + 1),
            train_error_true=true,
            train_error_corrupted=corrupted,
            test_error=None if np.isnan(test).all() else test,
            names=list(named),
        )
        return display.plot(ax=ax)

    def plot(self, ax: object = None) -> MemorizationDisplay:
        """Draw the errors in percent; the best epoch by test error is marked.

        Parameters
        ----------
        ax : sequence of matplotlib Axes, default=None
            Two axes, or three where there is a test error; None makes a figure.

        Returns
        -------
        display : MemorizationDisplay
            This one.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` holds another number of axes.
        """
        errors = [self.train_error_true, self.train_error_corrupted]
        errors += [] if self.test_error is None else [self.test_error]
        self.axes_ = find_axes(ax, len(errors), "MemorizationDisplay.plot")
        self.figure_ = self.axes_[0].figure
        names = [None] * len(self.train_error_true) if self.names is None else self.names
        self.lines_ = []
        for axes, error, title in zip(self.axes_, errors, TITLES, strict=False):
            self.lines_.append(self._draw_lines(axes, error, names))
            axes.set(title=title, xlabel="Epoch", ylabel="Error (%)")
        self.best_ = [] if self.test_error is None else self._mark_best(self.axes_[-1], self.test_error)
        if self.names is not None or self.best_:
            self.axes_[-1].legend()
        return self

    def _draw_lines(self, axes: Any, error: np.ndarray, names: Sequence[str | None]) -> list[Any]:
        every = max(1, len(self.epochs) // MOST_MARKERS)
        return [
            axes.plot(self.epochs, 100 * own, label=name, markevery=every, **style)[0]
            for own, name, style in zip(error, names, list_styles(len(error)), strict=True)
        ]

    def _mark_best(self, axes: Any, error: np.ndarray) -> list[Any]:
        """Put a ring round the least error of each line."""
        ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none"}
        marks: list[Any] = []
        for own, style in zip(error, list_styles(len(error)), strict=True):
            if not np.isnan(own).all():
                best = int(np.nanargmin(own))
                marks += axes.plot(self.epochs[best], 100 * own[best], color=style["color"], **ring)
        if marks:
            axes.plot([], [], color="black", label="best epoch", **ring)
        return marks


def _find_net(estimator: Any) -> Any:
    """Return the net at the end of pipelines and searches."""
    while True:
        if hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        elif hasattr(estimator, "steps"):
            estimator = estimator.steps[-1][1]
        else:
            return estimator


def _read_errors(estimator: Any) -> NDArray[np.float64]:
    """Return what was recorded, of shape (n_epochs, 3); NaN where there is nothing."""
    net = _find_net(estimator)
    name, history = type(net).__name__, getattr(net, "history_", None)
    if history is None and not hasattr(type(net), "history"):
        raise TypeError(f"net must be a fitted skorch net, which keeps a history; got {name}. Give a net.")
    if not history:
        raise NotFittedError(f"net must be fitted; got a {name} that is not. Call fit first.")
    rows = [[row.get(key, np.nan) for key in ERROR_NAMES] for row in history]
    if not any(ERROR_NAMES[0] in row for row in history):
        raise ValueError(
            f"net must have recorded its training errors; got a {name} without them. Add "
            "sk_mixup.callbacks.MemorizationErrors to its callbacks and fit again."
        )
    return np.asarray(rows, dtype=np.float64)
