"""Nets that were trained as one are ordinary nets; what cannot be stacked is trained singly."""

from __future__ import annotations

import copy
import functools
from functools import partial
from pathlib import Path
import pickle
from threading import Lock
from typing import Any
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from skorch import NeuralNetClassifier
from skorch.callbacks import Callback, GradientNormClipping, LRScheduler
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.architectures import (
    ARCHITECTURES,
    PROBLEMS,
    Look,
    assert_close_nets,
    assert_same_nets,
    get_tensors,
    make_net,
    make_rows,
)
from tests.helpers.stacking import fit_stacked

# 45 rows in batches of 16, and fewer.
FOLDS = [slice(0, 45), slice(5, 45), slice(3, 36), slice(20, 40)]
QUICK: dict[str, Any] = {"early_stopping": False, "max_epochs": 2, "lr": 0.02, "batch_size": 16}
TIGHT = {"rtol": 1e-9, "atol": 1e-9}
X, Y = make_rows("mlp"), PROBLEMS["classes"].y
KINDS = ["mlp", "tanh", "normed", "dropout", "channels_last"]


# Slow: trains each net twice and goes on, 11 s of CPU.
pytestmark = [pytest.mark.usefixtures("stack_two"), pytest.mark.slow]


def make_jobs(architecture: str, **options: Any) -> list[tuple[Any, Any, Any]]:
    """Return a job for each fold."""
    rows = make_rows(architecture)
    return [
        (make_net(architecture, **{**QUICK, "random_state": k, **options}), rows[fold], Y[fold])
        for k, fold in enumerate(FOLDS)
    ]


def fit_both(jobs: list[tuple[Any, ...]]) -> tuple[list[Any], list[Any]]:
    """Fit copies of the nets of some jobs together, and others one after the other."""
    single = [clone(net).fit(*data) for net, *data in jobs]
    return fit_stacked((clone(net), *data) for net, *data in jobs), single


