"""Options and files of MixupGAN, as mixins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
import inspect
import json
import os
from pathlib import Path
import tempfile
from typing import Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator
from skorch.utils import params_for
from torch import nn

from sk_mixup._skorch.step import NetBase
from sk_mixup._validation import (
    check_names,
    did_you_mean,
)

__all__ = ["PersistenceMixin", "StoredOptionsMixin"]


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


# What a fit learns beside the weights. It travels in the header of a safetensors file.
LEARNED = (
    "classes_inferred_",
    "feature_names_in_",
    "n_features_in_",
    "_dense",
    "_encodes_dense",
    "_flat_targets",
    "_multilabel",
    "_n_inputs",
    "_n_outputs",
    "_shape_in",
)
HEADER = "sk_mixup"


class PersistenceMixin(StoredOptionsMixin):
    """Atomic ``save_params``, and ``load_params`` of a whole estimator from safetensors."""

    def save_params(
        self,
        f_params: Any = None,
        f_optimizer: Any = None,
        f_criterion: Any = None,
        f_history: Any = None,
        use_safetensors: bool = False,
        **kwargs: Any,
    ) -> None:
        """Save the module's weights, and what else is asked for.

        Parameters
        ----------
        f_params : str, path or file-like object, default=None
            Where the weights go. With ``use_safetensors=True`` the file also holds the
            classes and the features seen in fit, so that :meth:`load_params` restores an
            estimator that predicts.
        f_optimizer, f_criterion, f_history : str, path or file-like object, default=None
            Where the optimizer's state, the criterion's and the history go.
        use_safetensors : bool, default=False
            Write safetensors files, which hold no pickle. The optimizer's state cannot be
            written so.
        **kwargs : dict
            ``f_<name>`` of further components, as in skorch.

        Notes
        -----
        A file named by its path appears whole or not at all.
        """
        if f_params is None:  # skorch's other name for it, which its checkpoints use
            f_params = kwargs.pop("f_module", None)
        files = {"f_params": f_params, "f_optimizer": f_optimizer, "f_criterion": f_criterion}
        files |= {"f_history": f_history, **kwargs}
        with _whole_files(files) as paths:
            if use_safetensors and f_params is not None:
                self.check_is_fitted()
                self._save_module(paths.pop("f_params"))
                if not any(value is not None for value in paths.values()):
                    return
            super().save_params(use_safetensors=use_safetensors, **paths)

    def load_params(
        self,
        f_params: Any = None,
        f_optimizer: Any = None,
        f_criterion: Any = None,
        f_history: Any = None,
        checkpoint: Any = None,
        use_safetensors: bool = False,
        **kwargs: Any,
    ) -> None:
        """Load what :meth:`save_params` wrote.

        Parameters
        ----------
        f_params : str, path or file-like object, default=None
            The weights. A safetensors file of ours makes an estimator that was never
            fitted ready to predict; its options, such as ``module__hidden_layer_sizes``,
            must be those of the one that was saved.
        f_optimizer, f_criterion, f_history : str, path or file-like object, default=None
            The optimizer's state, the criterion's and the history.
        checkpoint : skorch.callbacks.Checkpoint, default=None
            A checkpoint to load from.
        use_safetensors : bool, default=False
            Whether the files are safetensors files.
        **kwargs : dict
            ``f_<name>`` of further components, as in skorch.
        """
        if f_params is None:  # skorch's other name for it, which its checkpoints use
            f_params = kwargs.pop("f_module", None)
        files = {"f_params": f_params, "f_optimizer": f_optimizer, "f_criterion": f_criterion}
        files |= {"f_history": f_history, **kwargs}
        with self._unchanged_on_error():
            if use_safetensors and f_params is not None:
                self._restore_learned(f_params)
            super().load_params(checkpoint=checkpoint, use_safetensors=use_safetensors, **files)

    def get_state(self) -> dict[str, Any]:
        """Return the weights and buffers that ``f_params`` holds, by name."""
        state: dict[str, Any] = self.module_.state_dict()
        return state

    def _get_shapes(self) -> dict[str, list[int]]:
        return {name: list(tensor.shape) for name, tensor in self.get_state().items()}

    def _save_module(self, file: Any) -> None:
        from safetensors.torch import save

        state = {name: tensor.contiguous() for name, tensor in self.get_state().items()}
        learned = {name: _to_json(vars(self)[name]) for name in LEARNED if name in vars(self)}
        content = save(state, metadata={HEADER: json.dumps(learned)})
        if hasattr(file, "write"):
            file.write(content)
        else:
            Path(file).write_bytes(content)

    def _restore_learned(self, file: Any) -> None:
        """Take over classes and features from the header of a safetensors file.

        A net that already has them, and weights of those shapes, is left as it is.
        """
        header = _read_header(file)
        text = header.pop("__metadata__", {}).get(HEADER)
        if text is None:
            return
        learned = json.loads(text)
        known = {name: _to_json(vars(self)[name]) for name in LEARNED if name in vars(self)}
        shapes = {name: tensor["shape"] for name, tensor in header.items()}
        if self.initialized_ and known == learned and shapes == self._get_shapes():
            return
        for name in LEARNED:
            self.__dict__.pop(name, None)
        self.__dict__.update({name: _from_json(value) for name, value in learned.items() if name in LEARNED})
        # A new module, so that weights that do not fit leave the one at hand as it was.
        history, self.history_ = self.history_, None
        self.initialize()
        self.history_ = history if history is not None else self.history_


@contextmanager
def _whole_files(files: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Give temporary names for the paths among `files`; rename them if all went well."""
    targets = {key: Path(f) for key, f in files.items() if isinstance(f, str | os.PathLike)}
    parts = {key: _make_part(path) for key, path in targets.items()}
    try:
        yield {**files, **{key: str(part) for key, part in parts.items()}}
        for key, part in parts.items():
            part.replace(targets[key])
    finally:
        for part in parts.values():
            part.unlink(missing_ok=True)


def _make_part(path: Path) -> Path:
    """Return an empty file beside `path`, with the permissions that `path` would get."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
    os.close(handle)
    mask = os.umask(0)
    os.umask(mask)
    Path(name).chmod(0o666 & ~mask)
    return Path(name)


def _read_header(file: Any) -> dict[str, Any]:
    """Read the header of a safetensors file: 8 bytes of length, then JSON."""
    if isinstance(file, str | os.PathLike):
        with Path(file).open("rb") as stream:
            return _read_header(stream)
    start = file.tell()
    length = int.from_bytes(file.read(8), "little")
    header = json.loads(file.read(length))
    file.seek(start)
    return dict(header)


def _to_json(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return {"dtype": value.dtype.str, "values": value.tolist()}
    return list(value) if isinstance(value, tuple) else value


def _from_json(value: Any) -> Any:
    if isinstance(value, dict):
        return np.asarray(value["values"], dtype=np.dtype(value["dtype"]))
    return tuple(value) if isinstance(value, list) else value
