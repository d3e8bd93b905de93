import dataclasses
from fnmatch import fnmatch
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import Dataset

from benchmarks.cli import parse_config
from benchmarks.data.imagenet_files import (
    FolderImages,
    find_torchvision,
    load_folders,
    make_training_transform,
    write_made_up_images,
)
from benchmarks.harness.command import UserError
from benchmarks.harness.journal import Journal
from benchmarks.harness.results import read_result
from benchmarks.harness.runner import PostponedError
from benchmarks.harness.several_processes import Team, run_in_step
from benchmarks.image_training.kept_networks import list_trained
from benchmarks.imagenet import run as imagenet
from benchmarks.imagenet import training as imagenet_training
from benchmarks.imagenet.config import PRESETS, Config, list_milestones
from benchmarks.imagenet.protocol import describe_protocol
from benchmarks.imagenet.run import (
    COMMAND,
    check_batch_size,
    explain_lack_of_memory,
    list_runs,
    make_net,
    run,
)
from benchmarks.imagenet.speed import make_loop, repeat_rows
from benchmarks.imagenet.summary import PUBLISHED
from benchmarks.imagenet.training import HeldOutErrors, NumberEpochs, WarmupAndDecay, count_errors
from benchmarks.networks.imagenet_networks import BATCH_NORMS, NETWORKS, build_network
from sk_mixup import MixupClassifier
from tests.benchmarks.helpers import killed_after

SIZES: dict[str, Any] = {"checkpoint_every": 1, "loader_images": 2, "speed_batches": 1, "batch_size": 6}
TINY = dataclasses.replace(PRESETS["smoke"], preset="smoke", epochs=(2,), **SIZES)
ALONE = Team(None)