@functools.cache
def fit_pairs(architecture: str) -> list[tuple[Any, Any]]:
    """Return nets that were fitted together in float64, each with its single fit; not to be changed."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        return list(zip(*fit_both(make_jobs(architecture)), strict=True))
    finally:
        torch.set_default_dtype(before)


def list_tensors(net: Any) -> list[Tensor]:
    return [*net.module_.parameters(), *net.module_.buffers(), *get_tensors(net).values()]


# -- what is left of a stack -------------------------------------------------------------


def assert_ordinary(together: Any, single: Any) -> None:
    """Assert that the tensors of a net are like those of a single fit."""
    ours, theirs = list_tensors(together), list_tensors(single)
    assert not any(tensor.is_inference() for tensor in ours)
    assert [t.requires_grad for t in ours] == [t.requires_grad for t in theirs]
    assert [t.is_leaf for t in ours] == [t.is_leaf for t in theirs]
    assert [t.stride() for t in ours] == [t.stride() for t in theirs]
    assert [type(t) for t in ours] == [type(t) for t in theirs]
    kept = [value for state in together.optimizer_.state.values() for value in state.values()]
    held = [*ours, *kept, *(p.grad for p in together.module_.parameters())]
    # None holds the memory of the stack.
    assert all(t.untyped_storage().nbytes() == t.nbytes for t in held if isinstance(t, Tensor))


@pytest.mark.parametrize("architecture", KINDS)
def test_tensors_are_ordinary_ones(architecture: str) -> None:
    for pair in fit_pairs(architecture):
        assert_ordinary(*pair)


@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
@pytest.mark.parametrize("optimizer", [torch.optim.SGD, torch.optim.ASGD])
def test_tensors_are_ordinary_ones_with_each_optimizer(architecture: str, optimizer: Any) -> None:
    options = {"optimizer__momentum": 0.9} if optimizer is torch.optim.SGD else {}
    for pair in zip(*fit_both(make_jobs(architecture, optimizer=optimizer, **options)), strict=True):
        assert_ordinary(*pair)


@pytest.mark.parametrize("architecture", KINDS)
def test_gradients_are_left_where_single_fits_leave_them(architecture: str) -> None:
    for together, single in fit_pairs(architecture):
        for p, other in zip(together.module_.parameters(), single.module_.parameters(), strict=True):
            assert (p.grad is None) == (other.grad is None)
            if p.grad is not None:
                torch.testing.assert_close(p.grad, other.grad, **TIGHT)


@pytest.mark.parametrize("architecture", KINDS)
def test_module_is_as_a_single_fit_leaves_it(architecture: str) -> None:
    for together, single in fit_pairs(architecture):
        modules = [list(net.module_.named_modules()) for net in (together, single)]
        for (name, part), (other_name, other) in zip(*modules, strict=True):
            assert (name, type(part), part.training) == (other_name, type(other), other.training)
            assert vars(part).keys() == vars(other).keys()
        assert vars(together).keys() == vars(single).keys()


@pytest.mark.parametrize("architecture", KINDS)
def test_pickle_is_no_larger(architecture: str) -> None:
    for together, single in fit_pairs(architecture):
        sizes = len(pickle.dumps(together)), len(pickle.dumps(single))
        # torch names each tensor by where it lies in memory, in more digits or fewer.
        assert sizes[0] == pytest.approx(sizes[1], rel=0.05)


def _reload_state(net: Any) -> Any:
    """Return a copy whose optimizer was given its state back."""
    other = copy.deepcopy(net)
    other.optimizer_.load_state_dict(net.optimizer_.state_dict())
    return other


COPIES = {
    "pickle": lambda net: pickle.loads(pickle.dumps(net)),
    "copy": copy.deepcopy,
    "state": _reload_state,
}


@pytest.mark.parametrize("architecture", KINDS)
def test_net_goes_on_as_a_single_one(float64: None, architecture: str) -> None:
    jobs = make_jobs(architecture)
    for together, single, (_, *rows) in zip(*fit_both(jobs), jobs, strict=True):
        for _ in range(2):
            assert_close_nets(together.partial_fit(*rows), single.partial_fit(*rows), **TIGHT)


@pytest.mark.parametrize("name", COPIES)
@pytest.mark.parametrize("architecture", ["mlp", "tanh"])
def test_copy_of_a_net_goes_on_as_a_single_one(float64: None, architecture: str, name: str) -> None:
    (together, single), (_, *rows) = fit_pairs(architecture)[0], make_jobs(architecture)[0]
    other, single = COPIES[name](together), copy.deepcopy(single)
    for _ in range(2):
        assert_close_nets(other.partial_fit(*rows), single.partial_fit(*rows), **TIGHT)


def test_nets_of_different_layouts_go_on_as_single_ones(float64: None) -> None:
    rows = make_rows("channels_last")
    build = partial(ARCHITECTURES["convolution"].build, 3)
    nets = [
        MixupClassifier(build, **QUICK, channels_last=last, random_state=k)
        for k, last in enumerate([False, True, True, False])
    ]
    jobs = [(net, rows[fold], Y[fold]) for net, fold in zip(nets, FOLDS, strict=True)]
    together, single = fit_both(jobs)
    for net, other, (_, *data) in zip(together, single, jobs, strict=True):
        assert_close_nets(net, other, **TIGHT)
        strides = [[tensor.stride() for tensor in list_tensors(n)] for n in (net, other)]
        assert_close_nets(net.partial_fit(*data), other.partial_fit(*data), **TIGHT)
        assert strides[0] == strides[1]


@pytest.mark.parametrize("architecture", KINDS)
def test_net_starts_warm_as_a_single_one(float64: None, architecture: str) -> None:
    jobs = make_jobs(architecture, warm_start=True)
    together, single = fit_both(jobs)
    fit_stacked((net, *rows) for net, (_, *rows) in zip(together, jobs, strict=True))
    for net, (_, *rows) in zip(single, jobs, strict=True):
        net.fit(*rows)
    for net, other in zip(together, single, strict=True):
        assert_close_nets(net, other, **TIGHT)
        assert len(net.history) == len(other.history) == 4


def test_copy_of_a_net_shares_nothing_with_the_others() -> None:
    together = fit_stacked(make_jobs("mlp"))
    before = [copy.deepcopy(get_tensors(net)) for net in together]
    together[0].partial_fit(X, Y)
    for net, tensors in zip(together[1:], before[1:], strict=True):
        torch.testing.assert_close(get_tensors(net), tensors, rtol=0, atol=0)


def test_clone_is_not_fitted() -> None:
    (net, *_) = fit_stacked(make_jobs("mlp"))
    other = clone(net)
    assert not other.initialized_
    assert other.fit(X, Y).n_iter_ == 2


@pytest.mark.parametrize("architecture", KINDS)
def test_parameters_are_saved_and_loaded(tmp_path: Path, architecture: str) -> None:
    jobs = make_jobs(architecture)
    names = {"f_params": "weights.pt", "f_optimizer": "optimizer.pt", "f_history": "history.json"}
    files = {key: tmp_path / name for key, name in names.items()}
    for net, (fresh, *rows) in zip(
        fit_stacked((clone(net), *rows) for net, *rows in jobs), jobs, strict=True
    ):
        net.save_params(**files)
        other = clone(fresh).set_params(max_epochs=1, random_state=9).fit(*rows)
        other.load_params(**files)
        assert_same_nets(net, other)
        np.testing.assert_array_equal(net.predict_proba(rows[0]), other.predict_proba(rows[0]))


def assert_same_columns(together: Any, single: Any) -> None:
    """Assert that two histories hold values of the same names and types."""
    ours, theirs = (net.history[-1] for net in (together, single))
    assert {name: type(value) for name, value in ours.items()} == {
        name: type(value) for name, value in theirs.items()
    }
    assert [list(row) for row in ours["batches"]] == [list(row) for row in theirs["batches"]]
    types = [[type(value) for value in row["batches"][0].values()] for row in (ours, theirs)]
    assert types[0] == types[1]


@pytest.mark.parametrize("architecture", KINDS)
def test_history_has_the_columns_of_a_single_one(architecture: str) -> None:
    for pair in fit_pairs(architecture):
        assert_same_columns(*pair)


@pytest.mark.parametrize("architecture", ["mlp", "dropout"])
def test_history_with_validation_has_the_columns_of_a_single_one(architecture: str) -> None:
    for pair in zip(*fit_both(make_jobs(architecture, early_stopping=True)), strict=True):
        assert_same_columns(*pair)


def test_nets_without_a_seed_differ(stacks: list[int]) -> None:
    nets = fit_stacked((MixupClassifier(**QUICK), X, Y) for _ in range(4))
    weights = [next(net.module_.parameters()) for net in nets]
    assert not any(torch.equal(weights[0], other) for other in weights[1:])
    assert stacks == [4, 4]


@pytest.mark.parametrize("architecture", ["mlp", "dropout"])
def test_global_generators_are_left_as_they_were(architecture: str) -> None:
    jobs = make_jobs(architecture)
    np.random.seed(0)  # noqa: NPY002
    before = torch.get_rng_state(), np.random.get_state()[1].copy()  # noqa: NPY002
    fit_stacked(jobs)
    assert torch.equal(torch.get_rng_state(), before[0])
    np.testing.assert_array_equal(np.random.get_state()[1], before[1])  # noqa: NPY002


# -- what cannot be stacked --------------------------------------------------------------


class OwnStep(MixupClassifier):
    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        return super().train_step(batch, **fit_params)


class OwnLoss(MixupClassifier):
    def get_loss(self, y_pred: Any, y_true: Any, *args: Any, **kwargs: Any) -> Any:
        return 2 * super().get_loss(y_pred, y_true, *args, **kwargs)


class OwnOptimizer(torch.optim.SGD):
    """Is a user's."""


