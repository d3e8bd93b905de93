"""Fits that ``speed`` compares: sk-mixup, scikit-learn, skorch and a loop written by hand."""

from collections.abc import Callable
from typing import Any
import warnings

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.neural_network import MLPClassifier
from skorch import NeuralNetClassifier
import torch
from torch import nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)

from benchmarks.harness.interleaved_timing import interleave
from sk_mixup import MixupClassifier
from sk_mixup.modules import MLP

__all__ = [
    "ALPHA",
    "HIDDEN",
    "LR",
    "SmallConvNet",
    "make_fits",
    "make_images",
    "make_net",
    "make_table",
    "time_epochs",
    "time_image_fits",
    "time_predictions",
]

HIDDEN = (128, 128)
LR = 1e-3
ALPHA = 0.2

Seconds = dict[str, list[float]]


def make_table(n_samples: int, n_features: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return normal inputs (float32) and random labels: times do not depend on the values."""
    generator = np.random.default_rng(0)
    X = generator.standard_normal((n_samples, n_features), dtype=np.float32)
    y = generator.integers(n_classes, size=n_samples)
    y[:n_classes] = np.arange(n_classes)
    return X, y


def make_images(n_samples: int) -> tuple[np.ndarray, np.ndarray]:
    """Return random images of CIFAR's shape, and labels of ten classes."""
    X, y = make_table(n_samples, 3 * 32 * 32, 10)
    return X.reshape(-1, 3, 32, 32), y


class SmallConvNet(nn.Sequential):
    """The net of PyTorch's own tutorial on CIFAR-10: two convolutions, three linear layers."""

    def __init__(self) -> None:
        super().__init__(
            *(nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2)),
            *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()),
            *(nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10)),
        )


def make_net(module: Any, alpha: float, **options: Any) -> MixupClassifier:
    """Return a classifier that holds nothing out; `module` None is the default net."""
    settings: dict[str, Any] = {"early_stopping": False, "lr": LR, "random_state": 0} | options
    return MixupClassifier(MLP if module is None else module, alpha=alpha, **settings)


def make_fits(
    X: np.ndarray, y: np.ndarray, *, batch_size: int, epochs: int, device: str = "cpu", **options: Any
) -> dict[str, Callable[[], Any]]:
    """Return what fits the same net with the same optimizer: one contender a library."""
    shared: dict[str, Any] = {"batch_size": batch_size, "max_epochs": epochs, "device": device}
    ours = shared | options
    skorch_options = shared | {"lr": LR, "train_split": None, "verbose": 0, "optimizer": torch.optim.Adam}
    sizes = {"module__in_features": X.shape[1], "module__out_features": int(y.max()) + 1}

    def fit_skorch(**options: Any) -> None:
        loss = nn.CrossEntropyLoss
        NeuralNetClassifier(MLP, criterion=loss, **sizes, **skorch_options, **options).fit(X, y)

    def fit_loop() -> None:
        module = MLP(X.shape[1], int(y.max()) + 1, HIDDEN).to(device)
        fit_by_hand(module, X, y, batch_size=batch_size, epochs=epochs, device=device)

    def fit_sklearn() -> None:
        size = min(batch_size, len(X))
        net = MLPClassifier(HIDDEN, batch_size=size, max_iter=epochs, n_iter_no_change=epochs + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            net.fit(X, y)

    fits: dict[str, Callable[[], Any]] = {
        "mixup": lambda: make_net(None, ALPHA, **ours).fit(X, y),
        "erm": lambda: make_net(None, 0, **ours).fit(X, y),
        "sklearn": fit_sklearn,
        "skorch": fit_skorch,
        "skorch-shuffled": lambda: fit_skorch(iterator_train__shuffle=True),
        "loop": fit_loop,
    }
    if torch.device(device).type != "cpu":
        del fits["sklearn"]
    return fits


def fit_by_hand(
    module: nn.Module, X: np.ndarray, y: np.ndarray, *, batch_size: int, epochs: int, device: str = "cpu"
) -> None:
    """Train without mixup as a PyTorch user writes it who knows of whole tensors and fused Adam."""
    x, labels = torch.as_tensor(X, device=device), torch.as_tensor(y, device=device)
    optimizer = torch.optim.Adam(module.parameters(), lr=LR, fused=True)
    for _ in range(epochs):
        for rows in torch.split(torch.randperm(len(x), device=device), batch_size):
            optimizer.zero_grad()
            torch.autograd.backward(F.cross_entropy(module(x[rows]), labels[rows]))
            optimizer.step()


def time_epochs(n_rounds: int, make_net: Callable[[float], Any], X: np.ndarray, y: np.ndarray) -> Seconds:
    """Return the time of all epochs but the first, of mixup and of plain training in turns."""
    epochs: Seconds = {"mixup": [], "erm": []}

    def fit(name: str, alpha: float) -> None:
        durations = make_net(alpha).fit(X, y).history[:, "dur"]
        epochs[name].append(float(np.sum(durations[1:])))

    interleave({"mixup": lambda: fit("mixup", ALPHA), "erm": lambda: fit("erm", 0)}, n_rounds)
    return {name: seconds[1:] for name, seconds in epochs.items()}


def time_image_fits(n_rounds: int, n_samples: int, epochs: int) -> Seconds:
    """Return times of fits of the small convolutional net, by library."""
    X, y = make_images(n_samples)
    options = {"max_epochs": epochs, "batch_size": 128}
    return interleave(
        {
            "mixup": lambda: make_net(SmallConvNet, ALPHA, **options).fit(X, y),
            "erm": lambda: make_net(SmallConvNet, 0, **options).fit(X, y),
            "loop": lambda: fit_by_hand(SmallConvNet(), X, y, batch_size=128, epochs=epochs),
        },
        n_rounds,
    )


def time_predictions(n_rounds: int, n_samples: int) -> Seconds:
    """Return times of ``predict_proba``, ours and scikit-learn's; of few rows, of many calls."""
    X, y = make_table(max(n_samples, 1000), 54, 7)
    few, calls = slice(0, 1000), range(max(1, 10_000 // max(n_samples, 50)))
    ours = make_net(None, ALPHA, max_epochs=1).fit(X[few], y[few])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        theirs = MLPClassifier(HIDDEN, max_iter=1).fit(X[few], y[few])
    X = X[:n_samples]
    contenders = {
        "mixup": lambda: [ours.predict_proba(X) for _ in calls],
        "sklearn": lambda: [theirs.predict_proba(X) for _ in calls],
    }
    seconds = interleave(contenders, n_rounds)
    return {name: [value / len(calls) for value in values] for name, values in seconds.items()}
