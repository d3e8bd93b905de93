"""Cases of the fuzz test: a script, and what may come of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
import pickle
import random
import re
import traceback
from typing import Any
import warnings

import numpy as np
import pandas as pd
from scipy import sparse
from sklearn.exceptions import DataConversionWarning, NotFittedError
import torch
from torch.utils.data import IterableDataset

from tests.fuzz import parts, scope

HOUSE = re.compile(
    r"\bmust\b.*; got .*|^y must be given: |^Found input variables with inconsistent"
    r"|^Stratified CV requires explicitly passing",  # skorch's tests ask for this of a Dataset
    re.DOTALL,
)
# Errors that scikit-learn, skorch or NumPy word themselves where they check what is given.
CHECKS = ("/sklearn/utils/", "/sklearn/base.py", "/skorch/", "/sk_mixup/")
Choose = Callable[[Sequence[Any]], Any]

KINDS = {
    "classes": ("MixupClassifier", "make_codes({seed}, {n}, 3)", parts.CLASSES, parts.BROKEN_CLASSES),
    "two": ("MixupClassifier", "make_codes({seed}, {n}, 2)", parts.TWO_CLASSES, parts.BROKEN_CLASSES),
    "multilabel": (
        "MixupClassifier",
        "make_codes({seed}, ({n}, 3), 2)",
        parts.MULTILABEL,
        parts.BROKEN_MULTILABEL,
    ),
    "value": ("MixupRegressor", "make_rows({seed} + 2, {n})[:, 0]", parts.VALUES, parts.BROKEN_VALUES),
    "values": ("MixupRegressor", "make_rows({seed} + 2, {n})[:, :2]", parts.VALUES, parts.BROKEN_VALUES),
    "unlabeled": (
        "SemiSupervisedMixupClassifier",
        "np.where(np.arange({n}) % 3, make_codes({seed}, {n}, 3), -1)",
        parts.UNLABELED,
        parts.BROKEN_CLASSES,
    ),
    "generated": ("MixupGAN", "make_codes({seed}, {n}, 2)", ["None"], ["None"]),
    "pixels": ("MixupClassifier", "make_codes({seed}, ({n}, 4, 4), 3)", parts.PIXELS, parts.BROKEN_PIXELS),
}


PREDICT = {"generated": "net.sample(5, random_state=0)"}
OWN = {
    "pixels": {"early_stopping": "False", "module": "Conv"},
    "generated": {
        "steps_per_epoch": "2",
        "discriminator_steps": "1",
        "generator__hidden_layer_sizes": "(8,)",
        "discriminator__hidden_layer_sizes": "(8,)",
    },
}
FEW = ("alpha", "lam_per", "batch_size", "storage", "channels_last")


@dataclass
class Case:
    """A script in parts; what is broken in it is named."""

    estimator: str
    kind: str
    rows: str
    targets: str
    weight: str
    X: str
    y: str
    w: str
    options: dict[str, str]
    method: str = "fit"
    broken: list[str] = field(default_factory=list)

    @property
    def is_dataset(self) -> bool:
        return any(f"{name}(" in self.X for name in ("Dataset", "Items", "Subset"))

    @property
    def is_pending(self) -> bool:
        return any(part in line for part in parts.PENDING for line in self.write())

    def write(self, *, plain: bool = False) -> list[str]:
        """Return the lines of the script, of the plain rows or of those in their form."""
        options = ", ".join(f"{name}={value}" for name, value in self.options.items())
        weight = "None" if self.w == "None" else "w"
        X, y, w = ("X", "y", weight) if plain else (self.X, self.y, self.w)
        arguments = "given[0], given[1], sample_weight=given[2]"
        return [
            f"X = {self.rows}",
            f"y = {self.targets}",
            f"w = {self.weight}",
            f"given = [{X}, {y}, {w}]",
            f"net = {self.estimator}({options})",
            f"net.{self.method}({'given[0]' if self.kind == 'generated' else arguments})",
        ]

    def __str__(self) -> str:
        lines = [
            "from tests.fuzz.scope import *",
            "",
            *self.write(),
            f"print({PREDICT.get(self.kind, 'net.predict(given[0])')})",
        ]
        return "\n".join(lines)


def make_case(choose: Choose, kind: str) -> Case:
    """Put a case together; at most one part of it is broken."""
    estimator, targets, forms, wrong_forms = KINDS[kind]
    seed, n = choose(range(4)), choose([24, 13])
    level, X = _choose_rows(choose, kind)
    make = "make_images" if kind == "pixels" else "make_rows"
    held = X in parts.DATASETS or kind == "generated"
    options = {"max_epochs": "1", "random_state": "0", "batch_size": "8"}
    case = Case(
        estimator,
        kind,
        f"{make}({seed}, {n}, {level!r})",
        targets.format(seed=seed, n=n),
        f"1.0 + np.arange({n}) % 3",
        X,
        "None" if held else choose(forms),
        "None" if held or choose([True, True, False]) else choose(parts.WEIGHTS),
        options | OWN.get(kind, {"early_stopping": "False"}),
        choose(["fit", "fit", "fit", "partial_fit"]),
    )
    _choose_options(choose, case)
    _break(choose, case, wrong_forms)
    return case


def _choose_rows(choose: Choose, kind: str) -> tuple[str, str]:
    if kind == "pixels":
        return "real", choose(parts.IMAGES)
    level = choose(["real", "real", "real", "integer", "natural", "bit", "dataset"])
    if level == "dataset" and kind not in ("unlabeled", "generated"):
        return "real", choose(parts.DATASETS)
    level = "real" if level == "dataset" else level
    is_dense = kind == "generated"  # a GAN takes no sparse rows
    return level, choose([X for X in parts.TABLES[level] if not (is_dense and "parse" in X)])


def _list_options(kind: str) -> dict[str, tuple[list[str], list[str]]]:
    if kind == "generated":
        return parts.GANS
    if kind == "pixels":  # its module is no MLP
        return {name: parts.OPTIONS[name] for name in FEW}
    own = {"value": parts.OF_VALUES, "values": parts.OF_VALUES, "classes": parts.OF_CLASSES}
    if kind != "unlabeled":
        return parts.OPTIONS | own.get(kind, {})
    kept = set(parts.OPTIONS) - {"n_mixed", "warmup_epochs", "cooldown_epochs", "cuda_graph"}
    kept -= {name for name in kept if name.startswith("iterator_train")}
    return {name: parts.OPTIONS[name] for name in sorted(kept)} | parts.OF_PARTIAL


def _choose_options(choose: Choose, case: Case) -> None:
    options = _list_options(case.kind)
    for _ in range(choose([0, 1, 2, 3])):
        name = choose(list(options))
        if options[name][0]:
            case.options[name] = choose(options[name][0])
    if "module" in case.options:
        case.options = {k: v for k, v in case.options.items() if not k.startswith("module__")}
        if case.kind not in ("classes", "multilabel") and "(" in case.options["module"]:
            case.options["module"] = "nn.Linear"


def _break(choose: Choose, case: Case, wrong_forms: list[str]) -> None:
    broken = ["X", "option"] if case.kind == "generated" else ["X", "y", "w", "option"]
    part = choose(["nothing", "nothing", *broken])
    options = {name: wrong for name, (_, wrong) in _list_options(case.kind).items() if wrong}
    if part == "X" and case.kind != "pixels":
        case.X = choose(parts.BROKEN_TABLES)
    elif part == "y":
        case.X, case.y = "X", choose(wrong_forms)
    elif part == "w":
        case.w = choose(parts.BROKEN_WEIGHTS)
    elif part == "option":
        name = choose(list(options))
        case.options[name] = choose(options[name])
    else:
        return
    case.broken.append(part)


# -- running -----------------------------------------------------------------------------


@dataclass
class Outcome:
    """What came of a script."""

    net: Any = None
    given: Any = None
    error: Exception | None = None
    predictions: np.ndarray | None = None
    complaints: list[str] = field(default_factory=list)


def run(lines: list[str]) -> Outcome:
    """Run a script, and predict; note what must not happen."""
    outcome = Outcome()
    names = dict(vars(scope))
    for line in lines[:-2]:
        exec(line, names)
    outcome.given = names["given"]
    before = [_freeze(part) for part in outcome.given]
    with _watch(outcome):
        try:
            for line in lines[-2:]:
                exec(line, names)
            outcome.net = names["net"]
            outcome.predictions = _predict(outcome)
        except Exception as error:
            outcome.error = error
            outcome.complaints += _judge_error(error)
    if [_freeze(part) for part in outcome.given] != before:
        outcome.complaints.append("an input was changed")
    return outcome


def _predict(outcome: Outcome) -> np.ndarray:
    net, X = outcome.net, outcome.given[0]
    if hasattr(net, "sample"):
        return np.asarray(net.sample(5, random_state=0), dtype=np.float64)
    output = net.predict_proba(X) if hasattr(net, "classes_") else net.predict(X)
    labels = net.predict(X)
    if not isinstance(X, IterableDataset) and len(labels) != _count(X):
        outcome.complaints.append(f"predictions of shape {labels.shape}")
    if not np.isfinite(output).all():
        outcome.complaints.append("predictions that are not finite")
    return np.asarray(output, dtype=np.float64)


def _count(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _freeze(part: Any) -> Any:
    """Return what can be compared of an array in any form, before and after."""
    if isinstance(part, torch.Tensor) and part.device.type == "cpu" and part.layout == torch.strided:
        return str(part.detach().tolist())
    if sparse.issparse(part):
        return part.toarray().tobytes()
    if isinstance(part, np.ndarray):
        return pickle.dumps(part)
    if isinstance(part, list | dict | pd.DataFrame | pd.Series):
        return repr(part)
    return None


@contextmanager
def _watch(outcome: Outcome) -> Iterator[None]:
    """Note warnings of an inner kind, and global generators that were drawn from."""
    states = _get_states()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    for name, state, other in zip(("random", "numpy", "torch"), states, _get_states(), strict=True):
        if state != other:
            outcome.complaints.append(f"the global generator of {name} was drawn from")
    outcome.complaints += [f"warning: {w.message}" for w in caught if not _is_ours(w)]


def _get_states() -> tuple[Any, bytes, bytes]:
    return random.getstate(), pickle.dumps(np.random.get_state()), torch.get_rng_state().numpy().tobytes()  # noqa: NPY002


def _is_ours(warning: warnings.WarningMessage) -> bool:
    text = str(warning.message)
    return (
        issubclass(warning.category, DataConversionWarning)
        or bool(HOUSE.search(text))
        or "; got " in text
        or "unique classes" in text
        or "least populated class" in text
    )


def _judge_error(error: Exception) -> list[str]:
    """Say what is wrong with an error: its type, or that it comes from within."""
    if not isinstance(error, ValueError | TypeError | NotFittedError):
        return [f"{type(error).__name__}: {error}"]
    if HOUSE.search(_read(error)):
        return []
    last = traceback.extract_tb(error.__traceback__)[-1].filename
    if any(place in last for place in CHECKS[:3]) and "/site-packages/" in last:
        return []
    return [f"inner {type(error).__name__}: {error}"]


def _read(error: BaseException) -> str:
    """Return what a user reads: the message, which may be skorch's own sentence, and its notes."""
    return "\n".join([str(error), *getattr(error, "__notes__", [])])


def judge(case: Case) -> list[str]:
    """Run a case, and say what must not come of it; nothing if all is well."""
    outcome = run(case.write())
    complaints = outcome.complaints
    if case.broken or "Stream" in case.X:
        return complaints
    plain = run(case.write(plain=True))
    refused = outcome.error is not None and HOUSE.search(_read(outcome.error))
    if refused and case.is_dataset:  # it may lack what arrays have, such as neighbours
        return complaints
    if (
        "eighbor" in case.options.get("partners", "") and "arse" in case.X
    ):  # equally near rows in another order
        return complaints
    if (plain.error is None) != (outcome.error is None):
        return [*complaints, f"plain rows give {plain.error!r}, these give {outcome.error!r}"]
    if plain.predictions is None or outcome.predictions is None:
        return complaints
    if plain.predictions.shape != outcome.predictions.shape:
        return [*complaints, f"shape {outcome.predictions.shape} for {plain.predictions.shape}"]
    scale = float(np.max(np.abs(plain.predictions), initial=1.0))
    gap = float(np.max(np.abs(plain.predictions - outcome.predictions), initial=0.0)) / scale
    return complaints if gap < 1e-3 else [*complaints, f"predictions differ by {gap:.2g} from plain rows"]
