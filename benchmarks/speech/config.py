"""The options of ``speech`` and its presets."""

from dataclasses import dataclass
from typing import Annotated, Literal

from benchmarks.harness.command import BaseConfig
from benchmarks.harness.rules import FINITE, NOT_EMPTY, Alpha, Count, Known, Several, Within
from benchmarks.speech.networks import SPEECH_NETWORKS

__all__ = ["PRESETS", "Config"]


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the comparison of ERM and mixup on speech."""

    networks: Annotated[tuple[str, ...], Known(SPEECH_NETWORKS), NOT_EMPTY] = ("lenet", "vgg11")
    """Networks to train: lenet, vgg11."""

    width: Count = 12
    """Channels of the first convolution of VGG-11; the paper's network has 64."""

    level: Literal["spectrogram", "waveform"] = "spectrogram"
    """What is mixed: spectrograms, as in the paper, or waveforms; the network then makes the spectrograms."""

    alphas: Annotated[tuple[Alpha, ...], NOT_EMPTY] = (0.1, 0.2)
    """Mixup's alphas; one weight is drawn for each batch. ERM is always run."""

    warmup_epochs: Annotated[int, Within(0)] = 5
    """Epochs of ERM before mixup begins."""

    epochs: Count = 30
    """Epochs of each run."""

    lr: Annotated[float, Within(1e-9), FINITE] = 1e-3
    """Learning rate of Adam at first; with 3e-3, the paper's, LeNet stays at chance on one seed in three of a
    small part of the archive."""

    decay_every: Count = 10
    """Epochs after which the learning rate falls tenfold, again and again."""

    batch_size: Several = 100
    """Clips in a batch."""

    subset: bool = True
    """Take a part of the archive: what the lists name and the folders lack is left out, and if there are no
    test clips the validation clips take their place."""

    made_up: bool = False
    """Make up clips instead of reading any."""

    checkpoint_every: Count = 10
    """Epochs between checkpoints."""

    bfloat16: bool = True
    """Autocast forward passes to bfloat16."""

    channels_last: bool = True
    """Keep the channels of spectrograms and weights last in memory."""

    compile: bool = False
    """Compile the networks."""

    n_threads: Count = 1
    """Threads of each fit on a CPU, whose last digits depend on them; fits side by side share no barriers."""

    seeds_each: Several = 3
    """Seeds, unless --seeds is given."""

    speed_batches: Count = 4
    """Batches in an epoch of the fits that are timed."""

    speed_epochs: Count = 2
    """Epochs of the fits that are timed."""

    speed_rounds: Several = 7
    """Rounds of each comparison of times."""

    speed_clips: Count = 256
    """Clips whose spectrograms are made in each round of their timing, at most."""

    def reads_files(self) -> bool:
        """Return whether the clips are not made up."""
        return not self.made_up

    def list_milestones(self) -> list[int]:
        """Return the epochs after which the learning rate falls."""
        return list(range(self.decay_every, self.epochs, self.decay_every))

    def list_alphas(self) -> list[float]:
        """Return 0, for ERM, and mixup's alphas."""
        return [0.0, *self.alphas]


PRESETS = {
    "cpu": Config(),
    "paper": Config(
        device="cuda",
        n_jobs=1,
        width=64,
        lr=3e-3,
        subset=False,
        bfloat16=False,
        channels_last=False,
        seeds_each=5,
        speed_batches=20,
        speed_epochs=5,
    ),
    "gpu": Config(
        device="cuda",
        n_jobs=1,
        width=64,
        lr=3e-3,
        subset=False,
        compile=True,
        speed_batches=20,
        speed_epochs=20,
    ),
    "smoke": Config(
        n_seeds=2,
        n_jobs=1,
        networks=("vgg11",),
        width=1,
        alphas=(0.2,),
        warmup_epochs=1,
        epochs=3,
        decay_every=2,
        batch_size=12,
        subset=False,
        made_up=True,
        checkpoint_every=2,
        speed_batches=1,
        speed_epochs=1,
        speed_rounds=2,
        speed_clips=8,
    ),
}
