"""What skorch's users bring, beside what skorch makes of it: nothing is lost, and nothing else is done."""

from collections.abc import Callable
import copy
import pickle
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize_scalar
from scipy.special import log_softmax
from skorch import NeuralNet, NeuralNetClassifier, NeuralNetRegressor
from skorch.callbacks import Callback, EpochScoring, LRScheduler
from skorch.dataset import Dataset as SkorchDataset
from skorch.dataset import ValidSplit
from skorch.helper import predefined_split
from skorch.utils import to_device
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from sk_mixup import MixupClassifier, MixupNetMixin

X = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
Y = np.random.default_rng(1).integers(0, 3, 40)
QUICK: dict[str, Any] = {"max_epochs": 3, "lr": 0.1, "verbose": 0, "batch_size": 8, "train_split": None}
PLAIN = QUICK | {"iterator_train__shuffle": False, "criterion": nn.CrossEntropyLoss}


class Net(MixupNetMixin, NeuralNetClassifier):
    pass


class Regressor(MixupNetMixin, NeuralNetRegressor):
    pass


class AnyNet(MixupNetMixin, NeuralNet):
    pass


def make_module(n_outputs: int = 3) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, n_outputs))


def get_weights(net: Any) -> Tensor:
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


# -- as many targets as rows -------------------------------------------------------------


@pytest.mark.parametrize("n_targets", [1, 30, 39, 41])
@pytest.mark.parametrize("form", [np.asarray, torch.tensor])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_refuses_another_number_of_targets(n_targets: int, form: Callable[..., Any], method: str) -> None:
    y = np.resize(Y, n_targets)
    for net, targets in (
        (Net(make_module(), **PLAIN), form(y)),
        (Regressor(make_module(1), **QUICK), form(y[:, None].astype(np.float32))),
    ):
        with pytest.raises(ValueError, match=f"y must hold a target for each row of X; got {n_targets} for"):
            getattr(net, method)(form(X), targets)


def test_refuses_arrays_of_several_lengths() -> None:
    with pytest.raises(ValueError, match="X must be a mapping of arrays of as many rows"):
        Net(make_module(), **PLAIN).fit({"a": X, "b": X[:39]}, Y)


# -- nets of the user's own among the bases ----------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        "train_step_single",
        "validation_step",
        "get_iterator",
        "fit_loop",
        "run_single_epoch",
        "get_split_datasets",
        "forward_iter",
    ],
)
def test_a_method_that_would_never_be_called_is_refused(name: str) -> None:
    base = type("Base", (NeuralNetClassifier,), {name: lambda self, *args, **kwargs: None})
    with pytest.raises(TypeError, match=f"leaves {name} to skorch.*Base.{name}, which would never be called"):
        type("Mixed", (MixupNetMixin, base), {})
    for behind in (NeuralNetClassifier, base):  # that of the subclass is called
        assert type("Own", (MixupNetMixin, behind), {name: lambda self, *args, **kwargs: None})


class Scaling(NeuralNetClassifier):
    def get_dataset(self, X: Any, y: Any = None) -> Any:
        return super().get_dataset(10 * X, y)


@pytest.mark.parametrize("train_split", [None, ValidSplit(4)], ids=["whole", "split"])
def test_data_are_what_a_base_makes_of_them(train_split: Any) -> None:
    mixed = type("Mixed", (MixupNetMixin, Scaling), {})
    options = PLAIN | {"train_split": train_split}
    net = mixed(make_module(), alpha=0, **options).fit(X, Y)
    by_skorch = Scaling(make_module(), **options).fit(X, Y)
    torch.testing.assert_close(get_weights(net), get_weights(by_skorch), rtol=0, atol=1e-5)
    np.testing.assert_allclose(net.predict_proba(X), by_skorch.predict_proba(X), atol=1e-5)


class Accumulating(NeuralNetClassifier):
    """Looks at the batch before, in a step of its own."""

    def train_step(self, batch: Any, **fit_params: Any) -> Any:
        self.seen = [*getattr(self, "seen", []), *self.history[-1, "batches"][:-1][-1:]]
        return super().train_step(batch, **fit_params)


class Penalised(NeuralNetClassifier):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        loss: Tensor = super().get_loss(y_pred, y_true, X=X, training=training)
        return loss + y_pred.square().mean()


