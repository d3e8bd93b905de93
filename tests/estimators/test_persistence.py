"""A fitted net is saved, copied, loaded and continued without a change."""

from collections.abc import Callable
import copy
import io
import itertools
import json
import os
from pathlib import Path
import pickle
import stat
import subprocess
import sys
from typing import Any

import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone, is_classifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skorch.callbacks import Checkpoint
import torch

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor
from sk_mixup._compare.output import write_file
from tests.helpers.sampling import each_pair

QUICK = {
    "early_stopping": False,
    "max_epochs": 3,
    "lr": 0.02,
    "module__hidden_layer_sizes": (8,),
    "random_state": 0,
}


def _predict(net: Any, X: Any) -> tuple[np.ndarray, ...]:
    """Return all that the net says about the rows."""
    return (net.predict(X), *((net.predict_proba(X),) if is_classifier(net) else ()))


def _assert_predict_alike(net: Any, other: Any, X: Any) -> None:
    for actual, expected in zip(_predict(net, X), _predict(other, X), strict=True):
        np.testing.assert_array_equal(actual, expected)
        assert actual.dtype == expected.dtype


# -- the whole object --------------------------------------------------------------------


def _pickle(net: Any, _: Path) -> Any:
    return pickle.loads(pickle.dumps(net))


def _dump(net: Any, folder: Path) -> Any:
    joblib.dump(net, folder / "net.joblib")
    return joblib.load(folder / "net.joblib")


def _copy(net: Any, _: Path) -> Any:
    return copy.deepcopy(net)


COPIES = [_pickle, _dump, _copy]
FITS = [
    pytest.param(MixupClassifier, "blobs", {}, id="multiclass"),
    pytest.param(MixupClassifier, "binary", {}, id="binary"),
    pytest.param(MixupClassifier, "multilabel", {}, id="multilabel"),
    pytest.param(MixupClassifier, "blobs", {"early_stopping": True}, id="early-stopping"),
    pytest.param(MixupClassifier, "blobs", {"autocast": "bfloat16", "early_stopping": True}, id="autocast"),
    pytest.param(MixupRegressor, "line", {}, id="regression"),
    pytest.param(MixupRegressor, "plane", {}, id="two-targets"),
]


@pytest.fixture
def fit(request: pytest.FixtureRequest) -> Callable[..., tuple[Any, Any]]:
    """Fit an estimator on a named table and return it with the table."""

    def run(owner: type, data: str, options: dict[str, Any]) -> tuple[Any, Any]:
        table = request.getfixturevalue(data)
        return owner(**{**QUICK, **options}).fit(table.X, table.y), table

    return run


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize(("owner", "data", "options"), FITS)
def test_copy_predicts_the_same(
    fit: Any, tmp_path: Path, duplicate: Any, owner: type, data: str, options: dict
) -> None:
    net, table = fit(owner, data, options)
    _assert_predict_alike(duplicate(net, tmp_path), net, table.X)


@pytest.mark.parametrize("duplicate", COPIES)
@pytest.mark.parametrize(("owner", "data", "options"), FITS)
def test_copy_goes_on_training_as_the_net_does(
    fit: Any, tmp_path: Path, duplicate: Any, owner: type, data: str, options: dict
) -> None:
    net, table = fit(owner, data, options)
    other = duplicate(net, tmp_path)
    net.partial_fit(table.X, table.y)
    other.partial_fit(table.X, table.y)
    _assert_predict_alike(other, net, table.X)
    assert other.loss_curve_ == net.loss_curve_


@pytest.mark.parametrize("duplicate", COPIES)
def test_copy_is_independent(fit: Any, tmp_path: Path, duplicate: Any) -> None:
    net, table = fit(MixupClassifier, "blobs", {})
    expected = net.predict_proba(table.X)
    duplicate(net, tmp_path).partial_fit(table.X, table.y)
    np.testing.assert_array_equal(net.predict_proba(table.X), expected)


