"""What ensembles of mixed nets share: members trained as one, and the rows that each holds out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
import math
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
from sklearn import config_context
from sklearn.base import BaseEstimator, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import _num_samples, check_is_fitted
from torch.utils.data import IterableDataset

from sk_mixup._random import draw_seed, make_generator
from sk_mixup._skorch.dataset_items import find_exact_targets, to_array
from sk_mixup._validation import check_integer, check_names
from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._holdout import HeldOutPart
from sk_mixup.estimators._inputs import check_weights, count_rows, is_mapping
from sk_mixup.estimators._labels import as_target_array
from sk_mixup.estimators._parts import Parts, find_weightless
from sk_mixup.estimators._prediction import in_namespace_of
from sk_mixup.estimators._stacked_nets import predict_each
from sk_mixup.estimators._temperature import HeldOutScores, find_temperature
from sk_mixup.stacking._context import fit_stacked, is_stacking

__all__ = ["MixupEnsemble", "Uncertainty"]

# Of the names of the members' options.
PREFIX = "estimator__"


class Uncertainty(NamedTuple):
    """How uncertain predictions are, and why; ``total = aleatoric + epistemic``.

    Attributes
    ----------
    total : ndarray
        The uncertainty of the ensemble's prediction.
    aleatoric : ndarray
        What each member by itself is uncertain of, on average.
    epistemic : ndarray
        What the members disagree on.
    """

    total: np.ndarray
    aleatoric: np.ndarray
    epistemic: np.ndarray


class MixupEnsemble(BaseEstimator):
    """What the ensembles share; a subclass names the class of its members.

    Attributes
    ----------
    member : type of MixupEstimator
        The class of the members.
    """

    member: ClassVar[type[MixupEstimator]]

    def __init__(
        self,
        estimator: MixupEstimator | None = None,
        *,
        n_members: int = 8,
        random_state: object = None,
        **kwargs: object,
    ) -> None:
        self.estimator = estimator
        self.n_members = n_members
        self.random_state = random_state
        self._member_options = kwargs

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the options; see ``sklearn.base.BaseEstimator.get_params``."""
        return {**super().get_params(deep), **self._member_options}

    def set_params(self, **params: object) -> Self:
        """Set options; those of the members are ``estimator__<name>``, also where `estimator` is None.

        As in scikit-learn, a new `estimator` brings its own: of those set before none is left.
        """
        own = {*self._get_param_names(), *self._member_options}
        check_names(type(self).__name__, (name for name in params if not name.startswith(PREFIX)), own)
        nested = {name: value for name, value in params.items() if name not in self._get_param_names()}
        options = nested if "estimator" in params else {**self._member_options, **nested}
        given = params.get("estimator", self.estimator)
        if nested and (given is None or isinstance(given, self.member)):  # fit refuses others
            self._make_member(given, options)  # an unknown name is refused
        for name in self._get_param_names():
            setattr(self, name, params.get(name, getattr(self, name)))
        self._member_options = options
        return self

    def _make_member(self, given: object, options: Mapping[str, object]) -> MixupEstimator:
        """Return an unfitted member like the one that is given, with options."""
        member: MixupEstimator = self.member() if given is None else clone(given)
        named = {
            name.removeprefix(PREFIX): value for name, value in options.items() if name.startswith(PREFIX)
        }
        return member.set_params(**named)

    def __sklearn_tags__(self) -> Tags:
        """Return the estimator tags: those of a member."""
        return get_tags(self.member())

    # -- training ------------------------------------------------------------------------

    def fit(self, X: object, y: object = None, sample_weight: object = None, groups: object = None) -> Self:
        """Train all members, as one.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Training examples, in any form that a member takes.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs), default=None
            Targets. Needed unless `X` is a Dataset.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row, at least 0.
        groups : array-like of shape (n_samples,), default=None
            Rows of one group, such as of one patient, are held out together. Classes are then not shared
            out uniformly. Not used where no rows are held out; a `train_split` of your own is given them.

        Returns
        -------
        self : object
            The fitted ensemble.

        Raises
        ------
        TypeError, ValueError
            If an option or the data break a rule; the message names it.
        """
        template = self._make_template()
        n_members = check_integer("n_members", self.n_members, low=1, hint="Use 8, or 1 for a single net.")
        generator = make_generator(self.random_state)
        members = [clone(template).set_params(random_state=draw_seed(generator)) for _ in range(n_members)]
        params = {} if sample_weight is None else {"sample_weight": sample_weight}
        held_out_by = None
        may_hold_out = template.early_stopping and template._has_stopper and template.train_split == "auto"
        if may_hold_out and not isinstance(X, IterableDataset):
            n_samples = count_rows(X) if is_mapping(X) else _num_samples(X)
            weight = check_weights(sample_weight, n_samples)
            counts = np.ones(n_samples, dtype=bool) if weight is None else weight > 0
            parts = Parts(n_members, template.validation_fraction, generator)
            targets = find_exact_targets(X) if y is None else y
            counts &= ~find_weightless(targets, getattr(template, "class_weight", None), n_samples)
            held_out_by = params["held_out_by"] = parts.draw(targets, counts, groups)
            for number, member in enumerate(members):
                # Few rows are enough: chance averages out over the members.
                member.train_split, member.early_stopping = HeldOutPart(number), True
        elif groups is not None and callable(template.train_split):
            params["groups"] = groups
        scores: list[HeldOutScores] = []
        for member in members:
            member._find_temperature = _Collector(scores)
        # The members are no business of the user's router; a block of stacked() has options of its own.
        with config_context(enable_metadata_routing=False):
            options = {} if is_stacking() else {"window": math.inf}
            fit_stacked(((member, X, y, params) for member in members), **options)
        temperature = find_temperature(HeldOutScores.join(scores)) if scores else 1.0
        for member in members:
            member.train_split, member.early_stopping = template.train_split, template.early_stopping
            del member._find_temperature
            member._targets = member._targets.at(temperature)  # one that all held-out rows tell of
        self.estimators_: list[MixupEstimator] = members
        self._keep_oof(X, held_out_by)
        return self

    def _make_template(self) -> MixupEstimator:
        """Return an unfitted member, whose options are checked."""
        if not isinstance(self.estimator, self.member | None):
            raise TypeError(
                f"estimator must be a {self.member.__name__} or None; got {self.estimator!r}. Give one, "
                "unfitted, or its options as estimator__<name>."
            )
        unknown = (name for name in self._member_options if not name.startswith(PREFIX))
        check_names(type(self).__name__, unknown, self._get_param_names())
        template = self._make_member(self.estimator, self._member_options)
        template.check_options()
        return template

    def _keep_oof(self, X: object, held_out_by: np.ndarray | None) -> None:
        """Predict the rows by those members that did not train on them."""
        self._oof: np.ndarray | None = None
        self.__dict__.pop("held_out_by_", None)  # of an earlier fit
        if held_out_by is None:
            return
        self.held_out_by_ = np.where(held_out_by < len(self.estimators_), held_out_by, -1)
        start, parts = 0, []
        for values in predict_each(self.estimators_, X):
            numbers = self.held_out_by_[start : start + values.shape[1]]
            parts.append(values[numbers, np.arange(len(numbers))])
            start += len(numbers)
        self._oof = np.concatenate(parts)
        self._oof[self.held_out_by_ < 0] = np.nan

    def _get_oof(self) -> np.ndarray:
        """Return the predictions of held-out rows, or raise where members held none out for it."""
        check_is_fitted(self)
        if self._oof is None:
            raise AttributeError(
                f"{type(self).__name__} has predictions of held-out rows only where each member holds out a "
                "part of its own: with early_stopping=True and train_split='auto' of the members."
            )
        return self._oof

    @property
    def n_features_in_(self) -> int:
        """Number of features seen in fit."""
        return int(self._first.n_features_in_)

    @property
    def feature_names_in_(self) -> np.ndarray:
        """Names of the features, where `X` had names that are all strings."""
        return np.asarray(self._first.feature_names_in_)

    @property
    def _first(self) -> MixupEstimator:
        if "estimators_" not in vars(self):
            raise AttributeError(f"{type(self).__name__} has no fitted members before fit.")
        return self.estimators_[0]

    # -- prediction ----------------------------------------------------------------------

    def _reduce(
        self, X: object, function: Callable[[np.ndarray], np.ndarray], *, log: bool = False, axis: int = 0
    ) -> np.ndarray:
        """Return what a function makes of the members' predictions, part by part."""
        check_is_fitted(self)
        parts = predict_each(self.estimators_, X, log=log)
        return np.concatenate([function(values) for values in parts], axis=axis)

    def predict_members(self, X: object) -> np.ndarray:
        """Predict by each member.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        values : ndarray of shape (n_members, n_samples, ...)
            Of a classifier the probabilities, of a regressor the predictions of each member; the mean
            over the first axis is the ensemble's.
        """
        return in_namespace_of(X, self._reduce(X, lambda values: values, axis=1))

    def score(self, X: object, y: object, sample_weight: object = None) -> float:
        """Return how well the targets of rows are predicted.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.
        y : array-like of shape (n_samples,) or (n_samples, n_outputs)
            Targets.
        sample_weight : array-like of shape (n_samples,), default=None
            Weight of each row.

        Returns
        -------
        score : float
            Of a classifier the accuracy, for several labels per row subset accuracy; of a regressor R².
        """
        y_pred = to_array(self.predict(X))
        return self._first._targets.score(
            as_target_array(y), y_pred, check_weights(sample_weight, len(y_pred))
        )


@dataclass(frozen=True)
class _Collector:
    """Keeps what members give the rows that they hold out, for a temperature of all."""

    scores: list[HeldOutScores]

    def __call__(self, scores: HeldOutScores) -> float:
        self.scores.append(scores)
        return 1.0
