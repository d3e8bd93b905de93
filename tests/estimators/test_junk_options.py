"""Options of estimators with values of the wrong kind: refused by name before training, or taken."""

import inspect
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sk_mixup import MixupClassifier, MixupGAN, MixupRegressor, SemiSupervisedMixupClassifier
from tests.helpers.nets import QUICK

ONCE = {**QUICK, "max_epochs": 1}
SMALL: dict[type, dict[str, Any]] = {
    MixupClassifier: ONCE,
    MixupRegressor: ONCE,
    SemiSupervisedMixupClassifier: ONCE,
    MixupGAN: {"max_epochs": 1, "steps_per_epoch": 1, "discriminator_steps": 1, "random_state": 0},
}
X = np.random.default_rng(0).normal(size=(24, 4)).astype(np.float32)
Y = np.arange(24) % 3
JUNK: dict[str, Any] = {
    "word": "junk",
    "digits": "1",
    "negative": -3,
    "nan": float("nan"),
    "infinite": float("inf"),
    "fraction": 1.5,
    "true": True,
    "none": None,
    "huge": 10**30,
    "list": [1, "a"],
    "tuple": (1, 2),
    "dict": {"a": 1},
    "set": {1},
    "bytes": b"x",
    "array": np.ones(3),
    "tensor": torch.ones(2),
    "object": object(),
    "class": int,
}
OPTIONS = [
    pytest.param(owner, name, id=f"{owner.__name__}-{name}")
    for owner in SMALL
    for name, parameter in inspect.signature(owner).parameters.items()
    if parameter.kind is not parameter.VAR_KEYWORD
]
# What training takes long with, or runs as code of the user's: no junk there.
MEANT = {
    (name, "huge") for name in ("max_epochs", "steps_per_epoch", "discriminator_steps", "noise_features")
}
MEANT |= {(name, "huge") for name in ("n_mixed", "n_augmentations", "unlabeled_batch_size", "batch_size")}
MEANT |= {("compile", "true"), ("augment", "class")}


def find_error(net: Any) -> Exception | None:
    try:
        net.fit(X) if isinstance(net, MixupGAN) else net.fit(X, Y)
    except (TypeError, ValueError) as error:
        return error
    return None


@pytest.mark.parametrize(("owner", "name"), OPTIONS)
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.usefixtures("capsys")
def test_junk_is_refused_by_name_or_taken(owner: type, name: str) -> None:
    errors = {
        kind: find_error(owner(**{**SMALL[owner], name: value}))
        for kind, value in JUNK.items()
        if (name, kind) not in MEANT
    }
    refused = {kind: error for kind, error in errors.items() if error is not None}
    unnamed = {kind: str(error) for kind, error in refused.items() if name not in str(error)}
    inner = {kind: str(error) for kind, error in refused.items() if " must " not in str(error)}
    assert (unnamed, inner) == ({}, {})
    assert {type(error) for error in refused.values()} <= {TypeError, ValueError}
    assert "object" in refused


WORDS = {
    "weight_decay": "optimizer__weight_decay",
    "betas": "optimizer__betas",
    "momentum": "optimizer__momentum",
    "weight_decy": "optimizer__weight_decay",
    "learning_rate": "lr",
    "max_iter": "max_epochs",
    "seed": "random_state",
    "solver": "optimizer",
}
OF_A_NET = {
    "hidden_layer_sizes": "module__hidden_layer_sizes",
    "dropout": "module__dropout",
    "num_workers": "iterator_train__num_workers",
    "ignore_index": "criterion__ignore_index",
    "loss": "criterion",
    "model": "module",
    "patience": "n_iter_no_change",
    "lr_scheduler": "callbacks",
}
OF_A_GAN = {"hidden_layer_sizes": "generator__hidden_layer_sizes", "dropout": "generator__dropout"}


@pytest.mark.parametrize(
    ("owner", "word", "meant"),
    [(MixupClassifier, *pair) for pair in (WORDS | OF_A_NET).items()]
    + [(MixupGAN, *pair) for pair in (WORDS | OF_A_GAN).items()],
)
def test_a_name_from_elsewhere_is_answered_with_the_option_it_means(
    owner: type, word: str, meant: str
) -> None:
    match = rf"{word}.*Did you mean '{meant}'\?"
    with pytest.raises(ValueError, match=match):
        owner(**SMALL[owner], **{word: 1}).fit(X, Y)
    with pytest.raises(ValueError, match=match):
        owner(**SMALL[owner]).set_params(**{word: 1})


