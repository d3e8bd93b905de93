"""From records of ``regimes`` to flat rows: settings, contrasts between them, tables, fitted curves."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.harness.intervals import Interval, compute_corrected_interval, compute_t_interval
from benchmarks.harness.paired_differences import fill_columns, flatten_interval, group_records
from benchmarks.regimes.config import Config
from benchmarks.regimes.curve import Cluster, fit_curves
from benchmarks.regimes.design import BASELINE, MIXUP, Plan, Run, Setting, name_alpha

__all__ = ["FITTED", "MEASURES", "select", "summarise"]

Row = Mapping[str, Any]
Rows = list[dict[str, Any]]
Repeats = dict[int, dict[str, float]]
Point = tuple[Setting, float, str]

# What is measured of each training on images, and of that what is measured on tables.
MEASURES = ("train_error", "test_error", "test_nll", "gap", "reached")
TABLE_MEASURES = ("train_error", "test_error", "test_nll")
# The differences that curves are fitted to.
FITTED = ("test_error", "test_nll")
# The way from chance to the last test error, of which so much is left where a run has converged.
LEFT = 0.1


def summarise(records: Sequence[Row], *, config: Config, n_classes: int) -> Rows:
    """Return flat rows, told apart by ``part``; a column that a row lacks is None.

    ``images`` and ``tables``: means over seeds with 95 % intervals, ``NAME_diff`` the differences from ERM,
    paired by seed. ``contrast``: what changes those, or sets methods apart. ``curve``: see
    :func:`benchmarks.regimes.curve.fit_curves`. What was planned and not run has ``n_seeds`` 0.
    """
    runs = _collect_runs(select(records, "images"), config, n_classes)
    images = _summarise_images(runs, config.make_plan(), select(records, "images"))
    tables = _summarise_tables(select(records, "tables"), config)
    contrasts = _list_contrasts(runs, config)
    curves = [
        *_fit("images", _cluster_images(runs, config), config),
        *_fit("tables", _cluster_tables(select(records, "tables"), config), config),
    ]
    return fill_columns([*images, *contrasts, *_pool(contrasts), *tables, *curves])


def select(rows: Sequence[Row], part: str) -> list[Row]:
    """Return the rows of one kind."""
    return [row for row in rows if row["part"] == part]


# -- images ---------------------------------------------------------------------------------------


def _collect_runs(records: Sequence[Row], config: Config, n_classes: int) -> dict[Point, Repeats]:
    """Return what was measured, by setting, weight decay and method, then by repeat."""
    runs: dict[Point, Repeats] = {}
    for record in records:
        setting = Setting(record["n_images"], record["width"], record["epochs"])
        point = setting, record["weight_decay"], record["method"]
        reached = _find_reached(record["test_curve"], config.list_watched(setting.epochs), n_classes)
        own = {name: record[name] for name in TABLE_MEASURES} | {"reached": reached}
        own["gap"] = record["test_error"] - record["train_error"]
        runs.setdefault(point, {})[record["repeat"]] = own
    return runs


def _find_reached(curve: Sequence[float], epochs: Sequence[int], n_classes: int) -> float:
    """Return after how much of the training, in per cent, nine tenths of the way to the end were gone."""
    chance = 100 * (1 - 1 / n_classes)
    bound = curve[-1] + LEFT * max(chance - curve[-1], 0.0)
    place = next(place for place, error in enumerate(curve) if error <= bound)
    return 100 * epochs[place] / epochs[-1]


def _summarise_images(runs: Mapping[Point, Repeats], plan: Plan, records: Sequence[Row]) -> Rows:
    """Return a row for each setting, weight decay and method that is planned."""
    planned: dict[Point, list[Run]] = {}
    for run in plan.runs:
        planned.setdefault((run.setting, run.weight_decay, run.method), []).append(run)
    curves = group_records(records, "n_images", "width", "epochs", "weight_decay", "method")
    rows = []
    for point, wanted in planned.items():
        setting, decay, _ = point
        head = _describe_point(point)
        own, base = runs.get(point, {}), runs.get((setting, decay, BASELINE), {})
        row = {"part": "images", **head, "n_planned": len(wanted), "n_seeds": len(own)}
        rows.append(row | _compare(own, base) | _average_curves(curves.get(tuple(head.values()), [])))
    return rows


def _describe_point(point: Point) -> dict[str, Any]:
    setting, decay, method = point
    sizes = {"n_images": setting.n_images, "width": setting.width, "epochs": setting.epochs}
    return sizes | {"weight_decay": decay, "method": method}


def _compare(own: Repeats, base: Repeats) -> dict[str, Any]:
    """Return means of what was measured, and differences from ERM over the repeats that both have."""
    row: dict[str, Any] = {}
    if not own:
        return row
    shared = sorted(own.keys() & base.keys())
    for name in MEASURES:
        row |= flatten_interval(name, compute_t_interval([one[name] for one in own.values()]))
        if shared:
            gaps = [own[repeat][name] - base[repeat][name] for repeat in shared]
            row |= flatten_interval(f"{name}_diff", compute_t_interval(gaps))
    if shared:
        errors = [base[repeat]["train_error"] for repeat in shared]
        row["erm_train_error"] = round(float(np.mean(errors)), 5)
    return row


def _average_curves(records: Sequence[Row]) -> dict[str, Any]:
    """Return mean curves, and the minutes of a training."""
    if not records:
        return {}
    curves = {
        name: np.mean([record[name] for record in records], axis=0).round(3).tolist()
        for name in ("test_curve", "loss_curve")
    }
    return curves | {"minutes": round(float(np.mean([record["seconds"] for record in records])) / 60, 2)}


# -- contrasts ------------------------------------------------------------------------------------


def _list_contrasts(runs: Mapping[Point, Repeats], config: Config) -> Rows:
    """Return what capacity, length, weight decay, alpha and the choices of section 2 change."""
    rows = []
    for question, label, one, other, is_gain in _name_pairs(config):
        found = _contrast(runs, one, other, is_gain=is_gain)
        if found:
            head = {"part": "contrast", "question": question, "label": label}
            rows.append(head | _describe_point(one) | found)
    return rows


def _name_pairs(config: Config) -> Iterator[tuple[str, str, Point, Point, bool]]:
    """Yield question, label, both points, and whether it is their differences from ERM that are compared."""
    decay = config.weight_decay
    settings = sorted(
        {run.setting for run in config.make_plan().runs if (run.method, run.weight_decay) == (MIXUP, decay)}
    )
    for varied, question in (("width", "capacity"), ("epochs", "length")):
        fixed = [name for name in ("n_images", "width", "epochs") if name != varied]
        for lower, higher in _pair_neighbours(settings, fixed):
            values = f"{varied} {getattr(lower, varied)} → {getattr(higher, varied)}"
            label = f"{lower.n_images} images, {fixed[1]} {getattr(lower, fixed[1])}: {values}"
            yield question, label, (higher, decay, MIXUP), (lower, decay, MIXUP), True
    for text in config.anchors:
        setting = Setting.parse(text)
        for name in map(name_alpha, config.alphas):
            yield (
                "alpha",
                f"{setting}: {name} - alpha 1",
                (setting, decay, name),
                (setting, decay, MIXUP),
                False,
            )
    if not config.anchors:
        return
    anchor = Setting.parse(config.anchors[0])
    for name in config.choices:
        yield "choices", f"{anchor}: {name} - mixup", (anchor, decay, name), (anchor, decay, MIXUP), False
    for other in config.other_decays:
        label = f"{anchor}: weight decay {decay:g} → {other:g}"
        yield "decay", label, (anchor, other, MIXUP), (anchor, decay, MIXUP), True


def _pair_neighbours(settings: Sequence[Setting], fixed: Sequence[str]) -> Iterator[tuple[Setting, Setting]]:
    """Yield settings that agree in two things, and are next to each other in the third."""
    groups: dict[tuple[int, ...], list[Setting]] = {}
    for setting in settings:
        groups.setdefault(tuple(getattr(setting, name) for name in fixed), []).append(setting)
    for group in groups.values():
        yield from pairwise(group)


def _contrast(runs: Mapping[Point, Repeats], one: Point, other: Point, *, is_gain: bool) -> dict[str, Any]:
    """Return by how much one point differs from another, paired by repeat; {} if there is no pair."""
    points = [one, other]
    if is_gain:
        points += [(setting, decay, BASELINE) for setting, decay, _ in (one, other)]
    parts = [runs.get(point, {}) for point in points]
    repeats = sorted(set.intersection(*map(set, parts)))
    if not repeats:
        return {}
    row: dict[str, Any] = {"n_seeds": len(repeats)}
    for name in TABLE_MEASURES:
        values = np.array([[part[repeat][name] for repeat in repeats] for part in parts])
        changes = values[0] - values[1]
        if is_gain:
            changes = changes - (values[2] - values[3])
        row |= flatten_interval(f"{name}_change", compute_t_interval(changes))
    return row


def _pool(contrasts: Sequence[Row]) -> Rows:
    """Return the mean over the pairs of settings of one question, with Student's interval over pairs."""
    rows = []
    for question, change in (("capacity", "wider less narrower"), ("length", "longer less shorter")):
        part = [row for row in contrasts if row["question"] == question]
        if len(part) > 1:
            label = f"mixup - ERM, {change}, mean of {len(part)} pairs"
            row: dict[str, Any] = {"part": "pooled", "question": question, "label": label}
            for name in TABLE_MEASURES:
                changes = [pair[f"{name}_change"] for pair in part]
                row |= flatten_interval(f"{name}_change", compute_t_interval(changes))
            rows.append(row)
    return rows


