"""A frame from a file: CSV, TSV or Parquet, the former also compressed."""

from __future__ import annotations

import bz2
from collections import Counter
from collections.abc import Callable
import csv
from functools import partial
import gzip
import io
import lzma
from pathlib import Path
import re
from typing import TYPE_CHECKING
import zipfile
import zlib

from sk_mixup._compare.errors import UserError, require
from sk_mixup._validation import did_you_mean

if TYPE_CHECKING:
    from pandas import DataFrame, Series

__all__ = ["name_table", "read_frame"]

UNPACK: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
}
PACKED = (*UNPACK, ".zip")
PARQUET, TABBED = (".parquet", ".pq"), (".tsv", ".tab")
KINDS = (".csv", ".txt", *PARQUET, *TABBED)
OTHERS = (".xlsx", ".xls", ".ods", ".json", ".feather", ".arrow", ".pkl", ".zst", ".7z", ".rar", ".tar")
SEPARATORS = (",", ";", "\t", "|")
# The first line by which Excel is told. Its end stays, so that the others keep their numbers.
SEPARATOR_LINE = re.compile(r'"?sep=([^\w"\n])"?(?=\n)', re.IGNORECASE)
QUOTED = re.compile(r'(?<![^\s,;|"])"[^"]*"')
# Beside those of pandas, that of the UCI Machine Learning Repository.
MISSING = ["?"]
# Missing to pandas, and names of classes: no disorder, North America.
CLASSES = ("None", "NA", "N/A", "n/a", "NULL", "null")
# RuntimeError is what zipfile says of a password.
BROKEN = (OSError, EOFError, ValueError, RuntimeError, lzma.LZMAError, zipfile.BadZipFile, zlib.error)
DECIMAL_COMMA = re.compile(r"[+-]?(\d+|\d*,\d+)(e[+-]?\d+)?", re.IGNORECASE)
# With one comma these may be thousands as well.
THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")
PLAIN = re.compile(r"[+-]?(\d+|\d*\.\d+)(e[+-]?\d+)?", re.IGNORECASE)
# What people write for a number: with decimal commas, parted thousands, in percent, with a currency.
LIKE_NUMBER = re.compile(
    r"(?=.*\d)[+-]?[$€£]?\s?(\d{1,3}([,.'\s]\d{3})+|\d*)([,.]\d+)?(e[+-]?\d+)?\s?[%$€£]?", re.IGNORECASE
)


def read_frame(path: Path, encoding: str, target: str) -> tuple[DataFrame, list[str]]:
    """Read a table with a header, and note which of its columns may be read otherwise than they are meant.

    A comma in a number is a decimal comma where commas do not part the fields, column by column. Columns that
    look like numbers and hold anything else are text: ``1,234`` beside ``999``, ``1,234.50``, ``5%``; so are
    ``1.234`` beside ``999`` where other columns have decimal commas.

    Parameters
    ----------
    path : Path
        By whose ending it is known what it holds. The separator is that of a first line ``sep=;``, or the one
        that the header has most of outside quotes.
    encoding : str
        Of text.
    target : str
        The column to predict. Where it holds words, "None", "NA", "N/A" and "null" are classes among them and
        noted; empty fields, "?" and "nan" are missing, as all of these are in other columns.

    Raises
    ------
    UserError
        If it cannot be read; the message names the line.
    """
    _check_file(path)
    kind = next((suffix for suffix in map(str.lower, reversed(path.suffixes)) if suffix not in UNPACK), "")
    if kind in OTHERS:
        raise UserError(
            f"FILE must be CSV, TSV or Parquet, the former maybe in gzip, bz2, xz or zip; got {path.name!r}. "
            "Save the table as CSV."
        )
    frame, notes = (_read_parquet(path), []) if kind in PARQUET else _read_text(path, kind, encoding, target)
    if not len(frame):
        raise UserError(f"FILE must hold rows below its header; got none in {path.name!r}. Give it some.")
    return frame, notes + _note_numbers_as_text(frame)


