"""What a report of a bug should say of the machine and of what is installed."""

from importlib.metadata import PackageNotFoundError, version
import platform
import sys

import torch

import sk_mixup

__all__ = ["show_versions"]

NEEDED = ("joblib", "numpy", "scikit-learn", "skorch", "torch", "tqdm")
EXTRAS = (
    "accelerate",
    "matplotlib",
    "onnxruntime",
    "pandas",
    "pyarrow",
    "safetensors",
    "skl2onnx",
    "skops",
    "skrub",
    "torchvision",
)


def show_versions() -> None:
    """Print the versions of Python, of this package and of what it uses, and what PyTorch runs on.

    Paste its output into a report of a bug. Packages that only extras need are left out where they are
    not installed.

    Examples
    --------
    >>> import sk_mixup
    >>> sk_mixup.show_versions()  # doctest: +ELLIPSIS
    <BLANKLINE>
    System:
            python: 3...
    """
    system = {
        "python": sys.version.replace("\n", " "),
        "executable": sys.executable,
        "machine": platform.platform(),
    }
    sections = {"System": system, "Packages": find_packages(), "PyTorch": describe_torch()}
    for title, lines in sections.items():
        print(f"\n{title}:")
        for name, text in lines.items():
            print(f"{name:>14}: {text}")


def find_packages() -> dict[str, str]:
    """Return the versions of what is needed, and of the packages of extras that are there."""
    found = {"sk_mixup": sk_mixup.__version__}
    for name in (*NEEDED, *EXTRAS):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            if name in NEEDED:
                found[name] = "not installed"
    return found


def describe_torch() -> dict[str, str]:
    """Return how many threads and which devices PyTorch has."""
    devices = [torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())]
    return {
        "threads": str(torch.get_num_threads()),
        "CUDA": torch.version.cuda or "not in this build",
        "devices": ", ".join(devices) or "CPU only",
    }
