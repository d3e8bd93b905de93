from collections.abc import Callable
from dataclasses import replace
import json
from pathlib import Path
import sys
import tarfile
from typing import Any

import pytest

from benchmarks.gpu.campaign import Step, launch, list_pending, pack, run_steps
from benchmarks.gpu.run import PRESETS, STEPS, find_folder, list_records
from benchmarks.gpu.steps import RUNNERS, Setting, read_partial, run_step
from benchmarks.harness.journal import Journal

QUICK, LONG, TRAINING = Step("quick", 60), Step("long", 100), Step("training", 9000, goes_on=True)
STEPS_OF_TESTS = (QUICK, LONG, TRAINING)


class Machine:
    """A clock, and processes that take some seconds of it; those named fail, or lack a package."""

    def __init__(self, seconds: dict[str, float], **statuses: str) -> None:
        self.now = 1000.0
        self.seconds = seconds
        self.statuses = statuses
        self.begun: list[str] = []

    def read_clock(self) -> float:
        return self.now

    def launch(self, step: Step, seconds: float) -> dict[str, Any]:
        self.begun.append(step.name)
        takes = self.seconds[step.name]
        self.now += min(takes, seconds)
        return {"status": "timed out" if takes > seconds else self.statuses.get(step.name, "done")}


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    path = tmp_path / "steps.jsonl"
    return Journal(path, kept=path)


def run(journal: Journal, machine: Machine, minutes: float | None = None, **options: Any) -> dict[str, str]:
    pending = list_pending(STEPS_OF_TESTS, journal, options.pop("only", ()))
    outcomes = run_steps(
        pending, journal, machine.launch, minutes=minutes, clock=machine.read_clock, **options
    )
    return {name: outcome["status"] for name, outcome in outcomes.items()}


def test_steps_run_in_their_order_and_what_has_ended_is_not_run_again(journal: Journal) -> None:
    machine = Machine({"quick": 5, "long": 50, "training": 500}, long="failed")
    assert run(journal, machine) == {"quick": "done", "long": "failed", "training": "done"}
    assert machine.begun == ["quick", "long", "training"]
    assert {name: record["seconds"] for name, record in journal.read().items()} == machine.seconds
    assert run(journal, machine) == {}
    assert run(journal, machine, only=("long",)) == {"long": "failed"}


def test_no_step_is_begun_when_the_minutes_have_passed(journal: Journal) -> None:
    machine = Machine({"quick": 59, "long": 50, "training": 500})
    assert run(journal, machine, minutes=1) == {"quick": "done"}
    assert run(journal, machine, minutes=1) == {"long": "done"}


def test_training_that_is_cut_off_goes_on_in_the_next_part(journal: Journal) -> None:
    machine = Machine({"quick": 5, "long": 5, "training": 500})
    assert run(journal, machine, minutes=2)["training"] == "put off"
    assert list(journal.read()) == ["quick", "long"]
    assert run(journal, machine, minutes=2) == {"training": "put off"}
    assert run(journal, machine) == {"training": "done"}


@pytest.mark.parametrize(("before", "status"), [(30, "put off"), (0, "timed out")])
def test_step_is_too_slow_only_if_a_part_of_its_own_does_not_suffice(
    journal: Journal, before: float, status: str
) -> None:
    machine = Machine({"quick": before, "long": 90, "training": 5})
    if not before:
        journal.append("quick", {"status": "done"})
    assert run(journal, machine, minutes=1)["long"] == status
    assert ("long" in journal.read()) == (status == "timed out")


def test_step_that_outlasts_its_own_limit_is_kept_as_such(journal: Journal) -> None:
    machine = Machine({"quick": 61, "long": 5, "training": 9001})
    assert run(journal, machine) == {"quick": "timed out", "long": "done", "training": "timed out"}
    assert run(journal, machine) == {}


def test_skipped_step_is_tried_again_and_gives_its_time_to_the_next(journal: Journal) -> None:
    machine = Machine({"quick": 0, "long": 90, "training": 5}, quick="skipped")
    assert run(journal, machine, minutes=1) == {"quick": "skipped", "long": "timed out"}
    assert list_pending(STEPS_OF_TESTS, journal, ()) == [QUICK, TRAINING]


def test_results_are_packed_after_each_step(journal: Journal) -> None:
    seen: list[int] = []
    machine = Machine({"quick": 1, "long": 1, "training": 1})
    run(journal, machine, pack=lambda: seen.append(len(journal.read())))
    assert seen == [1, 2, 3]


