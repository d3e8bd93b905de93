"""Which training may take a fast epoch: none whose steps are looked at or overridden."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
from skorch import NeuralNet
from skorch.callbacks import BatchScoring, Callback, EpochScoring, Freezer, GradientNormClipping, LRScheduler
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook
from torch.nn.utils import parametrizations, parametrize
from torch.utils.data import TensorDataset, default_collate

from sk_mixup import MixupClassifier, MixupNetMixin
from tests.helpers.architectures import PROBLEMS, Look, make_rows, note_epochs

X, Y = make_rows("mlp"), PROBLEMS["classes"].y
ONCE: dict[str, Any] = {"early_stopping": False, "max_epochs": 1, "batch_size": 16, "random_state": 0}


def find_trainers(monkeypatch: pytest.MonkeyPatch, net: Any, *data: Any, **params: Any) -> list[str]:
    """Fit for one epoch; return what trained: the name of a fast trainer, or nothing."""
    names = note_epochs(monkeypatch)
    net.fit(*(data or (X, Y)), **params)
    return names


class Change(Callback):
    """Does something to the module before training."""

    def __init__(self, change: Callable[[Any], Any]) -> None:
        self.change = change

    def on_train_begin(self, net: Any, **_: Any) -> None:
        self.change(net)


def change(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the options of a net that is changed before training."""
    return {"callbacks": [("change", Change(function))]}


def change_layer(function: Callable[[Any], Any]) -> dict[str, Any]:
    """Return the options of a net whose last layer is changed before training."""
    return change(lambda net: function(net.module_.layers[-1]))


def build(*layers: Any) -> Callable[[], nn.Module]:
    """Return what builds a sequence of the given layers, each a class or a function."""
    return lambda: nn.Sequential(*(layer() for layer in layers))


FIRST, LAST = partial(nn.Linear, 6, 8), partial(nn.Linear, 8, 3)


def build_shared() -> nn.Module:
    layer = nn.Linear(6, 6)
    return nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(6, 3))


def build_tied() -> nn.Module:
    layers = nn.Linear(6, 6), nn.Linear(6, 6)
    layers[1].weight = layers[0].weight
    return nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), nn.Linear(6, 3))


class Doubled(nn.Module):
    """A parametrisation."""

    def forward(self, x: Tensor) -> Tensor:
        return 2 * x


class Wider(nn.Linear):
    """A linear layer of the user's own."""


class OnEpochs(Callback):
    """Has hooks round epochs only."""

    def on_epoch_begin(self, net: Any, **_: Any) -> None:
        pass

    def on_epoch_end(self, net: Any, **_: Any) -> None:
        pass


# -- linear layers with ReLUs between them ------------------------------------------------


PERCEPTRONS: dict[str, dict[str, Any]] = {
    "default": {},
    "no_hidden_layer": {"module__hidden_layer_sizes": ()},
    "sequence": {"module": build(FIRST, nn.ReLU, LAST)},
    "no_bias": {"module": build(partial(FIRST, bias=False), nn.ReLU, LAST)},
    "relu_in_place": {"module": build(nn.Flatten, FIRST, partial(nn.ReLU, inplace=True), LAST)},
    "one_layer": {"module": build(partial(nn.Linear, 6, 3))},
    "label_smoothing": {"label_smoothing": 0.1},
    "class_weight": {"class_weight": "balanced"},
    "weighted_criterion": {"criterion": nn.CrossEntropyLoss, "criterion__weight": torch.ones(3)},
    "confidence_penalty": {"confidence_penalty": 0.1},
    "criterion": {"criterion": nn.CrossEntropyLoss},
    "host": {"storage": "host"},
    "sgd": {"optimizer": torch.optim.SGD},
    "foreach": {"optimizer__foreach": True},
    "param_groups": {"optimizer__param_groups": [("*bias", {"lr": 0.1})]},
    "early_stopping": {"early_stopping": True},
    "hooks_of_epochs": {"callbacks": [OnEpochs()]},
    "scores_of_epochs": {"callbacks": [EpochScoring("accuracy", name="score")]},
    "scores_of_training": {"callbacks": [EpochScoring("accuracy", name="score", on_train=True)]},
    "no_callbacks": {"callbacks": "disable"},
}