# -- tables ---------------------------------------------------------------------------------------


def _summarise_tables(records: Sequence[Row], config: Config) -> Rows:
    """Return a row for each table, share of noise, epoch and method but ERM."""
    interval = partial(compute_corrected_interval, test_ratio=config.test_size / (1 - config.test_size))
    rows: Rows = []
    for (dataset, noise), group in group_records(records, "dataset", "noise").items():
        methods = {method: _stack(part) for (method,), part in group_records(group, "method").items()}
        base = methods[BASELINE]
        for method, own in methods.items():
            for place, epochs in enumerate(sorted(config.table_epochs)):
                head = {"part": "tables", "dataset": dataset, "noise": noise, "epochs": epochs}
                row = {**head, "method": method, "n_seeds": len(own["test_error"])}
                for name in TABLE_MEASURES:
                    values, others = own[name][:, place], base[name][:, place]
                    row |= _flatten(name, interval(values)) | _flatten(
                        f"{name}_diff", interval(values - others)
                    )
                rows.append(row | {"erm_train_error": round(float(base["train_error"][:, place].mean()), 4)})
    return rows


def _flatten(name: str, interval: Interval) -> dict[str, float]:
    return {column: round(value, 4) for column, value in flatten_interval(name, interval).items()}


def _stack(records: Sequence[Row]) -> dict[str, np.ndarray]:
    """Return what was measured as arrays of shape (n_repeats, n_epochs)."""
    ordered = sorted(records, key=lambda record: record["repeat"])
    return {name: np.array([record[name] for record in ordered], dtype=float) for name in TABLE_MEASURES}


