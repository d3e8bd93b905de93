import dataclasses
from importlib.machinery import ModuleSpec
from pathlib import Path
import sys
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.adversarial import run as adversarial
from benchmarks.adversarial.autoattack import attack_by_package
from benchmarks.adversarial.run import (
    PRESETS,
    Config,
    Target,
    attack_once,
    count_errors,
    describe_protocol,
    find_victims,
    load_images,
    run,
)
from benchmarks.adversarial.summary import compare_attacks, summarise, tabulate
from benchmarks.data.cifar_images import load_image_set, normalize_images
from benchmarks.data.imagenet_files import MEAN, STD, load_folders, write_made_up_images
from benchmarks.harness.command import UserError
from benchmarks.harness.results import read_result
from benchmarks.image_training.kept_networks import (
    Origin,
    PixelNet,
    find_trained,
    list_trained,
    load_trained,
    save_trained,
)
from benchmarks.networks.cifar_networks import PreActResNet18
from benchmarks.networks.imagenet_networks import build_network
from sk_mixup.inspection import robustness_curve

STEM = "adversarial-embedded-smoke-cpu"
IMAGES = load_image_set("digit_images", None, train_rows=70, test_rows=30)


def make_origin(method: str, repeat: int, weight_decay: float = 1e-4, **other: Any) -> Origin:
    scaled = normalize_images(IMAGES)
    known: dict[str, Any] = {
        "network": "preact_resnet18",
        "options": {"out_features": 10, "in_channels": 1, "width": 2},
        "dataset": "digit_images",
        "train_rows": 70,
        "test_rows": 30,
        "sha256": IMAGES.describe()["sha256"],
        "mean": scaled.mean,
        "std": scaled.std,
        "method": method,
        "weight_decay": weight_decay,
        "alpha": 1.0 if method == "mixup" else 0.0,
        "repeat": repeat,
        "seed": repeat,
        "epochs": 1,
    }
    return Origin(**(known | other))


def make_target(folder: Path, method: str, repeat: int, weight_decay: float = 1e-4) -> Target:
    """Keep an untrained network whose weights follow from method and repeat."""
    origin = make_origin(method, repeat, weight_decay)
    torch.manual_seed(2 * repeat + (method == "mixup"))
    path = find_trained(folder, f"digits/{method}/{weight_decay:g}/{repeat}")
    save_trained(path, PreActResNet18(**origin.options), origin)
    return Target(path, origin)


@pytest.fixture
def targets(tmp_path: Path) -> list[Target]:
    folder = tmp_path / "models"
    return [make_target(folder, method, repeat) for repeat in range(3) for method in ("ERM", "mixup")]


TINY = dataclasses.replace(PRESETS["smoke"], preset="smoke", eps=(4.0, 64.0), test_rows=20)


@pytest.mark.slow
def test_run_writes_its_results_and_leaves_nothing_else(targets: list[Target], tmp_path: Path) -> None:
    config = dataclasses.replace(TINY, models=targets[0].path.parent, out=tmp_path / "out", attacks=("fgsm",))
    assert run(config) == 0
    assert {path.name for path in config.out.iterdir()} == {
        "finished",
        *(f"{STEM}.{kind}" for kind in ("json", "csv", "png", "svg")),
    }
    document = read_result(config.out / f"{STEM}.json")
    assert len(document["records"]["rows"]) == 6 * (1 + 2) + 6 * 2
    assert len(tabulate(document)) == 2
    assert len(targets) == len(list(targets[0].path.parent.iterdir()))


@pytest.mark.slow
def test_a_finished_run_goes_on_with_more_networks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def attack_noted(config: Config, images: Any, source: Target, victims: list[Target]) -> Any:
        attacked.append(source.path.stem.removeprefix("digits-"))
        return attack_once(config, images, source, victims)

    attacked: list[str] = []
    monkeypatch.setattr(adversarial, "attack_once", attack_noted)
    folder = tmp_path / "models"
    options: dict[str, Any] = {"attacks": ("fgsm",), "test_rows": 4, "models": folder}
    config = dataclasses.replace(TINY, out=tmp_path / "a", **options)
    for repeat in range(3):
        for method in ("ERM", "mixup"):
            make_target(folder, method, repeat)
        if repeat == 1:
            run(config)
            assert len(attacked) == 4
            attacked.clear()
    run(config)
    # Examples are made for the seed before, and for the last one with those of the first.
    assert attacked == ["ERM-0.0001-0", "ERM-0.0001-2", "mixup-0.0001-2"]
    whole = dataclasses.replace(config, out=tmp_path / "b")
    run(whole)
    first, second = (read_result(out / f"{STEM}.json")["summary"] for out in (config.out, whole.out))
    assert first == second


