"""Tables as frames: what is a category, what is missing, and which tables are at hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data.frames import BUNDLED_FRAMES, REPORT, TUNE, load_frames
from benchmarks.harness.command import UserError

ROWS = "size,colour,code,target\n1.5,NA,1,a\n,None,01,b\n-2,,1,a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with one table, called car."""
    (tmp_path / "tables").mkdir()
    facts = {"car": {"task": "classification", "categorical": ["colour", "code"]}}
    (tmp_path / "tables/tables.json").write_text(json.dumps(facts))
    (tmp_path / "tables/car.csv").write_text(ROWS)
    return tmp_path


def test_only_an_empty_cell_is_missing(folder: Path) -> None:
    (table,) = load_frames(["car"], data_dir=folder)
    assert table.categorical == ["colour", "code"]
    assert table.X["colour"].tolist()[:2] == ["NA", "None"]
    assert table.X["code"].tolist() == ["1", "01", "1"]
    assert table.X["size"].dtype == np.float64
    assert table.X.isna().to_numpy().tolist() == [[False] * 3, [True, False, False], [False, True, False]]
    assert table.y.tolist() == ["a", "b", "a"]


def test_without_names_all_at_hand_are_loaded(folder: Path) -> None:
    names = {table.name for table in load_frames(data_dir=folder) if table.name not in BUNDLED_FRAMES}
    assert names == {"car"}
    assert {table.name for table in load_frames()} == set(BUNDLED_FRAMES)


def test_a_table_that_is_not_there_is_named(folder: Path) -> None:
    with pytest.raises(UserError, match=r"must hold 'tables/splice\.csv'"):
        load_frames(["splice"], data_dir=folder)


def test_tune_and_report_tables_are_apart() -> None:
    tune, report = ({name for names in part.values() for name in names} for part in (TUNE, REPORT))
    assert not tune & report
    assert len(tune) + len(report) == sum(len(names) for part in (TUNE, REPORT) for names in part.values())


def test_the_shared_tables_are_as_described(real_data_dir: Path) -> None:
    described = json.loads((real_data_dir / "tables/tables.json").read_text())
    for table in load_frames(list(described), data_dir=real_data_dir):
        facts, found = described[table.name], table.describe()
        for name in ("n_missing", "n_classes"):
            assert found[name] == facts[name]
        assert found["n_samples"] == facts["n_rows"]
        assert table.categorical == [name for name in table.X if name in facts["categorical"]]
        assert found["n_features"] == facts["n_numeric"] + found["n_categorical"]


def test_abalones_sex_is_a_category(real_data_dir: Path) -> None:
    (table,) = load_frames(["abalone"], data_dir=real_data_dir)
    lines = (real_data_dir / "uci/abalone.data").read_text().split()
    assert table.X["sex"].tolist() == [line[0] for line in lines]
