"""Normalised log-spectrograms of section 3.3, computed in batches on the device and kept on disk."""

from collections.abc import Mapping
import hashlib
import json
import os
from pathlib import Path
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.data.speech_files import N_SAMPLES, SAMPLE_RATE, Clips, read_clips

__all__ = [
    "BLOCK",
    "HOP",
    "INPUT_SHAPES",
    "N_BINS",
    "N_FFT",
    "N_FRAMES",
    "Spectrogram",
    "compute_spectrograms",
    "load_inputs",
    "transform",
]

# 20 ms and 10 ms at 16 kHz.
N_FFT, HOP = 320, 160
N_BINS, N_FRAMES = 160, 101
INPUT_SHAPES: Mapping[str, tuple[int, ...]] = {
    "spectrogram": (1, N_BINS, N_FRAMES),
    # A channel of its own: rows of two axes are a table, which is predicted in blocks of 256 rows.
    "waveform": (1, N_SAMPLES),
}
# Clips whose spectrograms are computed at once: more of them do not stay in a core's cache.
BLOCK = 64
# What a kept file's values depend on beside the clips.
PARAMETERS = {
    "version": 1,
    "sample_rate": SAMPLE_RATE,
    "n_samples": N_SAMPLES,
    "n_fft": N_FFT,
    "hop": HOP,
    "n_bins": N_BINS,
}


def compute_spectrograms(waves: Tensor) -> Tensor:
    """Return the normalised log-spectrogram of each clip.

    The magnitudes of a short-time Fourier transform with a Hamming window, as log(1 + magnitude),
    less their mean and over their deviation: section 3.3 of the mixup paper [1]_.

    The paper gives the size, 160 x 101, and the sampling rate. The rest is what the usual loader
    of these clips for PyTorch takes: a (periodic) Hamming window of 20 ms each 10 ms, frames
    centred on their times, log(1 + x), mean and deviation of each whole clip. Two choices are
    ours. A window of 320 samples has 161 frequencies; the last one, of 8 kHz, is left out. Beyond
    the ends of a clip there are zeros, which are also what a short clip is padded with before
    the transform: the same as zeros in the spectrogram's columns, but for the one at the clip's
    end.

    References
    ----------
    .. [1] H. Zhang, M. Cisse, Y. N. Dauphin and D. Lopez-Paz, "mixup: Beyond Empirical Risk
       Minimization", ICLR 2018, https://arxiv.org/abs/1710.09412

    Examples
    --------
    A tone of 1 kHz stands out at number 20 of the frequencies.

    >>> import torch
    >>> from benchmarks.speech.features import compute_spectrograms
    >>> times = torch.arange(16_000) / 16_000
    >>> spectrogram = compute_spectrograms(torch.sin(2 * torch.pi * 1000 * times).unsqueeze(0))
    >>> spectrogram.shape, int(spectrogram[0, 0, :, 50].argmax())
    (torch.Size([1, 1, 160, 101]), 20)
    """
    window = torch.hamming_window(N_FFT, dtype=waves.dtype, device=waves.device)
    spectra = torch.stft(waves, N_FFT, HOP, window=window, pad_mode="constant", return_complex=True)
    levels = spectra[:, :N_BINS].abs().log1p()
    std, mean = torch.std_mean(levels, dim=(1, 2), correction=0, keepdim=True)
    # A silent clip has deviation 0, and nothing to divide.
    tiny = torch.finfo(waves.dtype).tiny
    return ((levels - mean) / std.clamp_min(tiny)).unsqueeze(1)


class Spectrogram(nn.Module):
    """:func:`compute_spectrograms` as a layer: what follows mixing must be a part of the module."""

    def forward(self, x: Tensor) -> Tensor:
        """Return spectrograms of shape (n, 1, 160, 101) for waveforms of shape (n, 1, 16000)."""
        return compute_spectrograms(x.squeeze(1))


def load_inputs(clips: Clips, level: str, *, device: str, cache_dir: Path) -> tuple[np.ndarray, str]:
    """Return what a network reads of each clip, from disk if it was computed before.

    A kept file is used if it was made from the same files (name, size, time of change) with the
    same parameters, and its values have the checksum written with them. Otherwise it is computed
    again and written anew in one piece.
    """
    place = hashlib.sha256(str(clips.folder.resolve()).encode()).hexdigest()[:12]
    path = cache_dir / f"speech-{level}-{place}.safetensors"
    identity = _hash_files(clips, level)
    kept = _read_kept(path, identity) if path.exists() else None
    if kept is not None:
        return kept
    X, sha256 = _compute_inputs(clips, level, device)
    _keep(path, X, {"identity": identity, "clips": sha256, "values": _hash_values(X)})
    return X, sha256


def _hash_files(clips: Clips, level: str) -> str:
    stats = ((clips.folder / name).stat() for name in clips.names)
    files = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in zip(clips.names, stats, strict=True)]
    return hashlib.sha256(json.dumps([level, PARAMETERS, files]).encode()).hexdigest()


def _hash_values(X: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(X).data).hexdigest()


def _compute_inputs(clips: Clips, level: str, device: str) -> tuple[np.ndarray, str]:
    X = np.empty((len(clips.names), *INPUT_SHAPES[level]), dtype=np.float32)
    digest = hashlib.sha256("\n".join(clips.names).encode())
    start = 0
    for waves in read_clips(clips.folder, clips.names, BLOCK):
        digest.update(waves.data)
        X[start : start + BLOCK] = waves[:, None] if level == "waveform" else transform(waves, device)
        start += BLOCK
    return X, digest.hexdigest()


def transform(waves: np.ndarray, device: str) -> np.ndarray:
    """Return :func:`compute_spectrograms` of an array, computed on a device."""
    return compute_spectrograms(torch.as_tensor(waves, device=device)).cpu().numpy()


def _keep(path: Path, X: np.ndarray, facts: dict[str, str]) -> None:
    """Write values and facts so that other readers see the old file or the new, never a part."""
    from safetensors.numpy import save_file

    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    try:
        # To the file itself: the bytes of all spectrograms are 4 GB.
        save_file({"X": X}, name, metadata=facts)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _read_kept(path: Path, identity: str) -> tuple[np.ndarray, str] | None:
    """Return a kept file's values and the clips' digest; None if it is another's or damaged."""
    from safetensors import safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            facts: dict[str, Any] = file.metadata()
            if facts["identity"] != identity:
                return None
            X = file.get_tensor("X")
        if _hash_values(X) != facts["values"]:
            raise ValueError("its checksum is another")
    # A damaged file raises nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        print(f"'{path}' is damaged ({reason}); computing it again.", file=sys.stderr)
        return None
    return X, facts["clips"]
