"""Reads the sections and tables of benchmarks/README.md, which ``make report`` holds to the result files."""

from __future__ import annotations

from pathlib import Path
import re

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
TABLE = re.compile(r"^\|.*\|\n(?:\|.*\|\n?)+", re.MULTILINE)
Row = list[str]


def read_sections() -> dict[str, str]:
    """Return the text of each experiment by its name."""
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^## (\S+)\n(.*?)(?=^## |\Z)", text, re.DOTALL | re.MULTILINE))


def read_verdict() -> str:
    """Return what the report says of the paper's claims."""
    text = (BENCHMARKS / "README.md").read_text(encoding="utf-8")
    return re.findall(r"^## Does mixup work\?\n(.*?)(?=^## )", text, re.DOTALL | re.MULTILINE)[0]


def read_table(text: str) -> list[Row]:
    """Return the cells of a table in Markdown, its head first."""
    lines = text.strip().splitlines()
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in (lines[0], *lines[2:])]


def find_table(experiment: str, title: str) -> list[Row]:
    """Return the table of an experiment that stands under a line that begins so; raise if there is none."""
    for match in TABLE.finditer(read_sections()[experiment]):
        above = match.string[: match.start()].rstrip().splitlines()[-1]
        if above.startswith(title):
            return read_table(match.group())
    raise ValueError(f"title must begin a line above a table of '{experiment}'; got {title!r}.")


def choose(table: list[Row], columns: Row, rows: str) -> list[Row]:
    """Return some columns, in their order, of the rows whose text holds a pattern."""
    head, *body = table
    places = [head.index(name) for name in columns] if columns else range(len(head))
    kept = [row for row in body if re.search(rows, " | ".join(row))]
    if not kept:
        raise ValueError(f"rows must match a row of the table; got {rows!r}.")
    return [[row[place] for place in places] for row in (head, *kept)]
