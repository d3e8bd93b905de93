"""What a scoring callback records is what scikit-learn's scorer gives for the net on the same rows."""

import pickle
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.datasets import make_classification
from sklearn.metrics import check_scoring, f1_score, fbeta_score, get_scorer, log_loss, make_scorer
from sklearn.model_selection import PredefinedSplit
from skorch.callbacks import BatchScoring, Callback, Checkpoint, EarlyStopping, EpochScoring
from skorch.dataset import Dataset, ValidSplit
from skorch.helper import predefined_split
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.sampling import each_pair

N_TRAINED = 60
X, CODES = make_classification(90, 6, n_informative=4, flip_y=0.2, weights=[0.7], random_state=3)
X = X.astype(np.float32)
HELD_OUT = ValidSplit(PredefinedSplit(np.where(np.arange(90) < N_TRAINED, -1, 0)))
OPTIONS: dict[str, Any] = {
    "early_stopping": False,
    "max_epochs": 2,
    "batch_size": 30,
    "lr": 0.05,
    "random_state": 0,
}


class Reference(Callback):
    """Score rows by scikit-learn's own scorers, called by hand in each epoch."""

    def __init__(self, scorings: dict[str, Any], X: Any, y: Any) -> None:
        self.scorings, self.X, self.y = scorings, X, y

    def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
        for name, scoring in self.scorings.items():
            net.history.record(f"{name}_reference", check_scoring(net, scoring)(net, self.X, self.y))


def _fit_scored(net: Any, scorings: dict[str, Any], X: Any, y: Any, rows: Any, **options: Any) -> Any:
    """Fit a net that scores some of its rows by callbacks and by hand."""
    kind = options.pop("kind", EpochScoring)
    scored = [(name, kind(scoring, name=name, **options)) for name, scoring in scorings.items()]
    callbacks = [("reference", Reference(scorings, X[rows], y[rows])), *scored]
    return net.set_params(**OPTIONS, train_split=HELD_OUT, callbacks=callbacks).fit(X, y)


def _assert_scored_alike(net: Any, scorings: dict[str, Any]) -> None:
    for name in scorings:
        np.testing.assert_allclose(
            net.history[:, name], net.history[:, f"{name}_reference"], rtol=1e-5, err_msg=name
        )


def _score_by_hand(net: Any, X: Any, y: Any) -> float:
    return float(np.mean(net.predict(X) == y))


VALID, TRAINED = slice(N_TRAINED, None), slice(N_TRAINED)
LABELS = {
    "from one": np.array([1, 2]),
    "turned": np.array([3, -1]),
    "floats": np.array([2.0, 5.0]),
    "bools": np.array([False, True]),
    "strings": np.array(["no", "yes"]),
    "objects": np.array(["no", "yes"], dtype=object),
}


def _make_scorings(labels: Any) -> dict[str, Any]:
    first, second = labels.tolist()
    return {
        "first": make_scorer(f1_score, pos_label=first),
        "second": make_scorer(fbeta_score, beta=2, pos_label=second),
        "none": None,
        "callable": _score_by_hand,
        "log_loss": lambda net, X, y: log_loss(y, net.predict_proba(X)),
        **{name: name for name in ("accuracy", "f1_macro", "roc_auc", "neg_log_loss")},
    }


@each_pair(
    {
        "labels": LABELS,
        "kind": [EpochScoring, BatchScoring],
        "use_caching": [True, False],
    }
)
def test_held_out_rows_are_scored_by_their_labels(
    labels: str, kind: type[Callback], use_caching: bool
) -> None:
    known = LABELS[labels]
    scorings = _make_scorings(known)
    net = MixupClassifier(use_caching=use_caching)
    _assert_scored_alike(_fit_scored(net, scorings, X, known[CODES], VALID, kind=kind), scorings)


def test_labels_that_are_numbers_are_scored_as_such() -> None:
    names = ["f1", "neg_mean_squared_error", "r2", "average_precision"]
    net = _fit_scored(MixupClassifier(), dict(zip(names, names, strict=True)), X, CODES + 1, VALID)
    after = [get_scorer(name)(net, X[VALID], CODES[VALID] + 1) for name in names]
    assert [net.history[-1, name] for name in names] == pytest.approx(after)


