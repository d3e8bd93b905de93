import dataclasses
from functools import partial
import os
from pathlib import Path
import signal
import subprocess
import sys
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.cifar import run as cifar
from benchmarks.cifar.config import PRESETS, Config
from benchmarks.cifar.run import describe_protocol, list_runs, run, time_network
from benchmarks.cifar.summary import tabulate
from benchmarks.data import cifar_images
from benchmarks.data.cifar_images import ImageSet, load_image_set, normalize_images
from benchmarks.data.tables import Table
from benchmarks.harness import checkpoints
from benchmarks.harness.command import UserError
from benchmarks.harness.results import read_result
from benchmarks.image_training.augment_and_schedule import (
    HeldOutScores,
    StepDecay,
    repeatable_convolutions,
)
from benchmarks.image_training.fits import explain_lack_of_memory
from benchmarks.networks.cifar_networks import PreActResNet18
from benchmarks.peers.hand_written_loop import make_loop
from benchmarks.regimes.config import PRESETS as REGIMES
from sk_mixup.augmentation import crop_and_flip
from tests.benchmarks.helpers import N_CLASSES, get_state, killed_after, make_tiny

TINY = dataclasses.replace(
    PRESETS["smoke"], epochs=2, last_epochs=1, checkpoint_every=1, width=1, train_rows=70, test_rows=20
)


def test_normalize_images_is_that_of_numpy() -> None:
    X = np.random.default_rng(0).integers(0, 256, size=(50, 3, 4, 4), dtype=np.uint8)
    scaled = normalize_images(ImageSet(Table("cifar10", X, np.arange(50) % 10, ""), 40, 10))
    mean, std = (f(X[:40].astype(float), axis=(0, 2, 3), keepdims=True) for f in (np.mean, np.std))
    joined = np.concatenate([scaled.X_train, scaled.X_test])
    np.testing.assert_allclose(joined, (X - mean) / std, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(scaled.black, (-mean / std).ravel())
    assert (joined.dtype, len(scaled.y_train), len(scaled.y_test)) == (np.float32, 40, 10)


def test_load_image_set_takes_the_first_rows_of_each_part(monkeypatch: pytest.MonkeyPatch) -> None:
    X, y = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1), np.arange(12)
    monkeypatch.setattr(cifar_images, "read_cifar", lambda name, data_dir, download: (X, y))
    monkeypatch.setattr(cifar_images, "N_TRAIN", 10)
    part = load_image_set("cifar100", None, train_rows=3, test_rows=1)
    assert (part.table.y.tolist(), part.n_train, part.n_classes) == ([0, 1, 2, 10], 3, 100)
    assert load_image_set("cifar10", None).table.y.tolist() == list(range(12))


def test_digits_have_a_test_set_of_their_own() -> None:
    digits = load_image_set("digit_images", None)
    assert (digits.shape, digits.n_train, len(digits.table.y)) == ((1, 8, 8), 1437, 1797)
    assert digits.describe()["n_classes"] == 10


def test_step_decay_counts_epochs_over_calls_of_partial_fit(images: tuple[np.ndarray, np.ndarray]) -> None:
    rates = []

    class Watch(StepDecay):
        def on_epoch_begin(self, net: Any, *args: Any, **kwargs: Any) -> None:
            super().on_epoch_begin(net, *args, **kwargs)
            rates.extend(group["lr"] for group in net.optimizer_.param_groups)

    net = make_tiny(callbacks=[Watch([1, 3], factor=0.5)], lr=0.08, max_epochs=2)
    net.partial_fit(*images).partial_fit(*images).partial_fit(*images)
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=0.08)
    scheduler = torch.optim.lr_scheduler.MultiStepLR(optimizer, [1, 3], gamma=0.5)
    expected = []
    for _ in range(6):
        expected.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected)


def test_held_out_error_is_the_score_and_changes_nothing(images: tuple[np.ndarray, np.ndarray]) -> None:
    X, y = images
    watched = make_tiny(
        callbacks=[HeldOutScores({"test": (X[:7], y[:7])})], max_epochs=2, iterator_valid__batch_size=3
    )
    watched.fit(X, y)
    plain = make_tiny(max_epochs=2).fit(X, y)
    assert watched.history[-1, "test_error"] == pytest.approx(1 - watched.score(X[:7], y[:7]))
    for name, tensor in get_state(plain).items():
        assert torch.equal(tensor, get_state(watched)[name]), name


