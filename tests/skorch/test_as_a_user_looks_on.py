"""Code of the user's finds in a fit what skorch's shows it: rows, arguments, hooks, batches as they come."""

from collections.abc import Iterator
import pickle
from typing import Any, ClassVar

import numpy as np
import pytest
import skorch
from skorch.callbacks import BatchScoring, Callback, EarlyStopping, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin
from sk_mixup.mixing import GaussianNoise, Mixup

RNG = np.random.default_rng(0)
X = RNG.normal(size=(64, 4)).astype(np.float32)
Y = (X[:, 0] > 0).astype(np.int64) + (X[:, 1] > 0)
OPTIONS: dict[str, Any] = {
    "criterion": nn.CrossEntropyLoss,
    "verbose": 0,
    "train_split": None,
    "max_epochs": 2,
    "batch_size": 16,
    "lr": 0.1,
}


class Net(MixupNetMixin, skorch.NeuralNetClassifier):  # type: ignore[misc]
    """skorch's classifier with our training."""


def fit(owner: type, X: Any = X, y: Any = Y, fit_params: Any = None, **options: Any) -> Any:
    torch.manual_seed(0)
    module = options.pop("module", None) or nn.Linear(4, 3)
    own = {"alpha": 0, "random_state": 0} if issubclass(owner, MixupNetMixin) else {}
    return owner(module, **{**OPTIONS, **own, **options}).fit(X, y, **(fit_params or {}))


class Wrapped:
    """Notes the rows that a loader yields."""

    def __init__(self, loader: Any) -> None:
        self.loader, self.seen = loader, []  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            self.seen.append(batch[0][:, 0].tolist())
            yield batch


@pytest.mark.parametrize("owner", [Net, MixupClassifier])
@pytest.mark.parametrize(
    "options", [{"shuffle": True}, {"shuffle": True, "drop_last": True}, {"drop_last": True}, {}]
)
def test_a_wrapped_iterator_keeps_its_order(owner: type, options: dict[str, Any]) -> None:
    class Own(owner):  # type: ignore[misc, valid-type]
        def get_iterator(self, dataset: Any, training: bool = False) -> Any:
            loader = super().get_iterator(dataset, training=training)
            if not training:
                return loader
            self.wrapped = Wrapped(loader)
            return self.wrapped

    given = {f"iterator_train__{name}": value for name, value in options.items()}
    if owner is MixupClassifier:
        given["early_stopping"] = False
    rows = X[:60]
    net = fit(Own, rows, Y[:60], **given)
    assert len(net.wrapped.seen[-3:]) == 3
    seen = [value for batch in net.wrapped.seen for value in batch]
    per_epoch = 48 if options.get("drop_last") else 60
    epochs = [seen[start : start + per_epoch] for start in range(0, len(seen), per_epoch)]
    in_order = rows[:per_epoch, 0].tolist()
    for epoch in epochs:
        assert len(set(epoch)) == per_epoch
        assert (epoch == in_order) == ("shuffle" not in options)


@pytest.mark.parametrize("base", [skorch.NeuralNetClassifier, Net])
@pytest.mark.parametrize(
    "split",
    [None, ValidSplit(4), predefined_split(Dataset(X[:9], Y[:9]))],
    ids=["none", "folds", "given rows"],
)
def test_arguments_of_a_fit_reach_the_steps_of_the_users(base: type, split: Any) -> None:
    seen: list[float] = []

    class Own(base):  # type: ignore[misc, valid-type]
        def train_step_single(self, batch: Any, forcing: float = 0.0, **fit_params: Any) -> Any:
            seen.append(forcing)
            return super().train_step_single(batch, **fit_params)

        def validation_step(self, batch: Any, forcing: float = 0.0, **fit_params: Any) -> Any:
            return super().validation_step(batch, **fit_params)

    if isinstance(split, ValidSplit) and base is skorch.NeuralNetClassifier:
        pytest.skip("skorch's own split takes no such argument")
    fit(Own, train_split=split, fit_params={"forcing": 0.5})
    assert set(seen) == {0.5}


class OneBuffer:
    """Fills the same tensors again and again."""

    def __init__(self, dataset: Any, batch_size: int, **_: Any) -> None:
        self.dataset, self.batch_size, self.log = dataset, batch_size, []  # type: ignore[var-annotated]

    def __iter__(self) -> Iterator[Any]:
        x, y = torch.empty(self.batch_size, 4), torch.empty(self.batch_size, dtype=torch.int64)
        for start in range(0, len(self.dataset), self.batch_size):
            for place in range(self.batch_size):
                row, label = self.dataset[start + place]
                x[place], y[place] = torch.as_tensor(row), torch.as_tensor(label)
            yield x, y


class CountedBuffer(OneBuffer):
    """Knows how many batches it has."""

    def __len__(self) -> int:
        return len(self.dataset) // self.batch_size


class UncountedBuffer(OneBuffer):
    """Has the number of batches of an abstract class: none."""

    def __len__(self) -> int:
        raise NotImplementedError


