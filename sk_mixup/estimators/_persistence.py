"""Saving and loading a fitted estimator: whole files, and no pickle where none is wanted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
import json
import os
from pathlib import Path
import tempfile
from typing import Any

import numpy as np

from sk_mixup.estimators._options import StoredOptionsMixin

__all__ = ["PersistenceMixin"]

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
