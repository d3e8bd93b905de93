"""With autocast='float16' losses are scaled, and nothing but the range of the numbers is another."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import Callback, GradientNormClipping
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin, SemiSupervisedMixupClassifier
from tests.helpers.nets import get_weights
from tests.helpers.sampling import each_pair

N = 32
X = np.random.default_rng(0).normal(size=(N, 5)).astype(np.float32)
CODES = np.arange(N) % 3


class Mixed(MixupNetMixin, NeuralNetClassifier):
    """A classifier of skorch's that mixes."""


OWNERS: dict[str, type] = {
    "net": Mixed,
    "classifier": MixupClassifier,
    "semi-supervised": SemiSupervisedMixupClassifier,
}


def make(owner: type, autocast: str | None = "float16", **options: Any) -> Any:
    torch.manual_seed(0)
    given: dict[str, Any] = {"optimizer": torch.optim.SGD, "lr": 0.1, "max_epochs": 3, "batch_size": 8}
    if issubclass(owner, MixupClassifier | SemiSupervisedMixupClassifier):
        given["early_stopping"] = False
    if not issubclass(owner, SemiSupervisedMixupClassifier):
        given |= {"criterion": nn.CrossEntropyLoss, "train_split": None}
    if not issubclass(owner, NeuralNet) or issubclass(owner, MixupNetMixin):
        given |= {"autocast": autocast, "random_state": 0}
    return owner(nn.Linear(5, 3), **{**given, "verbose": 0, **options})


def assert_alike(net: Any, other: Any, rtol: float = 0.02) -> None:
    """Compare steps as far as half precision tells them apart; both nets began with the same weights."""
    nets = make(Mixed).initialize(), net, other
    start, ours, theirs = (torch.cat([part.ravel() for part in get_weights(each).values()]) for each in nets)
    assert (theirs - start).norm() > 0.01
    assert (ours - theirs).norm() <= rtol * (theirs - start).norm()


def subclass(owner: type, **methods: Callable[..., Any]) -> type:
    return type("Own", (owner,), methods)


# -- what is taken over ------------------------------------------------------------------


def initialize_two(self: Any, *args: object, **kwargs: object) -> Any:
    """Train weight and bias by an optimizer each."""
    self.optimizer_ = torch.optim.SGD([self.module_.weight], lr=0.1)
    self.second_ = torch.optim.SGD([self.module_.bias], lr=0.3)
    return self


def step_twice(self: Any, step_fn: Any) -> None:
    """Take each step twice."""
    for _ in range(2):
        super(type(self), self)._step_optimizer(step_fn)


def step_without_function(self: Any, batch: Any, **fit_params: Any) -> Any:
    """Compute gradients first, and hand no function to the step."""
    self._zero_grad_optimizer()
    step = self.train_step_single(batch, **fit_params)
    self._step_optimizer(None)
    return step


METHODS: dict[str, dict[str, Callable[..., Any]]] = {
    "one optimizer": {},
    "two optimizers": {"initialize_optimizer": initialize_two},
    "two steps": {"_step_optimizer": step_twice},
    "step without a function": {"train_step": step_without_function},
    "step without a function, two optimizers": {
        "initialize_optimizer": initialize_two,
        "train_step": step_without_function,
    },
}


@each_pair(
    {
        "name": ["net", "classifier"],
        "methods": METHODS,
        "alpha": [0, 1],
    }
)
def test_steps_are_those_in_full_precision(name: str, methods: str, alpha: float) -> None:
    owner = subclass(OWNERS[name], **METHODS[methods])
    nets = [make(owner, autocast, alpha=alpha).fit(X, CODES) for autocast in ("float16", None)]
    assert_alike(*nets)


@pytest.mark.parametrize("methods", ["one optimizer", "two optimizers", "two steps"])
@pytest.mark.parametrize("alpha", [0, 1])
def test_semi_supervised_steps_are_those_in_full_precision(methods: str, alpha: float) -> None:
    owner = subclass(SemiSupervisedMixupClassifier, **METHODS[methods])
    nets = [make(owner, autocast, alpha=alpha).fit(X, CODES) for autocast in ("float16", None)]
    assert_alike(*nets)


@pytest.mark.parametrize("methods", METHODS)
def test_steps_are_those_of_skorch(methods: str) -> None:
    ours, theirs = (subclass(owner, **METHODS[methods]) for owner in (Mixed, NeuralNetClassifier))
    net = make(ours, alpha=0, iterator_train__shuffle=False).fit(X, CODES)
    assert_alike(net, make(theirs).fit(X, CODES))


class Norms(Callback):
    """Notes the norms of gradients."""

    def __init__(self) -> None:
        self.seen: list[float] = []

    def on_grad_computed(self, net: Any, named_parameters: Any, **kwargs: object) -> None:
        gradients = [parameter.grad.norm() for _, parameter in named_parameters]
        self.seen.append(float(torch.stack(gradients).norm()))


@pytest.mark.parametrize("methods", ["one optimizer", "two optimizers"])
def test_callbacks_see_gradients_of_their_own_size(methods: str) -> None:
    seen = []
    for autocast in ("float16", None):
        norms = Norms()
        callbacks = [norms, GradientNormClipping(0.1)]
        net = make(subclass(Mixed, **METHODS[methods]), autocast, alpha=0, callbacks=callbacks)
        net.fit(X, CODES)
        seen.append(norms.seen)
    np.testing.assert_allclose(*seen, rtol=0.02)