@pytest.mark.parametrize("iterator", [OneBuffer, CountedBuffer, UncountedBuffer])
@pytest.mark.parametrize("alpha", [0, 1.0])
def test_each_batch_of_one_buffer_is_trained_on_once(iterator: type, alpha: float) -> None:
    seen: list[float] = []

    class Own(Net):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            seen.append(float(batch[0][0, 0]))
            return super().train_step(batch, **fit_params)

    fit(Own, iterator_train=iterator, alpha=alpha, max_epochs=1)
    assert seen == X[::16, 0].tolist()


def test_batches_are_drawn_when_they_are_trained_on() -> None:
    log: list[str] = []

    class Sampler:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[Any]:
            for start in range(0, 64, 16):
                log.append("draw")
                yield list(range(start, start + 16))

    class Own(Net):
        def train_step(self, batch: Any, **fit_params: Any) -> Any:
            log.append("step")
            return super().train_step(batch, **fit_params)

    fit(Own, iterator_train__batch_sampler=Sampler(), max_epochs=1)
    # The last but one waits for the last, which may be a single row.
    assert log == ["draw", "step", "draw", "step", "draw", "draw", "step", "step"]


@pytest.mark.parametrize("owner", [EpochScoring, BatchScoring])
@pytest.mark.parametrize("on_train", [False, True])
def test_hooks_of_the_users_scores_are_called_in_both_phases(owner: type, on_train: bool) -> None:
    class Counting(owner):  # type: ignore[misc, valid-type]
        def on_batch_end(
            self, net: Any, batch: Any = None, y_pred: Any = None, training: bool = False, **kwargs: Any
        ) -> None:
            net.calls.append(training)
            super().on_batch_end(net, batch=batch, y_pred=y_pred, training=training, **kwargs)

    calls = []
    for base in (skorch.NeuralNetClassifier, Net):

        class Own(base):  # type: ignore[misc, valid-type]
            calls: ClassVar[list[bool]] = []

        score = Counting("accuracy", name="a", on_train=on_train)
        net = fit(Own, callbacks=[score], train_split=predefined_split(Dataset(X[:20], Y[:20])))
        calls.append(net.calls)
    assert calls[0] == calls[1]


class KeepPickle(Callback):  # type: ignore[misc]
    """Pickles the net at the end of each epoch."""

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        self.kept = getattr(self, "kept", [])
        self.kept.append(pickle.dumps(net))


@pytest.mark.parametrize("phase", ["warmup_epochs", "cooldown_epochs"])
def test_a_pickle_of_any_phase_has_all_callbacks(phase: str) -> None:
    keep = KeepPickle()
    stop = ("es", EarlyStopping("train_loss", patience=2))
    net = fit(Net, callbacks=[stop, keep], max_epochs=3, **{phase: 1})
    expected = [name for name, _ in net.callbacks_]
    assert "es" in expected
    for content in keep.kept:
        other = pickle.loads(content)
        assert [name for name, _ in other.callbacks_] == expected
        assert "_all_callbacks" not in vars(other)


@pytest.mark.parametrize("vicinity", [GaussianNoise(1.0), Mixup(1.0)], ids=str)
def test_predictions_that_are_shown_are_of_clean_rows(vicinity: Any) -> None:
    gaps: list[float] = []

    class Look(Callback):  # type: ignore[misc]
        def on_batch_end(self, net: Any, batch: Any = None, y_pred: Any = None, **kwargs: Any) -> None:
            gaps.append((net.module_(batch[0]) - y_pred).abs().max().item())

    fit(Net, callbacks=[Look()], vicinity=vicinity, alpha=0.2, lr=1e-9)
    assert max(gaps) < 1e-6


def test_rows_of_a_split_tell_their_numbers() -> None:
    found: list[Any] = []

    class Look(Callback):  # type: ignore[misc]
        def on_epoch_end(
            self, net: Any, dataset_train: Any = None, dataset_valid: Any = None, **kwargs: Any
        ) -> None:
            found.append(np.concatenate([dataset_train.indices, dataset_valid.indices]))

    for owner in (skorch.NeuralNetClassifier, Net):
        fit(owner, callbacks=[Look()], train_split=ValidSplit(4), max_epochs=1)
    np.testing.assert_array_equal(*found)
    assert sorted(found[0]) == list(range(64))


@pytest.mark.parametrize(
    "options",
    [{"criterion__weight": torch.tensor([1.0, 5.0, 30.0])}, {"criterion__reduction": "sum"}],
    ids=str,
)
def test_a_penalty_in_get_loss_that_hides_how_it_averages_is_warned_of(options: dict[str, Any]) -> None:
    class Own(Net):
        def get_loss(self, y_pred: Any, y_true: Any, X: Any = None, training: bool = False) -> Tensor:
            penalty = sum((p**2).sum() for p in self.module_.parameters())
            return super().get_loss(y_pred, y_true, X=X, training=training) + 10 * penalty

    with pytest.warns(UserWarning, match="get_loss must divide the losses of rows as the criterion does"):
        fit(Own, alpha=0.5, **options)