@pytest.mark.parametrize("kind", PERCEPTRONS)
def test_multilayer_perceptron_is_trained_without_autograd(
    monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    assert find_trainers(monkeypatch, MixupClassifier(**ONCE | PERCEPTRONS[kind])) == ["PerceptronTrainer"]


# -- autograd, but the loss --------------------------------------------------------------


def ignore(*_: Any) -> None:
    pass


AUTOGRAD: dict[str, dict[str, Any]] = {
    "dropout": {"module__dropout": 0.5},
    "tanh": {"module": build(FIRST, nn.Tanh, LAST)},
    "no_relu": {"module": build(FIRST, LAST)},
    "relu_last": {"module": build(FIRST, nn.ReLU, LAST, nn.ReLU)},
    "relu_first": {"module": build(nn.ReLU, FIRST, LAST)},
    "subclass_of_linear": {"module": build(partial(Wider, 6, 8), nn.ReLU, LAST)},
    "shared_layer": {"module": build_shared},
    "tied_weights": {"module": build_tied},
    "frozen_layer": {"callbacks": [Freezer("layers.1.*")]},
    "frozen_bias": {"callbacks": [Freezer("layers.1.bias")]},
    "forward_hook": change_layer(lambda layer: layer.register_forward_hook(ignore)),
    "forward_pre_hook": change_layer(lambda layer: layer.register_forward_pre_hook(ignore)),
    "backward_hook": change_layer(lambda layer: layer.register_full_backward_hook(ignore)),
    "hook_of_a_weight": change_layer(lambda layer: layer.weight.register_hook(ignore)),
    "hook_of_a_gradient": change_layer(lambda layer: layer.bias.register_post_accumulate_grad_hook(ignore)),
    "patched_forward": change_layer(lambda layer: vars(layer).update(forward=layer.forward)),
    "hook_of_the_module": change(lambda net: net.module_.register_forward_hook(ignore)),
    "bfloat16": {"autocast": "bfloat16"},
}


@pytest.mark.parametrize("kind", AUTOGRAD)
def test_module_is_trained_by_autograd(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert find_trainers(monkeypatch, MixupClassifier(**ONCE | AUTOGRAD[kind])) == ["ModuleTrainer"]


@pytest.mark.parametrize(
    "parametrise",
    [
        lambda module: parametrize.register_parametrization(module[0], "weight", Doubled()),
        lambda module: parametrizations.weight_norm(module[2]),
        lambda module: parametrizations.spectral_norm(module[0]),
    ],
    ids=["own", "weight_norm", "spectral_norm"],
)
def test_parametrised_module_is_trained_by_autograd(
    monkeypatch: pytest.MonkeyPatch, parametrise: Callable[[Any], Any]
) -> None:
    module = build(FIRST, nn.ReLU, LAST)()
    parametrise(module)
    assert find_trainers(monkeypatch, MixupClassifier(module, **ONCE)) == ["ModuleTrainer"]


def test_hook_of_all_modules_is_called(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    handle = register_module_forward_hook(
        lambda module, *_: calls.append(module) if module.training else None
    )
    net = MixupClassifier(build(FIRST, nn.ReLU, LAST), **ONCE)
    try:
        names = find_trainers(monkeypatch, net)
    finally:
        handle.remove()
    assert "PerceptronTrainer" not in names
    parts = set(net.module_.modules())
    assert sum(module in parts for module in calls) == 3 * len(parts)


def test_hook_of_a_gradient_is_called() -> None:
    def clear(parameter: Tensor) -> None:
        parameter.grad.zero_()

    cleared = change_layer(lambda layer: layer.weight.register_post_accumulate_grad_hook(clear))
    nets = [MixupClassifier(**ONCE | options).fit(X, Y) for options in (cleared, {"lr": 1e-30})]
    weights, start = (net.module_.layers[-1].weight for net in nets)
    assert torch.equal(weights, start)


@pytest.mark.parametrize("alpha", [0, 0.4])
def test_autocast_of_the_user_is_in_force(monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        names = find_trainers(monkeypatch, MixupClassifier(**ONCE, alpha=alpha))
    assert "PerceptronTrainer" not in names


# -- step by step ------------------------------------------------------------------------


class Grads(Callback):
    """Wants to see gradients."""

    def on_grad_computed(self, net: Any, named_parameters: Any, **_: Any) -> None:
        pass


class BatchBegin(Callback):
    """Wants to see batches before they are trained on."""

    def on_batch_begin(self, net: Any, **_: Any) -> None:
        pass


class NoReduction(nn.Module):
    """A criterion of the user's own."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, y)


STEPS: dict[str, dict[str, Any]] = {
    "batch_end": {"callbacks": [Look()]},
    "batch_begin": {"callbacks": [BatchBegin()]},
    "gradients": {"callbacks": [Grads()]},
    "clipping": {"callbacks": [GradientNormClipping(1.0)]},
    "scores_of_batches": {"callbacks": [BatchScoring("accuracy", name="score", on_train=True)]},
    "augment": {"augment": torch.neg},
    "float16": {"autocast": "float16"},
    "margin": {"criterion": nn.MultiMarginLoss},
    "weighted_and_smoothed": {
        "criterion": nn.CrossEntropyLoss,
        "criterion__weight": torch.ones(3),
        "label_smoothing": 0.1,
    },
    "sum": {"criterion": nn.CrossEntropyLoss, "criterion__reduction": "sum", "alpha": 0},
    "own_criterion": {"criterion": NoReduction, "lam_per": "batch"},
    "lbfgs": {"optimizer": torch.optim.LBFGS},
    "loader": {"iterator_train__collate_fn": default_collate},
}


@pytest.mark.parametrize("kind", STEPS)
def test_training_goes_step_by_step(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    assert find_trainers(monkeypatch, MixupClassifier(**ONCE | STEPS[kind])) == []


def test_data_set_is_trained_on_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    pairs = TensorDataset(torch.as_tensor(X), torch.as_tensor(Y))
    assert find_trainers(monkeypatch, MixupClassifier(**ONCE), pairs) == []


class Named(nn.Module):
    """Takes its inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(6, 3)

    def forward(self, a: Tensor, scale: float = 1.0) -> Tensor:
        return self.line(scale * a)


def test_mapping_is_trained_on_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    assert find_trainers(monkeypatch, MixupClassifier(Named, **ONCE), {"a": X}, Y) == []


def test_fit_params_go_step_by_step(monkeypatch: pytest.MonkeyPatch) -> None:
    net = MixupClassifier(Named, **ONCE)
    assert find_trainers(monkeypatch, net, X, Y, scale=0.5) == []


@pytest.mark.parametrize("alpha", [0, 0.4])
def test_net_of_the_users_own_goes_step_by_step(monkeypatch: pytest.MonkeyPatch, alpha: float) -> None:
    class Net(MixupNetMixin, NeuralNet):
        pass

    net = Net(nn.Linear(6, 3), nn.CrossEntropyLoss, train_split=None, max_epochs=1, verbose=0, alpha=alpha)
    assert find_trainers(monkeypatch, net) == []


class Partly(MixupClassifier):
    """Trains some of its weights only."""

    def get_all_learnable_params(self) -> Any:
        return [(name, p) for name, p in super().get_all_learnable_params() if name.endswith("bias")]


def test_net_trained_in_part_keeps_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    net, start = Partly(**ONCE), MixupClassifier(**ONCE | {"lr": 1e-30}).fit(X, Y).module_.state_dict()
    assert "PerceptronTrainer" not in find_trainers(monkeypatch, net)
    kept = {name for name, value in net.module_.state_dict().items() if torch.equal(value, start[name])}
    assert kept == {name for name in start if name.endswith("weight")}


@pytest.mark.parametrize(("step_every", "names"), [("epoch", ["PerceptronTrainer"]), ("batch", [])])
def test_scheduler_slows_training_only_where_it_looks_at_batches(
    monkeypatch: pytest.MonkeyPatch, step_every: str, names: list[str]
) -> None:
    scheduler = LRScheduler("StepLR", step_size=1, step_every=step_every)
    assert find_trainers(monkeypatch, MixupClassifier(callbacks=[scheduler], **ONCE)) == names
