"""Every option of every benchmark refuses what no run of it can be made with, by name and before the run."""

from collections.abc import Iterator
from dataclasses import fields, replace
import math
from typing import Any, get_args, get_type_hints

import pytest

from benchmarks.harness.command import BaseConfig, UserError
from benchmarks.harness.rules import name_option
from benchmarks.registry import find_benchmarks

CONFIGS: dict[str, BaseConfig] = {item.name: next(iter(item.presets.values())) for item in find_benchmarks()}
# Mixup's weight is 1/2 then, and a run goes on to its end.
MAY_BE_INFINITE = {"alpha", "alphas", "grid_alphas", "image_alpha", "minutes", "table_alpha", "table_alphas"}
MAY_BE_ZERO = {"lr_warmup", "padding", "warmup_epochs"}
LAYERS = {"hidden_layer_sizes", "widths"}
# What these name is left out then, or they stand for all.
MAY_BE_EMPTY = {
    *("between.datasets", "ablation.datasets", "ablation.methods", "corrupted-tables.datasets"),
    *("corrupted-tables.dropouts", "corrupted-tables.smoothings", "corrupted-tables.alphas"),
    *("corrupted.dropouts", "corrupted.alphas", "imagenet.epochs", "uci.datasets", "regression.datasets"),
    *("defaults.datasets", "defaults.factors_of_many", "semi.datasets", "semi.methods", "gpu.only"),
    *("tabular.datasets", "tabular.contenders", "tabular.noise", "tabular-alpha.datasets", "gan.snapshots"),
    *("gan.grid_densities", "gan.grid_losses", "gan.grid_lrs", "gan.grid_widths", "gan.grid_alphas"),
    *("gan.speed_widths", "speed.batch_sizes", "speed.thread_batch_sizes", "speed.predict_rows"),
    *("regimes.further", "regimes.anchors", "regimes.alphas", "regimes.choices", "regimes.other_decays"),
    *("regimes.tables", "regimes.noise"),
}


def list_types(hint: Any) -> Iterator[type]:
    """Yield the types that an annotation is made of."""
    if isinstance(hint, type) and not get_args(hint):
        yield hint
    for inner in get_args(hint):
        yield from list_types(inner)


def list_options(*types: type) -> list[tuple[str, str]]:
    """Return command and field of the options that are made of one of these types."""
    return [
        (command, name)
        for command, config in CONFIGS.items()
        for name, hint in get_type_hints(type(config)).items()
        if not {*types}.isdisjoint(list_types(hint))
    ]


TUPLES = [
    (command, item.name)
    for command, config in CONFIGS.items()
    for item in fields(config)
    if isinstance(getattr(config, item.name), tuple)
]


def check_refused(command: str, field: str, *values: object) -> None:
    config = CONFIGS[command]
    value = values if (command, field) in TUPLES else values[0]
    with pytest.raises(UserError, match=f"^{name_option(field)} must (be|name)"):
        replace(config, **{field: value})


@pytest.mark.parametrize(("command", "field"), list_options(int, float))
def test_number_below_all_that_make_sense_is_refused(command: str, field: str) -> None:
    check_refused(command, field, -2)


@pytest.mark.parametrize(("command", "field"), list_options(int))
def test_zero_is_refused_where_something_is_counted(command: str, field: str) -> None:
    if field in MAY_BE_ZERO:
        assert getattr(replace(CONFIGS[command], **{field: 0}), field) == 0
    else:
        check_refused(command, field, 0)


@pytest.mark.parametrize(("command", "field"), list_options(float))
def test_number_that_is_none_is_refused(command: str, field: str) -> None:
    check_refused(command, field, math.nan)


@pytest.mark.parametrize(("command", "field"), list_options(float))
def test_infinity_is_refused_but_for_alpha(command: str, field: str) -> None:
    if field not in MAY_BE_INFINITE:
        check_refused(command, field, math.inf)


@pytest.mark.parametrize(("command", "field"), TUPLES)
def test_value_that_is_named_twice_is_refused_but_for_layers(command: str, field: str) -> None:
    values = getattr(CONFIGS[command], field) or ("iris",)
    if field in LAYERS:
        assert getattr(replace(CONFIGS[command], **{field: values * 2}), field) == values * 2
    else:
        check_refused(command, field, *values[:1], *values)


@pytest.mark.parametrize(("command", "field"), TUPLES)
def test_option_without_a_value_is_refused_where_it_needs_one(command: str, field: str) -> None:
    if f"{command}.{field}" in MAY_BE_EMPTY:
        assert getattr(replace(CONFIGS[command], **{field: ()}), field) == ()
    else:
        check_refused(command, field)