@pytest.mark.parametrize("duplicate", COPIES)
def test_copy_keeps_options_and_attributes(fit: Any, tmp_path: Path, duplicate: Any) -> None:
    net, _ = fit(MixupClassifier, "blobs", {"alpha": 0.3})
    other = duplicate(net, tmp_path)
    assert other.get_params(deep=False) == net.get_params(deep=False)
    assert other.n_iter_ == net.n_iter_
    assert other.loss_curve_ == net.loss_curve_
    assert repr(other) == repr(net)


@pytest.mark.parametrize("duplicate", COPIES)
def test_unfitted_net_is_copied_with_its_options(tmp_path: Path, duplicate: Any, blobs: Any) -> None:
    net = MixupClassifier(**QUICK)
    other = duplicate(net, tmp_path)
    assert other.get_params(deep=False) == net.get_params(deep=False)
    _assert_predict_alike(other.fit(blobs.X, blobs.y), net.fit(blobs.X, blobs.y), blobs.X)


def test_pipeline_is_pickled_whole(blobs: Any) -> None:
    pipeline = make_pipeline(StandardScaler(), MixupClassifier(**QUICK)).fit(blobs.X, blobs.y)
    other = pickle.loads(pickle.dumps(pipeline))
    _assert_predict_alike(other, pipeline, blobs.X)


def test_pickle_does_not_hold_the_training_set(blobs: Any) -> None:
    small = MixupClassifier(**QUICK).fit(blobs.X, blobs.y)
    rows = np.tile(np.arange(60), 100)
    large = MixupClassifier(**QUICK, batch_size=-1).fit(blobs.X[rows], blobs.y[rows])
    assert len(pickle.dumps(large)) < 2 * len(pickle.dumps(small))


# -- weights in files --------------------------------------------------------------------


def _as_path(folder: Path, name: str) -> Any:
    return folder / name


def _as_text(folder: Path, name: str) -> Any:
    return str(folder / name)


@pytest.mark.parametrize("use_safetensors", [False, True])
@pytest.mark.parametrize("target", [_as_path, _as_text])
@pytest.mark.parametrize(("owner", "data", "options"), FITS)
def test_saved_weights_load_into_an_initialized_net(
    fit: Any, tmp_path: Path, use_safetensors: bool, target: Any, owner: type, data: str, options: dict
) -> None:
    net, table = fit(owner, data, options)
    net.save_params(f_params=target(tmp_path, "net"), use_safetensors=use_safetensors)
    other = clone(net).set_params(max_epochs=0, random_state=9).fit(table.X, table.y)
    other.load_params(f_params=target(tmp_path, "net"), use_safetensors=use_safetensors)
    _assert_predict_alike(other, net, table.X)


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_saved_weights_load_from_memory(fit: Any, use_safetensors: bool) -> None:
    net, table = fit(MixupClassifier, "blobs", {})
    file = io.BytesIO()
    net.save_params(f_params=file, use_safetensors=use_safetensors)
    file.seek(0)
    other = clone(net).set_params(max_epochs=0, random_state=9).fit(table.X, table.y)
    other.load_params(f_params=file, use_safetensors=use_safetensors)
    _assert_predict_alike(other, net, table.X)


def test_training_goes_on_from_saved_weights_optimizer_and_history(fit: Any, tmp_path: Path) -> None:
    net, table = fit(
        MixupClassifier, "blobs", {"alpha": 0, "batch_size": -1, "iterator_train__shuffle": False}
    )
    files = {f"f_{part}": tmp_path / part for part in ("params", "optimizer", "history")}
    net.save_params(**files)
    other = clone(net).set_params(max_epochs=0).fit(table.X, table.y).set_params(max_epochs=3)
    other.load_params(**files)
    net.partial_fit(table.X, table.y)
    other.partial_fit(table.X, table.y)
    _assert_predict_alike(other, net, table.X)
    assert other.loss_curve_ == net.loss_curve_


