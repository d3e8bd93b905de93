"""mixup for scikit-learn: networks trained on convex combinations of examples."""

from sk_mixup._net import MixupNetMixin
from sk_mixup.classifier import MixupClassifier
from sk_mixup.regressor import MixupRegressor

__all__ = ["MixupClassifier", "MixupNetMixin", "MixupRegressor"]
__version__ = "0.1.0"
