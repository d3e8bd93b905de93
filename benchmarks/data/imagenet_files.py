"""ImageNet's images as folders of classes, read one by one and transformed."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
import torch
from torch import Tensor
from torch.utils.data import Dataset

from benchmarks.data.torchvision_import import import_torchvision
from benchmarks.harness.command import UserError

__all__ = [
    "MEAN",
    "STD",
    "FolderImages",
    "ImageError",
    "ImageFolders",
    "Split",
    "find_folder",
    "find_torchvision",
    "load_folders",
    "make_test_transform",
    "make_training_transform",
    "read_image",
    "write_made_up_images",
]

PARTS = ("train", "val")
# Of each channel of ImageNet's training images, in [0, 1]; torchvision's usual ones.
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
# Images are tested at 256 pixels of their shorter side, of which the middle 224 are cut.
RESIZE = 256 / 224


def find_torchvision(name: str) -> Any:
    """Return a module of torchvision."""
    try:
        return import_torchvision(name)
    except ImportError:
        raise UserError(
            "imagenet must find the package torchvision for its networks and transforms. Run pip install "
            "torchvision."
        ) from None


@dataclass(frozen=True)
class Split:
    """The images of one part."""

    # The files as the operating system names them: one array of bytes, which loading processes share uncopied
    paths: np.ndarray
    labels: np.ndarray  # Class codes, int64

    def __len__(self) -> int:
        return len(self.paths)


@dataclass(frozen=True)
class ImageFolders:
    """Training and validation images."""

    classes: tuple[str, ...]  # Folder of each class, in the order of the codes
    train: Split
    val: Split
    sha256: str  # Digest of the names and sizes of all files

    def describe(self) -> dict[str, Any]:
        """Return the counts and the digest, ready for JSON."""
        return {
            "dataset": "imagenet",
            "n_samples": len(self.train) + len(self.val),
            "n_train": len(self.train),
            "n_val": len(self.val),
            "n_classes": len(self.classes),
            "source": "a folder for each class; the digest is of the names and sizes of the files",
            "sha256": self.sha256,
        }


def find_folder(data_dir: Path | None) -> Path:
    """Return the folder that holds train and val: `data_dir` or its folder imagenet."""
    hint = "Unpack ILSVRC2012 (https://image-net.org) to DIR/train/CLASS and DIR/val/CLASS."
    if data_dir is None:
        raise UserError(f"--data-dir must hold ImageNet as folders train and val; got none. {hint}")
    for folder in (data_dir, data_dir / "imagenet"):
        if all((folder / part).is_dir() for part in PARTS):
            return folder
    lacking = [part for part in PARTS if not (data_dir / part).is_dir()]
    raise UserError(
        f"--data-dir must hold ImageNet as folders train and val; '{data_dir}' lacks "
        f"{' and '.join(lacking)}. {hint}"
    )


def load_folders(folder: Path) -> ImageFolders:
    """List the images of both parts; no image is read.

    Codes follow the sorted names of the training classes.
    """
    train, val = (_list_part(folder / part) for part in PARTS)
    unknown = sorted(set(val.classes) - set(train.classes))
    if unknown:
        raise UserError(
            f"'{folder / 'val' / unknown[0]}' must be a class of '{folder / 'train'}' as well; got "
            f"{len(unknown)} without training images. Move them away, or add those images."
        )
    if len(train.classes) < 2:
        raise UserError(
            f"'{folder / 'train'}' must hold at least 2 classes; got {train.classes}. Add others."
        )
    codes = np.array([train.class_to_idx[name] for name in val.classes])
    digest = hashlib.sha256()
    first = _make_split(folder, train, np.arange(len(train.classes)), digest)
    second = _make_split(folder, val, codes, digest)
    return ImageFolders(tuple(train.classes), first, second, digest.hexdigest())


def _list_part(folder: Path) -> Any:
    """Return torchvision's list of a part, in which no class is empty."""
    datasets = find_torchvision("datasets")
    try:
        part = datasets.ImageFolder(str(folder), allow_empty=True)
    except FileNotFoundError:  # torchvision found no folder in it
        raise UserError(
            f"'{folder}' must hold a folder for each class; got none. Unpack the images there."
        ) from None
    counts = np.bincount(np.array(part.targets, dtype=np.int64), minlength=len(part.classes))
    empty = [part.classes[code] for code in np.flatnonzero(counts == 0)]
    if empty:
        more = f" and {len(empty) - 1} more" if len(empty) > 1 else ""
        raise UserError(
            f"'{folder / empty[0]}'{more} must hold images; got none. Unpack them there, or remove it."
        )
    return part