@pytest.mark.parametrize("channels_last", [False, True])
def test_loop_by_hand_is_the_estimator_on_whole_batches(
    images: tuple[np.ndarray, np.ndarray], channels_last: bool
) -> None:
    torch.manual_seed(0)
    X, y = images
    options = {"batch_size": len(X), "channels_last": channels_last}
    plain = {"alpha": 0.0, "augment": None, "autocast": None, "module__dropout": 0.0}
    net = make_tiny(**plain, module__width=8, lr=0.01, optimizer__weight_decay=0.01, **options).initialize()
    module = PreActResNet18(N_CLASSES, width=8, in_channels=2)
    module.load_state_dict(net.module_.state_dict())
    optimizer = partial(torch.optim.SGD, lr=0.01, momentum=0.9, weight_decay=0.01)
    losses = make_loop(X, y, module=module, make_optimizer=optimizer, alpha=0.0, n_epochs=3, **options)()
    net.set_params(max_epochs=3).partial_fit(X, y)
    assert losses == pytest.approx(net.history[:, "train_loss"], rel=1e-4)
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, get_state(net)[name], rtol=1e-4, atol=1e-5)


def test_loop_by_hand_descends_with_mixup(images: tuple[np.ndarray, np.ndarray]) -> None:
    torch.manual_seed(0)
    X, y = images
    options: dict[str, Any] = {"alpha": 1.0, "batch_size": 10, "n_epochs": 8, "augment": crop_and_flip(0)}
    options["make_optimizer"] = partial(torch.optim.SGD, lr=0.05, momentum=0.9)
    module = PreActResNet18(N_CLASSES, width=4, in_channels=2)
    losses = make_loop(X, y, module=module, bfloat16=True, **options)()
    assert len(losses) == 8
    assert losses[-1] < losses[0]


def test_repeatable_convolutions_puts_the_flag_back() -> None:
    before = torch.backends.cudnn.deterministic
    with repeatable_convolutions():
        assert torch.backends.cudnn.deterministic
    assert torch.backends.cudnn.deterministic == before


def read_errors(out: Path) -> list[Any]:
    """Return what a run found, without its times."""
    document = read_result(out / "cifar-embedded-smoke-cpu.json")
    kept = [
        document["records"]["columns"].index(name)
        for name in ("method", "repeat", "error_curve", "loss_curve")
    ]
    return [[row[place] for place in kept] for row in document["records"]["rows"] if row[0] == "run"]


@pytest.mark.slow
def test_run_writes_its_results_and_leaves_nothing_else(tmp_path: Path) -> None:
    assert run(dataclasses.replace(TINY, preset="smoke", out=tmp_path, mixup_weight_decays=(1e-4, 5e-4))) == 0
    assert {path.suffix for path in tmp_path.glob("*.*")} == {".json", ".csv", ".png", ".svg"}
    document = read_result(tmp_path / "cifar-embedded-smoke-cpu.json")
    assert len(read_errors(tmp_path)) == 2 * 4
    assert len(tabulate(document)) == 3
    assert document["data"][0]["n_train"] == 70


@pytest.mark.slow
def test_a_broken_command_goes_on_where_it_was(tmp_path: Path) -> None:
    whole, broken = (dataclasses.replace(TINY, preset="smoke", out=tmp_path / name) for name in ("a", "b"))
    run(whole)
    with killed_after(checkpoints, 3):  # in the midst of the second run
        run(broken)
    folder, journal = sorted(broken.out.iterdir())
    assert [path.name for path in folder.iterdir()] == ["digit_images-preact_resnet18-ERM-0.0005-0.pt"]
    assert journal.suffix == ".jsonl"
    run(broken)
    assert read_errors(whole.out) == read_errors(broken.out)