class Tempered(NeuralNetClassifier):
    def infer(self, x: Any, **fit_params: Any) -> Any:
        return 2 * super().infer(x, **fit_params)


@pytest.mark.parametrize("base", [Accumulating, Penalised, Tempered])
def test_steps_of_a_base_that_are_called_are_the_user_s(base: Any) -> None:
    mixed = type("Mixed", (MixupNetMixin, base), {})
    net = mixed(make_module(), alpha=0, **PLAIN).fit(X, Y)
    by_skorch = base(make_module(), **PLAIN).fit(X, Y)
    np.testing.assert_allclose(net.history[:, "train_loss"], by_skorch.history[:, "train_loss"], rtol=1e-5)
    torch.testing.assert_close(get_weights(net), get_weights(by_skorch), rtol=0, atol=1e-6)
    losses = [[row["train_loss"] for row in getattr(of, "seen", [])] for of in (net, by_skorch)]
    np.testing.assert_allclose(*losses, rtol=1e-5)


# -- arguments of forward ----------------------------------------------------------------


class Scaled(nn.Module):
    """Wants another argument."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)

    def forward(self, x: Tensor, scale: float) -> Tensor:
        out: Tensor = self.linear(x) * scale
        return out


class ScaledByDefault(Scaled):
    def forward(self, x: Tensor, scale: float = 1.0) -> Tensor:
        return super().forward(x, scale)


class Noting(Callback):
    """Notes what it is shown of each training batch, beside what the module makes of the clean rows."""

    def __init__(self) -> None:
        self.gaps: list[float] = []

    def on_batch_end(self, net: Any, batch: Any = None, training: bool = False, **step: Any) -> None:
        if training:
            with torch.no_grad():
                expected = net.module_(batch[0], scale=2.0)
            self.gaps.append(float((step["y_pred"] - expected).abs().max()))


@pytest.mark.parametrize("module", [Scaled, ScaledByDefault])
@pytest.mark.parametrize("owner", [Net, MixupClassifier])
def test_what_forward_is_given_holds_for_clean_rows_too(module: type[nn.Module], owner: Any) -> None:
    noting = Noting()
    options = {"criterion": nn.CrossEntropyLoss} if owner is Net else {"early_stopping": False}
    net = owner(module(), alpha=0.5, random_state=0, callbacks=[noting], **QUICK, **options)
    net.fit(X, Y, scale=2.0)
    assert len(noting.gaps) == 15
    assert max(noting.gaps) < 1e-5


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("owner", [Net, MixupClassifier])
def test_scores_of_training_rows_are_given_what_forward_is_given(owner: Any, use_caching: bool) -> None:
    def measure(net: Any, dataset: Any, y: Any = None) -> float:
        return float(np.abs(np.concatenate([out.detach() for out in net.forward_iter(dataset)])).mean())

    scoring = EpochScoring(measure, on_train=True, name="size", use_caching=use_caching)
    options = {"criterion": nn.CrossEntropyLoss} if owner is Net else {"early_stopping": False}
    module = Scaled if use_caching else ScaledByDefault  # else skorch calls it without
    net = owner(module(), alpha=0.5, random_state=0, callbacks=[scoring], **QUICK, **options)
    net.fit(X, Y, scale=2.0)
    with torch.no_grad():
        size = float(net.module_(torch.tensor(X), scale=2.0 if use_caching else 1.0).abs().mean())
    # With caching a mixin's scores are of the batches as they were trained on, so only near it.
    rel = 1e-5 if owner is MixupClassifier or not use_caching else 0.3
    assert net.history[-1, "size"] == pytest.approx(size, rel=rel)


def test_a_schedule_by_batches_is_followed() -> None:
    schedule = {"base_lr": 0.01, "max_lr": 0.1, "step_size_up": 4, "step_every": "batch"}
    nets = [
        owner(Scaled(), callbacks=[LRScheduler("CyclicLR", **schedule)], **PLAIN, **options)
        for owner, options in ((Net, {"alpha": 0.5}), (NeuralNetClassifier, {}))
    ]
    rates, by_skorch = (
        [row["event_lr"] for epoch in net.fit(X, Y, scale=2.0).history for row in epoch["batches"]]
        for net in nets
    )
    assert len(set(rates)) > 3
    np.testing.assert_allclose(rates, by_skorch)


@pytest.mark.parametrize(("module", "scale"), [(ScaledByDefault, 1.0), (Scaled, 3.0)])
def test_a_temperature_is_that_of_what_is_predicted(module: Any, scale: float) -> None:
    """Predictions give `forward` its defaults; only where it has none, those of the fit are at hand."""
    split = predefined_split(SkorchDataset(X[:20], Y[:20]))
    options = QUICK | {"train_split": split, "max_epochs": 30, "early_stopping": True, "calibrate": True}
    net = MixupClassifier(module(), random_state=0, **options).fit(X[20:], Y[20:], scale=3.0)
    with torch.no_grad():
        logits = net.module_(torch.tensor(X[:20]), scale=scale).double().numpy()

    def loss(log: float) -> float:
        shares = log_softmax(logits / np.exp(log), axis=1)
        return -float(shares[np.arange(20), Y[:20]].sum()) + log**2 / (2 * 0.3**2)

    expected = np.exp(minimize_scalar(loss, bounds=(-3, 3), method="bounded").x)
    assert net.temperature_ == pytest.approx(expected, rel=1e-3)


# -- augmentation by a module ------------------------------------------------------------


class Flip(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return -x


@pytest.mark.parametrize("owner", [Net, AnyNet, MixupClassifier])
@pytest.mark.parametrize("set_later", [False, True])
def test_a_module_may_augment(owner: Any, set_later: bool) -> None:
    def fit(augment: Any) -> Tensor:
        options = QUICK | ({} if owner is MixupClassifier else {"criterion": nn.CrossEntropyLoss})
        net = owner(make_module(), random_state=0, **options, **({} if set_later else {"augment": augment}))
        net = net.initialize() if set_later and owner is not MixupClassifier else net
        net = net.set_params(augment=augment) if set_later else net
        assert not any("augment" in name for name in net._modules)
        return get_weights(net.fit(X, Y))

    torch.testing.assert_close(fit(Flip()), fit(torch.neg), rtol=0, atol=0)


# -- batches of any form, where nothing is mixed -----------------------------------------


class Graph:
    """Inputs that no tensor holds."""

    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)


class Items(Dataset[Any]):
    def __init__(self, form: Callable[[Any], Any] = lambda x: x) -> None:
        self.form = form

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, number: int) -> Any:
        return self.form(torch.tensor(X[number])), int(Y[number])


class Nested(nn.Module):
    """Takes inputs of any form."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = make_module()

    def forward(self, x: Any = None, **parts: Any) -> Tensor:
        rows = x.rows if isinstance(x, Graph) else x
        while not isinstance(rows, Tensor):
            rows = parts["sub"]["b"] if rows is None else rows[1]["b"]
        out: Tensor = self.layers(rows)
        return out


