"""How much faster than real time ``speech`` makes spectrograms."""

from collections.abc import Iterator
from typing import Any

from benchmarks.data.speech_files import N_SAMPLES, SAMPLE_RATE, Clips, read_clips
from benchmarks.harness.interleaved_timing import interleave
from benchmarks.speech.features import BLOCK, transform

__all__ = ["time_extraction"]


def time_extraction(clips: Clips, n_clips: int, n_rounds: int, device: str) -> Iterator[dict[str, Any]]:
    """Yield how many times faster than real time WAV files become spectrograms, reading included."""
    names = clips.names[:n_clips]
    sound = len(names) * N_SAMPLES / SAMPLE_RATE

    def extract() -> None:
        for waves in read_clips(clips.folder, names, BLOCK):
            transform(waves, device)

    for turn, seconds in enumerate(interleave({"extraction": extract}, n_rounds)["extraction"]):
        yield {"contender": "extraction", "round": turn, "value": round(sound / seconds, 1)}
