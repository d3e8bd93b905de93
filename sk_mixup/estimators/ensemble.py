"""Ensembles of mixed nets that are trained as one."""

from __future__ import annotations

from typing import ClassVar, Self

import numpy as np
from scipy.special import logsumexp

from sk_mixup.estimators._base import MixupEstimator
from sk_mixup.estimators._ensemble import MixupEnsemble, Uncertainty
from sk_mixup.estimators._inputs import check_weights
from sk_mixup.estimators._labels import as_target_array
from sk_mixup.estimators._prediction import in_namespace_of
from sk_mixup.estimators.classifier import MixupClassifier
from sk_mixup.estimators.regressor import MixupRegressor

__all__ = ["MixupEnsembleClassifier", "MixupEnsembleRegressor"]


class MixupEnsembleClassifier(MixupEnsemble):
    """Several mixed nets trained as one, whose probabilities are averaged.

    A deep ensemble [1]_ of :class:`MixupClassifier`: the members differ in their initial weights, in the
    order of their batches, in what is mixed, and in the rows that they hold out for early stopping. The
    parts held out are a partition of the rows, so each row is predicted by the one member that did not
    train on it: `oof_predict_proba_`. One training step is one batched program for all members, as under
    :func:`stacked`.

    Parameters
    ----------
    estimator : MixupClassifier, default=None
        The unfitted member, which is cloned; None for the default one.

    n_members : int, default=8
        Number of members, at least 1. Two hold out half of the rows each, eight an eighth each; a
        single one `validation_fraction` of them, however few.

    random_state : int, RandomState, Generator or None, default=None
        Seeds the division of the rows and the members, whose own `random_state` is not used. None takes
        fresh entropy each fit.

    **kwargs : dict
        Options of the member, such as ``estimator__alpha``.

    Attributes
    ----------
    estimators_ : list of MixupClassifier
        The fitted members.

    held_out_by_ : ndarray of shape (n_samples,)
        Number of the member that held out each row of `X` in fit, or -1 if none did: with a single
        member, and for `groups` whose rows all weigh 0. Other rows of weight 0 have a number too, and
        no member trains on them.

    oof_predict_proba_ : ndarray of the shape of ``predict_proba(X)``
        Probabilities of the rows of `X` in fit, each by the member that held it out; NaN for none.

    classes_ : ndarray of shape (n_classes,)
        Labels seen in fit, sorted, or the names of the columns of `y`, in their order; column j of
        ``predict_proba`` is ``classes_[j]``.

    n_features_in_ : int
        Number of features seen in fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    MixupClassifier : A member.
    MixupEnsembleRegressor : The same for real-valued targets.
    stacked : Trains the nets of any search or ensemble as one.

    Notes
    -----
    The parts are stratified by class; those of a Dataset if its type tells its targets (``TensorDataset``,
    and subsets and joined sets of such) or `y` is given. Of a class with fewer rows
    than members some parts have none; a class with one row is unknown to the member that holds it out, though
    all have a probability for it. There must be as many rows as members. `oof_predict_proba_` is what one
    member predicts, so it is worse than the ensemble; and as early stopping chose the epoch by these rows, it
    is slightly too good for a single member. Members stop early even by few rows, which a single net does not
    (``early_stopping='auto'``), because chance averages out over the members.

    One temperature, fitted to the held-out rows of all members, scales the logits of each.

    With ``early_stopping=False`` all members train on all rows, and with a `train_split` of their own they
    hold out what it says. In both cases there is no `oof_predict_proba_`.

    Members that are plain multilayer perceptrons are predicted by one batched program, others one after the
    other. Pickles, clones and searches treat the ensemble as one estimator; in a block of
    :func:`stacked`, all members of all ensembles are trained as one.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive Uncertainty
       Estimation using Deep Ensembles", NeurIPS 2017, https://arxiv.org/abs/1612.01474

    Examples
    --------
    >>> from sklearn.datasets import load_iris
    >>> from sklearn.preprocessing import scale
    >>> from sk_mixup import MixupEnsembleClassifier
    >>> X, y = load_iris(return_X_y=True)
    >>> X = scale(X)
    >>> model = MixupEnsembleClassifier(n_members=4, random_state=0, estimator__max_epochs=40).fit(X, y)
    >>> model.predict_proba(X[:2]).shape
    (2, 3)
    >>> bool((model.oof_predict_proba_.argmax(axis=1) == y).mean() > 0.9)
    True
    """

    member: ClassVar[type[MixupEstimator]] = MixupClassifier

    @property
    def classes_(self) -> np.ndarray:
        """Labels seen in fit; column j of ``predict_proba`` is ``classes_[j]``."""
        return self._first.classes_

    @property
    def oof_predict_proba_(self) -> np.ndarray:
        """Probabilities of the rows of `X` in fit, each by the member that held it out."""
        return self._get_oof()

    def predict_proba(self, X: object) -> np.ndarray:
        """Predict the probability of each class: the mean of the members' [1]_, section 2.4.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        proba : ndarray of shape (n_samples, n_classes) or (n_samples, n_classes, *sizes)
            Column j belongs to ``classes_[j]``; for several labels per row, the probability of each.

        References
        ----------
        .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive Uncertainty
           Estimation using Deep Ensembles", NeurIPS 2017, https://arxiv.org/abs/1612.01474
        """
        return in_namespace_of(X, self._reduce(X, _average))

    def predict_log_proba(self, X: object) -> np.ndarray:
        """Predict the logarithm of the probability of each class.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        log_proba : ndarray of the shape of ``predict_proba(X)``
            Finite where a probability is rounded to 0.
        """
        return in_namespace_of(X, self._reduce(X, _average_logarithms, log=True))

    def predict(self, X: object) -> np.ndarray:
        """Predict the label of each row.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,), (n_samples, n_labels) or (n_samples, *sizes)
            The most probable labels; 0-1 indicators for several labels per row.
        """
        proba, targets = self._reduce(X, _average), self._first._targets
        return in_namespace_of(X, targets.decode(targets.choose(proba)))

    def predict_uncertainty(self, X: object) -> Uncertainty:
        r"""Split the entropy of each prediction into what the members disagree on and the rest.

        With the members' probabilities p_m and the entropy H(p) = -Σ_k p_k log p_k,

        .. math:: H(\bar p) = \frac{1}{M} \sum_m H(p_m) + I, \qquad \bar p = \frac{1}{M} \sum_m p_m,

        where I, the mutual information of label and member, is the mean Kullback-Leibler divergence
        of the p_m from their mean: equation (1) of [1]_ with members in the place of weights.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        uncertainty : Uncertainty
            ``total`` is the entropy of the mean, ``aleatoric`` the mean entropy, ``epistemic`` the mutual
            information; each an ndarray of shape (n_samples,), for several labels per row
            (n_samples, n_labels), in nats.

        References
        ----------
        .. [1] S. Depeweg, J. M. Hernández-Lobato, F. Doshi-Velez and S. Udluft, "Decomposition of
           Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning", ICML 2018,
           https://arxiv.org/abs/1710.07283
        """

        def split(proba: np.ndarray) -> np.ndarray:
            compute_entropy = self._first._targets.compute_entropy
            total = compute_entropy(_average(proba))
            own = np.mean([compute_entropy(of_member) for of_member in proba], axis=0)
            return np.stack([total, np.minimum(own, total)])  # larger by rounding alone

        total, aleatoric = self._reduce(X, split, axis=1)
        return Uncertainty(total, aleatoric, total - aleatoric)