class Plain(nn.Module):
    """A linear model; the others change it."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.change(self.first(x)).tanh())

    def change(self, x: Tensor) -> Tensor:
        return x


class Hooked(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.first.register_forward_hook(double)


def double(_: Any, __: Any, output: Tensor) -> Tensor:
    return 2 * output


class Holding(Plain):
    """Holds something that cannot be compared."""

    def __init__(self, make: Any) -> None:
        super().__init__()
        self.held = make()


def make_recursive_function() -> Any:
    def count(n: int) -> int:
        return count(n - 1) if n else 0

    return count


def make_recursive_list() -> Any:
    held: list[Any] = []
    held.append(held)
    return held


class Deciding(Plain):
    def change(self, x: Tensor) -> Tensor:
        return 2 * x if x.sum() > 0 else x


class Noisy(Plain):
    def change(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x) if self.training else x


class AlwaysNoisy(Plain):
    def change(self, x: Tensor) -> Tensor:
        return x + torch.rand_like(x)


class Dropping(Plain):
    def change(self, x: Tensor) -> Tensor:
        return nn.functional.dropout(x, 0.5, self.training)


class WholeChannels(Plain):
    def __init__(self) -> None:
        super().__init__()
        self.drop = nn.AlphaDropout(0.3)

    def change(self, x: Tensor) -> Tensor:
        return self.drop(x)


class Averaged(Plain):
    """Keeps a plain average, whose weight is read from a counter."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8, bias=False)
        self.norm = nn.BatchNorm1d(8, momentum=None)

    def change(self, x: Tensor) -> Tensor:
        return self.norm(x)