def join_graphs(items: list[Any]) -> Any:
    return Graph(torch.stack([x for x, _ in items])), torch.tensor([y for _, y in items])


class TakesGraphs(NeuralNetClassifier):
    """Hands inputs to the module as they are."""

    def infer(self, x: Any, **fit_params: Any) -> Any:
        return self.module_(x) if isinstance(x, Graph) else super().infer(x, **fit_params)


FORMS: dict[str, tuple[Callable[[Any], Any], dict[str, Any]]] = {
    "a dict in a dict": (lambda x: {"sub": {"b": x}}, {}),
    "a dict in a tuple": (lambda x: (0.0, {"b": x}), {}),
    "an object": (lambda x: x, {"iterator_train__collate_fn": join_graphs}),
}


@pytest.mark.parametrize("form", FORMS)
def test_inputs_of_any_form_are_the_module_s(form: str) -> None:
    items, options = FORMS[form]

    class Mixed(MixupNetMixin, TakesGraphs):
        pass

    net = Mixed(Nested(), alpha=0, **PLAIN, **options).fit(Items(items), None)
    by_skorch = TakesGraphs(Nested(), **PLAIN, **options).fit(Items(items), None)
    torch.testing.assert_close(get_weights(net), get_weights(by_skorch), rtol=0, atol=1e-6)
    np.testing.assert_allclose(net.history[:, "train_loss"], by_skorch.history[:, "train_loss"], rtol=1e-5)


class Autoencoder(NeuralNet):
    def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
        return nn.functional.mse_loss(y_pred, X)


