import json
from pathlib import Path
import subprocess
import sys

import pytest

from benchmarks.cli import COMMANDS, main
from benchmarks.registry import BENCHMARKS
from benchmarks.uci import run as uci

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("args", [[], ["--help"], ["-h"]])
def test_main_lists_every_command(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 0
    text = capsys.readouterr().out
    assert "--preset paper|gpu|cpu|smoke" in text
    for command in COMMANDS.values():
        assert f"| {command.name} " in text
        assert command.paper in text


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
    assert (
        "the benchmark must be one of toy, between, corrupted-tables, cifar, corrupted, adversarial, "
        "imagenet, speech, uci, gan, ablation, regression, defaults, speed, search, semi, report; got 'ucl'. "
        "Did you mean 'uci'?" in run.stderr
    )
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["uci", "--preset", "cup"], "--preset must be one of cpu, paper, gpu, smoke; got 'cup'"),
        (["uci", "--preset=cup"], "Did you mean 'cpu'"),
        (["uci", "--data-dir", "no/such/folder"], "--data-dir must be a folder"),
        (["uci", "--device", "warp"], "--device must be one that torch finds here; got 'warp'"),
        (["uci", "--datasets", "abalone"], "--datasets must be one of iris, wine"),
        (["report", "--preset", "cpu"], "--preset must be left out for 'report'"),
    ],
)
def test_main_explains_a_wrong_value(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["uci", "--seeds", "1"], "--seeds must be at least 2; got 1"),
        (["uci", "--seeds", "many"], "many"),
        (["uci", "--sede", "3"], "--sede"),
    ],
)
def test_main_leaves_the_parser_to_explain(
    args: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as raised:
        main(args)
    assert raised.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", [command.name for command in BENCHMARKS])
def test_smoke_preset_writes_small_results(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, "--preset", "smoke", "--out", str(tmp_path)]) == 0
    (stem,) = {path.stem for path in tmp_path.iterdir()}
    assert stem in (f"{name}-smoke-cpu", f"{name}-embedded-smoke-cpu")
    files = {path.name: path.stat().st_size for path in tmp_path.iterdir()}
    assert set(files) == {f"{stem}.{suffix}" for suffix in ("json", "csv", "png")}
    assert max(files.values()) < 300_000
    text = capsys.readouterr().out
    assert str(tmp_path / f"{stem}.png") in text
    document = json.loads((tmp_path / f"{stem}.json").read_text())
    assert document["preset"] == "smoke"
    assert " ".join(text.split()).endswith(document["finding"])


def test_main_says_how_to_go_on_when_interrupted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(uci, "compare", interrupt)
    assert main(["uci", "--preset", "smoke", "--out", str(tmp_path)]) == 130
    assert "The same command goes on from here" in capsys.readouterr().err


@pytest.mark.parametrize("command", BENCHMARKS, ids=lambda command: command.name)
def test_every_benchmark_has_every_preset(command: object) -> None:
    assert set(command.presets) == {"paper", "gpu", "cpu", "smoke"}  # type: ignore[attr-defined]
