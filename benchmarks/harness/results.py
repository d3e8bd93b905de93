"""Result files: small, complete, written in one piece."""

from collections.abc import Mapping, Sequence
import csv
import dataclasses
import datetime
from functools import cache
from importlib.metadata import version
import io
import json
import os
from pathlib import Path
import platform
import subprocess
import tempfile
from typing import Any

import joblib
import torch

from benchmarks.harness.command import EXECUTION_FIELDS, ROOT, BaseConfig
import sk_mixup

__all__ = [
    "NUMERICS",
    "describe_config",
    "describe_device",
    "dump_table",
    "find_commit",
    "find_device_kind",
    "find_versions",
    "format_table",
    "format_tables",
    "make_document",
    "pack_records",
    "read_result",
    "run_git",
    "unpack_records",
    "write_bytes",
    "write_results",
]

PACKAGES = ("numpy", "scipy", "scikit-learn", "torch", "skorch")
# Raise it when equal seeds no longer give equal figures: other draws, losses, schedules or defaults. Results
# of another number are then to be recorded anew, which ``report --check`` asks for.
NUMERICS = 1
PARTS = {"command", "config", "device", "protocol", "summary", "records"}  # of every result


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, and its folder, so that others see the old content or the new, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp makes the file private; a result is as readable as any other file.
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def find_versions() -> dict[str, str]:
    """Return the versions of Python and of every library that computes."""
    libraries = {name: version(name) for name in PACKAGES}
    return {"python": platform.python_version(), **libraries, "sk_mixup": sk_mixup.__version__}


@cache
def find_commit() -> str | None:
    """Return the commit of the checkout that the benchmarks are run from; None where git says none.

    It is that of the first question, which a recorded run asks before it begins.
    """
    answer = run_git(ROOT, "rev-parse", "HEAD")
    return None if answer is None else answer.strip()


def run_git(root: Path, *arguments: str) -> str | None:
    """Return what git says, or None where it fails or is missing."""
    try:
        run = subprocess.run(
            ["git", "-C", root, *arguments], capture_output=True, text=True, check=True, encoding="utf-8"
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return run.stdout


def describe_device(device: str) -> dict[str, Any]:
    """Return what the nets ran on: kind, model of the CPU, cores, system, and the GPU where there is one."""
    description = {
        "kind": find_device_kind(device),
        "cpu": _find_cpu_model(),
        "cores": joblib.cpu_count(),
        "system": platform.system(),
    }
    if description["kind"] == "cuda":
        description["gpu"] = torch.cuda.get_device_name(device)
    return description


def find_device_kind(device: str) -> str:
    """Return the type of a torch device: "cuda" for "cuda:1"."""
    return torch.device(device).type


def _find_cpu_model() -> str:
    """Return the processor's name, as Linux or the platform module tells it."""
    path = Path("/proc/cpuinfo")
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def describe_config(config: BaseConfig) -> dict[str, Any]:
    """Return what a configuration computes, without where it runs or stores: fields, ready for JSON."""
    fields = dataclasses.asdict(config)
    return {key: value for key, value in fields.items() if key not in EXECUTION_FIELDS}


def make_document(command: str, config: BaseConfig, **parts: Any) -> dict[str, Any]:
    """Return a result: what is needed to judge and to repeat it, then ``parts``, which JSON can hold."""
    return {
        "command": command,
        "preset": config.preset,
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "device": describe_device(config.device),
        "versions": find_versions(),
        "numerics": NUMERICS,
        "commit": find_commit() if config.record else None,
        "config": describe_config(config),
        **parts,
    }


def pack_records(records: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Return records as columns and rows: a quarter of the size of a list of dicts."""
    columns = list(records[0])
    return {"columns": columns, "rows": [[row[key] for key in columns] for row in records]}


def unpack_records(packed: Mapping[str, list[Any]]) -> list[dict[str, Any]]:
    """Return the list of dicts that :func:`pack_records` packed."""
    return [dict(zip(packed["columns"], row, strict=True)) for row in packed["rows"]]


def write_results(
    stem: str, out: Path, document: Mapping[str, Any], figure: Mapping[str, bytes]
) -> dict[str, Path]:
    """Write ``stem.json``, ``stem.csv`` (the summary) and the figure, and return the paths by suffix."""
    contents = {
        "json": _dump_document(document).encode(),
        "csv": dump_table(document["summary"]).encode(),
        **figure,
    }
    paths = {suffix: out / f"{stem}.{suffix}" for suffix in contents}
    for suffix, content in contents.items():
        write_bytes(paths[suffix], content)
    return paths


def _dump_document(document: Mapping[str, Any]) -> str:
    """Return JSON with one line for each summary row and each record, and one for what is drawn.

    What a summary row lacks is left out, for rows of several kinds would be mostly null; ``columns`` names
    all that :func:`read_result` puts back.
    """
    long = {"draw_from", "summary", "records"}
    head = {key: value for key, value in document.items() if key not in long}
    shown = f' "draw_from": {json.dumps(document["draw_from"])},\n' if "draw_from" in document else ""
    summary = ",\n  ".join(
        json.dumps({name: value for name, value in row.items() if value is not None})
        for row in document["summary"]
    )
    rows = ",\n  ".join(json.dumps(row) for row in document["records"]["rows"])
    columns = json.dumps(document["records"]["columns"])
    start = json.dumps(head, indent=1).removesuffix("\n}")
    return (
        f"{start},\n"
        f"{shown}"
        f' "columns": {json.dumps(list(document["summary"][0]))},\n'
        f' "summary": [\n  {summary}\n ],\n'
        f' "records": {{"columns": {columns}, "rows": [\n  {rows}\n ]}}\n}}\n'
    )


def read_result(path: Path) -> dict[str, Any]:
    """Return a result as it was before it was written: each row of its summary has all columns.

    Raise ValueError where the file holds none.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    missing = PARTS - set(document) if isinstance(document, dict) else PARTS
    if missing:
        raise ValueError(f"it has no {', '.join(sorted(missing))}")
    columns = dict.fromkeys(document.pop("columns", ()))  # results of before have them in each row
    return document | {"summary": [{**columns, **row} for row in document["summary"]]}


def dump_table(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of a summary as CSV."""
    buffer = io.StringIO()
    writer = csv.DictWriter(buffer, fieldnames=list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return buffer.getvalue()


def format_table(rows: Sequence[Mapping[str, str]]) -> str:
    """Return rows as an aligned Markdown table, good to read in a terminal as well.

    All rows have the same titles, in the same order; there is no newline at the end.

    Examples
    --------
    >>> from benchmarks.harness.results import format_table
    >>> print(format_table([{"set": "iris", "error": "4.7"}]))
    | set  | error |
    | ---- | ----- |
    | iris | 4.7   |
    """
    titles = list(rows[0])
    lines = [titles, *([row[title] for title in titles] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    lines.insert(1, ["-" * width for width in widths])
    return "\n".join(_format_line(line, widths) for line in lines)


def _format_line(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
    return f"| {' | '.join(padded)} |"


def format_tables(tables: Mapping[str, Sequence[Mapping[str, str]]]) -> str:
    """Return several tables as Markdown, each under its heading."""
    return "\n\n".join(f"{heading}:\n\n{format_table(rows)}" for heading, rows in tables.items())
