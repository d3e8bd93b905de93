"""What the tests of distributed training run in each of two processes; writes what it found to a folder."""

from collections.abc import Callable, Iterator
from pathlib import Path
import sys
from typing import Any

from accelerate import Accelerator
import numpy as np
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, Checkpoint
import torch
from torch import Tensor, nn
from torch.utils.data import IterableDataset, TensorDataset

from sk_mixup import AccelerateMixin, MixupClassifier, MixupNetMixin, SemiSupervisedMixupClassifier
from sk_mixup.mixing import ManifoldMixup

N = 37
BATCH_SIZE = 8
LR = 0.1
MOMENTUM = 0.9


class Recorder:
    """Keeps what each training step is given: virtual examples, targets and weights."""

    def get_batch_loss(self, y_pred: Any, batch: Any, x: Any = None, training: bool = False) -> Tensor:
        if training:
            y, lam, _ = batch.get_mixed_targets()
            self.steps_ = [*vars(self).get("steps_", []), (x, y, lam)]
        return super().get_batch_loss(y_pred, batch, x, training)


class Classifier(Recorder, AccelerateMixin, MixupClassifier):
    """An estimator of ours."""


class Net(Recorder, AccelerateMixin, MixupNetMixin, NeuralNetClassifier):
    """A skorch net with our mixin."""


class SemiSupervised(AccelerateMixin, SemiSupervisedMixupClassifier):
    """A net with batches of its own."""


class Stream(IterableDataset):
    """The rows, in order."""

    def __init__(self, X: Any, codes: Any) -> None:
        self.rows = TensorDataset(X, codes)

    def __iter__(self) -> Iterator[Any]:
        return (self.rows[row] for row in range(len(self.rows)))


class StopOne(Callback):
    """Stop the second process's training after two epochs."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        if self.rank == 1 and len(net.history) == 2:
            raise KeyboardInterrupt


class Small(nn.Sequential):
    """A small net without statistics of its batches."""

    def __init__(self) -> None:
        super().__init__(nn.Linear(4, 6), nn.Tanh(), nn.Linear(6, 3))


class Drop(nn.Module):
    """A net with dropout and a batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.drop, self.last = nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.drop(self.norm(x)))


def make_table(n: int = N) -> tuple[Tensor, Tensor]:
    """Return rows whose first feature is their number, over 100, and codes of three classes."""
    generator = np.random.default_rng(0)
    X = generator.normal(size=(n, 4))
    X[:, 0] = np.arange(n) / 100
    return torch.as_tensor(X), torch.as_tensor(np.arange(n) % 3)


def make_options(accelerator: Any, **options: Any) -> dict[str, Any]:
    return {
        "accelerator": accelerator,
        "module": Small,
        "criterion": nn.CrossEntropyLoss,
        "optimizer": torch.optim.SGD,
        "optimizer__momentum": MOMENTUM,
        "lr": LR,
        "batch_size": BATCH_SIZE,
        "max_epochs": 2,
        "train_split": None,
        "random_state": 0,
        "verbose": 0,
    } | options


def get_state(net: Any) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in net.module_.state_dict().items()}


def report(net: Any) -> dict[str, Any]:
    losses = [epoch["train_loss"] for epoch in net.history]
    steps = vars(net).get("steps_", [])
    return {"weights": get_state(net), "losses": losses, "steps": steps, "n_epochs": len(net.history)}


def fit_twice(net: Any, X: Any, y: Any) -> dict[str, Any]:
    """Fit, and go on in a second call; the module was taken from the accelerator in between."""
    net.initialize()
    start = get_state(net)
    net.fit(X, y).partial_fit(X, y)
    return {"start": start, **report(net)}


def run_equality(accelerator: Any) -> dict[str, Any]:
    X, codes = make_table()
    found = {}
    for alpha in (0.0, 1.0):
        data = {"arrays": (X.numpy(), codes.numpy()), "dataset": (TensorDataset(X, codes), None)}
        for owner in (Classifier, Net):
            for form, rows in data.items():
                net = owner(**make_options(accelerator, alpha=alpha))
                found[f"{owner.__name__}-{form}-{alpha}"] = fit_twice(net, *rows)
    return found


def run_shares(accelerator: Any) -> dict[str, Any]:
    X, codes = (part.numpy() for part in make_table())
    cases = {
        "filled": {"alpha": 0.0, "max_epochs": 1},
        "dropped": {"alpha": 0.0, "max_epochs": 1, "iterator_train__drop_last": True},
        "ordered": {"alpha": 0.0, "max_epochs": 1, "iterator_train__shuffle": False},
        "dataset": {"alpha": 1.0, "max_epochs": 1, "partners": "dataset"},
        "same_class": {"alpha": 1.0, "max_epochs": 1, "partners": "same_class"},
        "neighbors": {"alpha": 1.0, "max_epochs": 1, "partners": "neighbors"},
        "hidden": {"vicinity": ManifoldMixup(layers=("0",))},
    }
    nets = {name: Classifier(**make_options(accelerator, **case)) for name, case in cases.items()}
    return {name: report(net.fit(X, codes)) for name, net in nets.items()}