LABELS = [
    pytest.param(np.array(["ash", "beech", "cedar"]), id="strings"),
    pytest.param(np.array(["ash", "beech", "cedar"], dtype=object), id="objects"),
    pytest.param(np.array(["Eschenöl", "Ω", "日"]), id="unicode"),
    pytest.param(np.array([-7, 2, 900]), id="ints"),
    pytest.param(np.array([1.0, 2.0, 5.0]), id="floats"),
    pytest.param(np.array([1, 3, 200], dtype=np.uint8), id="bytes"),
    pytest.param(np.array([False, True, True]), id="bools"),
]


@pytest.mark.parametrize("labels", LABELS)
def test_safetensors_make_a_new_net_predict_labels(blobs: Any, tmp_path: Path, labels: np.ndarray) -> None:
    net = MixupClassifier(**QUICK).fit(blobs.X, labels[blobs.y])
    net.save_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    other = MixupClassifier(**QUICK)
    other.load_params(f_params=tmp_path / "net.safetensors", use_safetensors=True)
    _assert_predict_alike(other, net, blobs.X)
    assert other.classes_.tolist() == net.classes_.tolist()
    assert other.classes_.dtype == net.classes_.dtype


@pytest.mark.parametrize(("owner", "data", "options"), FITS)
def test_safetensors_make_a_new_net_predict(
    fit: Any, tmp_path: Path, owner: type, data: str, options: dict
) -> None:
    net, table = fit(owner, data, options)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = clone(net)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    _assert_predict_alike(other, net, table.X)


@pytest.mark.parametrize(("owner", "data", "options"), FITS)
def test_net_loaded_from_safetensors_goes_on_training(
    fit: Any, tmp_path: Path, owner: type, data: str, options: dict
) -> None:
    net, table = fit(owner, data, options)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = clone(net)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    assert other.partial_fit(table.X, table.y).n_iter_ == QUICK["max_epochs"]


def test_safetensors_hold_feature_names(blobs: Any) -> None:
    frame = pd.DataFrame(blobs.X, columns=list("abcde"))
    net, file = MixupClassifier(**QUICK).fit(frame, blobs.y), io.BytesIO()
    net.save_params(f_params=file, use_safetensors=True)
    file.seek(0)
    other = MixupClassifier(**QUICK)
    other.load_params(f_params=file, use_safetensors=True)
    _assert_predict_alike(other, net, frame)
    with pytest.raises(ValueError, match="same order"):
        other.predict(frame[list("edcba")])


def test_safetensors_hold_the_shape_of_images(blobs: Any, tmp_path: Path) -> None:
    images = np.tile(blobs.X[:, None, :, None], (1, 1, 1, 4))
    net = MixupClassifier(**QUICK).fit(images, blobs.y)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = MixupClassifier(**QUICK)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    _assert_predict_alike(other, net, images)
    with pytest.raises(ValueError, match="shape seen in fit"):
        other.predict(images[..., :3])


def test_safetensors_replace_what_an_earlier_fit_learned(blobs: Any, binary: Any, tmp_path: Path) -> None:
    net = MixupClassifier(**QUICK).fit(blobs.X, blobs.y)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = MixupClassifier(**QUICK).fit(binary.X[:, :3], np.array(["no", "yes"])[binary.y])
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    _assert_predict_alike(other, net, blobs.X)


class _NoPickle(pickle.Unpickler):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        raise AssertionError("a pickle was read")


