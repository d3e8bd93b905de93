"""What a module returns, looked at before the first epoch."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from torch import Tensor, nn
from torch.nn.modules.loss import _Loss

from sk_mixup._warning import warn_user
from sk_mixup.estimators._class_targets import ClassTargets
from sk_mixup.estimators._links import Link
from sk_mixup.estimators._own_losses import is_own
from sk_mixup.estimators._targets import Targets

__all__ = ["check_is_tensor", "check_output", "explaining_shape"]


def check_is_tensor(output: object, criterion: nn.Module) -> None:
    """Raise unless a module returns a tensor, or a tuple for a criterion of the user's own."""
    if isinstance(output, Tensor) or (isinstance(output, tuple) and is_own(criterion)):
        return
    raise TypeError(
        f"module must return a tensor of a row for each example; got {type(output).__name__}. Return the "
        "logits alone, such as `.logits` of a Hugging Face output, or override get_loss; a criterion of "
        "your own may take a tuple, whose first entry is what is predicted."
    )


@contextmanager
def explaining_shape(x: object) -> Iterator[None]:
    """Say what a module was given where it raises inside: torch's error has neither its name nor X's."""
    try:
        yield
    except RuntimeError as error:
        shape = getattr(x, "shape", None)
        if shape is not None:
            error.add_note(
                f"module must take rows of X; got this error for a batch of shape {tuple(shape)}. "
                "Build the module for that shape, or reshape X."
            )
        raise


def check_output(
    output: object, y: object, targets: Targets, criterion: nn.Module, link: Callable[[Tensor], Tensor]
) -> None:
    """Raise if a module's output does not go with the targets or the criterion; warn if it looks odd.

    Parameters
    ----------
    output : object
        What the module returns for some examples.
    y : object
        Their targets, as the criterion is given them.
    targets : Targets
        The kind of the targets.
    criterion : nn.Module
        The criterion.
    link : callable
        What predictions are made of outputs by.
    """
    check_is_tensor(output, criterion)
    if not isinstance(output, Tensor):
        return
    targets.check_output(_find_logits(output, targets, criterion, link), criterion)
    targets.check_sizes(output, y)
    if isinstance(link, Link) and link.looks_applied(output):
        _warn_of_probabilities(criterion, is_default=type(criterion) is targets.criterion)


def _find_logits(
    output: Tensor, targets: Targets, criterion: nn.Module, link: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return what must have a column for each class: what a link of the user's makes for such a loss."""
    is_known = isinstance(link, Link) or isinstance(criterion, _Loss)
    if is_known or not isinstance(targets, ClassTargets):
        return output
    return targets.read(output.detach().cpu(), link)


def _warn_of_probabilities(criterion: nn.Module, *, is_default: bool) -> None:
    """Say that the module seems to apply the link itself, which is then applied twice."""
    remedy = (
        "Remove its last softmax or sigmoid, or take criterion=torch.nn.NLLLoss, for several labels "
        "torch.nn.BCELoss, which are of probabilities."
        if is_default
        else "Set predict_nonlinearity=None if they are, or to what makes probabilities of the output."
    )
    warn_user(
        f"module must return logits for criterion {type(criterion).__name__}; got an output that looks like "
        f"probabilities. {remedy}",
    )
