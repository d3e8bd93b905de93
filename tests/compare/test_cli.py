"""``python -m sk_mixup compare``: what it saves and says, and each mistake in one line, with status 2."""

from __future__ import annotations

from collections.abc import Callable
import csv
import io
import lzma
import os
from pathlib import Path
import subprocess
import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from sk_mixup import __main__ as entry
from sk_mixup._compare import cli
from sk_mixup._compare.cli import main
from sk_mixup._compare.problem import make_problem

skrub = pytest.importorskip("skrub")

SHORT = ["--alphas", "1", "--folds", "2", "--repeats", "1"]


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """40 rows with a column of words, holes and two classes."""
    generator = np.random.default_rng(0)
    x = generator.normal(size=40)
    words = np.array(["red", "green", "blue"])[generator.integers(3, size=40)]
    frame = pd.DataFrame({"x": x, "colour": words, "z": generator.normal(size=40)})
    frame.loc[::7, "z"] = np.nan
    frame["kind"] = np.where(x + generator.normal(size=40) > 0, "yes", "no")
    return frame


def write(frame: pd.DataFrame, folder: Path, name: str = "table.csv") -> Path:
    path = folder / name
    frame.to_csv(path, index=False)
    return path


def run(path: Path, *options: str, target: str = "kind", out: Path | None = None) -> int:
    return main(["compare", str(path), "--target", target, "--out", str(out or path.parent), *options])


# -- what it does ------------------------------------------------------------------------


