"""How fast the nets of ``imagenet`` are fed and trained, beside loops written by hand, in turns."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatch
from functools import partial
import multiprocessing
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
import torch.nn.functional as F  # noqa: N812  (torch's own name for it)
from torch.utils.data import DataLoader

from benchmarks.cifar_training import MOMENTUM
from benchmarks.imagenet_files import FolderImages, Split, read_image
from benchmarks.imagenet_networks import BATCH_NORMS
from benchmarks.interleave import interleave
from sk_mixup import MixupClassifier

__all__ = [
    "count_processes",
    "list_worker_counts",
    "make_loop",
    "repeat_rows",
    "time_loading",
    "time_trainings",
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
    >>> from benchmarks.imagenet_speed import list_worker_counts
    >>> list_worker_counts(0), list_worker_counts(6)
    ([0], [0, 1, 2, 4, 6])
    """
    powers = [2**power for power in range(n_workers.bit_length())]
    return sorted({0, n_workers, *powers})


def count_processes(n_workers: int) -> str:
    """Return in words how many processes load images.

    Examples
    --------
    >>> from benchmarks.imagenet_speed import count_processes
    >>> count_processes(1), count_processes(2)
    ('1 loading process', '2 loading processes')
    """
    return f"{n_workers} loading process{'' if n_workers == 1 else 'es'}"


def time_loading(
    nets: Mapping[int, MixupClassifier], dataset: FolderImages, *, n_rounds: int
) -> Iterator[dict[str, Any]]:
    """Yield times of a net's batches, and of loops that only read and transform the same files.

    Parameters
    ----------
    nets : mapping of int to MixupClassifier
        Initialized nets by the number of processes that load their images.
    dataset : FolderImages
        The images.
    n_rounds : int
        Rounds that count.

    Yields
    ------
    record : dict
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


def time_trainings(
    nets: Mapping[str, MixupClassifier],
    make_module: Callable[[], nn.Module],
    dataset: FolderImages,
    plain: FolderImages,
    *,
    n_rounds: int,
    **options: Any,
) -> Iterator[dict[str, Any]]:
    """Yield times of an epoch of estimators and of loops written by hand, loading included, in turns.

    Parameters
    ----------
    nets : mapping of str to MixupClassifier
        Untrained classifiers by the name of their method; their ``alpha`` is the loop's too.
    make_module : callable
        Returns a new network for a loop.
    dataset, plain : FolderImages
        The images for the estimators, as bytes, and for the loops: normalised floats.
    n_rounds : int
        Rounds that count.
    **options : Any
        Of :func:`make_loop`; they must be those of `nets`.

    Yields
    ------
    record : dict
        Contender ("estimator, ..." or "loop, ..."), round and microseconds per image.
    """
    contenders: Contenders = {}
    for method, net in nets.items():
        net.set_params(max_epochs=1)
        loop = make_loop(plain, module=make_module(), alpha=net.alpha, **options)
        contenders[f"estimator, {method}"] = partial(_wait_for, partial(net.partial_fit, dataset))
        contenders[f"loop, {method}"] = partial(_wait_for, loop)
    scale = 1e6 / len(dataset)
    for contender, seconds in interleave(contenders, n_rounds).items():
        for turn, value in enumerate(seconds):
            yield {"contender": contender, "round": turn, "value": round(scale * value, 3)}


def _wait_for(train: Callable[[], Any]) -> None:
    """Train until the devices have ended their work."""
    train()
    if torch.cuda.is_available():
        torch.cuda.synchronize()


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
    """Return a loop as a PyTorch user writes it.

    Parameters
    ----------
    dataset : FolderImages
        The images.
    module : nn.Module
        What is trained; moved to the device.
    alpha : float
        Of λ's Beta distribution, one λ for each batch; 0 for plain training.
    lr, weight_decay : float
        Of SGD with Nesterov's momentum; batch normalisations are not decayed.
    batch_size : int
        Images in a batch.
    device : str, default="cpu"
        Torch device.
    bfloat16, channels_last, compile : bool, default=False
        As in ``make_loop`` of ``cifar_speed``.
    n_workers : int, default=0
        Processes that load images.

    Returns
    -------
    train : callable
        Trains for one epoch more and returns its mean loss.
    """
    layout = torch.channels_last if channels_last else torch.contiguous_format
    kind = torch.device(device).type
    model: Any = module.to(device).train()
    model.to(memory_format=layout)
    optimizer = _make_optimizer(model, lr, weight_decay)
    model = torch.compile(model, dynamic=False) if compile else model
    loader: Any = DataLoader(
        dataset, batch_size, shuffle=True, num_workers=n_workers, pin_memory=kind == "cuda"
    )
    generator = np.random.default_rng(0)

    def autocast() -> AbstractContextManager[Any]:
        return torch.autocast(kind, dtype=torch.bfloat16) if bfloat16 else nullcontext()

    def step(x: Tensor, target: Tensor) -> Tensor:
        partner, lam = target, 1.0
        if alpha:
            index, lam = torch.randperm(len(x), device=device), generator.beta(alpha, alpha)
            x, partner = torch.lerp(x[index], x, lam), target[index]
        optimizer.zero_grad()
        with autocast():
            logits = model(x)
            loss = F.cross_entropy(logits, target)
            if alpha:
                loss = lam * loss + (1 - lam) * F.cross_entropy(logits, partner)
        torch.autograd.backward(loss)
        optimizer.step()
        return loss.detach()

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
