"""What a classifier does on the segments between training examples."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from numbers import Integral
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import Bunch, check_random_state
from sklearn.utils.validation import check_consistent_length
import torch
from torch import Tensor, nn

from sk_mixup._tensors import to_double, to_host
from sk_mixup._validation import check_choice, check_integer
from sk_mixup.inspection._labels import check_labels, encode_labels
from sk_mixup.inspection._logits import (
    HALF,
    Logits,
    as_frame_of,
    check_classifier,
    check_one_label,
    find_slopes,
    kept_mode,
    read_numbers,
)
from sk_mixup.inspection._plotting import find_axes, list_styles, name_models, require
from sk_mixup.mixing.functional import mix_pair

__all__ = ["BetweenDisplay", "between_curves"]


def between_curves(
    model: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    n_pairs: int = 1000,
    n_points: int = 21,
    gradients: bool | Literal["auto"] = "auto",
    output: str = "logits",
    batch_size: int = 256,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Measure misses and gradient norms on the segments between random pairs of examples.

    The two measures of [1]_, Figure 2, at ``x = lam * x_i + (1 - lam) * x_j``.

    Parameters
    ----------
    model : fitted classifier or torch.nn.Module
        A classifier with `predict_proba` and `classes_`, or a module that maps inputs to
        logits of shape (n, n_classes), or to one logit per row for two classes.
    X : array-like of shape (n_samples, *features)
        Examples, as a dense array of numbers or a frame of them: a table, images, ... The paper takes those
        that the model was trained on.
    y : array-like of shape (n_samples,)
        Their labels; for a module, the column of each class.
    n_pairs : int, default=1000
        Number of pairs of different rows, drawn at random with replacement; at least 1.
    n_points : int, default=21
        Number of values of λ, uniformly spaced from 0 to 1; at least 2.
    gradients : {'auto', True, False}, default='auto'
        Whether to measure gradient norms. They need a torch module: `model` itself, or its
        `module_`. 'auto' measures them where there is one, and it gives one vector of logits a row.
    output : {'logits', 'probabilities'}, default='logits'
        What is differentiated. The paper does not say; this is our choice. Logits are those that the module
        gives, probabilities those of `predict_proba`, at the temperature of a net that has one.
    batch_size : int, default=256
        Number of rows that the model is given at once, at least 1.
    random_state : int, RandomState or None, default=None
        Seed of the pairs. They depend on it and on the number of rows, not on the model.

    Returns
    -------
    curves : Bunch
        With these arrays:

        lam : ndarray of shape (n_points,)
            The weights λ of the first row of each pair, from 0 to 1.
        miss_rate : ndarray of shape (n_points,)
            Share of pairs that are missed, in [0, 1].
        gradient_norm : ndarray of shape (n_points,) or None
            Mean gradient norm over the pairs.
        misses : ndarray of shape (n_points, n_pairs), dtype bool
            Which pairs are missed.
        gradient_norms : ndarray of shape (n_points, n_pairs) or None
            The norm at each point of each pair.
        pairs : ndarray of shape (n_pairs, 2)
            Rows i and j of each pair; they differ.

    Raises
    ------
    TypeError
        If `model` is neither a classifier with `predict_proba` nor a module, or if `X` is not a
        dense array of numbers.
    NotFittedError
        If the classifier is not fitted.
    ValueError
        If `y` holds a label that the model does not know, if an option
        breaks its rule, or if the output of the module cannot be differentiated.

    Notes
    -----
    A *miss* is a prediction that is neither the label of i nor that of j. The gradient norm
    is the Frobenius norm of the Jacobian of all outputs with respect to the input at x. It
    is exact: one backward pass for each class.

    The module computes in eval mode, on rows of the dtype and on the device of its parameters;
    there no row's output may depend on other rows. Its mode is restored, and the gradients
    that its parameters hold are not touched.

    One logit z per row stands for the two logits (0, z). The module of a net whose criterion is
    ``torch.nn.NLLLoss`` or ``torch.nn.BCELoss`` returns probabilities p, as in skorch; its logits are log(p)
    for the first, log(p / (1 - p)) for the second.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical
       Risk Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    A linear model whose Jacobian is the unit matrix everywhere:

    >>> import numpy as np
    >>> import torch
    >>> from sk_mixup.inspection import between_curves
    >>> module = torch.nn.Linear(4, 4, bias=False)
    >>> _ = torch.nn.init.eye_(module.weight)
    >>> curves = between_curves(module, np.eye(4), range(4), n_pairs=10, n_points=3, random_state=0)
    >>> curves.lam, curves.miss_rate, curves.gradient_norm
    (array([0. , 0.5, 1. ]), array([0., 0., 0.]), array([2., 2., 2.]))
    """
    data, labels = _check_rows(X, y)
    pairs = _draw_pairs(len(data), n_pairs, random_state)
    n_points = check_integer("n_points", n_points, low=2, hint="Use 21 for steps of 0.05.")
    batch_size = check_integer("batch_size", batch_size, low=1, hint="Use 256 or so.")
    _check_output(output, model)
    logits = _find_logits(model)
    has_norms = _decide_gradients(gradients, model, logits)
    lam = np.linspace(0.0, 1.0, n_points)
    misses = np.empty((n_points, n_pairs), dtype=bool)
    norms = np.empty((n_points, n_pairs))
    with kept_mode(model):
        if logits is not None:
            probed = logits.probe("model", _to_rows(data[:1], logits), differentiable=has_norms)
            has_norms = has_norms and (
                gradients is True or not isinstance(probed, Tensor) or probed.ndim == 2
            )
        classes = _find_classes(model, logits, data)
        check_one_label("model", model, as_frame_of(X, data[:1]))
        ends = encode_labels("y", labels, classes)[pairs]
        for start in range(0, n_pairs, batch_size):
            part = slice(start, start + batch_size)
            x, x_partner = (_to_rows(data[rows], logits) for rows in pairs[part].T)
            for k, weight in enumerate(lam):
                mixed = mix_pair(x, x_partner, torch.as_tensor(weight, dtype=x.dtype, device=x.device))
                predicted = _predict(model, logits, mixed, X, classes)
                misses[k, part] = np.all(predicted[:, None] != ends[part], axis=1)
                if logits is not None and has_norms:
                    norms[k, part] = _find_norms(logits, mixed, output)
    return Bunch(
        lam=lam,
        miss_rate=misses.mean(axis=1),
        gradient_norm=norms.mean(axis=1) if has_norms else None,
        misses=misses,
        gradient_norms=norms if has_norms else None,
        pairs=pairs,
    )


