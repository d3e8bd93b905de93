"""The figure of ``speed``: its ratios beside their targets, a panel for each question."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.figure import Figure

from benchmarks.harness.figures import make_figure
from benchmarks.harness.time_ratios import draw_ratios, make_ratio_legend

__all__ = ["NAMES", "QUESTIONS", "draw"]

Row = Mapping[str, Any]
# Questions of the figure, in two columns, and the labels of the ratios that answer them.
QUESTIONS: tuple[dict[str, tuple[str, ...]], ...] = (
    {
        "How long does a fit take?\nsk-mixup ÷ scikit-learn's MLPClassifier": (
            "fit ÷ MLPClassifier fit",
            "fit ÷ MLPClassifier fit, own threads",
        ),
        "How long does a fit take?\nsk-mixup ÷ skorch": (
            "fit ÷ skorch fit",
            "GPU: fit ÷ skorch fit",
        ),
        "How long does a fit take?\nsk-mixup ÷ a PyTorch loop by hand": ("fit ÷ fit of a loop by hand",),
    },
    {
        "How long does an epoch take?\nmixup ÷ plain training": ("mixup epoch ÷ plain epoch",),
        "How long does a mixed batch take?\nsk-mixup ÷ the fastest other mixup": (
            "mixing alone ÷ the fastest peer",
        ),
        "How long does a prediction take?\nsk-mixup ÷ MLPClassifier": ("predict_proba ÷ MLPClassifier's",),
        "How long does a fit of several nets take?\nan ensemble of eight ÷ one net": (
            "fit of an ensemble of 8 ÷ fit of one net",
        ),
        "What does the first fit of a process add?\nsk-mixup ÷ a PyTorch loop by hand": (
            "what a process's first fit adds ÷ a loop's",
        ),
        "What does a large table cost?": (
            "time per row, largest ÷ base",
            "peak memory beyond the data ÷ data",
        ),
        "How fast does a GPU mix?\nbandwidth ÷ that of a copy, more is better": (
            "GPU: mix kernel ÷ device copy, bandwidth",
        ),
    },
)
# What stands beside a ratio, by part and case.
NAMES = {
    **{
        (part, f"{table}/{size}"): f"{n_columns} columns, batch {size:,}"
        for part in ("fit", "epoch")
        for table, n_columns in (("abalone", 8), ("wide", 54))
        for size in (16, 128, 1024)
    },
    **{("threads", f"abalone/{size}"): f"8 columns, {size}, own threads" for size in (16, 32, 128)},
    **{(part, "images/128"): "images, batch 128" for part in ("epoch", "images")},
    **{("mixing", "128x3x32x32"): "128 images of 32 x 32", ("mixing", "1024x54"): "1,024 rows, 54 columns"},
    ("prediction", "wide/1"): "1 row",
    **{("prediction", f"wide/{n_rows}"): f"{n_rows:,} rows" for n_rows in (10, 100, 1000, 100_000)},
    **{("ensemble", f"table/{size}"): f"20 columns, batch {size:,}" for size in (32, 128)},
    **{
        ("first", "fit"): "54 columns",
        ("gpu", "fit"): "54 columns, on a GPU",
        ("gpu", "mixing"): "268 MB",
    },
    **{("growth", "wide"): "time a row ÷ a small table's", ("memory", "wide"): "memory beyond it ÷ its own"},
}


def draw(document: Mapping[str, Any]) -> Figure:
    """Draw every ratio measured, with its quartiles and its target."""
    rows = [row for row in document["summary"] if row["ratio"] is not None]
    columns = [_fill(column, rows) for column in QUESTIONS]
    columns = [panels for panels in columns if panels]
    figure = make_figure(
        0.9 + max(0.15 * sum(_list_heights(panels)) + 0.58 * len(panels) for panels in columns)
    )
    parts = figure.subfigures(1, len(columns), squeeze=False)[0]
    for part, panels in zip(parts, columns, strict=True):
        axes = part.subplots(len(panels), squeeze=False, height_ratios=_list_heights(panels))[:, 0]
        for ax, (title, shown) in zip(axes, panels.items(), strict=True):
            draw_ratios(ax, shown, [NAMES[row["part"], row["case"]] for row in shown])
            ax.set_title(title, loc="right")
        axes[-1].set_xlabel("ratio")
    figure.suptitle("Time of sk-mixup over that of others: left of 1 it is faster")
    figure.legend(handles=make_ratio_legend(), loc="outside lower center", ncols=3, frameon=False)
    return figure


def _fill(questions: Mapping[str, Sequence[str]], rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Return the ratios that answer each question, where there are any."""
    panels = {title: [row for row in rows if row["label"] in labels] for title, labels in questions.items()}
    return {title: found for title, found in panels.items() if found}


def _list_heights(panels: Mapping[str, Sequence[Row]]) -> list[float]:
    """Return the lines of each panel."""
    return [len(rows) + 0.3 for rows in panels.values()]