class Overflowing(nn.Linear):
    """Has gradients that half precision cannot hold, the first time."""

    n_calls = 0

    def forward(self, x: Tensor) -> Tensor:
        y = super().forward(x)
        self.n_calls += self.training
        if self.training and self.n_calls == 1:
            y.register_hook(lambda gradient: gradient * np.inf)
        return y


@pytest.mark.parametrize("methods", ["one optimizer", "two optimizers", "step without a function"])
def test_step_of_gradients_that_overflow_is_left_out(methods: str) -> None:
    options: dict[str, Any] = {"alpha": 0, "max_epochs": 1, "criterion": nn.CrossEntropyLoss, "verbose": 0}
    seen: list[dict[str, Tensor]] = []

    class Looking(Callback):
        def on_batch_end(self, net: Any, training: bool = False, **kwargs: object) -> None:
            seen.append(get_weights(net))

    owner = subclass(Mixed, **METHODS[methods])
    net = owner(Overflowing(5, 3), **options, autocast="float16", train_split=None, callbacks=[Looking()])
    net.set_params(batch_size=8, optimizer=torch.optim.SGD, lr=0.1).initialize()
    before = get_weights(net)
    scale = net.scaler_.get_scale()
    net.partial_fit(X, CODES)
    assert net.scaler_.get_scale() < scale
    assert torch.equal(seen[0]["weight"], before["weight"])
    assert torch.equal(seen[0]["bias"], before["bias"]) == (methods != "two optimizers")  # its own are finite
    assert all(torch.isfinite(value).all() for value in seen[-1].values())
    assert not torch.equal(seen[-1]["weight"], before["weight"])


@pytest.mark.parametrize("name", OWNERS)
@pytest.mark.parametrize("options", [("float16", None), (None, "float16"), ("bfloat16", "float16")])
def test_scaler_follows_the_option(name: str, options: tuple[str | None, str | None]) -> None:
    net = make(OWNERS[name], options[0]).fit(X, CODES)
    net.set_params(autocast=options[1]).partial_fit(X, CODES)
    assert (net.scaler_ is None) == (options[1] is None)
    other = make(OWNERS[name], options[0]).fit(X, CODES).partial_fit(X, CODES)
    assert_alike(net, other)


def test_scale_goes_on_from_fit_to_fit() -> None:
    net = make(Mixed).initialize()
    scaler = net.scaler_
    assert net.partial_fit(X, CODES).partial_fit(X, CODES).scaler_ is scaler


class Interrupt(Callback):
    """Ends a step between its gradients and its update."""

    def on_grad_computed(self, net: Any, **kwargs: object) -> None:
        raise KeyboardInterrupt


def test_training_goes_on_after_an_interrupted_step() -> None:
    net = make(Mixed, callbacks=[Interrupt()]).fit(X, CODES)
    net.set_params(callbacks=[]).initialize_callbacks()
    assert len(net.partial_fit(X, CODES).history) == 4


# -- what is refused ---------------------------------------------------------------------


def accumulate(self: Any, batch: Any, **fit_params: Any) -> Any:
    """Step by the gradients of two batches, as skorch's documentation has it."""
    step = self.train_step_single(batch, **fit_params)
    if len(self.history[-1, "batches"]) % 2 == 0:
        self.optimizer_.step()
        self.optimizer_.zero_grad()
    return step


def step_by_hand(self: Any, batch: Any, **fit_params: Any) -> Any:
    self.optimizer_.zero_grad()
    step = self.train_step_single(batch, **fit_params)
    self.optimizer_.step()
    return step


def hand_to_optimizer(self: Any, step_fn: Any) -> None:
    self.optimizer_.step(step_fn)


def descend_alone(self: Any, batch: Any, **fit_params: Any) -> Any:
    """Compute the gradients as skorch does."""
    return NeuralNet.train_step_single(self, batch, **fit_params)


REFUSED: dict[str, tuple[str, dict[str, Callable[..., Any]]]] = {
    "accumulation": ("where a step of your own leaves out", {"train_step": accumulate}),
    "own step": ("where a step of your own leaves out", {"train_step": step_by_hand}),
    "own update": ("where a step of your own leaves out", {"_step_optimizer": hand_to_optimizer}),
    "own gradients": ("where train_step_single computes", {"train_step_single": descend_alone}),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("name", ["net", "classifier"])
def test_steps_of_the_users_own_are_refused_by_name(name: str, case: str) -> None:
    message, methods = REFUSED[case]
    owner = subclass(OWNERS[name], **methods)
    with pytest.raises(ValueError, match=f"autocast must be None or 'bfloat16' {message}"):
        make(owner).fit(X, CODES)
    for autocast in ("bfloat16", None):
        make(owner, autocast).fit(X, CODES)


@pytest.mark.parametrize("name", ["net", "classifier"])
def test_optimizer_of_several_evaluations_is_refused_by_name(name: str) -> None:
    net = make(OWNERS[name], optimizer=torch.optim.LBFGS)
    with pytest.raises(ValueError, match="autocast must be None or 'bfloat16' with LBFGS"):
        net.fit(X, CODES)
