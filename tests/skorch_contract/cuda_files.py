"""The files that skorch's tests read and its wheel leaves out, as a machine with a GPU would write them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
import pickle

import numpy as np
import skorch
from skorch.toy import make_classifier
import torch

__all__ = ["write_cuda_files"]

TAG = "cuda:0"


@contextmanager
def _tagged_as_cuda() -> Iterator[None]:
    """Save storages as if they lay on a GPU: a file says where each was."""
    is_saving = True
    torch.serialization.register_package(0, lambda storage: TAG if is_saving else None, lambda *_: None)
    try:
        yield
    finally:
        is_saving = False


def write_cuda_files(folder: Path) -> None:
    """Write weights, an optimizer's state and a pickled net into ``skorch/tests`` of a folder."""
    folder = folder / "skorch" / "tests"
    folder.mkdir(parents=True)
    module = make_classifier(input_units=20, hidden_units=10, num_hidden=2, dropout=0.5)
    X = np.random.default_rng(0).normal(size=(20, 20)).astype(np.float32)
    options = {"criterion__weight": torch.ones(2), "optimizer": torch.optim.Adam, "verbose": 0}
    net = skorch.NeuralNetClassifier(module, max_epochs=1, **options).fit(X, np.arange(20) % 2)
    plain = torch.optim.SGD(net.module_.parameters(), lr=0.01)  # of the net that reads it
    with _tagged_as_cuda():
        torch.save(net.module_.state_dict(), folder / "net_cuda.pt")
        torch.save(plain.state_dict(), folder / "optimizer_cuda.pt")
        vars(net)["device"] = "cuda"  # set so, it would move there
        (folder / "net_cuda.pkl").write_bytes(pickle.dumps(net))
