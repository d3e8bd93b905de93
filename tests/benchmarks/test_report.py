import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cli import main
from benchmarks.harness.command import UserError
from benchmarks.registry import find_benchmarks
from benchmarks.report import make_report

BENCHMARKS = find_benchmarks()


@pytest.fixture
def results_dir(tmp_path: Path) -> Path:
    """A folder with one result of ``uci``, made by the smoke preset."""
    folder = tmp_path / "results"
    assert main(["uci", "--preset", "smoke", "--out", str(folder)]) == 0
    path = folder / "uci-embedded-smoke-cpu.json"
    document = json.loads(path.read_text()) | {"preset": "cpu"}
    (folder / "uci-embedded-cpu-cpu.json").write_text(json.dumps(document))
    return folder


def test_make_report_without_results_says_not_run(tmp_path: Path) -> None:
    text = make_report(tmp_path, BENCHMARKS)
    assert text.count("not run") == 2 * len(BENCHMARKS)
    assert text.count("Not run.") == len(BENCHMARKS)


def test_make_report_shows_protocol_before_numbers(results_dir: Path) -> None:
    text = make_report(results_dir, BENCHMARKS)
    section = text[text.index("### uci-embedded-cpu-cpu") :]
    assert section.index("Protocol *paper*") < section.index("| protocol")
    assert "![uci-embedded-cpu-cpu](results/uci-embedded-cpu-cpu.png)" in section
    assert "[uci-embedded-cpu-cpu](results/uci-embedded-cpu-cpu.json)" in text


def test_make_report_leaves_smoke_runs_out(results_dir: Path) -> None:
    assert "uci-embedded-smoke-cpu" not in make_report(results_dir, BENCHMARKS)


def test_make_report_names_a_damaged_result(tmp_path: Path) -> None:
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(UserError, match=r"bad\.json' must be a result in JSON"):
        make_report(tmp_path, BENCHMARKS)


def test_report_check_fails_until_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--results", str(tmp_path), "--readme", str(tmp_path / "README.md")]
    assert main(["report", "--check", *options]) == 1
    assert "is stale. Run python -m benchmarks report" in capsys.readouterr().err
    assert main(["report", *options]) == 0
    assert main(["report", "--check", *options]) == 0
    (tmp_path / "README.md").write_text("edited")
    assert main(["report", "--check", *options]) == 1


def test_committed_report_is_what_the_results_say() -> None:
    assert report.run(report.Config(check=True), BENCHMARKS) == 0