class Recurrent(Plain):
    def __init__(self, make: type[nn.RNNBase]) -> None:
        super().__init__()
        self.cell = make(8, 8, batch_first=True)

    def change(self, x: Tensor) -> Tensor:
        return self.cell(x[:, None])[0][:, 0]


class HookedOptimizer(Callback):
    def on_train_begin(self, net: Any, **_: Any) -> None:
        net.optimizer_.register_step_post_hook(do_nothing)


def do_nothing(*_: Any) -> None:
    pass


def scale(x: Tensor) -> Tensor:
    return 1.1 * x


STEP_BY_STEP: list[tuple[str, Any, dict[str, Any]]] = [
    ("LBFGS", MixupClassifier, {"optimizer": torch.optim.LBFGS, "lr": 0.1, "optimizer__max_iter": 2}),
    ("train_step is overridden", OwnStep, {}),
    ("get_loss is overridden", OwnLoss, {}),
    ("hooks round a batch", MixupClassifier, {"callbacks": [Look()]}),
    (
        "hooks round a batch",
        MixupClassifier,
        {"callbacks": [LRScheduler("StepLR", step_size=1, step_every="batch")]},
    ),
    ("looks at the gradients", MixupClassifier, {"callbacks": [GradientNormClipping(0.1)]}),
    ("augment", MixupClassifier, {"augment": scale}),
    ("criterion L1Loss", MixupClassifier, {"criterion": nn.L1Loss, "alpha": 0}),
]
SINGLE: list[tuple[str, Any, dict[str, Any]]] = [
    ("has hooks", MixupClassifier, {"module": Hooked}),
    ("held is a lock, which cannot be compared", MixupClassifier, {"module": partial(Holding, Lock)}),
    ("", MixupClassifier, {"module": partial(Holding, make_recursive_function)}),
    ("", MixupClassifier, {"module": partial(Holding, make_recursive_list)}),
    ("", MixupClassifier, {"module": Deciding}),
    ("", MixupClassifier, {"module": Noisy}),
    ("", MixupClassifier, {"module": Dropping}),
    ("", MixupClassifier, {"module": WholeChannels}),
    ("", MixupClassifier, {"module": Averaged}),
    *(
        (f"cell is recurrent, a {make.__name__}", MixupClassifier, {"module": partial(Recurrent, make)})
        for make in (nn.GRU, nn.LSTM, nn.RNN)
    ),
    ("OwnOptimizer", MixupClassifier, {"optimizer": OwnOptimizer}),
    ("Adafactor", MixupClassifier, {"optimizer": torch.optim.Adafactor}),
    ("step has hooks", MixupClassifier, {"callbacks": [HookedOptimizer()]}),
    ("lr is a tensor", MixupClassifier, {"optimizer__lr": torch.tensor(0.01)}),
]