@pytest.mark.parametrize("word", ["patience", "loss", "model", "shuffle", "class_weights", "n_jobs"])
def test_a_gan_is_offered_options_of_its_own_only(word: str) -> None:
    with pytest.raises(
        ValueError, match=rf"{word} must be an option of MixupGAN; got an unknown name. Its opt"
    ):
        MixupGAN(**{word: 1}).fit(X)


@pytest.mark.parametrize("owner", SMALL)
def test_a_name_that_ends_like_what_is_learned_is_no_option(owner: type) -> None:
    with pytest.raises(
        ValueError, match=rf"lambda_ must be an option of {owner.__name__}; got an unknown name"
    ):
        owner(lambda_=1.0)


# -- criteria ----------------------------------------------------------------------------

OF_MORE = [
    nn.CosineEmbeddingLoss,
    nn.CTCLoss,
    nn.GaussianNLLLoss,
    nn.MarginRankingLoss,
    nn.TripletMarginLoss,
]
OF_COLUMNS = [
    nn.MSELoss,
    nn.L1Loss,
    nn.SmoothL1Loss,
    nn.HuberLoss,
    nn.KLDivLoss,
    nn.PoissonNLLLoss,
    nn.SoftMarginLoss,
    nn.HingeEmbeddingLoss,
    nn.MultiLabelSoftMarginLoss,
]
OF_CODES = [nn.NLLLoss, nn.MultiMarginLoss]
Y_OF = {"labels": Y, "indicators": (X[:, :3] > 0).astype(int), "values": X[:, 0]}


@pytest.mark.parametrize("alpha", [0.0, 0.2])
@pytest.mark.parametrize(
    ("kind", "criterion"),
    [("labels", c) for c in OF_COLUMNS + OF_MORE]
    + [("indicators", c) for c in OF_CODES + OF_MORE]
    + [("values", c) for c in OF_CODES + OF_MORE],
)
def test_a_loss_of_torch_for_other_targets_is_refused(kind: str, criterion: type, alpha: float) -> None:
    owner = MixupRegressor if kind == "values" else MixupClassifier
    with pytest.raises(ValueError, match=rf"criterion must be a loss for .*; got {criterion.__name__}\. Use"):
        owner(**ONCE, alpha=alpha, criterion=criterion).fit(X, Y_OF[kind])