def test_scorer_that_refuses_the_labels_is_heard() -> None:
    scored = EpochScoring("f1")
    with pytest.raises(ValueError, match="pos_label=1 is not a valid label"):
        MixupClassifier(**OPTIONS, callbacks=[scored]).fit(X, np.array(["no", "yes"])[CODES])


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize(
    "net",
    [
        MixupClassifier(alpha=0),
        MixupClassifier(alpha=1, module__dropout=0.5),
        SemiSupervisedMixupClassifier(),
    ],
    ids=["plain", "mixed", "semi-supervised"],
)
def test_trained_rows_are_scored_at_the_end_of_the_epoch(net: Any, use_caching: bool) -> None:
    options: dict[str, Any] = {"on_train": True, "use_caching": use_caching}
    scorings = {"f1": "f1", "mean_error": "neg_mean_absolute_error"}
    _assert_scored_alike(_fit_scored(clone(net), scorings, X, CODES + 1, TRAINED, **options), scorings)


def test_scoring_trained_rows_leaves_the_fast_way_open() -> None:
    net = _fit_scored(MixupClassifier(), {"f1": "f1"}, X, CODES + 1, TRAINED, on_train=True)
    plain = MixupClassifier(**OPTIONS, train_split=HELD_OUT).fit(X, CODES + 1)
    assert net.loss_curve_ == plain.loss_curve_


@pytest.mark.parametrize("use_caching", [True, False])
def test_semi_supervised_net_scores_labels(use_caching: bool) -> None:
    y = np.where(np.arange(90) % 3 == 0, -1, CODES + 1)
    held_out = np.flatnonzero(y != -1)[::4]
    split = predefined_split(Dataset(X[held_out], y[held_out]))
    callbacks = [
        ("reference", Reference({"f1": "f1"}, X[held_out], y[held_out])),
        ("f1", EpochScoring("f1", use_caching=use_caching)),
    ]
    net = SemiSupervisedMixupClassifier(**OPTIONS, train_split=split, callbacks=callbacks).fit(X, y)
    _assert_scored_alike(net, {"f1": "f1"})


def _compute_binary_log_loss(y: Any, proba: Any) -> float:
    return float(-np.mean(np.log(np.where(y == 1, proba, 1 - proba))))


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [False, True])
def test_several_labels_per_row_are_scored(on_train: bool, use_caching: bool) -> None:
    y = np.stack([CODES, 1 - CODES, (X[:, 0] > 0).astype(int)], axis=1)
    scorings = {
        "samples": make_scorer(f1_score, average="samples", zero_division=0),
        "accuracy": "accuracy",
        "roc_auc": "roc_auc",
        "log_loss": make_scorer(_compute_binary_log_loss, response_method="predict_proba"),
    }
    options: dict[str, Any] = {"on_train": on_train, "use_caching": use_caching}
    rows = TRAINED if on_train else VALID
    _assert_scored_alike(_fit_scored(MixupClassifier(), scorings, X, y, rows, **options), scorings)


@pytest.mark.parametrize("use_caching", [True, False])
@pytest.mark.parametrize("on_train", [False, True])
@pytest.mark.parametrize("n_targets", [1, 2])
def test_real_targets_are_scored(n_targets: int, on_train: bool, use_caching: bool) -> None:
    y = X[:, 0] - X[:, 1] if n_targets == 1 else X[:, :2] * 2
    scorings = {name: name for name in ("r2", "neg_mean_absolute_error", "explained_variance")}
    options: dict[str, Any] = {"on_train": on_train, "use_caching": use_caching}
    rows = TRAINED if on_train else VALID
    _assert_scored_alike(_fit_scored(MixupRegressor(), scorings, X, y, rows, **options), scorings)