class BetweenDisplay:
    """Misses and gradient norms between examples: Figure 2 of the mixup paper.

    Build it with :meth:`from_estimator` or :meth:`from_estimators`; see :func:`between_curves`.

    Parameters
    ----------
    lam : array-like of shape (n_points,)
        The weights λ.
    miss_rates : array-like of shape (n_models, n_points)
        Share of pairs that each model misses, in [0, 1].
    gradient_norms : array-like of shape (n_models, n_points), default=None
        Mean gradient norms; rows of NaN for models that have none. None leaves them out.
    names : sequence of str, default=None
        Names of the models; None numbers them.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        The misses and, where there are any, the gradient norms.
    figure_ : matplotlib Figure
        The figure that holds them.
    lines_ : list of list of matplotlib Line2D
        The lines of each axes.

    Raises
    ------
    ValueError
        If the arrays do not fit each other.

    Examples
    --------
    >>> from matplotlib.figure import Figure
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.tree import DecisionTreeClassifier
    >>> from sk_mixup.inspection import BetweenDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> tree = DecisionTreeClassifier(random_state=0).fit(X, y)
    >>> ax = Figure().subplots()
    >>> display = BetweenDisplay.from_estimator(tree, X, y, n_pairs=20, random_state=0, ax=ax)
    >>> display.names, display.miss_rates.shape
    (['DecisionTreeClassifier'], (1, 21))
    """

    def __init__(
        self,
        *,
        lam: ArrayLike,
        miss_rates: ArrayLike,
        gradient_norms: ArrayLike | None = None,
        names: Sequence[str] | None = None,
    ) -> None:
        self.lam = np.asarray(lam)
        n_models = len(np.atleast_2d(miss_rates))
        self.miss_rates = _check_curves("miss_rates", miss_rates, n_models, len(self.lam))
        self.gradient_norms = None
        if gradient_norms is not None:
            self.gradient_norms = _check_curves("gradient_norms", gradient_norms, n_models, len(self.lam))
        self.names = _check_names(names, n_models)

    @classmethod
    def from_estimator(
        cls, model: object, X: ArrayLike, y: ArrayLike, *, name: str | None = None, **options: Any
    ) -> BetweenDisplay:
        """Measure one model and plot it.

        Parameters
        ----------
        model, X, y
            As in :func:`between_curves`.
        name : str, default=None
            Name of the model; None takes that of its class.
        **options : dict
            `ax`, and options of :func:`between_curves`.

        Returns
        -------
        display : BetweenDisplay
            It is drawn.
        """
        return cls.from_estimators({name or type(model).__name__: model}, X, y, **options)

    @classmethod
    def from_estimators(
        cls,
        models: Mapping[str, object] | Sequence[object],
        X: ArrayLike,
        y: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        ax: object = None,
        **options: Any,
    ) -> BetweenDisplay:
        """Measure several models on the same pairs and plot them.

        Parameters
        ----------
        models : dict or sequence of fitted classifiers and torch.nn.Modules
            As in :func:`between_curves`; the keys of a dict are names.
        X, y
            Examples and their labels, as in :func:`between_curves`.
        names : sequence of str, default=None
            Names of the models; None takes the keys of a dict, or numbers the names of the classes.
        ax : Axes or sequence of Axes, default=None
            Where to draw, as in :meth:`plot`.
        **options : dict
            Options of :func:`between_curves`. By default a model without a module has misses only.

        Returns
        -------
        display : BetweenDisplay
            It is drawn.

        Raises
        ------
        ImportError, TypeError, NotFittedError, ValueError
            As :func:`between_curves`; or if matplotlib is not installed, or `models` is empty.
        """
        require("matplotlib.figure", "BetweenDisplay")
        named = name_models("models", models)
        labels = _check_names(list(named) if names is None else names, len(named))
        # One seed for all, also where random_state is None or a generator that each call would move on.
        seed = options.pop("random_state", None)
        seed = int(seed) if isinstance(seed, Integral) else check_random_state(seed).randint(2**31)
        curves = [between_curves(model, X, y, random_state=seed, **options) for model in named.values()]
        lam, norms = curves[0].lam, [each.gradient_norm for each in curves]
        stacked = [np.full(len(lam), np.nan) if each is None else each for each in norms]
        display = cls(
            lam=lam,
            miss_rates=[each.miss_rate for each in curves],
            gradient_norms=stacked if any(each is not None for each in norms) else None,
            names=labels,
        )
        return display.plot(ax)

    def plot(
        self, ax: object = None, *, names: Sequence[str] | None = None, **line_kwargs: Any
    ) -> BetweenDisplay:
        """Draw the curves.

        Parameters
        ----------
        ax : Axes or sequence of Axes, default=None
            Where to draw: one axes, or two if there are gradient norms. None makes a figure.
        names : sequence of str, default=None
            Names in the legend; None takes those of the display.
        **line_kwargs : dict
            Options of the lines, as for ``Axes.plot``.

        Returns
        -------
        display : BetweenDisplay
            Itself, with `axes_`, `figure_` and `lines_`.

        Raises
        ------
        ImportError, ValueError
            If matplotlib is not installed, or another number of axes or names is given.
        """
        panels = [("Misses (%)", 100 * self.miss_rates)]
        if self.gradient_norms is not None:
            panels.append(("Mean gradient norm", self.gradient_norms))
        labels = self.names if names is None else _check_names(names, len(self.names))
        self.axes_ = find_axes(ax, len(panels), "BetweenDisplay.plot")
        self.figure_ = self.axes_[0].figure
        self.lines_ = []
        for axes, (title, curves) in zip(self.axes_, panels, strict=True):
            styles = list_styles(len(curves))
            drawn = [k for k, curve in enumerate(curves) if not np.all(np.isnan(curve))]
            lines = [axes.plot(self.lam, curves[k], label=labels[k], **styles[k])[0] for k in drawn]
            for line in lines:
                line.set(**line_kwargs)
            self.lines_.append(lines)
            axes.set(xlabel=r"$\lambda$ in $\lambda x_i + (1 - \lambda) x_j$", ylabel=title)
            axes.set_ylim(bottom=0)
        self.axes_[0].legend()
        return self