@pytest.mark.slow
def test_a_command_ended_by_sigkill_gives_the_same_figures(tmp_path: Path) -> None:
    sizes: dict[str, Any] = {"epochs": 6, "train_rows": 200, "erm_weight_decays": (1e-4,)}
    whole, broken = (
        dataclasses.replace(TINY, preset="smoke", out=tmp_path / name, **sizes) for name in ("a", "b")
    )
    run(whole)
    code = (
        "import dataclasses, pathlib\n"
        "from benchmarks.cifar.run import run\n"
        "from benchmarks.cifar.config import PRESETS\n"
        f"options = dict(preset='smoke', last_epochs=1, checkpoint_every=1, width=1, **{sizes!r})\n"
        f"options |= dict(test_rows=20, out=pathlib.Path({str(broken.out)!r}))\n"
        "run(dataclasses.replace(PRESETS['smoke'], **options))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    while process.poll() is None and not list(broken.out.glob("*/*.pt")):
        time.sleep(0.005)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not list(broken.out.glob("*.json"))
    assert list(broken.out.glob("*/*.pt"))
    run(broken)
    assert read_errors(whole.out) == read_errors(broken.out)


def test_times_are_taken_of_estimators_and_loops() -> None:
    images = load_image_set("digit_images", None, train_rows=20, test_rows=5)
    config = dataclasses.replace(TINY, batch_size=8)
    records = time_network(config, images, "preact_resnet18")["records"]
    contenders = {f"{kind}, {method}" for kind in ("estimator", "loop") for method in ("ERM", "mixup")}
    assert {record["contender"] for record in records} == contenders
    assert len(records) == 4 * TINY.speed_rounds
    assert all(record["value"] > 0 for record in records)


@pytest.mark.parametrize("error", [torch.OutOfMemoryError("out"), ValueError("half of the free memory")])
def test_lack_of_memory_is_explained(error: Exception) -> None:
    with (
        pytest.raises(UserError, match=r"must have memory for PreAct ResNet-18 .* Lower --batch-size"),
        explain_lack_of_memory(TINY, "preact_resnet18"),
    ):
        raise error


def test_other_errors_are_not_explained_by_memory() -> None:
    with pytest.raises(ValueError, match="another"), explain_lack_of_memory(TINY, "preact_resnet18"):
        raise ValueError("another")


def test_runs_of_a_repeat_share_their_seed() -> None:
    runs = list_runs(dataclasses.replace(TINY, datasets=("cifar10", "cifar100")))
    assert len({item.key for item in runs}) == len(runs) == 2 * 2 * 3
    seeds = {
        (item.dataset, item.repeat): {other.seed for other in runs if _is_same(item, other)} for item in runs
    }
    assert [len(found) for found in seeds.values()] == [1] * 4
    assert len(set.union(*seeds.values())) == 4


def _is_same(item: cifar.Run, other: cifar.Run) -> bool:
    return (item.dataset, item.repeat) == (other.dataset, other.repeat)


def test_presets_have_the_papers_protocol() -> None:
    for name in ("paper", "gpu"):
        config = PRESETS[name]
        assert (config.epochs, config.batch_size, config.lr, config.alpha) == (200, 128, 0.1, 1.0)
        assert (config.width, config.last_epochs, config.padding) == (64, 10, 4)
        assert config.list_milestones("preact_resnet18") == [100, 150]
        assert config.list_milestones("densenet_bc190") == [100, 150]
        assert config.list_milestones("wide_resnet28_10") == [60, 120, 180]
        assert 5e-4 in config.erm_weight_decays


def test_cpu_preset_is_a_setting_of_regimes() -> None:
    config, regimes = PRESETS["cpu"], REGIMES["cpu"]
    assert f"{config.train_rows}/{config.width}/{config.epochs}" in (*regimes.first, *regimes.further)
    assert config.erm_weight_decays == config.mixup_weight_decays == (regimes.weight_decay,)
    assert (config.last_epochs, config.bfloat16) == (regimes.last_epochs, regimes.bfloat16)
    assert config.count_repeats() == regimes.count_repeats() == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"datasets": ("cifar",)}, "Did you mean 'cifar10'"),
        ({"networks": ("resnet18",)}, "--networks must be one of .* Did you mean 'preact_resnet18'"),
        ({"erm_weight_decays": ()}, "--erm-weight-decays must name at least one; got none"),
        (
            {"mixup_weight_decays": (-1.0,)},
            "--mixup-weight-decays must be at least 0",
        ),
        ({"alpha": float("nan")}, "--alpha must be at least 1e-06; got nan"),
        ({"last_epochs": 51}, "--last-epochs must be between 1 and 50; got 51"),
        ({"train_rows": 1}, "--train-rows must be at least 2"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1"),
        ({"models": Path(__file__) / "kept"}, r"--models must be a folder to write to; .* is not a folder"),
        ({"out": Path(__file__)}, r"--out must be a folder to write to; .* is not a folder"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


def test_run_without_data_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir must hold CIFAR-10 .*got none"):
        run(dataclasses.replace(PRESETS["cpu"], preset="cpu", out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_protocol_says_what_was_run() -> None:
    text = describe_protocol(PRESETS["paper"])
    for part in ("60 and 120 and 180 (WideResNet-28-10)", "200 epochs", "float32;", "last 10 epochs"):
        assert part in text
    assert "The first" not in text
    assert "The first 70 training images only." in describe_protocol(TINY)
