from dataclasses import replace
import json
from pathlib import Path
import subprocess

import pytest

from benchmarks.cli import main
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, open_journal, refuse_less
from benchmarks.harness.figures import make_figure
from benchmarks.harness.recording import check_recording
from benchmarks.harness.runner import run_tasks


def run(config: BaseConfig) -> int:
    journal = open_journal("tiny", config)
    tasks = {str(number): ({"value": number},) for number in range(2)}
    if config.minutes == 0:  # the time is up after the first
        run_tasks(dict, {"0": tasks["0"]}, journal, n_jobs=1, label="tiny")
    records = run_tasks(dict, tasks, journal, n_jobs=1, label="tiny", until=config.end)
    return conclude(
        TINY,
        config,
        "tiny",
        journal,
        records,
        protocol="none",
        summarise=list,
    )


CONFIG = BaseConfig(n_jobs=1)
TINY = Command(
    "tiny",
    "none",
    "none",
    {"cpu": CONFIG},
    run,
    lambda document: {"": [{"value": "1"}]},
    draw=lambda _: make_figure(1),
)


def call_git(folder: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    subprocess.run(["git", "-C", folder, *identity, *arguments], check=True, capture_output=True)


@pytest.fixture
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A git checkout without changes, which is the current folder."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / ".gitignore").write_text("build/\n")
    call_git(folder, "init")
    call_git(folder, "add", ".")
    call_git(folder, "commit", "-m", "first")
    monkeypatch.chdir(folder)
    return folder


def test_record_writes_results_to_the_tree_and_nothing_else(checkout: Path) -> None:
    assert main(["tiny", "--record"], benchmarks=[TINY], root=checkout) == 0
    status = subprocess.run(
        ["git", "-C", checkout, "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True
    )
    names = {f"benchmarks/results/tiny.{suffix}" for suffix in ("json", "csv", "png", "svg")}
    assert {line[3:] for line in status.stdout.splitlines()} == names
    document = json.loads((checkout / "benchmarks" / "results" / "tiny.json").read_text())
    assert not {"record", "work", "out"} & set(document["config"])


def test_record_refuses_what_is_not_committed(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (checkout / "new.py").write_text("")
    assert main(["tiny", "--record"], benchmarks=[TINY], root=checkout) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "got new.py. Commit or stash them." in line
    assert not (checkout / "benchmarks").exists()


def test_record_names_some_changes_and_counts_the_others(checkout: Path) -> None:
    for number in range(7):
        (checkout / f"{number}.py").write_text("")
    with pytest.raises(UserError, match=r"got 0\.py, 1\.py, 2\.py, 3\.py, 4\.py and 2 more\. Commit"):
        check_recording(CONFIG, CONFIG, checkout)


@pytest.mark.parametrize("inside", [False, True], ids=["no checkout", "a folder of one"])
def test_record_needs_a_checkout(checkout: Path, tmp_path: Path, inside: bool) -> None:
    folder = (checkout / "build" if inside else tmp_path) / "code"
    folder.mkdir(parents=True)
    with pytest.raises(UserError, match=r"--record must be run from a git checkout .* is not a checkout"):
        check_recording(CONFIG, CONFIG, folder)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_seeds": 3}, r"values of the preset cpu; got --seeds 3 \(preset: None\)"),
        ({"device": "meta"}, r"got --device 'meta' \(preset: 'cpu'\)"),
        ({"out": Path("elsewhere")}, "--record must be used without --out; got --out elsewhere"),
        ({"preset": "smoke"}, "--record must be used with a preset whose figures count; got smoke"),
    ],
)
def test_record_refuses_another_run_than_the_preset(
    checkout: Path, options: dict[str, object], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        check_recording(replace(CONFIG, **options), CONFIG, checkout)


@pytest.mark.parametrize("options", [{"n_jobs": 2}, {"data_dir": Path("data")}, {"download": True}])
def test_record_minds_no_option_that_changes_no_figure(checkout: Path, options: dict[str, object]) -> None:
    check_recording(replace(CONFIG, **options), CONFIG, checkout)


def test_a_recorded_run_goes_on_in_another_clone(
    checkout: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["tiny", "--record", "--minutes", "0"], benchmarks=[TINY], root=checkout) == 0
    assert "1 of 2 are done; the same command goes on. Commit '" in capsys.readouterr().out
    (shared,) = (checkout / "benchmarks" / "results").rglob("*.*")
    assert shared.parent.name == "unfinished"
    call_git(checkout, "add", ".")
    call_git(checkout, "commit", "-m", "a part")
    clone = tmp_path / "clone"
    call_git(tmp_path, "clone", str(checkout), str(clone))
    monkeypatch.chdir(clone)
    done: list[int] = []

    def count(record: dict[str, int]) -> dict[str, int]:
        done.append(record["value"])
        return record

    monkeypatch.setattr("tests.benchmarks.harness.test_recording.dict", count, raising=False)
    assert main(["tiny", "--record"], benchmarks=[TINY], root=clone) == 0
    assert done == [1]
    results = clone / "benchmarks" / "results"
    assert not list((results / "unfinished").iterdir())
    assert json.loads((results / "tiny.json").read_text())["records"]["rows"] == [[0], [1]]


def test_a_recorded_run_takes_nothing_from_one_that_was_not(
    checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []

    def count(record: dict[str, int]) -> dict[str, int]:
        made.append(record["value"])
        return record

    monkeypatch.setattr("tests.benchmarks.harness.test_recording.dict", count, raising=False)
    assert main(["tiny"], benchmarks=[TINY], root=checkout) == 0
    assert main(["tiny", "--record"], benchmarks=[TINY], root=checkout) == 0
    assert made == [0, 1] * 2


def test_record_keeps_what_the_result_has_that_it_replaces(checkout: Path) -> None:
    config = replace(CONFIG, record=True, out=checkout / "benchmarks" / "results")
    refuse_less("tiny", config, value=[])  # there is none yet
    assert main(["tiny", "--record"], benchmarks=[TINY], root=checkout) == 0
    refuse_less("tiny", config, value=[2, 1, 0])
    refuse_less("tiny", replace(config, record=False), value=[])
    with pytest.raises(UserError, match=r"--record must keep each value .* got none for 1\. Supply"):
        refuse_less("tiny", config, value=[0])
    with pytest.raises(UserError, match=r"got none for 0, 1\."):
        refuse_less("tiny", config, value=[])


def test_a_part_without_a_record_leaves_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["uci", "--preset", "smoke", "--minutes", "0", "--out", str(tmp_path / "a")]) == 0
    assert "0 of " in capsys.readouterr().out
    assert not (tmp_path / "a").exists()


def test_record_goes_on_from_what_such_a_run_has_left(checkout: Path) -> None:
    folder = checkout / "benchmarks" / "results" / "unfinished"
    folder.mkdir(parents=True)
    (folder / "tiny.jsonl").write_text("{}\n")
    check_recording(CONFIG, CONFIG, checkout)
    (folder.parent / "tiny.json").write_text("{}\n")
    with pytest.raises(UserError, match=r"got benchmarks/results/tiny\.json\. Commit"):
        check_recording(CONFIG, CONFIG, checkout)
