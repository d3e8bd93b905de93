import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import signal
import torch

from benchmarks.data.speech_files import N_SAMPLES, SAMPLE_RATE, Clips, find_clips, read_clips
from benchmarks.speech import features as speech_features
from benchmarks.speech.data import make_up_clips
from benchmarks.speech.features import (
    HOP,
    N_BINS,
    N_FFT,
    N_FRAMES,
    Spectrogram,
    compute_spectrograms,
    load_inputs,
)

pytest.importorskip("soundfile")


def compute_reference(wave: np.ndarray) -> np.ndarray:
    """Return scipy's log-spectrogram of one clip, normalised."""
    transform = signal.ShortTimeFFT(signal.get_window("hamming", N_FFT), HOP, SAMPLE_RATE)
    levels = np.log1p(np.abs(transform.stft(wave.astype(np.float64), p0=0, p1=N_FRAMES)))[:N_BINS]
    return (levels - levels.mean()) / levels.std()


def make_waves(n_clips: int = 3) -> torch.Tensor:
    """Return noise that swells, the last clip with silence at its end."""
    waves = torch.randn(n_clips, N_SAMPLES, generator=torch.Generator().manual_seed(0)) * 0.1
    waves *= torch.linspace(0, 1, N_SAMPLES)
    waves[-1, 9_000:] = 0
    return waves


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_spectrograms_are_those_of_scipy(dtype: torch.dtype) -> None:
    waves = make_waves().to(dtype)
    before = waves.clone()
    spectrograms = compute_spectrograms(waves)
    assert (spectrograms.shape, spectrograms.dtype) == ((3, 1, 160, 101), dtype)
    assert torch.equal(waves, before)
    for wave, spectrogram in zip(waves.numpy(), spectrograms[:, 0].numpy(), strict=True):
        np.testing.assert_allclose(spectrogram, compute_reference(wave), rtol=0, atol=1e-5)


def test_spectrograms_are_normalised_clip_by_clip() -> None:
    waves = make_waves()
    spectrograms = compute_spectrograms(waves)
    torch.testing.assert_close(spectrograms.mean((1, 2, 3)), torch.zeros(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(spectrograms.std((1, 2, 3), correction=0), torch.ones(3), rtol=0, atol=1e-5)
    torch.testing.assert_close(spectrograms[1:2], compute_spectrograms(waves[1:2]))


def test_a_silent_clip_is_zero() -> None:
    assert torch.equal(compute_spectrograms(torch.zeros(2, N_SAMPLES)), torch.zeros(2, 1, 160, 101))


def test_a_tone_stands_at_its_frequency_and_time() -> None:
    wave = torch.zeros(1, N_SAMPLES)
    times = torch.arange(4_000) / SAMPLE_RATE
    wave[0, 8_000:12_000] = torch.sin(2 * torch.pi * 2_000 * times)  # from 0.5 s on
    spectrogram = compute_spectrograms(wave)[0, 0]
    assert int(spectrogram.sum(1).argmax()) == 40
    assert 50 <= int(spectrogram.sum(0).argmax()) <= 75


def test_layer_is_the_function_in_half_precision_too() -> None:
    waves = make_waves()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        spectrograms = Spectrogram()(waves.unsqueeze(1))
    torch.testing.assert_close(spectrograms, compute_spectrograms(waves))


@pytest.fixture
def clips(tmp_path: Path) -> Clips:
    make_up_clips(tmp_path / "clips", dict.fromkeys(("train", "valid", "test"), 1))
    return find_clips(tmp_path / "clips")


def load(clips: Clips, level: str = "spectrogram") -> tuple[np.ndarray, str]:
    return load_inputs(clips, level, device="cpu", cache_dir=clips.folder.parent / "cache")


def test_inputs_are_in_the_order_of_the_names(clips: Clips) -> None:
    X, _ = load(clips)
    waves = np.concatenate(list(read_clips(clips.folder, clips.names)))
    np.testing.assert_allclose(X, compute_spectrograms(torch.as_tensor(waves)).numpy(), rtol=0, atol=1e-5)
    waveforms, _ = load(clips, "waveform")
    np.testing.assert_array_equal(waveforms[:, 0], waves)
    assert load(clips)[1] == load(clips, "waveform")[1]


def count_computations(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list that grows with every computation."""
    compute, calls = speech_features._compute_inputs, []

    def compute_noted(*args: Any) -> Any:
        calls.append(args)
        return compute(*args)

    monkeypatch.setattr(speech_features, "_compute_inputs", compute_noted)
    return calls


def test_inputs_are_kept_until_a_file_changes(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = count_computations(monkeypatch)
    first, again = load(clips), load(clips)
    assert len(calls) == 1
    np.testing.assert_array_equal(first[0], again[0])
    path = clips.folder / clips.test[0]
    content = bytearray(path.read_bytes())
    content[-100:] = bytes(100)
    path.write_bytes(content)
    os.utime(path, ns=(0, 0))
    changed = load(clips)
    assert len(calls) == 2
    assert changed[1] != first[1]
    assert np.flatnonzero((changed[0] != first[0]).any((1, 2, 3))).tolist() == [
        clips.names.index(clips.test[0])
    ]
    assert len(list((clips.folder.parent / "cache").iterdir())) == 1


def test_inputs_are_computed_again_with_other_parameters(
    clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = count_computations(monkeypatch)
    load(clips)
    monkeypatch.setitem(speech_features.PARAMETERS, "version", -1)
    load(clips)
    assert len(calls) == 2


@pytest.mark.parametrize("place", [8, 60, -1])
def test_a_damaged_file_is_computed_again(
    clips: Clips, place: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = load(clips)
    (path,) = (clips.folder.parent / "cache").iterdir()
    content = bytearray(path.read_bytes())
    content[place] ^= 255
    path.write_bytes(content)
    calls = count_computations(monkeypatch)
    again = load(clips)
    assert len(calls) == 1
    assert f"'{path}' is damaged" in capsys.readouterr().err
    np.testing.assert_array_equal(first[0], again[0])
    load(clips)
    assert len(calls) == 1


def test_a_failed_write_leaves_nothing(clips: Clips, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*args: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        load(clips)
    assert not list((clips.folder.parent / "cache").iterdir())