def make_refused_jobs(owner: Any, options: dict[str, Any]) -> list[tuple[Any, ...]]:
    """Return jobs of nets that cannot be stacked, among others that can."""
    jobs = [
        (owner(**{**QUICK, "random_state": k, **options}), X[fold], Y[fold]) for k, fold in enumerate(FOLDS)
    ]
    return [job for pair in zip(jobs, make_jobs("mlp"), strict=True) for job in pair]


def fit_and_listen(jobs: list[tuple[Any, ...]]) -> tuple[list[Any], list[Any], list[str]]:
    """Fit nets together and singly; return them and what the stack warned of."""
    single = [clone(net).fit(*data) for net, *data in jobs]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        together = fit_stacked((clone(net), *data) for net, *data in jobs)
    assert {warning.category for warning in caught} <= {UserWarning}
    return together, single, [str(warning.message) for warning in caught]


def check_refusal(jobs: list[tuple[Any, ...]], reason: str, n_warnings: int = 1) -> None:
    """Assert that nets are those of single fits, and that one warning names the reason."""
    together, single, messages = fit_and_listen(jobs)
    messages = [message for message in messages if "early" not in message]  # few rows are held out
    assert len(messages) == n_warnings
    assert all(message.startswith("stacked:") and reason in message for message in messages)
    for net, other in zip(together, single, strict=True):
        assert_close_nets(net, other, **TIGHT)
        np.testing.assert_allclose(net.history[:, "train_loss"], other.history[:, "train_loss"], rtol=1e-9)


