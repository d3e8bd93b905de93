"""Read Google's speech commands as their archive lays them out: a folder for each word, and two lists."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
import io
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks.harness.command import UserError

__all__ = [
    "FOLDER",
    "LISTS",
    "N_SAMPLES",
    "SAMPLE_RATE",
    "URL",
    "Clips",
    "find_clips",
    "find_folder",
    "import_soundfile",
    "read_clips",
]

URL = "http://download.tensorflow.org/data/speech_commands_v0.01.tar.gz"
FOLDER = "speech_commands_v0.01"
LISTS = {"valid": "validation_list.txt", "test": "testing_list.txt"}
SAMPLE_RATE = 16_000
N_SAMPLES = 16_000
# An error names so many files and counts the others.
N_NAMED = 5


@dataclass(frozen=True)
class Clips:
    """Clips by part, each named as in the lists: ``WORD/FILE.wav``."""

    folder: Path  # What the names start from
    words: tuple[str, ...]  # The classes, sorted
    train: tuple[str, ...]  # Sorted, as all parts
    valid: tuple[str, ...]  # Empty if the validation clips stand for the test clips
    test: tuple[str, ...]
    n_absent: int = 0  # How many files the lists name that a part of the archive lacks

    @property
    def names(self) -> tuple[str, ...]:
        """All clips: training, validation, test."""
        return self.train + self.valid + self.test

    def encode_words(self) -> np.ndarray:
        """Return the class of each of ``names``, from 0, int64."""
        codes = {word: code for code, word in enumerate(self.words)}
        return np.array([codes[name.partition("/")[0]] for name in self.names], dtype=np.int64)


def find_folder(data_dir: Path | None) -> Path | None:
    """Return the folder that holds a list: ``data_dir`` or the archive's folder in it; else None."""
    candidates = () if data_dir is None else (data_dir, data_dir / FOLDER)
    return next(
        (path for path in candidates if any((path / name).is_file() for name in LISTS.values())), None
    )


def _list_lists(folder: Path) -> list[str]:
    """Return the names of the lists that a folder has."""
    return [name for name in LISTS.values() if (folder / name).is_file()]


def find_clips(folder: Path, *, subset: bool = False) -> Clips:
    """Return the clips of a folder by the official lists; what they do not name is for training.

    ``_background_noise_`` is no word. A `subset` may lack files that the lists name; without test clips
    the validation clips take their place. One error names all that is wrong.
    """
    listed = _read_lists(folder)
    found = _find_words(folder)
    names = {f"{word}/{file}" for word, files in found.items() for file in files}
    absent = set().union(*listed.values()) - names
    if absent and not subset:
        raise UserError(
            f"'{folder}' must hold every file that its lists name; got none of {_name_some(absent)}. Unpack "
            f"{URL} there, or use --subset for a part of it."
        )
    parts = {part: tuple(sorted(files & names)) for part, files in listed.items()}
    if subset and not parts["test"]:
        parts = {"valid": (), "test": parts["valid"]}
    train = tuple(sorted(names.difference(*listed.values())))
    clips = Clips(folder, tuple(found), train, parts["valid"], parts["test"], len(absent))
    _check_words(clips)
    return clips


def _read_lists(folder: Path) -> dict[str, set[str]]:
    lacking = sorted(set(LISTS.values()).difference(_list_lists(folder)))
    if lacking:
        raise UserError(f"'{folder}' must hold {' and '.join(lacking)}; got none. Unpack {URL} there.")
    lists = {
        part: set(filter(None, map(str.strip, (folder / name).read_text(encoding="utf-8").splitlines())))
        for part, name in LISTS.items()
    }
    both = lists["valid"] & lists["test"]
    if both:
        raise UserError(
            f"the lists in '{folder}' must share no file; got {_name_some(both)} in both. Unpack {URL} again."
        )
    return lists


