"""Partners of a class, or of similar targets, are those of the rows that a Subset holds."""

from collections.abc import Callable
from typing import Any

import numpy as np
from skorch import NeuralNetClassifier, NeuralNetRegressor
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, Subset

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup.mixing import KernelPartners
from tests.helpers.datasets import Items
from tests.helpers.sampling import each_pair

N, N_CLASSES = 60, 3
CLASSES = np.random.default_rng(0).permutation(np.arange(N) % N_CLASSES)
PERMUTATION = np.random.default_rng(1).permutation(N)


class MixedClassifier(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


class MixedRegressor(MixupNetMixin, NeuralNetRegressor):
    """A regressor of skorch's that mixes."""


class Seen(nn.Linear):
    """Keeps the rows that it is trained on."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__(N_CLASSES, n_outputs)
        self.rows: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.rows += [x.detach()] * self.training
        return super().forward(x)


def make_classes(row: int) -> tuple[Tensor, int]:
    """Return a row that tells its class."""
    return torch.eye(N_CLASSES)[CLASSES[row]], int(CLASSES[row])


def make_targets(row: int) -> tuple[Tensor, Tensor]:
    return torch.eye(N_CLASSES)[CLASSES[row]], torch.tensor([100.0 * CLASSES[row]])


# Within a class alone, or within it as good as surely.
Owner = tuple[type, Callable[[int], Any], dict[str, Any]]
OWNERS: dict[str, Owner] = {
    "net": (MixedClassifier, make_classes, {"partners": "same_class", "criterion": nn.CrossEntropyLoss}),
    "classifier": (MixupClassifier, make_classes, {"partners": "same_class"}),
    "real net": (MixedRegressor, make_targets, {"partners": KernelPartners(0.01)}),
    "regressor": (MixupRegressor, make_targets, {"partners": KernelPartners(0.01)}),
}
WRAPS: dict[str, Callable[[Dataset], Dataset]] = {
    "whole": lambda pairs: pairs,
    "in another order": lambda pairs: Subset(pairs, PERMUTATION.tolist()),
    "later rows": lambda pairs: Subset(pairs, range(30, N)),
    "rows twice": lambda pairs: Subset(pairs, [*range(40, N), *range(40, N)]),
    "subset of a subset": lambda pairs: Subset(Subset(pairs, PERMUTATION.tolist()), range(20, 50)),
}


def take_twice(dataset: Any, y: object = None) -> Any:
    """Hold out every third row, by numbers within numbers."""
    n_rows = len(dataset)
    turned = Subset(dataset, range(n_rows - 1, -1, -1))
    own = [row for row in range(n_rows) if row % 3]
    return Subset(turned, own), Subset(turned, range(0, n_rows, 3))


SPLITS: dict[str, Callable[[Dataset], Any]] = {
    "none": lambda pairs: None,
    "predefined": predefined_split,
    "folds": lambda pairs: ValidSplit(4),
    "own": lambda pairs: take_twice,
    "own order": lambda pairs: lambda dataset, y=None: (Subset(dataset, range(len(dataset))[::-1]), None),
}


# A net of skorch's knows no targets but those that it is given.
GIVEN = [(name, True) for name in OWNERS] + [("classifier", False), ("regressor", False)]


@each_pair(
    {
        "name,gives_y": GIVEN,
        "wrap": WRAPS,
        "split": SPLITS,
    }
)
def test_partners_are_of_the_same_class(name: str, gives_y: bool, wrap: str, split: str) -> None:
    owner, make, options = OWNERS[name]
    pairs = Items(N, make)
    X: Any = WRAPS[wrap](pairs)
    y = np.array([float(X[row][1]) for row in range(len(X))], dtype=np.float32)
    y = y[:, None] if name == "real net" else y if name == "regressor" else y.astype(np.int64)
    own = {"early_stopping": False} if owner in (MixupClassifier, MixupRegressor) else {}
    n_outputs = 1 if owner in (MixedRegressor, MixupRegressor) else N_CLASSES
    given = {"train_split": SPLITS[split](pairs), "max_epochs": 2, "verbose": 0, "batch_size": 7, **own}
    net = owner(Seen, module__n_outputs=n_outputs, **given, **options, alpha=np.inf, random_state=0)
    net.fit(X, y if gives_y else None)
    assert (torch.cat(net.module_.rows).amax(dim=1) == 1).all()  # else a row would be between two classes


def test_early_stopping_holds_out_rows_of_a_subset() -> None:
    options = {"partners": "same_class", "early_stopping": True, "max_epochs": 2, "random_state": 0}
    X = Subset(Items(N, make_classes), PERMUTATION.tolist())
    net = MixupClassifier(Seen, module__n_outputs=N_CLASSES, alpha=np.inf, **options).fit(X)
    assert sum(net.history[0, "batches", :, "train_batch_size"]) == 54
    assert (torch.cat(net.module_.rows).amax(dim=1) == 1).all()
