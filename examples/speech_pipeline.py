"""Spoken words in scikit-learn's terms: spectrograms, a network and a search over ``alpha`` in one pipeline.

The pipeline is given waveforms and mixes spectrograms, what the mixup paper does with Google's speech
commands (section 3.3). Without a folder the words are made-up tones that fall, stay or rise.

Run ``python examples/speech_pipeline.py``, or ``pip install soundfile`` and
``python examples/speech_pipeline.py FOLDER`` with a folder of WAV files for each word.
"""

from __future__ import annotations

from pathlib import Path
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier

SAMPLE_RATE = 16_000
ALPHAS = (0, 0.1, 0.2)
WORDS = ("falling", "level", "rising")


class LogSpectrogram(TransformerMixin, BaseEstimator):
    """Turn waveforms into log-spectrograms of mean 0 and deviation 1, each by itself.

    Parameters
    ----------
    n_fft : int, default=320
        Samples of the Hamming window: 20 ms at 16 kHz.
    hop : int, default=160
        Samples from one window to the next.
    """

    def __init__(self, n_fft: int = 320, hop: int = 160) -> None:
        self.n_fft = n_fft
        self.hop = hop

    def fit(self, X: NDArray[np.float32], y: Any = None) -> LogSpectrogram:
        """Return self: there is nothing to learn."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def transform(self, X: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return spectrograms (n_clips, 1, n_fft // 2, n_frames) of waveforms (n_clips, n_samples)."""
        waves = torch.as_tensor(np.asarray(X, dtype=np.float32))
        window = torch.hamming_window(self.n_fft)
        spectra = torch.stft(
            waves, self.n_fft, self.hop, window=window, pad_mode="constant", return_complex=True
        )
        levels = spectra[:, :-1].abs().log1p()
        std, mean = torch.std_mean(levels, dim=(1, 2), keepdim=True)
        return ((levels - mean) / std.clamp_min(1e-6)).unsqueeze(1).numpy()


class WordNet(nn.Module):
    """Four convolutions, then the mean over all places: for spectrograms of any size.

    Parameters
    ----------
    out_features : int
        Number of words; the classifier fills it in.
    width : int, default=8
        Channels of the first convolution.
    """

    def __init__(self, out_features: int, width: int = 8) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        n_in = 1
        for n_out in (width, 2 * width, 4 * width, 4 * width):
            conv = nn.Conv2d(n_in, n_out, 3, stride=2, padding=1, bias=False)
            layers += [conv, nn.BatchNorm2d(n_out), nn.ReLU()]
            n_in = n_out
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(n_in, out_features)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits of shape (n, out_features)."""
        return self.head(self.layers(x).mean((2, 3)))


def make_words(n_clips: int = 180, n_samples: int = 4_000) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Return made-up waveforms in [-1, 1] and their words: tones in noise that fall, stay or rise."""
    generator = np.random.default_rng(0)
    direction = np.arange(n_clips) % 3 - 1
    share = np.linspace(0, 1, n_samples)
    pitch = generator.uniform(800, 1600, (n_clips, 1)) * 2.5 ** (direction[:, None] * share)
    tones = 0.3 * np.sin(2 * np.pi * np.cumsum(pitch, axis=1) / SAMPLE_RATE)
    X = tones + 0.1 * generator.standard_normal(tones.shape)
    return X.clip(-1, 1).astype(np.float32), np.array(WORDS)[direction + 1]


def read_words(folder: Path, n_each: int = 100) -> tuple[NDArray[np.float32], NDArray[np.str_]]:
    """Return the first clips of each word, padded with zeros to a second, and their words.

    Parameters
    ----------
    folder : Path
        Holds a folder of WAV files for each word, mono and of 16 kHz; names that begin with "_"
        or "." are left out.
    n_each : int, default=100
        The most clips of a word.
    """
    import soundfile

    words = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    paths = [path for word in words for path in sorted(word.glob("*.wav"))[:n_each]]
    X = np.zeros((len(paths), SAMPLE_RATE), dtype=np.float32)
    for wave, path in zip(X, paths, strict=True):
        clip, _ = soundfile.read(path, dtype="float32", frames=SAMPLE_RATE)
        wave[: len(clip)] = clip
    return X, np.array([path.parent.name for path in paths])


def make_model(max_epochs: int = 20) -> Pipeline:
    """Return the pipeline from waveforms to words.

    Parameters
    ----------
    max_epochs : int, default=20
        Epochs of each fit; the first fifth is plain training (a sixth in the paper).
    """
    net = MixupClassifier(
        WordNet,
        lr=1e-2,
        max_epochs=max_epochs,
        warmup_epochs=max_epochs // 5,
        early_stopping=False,
        random_state=0,
    )
    return make_pipeline(LogSpectrogram(), net)


def search_alpha(X: NDArray[np.float32], y: NDArray[np.str_], max_epochs: int = 20) -> GridSearchCV:
    """Return a fitted search over ``ALPHAS`` by the log loss on held-out words."""
    grid = {"mixupclassifier__alpha": ALPHAS}
    return GridSearchCV(make_model(max_epochs), grid, scoring="neg_log_loss", cv=3).fit(X, y)


def main(folder: str | None = None) -> None:
    """Search on most of the clips, print the scores, and the accuracy on the others.

    Parameters
    ----------
    folder : str, default=None
        A folder of WAV files for each word; None makes up words.
    """
    X, y = make_words() if folder is None else read_words(Path(folder))
    X, X_test, y, y_test = train_test_split(X, y, test_size=0.3, stratify=y, random_state=0)
    search = search_alpha(X, y)
    for alpha, score in zip(ALPHAS, search.cv_results_["mean_test_score"], strict=True):
        print(f"alpha={alpha}: log loss {-score:.3f}")
    accuracy = np.mean(search.predict(X_test) == y_test)
    print(f"best alpha {search.best_params_['mixupclassifier__alpha']}, test accuracy {accuracy:.3f}")


if __name__ == "__main__":
    main(*sys.argv[1:2])