def test_safetensors_load_without_pickle(fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    net, table = fit(MixupClassifier, "blobs", {})
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    other = MixupClassifier(**QUICK)
    monkeypatch.setattr(pickle, "Unpickler", _NoPickle)
    monkeypatch.setattr(pickle, "load", _NoPickle)
    monkeypatch.setattr(pickle, "loads", _NoPickle)
    monkeypatch.setattr(torch, "load", _NoPickle)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    _assert_predict_alike(other, net, table.X)


def test_safetensors_file_is_one_that_others_read(fit: Any, tmp_path: Path) -> None:
    from safetensors.torch import load_file

    net, _ = fit(MixupClassifier, "blobs", {})
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    state = load_file(tmp_path / "net")
    assert state.keys() == net.module_.state_dict().keys()
    assert all(torch.equal(state[name], tensor) for name, tensor in net.module_.state_dict().items())


def test_foreign_safetensors_file_loads_into_an_initialized_net(fit: Any, tmp_path: Path) -> None:
    from safetensors.torch import save_file

    net, table = fit(MixupClassifier, "blobs", {})
    save_file(net.module_.state_dict(), tmp_path / "net")
    other = clone(net).set_params(max_epochs=0, random_state=9).fit(table.X, table.y)
    other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    _assert_predict_alike(other, net, table.X)


def test_safetensors_of_another_module_are_refused_without_harm(fit: Any, tmp_path: Path) -> None:
    net, table = fit(MixupClassifier, "blobs", {})
    other = MixupClassifier(**{**QUICK, "module__hidden_layer_sizes": (9,)}).fit(table.X[:, :4], table.y)
    expected = other.predict_proba(table.X[:, :4])
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    with pytest.raises(RuntimeError, match="size mismatch"):
        other.load_params(f_params=tmp_path / "net", use_safetensors=True)
    np.testing.assert_array_equal(other.predict_proba(table.X[:, :4]), expected)


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_unfitted_net_has_nothing_to_save(tmp_path: Path, use_safetensors: bool) -> None:
    with pytest.raises(Exception, match=r"(?i)fit|initialize"):
        MixupClassifier().save_params(f_params=tmp_path / "net", use_safetensors=use_safetensors)
    assert list(tmp_path.iterdir()) == []


def test_history_is_saved_as_json(fit: Any, tmp_path: Path) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    net.save_params(f_history=tmp_path / "history.json")
    epochs = json.loads((tmp_path / "history.json").read_text())
    assert [epoch["train_loss"] for epoch in epochs] == net.loss_curve_


# -- whole files or none -----------------------------------------------------------------


def _write_half(*args: Any, **_: Any) -> None:
    """Write something to the path among the arguments, and fail."""
    target = next(Path(arg) for arg in args if isinstance(arg, str | Path))
    with target.open("wb") as file:
        file.write(b"half")
    raise OSError("disk full")


def _write_nothing(*_: Any, **__: Any) -> None:
    raise OSError("disk full")


@pytest.mark.parametrize(
    ("options", "owner", "name", "failing"),
    [
        pytest.param({}, torch, "save", _write_half, id="torch"),
        pytest.param({"use_safetensors": True}, Path, "write_bytes", _write_half, id="safetensors"),
        pytest.param({}, Path, "replace", _write_nothing, id="torch-rename"),
        pytest.param({"use_safetensors": True}, Path, "replace", _write_nothing, id="safetensors-rename"),
    ],
)
@pytest.mark.parametrize("existing", [True, False])
def test_failed_save_leaves_the_folder_as_it_was(
    fit: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    options: dict,
    owner: Any,
    name: str,
    failing: Any,
    existing: bool,
) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    if existing:
        net.save_params(f_params=tmp_path / "net", **options)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(owner, name, failing)
    with pytest.raises(OSError, match="disk full"):
        net.save_params(f_params=tmp_path / "net", **options)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_failed_history_leaves_the_weights_as_they_were(
    fit: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, table = fit(MixupClassifier, "blobs", {})
    files = {"f_params": tmp_path / "params", "f_history": tmp_path / "history"}
    net.save_params(**files)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    net.partial_fit(table.X, table.y)
    monkeypatch.setattr(type(net.history), "to_file", _write_half)
    with pytest.raises(OSError, match="disk full"):
        net.save_params(**files)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_optimizer_in_safetensors_is_refused_and_nothing_is_written(fit: Any, tmp_path: Path) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    with pytest.raises(ValueError, match=r"f_optimizer must be None where use_safetensors=True.*/optimizer'"):
        net.save_params(
            f_params=tmp_path / "params", f_optimizer=tmp_path / "optimizer", use_safetensors=True
        )
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_save_into_a_missing_folder_names_the_users_file(
    fit: Any, tmp_path: Path, use_safetensors: bool
) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/missing/net'$"):
        net.save_params(f_params=tmp_path / "missing" / "net", use_safetensors=use_safetensors)
    with pytest.raises(FileNotFoundError, match=r"No such file or directory: '.*/missing/net'$"):
        net.save_params(tmp_path / "there", f_history=tmp_path / "missing" / "net")
    assert list(tmp_path.iterdir()) == []


def _save_params(net: Any, path: Path) -> None:
    net.save_params(f_params=path)


def _save_safetensors(net: Any, path: Path) -> None:
    net.save_params(f_params=path, use_safetensors=True)


def _save_history(net: Any, path: Path) -> None:
    net.save_params(f_history=path)


def _write_output(net: Any, path: Path) -> None:
    write_file(path, b"content")


WRITERS = [_save_params, _save_safetensors, _save_history, _write_output]
needs_posix = pytest.mark.skipif(os.name != "posix", reason="permissions are those of POSIX")


@needs_posix
@pytest.mark.parametrize("mode", [0o600, 0o640, 0o664, 0o777])
@pytest.mark.parametrize("write", WRITERS)
def test_a_file_that_is_replaced_keeps_its_permissions(
    fit: Any, tmp_path: Path, write: Any, mode: int
) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    path = tmp_path / "net"
    path.touch()
    path.chmod(mode)
    write(net, path)
    assert path.stat().st_size
    assert stat.S_IMODE(path.stat().st_mode) == mode


@needs_posix
@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077])
@pytest.mark.parametrize("write", WRITERS)
def test_a_new_file_has_the_permissions_of_any_new_file(
    fit: Any, tmp_path: Path, write: Any, mask: int
) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    before = os.umask(mask)
    try:
        write(net, tmp_path / "net")
        (tmp_path / "other").touch()
    finally:
        os.umask(before)
    assert (tmp_path / "net").stat().st_mode == (tmp_path / "other").stat().st_mode


