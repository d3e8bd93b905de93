"""The GAN: its training against a hand-written loop, scikit-learn's contract, skorch's, wrong input."""

from collections.abc import Callable
import copy
from pathlib import Path
import pickle
from typing import Any
import warnings

import numpy as np
from numpy.typing import NDArray
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import load_iris
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import ParameterGrid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import (
    BatchScoring,
    Callback,
    Checkpoint,
    EarlyStopping,
    EpochScoring,
    Freezer,
    GradientNormClipping,
    LoadInitState,
    LRScheduler,
    PassthroughScoring,
    TrainEndCheckpoint,
)
import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from sk_mixup import MixupGAN
from sk_mixup.callbacks import Snapshots
from sk_mixup.mixing import draw_gan_plan
from sk_mixup.modules import MLP
from tests.helpers.stacking import fit_stacked

TINY = {
    "generator__hidden_layer_sizes": (16, 16),
    "discriminator__hidden_layer_sizes": (16,),
    "max_epochs": 2,
    "steps_per_epoch": 7,
    "batch_size": 8,
    "random_state": 0,
}
X = np.random.default_rng(0).normal(size=(100, 2)).astype(np.float32)


class SmallMLP(MLP):
    """A net whose sizes need no option, as scikit-learn's checks want."""

    def __init__(self, in_features: int, out_features: int) -> None:
        super().__init__(in_features, out_features, (8,))


def make(**options: Any) -> MixupGAN:
    return MixupGAN(**{**TINY, **options})


# -- training ----------------------------------------------------------------------------


class Recorder(Callback):
    """Keeps the nets as they were before training, and what they were trained on."""

    def on_train_begin(self, net: Any, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        self.nets = copy.deepcopy([net.generator_, net.discriminator_])
        self.random = copy.deepcopy(net.rng_)


def train_by_hand(
    nets: list[nn.Module], random: np.random.Generator, options: dict[str, Any], n_epochs: int
) -> list[tuple[float, float]]:
    """Train as the paper says, example by example, with torch's own loop."""
    generator, discriminator = nets
    optimizers = [torch.optim.Adam(net.parameters(), lr=1e-3) for net in nets]
    n_steps, minimax = options["discriminator_steps"], options["generator_loss"] == "minimax"
    shape = (options["steps_per_epoch"], n_steps + 1, options["batch_size"])
    rows, losses = torch.as_tensor(X, dtype=torch.float64), []

    def judge(k: int, b: int, swapped: bool) -> Tensor:
        fake = generator(torch.as_tensor(noise[k, b]))
        terms = []
        for i, row in enumerate(plan.rows[k, b]):
            lam = float(plan.lam[k, b, i])
            for share in (lam, 1 - lam):
                logit = discriminator((share * rows[row] + (1 - share) * fake[i]).unsqueeze(0)).squeeze()
                target = torch.tensor(1 - share if swapped else share, dtype=torch.float64)
                terms.append(binary_cross_entropy_with_logits(logit, target))
        return torch.stack(terms).mean()

    for _ in range(n_epochs):
        plan = draw_gan_plan(random, len(X), shape, options["alpha"], options["lam_per"])
        noise = plan.draw_noise(2, np.float64)
        for k in range(shape[0]):
            found = []
            for b in range(n_steps + 1):
                last = b == n_steps
                loss = judge(k, b, swapped=last and not minimax) * (-1 if last and minimax else 1)
                for optimizer in optimizers:
                    optimizer.zero_grad()
                loss.backward()
                optimizers[0 if last else 1].step()
                found.append(loss.item())
            losses.append((float(np.mean(found[:-1])), found[-1]))
    return losses


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0, "lam_per": "example", "generator_loss": "non-saturating", "discriminator_steps": 2},
        {"alpha": 0.2, "lam_per": "example", "generator_loss": "non-saturating", "discriminator_steps": 1},
        {"alpha": 1.0, "lam_per": "batch", "generator_loss": "minimax", "discriminator_steps": 2},
    ],
)
def test_training_equals_a_loop_by_hand(options: dict[str, Any]) -> None:
    options |= {"steps_per_epoch": 3, "batch_size": 3}
    recorder = Recorder()
    gan = make(**options, callbacks=[recorder]).fit(X)
    losses = train_by_hand(recorder.nets, recorder.random, options, n_epochs=2)
    seen = [
        (row["discriminator_loss"], row["generator_loss"])
        for epoch in gan.history
        for row in epoch["batches"]
    ]
    np.testing.assert_allclose(seen, losses, rtol=0, atol=1e-10)
    for net, module in zip(recorder.nets, (gan.generator_, gan.discriminator_), strict=True):
        for p, own in zip(net.parameters(), module.parameters(), strict=True):
            torch.testing.assert_close(own, p, rtol=0, atol=1e-8)