def join_inputs(items: list[Any]) -> Any:
    return torch.stack([x for x, _ in items]), None


def test_batches_without_targets_are_for_a_loss_of_one_s_own() -> None:
    class Mixed(MixupNetMixin, Autoencoder):
        pass

    options = QUICK | {"iterator_train__collate_fn": join_inputs, "iterator_train__shuffle": False}
    net = Mixed(make_module(4), nn.MSELoss, alpha=0, **options).fit(Items(), None)
    by_skorch = Autoencoder(make_module(4), nn.MSELoss, **options).fit(Items(), None)
    torch.testing.assert_close(get_weights(net), get_weights(by_skorch), rtol=0, atol=1e-6)


# -- dtypes ------------------------------------------------------------------------------


class SeveralDtypes(nn.Module):
    """Holds a scale of another dtype before its weights, and notes what it is given."""

    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, dtype=dtype))
        torch.manual_seed(0)
        self.linear = nn.Linear(4, 3)
        self.seen: set[torch.dtype] = set()

    def forward(self, x: Tensor) -> Tensor:
        self.seen.add(x.dtype)
        out: Tensor = self.linear(x) * self.scale.float()
        return out


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("data", [(X, Y), (Items(), None)], ids=["arrays", "Dataset"])
def test_inputs_have_the_dtype_of_the_weights(dtype: torch.dtype, owner: Any, data: Any) -> None:
    options = {"criterion": nn.CrossEntropyLoss} if owner is Net else {"early_stopping": False}
    net = owner(SeveralDtypes(dtype), alpha=0.5, random_state=0, **QUICK, **options).fit(*data)
    net.predict_proba(X)
    assert net.module_.seen == {torch.float32}


class NormalisedFirst(nn.Module):
    """As is usual in mixed precision: norms have more digits than matrices."""

    def __init__(self, norm: torch.dtype, matrices: torch.dtype) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.norm, self.linear = nn.LayerNorm(4, dtype=norm), nn.Linear(4, 2, dtype=matrices)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.linear(self.norm(x.to(self.norm.weight.dtype)).to(self.linear.weight.dtype))
        return out


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize("alpha", [0, 0.5])
@pytest.mark.parametrize(
    ("norm", "matrices"),
    [
        (torch.float32, torch.bfloat16),
        (torch.float32, torch.float16),
        (torch.float64, torch.float32),
        (torch.float64, torch.float64),
    ],
    ids=str,
)
def test_inputs_keep_the_digits_of_the_norm_that_comes_first(
    owner: Any, alpha: float, norm: torch.dtype, matrices: torch.dtype
) -> None:
    far = X + 1000  # of which half precision keeps no difference
    options = QUICK | {"criterion": nn.CrossEntropyLoss, "max_epochs": 10} if owner is Net else QUICK
    module = NormalisedFirst(norm, matrices)
    net = owner(module, alpha=alpha, random_state=0, **options).fit(far, (Y > 0).astype(np.int64))
    with torch.no_grad():
        expected = net.module_(torch.as_tensor(far)).float().softmax(dim=1)
    np.testing.assert_allclose(net.predict_proba(far), expected, atol=1e-3)
    assert expected[:, 1].std() > 0.01


# -- copies of batches -------------------------------------------------------------------


@pytest.mark.parametrize(
    "again",
    [copy.copy, copy.deepcopy, lambda batch: pickle.loads(pickle.dumps(batch))],
    ids=["copy", "deepcopy", "pickle"],
)
@pytest.mark.parametrize("alpha", [0, 0.7])
def test_a_copy_of_a_batch_is_mixed_as_the_batch_is(again: Callable[[Any], Any], alpha: float) -> None:
    class Handing(Net):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            return super().train_step_single(again(batch), **fit_params)

    nets = [kind(make_module(), alpha=alpha, random_state=0, **PLAIN).fit(X, Y) for kind in (Net, Handing)]
    torch.testing.assert_close(*map(get_weights, nets), rtol=0, atol=0)


def test_a_batch_that_would_lose_its_partners_is_refused() -> None:
    class Moving(Net):
        def train_step_single(self, batch: Any, **fit_params: Any) -> Any:
            return super().train_step_single(to_device(batch, "cpu"), **fit_params)

    with pytest.raises(TypeError, match="batch must be handed on as it is"):
        Moving(make_module(), alpha=0.5, **PLAIN).fit(X, Y)


