"""mixup for scikit-learn: networks trained on convex combinations of examples."""

from sk_mixup._net import MixupNetMixin
from sk_mixup.classifier import MixupClassifier
from sk_mixup.gan import MixupGAN
from sk_mixup.regressor import MixupRegressor
from sk_mixup.semi_supervised import SemiSupervisedMixupClassifier
from sk_mixup.stacking import fit_stacked, stacked

__all__ = [
    "MixupClassifier",
    "MixupGAN",
    "MixupNetMixin",
    "MixupRegressor",
    "SemiSupervisedMixupClassifier",
    "fit_stacked",
    "stacked",
]
__version__ = "0.1.0"
