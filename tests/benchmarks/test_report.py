import json
from pathlib import Path

import pytest

from benchmarks import report
from benchmarks.cli import main
from benchmarks.harness.command import UserError
from benchmarks.harness.results import NUMERICS, read_result
from benchmarks.registry import find_benchmarks
from benchmarks.report import find_outdated, make_record, make_report, read_documents

BENCHMARKS = find_benchmarks()


@pytest.fixture(scope="module")
def results_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one result of ``uci``, made by the smoke preset."""
    folder = tmp_path_factory.mktemp("results")
    assert main(["uci", "--preset", "smoke", "--out", str(folder)]) == 0
    path = folder / "uci-embedded-smoke-cpu.json"
    document = read_result(path) | {"preset": "cpu"}
    (folder / "uci-embedded-cpu-cpu.json").write_text(json.dumps(document))
    return folder


def test_make_report_without_results_says_not_run() -> None:
    text = make_report({}, BENCHMARKS)
    n_claims = sum(len(command.claims) for command in BENCHMARKS)
    assert text.count("| not run ") == 2 * (len(BENCHMARKS) + n_claims)
    assert text.count("Not run.") == len(BENCHMARKS)


def test_make_report_begins_with_the_verdict(results_dir: Path) -> None:
    documents = read_documents(results_dir)
    text = make_report(documents, BENCHMARKS)
    (line,) = [line for line in text.splitlines() if line.startswith("|") and "four of six tables" in line]
    # Of the embedded tables the paper has Iris alone.
    summary = documents["uci-embedded-cpu-cpu"]["summary"]
    (iris,) = [row for row in summary if (row["dataset"], row["protocol"]) == ("iris", "paper")]
    is_lower, is_higher = iris["error_diff_high"] < 0, iris["error_diff_low"] > 0
    verdict = "reproduced" if is_lower else "opposite" if is_higher else "not reproduced"
    cells = [cell.strip() for cell in line.split("|")]
    assert cells[2:4] == [
        verdict,
        f"{iris['erm_error']:.1f} → {iris['mixup_error']:.1f} %{' †' * (is_lower or is_higher)}",
    ]
    assert text.index("| the paper says") < text.index("## All experiments") < text.index("## toy")


def test_make_report_shows_protocol_before_numbers(results_dir: Path) -> None:
    text = make_report(read_documents(results_dir), BENCHMARKS)
    section = text[text.index("### uci-embedded-cpu-cpu") :]
    assert section.index("<details>") < section.index("Protocol *paper*") < section.index("| protocol")
    assert section.index("| protocol") < section.index("</details>")
    assert "](results/uci-embedded-cpu-cpu.png)" in section
    assert "[uci-embedded-cpu-cpu](results/uci-embedded-cpu-cpu.json)" in text


def test_make_report_leaves_smoke_runs_out(results_dir: Path) -> None:
    assert "uci-embedded-smoke-cpu" not in make_report(read_documents(results_dir), BENCHMARKS)


@pytest.mark.parametrize("content", ["{", "", "[]", "1", "{}", '{"command": "uci", "summary": []}'])
def test_read_documents_names_a_damaged_result(tmp_path: Path, content: str) -> None:
    (tmp_path / "bad.json").write_text(content)
    with pytest.raises(UserError, match=r"bad\.json' must be a result in JSON"):
        read_documents(tmp_path)


@pytest.mark.parametrize("options", [[], ["--check"]])
def test_report_of_no_folder_writes_nothing(
    tmp_path: Path, options: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "README.md").write_text("as it is")
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        given = ["--results", str(tmp_path / name), "--readme", str(tmp_path / "README.md")]
        assert main(["report", *given, *options]) == 2
        assert f"--results must be a folder of results; got '{tmp_path / name}'" in capsys.readouterr().err
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        "README.md": "as it is",
        "file": "",
    }


def test_results_of_other_numerics_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "EARLIER", {"old": "not run again yet", "new": "mended", "gone": "lost"})
    numerics = {"old": 0, "new": NUMERICS, "other": NUMERICS + 1}
    documents = {stem: {"numerics": number} for stem, number in numerics.items()}
    problems = find_outdated(documents)
    assert problems[0] == f"other has numerics {NUMERICS + 1}, the code has {NUMERICS}. Record it anew."
    assert [text.split()[0] for text in problems[1:]] == ["new", "gone"]


def test_record_names_commit_numerics_and_machine(results_dir: Path) -> None:
    text = make_record(read_documents(results_dir))
    (row,) = [line for line in text.splitlines() if "uci-embedded-cpu-cpu" in line]
    assert f"| {NUMERICS} " in row
    assert "not kept" in row
    assert "torch 2" in row


def test_report_draws_every_figure(results_dir: Path, tmp_path: Path) -> None:
    (results_dir / "uci-embedded-cpu-cpu.png").unlink(missing_ok=True)
    assert main(["report", "--results", str(results_dir), "--readme", str(tmp_path / "README.md")]) == 0
    for stem in ("uci-embedded-cpu-cpu", "verdict"):
        assert (results_dir / f"{stem}.png").read_bytes().startswith(b"\x89PNG")
        assert b"<svg" in (results_dir / f"{stem}.svg").read_bytes()[:1000]


def test_report_check_fails_until_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(report, "EARLIER", {})
    options = ["--results", str(tmp_path), "--readme", str(tmp_path / "README.md")]
    assert main(["report", "--check", *options]) == 1
    assert "is stale. Run python -m benchmarks report" in capsys.readouterr().err
    assert main(["report", *options]) == 0
    assert main(["report", "--check", *options]) == 0
    (tmp_path / "README.md").write_text("edited")
    assert main(["report", "--check", *options]) == 1


@pytest.mark.parametrize("damage", ["edited", ""])
def test_report_writes_and_checks_the_tables_of_summaries(
    results_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: str
) -> None:
    monkeypatch.setattr(report, "EARLIER", {})
    options = ["--results", str(results_dir), "--readme", str(tmp_path / "README.md")]
    path = results_dir / "uci-embedded-cpu-cpu.csv"
    written = (results_dir / "uci-embedded-smoke-cpu.csv").read_text("utf-8")  # by the run itself
    path.write_text(damage)
    assert main(["report", *options]) == main(["report", "--check", *options]) == 0
    assert path.read_text("utf-8") == written
    path.write_text(damage)
    assert main(["report", "--check", *options]) == 1


def test_committed_report_is_what_the_results_say() -> None:
    assert report.run(report.Config(check=True), BENCHMARKS) == 0
