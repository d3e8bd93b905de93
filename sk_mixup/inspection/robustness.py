"""Robustness: the error of a classifier on adversarial examples of growing strength."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import Bunch, check_random_state

from sk_mixup._validation import check_real
from sk_mixup.inspection._attacked_errors import Examples, measure_errors
from sk_mixup.inspection._attacks import ATTACKS, Attacker
from sk_mixup.inspection._logits import take_last_step
from sk_mixup.inspection._plotting import find_axes, list_styles, name_models

__all__ = ["RobustnessDisplay", "adversarial_examples", "robustness_curve"]

# For features of unit variance: on digits, nets of two layers are wrong more often than right at the last.
DEFAULT_EPS = (0.0, 0.05, 0.1, 0.2, 0.4)
EPS_HINT = "Give strengths in the units of X."


def adversarial_examples(
    model: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str = "fgsm",
    eps: float = 0.1,
    n_steps: int = 10,
    step_size: float | None = None,
    clip: tuple[float, float] | None = None,
    batch_size: int = 256,
    random_state: int | np.random.RandomState | None = None,
) -> NDArray[np.float32]:
    """Move examples so that the loss of a model grows.

    Each row is moved within the ball ``max |x' - x| <= eps``, as in section 3.5 of [1]_.

    Parameters
    ----------
    model : torch.nn.Module or estimator
        What is attacked, and so is differentiable: see :func:`robustness_curve`. Of a pipeline it
        is the last step, on the rows as the steps before it transform them.
    X : array-like of shape (n_samples, *features)
        Examples as the module sees them; as a pipeline takes them.
    y : array-like of shape (n_samples,)
        True labels.
    attack, n_steps, step_size, clip, batch_size, random_state
        As in :func:`robustness_curve`.
    eps : float, default=0.1
        Strength, at least 0, in the units of the attacked rows.

    Returns
    -------
    X_adversarial : ndarray of shape (n_samples, *features), dtype float32
        A new array; `X` itself in float32 for an `eps` of 0. Those of a pipeline are rows for its
        last step, ``model[-1].predict(X_adversarial)``: steps before it need not be differentiable.

    Raises
    ------
    NotFittedError, TypeError, ValueError
        As :func:`robustness_curve`.

    See Also
    --------
    robustness_curve : Measures the error on such examples.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.inspection import adversarial_examples
    >>> module = torch.nn.Linear(1, 2)
    >>> _ = module.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.zeros(2)})
    >>> adversarial_examples(module, [[-3.0], [3.0]], [0, 1], eps=0.5).ravel()
    array([-2.5,  2.5], dtype=float32)
    """
    attacker = Attacker(attack, n_steps, step_size, clip, batch_size, _draw_seed(random_state))
    strength = check_real("eps", eps, low=0, high=sys.float_info.max, hint=EPS_HINT)
    net, rows = take_last_step(model, X)
    examples = Examples("model", net, rows, y, attacker)
    return examples.move(strength) if strength else np.array(examples.rows)


def robustness_curve(
    model: object,
    X: ArrayLike,
    y: ArrayLike,
    *,
    attack: str = "fgsm",
    eps: ArrayLike = DEFAULT_EPS,
    n_steps: int = 10,
    step_size: float | None = None,
    source: object = None,
    clip: tuple[float, float] | None = None,
    top_k: int = 1,
    batch_size: int = 256,
    random_state: int | np.random.RandomState | None = None,
) -> Bunch:
    """Measure the error on adversarial examples, as a function of their strength.

    Each row is moved within the ball ``max |x' - x| <= eps`` so that the cross-entropy of its true
    label grows; the error is measured on the moved rows, as in Table 3 (section 3.5) of [1]_.

    Parameters
    ----------
    model : torch.nn.Module or estimator
        What is measured. In a white-box attack it is differentiable: a module that maps inputs to
        logits (n, n_classes), or one logit a row for two classes, or an estimator with such a
        module as ``module_``. With a `source` it may be any classifier with ``predict``. Of a
        pipeline or a search its last step is attacked, on rows as the steps before it transform
        them: those need not be differentiable, and `eps` and `clip` are in units of such rows.
    X : array-like of shape (n_samples, *features)
        Examples as the module sees them, or as a pipeline takes them; the attack is made in float32.
    y : array-like of shape (n_samples,)
        True labels; for a module, and for nets of skorch's own, codes 0, 1, 2, ....
    attack : {'fgsm', 'i-fgsm', 'pgd'}, default='fgsm'
        'fgsm' is one step of size `eps` along the sign of the gradient [2]_; 'i-fgsm' takes
        `n_steps` such steps, of ``eps / n_steps`` by default as in [1]_, the gradient taken anew at
        each; 'pgd' starts at a random point of the ball and takes steps of
        ``2.5 * eps / n_steps`` by default, each followed by a projection onto the ball [3]_.
    eps : array-like of shape (n_eps,), default=(0.0, 0.05, 0.1, 0.2, 0.4)
        Strengths, at least 0, in the units of `X`. 0 is the clean error exactly. The default
        is for standardised features.
    n_steps : int, default=10
        Steps of 'i-fgsm' and 'pgd', at least 1; [1]_ takes 10.
    step_size : float, default=None
        Length of each of these steps, above 0, in the units of `X`; one beyond `eps` is cut to it.
        None is the default of the attack. Not used by 'fgsm'.
    source : torch.nn.Module or estimator, default=None
        Differentiable model that makes the examples for a black-box attack. None attacks `model`
        itself: a white-box attack.
    clip : tuple of two floats, default=None
        Least and greatest value of an input, such as ``(0, 255)`` for pixels: examples stay within.
        None leaves them free.
    top_k : int, default=1
        A prediction is wrong if the true class is not among the `top_k` most probable ones; at least 1.
    batch_size : int, default=256
        Rows that are attacked at a time, at least 1; no effect on the result.
    random_state : int, RandomState or None, default=None
        Seed of the start of 'pgd'; each strength starts in the same direction. numpy's and torch's
        global generators are left as they were.

    Returns
    -------
    curve : Bunch
        ``eps``, ndarray of shape (n_eps,), and ``error``, ndarray of shape (n_eps,), in [0, 1].

    Raises
    ------
    NotFittedError
        If an estimator is not fitted.
    TypeError
        If what is attacked has no module, and so is not differentiable.
    ValueError
        If an option breaks its rule, `y` holds a label that the model does not know, or
        `X` does not lie within `clip`.

    See Also
    --------
    RobustnessDisplay : Draws the curves of several models.
    adversarial_examples : Returns the moved rows themselves.

    Notes
    -----
    The attacks work on a copy of the module in evaluation mode: the model's mode, gradients and device
    stay as they are. A gradient of NaN counts as 0.

    An error that is low against a gradient attack alone is no proof of robustness: a net whose
    probabilities are 0 or 1 in float32 has no gradient to follow.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412
    .. [2] I. J. Goodfellow, J. Shlens and C. Szegedy, "Explaining and Harnessing Adversarial
       Examples", ICLR 2015, https://arxiv.org/abs/1412.6572
    .. [3] A. Madry, A. Makelov, L. Schmidt, D. Tsipras and A. Vladu, "Towards Deep Learning Models
       Resistant to Adversarial Attacks", ICLR 2018, https://arxiv.org/abs/1706.06083

    Examples
    --------
    >>> import torch
    >>> from sk_mixup.inspection import robustness_curve
    >>> module = torch.nn.Linear(1, 2)
    >>> _ = module.load_state_dict({"weight": torch.tensor([[-1.0], [1.0]]), "bias": torch.zeros(2)})
    >>> X, y = [[-3.0], [-1.0], [1.0], [3.0]], [0, 0, 1, 1]
    >>> robustness_curve(module, X, y, eps=(0, 2, 4)).error
    array([0. , 0.5, 1. ])
    """
    attacker = Attacker(attack, n_steps, step_size, clip, batch_size, _draw_seed(random_state))
    strengths = _check_eps(eps)
    error = measure_errors([model], X, y, attacker, eps=strengths, source=source, top_k=top_k)[0]
    return Bunch(eps=strengths, error=error)


def _check_eps(eps: ArrayLike) -> NDArray[np.float64]:
    values = np.atleast_1d(np.asarray(eps, dtype=np.float64))
    if values.ndim != 1 or not values.size:
        raise ValueError(f"eps must hold at least one strength; got shape {values.shape}. {EPS_HINT}")
    for value in values.tolist():
        check_real("eps", value, low=0, high=sys.float_info.max, hint=EPS_HINT)
    return values


def _draw_seed(random_state: int | np.random.RandomState | None) -> int:
    if random_state is None:  # check_random_state would draw on numpy's global generator
        return int(np.random.default_rng().integers(2**31 - 1))
    return int(check_random_state(random_state).randint(2**31 - 1))


class RobustnessDisplay:
    """Error against the strength of adversarial examples, for several models and attacks.

    Make one with :meth:`from_estimator` or :meth:`from_estimators`.

    Parameters
    ----------
    eps : ndarray of shape (n_eps,)
        Strengths, in the units of the inputs.
    errors : ndarray of shape (n_models, n_attacks, n_eps)
        Errors, in [0, 1].
    names : sequence of str, default=None
        Names of the models, for the legend.
    attacks : sequence of str, default=('fgsm',)
        The attacks.
    black_box : bool, default=False
        Whether another model made the examples.
    top_k : int, default=1
        Among how many of the most probable classes the true one was looked for.

    Attributes
    ----------
    axes_ : list of matplotlib Axes
        One for each attack.
    figure_ : matplotlib Figure
        The figure.
    lines_ : list of list of matplotlib Line2D
        The lines of each of the axes, one for each model.

    See Also
    --------
    robustness_curve : Computes the errors.

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sk_mixup import MixupClassifier
    >>> from sk_mixup.inspection import RobustnessDisplay
    >>> X, y = load_iris(return_X_y=True)
    >>> nets = {
    ...     name: MixupClassifier(alpha=alpha, max_epochs=3, random_state=0).fit(X, y)
    ...     for name, alpha in {"ERM": 0.0, "mixup": 1.0}.items()
    ... }
    >>> display = RobustnessDisplay.from_estimators(nets, X, y, attacks=("fgsm", "pgd"), eps=(0, 0.2))
    >>> display.errors.shape
    (2, 2, 2)
    """

    def __init__(
        self,
        *,
        eps: np.ndarray,
        errors: np.ndarray,
        names: Sequence[str] | None = None,
        attacks: Sequence[str] = ("fgsm",),
        black_box: bool = False,
        top_k: int = 1,
    ) -> None:
        self.eps = eps
        self.errors = errors
        self.names = names
        self.attacks = attacks
        self.black_box = black_box
        self.top_k = top_k

    @classmethod
    def from_estimator(
        cls,
        model: object,
        X: ArrayLike,
        y: ArrayLike,
        *,
        attack: str = "fgsm",
        name: str | None = None,
        ax: object = None,
        **options: Any,
    ) -> RobustnessDisplay:
        """Attack one model and draw its error.

        Parameters
        ----------
        model, X, y, attack, **options
            As in :func:`robustness_curve`.
        name : str, default=None
            Name of the model; None is that of its class.
        ax : matplotlib Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : RobustnessDisplay
        """
        models = {type(model).__name__ if name is None else name: model}
        return cls.from_estimators(models, X, y, attacks=(attack,), ax=ax, **options)

    @classmethod
    def from_estimators(
        cls,
        models: Mapping[str, object] | Sequence[object],
        X: ArrayLike,
        y: ArrayLike,
        *,
        attacks: Sequence[str] = ("fgsm",),
        eps: ArrayLike = DEFAULT_EPS,
        source: object = None,
        top_k: int = 1,
        n_steps: int = 10,
        step_size: float | None = None,
        clip: tuple[float, float] | None = None,
        batch_size: int = 256,
        random_state: int | np.random.RandomState | None = None,
        ax: object = None,
    ) -> RobustnessDisplay:
        """Attack several models and draw their errors.

        Parameters
        ----------
        models : dict or sequence of torch.nn.Modules and estimators
            The keys of a dict are names; else the names of the classes are numbered.
        X, y, eps, source, top_k, n_steps, step_size, clip, batch_size, random_state
            As in :func:`robustness_curve`. A `source` makes the same examples for all models.
        attacks : sequence of str, default=('fgsm',)
            Attacks; each gets axes of its own.
        ax : matplotlib Axes or sequence of Axes, default=None
            Where to draw; None makes a figure.

        Returns
        -------
        display : RobustnessDisplay

        Raises
        ------
        NotFittedError, TypeError, ValueError, ImportError
            As :func:`robustness_curve`; if there is no model or no attack.
        """
        named = name_models("models", models)
        attacks = (attacks,) if isinstance(attacks, str) else tuple(attacks)
        if not attacks:
            raise ValueError(f"attacks must not be empty; got {attacks!r}. Give at least one.")
        seed, strengths = _draw_seed(random_state), _check_eps(eps)
        attackers = [Attacker(attack, n_steps, step_size, clip, batch_size, seed) for attack in attacks]
        given = list(named.values())
        errors = [
            measure_errors(given, X, y, attacker, eps=strengths, source=source, top_k=top_k)
            for attacker in attackers
        ]
        display = cls(
            eps=strengths,
            errors=np.stack(errors, axis=1),
            names=list(named),
            attacks=attacks,
            black_box=source is not None,
            top_k=top_k,
        )
        return display.plot(ax=ax)

    def plot(self, ax: object = None) -> RobustnessDisplay:
        """Draw the errors in percent.

        Parameters
        ----------
        ax : matplotlib Axes or sequence of Axes, default=None
            One for each attack; None makes a figure.

        Returns
        -------
        display : RobustnessDisplay
            This one.

        Raises
        ------
        ImportError
            If matplotlib is not installed.
        ValueError
            If `ax` holds another number of axes.
        """
        self.axes_ = find_axes(ax, len(self.attacks), "RobustnessDisplay.plot")
        self.figure_ = self.axes_[0].figure
        names = [None] * len(self.errors) if self.names is None else self.names
        styles = list_styles(len(self.errors))
        self.lines_ = []
        for k, (axes, attack) in enumerate(zip(self.axes_, self.attacks, strict=True)):
            lines = zip(self.errors[:, k], names, styles, strict=True)
            self.lines_.append(
                [axes.plot(self.eps, 100 * error, label=name, **style)[0] for error, name, style in lines]
            )
            box = "black box" if self.black_box else "white box"
            axes.set(
                title=f"{ATTACKS.get(attack, attack)}, {box}",
                xlabel="Largest change of a feature, eps (units of X)",
                ylabel="Error (%)" if self.top_k == 1 else f"Top-{self.top_k} error (%)",
            )
        if self.names is not None:
            self.axes_[-1].legend()
        return self
