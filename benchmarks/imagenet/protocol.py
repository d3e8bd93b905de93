"""What ``imagenet`` does, in words."""

from benchmarks.data.imagenet_files import ImageFolders
from benchmarks.image_training.augment_and_schedule import MOMENTUM
from benchmarks.imagenet.config import Config, list_milestones
from benchmarks.networks.imagenet_networks import NETWORKS

__all__ = ["describe_protocol"]


def describe_protocol(config: Config, folders: ImageFolders, n_processes: int) -> str:
    """Return what was done, to stand before the numbers."""
    parts = (
        _describe_training(config, folders, n_processes),
        _describe_images(config),
        _describe_errors(),
        _describe_times(config) if n_processes == 1 else "Only trainings were timed.",
    )
    return " ".join(parts)


def _describe_training(config: Config, folders: ImageFolders, n_processes: int) -> str:
    counts = folders.describe()
    lengths = sorted({epochs for network in config.networks for epochs in config.list_epochs(network)})
    drops = "; ".join(
        f"{', '.join(map(str, list_milestones(epochs)))} of {epochs} epochs" for epochs in lengths
    )
    processes = "one process" if n_processes == 1 else f"{n_processes} data-parallel processes"
    precision = "bfloat16 autocast" if config.bfloat16 else "float32"
    layout = ", channels last" if config.channels_last else ""
    return (
        f"{counts['n_train']:,} training and {counts['n_val']:,} validation images of "
        f"{counts['n_classes']:,} classes. SGD with Nesterov momentum {MOMENTUM:g}, batches of "
        f"{config.batch_size} images over {processes}; the learning rate grows step by step from "
        f"{config.lr_start:g} to {config.lr:g} (epochs of warm-up: {config.lr_warmup}) and is divided by ten "
        f"after {drops}; it is not scaled by the number of processes. Weight decay {config.weight_decay:g}, "
        "not of batch normalisations (Goyal et al. 2017, whose practice section 3.1 follows; it names "
        "neither Nesterov's form nor what is decayed). Statistics of batch normalisations are those of one "
        f"process. {precision}{layout}{', compiled' * config.compile}."
    )


def _describe_images(config: Config) -> str:
    size = config.image_size
    alphas = "; ".join(
        f"{NETWORKS[network].title}: alpha = {config.get_alpha(network):g}" for network in config.networks
    )
    return (
        "Training images: scale and aspect-ratio distortion (an area from 8 to 100 %, a ratio from 3:4 to "
        f"4:3), flip, no colour distortion, {size} x {size} pixels; in validation the crop in the middle; "
        "normalised on the device, batch by batch. "
        f"{alphas}; one λ and one permutation for each batch of each process. ERM and mixup have the same "
        "initial weights, orders, crops and flips."
    )


def _describe_errors() -> str:
    return (
        "Errors are those after the last epoch, in per cent; the paper does not say which epoch's it prints, "
        "nor the spread over seeds, and its ERM figures for 90 epochs of the first three networks are cited "
        "from other work."
    )


def _describe_times(config: Config) -> str:
    return (
        f"Times in turns, {config.speed_rounds} rounds after a warm-up, median and quartiles of the rounds' "
        "ratios; training images, repeated where there are fewer. Loading "
        f"({config.loader_images:,} images, {config.loader_size} pixels): the batches that the estimator "
        "trains on, beside a loop that opens, decodes and transforms the same files and does nothing else, "
        f"in as many processes; times of a core. Training ({config.speed_batches} batches, loading "
        "included): beside a loop written by hand with the same net, "
        "distortion, precision and number of loading processes, which normalises image by image."
    )