class Points(Dataset[tuple[Tensor, int]]):
    """Five classes in two dimensions, one row at a time."""

    epoch = -1

    def __init__(self, n_rows: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.x = torch.randn(n_rows, 2, generator=generator)
        self.y = torch.arange(n_rows) % 7
        self.epochs: list[int] = []

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        self.epochs.append(self.epoch)
        return self.x[row], int(self.y[row])


def make_linear(callbacks: list[Any], **options: Any) -> MixupClassifier:
    known: dict[str, Any] = {"optimizer": torch.optim.SGD, "lr": 0.4, "batch_size": 4, "max_epochs": 1}
    return MixupClassifier(
        nn.Linear,
        module__in_features=2,
        module__out_features=7,
        classes=range(7),
        early_stopping=False,
        callbacks=callbacks,
        random_state=0,
        **known | options,
    )


@pytest.mark.parametrize("name", list(NETWORKS))
def test_networks_have_the_sizes_of_their_papers(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, out_features=1000)
    assert sum(parameter.numel() for parameter in network.parameters()) == NETWORKS[name].n_parameters
    models = find_torchvision("models")
    if hasattr(models, name):
        with torch.device("meta"):
            expected = getattr(models, name)()
        assert str(network) == str(expected)


@pytest.mark.parametrize("name", ["resnet18", "resnet50", "resnext101_32x4d"])
def test_patterns_name_the_batch_normalisations_and_nothing_else(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name, out_features=2)
    expected = {
        f"{path}.{kind}"
        for path, part in network.named_modules()
        if isinstance(part, nn.BatchNorm2d)
        for kind in ("weight", "bias")
    }
    names = [key for key, _ in network.named_parameters()]
    found = {key for key in names if any(fnmatch(f"net.{key}", pattern) for pattern in BATCH_NORMS)}
    assert found == expected


def test_schedule_is_that_of_the_paper() -> None:
    n_batches = 7
    schedule = WarmupAndDecay(0.1, warmup=5, milestones=list_milestones(90), n_batches=n_batches)
    rates = [schedule.compute_rate(0.4, step) for step in range(90 * n_batches)]
    np.testing.assert_allclose(np.diff(rates[: 5 * n_batches + 1]), 0.3 / (5 * n_batches))
    levels = {0: None, 5: 0.4, 30: 0.04, 60: 0.004, 80: 0.0004}
    for epoch in range(5, 90):
        level = levels[max(start for start in levels if start <= epoch)]
        assert rates[epoch * n_batches : (epoch + 1) * n_batches] == pytest.approx([level] * n_batches)


def test_schedule_goes_on_over_calls_of_partial_fit() -> None:
    schedule = WarmupAndDecay(0.1, warmup=2, milestones=[3], n_batches=5)
    net, rates = make_linear([schedule, NumberEpochs()]), []
    net.initialize()
    for _ in range(4):
        step = net.optimizer_.register_step_post_hook(
            lambda optimizer, *_: rates.append([group["lr"] for group in optimizer.param_groups])
        )
        net.partial_fit(Points(20))
        step.remove()
    assert rates == [[schedule.compute_rate(0.4, number)] for number in range(20)]
    assert not net.optimizer_._optimizer_step_pre_hooks


def test_a_data_set_is_told_the_epoch() -> None:
    points = Points(8)
    net = make_linear([NumberEpochs()], max_epochs=2).partial_fit(points)
    net.partial_fit(points)
    assert sorted(set(points.epochs)) == [-1, 0, 1, 2, 3]
    assert [points.epochs.count(epoch) for epoch in (2, 3)] >= [8, 8]


@pytest.mark.parametrize("n_classes", [2, 5, 9])
def test_count_errors_is_that_of_a_sort(n_classes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(40, n_classes, generator=generator)
    y = torch.randint(n_classes, (40,), generator=generator)
    wrong = [0, 0]
    for row, target in zip(logits.tolist(), y.tolist(), strict=True):
        order = sorted(range(n_classes), key=lambda code: -row[code])
        wrong[0] += target != order[0]
        wrong[1] += target not in order[:5]
    assert count_errors(logits, y).tolist() == wrong


def test_held_out_errors_are_those_of_the_predictions_and_change_nothing() -> None:
    test = Points(30)
    watched = make_linear([NumberEpochs(), HeldOutErrors(test, ALONE, bfloat16=False)], max_epochs=2)
    watched.partial_fit(Points(20))
    plain = make_linear([NumberEpochs()], max_epochs=2).partial_fit(Points(20))
    for name, value in plain.module_.state_dict().items():
        assert torch.equal(value, watched.module_.state_dict()[name]), name
    assert watched.history[-1, "top1_error"] == pytest.approx(
        1 - watched.score(test.x.numpy(), test.y.numpy())
    )
    rank = (-watched.predict_proba(test.x.numpy())).argsort(axis=1)[:, :5]
    top5 = 1 - np.mean([code in row for code, row in zip(test.y.tolist(), rank, strict=True)])
    assert watched.history[-1, "top5_error"] == pytest.approx(top5)


def test_rows_are_repeated_in_order(tmp_path: Path) -> None:
    write_made_up_images(tmp_path)
    split = load_folders(tmp_path).train
    repeated = repeat_rows(split, 29)
    assert repeated.paths.tolist() == [*split.paths, *split.paths, *split.paths[:5]]
    assert repeated.labels.tolist() == [*split.labels, *split.labels, *split.labels[:5]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": ("resnet5",)}, r"--networks must be one of .* Did you mean 'resnet50'"),
        ({"networks": ()}, "--networks must name at least one; got none"),
        ({"download": True}, r"--download must be left out for imagenet.*allow no copies.*--data-dir DIR"),
        ({"epochs": (90, 0)}, "--epochs must be at least 1; got 0"),
        ({"alpha": float("nan")}, "--alpha must be at least 1e-06; got nan"),
        ({"lr": 0.0}, "--lr must be at least"),
        ({"lr_start": 0.0}, "--lr-start must be at least"),
        ({"weight_decay": -1.0}, "--weight-decay must be at least 0"),
        ({"batch_size": 1}, "--batch-size must be at least 2; got 1"),
        ({"image_size": 8}, "--image-size must be at least 32; got 8"),
        ({"checkpoint_every": 0}, "--checkpoint-every must be at least 1"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


@dataclasses.dataclass(frozen=True)
class FakeAccelerator:
    num_processes: int
    process_index: int = 0


@pytest.mark.parametrize(("batch_size", "n_processes"), [(10, 4), (4, 4)])
def test_a_batch_must_be_shared_evenly(batch_size: int, n_processes: int) -> None:
    config = dataclasses.replace(TINY, batch_size=batch_size)
    with pytest.raises(
        UserError, match=f"--batch-size must be a multiple .*got {batch_size} for {n_processes}"
    ):
        check_batch_size(config, Team(FakeAccelerator(n_processes)))
    check_batch_size(config, ALONE)


def test_presets_have_the_papers_protocol() -> None:
    for name in ("paper", "gpu"):
        config = PRESETS[name]
        assert (config.batch_size, config.lr_start, config.lr, config.lr_warmup) == (1024, 0.1, 0.4, 5)
        assert (config.weight_decay, config.image_size) == (1e-4, 224)
    runs = list_runs(PRESETS["paper"])
    published = {(item.network, item.epochs) for item in runs}
    assert published == set(PUBLISHED)
    alphas = {item.network: item.alpha for item in runs if item.method == "mixup"}
    assert alphas == dict(zip(PRESETS["paper"].networks, (0.2, 0.2, 0.4, 0.4), strict=True))
    assert len({item.key for item in runs}) == len(runs) == 14
    assert list_milestones(90) == [30, 60, 80]
    assert list_milestones(200) == [60, 120, 180]


def test_runs_of_a_repeat_share_their_seed() -> None:
    runs = list_runs(dataclasses.replace(TINY, n_seeds=2, networks=("resnet18", "resnet50")))
    assert len(runs) == 8
    assert {(item.repeat, item.seed) for item in runs} == {(0, runs[0].seed), (1, runs[-1].seed)}
    assert runs[0].seed != runs[-1].seed


def test_options_are_read_from_the_command_line(tmp_path: Path) -> None:
    args = ["--preset", "gpu", "--epochs", "90", "200", "--alpha", "0.3", "--n-jobs", "4", "--device", "cpu"]
    config: Any = parse_config(COMMAND, args, tmp_path)
    assert (config.preset, config.epochs, config.alpha, config.count_workers()) == ("gpu", (90, 200), 0.3, 4)
    assert [config.get_alpha(name) for name in PRESETS["paper"].networks] == [0.3] * 4
    assert PRESETS["smoke"].count_workers() == 0


def test_run_without_data_writes_nothing(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--data-dir must hold ImageNet .*got none"):
        run(dataclasses.replace(PRESETS["cpu"], preset="cpu", out=tmp_path))
    assert not list(tmp_path.iterdir())


def test_lack_of_memory_is_explained() -> None:
    with (
        pytest.raises(UserError, match=r"must have memory for ResNet-50 .* \(out\)\. Start more processes"),
        explain_lack_of_memory(TINY, "resnet50"),
    ):
        raise torch.OutOfMemoryError("out")


def test_protocol_says_what_was_run(tmp_path: Path) -> None:
    write_made_up_images(tmp_path)
    folders = load_folders(tmp_path)
    text = describe_protocol(PRESETS["paper"], folders, 8)
    for part in ("1024 images over 8 data-parallel", "60, 120, 180 of 200 epochs", "0.1 to 0.4", "Nesterov"):
        assert part in text
    assert text.endswith("Only trainings were timed.")
    assert "in one process" not in describe_protocol(TINY, folders, 1)


def test_tasks_that_a_journal_holds_are_not_done_again(tmp_path: Path) -> None:
    journal, done = Journal(tmp_path / "journal"), []

    def work(number: int) -> dict[str, Any]:
        done.append(number)
        return {"square": number**2}

    tasks = {str(number): (number,) for number in range(4)}
    with pytest.raises(PostponedError, match="0 of 4 are done; the same command goes on"):
        run_in_step(work, tasks, journal, ALONE, label="", until=-math.inf)
    run_in_step(work, {key: tasks[key] for key in ("1", "3")}, journal, ALONE, label="")
    records = run_in_step(work, tasks, journal, ALONE, label="")
    assert records == [{"square": number**2} for number in range(4)]
    assert done == [1, 3, 0, 2]


@pytest.mark.slow
def test_loop_by_hand_is_the_estimator_on_whole_batches(tmp_path: Path) -> None:
    write_made_up_images(tmp_path)
    folders = load_folders(tmp_path)
    # On twelve images of noise the gradients are large, and rounding grows from step to step.
    config = dataclasses.replace(TINY, batch_size=12, lr=1e-3, weight_decay=0.1)
    net = make_net(config, folders, imagenet.Run("resnet18", 1, 0.0, 0), ALONE, callbacks=[NumberEpochs()])
    net.initialize()
    module = build_network("resnet18", 3)
    module.load_state_dict(net.module_.net.state_dict())
    start = nn.utils.parameters_to_vector(module.parameters()).detach().clone()
    torch.manual_seed(0)
    pictures = {
        as_pixels: FolderImages(folders.train, make_training_transform(32, as_pixels=as_pixels), seed=0)
        for as_pixels in (True, False)
    }
    options = {"lr": config.lr, "weight_decay": config.weight_decay, "batch_size": 12}
    train = make_loop(pictures[False], module=module, alpha=0.0, **options)
    losses = []
    for epoch in range(3):
        pictures[False].epoch = epoch
        losses.append(train())
    net.set_params(max_epochs=3).partial_fit(pictures[True])
    assert losses == pytest.approx(net.history[:, "train_loss"], rel=1e-3)
    ours, theirs = (
        nn.utils.parameters_to_vector(part.parameters()).detach() - start
        for part in (net.module_.net, module)
    )
    assert float((ours - theirs).norm() / theirs.norm()) < 0.01


@pytest.mark.slow
def test_loop_by_hand_descends_with_mixup(tmp_path: Path) -> None:
    write_made_up_images(tmp_path)
    split = load_folders(tmp_path).train
    torch.manual_seed(0)
    images = FolderImages(split, make_training_transform(32, as_pixels=False), seed=0)
    module = build_network("resnet18", 3)
    options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.0, "batch_size": 6}
    train = make_loop(images, module=module, alpha=0.2, **options)
    losses = [train() for _ in range(12)]
    assert min(losses[6:]) < losses[0]


@pytest.mark.slow
def test_loop_by_hand_trains_in_bfloat16(tmp_path: Path) -> None:
    write_made_up_images(tmp_path, n_train=1)
    images = FolderImages(load_folders(tmp_path).train, make_training_transform(32, as_pixels=False), seed=0)
    losses = {}
    for bfloat16 in (False, True):
        torch.manual_seed(0)
        options: dict[str, Any] = {"lr": 0.02, "weight_decay": 0.0, "batch_size": 3, "bfloat16": bfloat16}
        losses[bfloat16] = make_loop(images, module=build_network("resnet18", 3), alpha=0.2, **options)()
    assert losses[True] != losses[False]
    assert losses[True] == pytest.approx(losses[False], rel=0.05)


def read_outcome(out: Path) -> list[Any]:
    """Return what a run found, without its times."""
    (path,) = out.glob("*.json")
    records = read_result(path)["records"]
    kept = [records["columns"].index(name) for name in ("method", "top1_curve", "top5_curve", "loss_curve")]
    return [[row[place] for place in kept] for row in records["rows"] if row[0] == "run"]


@pytest.mark.slow
def test_run_writes_its_results_and_networks_and_leaves_nothing_else(tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, out=tmp_path / "out", models=tmp_path / "models", n_seeds=2)
    assert run(config) == 0
    assert {path.suffix for path in config.out.glob("*.*")} == {".json", ".csv", ".png", ".svg"}
    document = read_result(config.out / "imagenet-embedded-smoke-cpu.json")
    assert len(read_outcome(config.out)) == 4
    assert not math.isnan(document["summary"][0]["top1_diff_low"])
    parts = {row["part"] for row in document["summary"]}
    assert parts == {"run", "loader", "speed"}
    assert all(row["met"] in ("target", "missed") for row in document["summary"] if row["part"] != "run")
    origins = list_trained(config.models).values()
    assert [(origin.network, origin.method) for origin in origins] == [
        *[("resnet18", "ERM")] * 2,
        *[("resnet18", "mixup")] * 2,
    ]


@pytest.mark.slow
def test_a_broken_command_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imagenet, "time_all", lambda *_: [])  # what is trained is compared
    # The unbroken run loads images in two other processes, on which nothing depends.
    whole, broken = (
        dataclasses.replace(TINY, out=tmp_path / name, n_jobs=n) for name, n in (("a", 2), ("b", 1))
    )
    run(whole)
    with killed_after(imagenet_training, 3):  # in the midst of the second run
        run(broken)
    folder, journal = sorted(broken.out.iterdir())
    assert [path.name for path in folder.iterdir()] == ["resnet18-2-mixup-0.2-0.pt"]
    assert journal.suffix == ".jsonl"
    run(broken)
    assert read_outcome(whole.out) == read_outcome(broken.out)


@pytest.mark.slow
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_an_image_that_does_not_decode_ends_the_run(tmp_path: Path, n_jobs: int) -> None:
    write_made_up_images(tmp_path / "data")
    spoilt = tmp_path / "data" / "train" / "class_1" / "image_2.JPEG"
    spoilt.write_bytes(spoilt.read_bytes()[:500])
    config = dataclasses.replace(TINY, data_dir=tmp_path / "data", out=tmp_path / "out", n_jobs=n_jobs)
    with pytest.raises(UserError, match=r"class_1/image_2.JPEG' must be an image that decodes; got OSError"):
        run(config)
    assert not list((tmp_path / "out").glob("*.json"))


@pytest.mark.slow
def test_a_checkpoint_of_another_run_is_refused(tmp_path: Path) -> None:
    write_made_up_images(tmp_path)
    folders = load_folders(tmp_path)
    folder = tmp_path / "runs"
    config = dataclasses.replace(TINY, epochs=(1,))
    first, second = list_runs(config)
    imagenet.train_once(config, folders, first, ALONE, folder)
    (path,) = folder.iterdir()
    path.rename(folder / "resnet18-1-mixup-0.2-0.pt")
    with pytest.raises(UserError, match=r"must be a checkpoint of this run .*got one of .*ERM-0/0\. Delete"):
        imagenet.train_once(config, folders, second, ALONE, folder)
