"""Each member of an ensemble holds out rows that count, or the number of members is refused."""

import numpy as np
import pytest

from sk_mixup import MixupEnsembleClassifier

X = np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)
Y = np.arange(60) % 3
GROUPS = np.arange(60) // 10


@pytest.mark.parametrize("n_members", [1, 2, 4])
@pytest.mark.parametrize("weightless", [[0], [1, 4]], ids=str)
def test_groups_without_a_weight_are_held_out_by_none(n_members: int, weightless: list[int]) -> None:
    weight = np.where(np.isin(GROUPS, weightless), 0.0, 1.0)
    net = MixupEnsembleClassifier(n_members=n_members, random_state=0, estimator__max_epochs=2)
    net.fit(X, Y, sample_weight=weight, groups=GROUPS)
    holders = [set(net.held_out_by_[group == GROUPS].tolist()) for group in range(6)]
    assert all(len(holder) == 1 for holder in holders)
    assert all(holders[group] == {-1} for group in weightless)
    assert set(range(n_members)) <= set(net.held_out_by_.tolist())


@pytest.mark.parametrize("n_members", [5, 6])
def test_more_members_than_groups_that_count_are_refused(n_members: int) -> None:
    net = MixupEnsembleClassifier(n_members=n_members, estimator__max_epochs=2)
    with pytest.raises(ValueError, match=rf"groups with a weight, .* got {n_members} for 4 groups"):
        net.fit(X, Y, sample_weight=np.where(GROUPS < 2, 0.0, 1.0), groups=GROUPS)


@pytest.mark.parametrize("labels", [Y, np.array(["a", "b", "c"])[Y]], ids=["codes", "names"])
def test_rows_of_a_class_that_weighs_nothing_count_for_no_member(labels: np.ndarray) -> None:
    few = labels.copy()
    few[5:] = labels[0]
    weights = {labels[0].item(): 0, labels[1].item(): 1, labels[2].item(): 2}
    options = {"estimator__max_epochs": 2, "estimator__class_weight": weights}
    with pytest.raises(
        ValueError, match=r"n_members must be at most the number of rows with a weight.* 4 mem"
    ):
        MixupEnsembleClassifier(n_members=4, **options).fit(X, few)
    net = MixupEnsembleClassifier(n_members=2, random_state=0, **options).fit(X, labels)
    assert set(net.held_out_by_[labels != labels[0]].tolist()) == {0, 1}
