"""One net trained by one process through skorch's AccelerateMixin, and what several refuse."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
import numpy as np
import pytest
from sklearn.base import clone
from skorch import NeuralNet, NeuralNetClassifier
from skorch.callbacks import GradientNormClipping, LRScheduler
from skorch.hf import AccelerateMixin as SkorchAccelerateMixin
import torch
from torch import Tensor, nn
from torch.utils.data import TensorDataset

from sk_mixup import AccelerateMixin, MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup._data.planned_loader import PlannedLoader
from sk_mixup._skorch import distributed as _parallel
from sk_mixup._skorch.sharding import shard_order
from tests.helpers import ddp_worker as worker
from tests.helpers.architectures import note_epochs
from tests.helpers.ddp_worker import get_state, make_options, make_table
from tests.helpers.nets import get_weights, is_equal
from tests.helpers.reference_ddp import descend


class Accelerated(AccelerateMixin, MixupClassifier):
    """An estimator of ours."""


class AcceleratedRegressor(AccelerateMixin, MixupRegressor):
    """The other one."""


class Tuned(AccelerateMixin):
    """A mixin of a user's own."""


class PlainNet(MixupNetMixin, NeuralNetClassifier):
    """A skorch net with our mixin."""


class AcceleratedNet(AccelerateMixin, MixupNetMixin, NeuralNetClassifier):
    """The same with an accelerator."""


@pytest.fixture
def accelerator() -> Iterator[Accelerator]:
    yield Accelerator(cpu=True)
    AcceleratorState._reset_state(reset_partial_state=True)
    GradientState._reset_state()


@pytest.fixture
def table() -> tuple[Any, Any]:
    X, codes = make_table()
    return X.numpy().astype(np.float32), codes.numpy()


