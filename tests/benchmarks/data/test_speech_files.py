from collections.abc import Iterable
from pathlib import Path
import sys

import numpy as np
import pytest

from benchmarks.data.speech_files import N_SAMPLES, SAMPLE_RATE, find_clips, find_folder, read_clips
from benchmarks.harness.command import UserError

soundfile = pytest.importorskip("soundfile")

WORDS = ("cat", "dog")
PARTS = {"validation_list.txt": ("v",), "testing_list.txt": ("t",)}


def write_clip(path: Path, n_samples: int = 400, rate: int = SAMPLE_RATE, n_channels: int = 1) -> np.ndarray:
    """Write noise as 16-bit samples and return them."""
    path.parent.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(n_samples)
    samples = generator.integers(-(2**15), 2**15, size=(n_samples, n_channels), dtype=np.int16)
    soundfile.write(path, samples, rate, subtype="PCM_16")
    return samples


def write_list(folder: Path, name: str, entries: Iterable[str]) -> None:
    (folder / name).write_text("".join(f"{entry}\n" for entry in entries), encoding="utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two words with a clip for validation, one for test and two for training; noise; lists."""
    folder = tmp_path / "speech_commands_v0.01"
    for word in WORDS:
        for name in ("a", "b", "v", "t"):
            write_clip(folder / word / f"{name}.wav")
    write_clip(folder / "_background_noise_" / "hum.wav", 20_000)
    for name, files in PARTS.items():
        write_list(folder, name, [f"{word}/{file}.wav" for word in WORDS for file in files])
    return folder


def test_parts_follow_the_lists_and_the_rest_is_for_training(folder: Path) -> None:
    clips = find_clips(folder)
    assert clips.words == WORDS
    assert clips.train == ("cat/a.wav", "cat/b.wav", "dog/a.wav", "dog/b.wav")
    assert clips.valid == ("cat/v.wav", "dog/v.wav")
    assert clips.test == ("cat/t.wav", "dog/t.wav")
    assert clips.names == clips.train + clips.valid + clips.test
    assert clips.encode_words().tolist() == [0, 0, 1, 1, 0, 1, 0, 1]
    assert clips.n_absent == 0
    assert find_clips(folder, subset=True) == clips


def test_validation_clips_stand_for_test_clips_that_a_part_lacks(folder: Path) -> None:
    for word in WORDS:
        (folder / word / "t.wav").unlink()
    clips = find_clips(folder, subset=True)
    assert (clips.valid, clips.test) == ((), ("cat/v.wav", "dog/v.wav"))
    assert clips.n_absent == 2
    assert not {"cat/t.wav", "dog/t.wav"} & set(clips.names)


def test_folder_is_the_one_with_a_list(folder: Path, tmp_path: Path) -> None:
    assert find_folder(folder) == find_folder(tmp_path) == folder
    assert find_folder(tmp_path / "elsewhere") is None
    assert find_folder(None) is None


def test_absent_files_are_an_error_of_the_whole_archive(folder: Path) -> None:
    (folder / "cat" / "t.wav").unlink()
    (folder / "dog" / "v.wav").unlink()
    message = r"must hold every file that its lists name; got none of cat/t.wav, dog/v.wav\. .* --subset"
    with pytest.raises(UserError, match=message):
        find_clips(folder)


def test_many_absent_files_are_counted(folder: Path) -> None:
    write_list(folder, "testing_list.txt", [f"cat/{number}.wav" for number in range(8)])
    with pytest.raises(UserError, match=r"cat/0.wav, .*, cat/4.wav and 3 more\."):
        find_clips(folder)


def test_a_missing_list_is_named(folder: Path) -> None:
    (folder / "testing_list.txt").unlink()
    with pytest.raises(UserError, match=r"must hold testing_list.txt; got none\. Unpack"):
        find_clips(folder)


def test_lists_may_share_no_file(folder: Path) -> None:
    write_list(folder, "testing_list.txt", ["cat/v.wav", "dog/t.wav"])
    with pytest.raises(UserError, match=r"must share no file; got cat/v.wav in both"):
        find_clips(folder)


def test_an_empty_folder_is_named(folder: Path) -> None:
    (folder / "emu").mkdir()
    with pytest.raises(UserError, match=r"must hold a folder with WAV files .* got none in .*/emu\."):
        find_clips(folder)


def test_one_word_is_not_enough(folder: Path) -> None:
    for path in (folder / "dog").iterdir():
        path.unlink()
    (folder / "dog").rmdir()
    with pytest.raises(UserError, match=r"2 words or more; got 1 folders"):
        find_clips(folder, subset=True)


@pytest.mark.parametrize("subset", [False, True])
def test_words_missing_from_a_list_are_named_in_one_error(folder: Path, subset: bool) -> None:
    for name in ("a", "b", "c"):
        write_clip(folder / "emu" / f"{name}.wav")
    write_list(folder, "validation_list.txt", ["cat/v.wav", "dog/v.wav", "emu/a.wav"])
    write_list(folder, "testing_list.txt", ["cat/t.wav", "emu/b.wav"])
    write_clip(folder / "fox" / "a.wav")
    message = (
        r"must have clips .* got .*/fox missing from valid.* and .*/dog, .*/fox missing from testing_list"
    )
    with pytest.raises(UserError, match=message):
        find_clips(folder, subset=subset)


def test_a_word_needs_training_clips(folder: Path) -> None:
    write_list(folder, "testing_list.txt", ["cat/t.wav", *(f"dog/{name}.wav" for name in "abt")])
    with pytest.raises(UserError, match=r"got .*/dog without training clips\."):
        find_clips(folder)


@pytest.mark.parametrize("block", [None, 1, 2])
def test_clips_are_their_samples_with_zeros_at_the_end(tmp_path: Path, block: int | None) -> None:
    sizes = {"a/1.wav": 1, "a/2.wav": N_SAMPLES, "b/3.wav": 12_345}
    samples = [write_clip(tmp_path / name, size) for name, size in sizes.items()]
    waves = np.concatenate(list(read_clips(tmp_path, tuple(sizes), block)))
    assert (waves.shape, waves.dtype) == ((3, N_SAMPLES), np.float32)
    for wave, expected in zip(waves, samples, strict=True):
        np.testing.assert_array_equal(wave[: len(expected)], expected[:, 0] / 2**15)
        assert not wave[len(expected) :].any()


def test_bad_files_are_named_in_one_error(tmp_path: Path) -> None:
    write_clip(tmp_path / "good.wav")
    write_clip(tmp_path / "slow.wav", rate=8000)
    write_clip(tmp_path / "stereo.wav", n_channels=2)
    write_clip(tmp_path / "long.wav", N_SAMPLES + 1)
    write_clip(tmp_path / "cut.wav")
    content = (tmp_path / "cut.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(content[:-10])
    names = ("slow.wav", "good.wav", "stereo.wav", "long.wav", "cut.wav")
    with pytest.raises(UserError, match="must be a whole WAV file") as caught:
        list(read_clips(tmp_path, names, 2))
    message = str(caught.value)
    assert message.startswith(
        "every clip must be a whole WAV file of 1 channel, 16000 Hz and 1 to 16000 samples"
    )
    for part in ("slow.wav (8000 Hz)", "stereo.wav (2 channels)", "long.wav (16001 samples)"):
        assert f"{tmp_path}/{part}" in message
    assert f"cut.wav ({len(content) - 10} of {len(content)} bytes)" in message
    assert "good.wav" not in message


@pytest.mark.parametrize(
    ("content", "reason"),
    [(b"", "Error opening"), (b"RIFF", "4 of 8 bytes"), (b"no sound at all", "Error open")],
)
def test_a_file_that_is_no_sound_is_named(tmp_path: Path, content: bytes, reason: str) -> None:
    (tmp_path / "odd.wav").write_bytes(content)
    with pytest.raises(UserError, match=rf"got .*/odd.wav \({reason}.*Convert or replace"):
        list(read_clips(tmp_path, ["odd.wav"]))


def test_an_empty_clip_and_one_of_nan_are_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "empty.wav", np.zeros((0, 1)), SAMPLE_RATE)
    soundfile.write(tmp_path / "nan.wav", np.full((9, 1), np.nan), SAMPLE_RATE, subtype="FLOAT")
    with pytest.raises(
        UserError, match=r"empty.wav \(0 samples\), .*nan.wav \(values that are no numbers\)\."
    ):
        list(read_clips(tmp_path, ["empty.wav", "nan.wav", "gone.wav"][:2]))


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"gone.wav \(.*No such file"):
        list(read_clips(tmp_path, ["gone.wav"]))


def test_soundfile_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "soundfile", None)
    with pytest.raises(UserError, match=r"must find the package soundfile\. Run pip install"):
        list(read_clips(tmp_path, ["a.wav"]))
