import hashlib
import io
import os
from pathlib import Path
import re
import shutil
from typing import Any

import numpy as np
from PIL import Image
import pytest
import torch
from torch._utils import ExceptionWrapper
from torch.utils.data import DataLoader

from benchmarks.data import imagenet_files
from benchmarks.data.imagenet_files import (
    MEAN,
    STD,
    FolderImages,
    ImageError,
    find_folder,
    find_torchvision,
    load_folders,
    make_test_transform,
    make_training_transform,
    read_image,
    write_made_up_images,
)
from benchmarks.harness.command import UserError
from benchmarks.networks.imagenet_networks import PixelResNet


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_made_up_images(tmp_path / "images")
    return tmp_path / "images"


def make_dataset(folder: Path, seed: int | None = 3) -> FolderImages:
    return FolderImages(load_folders(folder).train, make_training_transform(16), seed)


def test_folders_are_listed_by_class(folder: Path) -> None:
    folders = load_folders(folder)
    assert folders.classes == ("class_0", "class_1", "class_2")
    for part, split, count in (("train", folders.train, 4), ("val", folders.val, 2)):
        assert split.labels.tolist() == [code for code in range(3) for _ in range(count)]
        expected = sorted((folder / part).glob("*/*.JPEG"))
        assert [Path(os.fsdecode(path)) for path in split.paths] == expected
    counts = folders.describe()
    assert (counts["n_train"], counts["n_val"], counts["n_samples"], counts["n_classes"]) == (12, 6, 18, 3)


def test_codes_of_validation_images_are_those_of_the_training_classes(folder: Path) -> None:
    shutil.rmtree(folder / "val" / "class_1")
    assert load_folders(folder).val.labels.tolist() == [0, 0, 2, 2]


def test_digest_is_of_names_and_sizes(folder: Path, tmp_path: Path) -> None:
    write_made_up_images(tmp_path / "again")
    before = load_folders(folder).sha256
    assert load_folders(tmp_path / "again").sha256 == before
    lines = [
        f"{path.relative_to(folder).as_posix()}\0{path.stat().st_size}\n"
        for part in ("train", "val")
        for path in sorted((folder / part).glob("*/*.JPEG"))
    ]
    assert before == hashlib.sha256("".join(lines).encode()).hexdigest()
    path = folder / "val" / "class_0" / "image_0.JPEG"
    path.write_bytes(path.read_bytes() + b"\0")
    assert load_folders(folder).sha256 != before


def test_folder_may_lie_in_one_of_its_name(folder: Path) -> None:
    place = folder.parent / "data"
    place.mkdir()
    folder.rename(place / "imagenet")
    assert find_folder(place) == place / "imagenet"
    assert find_folder(place / "imagenet") == place / "imagenet"


def empty(path: Path) -> None:
    shutil.rmtree(path)
    path.mkdir()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda folder: shutil.rmtree(folder / "val"),
            r"--data-dir must hold ImageNet .* lacks val\. Unpack",
        ),
        (lambda folder: empty(folder / "train"), r"train' must hold a folder for each class; got none"),
        (
            lambda folder: empty(folder / "train" / "class_1"),
            r"train/class_1' must hold images; got none\. Unpack them there",
        ),
        (
            lambda folder: [empty(folder / "val" / f"class_{code}") for code in (0, 2)],
            r"val/class_0' and 1 more must hold images",
        ),
        (
            lambda folder: shutil.rmtree(folder / "train" / "class_2"),
            r"val/class_2' must be a class of '.*train' as well; got 1 without training images\. Move",
        ),
        (
            lambda folder: [
                shutil.rmtree(folder / part / f"class_{code}") for part in ("train", "val") for code in (0, 1)
            ],
            r"train' must hold at least 2 classes; got \['class_2'\]",
        ),
    ],
)
def test_a_folder_that_is_not_as_it_must_be_is_named(folder: Path, spoil: Any, message: str) -> None:
    spoil(folder)
    with pytest.raises(UserError, match=message):
        load_folders(find_folder(folder))


def test_no_folder_is_an_error() -> None:
    with pytest.raises(UserError, match=r"--data-dir must hold ImageNet .*; got none\. Unpack ILSVRC2012"):
        find_folder(None)


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ImportError

    monkeypatch.setattr(imagenet_files, "import_torchvision", fail)
    with pytest.raises(UserError, match=r"must find the package torchvision.*Run pip install torchvision"):
        find_torchvision("transforms")