@pytest.mark.parametrize("fast", [True, False])
def test_one_process_is_trained_as_without_an_accelerator(
    accelerator: Accelerator, table: tuple[Any, Any], fast: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bit for bit, by the fast epochs and step by step, in a second call too."""
    X, y = table
    trainers = note_epochs(monkeypatch)
    callbacks = [] if fast else [GradientNormClipping(1e9)]
    options = {"max_epochs": 3, "random_state": 0, "early_stopping": False, "callbacks": callbacks}
    net = Accelerated(accelerator=accelerator, **options).fit(X, y).partial_fit(X, y)
    plain = MixupClassifier(**options).fit(X, y).partial_fit(X, y)
    assert is_equal(get_weights(net), get_weights(plain))
    assert net.loss_curve_ == plain.loss_curve_
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
    assert trainers == ["PerceptronTrainer"] * (12 if fast else 0)


def test_one_process_stops_early_as_without_an_accelerator(
    accelerator: Accelerator, table: tuple[Any, Any]
) -> None:
    X, y = table
    options = {"max_epochs": 9, "random_state": 0, "n_iter_no_change": 1, "lr": 0.3}
    net = Accelerated(accelerator=accelerator, **options).fit(X, y)
    plain = MixupClassifier(**options).fit(X, y)
    assert net.n_iter_ == plain.n_iter_
    assert is_equal(get_weights(net), get_weights(plain))


@pytest.mark.parametrize("form", ["arrays", "dataset"])
def test_a_skorch_net_is_trained_as_without_an_accelerator(
    accelerator: Accelerator, table: tuple[Any, Any], form: str
) -> None:
    X, y = table
    data = (X, y) if form == "arrays" else (TensorDataset(*map(torch.as_tensor, (X, y))), None)
    options = make_options(None)
    del options["accelerator"]
    net = AcceleratedNet(accelerator=accelerator, **options).fit(*data)
    assert is_equal(get_weights(net), get_weights(PlainNet(**options).fit(*data)))


def test_a_regressor_is_trained_as_without_an_accelerator(
    accelerator: Accelerator, table: tuple[Any, Any]
) -> None:
    X, y = table[0], table[0][:, 0]
    options = {"max_epochs": 2, "random_state": 0, "early_stopping": False}
    net = AcceleratedRegressor(accelerator=accelerator, **options).fit(X, y)
    assert is_equal(get_weights(net), get_weights(MixupRegressor(**options).fit(X, y)))


def test_the_schedule_of_a_fast_epoch_is_followed(accelerator: Accelerator, table: tuple[Any, Any]) -> None:
    """And torch does not say that the schedule ran before the optimizer."""
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5)
    options = {"max_epochs": 3, "random_state": 0, "early_stopping": False, "callbacks": [schedule]}
    net = Accelerated(accelerator=accelerator, **options).fit(*table)
    assert is_equal(get_weights(net), get_weights(MixupClassifier(**options).fit(*table)))


@pytest.mark.usefixtures("float64")
def test_gradients_are_accumulated_to_the_end_of_an_epoch(accelerator: Accelerator) -> None:
    """A rest of a cycle is descended along there, and divided as a whole cycle is."""
    X, codes = (part.numpy() for part in make_table(10))
    piecewise = Accelerator(cpu=True, gradient_accumulation_steps=4)
    net = worker.Classifier(**make_options(piecewise, batch_size=2, callbacks=[GradientNormClipping(1e9)]))
    start = get_state(net.initialize())
    steps = net.fit(X, codes).steps_
    assert len(steps) == 2 * 5
    cycles = [steps[:4], steps[4:5], steps[5:9], steps[9:]]
    for name, value in descend(start, cycles, n_rows=8).items():
        torch.testing.assert_close(net.module_.state_dict()[name], value.detach(), rtol=0, atol=1e-12)


def test_mixed_precision_of_the_accelerator_is_used(table: tuple[Any, Any]) -> None:
    seen: list[torch.dtype] = []

    class Look(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            y = super().forward(x)
            seen.append(y.dtype)
            return y

    try:
        low = Accelerator(cpu=True, mixed_precision="bf16")
        net = Accelerated(Look(4, 3), accelerator=low, max_epochs=1, random_state=0).fit(*table)
    finally:
        AcceleratorState._reset_state(reset_partial_state=True)
        GradientState._reset_state()
    assert torch.bfloat16 in seen
    assert net.module_.weight.dtype == torch.float32


def test_prints_no_more_than_verbose_says(
    accelerator: Accelerator, table: tuple[Any, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    options = {"accelerator": accelerator, "max_epochs": 1, "random_state": 0}
    net = Accelerated(**options).fit(*table)
    assert capsys.readouterr().out == ""
    assert net.callbacks__print_log__sink == "auto"
    Accelerated(**options, verbose=1).fit(*table)
    assert "train_loss" in capsys.readouterr().out


@pytest.mark.parametrize("storage", ["device", "host"])
def test_any_storage_goes_with_an_accelerator(
    accelerator: Accelerator, table: tuple[Any, Any], storage: str
) -> None:
    options = {"max_epochs": 1, "random_state": 0, "storage": storage, "autocast": "bfloat16"}
    net = Accelerated(accelerator=accelerator, **options).fit(*table)
    assert is_equal(get_weights(net), get_weights(MixupClassifier(**options).fit(*table)))


def test_a_clone_and_a_file_hold_the_net(
    accelerator: Accelerator, table: tuple[Any, Any], tmp_path: Path
) -> None:
    X, y = table
    net = Accelerated(accelerator=accelerator, max_epochs=1, random_state=0).fit(X, y)
    net.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    for other in (clone(net), MixupClassifier()):
        other.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
        np.testing.assert_array_equal(other.predict_proba(X), net.predict_proba(X))
    assert clone(net).device is None


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"cuda_graph": True}, ValueError, "cuda_graph must be False with an accelerator; got True"),
        ({"autocast": "float16"}, ValueError, "autocast must be None or 'bfloat16' with an accelerator"),
        ({"accelerator": None}, TypeError, "accelerator must be an accelerate.Accelerator; got None"),
        ({"optimizer": torch.optim.LBFGS}, ValueError, "optimizer must step without a closure"),
        ({"device": "cpu"}, ValueError, "device=None"),
    ],
)
def test_options_that_do_not_go_with_an_accelerator_are_refused(
    accelerator: Accelerator, table: tuple[Any, Any], options: dict[str, Any], error: Any, message: str
) -> None:
    net = Accelerated(**{"accelerator": accelerator, "max_epochs": 1, **options})
    with pytest.raises(error, match=message):
        net.fit(*table)


class Stub:
    """What an accelerator says of itself in one of two processes."""

    num_processes, process_index, is_main_process = 2, 0, True
    device, device_placement = torch.device("cpu"), True
    mixed_precision, gradient_accumulation_steps = "no", 1
    prepare = print

    def __init__(self, kind: str = "MULTI_CPU") -> None:
        self.distributed_type = type("Kind", (), {"value": kind})


class Scaled(nn.CrossEntropyLoss):
    """A loss with a weight that is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))


@pytest.mark.parametrize("random_state", [None, True, np.random.default_rng(0)])
def test_several_processes_need_a_seed(table: tuple[Any, Any], random_state: Any) -> None:
    with pytest.raises(TypeError, match="random_state must be an int where 2 processes train one net; got"):
        Accelerated(accelerator=Stub(), random_state=random_state).fit(*table)


