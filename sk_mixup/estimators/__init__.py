"""scikit-learn's side: arrays and labels in, predictions out."""

from sk_mixup.estimators._trusted_types import get_trusted_types
from sk_mixup.estimators.classifier import MixupClassifier
from sk_mixup.estimators.ensemble import MixupEnsembleClassifier, MixupEnsembleRegressor
from sk_mixup.estimators.gan import MixupGAN
from sk_mixup.estimators.regressor import MixupRegressor
from sk_mixup.estimators.semi_supervised import SemiSupervisedMixupClassifier

__all__ = [
    "MixupClassifier",
    "MixupEnsembleClassifier",
    "MixupEnsembleRegressor",
    "MixupGAN",
    "MixupRegressor",
    "SemiSupervisedMixupClassifier",
    "get_trusted_types",
]