def test_an_image_depends_on_seed_epoch_and_row_only(folder: Path) -> None:
    images = make_dataset(folder)
    first = [images[row][0] for row in range(4)]
    torch.manual_seed(1)
    before = torch.get_rng_state()
    for row in (3, 1, 0, 2):
        assert torch.equal(images[row][0], first[row])
    assert torch.equal(torch.get_rng_state(), before)
    images.epoch = 1
    assert not torch.equal(images[0][0], first[0])
    assert not torch.equal(make_dataset(folder, seed=4)[0][0], first[0])


def test_an_image_does_not_depend_on_the_process_that_loads_it(folder: Path) -> None:
    images = make_dataset(folder)
    loader: Any = DataLoader(images, batch_size=5, num_workers=2, generator=torch.Generator())
    pixels, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(pixels, torch.stack([images[row][0] for row in range(len(images))]))
    assert labels.tolist() == images.split.labels.tolist()


def test_without_a_seed_the_global_generator_is_drawn_on(folder: Path) -> None:
    images = make_dataset(folder, seed=None)
    torch.manual_seed(0)
    first, second = images[0][0], images[0][0]
    torch.manual_seed(0)
    assert torch.equal(images[0][0], first)
    assert not torch.equal(first, second)


def test_pixels_are_normalised_by_the_network_as_is_usual(folder: Path) -> None:
    split = load_folders(folder).train
    pixels, _ = FolderImages(split, make_training_transform(32), seed=0)[5]
    usual, _ = FolderImages(split, make_training_transform(32, as_pixels=False), seed=0)[5]
    assert (pixels.dtype, tuple(pixels.shape)) == (torch.uint8, (32, 32, 3))
    for channels_last in (False, True):
        model = PixelResNet("resnet18", out_features=2, channels_last=channels_last)
        model.net = torch.nn.Identity()
        torch.testing.assert_close(model(pixels.unsqueeze(0))[0], usual, rtol=1e-5, atol=1e-5)
        mixed = 0.3 * pixels.float() + 0.7 * pixels.flip(0).float()  # normalising keeps mixtures
        expected = 0.3 * usual + 0.7 * usual.flip(1)
        torch.testing.assert_close(model(mixed.unsqueeze(0))[0], expected, rtol=1e-5, atol=1e-5)
        assert model(mixed.unsqueeze(0)).is_contiguous(memory_format=model.layout)


def test_validation_images_are_the_middle_of_the_resized_image(folder: Path) -> None:
    path = load_folders(folder).val.paths[1]
    image = read_image(path)
    width, height = image.size
    resized = image.resize((int(32 * width / height), 32), Image.Resampling.BILINEAR)
    left = round((resized.size[0] - 28) / 2)
    expected = np.asarray(resized.crop((left, 2, left + 28, 30)))
    np.testing.assert_array_equal(make_test_transform(28)(image).numpy(), expected)


def test_grey_images_have_three_channels(folder: Path) -> None:
    path = load_folders(folder).train.paths[0]
    with Image.open(os.fsdecode(path)) as image:
        assert image.mode == "L"
    pixels = np.asarray(read_image(path))
    assert pixels.shape[2] == 3
    assert (pixels == pixels[:, :, :1]).all()


@pytest.mark.parametrize("kind", ["cut", "text", "missing"])
def test_an_image_that_does_not_decode_is_named_in_one_line(folder: Path, kind: str) -> None:
    images = make_dataset(folder)
    path = Path(os.fsdecode(images.split.paths[2]))
    content = {"cut": path.read_bytes()[:400], "text": b"no image"}
    path.unlink()
    if kind in content:
        path.write_bytes(content[kind])
    with pytest.raises(UserError, match="must be an image that decodes") as caught:
        images[2]
    message = str(caught.value)
    assert re.fullmatch(rf"'{re.escape(str(path))}' must be an image that decodes; got \w+: .*\.", message)
    assert message.endswith("Fetch it again, or drop it.")
    # What a process that loads images hands on.
    try:
        images[2]
    except ImageError:
        handed_on: Any = ExceptionWrapper(where="in DataLoader worker process 0")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        handed_on.reraise()


def test_normal_values_are_those_of_imagenet() -> None:
    grey = Image.new("RGB", (40, 40), (124, 116, 104))  # the means in bytes
    transform = make_training_transform(8, as_pixels=False)
    assert float(transform(grey).abs().max()) < 0.01
    buffer = io.BytesIO()
    grey.save(buffer, "PNG")
    assert (np.round(255 * np.array(MEAN)) == [124, 116, 104]).all()
    assert np.allclose(STD, 0.225, atol=0.005)
