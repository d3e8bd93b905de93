"""Two processes train together, as ``accelerate launch`` starts them on GPUs."""

from contextlib import redirect_stdout
import dataclasses
import multiprocessing
import multiprocessing.connection
import os
from pathlib import Path
import re
import socket
import sys
from typing import Any

import pytest
import torch

from benchmarks.harness.command import UserError
from benchmarks.harness.results import read_result
from benchmarks.harness.several_processes import Team, find_team, make_accelerator
from benchmarks.imagenet import training as imagenet_training
from benchmarks.imagenet.config import PRESETS
from benchmarks.imagenet.run import run

pytestmark = pytest.mark.slow

CODE_OF_A_USER_ERROR = 2


def find_free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def train(rank: int, port: int, out: Path, n_checkpoints: int, batch_size: int) -> None:
    """Be one of two processes; the main one ends after so many checkpoints, if not 0."""
    ranks = dict.fromkeys(("RANK", "LOCAL_RANK"), str(rank)) | dict.fromkeys(
        ("WORLD_SIZE", "LOCAL_WORLD_SIZE"), "2"
    )
    os.environ.update({**ranks, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)})
    torch.set_num_threads(1)
    save, written = imagenet_training.save_checkpoint, []

    def save_and_die(*args: Any) -> None:
        save(*args)
        written.append(args)
        if len(written) == n_checkpoints:
            sys.exit(7)

    options: dict[str, Any] = {"preset": "smoke", "checkpoint_every": 1, "batch_size": batch_size, "out": out}
    with (
        pytest.MonkeyPatch.context() as patch,
        out.with_suffix(f".{rank}").open("w") as file,
        redirect_stdout(file),
    ):
        patch.setattr(imagenet_training, "save_checkpoint", save_and_die)
        try:
            run(dataclasses.replace(PRESETS["smoke"], epochs=(2,), **options))
        except UserError as error:
            print(f"error: {error}")
            sys.exit(CODE_OF_A_USER_ERROR)


def launch(out: Path, n_checkpoints: int = 0, batch_size: int = 4) -> tuple[int, str]:
    """Train in two processes as a launcher starts them; return a status and what the processes print."""
    # All are forked off one process, which has imported everything and done nothing.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["benchmarks.imagenet.run", "accelerate"])
    arguments = (find_free_port(), out, n_checkpoints, batch_size)
    processes = [context.Process(target=train, args=(rank, *arguments)) for rank in range(2)]
    for process in processes:
        process.start()
    while all(process.exitcode in (None, 0) for process in processes) and any(
        process.is_alive() for process in processes
    ):
        multiprocessing.connection.wait([process.sentinel for process in processes if process.is_alive()])
    codes = [process.exitcode for process in processes if process.exitcode]
    for process in processes:  # a launcher ends the others when one has failed
        process.kill()
        process.join()
    return max(codes, default=0), "".join(out.with_suffix(f".{rank}").read_text() for rank in range(2))


def read_document(out: Path) -> dict[str, Any]:
    document: dict[str, Any] = read_result(out / "imagenet-embedded-smoke-cpu.json")
    return document


def read_outcome(out: Path) -> list[Any]:
    """Return what a run found, without its times."""
    records = read_document(out)["records"]
    kept = [records["columns"].index(name) for name in ("method", "top1_curve", "top5_curve", "loss_curve")]
    return [[row[place] for place in kept] for row in records["rows"]]


def test_two_processes_train_and_a_killed_command_goes_on(tmp_path: Path) -> None:
    whole, broken = tmp_path / "a", tmp_path / "b"
    status, text = launch(whole)
    assert status == 0
    assert text.count("Results: ") == 1
    assert {path.suffix for path in whole.glob("*.*")} == {".json", ".csv", ".png", ".svg"}
    summary = read_document(whole)["summary"]
    assert [(row["method"], row["n_processes"]) for row in summary] == [("ERM", 2), ("mixup", 2)]
    assert "4 images over 2 data-parallel processes" in read_document(whole)["protocol"]
    assert launch(broken, n_checkpoints=3)[0] == 7  # in the midst of the second run
    folder, journal = sorted(broken.iterdir())
    assert [path.name for path in folder.iterdir()] == ["resnet18-2-mixup-0.2-0.pt"]
    assert journal.suffix == ".jsonl"
    assert launch(broken)[0] == 0
    assert read_outcome(whole) == read_outcome(broken)


def test_a_batch_that_cannot_be_shared_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    status, text = launch(tmp_path / "out", batch_size=5)
    assert status == CODE_OF_A_USER_ERROR
    assert "error: --batch-size must be a multiple of the number of processes" in text
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