@needs_posix
@pytest.mark.parametrize("exists", [True, False])
@pytest.mark.parametrize("write", WRITERS)
def test_a_link_stays_one_and_its_target_is_written(
    fit: Any, tmp_path: Path, write: Any, exists: bool
) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    (tmp_path / "folder").mkdir()
    target, link = tmp_path / "folder" / "target", tmp_path / "link"
    link.symlink_to(target)
    if exists:
        target.write_bytes(b"")
    write(net, link)
    assert link.is_symlink()
    assert target.stat().st_size
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["folder", "link", "target"]


@needs_posix
@pytest.mark.parametrize("write", [_save_safetensors, _save_history, _write_output])
def test_what_is_no_file_is_written_in_place(fit: Any, tmp_path: Path, write: Any) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDWR | os.O_NONBLOCK)
    try:
        write(net, tmp_path / "pipe")
        assert os.read(reader, 4)
    finally:
        os.close(reader)
    assert (tmp_path / "pipe").is_fifo()


@pytest.mark.parametrize("use_safetensors", [False, True])
def test_save_overwrites_a_file_whole(fit: Any, tmp_path: Path, use_safetensors: bool) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    (tmp_path / "net").write_bytes(b"x" * 10**6)
    net.save_params(f_params=tmp_path / "net", use_safetensors=use_safetensors)
    assert (tmp_path / "net").stat().st_size < 10**5
    assert [path.name for path in tmp_path.iterdir()] == ["net"]


# -- the same seed, the same net ---------------------------------------------------------

SEEDED = [
    {},
    {"alpha": 0},
    {"alpha": 0.2, "n_mixed": 3, "lam_per": "batch"},
    {"partners": "same_class", "warmup_epochs": 1, "cooldown_epochs": 1},
    {"partners": "dataset", "module__dropout": 0.5},
    {"early_stopping": True},
]


@pytest.mark.parametrize("options", SEEDED, ids=str)
def test_same_seed_gives_the_same_net(fit: Any, options: dict) -> None:
    net, table = fit(MixupClassifier, "blobs", options)
    again = clone(net).fit(table.X, table.y)
    _assert_predict_alike(again, net, table.X)
    assert again.loss_curve_ == net.loss_curve_


