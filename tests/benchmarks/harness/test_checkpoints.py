from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.harness import checkpoints
from benchmarks.harness.checkpoints import CheckpointedJournal, find_checkpoint, train_in_pieces
from benchmarks.harness.command import UserError
from benchmarks.image_training.augment_and_schedule import HeldOutScores, StepDecay
from tests.benchmarks.helpers import get_state, make_tiny

pytestmark = pytest.mark.slow


class KilledError(Exception):
    """Stands for the end of a process."""


def train(path: Path, images: tuple[np.ndarray, np.ndarray], n_epochs: int = 5, **given: Any) -> Any:
    net = make_tiny(callbacks=[StepDecay([2, 4]), HeldOutScores({"test": images})])
    options = {"every": 2, "path": path, "identity": "this run"} | given
    train_in_pieces(net, *images, n_epochs=n_epochs, **options)
    return net


def kill_after(monkeypatch: pytest.MonkeyPatch, n_pieces: int) -> None:
    """Let training end with :class:`KilledError` after so many checkpoints."""
    save, written = checkpoints.save_checkpoint, []

    def save_and_die(*args: Any) -> None:
        save(*args)
        written.append(args)
        if len(written) == n_pieces:
            raise KilledError

    monkeypatch.setattr(checkpoints, "save_checkpoint", save_and_die)


@pytest.mark.parametrize("n_pieces", [1, 2])
def test_a_killed_run_goes_on_to_the_same_weights(
    tmp_path: Path, images: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch, n_pieces: int
) -> None:
    whole = train(tmp_path / "whole.pt", images)
    with monkeypatch.context() as patch:
        kill_after(patch, n_pieces)
        with pytest.raises(KilledError):
            train(tmp_path / "broken.pt", images)
    resumed = train(tmp_path / "broken.pt", images)
    for name, tensor in get_state(whole).items():
        assert torch.equal(tensor, get_state(resumed)[name]), name
    for column in ("epoch", "train_loss", "test_error"):
        assert whole.history[:, column] == resumed.history[:, column]


def test_a_piece_that_was_not_saved_is_trained_again(
    tmp_path: Path, images: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(tmp_path / "whole.pt", images, n_epochs=4)

    def die(*_: Any) -> None:
        raise KilledError

    train(tmp_path / "broken.pt", images, n_epochs=2)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "write_bytes", die)
        with pytest.raises(KilledError):
            train(tmp_path / "broken.pt", images, n_epochs=4)
    resumed = train(tmp_path / "broken.pt", images, n_epochs=4)
    assert whole.history[:, "train_loss"] == resumed.history[:, "train_loss"]


def test_a_checkpoint_of_a_run_that_ended_is_not_trained_on(
    tmp_path: Path, images: tuple[np.ndarray, np.ndarray]
) -> None:
    path = tmp_path / "a.pt"
    before = get_state(train(path, images, n_epochs=2))
    content = path.read_bytes()
    again = train(path, images, n_epochs=2)
    assert len(again.history) == 2
    assert all(torch.equal(tensor, before[name]) for name, tensor in get_state(again).items())
    assert path.read_bytes() == content


def test_load_checkpoint_says_what_is_wrong(tmp_path: Path, images: tuple[np.ndarray, np.ndarray]) -> None:
    path = tmp_path / "a.pt"
    train(path, images, n_epochs=1)
    content = path.read_bytes()
    torch.load(path, weights_only=True)
    with pytest.raises(
        UserError, match=r"a\.pt' must be a checkpoint of this run \(other\); got one of this"
    ):
        train(path, images, identity="other")
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 1
    for damaged in (content[: len(content) // 2], b"", bytes(flipped), b"text"):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=r"a\.pt' must be a whole checkpoint; got .*Delete it, and"):
            train(path, images)
    torch.save({"identity": "this run"}, path)
    with pytest.raises(UserError, match="must be a whole checkpoint; got KeyError"):
        train(path, images)


def test_journal_deletes_a_checkpoint_once_its_record_is_there(tmp_path: Path) -> None:
    journal = CheckpointedJournal(tmp_path / "a.jsonl", tmp_path / "a")
    journal.folder.mkdir()
    ended, other = (find_checkpoint(journal.folder, key) for key in ("x/1", "x/2"))
    for path in (ended, other):
        path.write_bytes(b"")
    journal.append("x/1", {"error": 1})
    assert (ended.exists(), other.exists()) == (False, True)
    ended.write_bytes(b"")  # a kill between record and deletion leaves it
    assert journal.read() == {"x/1": {"error": 1}}
    assert (ended.exists(), other.exists()) == (False, True)
    journal.finish()
    assert not any(tmp_path.iterdir())
