import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import save_file
import torch

from benchmarks.cifar.config import PRESETS
from benchmarks.cifar.run import run
from benchmarks.data.cifar_images import load_image_set, normalize_images
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

ORIGIN = Origin(
    network="preact_resnet18",
    options={"out_features": 3, "in_channels": 2, "width": 2},
    dataset="digit_images",
    train_rows=None,
    test_rows=7,
    sha256="0" * 64,
    mean=(100.0, 50.0),
    std=(60.0, 70.0),
    method="mixup",
    weight_decay=1e-4,
    alpha=1.0,
    repeat=1,
    seed=3,
    epochs=5,
)


def make_module() -> PreActResNet18:
    torch.manual_seed(0)
    return PreActResNet18(**ORIGIN.options)


def test_a_network_comes_back_as_it_went(tmp_path: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    module = make_module().eval()
    path = find_trained(tmp_path / "new", "digit_images/mixup/1")
    save_trained(path, module, ORIGIN)
    found = list_trained(path.parent)
    assert found == {path: ORIGIN}
    pixels = torch.tensor(images[0]).sigmoid()
    mean, std = (torch.tensor(values).reshape(-1, 1, 1) for values in (ORIGIN.mean, ORIGIN.std))
    expected = module((255 * pixels - mean) / std)
    torch.testing.assert_close(load_trained(path, ORIGIN)(pixels), expected, rtol=1e-4, atol=1e-5)
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_network_is_kept_as_a_plain_one(tmp_path: Path) -> None:
    module = make_module()
    save_trained(tmp_path / "a.safetensors", torch.compile(module), ORIGIN)
    loaded = load_trained(tmp_path / "a.safetensors", ORIGIN)
    for name, tensor in module.state_dict().items():
        assert torch.equal(loaded.net.state_dict()[name], tensor), name


@pytest.mark.slow
def test_cifar_keeps_what_it_has_trained(tmp_path: Path) -> None:
    options: dict[str, Any] = {"width": 2, "bfloat16": False, "channels_last": False}
    config = dataclasses.replace(
        PRESETS["smoke"], preset="smoke", out=tmp_path / "out", models=tmp_path / "models", **options
    )
    run(config)
    images = load_image_set("digit_images", None, train_rows=300, test_rows=100)
    scaled = normalize_images(images)
    document = read_result(tmp_path / "out" / "cifar-embedded-smoke-cpu.json")
    columns = document["records"]["columns"]
    rows = [dict(zip(columns, row, strict=True)) for row in document["records"]["rows"]]
    last = {
        (row["method"], row["weight_decay"], row["repeat"]): row["last_error"]
        for row in rows
        if row["part"] == "run"
    }
    pixels = torch.tensor(images.table.X[images.n_train :]) / 255
    found = list_trained(config.models) if config.models else {}
    assert len(found) == len(last) == 6
    for path, origin in found.items():
        assert origin.sha256 == document["data"][0]["sha256"]
        assert (origin.mean, origin.std) == (scaled.mean, scaled.std)
        assert origin.alpha == (1.0 if origin.method == "mixup" else 0.0)
        error = (load_trained(path, origin)(pixels).argmax(1).numpy() != scaled.y_test).mean()
        assert 100 * error == pytest.approx(last[origin.method, origin.weight_decay, origin.repeat])


def test_pixel_net_scales_each_channel() -> None:
    net = PixelNet(torch.nn.Identity(), [51.0, 102.0], [25.5, 51.0])
    x = torch.tensor([0.2, 0.6]).reshape(1, 2, 1, 1)
    assert net(x).ravel().tolist() == pytest.approx([0.0, 1.0], abs=1e-6)


def test_a_folder_without_networks_says_how_to_train_them(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"--models must be a folder with trained networks.*cifar --models"):
        list_trained(tmp_path)


@pytest.mark.parametrize("content", [b"", b"\xff" * 40, None])
def test_a_file_of_another_kind_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "other.safetensors"
    if content is None:
        save_file({"weight": torch.zeros(1)}, path)
    else:
        path.write_bytes(content)
    with pytest.raises(UserError, match=r"other.safetensors' must be a network that .* Move it away"):
        list_trained(tmp_path)


def test_weights_of_another_network_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_trained(path, torch.nn.Linear(2, 3), ORIGIN)
    with pytest.raises(UserError, match=r"a.safetensors' must be a network .*; got RuntimeError"):
        load_trained(path, list_trained(tmp_path)[path])


def test_a_file_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_trained(path, make_module(), ORIGIN)
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"a.safetensors' must be a network"):
        list_trained(tmp_path)