def test_plain_gan_sees_a_real_and_a_generated_batch() -> None:
    seen: list[tuple[Tensor, Tensor]] = []

    class Watched(MLP):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:  # the checks before training look at it in eval mode
                seen.append(x.detach())
            return super().forward(x)

    make(alpha=0, discriminator=Watched, max_epochs=1, steps_per_epoch=1).fit(X)
    reals = {tuple(row) for row in X}
    assert seen
    for x in seen:
        assert {tuple(row) for row in x[:8].numpy()} <= reals
        assert not {tuple(row) for row in x[8:].numpy()} & reals


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0, 0.2])
def test_gan_learns_a_shifted_gaussian(alpha: float) -> None:
    data = np.random.default_rng(0).normal((1.0, -1.0), (0.5, 1.0), size=(2000, 2))
    gan = MixupGAN(
        generator__hidden_layer_sizes=(32, 32),
        discriminator__hidden_layer_sizes=(32, 32),
        alpha=alpha,
        max_epochs=10,
        random_state=0,
    ).fit(data)
    samples = gan.sample(4000, random_state=1)
    np.testing.assert_allclose(samples.mean(axis=0), data.mean(axis=0), atol=0.3)
    np.testing.assert_allclose(samples.std(axis=0), data.std(axis=0), atol=0.4)


def test_history_has_both_losses_and_counts_generator_steps() -> None:
    gan = make(verbose=0).fit(X)
    assert gan.history[:, "n_iter"] == [7, 14]
    assert gan.n_iter_ == 14
    for key in ("discriminator_loss", "generator_loss"):
        steps = gan.history[0, "batches", :, key]
        assert len(steps) == 7
        assert gan.history[0, key] == pytest.approx(np.mean(steps))


def test_a_batch_is_never_larger_than_the_data() -> None:
    few = MixupGAN(**{**TINY, "batch_size": 64}).fit(X[:5])
    all_rows = MixupGAN(**{**TINY, "batch_size": -1}).fit(X[:5])
    np.testing.assert_array_equal(few.sample(3, 0), all_rows.sample(3, 0))


# -- scikit-learn's contract ---------------------------------------------------------------


@parametrize_with_checks(
    [MixupGAN(SmallMLP, SmallMLP, max_epochs=1, steps_per_epoch=2, batch_size=8, random_state=0)]
)
def test_estimator_passes_check(estimator: Any, check: Any) -> None:
    check(estimator)


def test_same_seed_same_samples_and_torch_is_left_alone() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    first, second = make().fit(X), make().fit(X)
    np.testing.assert_array_equal(first.sample(9, random_state=1), second.sample(9, random_state=1))
    assert torch.equal(torch.get_rng_state(), before)
    assert not np.array_equal(first.sample(9, random_state=1), first.sample(9, random_state=2))
    assert not np.array_equal(first.sample(9, 1), make(random_state=1).fit(X).sample(9, 1))


def test_fewer_samples_are_the_first_of_more() -> None:
    gan = make().fit(X)
    np.testing.assert_array_equal(gan.sample(3, random_state=0), gan.sample(300, random_state=0)[:3])


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda gan: pickle.loads(pickle.dumps(gan))])
@pytest.mark.parametrize("device", ["cpu", torch.device("cpu"), None])
def test_copies_keep_their_device(device: Any, copied: Callable[[MixupGAN], MixupGAN]) -> None:
    gan = make(max_epochs=1, steps_per_epoch=1, device=device)
    assert copied(gan).device == device
    again = copied(gan.fit(X))
    assert again.device == device
    np.testing.assert_array_equal(again.sample(5, random_state=0), gan.sample(5, random_state=0))