def name_table(path: Path) -> str:
    """Return a file's name without the endings that say how it is stored.

    Examples
    --------
    >>> from pathlib import Path
    >>> from sk_mixup._compare.reading import name_table
    >>> name_table(Path("folder/2024.01.csv.gz"))
    '2024.01'
    """
    name = path.stem if path.suffix.lower() in PACKED else path.name
    return Path(name).stem if Path(name).suffix.lower() in KINDS else name


def _check_file(path: Path) -> None:
    if path.is_file():
        return
    if path.is_dir():
        raise UserError(f"FILE must be a file; got the folder {str(path)!r}. Name a file in it.")
    folder = path.parent
    near = did_you_mean(path.name, [each.name for each in folder.iterdir()]) if folder.is_dir() else ""
    raise UserError(f"FILE must be a file; got {str(path)!r}, none there. {near or 'Look at the path.'}")


def _read_parquet(path: Path) -> DataFrame:
    pandas = require("pandas")
    require("pyarrow")
    try:
        frame: DataFrame = pandas.read_parquet(path, engine="pyarrow")
    except (OSError, ValueError) as error:
        raise UserError(
            f"FILE must be Parquet by its name; got {_take_line(error)} Save it again."
        ) from error
    if frame.columns.nlevels > 1:
        raise UserError(
            f"the columns of FILE must have one name each; got {frame.columns[0]}. Join its parts, as in a_b."
        )
    # An index that has a name is a column, as it is in a CSV file of the same frame; others count the rows.
    named = [k for k, name in enumerate(frame.index.names) if name is not None and name not in frame]
    frame = frame.reset_index(named).reset_index(drop=True)
    frame = frame.set_axis(frame.columns.astype(str), axis=1)
    _check_header(list(frame.columns))
    _check_values(frame)
    infer = pandas.api.types.infer_dtype
    decimals = [name for name in frame if infer(frame[name], skipna=True) == "decimal"]
    return frame.astype(dict.fromkeys(decimals, float))


def _check_values(frame: DataFrame) -> None:
    """Raise unless each field holds one value: Parquet also stores lists and records."""
    is_hashable = require("pandas").api.types.is_hashable
    for name in frame.columns[frame.dtypes == "object"]:
        several = frame[name][~frame[name].map(is_hashable).astype(bool)]
        if len(several):
            seen = _shorten(" ".join(str(several.iloc[0]).split()))
            raise UserError(
                f"FILE must hold one value in each field; got {seen} in {name!r}. Part it into columns, or "
                "leave it out."
            )


def _read_text(path: Path, kind: str, encoding: str, target: str) -> tuple[DataFrame, list[str]]:
    text = _decode(_read_bytes(path), encoding).replace("\r\n", "\n").replace("\r", "\n")
    if not text.strip():
        raise UserError(f"FILE must hold a header and rows; got the empty {path.name!r}. Give it some.")
    # Of the process: a field may be as long as the file.
    csv.field_size_limit(max(csv.field_size_limit(), len(text)))
    if said := SEPARATOR_LINE.match(text):
        separator, text = said[1], text[said.end() :]
    else:
        separator = "\t" if kind in TABBED else _find_separator(text)
    _check_lines(text, separator)
    frame = _parse(text, separator)
    for name in _list_words(frame):
        frame[name] = _strip(frame[name])
    notes = [] if separator == "," else _read_decimal_commas(frame, partial(_parse_words, text, separator))
    if target in _list_words(frame):
        words = _parse(text, separator, usecols=[target], dtype=str, keep_default_na=False)[target]
        notes += _restore_classes(frame, words.str.strip())
    return frame, notes


