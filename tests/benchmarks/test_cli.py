from collections.abc import Iterator
from dataclasses import replace
import io
import os
from pathlib import Path
import subprocess
import sys

import pytest

import benchmarks
from benchmarks import __main__ as entry
from benchmarks import cli
from benchmarks.cli import main
from benchmarks.harness.command import RESULTS_DIR, Command
from benchmarks.harness.results import read_result
from benchmarks.harness.time_ratios import NOT_RUN
from benchmarks.registry import find_benchmarks
import sk_mixup

ROOT = Path(__file__).parents[2]
EXAMPLE = Path(__file__).parent / "example_benchmark.py"
NAMES = [command.name for command in find_benchmarks()]


@pytest.fixture
def example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Command]:
    """A benchmark that a folder outside the tree adds; the current folder is an empty one."""
    folder = tmp_path / "outside" / "iris_error"
    folder.mkdir(parents=True)
    (folder / "run.py").write_text(EXAMPLE.read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setattr(benchmarks, "__path__", [*benchmarks.__path__, str(folder.parent)])
    current = tmp_path / "current"
    current.mkdir()
    monkeypatch.chdir(current)
    yield next(command for command in find_benchmarks() if command.name == "iris-error")
    for name in [name for name in sys.modules if name.startswith("benchmarks.iris_error")]:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_smoke_preset_writes_small_results_and_nothing_else(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--preset", "smoke", "--out", str(tmp_path)]) == 0
    text = "".join(capsys.readouterr().out.split())  # lines are wrapped in print
    csv, result, png, svg = sorted(tmp_path.glob("*.*"))
    assert result.stem in (f"{name}-smoke-cpu", f"{name}-embedded-smoke-cpu")
    assert [path.name for path in (csv, png, svg)] == [
        f"{result.stem}.{end}" for end in ("csv", "png", "svg")
    ]
    assert max(path.stat().st_size for path in (csv, result, png, svg)) < 500_000
    document = read_result(result)
    assert document["preset"] == "smoke"
    assert all(path.name in text for path in (csv, result, png, svg))
    # Each ratio that a CPU can measure has been measured.
    missing = [row["label"] for row in document["summary"] if row.get("met") == NOT_RUN]
    assert all(label.startswith("GPU: ") for label in missing)


def test_smoke_runs_every_benchmark(example: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["smoke"], benchmarks=[example, replace(example, name="again")]) == 0
    assert [path.stem for path in Path("build/smoke").glob("*.json")] == ["iris-error-embedded-smoke-cpu"]
    assert "\nagain\n" in capsys.readouterr().out


def test_example_benchmark_is_short() -> None:
    assert len(EXAMPLE.read_text(encoding="utf-8").splitlines()) < 60


def test_a_folder_adds_a_benchmark(example: Command, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    assert f"| {example.name} " in capsys.readouterr().out
    assert main([example.name, "--preset", "smoke"]) == 0
    document = read_result(Path("build/results/iris-error-embedded-smoke-cpu.json"))
    assert len(document["records"]["rows"]) == 2 * 2
    assert [row["method"] for row in document["summary"]] == ["ERM", "mixup"]


def test_a_trial_run_leaves_the_recorded_results_alone(example: Command) -> None:
    before = {path: path.stat().st_mtime_ns for path in RESULTS_DIR.iterdir()}
    assert main([example.name, "--preset", "smoke", "--max-epochs", "1"]) == 0
    assert {path: path.stat().st_mtime_ns for path in RESULTS_DIR.iterdir()} == before
    assert {path.name for path in Path().iterdir()} == {"build"}


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_main_lists_every_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "--preset paper|gpu|cpu|smoke" in text
    for command in find_benchmarks():
        assert f"| {command.name} " in text
        assert command.paper in text
        assert command.times.get("cpu", "") in text


def test_main_prints_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"sk_mixup {sk_mixup.__version__}\n"


@pytest.mark.parametrize("command", find_benchmarks(), ids=lambda command: command.name)
def test_help_says_how_long_a_preset_takes(command: Command, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command.name, "--help"])
    text = " ".join(capsys.readouterr().out.split())
    for preset in command.presets:
        assert f"{preset}: {command.times.get(preset, 'not timed')}" in text
    assert "A stopped run goes on" in text
    assert command.more_seeds in text


@pytest.mark.slow
def test_module_runs_from_the_shell() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "benchmarks", "ucl"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 2
    expected = (
        f"the benchmark must be one of {', '.join(NAMES)}, report, smoke; got 'ucl'. Did you mean 'uci'?"
    )
    assert expected in run.stderr
    assert "Traceback" not in run.stderr


def test_entry_names_the_extra_that_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "benchmarks.cli")
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert entry.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "package tyro" in line
    assert "pip install '.[benchmarks]'" in line


def test_entry_names_a_package_that_an_experiment_misses_late(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def draw(_: object) -> int:
        raise ModuleNotFoundError(name="matplotlib")

    monkeypatch.setattr(cli, "main", draw)
    assert entry.main() == 2
    assert "package matplotlib must be installed" in capsys.readouterr().err


def test_entry_names_what_the_system_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "toy", "--preset", "smoke", "--out", 300 * "a"])
    assert entry.main() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "File name too long" in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("device", ["meta", "warp", "privateuseone", "cpu:x", ""])