@pytest.mark.parametrize(("reason", "owner", "options"), STEP_BY_STEP)
def test_net_that_goes_step_by_step_is_trained_singly(
    float64: None, stacks: list[int], reason: str, owner: Any, options: dict[str, Any]
) -> None:
    if options.get("criterion") is nn.L1Loss:
        owner, targets = MixupRegressor, PROBLEMS["targets"].y
    else:
        targets = Y
    jobs = make_refused_jobs(owner, options)
    jobs = [(net, x, targets[FOLDS[k // 2]] if k % 2 == 0 else y) for k, (net, x, y) in enumerate(jobs)]
    check_refusal(jobs, reason)
    assert stacks == [4, 4]


@pytest.mark.parametrize(
    ("reason", "owner", "options"), SINGLE, ids=[f"{k}-{case[0]}" for k, case in enumerate(SINGLE)]
)
def test_net_that_is_unlike_others_is_trained_singly(
    float64: None, stacks: list[int], reason: str, owner: Any, options: dict[str, Any]
) -> None:
    check_refusal(make_refused_jobs(owner, options), reason)
    assert stacks == [4, 4]


@pytest.mark.parametrize("module", [Noisy, AlwaysNoisy, Deciding])
def test_refused_net_with_validation_equals_a_single_one(float64: None, module: Any) -> None:
    options = {"module": module, "early_stopping": True, "max_epochs": 3}
    check_refusal(make_refused_jobs(MixupClassifier, options), "")


def test_single_net_with_validation_equals_a_single_one(float64: None) -> None:
    net = MixupClassifier(AlwaysNoisy, **QUICK | {"early_stopping": True, "max_epochs": 3}, random_state=0)
    check_refusal([(net, X, Y)], "", n_warnings=0)


class Rows(torch.utils.data.Dataset):
    def __init__(self, fold: slice) -> None:
        self.rows = [
            (torch.tensor(x, dtype=torch.get_default_dtype()), int(y))
            for x, y in zip(X[fold], Y[fold], strict=True)
        ]

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, k: int) -> Any:
        return self.rows[k]


def test_net_with_a_dataset_is_trained_singly(float64: None, stacks: list[int]) -> None:
    jobs = make_jobs("mlp")
    sets = [(clone(net), Rows(fold)) for (net, *_), fold in zip(jobs, FOLDS, strict=True)]
    check_refusal([*sets, *jobs], "Dataset")
    assert stacks == [4, 4]


class SkorchNet(MixupNetMixin, NeuralNetClassifier):
    """A mixed net of skorch's."""

    n_iter_ = property(lambda self: len(self.history))


@pytest.mark.parametrize("alpha", [0.0, 0.4])
@pytest.mark.parametrize("criterion", [nn.NLLLoss, nn.CrossEntropyLoss])
def test_net_of_skorch_is_trained_singly(
    float64: None, stacks: list[int], criterion: Any, alpha: float
) -> None:
    module = nn.Sequential(nn.Linear(6, 3), nn.Softmax(dim=1) if criterion is nn.NLLLoss else nn.Identity())
    options = {"max_epochs": 2, "lr": 0.1, "batch_size": 16, "train_split": None, "verbose": 0}
    options |= {"criterion": criterion, "alpha": alpha}
    nets = [SkorchNet(copy.deepcopy(module), random_state=k, **options) for k in range(3)]
    jobs = [(net, X[fold].astype(float), Y[fold]) for net, fold in zip(nets, FOLDS[:3], strict=True)]
    check_refusal([*jobs, *make_jobs("mlp")], "SkorchNet is neither a MixupClassifier nor a MixupRegressor")
    assert stacks == [4, 4]


def test_scaled_loss_is_trained_singly(stacks: list[int]) -> None:
    options = {"module": Plain, "autocast": "float16"}
    together, single, messages = fit_and_listen(make_refused_jobs(MixupClassifier, options))
    assert ["float16" in message for message in messages] == [True]
    for net, other in zip(together[::2], single[::2], strict=True):
        assert_same_nets(net, other)
    assert stacks == [4, 4]


def test_each_reason_is_named_once(float64: None) -> None:
    jobs = [*make_refused_jobs(OwnStep, {}), *make_refused_jobs(MixupClassifier, {"augment": scale})]
    _, _, messages = fit_and_listen(jobs)
    assert len(messages) == 2
    for _ in range(2):
        assert len(fit_and_listen(make_refused_jobs(OwnStep, {}))[2]) == 1  # once a call


class Dropper(Plain):
    """A module whose options differ from net to net."""

    def __init__(self, p: float = 0.5, factor: float = 1.0) -> None:
        super().__init__()
        self.drop = nn.Dropout(p)
        self.factor = factor

    def change(self, x: Tensor) -> Tensor:
        return self.factor * self.drop(x)


@pytest.mark.parametrize("name", ["p", "factor"])
def test_modules_of_different_options_are_in_stacks_of_their_own(
    float64: None, stacks: list[int], name: str
) -> None:
    jobs = [
        (MixupClassifier(Dropper, **QUICK, **{f"module__{name}": value}, random_state=k), X, Y)
        for k, value in enumerate([0.2, 0.2, 0.4, 0.4, 0.6])
    ]
    for net, other in zip(*fit_both(jobs), strict=True):
        assert_close_nets(net, other, **TIGHT)
    assert stacks == [2, 2] * 2


@pytest.mark.parametrize("architecture", ["mlp", "dropout"])
def test_net_without_a_whole_batch_does_no_harm_to_the_others(float64: None, architecture: str) -> None:
    few = make_net(architecture, **QUICK, iterator_train__drop_last=True), X[:5], Y[:5]
    for net, other in zip(*fit_both([*make_jobs(architecture), few]), strict=True):
        assert_close_nets(net, other, **TIGHT)
        assert len(net.history[-1]["batches"]) == len(other.history[-1]["batches"])


def test_net_that_diverges_does_no_harm_to_the_others(float64: None, stacks: list[int]) -> None:
    jobs = make_jobs("mlp")
    expected = [clone(net).fit(*rows) for net, *rows in jobs]
    bad = (make_net(**QUICK | {"lr": 1e300}), X, Y)
    with pytest.raises(ValueError, match="finite"):
        fit_stacked([*jobs, bad])
    for (net, *_), other in zip(jobs, expected, strict=True):
        assert_close_nets(net, other, **TIGHT)
    assert 5 in stacks
