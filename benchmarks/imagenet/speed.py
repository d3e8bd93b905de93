"""How fast the nets of ``imagenet`` are fed and trained, beside loops written by hand, in turns."""

from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatch
from functools import partial
import multiprocessing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.data.imagenet_files import FolderImages, Split, read_image
from benchmarks.harness.interleaved_timing import interleave
from benchmarks.image_training.augment_and_schedule import MOMENTUM
from benchmarks.networks.imagenet_networks import BATCH_NORMS
from benchmarks.peers.hand_written_loop import lay_out, make_step
from sk_mixup import MixupClassifier

__all__ = [
    "count_processes",
    "list_worker_counts",
    "make_loop",
    "repeat_rows",
    "time_loading",
]

Contenders = dict[str, Callable[[], Any]]


def repeat_rows(split: Split, n_images: int) -> Split:
    """Return so many images: the first ones, all of them again and again where there are fewer."""
    rows = np.arange(n_images) % len(split)
    return Split(split.paths[rows], split.labels[rows])


def list_worker_counts(n_workers: int) -> list[int]:
    """Return 0, 1, 2, 4, ... up to a number of processes, and this number.

    Examples
    --------
    >>> from benchmarks.imagenet.speed import list_worker_counts
    >>> list_worker_counts(0), list_worker_counts(6)
    ([0], [0, 1, 2, 4, 6])
    """
    powers = [2**power for power in range(n_workers.bit_length())]
    return sorted({0, n_workers, *powers})


def count_processes(n_workers: int) -> str:
    """Return in words how many processes load images."""
    return f"{n_workers} loading process{'' if n_workers == 1 else 'es'}"


def time_loading(
    nets: Mapping[int, MixupClassifier], dataset: FolderImages, *, n_rounds: int
) -> Iterator[dict[str, Any]]:
    """Yield times of a net's batches, and of loops that only read and transform the same files.

    Case, contender ("feed" or "bare loop"), round and microseconds of a core for each image.
    """
    contenders: Contenders = {}
    for n_workers, net in nets.items():
        case = count_processes(n_workers)
        contenders[f"{case}/feed"] = partial(_feed, net, dataset)
        contenders[f"{case}/bare loop"] = partial(_loop_bare, dataset, n_workers)
    cores = [max(n_workers, 1) for n_workers in nets for _ in range(2)]
    scale = 1e6 / len(dataset)
    for n_cores, (name, seconds) in zip(cores, interleave(contenders, n_rounds).items(), strict=True):
        case, _, contender = name.partition("/")
        for turn, value in enumerate(seconds):
            record = {"case": case, "contender": contender, "round": turn}
            yield record | {"value": round(scale * n_cores * value, 3)}


def _feed(net: MixupClassifier, dataset: FolderImages) -> None:
    """Go through an epoch's batches as the net's training does."""
    for _ in net.get_training_batches(dataset, net.get_policy()):
        pass


def _loop_bare(dataset: FolderImages, n_processes: int) -> None:
    """Read and transform each image, and drop it, in this process (0) or in others, each its share."""
    if n_processes == 0:
        _read_all(dataset.split.paths, dataset.transform)
        return
    shares = [dataset.split.paths[rank::n_processes] for rank in range(n_processes)]
    processes = [
        multiprocessing.Process(target=_read_all, args=(share, dataset.transform)) for share in shares
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


def _read_all(paths: np.ndarray, transform: Callable[[Any], Tensor]) -> None:
    for path in paths:
        transform(read_image(path))


def make_loop(
    dataset: FolderImages,
    *,
    module: nn.Module,
    alpha: float,
    lr: float,
    weight_decay: float,
    batch_size: int,
    device: str = "cpu",
    bfloat16: bool = False,
    channels_last: bool = False,
    compile: bool = False,
    n_workers: int = 0,
) -> Callable[[], float]:
    """Return a loop as a PyTorch user writes it."""
    layout = lay_out(module, device, channels_last=channels_last)
    optimizer = _make_optimizer(module, lr, weight_decay)
    model: Any = torch.compile(module, dynamic=False) if compile else module
    step = make_step(model, optimizer, alpha=alpha, device=device, bfloat16=bfloat16)
    pins = torch.device(device).type == "cuda"
    loader: Any = DataLoader(dataset, batch_size, shuffle=True, num_workers=n_workers, pin_memory=pins)

    def train() -> float:
        losses = [
            step(x.to(device, memory_format=layout, non_blocking=True), y.to(device, non_blocking=True))
            for x, y in loader
        ]
        return torch.stack(losses).mean().item()

    return train


def _make_optimizer(model: nn.Module, lr: float, weight_decay: float) -> torch.optim.SGD:
    parts: dict[bool, list[Tensor]] = {True: [], False: []}
    for name, parameter in model.named_parameters():
        parts[any(fnmatch(name, pattern) for pattern in BATCH_NORMS)].append(parameter)
    groups: list[dict[str, Any]] = [{"params": parts[False], "weight_decay": weight_decay}]
    return torch.optim.SGD(
        [*groups, {"params": parts[True]}],
        lr=lr,
        momentum=MOMENTUM,
        nesterov=True,
        fused=True,
    )