def _strip(words: Series) -> Series:
    """Return words without the blanks behind them, which pandas leaves; some are missing then."""
    stripped = words.str.strip()
    changed = stripped[stripped.notna() & (stripped != words)]
    if not len(changed):
        return stripped
    file = io.StringIO()
    csv.writer(file).writerows([["word"], *([word] for word in changed.unique())])
    known = _parse(file.getvalue(), ",", skip_blank_lines=False, dtype=str)["word"].dropna()
    missing = changed.index[~changed.isin(known)]
    if not len(missing):
        return stripped
    stripped[missing] = None
    try:  # what is left beside them
        numbers: Series = require("pandas").to_numeric(stripped)
    except ValueError:
        return stripped
    return numbers


def _restore_classes(frame: DataFrame, words: Series) -> list[str]:
    """Put back the words of the target that pandas took for missing and that may be names of classes."""
    target, restored = words.name, words[words.isin(CLASSES)]
    frame.loc[restored.index, target] = restored
    return [
        f"{word!r} in {count} rows of {target!r} is a class; leave the field empty where it is missing."
        for word, count in restored.value_counts().items()
    ]


def _find_separator(text: str) -> str:
    """Return the separator that the header has most of, outside of quotes."""
    header = QUOTED.sub("", text.lstrip()).partition("\n")[0]
    return max(SEPARATORS, key=header.count)


def _read_decimal_commas(frame: DataFrame, parse: Callable[[str], Series]) -> list[str]:
    """Make numbers of columns that are such with decimal commas throughout; note what may be thousands.

    `parse` returns a column as it stands in the file.
    """
    numeric = list(frame.select_dtypes("float"))
    unsure: dict[str, str] = {}
    is_sure = False
    for name, words in _list_words(frame).items():
        with_comma = [word for word in words if "," in word]
        may_be_thousands = all(map(THOUSANDS.fullmatch, with_comma))
        # Where all have a comma, thousands and decimals are the same but for a factor.
        is_either = may_be_thousands and with_comma == words
        if with_comma and all(map(DECIMAL_COMMA.fullmatch, words)) and (is_either or not may_be_thousands):
            frame[name] = frame[name].str.strip().str.replace(",", ".").astype(float)
            unsure |= {name: with_comma[0]} if is_either else {}
            is_sure |= not is_either
    what = "read with decimal commas, which may be meant for thousands"
    notes = _note(what, unsure, "Write thousands without commas.")
    return notes + (_doubt_points(frame, numeric, parse) if is_sure else [])


def _doubt_points(frame: DataFrame, names: list[str], parse: Callable[[str], Series]) -> list[str]:
    """Keep as text what pandas took for decimals and may be thousands, beside columns with decimal commas."""
    unsure: dict[str, str] = {}
    for name in names:
        words = parse(name).str.strip()
        pointed = [word for word in words.dropna().unique() if "." in word]
        if not pointed or not all(THOUSANDS.fullmatch(word.replace(".", ",")) for word in pointed):
            continue
        if len(pointed) == words.nunique():  # the same but for a factor
            unsure[name] = pointed[0]
        else:
            frame[name] = words
    what = "read with decimal points, which may be meant for thousands"
    return _note(what, unsure, "Write thousands without points.")


def _note_numbers_as_text(frame: DataFrame) -> list[str]:
    """Note columns of text most of whose words look like numbers, each with a word that hinders it."""
    found = {}
    for name, words in _list_words(frame).items():
        others = [word for word in words if not LIKE_NUMBER.fullmatch(word)]
        if len(others) < len(words) / 2:
            parted = [word for word in words if THOUSANDS.fullmatch(word.replace(".", ","))]
            odd = others or [word for word in words if not PLAIN.fullmatch(word)] or parted or words
            found[name] = odd[0]
    what = "read as text, though most of it looks like numbers"
    return _note(what, found, "Write numbers as 1234.5, and nothing where one is missing.")


def _list_words(frame: DataFrame) -> dict[str, list[str]]:
    """Return the words of each column of text, once each."""
    infer = require("pandas").api.types.infer_dtype
    texts = [name for name in frame if infer(frame[name]) == "string"]
    return {name: list(frame[name].dropna().str.strip().unique()) for name in texts}