def test_clone_and_pickle() -> None:
    gan = make(alpha=0.7).fit(X)
    again = pickle.loads(pickle.dumps(gan))
    np.testing.assert_array_equal(again.sample(4, 0), gan.sample(4, 0))
    np.testing.assert_array_equal(again.score_samples(X), gan.score_samples(X))
    fresh = clone(gan)
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        fresh.sample()
    np.testing.assert_array_equal(fresh.fit(X).sample(4, 0), gan.sample(4, 0))
    for copied in (gan, again):
        copied.partial_fit(X)
    assert again.n_iter_ == 28
    np.testing.assert_array_equal(again.sample(4, 0), gan.sample(4, 0))


def test_pipeline_after_a_scaler_samples_in_the_datas_scale() -> None:
    data = pd.DataFrame(X * [3, 100] + [5, -7], columns=["a", "b"])
    pipe = make_pipeline(StandardScaler(), make()).fit(data)
    samples = pipe[:-1].inverse_transform(pipe[-1].sample(50, random_state=0))
    assert samples.shape == (50, 2)
    assert pipe.score_samples(data).shape == (100,)
    gan = make().fit(data / 10)
    assert list(gan.feature_names_in_) == ["a", "b"]


def test_grid_of_options_is_set_by_name() -> None:
    for options in ParameterGrid({"alpha": [0, 1], "generator__hidden_layer_sizes": [(4,), (5, 5)]}):
        gan = clone(make()).set_params(**options).fit(X)
        widths = [layer.out_features for layer in gan.generator_.layers if isinstance(layer, nn.Linear)]
        assert widths[:-1] == list(options["generator__hidden_layer_sizes"])


def test_images_are_generated_in_their_shape() -> None:
    images = np.random.default_rng(0).normal(size=(20, 1, 3, 4))
    gan = make().fit(images)
    assert gan.sample(6, 0).shape == (6, 1, 3, 4)
    assert gan.score_samples(images).shape == (20,)


def test_nets_by_default_are_those_of_the_paper() -> None:
    gan = MixupGAN(max_epochs=0, random_state=0).fit(X)
    for net, ends in ((gan.generator_, (2, 2)), (gan.discriminator_, (2, 1))):
        sizes = [
            (layer.in_features, layer.out_features) for layer in net.layers if isinstance(layer, nn.Linear)
        ]
        assert sizes == [(ends[0], 512), (512, 512), (512, 512), (512, ends[1])]


def test_nothing_is_to_be_predicted() -> None:
    gan = make().fit(X)
    assert not hasattr(gan, "predict")
    assert not hasattr(gan, "predict_proba")


# -- skorch's -----------------------------------------------------------------------------


def test_partial_fit_goes_on_and_warm_start_too() -> None:
    gan = make().partial_fit(X).partial_fit(X)
    warm = make(warm_start=True).fit(X).fit(X)
    assert gan.n_iter_ == warm.n_iter_ == 28
    np.testing.assert_array_equal(gan.sample(5, 0), warm.sample(5, 0))
    assert make().fit(X).fit(X).n_iter_ == 14


@pytest.mark.parametrize("safetensors", [True, False])
def test_weights_go_to_one_file_and_come_back(tmp_path: Path, safetensors: bool) -> None:
    gan = make().fit(X)
    path = tmp_path / "gan.weights"
    gan.save_params(path, use_safetensors=safetensors)
    other = make(random_state=5) if safetensors else make(random_state=5).fit(X)
    other.load_params(path, use_safetensors=safetensors)
    np.testing.assert_array_equal(other.sample(5, 0), gan.sample(5, 0))
    np.testing.assert_array_equal(other.score_samples(X), gan.score_samples(X))
    assert [file.name for file in tmp_path.iterdir()] == ["gan.weights"]


@pytest.mark.parametrize("way", ["partial_fit", "warm start"])
def test_another_optimizer_steps_from_the_next_call_on(way: str) -> None:
    gan = make(lr=0.1, warm_start=True).fit(X)
    weights = copy.deepcopy(gan.generator_.state_dict())
    gan.set_params(optimizer=torch.optim.SGD, optimizer__momentum=0.9, lr=1e-30)
    (gan.partial_fit if way == "partial_fit" else gan.fit)(X)
    for net, optimizer in (
        (gan.generator_, gan.generator_optimizer_),
        (gan.discriminator_, gan.discriminator_optimizer_),
    ):
        assert type(optimizer) is torch.optim.SGD
        assert optimizer.param_groups[0]["momentum"] == 0.9
        assert [id(p) for p in optimizer.param_groups[0]["params"]] == [id(p) for p in net.parameters()]
    for name, weight in gan.generator_.state_dict().items():
        torch.testing.assert_close(weight, weights[name], rtol=0, atol=0)