@pytest.mark.parametrize(
    "attack",
    ["fgsm", pytest.param("i-fgsm", marks=pytest.mark.slow), pytest.param("pgd", marks=pytest.mark.slow)],
)
def test_errors_are_those_of_the_library_s_curve(targets: list[Target], attack: str) -> None:
    config = dataclasses.replace(TINY, attacks=(attack,))
    source, victim = targets[2], targets[1]
    images = load_images(config, targets)["digit_images"]
    np.testing.assert_array_equal(images.pixels, IMAGES.table.X[70:90])
    records = attack_once(config, images, source, [victim])["records"]
    pixels, y = images.pixels.astype(np.float32) / np.float32(255), IMAGES.table.y[70:90]
    nets = {target.path: load_trained(target.path, target.origin) for target in (source, victim)}
    options: dict[str, Any] = {"attack": attack, "n_steps": 3, "clip": (0, 1), "random_state": 0}
    for top_k, column in ((1, "top1_error"), (5, "top5_error")):
        white = robustness_curve(
            nets[source.path], pixels, y, eps=[0, 4 / 255, 64 / 255], top_k=top_k, **options
        )
        found = [row[column] for row in records if row["box"] == "white"]
        np.testing.assert_allclose(found, 100 * white.error, atol=1e-3)
        black = robustness_curve(
            nets[victim.path],
            pixels,
            y,
            eps=[4 / 255, 64 / 255],
            top_k=top_k,
            source=nets[source.path],
            **options,
        )
        found = [row[column] for row in records if row["box"] == "black"]
        np.testing.assert_allclose(found, 100 * black.error, atol=1e-3)


def test_every_network_has_one_black_box_source_of_another_seed(targets: list[Target]) -> None:
    pairs = [(source, victim) for source in targets for victim in find_victims(source, targets)]
    assert {victim.path for _, victim in pairs} == {target.path for target in targets}
    assert len(pairs) == len(targets)
    for source, victim in pairs:
        assert source.origin.method == "ERM"
        assert source.origin.repeat == (victim.origin.repeat + 1) % 3


def test_only_the_papers_erm_makes_black_box_examples(tmp_path: Path) -> None:
    targets = [make_target(tmp_path, "ERM", repeat, decay) for decay in (1e-4, 5e-4) for repeat in range(2)]
    victims = {
        (target.origin.weight_decay, target.origin.repeat): len(find_victims(target, targets))
        for target in targets
    }
    assert victims == {(1e-4, 0): 2, (1e-4, 1): 2, (5e-4, 0): 0, (5e-4, 1): 0}


def test_a_lone_seed_has_no_black_box(tmp_path: Path) -> None:
    targets = [make_target(tmp_path, method, 4) for method in ("ERM", "mixup")]
    assert [find_victims(target, targets) for target in targets] == [[], []]