def _note(what: str, examples: dict[str, str], hint: str) -> list[str]:
    shown = [f"{name!r} ({word!r})" for name, word in list(examples.items())[:5]]
    more = f" and {len(examples) - 5} more" if len(examples) > 5 else ""
    return [f"{what}: {', '.join(shown)}{more}. {hint}"] if examples else []


def _parse(text: str, separator: str, **others: object) -> DataFrame:
    pandas = require("pandas")
    options = {"sep": separator, "na_values": MISSING, "skipinitialspace": True, **others}
    try:
        frame: DataFrame = pandas.read_csv(io.StringIO(text), index_col=False, low_memory=False, **options)
    except ValueError as error:  # pandas' own errors are such
        raise UserError(f"FILE must be a table; got {_take_line(error)} Mend the line.") from error
    return frame


def _parse_words(text: str, separator: str, name: str) -> Series:
    """Return a column as it stands in the file."""
    words: Series = _parse(text, separator, usecols=[name], dtype=str)[name]
    return words


def _read_bytes(path: Path) -> bytes:
    """Return the content, unpacked."""
    try:
        if path.suffix.lower() == ".zip":
            with zipfile.ZipFile(path) as archive:
                names = [name for name in archive.namelist() if not name.endswith("/")]
                if len(names) != 1:
                    raise UserError(f"FILE must hold one table; got a zip of {len(names)} files. Unpack it.")
                return archive.read(names[0])
        content = path.read_bytes()
        unpack = UNPACK.get(path.suffix.lower())
        return content if unpack is None else unpack(content)
    except BROKEN as error:
        raise UserError(f"FILE must be readable; got {_take_line(error)} Look at {path.name!r}.") from error


def _decode(content: bytes, encoding: str) -> str:
    try:
        return content.decode(encoding)
    except UnicodeDecodeError as error:
        line, byte = content.count(b"\n", 0, error.start) + 1, content[error.start]
        other = "utf-16" if content[:2] in (b"\xff\xfe", b"\xfe\xff") else "latin-1"
        raise UserError(
            f"FILE must be text in {encoding.removesuffix('-sig')}; got byte 0x{byte:02x} in line {line}. "
            f"Save it as UTF-8, or try --encoding {other}."
        ) from error
    except (LookupError, UnicodeError) as error:
        raise UserError(f"--encoding must be one that fits FILE; got {encoding!r}. Use utf-8.") from error


def _check_lines(text: str, separator: str) -> None:
    """Raise unless all rows have as many fields as the header, whose names all differ."""
    reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True, skipinitialspace=True)
    begun, n_fields = 1, 0
    try:
        for row in reader:
            if row and not n_fields:
                n_fields = len(row)
                _check_header([name for name in row if name])  # pandas numbers those without a name
            if row and len(row) != n_fields:
                raise UserError(
                    f"FILE must hold {n_fields} fields in each row, as in its header; got {len(row)} in line "
                    f"{begun}, {_shorten(separator.join(row))!r}. Mend the line, or quote what holds a "
                    f"{separator!r}."
                )
            begun = reader.line_num + 1
    except csv.Error as error:
        line = text.split("\n")[begun - 1]
        raise UserError(
            f"FILE must be a table; got {error} in the row that begins in line {begun}, {_shorten(line)!r}. "
            "Mend its quotes."
        ) from error


def _check_header(names: list[str]) -> None:
    twice = [name for name, number in Counter(names).items() if number > 1]
    if twice:
        shown = ", ".join(map(repr, twice[:5]))
        raise UserError(
            f"the columns of FILE must have names that differ; got {shown} several times. Rename them."
        )


def _shorten(line: str) -> str:
    return line if len(line) <= 60 else line[:57] + "..."


def _take_line(error: BaseException) -> str:
    """Return the first line of an error's message, as the beginning of a sentence's end."""
    text = (str(error) or type(error).__name__).strip().splitlines()[0]
    return f"'{text.rstrip('.')}'."