def _check_rows(X: ArrayLike, y: ArrayLike) -> tuple[np.ndarray, np.ndarray]:
    """Check the examples and their labels."""
    data = read_numbers(to_host(X))
    if hasattr(data, "toarray") or np.asarray(data).dtype.kind not in "fiub":
        raise TypeError(
            f"X must be a dense array of numbers; got {type(X).__name__}. Convert it: mixing needs numbers."
        )
    data = np.asarray(data)
    data = data.astype(data.dtype.newbyteorder("="), copy=False)  # as torch asks for
    if data.ndim < 2 or len(data) < 2:
        raise ValueError(f"X must hold at least 2 rows of features; got shape {data.shape}. Give more rows.")
    if not np.all(np.isfinite(data)):
        raise ValueError("X must be finite; got NaN or infinite values. Fill or remove them.")
    check_consistent_length(data, y)
    return data, check_labels("y", y)


def _draw_pairs(n_samples: int, n_pairs: int, random_state: int | np.random.RandomState | None) -> np.ndarray:
    """Draw pairs of different rows."""
    n_pairs = check_integer("n_pairs", n_pairs, low=1, hint="Use 1000 or so.")
    generator = check_random_state(random_state)
    first = generator.randint(n_samples, size=n_pairs)
    steps = generator.randint(1, n_samples, size=n_pairs)
    return np.stack([first, (first + steps) % n_samples], axis=1)


