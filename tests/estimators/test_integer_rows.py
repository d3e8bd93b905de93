"""Integer rows, such as token ids: they stay integers where the module takes nothing else."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.utils.data import TensorDataset

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from sk_mixup.mixing import CutMix, GaussianNoise, ManifoldMixup, Mixture, Mixup
from tests.helpers.nets import QUICK
from tests.helpers.stacking import fit_stacked

TOKENS = np.random.default_rng(0).integers(20, size=(24, 6))
LABELS = TOKENS[:, 0] % 3
OPTIONS = QUICK | {"max_epochs": 2, "batch_size": 8, "lr": 0.1, "optimizer": torch.optim.SGD}
DTYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]


class Text(nn.Module):
    """An embedding of tokens, whose mean is classified."""

    def __init__(self, n_outputs: int = 3) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 4)
        self.last = nn.Linear(4, n_outputs)

    def forward(self, X: Tensor) -> Tensor:
        return self.last(self.words(X).mean(dim=1))


def make_net(owner: Any = MixupClassifier, **options: Any) -> Any:
    return owner(Text, **{"alpha": 0, "iterator_train__shuffle": False, **OPTIONS, **options})


def train_by_hand(module: nn.Module) -> list[float]:
    optimizer, losses = torch.optim.SGD(module.parameters(), lr=0.1), []
    for _ in range(2):
        for start in range(0, 24, 8):
            rows = slice(start, start + 8)
            loss = F.cross_entropy(module(torch.tensor(TOKENS[rows])), torch.tensor(LABELS[rows]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return [float(np.mean(losses[:3])), float(np.mean(losses[3:]))]


def check(net: Any, module: nn.Module, rows: Any = TOKENS) -> None:
    """Compare with a loop of torch's, and predict."""
    assert net.loss_curve_ == pytest.approx(train_by_hand(module), rel=1e-4)
    expected = torch.softmax(module(torch.tensor(TOKENS)).detach().double(), 1)
    np.testing.assert_allclose(net.predict_proba(rows), expected, rtol=1e-4)


FORMS: dict[str, Any] = {
    **{dtype: TOKENS.astype(dtype) for dtype in DTYPES},
    "list": TOKENS.tolist(),
    "tensor": torch.tensor(TOKENS),
    "int32 tensor": torch.tensor(TOKENS, dtype=torch.int32),
    "dict": {"X": TOKENS.astype("int16")},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("storage", ["auto", "host"])
def test_integers_stay_integers(form: str, storage: str) -> None:
    module = make_net().initialize().module_
    net = make_net(storage=storage).fit(FORMS[form], LABELS)
    check(net, module, FORMS[form])
    if form != "dict":
        np.testing.assert_allclose(
            net.predict_proba(TOKENS.astype(float)), net.predict_proba(TOKENS), rtol=1e-6
        )
        with pytest.raises(ValueError, match=r"X must hold integers, as in fit, .* got 0\.5"):
            net.predict(TOKENS * 0 + 0.5)


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.int16, torch.uint8])
def test_integers_of_a_dataset_stay_integers(dtype: torch.dtype) -> None:
    module = make_net().initialize().module_
    rows = TensorDataset(torch.tensor(TOKENS).to(dtype), torch.tensor(LABELS))
    check(make_net().fit(rows), module, rows)


@pytest.mark.filterwarnings("ignore:stacked")
def test_other_ways_of_training_keep_integers_too(tmp_path: Any) -> None:
    nets = [make_net(), make_net(random_state=1)]
    fit_stacked([(net, TOKENS, LABELS) for net in nets])
    check(nets[0], make_net().initialize().module_)
    check(pickle.loads(pickle.dumps(nets[0])), make_net().initialize().module_)
    nets[0].save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = clone(nets[0])
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    np.testing.assert_array_equal(other.predict_proba(TOKENS), nets[0].predict_proba(TOKENS))
    net = make_net(max_epochs=1).partial_fit(TOKENS, LABELS).partial_fit(TOKENS, LABELS)
    assert net.loss_curve_ == pytest.approx(train_by_hand(make_net().initialize().module_), rel=1e-4)
    net = make_net(early_stopping=True).fit(TOKENS, LABELS)
    assert np.isfinite(net.history[:, ("train_loss", "valid_loss")]).all()
    net = make_net(MixupRegressor, module__n_outputs=1).fit(TOKENS, TOKENS[:, 0] / 20)
    assert net.predict(TOKENS).shape == (24,)


