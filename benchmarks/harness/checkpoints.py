"""Training in pieces with a checkpoint after each, so that a killed run goes on to the same figures."""

from collections.abc import Mapping
import hashlib
import io
import json
from pathlib import Path
import shutil
from typing import Any

import numpy as np
import torch

from benchmarks.harness.command import BaseConfig, UserError
from benchmarks.harness.experiment import find_paths, find_shared, name_run
from benchmarks.harness.journal import Journal
from benchmarks.harness.results import write_bytes
from sk_mixup import MixupClassifier

__all__ = [
    "CheckpointedJournal",
    "find_checkpoint",
    "load_checkpoint",
    "open_checkpoints",
    "save_checkpoint",
    "train_in_pieces",
]

PARTS = ("module", "optimizer", "generator", "history")


def find_checkpoint(folder: Path, key: str) -> Path:
    """Return the file of the run that a journal knows as `key`."""
    return folder / f"{key.replace('/', '-')}.pt"


class CheckpointedJournal(Journal):
    """A journal beside a folder with a checkpoint of each run that has begun and not ended."""

    def __init__(self, path: Path, folder: Path, **others: Any) -> None:
        super().__init__(path, **others)
        self.folder = folder

    def read(self) -> dict[str, dict[str, Any]]:
        """Return the records by key, and delete what is left of the runs that have ended."""
        records = super().read()
        for key in records:
            find_checkpoint(self.folder, key).unlink(missing_ok=True)
        return records

    def append(self, key: str, record: Mapping[str, Any]) -> None:
        """Add one record, and only then delete its run's checkpoint."""
        super().append(key, record)
        find_checkpoint(self.folder, key).unlink(missing_ok=True)

    def finish(self) -> None:
        """Put the records away, and delete journal and folder."""
        super().finish()
        shutil.rmtree(self.folder, ignore_errors=True)


def open_checkpoints(
    stem: str, config: BaseConfig, *, models: Path | None = None, **facts: Any
) -> CheckpointedJournal:
    """Return the journal of a run with checkpoints, which may keep its networks in the folder `models`."""
    # What has ended is not trained again, so its network must have been kept, and in that folder.
    if models is not None:
        facts["models"] = str(models.resolve())
    folder = name_run(stem, config, **facts)
    return CheckpointedJournal(folder=folder, **find_paths(folder), shared=find_shared(folder, config))


def train_in_pieces(
    net: MixupClassifier,
    X: np.ndarray,
    y: np.ndarray,
    *,
    n_epochs: int,
    every: int,
    path: Path,
    identity: str,
) -> None:
    """Train a net, from its checkpoint on if there is one, and write one after each piece of `every` epochs.

    What the net is to be must follow from its options alone: ``module__out_features`` and ``classes`` must be
    set. `identity` names the run and all that it depends on; a checkpoint that is damaged or another run's is
    a :class:`UserError`.

    Each piece is a call of ``partial_fit``, whether or not the training was broken off between: a piece draws
    its seed of torch from the net's numpy generator, whose state the checkpoint holds. On a CPU with a fixed
    number of threads a run that was broken off ends with the same weights, bit for bit. Other values of
    `every` give other draws.
    """
    net.initialize()
    if path.exists():
        load_checkpoint(net, path, identity)
    while (n_done := len(net.history)) < n_epochs:
        net.set_params(max_epochs=min(every, n_epochs - n_done))
        net.partial_fit(X, y)
        save_checkpoint(net, path, identity)


def save_checkpoint(net: MixupClassifier, path: Path, identity: str) -> None:
    """Write all that training goes on from, in one piece: the old file or the new, never a part.

    ``torch.load(weights_only=True)`` reads the file: the identity, a checksum, which torch's own
    format lacks, and a tensor with the bytes of a second such file, of tensors, numbers and text.
    """
    bits: Any = net.generator_.bit_generator  # its seeds carry no types
    state = {
        "module": net.module_.state_dict(),
        "optimizer": net.optimizer_.state_dict(),
        # numpy counts the children that each epoch's plan is drawn from apart from the state.
        "generator": json.dumps({"state": bits.state, "n_children": bits.seed_seq.n_children_spawned}),
        "history": [_strip_epoch(epoch) for epoch in net.history],
    }
    content = _dump(state)
    digest = hashlib.sha256(content).hexdigest()
    packed = torch.from_numpy(np.frombuffer(content, dtype=np.uint8).copy())
    write_bytes(path, _dump({"identity": identity, "sha256": digest, "content": packed}))


def _dump(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _strip_epoch(epoch: Mapping[str, Any]) -> dict[str, Any]:
    """Return what was recorded of an epoch in Python's numbers, without its batches."""
    return {
        name: value.item() if isinstance(value, np.generic) else value
        for name, value in epoch.items()
        if name != "batches"
    }


def load_checkpoint(net: MixupClassifier, path: Path, identity: str) -> None:
    """Let an initialized net be as it was when :func:`save_checkpoint` wrote the file.

    A file that is damaged or another run's is a :class:`UserError`; the net is then not to be used.
    """
    found, state = _read_state(path)
    if found != identity:
        raise UserError(
            f"'{path}' must be a checkpoint of this run ({identity}); got one of {found}. Delete it, or move "
            "it away, and that run begins anew."
        )
    net.module_.load_state_dict(state["module"])
    net.optimizer_.load_state_dict(state["optimizer"])
    generator = json.loads(state["generator"])
    bits: Any = net.generator_.bit_generator  # its seeds carry no types
    bits.state = generator["state"]
    bits.seed_seq.spawn(generator["n_children"] - bits.seed_seq.n_children_spawned)
    net.history.extend({"batches": [], **epoch} for epoch in state["history"])


def _read_state(path: Path) -> tuple[str, dict[str, Any]]:
    """Return whose checkpoint a file is, and what it holds."""
    try:
        outer = torch.load(path, map_location="cpu", weights_only=True)
        content = outer["content"].numpy().tobytes()
        if hashlib.sha256(content).hexdigest() != outer["sha256"]:
            raise ValueError("its checksum is another")
        state = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
        return outer["identity"], {name: state[name] for name in PARTS}
    # A damaged file raises nearly anything.
    except Exception as error:
        reason = f"{type(error).__name__}: {error}".splitlines()[0]
        raise UserError(
            f"'{path}' must be a whole checkpoint; got {reason}. Delete it, and that run begins anew."
        ) from None
