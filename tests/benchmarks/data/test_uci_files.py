import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.tables import UCI_NAMES, load_tables
from benchmarks.data.uci_download import CONTENT_DIGESTS, compute_content_digest
from benchmarks.data.uci_files import UCI_SETS
from benchmarks.harness.command import UserError


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("abalone", (12, 6)),
        ("arcene", (12, 5)),
        ("arrhythmia", (12, 4)),
        ("htru2", (12, 4)),
        ("iris", (12, 4)),
        ("phishing", (12, 3)),
        ("phishing_websites", (12, 3)),
    ],
)
def test_load_tables_reads_every_format(uci_dir: Path, name: str, shape: tuple[int, int]) -> None:
    (table,) = load_tables([name], data_dir=uci_dir)
    assert table.X.shape == shape
    assert table.X.dtype == np.float64
    assert table.y.shape == (12,)
    assert table.describe()["n_classes"] == (4 if name == "abalone" else 2)


def test_load_tables_without_names_reads_all(uci_dir: Path) -> None:
    assert tuple(table.name for table in load_tables(data_dir=uci_dir)) == UCI_NAMES


def test_load_tables_finds_the_folder_uci(uci_dir: Path) -> None:
    uci_dir.rename(uci_dir.parent / "uci")
    (table,) = load_tables(["iris"], data_dir=uci_dir.parent)
    assert table.source == "UCI's files"


def test_load_tables_mixes_origins_when_named(uci_dir: Path) -> None:
    tables = load_tables(["wine", "iris"], data_dir=uci_dir)
    assert [len(table.X) for table in tables] == [178, 12]


def test_abalone_sex_is_one_hot(uci_dir: Path) -> None:
    (table,) = load_tables(["abalone"], data_dir=uci_dir)
    np.testing.assert_array_equal(table.X[:3, :3], np.eye(3))
    np.testing.assert_array_equal(table.X[:, :3].sum(axis=1), 1)


def test_arcene_joins_both_parts_in_order(uci_dir: Path) -> None:
    (table,) = load_tables(["arcene"], data_dir=uci_dir)
    first = gzip.decompress((uci_dir / "arcene_train.data.gz").read_bytes()).split()[:5]
    np.testing.assert_array_equal(table.X[0], [float(value) for value in first])
    np.testing.assert_array_equal(table.y, [1, -1] * 6)


def test_arcene_is_the_same_unpacked(uci_dir: Path) -> None:
    (packed,) = load_tables(["arcene"], data_dir=uci_dir)
    path = uci_dir / "arcene_train.data.gz"
    path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
    path.unlink()
    (unpacked,) = load_tables(["arcene"], data_dir=uci_dir)
    assert unpacked.describe() == packed.describe()


def test_arrhythmia_question_mark_is_nan(uci_dir: Path) -> None:
    (table,) = load_tables(["arrhythmia"], data_dir=uci_dir)
    assert np.argwhere(np.isnan(table.X)).tolist() == [[1, 2]]


def test_load_tables_refuses_another_content(uci_dir: Path) -> None:
    with (uci_dir / "iris.data").open("a") as file:
        file.write("1,1,1,1,Iris-setosa\n")
    with pytest.raises(UserError, match=r"iris.data' must have the content .* Fetch it again"):
        load_tables(["iris"], data_dir=uci_dir)


def test_load_tables_refuses_a_damaged_gz(uci_dir: Path) -> None:
    path = uci_dir / "arcene_valid.data.gz"
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(UserError, match=r"arcene_valid.data.gz' must be a gzip file"):
        load_tables(["arcene"], data_dir=uci_dir)


def test_load_tables_names_every_missing_file(uci_dir: Path) -> None:
    (uci_dir / "HTRU_2.csv").unlink()
    (uci_dir / "arcene_train.labels").unlink()
    with pytest.raises(UserError, match="--download") as raised:
        load_tables(data_dir=uci_dir)
    assert "HTRU_2.csv  (https://archive.ics.uci.edu/dataset/372)" in str(raised.value)
    assert "arcene_train.labels" in str(raised.value)
    assert "iris.data" not in str(raised.value)


def test_load_tables_refuses_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--data-dir must be a folder"):
        load_tables(data_dir=tmp_path / "nowhere")


@pytest.mark.parametrize("embedded", [True, False])
def test_load_tables_suggests_a_name(uci_dir: Path, embedded: bool) -> None:
    with pytest.raises(UserError, match="Did you mean 'iris'"):
        load_tables(["irs"], data_dir=None if embedded else uci_dir)


@pytest.mark.parametrize("name", UCI_NAMES)
def test_real_files_have_the_known_size_and_content(real_data_dir: Path, name: str) -> None:
    (table,) = load_tables([name], data_dir=real_data_dir)
    assert (*table.X.shape, np.unique(table.y).size) == UCI_SETS[name].shape
    assert compute_content_digest(table.X, table.y) == CONTENT_DIGESTS[name]