def test_an_optimizer_that_refuses_an_option_changes_nothing() -> None:
    gan = make(optimizer__betas=(0.5, 0.9)).fit(X)
    gan.set_params(optimizer=torch.optim.SGD)
    with pytest.raises((TypeError, ValueError), match="betas"):
        gan.partial_fit(X)
    assert type(gan.generator_optimizer_) is torch.optim.Adam
    gan.set_params(optimizer=torch.optim.Adam).partial_fit(X)


@pytest.mark.parametrize("unit", [1e-30, 1e-7, 1.0, 1e7])
def test_the_unit_of_rows_says_nothing_of_the_logits(unit: float) -> None:
    with warnings.catch_warnings(action="ignore"):  # of the scale
        for seed in range(6):
            make(random_state=seed, max_epochs=1, steps_per_epoch=1).fit(unit * X)
        closed = nn.Sequential(nn.Linear(X.shape[1], 1), nn.Sigmoid())
        with pytest.raises(ValueError, match="discriminator must return logits"):
            MixupGAN(discriminator=closed, max_epochs=1, random_state=0).fit(unit * X)


def test_optimizers_share_options_but_for_their_own() -> None:
    gan = make(lr=0.1, optimizer__betas=(0.5, 0.9), generator_optimizer__lr=0.2).fit(X)
    players = gan.generator_optimizer_, gan.discriminator_optimizer_
    assert [optimizer.param_groups[0]["lr"] for optimizer in players] == [0.2, 0.1]
    assert {optimizer.param_groups[0]["betas"] for optimizer in players} == {(0.5, 0.9)}
    gan.set_params(lr=0.3)
    assert [optimizer.param_groups[0]["lr"] for optimizer in players] == [0.2, 0.3]
    assert clone(gan).lr == 0.3


def test_an_optimizer_takes_options_for_weights_by_name() -> None:
    slow = {"generator_optimizer__param_groups": [("layers.1.*", {"lr": 0.0})]}
    gan, start = make(**slow).fit(X), make(max_epochs=0).fit(X)
    first, last = (net.generator_.layers for net in (gan, start))
    assert torch.equal(first[1].weight, last[1].weight)
    assert not torch.equal(first[-1].weight, last[-1].weight)


def test_another_optimizer_and_another_module_will_do() -> None:
    net = nn.Sequential(nn.Linear(3, 8), nn.Tanh(), nn.BatchNorm1d(8), nn.Linear(8, 2))
    gan = make(generator=net, generator__hidden_layer_sizes=None, noise_features=3, optimizer=torch.optim.SGD)
    del gan.generator__hidden_layer_sizes
    before = copy.deepcopy(net.state_dict())
    gan.fit(X)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    assert gan.sample(4, 0).shape == (4, 2)


class Hooked(Callback):
    """Counts what it is called for."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def on_batch_begin(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        self.calls.append("begin")

    def on_batch_end(self, net: Any, batch: Any = None, training: Any = None, **kwargs: Any) -> None:
        self.calls.append(f"end {len(net.history[-1]['batches'])}")


def test_batch_hooks_are_called_round_each_generator_step_and_change_nothing() -> None:
    hooked = Hooked()
    gan = make(callbacks=[hooked], max_epochs=1).fit(X)
    assert hooked.calls == [call for k in range(1, 8) for call in ("begin", f"end {k}")]
    np.testing.assert_array_equal(gan.sample(5, 0), make(max_epochs=1).fit(X).sample(5, 0))


class Duck:
    """A callback of no class of skorch's: it has every hook, and an ``initialize``."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def initialize(self) -> None:
        """Do nothing."""

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("on_"):
            raise AttributeError(name)
        return lambda *args, **kwargs: self.calls.append(name)


def test_any_object_with_hooks_is_a_callback() -> None:
    duck = Duck()
    gan = make(callbacks=[duck], max_epochs=1).fit(X)
    n_steps = len(gan.history[-1]["batches"])
    assert [duck.calls.count(hook) for hook in ("on_train_begin", "on_epoch_begin")] == [1, 1]
    assert duck.calls.count("on_batch_begin") == duck.calls.count("on_batch_end") == n_steps
    assert duck.calls.count("on_grad_computed") >= n_steps