def _find_words(folder: Path) -> dict[str, list[str]]:
    """Return the files of each word, sorted."""
    words = sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] not in "._")
    found = {path.name: sorted(file.name for file in path.glob("*.wav")) for path in words}
    empty = [str(folder / word) for word, files in found.items() if not files]
    if empty or len(found) < 2:
        got = f"none in {_name_some(empty)}" if empty else f"{len(found)} folders with such"
        raise UserError(
            f"'{folder}' must hold a folder with WAV files for each of 2 words or more; got {got}. Unpack "
            f"{URL} again, or delete what is empty."
        )
    return found


def _check_words(clips: Clips) -> None:
    """Raise if a word lacks clips for training or is missing from a list."""
    parts = {"train": clips.train, "valid": clips.valid, "test": clips.test}
    # A part of the archive may have no validation clips, but then of no word.
    used = {part: names for part, names in parts.items() if names or part != "valid"}
    problems = []
    for part, names in used.items():
        present = {name.partition("/")[0] for name in names}
        lacking = [str(clips.folder / word) for word in clips.words if word not in present]
        where = f"missing from {LISTS[part]}" if part in LISTS else "without training clips"
        problems += [f"{_name_some(lacking)} {where}"] if lacking else []
    if problems:
        raise UserError(
            f"every word's folder in '{clips.folder}' must have clips in both lists and others for training; "
            f"got {' and '.join(problems)}. Take the official lists, or move such folders away."
        )


def _name_some(names: Iterable[str]) -> str:
    """Return the first names, and how many more there are."""
    ordered = sorted(names)
    more = len(ordered) - N_NAMED
    return ", ".join(ordered[:N_NAMED]) + (f" and {more} more" if more > 0 else "")


def read_clips(folder: Path, names: Sequence[str], block: int | None = None) -> Iterator[np.ndarray]:
    """Yield the waveforms of clips, those shorter than a second with zeros at their ends.

    They are float32 in [-1, 1], of shape (n_clips, 16000), `block` clips at once or all. One error, after
    the last clip, names all files that are no such clips.
    """
    soundfile = import_soundfile()
    problems: dict[str, str] = {}
    block = block or max(1, len(names))
    for start in range(0, len(names), block):
        part = names[start : start + block]
        waves = np.zeros((len(part), N_SAMPLES), dtype=np.float32)
        for wave, name in zip(waves, part, strict=True):
            try:
                clip = _read_clip(soundfile, folder / name)
            # libsndfile's errors are RuntimeErrors.
            except (OSError, ValueError, RuntimeError) as error:
                problems[name] = " ".join(str(error).split())
            else:
                wave[: len(clip)] = clip
        if not problems:
            yield waves
    _refuse(folder, problems)


def _read_clip(soundfile: ModuleType, path: Path) -> np.ndarray:
    """Return a clip of at most a second, or raise ValueError with what the file is instead."""
    content = path.read_bytes()
    if content[:4] == b"RIFF" and len(content) < (size := 8 + int.from_bytes(content[4:8], "little")):
        # libsndfile reads what there is, without a word.
        raise ValueError(f"{len(content)} of {size} bytes")
    with soundfile.SoundFile(io.BytesIO(content)) as file:
        if file.samplerate != SAMPLE_RATE:
            raise ValueError(f"{file.samplerate} Hz")
        if file.channels != 1:
            raise ValueError(f"{file.channels} channels")
        if not 1 <= file.frames <= N_SAMPLES:
            raise ValueError(f"{file.frames} samples")
        clip = file.read(dtype="float32")
    if not np.isfinite(clip).all():
        raise ValueError("values that are no numbers")
    return clip


def _refuse(folder: Path, problems: Mapping[str, str]) -> None:
    if problems:
        got = _name_some(f"{folder / name} ({reason})" for name, reason in problems.items())
        raise UserError(
            f"every clip must be a whole WAV file of 1 channel, {SAMPLE_RATE} Hz and 1 to {N_SAMPLES} "
            f"samples; got {got}. Convert or replace such files."
        )


def import_soundfile() -> ModuleType:
    """Return the package soundfile."""
    try:
        import soundfile
    except ImportError:
        raise UserError("speech must find the package soundfile. Run pip install '.[benchmarks]'.") from None
    return soundfile