def test_errors_are_counted_among_the_first() -> None:
    class Table(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.flatten(1)

    scores = np.eye(8, dtype=np.float32)[:4] * 2 + np.linspace(1, 0, 8, dtype=np.float32)
    module = PixelNet(Table(), [0.0], [255.0])
    errors = count_errors(module, scores.reshape(4, 1, 1, 8), np.array([0, 0, 4, 7]), batch_size=3)
    # first the row's own number, then 0, 1, 2, ...: the labels stand at places 1, 2, 5 and 8
    assert errors == {"top1_error": 75.0, "top5_error": 25.0}


def test_of_few_classes_all_are_among_the_first() -> None:
    module = PixelNet(nn.Flatten(), [0.0], [255.0])
    errors = count_errors(module, np.eye(3, dtype=np.float32).reshape(3, 1, 1, 3), np.array([0, 1, 0]), 2)
    assert errors == {"top1_error": pytest.approx(100 / 3, abs=1e-3), "top5_error": 0.0}


def make_records() -> list[dict[str, Any]]:
    """Return records whose errors follow from method, attack and repeat."""
    return [
        {
            **{"dataset": "cifar10", "network": "preact_resnet18", "method": method, "weight_decay": 1e-4},
            **{"repeat": repeat, "epochs": 5, "box": box, "attack": attack, "eps": eps, "seconds": 1.0},
            "top1_error": 50.0 + repeat + eps - 10 * (method == "mixup" and attack == "fgsm"),
            "top5_error": 20.0 + eps,
        }
        for box in ("black", "white")
        for attack, eps in (("none", 0.0), ("fgsm", 4.0), ("pgd", 4.0), ("fgsm", 8.0), ("pgd", 8.0))
        for method in ("ERM", "mixup")
        for repeat in range(3)
    ]


def test_tables_have_the_papers_figures_beside() -> None:
    summary = summarise(make_records())
    at_paper, others = tabulate({"summary": summary}).values()
    assert [row["box"] for row in at_paper] == 3 * ["white"] + 3 * ["black"]
    fgsm = next(row for row in at_paper if (row["box"], row["attack"]) == ("black", "FGSM"))
    assert (fgsm["Table 3, top-1"], fgsm["Table 3, top-5"]) == ("57.0 → 46.0", "24.8 → 17.4")
    assert fgsm["top-1: mixup, 1e-4 - ERM"] == "-10.0 [-10.0, -10.0]"
    assert {row["ε"] for row in others} == {"8"}


def test_attacks_of_the_paper_are_compared_at_its_strength() -> None:
    document = {"summary": summarise(make_records())}
    for box, published in (("white", 75.2 - 90.7), ("black", 46.0 - 57.0)):
        (fgsm,) = compare_attacks(document, box)
        assert (fgsm.label, fgsm.text) == (f"FGSM, {box} box", "FGSM 55.0 → 45.0 %")
        assert (fgsm.ours, fgsm.paper) == ((-10, -10, -10), pytest.approx(published))


@pytest.mark.parametrize("method", ["ERM", "mixup"])
def test_networks_of_one_method_are_not_compared(method: str) -> None:
    summary = summarise([record for record in make_records() if record["method"] == method])
    assert not compare_attacks({"summary": summary}, "white")


def test_networks_of_mixup_alone_have_no_difference() -> None:
    summary = summarise([record for record in make_records() if record["method"] == "mixup"])
    assert all(np.isnan(row["top1_error_diff"]) for row in summary)


def test_protocol_names_what_is_attacked(targets: list[Target]) -> None:
    text = describe_protocol(TINY, targets)
    start = "Digits as images, PreAct ResNet-18 of width 2, trained for 1 epochs on 70 training images"
    assert text.startswith(start)
    assert "more than ε = 4, 64," in text


def test_networks_must_be_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--models must be the folder .*got none.*cifar --models"):
        run(Config(out=tmp_path))
    with pytest.raises(UserError, match="--models must be a folder with trained networks"):
        run(Config(out=tmp_path, models=tmp_path))
    assert not list(tmp_path.iterdir())


def test_networks_of_other_images_are_refused(tmp_path: Path) -> None:
    path = find_trained(tmp_path / "models", "a")
    origin = make_origin("ERM", 0, sha256="0" * 64)
    save_trained(path, PreActResNet18(**origin.options), origin)
    with pytest.raises(UserError, match="must have been trained on these images of digit_images; got others"):
        run(dataclasses.replace(TINY, models=path.parent, out=tmp_path / "out"))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_networks_of_imagenet_are_attacked_too(tmp_path: Path) -> None:
    write_made_up_images(tmp_path / "data", n_classes=7)
    folders = load_folders(tmp_path / "data")
    for method in ("ERM", "mixup"):
        origin = make_origin(
            method,
            0,
            network="resnet18",
            options={"out_features": 7},
            dataset="imagenet",
            sha256=folders.sha256,
            mean=tuple(255 * value for value in MEAN),
            std=tuple(255 * value for value in STD),
            image_size=32,
        )
        save_trained(
            find_trained(tmp_path / "models", method), build_network("resnet18", out_features=7), origin
        )
    config = dataclasses.replace(
        TINY, models=tmp_path / "models", data_dir=tmp_path / "data", out=tmp_path / "out", test_rows=8
    )
    assert run(config) == 0
    document = read_result(tmp_path / "out" / "adversarial-smoke-cpu.json")
    assert document["data"][0]["n_classes"] == 7
    assert "ImageNet, ResNet-18: error at ε = 4, %; differences in points" in tabulate(document)
    targets = [Target(path, origin) for path, origin in list_trained(tmp_path / "models").items()]
    images = load_images(config, targets)["imagenet"]
    # of 14 images, two of each class, so many in even steps
    assert (images.pixels.shape, images.y.tolist()) == ((8, 3, 32, 32), [0, 1, 2, 3, 3, 4, 5, 6])


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stands for AutoAttack's package: it brightens all images as much as it may."""

    class AutoAttack:
        def __init__(self, module: nn.Module, *, eps: float, seed: int, device: str) -> None:
            self.eps = eps

        def run_standard_evaluation(
            self, x: torch.Tensor, y: torch.Tensor, *, batch_size: int
        ) -> tuple[torch.Tensor, torch.Tensor]:
            return (x + self.eps).clamp(max=1), y

    fake: Any = ModuleType("pyautoattack")
    fake.AutoAttack, fake.__spec__ = AutoAttack, ModuleSpec("pyautoattack", None)
    monkeypatch.setitem(sys.modules, "pyautoattack", fake)


@pytest.mark.usefixtures("package")
def test_autoattack_attacks_the_white_box_only(targets: list[Target]) -> None:
    config = dataclasses.replace(TINY, attacks=("fgsm", "autoattack"), autoattack_eps=(8.0,))
    images = load_images(config, targets)["digit_images"]
    records = attack_once(config, images, targets[0], find_victims(targets[0], targets))["records"]
    (only,) = (record for record in records if record["attack"] == "autoattack")
    assert (only["box"], only["eps"]) == ("white", 8.0)
    module = load_trained(targets[0].path, targets[0].origin)
    brighter = np.minimum(images.pixels / np.float32(255) + np.float32(8 / 255), 1).astype(np.float32)
    assert only["top1_error"] == count_errors(module, brighter, images.y, 20)["top1_error"]
    assert {record["box"] for record in records if record["attack"] == "fgsm"} == {"white", "black"}


def test_autoattack_needs_its_package(
    targets: list[Target], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyautoattack", None)
    config = dataclasses.replace(
        TINY, models=targets[0].path.parent, out=tmp_path / "out", attacks=("autoattack",)
    )
    with pytest.raises(UserError, match=r"pyautoattack must be installed .* pip install '\.\[attacks\]'"):
        run(config)


def test_examples_of_the_package_stay_in_the_ball(targets: list[Target]) -> None:
    pytest.importorskip("pyautoattack", reason="the package of AutoAttack is an optional one")
    images = load_images(TINY, targets)["digit_images"]
    module = load_trained(targets[0].path, targets[0].origin)
    X = images.pixels[:6].astype(np.float32) / np.float32(255)
    y = module(torch.from_numpy(X)).argmax(1).numpy()  # all are right
    found = attack_by_package(module, X, y, eps=32 / 255, batch_size=6, device="cpu")
    assert (found.shape, found.dtype) == (X.shape, X.dtype)
    assert abs(found - X).max() <= 32 / 255 + 1e-6
    assert (found.min() >= 0, found.max() <= 1) == (True, True)
    assert count_errors(module, found, y, 6)["top1_error"] > 0


@pytest.mark.parametrize("other", [{"alpha": 0.2}, {"epochs": 2}], ids=str)
def test_networks_of_two_trainings_are_no_seeds_of_one(
    targets: list[Target], tmp_path: Path, other: Any
) -> None:
    origin = make_origin("mixup", 7, **other)
    path = find_trained(targets[0].path.parent, "z")
    save_trained(path, PreActResNet18(**origin.options), origin)
    (name,) = other
    with pytest.raises(UserError, match=rf"networks of one training of mixup; got .*z.* with {name}"):
        run(dataclasses.replace(TINY, models=path.parent, out=tmp_path / "out"))


def test_networks_of_two_choices_of_images_are_refused(targets: list[Target], tmp_path: Path) -> None:
    fewer = load_image_set("digit_images", None, train_rows=60, test_rows=30)
    folder = targets[0].path.parent
    origin = make_origin("ERM", 7, train_rows=60, sha256=fewer.describe()["sha256"])
    save_trained(find_trained(folder, "z"), PreActResNet18(**origin.options), origin)
    with pytest.raises(UserError, match=r"must hold networks of the same images; got .*z\.safetensors"):
        run(dataclasses.replace(TINY, models=folder, out=tmp_path / "out"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"attacks": ()}, "--attacks must name at least one; got none"),
        ({"attacks": ("fgms",)}, "--attacks must be one of .* Did you mean 'fgsm'"),
        ({"eps": (0.0,)}, "--eps must be between 1e-06 and 255; got 0.0"),
        ({"eps": (float("nan"),)}, "--eps must be between"),
        ({"n_steps": 0}, "--n-steps must be at least 1"),
        ({"test_rows": 1}, "--test-rows must be at least 2"),
        ({"n_seeds": 3}, "--seeds must be left out here.*got 3. Give --seeds to cifar"),
    ],
)
def test_config_names_the_option_that_is_wrong(options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)
