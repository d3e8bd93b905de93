"""A benchmark is found by its name alone; a folder of data that holds none is no data."""

from pathlib import Path

import pytest

from benchmarks.between import run as between
from benchmarks.data.frames import load_frames
from benchmarks.harness.command import UserError
from benchmarks.registry import find_benchmarks
from benchmarks.regression.data import choose_names


@pytest.mark.parametrize("typed", ["corrupted_tables", "tabular_alpha", "nothing", "", None])
def test_what_is_no_name_leaves_all_to_choose_from(typed: str | None) -> None:
    names = [command.name for command in find_benchmarks(typed)]
    assert {"toy", "corrupted-tables", "tabular-alpha"} < set(names)


@pytest.mark.parametrize("name", ["toy", "corrupted-tables", "tabular-alpha"])
def test_a_name_finds_one(name: str) -> None:
    assert [command.name for command in find_benchmarks(name)] == [name]


def test_a_folder_without_data_is_refused(tmp_path: Path) -> None:
    rule = "--data-dir must hold files of"
    with pytest.raises(UserError, match=rule):
        choose_names((), tmp_path, download=False)
    with pytest.raises(UserError, match=rule):
        load_frames(data_dir=tmp_path)
    with pytest.raises(UserError, match=rule):
        between.choose_names((), tmp_path)
    (tmp_path / "cifar-10-python.tar.gz").touch()
    assert between.choose_names((), tmp_path) == ("digits", "cifar10")
    # Where sets are named that come with scikit-learn the folder does not matter.
    assert choose_names(("diabetes",), tmp_path, download=False) == ("diabetes",)
    assert [frame.name for frame in load_frames(["iris"], data_dir=tmp_path)] == ["iris"]
