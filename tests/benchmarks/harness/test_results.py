import csv
import json
from pathlib import Path

import pytest
import torch

from benchmarks.harness import results
from benchmarks.harness.command import BaseConfig
from benchmarks.harness.results import (
    describe_device,
    format_table,
    make_document,
    pack_records,
    read_result,
    unpack_records,
    write_bytes,
    write_results,
)

ROWS = [{"dataset": "iris", "value": 0.1}, {"dataset": "wine", "value": None}]


def test_pack_records_is_undone_by_unpack() -> None:
    assert unpack_records(pack_records(ROWS)) == ROWS


def test_write_results_writes_its_files_that_read_back(tmp_path: Path) -> None:
    parts = {"protocol": "a b", "summary": ROWS, "records": pack_records(ROWS)}
    document = make_document("uci", BaseConfig(n_seeds=3), **parts)
    paths = write_results("uci-cpu-cpu", tmp_path / "new", document, {"png": b"png", "svg": b"svg"})
    written = json.loads(paths["json"].read_text())
    assert written["summary"] == [ROWS[0], {"dataset": "wine"}]
    assert read_result(paths["json"]) == document
    with paths["csv"].open() as file:
        assert [row["dataset"] for row in csv.DictReader(file)] == ["iris", "wine"]
    assert paths["png"].read_bytes() == b"png"
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == [
        "uci-cpu-cpu.csv",
        "uci-cpu-cpu.json",
        "uci-cpu-cpu.png",
        "uci-cpu-cpu.svg",
    ]


def test_make_document_says_what_was_run_and_not_where(tmp_path: Path) -> None:
    config = BaseConfig(n_seeds=3, out=tmp_path, data_dir=tmp_path)
    document = make_document("uci", config)
    assert document["config"]["n_seeds"] == 3
    assert document["versions"]["torch"] == torch.__version__
    assert str(tmp_path) not in json.dumps(document)


def test_write_bytes_keeps_the_old_content_when_it_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.json"
    write_bytes(path, b"old")

    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(results.os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.json"]


def test_describe_device_names_the_processor() -> None:
    description = describe_device("cpu")
    assert description["kind"] == "cpu"
    assert description["cpu"]
    assert description["cores"] >= 1


def test_format_table_aligns_columns() -> None:
    table = format_table([{"a": "1", "long": "x"}, {"a": "22", "long": ""}])
    assert table.splitlines() == [
        "| a  | long |",
        "| -- | ---- |",
        "| 1  | x    |",
        "| 22 |      |",
    ]