# -- seeds -------------------------------------------------------------------------------


class Hidden(nn.Module):
    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(4, width), nn.ReLU(), nn.Linear(width, 3))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layers(x)
        return out


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
def test_weights_that_an_option_draws_anew_follow_the_seed(owner: Any) -> None:
    def train(seed: int) -> Tensor:
        options = QUICK | ({"criterion": nn.CrossEntropyLoss} if owner is Net else {"early_stopping": False})
        net = owner(Hidden, random_state=0, **options).fit(X, Y)
        torch.manual_seed(seed)
        state = torch.get_rng_state()
        net.set_params(module__width=5)
        assert torch.equal(torch.get_rng_state(), state)
        return get_weights(net.partial_fit(X, Y))

    torch.testing.assert_close(train(1), train(2), rtol=0, atol=0)


# -- what a fast epoch would pass over ---------------------------------------------------


class Keeping(torch.optim.Adam):
    """Keeps a part of the gradients of the step before."""

    n_calls = 0

    def zero_grad(self, set_to_none: bool = True) -> None:
        self.n_calls += 1
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.grad.mul_(0.5)


@pytest.mark.parametrize("patched", [False, True])
def test_gradients_that_an_optimizer_keeps_are_kept(patched: bool) -> None:
    class Patching(Callback):
        def on_train_begin(self, net: Any, **_: Any) -> None:
            if patched:
                net.optimizer_.zero_grad = lambda *args, **kwargs: Keeping.zero_grad(net.optimizer_)  # type: ignore[arg-type]
                net.optimizer_.n_calls = 0

    optimizer = torch.optim.Adam if patched else Keeping
    options = QUICK | {"optimizer": optimizer, "alpha": 0, "iterator_train__shuffle": False}
    net = MixupClassifier(make_module(), early_stopping=False, callbacks=[Patching()], **options).fit(X, Y)
    module = make_module()
    by_hand = Keeping(module.parameters(), lr=0.1)
    for _ in range(3):
        for x, y in zip(torch.tensor(X).split(8), torch.tensor(Y).split(8), strict=True):
            by_hand.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            by_hand.step()
    assert net.optimizer_.n_calls == by_hand.n_calls == 15
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    torch.testing.assert_close(get_weights(net), expected, rtol=0, atol=1e-5)


def test_an_accumulator_of_one_s_own_is_asked_for() -> None:
    class Counting(MixupClassifier):
        n_calls = 0

        def get_train_step_accumulator(self) -> Any:
            self.n_calls += 1
            return super().get_train_step_accumulator()

    net = Counting(make_module(), early_stopping=False, **QUICK).fit(X, Y)
    assert net.n_calls == 15


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn, self.last = nn.GRU(4, 5, batch_first=True), nn.Linear(5, 3)

    def forward(self, x: Any) -> Tensor:
        out: Tensor = self.last(self.rnn(x)[1][0])
        return out


class Sequences(Dataset[Any]):
    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, number: int) -> Any:
        return torch.tensor(X[: 1 + number % 5]), int(Y[number])


def pack(items: list[Any]) -> Any:
    x = nn.utils.rnn.pack_sequence([x for x, _ in items], enforce_sorted=False)
    return x, torch.tensor([y for _, y in items])


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
def test_packed_sequences_are_the_module_s(owner: Any) -> None:
    options = QUICK | {f"iterator_{kind}__collate_fn": pack for kind in ("train", "valid")}
    options |= {"criterion": nn.CrossEntropyLoss} if owner is Net else {"early_stopping": False}
    options |= {"iterator_train__shuffle": False, "optimizer": torch.optim.SGD, "alpha": 0}
    net = owner(Recurrent(), **options).fit(Sequences(), None)
    module = Recurrent()
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    items = [Sequences()[number] for number in range(40)]
    for _ in range(3):
        for start in range(0, 40, 8):
            x, y = pack(items[start : start + 8])
            optimizer.zero_grad()
            nn.functional.cross_entropy(module(x), y).backward()
            optimizer.step()
    expected = torch.cat([p.detach().flatten() for p in module.parameters()])
    torch.testing.assert_close(get_weights(net), expected, rtol=0, atol=1e-6)
    assert net.predict_proba(Sequences()).shape == (40, 3)
