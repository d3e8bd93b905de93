"""Fused kernels of optimizers are used only where they do what torch's plain kernels do."""

import copy
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNetClassifier
from skorch.callbacks import Freezer, Unfreezer
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupGAN, MixupNetMixin
from sk_mixup.mixing import ERM

N_FEATURES, N_CLASSES = 4, 3
X = np.random.default_rng(0).normal(size=(40, N_FEATURES)).astype(np.float32)
Y = np.arange(40) % N_CLASSES
SIMPLE = [torch.optim.SGD, torch.optim.Adagrad]
OPTIMIZERS = [*SIMPLE, torch.optim.Adam, torch.optim.AdamW, torch.optim.RMSprop]
CASES = [(build, dtype) for build in OPTIMIZERS for dtype in (torch.float32, torch.float64, torch.bfloat16)]
# Squares of small gradients are 0 in half precision, whatever computes them.
CASES += [(torch.optim.SGD, torch.float16)]


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


def make_module() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(N_FEATURES, 33), nn.ReLU(), nn.Linear(33, N_CLASSES))


def train_by_hand(
    module: nn.Module, x: Tensor, y: Tensor, n_steps: int, build: Any, in_single: bool = False, **options: Any
) -> None:
    """Train on all rows at once, by torch's kernel of one operation at a time.

    `in_single` is whether losses of half precision are computed in single, as the estimators do.
    """
    optimizer = build(module.parameters(), foreach=False, **options)
    for _ in range(n_steps):
        optimizer.zero_grad()
        output = module(x)
        wide = torch.promote_types(output.dtype, torch.float32) if in_single else output.dtype
        nn.functional.cross_entropy(output.to(wide), y).backward()
        optimizer.step()


def fit(owner: Any, module: nn.Module, x: Any, y: Any, **options: Any) -> nn.Module:
    own = {"early_stopping": False} if owner is MixupClassifier else {"criterion": nn.CrossEntropyLoss}
    own |= {"train_split": None, "batch_size": -1, "verbose": 0, "iterator_train__shuffle": False}
    net = owner(module, vicinity=ERM(), random_state=0, **own, **options).fit(x, y)
    trained: nn.Module = net.module_
    return trained


def get_gap(module: nn.Module, other: nn.Module) -> float:
    pairs = zip(module.parameters(), other.parameters(), strict=True)
    return max(float((a.detach().double() - b.detach().double()).abs().max()) for a, b in pairs)


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize(("build", "dtype"), CASES, ids=str)
def test_every_weight_is_trained_in_every_dtype(owner: Any, build: Any, dtype: torch.dtype) -> None:
    module = make_module().to(dtype)
    by_hand, x, y = copy.deepcopy(module), torch.tensor(X).to(dtype), torch.tensor(Y)
    lr = 0.5 if build is torch.optim.SGD else 0.1
    train_by_hand(by_hand, x, y, 3, build, owner is MixupClassifier, lr=lr)
    trained = fit(owner, copy.deepcopy(module), x, y, optimizer=build, lr=lr, max_epochs=3)
    assert get_gap(trained, by_hand) <= 16 * torch.finfo(dtype).eps
    moved = [p != q for p, q in zip(trained.parameters(), module.parameters(), strict=True)]
    assert torch.cat([part.flatten() for part in moved]).float().mean() > 0.7


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize(
    "options",
    [{"optimizer__momentum": 0.9}, {"optimizer__momentum": 0.9, "optimizer__nesterov": True}, {}],
    ids=str,
)
@pytest.mark.parametrize("build", [torch.optim.SGD, torch.optim.Adam])
def test_weights_that_are_unfrozen_later_are_trained(owner: Any, options: Any, build: Any) -> None:
    options = options if build is torch.optim.SGD else {}
    module = make_module()
    callbacks = [Freezer("0.*"), Unfreezer("0.*", at=3)]
    trained = fit(
        owner,
        copy.deepcopy(module),
        X,
        Y,
        optimizer=build,
        lr=0.1,
        max_epochs=5,
        callbacks=callbacks,
        **options,
    )
    x, y = torch.tensor(X), torch.tensor(Y)
    own = {name.partition("__")[2]: value for name, value in options.items()}
    optimizer = build(module.parameters(), lr=0.1, foreach=False, **own)
    for epoch in range(1, 6):
        for p in module[0].parameters():  # type: ignore[index]
            p.requires_grad = epoch >= 3
        optimizer.zero_grad()
        nn.functional.cross_entropy(module(x), y).backward()
        optimizer.step()
    assert get_gap(trained, module) < 1e-5


class Bag(nn.Module):
    """Codes of categories, with gradients for the rows that occur."""

    def __init__(self) -> None:
        super().__init__()
        self.bag = nn.EmbeddingBag(5, 8, sparse=True)
        self.last = nn.Linear(8, N_CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(self.bag(x))
        return out


@pytest.mark.filterwarnings("ignore:Sparse invariant checks are implicitly disabled")
@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("build", SIMPLE)
def test_sparse_gradients_are_taken(owner: Any, build: Any) -> None:
    torch.manual_seed(0)
    module, codes = Bag(), np.random.default_rng(0).integers(0, 5, size=(40, 4))
    by_hand = copy.deepcopy(module)
    train_by_hand(by_hand, torch.tensor(codes), torch.tensor(Y), 3, build, lr=0.1)
    trained = fit(owner, module, codes, Y, optimizer=build, lr=0.1, max_epochs=3)
    assert get_gap(trained, by_hand) < 1e-6


@pytest.mark.parametrize("build", [torch.optim.SGD, torch.optim.Adam])
def test_a_recorded_step_is_fused(build: Any) -> None:
    """Only so does a CUDA graph follow a schedule."""
    net = MixupClassifier(make_module(), optimizer=build, early_stopping=False, max_epochs=1).fit(X, Y)
    assert bool(net.optimizer_.param_groups[0]["fused"]) is (build is torch.optim.Adam)
    net.cuda_graph = True
    net.initialize_optimizer()
    assert net.optimizer_.param_groups[0]["fused"]


@pytest.mark.parametrize("build", SIMPLE)
def test_a_gan_of_half_precision_trains_every_weight(build: Any) -> None:
    torch.manual_seed(0)
    parts = [nn.Linear(N_FEATURES, N_FEATURES).bfloat16(), nn.Linear(N_FEATURES, 1).bfloat16()]
    gan = MixupGAN(
        parts[0], parts[1], optimizer=build, lr=0.5, noise_features=N_FEATURES, batch_size=20, max_epochs=2,
        random_state=0,
    ).fit(X)  # fmt: skip
    for before, after in zip(parts, (gan.generator_, gan.discriminator_), strict=True):
        assert (before.weight != after.weight).float().mean() > 0.7
