"""Vicinities that do not fit: an error at fit, with the reason and the remedy."""

from __future__ import annotations

from collections.abc import Callable
from math import inf, nan
from typing import Any
import warnings

import numpy as np
import pytest
from scipy import sparse
from skorch.callbacks import GradientNormClipping
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupRegressor
from sk_mixup.mixing import (
    ERM,
    CutMix,
    Extrapolation,
    FeatureExtrapolation,
    FeatureInterpolation,
    GaussianNoise,
    KernelPartners,
    ManifoldMixup,
    Mixture,
    Mixup,
    NeighborPartners,
)
from tests.helpers.architectures import assert_same_nets, get_tensors, make_rows
from tests.helpers.datasets import Pairs, Stream, make_tensor_dataset
from tests.helpers.nets import QUICK, Sum
from tests.helpers.vicinities import NEAR

N = 21
TABLE, IMAGES = make_rows("mlp")[:N], make_rows("convolution")[:N]
CODES, VALUES = np.arange(N) % 3, np.linspace(-1, 1, N, dtype=np.float32)
OWNERS = {"classes": MixupClassifier, "values": MixupRegressor}
TARGETS = {"classes": CODES, "values": VALUES}
INSIDE = ManifoldMixup(layers=("layers.2",))


def make(vicinity: Any, kind: str = "classes", **options: Any) -> Any:
    return OWNERS[kind](**QUICK | {"vicinity": vicinity, "max_epochs": 1, "batch_size": 8} | options)


# -- what does not fit the data ----------------------------------------------------------

NO_IMAGES = r"vicinity CutMix\(.*\) must be given images of shape .*; got inputs of shape \(-1.*Use Mixup"
BY_CLASS = r"partners must not be drawn by class for regression; .*use 'batch', 'neighbors' or 'kernel'"
BY_KERNEL = r"partners must be drawn without a kernel for classes; got 'kernel'.*Use 'batch'"
UNKNOWN = r"layers must name submodules of MLP, or 'input'; got 'conv1'\. Its submodules are layers, "
NO_HIDDEN = (
    r"layers must be named for MLP, in which no hidden layers that are used once were found; got 'auto'\."
)

UNFIT: list[tuple[Any, str, Any, dict[str, Any], str]] = [
    (CutMix(), "classes", TABLE, {}, NO_IMAGES),
    (CutMix(), "values", TABLE, {}, NO_IMAGES),
    (CutMix(), "classes", sparse.csr_matrix(TABLE), {}, NO_IMAGES),
    (CutMix(), "classes", TABLE.reshape(N, 2, 3), {}, NO_IMAGES),
    (Mixture((Mixup(), CutMix())), "classes", TABLE, {}, NO_IMAGES),
    (Mixture((ERM(), Mixture((CutMix(),)))), "classes", TABLE, {}, NO_IMAGES),
    (
        CutMix(),
        "classes",
        {"a": TABLE[:, :5], "b": TABLE[:, 1:]},
        {"module": Sum},
        r"must be given images .*; got inputs of no known shape",
    ),
    (Mixup(partners="kernel"), "classes", TABLE, {}, BY_KERNEL),
    (CutMix(partners=KernelPartners(0.1)), "classes", IMAGES, {}, BY_KERNEL),
    (ManifoldMixup(partners="kernel"), "classes", TABLE, {}, BY_KERNEL),
    (Mixture((ERM(), Mixup(partners="kernel")), weights=(1, 0)), "classes", TABLE, {}, BY_KERNEL),
    (Mixup(partners="same_class"), "values", TABLE, {}, BY_CLASS),
    (FeatureInterpolation(), "values", TABLE, {}, BY_CLASS),
    (FeatureExtrapolation(), "values", TABLE, {}, BY_CLASS),
    (Extrapolation(partners=NeighborPartners(2, same_class=True)), "values", TABLE, {}, BY_CLASS),
    (ManifoldMixup(layers=("conv1",)), "classes", TABLE, {}, UNKNOWN),
    (ManifoldMixup(layers=("input", "conv1")), "classes", TABLE, {}, UNKNOWN),
    (FeatureInterpolation(layers=("conv1",)), "classes", TABLE, {}, UNKNOWN),
    (FeatureExtrapolation(layers=("conv1",)), "classes", TABLE, {}, UNKNOWN),
    (Mixture((ERM(), ManifoldMixup(layers=("conv1",)))), "values", TABLE, {}, UNKNOWN),
    (ManifoldMixup(layers=("",)), "classes", TABLE, {}, r"layers must name submodules of MLP, .*; got ''"),
    (ManifoldMixup(), "classes", TABLE, {"module__hidden_layer_sizes": ()}, NO_HIDDEN),
    (
        Mixture((INSIDE, Mixup()), per="example"),
        "classes",
        TABLE,
        {},
        r"per must be 'batch' where hidden layers are mixed; got 'example'\. Use per='batch'",
    ),
    (
        Mixup(partners="neighbors"),
        "classes",
        {"a": TABLE[:, :5], "b": TABLE[:, 1:]},
        {"module": Sum},
        r"X must be one array to look for neighbours; got dict\. Pass an array, or choose other partners",
    ),
]


