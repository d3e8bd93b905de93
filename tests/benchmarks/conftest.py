"""Made-up UCI files, and the real ones where they are at hand; made-up images."""

from dataclasses import replace
import gzip
import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import uci_files


def _write_lines(path: Path, rows: list[list[object]], separator: str = ",") -> None:
    path.write_text("".join(separator.join(map(str, row)) + "\n" for row in rows))


def _write_arff(path: Path, rows: list[list[object]], data_line: str) -> None:
    head = "@relation Phishing\n\n@attribute a {1,-1}\n@attribute Result {0,1}\n\n"
    lines = "".join(",".join(map(str, row)) + "\n" for row in rows)
    path.write_text(f"{head}{data_line}\n{lines}")


@pytest.fixture
def uci_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with tiny files in UCI's formats, whose sums the loader expects."""
    folder = tmp_path / "uci_files"
    folder.mkdir()
    generator = np.random.default_rng(0)
    values = generator.normal(size=(12, 4)).round(3).tolist()
    abalone = [["FIM"[row % 3], *line[:3], 5 + row % 4] for row, line in enumerate(values)]
    _write_lines(folder / "abalone.data", abalone)
    arrhythmia = [[*line, 1 + row % 2] for row, line in enumerate(values)]
    arrhythmia[1][2] = "?"
    _write_lines(folder / "arrhythmia.data", arrhythmia)
    _write_lines(folder / "HTRU_2.csv", [[*line, row % 2] for row, line in enumerate(values)])
    species = ["Iris-setosa", "Iris-virginica"]
    _write_lines(folder / "iris.data", [[*line, species[row % 2]] for row, line in enumerate(values)])
    with (folder / "iris.data").open("a") as file:
        file.write("\n")
    phishing = [[1 - row % 3, -1, 1, row % 2] for row in range(12)]
    _write_arff(folder / "PhishingData.arff", phishing, "@data")
    _write_arff(folder / "PhishingWebsites.arff", phishing, "@DATA\n")
    for part in ("train", "valid"):
        counts = generator.integers(0, 9, size=(6, 5)).tolist()
        text = "".join(" ".join(map(str, row)) + " \n" for row in counts)
        (folder / f"arcene_{part}.data.gz").write_bytes(gzip.compress(text.encode(), mtime=0))
        (folder / f"arcene_{part}.labels").write_text("1\n-1\n" * 3)
    monkeypatch.setattr(uci_files, "SHA256", _sum_contents(folder))
    return folder


def _sum_contents(folder: Path) -> dict[str, str]:
    sums = {}
    for path in folder.iterdir():
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
        sums[path.name.removesuffix(".gz")] = hashlib.sha256(content).hexdigest()
    return sums


@pytest.fixture
def tiny_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every set be of 12 rows, 4 features and 2 classes."""
    tiny = {name: replace(item, shape=(12, 4, 2)) for name, item in uci_files.UCI_SETS.items()}
    for name, item in tiny.items():
        monkeypatch.setitem(uci_files.UCI_SETS, name, item)


@pytest.fixture
def real_data_dir() -> Path:
    """The folder named by SK_MIXUP_DATA, with UCI's own files."""
    folder = os.environ.get("SK_MIXUP_DATA")
    if folder is None:
        pytest.skip("SK_MIXUP_DATA names no folder with UCI's files")
    return Path(folder)


@pytest.fixture
def images() -> tuple[np.ndarray, np.ndarray]:
    """Images of two channels and their labels, of which there are three."""
    generator = np.random.default_rng(0)
    return generator.normal(size=(30, 2, 8, 8)).astype(np.float32), np.arange(30) % 3