def _check_output(output: str, model: object) -> None:
    """Raise unless what is differentiated is known: a link of the user's own is not."""
    check_choice("output", output, ("logits", "probabilities"))
    link = getattr(model, "predict_nonlinearity", "auto")
    if output == "probabilities" and link != "auto":
        raise ValueError(
            f"output must be 'logits' for a net with a predict_nonlinearity of its own; got 'probabilities' "
            f"for {link!r}. Differentiate the logits, or set it to 'auto'."
        )


def _find_logits(model: object) -> Logits | None:
    """Return what gives a model's logits, or None where it has no torch module."""
    module = model if isinstance(model, nn.Module) else getattr(model, "module_", None)
    return Logits(model) if isinstance(module, nn.Module) else None


def _decide_gradients(gradients: bool | str, model: Any, logits: Logits | None) -> bool:
    """Return whether to measure gradient norms."""
    if not isinstance(gradients, bool) and gradients != "auto":
        hint = "Use 'auto' to measure them where there is a torch module."
        raise ValueError(f"gradients must be True, False or 'auto'; got {gradients!r}. {hint}")
    if gradients is True and logits is None:
        check_classifier("model", model)
        raise ValueError(
            f"gradients must be False or 'auto' for {type(model).__name__}, which has no torch module; got "
            "True. Give a module, or a net with module_; of a pipeline, its last step and the transformed X."
        )
    return gradients is not False and logits is not None