@pytest.mark.parametrize("options", SEEDED, ids=str)
def test_other_seed_gives_another_net(fit: Any, options: dict) -> None:
    net, table = fit(MixupClassifier, "blobs", options)
    other = clone(net).set_params(random_state=1).fit(table.X, table.y)
    assert other.loss_curve_ != net.loss_curve_


def test_no_seed_gives_another_net_each_time(blobs: Any) -> None:
    net = MixupClassifier(**{**QUICK, "random_state": None})
    first = net.fit(blobs.X, blobs.y).loss_curve_
    assert net.fit(blobs.X, blobs.y).loss_curve_ != first


@pytest.mark.parametrize("make", [np.random.RandomState, np.random.default_rng])
def test_generator_as_seed_moves_on_and_repeats(blobs: Any, make: Any) -> None:
    def fit_twice(random_state: Any) -> list[list[float]]:
        net = MixupClassifier(**{**QUICK, "random_state": random_state})
        return [net.fit(blobs.X, blobs.y).loss_curve_ for _ in range(2)]

    first, second = fit_twice(make(0))
    assert first != second
    assert fit_twice(make(0)) == [first, second]


@pytest.mark.parametrize("seed", [np.int64(0), np.int32(0)])
def test_numpy_int_is_the_same_seed(fit: Any, blobs: Any, seed: Any) -> None:
    net, _ = fit(MixupClassifier, "blobs", {})
    other = MixupClassifier(**{**QUICK, "random_state": seed}).fit(blobs.X, blobs.y)
    assert other.loss_curve_ == net.loss_curve_


SCRIPT = """
import sys
import numpy as np
import torch
from sk_mixup import MixupClassifier

torch.set_num_threads(1)
table = np.load(sys.argv[1])
net = MixupClassifier(max_epochs=3, module__dropout=0.2, early_stopping=True, random_state=0)
np.save(sys.argv[2], net.fit(table["X"], table["y"]).predict_proba(table["X"]))
"""


def _run_script(*args: Path) -> None:
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", SCRIPT, *map(str, args)], check=True, cwd=root)


@pytest.mark.slow
def test_same_seed_gives_the_same_net_in_another_process(blobs: Any, tmp_path: Path) -> None:
    options = {"max_epochs": 3, "module__dropout": 0.2, "early_stopping": True, "random_state": 0}
    np.savez(tmp_path / "table.npz", X=blobs.X, y=blobs.y)
    _run_script(tmp_path / "table.npz", tmp_path / "proba.npy")
    net = MixupClassifier(**options).fit(blobs.X, blobs.y)
    np.testing.assert_array_equal(np.load(tmp_path / "proba.npy"), net.predict_proba(blobs.X))


def test_weights_loaded_into_a_fitted_net_leave_the_rest_as_it_is(blobs: Any, tmp_path: Path) -> None:
    net = MixupClassifier(**QUICK).fit(blobs.X, blobs.y)
    net.save_params(f_params=tmp_path / "net", use_safetensors=True)
    net.partial_fit(blobs.X, blobs.y)
    kept = {name: getattr(net, name) for name in ("module_", "optimizer_", "callbacks_", "generator_")}
    moments = [state["exp_avg"].clone() for state in net.optimizer_.state.values()]
    net.load_params(f_params=tmp_path / "net", use_safetensors=True)
    assert all(getattr(net, name) is value for name, value in kept.items())
    assert all(map(torch.equal, moments, [state["exp_avg"] for state in net.optimizer_.state.values()]))
    assert net.n_iter_ == 2 * QUICK["max_epochs"]


def test_checkpoint_in_safetensors_restores_the_best_weights(blobs: Any, tmp_path: Path) -> None:
    checkpoint = Checkpoint(dirname=tmp_path, use_safetensors=True, f_optimizer=None, load_best=True)
    options = {**QUICK, "callbacks": [checkpoint], "max_epochs": 12, "lr": 0.5}
    net = MixupClassifier(**options).fit(blobs.X, blobs.y)
    best = MixupClassifier(**QUICK)
    best.load_params(f_params=tmp_path / "params.pt", use_safetensors=True)
    _assert_predict_alike(net, best, blobs.X)
    assert "optimizer_" in vars(net)
    assert [name for name, _ in net.callbacks_].count("Checkpoint") == 1


