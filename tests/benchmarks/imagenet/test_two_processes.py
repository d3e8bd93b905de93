"""Two processes train together, as ``accelerate launch`` starts them on GPUs."""

import json
import os
from pathlib import Path
import re
import socket
import subprocess
import sys
from typing import Any

import pytest
import torch

from benchmarks.harness.command import UserError
from benchmarks.harness.several_processes import Team, find_team, make_accelerator

pytestmark = pytest.mark.slow

SCRIPT = """
import dataclasses, pathlib, sys
from benchmarks.imagenet import training as imagenet_training
from benchmarks.cli import UserError
from benchmarks.imagenet.run import run
from benchmarks.imagenet.config import PRESETS

out, n_checkpoints, batch_size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
save, written = imagenet_training.save_checkpoint, []

def save_and_die(*args):
    save(*args)
    written.append(args)
    if len(written) == n_checkpoints:
        raise SystemExit(7)

imagenet_training.save_checkpoint = save_and_die
options = dict(preset="smoke", epochs=(3,), checkpoint_every=1, batch_size=batch_size, out=pathlib.Path(out))
try:
    run(dataclasses.replace(PRESETS["smoke"], **options))
except UserError as error:
    print(f"error: {error}")
    raise SystemExit(2)
"""
ROOT = Path(__file__).parents[3]


def find_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def launch(
    folder: Path, out: Path, n_checkpoints: int = 0, batch_size: int = 4
) -> subprocess.CompletedProcess[str]:
    """Run the script in two processes; the main one ends after so many checkpoints, if not 0."""
    script = folder / "script.py"
    script.write_text(SCRIPT)
    # What `accelerate launch` calls for GPUs; for CPUs it needs MPI.
    head = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node", "2"]
    head += ["--master_addr", "127.0.0.1", "--master_port", str(find_free_port()), str(script)]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return subprocess.run(
        [*head, str(out), str(n_checkpoints), str(batch_size)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def read_document(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((out / "imagenet-embedded-smoke-cpu.json").read_text())
    return document


def read_outcome(out: Path) -> list[Any]:
    """Return what a run found, without its times."""
    records = read_document(out)["records"]
    kept = [records["columns"].index(name) for name in ("method", "top1_curve", "top5_curve", "loss_curve")]
    return [[row[place] for place in kept] for row in records["rows"]]


def test_two_processes_train_and_a_killed_command_goes_on(tmp_path: Path) -> None:
    whole, broken = tmp_path / "a", tmp_path / "b"
    done = launch(tmp_path, whole)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Results: ") == 1
    assert {path.suffix for path in whole.glob("*.*")} == {".json", ".csv", ".png"}
    summary = read_document(whole)["summary"]
    assert [(row["method"], row["n_processes"]) for row in summary] == [("ERM", 2), ("mixup", 2)]
    assert "4 images over 2 data-parallel processes" in read_document(whole)["protocol"]
    done = launch(tmp_path, broken, n_checkpoints=5)  # in the midst of the second run
    assert done.returncode != 0
    folder, journal = sorted(broken.iterdir())
    assert [path.name for path in folder.iterdir()] == ["resnet18-3-mixup-0.2-0.pt"]
    assert journal.suffix == ".jsonl"
    assert launch(tmp_path, broken).returncode == 0
    assert read_outcome(whole) == read_outcome(broken)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    done = launch(tmp_path, tmp_path / "out", batch_size=5)
    assert done.returncode != 0
    assert "error: --batch-size must be a multiple of the number of processes" in done.stdout
    assert not (tmp_path / "out").exists()


def test_a_process_alone_needs_no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert make_accelerator("cpu") is None
    monkeypatch.setenv("WORLD_SIZE", "1")
    team = find_team("cpu")
    team.wait()
    assert (team.size, team.rank, team.is_main) == (1, 0, True)
    assert team.add(torch.tensor([1, 2])).tolist() == [1, 2]
    assert team.broadcast("said") == "said"


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(UserError, match=re.escape("got 2. Run pip install accelerate.")):
        make_accelerator("cpu")


def test_a_team_is_what_its_accelerator_says() -> None:
    class Fake:
        num_processes, process_index = 4, 2

    team = Team(Fake())
    assert (team.size, team.rank, team.is_main) == (4, 2, False)
