"""Steps in processes of their own: in order, within a time, resumable, packed after each."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
import io
import json
import os
from pathlib import Path
import signal
import subprocess
import sys
import tarfile
import time
from typing import Any

from benchmarks.harness.command import ROOT
from benchmarks.harness.journal import Journal
from benchmarks.harness.results import write_bytes

__all__ = [
    "DONE",
    "FAILED",
    "PUT_OFF",
    "SKIPPED",
    "TIMED_OUT",
    "Step",
    "launch",
    "list_pending",
    "pack",
    "run_steps",
]

DONE, FAILED, TIMED_OUT = "done", "failed", "timed out"
# What the next run begins again.
SKIPPED, PUT_OFF = "skipped", "put off"
# A step is not begun for less.
LEAST_SECONDS = 15.0
REASON_LENGTH = 200
PACKED = "campaign.tar.gz"

Outcome = dict[str, Any]
Launch = Callable[["Step", float], Outcome]


@dataclass(frozen=True)
class Step:
    """One process of the campaign."""

    name: str
    seconds: float  # What it may take at most
    goes_on: bool = False  # Whether one that was cut off goes on where it was

    def is_put_off(self, given: float, *, is_first: bool) -> bool:
        """Return whether it was cut off for lack of time, and not for being too slow."""
        return given < self.seconds and (self.goes_on or not is_first)


def run_steps(
    steps: Iterable[Step],
    journal: Journal,
    launch: Launch,
    *,
    minutes: float | None = None,
    pack: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.monotonic,
) -> dict[str, Outcome]:
    """Run the steps in order until the minutes have passed, and return what came of those begun.

    What has ended, well or not, goes into the journal; what was skipped or cut off for lack of time does not.
    """
    end = clock() + (float("inf") if minutes is None else 60 * minutes)
    outcomes: dict[str, Outcome] = {}
    for step in steps:
        given = min(step.seconds, end - clock())
        if given < min(step.seconds, LEAST_SECONDS):
            break
        print(f"-- {step.name}, at most {given:.0f} s", flush=True)
        begun = clock()
        outcome = launch(step, given) | {"seconds": round(clock() - begun, 1)}
        is_first = all(other["status"] == SKIPPED for other in outcomes.values())
        if outcome["status"] == TIMED_OUT and step.is_put_off(given, is_first=is_first):
            outcome["status"] = PUT_OFF
        outcomes[step.name] = outcome
        if outcome["status"] in (DONE, FAILED, TIMED_OUT):
            journal.append(step.name, outcome)
        print(f"   {outcome['status']}, {outcome['seconds']} s {outcome.get('reason', '')}", flush=True)
        pack()
    return outcomes


def launch(step: Step, seconds: float, *, folder: Path, command: Sequence[str]) -> Outcome:
    """Run a step's command for at most so many seconds and return what came of it.

    What it prints goes to NAME.log. It leaves NAME.json, a dict with at least ``status``; one that leaves
    none has failed.
    """
    found, log = folder / f"{step.name}.json", folder / f"{step.name}.log"
    folder.mkdir(parents=True, exist_ok=True)
    found.unlink(missing_ok=True)
    with log.open("ab") as file, _exit_when_terminated():
        process = subprocess.Popen(
            command, stdout=file, stderr=subprocess.STDOUT, env=_make_environment(), start_new_session=True
        )
        try:
            code = process.wait(seconds)
        except subprocess.TimeoutExpired:
            return {"status": TIMED_OUT, "reason": f"not ended after {seconds:.0f} s"}
        finally:
            _end(process)
    if found.exists():
        outcome: Outcome = json.loads(found.read_text(encoding="utf-8"))
        return outcome
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines() or ["nothing was printed"]
    return {"status": FAILED, "reason": f"exit status {code}: {lines[-1][:REASON_LENGTH]}"}


def _make_environment() -> dict[str, str]:
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return os.environ | {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1", "MPLBACKEND": "Agg"}


@contextmanager
def _exit_when_terminated() -> Iterator[None]:
    """Leave by an exception where this process is told to end, so that it ends what it has started."""
    before = signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _end(process: "subprocess.Popen[bytes]") -> None:
    """End a process that still runs, and all that it has started."""
    if process.poll() is None:
        if sys.platform == "win32":
            process.kill()
        else:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def pack(folder: Path) -> Path:
    """Pack what a campaign has found so far into one file in its folder, without checkpoints; return it."""
    target, buffer = folder / PACKED, io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        for path in sorted(folder.rglob("*")):
            if path.is_file() and path.suffix != ".pt" and path != target and not path.name.startswith("."):
                archive.add(path, f"{folder.name}/{path.relative_to(folder)}")
    write_bytes(target, buffer.getvalue())
    return target


def list_pending(steps: Sequence[Step], journal: Journal, only: Sequence[str]) -> list[Step]:
    """Return the steps to run: those named, or all that have not ended."""
    ended: Mapping[str, Outcome] = journal.read()
    return [step for step in steps if (step.name in only if only else step.name not in ended)]
