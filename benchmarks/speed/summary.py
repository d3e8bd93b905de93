"""What the times of ``speed`` say: ratios beside their targets."""

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness.claims import Comparison
from benchmarks.harness.interleaved_timing import compare_times
from benchmarks.harness.intervals import Interval
from benchmarks.harness.time_ratios import Line, format_ratios, format_times, summarise_lines

__all__ = ["LINES", "compare_epochs", "summarise", "tabulate"]

SHUFFLED = "skorch-shuffled"
PEERS = {
    "sklearn": "scikit-learn MLPClassifier",
    SHUFFLED: "skorch NeuralNetClassifier",
    "loop": "PyTorch loop by hand",
}
EPOCH = "mixup epoch ÷ plain epoch"
MOST = 5.0  # Per cent of an epoch that are next to no computation
# The paper's batch sizes.
EPOCH_CASES = {"abalone/16": "a table in batches of 16", "images/128": "images in batches of 128"}


def _make_fit_lines() -> list[Line]:
    targets = [
        ("fit ÷ MLPClassifier fit", "sklearn", {16: (0.85, 0.65), 128: (0.75, 0.6), 1024: (0.65, 0.5)}),
        ("fit ÷ skorch fit", SHUFFLED, {16: (0.4, 0.3), 128: (0.4, 0.3), 1024: (0.4, 0.3)}),
        ("fit ÷ fit of a loop by hand", "loop", {16: (1.0, 0.7), 1024: (1.05, 0.95)}),
    ]
    return [
        Line(label, "fit", f"{table}/{size}", "mixup", peer, *bounds)
        for label, peer, by_size in targets
        for table in ("abalone", "wide")
        for size, bounds in by_size.items()
    ] + [
        Line("fit ÷ MLPClassifier fit, own threads", "threads", f"abalone/{size}", "mixup", "sklearn", target)
        for size, target in {16: 0.85, 32: 0.8, 128: 0.75}.items()
    ]


LINES = [
    *_make_fit_lines(),
    Line(EPOCH, "epoch", "abalone/16", "mixup", "erm", 1.15, 1.05),
    Line(EPOCH, "epoch", "abalone/128", "mixup", "erm", 1.08, 1.03),
    Line(EPOCH, "epoch", "images/128", "mixup", "erm", 1.02, 1.01),
    Line("fit ÷ fit of a loop by hand", "images", "images/128", "mixup", "loop", 1.05),
    Line("mixing alone ÷ the fastest peer", "mixing", "128x3x32x32", "sk_mixup", "peer", 1.0, 0.7),
    Line("mixing alone ÷ the fastest peer", "mixing", "1024x54", "sk_mixup", "peer", 1.0, 0.7),
    *(
        Line("predict_proba ÷ MLPClassifier's", "prediction", f"wide/{n_rows}", "mixup", "sklearn", target)
        for n_rows, target in {1: 1.3, 10: 1.3, 100: 1.3, 1000: 1.3, 100_000: 1.0}.items()
    ),
    *(
        Line("fit of an ensemble of 8 ÷ fit of one net", "ensemble", case, "ensemble", "peer", 4.5, 4.0)
        for case in ("table/32", "table/128")
    ),
    Line("what a process's first fit adds ÷ a loop's", "first", "fit", "mixup", "loop", 1.05),
    Line("time per row, largest ÷ base", "growth", "wide", "largest", "base", 1.2, is_paired=False),
    Line("peak memory beyond the data ÷ data", "memory", "wide", "largest", "data", 0.3, is_share=True),
    Line("GPU: fit ÷ skorch fit", "gpu", "fit", "mixup", SHUFFLED, 0.2, 0.1),
    Line("GPU: mix kernel ÷ device copy, bandwidth", "gpu", "mixing", "mix", "copy", 0.8, 0.9, at_least=True),
]


def summarise(records: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return a row for each line; those whose times are not there are marked so.

    Label, part, case, peer, ratio with quartiles, the median values behind it, target, stretch, and
    ``met``: "stretch", "target", "missed" or "not run".
    """
    return summarise_lines(records, LINES)


def tabulate(document: Mapping[str, Any]) -> dict[str, list[dict[str, str]]]:
    """Return the printed tables: ratios beside targets, and the times behind them."""
    records = document["records"]
    rows = [dict(zip(records["columns"], row, strict=True)) for row in records["rows"]]
    pivot = _pivot_fits(rows)
    return {
        **({"Time of a mixup fit over that of a plain fit elsewhere, by batch size": pivot} if pivot else {}),
        "Ratios and targets": format_ratios(document["summary"]),
        "Medians, microseconds per step, batch or row (memory: share of the data)": format_times(rows),
    }


def _pivot_fits(records: Sequence[Mapping[str, Any]]) -> list[dict[str, str]]:
    """Return a row for each table and peer, a column for each batch size."""
    times: dict[tuple[str, str], dict[str, list[float]]] = {}
    for record in records:
        if record["part"] == "fit":
            table, size = record["case"].split("/")
            times.setdefault((table, size), {}).setdefault(record["contender"], []).append(record["value"])
    tables, sizes = (list(dict.fromkeys(key[place] for key in times)) for place in (0, 1))
    return [
        {"table": table, "peer": title}
        | {
            size: f"{compare_times(times[table, size]['mixup'], times[table, size][peer])['ratio']:.2f}"
            for size in sizes
        }
        for table in tables
        for peer, title in PEERS.items()
    ]


def compare_epochs(document: Mapping[str, Any]) -> list[Comparison]:
    """Return by how many per cent an epoch takes longer with mixup, less ``MOST``: median and quartiles."""
    rows = {row["case"]: row for row in document["summary"] if row["label"] == EPOCH}
    found = []
    for case, title in EPOCH_CASES.items():
        if case in rows and rows[case]["ratio"] is not None:
            more = [100 * (rows[case][name] - 1) for name in ("ratio", "low", "high")]
            median, low, high = more
            text = f"{median:+.1f} % [{low:+.1f}, {high:+.1f}], {title}"
            found.append(Comparison(title, text, Interval(*(value - MOST for value in more))))
    return found
