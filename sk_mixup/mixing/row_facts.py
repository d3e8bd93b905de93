"""What a policy may ask about the training rows."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from sk_mixup.mixing.columns import (
    Categorical,
    Columns,
    detect_columns,
    find_columns,
    measure_information,
)
from sk_mixup.mixing.plan import INPUT

if TYPE_CHECKING:
    from sklearn.neighbors import NearestNeighbors

__all__ = ["RowFacts"]

# Neighbours of so many rows are looked up at once.
CHUNK = 2**14


class RowFacts:
    """What a policy may ask about the training rows; found when first asked for, then kept.

    Parameters
    ----------
    labels : array-like of shape (n_samples,) or callable, default=None
        Class of each row.
    targets : array-like of shape (n_samples,) or (n_samples, n_outputs), or callable, default=None
        Real-valued targets of each row.
    inputs : array-like or sparse matrix of shape (n_samples, *features), or callable, default=None
        The examples.
    shape : tuple of int or callable, default=None
        Shape of one example; that of `inputs` if they are given as an array.
    layers : tuple of str or callable, default=None
        Names of the submodules that can be mixed at. A callable is given what the policy
        asks for, 'auto' or names, and returns names or raises.
    column_names : sequence of str, default=None
        Names of the columns of a table.
    is_category : array-like of bool, default=None
        Which columns of a table are known to hold categories: by their dtype in a data frame.
    is_dense : bool or callable, default=False
        Whether there is a label for each pixel: semantic segmentation.
    is_stream : bool, default=False
        Whether the rows come in an order of their own, a batch at a time: then a policy
        sees one batch only.

    Notes
    -----
    A callable takes no argument, is called at most once, and returns the array, or raises
    a ValueError that says why there is none.

    Examples
    --------
    >>> from sk_mixup.mixing import RowFacts
    >>> facts = RowFacts(inputs=[[0.0], [1.0], [5.0]], labels=["a", "b", "a"])
    >>> facts.find_neighbors(1).tolist()
    [[1], [0], [1]]
    >>> facts.find_neighbors(1, same_class=True).tolist()
    [[2], [1], [0]]
    """

    def __init__(
        self,
        *,
        labels: ArrayLike | Callable[[], ArrayLike] | None = None,
        targets: ArrayLike | Callable[[], ArrayLike] | None = None,
        inputs: ArrayLike | sparse.spmatrix | Callable[[], ArrayLike | sparse.spmatrix] | None = None,
        shape: tuple[int, ...] | Callable[[], tuple[int, ...] | None] | None = None,
        layers: Sequence[str] | Callable[[str | tuple[str, ...]], Sequence[str]] | None = None,
        column_names: Sequence[str] | None = None,
        is_category: ArrayLike | None = None,
        is_dense: bool | Callable[[], bool] = False,
        is_stream: bool = False,
    ) -> None:
        self._sources = {"labels": labels, "targets": targets, "inputs": inputs}
        self._found: dict[Any, Any] = {}
        self._shape = shape
        self._layers = layers
        self._column_names = column_names
        self._is_category = None if is_category is None else np.asarray(is_category, dtype=bool)
        self._is_dense = is_dense
        self.is_stream = is_stream

    @property
    def is_dense(self) -> bool:
        """Whether there is a label for each pixel."""
        if callable(self._is_dense):
            self._is_dense = self._is_dense()
        return self._is_dense

    def get_labels(self, user: str) -> np.ndarray:
        """Return the class of each row, an array of shape (n_samples,).

        Parameters
        ----------
        user : str
            Name of the caller, for the error.

        Raises
        ------
        ValueError
            If the rows have no labels.
        """
        return np.asarray(self._find("labels", user, "Pass the class of each row"))

    def get_targets(self, user: str) -> NDArray[np.float64]:
        """Return real-valued targets, an array of shape (n_samples, n_outputs).

        Parameters
        ----------
        user : str
            Name of the caller, for the error.

        Raises
        ------
        ValueError
            If the rows have none.
        """
        if "table" not in self._found:
            values = self._find("targets", user, "Pass the target of each row")
            self._found["table"] = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
        return self._found["table"]

    def check_inputs(self, user: str) -> None:
        """Raise a ValueError if the examples are not given; `user` is who asks."""
        self._find("inputs", user, "Pass the examples as an array")

    def get_shape(self) -> tuple[int, ...] | None:
        """Return the shape of one example; None if it is not known."""
        if self._shape is None and (shape := getattr(self._sources["inputs"], "shape", None)) is not None:
            return tuple(shape[1:])
        if callable(self._shape):
            self._shape = self._shape()
        return self._shape

    def of_batch(self, shape: tuple[int, ...] | None, *, is_dense: bool = False) -> RowFacts:
        """Return what is known of one mini-batch whose rows came in an order of their own.

        Parameters
        ----------
        shape : tuple of int or None
            Shape of one example.
        is_dense : bool, default=False
            Whether its targets are maps.
        """
        return RowFacts(
            shape=shape,
            layers=self._layers,
            column_names=self._column_names,
            is_dense=self.is_dense or is_dense,
            is_stream=True,
        )

    def find_layers(self, wanted: str | tuple[str, ...], user: str) -> tuple[str, ...]:
        """Return the names of the places of a network that can be mixed at.

        Parameters
        ----------
        wanted : 'auto' or tuple of str
            What the policy asks for.
        user : str
            Name of the caller, for the error.

        Raises
        ------
        ValueError
            If there is no network, or none with such layers.
        """
        if callable(self._layers):
            key = ("layers", wanted)
            if key not in self._found:
                self._found[key] = tuple(self._layers(wanted))
            return self._found[key]
        if wanted == "auto":
            if self._layers is None:
                raise ValueError(f"layers must be named for {user} without a network; got 'auto'. Name them.")
            return tuple(self._layers)
        known = {INPUT, *(self._layers or wanted)}
        unknown = [name for name in wanted if name not in known]
        if unknown:
            raise ValueError(f"layers must be among {sorted(known)}; got {unknown[0]!r}. Use one of them.")
        return tuple(wanted)

    def find_neighbors(
        self, n_neighbors: int, *, same_class: bool = False, user: str = ""
    ) -> NDArray[np.int64]:
        """Return the nearest other rows of each row, by the Euclidean distance of the inputs.

        Parameters
        ----------
        n_neighbors : int
            How many, at least 1.
        same_class : bool, default=False
            Whether only rows of the same class count.
        user : str, default=""
            Name of the caller, for the error.

        Returns
        -------
        neighbors : ndarray of shape (n_samples, n)
            Rows, the nearest first, n at most `n_neighbors`. Where a row has fewer, they
            are repeated in turn; a row without any is its own.

        Notes
        -----
        Takes ``n_samples * n_neighbors`` integers of memory; the search is scikit-learn's
        ``NearestNeighbors``.
        """
        key = ("neighbors", n_neighbors, same_class)
        if key not in self._found:
            self.check_inputs(user)
            inputs = self._found["inputs"]
            inputs = inputs if hasattr(inputs, "tocsr") else np.asarray(inputs)
            table = inputs.tocsr() if hasattr(inputs, "tocsr") else inputs.reshape(len(inputs), -1)
            groups = _group(self.get_labels(user)) if same_class else [np.arange(table.shape[0])]
            self._found[key] = _find_neighbors(table, groups, n_neighbors)
        return self._found[key]

    def count_neighbors(
        self, n_neighbors: int, *, same_class: bool = False, user: str = ""
    ) -> NDArray[np.int64]:
        """Return how many different neighbours each row has; 1 for a row that is its own.

        Parameters
        ----------
        n_neighbors, same_class, user
            As in :meth:`find_neighbors`.

        Returns
        -------
        counts : ndarray of shape (n_samples,)
        """
        n_samples = len(self.find_neighbors(n_neighbors, same_class=same_class, user=user))
        if not same_class:
            return np.full(n_samples, max(1, min(n_neighbors, n_samples - 1)))
        _, group, sizes = np.unique(self.get_labels(user), return_inverse=True, return_counts=True)
        return np.clip(sizes[group] - 1, 1, n_neighbors)

    def find_columns(self, categorical: Categorical) -> Columns:
        """Return which columns of a table are one feature, and which features are categories.

        Parameters
        ----------
        categorical : 'auto' or tuple
            What the policy is told of them; see :class:`FeatureSwap`. By 'auto' all rows are looked at.

        Raises
        ------
        ValueError
            If a column is not there, or the rows cannot be looked at.
        """
        key = ("columns", categorical)
        if key not in self._found:
            if categorical == "auto":
                rule = "categorical_features must name the categories where X is not one array; got 'auto'."
                table = self._get_table(f"{rule} Give their columns, or () for none.")
                self._found[key] = detect_columns(table, self._is_category)
            else:
                (n_columns,) = self.get_shape() or ()
                self._found[key] = find_columns(categorical, n_columns, self._column_names)
        return self._found[key]

    def measure_information(self, categorical: Categorical) -> NDArray[np.float64]:
        """Return the mutual information of each feature of a table with the targets, in nats.

        Parameters
        ----------
        categorical : 'auto' or tuple
            As in :meth:`find_columns`.

        Returns
        -------
        information : ndarray of shape (n_features,)
            Scikit-learn's estimate on 5,000 rows at most; ones where no feature says anything.
        """
        key = ("information", categorical)
        if key not in self._found:
            rule = "weights must be 'equal' where X is not one array; got 'mutual_info'."
            table = self._get_table(f"{rule} Pass an array, or use 'equal'.")
            targets, is_class = self._find_classes_or_values()
            columns = self.find_columns(categorical)
            self._found[key] = measure_information(table, columns, targets, is_class=is_class)
        return self._found[key]

    def _find_classes_or_values(self) -> tuple[np.ndarray, bool]:
        """Return the targets of all rows, and whether they are classes."""
        user = "weights='mutual_info'"
        try:
            return self.get_targets(user), False
        except ValueError:  # there are no distances between them
            pass
        try:
            return self.get_labels(user), True
        except ValueError as error:
            raise ValueError(
                "weights must be 'equal' where targets are neither classes nor real values; got "
                "'mutual_info'. Use 'equal'."
            ) from error

    def _get_table(self, refusal: str) -> np.ndarray | sparse.csc_matrix:
        """Return all rows, or raise with `refusal` if they are not at hand."""
        try:
            if not self.is_stream:
                self.check_inputs(refusal)
                inputs = self._found["inputs"]
                return inputs.tocsc() if hasattr(inputs, "tocsc") else np.asarray(inputs)
        except ValueError:  # there is no array of them
            pass
        raise ValueError(refusal)

    def _find(self, name: str, user: str, hint: str) -> Any:
        source = self._sources[name]
        if source is None:
            raise ValueError(f"{name} must be given for {user}; got None. {hint}, or choose another policy.")
        if name not in self._found:
            self._found[name] = source() if callable(source) else source
        return self._found[name]


def _group(labels: np.ndarray) -> list[NDArray[np.int64]]:
    """Return the rows of each class."""
    order = np.argsort(labels, kind="stable")
    _, starts = np.unique(labels[order], return_index=True)
    return np.split(order, starts[1:])


def _find_neighbors(
    table: np.ndarray | sparse.csr_matrix, groups: list[NDArray[np.int64]], n_neighbors: int
) -> NDArray[np.int64]:
    from sklearn.neighbors import NearestNeighbors  # few need it

    width = min(n_neighbors, max(1, max(map(len, groups)) - 1))
    neighbors = np.empty((table.shape[0], width), dtype=np.int64)
    for rows in groups:
        n = min(width, len(rows) - 1)
        if n == 0:
            neighbors[rows] = rows[:, None]
            continue
        search = NearestNeighbors(n_neighbors=n).fit(table[rows])
        for start in range(0, len(rows), CHUNK):
            part = rows[start : start + CHUNK]
            near = rows[_drop_own(search, table, part, rows, start, n)]
            neighbors[part] = np.resize(near.T, (width, len(part))).T if n < width else near
    return neighbors


def _drop_own(
    search: NearestNeighbors,
    table: np.ndarray | sparse.csr_matrix,
    part: NDArray[np.int64],
    rows: NDArray[np.int64],
    start: int,
    n: int,
) -> NDArray[np.int64]:
    """Return the n nearest others of some rows, as positions in their group."""
    near = search.kneighbors(table[part], n_neighbors=n + 1, return_distance=False)
    own = near == np.arange(start, start + len(part))[:, None]
    # Among many equal rows a row need not be found itself; then the farthest goes.
    own[~own.any(axis=1), -1] = True
    return near[~own].reshape(len(part), n)