@pytest.mark.parametrize("use_caching", [True, False])
def test_labels_of_pixels_are_scored(use_caching: bool) -> None:
    rng = np.random.default_rng(0)
    maps = rng.choice([10, 20, 255], size=(90, 4, 4))
    images = rng.normal(size=(90, 1, 4, 4)).astype(np.float32)

    def share(net: Any, X: Any, y: Any) -> float:
        return float(np.mean((net.predict(X) == y)[y != 255]))

    net = MixupClassifier(nn.Conv2d(1, 2, 1), criterion__ignore_index=255)
    _fit_scored(net, {"share": share}, images, maps, VALID, use_caching=use_caching)
    _assert_scored_alike(net, {"share": share})
    assert net.history[:, "valid_acc"] == pytest.approx(net.history[:, "share"])


@pytest.mark.parametrize("criterion", ["auto", nn.BCEWithLogitsLoss], ids=["softmax", "one logit"])
def test_frames_are_scored(criterion: Any) -> None:
    frame, y = pd.DataFrame(X).add_prefix("x"), pd.Series(LABELS["strings"][CODES])
    scored = EpochScoring(make_scorer(f1_score, pos_label="yes"), name="scored")
    net = MixupClassifier(
        module__out_features=2 if criterion == "auto" else 1,
        **OPTIONS,
        criterion=criterion,
        train_split=HELD_OUT,
        callbacks=[scored],
    ).fit(frame, y)
    expected = f1_score(y[VALID], net.predict(frame[VALID]), pos_label="yes")
    assert net.history[-1, "scored"] == expected


@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
def test_named_classes_of_a_torch_dataset_are_scored(kind: type[Callback]) -> None:
    names = ["no", "yes"]
    rows = torch.utils.data.TensorDataset(torch.as_tensor(X), torch.as_tensor(CODES))
    scored = kind(make_scorer(f1_score, pos_label="no"), name="scored")
    held_out = torch.utils.data.Subset(rows, range(N_TRAINED, 90))
    net = MixupClassifier(
        **OPTIONS, classes=names, train_split=predefined_split(held_out), callbacks=[scored]
    ).fit(rows, None)
    y = np.array(names)[CODES[VALID]]
    assert net.history[-1, "scored"] == f1_score(y, net.predict(X[VALID]), pos_label="no")


def test_target_extractor_is_given_labels() -> None:
    def score(net: Any, X: Any, y: Any) -> float:
        return float(np.mean((net.predict(X) == 20) == y))

    scored = EpochScoring(score, name="scored", target_extractor=lambda y: (y == 20).numpy())
    y = np.where(CODES == 1, 20, 10)
    net = MixupClassifier(**OPTIONS, train_split=HELD_OUT, callbacks=[scored]).fit(X, y)
    assert net.history[-1, "scored"] == net.score(X[VALID], y[VALID])


def _square(y: Any) -> Any:
    return (y**2).numpy()


def test_callback_keeps_its_options() -> None:
    seen = []

    class Look(Callback):
        def on_epoch_end(self, net: Any, **kwargs: Any) -> None:
            scored = dict(net.callbacks_)["scored"]
            seen.extend([clone(scored).target_extractor, pickle.loads(pickle.dumps(scored)).target_extractor])

    scored = EpochScoring("f1", name="scored", target_extractor=_square)
    MixupClassifier(**OPTIONS, train_split=HELD_OUT, callbacks=[("scored", scored), Look()]).fit(
        X, CODES * 1.0
    )
    assert scored.target_extractor is _square
    assert all(extractor is _square for extractor in seen)


def test_checkpoint_and_early_stopping_follow_the_score(tmp_path: Any) -> None:
    y = CODES + 1
    scored = EpochScoring("f1", name="f1", lower_is_better=False)
    keep = Checkpoint(monitor="f1_best", dirname=tmp_path)
    stop = EarlyStopping("f1", lower_is_better=False, patience=3, load_best=True)
    options = {**OPTIONS, "max_epochs": 15, "train_split": HELD_OUT}
    net = MixupClassifier(**options, callbacks=[scored, keep, stop]).fit(X, y)
    best = max(net.history[:, "f1"])
    assert f1_score(y[VALID], net.predict(X[VALID])) == best
    net.load_params(checkpoint=keep)
    assert f1_score(y[VALID], net.predict(X[VALID])) == best