def test_pack_leaves_checkpoints_out_and_replaces_itself(tmp_path: Path) -> None:
    folder = tmp_path / "campaign"
    (folder / "networks").mkdir(parents=True)
    for name in ("step.log", "networks/one.pt", "networks/one.json", ".half"):
        (folder / name).write_text(name)
    assert pack(folder) == pack(folder)
    with tarfile.open(folder / "campaign.tar.gz") as archive:
        assert archive.getnames() == ["campaign/networks/one.json", "campaign/step.log"]
    assert not list(folder.glob(".campaign*"))


# -- processes -----------------------------------------------------------------------------------


def start(folder: Path, code: str, seconds: float = 60) -> dict[str, Any]:
    return launch(QUICK, seconds, folder=folder, command=[sys.executable, "-c", code])


def test_process_leaves_what_came_of_it_and_a_log(tmp_path: Path) -> None:
    path = tmp_path / "quick.json"
    code = f"print('said'); open({str(path)!r}, 'w').write('{{\"status\": \"done\"}}')"
    assert start(tmp_path, code) == {"status": "done"}
    assert (tmp_path / "quick.log").read_text() == "said\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise KeyError('lost')", "exit status 1: KeyError: 'lost'"),
        ("import os; os._exit(7)", "exit status 7: nothing was printed"),
    ],
)
def test_process_that_leaves_nothing_has_failed(tmp_path: Path, code: str, reason: str) -> None:
    (tmp_path / "quick.json").write_text('{"status": "done"}')  # of an earlier run
    assert start(tmp_path, code) == {"status": "failed", "reason": reason}


def test_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
    outcome = start(tmp_path, "import threading; threading.Event().wait()", seconds=0.2)
    assert outcome["status"] == "timed out"


# -- steps ---------------------------------------------------------------------------------------


def make_setting(folder: Path, device: str = "cpu") -> Setting:
    return Setting(device=device, n_rounds=2, folder=str(folder), data_dir=None, download=False)


def test_every_step_has_a_runner() -> None:
    assert [step.name for step in STEPS] == list(RUNNERS)


@pytest.mark.parametrize("name", ["speed", "search", "corrupted", "speech"])
def test_rehearsal_reads_what_is_typed(tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str) -> None:
    run_step(name, make_setting(tmp_path))
    assert json.loads((tmp_path / f"{name}.json").read_text()) == {"status": "done", "records": []}
    typed = capsys.readouterr().out
    assert "preset='gpu'" in typed
    assert "device='cpu'" in typed


def lack_package(_: Setting) -> list[dict[str, Any]]:
    raise ModuleNotFoundError("No module named 'pandas'", name="pandas.core")


@pytest.mark.parametrize(
    ("name", "runner", "reason"),
    [
        ("gan", lack_package, "needs the package pandas.core"),
        ("cifar", RUNNERS["cifar"], "needs --data-dir or --download"),
    ],
)
def test_step_that_lacks_something_names_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, runner: Callable[..., Any], reason: str
) -> None:
    monkeypatch.setitem(RUNNERS, name, runner)  # type: ignore[arg-type]
    run_step(name, make_setting(tmp_path, "cuda"))
    assert json.loads((tmp_path / f"{name}.json").read_text()) == {"status": "skipped", "reason": reason}


def test_module_of_our_own_that_is_missing_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def import_lost(_: Setting) -> None:
        raise ModuleNotFoundError("No module named 'benchmarks.lost'", name="benchmarks.lost")

    monkeypatch.setitem(RUNNERS, "gan", import_lost)  # type: ignore[arg-type]
    with pytest.raises(ModuleNotFoundError, match="No module named"):
        run_step("gan", make_setting(tmp_path))
    assert not (tmp_path / "gan.json").exists()


def test_runs_that_have_ended_count_before_a_training_has(tmp_path: Path) -> None:
    run_of_mixup = {"part": "run", "method": "mixup", "weight_decay": 1e-4, "repeat": 0}
    unfinished = Journal(tmp_path / "cifar-gpu-cuda.0a.3.partial.jsonl")
    unfinished.append("a", run_of_mixup | {"error": 4.25, "seconds": 540.0})
    found = {record["contender"]: record["value"] for record in read_partial(make_setting(tmp_path), "cifar")}
    assert found == {"error": 4.25, "minutes": 9.0}
    rows = list_records({"cifar": {"status": "put off", "seconds": 60.0}}, make_setting(tmp_path))
    assert {row["case"]: row["contender"] for row in rows if row["part"] == "steps"} == {
        step.name: "put off" if step.name == "cifar" else "not begun" for step in STEPS
    }
    assert [row["value"] for row in rows if row["part"] == "cifar"] == [4.25, 9.0]


def test_the_last_part_records_what_earlier_ones_have_done() -> None:
    part = replace(PRESETS["gpu"], minutes=9.0)
    assert find_folder("gpu", replace(part, minutes=None, record=True)) == find_folder("gpu", part)