def _to_rows(data: np.ndarray, logits: Logits | None) -> Tensor:
    """Turn rows into a tensor, of the dtype and on the device of the module."""
    rows = torch.as_tensor(np.array(data))
    device, dtype = (None, None) if logits is None else logits.get_device_and_dtype()
    if dtype is not None:
        return rows.to(device, torch.float32 if dtype in HALF else dtype)
    return rows if rows.is_floating_point() else to_double(rows)


def _find_classes(model: Any, logits: Logits | None, data: np.ndarray) -> np.ndarray:
    """Return the labels that the columns of the predictions stand for."""
    if not isinstance(model, nn.Module) or logits is None:
        return check_classifier("model", model)
    with torch.no_grad():
        return np.arange(_compute(logits, _to_rows(data[:1], logits)).shape[1])


def _predict(model: Any, logits: Logits | None, x: Tensor, like: Any, classes: np.ndarray) -> np.ndarray:
    """Return the code of the class that is predicted for each row; a classifier is given what X is like."""
    if isinstance(model, nn.Module) and logits is not None:
        with torch.no_grad():
            scores = to_double(_compute(logits, x)).numpy(force=True)
        return _check_scores(scores, len(x), len(classes)).argmax(axis=1)
    rows = as_frame_of(like, x.numpy(force=True))
    _check_scores(np.asarray(model.predict_proba(rows)), len(x), len(classes))
    # Not always the most probable one: a classifier may have a threshold.
    return encode_labels("model", np.asarray(to_host(model.predict(rows))), classes)


def _check_scores(scores: np.ndarray, n_rows: int, n_classes: int) -> np.ndarray:
    if scores.shape != (n_rows, n_classes) or not np.all(np.isfinite(scores)):
        raise ValueError(
            f"model must predict {n_classes} finite values per row; got an output of shape {scores.shape}, "
            "or with NaN. Give a classifier of one label per row, and X scaled as in training."
        )
    return scores


def _compute(compute: Callable[[Tensor], object], x: Tensor) -> Tensor:
    """Return the logits or probabilities of each row, or raise if the module gives something else."""
    output = compute(x)
    if not isinstance(output, Tensor) or output.ndim != 2 or len(output) != len(x):
        found = f"shape {tuple(output.shape)}" if isinstance(output, Tensor) else type(output).__name__
        raise ValueError(
            f"model must return logits of shape ({len(x)}, n_classes) for {len(x)} rows; got {found}. Give a "
            "module of one label per row."
        )
    return output


def _find_norms(logits: Logits, mixed: Tensor, output: str) -> np.ndarray:
    """Return the Frobenius norm of the Jacobian at each row."""
    x = mixed.detach().requires_grad_()
    squares = torch.zeros(len(x), dtype=torch.float64)
    with torch.enable_grad():
        compute = logits.compute_probabilities if output == "probabilities" else logits
        for total in _compute(compute, x).sum(dim=0):
            # Rows do not depend on each other: the gradient of a column's sum holds each row's own.
            slopes = find_slopes(total, x)
            assert slopes is not None, "the model was probed"
            squares += to_double(slopes.flatten(1)).square().sum(dim=1).cpu()
    return squares.sqrt().numpy()


def _check_curves(name: str, curves: ArrayLike, n_models: int, n_points: int) -> np.ndarray:
    """Return one row per model and one column per point."""
    rows = np.atleast_2d(np.asarray(curves, dtype=float))
    if rows.shape != (n_models, n_points):
        raise ValueError(
            f"{name} must be of shape {(n_models, n_points)}, a row per model and a column per value of lam; "
            f"got shape {rows.shape}. Give all curves at the same points."
        )
    return rows


def _check_names(names: Sequence[str] | None, n_models: int) -> list[str]:
    """Return a name for each model."""
    found = [f"model {k + 1}" for k in range(n_models)] if names is None else list(names)
    if len(found) != n_models:
        raise ValueError(f"names must hold {n_models} names; got {found!r}. Give one per model.")
    return found