def test_gradients_can_be_clipped() -> None:
    clipped = make(callbacks=[GradientNormClipping(1e-12)], optimizer=torch.optim.SGD).fit(X)
    start = make(max_epochs=0).fit(X)
    np.testing.assert_allclose(clipped.sample(5, 0), start.sample(5, 0), atol=1e-6)


def test_early_stopping_of_skorch_stops_by_a_loss() -> None:
    stop = EarlyStopping(monitor="generator_loss", patience=1, threshold=1e9, threshold_mode="abs")
    assert make(callbacks=[("stop", stop)], max_epochs=9).fit(X).n_iter_ == 14


def test_a_callback_may_stop_the_training() -> None:
    class Stop(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            raise KeyboardInterrupt

    assert make(callbacks=[Stop()]).fit(X).n_iter_ == 7


# -- snapshots ----------------------------------------------------------------------------


def test_snapshots_are_what_a_shorter_training_would_generate() -> None:
    shots = Snapshots((3, 7, 9, 99), n_samples=4, random_state=2)
    gan = make(callbacks=[shots]).fit(X)
    assert list(shots.samples_) == [3, 7, 9]
    np.testing.assert_array_equal(shots.samples_[7], make(max_epochs=1).fit(X).sample(4, 2))
    np.testing.assert_array_equal(gan.sample(5, 0), make().fit(X).sample(5, 0))


def test_snapshots_go_on_in_partial_fit_and_start_anew_in_fit() -> None:
    shots = Snapshots((1, 20))
    gan = make(callbacks=[shots]).partial_fit(X).partial_fit(X)
    assert list(shots.samples_) == [1, 20]
    gan.fit(X)
    assert list(shots.samples_) == [1]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"iterations": (0,)}, ValueError, "iterations must be at least 1; got 0"),
        ({"iterations": (1.5,)}, TypeError, "iterations must be an integer; got 1.5"),
        ({"iterations": 100}, TypeError, "iterations must be several integers; got 100"),
        ({"iterations": "10"}, TypeError, "iterations must be several integers; got '10'"),
        ({"n_samples": 0}, ValueError, "n_samples must be at least 1"),
    ],
)
def test_snapshots_explain_wrong_options(options: dict[str, Any], error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make(callbacks=[Snapshots(**options)]).fit(X)


def test_a_refused_fit_keeps_the_snapshots_of_an_earlier_one() -> None:
    shots = Snapshots((1,))
    gan = make(callbacks=[shots]).fit(X)
    with pytest.raises(ValueError, match="discriminator must return one logit"):
        gan.set_params(discriminator__out_features=2).fit(X)
    assert list(shots.samples_) == [1]


def test_snapshots_are_for_gans() -> None:
    from sk_mixup import MixupClassifier

    with pytest.raises(TypeError, match="Snapshots must be given to a MixupGAN; got MixupClassifier"):
        MixupClassifier(callbacks=[Snapshots()]).fit(*load_iris(return_X_y=True))


# -- stacks -------------------------------------------------------------------------------


def fit_both(makers: list[Callable[[], MixupGAN]]) -> list[tuple[MixupGAN, MixupGAN]]:
    alone = [build().fit(X) for build in makers]
    together = fit_stacked((build(), X) for build in makers)
    return list(zip(alone, together, strict=True))


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16])
def test_autocast_region_leaves_the_dtype_of_samples_and_scores(half: torch.dtype) -> None:
    with torch.autocast("cpu", dtype=half):
        gan = MixupGAN(**TINY).fit(X)
        inside = gan.sample(5, 0), gan.score_samples(X)
    for found, full in zip(inside, (gan.sample(5, 0), gan.score_samples(X)), strict=True):
        assert found.dtype == full.dtype == np.float32
        np.testing.assert_allclose(found, full, atol=0.05)