# -- curves ---------------------------------------------------------------------------------------


def _fit(where: str, clusters: Mapping[str, Sequence[Cluster]], config: Config) -> Rows:
    return [
        {"part": "curve", "dataset": where, "metric": metric, "n_points": sum(len(one.x) for one in part)}
        | fit_curves(part, n_resamples=config.n_resamples)
        for metric, part in clusters.items()
        if len(part) > 1
    ]


def _cluster_images(runs: Mapping[Point, Repeats], config: Config) -> dict[str, list[Cluster]]:
    """Return mixup's differences from ERM, a cluster for each setting, grouped by the number of images."""
    clusters: dict[str, list[Cluster]] = {metric: [] for metric in FITTED}
    for (setting, decay, method), own in runs.items():
        base = runs.get((setting, decay, BASELINE), {})
        repeats = sorted(own.keys() & base.keys())
        if method != MIXUP or decay != config.weight_decay or not repeats:
            continue
        x = np.array([[base[repeat]["train_error"] for repeat in repeats]])
        for metric, part in clusters.items():
            y = np.array([[own[repeat][metric] - base[repeat][metric] for repeat in repeats]])
            part.append(Cluster(setting.n_images, x, y))
    return clusters


def _cluster_tables(records: Sequence[Row], config: Config) -> dict[str, list[Cluster]]:
    """Return the differences of mixup with the first alpha, a cluster for each table, over shared repeats."""
    method = name_alpha(config.table_alphas[0])
    clusters: dict[str, list[Cluster]] = {metric: [] for metric in FITTED}
    for (dataset,), group in group_records(records, "dataset").items():
        shared = set.intersection(
            *({record["repeat"] for record in part} for part in group_records(group, "noise").values())
        )
        parts = group_records([record for record in group if record["repeat"] in shared], "noise", "method")
        stacks = {key: _stack(part) for key, part in parts.items()}
        noises = dict.fromkeys(noise for noise, _ in stacks)
        for metric, part in clusters.items():
            x = np.concatenate([stacks[noise, BASELINE]["train_error"].T for noise in noises])
            y = np.concatenate(
                [stacks[noise, method][metric].T - stacks[noise, BASELINE][metric].T for noise in noises]
            )
            part.append(Cluster(dataset, x, y))
    return clusters
