"""Where arrays are kept changes nothing: on the device, in host memory, in a memory-mapped file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_predict
from skorch import NeuralNet
from skorch.dataset import ValidSplit
import torch
from torch import Tensor, nn

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from tests.helpers.nets import ESTIMATORS, QUICK, USER, Net, Sum, get_weights, is_equal
from tests.helpers.sampling import each_pair, each_value

pytestmark = pytest.mark.usefixtures("warn_always")

Mapped = Callable[..., np.ndarray]


class MixedNet(MixupNetMixin, NeuralNet):
    """skorch's plainest net with mixed training."""


class Convolution(nn.Module):
    """A convolution and a linear layer, for images of 3 x 6 x 6."""

    def __init__(self) -> None:
        super().__init__()
        self.filter = nn.Conv2d(3, 4, 3)
        self.last = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.filter(x).relu().flatten(1))


class Letters(nn.Sequential):
    """A linear model of two embedded letters."""

    def __init__(self) -> None:
        super().__init__(nn.Embedding(5, 3), nn.Flatten(), nn.Linear(6, 3))


class Words(nn.Module):
    """A linear model of embedded words, and of a table whose rows a column multiplies."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(9, 5)
        self.last = nn.Linear(5, 3)

    def forward(self, words: Tensor, table: Tensor, column: Tensor) -> Tensor:
        return self.last(self.words(words).mean(dim=1) + table * column.unsqueeze(1))


@pytest.fixture
def mapped(tmp_path: Path) -> Mapped:
    """Write an array to a file and map the file into memory."""

    def write(array: Any, mode: str = "r") -> np.ndarray:
        file = tmp_path / f"{len(list(tmp_path.iterdir()))}.npy"
        np.save(file, array)
        return np.load(file, mmap_mode=mode)

    return write


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    """60 images of 3 x 6 x 6 pixels, in whole numbers from 0 to 255."""
    return np.random.default_rng(0).integers(256, size=(60, 3, 6, 6)).astype(np.float32)


def _freeze(X: np.ndarray) -> np.ndarray:
    X = X.copy()
    X.flags.writeable = False
    return X


def assert_same_net(net: Any, other: Any) -> None:
    """Check that two nets were trained alike, bit for bit."""
    assert net.history[:, "train_loss"] == other.history[:, "train_loss"]
    assert is_equal(get_weights(net), get_weights(other))


def assert_same_fit(net: Any, X: Any, y: Any, same_X: Any, storage: str, **fit_params: Any) -> None:
    """Check that a net learns and predicts from `same_X` in `storage` what it does from X on the device."""
    other = clone(net).set_params(storage=storage).fit(same_X, y, **fit_params)
    net = clone(net).set_params(storage="device").fit(X, y, **fit_params)
    assert_same_net(net, other)
    np.testing.assert_array_equal(other.predict(same_X), net.predict(X))


# -- the same net from every form --------------------------------------------------------

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float16": lambda X: X.astype(np.float16),
    "float32": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: np.round(8 * X).astype(np.int64),
    "int8": lambda X: np.round(8 * X).astype(np.int8),
    "uint8": lambda X: np.round(8 * abs(X)).astype(np.uint8),
    "uint16": lambda X: np.round(8 * abs(X)).astype(np.uint16),
    "bool": lambda X: X > 0,
    "big-endian": lambda X: X.astype(">f4"),
    "long-double": lambda X: X.astype(np.longdouble),
    "fortran": np.asfortranarray,
    "columns": lambda X: np.hstack([X, X])[:, ::2],
    "read-only": _freeze,
    "list": lambda X: X.tolist(),
}


@each_pair({"owner": ESTIMATORS, "convert": list(FORMS.values()), "storage": ["auto", "host"]})
def test_storage_of_a_table_changes_nothing(blobs: Any, owner: Any, convert: Any, storage: str) -> None:
    X = convert(blobs.X)
    assert_same_fit(owner(**QUICK), X, blobs.y, X, storage)


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_storage_of_a_tensor_changes_nothing(blobs: Any, dtype: Any, storage: str) -> None:
    X = torch.as_tensor(8 * blobs.X).to(dtype)
    assert_same_fit(MixupClassifier(**QUICK), X.numpy(), blobs.y, X, storage)


@each_pair(
    {
        "name": [name for name in FORMS if name not in ("read-only", "list", "columns")],
        "mode": ["r", "r+", "c"],
        "storage": ["auto", "device", "host"],
    }
)
def test_mapped_table_is_learned_as_an_array(
    blobs: Any, mapped: Mapped, name: str, mode: str, storage: str
) -> None:
    X = FORMS[name](blobs.X)
    assert_same_fit(MixupClassifier(**QUICK), X, blobs.y, mapped(X, mode), storage)


@pytest.mark.parametrize("cut", [np.s_[:, ::2], np.s_[:, 1:4], np.s_[::-1], np.s_[..., ::-1]], ids=str)
def test_part_of_a_mapped_table_is_learned_as_an_array(blobs: Any, mapped: Mapped, cut: Any) -> None:
    assert_same_fit(MixupClassifier(**QUICK), blobs.X[cut], blobs.y, mapped(blobs.X)[cut], "auto")


@pytest.mark.filterwarnings("ignore:X must be near unit scale:UserWarning")
@pytest.mark.parametrize("storage", ["auto", "host"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("n_mixed", [2, 3])
def test_mapped_images_are_learned_as_an_array(
    blobs: Any, images: np.ndarray, mapped: Mapped, dtype: Any, n_mixed: int, storage: str
) -> None:
    X = images.astype(dtype)
    net = MixupClassifier(Convolution, **{**QUICK, "n_mixed": n_mixed, "lr": 1e-4})
    assert_same_fit(net, X, blobs.y, mapped(X), storage)


MIXED: list[dict[str, Any]] = [
    {"alpha": 0},
    {"partners": "dataset"},
    {"partners": "same_class"},
    {"partners": "dataset", "n_mixed": 3},
    {"lam_per": "batch"},
    {"warmup_epochs": 1, "cooldown_epochs": 1},
    {"early_stopping": True},
    {"early_stopping": True, "partners": "same_class"},
    {"train_split": ValidSplit(3)},
    {"class_weight": "balanced"},
    {"label_smoothing": 0.1},
    {"batch_size": -1},
    {"batch_size": 59},
    {"iterator_train__drop_last": True},
    {"iterator_train__shuffle": False},
    {"iterator_valid__batch_size": 7},
    {"augment": torch.neg},
    {"autocast": "bfloat16"},
    {"module__dropout": 0.5},
    {"criterion": nn.MultiMarginLoss},
    {"optimizer": torch.optim.SGD},
]


@each_value({"storage": ["auto", "host"], "options": MIXED})
def test_storage_changes_nothing_with_any_option(
    blobs: Any, mapped: Mapped, options: dict[str, Any], storage: str
) -> None:
    X = mapped(blobs.X) if storage == "auto" else blobs.X
    assert_same_fit(MixupClassifier(**{**QUICK, **options}), blobs.X, blobs.y, X, storage)


@pytest.mark.parametrize("options", [{}, {"early_stopping": True}, {"partners": "dataset"}], ids=str)
@pytest.mark.parametrize("targets", ["line", "plane"])
def test_storage_changes_nothing_for_a_regressor(
    request: Any, mapped: Mapped, options: dict[str, Any], targets: str
) -> None:
    table = request.getfixturevalue(targets)
    net = MixupRegressor(**{**QUICK, **options})
    assert_same_fit(net, table.X, table.y, mapped(table.X.astype(np.float64)), "auto")


@pytest.mark.parametrize("owner", ESTIMATORS)
@pytest.mark.parametrize("least", [0, 1])
def test_storage_changes_nothing_with_weights(blobs: Any, mapped: Mapped, owner: Any, least: int) -> None:
    weight = np.arange(60) % 4 + least
    assert_same_fit(owner(**QUICK), blobs.X, blobs.y, mapped(blobs.X), "auto", sample_weight=weight)


def test_storage_changes_nothing_for_several_labels(multilabel: Any) -> None:
    assert_same_fit(MixupClassifier(**QUICK), multilabel.X, multilabel.y, multilabel.X, "host")


def test_storage_changes_nothing_in_partial_fit(blobs: Any, mapped: Mapped) -> None:
    net = MixupClassifier(**QUICK).partial_fit(blobs.X, blobs.y).partial_fit(blobs.X[:30], blobs.y[:30])
    other = MixupClassifier(**QUICK).partial_fit(mapped(blobs.X), blobs.y)
    assert_same_net(net, other.set_params(storage="host").partial_fit(blobs.X[:30], blobs.y[:30]))


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mapping_of_mapped_arrays_is_learned_as_of_arrays(
    blobs: Any, mapped: Mapped, dtype: Any, storage: str
) -> None:
    X = {"a": blobs.X.astype(dtype), "b": -2 * blobs.X}
    same_X = {"a": mapped(X["a"]), "b": mapped(X["b"])}
    assert_same_fit(MixupClassifier(Sum, **QUICK), X, blobs.y, same_X, storage)


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
def test_mapping_of_which_one_array_is_mapped_is_learned(blobs: Any, mapped: Mapped, storage: str) -> None:
    X = {"a": mapped(blobs.X), "b": blobs.X}
    assert_same_fit(MixupClassifier(Sum, **QUICK), {"a": blobs.X, "b": blobs.X}, blobs.y, X, storage)


@pytest.mark.parametrize("storage", ["auto", "host"])
def test_integers_of_a_mapping_stay_integers(blobs: Any, mapped: Mapped, storage: str) -> None:
    words = np.random.default_rng(0).integers(9, size=(60, 4))
    X = {"words": words, "table": blobs.X, "column": blobs.X[:, 0]}
    same_X = {name: mapped(values) for name, values in X.items()}
    assert_same_fit(MixupClassifier(Words, alpha=0, **QUICK), X, blobs.y, same_X, storage)


# -- a skorch net ------------------------------------------------------------------------


@pytest.mark.parametrize("options", [{}, {"alpha": 0}, {"partners": "same_class"}, {"n_mixed": 3}], ids=str)
@pytest.mark.parametrize("convert", [np.asarray, torch.as_tensor], ids=["array", "tensor"])
@pytest.mark.parametrize("storage", ["auto", "host"])
def test_storage_changes_nothing_for_a_skorch_net(
    blobs: Any, convert: Any, options: dict[str, Any], storage: str
) -> None:
    net = MixedNet(Net, **{**USER, **options}, random_state=0)
    assert_same_fit(net, convert(blobs.X), blobs.y, convert(blobs.X), storage)


SKORCH_FORMS: dict[str, Callable[[Any, Any], Any]] = {
    "float64": lambda X, mapped: X.astype(np.float64),
    "tensor-float64": lambda X, mapped: torch.as_tensor(X).double(),
    "tensor-bfloat16": lambda X, mapped: torch.as_tensor(X).bfloat16().float().bfloat16(),
    "read-only": lambda X, mapped: _freeze(X),
    "mapped": lambda X, mapped: mapped(X),
    "mapped-float64": lambda X, mapped: mapped(X.astype(np.float64)),
}


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
@pytest.mark.parametrize("name", SKORCH_FORMS)
def test_skorch_net_learns_from_every_form(blobs: Any, mapped: Mapped, name: str, storage: str) -> None:
    X = torch.as_tensor(blobs.X).bfloat16().float().numpy()
    net = MixedNet(Net, **USER, random_state=0)
    same = clone(net).set_params(storage=storage).fit(SKORCH_FORMS[name](X, mapped), blobs.y)
    assert_same_net(net.fit(X, blobs.y), same)


@pytest.mark.parametrize("name", SKORCH_FORMS)
def test_skorch_net_predicts_what_it_can_learn_from(blobs: Any, mapped: Mapped, name: str) -> None:
    X = torch.as_tensor(blobs.X).bfloat16().float().numpy()
    net = MixedNet(Net, **USER, random_state=0).fit(X, blobs.y)
    np.testing.assert_array_equal(net.predict(SKORCH_FORMS[name](X, mapped)), net.predict(X))


@pytest.mark.parametrize("storage", ["auto", "host"])
def test_integers_of_a_skorch_net_stay_integers(blobs: Any, mapped: Mapped, storage: str) -> None:
    letters = np.random.default_rng(0).integers(5, size=(60, 2))
    net = MixedNet(Letters, alpha=0, **USER, random_state=0)
    same = clone(net).set_params(storage=storage).fit(mapped(letters, "c"), blobs.y)
    assert_same_net(net.fit(letters, blobs.y), same)


# -- scikit-learn ------------------------------------------------------------------------


def test_grid_search_over_storage_scores_alike(blobs: Any, mapped: Mapped) -> None:
    grid = {"storage": ["auto", "device", "host"]}
    search = GridSearchCV(MixupClassifier(**QUICK), grid, cv=3).fit(mapped(blobs.X), blobs.y)
    assert len(set(search.cv_results_["mean_test_score"])) == 1


@pytest.mark.parametrize("storage", ["auto", "host"])
def test_mapped_file_is_cross_validated_as_an_array(blobs: Any, mapped: Mapped, storage: str) -> None:
    net = MixupClassifier(**QUICK, storage=storage)
    options = {"cv": 3, "method": "predict_proba"}
    expected = cross_val_predict(net, blobs.X, blobs.y, **options)
    np.testing.assert_array_equal(cross_val_predict(net, mapped(blobs.X), blobs.y, **options), expected)


@pytest.mark.parametrize("owner", [*ESTIMATORS, MixedNet])
def test_options_of_storage_round_trip(owner: Any) -> None:
    options = {"storage": "host", "channels_last": True, "cuda_graph": True}
    start = {"module": Net, "criterion": nn.CrossEntropyLoss} if owner is MixedNet else {}
    defaults = owner(**start)
    assert {name: getattr(defaults, name) for name in options} == {
        "storage": "auto",
        "channels_last": False,
        "cuda_graph": False,
    }
    net = clone(owner(**start, **options))
    assert options.items() <= net.get_params().items()
    assert options.items() <= defaults.set_params(**options).get_params().items()


@pytest.mark.parametrize("owner", ESTIMATORS)
def test_options_of_storage_are_shown(owner: Any) -> None:
    net = owner(storage="host", channels_last=True)
    assert repr(net) == f"{owner.__name__}(channels_last=True, storage='host')"