@pytest.mark.parametrize(("vicinity", "kind", "X", "options", "message"), UNFIT)
def test_vicinity_that_does_not_fit_is_refused(
    vicinity: Any, kind: str, X: Any, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(vicinity, kind, **options).fit(X, TARGETS[kind])


@pytest.mark.parametrize(("vicinity", "kind", "X", "options", "message"), UNFIT[::2])
def test_vicinity_that_does_not_fit_is_refused_in_partial_fit(
    vicinity: Any, kind: str, X: Any, options: dict[str, Any], message: str
) -> None:
    net = make(vicinity, kind, **options)
    with pytest.raises(ValueError, match=message):
        net.partial_fit(X, TARGETS[kind])
    assert len(net.history or ()) == 0


def fit_then_refuse(vicinity: Any, kind: str, X: Any, options: dict[str, Any], message: str) -> Any:
    """Return a net whose second fit was refused, its tensors and predictions after the first."""
    net = make(None, kind, **options).fit(X, TARGETS[kind])
    before = {name: tensor.clone() for name, tensor in get_tensors(net).items()}, net.predict(X)
    net.__dict__["vicinity"] = vicinity
    with pytest.raises(ValueError, match=message):
        net.fit(X, TARGETS[kind])
    return net, *before


@pytest.mark.parametrize("case", UNFIT[::2])
def test_earlier_fit_outlives_a_refused_one(case: Any) -> None:
    net, tensors, predicted = fit_then_refuse(*case)
    torch.testing.assert_close(get_tensors(net), tensors, rtol=0, atol=0)
    np.testing.assert_array_equal(net.predict(case[2]), predicted)
    assert net.n_iter_ == 1


def make_pairs() -> Pairs:
    return Pairs(TABLE, CODES)


IN_ORDER = r"partners must be 'batch' for a data set or iterator with an order of its own; got .*Pass arrays"
NO_ARRAY = r"X must be one array to look for neighbours; got Pairs\. Pass an array, or choose other partners"
UNFIT_SETS: list[tuple[Any, Callable[[], Any], str]] = [
    (Mixup(partners="neighbors"), make_pairs, NO_ARRAY),
    (FeatureInterpolation(partners=NEAR), make_pairs, NO_ARRAY),
    (Mixture((ERM(), Mixup(partners=NEAR))), make_pairs, NO_ARRAY),
    (Mixup(partners="kernel"), make_pairs, BY_KERNEL),
    (CutMix(), make_pairs, r"vicinity CutMix\(.*\) must be given images"),
    (ManifoldMixup(layers=("conv1",)), make_pairs, UNKNOWN),
    (Mixup(partners="neighbors"), lambda: Stream(make_pairs()), IN_ORDER),
    (Mixup(partners="dataset"), lambda: Stream(make_pairs()), IN_ORDER),
    (CutMix(partners="same_class"), lambda: Stream(make_pairs()), IN_ORDER),
    (FeatureExtrapolation(), lambda: Stream(make_pairs()), IN_ORDER),
    (ManifoldMixup(partners="kernel"), lambda: Stream(make_pairs()), IN_ORDER),
    (CutMix(), lambda: Stream(make_pairs()), r"vicinity CutMix\(.*\) must be given images"),
    (ManifoldMixup(layers=("conv1",)), lambda: Stream(make_pairs()), UNKNOWN),
]


@pytest.mark.parametrize(("vicinity", "make_set", "message"), UNFIT_SETS)
def test_vicinity_that_does_not_fit_a_data_set_is_refused(
    vicinity: Any, make_set: Callable[[], Any], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(vicinity, classes=[0, 1, 2]).fit(make_set())


@pytest.mark.parametrize(("vicinity", "make_set", "message"), UNFIT_SETS)
def test_earlier_fit_outlives_one_on_a_data_set_that_is_refused(
    vicinity: Any, make_set: Callable[[], Any], message: str
) -> None:
    net = make(None, classes=[0, 1, 2]).fit(TABLE, CODES)
    before = {name: tensor.clone() for name, tensor in get_tensors(net).items()}
    net.set_params(vicinity=vicinity)
    with pytest.raises(ValueError, match=message):
        net.fit(make_set())
    torch.testing.assert_close(get_tensors(net), before, rtol=0, atol=0)


@pytest.mark.parametrize("partners", ["neighbors", "kernel", "dataset"])
def test_iterator_with_an_order_of_its_own_is_a_stream(partners: str) -> None:
    kind = "values" if partners == "kernel" else "classes"
    net = make(Mixup(partners=partners), kind, iterator_train__sampler=range(N))
    with pytest.raises(ValueError, match=IN_ORDER):
        net.fit(TABLE, TARGETS[kind])


# -- what does not fit the network -------------------------------------------------------


class Twice(nn.Module):
    """A network that calls a layer twice."""

    def __init__(self) -> None:
        super().__init__()
        self.shared, self.last, self.idle = nn.Linear(6, 6), nn.Linear(6, 3), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.shared(self.shared(x)))


class Pair(nn.Module):
    """A layer that returns two tensors."""

    def forward(self, x: Tensor) -> Any:
        return x, x


class Odd(nn.Module):
    """A network whose layers return what has no row for each example."""

    def __init__(self) -> None:
        super().__init__()
        self.pair, self.total, self.last = Pair(), nn.Identity(), nn.Linear(6, 3)
        self.doubled, self.halved, self.turned = nn.Identity(), nn.Identity(), nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        n = len(x)
        total = self.total(x.sum()) + self.pair(x)[0].sum() + self.turned(x.t().contiguous()).sum()
        return self.last(self.doubled(x.repeat(2, 1))[:n]) + 0 * (total + self.halved(x[: n // 2]).sum())


CALLED = r"layers must name submodules that are called once in a forward pass; got '{}', which was called {}"
RETURNS = r"layers must name submodules that return a tensor.*; got '{}'"


@pytest.mark.parametrize("partners", ["batch", "dataset"])
@pytest.mark.parametrize("options", [{}, {"augment": lambda x: x}], ids=["fast", "stepwise"])
@pytest.mark.parametrize(
    ("module", "layer", "message"),
    [
        (Twice, "shared", CALLED.format("shared", 2)),
        (Twice, "idle", CALLED.format("idle", 0)),
        (Odd, "pair", RETURNS.format("pair") + r", which returns tuple\. Name another"),
        (Odd, "total", RETURNS.format("total")),
        (Odd, "halved", r"layers must .*; got 'halved'"),
        (Odd, "doubled", r"layers must .*; got 'doubled'"),
        (Odd, "turned", r"layers must .*; got 'turned'"),
    ],
)
def test_layer_that_cannot_be_mixed_is_refused(
    module: Any, layer: str, message: str, partners: str, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=message):
        make(ManifoldMixup(layers=(layer,), partners=partners), module=module, **options).fit(TABLE, CODES)


def test_refused_layer_leaves_no_hook() -> None:
    net = make(ManifoldMixup(layers=("shared",)), module=Twice)
    with pytest.raises(ValueError, match="called once"):
        net.fit(TABLE, CODES)
    assert not any(part._forward_hooks for part in net.module_.modules())


COMPILED = {"compile": True, "compile__backend": "eager"}


@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doing
@pytest.mark.parametrize("vicinity", [ManifoldMixup(), INSIDE, Mixture((ERM(), INSIDE))], ids=str)
def test_compiled_module_is_not_mixed_inside(vicinity: Any) -> None:
    with pytest.raises(ValueError, match=r"compile must be False where hidden layers are mixed; got True"):
        make(vicinity, **COMPILED).fit(TABLE, CODES)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # torch's compiler warns of its own doing
@pytest.mark.parametrize(
    "vicinity",
    [FeatureInterpolation(partners=NEAR), ManifoldMixup(layers=("input",)), GaussianNoise()],
    ids=str,
)
def test_compiled_module_takes_inputs_that_are_mixed(vicinity: Any) -> None:
    net = make(vicinity, **COMPILED).fit(TABLE, CODES)
    np.testing.assert_array_equal(net.predict(TABLE), make(vicinity).fit(TABLE, CODES).predict(TABLE))


def test_graph_of_a_step_that_is_mixed_inside_is_refused() -> None:
    net = make(INSIDE).fit(TABLE, CODES)
    net.__dict__["cuda_graph"] = True
    batches = net.get_training_batches(net.get_dataset(TABLE, CODES), INSIDE)
    assert net.choose_trainer(batches, {}) == "hidden layers are mixed"
    with pytest.raises(ValueError, match=r"cuda_graph must be False .*, but hidden layers are mixed"):
        net.run_single_epoch(batches, training=True, prefix="train", step_fn=net.train_step)


@pytest.mark.parametrize("vicinity", [CutMix(), GaussianNoise(), Mixture((Mixup(), CutMix()))], ids=str)
def test_integers_of_a_data_set_are_refused(vicinity: Any) -> None:
    rows = make_tensor_dataset(np.ones((8, 6), dtype=np.int64), np.arange(8) % 3)
    module = nn.Sequential(nn.Embedding(2, 2), nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(
        ValueError, match="vicinity must leave inputs as they are for a module that takes integers"
    ):
        make(vicinity, module=module).fit(rows)


# -- options -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", OWNERS)
@pytest.mark.parametrize("value", ["mixup", Mixup, 0.5, True, (Mixup(), ERM()), nan, {"alpha": 1}], ids=repr)
def test_vicinity_must_be_a_policy(kind: str, value: Any) -> None:
    message = r"vicinity must be None or a policy of sk_mixup\.mixing; got .*Give an instance, such as Gau"
    with pytest.raises(TypeError, match=message):
        make(value, kind).fit(TABLE, TARGETS[kind])


@pytest.mark.parametrize("kind", OWNERS)
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("alpha", 0.5),
        ("alpha", 0),
        ("alpha", inf),
        ("lam_per", "batch"),
        ("n_mixed", 3),
        ("partners", "dataset"),
    ],
)
def test_options_of_mixup_beside_a_vicinity_are_said_to_be_idle(kind: str, name: str, value: Any) -> None:
    message = rf"{name} is not used where vicinity is given; got {value!r} beside .*Mixup\({name}="
    with pytest.warns(UserWarning, match=message):
        net = make(GaussianNoise(), kind, **{name: value}).fit(TABLE, TARGETS[kind])
    assert_same_nets(net, make(GaussianNoise(), kind).fit(TABLE, TARGETS[kind]))


def test_defaults_beside_a_vicinity_are_taken() -> None:
    defaults = {"alpha": 0.2, "lam_per": "example", "n_mixed": 2, "partners": "batch"}
    nets = [make(GaussianNoise(), **options).fit(TABLE, CODES) for options in ({}, defaults)]
    assert_same_nets(*nets)


@pytest.mark.parametrize("name", ["vicinity__alpha", "vicinity__std", "vicinty"])
def test_options_of_a_policy_are_not_the_estimators(name: str) -> None:
    with pytest.raises(ValueError, match=r"(?i)did you mean 'vicinity'"):
        MixupClassifier(**{"vicinity": Mixup(), name: 0.3}).fit(TABLE, CODES)


@pytest.mark.parametrize("partners", ["nearest", None, 3, NeighborPartners], ids=repr)
def test_partners_must_be_known(partners: Any) -> None:
    with pytest.raises(ValueError, match=r"partners must be one of 'batch', 'dataset', .*; got "):
        make(None, partners=partners).fit(TABLE, CODES)


@pytest.mark.parametrize(
    ("kind", "partners"),
    [("classes", NEAR), ("values", KernelPartners(0.5)), ("values", "neighbors")],
    ids=str,
)
def test_partners_may_be_a_policy(kind: str, partners: Any) -> None:
    flat = make(None, kind, partners=partners).fit(TABLE, TARGETS[kind])
    assert_same_nets(flat, make(Mixup(0.2, partners=partners), kind).fit(TABLE, TARGETS[kind]))


@pytest.mark.filterwarnings("ignore:X must be near unit scale:UserWarning")
def test_steep_extrapolation_says_that_the_loss_broke() -> None:
    net = make(Extrapolation(inf), "values", lr=1e30, max_epochs=5, optimizer=torch.optim.SGD)
    with pytest.raises(ValueError, match="train_loss must stay finite"):
        net.fit(TABLE * 1e10, VALUES)


@pytest.mark.parametrize("vicinity", [INSIDE, GaussianNoise()], ids=str)
def test_callbacks_that_look_at_gradients_are_heard(vicinity: Any) -> None:
    clipped = [("clip", GradientNormClipping(1e-9))]
    net = make(vicinity, callbacks=clipped, optimizer=torch.optim.SGD).fit(TABLE, CODES)
    start = make(vicinity, max_epochs=0, optimizer=torch.optim.SGD).fit(TABLE, CODES)
    torch.testing.assert_close(get_tensors(net), get_tensors(start), rtol=0, atol=1e-6)


class CompiledInPlace(nn.Sequential):
    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(*(layers or (nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))))
        self.compile()


@pytest.mark.parametrize(
    "change", [torch.jit.script, torch.compile, lambda _: CompiledInPlace], ids=["script", "compile", "own"]
)
def test_hidden_layers_of_what_may_call_no_hooks_are_refused(change: Any) -> None:
    module = nn.Sequential(nn.Linear(2, 4), nn.ReLU(), nn.Linear(4, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch.jit is to go
        changed = change(module)
    net = MixupClassifier(changed, vicinity=ManifoldMixup(1.0), max_epochs=1, early_stopping=False)
    with pytest.raises(ValueError, match="module must not be compiled or scripted"):
        net.fit(np.zeros((8, 2), dtype=np.float32), np.arange(8) % 2)
