"""Data larger than the device's room, and bad values of the options of storage."""

from collections.abc import Callable
import re
from typing import Any

import numpy as np
import pytest
from scipy import sparse
from skorch import NeuralNet
import torch

from sk_mixup import MixupClassifier, MixupNetMixin, MixupRegressor
from sk_mixup._data.storage import HostRows, SparseRows
from tests.helpers.nets import ESTIMATORS, QUICK, USER, Net, Sum, get_weights, is_equal
from tests.helpers.sampling import each_pair

pytestmark = pytest.mark.usefixtures("warn_always")

STREAMED = r"X does not fit into half of the device's free memory: .*Set storage='host'"
TOO_LARGE = (
    r"storage must be 'auto' or 'host' for data larger than half of the device's free memory; got 'device' "
    r"for [\d.]+ GiB where half is [\d.]+ GiB\. Use 'auto'\."
)


class MixedNet(MixupNetMixin, NeuralNet):
    """skorch's plainest net with mixed training."""


def _make(owner: Any, **options: Any) -> Any:
    if owner is MixedNet:
        return MixedNet(Net, random_state=0, **{**USER, **options})
    return owner(**{**QUICK, **options})


OWNERS = [*ESTIMATORS, MixedNet]
Limit = Callable[[int | None], None]


@pytest.fixture
def limit(monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Say how many bytes of data the device may hold."""

    def set_room(n_bytes: int | None) -> None:
        monkeypatch.setattr("sk_mixup._skorch.datasets.find_room", lambda device: n_bytes)

    return set_room


# -- streaming ---------------------------------------------------------------------------

FORMS: dict[str, Callable[[np.ndarray], Any]] = {
    "float32": lambda X: X,
    "float64": lambda X: X.astype(np.float64),
    "int64": lambda X: np.round(X).astype(np.int64),
    "tensor": torch.as_tensor,
    "list": lambda X: X.tolist(),
}


@each_pair(
    {"owner": ESTIMATORS, "name": FORMS, "options": [{}, {"early_stopping": True}, {"partners": "dataset"}]}
)
def test_data_too_large_for_the_device_are_streamed(
    blobs: Any, limit: Limit, owner: Any, name: str, options: dict[str, Any]
) -> None:
    X = FORMS[name](blobs.X)
    net, streamed = _make(owner, **options).fit(X, blobs.y), _make(owner, **options)
    limit(100)
    with pytest.warns(UserWarning, match=STREAMED) as record:
        streamed.fit(X, blobs.y)
    assert len([warning for warning in record if "early" not in str(warning.message)]) == 1
    assert is_equal(get_weights(net), get_weights(streamed))
    assert streamed.loss_curve_ == net.loss_curve_
    predictions = streamed.predict(X), streamed.score(X, blobs.y)  # a warning would be an error
    limit(None)
    np.testing.assert_array_equal(predictions[0], net.predict(X))
    assert predictions[1] == net.score(X, blobs.y)


def test_probabilities_are_streamed_without_a_word(blobs: Any, limit: Limit) -> None:
    net = _make(MixupClassifier).fit(blobs.X, blobs.y)
    expected = net.predict_proba(blobs.X)
    limit(100)
    assert isinstance(net.get_dataset(blobs.X, blobs.y).x, HostRows)
    np.testing.assert_array_equal(net.predict_proba(blobs.X), expected)


def test_skorch_net_streams_what_is_too_large(blobs: Any, limit: Limit) -> None:
    net, streamed = _make(MixedNet).fit(blobs.X, blobs.y), _make(MixedNet)
    limit(100)
    with pytest.warns(UserWarning, match=STREAMED) as record:
        streamed.fit(blobs.X, blobs.y)
    assert len(record) == 1
    assert is_equal(get_weights(net), get_weights(streamed))
    np.testing.assert_array_equal(streamed.predict(blobs.X), net.predict(blobs.X))


def test_mapping_too_large_for_the_device_is_streamed(blobs: Any, limit: Limit) -> None:
    X = {"a": blobs.X, "b": -blobs.X}
    net, streamed = MixupClassifier(Sum, **QUICK).fit(X, blobs.y), MixupClassifier(Sum, **QUICK)
    limit(2 * blobs.X.nbytes - 1)
    with pytest.warns(UserWarning, match=STREAMED) as record:
        streamed.fit(X, blobs.y)
    assert len(record) == 1
    np.testing.assert_array_equal(streamed.predict_proba(X), net.predict_proba(X))


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
def test_every_way_to_train_says_that_it_streams(blobs: Any, limit: Limit, method: str) -> None:
    limit(100)
    net = _make(MixupClassifier)
    for _ in range(2):
        with pytest.warns(UserWarning, match=STREAMED) as record:
            getattr(net, method)(blobs.X, blobs.y)
        assert len(record) == 1


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.uint8])
@pytest.mark.parametrize("storage", ["auto", "device"])
def test_data_that_just_fit_are_kept_on_the_device(
    blobs: Any, limit: Limit, dtype: Any, storage: str
) -> None:
    X = np.abs(blobs.X).astype(dtype)
    limit(4 * X.size)
    net = _make(MixupClassifier, storage=storage).fit(X, blobs.y)
    limit(4 * X.size - 1)
    with pytest.raises(ValueError, match=TOO_LARGE):
        net.set_params(storage="device").fit(X, blobs.y)


def test_room_is_counted_in_the_dtype_of_the_module(blobs: Any, limit: Limit, float64: None) -> None:
    limit(8 * blobs.X.size)
    net = _make(MixupClassifier).fit(blobs.X, blobs.y)
    limit(8 * blobs.X.size - 1)
    with pytest.warns(UserWarning, match=STREAMED):
        net.fit(blobs.X, blobs.y)


@pytest.mark.parametrize("storage", ["auto", "device", "host"])
def test_sparse_rows_are_kept_on_the_device_whatever_its_room(blobs: Any, limit: Limit, storage: str) -> None:
    X = sparse.csr_matrix(blobs.X)
    limit(100)
    net = _make(MixupClassifier, storage=storage).fit(X, blobs.y)
    assert isinstance(net.get_dataset(X, blobs.y).x, SparseRows)


@pytest.mark.parametrize("owner", OWNERS)
def test_host_storage_says_nothing(blobs: Any, limit: Limit, owner: Any) -> None:
    limit(100)
    net = _make(owner, storage="host").fit(blobs.X, blobs.y)
    net.predict(blobs.X)
    net.partial_fit(blobs.X, blobs.y)


def test_mapped_file_larger_than_the_device_says_nothing(blobs: Any, limit: Limit, tmp_path: Any) -> None:
    np.save(tmp_path / "X.npy", blobs.X)
    limit(100)
    _make(MixupClassifier).fit(np.load(tmp_path / "X.npy", mmap_mode="r"), blobs.y)


def test_mapping_with_one_mapped_array_says_nothing(blobs: Any, limit: Limit, tmp_path: Any) -> None:
    np.save(tmp_path / "X.npy", blobs.X)
    limit(2 * blobs.X.nbytes)
    X = {"a": np.load(tmp_path / "X.npy", mmap_mode="r"), "b": blobs.X}
    MixupClassifier(Sum, **QUICK).fit(X, blobs.y)


# -- device storage of what does not fit -------------------------------------------------


@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("owner", OWNERS)
def test_device_storage_refuses_what_is_too_large(blobs: Any, limit: Limit, owner: Any, method: str) -> None:
    limit(100)
    with pytest.raises(ValueError, match=TOO_LARGE):
        getattr(_make(owner, storage="device"), method)(blobs.X, blobs.y)


def test_refusal_of_what_is_too_large_names_both_sizes(limit: Limit) -> None:
    limit(2**28)
    X, y = np.broadcast_to(np.float32(1), (2**14, 2**13)), np.arange(2**14) % 2
    net = MixedNet(Net, random_state=0, **USER, storage="device").initialize()
    with pytest.raises(ValueError, match=r"got 'device' for 0\.50 GiB where half is 0\.25 GiB\."):
        net.partial_fit(X, y)


@pytest.mark.parametrize("warm_start", [False, True])
@pytest.mark.parametrize("method", ["fit", "partial_fit"])
@pytest.mark.parametrize("owner", ESTIMATORS)
def test_refusal_of_what_is_too_large_leaves_the_net_as_it_was(
    blobs: Any, limit: Limit, owner: Any, method: str, warm_start: bool
) -> None:
    net = _make(owner, warm_start=warm_start).fit(blobs.X, blobs.y)
    expected, n_iter, losses = net.predict(blobs.X), net.n_iter_, net.loss_curve_
    net.set_params(storage="device")
    limit(100)
    with pytest.raises(ValueError, match=TOO_LARGE):
        getattr(net, method)(blobs.X, blobs.y)
    limit(None)
    np.testing.assert_array_equal(net.predict(blobs.X), expected)
    assert (net.n_iter_, net.loss_curve_) == (n_iter, losses)


# -- bad values --------------------------------------------------------------------------

BAD = [
    ({"storage": "gpu"}, ValueError, r"storage must be one of 'auto', 'device', 'host'; got 'gpu'\. Choose"),
    ({"storage": "hots"}, ValueError, r"storage must be one of .*; got 'hots'\. Did you mean 'host'\?"),
    ({"storage": "HOST"}, ValueError, r"storage must be one of .*; got 'HOST'\."),
    ({"storage": None}, ValueError, r"storage must be one of .*; got None\. Choose one of them\."),
    ({"storage": 3}, ValueError, r"storage must be one of .*; got 3\. Choose one of them\."),
    ({"storage": ["host"]}, ValueError, r"storage must be one of .*; got \['host'\]\."),
    ({"channels_last": 1}, TypeError, r"channels_last must be True or False; got 1\. Use True for conv"),
    ({"channels_last": "yes"}, TypeError, r"channels_last must be True or False; got 'yes'\. Use True"),
    ({"channels_last": None}, TypeError, r"channels_last must be True or False; got None\."),
    ({"cuda_graph": "yes"}, TypeError, r"cuda_graph must be True or False; got 'yes'\. Use True for a small"),
    ({"cuda_graph": 1}, TypeError, r"cuda_graph must be True or False; got 1\."),
    (
        {"cuda_graph": True},
        ValueError,
        r"cuda_graph must be False for device 'cpu'; got True\. Use it with device='cuda'\.",
    ),
]


@each_pair({"owner": OWNERS, "options,error,match": BAD, "method": ["fit", "partial_fit"]})
def test_bad_option_is_refused_before_training(
    blobs: Any, owner: Any, options: dict[str, Any], error: type[Exception], match: str, method: str
) -> None:
    net = _make(owner, **options)
    with pytest.raises(error, match=match):
        getattr(net, method)(blobs.X, blobs.y)
    assert not net.initialized_


@each_pair({"owner": OWNERS, "options,error": [row[:2] for row in BAD], "method": ["fit", "partial_fit"]})
def test_bad_option_leaves_an_earlier_fit_as_it_was(
    blobs: Any, owner: Any, options: dict[str, Any], error: type[Exception], method: str
) -> None:
    net = _make(owner).fit(blobs.X, blobs.y)
    expected, history = net.predict(blobs.X), list(net.history)
    name = next(iter(options))
    default = getattr(net, name)
    with pytest.raises(error, match=re.escape(name)):
        getattr(net.set_params(**options), method)(blobs.X, blobs.y)
    assert list(net.history) == history
    np.testing.assert_array_equal(net.set_params(**{name: default}).predict(blobs.X), expected)


@pytest.mark.parametrize("name", ["strage", "chanels_last", "cudagraph"])
def test_misspelt_name_of_an_option_is_refused(blobs: Any, name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be an option of MixupRegressor.*Did you mean"):
        MixupRegressor(**{name: True}).fit(blobs.X, blobs.y)


@pytest.mark.parametrize("value", [np.True_, np.False_, True, False], ids=repr)
def test_numpy_booleans_are_booleans(blobs: Any, value: Any) -> None:
    net = _make(MixupClassifier, channels_last=value, cuda_graph=np.False_).fit(blobs.X, blobs.y)
    expected = _make(MixupClassifier).fit(blobs.X, blobs.y)
    assert is_equal(get_weights(net), get_weights(expected))
