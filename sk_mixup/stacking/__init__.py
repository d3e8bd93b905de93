"""Many nets trained as one program: for searches, ensembles and lists of fits."""

from sk_mixup.stacking._context import StackedBackend, fit_stacked, stacked

__all__ = ["StackedBackend", "fit_stacked", "stacked"]
