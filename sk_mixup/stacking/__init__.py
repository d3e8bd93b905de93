"""Many nets trained as one program: for searches, ensembles and lists of fits."""

from sk_mixup.stacking._context import fit_stacked, stacked
from sk_mixup.stacking._joblib_backend import StackedBackend

__all__ = ["StackedBackend", "fit_stacked", "stacked"]
