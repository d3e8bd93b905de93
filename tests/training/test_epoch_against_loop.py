"""Training in every vicinity: an epoch equals a slow loop over its rows, written by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray
import pytest
from skorch.callbacks import Callback, EpochScoring
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier
from sk_mixup.mixing import (
    ERM,
    AddNoise,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    GaussianNoise,
    ManifoldMixup,
    Mixture,
    Mixup,
    Operation,
    PasteBoxes,
    Plan,
    SwapFeatures,
)
from sk_mixup.modules import MLP
from tests.helpers.architectures import (
    ARCHITECTURES,
    PROBLEMS,
    WEIGHT,
    assert_same_nets,
    get_tensors,
    make_net,
    make_rows,
    note_epochs,
)
from tests.helpers.nets import QUICK
from tests.helpers.reference import mix_row, noisy_row, normal_rows, paste_row, swap_row
from tests.helpers.sampling import cover_pairs, each_pair
from tests.helpers.vicinities import FILLED_UP, INF, VICINITIES, Noted, fits

N = 21  # 2 batches of 8 and one of 5
LR = 0.5
SGD: dict[str, Any] = {"optimizer": torch.optim.SGD, "lr": LR, "batch_size": 8, "max_epochs": 1}


def make_plain_net(architecture: str, problem: str, **options: Any) -> Any:
    """Return a net that is trained on y as it is."""
    as_given = {"standardize_targets": False} if problem.startswith("target") else {}
    return make_net(architecture, problem, **as_given, **options)


# What keeps an estimator from the fast epochs, and changes nothing.
STEPWISE: dict[str, Any] = {"augment": lambda x: x}


def make_step(operation: Operation, plan: Plan, shape: tuple[int, ...]) -> Callable[[int, Any, Any], Any]:
    """Return a slow form of an operation: what it makes of the input at a place of the epoch."""
    if isinstance(operation, PasteBoxes):
        return lambda i, x, inputs: paste_row(x, inputs[1], operation.values[:, i])
    if isinstance(operation, SwapFeatures):
        return lambda i, x, inputs: swap_row(x, *inputs[:2], operation.values[:, i])
    assert isinstance(operation, AddNoise)
    noise = normal_rows(operation.noise.seed, plan.bounds, shape)
    return lambda i, x, inputs: noisy_row(x, noise[i], operation.values[i])


def make_virtual_rows(plan: Plan, X: NDArray[Any]) -> list[tuple[str, list[int], Any, Any, Any]]:
    """Return of each virtual example its layer, rows, their inputs, and the weights of inputs and targets.

    Where the layer is the input, there is one input, and it is mixed.
    """
    steps = [make_step(operation, plan, X.shape[1:]) for operation in plan.operations]
    made = []
    for number, (start, stop) in enumerate(pairwise(plan.bounds)):
        layer = "input" if plan.layers is None else plan.layers[number]
        for i in range(start, stop):
            rows = plan.index[:, i].tolist()
            lam = [1.0] if plan.lam is None else plan.lam[:, i].tolist()
            lam_x = lam if plan.lam_x is None else plan.lam_x[:, i].tolist()
            inputs = [X[row] for row in rows]
            if layer == "input":
                x = mix_row(inputs, lam_x)
                for take_step in steps:
                    x = take_step(i, x, inputs)
                inputs, lam_x = [x], [1.0]
            made.append((layer, rows, inputs, lam_x, lam))
    return made


def predict_row(module: nn.Sequential, layer: str, inputs: Any, lam_x: Any) -> Tensor:
    """Run each input through the first layers alone, mix what comes out, and run that through the others."""
    k = 0 if layer == "input" else int(layer) + 1
    hidden = [module[:k](torch.as_tensor(x)[None]) for x in inputs]
    mixed = torch.zeros_like(hidden[0])
    for h, weight in zip(hidden, lam_x, strict=True):
        mixed = mixed + weight * h
    return module[k:](mixed)[0]


def compute_loss(problem: str, output: Tensor, targets: Any, lam: list[float]) -> Tensor:
    """Return the loss of one virtual example: ``sum_k lam_k l(f, y_k)``, for real targets ``l(f, y)``."""
    if problem in ("target", "targets"):
        target = torch.as_tensor(mix_row([np.atleast_1d(y) for y in targets], lam))
        return ((output - target) ** 2).mean()
    losses = []
    for y in targets:
        if problem == "classes":
            losses.append(-torch.log_softmax(output, 0)[int(y)])
        else:
            p = torch.sigmoid(output)
            y = torch.as_tensor(y, dtype=output.dtype)
            losses.append((-y * torch.log(p) - (1 - y) * torch.log(1 - p)).mean())
    return sum((w * loss for w, loss in zip(lam, losses, strict=True)), torch.zeros(()))


def train_slowly(
    module: nn.Sequential, plan: Plan, X: NDArray[Any], y: NDArray[Any], problem: str, weight: Any
) -> list[float]:
    """Train for an epoch of a plan, row by row, by gradient descent; return the losses of the batches."""
    virtual, history = make_virtual_rows(plan, X), []
    for start, stop in pairwise(plan.bounds):
        total, divisor = torch.zeros(()), 0.0
        for layer, rows, inputs, lam_x, lam in virtual[start:stop]:
            w = 1.0 if weight is None else float(np.prod([weight[row] for row in rows]))
            output = predict_row(module, layer, inputs, lam_x)
            total = total + w * compute_loss(problem, output, [y[row] for row in rows], lam)
            divisor += w
        loss = total / divisor
        parameters = list(module.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            for p, gradient in zip(parameters, gradients, strict=True):
                p -= LR * gradient
        history.append(loss.item())
    return history


def assert_equals_slow_loop(
    name: str, architecture: str, problem: str, weight: Any = None, **options: Any
) -> None:
    """Fit for an epoch; assert that weights and losses are those of the slow loop."""
    X, y = make_rows(architecture)[:N].astype(np.float64), PROBLEMS[problem].y[:N]
    begun = make_plain_net(architecture, problem, **SGD | {"max_epochs": 0}).fit(X, y)
    noted = Noted(VICINITIES[name])
    net = make_plain_net(architecture, problem, vicinity=noted, **SGD | options).fit(
        X, y, sample_weight=weight
    )
    (plan,) = noted.plans
    history = train_slowly(begun.module_, plan, X, y.astype(np.float64), problem, weight)
    assert [row["train_loss"] for row in net.history[-1]["batches"]] == pytest.approx(history, abs=1e-10)
    ours, theirs = net.module_.state_dict(), begun.module_.state_dict()
    torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def _go_together(name: str, architecture: str, problem: str, stepwise: bool, weighted: bool) -> bool:
    possible = fits(name, classes="target" not in problem, shape=ARCHITECTURES[architecture].shape)
    return possible and not (weighted and name in FILLED_UP)


@pytest.mark.parametrize(
    ("name", "architecture", "problem", "stepwise", "weighted"),
    cover_pairs(
        VICINITIES,
        ("flattened", "tanh", "convolution"),
        ("classes", "labels", "target", "targets"),
        (False, True),
        (False, True),
        allowed=_go_together,
    ),
)
def test_epoch_equals_a_slow_loop(
    monkeypatch: pytest.MonkeyPatch,
    float64: None,
    name: str,
    architecture: str,
    problem: str,
    stepwise: bool,
    weighted: bool,
) -> None:
    epochs = note_epochs(monkeypatch)
    weight = WEIGHT[:N] if weighted else None
    assert_equals_slow_loop(name, architecture, problem, weight, **(STEPWISE if stepwise else {}))
    assert epochs in ([[]] if stepwise else [[ARCHITECTURES[architecture].trainer], ["ModuleTrainer"]])


@pytest.mark.parametrize("options", [{}, STEPWISE], ids=["fast", "stepwise"])
@pytest.mark.parametrize("batch_size", [1, 20, -1, 100])
@pytest.mark.parametrize("name", ["mixture_with_noise", "manifold_dataset"])
def test_batches_of_odd_sizes_equal_a_slow_loop(
    float64: None, name: str, batch_size: int, options: dict[str, Any]
) -> None:
    # 20 leaves a last row that joins the batch before it; 1 leaves batches of one row each.
    assert_equals_slow_loop(name, "tanh", "classes", batch_size=batch_size, **options)


@pytest.mark.parametrize("options", [{"drop_last": True}, {"shuffle": False}], ids=str)
@pytest.mark.parametrize("name", ["neighbors", "manifold_dataset", "noise"])
def test_options_of_the_iterator_equal_a_slow_loop(float64: None, name: str, options: dict[str, Any]) -> None:
    prefixed = {f"iterator_train__{key}": value for key, value in options.items()}
    assert_equals_slow_loop(name, "tanh", "classes", **prefixed)


@each_pair(
    {
        "partners": ["batch", "dataset"],
        "owner": [ManifoldMixup, FeatureInterpolation, FeatureExtrapolation],
        "layer": ["0", "1", "2"],
    }
)
def test_each_layer_is_mixed_where_it_stands(
    monkeypatch: pytest.MonkeyPatch, float64: None, owner: Any, layer: str, partners: str
) -> None:
    monkeypatch.setitem(VICINITIES, "tested", owner(layers=(layer,), partners=partners))
    assert_equals_slow_loop("tested", "tanh", "classes", WEIGHT[:N])


def test_partners_from_outside_go_through_batch_normalisation_beside_the_batch(float64: None) -> None:
    X, y = make_rows("normed")[:N].astype(np.float64), PROBLEMS["classes"].y[:N]
    begun = make_net("normed", **SGD | {"max_epochs": 0}).fit(X, y).module_.train()
    noted = Noted(ManifoldMixup(layers=("2",), partners="dataset"))
    net = make_net("normed", vicinity=noted, **SGD).fit(X, y)
    for batch in noted.plans[0]:
        hidden, lam = begun[:3](torch.as_tensor(X[batch.rows])), torch.as_tensor(batch.lam)
        n = lam.shape[1]
        mixed = lam[0, :, None] * hidden[:n] + lam[1, :, None] * hidden[n:]
        codes = torch.as_tensor(y[batch.rows]).view(2, n)
        target = sum(w[:, None] * nn.functional.one_hot(c, 3) for w, c in zip(lam, codes, strict=True))
        loss = nn.functional.cross_entropy(begun[3:](mixed), target)
        parameters = list(begun.parameters())
        gradients = torch.autograd.grad(loss, parameters)
        with torch.no_grad():
            [p.sub_(LR * g) for p, g in zip(parameters, gradients, strict=True)]
    torch.testing.assert_close(net.module_.state_dict(), begun.state_dict(), rtol=1e-10, atol=1e-10)


# -- the same, said otherwise ------------------------------------------------------------


def fit(architecture: str = "tanh", problem: str = "classes", weight: Any = None, **options: Any) -> Any:
    net = make_plain_net(architecture, problem, **{"batch_size": 8, **options})
    return net.fit(make_rows(architecture)[:N], PROBLEMS[problem].y[:N], sample_weight=weight)


SAME: list[tuple[Any, dict[str, Any]]] = [
    (ERM(), {"alpha": 0}),
    (Mixup(0.2), {}),
    (Mixup(0.3, lam_per="batch", n_mixed=3), {"alpha": 0.3, "lam_per": "batch", "n_mixed": 3}),
    (Mixup(INF, partners="same_class"), {"alpha": INF, "partners": "same_class"}),
    (Mixup(0.2, partners="neighbors"), {"partners": "neighbors"}),
    (ManifoldMixup(0.2, layers=("input",)), {}),
    (ManifoldMixup(0.2, layers=["input"]), {}),
]


@pytest.mark.parametrize("options", [{}, STEPWISE], ids=["fast", "stepwise"])
@pytest.mark.parametrize(("vicinity", "flat"), SAME, ids=str)
def test_vicinity_equals_the_options_it_stands_for(vicinity: Any, flat: Any, options: Any) -> None:
    assert_same_nets(fit(vicinity=vicinity, **options), fit(**flat, **options))


@pytest.mark.parametrize("layers", ["auto", ("input", "1"), ["input", "1"]], ids=str)
def test_layers_may_be_a_list_or_found(layers: Any) -> None:
    net = fit(vicinity=ManifoldMixup(layers=layers))
    assert_same_nets(net, fit(vicinity=ManifoldMixup(layers=("input", "1"))))


PARTS = [
    (ERM(), Mixup()),
    (ERM(), GaussianNoise(0.3)),
    (ERM(), CutMix()),
    (Mixup(), GaussianNoise(0.3)),
    (Mixup(), Mixup(n_mixed=3)),
    (Mixup(), CutMix()),
    (GaussianNoise(0.3), Mixup(n_mixed=3)),
    (Extrapolation(), FeatureInterpolation(partners="batch")),
    (ManifoldMixup(layers=("0",)), Mixup()),
    (FeatureExtrapolation(layers=("0",), partners="batch"), ERM()),
]


@pytest.mark.parametrize("weight", [None, WEIGHT[:N]], ids=["plain", "weighted"])
@pytest.mark.parametrize("parts", PARTS, ids=str)
def test_mixture_with_all_weight_on_one_trains_like_that_one(float64: None, parts: Any, weight: Any) -> None:
    mixed, alone = Mixture(parts, weights=(1, 0)), parts[0]
    nets = [fit("convolution", weight=weight, vicinity=policy) for policy in (mixed, alone)]
    torch.testing.assert_close(*map(get_tensors, nets), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("name", ["cutmix", "noise", "manifold", "mixture_of_images"])
def test_channels_last_trains_like_channels_first(float64: None, name: str) -> None:
    nets = [fit("convolution", vicinity=VICINITIES[name], channels_last=last) for last in (False, True)]
    torch.testing.assert_close(*map(get_tensors, nets), rtol=1e-9, atol=1e-9)


# -- with other options ------------------------------------------------------------------


@pytest.mark.parametrize("name", ["manifold_three", "cutmix", "noise", "mixture_of_images"])
def test_plain_epochs_before_and_after_are_plain(name: str) -> None:
    noted = Noted(VICINITIES[name])
    net = fit("convolution", vicinity=noted, max_epochs=5, warmup_epochs=2, cooldown_epochs=1)
    assert (len(noted.plans), len(net.history)) == (2, 5)
    plain = fit("convolution", alpha=0, max_epochs=2)
    assert [e["train_loss"] for e in net.history[:2]] == [e["train_loss"] for e in plain.history]


@pytest.mark.parametrize("autocast", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["manifold_three", "cutmix", "noise", "feature_extrapolation_inside"])
def test_half_precision_trains_nearly_as_full(name: str, autocast: str) -> None:
    nets = [fit("convolution", vicinity=VICINITIES[name], autocast=half) for half in (None, autocast)]
    losses = [[epoch["train_loss"] for epoch in net.history] for net in nets]
    assert losses[0] == pytest.approx(losses[1], rel=0.05)


@pytest.mark.parametrize("name", ["manifold", "extrapolation", "noise", "mixture"])
def test_early_stopping_sees_clean_rows(name: str) -> None:
    net = fit(vicinity=VICINITIES[name], early_stopping=True, max_epochs=4, n_iter_no_change=1)
    loss = net.history[0]["valid_loss"]
    assert np.isfinite(loss)
    assert loss > 0


@pytest.mark.parametrize("name", ["manifold_dataset", "manifold_three", "noise", "interpolation_inside"])
def test_callbacks_see_the_clean_rows_of_a_batch(name: str) -> None:
    seen = []

    class Look(Callback):
        def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **kwargs: Any) -> None:
            seen.append((len(batch[0]), len(kwargs["y_pred"])))

    score = EpochScoring("accuracy", on_train=True, name="train_acc")
    net = make_net("tanh", vicinity=VICINITIES[name], batch_size=8)
    net.set_params(callbacks=[("look", Look()), ("score", score)])
    net.fit(make_rows("tanh")[:N], PROBLEMS["classes"].y[:N])
    assert seen == [(8, 8), (8, 8), (5, 5)] * 2
    assert all(0 <= epoch["train_acc"] <= 1 for epoch in net.history)


@pytest.mark.parametrize("name", ["mixup", "manifold_dataset", "cutmix", "noise"])
def test_lbfgs_evaluates_the_same_virtual_examples_in_a_step(name: str) -> None:
    seen: list[list[Tensor]] = []

    class Looking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.module = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
            self.add_module("0", nn.Identity())
            self.add_module("1", nn.Identity())

        def forward(self, x: Tensor) -> Tensor:
            x = self.get_submodule("1")(x)
            if self.training:
                seen[-1].append(x.clone())
            return self.module(x)

    class Net(MixupClassifier):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            seen.append([])
            return super().train_step(batch, **fit_params)

    options = {"optimizer": torch.optim.LBFGS, "optimizer__max_iter": 3, "lr": 0.1, "batch_size": 8}
    net = Net(Looking, vicinity=VICINITIES[name], **QUICK | options | {"max_epochs": 1})
    net.fit(make_rows("convolution")[:N], PROBLEMS["classes"].y[:N])
    assert min(map(len, seen)) > 1
    assert [[torch.equal(x, step[0]) for x in step] for step in seen] == [[True] * len(step) for step in seen]


class Whole(nn.Module):
    """A criterion of a whole batch: it has no losses of the rows."""

    def forward(self, output: Tensor, y: Tensor) -> Tensor:
        return nn.functional.cross_entropy(output, y)


@pytest.mark.parametrize("name", ["erm", "noise", "per_batch", "manifold_three"])
def test_criterion_of_whole_batches_takes_one_weight_a_batch(name: str) -> None:
    nets = [fit(vicinity=VICINITIES[name], criterion=owner) for owner in (Whole, nn.CrossEntropyLoss)]
    torch.testing.assert_close(*map(get_tensors, nets))


def test_criterion_of_whole_batches_takes_no_weights_of_examples() -> None:
    with pytest.raises(ValueError, match=r"criterion must offer reduction='none' for lam_per='example'"):
        fit(vicinity=Mixup(), criterion=Whole)


@pytest.mark.parametrize("name", ["near_class", "dataset", "noise", "manifold_dataset", "mixture_with_noise"])
def test_rows_without_weight_take_no_part(float64: None, name: str) -> None:
    weight = np.array([0.0, 1.0, 2.0] * 7)
    kept = weight > 0
    X, y = make_rows("convolution")[:N], PROBLEMS["classes"].y[:N]
    nets = []
    for rows, values in ((slice(None), weight), (kept, weight[kept])):
        net = make_net("convolution", vicinity=VICINITIES[name], batch_size=8, max_epochs=1)
        nets.append(net.fit(X[rows], y[rows], sample_weight=values))
    torch.testing.assert_close(*map(get_tensors, nets), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(
    "name", ["mixup", "near_class", "kernel", "cutmix", "mixture_with_noise", "manifold"]
)
def test_training_writes_to_nothing_it_is_given(name: str) -> None:
    classes = fits(name, classes=True, shape=ARCHITECTURES["convolution"].shape)
    problem = PROBLEMS["classes" if classes else "target"]
    X, y, weight = make_rows("convolution")[:N], problem.y[:N].copy(), WEIGHT[:N].copy()
    copies = [part.copy() for part in (X, y, weight)]
    policy = VICINITIES[name]
    net = make_plain_net("convolution", "classes" if classes else "target", vicinity=policy, max_epochs=1)
    net.fit(X, y, sample_weight=weight)
    assert all(map(np.array_equal, (X, y, weight), copies))
    assert net.vicinity is policy
    assert list(net.module_._forward_hooks) == list(net.module_[0]._forward_hooks) == []


def test_default_network_is_mixed_where_layers_begin() -> None:
    net = MixupClassifier(vicinity=ManifoldMixup(), **QUICK).fit(
        make_rows("mlp")[:N], PROBLEMS["classes"].y[:N]
    )
    assert isinstance(net.module_, MLP)
    assert net.n_iter_ == 3
