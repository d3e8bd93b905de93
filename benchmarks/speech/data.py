"""The clips that ``speech`` learns from: parts, classes and inputs; and made-up clips for a trial."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
import tempfile
from typing import Any

import numpy as np
from sklearn.datasets import get_data_home

from benchmarks.data.speech_download import fetch_speech
from benchmarks.data.speech_files import (
    FOLDER,
    LISTS,
    N_SAMPLES,
    SAMPLE_RATE,
    URL,
    Clips,
    find_clips,
    find_folder,
    import_soundfile,
)
from benchmarks.harness.command import UserError
from benchmarks.speech.config import Config
from benchmarks.speech.features import load_inputs

__all__ = ["SpeechSet", "load_speech", "make_up_clips", "open_speech"]

SOURCES = {
    "whole": "the archive's own files and lists",
    "part": "a part of the archive, with its lists",
    "validation": "a part of the archive; its official validation clips are the test set",
    "made up": "made-up tones",
}
MADE_UP_WORDS = ("down", "flat", "up")
# Clips of each made-up word for training, validation and test.
MADE_UP_COUNTS = {"train": 12, "valid": 4, "test": 4}
MADE_UP_RATE = 1.5


@dataclass(frozen=True)
class SpeechSet:
    """Inputs and classes of all clips, those for training first, then validation, then test."""

    clips: Clips
    X: np.ndarray  # Spectrograms (n_clips, 1, 160, 101) or waveforms (n_clips, 1, 16000), float32
    y: np.ndarray  # Class codes
    source: str  # Key of ``SOURCES``
    sha256: str  # Of names and waveforms

    @property
    def n_classes(self) -> int:
        """Number of words."""
        return len(self.clips.words)

    @property
    def parts(self) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Inputs and classes of ``train``, ``test`` and, where there are any, ``valid``."""
        ends = np.cumsum([len(part) for part in (self.clips.train, self.clips.valid, self.clips.test)])
        starts = [0, *ends[:-1]]
        found = {
            name: (self.X[start:end], self.y[start:end])
            for name, start, end in zip(("train", "valid", "test"), starts, ends, strict=True)
        }
        return {name: part for name, part in found.items() if len(part[0])}

    def describe(self) -> dict[str, Any]:
        """Return sizes, origin and digest, ready for JSON."""
        clips = self.clips
        return {
            "dataset": "speech_commands",
            "n_samples": len(self.y),
            "n_train": len(clips.train),
            "n_valid": len(clips.valid),
            "n_test": len(clips.test),
            "n_absent": clips.n_absent,
            "n_classes": self.n_classes,
            "words": list(clips.words),
            "source": SOURCES[self.source],
            "sha256": self.sha256,
        }


@contextmanager
def open_speech(config: Config) -> Iterator[SpeechSet]:
    """Load the clips that a configuration names; made-up ones are there as long as the block runs."""
    if not config.made_up:
        yield load_speech(config, _find_data(config), Path(get_data_home()) / "sk_mixup")
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / FOLDER
        make_up_clips(folder)
        yield load_speech(config, folder, Path(name))


def _find_data(config: Config) -> Path:
    folder = find_folder(config.data_dir)
    if folder is not None:
        return folder
    if config.download:
        return fetch_speech()
    lacking = "got none" if config.data_dir is None else f"'{config.data_dir}' lacks its lists"
    raise UserError(
        f"--data-dir must hold Google's speech commands with {' and '.join(LISTS.values())}; {lacking}. "
        f"Unpack {URL} there, or use --download."
    )


def load_speech(config: Config, folder: Path, cache_dir: Path) -> SpeechSet:
    """Load the clips of a folder; see :func:`open_speech`."""
    clips = find_clips(folder, subset=config.subset)
    X, sha256 = load_inputs(clips, config.level, device=config.device, cache_dir=cache_dir)
    source = "made up" if config.made_up else _name_source(config, clips)
    return SpeechSet(clips, X, clips.encode_words(), source, sha256)


def _name_source(config: Config, clips: Clips) -> str:
    if not config.subset or clips.n_absent == 0:
        return "whole"
    return "part" if clips.valid else "validation"


def make_up_clips(folder: Path, counts: Mapping[str, int] = MADE_UP_COUNTS) -> None:
    """Write WAV files and lists in the layout of the archive: tones that fall, stay or rise, in noise."""
    soundfile = import_soundfile()
    generator = np.random.default_rng(0)
    lists: dict[str, list[str]] = {"train": [], **{part: [] for part in LISTS}}
    for direction, word in zip((-1, 0, 1), MADE_UP_WORDS, strict=True):
        (folder / word).mkdir(parents=True)
        for part, count in counts.items():
            for _ in range(count):
                name = f"{word}/{len(lists[part]):08x}_nohash_{part}.wav"
                soundfile.write(
                    folder / name, _make_tone(generator, direction), SAMPLE_RATE, subtype="PCM_16"
                )
                lists[part].append(name)
    for part, name in LISTS.items():
        (folder / name).write_text("".join(f"{entry}\n" for entry in lists[part]), encoding="utf-8")


def _make_tone(generator: np.random.Generator, direction: int) -> np.ndarray:
    """Return a tone of 0.6 to 1 s whose pitch ends `MADE_UP_RATE` times as high or as low, or as it was."""
    n_samples = int(generator.integers(int(0.6 * N_SAMPLES), N_SAMPLES + 1))
    share = np.linspace(0, 1, n_samples)
    pitch = generator.uniform(800, 1600) * MADE_UP_RATE ** (direction * share)
    tone = 0.4 * np.sin(2 * np.pi * np.cumsum(pitch) / SAMPLE_RATE)
    return np.clip(tone + 0.05 * generator.standard_normal(n_samples), -1, 1)
