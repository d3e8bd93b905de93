"""A table is read alike from each form of file."""

from __future__ import annotations

import bz2
from collections.abc import Callable
import csv
from datetime import date, time, timedelta
from decimal import Decimal
import gzip
import io
import lzma
from pathlib import Path
import zipfile

import numpy as np
import pandas as pd
import pytest

from sk_mixup._compare.errors import UserError
from sk_mixup._compare.problem import make_problem
from sk_mixup._compare.reading import name_table, read_frame
from tests.helpers.sampling import each_pair

FRAME = pd.DataFrame(
    {
        "a b": [1.5, np.nan, -2000.25, 4.0],
        "wörter": ["x", 'say "a;b,c"', "line\nbreak", "y"],
        "codes": [1, 2, 3, 4],
        "kind": ["u", "v", "u", "v"],
    }
)


def to_text(frame: pd.DataFrame = FRAME, **options: str) -> bytes:
    return frame.to_csv(index=False, **options).encode()


def to_zip(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("folder/table.csv", content)
    return file.getvalue()


def to_parquet() -> bytes:
    pytest.importorskip("pyarrow")
    return FRAME.to_parquet()


FORMS: dict[str, tuple[str, Callable[[], bytes]]] = {
    "comma": ("t.csv", to_text),
    "semicolon": ("t.csv", lambda: to_text(sep=";")),
    "tab": ("t.tsv", lambda: to_text(sep="\t")),
    "tab-in-csv": ("t.csv", lambda: to_text(sep="\t")),
    "bar": ("t.txt", lambda: to_text(sep="|")),
    "decimal-comma": ("t.csv", lambda: to_text(sep=";", decimal=",")),
    "sep-line": ("t.csv", lambda: b"sep=;\n" + to_text(sep=";")),
    "quoted-sep-line": ("t.csv", lambda: b'\xef\xbb\xbf"sep=\t"\r\n' + to_text(sep="\t")),
    "unusual-sep-line": ("t.tsv", lambda: b"SEP=^\n" + to_text(sep="^")),
    "bom": ("t.csv", lambda: b"\xef\xbb\xbf" + to_text()),
    "windows": ("t.csv", lambda: to_text(lineterminator="\r\n")),
    "question-marks": ("t.csv", lambda: to_text(na_rep="?")),
    "gzip": ("t.csv.gz", lambda: gzip.compress(to_text())),
    "bzip2": ("t.CSV.BZ2", lambda: bz2.compress(to_text())),
    "xz": ("t.tsv.xz", lambda: lzma.compress(to_text(sep="\t"))),
    "zip": ("t.zip", lambda: to_zip(to_text())),
    "parquet": ("t.parquet", to_parquet),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_table_is_read_alike_from(tmp_path: Path, form: str) -> None:
    name, make = FORMS[form]
    (tmp_path / name).write_bytes(make())
    read, notes = read_frame(tmp_path / name, "utf-8-sig", "y")
    assert notes == []
    assert list(read.columns) == list(FRAME.columns)
    np.testing.assert_array_equal(read["a b"].to_numpy(float), FRAME["a b"])
    assert read["kind"].tolist() == FRAME["kind"].tolist()
    breaks = [word.replace("\r\n", "\n") for word in read["wörter"]]
    assert breaks == FRAME["wörter"].tolist()


ONE_VALUE = {
    "decimal": [Decimal("1.50"), Decimal(2)],
    "date": [date(2020, 1, 1), date(2020, 1, 2)],
    "time": [time(1), time(2)],
    "span": [timedelta(1), timedelta(2)],
    "bytes": [b"a", b"b"],
    "truth": [True, None],
    "nothing": [None, None],
    "words": ["None", None],
}
SEVERAL_VALUES = {
    "list": ([[1, 2], [3]], r"\[1 2\]"),
    "list-below-a-hole": ([None, [3, 4]], r"\[3 4\]"),
    "record": ([{"a": 1}, {"a": 2}], r"\{'a': 1\}"),
    "records": ([[{"a": 1}], []], r"\[\{'a': 1\}\]"),
    "long": ([list(range(1000))] * 2, r"\[ 0 1 2 .*\.\.\."),
}


def write_parquet(folder: Path, frame: pd.DataFrame) -> Path:
    pytest.importorskip("pyarrow", reason="only Parquet needs it")
    frame.to_parquet(folder / "t.parquet")
    return folder / "t.parquet"


@pytest.mark.parametrize("kind", ONE_VALUE)
def test_parquet_may_hold_any_single_values(tmp_path: Path, kind: str) -> None:
    frame = pd.DataFrame({"c": ONE_VALUE[kind], "y": [0, 1]})
    found, notes = read_frame(write_parquet(tmp_path, frame), "utf-8-sig", "y")
    assert found["c"].isna().tolist() == [value is None for value in ONE_VALUE[kind]]
    assert notes == []


INDICES: dict[str, tuple[pd.Index, list[str]]] = {
    "rows": (pd.RangeIndex(2), []),
    "kept-rows": (pd.Index([5, 9]), []),
    "words": (pd.Index(["u", "v"]), []),
    "named": (pd.Index(["u", "v"], name="id"), ["id"]),
    "named-rows": (pd.RangeIndex(2, name="id"), ["id"]),
    "times": (pd.date_range("2020", periods=2, name="when"), ["when"]),
    "levels": (pd.MultiIndex.from_tuples([("u", 1), ("v", 2)], names=["k", None]), ["k"]),
    "all-levels": (pd.MultiIndex.from_tuples([("u", 1), ("v", 2)], names=["k", "l"]), ["k", "l"]),
    "of-a-column": (pd.Index(["u", "v"], name="c"), []),
}


@pytest.mark.parametrize("kind", INDICES)
def test_parquet_keeps_an_index_with_a_name_as_csv_does(tmp_path: Path, kind: str) -> None:
    index, named = INDICES[kind]
    frame = pd.DataFrame({"c": [1.5, 2.5], "y": [0, 1]}, index=index)
    found, _ = read_frame(write_parquet(tmp_path, frame), "utf-8-sig", "y")
    assert list(found.columns) == [*named, "c", "y"]
    assert found.index.tolist() == [0, 1]
    for name in named:
        assert found[name].tolist() == index.get_level_values(name).tolist()
    if len(named) == index.nlevels:
        frame.to_csv(tmp_path / "t.csv")
        assert list(read_frame(tmp_path / "t.csv", "utf-8-sig", "y")[0].columns) == list(found.columns)


@pytest.mark.parametrize("kind", SEVERAL_VALUES)
def test_parquet_with_several_values_in_a_field_is_refused_by_the_column(tmp_path: Path, kind: str) -> None:
    values, seen = SEVERAL_VALUES[kind]
    path = write_parquet(tmp_path, pd.DataFrame({"c": values, "y": [0, 1]}))
    with pytest.raises(UserError, match=rf"must hold one value in each field; got {seen} in 'c'\. Part"):
        read_frame(path, "utf-8-sig", "y")


@pytest.mark.parametrize("names", [[("a", "x"), ("a", "y")], [("a", 1), ("b", 1)]])
def test_parquet_with_names_in_several_parts_is_refused(
    tmp_path: Path, names: list[tuple[str, object]]
) -> None:
    frame = pd.DataFrame([[1, 2]] * 2, columns=pd.MultiIndex.from_tuples(names))
    with pytest.raises(UserError, match=r"must have one name each; got \('a', .*\)\. Join its parts"):
        read_frame(write_parquet(tmp_path, frame), "utf-8-sig", "y")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_several_columns_may_have_no_name(tmp_path: Path, separator: str) -> None:
    lines = ["", "x", "y", " ", ""], ["0", "1.5", "u", "", ""], ["1", "2.5", "v", "", ""]
    (tmp_path / "t.csv").write_text("\n".join(map(separator.join, lines)))
    read, _ = read_frame(tmp_path / "t.csv", "utf-8", "y")
    assert read[["x", "y"]].to_numpy().tolist() == [[1.5, "u"], [2.5, "v"]]
    assert len(set(read.columns)) == 5


def test_another_encoding_is_read(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(to_text().decode().encode("latin-1"))
    assert "wörter" in read_frame(tmp_path / "t.csv", "latin-1", "y")[0]


@each_pair(
    {
        "name": ["size (m; w; h; d)", "a, b, c, d", "a|b|c|d", "a\tb\tc", 'a\nb;c,d,"e"|f'],
        "quoted": [csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC],
        "separator": [",", ";", "\t", "|"],
    }
)
def test_separators_within_quoted_names_part_nothing(
    tmp_path: Path, name: str, separator: str, quoted: int
) -> None:
    names = [name, "b", "y"]
    for file in ("first.csv", "last.csv"):
        pd.DataFrame([[1, 2, 3]] * 2, columns=names).to_csv(
            tmp_path / file, sep=separator, quoting=quoted, index=False
        )
        assert list(read_frame(tmp_path / file, "utf-8-sig", "y")[0].columns) == names
        names = names[::-1]


def test_a_quote_within_a_name_is_of_the_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_bytes(b'5" disk;b;y\n1;"a";2\n')
    assert list(read_frame(tmp_path / "t.csv", "utf-8-sig", "y")[0].columns) == ['5" disk', "b", "y"]


def test_long_fields_are_read(tmp_path: Path) -> None:
    words = ["1" * 200_000 + "a", "b"]
    assert read(tmp_path, {"text": words, "x": ["1", "2"]}, ",")[0]["text"].tolist() == words


@each_pair(
    {
        "kind": ["", ".csv", ".TSV", ".txt", ".tab", ".parquet", ".pq"],
        "packed": ["", ".gz", ".BZ2", ".xz", ".zip"],
        "stem": ["table", "2024.01", ".hidden", "v1.2.final", "a b"],
    }
)
def test_only_endings_that_say_how_a_table_is_stored_leave_its_name(
    stem: str, kind: str, packed: str
) -> None:
    assert name_table(Path("folder.csv") / f"{stem}{kind}{packed}") == stem


@pytest.mark.parametrize("word", ["None", "NA", "N/A", "n/a", "NULL", "null"])
@pytest.mark.parametrize(
    "others", [["EU", "Asia"], ["EU"], ["1", "low"], [" EU", "b c"]], ids=["two", "one", "code", "spaces"]
)
def test_a_class_may_be_named_like_what_is_missing(tmp_path: Path, word: str, others: list[str]) -> None:
    target = ([word, "", "?", "nan", *others] * 3) + [word]
    frame, notes = read(tmp_path, {"y": target, "x": [word, *["a"] * (len(target) - 1)]}, ",")
    kept = [None if each in ("", "?", "nan") else each.strip() for each in target]
    assert [None if pd.isna(each) else each for each in frame["y"]] == kept
    assert frame["x"].isna().sum() == 1
    assert notes == [f"{word!r} in 4 rows of 'y' is a class; leave the field empty where it is missing."]


@pytest.mark.parametrize("word", ["None", "NA", "nan", "?", ""])
@pytest.mark.parametrize("values", [["1", "2"], ["1.5", "2"], ["1,5", "2"], ["True", "False"]])
def test_a_word_beside_numbers_is_missing(tmp_path: Path, word: str, values: list[str]) -> None:
    frame, notes = read(tmp_path, {"y": [*values, word], "x": list("abc")}, ";")
    assert frame["y"].isna().tolist() == [False, False, True]
    assert notes == []


# -- numbers in other ways of writing ----------------------------------------------------

NUMBERS = np.array([1.5, 2, -0.25, 1234.5, 0, 31.125, -7, 0.001])
WRITERS: dict[str, Callable[[float], str]] = {
    "trimmed": "{:g}".format,  # as Excel does
    "fixed": "{:.3f}".format,
    "signed": "{:+g}".format,
    "exponents": "{:e}".format,
    "some-exponents": lambda value: f"{value:.2E}" if value > 30 else f"{value:g}",
    "no-zero": lambda value: f"{value:g}".replace("0.", "."),
    "padded": "{:9g} ".format,
}


def read(folder: Path, columns: dict[str, list[str]], separator: str) -> tuple[pd.DataFrame, list[str]]:
    rows = [list(columns), *zip(*columns.values(), strict=True)]
    with (folder / "t.csv").open("w", newline="") as file:
        csv.writer(file, delimiter=separator).writerows(rows)
    return read_frame(folder / "t.csv", "utf-8-sig", "y")


@pytest.mark.parametrize("separator", [";", "\t", "|"])
@pytest.mark.parametrize("writer", WRITERS)
def test_decimal_commas_are_read_column_by_column(tmp_path: Path, writer: str, separator: str) -> None:
    words = [WRITERS[writer](value) for value in NUMBERS]
    columns = {
        "points": words,
        "commas": [word.replace(".", ",") for word in words],
        "holes": ["NA", "", *(word.replace(".", ",") for word in words[2:])],
        "words": list("abcdefgh"),
    }
    frame, notes = read(tmp_path, columns, separator)
    expected = np.array([float(word) for word in words])
    np.testing.assert_allclose(frame["points"], expected, rtol=1e-14)
    np.testing.assert_array_equal(frame["commas"], expected)
    np.testing.assert_array_equal(frame["holes"], [np.nan, np.nan, *expected[2:]])
    assert frame["words"].tolist() == columns["words"]
    assert notes == []


@pytest.mark.parametrize(
    ("words", "separator", "odd"),
    [
        pytest.param(["999", "1,234", "12,345"], ";", "1,234", id="thousands"),
        pytest.param(["123,456", "1,234,567"], ";", "123,456", id="millions"),
        pytest.param(["999", "1,234"], ",", "1,234", id="where-commas-part-fields"),
        pytest.param(["1,5", "2,5"], ",", "1,5", id="decimals-where-commas-part-fields"),
        pytest.param(["1,234.50", "999.00"], ",", "1,234.50", id="thousands-and-points"),
        pytest.param(["1.234,50", "999,00"], ";", "1.234,50", id="points-and-commas"),
        pytest.param(["1.5", "2,5"], ";", "2,5", id="both"),
        pytest.param(["5%", "12.5 %"], ",", "5%", id="percent"),
        pytest.param(["$5", "-$1,200"], ",", "$5", id="dollars"),
        pytest.param(["5,00 €", "1.200,00 €"], ";", "5,00 €", id="euros"),
        pytest.param(["1 200", "12 000"], ",", "1 200", id="spaces"),
        pytest.param(["1", "2", "3", "unknown"], ",", "unknown", id="one-word"),
        pytest.param(["1,5", "2", "3", "-"], ";", "-", id="one-dash"),
    ],
)
def test_text_that_looks_like_numbers_is_kept_and_named(
    tmp_path: Path, words: list[str], separator: str, odd: str
) -> None:
    frame, notes = read(tmp_path, {"price": words, "x": ["1"] * len(words)}, separator)
    assert frame["price"].tolist() == words
    assert len(notes) == 1
    assert notes[0].startswith(f"read as text, though most of it looks like numbers: 'price' ({odd!r}).")


@pytest.mark.parametrize(
    "words",
    [
        ["red", "blue", "7"],
        ["2024-01-05", "2024-02-05"],
        ["05.01.2024", "06.01.2024"],
        ["12:30", "12:45"],
        ["a1", "a2"],
        ["-", "+"],
        ["True", "False"],
    ],
)
def test_other_text_is_not_noted(tmp_path: Path, words: list[str]) -> None:
    assert read(tmp_path, {"a": words, "x": ["1"] * len(words)}, ";")[1] == []


def test_decimals_that_may_be_thousands_are_read_up_to_a_factor_and_named(tmp_path: Path) -> None:
    frame, notes = read(tmp_path, {"a": ["1,234", "12,345", "123,456"], "x": list("123")}, ";")
    np.testing.assert_array_equal(frame["a"] * 1000, [1234, 12345, 123456])
    assert len(notes) == 1
    assert "may be meant for thousands: 'a' ('1,234')." in notes[0]


COMMAS = {"h": ["0,5", "1,25", "7"]}  # by which points are no decimals


@pytest.mark.parametrize("words", [["1.234", "12.500", "999"], ["-1.234", "5", ""]])
@pytest.mark.parametrize("separator", [";", "\t", "|"])
def test_points_beside_decimal_commas_are_no_decimals(
    tmp_path: Path, words: list[str], separator: str
) -> None:
    frame, notes = read(tmp_path, {"price": words, **COMMAS}, separator)
    assert frame["price"].fillna("").tolist() == words
    np.testing.assert_array_equal(frame["h"], [0.5, 1.25, 7])
    assert notes == [
        f"read as text, though most of it looks like numbers: 'price' ({words[0]!r}). "
        "Write numbers as 1234.5, and nothing where one is missing."
    ]


def test_points_that_may_be_thousands_are_read_up_to_a_factor_and_named(tmp_path: Path) -> None:
    frame, notes = read(tmp_path, {"price": ["1.234", "12.500", "1.000"], **COMMAS}, ";")
    np.testing.assert_array_equal(frame["price"] * 1000, [1234, 12500, 1000])
    assert len(notes) == 1
    assert "read with decimal points, which may be meant for thousands: 'price' ('1.234')." in notes[0]


@pytest.mark.parametrize("words", [["1.234", "2.5", "999"], ["0.125", "3", "4"], ["1", "2", "3"]])
def test_points_that_cannot_be_thousands_are_decimals(tmp_path: Path, words: list[str]) -> None:
    frame, notes = read(tmp_path, {"price": words, **COMMAS}, ";")
    np.testing.assert_array_equal(frame["price"], [float(word) for word in words])
    assert notes == []


def test_decimals_of_parquet_are_numbers(tmp_path: Path) -> None:
    values = np.arange(40) / 4
    columns = {"a": [Decimal(f"{value:.2f}") for value in values], "x": ["7", None] * 20}
    columns["holes"] = [None, *columns["a"][1:]]
    pd.DataFrame(columns).to_parquet(path := tmp_path / "t.parquet")
    frame, _ = read_frame(path, "utf-8", "a")
    np.testing.assert_array_equal(frame["a"], values)
    np.testing.assert_array_equal(frame["holes"], [np.nan, *values[1:]])
    assert frame["x"].dropna().tolist() == ["7"] * 20
    assert not make_problem(frame, "a", **CHOSEN).is_classification


def test_names_of_many_columns_stand_in_one_note(tmp_path: Path) -> None:
    _, notes = read(tmp_path, {f"p{k}": ["5%", "6%"] for k in range(8)}, ",")
    assert len(notes) == 1
    assert "'p4' ('5%') and 3 more." in notes[0]


# -- what is to be learned ---------------------------------------------------------------

CHOSEN = {"task": None, "most_rows": 10_000, "n_folds": 5, "seed": 0}


def make_table(target: object, n: int = 60) -> pd.DataFrame:
    return pd.DataFrame({"x": np.random.default_rng(0).normal(size=n), "target": target})


@pytest.mark.parametrize(
    ("target", "is_classification"),
    [
        pytest.param(["a", "b", "c"] * 20, True, id="words"),
        pytest.param([True, False] * 30, True, id="truth"),
        pytest.param([3, 4, 5] * 20, True, id="few-whole-numbers"),
        pytest.param([3.0, 4.0] * 30, True, id="few-whole-floats"),
        pytest.param(np.arange(60), False, id="many-whole-numbers"),
        pytest.param([0.5, 1.0, 1.5] * 20, False, id="fractions"),
        pytest.param(pd.array([1, 2, 3] * 20, dtype="Int64"), True, id="nullable"),
        pytest.param(pd.Categorical([1, 2, 3] * 20), True, id="categories"),
    ],
)
def test_task_is_guessed(target: object, is_classification: bool) -> None:
    assert make_problem(make_table(target), "target", **CHOSEN).is_classification is is_classification


def test_named_task_overrides_the_guess() -> None:
    frame = make_table([3, 4, 5] * 20)
    problem = make_problem(frame, "target", **CHOSEN | {"task": "regression"})
    assert problem.y.tolist() == [3.0, 4.0, 5.0] * 20


def test_rare_classes_are_left_out_and_named() -> None:
    problem = make_problem(make_table(["a"] * 30 + ["b"] * 28 + ["c"] * 2), "target", **CHOSEN)
    assert len(problem.y) == 58
    assert problem.notes == [
        "1 of 3 classes, 2 rows, are left out: fewer than 5 rows each are too few for the folds."
    ]


@pytest.mark.parametrize("n_folds", [2, 3, 4, 5, 7])
def test_classes_that_are_kept_have_two_rows_in_each_training_part(n_folds: int) -> None:
    target = [name for k, name in enumerate("abcdefgh", 1) for _ in range(k)] + ["i"] * 30
    problem = make_problem(make_table(target, len(target)), "target", **CHOSEN | {"n_folds": n_folds})
    sizes = np.bincount(problem.y)
    sizes = sizes[sizes > 0]
    assert (sizes - np.ceil(sizes / n_folds) >= 2).all()
    assert len(sizes) == 1 + sum(k >= max(n_folds, 4) for k in range(1, 9))


@pytest.mark.parametrize(("most_rows", "hint"), [(30, "Use more --rows"), (60, "Give more")])
def test_more_rows_are_asked_of_who_took_few(most_rows: int, hint: str) -> None:
    frame = make_table([f"rare {k}" for k in range(17)] * 2 + ["a", "b"] * 13)
    with pytest.raises(UserError, match=rf"at least 30 rows to learn from; got \d+\. {hint}"):
        make_problem(frame, "target", **CHOSEN | {"most_rows": most_rows})


@pytest.mark.parametrize(("n_folds", "hint"), [(2, "Add rows."), (5, "Use fewer --folds, or add rows.")])
def test_fewer_folds_are_advised_where_there_may_be_fewer(n_folds: int, hint: str) -> None:
    with pytest.raises(UserError, match=rf"at least 2 classes of .* rows or more; got 1\. {hint}"):
        make_problem(make_table(["a"] * 57 + ["b"] * 3), "target", **CHOSEN | {"n_folds": n_folds})


@pytest.mark.parametrize(
    ("copy", "is_found"),
    [
        pytest.param(lambda y: y, True, id="same"),
        pytest.param(lambda y: pd.factorize(y)[0], True, id="codes"),
        pytest.param(lambda y: y + "!", True, id="renamed"),
        pytest.param(lambda y: y.where(np.arange(len(y)) > 0, "b"), False, id="all-but-one"),
        pytest.param(lambda y: np.arange(len(y)), False, id="numbers-of-rows"),
    ],
)
def test_a_copy_of_the_classes_is_named(copy: Callable[[pd.Series], object], is_found: bool) -> None:
    frame = make_table(["a", "b", "c"] * 20)
    notes = make_problem(frame.assign(other=copy(frame["target"])), "target", **CHOSEN).notes
    assert any("'other' is the same as 'target'" in note for note in notes) is is_found


@pytest.mark.parametrize(
    ("column", "is_left_out"),
    [
        (np.arange(60), True),
        (np.random.default_rng(0).permutation(60), True),  # rows that were drawn, or put in another order
        (np.arange(60) % 30, False),
        (np.random.default_rng(0).normal(size=60), False),
    ],
    ids=["counted", "shuffled", "repeated", "values"],
)
def test_numbers_of_rows_without_a_name_are_left_out(column: np.ndarray, is_left_out: bool) -> None:
    frame = make_table(["a", "b"] * 30)
    frame.insert(0, "Unnamed: 0", column)
    assert list(make_problem(frame, "target", **CHOSEN).X) == (["x"] if is_left_out else ["Unnamed: 0", "x"])


@pytest.mark.parametrize("task", [None, "regression", "classification"])
@pytest.mark.parametrize(
    "target",
    [
        pd.date_range("2024-01-05", periods=60),
        pd.date_range("2024-01-05", periods=60, tz="UTC"),
        [date(2024, 1, 1 + k % 28) for k in range(60)],
        pd.to_timedelta(np.arange(60), unit="D"),
        [timedelta(days=k) for k in range(60)],
        [time(k % 24) for k in range(60)],
        pd.period_range("2024-01", periods=60, freq="M"),
    ],
    ids=["dates", "zone", "days", "spans", "python-spans", "hours", "periods"],
)
def test_points_in_time_are_no_target(task: str | None, target: object) -> None:
    with pytest.raises(UserError, match=r"--target must name .*; got (dates or times|durations) in"):
        make_problem(make_table(target), "target", **{**CHOSEN, "task": task})


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_blanks_round_words_are_no_part_of_them(tmp_path: Path, separator: str) -> None:
    lines = [("c", "y"), ("red ", "yes"), (" red", "yes "), ("blue  ", " no"), ("", "None ")]
    path = tmp_path / "t.csv"
    path.write_text("".join(separator.join(line) + "\n" for line in lines))
    frame, notes = read_frame(path, "utf-8-sig", "y")
    assert frame["c"].tolist()[:3] == ["red", "red", "blue"]
    assert frame["c"].isna().tolist() == [False, False, False, True]
    assert frame["y"].tolist() == ["yes", "yes", "no", "None"]
    assert any("'None' in 1 rows of 'y' is a class" in note for note in notes)


@pytest.mark.parametrize("word", ["? ", "nan ", " NaN  ", "  ", "NA ", "#N/A "])
def test_missing_values_may_have_blanks_behind_them(tmp_path: Path, word: str) -> None:
    path = tmp_path / "table.csv"
    lines = [
        f'{n},"{word if n % 3 == 0 else "uv"[n % 2]}","{word if n % 4 == 0 else n / 2}"' for n in range(12)
    ]
    path.write_text("\n".join(["row,word,number", *lines]))
    frame, _ = read_frame(path, "utf-8", "row")
    assert frame["number"].dtype == float
    assert frame["number"].isna().tolist() == [n % 4 == 0 for n in range(12)]
    assert frame["word"].isna().tolist() == [n % 3 == 0 for n in range(12)]
    target, _ = read_frame(path, "utf-8", "word")
    names = set(target["word"].dropna())
    assert names == {"u", "v"} | ({"NA"} if word.strip() == "NA" else set())