@pytest.mark.parametrize("generator_loss", ["minimax", "non-saturating"])
def test_autocast_region_casts_the_weights_of_each_step(generator_loss: str) -> None:
    def train(seed: int, *, cast: bool = True, keep: bool = True) -> MixupGAN:
        gan = MixupGAN(**TINY | {"random_state": seed}, generator_loss=generator_loss)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=cast, cache_enabled=keep):
            return gan.fit(X)

    inside = [train(seed) for seed in range(3)]
    # Without a cache torch casts a weight wherever it is used.
    for seed, gan in enumerate(inside):
        anew, plain = train(seed, keep=False), train(seed, cast=False)
        for name in ("generator_", "discriminator_"):
            found, expected, other = (
                torch.nn.utils.parameters_to_vector(getattr(each, name).parameters())
                for each in (gan, anew, plain)
            )
            torch.testing.assert_close(found, expected, rtol=0, atol=0)
            assert not torch.equal(found, other)
    gans = [MixupGAN(**TINY | {"random_state": seed}, generator_loss=generator_loss) for seed in range(3)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fit_stacked([(gan, X) for gan in gans])
    for gan, alone in zip(gans, inside, strict=True):
        for found, expected in zip(gan.generator_.parameters(), alone.generator_.parameters(), strict=True):
            # In half precision a sum in another order may round otherwise, and Adam takes the sign.
            torch.testing.assert_close(found, expected, rtol=0.05, atol=0.01)


@pytest.mark.usefixtures("float64")
def test_a_stack_gives_what_each_seed_gives_alone() -> None:
    variants = [
        {"random_state": 0, "alpha": 0.2},
        {"random_state": 1, "alpha": 0},
        {"random_state": 2, "lr": 1e-2},
        {"random_state": 3, "lam_per": "batch", "discriminator_optimizer__betas": (0.5, 0.9)},
    ]
    makers = [
        lambda options=options: make(callbacks=[Snapshots((3, 9), n_samples=4)], **options)
        for options in variants
    ]
    for lone, one in fit_both(makers):
        np.testing.assert_allclose(one.sample(9, 0), lone.sample(9, 0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(one.score_samples(X), lone.score_samples(X), rtol=0, atol=1e-9)
        shots, lone_shots = (net.callbacks[0].samples_ for net in (one, lone))
        assert list(shots) == [3, 9]
        np.testing.assert_allclose(shots[9], lone_shots[9], rtol=0, atol=1e-9)
        steps = [net.history[:, "batches", :, "generator_loss"] for net in (one, lone)]
        np.testing.assert_allclose(*steps, rtol=0, atol=1e-9)
        one.partial_fit(X)
        lone.partial_fit(X)
        np.testing.assert_allclose(one.sample(9, 0), lone.sample(9, 0), rtol=0, atol=1e-9)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return where the sizes of stacks are noted, which are tried whether or not they are worth it."""
    from sk_mixup._training.gan import StackedGanTrainer
    from sk_mixup.stacking import _engine

    sizes: list[int] = []
    run_epoch = StackedGanTrainer.run_epoch

    def run_noted(self: Any, *args: Any) -> bool:
        sizes.append(len(self.epochs))
        return run_epoch(self, *args)

    monkeypatch.setattr(StackedGanTrainer, "run_epoch", run_noted)
    monkeypatch.setattr(_engine.Engine, "_is_worth_it", lambda *_: True)
    monkeypatch.setattr(_engine.Engine, "_deal", lambda _, group: [group])
    return sizes


@pytest.mark.usefixtures("float64")
def test_other_modules_are_stacked_by_vmap(sizes: list[int]) -> None:
    def build(seed: int) -> MixupGAN:
        torch.manual_seed(seed)
        generator = nn.Sequential(nn.Linear(2, 8), nn.LeakyReLU(), nn.BatchNorm1d(8), nn.Linear(8, 2))
        discriminator = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 1))
        return MixupGAN(
            generator, discriminator, max_epochs=1, steps_per_epoch=3, batch_size=8, random_state=seed
        )

    for lone, one in fit_both([lambda seed=seed: build(seed) for seed in range(2)]):
        np.testing.assert_allclose(one.sample(9, 0), lone.sample(9, 0), rtol=0, atol=1e-9)
        for name, value in one.generator_.state_dict().items():
            torch.testing.assert_close(value, lone.generator_.state_dict()[name], rtol=0, atol=1e-9)
    assert sizes == [2]


class Cooling(nn.Module):
    """A layer that grows calmer with each call, by a number or by a buffer of its own."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.calls, self.layer = kind, 0, nn.Linear(2, 2)
        self.register_buffer("heat", torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.kind == "number":
            self.calls += 1
        else:
            self.heat = self.heat * 0.9
        return self.layer(x) * self.heat / (1 + self.calls)


@pytest.mark.usefixtures("float64")
@pytest.mark.filterwarnings("ignore:stacked. nets are trained one by one:UserWarning")
@pytest.mark.parametrize("player", [0, 1])
@pytest.mark.parametrize("kind", ["number", "buffer"])
def test_modules_that_change_themselves_train_as_they_would_alone(
    sizes: list[int], kind: str, player: int
) -> None:
    def build(seed: int) -> MixupGAN:
        torch.manual_seed(seed)
        nets = [nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2 - k)) for k in (0, 1)]
        nets[player] = nn.Sequential(Cooling(kind), nets[player])
        return MixupGAN(*nets, max_epochs=2, steps_per_epoch=3, batch_size=8, random_state=seed)

    for lone, one in fit_both([lambda seed=seed: build(seed) for seed in range(2)]):
        np.testing.assert_allclose(one.sample(9, 0), lone.sample(9, 0), rtol=0, atol=1e-9)
        np.testing.assert_allclose(one.score_samples(X), lone.score_samples(X), rtol=0, atol=1e-9)
    assert 2 in sizes


def test_gans_that_cannot_be_stacked_are_trained_alone_with_a_warning() -> None:
    with pytest.warns(UserWarning, match="a callback looks at gradients"):
        nets = fit_stacked((make(callbacks=[GradientNormClipping(1.0)], random_state=k), X) for k in (0, 1))
    lone = make(callbacks=[GradientNormClipping(1.0)]).fit(X)
    np.testing.assert_array_equal(nets[0].sample(4, 0), lone.sample(4, 0))


# -- wrong input --------------------------------------------------------------------------


class Halving(Callback):
    """Steps a scheduler of each optimizer, as the message on skorch's LRScheduler says."""

    def on_train_begin(self, net: MixupGAN, X: Any = None, y: Any = None, **kwargs: Any) -> None:
        optimizers = net.generator_optimizer_, net.discriminator_optimizer_
        self.schedulers = [torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5) for optimizer in optimizers]

    def on_epoch_end(self, net: MixupGAN, **kwargs: Any) -> None:
        for scheduler in self.schedulers:
            scheduler.step()


@pytest.mark.parametrize(
    "callback",
    [
        Checkpoint(),
        ("own", Checkpoint(monitor=None)),
        TrainEndCheckpoint(),
        LoadInitState(Checkpoint()),
        EpochScoring("r2"),
        BatchScoring("r2"),
        PassthroughScoring("generator_loss"),
        Freezer("*"),
        EarlyStopping("generator_loss", load_best=True),
    ],
    ids=lambda part: type(part).__name__,
)
def test_callbacks_that_ask_for_one_net_are_refused(callback: Any) -> None:
    name = type(callback[1] if isinstance(callback, tuple) else callback).__name__
    with pytest.raises(ValueError, match=rf"for a GAN has two nets; got {name}.*net\.save_params"):
        make(callbacks=[callback]).fit(X)


@pytest.mark.filterwarnings("ignore:Detected call of:UserWarning")  # the fused step is not seen by torch
def test_learning_rates_are_scheduled_by_a_callback_for_two_optimizers() -> None:
    for callback in (LRScheduler, LRScheduler(policy="StepLR", step_size=1), ("lr", LRScheduler())):
        with pytest.raises(ValueError, match=r"two nets; got LRScheduler.*net.generator_optimizer_"):
            make(callbacks=[callback]).fit(X)
    net = make(callbacks=[Halving()], lr=0.4).fit(X)
    for optimizer in (net.generator_optimizer_, net.discriminator_optimizer_):
        assert optimizer.param_groups[0]["lr"] == 0.1


def with_nan() -> NDArray[Any]:
    bad = X.copy()
    bad[3, 1] = np.nan
    return bad


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (with_nan(), "Input X contains NaN"),
        (np.empty((0, 2)), "0 sample"),
        (X[:1], "1 sample"),
        (X[:, :1], "1 feature"),
        (X[:, 0], "Expected 2D array"),
    ],
)
def test_bad_data_is_refused_and_an_earlier_fit_stays(data: NDArray[Any], message: str) -> None:
    gan = make().fit(X)
    before = gan.sample(3, 0)
    with pytest.raises(ValueError, match=message):
        gan.fit(data)
    np.testing.assert_array_equal(gan.sample(3, 0), before)
    assert gan.n_iter_ == 14


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"alpha": -1}, ValueError, "alpha must be at least 0; got -1"),
        ({"alpha": float("nan")}, ValueError, "alpha must be at least 0; got nan"),
        ({"lam_per": "row"}, ValueError, "lam_per must be one of"),
        ({"generator_loss": "non_saturating"}, ValueError, "Did you mean 'non-saturating'"),
        ({"noise_features": 0}, ValueError, "noise_features must be at least 1"),
        ({"discriminator_steps": 0}, ValueError, "discriminator_steps must be at least 1"),
        ({"steps_per_epoch": 0}, ValueError, "steps_per_epoch must be at least 1"),
        ({"batch_size": 0}, ValueError, "batch_size must be at least 1"),
        ({"lr": -1.0}, ValueError, "lr must be finite and greater than 0"),
        ({"device": "warp"}, ValueError, "device must be one that torch finds here"),
        ({"warm_start": "yes"}, TypeError, "warm_start must be True or False"),
        ({"generator": 3}, TypeError, "generator must be a class or another callable"),
        ({"generator__widht": 3}, ValueError, "generator__widht must be an option of MLP"),
        ({"discriminator_optimizer__beta": 3}, ValueError, "beta must be an option of Adam"),
        ({"alhpa": 3}, ValueError, "Did you mean 'alpha'"),
        (
            {"generator": nn.Linear(5, 2), "noise_features": 3},
            ValueError,
            "noise_features must fit the generator's first layer; got noise_features of size 3",
        ),
        (
            {"generator": nn.Linear(2, 3)},
            ValueError,
            r"generator must return rows of the shape of X, \(2,\); got an output of shape \(2, 3\)",
        ),
        ({"discriminator": nn.Linear(2, 2)}, ValueError, "discriminator must return one logit for each row"),
        ({"discriminator": nn.Linear(3, 1)}, ValueError, "X must fit the discriminator's first layer"),
    ],
)
def test_wrong_options_are_explained(options: dict[str, Any], error: type, message: str) -> None:
    sizes = {f"{name}__hidden_layer_sizes" for name in ("generator", "discriminator") if name in options}
    kept = {key: value for key, value in TINY.items() if key not in sizes}
    with pytest.raises(error, match=message):
        MixupGAN(**{**kept, **options}).fit(X)