def run_streams(accelerator: Any) -> dict[str, Any]:
    """Train with dropout, augmentation and a batch normalisation, twice."""
    X, codes = (part.numpy() for part in make_table())
    found = {}
    for call in ("first", "second"):
        drawn: list[Tensor] = []

        def augment(x: Tensor, drawn: list[Tensor] = drawn) -> Tensor:
            drawn.append(torch.rand(1))
            return x

        net = Classifier(**make_options(accelerator, module=Drop, augment=augment)).fit(X, codes)
        found[call] = {**report(net), "drawn": torch.cat(drawn)}
    return found


def run_stops(accelerator: Any, folder: Path) -> dict[str, Any]:
    """Stop early in all processes, and go back to the best epoch that was kept in a file."""
    X, codes = (part.numpy() for part in make_table())
    patient = {"early_stopping": True, "train_split": "auto", "n_iter_no_change": 2, "max_epochs": 60}
    kept = Checkpoint(dirname=folder / "kept", monitor="valid_loss_best", f_pickle=None)
    early = Classifier(**make_options(accelerator, callbacks=[kept], **patient)).fit(X, codes)
    again = Classifier(**make_options(accelerator)).partial_fit(X, codes)
    again.load_params(checkpoint=kept)
    stop = StopOne(accelerator.process_index)
    one = Classifier(**make_options(accelerator, callbacks=[stop], max_epochs=9)).fit(X, codes)
    valid = [epoch["valid_loss"] for epoch in early.history]
    found = {"early": {**report(early), "valid": valid}, "one": report(one)}
    return {**found, "again": get_state(again)}


def run_files(accelerator: Any, folder: Path) -> dict[str, Any]:
    """Predict other rows in each process, save, and load in all."""
    X, codes = (part.numpy() for part in make_table())
    net = Classifier(**make_options(accelerator)).fit(X, codes)
    rank = accelerator.process_index
    asked = slice(0, 10) if rank == 0 else slice(5, 30)
    net.save_params(f_params=folder / f"{rank}.safetensors", use_safetensors=True)
    loaded = Classifier(**make_options(accelerator))
    loaded.load_params(f_params=folder / "0.safetensors", use_safetensors=True)
    rows = TensorDataset(*make_table())
    return {
        "asked": asked,
        "proba": net.predict_proba(X[asked]),
        "of_dataset": net.predict_proba(rows),
        "loaded": loaded.predict_proba(X[asked]),
        "again": report(loaded.partial_fit(X, codes)),
    }


def run_stream(accelerator: Any) -> dict[str, Any]:
    X, codes = make_table()
    options = {"classes": [0, 1, 2], "max_epochs": 1, "alpha": 0.0}
    return report(Classifier(**make_options(accelerator, **options)).fit(Stream(X, codes)))


def run_errors(accelerator: Any) -> dict[str, str]:
    X, codes = (part.numpy() for part in make_table())
    rank = accelerator.process_index
    part = slice(0, 20 + rank)
    labels = np.where(np.arange(N) % 4, codes, -1)
    calls: dict[str, Callable[[], Any]] = {
        "no seed": lambda: Classifier(**make_options(accelerator, random_state=None)).fit(X, codes),
        "other seed": lambda: Classifier(**make_options(accelerator, random_state=rank)).fit(X, codes),
        "other rows": lambda: Classifier(**make_options(accelerator)).fit(X[part], codes[part]),
        "few rows": lambda: Net(**make_options(accelerator)).fit(X[:1], codes[:1]),
        "own batches": lambda: SemiSupervised(accelerator=accelerator, random_state=0).fit(X, labels),
    }
    return {name: _catch(call) for name, call in calls.items()}


def _catch(call: Callable[[], Any]) -> str:
    try:
        call()
    except (TypeError, ValueError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def run_accumulation(accelerator: Any) -> dict[str, Any]:
    """Accumulate four mini-batches of two rows, or take eight at once."""
    X, codes = (part.numpy() for part in make_table(32))
    options = {"alpha": 0.0}
    whole = Classifier(**make_options(accelerator, **options)).fit(X, codes)
    piecewise = Accelerator(cpu=True, gradient_accumulation_steps=4)
    parts = Classifier(**make_options(piecewise, **options, batch_size=2)).fit(X, codes)
    return {"whole": report(whole), "parts": report(parts)}


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    torch.set_default_dtype(torch.float64)
    accelerator = Accelerator(cpu=True)
    found = {
        "size": accelerator.num_processes,
        "equality": run_equality(accelerator),
        "shares": run_shares(accelerator),
        "streams": run_streams(accelerator),
        "stops": run_stops(accelerator, folder),
        "files": run_files(accelerator, folder),
        "stream": run_stream(accelerator),
        "errors": run_errors(accelerator),
        "accumulation": run_accumulation(accelerator),
    }
    torch.save(found, folder / f"found{accelerator.process_index}.pt")
    accelerator.wait_for_everyone()
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
