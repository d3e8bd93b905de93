from pathlib import Path
from types import SimpleNamespace
from urllib.error import URLError

import numpy as np
import pandas as pd
import pytest
import ucimlrepo

from benchmarks.data import uci_download
from benchmarks.data.tables import load_tables
from benchmarks.data.uci_download import compute_content_digest, fetch_tables
from benchmarks.harness.command import UserError

pytestmark = pytest.mark.usefixtures("tiny_shapes")


class Network:
    """Stands for the libraries that fetch; counts what is asked of it."""

    def __init__(self, n_features: int = 4) -> None:
        generator = np.random.default_rng(1)
        self.features = pd.DataFrame(generator.normal(size=(12, n_features)))
        self.labels = pd.DataFrame({"class": ["a", "b"] * 6})
        self.ids: list[int] = []
        self.error: Exception | None = None

    def fetch_ucirepo(self, id: int) -> SimpleNamespace:
        self.ids.append(id)
        if self.error is not None:
            raise self.error
        return SimpleNamespace(data=SimpleNamespace(features=self.features, targets=self.labels))

    def fetch_openml(self, data_id: int, **_: object) -> SimpleNamespace:
        self.ids.append(data_id)
        return SimpleNamespace(data=self.features, target=self.labels["class"])


@pytest.fixture
def network(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Network:
    network = Network()
    monkeypatch.setenv("SCIKIT_LEARN_DATA", str(tmp_path / "data_home"))
    monkeypatch.setattr(ucimlrepo, "fetch_ucirepo", network.fetch_ucirepo)
    monkeypatch.setattr(uci_download, "fetch_openml", network.fetch_openml)
    return network


@pytest.mark.parametrize(("name", "number"), [("iris", 53), ("arcene", 1458), ("htru2", 372)])
def test_fetch_tables_asks_the_network_once(network: Network, name: str, number: int) -> None:
    first, second = fetch_tables([name]), fetch_tables([name])
    assert network.ids == [number]
    np.testing.assert_array_equal(first[name][0], network.features)
    np.testing.assert_array_equal(first[name][1], network.labels["class"])
    np.testing.assert_array_equal(second[name][0], first[name][0])


def test_fetch_tables_turns_abalone_sex_into_columns(network: Network) -> None:
    network.features = pd.DataFrame({"Sex": list("FIM") * 4, "Length": np.arange(12) / 8})
    X, _, _ = fetch_tables(["abalone"])["abalone"]
    np.testing.assert_array_equal(X[:3], np.column_stack([np.eye(3), np.arange(3) / 8]))


@pytest.mark.parametrize(("same", "words"), [(True, ", the same rows"), (False, ", not the same")])
def test_fetch_tables_says_whether_rows_are_known(
    network: Network, monkeypatch: pytest.MonkeyPatch, same: bool, words: str
) -> None:
    if same:
        digest = compute_content_digest(network.features.to_numpy(), network.labels["class"])
        monkeypatch.setattr(uci_download, "CONTENT_DIGESTS", {"iris": digest})
    assert words in fetch_tables(["iris"])["iris"][2]


def test_fetch_tables_refuses_a_cache_that_changed(network: Network, tmp_path: Path) -> None:
    fetch_tables(["iris"])
    path = tmp_path / "data_home" / "sk_mixup" / "iris.npz"
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(UserError, match="Delete it and run again with --download"):
        fetch_tables(["iris"])


def test_fetch_tables_refuses_another_size(network: Network) -> None:
    network.features = network.features.iloc[:, :3]
    with pytest.raises(UserError, match=r"iris must have \(12, 4, 2\) rows.*got \(12, 3, 2\)"):
        fetch_tables(["iris"])


@pytest.mark.parametrize(
    "error", [URLError("no network"), ConnectionError("no server"), KeyError("data_url")]
)
def test_fetch_tables_explains_a_failure(network: Network, error: Exception) -> None:
    network.error = error
    with pytest.raises(UserError, match=r"--download must reach the network for iris; got .*iris.data"):
        fetch_tables(["iris"])


def test_fetch_tables_names_a_missing_package(network: Network) -> None:
    network.error = ImportError("no ucimlrepo")
    with pytest.raises(UserError, match="pip install"):
        fetch_tables(["iris"])


def test_load_tables_fetches_only_what_the_folder_lacks(network: Network, uci_dir: Path) -> None:
    (uci_dir / "HTRU_2.csv").unlink()
    tables = load_tables(["iris", "htru2"], data_dir=uci_dir, download=True)
    assert network.ids == [372]
    assert tables[0].source == "UCI's files"
    assert tables[1].source.startswith("ucimlrepo")


def test_content_digest_ignores_order_and_label_names() -> None:
    generator = np.random.default_rng(2)
    X = generator.normal(size=(30, 3))
    X[4, 1] = np.nan
    y = generator.integers(0, 3, size=30)
    order = generator.permutation(30)
    names = np.array(["a", "b", "c"])[y]
    assert compute_content_digest(X[order], names[order]) == compute_content_digest(X, y)
    assert compute_content_digest(X[:, ::-1], y) != compute_content_digest(X, y)
    assert compute_content_digest(X, (y + 1) % 3) != compute_content_digest(X, y)
