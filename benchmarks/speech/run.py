"""Claim: mixup lowers the test error of a large network on spoken commands, and not that of a small one.

In the paper: section 3.3, Figure 4: LeNet and VGG-11, ERM and mixup with alpha = 0.1 and 0.2.

    python -m benchmarks speech --data-dir DIR       LeNet, a narrow VGG-11, a part of the archive
    python -m benchmarks speech --preset gpu --download         LeNet and VGG-11, the whole archive, bfloat16
    python -m benchmarks speech --preset paper --download       the same in float32

DIR holds what the archive unpacks to, or a part of it; ``--download`` fetches the archive. Spectrograms
are made once and kept in scikit-learn's data home. ``--level waveform`` mixes waveforms, which the paper
calls reasonable and does not report; their spectrograms are then made by the module's first layer, as
``augment=`` of the estimator is called before mixing. ERM and mixup have the same seeds: initial weights
and orders of the rows. Training goes in pieces with a checkpoint after each, so a run that was killed goes
on with the same command.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.data.speech_files import N_SAMPLES, SAMPLE_RATE, Clips, read_clips
from benchmarks.harness.checkpoints import find_checkpoint, open_checkpoints, train_in_pieces
from benchmarks.harness.claims import Claim
from benchmarks.harness.command import Command
from benchmarks.harness.experiment import conclude, list_records, make_stem
from benchmarks.harness.fitting import derive_seed
from benchmarks.harness.interleaved_timing import interleave, list_times, use_threads
from benchmarks.harness.runner import run_tasks
from benchmarks.image_training.augment_and_schedule import HeldOutScores, StepDecay, repeatable_convolutions
from benchmarks.peers.hand_written_loop import make_loop, make_random_inputs, time_trainings
from benchmarks.speech.config import PRESETS, Config
from benchmarks.speech.data import SpeechSet, open_speech
from benchmarks.speech.features import BLOCK, HOP, INPUT_SHAPES, N_BINS, N_FFT, N_FRAMES, transform
from benchmarks.speech.networks import SPEECH_NETWORKS, SpeechNet
from benchmarks.speech.summary import compare_errors, draw_errors, summarise, tabulate
from sk_mixup import MixupClassifier

__all__ = ["COMMAND", "Run", "make_net", "run"]

TEST_BATCH = 100
PUBLISHED_LR = 3e-3


@dataclass(frozen=True)
class Run:
    """One training."""

    network: str  # Key of ``SPEECH_NETWORKS``
    alpha: float  # Mixup's, or 0 for ERM
    repeat: int  # From 0; runs of one repeat share their seed

    @property
    def key(self) -> str:
        """The run's name in the journal."""
        return f"{self.network}/{self.alpha:g}/{self.repeat}"

    @property
    def seed(self) -> int:
        """Seed of initial weights, orders, partners, weights and dropout."""
        return derive_seed("speech_commands", self.repeat)


def run(config: Config) -> int:
    """Train, print tables and verdicts, and write the results."""
    with open_speech(config) as speech:
        return _run_on(config, speech)


def _run_on(config: Config, speech: SpeechSet) -> int:
    data = speech.describe()
    stem = make_stem("speech", config, embedded=config.made_up)
    journal = open_checkpoints(stem, config, data=data["sha256"])
    tasks = {item.key: (config, speech, item, journal.folder) for item in list_runs(config)}
    trained = run_tasks(train_once, tasks, journal, n_jobs=config.n_jobs, label="speech", until=config.end)
    # Times alone: no other fit runs beside them.
    timed = [
        *run_tasks(
            time_clips,
            {"speed/clips": (config, speech.clips)},
            journal,
            n_jobs=1,
            label="clips",
            until=config.end,
        ),
        *run_tasks(
            time_network,
            {f"speed/{network}": (config, network, speech.n_classes) for network in config.networks},
            journal,
            n_jobs=1,
            label="speech, times",
            until=config.end,
        ),
    ]
    records = list_records([*trained, *timed])
    return conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        data=[data],
        protocol=describe_protocol(config, data),
        summarise=summarise,
    )


def list_runs(config: Config) -> list[Run]:
    """Return all trainings; those of one repeat next to each other, so that each repeat ends whole."""
    return [
        Run(network, alpha, repeat)
        for network in config.networks
        for repeat in range(config.n_seeds or config.seeds_each)
        for alpha in config.list_alphas()
    ]


