"""Two versions of the package, timed in turns."""

from pathlib import Path

import pytest

from benchmarks.harness.command import ROOT, UserError
from benchmarks.speed.versions import VersionProcess, compare_versions, main


@pytest.mark.slow  # two processes that import torch
def test_each_version_is_timed_and_compared_round_by_round() -> None:
    (row,) = compare_versions(ROOT, 2, ["predict_proba of one row"])
    assert row["case"] == "predict_proba of one row"
    assert 0 < row["low"] <= row["ratio"] <= row["high"]


@pytest.mark.slow
def test_the_package_of_the_tree_is_imported_and_nothing_else(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("sk_mixup", "benchmarks"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text(f"raise ImportError('{name} of the tree')")
    (folder := tmp_path / "links").mkdir()
    version = VersionProcess(tmp_path, folder)
    with pytest.raises(UserError, match="TREE must hold a version that can do 'fit of images'"):
        version.run("fit of images")
    version.close()
    assert capfd.readouterr().err.strip().endswith("ImportError: sk_mixup of the tree")


@pytest.mark.parametrize("arguments", [[], ["--help"], ["tree", "many"], ["tree", "-1"], ["tree", "0"]])
def test_what_it_takes_is_shown(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == (0 if arguments == ["--help"] else 2)
    assert "benchmarks.speed.versions TREE [ROUNDS]" in capsys.readouterr().out


def test_a_tree_without_the_package_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert "error: TREE must hold a folder sk_mixup; got " in capsys.readouterr().err