@pytest.mark.parametrize("name", NAMES)
def test_device_that_cannot_compute_is_refused(
    name: str, device: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--device", device]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert f"--device must be one that torch finds here; got {device!r} (" in told


def test_entry_shows_any_characters(monkeypatch: pytest.MonkeyPatch) -> None:
    shown = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(shown, encoding="ascii"))
    monkeypatch.setattr(cli, "main", lambda _: print("35.0 → 33.9 %"))
    entry.main()
    assert shown.getvalue() == b"35.0 ? 33.9 %\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["uci", "--preset", "cup"], "--preset must be one of cpu, paper, gpu, smoke; got 'cup'"),
        (["uci", "--preset=cup"], "Did you mean 'cpu'"),
        (["uci", "--data-dir", "no/such/folder"], "--data-dir must be a folder"),
        (["uci", "--datasets", "abalone"], "--datasets must be one of iris, wine"),
        (["uci", "--seeds", "1"], "--seeds must be at least 2; got 1."),
        (["uci", "--out", __file__], f"--out must be a folder to write to; got '{__file__}'"),
        (["smoke", "--out", __file__], f"--out must be a folder to write to; got '{__file__}'"),
        (["toy", "--data-dir", "."], "--data-dir must be left out for this run of toy"),
        (["semi", "--data-dir", "."], "--data-dir must be left out for this run of semi"),
        (["cifar", "--preset", "smoke", "--download"], "--download must be left out for this run of cifar"),
        (["report", "--preset", "cpu"], "--preset must be left out for 'report'"),
    ],
)
def test_main_explains_a_wrong_value_in_one_line(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m benchmarks: error: ")
    assert message in line


@pytest.mark.parametrize(
    ("args", "message"), [(["uci", "--seeds", "many"], "many"), (["uci", "--sede", "3"], "--sede")]
)
def test_main_leaves_the_parser_to_explain(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    assert message in capsys.readouterr().err


def test_main_refuses_a_folder_that_cannot_be_written_to(
    example: Command, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("build").write_text("not a folder")
    assert main([example.name, "--preset", "smoke"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("/build' is not a folder.")


def test_main_says_how_to_go_on_when_interrupted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(_: object) -> int:
        raise KeyboardInterrupt

    (uci,) = (command for command in find_benchmarks() if command.name == "uci")
    stopped = Command(uci.name, uci.paper, uci.claim, uci.presets, interrupt)
    assert main(["uci", "--preset", "smoke", "--out", str(tmp_path)], benchmarks=[stopped]) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize("command", find_benchmarks(), ids=lambda command: command.name)
def test_every_benchmark_has_known_presets(command: Command) -> None:
    assert {"cpu", "smoke"} <= set(command.presets) <= {"paper", "gpu", "cpu", "smoke"}
    assert set(command.times) <= set(command.presets)


@pytest.mark.slow  # starts a process
def test_reader_that_stops_reading_gets_no_traceback() -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        run = subprocess.run(
            [sys.executable, "-m", "benchmarks", "toy", "--help"], stdout=write, stderr=subprocess.PIPE
        )
    finally:
        os.close(write)
    assert run.returncode == 1
    assert run.stderr == b""