def test_losses_that_run_away_are_reported() -> None:
    with pytest.raises(ValueError, match=r"_loss must stay finite; got .* Scale X"):
        make(lr=1e30, optimizer=torch.optim.SGD, max_epochs=5, alpha=1).fit(X)


def test_methods_explain_wrong_arguments() -> None:
    gan = make()
    for call in (gan.sample, lambda: gan.score_samples(X)):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            call()
    gan.fit(X)
    with pytest.raises(ValueError, match="n_samples must be at least 1; got 0"):
        gan.sample(0)
    with pytest.raises(ValueError, match="X has 3 features, but MixupGAN is expecting 2"):
        gan.score_samples(np.zeros((4, 3)))
    with pytest.raises(TypeError, match=r"fit must be given X alone; got \['sample_weight'\]"):
        gan.fit(X, sample_weight=np.ones(100))
    with pytest.raises(ValueError, match=r"Invalid parameter 'alhpa' for estimator MixupGAN\. Did you mean"):
        gan.set_params(alhpa=1)


def test_noise_of_another_size_is_for_the_next_fit() -> None:
    gan = MixupGAN(**TINY, noise_features=3).fit(X)
    before = gan.sample(5, random_state=0)
    gan.set_params(noise_features=5)
    np.testing.assert_array_equal(gan.sample(5, random_state=0), before)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(gan)).sample(5, random_state=0), before)
    again = MixupGAN(**TINY, noise_features=5).fit(X).sample(5, random_state=0)
    np.testing.assert_array_equal(gan.fit(X).sample(5, random_state=0), again)


def test_callbacks_that_are_set_are_called_as_training_goes_on() -> None:
    gan = make().fit(X)
    shots = Snapshots((1, 20), n_samples=2)
    gan.set_params(callbacks=[shots]).partial_fit(X)
    assert list(shots.samples_) == [20]


@pytest.mark.parametrize("options", [{"weights_only": True}, {"map_location": "cpu"}])
def test_options_of_reading_files_are_not_for_copies(options: dict[str, Any]) -> None:
    gan = make(torch_load_kwargs=options).fit(X)
    for other in (copy.deepcopy(gan), pickle.loads(pickle.dumps(gan))):
        np.testing.assert_array_equal(other.sample(3, random_state=0), gan.sample(3, random_state=0))
        assert other.torch_load_kwargs == options
