"""One net trained by two processes through skorch's AccelerateMixin."""

import itertools
import os
from pathlib import Path
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from sk_mixup import MixupClassifier
from tests.helpers.ddp_worker import N, make_options, make_table
from tests.helpers.nets import is_equal
from tests.helpers.reference_ddp import descend, score_rows

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


PAIRS = [
    f"{owner}-{form}-{alpha}"
    for owner, form, alpha in itertools.product(("Classifier", "Net"), ("arrays", "dataset"), (0.0, 1.0))
]


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two processes found."""
    folder = tmp_path_factory.mktemp("found")
    launch = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command = [sys.executable, *launch, str(ROOT / "tests/helpers/ddp_worker.py"), str(folder)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    said = subprocess.PIPE
    with subprocess.Popen(command, env=env, stdout=said, stderr=subprocess.STDOUT, text=True) as launched:
        try:
            text = launched.communicate(timeout=120)[0]
        finally:
            launched.terminate()  # it ends the processes that it has started
    assert launched.returncode == 0, text
    files = [folder / f"found{rank}.pt" for rank in (0, 1)]
    return [{**torch.load(file, weights_only=False), "folder": folder} for file in files]


def list_own(process: dict[str, Any]) -> list[int]:
    """Return the rows that a process trained on without mixing, by their first feature."""
    return [row for x, _, _ in process["steps"] for row in (x[:, 0] * 100).round().int().tolist()]


@pytest.mark.parametrize("case", PAIRS)
def test_two_processes_equal_one_on_the_joined_batches(found: list[dict[str, Any]], case: str) -> None:
    first, second = (process["equality"][case] for process in found)
    assert first["n_epochs"] == 4
    assert len(first["steps"]) == len(second["steps"]) == 4 * 3  # 19 rows each: 8, 8, 3
    expected = descend(first["start"], list(zip(first["steps"], second["steps"], strict=True)))
    for process in (first, second):
        for name, value in process["weights"].items():
            torch.testing.assert_close(value, expected[name].detach(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("case", PAIRS)
def test_losses_are_means_over_the_processes(found: list[dict[str, Any]], case: str) -> None:
    first, second = (process["equality"][case] for process in found)
    assert first["losses"] == second["losses"]
    steps = list(zip(first["steps"], second["steps"], strict=True))[:3]
    losses = [
        torch.cat([score_rows(descend(first["start"], steps[:k]), *part) for part in parts])
        for k, parts in enumerate(steps)
    ]
    assert first["losses"][0] == pytest.approx(torch.cat(losses).mean().item(), abs=1e-12)


def test_arrays_and_a_dataset_are_trained_on_alike(found: list[dict[str, Any]]) -> None:
    arrays, dataset = (found[0]["equality"][f"Net-{form}-1.0"]["weights"] for form in ("arrays", "dataset"))
    for name, value in arrays.items():
        torch.testing.assert_close(value, dataset[name], rtol=0, atol=1e-12)


def test_shares_are_filled_up_from_the_start(found: list[dict[str, Any]]) -> None:
    rows = [list_own(process["shares"]["filled"]) for process in found]
    assert [len(own) for own in rows] == [19, 19]
    assert sorted(rows[0] + rows[1][:-1]) == list(range(N))
    assert rows[1][-1] == rows[0][0]
    ordered = [list_own(process["shares"]["ordered"]) for process in found]
    assert ordered == [list(range(0, N, 2)), [*range(1, N, 2), 0]]


def test_shares_are_cut_where_the_rest_is_dropped(found: list[dict[str, Any]]) -> None:
    rows = [list_own(process["shares"]["dropped"]) for process in found]
    assert [len(own) for own in rows] == [16, 16]  # of 18 each, in full batches
    assert len(set(rows[0] + rows[1])) == 32


def test_each_process_draws_its_own_mixing(found: list[dict[str, Any]]) -> None:
    steps = [process["equality"]["Net-arrays-1.0"]["steps"] for process in found]
    lam, other = (torch.cat([lam[0] for _, _, lam in part]) for part in steps)
    assert not (lam == other).any()


def test_partners_come_from_all_rows(found: list[dict[str, Any]]) -> None:
    X, codes = make_table()
    for process in found:
        mixed = process["shares"]["dataset"]["steps"]
        own, partners = torch.cat([find_pairs(X, x, lam, codes, y) for x, y, lam in mixed], dim=1).tolist()
        assert len(set(own)) == 19
        assert set(partners) - set(own)
    same = [(y[0] == y[1]).all() for process in found for _, y, _ in process["shares"]["same_class"]["steps"]]
    assert all(same)
    assert all(process["shares"]["neighbors"]["n_epochs"] == 1 for process in found)


def find_pairs(X: Tensor, x: Tensor, lam: Tensor, codes: Tensor, y: Tensor) -> Tensor:
    """Return which two rows each virtual example was mixed from, shape (2, n), by trying all pairs."""
    pairs = lam[0, :, None, None, None] * X[:, None] + lam[1, :, None, None, None] * X[None]
    gap = (pairs - x[:, None, None]).abs().amax(dim=-1).flatten(1)
    assert (gap.amin(dim=1) < 1e-9).all()
    best = gap.argmin(dim=1)
    found = torch.stack([best // len(X), best % len(X)])
    assert torch.equal(codes[found[0]], y[0])
    return found


@pytest.mark.parametrize("case", ["filled", "dropped", "dataset", "same_class", "neighbors", "hidden"])
def test_processes_agree_on_the_weights(found: list[dict[str, Any]], case: str) -> None:
    first, second = (process["shares"][case] for process in found)
    assert is_equal(first["weights"], second["weights"])
    assert first["losses"] == second["losses"]


def test_torch_draws_differ_by_process_and_repeat(found: list[dict[str, Any]]) -> None:
    first, second = (process["streams"] for process in found)
    assert torch.equal(first["first"]["drawn"], first["second"]["drawn"])
    assert torch.equal(second["first"]["drawn"], second["second"]["drawn"])
    assert not (first["first"]["drawn"] == second["first"]["drawn"]).any()
    assert is_equal(first["first"]["weights"], first["second"]["weights"])


def test_running_statistics_are_shared_after_an_epoch(found: list[dict[str, Any]]) -> None:
    first, second = (process["streams"]["first"]["weights"] for process in found)
    assert "norm.running_mean" in first
    assert is_equal(first, second)


def test_all_processes_stop_together(found: list[dict[str, Any]]) -> None:
    first, second = (process["stops"] for process in found)
    assert first["early"]["n_epochs"] == second["early"]["n_epochs"] < 60
    assert first["early"]["valid"] == second["early"]["valid"]
    assert is_equal(first["early"]["weights"], second["early"]["weights"])
    assert first["one"]["n_epochs"] == second["one"]["n_epochs"] == 2


def test_a_checkpoint_holds_the_best_epoch(found: list[dict[str, Any]]) -> None:
    for process in found:
        assert is_equal(process["stops"]["again"], process["stops"]["early"]["weights"])


def test_each_process_predicts_what_it_asked_for(found: list[dict[str, Any]], float64: None) -> None:
    folder = found[0]["folder"]
    plain = MixupClassifier(**{k: v for k, v in make_options(None).items() if k != "accelerator"})
    plain.load_params(f_params=folder / "0.safetensors", use_safetensors=True)
    proba = plain.predict_proba(make_table()[0].numpy())
    for process in found:
        files = process["files"]
        np.testing.assert_allclose(files["proba"], proba[files["asked"]], rtol=0, atol=1e-14)
        np.testing.assert_allclose(files["of_dataset"], proba, rtol=0, atol=1e-14)
        np.testing.assert_array_equal(files["loaded"], files["proba"])


def test_only_the_main_process_writes(found: list[dict[str, Any]]) -> None:
    folder = found[0]["folder"]
    assert (folder / "0.safetensors").exists()
    assert not (folder / "1.safetensors").exists()


def test_a_loaded_net_is_trained_on_by_both(found: list[dict[str, Any]]) -> None:
    first, second = (process["files"]["again"] for process in found)
    assert first["losses"] == second["losses"]
    assert is_equal(first["weights"], second["weights"])


def test_a_stream_is_shared_out(found: list[dict[str, Any]]) -> None:
    rows = [list_own(process["stream"]) for process in found]
    assert len(rows[0]) == len(rows[1])
    assert set(rows[0] + rows[1]) == set(range(N))
    assert is_equal(found[0]["stream"]["weights"], found[1]["stream"]["weights"])


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("no seed", "TypeError: random_state must be an int where 2 processes train one net; got None."),
        ("other seed", "ValueError: random_state must be the same in all processes; got [0, 1]."),
        ("other rows", "ValueError: X must be the same in all processes; got [20, 21] rows."),
        ("few rows", "ValueError: X must hold a row for each of 2 processes; got 1."),
        ("own batches", "ValueError: SemiSupervised must be trained by one process; got 2."),
    ],
)
def test_processes_raise_together(found: list[dict[str, Any]], rank: int, case: str, message: str) -> None:
    assert found[rank]["errors"][case].startswith(message)


def test_accumulated_gradients_are_those_of_the_whole(found: list[dict[str, Any]]) -> None:
    for process in found:
        whole, parts = process["accumulation"]["whole"], process["accumulation"]["parts"]
        for name, value in whole["weights"].items():
            torch.testing.assert_close(parts["weights"][name], value, rtol=0, atol=1e-12)