class MixupEnsembleRegressor(MixupEnsemble):
    """Several mixed nets trained as one, whose predictions are averaged.

    A deep ensemble [1]_ of :class:`MixupRegressor`: the members differ in their initial weights, in the
    order of their batches, in what is mixed, and in the rows that they hold out for early stopping. The
    parts held out are a partition of the rows, so each row is predicted by the one member that did not
    train on it: `oof_prediction_`. One training step is one batched program for all members, as under
    :func:`stacked`.

    Parameters
    ----------
    estimator : MixupRegressor, default=None
        The unfitted member, which is cloned; None for the default one.

    n_members : int, default=8
        Number of members, at least 1. Two hold out half of the rows each, eight an eighth each; a
        single one `validation_fraction` of them, however few.

    random_state : int, RandomState, Generator or None, default=None
        Seeds the division of the rows and the members, whose own `random_state` is not used. None takes
        fresh entropy each fit.

    **kwargs : dict
        Options of the member, such as ``estimator__alpha``.

    Attributes
    ----------
    estimators_ : list of MixupRegressor
        The fitted members.

    held_out_by_ : ndarray of shape (n_samples,)
        Number of the member that held out each row of `X` in fit, or -1 if none did: with a single
        member, and for `groups` whose rows all weigh 0. Other rows of weight 0 have a number too, and
        no member trains on them.

    oof_prediction_ : ndarray of the shape of ``predict(X)``
        Predictions for the rows of `X` in fit, each by the member that held it out; NaN for none.

    residual_variance_ : float or ndarray of shape (n_outputs,)
        Mean squared error of `oof_prediction_`, by the weights of the rows.

    n_features_in_ : int
        Number of features seen in fit.

    feature_names_in_ : ndarray of shape (n_features_in_,)
        Names of the features, where `X` had names that are all strings.

    See Also
    --------
    MixupRegressor : A member.
    MixupEnsembleClassifier : The same for labels; its notes hold here too.

    References
    ----------
    .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive Uncertainty
       Estimation using Deep Ensembles", NeurIPS 2017, https://arxiv.org/abs/1612.01474

    Examples
    --------
    >>> from sklearn.datasets import load_diabetes
    >>> from sklearn.preprocessing import scale
    >>> from sk_mixup import MixupEnsembleRegressor
    >>> X, y = load_diabetes(return_X_y=True)
    >>> X = scale(X)
    >>> model = MixupEnsembleRegressor(n_members=4, random_state=0, estimator__max_epochs=20).fit(X, y)
    >>> bool(model.score(X, y) > 0.4)
    True
    >>> total, aleatoric, epistemic = model.predict_uncertainty(X)
    >>> bool(np.all(total == aleatoric + epistemic))
    True
    """

    member: ClassVar[type[MixupEstimator]] = MixupRegressor

    def fit(self, X: object, y: object = None, sample_weight: object = None, groups: object = None) -> Self:
        """Train all members, as one.

        Parameters
        ----------
        X, y, sample_weight, groups
            As in :meth:`MixupEnsembleClassifier.fit`.

        Returns
        -------
        self : object
            The fitted ensemble.
        """
        super().fit(X, y, sample_weight, groups)
        self._residual_variance: np.ndarray | None = None
        if self._oof is not None and y is not None:
            is_known = self.held_out_by_ >= 0
            given = as_target_array(y).astype(np.float64)  # strings and decimals are numbers, too
            error = np.square(given.reshape(self._oof.shape) - self._oof)[is_known]
            weight = check_weights(sample_weight, len(self._oof))
            weight = None if weight is None else weight[is_known]
            self._residual_variance = np.average(error, axis=0, weights=weight)
        return self

    @property
    def oof_prediction_(self) -> np.ndarray:
        """Predictions for the rows of `X` in fit, each by the member that held it out."""
        return self._get_oof()

    @property
    def residual_variance_(self) -> np.ndarray:
        """Mean squared error of `oof_prediction_`."""
        self._get_oof()
        if self._residual_variance is None:
            raise AttributeError(
                f"{type(self).__name__} has no residual variance of a Dataset: give X and y."
            )
        return self._residual_variance

    def predict(self, X: object) -> np.ndarray:
        """Predict the targets of each row: the mean of the members' predictions.

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        y : ndarray of shape (n_samples,) or (n_samples, n_outputs)
            Of the shape that `y` had in fit, of dtype float64.
        """
        return in_namespace_of(X, self._reduce(X, _average))

    def predict_uncertainty(self, X: object) -> Uncertainty:
        r"""Split the variance of each prediction into what the members disagree on and the rest.

        A prediction is a mixture of normal distributions around the members' predictions μ_m. As the
        members predict no variance of their own, each has that of the residuals of held-out rows, σ²:

        .. math:: \sigma_*^2 = \sigma^2 + \frac{1}{M} \sum_m \mu_m^2 - \mu_*^2, \qquad
           \mu_* = \frac{1}{M} \sum_m \mu_m,

        section 2.4 of [1]_; the law of total variance in [2]_, equation (3).

        Parameters
        ----------
        X : array-like or sparse matrix of shape (n_samples, *features), or Dataset
            Examples.

        Returns
        -------
        uncertainty : Uncertainty
            ``total`` is the variance, ``aleatoric`` is `residual_variance_`, the same for all rows,
            ``epistemic`` the variance of the members' predictions; each an ndarray of the shape of
            ``predict(X)``, in squared units of `y`.

        Raises
        ------
        AttributeError
            If no rows were held out: the variance of ``predict_members(X)`` is then all that is known.

        References
        ----------
        .. [1] B. Lakshminarayanan, A. Pritzel and C. Blundell, "Simple and Scalable Predictive Uncertainty
           Estimation using Deep Ensembles", NeurIPS 2017, https://arxiv.org/abs/1612.01474
        .. [2] S. Depeweg, J. M. Hernández-Lobato, F. Doshi-Velez and S. Udluft, "Decomposition of
           Uncertainty in Bayesian Deep Learning for Efficient and Risk-sensitive Learning", ICML 2018,
           https://arxiv.org/abs/1710.07283
        """
        epistemic = self._reduce(X, lambda values: values.var(axis=0))
        aleatoric = np.broadcast_to(self.residual_variance_, epistemic.shape).copy()
        return Uncertainty(aleatoric + epistemic, aleatoric, epistemic)


def _average(values: np.ndarray) -> np.ndarray:
    return np.asarray(values.mean(axis=0))


def _average_logarithms(values: np.ndarray) -> np.ndarray:
    return np.asarray(logsumexp(values, axis=0) - np.log(len(values)))
