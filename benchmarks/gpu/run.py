"""Claim: what was built for a GPU is right and fast there; seen by one command.

Not in the paper, which trains its networks on GPUs.

    python -m benchmarks gpu --data-dir DIR                all of it, on the first CUDA device
    python -m benchmarks gpu --data-dir DIR --minutes 9    a part of it; the same command goes on
    python -m benchmarks gpu --device cpu                  a rehearsal at tiny size, without a GPU

``make gpu`` is the same, with DEVICE and MINUTES. Each step is a process of its own with a time limit, a log
and a JSON; a step whose packages or data are missing is named and skipped. Trainings at full size are those
of the commands ``cifar``, ``corrupted`` and ``speech``, whose checkpoints carry over from part to part.
After each step all but the checkpoints is packed into one file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
import json
from pathlib import Path
import sys
from typing import Annotated, Any

from benchmarks.gpu.campaign import DONE, Step, launch, list_pending, pack, run_steps
from benchmarks.gpu.steps import FULL_PRESETS, Setting, read_partial
from benchmarks.gpu.targets import describe_targets, draw, summarise, tabulate
from benchmarks.harness.command import BaseConfig, Command, UserError
from benchmarks.harness.experiment import conclude, make_stem, name_run
from benchmarks.harness.journal import Journal
from benchmarks.harness.paired_differences import fill_columns
from benchmarks.harness.results import format_table, write_bytes
from benchmarks.harness.rules import Known, Within

__all__ = ["COMMAND", "STEPS", "Config", "run"]

HOUR = 3600
# In order of value.
STEPS = (
    Step("facts", 120),
    Step("tests", 240),
    Step("checks", 400),
    Step("step", 150),
    Step("speed", 300),
    Step("mixing", 100),
    Step("search", 500),
    Step("stack", 300),
    Step("predict", 120),
    Step("gan", 300),
    Step("images", 400),
    Step("cifar", 6 * HOUR, goes_on=True),
    Step("corrupted", 6 * HOUR, goes_on=True),
    Step("speech", 6 * HOUR, goes_on=True),
)
SUFFIXES = (".json", ".csv", ".png", ".svg")


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    """Options of the campaign."""

    device: str = "cuda"
    """Torch device of the nets; cpu rehearses every step at tiny size."""

    minutes: Annotated[float | None, Within(0.1)] = None
    """End after so many minutes, and go on with the same command; None ends after the last step."""

    only: Annotated[tuple[str, ...], Known([step.name for step in STEPS])] = ()
    """Steps to run, also if they have ended; none named: all that have not."""

    def __post_init__(self) -> None:
        """Check every option."""
        super().__post_init__()
        if self.record and not self.device.startswith("cuda"):
            raise UserError(
                f"--record must be used with a CUDA device; got --device {self.device}. Remove one of them."
            )

    def make_setting(self, folder: Path) -> Setting:
        """Return what a step must know."""
        return Setting(
            device=self.device,
            n_rounds=self.n_seeds or 5,
            folder=str(folder.resolve()),
            data_dir=None if self.data_dir is None else str(self.data_dir.resolve()),
            download=self.download,
        )


PRESETS = {
    "gpu": Config(),
    "cpu": Config(device="cpu"),
    # Without the steps of which a rehearsal reads what is typed, and no more.
    "smoke": Config(
        device="cpu",
        n_seeds=2,
        only=("facts", "checks", "step", "mixing", "stack", "predict", "gan", "images", "cifar"),
    ),
}


def run(config: Config) -> int:
    """Run what is left of the campaign, print the table of targets, and write the results."""
    stem = make_stem("gpu", config, embedded=False)
    folder = find_folder(stem, config)
    path, setting = folder / "steps.jsonl", config.make_setting(folder)
    journal = Journal(path, kept=path)
    outcomes = run_steps(
        list_pending(STEPS, journal, config.only),
        journal,
        partial(_launch, folder=folder, setting=setting),
        minutes=config.minutes,
        pack=partial(pack, folder),
    )
    records = list_records(outcomes | journal.read(), setting)
    if config.record:
        record_results(folder, config.out)
    status = conclude(
        COMMAND,
        config,
        stem,
        journal,
        records,
        protocol=describe_protocol(config),
        summarise=summarise,
    )
    print(f"Logs: {folder}\nPacked: {pack(folder)}")
    return status


def find_folder(stem: str, config: Config) -> Path:
    """Return the folder of a campaign, whose last part alone is asked to record."""
    place = name_run(stem, replace(config, record=False))
    return place.parent / "campaign" / place.name


def _launch(step: Step, seconds: float, *, folder: Path, setting: Setting) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.gpu.steps", step.name, json.dumps(vars(setting))]
    return launch(step, seconds, folder=folder, command=command)


def list_records(outcomes: Mapping[str, Mapping[str, Any]], setting: Setting) -> list[dict[str, Any]]:
    """Return a record for each step, and then what the steps measured, as far as they have come."""
    rows: list[dict[str, Any]] = []
    measured: list[dict[str, Any]] = []
    for step in STEPS:
        outcome = outcomes.get(step.name, {})
        row = {
            "part": "steps",
            "case": step.name,
            "contender": outcome.get("status", "not begun"),
            "round": 0,
        }
        rows.append(
            row | {"value": outcome.get("seconds", 0), "unit": "s", "reason": outcome.get("reason", "")}
        )
        measured += outcome.get("records", [])
        if step.name == "cifar" and outcome.get("status") != DONE:
            measured += read_partial(setting, step.name)
    return fill_columns([*rows, *measured])


def record_results(folder: Path, out: Path) -> None:
    """Copy the results of the benchmarks that ran by their own preset on a GPU."""
    for name in FULL_PRESETS:
        for path in folder.glob(f"{name}-gpu-cuda.*"):
            if path.suffix in SUFFIXES:
                write_bytes(out / path.name, path.read_bytes())


def describe_protocol(config: Config) -> str:
    """Return what was done, in words, to stand before the numbers."""
    size = "" if config.device.startswith("cuda") else " A rehearsal at tiny size: its figures mean nothing."
    return (
        f"Each step in a process of its own on {config.device}, one after the other.{size} Times are taken "
        f"in turns, {config.n_seeds or 5} rounds after a warm-up, until the device has ended its work; a "
        "ratio is taken round by round, its median and quartiles are shown. Step: hidden layers of 128 and "
        "128, 54 features, batches of 32, Adam; the longer fit less the shorter one. Nets as one: "
        "fit_stacked, beside four of the nets one after another. Mixing: bytes that must be moved over the "
        "time. Throughput and GAN: as the commands cifar and gan time them. Prediction: predict_proba of an "
        "array on the host. Checks: several cases each, in a process of its own; the tests are those marked "
        "gpu. Errors and minutes of CIFAR-10 are medians over seeds."
    )


def _write_note(rows: Sequence[Mapping[str, str]]) -> str:
    return (
        "`make gpu` (or `python -m benchmarks gpu`, with `--data-dir DIR` or `--download` for CIFAR-10 and "
        "Speech Commands) runs it on a machine with a CUDA device: facts, the tests marked `gpu`, checks, "
        "times, then the trainings at full size. `make gpu MINUTES=9` ends after nine minutes, and the same "
        "command goes on where it was: steps that have ended are left alone, trainings go on from their "
        "checkpoints; `--only NAME` runs a step anew. A package that is missing is named and its step "
        "skipped; PyTorch, scikit-learn, skorch, tyro and matplotlib are enough to begin. `--record`, in the "
        "last part, writes this result and those of `speed`, `search`, `cifar` and `speech`. `make gpu "
        "DEVICE=cpu` rehearses all of it at tiny "
        f"size. What must be reached on one GPU of the H100's class:\n\n{format_table(list(rows))}"
    )


COMMAND = Command(
    name="gpu",
    order=16,
    paper="none; what was built for a GPU",
    claim="what was built for a GPU is right and fast there: checks, times, full trainings",
    presets=PRESETS,
    times={"smoke": "two minutes"},
    more_seeds="A step that has ended is not run again; --only NAME runs it anew.",
    run=run,
    tabulate=tabulate,
    draw=draw,
    note=_write_note(describe_targets()),
)