@pytest.mark.parametrize("layers", ["auto", ("words",), ("last",)])
@pytest.mark.parametrize("as_dataset", [False, True])
def test_hidden_layers_are_mixed(layers: Any, as_dataset: bool) -> None:
    module = nn.Sequential(nn.Embedding(20, 4), nn.Flatten(), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 3))
    if layers != "auto":
        module = nn.Sequential()
        module.words, module.flat, module.last = nn.Embedding(20, 4), nn.Flatten(), nn.Linear(24, 3)
    net = MixupClassifier(module, vicinity=ManifoldMixup(layers=layers), **OPTIONS)
    data = (TensorDataset(torch.tensor(TOKENS), torch.tensor(LABELS)),) if as_dataset else (TOKENS, LABELS)
    assert np.isfinite(net.fit(*data).loss_curve_).all()
    assert net.predict(TOKENS).shape == (24,)


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.4},
        {"alpha": 0.4, "warmup_epochs": 1},
        {"vicinity": GaussianNoise(0.1)},
        {"vicinity": CutMix()},
        {"vicinity": ManifoldMixup(layers=("input", "words"))},
        {"vicinity": Mixture((Mixup(0.4), ManifoldMixup(layers=("words",))))},
    ],
    ids=str,
)
@pytest.mark.parametrize("form", ["array", "Dataset"])
def test_mixing_of_codes_is_refused_with_a_reason(options: dict[str, Any], form: str) -> None:
    rows = TensorDataset(torch.tensor(TOKENS), torch.tensor(LABELS))
    with pytest.raises(ValueError, match=r"module that takes integers only.*ManifoldMixup"):
        make_net(**options).fit(*(TOKENS, LABELS) if form == "array" else (rows,))


def test_semi_supervised_training_refuses_codes() -> None:
    net = SemiSupervisedMixupClassifier(Text, alpha=0, max_epochs=1)
    with pytest.raises(ValueError, match="module that takes integers only"):
        net.fit(TOKENS, np.where(np.arange(24) < 12, LABELS, -1))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("alpha", [0.0, 0.4])
def test_tables_of_integers_are_floats_to_other_modules(dtype: str, alpha: float) -> None:
    nets = [MixupClassifier(alpha=alpha, **OPTIONS).fit(TOKENS.astype(d), LABELS) for d in (dtype, "float32")]
    np.testing.assert_array_equal(
        nets[0].predict_proba(TOKENS), nets[1].predict_proba(TOKENS.astype("float32"))
    )
    assert nets[0].loss_curve_ == nets[1].loss_curve_


def test_what_was_fitted_on_integers_may_be_fitted_on_floats() -> None:
    net = (
        make_net()
        .fit(TOKENS, LABELS)
        .set_params(module=nn.Linear, module__in_features=6, module__out_features=3)
    )
    rows = TOKENS / 20
    assert net.fit(rows, LABELS).predict(rows + 0.01).shape == (24,)


class LazyScaled(nn.Module):
    """Draws its weights where it sees a batch first."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.LazyLinear(2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.linear(x / 255)
        return out


@pytest.mark.filterwarnings("ignore:X must be near unit scale")
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("form", ["array", "Dataset"])
def test_weights_of_a_lazy_module_follow_the_seed(method: str, form: str) -> None:
    X = np.random.default_rng(0).integers(0, 256, (22, 6), dtype=np.uint8)
    y = np.arange(22) % 2
    weights = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        net = MixupClassifier(LazyScaled, max_epochs=1, early_stopping=False, random_state=0)
        data = (X, y) if form == "array" else (TensorDataset(torch.tensor(X), torch.tensor(y)), None)
        weights.append(getattr(net, method)(*data).module_.linear.weight.detach())
    assert torch.equal(*weights)


@pytest.mark.parametrize("dtype", ["int64", "Int64", "uint8", "UInt8", "category", "int64[pyarrow]"])
def test_codes_in_any_column_of_a_frame_are_integers(dtype: str) -> None:
    if "pyarrow" in dtype:
        pytest.importorskip("pyarrow")
    codes = np.random.default_rng(0).integers(0, 10, size=(60, 3))
    module = nn.Sequential(nn.Embedding(10, 4), nn.Flatten(), nn.Linear(12, 2))
    options: dict[str, Any] = {"alpha": 0, "max_epochs": 2, "early_stopping": False, "random_state": 0}
    y = codes[:, 0] % 2
    frame = pd.DataFrame(codes, columns=list("abc"))
    expected = MixupClassifier(module, **options).fit(frame, y)
    given = frame.astype(dtype)
    found = MixupClassifier(module, **options).fit(given, y)
    np.testing.assert_array_equal(found.predict_proba(given), expected.predict_proba(frame))
    assert found.feature_names_in_.tolist() == ["a", "b", "c"]


@pytest.mark.parametrize("dtype", ["float32", "int64", "Int64", "category"])
@pytest.mark.parametrize("model", [MixupClassifier(max_epochs=1), MixupRegressor(max_epochs=1)], ids=repr)
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_a_column_by_itself_is_refused_in_words(model: Any, method: str, dtype: str) -> None:
    with pytest.raises(ValueError, match="Expected a 2-dimensional container"):
        getattr(clone(model), method)(pd.Series(TOKENS[:, 0]).astype(dtype), LABELS)