def train_once(config: Config, speech: SpeechSet, item: Run, folder: Path) -> dict[str, Any]:
    """Train a network, from its checkpoint on if there is one, and return its errors epoch by epoch.

    Errors and curves in per cent of the clips of a part, seconds of training without tests.
    """
    parts = dict(speech.parts)
    X, y = parts.pop("train")
    callbacks = [StepDecay(config.list_milestones()), HeldOutScores(parts)]
    net = make_net(config, item, speech.n_classes, callbacks=callbacks)
    with use_threads(config.n_threads), repeatable_convolutions():
        train_in_pieces(
            net,
            X,
            y,
            n_epochs=config.epochs,
            every=config.checkpoint_every,
            path=find_checkpoint(folder, item.key),
            identity=f"{folder.name}/{item.key}",
        )
    return {
        "part": "run",
        **{name: getattr(item, name) for name in ("network", "alpha", "repeat", "seed")},
        "epochs": config.epochs,
        "n_parameters": sum(parameter.numel() for parameter in net.module_.parameters()),
        **_describe_history(net, tuple(parts), len(y)),
    }


def _describe_history(net: MixupClassifier, parts: tuple[str, ...], n_train: int) -> dict[str, Any]:
    record: dict[str, Any] = {}
    for part in parts:
        errors = 100 * np.array(net.history[:, f"{part}_error"])
        record[f"{part}_error"] = round(float(errors[-1]), 4)
        record[f"{part}_curve"] = np.round(errors, 3).tolist()
    losses, seconds = (np.array(net.history[:, name]) for name in ("train_loss", "dur"))
    return record | {
        "train_loss": round(float(losses[-1]), 5),
        "loss_curve": np.round(losses, 4).tolist(),
        "seconds": round(float(seconds.sum()), 2),
        "clips_per_second": round(n_train / float(np.median(seconds)), 1),
    }


def make_net(
    config: Config, item: Run, n_classes: int, *, callbacks: list[Any] | None = None, **options: Any
) -> MixupClassifier:
    """Return an untrained classifier."""
    compiled = {"compile": True, "compile__dynamic": False} if config.compile else {}
    known: dict[str, Any] = {
        "module__network": item.network,
        "module__width": config.width,
        "module__level": config.level,
        "module__out_features": n_classes,
        "alpha": item.alpha,
        "lam_per": "batch",
        "warmup_epochs": config.warmup_epochs if item.alpha else 0,
        "optimizer": torch.optim.Adam,
        "lr": config.lr,
        "batch_size": config.batch_size,
        "iterator_valid__batch_size": TEST_BATCH,
        "early_stopping": False,
        "autocast": "bfloat16" if config.bfloat16 else None,
        "channels_last": config.channels_last,
        "storage": "device",
        "device": config.device,
        "classes": list(range(n_classes)),
        "callbacks": callbacks,
        "random_state": item.seed,
    }
    return MixupClassifier(SpeechNet, **known | compiled | options)


def time_clips(config: Config, clips: Clips) -> dict[str, Any]:
    """Measure on one core how many times faster than real time WAV files become spectrograms."""
    case = f"spectrograms on {config.device}, one core"
    names = clips.names[: config.speed_clips]
    sound = len(names) * N_SAMPLES / SAMPLE_RATE

    def extract() -> None:
        for waves in read_clips(clips.folder, names, BLOCK):
            transform(waves, config.device)

    with use_threads(1):
        seconds = interleave({"extraction": extract}, config.speed_rounds)["extraction"]
    speeds = {"extraction": [sound / value for value in seconds]}
    return {"records": list(list_times(speeds, digits=1, part="speed", case=case))}