@pytest.mark.parametrize(
    ("criterion", "error", "match"),
    [
        (nn.Linear, TypeError, r"criterion must take what it is called with; got Linear"),
        (nn.functional.cross_entropy, TypeError, r"criterion must take .*; got cross_entropy"),
        (int, TypeError, r"criterion must be a class of losses; got <class 'int'>"),
    ],
)
def test_what_is_no_class_of_losses_is_refused(criterion: Any, error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        MixupClassifier(**ONCE, criterion=criterion).fit(X, Y)


@pytest.mark.parametrize(
    ("criterion", "kind", "tells"),
    [
        (nn.NLLLoss, "labels", lambda match: pytest.warns(UserWarning, match=match)),
        (nn.BCELoss, "indicators", lambda match: pytest.raises(ValueError, match=match)),
    ],
)
@pytest.mark.filterwarnings("ignore:train_loss must stay finite")
def test_a_loss_of_probabilities_says_so_to_logits(criterion: type, kind: str, tells: Any) -> None:
    module = nn.Linear(4, 3)
    nn.init.constant_(module.bias, -9.0)
    with tells(rf"module must return probabilities for criterion {criterion.__name__}"):
        MixupClassifier(module, **ONCE, criterion=criterion).fit(X, Y_OF[kind])


BAD_WEIGHTS = [
    ("balanced", TypeError, "must hold numbers, one per class"),
    ({0: 1.0, 1: 2.0}, TypeError, "must hold numbers, one per class"),
    ([1.0, None, "a"], TypeError, "must hold numbers, one per class"),
    ([1.0, -2.0, 3.0], ValueError, "must hold a number per class, finite and at least 0"),
    ([1.0, np.nan, 3.0], ValueError, "must hold a number per class, finite and at least 0"),
    ([0.0, 0.0, 0.0], ValueError, "must hold a number per class, finite and at least 0, not all 0"),
    ([1.0, 2.0], ValueError, "must hold a weight for each of the 3"),
]


@pytest.mark.parametrize(("given", "error", "match"), BAD_WEIGHTS)
@pytest.mark.parametrize(
    ("option", "kind"), [("weight", "labels"), ("weight", "indicators"), ("pos_weight", "indicators")]
)
def test_weights_of_a_criterion_are_refused_by_name(
    given: Any, error: type, match: str, option: str, kind: str
) -> None:
    with pytest.raises(error, match=f"criterion__{option} {match}"):
        MixupClassifier(**ONCE, **{f"criterion__{option}": given}).fit(X, Y_OF[kind])


# -- components --------------------------------------------------------------------------


@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
@pytest.mark.parametrize(
    "as_rows", [lambda x: x[:, :2], lambda x: torch.cat([x, x], dim=1), lambda x: x[:, None, :3]]
)
def test_augmented_rows_of_another_shape_are_named(owner: type, as_rows: Any) -> None:
    with pytest.raises(
        ValueError, match=r"augment must return rows that the module takes; got rows of shape \("
    ):
        owner(**ONCE, augment=as_rows).fit(X, Y)


@pytest.mark.parametrize(
    "returned", [None, 1.0, np.ones((24, 4)), torch.tensor(1.0)], ids=["none", "number", "array", "0-d"]
)
@pytest.mark.parametrize("owner", [MixupClassifier, MixupRegressor, SemiSupervisedMixupClassifier])
def test_augment_returns_a_tensor(owner: type, returned: Any) -> None:
    with pytest.raises(TypeError, match="augment must return a Tensor, as it is given; got"):
        owner(**ONCE, augment=lambda _: returned).fit(X, Y)


@pytest.mark.parametrize("device", ["gpu", "GPU", "tpu", "meta", "", True])
@pytest.mark.parametrize("owner", SMALL)
def test_devices_that_hold_no_numbers_here_are_refused(owner: type, device: Any) -> None:
    meant = r"Did you mean 'cuda'\?" if str(device).lower() == "gpu" else "Use 'cpu'"
    with pytest.raises(ValueError, match=rf"device must be one that torch finds here; got .*{meant}"):
        owner(**SMALL[owner], device=device).fit(X, Y)


def test_a_gan_trains_where_its_nets_are() -> None:
    assert MixupGAN(**SMALL[MixupGAN], device=None).fit(X).sample(2).shape == (2, 4)


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"generator": lambda: None}, TypeError, "generator must give a torch.nn.Module; got None"),
        ({"generator": dict}, TypeError, "generator must be a class of torch.nn.Module; got <class 'dict'>"),
        (
            {"discriminator": nn.Conv1d},
            TypeError,
            "discriminator must take what it is called with; got Conv1d",
        ),
        ({"discriminator": nn.LSTM(4, 1)}, TypeError, "discriminator must return one tensor"),
        (
            {"discriminator": nn.Sequential(nn.Linear(4, 1), nn.Sigmoid())},
            ValueError,
            "discriminator must return logits",
        ),
        ({"compile": "yes"}, TypeError, "compile must be True or False; got 'yes'"),
    ],
)
def test_nets_that_are_none_are_refused_by_a_gan(options: dict[str, Any], error: type, match: str) -> None:
    with pytest.raises(error, match=match):
        MixupGAN(**SMALL[MixupGAN], **options).fit(X)


@pytest.mark.parametrize(
    "given",
    [
        torch.utils.data.TensorDataset(torch.as_tensor(X)),
        torch.utils.data.DataLoader(X),
        {"a": X},
        iter(X),
        None,
    ],
    ids=lambda given: type(given).__name__,
)
def test_a_gan_takes_arrays_only(given: Any) -> None:
    with pytest.raises(TypeError, match=rf"X must be an array of examples; got {type(given).__name__}"):
        MixupGAN(**SMALL[MixupGAN]).fit(given)


def test_one_weight_is_for_all_columns_and_not_for_all_classes() -> None:
    with pytest.raises(ValueError, match=r"criterion__weight must hold a weight for .*; got shape \(\)"):
        MixupClassifier(**ONCE, criterion__weight=2.0).fit(X, Y)
    indicators = Y_OF["indicators"]
    net = MixupClassifier(**ONCE, criterion__pos_weight=2.0).fit(X, indicators)
    plain = MixupClassifier(**ONCE, criterion__pos_weight=[2.0, 2.0, 2.0]).fit(X, indicators)
    np.testing.assert_array_equal(net.predict_proba(X), plain.predict_proba(X))
