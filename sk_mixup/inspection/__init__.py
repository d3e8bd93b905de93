"""Looking inside a classifier: between examples, its probabilities, under attack, with wrong labels.

Each part is a function that returns arrays and a display that draws them, for any fitted
classifier with ``predict_proba``; gradients need a torch module. Decision boundaries are drawn
by scikit-learn's own ``DecisionBoundaryDisplay``. ``compare_alphas`` says of any mixup estimator
whether mixing helps on a table. matplotlib comes with the extra ``inspection``.
"""

from sk_mixup.inspection.alphas import AlphaDisplay, compare_alphas
from sk_mixup.inspection.between import BetweenDisplay, between_curves
from sk_mixup.inspection.memorization import MemorizationDisplay, memorization_errors
from sk_mixup.inspection.reliability import (
    ReliabilityDisplay,
    fit_temperature,
    reliability_curve,
    scale_temperature,
)
from sk_mixup.inspection.robustness import RobustnessDisplay, adversarial_examples, robustness_curve

__all__ = [
    "AlphaDisplay",
    "BetweenDisplay",
    "MemorizationDisplay",
    "ReliabilityDisplay",
    "RobustnessDisplay",
    "adversarial_examples",
    "between_curves",
    "compare_alphas",
    "fit_temperature",
    "memorization_errors",
    "reliability_curve",
    "robustness_curve",
    "scale_temperature",
]
