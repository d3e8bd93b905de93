from dataclasses import dataclass
from typing import Annotated, Any

import pytest

from benchmarks.harness.command import BaseConfig, UserError
from benchmarks.harness.rules import NOT_EMPTY, Count, Known, Layers, NotNegative, Positive, Within


@dataclass(frozen=True, kw_only=True)
class Config(BaseConfig):
    names: Annotated[tuple[str, ...], Known({"mixup": 1, "ERM": 2}), NOT_EMPTY] = ("ERM",)
    share: Annotated[float, Within(0, 0.5)] = 0.1
    alphas: tuple[Positive, ...] = ()
    sizes: Layers = (8, 8)
    lr: NotNegative = 0.1
    max_epochs: Count | None = None
    note: str = ""


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"names": ("ERM", "mixop")},
            "--names must be one of mixup, ERM; got 'mixop'. Did you mean 'mixup'?",
        ),
        ({"names": ()}, "--names must name at least one; got none."),
        ({"share": 0.6}, r"--share must be between 0 and 0.5; got 0.6\."),
        ({"share": float("nan")}, "--share must be between 0 and 0.5; got nan"),
        ({"alphas": (1.0, 0.0)}, "--alphas must be at least 1e-06; got 0.0"),
        ({"max_epochs": 0}, "--max-epochs must be at least 1; got 0"),
        ({"alphas": (1.0, 0.5, 1)}, r"--alphas must name each value once; got 1.0 several times\."),
        ({"lr": float("inf")}, "--lr must be finite; got inf"),
        ({"n_seeds": 1}, "--seeds must be at least 2; got 1"),
    ],
)
def test_a_value_that_breaks_the_rule_of_its_annotation_is_named(
    options: dict[str, Any], message: str
) -> None:
    with pytest.raises(UserError, match=message):
        Config(**options)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"share": 0.5, "max_epochs": 1},
        {"alphas": (0.1, 2.0), "names": ("mixup", "ERM")},
        {"sizes": (4, 4, 4)},
    ],
)
def test_values_that_keep_their_rules_are_taken(options: dict[str, Any]) -> None:
    config = Config(**options)
    assert {name: getattr(config, name) for name in options} == options
