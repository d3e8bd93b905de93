"""Options of an estimator: stored by the constructor, checked by fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
import inspect
from typing import Any, ClassVar

from sklearn.base import BaseEstimator
from skorch.utils import params_for
from torch import nn

from sk_mixup._skorch.net import MixupNetMixin
from sk_mixup._skorch.step import NetBase
from sk_mixup._validation import (
    check_bool,
    check_integer,
    check_names,
    check_real,
    did_you_mean,
)

__all__ = ["OptionsMixin", "StoredOptionsMixin"]


_EXAMPLES = {
    "module": "sk_mixup.modules.MLP",
    "generator": "sk_mixup.modules.MLP",
    "discriminator": "sk_mixup.modules.MLP",
    "optimizer": "torch.optim.Adam",
    "criterion": "torch.nn.CrossEntropyLoss",
    "iterator_train": "torch.utils.data.DataLoader",
    "iterator_valid": "torch.utils.data.DataLoader",
}


class StoredOptionsMixin(NetBase):
    """Options as scikit-learn wants them, on a skorch net.

    The constructor stores what it is given and sets nothing else; unknown names are found
    by ``fit``, before anything is built.
    """

    # What options with two underscores belong to.
    components: ClassVar[tuple[str, ...]] = (
        "module",
        "optimizer",
        "criterion",
        "iterator_train",
        "iterator_valid",
    )

    # skorch sets these in its constructor; here a constructor sets nothing but options.
    history_: Any = None
    initialized_ = False
    virtual_params_: ClassVar[dict[str, Any]] = {}

    def _store_options(self, options: dict[str, Any]) -> None:
        kwargs = options.pop("kwargs")
        self.__dict__.update({k: v for k, v in options.items() if k not in ("self", "__class__")})
        self.__dict__.update(kwargs)

    @classmethod
    @cache  # signatures took half the time of a one-epoch fit on iris
    def _get_option_names(cls) -> tuple[str, ...]:
        """Return the names in the signatures of the constructors, in order."""
        names: dict[str, None] = {}
        for owner in cls.__mro__[: cls.__mro__.index(StoredOptionsMixin)]:
            if "__init__" in vars(owner):
                parameters = inspect.signature(owner).parameters.values()
                names |= {p.name: None for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        return tuple(names)

    def _get_param_names(self) -> list[str]:
        options = self._get_option_names()
        extra = set(vars(self)) - set(options)
        return [*options, *sorted(k for k in extra if not k.startswith("_") and not k.endswith("_"))]

    @property
    def _params_to_validate(self) -> set[str]:
        return set(self._get_param_names()) - set(self._get_option_names())

    def __setattr__(self, name: str, value: Any) -> None:
        """Store options as they are; skorch would refuse a module instance."""
        if name in self._get_option_names():
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def set_params(self, **params: Any) -> Any:
        """Set options; see ``sklearn.base.BaseEstimator.set_params``."""
        known = {*self._get_option_names(), *self._get_param_names()}
        for name in params:
            if name not in known and "__" not in name:
                hint = did_you_mean(name, known) or f"Its options are {sorted(known)}."
                raise ValueError(f"Invalid parameter {name!r} for estimator {type(self).__name__}. {hint}")
        if self.initialized_:
            return super().set_params(**params)
        for name, value in params.items():
            setattr(self, name, value)
        return self

    __repr__ = BaseEstimator.__repr__

    @contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """Leave an earlier fit as it was if what is new is refused."""
        before = dict(vars(self))
        history = None if self.history_ is None else list(self.history_)
        try:
            yield
        except Exception:
            self.__dict__.clear()
            self.__dict__.update(before)
            if history is not None:  # a net that is initialized empties the one it has
                self.history_[:] = history
            raise

    def _check_names(self) -> None:
        """Check option names such as ``module__hidden_layer_sizes`` as far as they are known."""
        known = self._get_option_names()
        for name in sorted(self._params_to_validate):
            prefix, dunder, _ = name.partition("__")
            if not dunder or prefix not in {*self.prefixes_, *self.components}:
                check_names(type(self).__name__, [name], known)
        for prefix in self.components:
            self._check_component_names(prefix, self._get_component(prefix))
        names = (
            {name for name, _ in self._uniquely_named_callbacks()} if self.callbacks != "disable" else set()
        )
        given = {key.split("__")[1] for key in self._params_to_validate if key.startswith("callbacks__")}
        check_names("callbacks", given, names)

    def _get_component(self, prefix: str) -> Any:
        """Return the class or instance whose options begin with `prefix`."""
        return getattr(self, prefix)

    def _check_component_names(self, prefix: str, component: Any) -> None:
        if not callable(component) and component != "auto":
            raise TypeError(
                f"{prefix} must be a class or another callable; got {component!r}. Give the class "
                f"itself, such as {_EXAMPLES.get(prefix, _EXAMPLES['optimizer'])}."
            )
        given = {key for key in params_for(prefix, vars(self)) if "__" not in key}
        target = type(component) if isinstance(component, nn.Module) else component
        if not given or not inspect.isclass(target):
            return
        parameters = inspect.signature(target).parameters.values()
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            known = {f"{prefix}__{p.name}" for p in parameters} | {f"{prefix}__param_groups"}
            check_names(target.__name__, {f"{prefix}__{name}" for name in given}, known)


class OptionsMixin(StoredOptionsMixin, MixupNetMixin):
    """The options that :class:`MixupClassifier` and :class:`MixupRegressor` share, checked by ``fit``."""

    def check_options(self) -> None:
        """Raise if an option breaks its rule; the message names it."""
        self._check_names()
        self.check_mixing_options()
        check_bool("early_stopping", self.early_stopping, hint="Use True to hold out rows and stop by them.")
        check_integer("n_iter_no_change", self.n_iter_no_change, low=1, hint="Use 10, say.")
        check_bool("warm_start", self.warm_start, hint="Use True to go on from the last fit.")
        hint = "Give the share of the training rows to hold out."
        check_real(
            "validation_fraction", self.validation_fraction, low=0, high=1, above=True, below=True, hint=hint
        )
        check_real("lr", self.lr, low=0.0, hint="Use 1e-3 for Adam, say.")
        if self.train_split not in ("auto", None) and not callable(self.train_split):
            raise TypeError(
                f"train_split must be 'auto', None or callable; got {self.train_split!r}. Use "
                "skorch.dataset.ValidSplit for a split of your own."
            )
