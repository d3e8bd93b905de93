"""Options of the semi-supervised classifier: their rules, and why those of other nets are refused."""

from __future__ import annotations

from collections.abc import Mapping
import sys
from typing import Protocol

from sk_mixup._validation import check_choice, check_integer, check_real
from sk_mixup.estimators._options import check_smoothing
from sk_mixup.estimators._semi_supervised_step import METHODS
from sk_mixup.mixing.mixup import LAM_PER

__all__ = ["REFUSED", "check_semi_supervised_options", "refuse_options"]

# Why options of MixupClassifier are none here.
REFUSED = {
    "n_mixed": "both methods mix pairs",
    "partners": "the method says where partners come from",
    "vicinity": "the method says how rows are mixed",
    "confidence_penalty": "guessed targets say how confident the net should be",
    "warmup_epochs": "`rampup_epochs` lets the unlabelled rows come in slowly",
    "cooldown_epochs": "the averaged weights that predict leave out the noise of the last epochs",
    "criterion": "the method says what the loss is",
    "predict_nonlinearity": "the loss needs logits",
    "iterator_train": "a step takes labelled and unlabelled rows",
    "dataset": "labelled and unlabelled rows are kept as whole arrays",
    "cuda_graph": "a step draws noise on the host",
}


class SemiSupervisedOptions(Protocol):
    """The options that this classifier has and others have not."""

    method: str
    unlabeled_weight: float
    rampup_epochs: int | None
    ema_decay: float
    temperature: float | None
    n_augmentations: int | None
    noise_std: float
    lam_per: str
    label_smoothing: float
    unlabeled_batch_size: int


def refuse_options(owner: type, given: Mapping[str, object]) -> None:
    """Raise if an option is given that would say nothing here."""
    for name in sorted(given):
        option = name.partition("__")[0]
        if option in REFUSED:
            raise ValueError(
                f"{name} must not be given to {owner.__name__}: {REFUSED[option]}; got {given[name]!r}. "
                "Leave it out."
            )


def check_semi_supervised_options(options: SemiSupervisedOptions) -> None:
    """Raise if an option breaks its rule; the message names it."""
    check_choice("method", options.method, tuple(METHODS))
    check_choice("lam_per", options.lam_per, LAM_PER)
    check_smoothing(options.label_smoothing)
    largest = sys.float_info.max
    hint = "Use 0 to learn nothing from the unlabelled loss."
    check_real("unlabeled_weight", options.unlabeled_weight, low=0.0, high=largest, hint=hint)
    if options.temperature is not None:
        hint = "Use None for the method's own, 1 for guesses as they are predicted."
        check_real("temperature", options.temperature, low=0.0, high=largest, above=True, hint=hint)
    if options.n_augmentations is not None:
        hint = "Use None for the method's own, 1 for one view of each row."
        check_integer("n_augmentations", options.n_augmentations, low=1, hint=hint)
    if options.rampup_epochs is not None:
        hint = "Use None for half of max_epochs, 0 for the full weight at once."
        check_integer("rampup_epochs", options.rampup_epochs, low=0, hint=hint)
    hint = "Use 0 for the last weights, 0.99 for an average over some hundred steps."
    check_real("ema_decay", options.ema_decay, low=0.0, high=1.0, below=True, hint=hint)
    check_real("noise_std", options.noise_std, low=0.0, high=largest, hint="Use 0 for no noise.")
    if options.unlabeled_batch_size != -1:
        hint = "Use -1 for all unlabelled rows."
        check_integer("unlabeled_batch_size", options.unlabeled_batch_size, low=1, hint=hint)