def _say(net: Any, X: Any) -> Any:
    """Return what a fitted estimator says of rows."""
    return net.sample(5, random_state=0) if isinstance(net, MixupGAN) else net.predict(X)


GAN_OPTIONS = {"max_epochs": 1, "steps_per_epoch": 2, "batch_size": 8, "random_state": 0}
OWNERS: dict[type, dict[str, Any]] = {MixupClassifier: QUICK, MixupRegressor: QUICK, MixupGAN: GAN_OPTIONS}
PAIRS = list(itertools.permutations(OWNERS, 2))


@pytest.mark.parametrize(("owner", "other"), PAIRS)
@pytest.mark.parametrize("fitted", [False, True])
def test_a_file_of_another_estimator_is_refused_and_changes_nothing(
    blobs: Any, tmp_path: Path, owner: type, other: type, fitted: bool
) -> None:
    path = tmp_path / "net.safetensors"
    owner(**OWNERS[owner]).fit(blobs.X, blobs.y).save_params(path, use_safetensors=True)
    net = other(**OWNERS[other])
    before = _say(net.fit(blobs.X, blobs.y), blobs.X) if fitted else None
    with pytest.raises(
        ValueError,
        match=rf"f_params must be a file of a {other.__name__}, for targets of kind .*; got one for",
    ):
        net.load_params(path, use_safetensors=True)
    if fitted:
        np.testing.assert_array_equal(_say(net, blobs.X), before)


def _damage(content: bytes, how: str) -> bytes:
    end = 8 + int.from_bytes(content[:8], "little")
    return {
        "cut in the header": content[: end // 2],
        "cut after the header": content[:end],
        "cut in the tensors": content[:-3],
        "longer": content + b"x",
        "huge length": (2**62).to_bytes(8, "little") + content[8:],
        "other length": (end - 9).to_bytes(8, "little") + content[8:],
        "no JSON": content[:20] + b"\xff" + content[21:],
        "other JSON": content[:8] + b'{"a": [1]}'.ljust(end - 8) + content[end:],
    }[how]


DAMAGES = ["cut in the header", "cut after the header", "cut in the tensors", "longer", "huge length"]
DAMAGES += ["other length", "no JSON", "other JSON"]


@each_pair(
    {
        "owner": OWNERS,
        "how": DAMAGES,
        "in_memory": [False, True],
    }
)
def test_damaged_safetensors_are_refused_by_name_and_change_nothing(
    blobs: Any, tmp_path: Path, owner: type, how: str, in_memory: bool
) -> None:
    net, path = owner(**OWNERS[owner]).fit(blobs.X, blobs.y), tmp_path / "net.safetensors"
    net.save_params(path, use_safetensors=True)
    path.write_bytes(_damage(path.read_bytes(), how))
    file = io.BytesIO(path.read_bytes()) if in_memory else path
    before = _say(net, blobs.X)
    name = "BytesIO" if in_memory else r".*/net\.safetensors"
    for each in (net, clone(net)):
        with pytest.raises(
            ValueError, match=rf"f_params must be a whole safetensors file; got one .* damaged, '{name}'\."
        ):
            each.load_params(file, use_safetensors=True)
    np.testing.assert_array_equal(_say(net, blobs.X), before)


@pytest.mark.parametrize("content", [b"", b"short", b"PK\x03\x04 a file of torch.save"])
@pytest.mark.parametrize("owner", OWNERS)
def test_other_files_than_safetensors_are_refused_by_name(
    tmp_path: Path, owner: type, content: bytes
) -> None:
    (tmp_path / "net").write_bytes(content)
    with pytest.raises(ValueError, match=r"must be a safetensors file .*; got another, '.*/net'\. Leave the"):
        owner().load_params(tmp_path / "net", use_safetensors=True)
