"""What files of skops hold of the estimators."""

from __future__ import annotations

from collections.abc import Iterator
import inspect

from skorch import callbacks
from torch import nn, optim

from sk_mixup import mixing
from sk_mixup.estimators.classifier import MixupClassifier
from sk_mixup.estimators.ensemble import MixupEnsembleClassifier, MixupEnsembleRegressor
from sk_mixup.estimators.gan import MixupGAN
from sk_mixup.estimators.regressor import MixupRegressor
from sk_mixup.estimators.semi_supervised import SemiSupervisedMixupClassifier
from sk_mixup.modules import MLP

__all__ = ["get_trusted_types"]

ESTIMATORS = (
    MixupClassifier,
    MixupEnsembleClassifier,
    MixupEnsembleRegressor,
    MixupGAN,
    MixupRegressor,
    SemiSupervisedMixupClassifier,
)
# Those that write no files and call nothing that they are given.
CALLBACKS = (
    callbacks.BatchScoring,
    callbacks.EarlyStopping,
    callbacks.EpochScoring,
    callbacks.EpochTimer,
    callbacks.GradientNormClipping,
    callbacks.LRScheduler,
    callbacks.PassthroughScoring,
    callbacks.PrintLog,
    callbacks.ProgressBar,
)


def get_trusted_types() -> list[str]:
    """Return the types to be trusted where skops loads an estimator of this package.

    Returns
    -------
    names : list of str
        The estimators, which are all that is needed for default options; and what other options
        may be: modules, losses and optimizers of torch, schedulers of learning rates, policies of
        :mod:`sk_mixup.mixing` and callbacks of skorch that write no files. To load one of them
        runs no code that the file brings along.

    Notes
    -----
    A module, callback or subclass of your own is to be trusted by its name besides:
    ``[*get_trusted_types(), "my_package.nets.Net"]``. What an estimator of this package is saved as
    holds no pickle: weights, the optimizer's state and the generator are arrays and numbers. What
    follows from the options, such as the module, is built anew, and then given these; so a loaded
    estimator predicts, and goes on training, as the saved one, bit for bit. Hooks on a fitted
    module, and what a callback remembers between two calls of ``fit``, are not saved.

    Examples
    --------
    >>> from sk_mixup import get_trusted_types
    >>> "sk_mixup.estimators.classifier.MixupClassifier" in get_trusted_types()
    True
    """
    types = {*ESTIMATORS, MLP, *CALLBACKS, *_find(mixing, mixing.Vicinity), *_find(mixing, mixing.Partners)}
    types |= {*_find(nn, nn.Module), *_find(optim, optim.Optimizer)}
    types |= {*_find(optim.lr_scheduler, optim.lr_scheduler.LRScheduler)}
    return sorted(f"{kind.__module__}.{kind.__qualname__}" for kind in types)


def _find(module: object, base: type) -> Iterator[type]:
    """Return the public classes of a module."""
    for name, value in vars(module).items():
        if inspect.isclass(value) and issubclass(value, base) and not name.startswith("_"):
            yield value