def test_several_processes_train_no_criterion(table: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match=r"criterion must have no parameters that are trained .* got Scaled"):
        Accelerated(accelerator=Stub(), random_state=0, criterion=Scaled).fit(*table)


def test_several_processes_are_not_stacked(table: tuple[Any, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_parallel, "find_task", object)
    with pytest.raises(ValueError, match="stacked must be used in one process; got 2"):
        Accelerated(accelerator=Stub(), random_state=0).check_options()


def test_several_processes_need_a_loader_of_torch() -> None:
    net = Accelerated(accelerator=Stub(), random_state=0)
    with pytest.raises(
        TypeError, match=r"iterator_train must be a torch DataLoader where several .* got list"
    ):
        net._processes.shard([])


def test_sharded_training_is_refused(table: tuple[Any, Any]) -> None:
    with pytest.raises(ValueError, match="accelerator must train copies of the whole module; got"):
        Accelerated(accelerator=Stub("FSDP")).fit(*table)


@pytest.mark.parametrize(
    "bases",
    [
        (MixupNetMixin, AccelerateMixin, NeuralNet),
        (SkorchAccelerateMixin, MixupClassifier),
        (SkorchAccelerateMixin, MixupNetMixin, NeuralNet),
    ],
    ids=["late", "estimator", "net"],
)
def test_nets_of_skorchs_own_mixin_are_refused(bases: tuple[type, ...]) -> None:
    with pytest.raises(TypeError, match=r"AccelerateMixin must be that of sk_mixup, .* got class Other"):
        type("Other", bases, {})


def test_a_mixin_of_a_users_own_may_extend_ours(accelerator: Accelerator, table: tuple[Any, Any]) -> None:
    class TunedNet(Tuned, MixupClassifier):
        pass

    nets = [owner(accelerator=accelerator, max_epochs=2, random_state=0) for owner in (TunedNet, Accelerated)]
    losses = [net.fit(*table).history[:, "train_loss"] for net in nets]
    assert losses[0] == losses[1]


def test_overridden_steps_of_a_user_are_called(accelerator: Accelerator, table: tuple[Any, Any]) -> None:
    calls: list[str] = []

    class Watch:
        def train_step_single(self, *args: Any, **kwargs: Any) -> Any:
            calls.append("before")
            return super().train_step_single(*args, **kwargs)

    class Watched(Watch, AccelerateMixin, MixupClassifier):
        def infer(self, x: Any, **kwargs: Any) -> Any:
            calls.append("inside" if self.module_.training else "apart")
            return super().infer(x, **kwargs)

    options = {"batch_size": -1, "early_stopping": False, "max_epochs": 1, "random_state": 0}
    net = Watched(accelerator=accelerator, **options).fit(*table)
    assert [call for call in calls if call != "apart"] == ["before", "inside"]
    assert is_equal(get_weights(net), get_weights(MixupClassifier(**options).fit(*table)))


@pytest.mark.parametrize("n_samples", [2, 5, 12])
@pytest.mark.parametrize("n_processes", [1, 2])
@pytest.mark.parametrize("drop_last", [False, True])
def test_shard_order_deals_as_torch_does(n_samples: int, n_processes: int, drop_last: bool) -> None:
    rows = TensorDataset(torch.arange(n_samples))
    order = np.arange(n_samples)
    for rank in range(n_processes):
        dealt, n_own = shard_order(order, rank, n_processes, drop_last=drop_last)
        sampler = torch.utils.data.DistributedSampler(
            rows, n_processes, rank, shuffle=False, drop_last=drop_last
        )
        assert dealt[:n_own].tolist() == list(sampler)
        assert set(dealt.tolist()) == set(range(n_samples))


def test_shard_order_refuses_fewer_rows_than_processes() -> None:
    with pytest.raises(ValueError, match="X must hold a row for each of 3 processes; got 2"):
        shard_order(np.arange(2), 0, 3)


def test_workers_of_a_loader_have_other_seeds_in_each_epoch(table: tuple[Any, Any]) -> None:
    net = MixupClassifier(max_epochs=1, random_state=0, early_stopping=False)
    rows = TensorDataset(*map(torch.as_tensor, table))
    net.fit(rows)
    loaders = [net.get_training_batches(rows, net.get_policy()) for _ in range(3)]
    assert all(isinstance(loader, PlannedLoader) for loader in loaders)
    assert len({loader.loader.generator.initial_seed() for loader in loaders}) == 3


def test_device_none_without_an_accelerator_is_where_the_module_is(table: tuple[Any, Any]) -> None:
    options = make_options(None)
    del options["accelerator"]
    net = PlainNet(**options, device=None).fit(*table)
    assert net._torch_device == torch.device("cpu")
    assert len(net.history) == 2