def _make_split(folder: Path, part: Any, codes: np.ndarray, digest: Any) -> Split:
    for path, _ in part.samples:
        name = os.path.relpath(path, folder)
        digest.update(
            f"{Path(name).as_posix()}\0{Path(path).stat().st_size}\n".encode(errors="surrogateescape")
        )
    labels = codes[np.array(part.targets, dtype=np.int64)]
    return Split(np.array([os.fsencode(path) for path, _ in part.samples]), labels)


class ImageError(UserError):
    """An image that cannot be read.

    A loading process hands an error on with its own traceback in front; only the last line is kept.
    """

    def __init__(self, message: str) -> None:
        last = message.strip().splitlines()[-1]
        super().__init__(last.removeprefix(f"{__name__}.{type(self).__name__}: "))


def read_image(path: bytes) -> Image.Image:
    """Return an image in red, green and blue."""
    name = os.fsdecode(path)
    try:
        with open(name, "rb") as file:  # noqa: PTH123  (a Path would be made for each image)
            return Image.open(file).convert("RGB")
    # A damaged file raises nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0].replace(name, "it")
        raise ImageError(
            f"'{name}' must be an image that decodes; got {reason}. Fetch it again, or drop it."
        ) from None


class FolderImages(Dataset[tuple[Tensor, int]]):
    """Images that are read and transformed when they are asked for.

    What an image becomes depends on `seed`, the attribute ``epoch`` and the row only, neither on the process
    that loads it nor on what was loaded before: `transform` may draw on torch's global generator, which is
    seeded for it and left as it was. None lets its draws be.
    """

    def __init__(
        self, split: Split, transform: Callable[[Image.Image], Tensor], seed: int | None = None
    ) -> None:
        self.split = split
        self.transform = transform
        self.seed = seed
        self.epoch = 0

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        image = read_image(self.split.paths[row])
        label = int(self.split.labels[row])
        if self.seed is None:
            return self.transform(image), label
        with _seeded_draws([self.seed, self.epoch, row]):
            return self.transform(image), label


@contextmanager
def _seeded_draws(numbers: Sequence[int]) -> Iterator[None]:
    """Seed torch's generator of the CPU inside, and leave it as it was."""
    before = torch.get_rng_state()
    seed = np.random.SeedSequence(list(map(int, numbers))).generate_state(1, np.uint64)[0]
    torch.default_generator.manual_seed(int(seed))
    try:
        yield
    finally:
        torch.set_rng_state(before)


def make_training_transform(size: int, *, as_pixels: bool = True) -> Any:
    """Return section 3.1's: scale and aspect-ratio distortion, a crop, a flip.

    `as_pixels` returns bytes, a quarter of the memory on their way to the device; else floats
    normalised one image at a time, as is usual.
    """
    transforms = find_torchvision("transforms")
    crop = transforms.RandomResizedCrop(size, scale=(0.08, 1.0), ratio=(3 / 4, 4 / 3))
    ends = [_take_pixels] if as_pixels else [transforms.ToTensor(), transforms.Normalize(MEAN, STD)]
    return transforms.Compose([crop, transforms.RandomHorizontalFlip(), *ends])


def make_test_transform(size: int) -> Any:
    """Return section 3.1's: the crop in the middle, of 224 from 256 pixels, as bytes.

    The shorter side of an image is brought to 256/224 of `size`.
    """
    transforms = find_torchvision("transforms")
    resize = transforms.Resize(round(RESIZE * size))
    return transforms.Compose([resize, transforms.CenterCrop(size), _take_pixels])


def _take_pixels(image: Image.Image) -> Tensor:
    """Return bytes of shape (height, width, 3), in the order in which they lie in memory."""
    return torch.from_numpy(np.array(image))


def write_made_up_images(folder: Path, *, n_classes: int = 3, n_train: int = 4, n_val: int = 2) -> None:
    """Write noise as JPEG files into train and val, the same in every call."""
    generator = np.random.default_rng(0)
    for part, count in (("train", n_train), ("val", n_val)):
        for code in range(n_classes):
            place = folder / part / f"class_{code}"
            place.mkdir(parents=True)
            for number in range(count):
                # The first of each class is grey, which has to be made three channels.
                shape = (40 + number, 48) if number == 0 else (40 + number, 48, 3)
                pixels = generator.integers(0, 256, size=shape, dtype=np.uint8)
                Image.fromarray(pixels).save(place / f"image_{number}.JPEG")
