"""The pipeline of examples/speech_pipeline.py: waveforms in, words out."""

from pathlib import Path
import runpy

import numpy as np
import pytest
from scipy import signal
from sklearn.base import clone


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(str(Path(__file__).parents[2] / "examples" / "speech_pipeline.py"))


def test_spectrograms_are_those_of_scipy(example):
    X, _ = example["make_words"](3, 2_000)
    images = example["LogSpectrogram"](n_fft=64, hop=20).fit_transform(X)
    assert (images.shape, images.dtype) == ((3, 1, 32, 101), np.float32)
    transform = signal.ShortTimeFFT(signal.get_window("hamming", 64), 20, 16_000)
    for wave, image in zip(X, images[:, 0], strict=True):
        levels = np.log1p(np.abs(transform.stft(wave.astype(np.float64), p0=0, p1=101)))[:-1]
        expected = (levels - levels.mean()) / levels.std(ddof=1)
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)


def test_a_silent_clip_gives_zeros(example):
    assert not example["LogSpectrogram"]().transform(np.zeros((1, 1_000))).any()


def test_made_up_words_are_the_same_every_time(example):
    X, y = example["make_words"](6, 100)
    again, _ = example["make_words"](6, 100)
    np.testing.assert_array_equal(X, again)
    assert (X.shape, X.dtype, y.tolist()) == ((6, 100), np.float32, ["falling", "level", "rising"] * 2)
    assert np.abs(X).max() <= 1


def test_model_is_a_pipeline_of_waveforms_that_can_be_cloned(example):
    X, y = example["make_words"](12, 1_000)
    model = clone(example["make_model"](max_epochs=1)).set_params(mixupclassifier__alpha=0.1).fit(X, y)
    assert model.predict_proba(X).shape == (12, 3)
    assert set(model.predict(X)) <= set(example["WORDS"])


def test_words_are_read_from_folders(example, tmp_path):
    soundfile = pytest.importorskip("soundfile")
    for word, n_samples in (("no", 9_000), ("yes", 16_000)):
        (tmp_path / word).mkdir()
        for number in range(3):
            soundfile.write(tmp_path / word / f"{number}.wav", np.full(n_samples, 0.25), 16_000)
    (tmp_path / "_background_noise_").mkdir()
    X, y = example["read_words"](tmp_path, n_each=2)
    assert y.tolist() == ["no", "no", "yes", "yes"]
    assert (X.shape, X[0, 8_999], X[0, 9_000], X[3, -1]) == ((4, 16_000), 0.25, 0, 0.25)


def test_search_compares_every_alpha(example):
    X, y = example["make_words"](18, 1_000)
    search = example["search_alpha"](X, y, max_epochs=1)
    assert [row["mixupclassifier__alpha"] for row in search.cv_results_["params"]] == [0, 0.1, 0.2]
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


@pytest.mark.slow
def test_example_tells_the_made_up_words_apart(example, capsys):
    example["main"]()
    *scores, last = capsys.readouterr().out.splitlines()
    assert len(scores) == 3
    assert float(last.rsplit(" ", 1)[1]) > 0.8