@pytest.mark.slow  # trains 16 networks
def test_comparison_is_printed_and_saved(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table.assign(empty=np.nan)
    frame.loc[3, "kind"] = np.nan
    status = run(write(frame, tmp_path), *SHORT, out=tmp_path / "new" / "folder")
    said = capsys.readouterr().out
    assert status == 0
    assert "classification of 39 rows, 3 columns into 2 classes (--task regression if not)" in said
    assert "1 of 40 rows are left out: their 'kind' is missing." in said
    assert "column 'empty' is left out" in said
    assert "16 networks: 2 alphas in 2 splits, 3 within each" in said
    assert said.splitlines()[-3].startswith(("Against alpha=0", "alpha=0 was the choice"))
    saved = sorted((tmp_path / "new" / "folder").iterdir())
    assert [path.name for path in saved] == ["table-alphas.csv", "table-alphas.png"]
    with saved[0].open() as file:
        rows = list(csv.DictReader(file))
    assert [row["alpha"] for row in rows] == ["0", "1", "chosen"] * 3
    for row in rows:
        assert float(row["low"]) <= float(row["difference"]) <= float(row["high"])
    assert saved[1].read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow  # trains 16 networks
def test_numbers_are_regressed_on_and_a_copy_of_the_target_is_named(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    frame = table.assign(price=table["x"] * 3 + 0.1, euros=table["x"] * 6)
    status = run(write(frame.drop(columns="x"), tmp_path), *SHORT, "--rows", "35", target="price")
    said = capsys.readouterr().out
    assert status == 0
    assert "regression of 35 rows" in said
    assert "35 of 40 rows are used, drawn at random; --rows 40 uses all." in said
    assert "WARNING: column 'euros' is the same as 'price'" in said
    assert "RMSE" in said


@pytest.mark.slow  # starts a process
def test_command_runs_in_a_process_of_its_own(table: pd.DataFrame, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sk_mixup", "compare", str(write(table, tmp_path)), "--target", "kinds"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "Did you mean 'kind'?" in done.stderr


@pytest.mark.slow  # trains 16 networks
def test_comparison_is_saved_before_it_is_shown(
    table: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    with pytest.raises(UnicodeEncodeError, match="ascii"):
        run(write(table, tmp_path), *SHORT)
    assert {path.name for path in tmp_path.iterdir()} > {"table-alphas.csv", "table-alphas.png"}


@pytest.mark.slow  # trains 16 networks
def test_comparison_that_cannot_be_saved_is_shown(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(cli, "write_file", fail)
    assert run(write(table, tmp_path), *SHORT) == 2
    said = capsys.readouterr()
    assert "\nchosen " in said.out
    assert "--out must be a folder that can be written to; got no space left" in said.err


def test_output_takes_any_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    monkeypatch.setattr(entry, "main", lambda _: print("1 ± 2"))
    entry.run()
    assert shown.getvalue() == b"1 ? 2\n"


@pytest.mark.slow  # starts a process
def test_output_that_nobody_reads_ends_the_command() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "sk_mixup", "compare", "--help"]
    told = {**os.environ, "PYTHONUNBUFFERED": ""}  # argparse itself forgives a pipe that is broken at once
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, env=told, check=False)
    os.close(writer)
    assert done.returncode == 1
    assert done.stderr == b""


# -- mistakes ----------------------------------------------------------------------------


def as_bytes(content: bytes) -> Callable[[Path, pd.DataFrame], Path]:
    def make(folder: Path, _: pd.DataFrame) -> Path:
        path = folder / "table.csv"
        path.write_bytes(content)
        return path

    return make


def as_file(name: str, content: bytes) -> Callable[[Path, pd.DataFrame], Path]:
    def make(folder: Path, _: pd.DataFrame) -> Path:
        (folder / name).write_bytes(content)
        return folder / name

    return make


def as_table(change: Callable[[pd.DataFrame], pd.DataFrame]) -> Callable[[Path, pd.DataFrame], Path]:
    return lambda folder, table: write(change(table), folder)


def as_locked_zip(folder: Path, frame: pd.DataFrame) -> Path:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("table.csv", frame.to_csv(index=False))
    content = bytearray(file.getvalue())
    for start, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(start) + place] |= 1  # the flag of encryption
    (folder / "table.zip").write_bytes(content)
    return folder / "table.zip"


def as_two_in_a_zip(folder: Path, _: pd.DataFrame) -> Path:
    with zipfile.ZipFile(folder / "table.zip", "w") as archive:
        archive.writestr("a.csv", "x,kind\n1,2\n")
        archive.writestr("b.csv", "x,kind\n1,2\n")
    return folder / "table.zip"


HEAD = b"x,kind\n1,yes\n2,no\n"
PLAIN = as_table(lambda table: table)
MISTAKES = {
    "missing-file": (
        lambda folder, _: folder / "tabel.csv",
        [],
        r"must be a file; got .*tabel.csv', none there",
    ),
    "folder": (lambda folder, _: folder, [], r"must be a file; got the folder .*Name a file in it"),
    "excel": (as_file("table.xlsx", b"PK"), [], r"must be CSV, TSV or Parquet.*got 'table.xlsx'"),
    "no-column": (
        PLAIN,
        ["--target", "kinds"],
        r"a column of FILE, 'x', 'colour', 'z', 'kind'; got 'kinds'. Did",
    ),
    "no-header": (as_bytes(b"1.5,2\n3,4\n"), [], r"got 'kind'. Its first line holds numbers: add a header"),
    "only-target": (
        as_table(lambda table: table[["kind"]]),
        [],
        r"columns besides the target; got only 'kind'",
    ),
    "one-class": (
        as_table(lambda table: table.assign(kind="yes")),
        [],
        r"2 classes; got 'yes' in all 40 rows",
    ),
    "one-number": (
        as_table(lambda table: table.assign(kind=1)),
        [],
        r"2 classes; got '1' in all 40 rows",
    ),
    "other-case": (PLAIN, ["--target", "KIND"], r"got 'KIND'. Did you mean 'kind'\?"),
    "one-value": (
        as_table(lambda table: table.assign(kind=1.5)),
        [],
        r"at least 2 values; got 1.5 in all 40",
    ),
    "names": (
        as_table(lambda table: table.assign(kind=[f"n{k}" for k in range(40)])),
        [],
        r"classes that occur again; got 40 in 40 rows of 'kind'",
    ),
    "words": (
        PLAIN,
        ["--task", "regression"],
        r"must hold numbers for --task regression; got '(yes|no)' in 'kind'",
    ),
    "infinite": (
        as_table(lambda table: table.assign(kind=np.where(table["x"] > 0, np.inf, table["x"]))),
        [],
        r"--target must hold finite numbers, of at most 3.4e\+38; got inf in 'kind'",
    ),
    "huge": (
        as_table(lambda table: table.assign(kind=table["x"] * -1e39)),
        [],
        r"--target must hold finite numbers, of at most 3.4e\+38; got .*e\+3\d in 'kind'",
    ),
    "infinite-feature": (
        as_table(lambda table: table.assign(z=np.where(table["x"] > 0, -np.inf, table["x"]))),
        [],
        r"FILE must hold finite numbers, .*; got -inf in 'z'. Leave the field empty",
    ),
    "huge-feature": (
        as_table(lambda table: table.assign(z=table["x"] * 1e39)),
        [],
        r"FILE must hold finite numbers, .*; got .*e\+3\d in 'z'",
    ),
    "empty-target": (as_table(lambda table: table.assign(kind=np.nan)), [], r"got 'kind', which is empty"),
    "all-empty": (
        as_table(lambda table: table[["kind"]].assign(a=np.nan, b=np.nan)),
        [],
        r"values in columns besides the target; got none",
    ),
    "few-rows": (
        as_table(lambda table: table[:12]),
        ["--folds", "2"],
        r"at least 30 rows to learn from; got 12",
    ),
    "rare-classes": (
        as_table(lambda table: table.assign(kind=["a"] * 37 + ["b", "c", "d"])),
        [],
        r"at least 2 classes of 5 rows or more; got 1",
    ),
    "empty-file": (as_bytes(b""), [], r"got the empty 'table.csv'"),
    "blank-file": (as_bytes(b"\n \n"), [], r"got the empty 'table.csv'"),
    "no-rows": (as_bytes(b"x,kind\n"), [], r"must hold rows below its header; got none"),
    "long-row": (as_bytes(HEAD + b"3,no,7\n"), [], r"2 fields in each row.*got 3 in line 4, '3,no,7'"),
    "short-row": (as_bytes(HEAD + b"3\n1,yes\n"), [], r"2 fields in each row.*got 1 in line 4, '3'"),
    "long-row-after-sep": (as_bytes(b"sep=,\n" + HEAD + b"3,no,7\n"), [], r"got 3 in line 5, '3,no,7'"),
    "open-quote": (as_bytes(HEAD + b'"3,no\n4,yes\n'), [], r"the row that begins in line 4, '\"3,no'"),
    "latin-1": (
        as_bytes(HEAD + "3,né\n".encode("latin-1")),
        [],
        r"byte 0xe9 in line 4. Save.*--encoding latin-1",
    ),
    "utf-16": (as_bytes("x,kind\n".encode("utf-16")), [], r"in line 1. Save.*try --encoding utf-16"),
    "encoding": (PLAIN, ["--encoding", "utf-88"], r"--encoding must be one that fits FILE; got 'utf-88'"),
    "twice": (as_bytes(b"x,kind,x\n1,yes,2\n"), [], r"must have names that differ; got 'x' several times"),
    "not-gzip": (as_file("table.csv.gz", HEAD), [], r"must be readable; got 'Not a gzipped file"),
    "not-xz": (as_file("table.csv.xz", HEAD), [], r"must be readable; got 'Input format not supported"),
    "cut-xz": (as_file("table.csv.xz", lzma.compress(HEAD)[:20]), [], r"must be readable; got "),
    "not-zip": (as_file("table.zip", HEAD), [], r"must be readable; got 'File is not a zip file'"),
    "locked-zip": (as_locked_zip, [], r"must be readable; got 'File .* is encrypted, password required"),
    "two-in-zip": (as_two_in_a_zip, [], r"must hold one table; got a zip of 2 files"),
    "not-parquet": (as_file("table.parquet", HEAD), [], r"must be Parquet by its name; got "),
    "negative-alpha": (
        PLAIN,
        ["--alphas=-1"],
        r"--alphas must be numbers of at least 0, one above it; got '-1'",
    ),
    "zero-alpha": (
        PLAIN,
        ["--alphas", "0"],
        r"--alphas must be numbers of at least 0, one above it; got '0'",
    ),
    "words-as-alphas": (PLAIN, ["--alphas", "0.2;1"], r"--alphas must be .*; got '0.2;1'"),
    "nan-alpha": (PLAIN, ["--alphas", "nan"], r"--alphas must be .*; got 'nan'"),
    "one-fold": (PLAIN, ["--folds", "1"], r"--folds must be at least 2; got 1"),
    "few-drawn-rows": (PLAIN, ["--rows", "10"], r"--rows must be at least 30; got 10"),
    "many-folds": (
        PLAIN,
        ["--task", "regression", "--target", "x", "--folds", "41"],
        r"--folds must be at most the 40 rows; got 41",
    ),
    "large-seed": (PLAIN, ["--seed", "4294967296"], r"--seed must be at most 4294967295; got 4294967296"),
    "no-repeats": (PLAIN, ["--repeats", "0"], r"--repeats must be at least 1; got 0"),
}


@pytest.mark.parametrize("kind", MISTAKES)
def test_mistake_is_told_in_one_line(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    make, options, match = MISTAKES[kind]
    status = run(make(tmp_path, table), *options)
    told = capsys.readouterr().err
    assert status == 2
    assert told.count("\n") == 1
    with pytest.raises(ValueError, match=match):
        raise ValueError(told)


def test_folder_that_cannot_be_written_to_is_a_mistake(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(table, tmp_path)
    assert run(path, out=path) == 2
    assert "--out must be a folder that can be written to; got" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["skrub", "pandas", "matplotlib"])
def test_package_that_is_missing_is_a_mistake(
    table: pd.DataFrame,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    name: str,
) -> None:
    path = write(table, tmp_path)
    monkeypatch.setitem(sys.modules, name, None)
    assert run(path) == 2
    assert (
        f"needs {name}, which is not installed. Run pip install matplotlib pandas" in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "args", [[], ["compare", "table.csv"], ["compare", "t.csv", "--target", "y", "--task", "x"]]
)
def test_unknown_options_end_with_status_2(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    assert "usage: python -m sk_mixup" in capsys.readouterr().err


@pytest.mark.slow  # trains ensembles
@pytest.mark.parametrize("target", ["kind", "x"])
def test_ensembles_are_compared(
    table: pd.DataFrame, tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    assert run(write(table, tmp_path), *SHORT, "--ensemble", target=target) == 0
    assert "16 ensembles: 2 alphas in 2 splits, 3 within each" in capsys.readouterr().out


@pytest.mark.parametrize("task", [[], ["--task", "regression"]])
def test_doubts_about_the_target_are_said_where_it_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], task: list[str]
) -> None:
    frame = pd.DataFrame({"x": range(40), "target": [f"{k}.5%" for k in range(40)]})
    assert main(["compare", str(write(frame, tmp_path)), "--target", "target", *SHORT, *task]) == 2
    said = capsys.readouterr()
    assert "read as text, though most of it looks like numbers: 'target' ('0.5%')" in said.out
    assert "--target must hold" in said.err


def test_a_seed_prepares_words_alike() -> None:
    generator = np.random.default_rng(0)
    words = ["".join(generator.choice(list("abcdefgh"), size=9)) for _ in range(120)]
    problem = make_problem(
        pd.DataFrame({"words": words, "kind": np.arange(120) % 2}),
        "kind",
        task="classification",
        n_folds=2,
        most_rows=120,
        seed=0,
    )
    prepared = [
        cli._make_model(problem, seed, is_ensemble=False)[0].fit(problem.X).transform(problem.X)
        for seed in (3, 3, 4)
    ]
    np.testing.assert_array_equal(prepared[0], prepared[1])
    assert not np.array_equal(prepared[0], prepared[2])