def time_network(config: Config, network: str, n_classes: int) -> dict[str, Any]:
    """Time the estimator with and without mixup beside loops written by hand, in turns."""
    shared = {
        "part": "speed",
        "network": network,
        "case": f"{SPEECH_NETWORKS[network].title} on {config.device}",
    }
    alphas = {"ERM": 0.0, "mixup": config.alphas[0]}
    n_clips = config.speed_batches * config.batch_size
    X, y = make_random_inputs(n_clips, INPUT_SHAPES[config.level], n_classes)

    def make_contender(alpha: float) -> Callable[[], Any]:
        return make_loop(
            X,
            y,
            module=SpeechNet(n_classes, network, config.width, config.level),
            make_optimizer=partial(torch.optim.Adam, lr=config.lr, fused=True),
            alpha=alpha,
            batch_size=config.batch_size,
            n_epochs=config.speed_epochs,
            device=config.device,
            bfloat16=config.bfloat16,
            channels_last=config.channels_last,
            compile=config.compile,
        )

    with use_threads(config.n_threads), repeatable_convolutions():
        nets = {
            method: make_net(config, Run(network, alpha, 0), n_classes, warmup_epochs=0)
            for method, alpha in alphas.items()
        }
        rounds = {"n_rounds": config.speed_rounds, "n_epochs": config.speed_epochs}
        times = time_trainings(nets, make_contender, (X, y), **rounds)
        return {"records": [{**shared, **time} for time in times]}


def describe_protocol(config: Config, data: dict[str, Any]) -> str:
    """Return what was done, in words, to stand before the numbers."""
    precision = "bfloat16 autocast" if config.bfloat16 else "float32"
    layout = ", channels last" if config.channels_last else ""
    width = f", width {config.width} (64 in the paper)" if config.width != 64 else ""
    lr = f" ({PUBLISHED_LR:g} in the paper)" if config.lr != PUBLISHED_LR else ""
    held_out = f"{data['n_valid']} for validation and " if data["n_valid"] else ""
    mixed = {
        "spectrogram": "spectrograms are mixed, as in the paper",
        "waveform": "waveforms are mixed, and the network's first layer makes their spectrograms",
    }[config.level]
    return (
        f"{data['n_train']} clips of {data['n_classes']} words for training, {held_out}{data['n_test']} for "
        f"testing: {data['source']}. Log-spectrograms log(1 + magnitude) of {N_BINS} x {N_FRAMES} at "
        f"{SAMPLE_RATE} Hz: Hamming window of {1000 * N_FFT // SAMPLE_RATE} ms each "
        f"{1000 * HOP // SAMPLE_RATE} ms, the frequency of 8 kHz left out, short clips padded with zeros, "
        f"each clip with mean 0 and deviation 1. LeNet with dropout; VGG-11 with batch normalisation{width}. "
        f"{config.epochs} epochs (30 in the paper) of Adam, batches of {config.batch_size}, learning rate "
        f"{config.lr:g}{lr}, divided by ten after every {config.decay_every} epochs. Mixup: one λ and one "
        f"permutation for each batch, after {config.warmup_epochs} epochs of ERM; {mixed}. ERM and mixup "
        "have the same initial weights and orders of the rows. "
        f"{precision}{layout}{', compiled' * config.compile}; trained in pieces of "
        f"{config.checkpoint_every} epochs. Errors after the last epoch, nothing chosen by them; means over "
        "seeds with Student's 95 % intervals, differences in points, paired by seed; the spread of the "
        f"published figures is not known. Ratios of times: fits of {config.speed_epochs} epochs of "
        f"{config.speed_batches} batches in turns, {config.speed_rounds} rounds after a warm-up, median and "
        "quartiles of the rounds' ratios; the loop is written by hand, with the same net, precision and "
        f"fused Adam. Spectrograms: from WAV files to arrays, {config.speed_clips} clips at most, seconds of "
        "sound a second."
    )


COMMAND = Command(
    name="speech",
    order=8,
    paper="section 3.3, Figure 4",
    claim="error on Google's spoken commands, ERM against mixup with alpha = 0.1 and 0.2",
    presets=PRESETS,
    times={"cpu": "50 minutes of CPU time", "smoke": "seconds"},
    run=run,
    tabulate=tabulate,
    draw=draw_errors,
    claims=(
        Claim(
            "Mixup lowers the error of VGG-11 on spoken commands",
            "Figure 4",
            "test error 4.6 → 3.8 and 3.4 % (alpha = 0.1 and 0.2)",
            partial(compare_errors, network="vgg11"),
        ),
        Claim(
            "Mixup does not lower the error of LeNet on spoken commands",
            "Figure 4",
            "test error 10.3 → 10.8 and 11.3 % (alpha = 0.1 and 0.2)",
            partial(compare_errors, network="lenet"),
            expected=(0, 1),
        ),
    ),
    note=(
        "The cpu preset takes a part of the archive (about a fortieth of its training clips, 12 of its 30 "
        "words) and a narrow VGG-11, so its errors are to be compared with each other and not with the "
        "paper's."
    ),
)
