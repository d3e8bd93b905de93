"""mixup for scikit-learn: networks trained on convex combinations of examples."""

from sk_mixup._skorch.distributed import AccelerateMixin
from sk_mixup._skorch.net import MixupNetMixin
from sk_mixup._versions import show_versions
from sk_mixup.estimators import (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
    get_trusted_types,
)
from sk_mixup.stacking import fit_stacked, stacked

__all__ = [
    "AccelerateMixin",
    "MixupClassifier",
    "MixupEnsembleClassifier",
    "MixupEnsembleRegressor",
    "MixupGAN",
    "MixupNetMixin",
    "MixupRegressor",
    "SemiSupervisedMixupClassifier",
    "fit_stacked",
    "get_trusted_types",
    "show_versions",
    "stacked",
]
__version__ = "0.1.0"
